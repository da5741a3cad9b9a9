"""Rows of horror and fairy tales: from made-up books, the shipped ones, and the thirteen raw ones where they are."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import datasets
import pytest

from storylib import data
from storylib.data import genres
from storylib.data.splitting import split_of
from storylib.data.tales import Paragraph, Tale
from storylib.errors import UserError
from storylib.prompts import genre_prompt

RAW = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "gutenberg"
WORDS = [first + last for first in ("ba", "ko", "lu", "mi", "ne", "ro") for last in ("d", "g", "k", "l", "m", "n", "t")]
SPLITS = ("train", "validation", "test")


def sentence(tale, number):
    words = random.Random(f"{tale} {number}").choices(WORDS, k=8)
    return f"In tale {tale} sentence {number} says: {' '.join(words)}."


def write_books(folder, tales=40, lines=60, genres=("fairy_tale", "horror")):
    """A book of each genre; each tale has paragraphs of five lines, a sentence on each."""
    for genre in genres:
        (folder / genre).mkdir(parents=True, exist_ok=True)
        name = genre.replace("_", "")
        texts = []
        for tale in range(tales):
            sentences = [sentence(f"{name}{tale}", number) for number in range(lines)]
            paragraphs = ["\n".join(sentences[start : start + 5]) for start in range(0, lines, 5)]
            texts.append(f"{name.upper()} {tale}\n\n" + "\n\n".join(paragraphs))
        (folder / genre / "book.txt").write_text(f"A BOOK OF {name.upper()}\n\n\n\n" + "\n\n\n\n".join(texts))
    return folder


def read(folder):
    return {split: [json.loads(line) for line in (folder / f"{split}.jsonl").open()] for split in SPLITS}


# Rows


def paragraphs(*lengths):
    """Paragraphs of so many lines, a sentence on each."""
    made = []
    for number, length in enumerate(lengths):
        lines = [f"Sentence {number}.{line} ends here." for line in range(length)]
        text = " ".join(lines)
        ends = [sum(len(line) + 1 for line in lines[: i + 1]) for i in range(length - 1)] + [len(text)]
        made.append(Paragraph(text, tuple(ends)))
    return tuple(made)


def counts(*sections, size=50):
    return [lines for _, lines in genres.stretches(Tale("A tale", sections), size)]


def test_rows_end_with_paragraphs():
    assert counts(paragraphs(10, 10, 10, 10)) == [43]  # three blank lines between them
    assert counts(paragraphs(*[10] * 8)) == [43, 43]  # 87 lines: two rows, no stump
    assert counts(paragraphs(*[24] * 4)) == [49, 49]


def test_rows_end_with_sentences_where_no_paragraph_does():
    assert counts(paragraphs(100)) == [50, 50]
    assert counts(paragraphs(120)) == [40, 40, 40]
    rows = list(genres.stretches(Tale("A tale", (paragraphs(100),)), 50))
    assert rows[0][0].endswith("Sentence 0.49 ends here.") and rows[1][0].startswith("Sentence 0.50 ends")


def test_rows_end_with_lines_where_nothing_ends():
    text = " ".join(["word"] * 1200)  # 100 lines of 12 words
    endless = Paragraph(text, tuple(range(60, len(text), 60)) + (len(text),))
    rows = list(genres.stretches(Tale("A tale", ((endless,),)), 50))
    assert [lines for _, lines in rows] == [50, 50] and [len(row.split()) for row, _ in rows] == [600, 600]


def test_no_row_ends_before_somebody_speaks():
    said = Paragraph("And then the fox said, in a low voice:", (38,))
    before, after = paragraphs(22, 22), paragraphs(30)
    rows = list(genres.stretches(Tale("A tale", ((*before, said, *after),)), 50))
    assert rows[0][0].endswith("Sentence 1.21 ends here.") and rows[1][0].startswith("And then the fox said")


def test_rows_keep_to_their_section():
    assert counts(paragraphs(30), paragraphs(20, 20)) == [30, 41]
    assert counts(paragraphs(30), paragraphs(10)) == [41]  # too short to stand alone
    assert counts(paragraphs(5), paragraphs(30)) == [36]


def test_poems_keep_their_lines():
    poem = Paragraph("Oh, fox,\noh, bear!", (9, 18), verse=True)
    (row,) = genres.stretches(Tale("A tale", ((*paragraphs(1), poem),)), 50)
    assert row == ("Sentence 0.0 ends here.\n\nOh, fox,\noh, bear!", 4)


@pytest.mark.parametrize("size", [2, 7, 50])
def test_every_word_once_and_in_order(size):
    tale = Tale("A tale", (paragraphs(3, 1, 12, 40), paragraphs(90, 2)))
    rows = list(genres.stretches(tale, size))
    assert " ".join(text for text, _ in rows).split() == tale.text.split()
    assert max(lines for _, lines in rows) <= size


# Preparing


def test_prepare(tmp_path):
    report = genres.prepare(write_books(tmp_path / "raw"), tmp_path / "out", lines=40)
    rows = read(tmp_path / "out")
    assert report.rows == {split: len(found) for split, found in rows.items()}
    everything = [row for found in rows.values() for row in found]
    # 60 lines in 12 paragraphs: 71 with the blank ones; two rows of 35, the blank line between them in neither
    assert len(everything) == 2 * 40 * 2 and {row["lines"] for row in everything} == {35}
    for split, found in rows.items():
        for row in found:
            assert re.findall(r"In tale (\w+)", row["response"]) == [row["tale"].lower().replace(" ", "")] * 30
            assert split == split_of(f"{row['book']}/{row['tale']}")
            assert (
                row["prompt"]
                == {"horror": "Write me a horror story", "fairy_tale": "Write me a fairy tale"}[row["label"]]
            )
    assert {row["book"] for row in everything} == {"A Book of Fairytale", "A Book of Horror"}
    assert report.notes == [
        "2 of 2 books kept whole where a Project Gutenberg marker is missing: "
        "A Book of Fairytale (no start and no end); A Book of Horror (no start and no end)"
    ]


def test_a_tale_stays_in_its_split_as_books_are_added(tmp_path):
    genres.prepare(write_books(tmp_path / "raw", genres=["horror"]), tmp_path / "small")
    genres.prepare(write_books(tmp_path / "raw"), tmp_path / "large")
    small, large = read(tmp_path / "small"), read(tmp_path / "large")
    assert all(row in large[split] for split in SPLITS for row in small[split])


def test_a_tale_told_twice_is_kept_once(tmp_path):
    source = write_books(tmp_path / "raw")
    text = (source / "horror" / "book.txt").read_text()
    (source / "horror" / "other.txt").write_text(
        text.replace("A BOOK", "ANOTHER BOOK").replace(sentence("horror3", 7), "Changed.").replace("horror0", "new")
    )
    report = genres.prepare(source, tmp_path / "out")
    tales = Counter((row["book"], row["tale"]) for found in read(tmp_path / "out").values() for row in found)
    assert [tale for book, tale in tales if book == "Another Book of Horror"] == ["Horror 0"]
    assert report.notes[1].startswith(
        "39 of 120 tales dropped: Horror 1 in Another Book of Horror repeats Horror 1 in A Book"
    )


def test_a_novel_goes_to_train_whole(tmp_path):
    source = write_books(tmp_path / "raw")
    chapters = [
        f"CHAPTER {number}\n\n\n" + "\n".join(sentence("novel", 100 * number + line) for line in range(60))
        for number in range(1, 30)
    ]
    (source / "horror" / "novel.txt").write_text("THE NOVEL\n\n\n" + "\n\n\n\n".join(chapters))
    genres.prepare(source, tmp_path / "out")
    found = {
        split: [row for row in rows if row["book"] == "The Novel"] for split, rows in read(tmp_path / "out").items()
    }
    assert len(found["train"]) == 2 * 29 and not found["validation"] and not found["test"]
    assert {row["tale"] for row in found["train"]} == {"The Novel"}
    assert "CHAPTER" not in json.dumps(found["train"])


def empty(folder):
    folder.mkdir()


def western(folder):
    write_books(folder)
    (folder / "horror").rename(folder / "horrors")


def small(folder):
    write_books(folder, tales=2)


def broken(folder):
    write_books(folder)
    (folder / "horror" / "book.txt").write_bytes(b"A fox\x00")


def empty_book(folder):
    write_books(folder)
    (folder / "horror" / "zero.txt").touch()


@pytest.mark.parametrize(
    ("make", "lines", "message"),
    [
        (lambda folder: None, 50, "there is no folder .*raw; give one with a sub-folder of raw books"),
        (empty, 50, "has no books; put them where they belong: .*horror/dracula.txt"),
        (
            western,
            50,
            "the folder .*horrors is of no known genre, 'horrors'; there are fairy_tale, horror; nearest: horror",
        ),
        (small, 50, "split would be empty"),
        (broken, 50, "book.txt has a control byte 0x00 at offset 5"),
        (empty_book, 50, "zero.txt is empty"),
        (write_books, 1, "lines=1 is too few"),
    ],
)
def test_bad_sources(tmp_path, make, lines, message):
    make(tmp_path / "raw")
    with pytest.raises(UserError, match=message):
        genres.prepare(tmp_path / "raw", tmp_path / "out", lines=lines)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


# Loading


def test_prompts_are_those_of_the_reference():
    assert (
        genre_prompt("horror") == "Write me a horror story\n"
        and genre_prompt("fairy_tale") == "Write me a fairy tale\n"
    )


def test_load_shipped():
    rows = data.load("genres")
    assert {split: len(part) for split, part in rows.items()} == {"train": 63, "validation": 9, "test": 7}
    assert rows["train"].column_names == ["prompt", "completion", "label", "book", "tale", "lines"]
    for split, part in rows.items():
        assert set(part["label"]) == {"horror", "fairy_tale"}, split
        assert all(row["prompt"] == genre_prompt(row["label"]) for row in part)
    tales = [set(part["tale"]) for part in rows.values()]
    assert [len(found) for found in tales] == [22, 3, 3] and len(set.union(*tales)) == 28


def test_shipped_rows_are_those_of_the_shipped_books(tmp_path):
    genres.prepare(genres.SHIPPED / "books", tmp_path / "out")
    assert read(tmp_path / "out") == read(genres.SHIPPED)


def test_shipped_books_are_told_whole(tmp_path):
    """Every word between the first title and the last line, less the titles."""
    for path in (genres.SHIPPED / "books").glob("*/*.txt"):
        rows = [row for found in read(genres.SHIPPED).values() for row in found if row["label"] == path.parent.name]
        titles = {row["tale"].upper() for row in rows}
        lines = path.read_text().replace("_", "").removesuffix("THE END\n").split("\n")
        first = min(lines.index(title) for title in titles)
        body = "\n".join(line for line in lines[first:] if line not in titles)
        told = Counter(word for row in rows for word in re.findall(r"\w+", row["response"]))
        assert len(titles) == 14 and told == Counter(re.findall(r"\w+", body))


def test_datasets_alone_reads_the_shipped_rows(tmp_path):
    rows = datasets.load_dataset(str(genres.SHIPPED), cache_dir=str(tmp_path))
    assert {split: len(part) for split, part in rows.items()} == {"train": 63, "validation": 9, "test": 7}
    assert rows["train"].column_names == list(genres.COLUMNS)


def test_load_with_other_lines():
    rows = data.load("genres", lines=20)
    assert max(max(part["lines"]) for part in rows.values()) == 20 and len(rows["train"]) > 120


def test_load_folders(tmp_path):
    raw = write_books(tmp_path / "raw")
    genres.prepare(raw, tmp_path / "out")
    with pytest.warns(UserWarning, match="2 of 2 books kept whole where a Project Gutenberg marker is missing"):
        from_raw = data.load("genres", source=raw)
    prepared = data.load("genres", source=str(tmp_path / "out"))
    assert all(from_raw[split].to_list() == prepared[split].to_list() for split in SPLITS)
    with pytest.raises(UserError, match="are cut already; lines=20 needs a folder of raw books"):
        data.load("genres", source=tmp_path / "out", lines=20)


def test_load_gutenberg(tmp_path, monkeypatch):
    from storylib.data import download

    monkeypatch.setattr(download, "download", lambda: write_books(tmp_path / "books"))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="kept whole"):
        rows = data.load("genres", source="gutenberg")
    assert sum(len(part) for part in rows.values()) == 160


def test_load_a_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [{"response": f"Story {i}.", "label": "horror", "book": "B", "tale": f"T{i // 2}"} for i in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = data.load("genres", source=path)
    assert sum(len(part) for part in loaded.values()) == 100
    tales = [set(part["tale"]) for part in loaded.values()]
    assert sum(map(len, tales)) == 50
    assert loaded["train"][0]["prompt"] == "Write me a horror story\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "x"}], "row 1 of .* has no 'response'"),
        ([{"response": "x", "label": "horror"}], "split of .*mine.jsonl would be empty"),
        ([{"response": str(i), "label": "western"} for i in range(60)], "no known genre, 'western'"),
    ],
)
def test_bad_files(tmp_path, rows, message):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=message):
        data.load("genres", source=path)


# The thirteen raw books

# Lines of each raw file, found by eye, from the title of the first tale to the last line of the last; and parts in
# between that an editor wrote
TOLD = {
    "The Arabian Nights Entertainments": ("fairy_tale/pg0128_arabian_nights.txt", 172, 11450, []),
    "The Adventures of Pinocchio": ("fairy_tale/pg0500_adventures_of_pinocchio.txt", 50, 5822, []),
    "Andersen's Fairy Tales": ("fairy_tale/pg1597_andersens_fairy_tales.txt", 63, 5841, []),
    "Grimms' Fairy Tales": ("fairy_tale/pg2591_grimms_fairy_tales.txt", 125, 9181, []),
    "The Fairy Tales of Charles Perrault": ("fairy_tale/pg29021_perrault_fairy_tales.txt", 456, 3328, []),
    "Beauty and the Beast": ("fairy_tale/pg7074_beauty_and_the_beast.txt", 57, 512, []),
    "English Fairy Tales": ("fairy_tale/pg7439_english_fairy_tales.txt", 215, 5790, []),
    "The Strange Case of Dr. Jekyll and Mr. Hyde": ("horror/pg0043_jekyll_and_hyde.txt", 41, 2547, []),
    "Frankenstein": ("horror/pg0084_frankenstein.txt", 116, 7453, []),
    "Dracula": ("horror/pg0345_dracula.txt", 196, 15519, []),
    "Famous Modern Ghost Stories": ("horror/pg15143_famous_modern_ghost_stories.txt", 432, 10880, []),
    "The Best Ghost Stories": ("horror/pg17893_best_ghost_stories.txt", 354, 8500, [(359, 386), (693, 866)]),
    "Twenty-Five Ghost Stories": ("horror/pg53419_twenty_five_ghost_stories.txt", 171, 5963, []),
}


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory):
    """The rows of the thirteen raw books, by split."""
    if not RAW.is_dir():
        pytest.skip(f"the raw books are not at {RAW}")
    out = tmp_path_factory.mktemp("thirteen") / "rows"
    genres.prepare(RAW, out)
    return read(out)


@pytest.fixture
def rows(thirteen):
    return [row for found in thirteen.values() for row in found]


def raw_words(name):
    path, first, last, others = TOLD[name]
    raw = (RAW / path).read_bytes()
    lines = raw.decode("latin-1" if b"encoding: ISO-8859-1" in raw else "utf-8").splitlines()
    told = [line for i, line in enumerate(lines, 1) if first <= i <= last and not any(a <= i <= b for a, b in others)]
    return Counter(re.findall(r"[^\W_]+", "\n".join(told)))


def test_as_many_rows_as_the_reference_had(rows):
    """Its 994 rows of horror were of these six books; its 1336 of fairy tales of these seven and an eighth."""
    found = Counter(row["label"] for row in rows)
    assert 900 <= found["horror"] <= 1100 and 850 <= found["fairy_tale"] <= 1000
    assert {row["book"] for row in rows} == set(TOLD)


@pytest.mark.parametrize("book", TOLD)
def test_the_prose_is_kept_and_nothing_else(rows, book):
    raw = raw_words(book)
    told = Counter(word for row in rows if row["book"] == book for word in re.findall(r"[^\W_]+", row["response"]))
    assert (raw & told).total() >= 0.97 * raw.total()
    assert (told - raw).total() <= 0.001 * raw.total()


NOT_PROSE = {
    "licence": r"(?i)gutenberg|\be-?(?:book|text)s?\b|\*\*\*|deductible|www\.|https?:|public domain|pglaf|trademark",
    "makers": r"(?i)^\W*(?:produced|prepared) by|proofread|transcriber|scanned (?:by|images)|html version|typograph",
    "contents": r"(?i)^\W*(?:table of )?contents\W*$|\.{5,} *\d+$|^.{3,60} {3,}\d+$|list of illustrations",
    "illustrations": r"(?i)\[ ?illustration|\[frontispiece|facing page",
    "notes": r"(?i)footnote|^\[?(?:\d+|[a-z]|\*)\] |\[\d+\]|\w\[[a-z]\]|^\s*\* \w",
    "publishers": r"(?i)copyright|permission of the (?:pub|cent)|published (?:by|in (?:eng|amer))|grosset|ogilvie",
    "headings": r"^\W*(?i:chapter|letter) (?:\d+|[IVXLC]+)\b|^\W*[IVXL]+\.?$|^ *(?:THE END|FINIS)\b|^(?i:preface)",
    "bylines": r"^\W*(?:BY|By) [A-Z][A-Za-z. ]+$|^TRANSLATED",
    "pages": r"(?i)^\W*\d+\W*$|\[pg|\{pg|^page \d+",
    "marks": r"_|\[=|\^\{|  |\x00|\r|\ufeff|\xa0",
}


@pytest.mark.parametrize("kind", NOT_PROSE)
def test_nothing_that_is_no_prose(rows, kind):
    pattern = re.compile(NOT_PROSE[kind], re.MULTILINE)
    found = [(row["tale"], match[0]) for row in rows for match in pattern.finditer(row["response"])]
    assert found == []


@pytest.mark.parametrize("kind", NOT_PROSE)
def test_the_raw_books_are_full_of_it(kind):
    """So the patterns above do find what they are for."""
    if not RAW.is_dir():
        pytest.skip(f"the raw books are not at {RAW}")
    raw = "\n".join((RAW / path).read_text(encoding="latin-1") for path, *_ in TOLD.values())
    assert re.search(NOT_PROSE[kind], raw, re.MULTILINE)


def test_no_row_is_a_list_of_titles(rows):
    titles = {row["tale"].lower() for row in rows}
    for row in rows:
        lines = [line.strip(" .").lower() for line in row["response"].split("\n")]
        assert sum(line in titles for line in lines) < 2, row["response"][:200]


def test_no_tale_is_in_two_splits(thirteen):
    tales = [{(row["book"], row["tale"]) for row in found} for found in thirteen.values()]
    assert sum(map(len, tales)) == len(set.union(*tales)) == 218
    novels = {"Dracula", "Frankenstein", "The Adventures of Pinocchio", "The Strange Case of Dr. Jekyll and Mr. Hyde"}
    assert novels == {book for book, tale in tales[0] if book == tale} - {"Beauty and the Beast"}


def test_rows_end_where_something_ends(rows):
    assert max(row["lines"] for row in rows) == 50
    ends = [bool(re.search(r"[.!?…—-][\"”’')\]]*$", row["response"])) for row in rows]
    assert sum(ends) >= 0.99 * len(ends)
