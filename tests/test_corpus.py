"""What every corpus stands on: splits, cleaning, duplicates, reading line by line, and folders with their cards."""

import json
import random
import tracemalloc
from dataclasses import replace

import datasets
import pytest

from storylib import data
from storylib.data import corpus, reading
from storylib.data.cleaning import tidy
from storylib.data.corpus import SPLITS, Card, read_corpus, write_corpus
from storylib.data.duplicates import fingerprint, near_duplicates, words
from storylib.data.splitting import share, split_of
from storylib.errors import UserError
from storylib.files import DATA

CARD = Card(
    title="Owls: a test",
    summary="Each row is about an owl.",
    languages=["en", "pt"],
    licence="CC0-1.0",
    source="Made up.",
    made="By hand.",
    columns={"id": "a number", "text": "an owl"},
    tags=["owls"],
)
ROWS = {split: [{"id": f"{split}-{i}", "text": f"Owl {i}\n“Hu!” 🦉"} for i in range(3)] for split in SPLITS}
TALE = "Once upon a time a small hedgehog lived under the old oak and counted every star that fell into the pond"


def message(call, *args, **kwargs):
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# Splits


def test_splits_have_their_shares():
    sides = [split_of(f"tale {i}", validation=0.2, test=0.1) for i in range(5000)]
    assert abs(sides.count("test") / 5000 - 0.1) < 0.02 and abs(sides.count("validation") / 5000 - 0.2) < 0.02
    assert min(share(str(i)) for i in range(1000)) >= 0 and max(share(str(i)) for i in range(1000)) < 1


def test_no_key_moves_when_a_corpus_is_shuffled_or_grows():
    small = {key: split_of(key) for key in map(str, range(200))}
    grown = list(map(str, range(400)))
    random.Random(0).shuffle(grown)
    assert small.items() <= {key: split_of(key) for key in grown}.items()
    larger = {key for key in grown if split_of(key, validation=0.3) == "test"}  # nor test, when validation does
    assert larger == {key for key in grown if split_of(key) == "test"}


def test_a_split_that_none_would_be_in():
    assert {split_of(str(i), validation=0, test=0) for i in range(50)} == {"train"}
    assert "validation=0.5 and test=0.5 leave no rows to train on" in message(split_of, "a", 0.5, 0.5)
    assert "validation=-0.1" in message(split_of, "a", validation=-0.1)


# Cleaning


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("", ""),
        ("\ufeffIt rained.\x00\x07", "It rained."),
        (" a\u00a0\u3000b\t c ", "a b c"),
        ("one\r\ntwo\rthree\u2028four\x0cfive", "one\ntwo\nthree\nfour\nfive"),
        ("one \n \n\t\n\n two", "one\n\ntwo"),
        ("cafe\u0301 soft\u00adly \u202eback\u202c", "café softly back"),
        ("half \ud83e", "half"),
        ("a \u200b b", "a b"),
        (
            "👨\u200d👩\u200d👦\u200d👦 🏳\ufe0f\u200d🌈 🧙\u200d♂\ufe0f",
            "👨\u200d👩\u200d👦\u200d👦 🏳\ufe0f\u200d🌈 🧙\u200d♂\ufe0f",
        ),
        ("\u200d🦔\u200d, a\u200db 🦊\u200d", "🦔, ab 🦊"),
        (
            "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
        ),
        ("می\u200cخواهم", "می\u200cخواهم"),  # written apart, and one word
        ("「行こう！」\u3000と言った。", "「行こう！」 と言った。"),
    ],
)
def test_tidy(raw, clean):
    assert tidy(raw) == clean == tidy(clean)


# Duplicates


def test_fingerprints_see_words_alone():
    assert fingerprint("“It’s late,” said Ana.") == fingerprint("It's late - SAID  Ana!")
    assert len({fingerprint(text) for text in ("hare", "here", "🦔", "🦔🦔", "野兔", "café", "cafe")}) == 7


def test_words_in_any_script():
    assert words("The merry-go-round, isn’t it? 3 owls") == ["the", "merry-go-round", "isn’t", "it", "3", "owls"]
    assert words("我和Tom去2楼。スーパー") == ["我", "和", "tom", "去", "2", "楼", "ス", "ー", "パ", "ー"]


def test_near_duplicates_point_to_the_first_of_their_kind():
    changed = TALE.replace("fell", "dropped")  # 17 runs of five words; it is in 4, so 13 of 21 are in both
    ending = TALE.replace("pond", "lake")  # it is in the last alone: 16 of 18
    texts = [TALE, "A wholly different story of a fox and her kite.", changed, ending, TALE.upper() + "!", ""]
    assert near_duplicates(texts) == {3: 0, 4: 0}
    assert near_duplicates(texts, threshold=0.5) == {2: 0, 3: 0, 4: 0}
    assert near_duplicates(texts[::-1]) == {2: 1, 5: 1}


