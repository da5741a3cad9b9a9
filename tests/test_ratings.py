"""People's ratings: the sheet hides who told what, every answer comes back or is named, figures worked by hand."""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylib import plots
from storylib.errors import UserError
from storylib.feedback import FeedbackStore, preference_set
from storylib.metrics.ratings import (
    Choice,
    Rating,
    choice_agreement,
    left_share,
    rating_agreement,
    rating_means,
    summarise,
    win_rates,
)
from storylib.ratings import CRITERIA, blind, blind_pairs, item_id, keep, read_answers, read_key, write_sheet

FOX, OWL = "🦊🏰💪 fox, castle, courage\n", "🦉🌲💤 owl, forest, sleep\n"
ODD = [
    "=HYPERLINK(\"http://127.0.0.1\"; \"Click\")",
    "+1, said the fox.",
    "-- No, said the owl.",
    "@home the fox slept.",
    "＝１＋１",
    "'Tis said that owls sleep.",
    "'=2+2",
    "\tThe fox, the \"owl\"; and 👨‍👩‍👦‍👦:\r\n\r\n  «¡Él!» 狐狸睡了。\n",
]  # fmt: skip


@dataclass(frozen=True)
class Told:
    prompt: str
    text: str


def systems(*names: str, prompts=(FOX, OWL), stories=2) -> dict[str, list[Told]]:
    """Stories that name nobody: each system's are its own."""
    return {
        name: [
            Told(prompt, f"Story {(place + 1) * 7919 + turn} of {prompt[:1]}.")
            for prompt in prompts
            for turn in range(stories)
        ]
        for place, name in enumerate(names)
    }


def read_csv(path) -> list[dict]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path, sheet, score, rater="Ana", delimiter=",", **changes):
    """The sheet as a rater hands it back: `score` is a value or a function of row and question."""
    rows = read_csv(sheet)
    for row in rows:
        for question in [name for name in row if name in (*CRITERIA, "better")]:
            row[question] = score(row, question) if callable(score) else score
        row.update(changes)
    return save(path / f"{rater}.csv", rows, delimiter)


