"""Logs: what was written whole is read, whatever it holds, and what a kill tore is not."""

import json

from storylib.files import read_log, trim_log


def test_torn_character_costs_its_row_alone(tmp_path):
    log = tmp_path / "samples.jsonl"
    rows = [{"step": step, "text": "小狐狸睡了。"} for step in (1, 2)]
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    log.write_bytes(whole[:-6])  # inside the last full stop
    assert read_log(log) == rows[:1]
    trim_log(log, 2)
    assert log.read_bytes() == whole[: whole.index(b"\n") + 1]


def test_stories_with_line_breaks_of_other_kinds_are_kept(tmp_path):
    log = tmp_path / "samples.jsonl"
    rows = [{"step": step, "text": "One.\u2028Two.\x85Three."} for step in (1, 2, 3)]
    log.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    trim_log(log, 2)
    assert read_log(log) == rows[:2]


def test_no_log_is_no_rows(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []
