"""Ratios are taken within a round, and the file of results keeps the rows of other runs."""

import json

import pytest

from benchmarks.runner import TimedItself, draw, keep, row, table, take_turns

SPEEDS = {"storylib": [10.0, 30.0, 12.0], "usual": [5.0, 10.0, 4.0], "limit": [20.0, 30.0, 18.0]}


def test_ratios_are_those_of_each_round():
    found = row("write vs usual", "tokens/s", SPEEDS, "usual")
    assert (found.ours, found.other, found.limit) == (12, 5, 20)
    assert found.ratio == 3  # of 2, 3, 3; the ratio of the medians would be 2.4
    assert found.ratio_to_limit == 1.5  # of 2, 1, 1.5
    assert found.spread == pytest.approx(1 / 3, abs=1e-3)  # from 2 to 3, by 3


def test_systems_take_turns_and_may_time_themselves():
    turns = []

    def system(name):
        def run():
            turns.append(name)
            return 6, 2

        return TimedItself(run)

    assert take_turns({"a": system("a"), "b": system("b")}, rounds=2) == {"a": [3, 3], "b": [3, 3]}
    assert turns == ["a", "b", "a", "b"]


def test_rows_take_the_place_of_older_ones_of_their_name(tmp_path):
    path = tmp_path / "results.json"
    without_limit = {name: speeds for name, speeds in SPEEDS.items() if name != "limit"}
    keep(path, [row("one", "rows/s", SPEEDS, "usual"), row("two", "rows/s", without_limit, "usual")], "laptop")
    rows = keep(path, [row("one", "rows/s", SPEEDS | {"usual": [1.0, 1.0, 1.0]}, "usual")], "laptop")
    assert [(one["name"], one["ratio"]) for one in rows] == [("one", 12), ("two", 3)]
    saved = json.loads(path.read_text())
    assert saved.keys() == {"machine", "rows"} and saved["rows"] == rows
    assert list(rows[0]) == ["name", "ours", "other", "limit", "unit", "ratio", "ratio_to_limit", "spread"]
    assert table(rows).splitlines()[3] == "| two | 12 | 5 |  | rows/s | 3.00 |  | 33% |"
    draw(rows, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 5000