def save(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def sheet(tmp_path):
    """A sheet of four stories by two systems, and its key."""
    path = tmp_path / "sheet.csv"
    key = write_sheet(blind(systems("secret-a", "secret-b", stories=1)), path)
    return path, read_key(key)


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    key = write_sheet(blind_pairs(systems("secret-a", "secret-b", stories=4)), path)
    return path, read_key(key)


# The sheet


def test_sheet_has_every_story_once_and_no_system():
    told = systems("secret-a", "secret-b", "secret-c")
    sheet = blind(told)
    assert {(row["prompt"], row["story"]) for row in sheet.rows} == {
        (story.prompt, story.text) for stories in told.values() for story in stories
    }
    assert len({row["id"] for row in sheet.rows}) == len(sheet.rows) == 12
    assert "secret" not in repr(sheet.rows) and "secret" not in repr(sheet)
    assert all(sheet.key[row["id"]].stories == (row["story"],) for row in sheet.rows)
    assert sheet.notes == []


def test_other_names_and_another_order_leave_the_rows_as_they_are():
    told = systems("a", "b")
    renamed = {"b": told["a"][::-1], "a": told["b"][::-1]}
    assert blind(renamed, seed=3).rows == blind(told, seed=3).rows != blind(told, seed=4).rows
    assert {item.systems for item in blind(told).key.values()} == {(("a",),), (("b",),)}


def test_order_tells_nothing_of_the_system():
    """Of 200 orders, a system comes first in about half: 0.5 ± 4 standard deviations."""
    told = systems("a", "b")
    sheets = [blind(told, seed) for seed in range(200)]
    first = mean(sheet.key[sheet.rows[0]["id"]].systems == (("a",),) for sheet in sheets)
    assert 0.36 < first < 0.64


def test_so_many_stories_of_each_system_per_prompt():
    sheet = blind(systems("a", "b", stories=5), per_prompt=2)
    counts = Counter((item.prompt, item.systems) for item in sheet.key.values())
    assert set(counts.values()) == {2} and len(counts) == 4
    with pytest.raises(UserError, match="per_prompt must be at least 1, got 0"):
        blind(systems("a"), per_prompt=0)


def test_a_story_told_twice_is_asked_about_once_and_counts_for_both():
    told = {"a": [Told(FOX, "The same."), Told(FOX, "Other.")], "b": [Told(FOX, " The  same.\n")]}
    sheet = blind(told)
    assert len(sheet.rows) == 2 and sheet.notes == ["1 stories are asked about in the row of one that says the same"]
    assert sheet.key[item_id(FOX, "The same.")].systems == (("a", "b"),)


def test_what_is_left_out_is_named():
    told = {"a": [Told(FOX, "One."), Told(FOX, " "), Told(OWL, "Two.")], "b": [Told(FOX, "Three.")]}
    sheet = blind(told)
    assert sorted(row["story"] for row in sheet.rows) == ["One.", "Three."]
    assert sheet.notes == [
        "1 stories of a left out: they are empty",
        "1 prompts left out: not every system has a story for them",
    ]


@pytest.mark.parametrize(
    "told, message",
    [
        ({}, "no prompt has a story of every system"),
        ({"a": []}, "no prompt has a story of every system"),
        ({"a": [Told(FOX, "")]}, "1 stories of a left out: they are empty"),
        ({"a": [Told(FOX, "A")], "b": [Told(OWL, "B")]}, "2 prompts left out"),
        ({"a": [Told(" ", "A story.")]}, "a story of a has no prompt, and raters need it: 'A story.'"),
    ],
)
def test_nothing_to_rate(told, message):
    with pytest.raises(UserError, match=message):
        blind(told)


def test_each_system_is_left_half_of_the_time():
    sheet = blind_pairs(systems("a", "b", "c", stories=4))
    left = Counter((min(item.systems), max(item.systems), item.systems[0]) for item in sheet.key.values())
    assert len(sheet.rows) == 3 * 8 and set(left.values()) == {4} and len(left) == 6
    for row in sheet.rows:
        assert (row["left"], row["right"]) == sheet.key[row["id"]].stories


def test_pairs_that_cannot_be():
    with pytest.raises(UserError, match="pairs need two systems, got a"):
        blind_pairs(systems("a"))
    same = {"a": [Told(FOX, "Same.")], "b": [Told(FOX, "Same. ")]}
    with pytest.raises(UserError, match="1 pairs left out: both stories are the same"):
        blind_pairs(same)


def test_files_are_never_overwritten_and_end_in_csv(tmp_path):
    made = blind(systems("a"))
    with pytest.raises(UserError, match="a sheet is a .csv file"):
        write_sheet(made, tmp_path / "sheet.xlsx")
    write_sheet(made, tmp_path / "new" / "sheet.csv")
    with pytest.raises(UserError, match="exists already"):
        write_sheet(made, tmp_path / "new" / "sheet.csv")
    (tmp_path / "new" / "sheet.csv").unlink()
    with pytest.raises(UserError, match="sheet.key.json exists already"):
        write_sheet(made, tmp_path / "new" / "sheet.csv")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["sheet.key.json"]


# The file, and what spreadsheets do to it


def test_file_that_raters_get_hides_systems_and_starts_no_formula(tmp_path):
    told = {"secret-a": [Told(FOX, text) for text in ODD], "secret-b": [Told(FOX, "=1")]}
    write_sheet(blind(told), tmp_path / "sheet.csv")
    raw = (tmp_path / "sheet.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf") and b"secret" not in raw  # the mark: else Excel shows rubbish for emoji
    rows = read_csv(tmp_path / "sheet.csv")
    assert len(rows) == 9 and list(rows[0]) == ["id", "prompt", "story", *CRITERIA]
    for row in rows:
        for cell in row.values():
            assert not cell.lstrip().startswith(tuple("=+-@＝"))
        assert row["id"][0] == "s" and row["relevance"] == ""


def as_excel(text: str) -> str:
    """Empty cells at the end of rows are not saved, and cells' line ends are plain."""
    return "".join(line.rstrip(";") + "\r\n" for line in text.replace("\r\n", "\n").split("\n"))


def as_google(rows: list[dict]) -> list[dict]:
    """An apostrophe at the start of a cell is an instruction, not a character."""
    return [{name: cell.removeprefix("'") for name, cell in row.items()} for row in rows]


@settings(deadline=None, max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_any_story_comes_back(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    key = write_sheet(blind({"a": [Told(FOX, text)]}), folder / "sheet.csv")
    found = read_answers([fill(folder, folder / "sheet.csv", "3")], read_key(key))
    assert found.cases == {} and len(found.ratings) == 7
    assert found.key[found.ratings[0].item].stories == (text,)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_odd_stories_come_back_word_for_word(tmp_path, delimiter):
    key = write_sheet(blind({"a": [Told(FOX, text) for text in ODD]}), tmp_path / "sheet.csv")
    rows = [row | {"coherence": "4"} for row in read_csv(tmp_path / "sheet.csv")]
    files = [save(tmp_path / "Ana.csv", rows, delimiter), save(tmp_path / "Ben.csv", as_google(rows), delimiter)]
    found = read_answers(files, read_key(key))
    assert found.cases == {} and Counter(rating.rater for rating in found.ratings) == {"Ana": 8, "Ben": 8}
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    keep(found, store)
    assert {row["story"] for row in store.ratings()} == set(ODD)


def test_sheet_saved_by_excel_abroad(tmp_path, sheet):
    path, key = sheet
    rows = read_csv(path)
    rows[0]["relevance"] = "5"
    rows[1]["relevance"] = "3.0"  # pandas, where the column has gaps
    rows[2]["relevance"] = " ２ "  # an East Asian keyboard
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    file = tmp_path / "Ana.csv"
    file.write_text(as_excel(text.getvalue()) + ";;;;\r\n", encoding="utf-8", newline="")
    found = read_answers([file], key)
    assert sorted(rating.score for rating in found.ratings) == [2, 3, 5]
    assert found.missing == {"Ana": 4 * 7 - 3} and found.cases == {}


# Answers that count, and that do not


def test_last_word_counts_and_an_empty_cell_takes_nothing_back(tmp_path, sheet):
    path, key = sheet
    rows = read_csv(path)[:1] * 4
    answers = [{"relevance": "1", "empathy": "2"}, {"relevance": "5"}, {"relevance": "5"}, {"surprise": "3"}]
    file = save(tmp_path / "Ana.csv", [row | answer for row, answer in zip(rows, answers, strict=True)])
    found = read_answers([file], key)
    assert {rating.criterion: rating.score for rating in found.ratings} == {"relevance": 5, "empathy": 2, "surprise": 3}
    assert found.cases == {
        "answered again differently": ["Ana.csv, row 3, relevance: 5"],
        "answered again alike": ["Ana.csv, row 4, relevance: 5"],
    }
    assert found.missing == {"Ana": 28 - 3}


def test_cells_that_are_no_answer_are_named_and_do_not_count(tmp_path, sheet):
    path, key = sheet
    bad = iter(["0", "6", "3.5", "nan", "good", "-1", "4/5"])
    first = read_csv(path)[0]["id"]
    file = fill(tmp_path, path, lambda row, question: next(bad) if row["id"] == first else "3")
    found = read_answers([file], key)
    assert [place.split(": ")[1] for place in found.cases["not an answer"]] == [
        "0", "6", "3.5", "nan", "good", "-1", "4/5",
    ]  # fmt: skip
    assert found.cases["not an answer"][0] == "Ana.csv, row 2, relevance: 0"
    assert len(found.ratings) == 21 and found.missing == {"Ana": 0}


def test_changed_stories_unknown_ids_and_nameless_raters(tmp_path, sheet):
    path, key = sheet
    rows = [row | {"rater": "Ana", "coherence": "4"} for row in read_csv(path)]
    rows[0]["story"] += " The end."
    rows[1]["id"] = "s00000000000"
    rows[2]["rater"] = " "
    found = read_answers([save(tmp_path / "all.csv", rows)], key)
    assert found.cases == {
        "story changed": ["all.csv, row 2, coherence: 4"],
        "unknown id": ["all.csv, row 3, coherence: 4"],
        "no rater": ["all.csv, row 4, coherence: 4"],
    }
    assert [(rating.rater, rating.item) for rating in found.ratings] == [("Ana", rows[3]["id"])]


def test_files_that_are_no_sheets_of_this_key(tmp_path, sheet, pairs):
    path, key = sheet
    rows = read_csv(fill(tmp_path, path, "3"))
    less = [{name: cell for name, cell in row.items() if name not in ("story", "empathy")} for row in rows]
    with pytest.raises(UserError, match="lacks the columns story, empathy of this key's sheet; it has id, prompt, rel"):
        read_answers([save(tmp_path / "less.csv", less)], key)
    with pytest.raises(UserError, match="lacks the columns left, right, better"):
        read_answers([tmp_path / "Ana.csv"], pairs[1])
    other = {name.replace("s", "t"): item for name, item in key.items()}
    with pytest.raises(UserError, match=r"no answer counts in .*unknown id: 28\); is it the key of another sheet"):
        read_answers([tmp_path / "Ana.csv"], other)
    with pytest.raises(UserError, match="nothing filled in: 1"):
        read_answers([path], key)
    with pytest.raises(UserError, match="a sheet needs its key"):
        read_answers([tmp_path / "Ana.csv"])
    with pytest.raises(UserError, match="more cells than the header names"):
        broken = tmp_path / "broken.csv"
        broken.write_text(path.read_text(encoding="utf-8") + "a,b,c,d,e,f,g,h,i,j,k,l\n", encoding="utf-8")
        read_answers([broken], key)
    with pytest.raises(UserError, match="cannot read .*none.csv: No such file"):
        read_answers([tmp_path / "none.csv"], key)
    (tmp_path / "book.xlsx").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match="save the sheet as CSV UTF-8"):
        read_answers([tmp_path / "book.xlsx"], key)
    (tmp_path / "latin.csv").write_bytes(path.read_text(encoding="utf-8-sig").split("\n")[0].encode() + b"\n\xe9")
    with pytest.raises(UserError, match="not UTF-8 at line 2"):
        read_answers([tmp_path / "latin.csv"], key)


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"prompt": "p"}}'])
def test_key_of_something_else(tmp_path, text):
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(UserError, match="is not the key of a sheet"):
        read_key(tmp_path / "key.json")


