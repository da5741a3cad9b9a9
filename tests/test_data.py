"""The shipped stories, and a user's own: files with everything that goes wrong in them."""

import csv
import json

import datasets
import pytest

from storylib import data, prompts
from storylib.data import emoji_stories
from storylib.data.reading import read_rows
from storylib.errors import UserError
from storylib.files import DATA

COLUMNS = {"prompt", "completion", "role", "place", "theme", "role_name", "place_name", "theme_name"}
PLACES = ["🏰", "🏖", "🌊", "🌙", "🚀", "🏥", "🏫", "🌳"]


def rows(places=PLACES, **changes):
    return [{"role": "🦔", "place": place, "theme": "💪", "story": " A story. "} | changes for place in places]


def write_jsonl(path, lines):
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def write_csv(path, lines):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def message(call, *args, **kwargs):
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# The registry and the shipped stories


@pytest.mark.parametrize("level", ["easy", "rich"])
def test_shipped_stories(level):
    stories = data.load("emoji", level=level)
    assert {split: len(stories[split]) for split in stories} == {"train": 785, "test": 60}
    assert set(stories["train"].column_names) == COLUMNS
    combos = [emoji_stories.combination(row) for row in stories["test"]]
    assert sorted(combos.count(emojis) for emojis in set(combos)) == [5] * 12
    assert len({emoji_stories.combination(row) for row in stories["train"]}) == 785
    assert stories["train"][1]["prompt"] == "🦔🏝️📚 hedgehog, island, learning\n"
    assert all(text == text.strip() != "" for text in stories["train"]["completion"])


def test_prompts_without_names():
    row = data.load("emoji", names=False)["train"][1]
    assert row["prompt"] == "🦔🏝️📚\n" and row["role_name"] == "hedgehog"


def test_shipped_files_are_clean():
    for path in sorted((DATA / "emoji_stories").rglob("*.*")):
        text = path.read_bytes().decode("utf-8")
        assert not set("\r\ufffd\x80\x99") & set(text) and "â€" not in text and "Ã" not in text, path


@pytest.mark.parametrize("level", ["easy", "rich"])
def test_the_folder_loads_as_a_data_set(level, tmp_path):
    stories = datasets.load_dataset(str(DATA / "emoji_stories"), level, cache_dir=str(tmp_path))
    assert {split: len(stories[split]) for split in stories} == {"train": 785, "test": 60}
    assert set(stories["test"].column_names) == COLUMNS - {"prompt", "completion"} | {"id", "story"}


def test_unknown_names():
    assert "there are emoji, genres, personal, languages; nearest: emoji" in message(data.load, "emojis")
    assert "there are easy, rich; nearest: rich" in message(data.load, "emoji", level="rch")


# A user's own stories


@pytest.mark.parametrize("write", [write_jsonl, write_csv])
def test_a_file_is_split_by_combination(tmp_path, write):
    path = write(tmp_path / f"mine.{write.__name__.removeprefix('write_')}", rows(PLACES * 3))
    stories = data.load("emoji", source=path)
    train, test = ({emoji_stories.combination(row) for row in stories[split]} for split in ("train", "test"))
    assert len(train) + len(test) == len(PLACES) and train and test and not train & test
    assert len(stories["train"]) + len(stories["test"]) == 24
    beach = next(row for split in stories.values() for row in split if row["place_name"] == "beach")
    assert beach["place"] == "🏖\ufe0f" and beach["prompt"] == "🦔🏖\ufe0f💪 hedgehog, beach, courage\n"
    assert beach["completion"] == "A story."


def test_a_combination_stays_on_its_side_as_a_file_grows():
    signs = [chr(code) for code in range(0x1F400, 0x1F43F)]
    grown = [{"role": a, "place": b, "theme": "💪"} for a in signs for b in signs[:20]]
    small, large = emoji_stories.split_rows(grown[:400]), emoji_stories.split_rows(grown)
    assert all(row in large["test"] for row in small["test"]) and all(row in large["train"] for row in small["train"])
    assert 0.08 < len(large["test"]) / len(grown) < 0.12


def test_a_folder_keeps_its_splits(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(PLACES[:6]))
    assert "needs one of test.jsonl and test.csv, and has neither" in message(data.load, "emoji", source=tmp_path)
    write_csv(tmp_path / "test.csv", rows(PLACES[6:]))
    stories = data.load("emoji", source=str(tmp_path))
    assert (len(stories["train"]), len(stories["test"])) == (6, 2)


def test_overlap_is_refused(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(PLACES[:7]))
    write_jsonl(tmp_path / "test.jsonl", rows(["🌙", "🏖\ufe0f", "🌳"]))  # 🏖 in train: the same emoji
    assert "2 of 3 test combinations are in train too, first 🦔🌙💪" in message(data.load, "emoji", source=tmp_path)


