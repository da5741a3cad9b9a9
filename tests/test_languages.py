"""The shipped quartet, a user's own texts in any language, and what is prepared from raw ones."""

import json
from pathlib import Path

import datasets
import pytest

from storylib import data
from storylib.data import languages
from storylib.errors import UserError
from storylib.files import DATA

CODES = ["en", "zh", "pt", "ja"]
COLUMNS = ["prompt", "completion", "id", "language"]
SPLITS = {"train": 400, "validation": 25, "test": 25}
CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "multilingual"
ANIMALS = "fox owl bee cat dog hen ant bat cow pig elk emu eel gnu yak koi".split()
STORIES = [f"The {one} met a {other}. They saw {n} stars." for n, one in enumerate(ANIMALS) for other in ANIMALS[:4]]


def message(call, *args, **options):
    with pytest.raises(UserError) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def load(**options):
    return data.load("languages", **options)


def write(path, texts, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text} | {name: values[place] for name, values in more.items()} for place, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def joined(splits):
    return sorted(row["prompt"] + row["completion"] for rows in splits.values() for row in rows)


# The quartet


@pytest.mark.parametrize("language", CODES)
def test_shipped_stories(language):
    stories = load(language=language)
    assert {split: len(rows) for split, rows in stories.items()} == SPLITS
    assert stories["train"].column_names == COLUMNS and set(stories["test"]["language"]) == {language}
    for split, rows in stories.items():
        lines = (DATA / "quartet" / language / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [row["prompt"] + row["completion"] for row in rows] == [json.loads(line)["text"] for line in lines]


def test_the_first_sentences_are_the_prompt():
    row = load()["train"][0]
    assert row["prompt"] == "Lulu and Leo were clumsy twins."
    assert row["completion"].startswith(" One morning Leo tripped, and") and row["id"] == "q-000"
    row = load(language="zh", sentences=3)["train"][0]
    assert row["prompt"].endswith("高高的草丛里。“我来找！”露露说，可是她也绊倒了。")
    assert row["completion"].startswith("校车来了，")
    row = load(language="ja", sentences=0)["train"][0]
    assert row["prompt"] == "" and row["completion"].startswith("ルルとレオは、")


def test_languages_together():
    stories = load(language="all")
    assert {split: len(rows) for split, rows in stories.items()} == {split: 4 * size for split, size in SPLITS.items()}
    assert list(dict.fromkeys(stories["train"]["language"])) == CODES
    pair = load(language=["ja", "en"])["test"]
    assert pair["language"] == ["ja"] * 25 + ["en"] * 25 and pair["id"][:25] == pair["id"][25:]


def test_ids_say_the_same_in_every_language_and_no_story_is_in_two_splits():
    stories = load(language="all")
    ids = {
        split: [[row["id"] for row in rows if row["language"] == code] for code in CODES]
        for split, rows in stories.items()
    }
    assert all(one == found[0] and len(set(one)) == len(one) for found in ids.values() for one in found)
    assert len({key for found in ids.values() for key in found[0]}) == 450
    assert len(set(joined(stories))) == 4 * 450
    assert not languages.near_duplicates([story for story in joined(load())])


def test_aligned():
    rows = languages.aligned("test")
    assert rows.column_names == ["id", *CODES] and len(rows) == 25
    kite = rows[0]
    assert kite["id"] == "q-425" and kite["en"].startswith("A red kite") and kite["zh"].startswith("一只红风筝")
    assert kite["pt"].startswith("Uma pipa vermelha") and kite["ja"].startswith("赤いたこ")
    assert "there are train, validation, test" in message(languages.aligned, "dev")


def test_aligned_stories_of_ones_own(tmp_path):
    write(tmp_path / "fr" / "train.jsonl", ["Un.", "Deux.", "Trois."], id=[1, 2, 3])
    write(tmp_path / "de" / "train.jsonl", ["Drei.", "Zwei."], id=[3, 2])
    assert languages.aligned(source=tmp_path)[:] == {
        "id": ["3", "2"],
        "de": ["Drei.", "Zwei."],
        "fr": ["Trois.", "Deux."],
    }
    assert "no id of test is in all of de, fr" in message(languages.aligned, "test", tmp_path)


@pytest.mark.parametrize("language", CODES)
def test_the_folder_loads_as_a_data_set(language, tmp_path):
    stories = datasets.load_dataset(str(DATA / "quartet"), language, cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in stories.items()} == SPLITS
    assert stories["test"].column_names == ["id", "text"] and stories["test"]["id"][0] == "q-425"


# A user's own texts


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt", "endoftext"])
def test_files(tmp_path, kind):
    path = tmp_path / f"mine.{'txt' if kind == 'endoftext' else kind}"
    if kind == "jsonl":
        write(path, STORIES)
    elif kind == "csv":
        path.write_text("text\n" + "".join(f'"{text}"\n' for text in STORIES))
    else:
        path.write_text(("\n<|endoftext|>\n" if kind == "endoftext" else "\n\n").join(STORIES) + "\n")
    stories = load(source=path)
    assert list(stories) == list(SPLITS) and all(len(rows) for rows in stories.values())
    assert joined(stories) == sorted(STORIES)
    assert stories["train"][0]["id"] == languages.fingerprint(joined({"": stories["train"].select([0])})[0])


def test_stories_between_end_of_text_lines_keep_their_lines(tmp_path):
    stories = [story.replace(". ", ".\n\n") for story in STORIES]
    path = tmp_path / "mine.txt"
    path.write_text("\n<|endoftext|>\n".join(stories))
    assert joined(load(source=path)) == sorted(stories)


def test_a_text_stays_on_its_side_as_a_file_grows(tmp_path):
    small = load(source=write(tmp_path / "small.jsonl", STORIES[:40]))
    large = load(source=write(tmp_path / "large.jsonl", STORIES[::-1]))
    assert all(set(small[split]["id"]) <= set(large[split]["id"]) for split in SPLITS)


def test_a_folder_keeps_its_splits_and_lends_what_is_lacking(tmp_path):
    write(tmp_path / "train.jsonl", STORIES[:60])
    write(tmp_path / "test.jsonl", STORIES[60:], id=["a", "b", "c", "d"])
    stories = load(source=str(tmp_path))
    assert stories["test"]["id"] == ["a", "b", "c", "d"]
    assert len(stories["train"]) + len(stories["validation"]) == 60 and len(stories["validation"])


def test_a_folder_of_languages(tmp_path):
    write(tmp_path / "zh" / "train.jsonl", [f"有{n}只狐狸。它们走了。" for n in range(60)])
    write(tmp_path / "pt" / "train.jsonl", [f"Eram {n} raposas. Foram embora." for n in range(60)])
    stories = load(language="all", source=tmp_path)
    assert sum(map(len, stories.values())) == 120 and stories["test"]["language"][0] == "zh"
    assert set(load(language="pt", source=tmp_path)["train"]["language"]) == {"pt"}
    error = message(load, language=["zh", "en"], source=tmp_path)
    assert "has no language 'en'; it has zh, pt; nearest: zh" in error


def test_texts_are_mended(tmp_path):
    texts = ["\ufeffA\u00a0fox\x00 ran.  â€œStop!â€ said the owl.\r\n\r\n\r\nâ€œNo.â€\x9d", *STORIES]
    assert "A fox ran. “Stop!” said the owl.\n\n“No.”" in joined(load(source=write(tmp_path / "mine.jsonl", texts)))
    kept = ["Não! A CÂMERA NÃO CAIU.", "Ele disse: — Olá, irmã."]
    assert [languages.mend(text) for text in kept] == kept


def test_stories_without_a_rest_are_dropped_and_counted(tmp_path, caplog):
    path = write(tmp_path / "train.jsonl", ["Only one sentence.", " \n", *STORIES])
    write(tmp_path / "test.jsonl", STORIES[:1])
    write(tmp_path / "validation.jsonl", STORIES[:1])
    stories = load(source=tmp_path)
    assert len(stories["train"]) == len(STORIES) and all(stories["train"]["completion"])
    assert "(train): 2 of 66 stories have nothing after sentence 1; they are dropped" in caplog.text
    assert "(train): all of 66 stories have nothing after sentence 2" in message(load, source=tmp_path, sentences=2)
    path.write_text(path.read_text().splitlines()[2])
    assert len(load(source=tmp_path, sentences=0)["train"]) == 1


def test_dropping_a_whole_batch(tmp_path):
    write(tmp_path / "train.jsonl", ["One."] * 1000 + STORIES)  # `datasets` maps a thousand rows at a time
    for split in ("test", "validation"):
        write(tmp_path / f"{split}.jsonl", STORIES[:1])
    assert len(load(source=tmp_path)["train"]) == len(STORIES)


def test_another_column(tmp_path):
    rows = [{"Geschichte": text, "id": n, "title": "x"} for n, text in enumerate(STORIES)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    error = message(load, language="de", source=path, sentences=0)
    assert "mine.jsonl (train) has Geschichte, id, title and no 'text'; say which" in error
    stories = load(language="de", source=path, sentences=0, column="Geschichte")
    assert stories["train"].column_names == COLUMNS and stories["train"][0]["completion"] in STORIES


def test_a_language_without_a_splitter(tmp_path):
    path = write(tmp_path / "mine.jsonl", STORIES)
    error = message(load, language="fr", source=path)
    assert error == "no sentence splitter for 'fr'; there are en, zh, pt, ja; sentences=0 does without"
    stories = load(language="fr", source=path, sentences=0)
    assert set(stories["train"]["prompt"]) == {""} and joined(stories) == sorted(STORIES)
    assert set(load(language="pt-BR", source=path)["train"]["language"]) == {"pt-BR"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"language": "zn"}, "has no language 'zn'; it has en, zh, pt, ja; nearest: zh; or name texts of your own"),
        ({"language": []}, "no language was asked for"),
        ({"sentences": -1}, "sentences is -1; it takes a whole number from 0"),
        ({"sentences": 1.5}, "sentences is 1.5"),
        ({"source": "none.jsonl"}, "cannot read none.jsonl: No such file"),
        ({"source": "nowhere"}, "there is no file or folder nowhere"),
        ({"source": "none.jsonl", "language": ["en", "zh"]}, "has no sub-folder for each language"),
        ({"source": "none.jsonl", "language": "all"}, "has no sub-folder for each language"),
        ({"source": "tinystories", "language": "ja"}, '"tinystories" is known in en, zh, not in ja'),
    ],
)
def test_bad_options(options, expected):
    assert expected in message(load, **options)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "A. B."}\n["A. B."]\n', "a.jsonl, line 2 is not an object"),
        ("a.jsonl", b'{"text": "caf\xe9"}\n', "not UTF-8 at line 1 (byte 0xe9"),
        ("a.jsonl", b'{"text": "A. B."}\n{"text": null}\n', "(train) has no text in 'text', but None"),
        ("a.jsonl", b'{"text": 3}\n', "row 1 of"),
        ("a.jsonl", b'{"id": 1, "text": "A."}\n{"id": 1, "text": "B."}\n', "the id '1' comes 2 times"),
        ("a.jsonl", b"", "a.jsonl has no rows"),
        ("a.txt", b"\n \n<|endoftext|>\n", "a.txt has no texts"),
        ("a.txt", b"A. B.\nC. D.\n", "split would be empty, of 2 stories; give more of them"),
        ("a.json", b"[]", "a.json is neither"),
    ],
)
def test_bad_files(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in message(load, source=tmp_path / name)


# The Hub


def test_hub(monkeypatch):
    hub = datasets.DatasetDict(
        train=datasets.Dataset.from_dict({"text": STORIES}),
        validation=datasets.Dataset.from_dict({"text": STORIES[:2]}),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"roneneldan/TinyStories": hub}[name])
    for source in ("tinystories", "roneneldan/TinyStories"):
        stories = load(source=source)
        assert joined({"": stories["validation"]}) == sorted(STORIES[:2])
        assert len(stories["train"]) + len(stories["test"]) == len(STORIES) and len(stories["test"])