def test_two_files_of_one_name_are_not_one_rater(tmp_path, sheet):
    path, key = sheet
    files = []
    for name in ("Ana", "Ben"):
        (tmp_path / name).mkdir()
        files.append(fill(tmp_path / name, path, "3", rater="sheet"))
    with pytest.raises(UserError, match="two files are called sheet.csv"):
        read_answers(files, key)
    files = [
        save(tmp_path / name / "sheet.csv", [row | {"Rater": name} for row in read_csv(file)])
        for name, file in zip(("Ana", "Ben"), files, strict=True)
    ]
    assert {rating.rater for rating in read_answers(files, key).ratings} == {"Ana", "Ben"}


def test_an_empty_sheet_beside_a_full_one_is_named(tmp_path, sheet):
    path, key = sheet
    found = read_answers([fill(tmp_path, path, "3"), path], key)
    assert found.cases == {"nothing filled in": ["sheet.csv"]} and found.missing == {"Ana": 0}


# The store of feedback


def test_ratings_go_to_the_store_and_come_back(tmp_path, sheet):
    path, key = sheet
    found = read_answers([fill(tmp_path, path, lambda row, question: 1 + len(question) % 5)], key)
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    assert keep(found, store) == 0
    assert store.counts()["ratings"] == 28 and {row["system"] for row in store.ratings()} == {"secret-a", "secret-b"}
    again = read_answers([store.path], key)
    assert set(again.ratings) == set(found.ratings) and again.missing == {"Ana": 0}
    both = read_answers([tmp_path / "Ana.csv", store.path], key)
    assert set(both.ratings) == set(found.ratings) and len(both.cases["answered again alike"]) == 28
    assert set(read_answers([store.path]).ratings) == set(found.ratings)