def test_near_duplicates_in_chinese():
    story = "从前有一只小狐狸住在森林里每天晚上都看星星"
    assert near_duplicates([story, story[:-1] + "月", "猫头鹰在树上睡觉从早到晚一动也不动"]) == {1: 0}


def test_near_duplicates_agree_with_comparing_all_pairs():
    draw = random.Random(0)
    texts = []
    for _ in range(60):
        told = [f"w{draw.randrange(900)}" for _ in range(100)]
        again = [f"v{place}" if draw.random() < 0.025 else word for place, word in enumerate(told)]
        texts += [" ".join(told), " ".join(again)]
    runs = [{tuple(t[i : i + 5]) for i in range(96)} for t in map(str.split, texts)]
    near = {i: i - 1 for i in range(1, 120, 2) if len(runs[i] & runs[i - 1]) >= 0.7 * len(runs[i] | runs[i - 1])}
    assert 10 < len(near) < 60 and near_duplicates(texts) == near


# Lines and rows


def test_lines_end_at_line_feeds_alone(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still one\r\n\n🦔\x85\rthree".encode())
    assert list(reading.lines(path)) == [(1, "one\u2028still one"), (2, ""), (3, "🦔\x85\rthree")]


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "short"}\n')
        file.truncate(200 * 2**20)  # the rest is a hole that takes no disk
    tracemalloc.start()
    error = message(list, reading.lines(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error.endswith("a.jsonl, line 2 is longer than 16 MiB; put each text on a line of its own")
    assert peak < 60e6


def test_a_bad_byte_is_named_with_its_offset_in_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("é\n".encode() + b"caf\xe9\n")
    assert "a.txt is not UTF-8 at line 2 (byte 0xe9 at offset 6)" in message(list, reading.lines(path))
    path.write_bytes("UTF-16".encode("utf-16"))
    assert "line 1 (byte 0xff at offset 0)" in message(list, reading.lines(path))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train.jsonl", b'{"a": "x\x00"}\n', "train.jsonl, line 1 is not valid JSON: Invalid control character"),
        ("train.csv", b"a\nx\x00\n", "train.csv, line 2 has a NUL byte"),
        ("train.jsonl", b'{"a": ' + b"[" * 200_000, "train.jsonl, line 1 is not valid JSON: maximum recursion"),
        ("train.jsonl", b'{"a": 1}\n[1]\n', "line 2 is not an object"),
        ("train.jsonl", b'{"a": "x"}\n{"a": 7}\n', "the column 'a' mixes texts, numbers or lists"),
        ("train.jsonl", b'{"a": [1]}\n' * 1000 + b'{"a": "x"}\n', "train.jsonl: Unable to merge: Field a"),
        ("train.jsonl", b'{"id": "q"}\n{"id": "p"}\n{"id": "q"}\n', "the id 'q' comes 2 times"),
        ("train.jsonl", b"\n", "train.jsonl has no rows"),
        ("test.jsonl", b'{"a": 1}\n', "needs one of train.jsonl and train.csv, and has neither"),
    ],
)
def test_broken_folders(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert expected in message(read_corpus, tmp_path)


def test_a_folder_of_either_kind(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"a": null, "b": "x"}\n' * 1000 + '{"a": 1.5}\n{"a": 2}\n')
    (tmp_path / "test.csv").write_text("b,c\nx,1\n")
    rows = read_corpus(tmp_path)
    assert list(rows) == ["train", "test"] and rows["test"][:] == {"b": ["x"], "c": ["1"]}
    assert rows["train"][999:1002] == {"a": [None, 1.5, 2.0], "b": ["x", None, None]}
    (tmp_path / "test.jsonl").write_text('{"b": "y"}\n')
    assert "needs one of test.jsonl and test.csv, and has both" in message(read_corpus, tmp_path)
    assert "there is no folder" in message(read_corpus, tmp_path / "none")


# Folders with their cards


def test_a_written_corpus_is_read_again_by_us_and_by_datasets(tmp_path):
    out = tmp_path / "new" / "owls"
    assert write_corpus(out, {split: iter(rows) for split, rows in ROWS.items()}, CARD) == dict.fromkeys(SPLITS, 3)
    assert {split: rows.to_list() for split, rows in read_corpus(out).items()} == ROWS
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.to_list() for split, rows in loaded.items()} == ROWS
    assert [path.name for path in out.parent.iterdir()] == ["owls"]