def test_hub_out_of_reach(monkeypatch):
    def fail(name):
        raise ConnectionError("Couldn't reach it\nat all")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    error = message(load, language="ja", source="someone/stories")
    assert error.startswith("someone/stories is no local path") and "give a local file" in error


# Raw texts to a folder


def test_prepare(tmp_path):
    long = "The fox went up the hill to see the moon, and on the hill he met an owl who knew its name."
    texts = [*STORIES, STORIES[0].upper(), " ", "Itâ€™s late. The end.", long, long.replace("moon,", "moon")]
    texts.append(long.replace("knew its name", "knew its song"))
    report = data.prepare("languages", write(tmp_path / "raw.jsonl", texts), tmp_path / "en", language="en")
    assert report.notes == [
        "1 texts dropped: empty",
        "2 texts dropped: the same as an earlier one",
        "1 texts dropped: nearly the same as an earlier one",
        "1 texts mended: UTF-8 that was read as Windows-1252, such as â€œ for “",
    ]
    assert sum(report.rows.values()) == len(STORIES) + 2 and min(report.rows.values()) > 0
    loaded = load(source=tmp_path / "en", sentences=0)
    assert {split: len(rows) for split, rows in loaded.items()} == report.rows
    assert joined(loaded) == sorted([*STORIES, "It’s late. The end.", long])
    found = datasets.load_dataset(str(tmp_path / "en"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == report.rows
    assert "language:\n- en\n" in (tmp_path / "en" / "README.md").read_text(encoding="utf-8")


def test_prepared_languages_load_together(tmp_path):
    near = "狐狸爬上小山去看月亮，在山上遇见了一只知道月亮名字的猫头鹰。它们聊到了天亮。"
    chinese = [f"有{n}只狐狸住在{n * 7}座山里。" for n in range(100, 160)] + [near, near.replace("天亮", "早上")]
    report = data.prepare("languages", write(tmp_path / "zh.jsonl", chinese), tmp_path / "set" / "zh", language="zh")
    assert report.notes == ["1 texts dropped: nearly the same as an earlier one"]
    data.prepare("languages", write(tmp_path / "en.jsonl", STORIES), tmp_path / "set" / "en")
    stories = load(language="all", source=tmp_path / "set", sentences=0)
    assert sum(map(len, stories.values())) == 61 + 64 and list(dict.fromkeys(stories["test"]["language"])) == [
        "en",
        "zh",
    ]


def test_a_file_in_another_language_is_seen(tmp_path):
    raw = write(tmp_path / "raw.jsonl", STORIES)
    report = data.prepare("languages", raw, tmp_path / "zh", language="zh")
    assert report.notes == ["64 of 64 texts have few letters of 'zh': is that their language?"]
    report = data.prepare("languages", raw, tmp_path / "fr", language="fr")
    assert report.notes == ["no sentence splitter for 'fr': load it with sentences=0"]
    assert languages.in_script("莉莉和 Timmy 去公园，看见了一只猫。", "zh-TW")
    assert not languages.in_script("ルルとレオは、ふたごでした。", "zh")
    assert not languages.in_script("从前有一只狐狸。", "ja") and languages.in_script("東京大学へ行きました。", "ja")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"out": "raw.jsonl"}, "raw.jsonl exists already"),
        ({"source": ""}, "is a folder; give one file of texts"),
        ({"source": "none.csv"}, "cannot read"),
        ({"column": "story"}, "raw.jsonl has text and no 'story'"),
        ({"validation": 0.6, "test": 0.4}, "leave no rows to train on"),
        ({"validation": 0}, "the validation split would be empty"),
    ],
)
def test_bad_preparations_leave_nothing(tmp_path, options, expected):
    write(tmp_path / "raw.jsonl", STORIES)
    options = {"source": "raw.jsonl", "out": "new"} | options
    paths = [tmp_path / options.pop(name) for name in ("source", "out")]
    assert expected in message(data.prepare, "languages", *paths, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]


# Real texts


@pytest.mark.parametrize(
    ("name", "language", "mended"),
    [("en_test", "en", 51), ("pt_test", "pt", 0), ("pt_dev", "pt", 0), ("zh_test", "zh", 0), ("zh_dev", "zh", 0)],
)
def test_real_texts(tmp_path, name, language, mended):
    path = CORPORA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("the real test sets lie beside the repository, not in it")
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    stories = load(language=language, source=path)
    assert joined(stories) == sorted(map(languages.mend, texts))
    assert all(row["prompt"].strip() and row["completion"].strip() for rows in stories.values() for row in rows)
    assert sum(len(rows) for rows in stories.values()) == len(texts)
    report = data.prepare("languages", path, tmp_path / "out", language=language)
    assert sum(report.rows.values()) == len(texts)
    assert [note.split()[0] for note in report.notes] == [str(mended)] * bool(mended)