def test_blind_ratings_in_the_store_are_unblinded_by_the_key(tmp_path, sheet):
    """A widget knows the row, not the system."""
    made = blind(systems("secret-a", "secret-b", stories=1))
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    for row in made.rows:
        store.rate(row["prompt"], row["story"], 4, "coherence", "Ana")
    store.rate(OWL, "Of another sheet.", 1, "coherence", "Ana")
    found = read_answers([store.path], made.key)
    assert Counter(rating.systems for rating in found.ratings) == {("secret-a",): 2, ("secret-b",): 2}
    assert found.cases == {"unknown id": ["feedback.sqlite, rating 5, coherence: 1"]}
    with pytest.raises(UserError, match="no rating there names its system, so give the sheet's key"):
        read_answers([store.path])


def test_choices_go_to_the_store_and_train(tmp_path, pairs):
    path, key = pairs
    answers = iter(["left", "right", "tie", "Left"] * 2)
    found = read_answers([fill(tmp_path, path, lambda row, question: next(answers))], key)
    assert Counter(choice.answer for choice in found.choices) == {"left": 4, "right": 2, "tie": 2}
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    assert keep(found, store) == 2 and store.counts()["choices"] == 6
    again = read_answers([store.path], key)
    assert set(again.choices) == {choice for choice in found.choices if choice.answer != "tie"}
    assert again.missing == {"Ana": 2}
    assert len(preference_set(store, least=6)) == 6