def test_one_combination_cannot_be_split(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", rows(["🏰", "🏰"]))
    assert "at least two combinations" in message(data.load, "emoji", source=path)


def test_names_of_the_file_come_first(tmp_path):
    path = write_jsonl(tmp_path / "mine.jsonl", rows(role_name="Pip\nthe hedgehog", theme_name=None))
    stories = data.load("emoji", source=path)
    assert stories["train"][0]["prompt"].endswith(" Pip the hedgehog, castle, courage\n")


def test_chinese_columns(tmp_path):
    names = {"角色": "🧙\u200d♂", "主題": "💪", "generated sentence": "一個故事。", "Unnamed: 4": "", "text": "x"}
    path = write_csv(tmp_path / "mine.csv", [{"地點": place} | names for place in PLACES])
    row = data.load("emoji", source=path)["train"][0]
    assert row["prompt"] == "🧙\u200d♂\ufe0f🏰💪 wizard, castle, courage\n" and row["completion"] == "一個故事。"


def test_columns_by_hand(tmp_path):
    mine = [{"Hero": row["role"], "where": row["place"], "theme": "💪", "Story ": row["story"]} for row in rows()]
    path = write_csv(tmp_path / "mine.csv", mine)
    error = message(data.load, "emoji", source=path)
    assert (
        'has Hero, where, theme, Story ; rename them, or say which is which with columns={"role": "…", "place": "…"}'
        in error
    )
    stories = data.load("emoji", source=path, columns={"role": "hero", "place": "where"})
    assert stories["train"][0]["role"] == "🦔"
    error = message(data.load, "emoji", source=path, columns={"role": "whom", "place": "where"})
    assert '{"role": "…"}' in error
    assert "columns names hero; it can name role" in message(data.load, "emoji", source=path, columns={"hero": "Hero"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"story": " \n"}, "row 2: the story is empty"),
        ({"story": None}, "row 2: the story is empty"),
        ({"story": 7}, "row 2: the story is 7, not text"),
        ({"theme": "💪💪"}, "row 2: theme: one emoji is needed here, got 2: 💪 💪"),
        ({"theme": "courage"}, "row 2: theme: 'courage' is no emoji"),
        ({"theme": None}, "row 2: theme: one emoji is needed here, got none"),
    ],
)
def test_bad_rows(tmp_path, change, expected):
    path = write_jsonl(tmp_path / "mine.jsonl", [*rows(["🏰"]), *rows(["🌊"], **change)])
    assert expected in message(data.load, "emoji", source=path)


# Files


def test_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes('\ufeff{"story": "a\u2028b"}\r\n\r\n{"story": "c"}'.encode())
    assert read_rows(path) == [{"story": "a\u2028b"}, {"story": "c"}]
    path = tmp_path / "mine.csv"
    path.write_bytes('\ufeffrole,story\r\n🦔,"two\nlines, ""quoted"""\r\n'.encode())
    assert read_rows(path) == [{"role": "🦔", "story": 'two\nlines, "quoted"'}]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "a.jsonl, line 3 is not valid JSON"),
        ("a.jsonl", b'{"a": "\\ud83e"}\n', "a.jsonl, line 1 is not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n["a"]\n', "a.jsonl, line 2 is not an object"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', "line 2 (byte 0xe9 at offset 19); save it as UTF-8"),
        ("a.csv", "role\n1\ncafé\n".encode("latin-1"), "line 3 (byte 0xe9 at offset 10); save it as UTF-8"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "a.csv, line 3: the header names 2 columns"),
        ("a.csv", b"a,b\n1\n", "a.csv, line 2: the header names 2 columns"),
        ("a.csv", b'a,b\n1,"2\n', "a.csv, line 2: unexpected end of data"),
        ("a.csv", b"a,b\n", "a.csv has no rows"),
        ("a.csv", b"", "a.csv has no rows"),
        ("a.jsonl", b"\n", "a.jsonl has no rows"),
        ("a.txt", b"x", "neither a .jsonl nor a .csv file"),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in message(read_rows, tmp_path / name)


def test_missing_file(tmp_path):
    assert "No such file" in message(data.load, "emoji", source=tmp_path / "none.jsonl")
    assert "No such file" in message(data.load, "emoji", source="nowhere/none.csv")  # no Hub name


# The Hub


@pytest.mark.parametrize("splits", [["train", "test"], ["train"]])
def test_hub(monkeypatch, splits):
    chinese = [
        {
            "角色": r["role"],
            "地點": r["place"],
            "主題": r["theme"],
            "generated sentence": r["story"],
            "Unnamed: 4": None,
        }
        for r in rows()
    ]
    parts = {"train": chinese[:6], "test": chinese[6:]} if "test" in splits else {"train": chinese}
    hub = datasets.DatasetDict({split: datasets.Dataset.from_list(part) for split, part in parts.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"someone/stories": hub}[name])
    stories = data.load("emoji", source="someone/stories")
    assert len(stories["train"]) + len(stories["test"]) == 8 and set(stories["test"].column_names) == COLUMNS
    if "test" in splits:
        assert len(stories["test"]) == 2


@pytest.mark.parametrize(
    "error", [ConnectionError("Couldn't reach it\nat all"), datasets.exceptions.DatasetNotFoundError("not there")]
)
def test_hub_out_of_reach(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    text = message(data.load, "emoji", source="someone/stories")
    assert text.startswith("someone/stories is no local path") and "give a local file" in text


def test_emojis_a_model_is_taught(tmp_path):
    known = prompts.known_emojis(data.load("emoji")["train"])
    assert len(known) == 58 and known["🦔"] == "hedgehog"
    assert prompts.emoji_prompt(["🦔", "🦕", "📚"], known) == "🦔📚 hedgehog, sauropod, learning\n"
    assert prompts.emoji_prompt(["🦔", "🦕", "📚"], known, names=False) == "🦔📚 sauropod\n"