def test_the_card_says_what_the_hub_asks_for(tmp_path):
    from huggingface_hub import DatasetCard

    write_corpus(tmp_path / "owls", ROWS, CARD)
    card = DatasetCard.load(tmp_path / "owls" / "README.md")
    front = card.data.to_dict()
    assert front["license"] == "cc0-1.0" and front["language"] == ["en", "pt"] and front["tags"] == ["owls"]
    assert front["pretty_name"] == "Owls: a test" and front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["text-generation"]
    assert "| validation | 3 |" in card.text and "| `text` | an owl |" in card.text and "Made up." in card.text


@pytest.mark.parametrize(
    ("rows", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (300_000, "100K<n<1M"), (10**8, "n>10M")]
)
def test_size_category(rows, size):
    assert f"- {size}\n" in corpus.page(CARD, {"train": rows})


def test_a_licence_in_words_is_other_for_the_hub():
    text = corpus.page(replace(CARD, licence="Public domain in the USA", languages=[]), {"train": 1})
    assert (
        "\nlicense: other\n" in text and "## Licence\n\nPublic domain in the USA\n" in text and "language" not in text
    )


def fails_midway():
    yield {"id": "x", "text": "the first row is good"}
    raise RuntimeError("the source broke off")


@pytest.mark.parametrize(
    ("splits", "error", "text"),
    [
        ({"train": ROWS["train"], "test": []}, UserError, "the test split would be empty"),
        (
            {"train": ROWS["train"], "test": ROWS["train"][:1]},
            UserError,
            "the id 'train-0' comes twice, again in row 1",
        ),
        ({"train": [{"id": "1", "story": "x"}]}, ValueError, "row 1 of train has id, story; the card id, text"),
        ({"train": ROWS["train"], "test": fails_midway()}, RuntimeError, "broke off"),
        ({"train": [{"id": "1", "text": "half an emoji \ud83e"}]}, UnicodeEncodeError, "surrogates"),
    ],
)
def test_nothing_is_left_of_a_corpus_that_fails(tmp_path, splits, error, text):
    with pytest.raises(error, match=text):
        write_corpus(tmp_path / "owls", splits, CARD)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_never_written_over(tmp_path):
    kept = tmp_path / "owls"
    kept.mkdir()
    assert "owls exists already; choose another" in message(write_corpus, kept, ROWS, CARD)
    assert "owls exists already" in message(data.prepare, "emoji", tmp_path / "none.jsonl", kept)
    assert not list(kept.iterdir())


# The four corpora together


@pytest.mark.parametrize(
    ("name", "config"), [("emoji_stories", "rich"), ("genres", None), ("personal", None), ("quartet", "ja")]
)
def test_shipped_folders_load_with_datasets_alone(tmp_path, name, config):
    loaded = datasets.load_dataset(str(DATA / name), config, cache_dir=str(tmp_path))
    assert "train" in loaded and "test" in loaded and min(map(len, loaded.values())) > 0


@pytest.mark.parametrize("name", data.CORPORA)
def test_each_corpus_has_the_same_face(name):
    rows = data.load(name)
    assert {"prompt", "completion"} <= set(rows["train"].column_names)
    assert all(isinstance(text, str) and text.strip() for split in rows.values() for text in split["completion"])
    assert not set(rows["train"]["completion"]) & set(rows["test"]["completion"])


def test_options_that_a_corpus_does_not_take(tmp_path):
    assert "emoji has no option language in load; it takes level, source" in message(data.load, "emoji", language="pt")
    error = message(data.prepare, "genres", tmp_path, tmp_path / "new", lines=50, adult=True)
    assert error == "genres has no option adult in prepare; it takes lines"


def test_prepared_emoji_stories(tmp_path):
    places = ["🏰", "🏖", "🌊", "🌙"]
    told = [{"role": "🦔", "place": place, "theme": "💪", "story": f"In the {place}.\r\n"} for place in places]
    again = told[0] | {"story": "in the 🏰"}
    source = tmp_path / "mine.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in [*told, again]))
    report = data.prepare("emoji", source, tmp_path / "out")
    assert sum(report.rows.values()) == 4 and report.notes == ["1 rows dropped: their story repeats an earlier one"]
    loaded, direct = data.load("emoji", source=tmp_path / "out"), data.load("emoji", source=source)
    assert loaded["test"].to_list() == direct["test"].to_list()[: len(loaded["test"])]
    assert {row["completion"] for split in loaded.values() for row in split} == {f"In the {p}." for p in places}