# Figures


def rating(item, score, rater="Ana", system="a", prompt=FOX, criterion="coherence") -> Rating:
    return Rating(item, prompt, (system,), rater, criterion, score)


def test_each_story_counts_once_in_the_mean_however_many_rated_it():
    told = [rating("1", 4, "Ana"), rating("1", 2, "Ben"), rating("2", 5, "Ana", prompt=OWL), rating("3", 1, system="b")]
    means = rating_means(told)
    assert means["a"]["coherence"].value == mean([3, 5]) and means["b"]["coherence"].value == 1
    score = means["a"]["coherence"]
    assert (score.low, score.high) == (3, 5) and score.per_story == (3, 5)
    assert score.signature == "mean rating|raters:2|answers:3|stories:2|clusters:2|bootstrap:1000|seed:12345"


def test_stories_of_one_prompt_are_drawn_together():
    told = [rating("1", 1), rating("2", 5)]
    score = rating_means(told)["a"]["coherence"]
    assert score.value == score.low == score.high == 3


def test_means_are_drawn_like_any_scores():
    told = [
        rating(str(n), 1 + n % 5, system="ab"[n % 2], criterion=criterion) for n in range(9) for criterion in CRITERIA
    ]
    assert len(plots.score_bars(rating_means(told))) == len(CRITERIA)


def test_a_story_of_two_systems_counts_for_both():
    means = rating_means([Rating("1", FOX, ("a", "b"), "Ana", "surprise", 4)])
    assert means["a"]["surprise"].value == means["b"]["surprise"].value == 4


