"""What a corpus is said to hold, counted by hand."""

from collections import Counter

import datasets
import pytest

from storylib import data
from storylib.data import description
from storylib.data.description import Repeat, describe
from storylib.errors import UserError

LONG = "Long ago a brave little owl flew over the sleeping town and sang to every star"  # 16 words


def corpus(**splits):
    columns = ("completion", "label")
    rows = {split: [dict(zip(columns, row, strict=True)) for row in told] for split, told in splits.items()}
    return datasets.DatasetDict(
        {s: datasets.Dataset.from_list([{"prompt": "Tell:\n"} | row for row in told]) for s, told in rows.items()}
    )


@pytest.fixture
def owls():
    return corpus(
        train=[
            ("The owl slept.", "calm"),
            ("The owl woke — and sang!", "glad"),
            ("the OWL slept", "calm"),
            (LONG, "calm"),
        ],
        test=[(LONG + " again", "glad"), ("“The owl slept!”", "calm"), (LONG + "!", "calm")],
    )


def test_sizes(owls):
    train, test = describe(owls).parts
    assert (train.split, train.language, train.rows, train.words) == ("train", None, 4, 3 + 5 + 3 + 16)
    assert train.characters == 14 + 24 + 13 + len(LONG) and train.tokens is None
    assert test.lengths == (17, 3, 16)
    tables = describe(owls).tables()
    assert tables["size"][1] == {"split": "test", "rows": 3, "words": 36, "characters": test.characters}
    expected = {
        "split": "test",
        "shortest": 3,
        "10 %": 6,
        "median": 16,
        "90 %": 17,
        "longest": 17,
    }  # 10 %: 3 + 0.2 * 13
    assert tables["length in words"][1] == expected


def test_tokens(owls, tokenizer):
    train = describe(owls, tokenizer).parts[0]
    assert train.tokens == sum(len(tokenizer.tokenize(text)) for text in owls["train"]["completion"])
    assert describe(owls, tokenizer).tables()["size"][0]["tokens"] == train.tokens


def test_openings(owls):
    found = describe(owls)
    assert found.openings["train"] == {"the owl slept": 2, "the owl woke": 1, "long ago a": 1}
    assert found.tables()["most frequent openings"] == [
        {"opening": "the owl slept", "train": 2, "test": 1},
        {"opening": "long ago a", "train": 1, "test": 2},
        {"opening": "… 1 others", "train": 1, "test": 0},
    ]


def test_duplicates_within_and_across_splits(owls):
    found = describe(owls)
    assert found.repeats == (
        Repeat("train", 2, "train", 0, exact=True),
        Repeat("test", 0, "train", 3, exact=False),  # 12 of 13 runs of five words
        Repeat("test", 1, "train", 0, exact=True),
        Repeat("test", 2, "train", 3, exact=True),
    )
    train, test = found.tables()["duplicates"]
    assert train == {"split": "train", "exact": 1, "exact, of another split": 0, "near": 0, "near, of another split": 0}
    assert test == {"split": "test", "exact": 0, "exact, of another split": 2, "near": 0, "near, of another split": 1}


def test_near_duplicates_are_left_out_where_rows_are_many(owls, monkeypatch):
    monkeypatch.setattr(description, "MANY", 6)
    found = describe(owls)
    assert not found.near and len(found.repeats) == 3
    assert found.tables()["duplicates"][1] == {"split": "test", "exact": 0, "exact, of another split": 2}


def test_values_of_labels_alone(owls):
    measured = owls.map(
        lambda row, place: row | {"place": place, "wish": ["a"], "empty": "", "id": "same"}, with_indices=True
    )
    found = describe(measured)
    assert found.values == {"label": {"train": Counter(calm=3, glad=1), "test": Counter(calm=2, glad=1)}}
    assert found.tables()["values of label"][0] == {"label": "calm", "train": 3, "test": 2}


def test_the_values_that_are_too_many_for_a_table():
    rows = [(f"Story {place} is its own.", f"genre {place % 12}") for place in range(30)]
    table = describe(corpus(train=rows)).tables()["values of label"]
    assert len(table) == 11 and table[0] == {"label": "genre 0", "train": 3}
    assert table[-1] == {"label": "… 2 others", "train": 4}


def test_languages_and_beginnings():
    rows = [("Era uma vez", " um gato.", "pt"), ("从前，", "有一只猫。", "zh"), ("Era uma vez", " uma onça.", "pt")]
    names = ("prompt", "completion", "language")
    told = datasets.DatasetDict(train=datasets.Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows]))
    found = describe(told)
    assert [(part.language, part.rows, part.words, part.characters) for part in found.parts] == [
        ("pt", 2, 10, 20 + 21),
        ("zh", 1, 6, 8),
    ]
    assert found.openings["train"] == {"era uma vez": 2, "从前有一": 1}
    assert found.lengths() == {"pt": [5, 5], "zh": [6]}
    assert found.tables()["size"][1] == {"split": "train", "language": "zh", "rows": 1, "words": 6, "characters": 8}


def test_an_empty_split_and_a_split_without_stories(owls):
    owls["test"] = owls["test"].select([])
    found = describe(owls)
    assert found.parts[1].rows == 0 and found.tables()["length in words"][1]["longest"] == 0
    with pytest.raises(UserError, match="the test split has prompt, label, and no completion"):
        describe(datasets.DatasetDict(owls, test=owls["train"].remove_columns("completion")))


@pytest.mark.parametrize("name", data.CORPORA)
def test_shipped_corpora_repeat_nothing(name):
    found = describe(data.load(name))
    assert found.repeats == ()
    assert sum(part.rows for part in found.parts) == sum(sum(count.values()) for count in found.openings.values()) > 70