GAP = None
KRIPPENDORFF = {  # Krippendorff 2011, section C: four observers, twelve units
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
    "C": [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
}


def published() -> list[Rating]:
    return [
        rating(str(unit), score, rater, prompt=str(unit))
        for rater, scores in KRIPPENDORFF.items()
        for unit, score in enumerate(scores)
        if score is not GAP
    ]


def test_alpha_of_the_published_example():
    found = rating_agreement(published())["coherence"]
    assert found.score.value == pytest.approx(0.815, abs=5e-4)
    assert found.score.low < 0.815 < found.score.high <= 1
    assert "alpha|ordinal|raters:4|answers:40|stories:11|clusters:11" in found.score.signature  # unit 12 has one rater


def test_alpha_by_hand():
    """Pairs 11, 22, 12: observed 2/6, expected 2*3*3 / (6*5), so 1 - (1/3) / 0.6 = 4/9."""
    scores = {"Ana": [1, 2, 1], "Ben": [1, 2, 2]}
    told = [rating(str(n), score, rater) for rater, given in scores.items() for n, score in enumerate(given)]
    assert rating_agreement(told)["coherence"].score.value == pytest.approx(4 / 9)


def test_raters_who_always_oppose_each_other():
    """Pairs 15 and 51: observed 1, expected 2*2*2 / (4*3), so 1 - 1.5 = -0.5."""
    told = [rating("1", 1, "Ana"), rating("1", 5, "Ben"), rating("2", 5, "Ana"), rating("2", 1, "Ben")]
    assert rating_agreement(told)["coherence"].score.value == pytest.approx(-0.5)


@pytest.mark.parametrize(
    "told, case",
    [
        ([rating("1", 3), rating("2", 5)], "one rater"),
        ([rating("1", 3, "Ana"), rating("2", 5, "Ben")], "no story was judged by two raters"),
        ([rating("1", 3, "Ana"), rating("1", 3, "Ben"), rating("2", 1, "Ben")], "all answers are equal"),
    ],
)
def test_no_alpha_has_a_name(told, case):
    found = rating_agreement(told)["coherence"]
    assert found.score is None and str(found) == case


def test_no_answers_at_all():
    assert summarise([], []).agreement == {} and str(choice_agreement([])) == "no ratings"


def test_perfect_agreement_is_one_in_every_draw():
    told = [rating(str(n), 1 + n % 2, rater, prompt=str(n)) for rater in ("Ana", "Ben") for n in range(4)]
    assert str(rating_agreement(told)["coherence"]) == "1.00 [1.00, 1.00]"


@settings(deadline=None, max_examples=3)
@given(order=st.permutations(range(len(published()))))
def test_order_of_answers_changes_no_figure(order):
    told = published()
    turned = [told[place] for place in order]
    assert rating_means(turned)["a"]["coherence"].value == pytest.approx(rating_means(told)["a"]["coherence"].value)
    alphas = [rating_agreement(given)["coherence"].score.value for given in (told, turned)]
    assert alphas[0] == pytest.approx(alphas[1])


def choice(item, answer, left="a", right="b", rater="Ana", prompt=FOX) -> Choice:
    return Choice(item, prompt, (left,), (right,), rater, answer)


def test_win_rate_by_hand():
    told = [
        choice("1", "left"),  # a wins
        choice("1", "tie", rater="Ben"),  # so the pair gives 3/4
        choice("2", "left", left="b", right="a", prompt=OWL),  # a loses
        choice("3", "tie", left="c", right="a"),
    ]
    rates = win_rates(told)
    assert {pair: rate.value for pair, rate in rates.items()} == {("a", "b"): 0.375, ("a", "c"): 0.5}
    assert (rates["a", "b"].low, rates["a", "b"].high) == (0, 0.75)
    assert left_share(told).value == 1
    assert left_share([choice("1", "tie")]) is None


def test_who_always_prefers_the_left_is_unmasked(tmp_path, pairs):
    path, key = pairs
    found = summarise([], read_answers([fill(tmp_path, path, "left")], key).choices)
    assert found.wins["secret-a", "secret-b"].value == 0.5
    assert (found.left.value, found.left.low, found.left.high) == (1, 1, 1)


def test_better_system_wins_wherever_it_stands(tmp_path, pairs):
    path, key = pairs
    files = [
        fill(tmp_path, path, lambda row, _: ("right", "left")[key[row["id"]].systems[0] == ("secret-b",)], rater)
        for rater in ("Ana", "Ben")
    ]
    found = summarise([], read_answers(files, key).choices)
    assert found.wins["secret-a", "secret-b"].value == 0 and found.left.value == 0.5
    assert found.agreement["better"].score.value == 1


# The command line


@pytest.fixture
def told(tmp_path):
    """A file of stories, as an evaluation writes it."""
    file = tmp_path / "stories.jsonl"
    rows = [
        {"system": system, "prompt": story.prompt, "seed": 0, "text": story.text, "ended": "eos", "tokens": 9}
        for system, stories in systems("secret-a", "secret-b").items()
        for story in stories
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_from_stories_to_a_table(command, tmp_path, told):
    code, out, err = command("sheet", told, "--out", tmp_path / "sheet.csv")
    assert code == 0 and err == "" and "8 rows" in out and "coherence: How much does the story make sense?" in out
    files = [fill(tmp_path, tmp_path / "sheet.csv", score, rater) for score, rater in (("4", "Ana"), ("5", "Ben"))]
    key, store = tmp_path / "sheet.key.json", tmp_path / "feedback.sqlite"
    code, out, err = command("ratings", *files, "--key", key, "--store", store)
    assert code == 0 and "secret-a" in out and "4.50 [4.50, 4.50]" in out and "fit for the age" in out
    assert "missing, Ana" in out and "mean rating|raters:2|answers:8" in out and "kept in" in err
    assert FeedbackStore(store).counts()["ratings"] == 2 * 8 * 7
    code, out, err = command("ratings", store)
    assert code == 0 and "4.50 [4.50, 4.50]" in out and "missing" not in out
    code, out, err = command("ratings", files[0])
    assert code == 2 and out == "" and "needs its key" in err and err.count("\n") == 1


def test_from_pairs_to_a_win_rate(command, tmp_path, told):
    code, out, err = command("sheet", told, "--out", tmp_path / "sheet.csv", "--pairs")
    assert code == 0 and "Write left, tie or right under better" in out and "4 rows" in out
    file = fill(tmp_path, tmp_path / "sheet.csv", "left")
    code, out, err = command("ratings", file, "--key", tmp_path / "sheet.key.json")
    assert code == 0 and "secret-a wins over secret-b" in out and "one rater" in out
    assert "the left is preferred" in out and "1.00 [1.00, 1.00]" in out
