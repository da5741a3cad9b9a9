"""Raw books as they have been laid out since 1991, and what is left of them. The texts are made up."""

import pytest

from storylib.data.gutenberg import decode, read_raw, strip
from storylib.data.tales import read_book
from storylib.errors import UserError

STORY = "Once there was a fox. It lived\nin a wood.\n\nOne day it met a bear.\n"
SMALL_PRINT = "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*"


def book(tmp_path, text, name="book.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def told(tmp_path, text):
    """Title -> paragraphs of each tale of a book."""
    found = read_book(book(tmp_path, text)).tales
    return {tale.title: [paragraph.text for section in tale.sections for paragraph in section] for tale in found}


def prose(tmp_path, body):
    """The paragraphs of a book that is one tale."""
    (paragraphs,) = told(tmp_path, f"A FOX\n\n\n{body}").values()
    return paragraphs


# Header and trailer


@pytest.mark.parametrize(
    ("header", "trailer"),
    [
        (  # 1992: the name of the file and the small print in front
            "**The Project Gutenberg Etext of A Fox**\n*****This file should be named fox10.txt*****\n"
            f"***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***\nYou may\n\n{SMALL_PRINT}",
            "End of the Project Gutenberg Etext of A Fox",
        ),
        (
            "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*",
            "The End of Project Gutenberg Etext A Fox",
        ),
        ("*END* THE SMALL PRINT! FOR PUBLIC DOMAIN", "End of this Project Gutenberg Etext of A Fox"),
        (  # 2003: the small print behind
            "*** START OF THE PROJECT GUTENBERG EBOOK, A FOX ***",
            f"*** END OF THE PROJECT GUTENBERG EBOOK, A FOX ***\n\nThis file should be named fox.txt\n{SMALL_PRINT}\n",
        ),
        (
            "*** START OF THIS PROJECT GUTENBERG EBOOK A FOX ***",
            "End of Project Gutenberg's A Fox, by Nobody\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A FOX ***\n\n"
            "*** START: FULL LICENSE ***\n\nTHE FULL PROJECT GUTENBERG LICENSE\n",
        ),
        (
            "***START OF THE PROJECT GUTENBERG EBOOK A FOX,\nAND A BEAR***",
            "***END OF THE PROJECT GUTENBERG EBOOK A FOX***",
        ),
        ("*** START OF THE PROJECT GUTENBERG EBOOK A FOX ***", "*** END OF THE PROJECT GUTENBERG EBOOK A FOX ***"),
        (
            "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK A FOX ***",
            "*** END OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK A FOX ***",
        ),
        (" *** START OF THIS EBOOK A FOX ***", "  End of the Project Gutenberg EBook of A Fox"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r\r\n", "  \n"])
def test_markers(header, trailer, line_end):
    text = f"Title: A Fox\n\n{header}\n\n{STORY}\n\n{trailer}\nDonate!\n".replace("\n", line_end)
    _, body, missing = strip(text)
    assert body.strip() == STORY.strip() and missing == ()


def test_the_header_names_the_book(tmp_path):
    header = "Title: The Fox\n       Or, the Bear\n\nRelease Date: May 1, 2001 [EBook #4711]\n\n"
    marked = f"{header}*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\n{STORY}"
    raw = read_raw(book(tmp_path, f"{marked}\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n"))
    assert (raw.title, raw.number, raw.missing) == ("The Fox Or, the Bear", 4711, ())
    raw = read_raw(book(tmp_path, marked))
    assert (raw.number, raw.missing) == (4711, ("end",))
    raw = read_raw(book(tmp_path, STORY))
    assert (raw.title, raw.number, raw.missing) == ("", None, ("start", "end"))


def test_without_markers_nothing_told_is_lost(tmp_path):
    text = f"The Project Gutenberg Etext of A Fox\n\nA FOX\n\n\n{STORY}\n\nPlease help Project Gutenberg.\n"
    assert told(tmp_path, text)["A Fox"] == ["Once there was a fox. It lived in a wood.", "One day it met a bear."]


# Encoding


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xef\xbb\xbfna\xc3\xafve", "naïve"),
        (b"na\xc3\xafve", "naïve"),
        (b"Character set encoding: ISO-8859-1\r\n\r\nna\xefve", "naïve"),
        (b"Character set encoding: ISO Latin-1\n\n\x93na\xefve\x94", "“naïve”"),  # called Latin-1, with Windows' quotes
        (b"Character set encoding: ASCII\n\nna\xefve", "naïve"),
        (b"Character set encoding: hex\n\nna\xefve", "naïve"),
        (b"na\xefve", "naïve"),
        (b"Character set encoding: MacRoman\n\nna\x95ve", "naïve"),
        (b"Character set encoding: UTF-9\n\nna\xc3\xafve\x1a", "naïve\x1a"),  # says one book; it means UTF-8
    ],
)
def test_encodings(raw, text):
    assert decode(raw, "x").rpartition("\n")[2] == text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("A fox".encode("utf-16"), "control byte 0x00 at offset 3; is it UTF-16"),
        (b"A f\x00x", "control byte 0x00 at offset 3"),
        (b"Character set encoding: UTF-8\n\nA f\xf6x", r"not utf-8 at byte 0xf6 at offset 34; save it as UTF-8"),
        ("Füchse ".encode() + b"f\xf6x", "not utf-8 at byte 0xf6 at offset 9"),  # so far it was UTF-8
        (b"A f\x81x", "byte 0x81 at offset 3"),
    ],
)
def test_wrong_encodings(tmp_path, raw, message):
    with pytest.raises(UserError, match=message) as error:
        read_book(book(tmp_path, raw, "fox.txt"))
    assert "fox.txt" in str(error.value)


# Notes and ornaments


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("It ran\nand ran.\n\n[Illustration: The _fox_ [p. 3]\n\nran.]\n\nIt sat.", ["It ran and ran.", "It sat."]),
        ("It ran [Illustration] away.", ["It ran away."]),
        ("It ran.[1] It[A] sat,* too.\n\n[1] Not far.\n\n     * A\n     chair.", ["It ran. It sat, too."]),
        ("It ran.[Footnote 2: Not\nfar.] It sat.", ["It ran. It sat."]),
        ("A fox [Transcriber's note: sic] ran.\n\n[Transcriber's Note: None.]", ["A fox ran."]),
        (
            "It ran.\n\n[Pg 12]\n\nIt{pg 13} sat.\n\n14\n\n- 15 -\n\nPage 16\n\nIt slept.",
            ["It ran.", "It sat.", "It slept."],
        ),
        ("It _ran\n\nand sat._\n\nMr. F____ ran.", ["It ran", "and sat.", "Mr. F____ ran."]),
        ("It ran.\n\n*       *       *\n\n-----\n\nIt sat.", ["It ran.", "It sat."]),
        ("A f[=ee]t, the 12^{th}, H_{2}O.", ["A feet, the 12th, H2O."]),
        (
            "The fox--\nred--and the half-\nasleep bear; Mr. B----\nran.",
            ["The fox--red--and the half-asleep bear; Mr. B---- ran."],
        ),
        ("It sang:\n\n    Oh,  fox,\n      oh, _bear_!\n\nThey ran.", ["It sang:", "Oh, fox,\noh, bear!", "They ran."]),
        (
            "It ran.\n\nIt sat.\n\n\n     THE END.\n\nAlso to be had:\n\nA Bear, in cloth,\nfor ten shillings.",
            ["It ran.", "It sat."],
        ),
        (
            'It ran.\n\nIt wrote: "FINIS."\n\nIt sat.\n\nIt slept.',
            ["It ran.", 'It wrote: "FINIS."', "It sat.", "It slept."],
        ),
    ],
)
def test_blocks(tmp_path, body, expected):
    assert prose(tmp_path, f"There was a fox\nin a wood.\n\n{body}\n") == ["There was a fox in a wood.", *expected]


def test_a_book_with_a_margin(tmp_path):
    """As the first books had it: all lines indented, the first of a paragraph more so."""
    text = (
        "        A FOX\n\n\n     There was a fox\n   in a wood,\n   and it sang:\n\n      Oh, fox,\n      oh, bear!\n"
    )
    assert told(tmp_path, text) == {"A Fox": ["There was a fox in a wood, and it sang:", "Oh, fox,\noh, bear!"]}


def test_paragraphs_without_blank_lines(tmp_path):
    text = "A FOX\n\n\n   There was a fox\nin a wood.\n   It met\na bear.\n   They ran\naway.\n"
    assert told(tmp_path, text) == {"A Fox": ["There was a fox in a wood.", "It met a bear.", "They ran away."]}


def test_a_paragraph_on_a_line(tmp_path):
    """A book that was never wrapped: its lines are counted as if it were."""
    first, second = "The fox ran on and on and on. " * 20, "The bear sat still. " * 20
    (tale,) = read_book(book(tmp_path, f"A FOX\n\n\n{first}\n{second}\n")).tales
    (section,) = tale.sections
    assert [paragraph.text for paragraph in section] == [first.strip(), second.strip()]
    assert [len(paragraph.ends) for paragraph in section] == [9, 6]  # 599 and 399 characters of about 70 each


# Tales


COLLECTION = """
THE FOX BOOK

By Nobody

Copyright, 1900, by Nobody and Company,
all rights reserved


CONTENTS

                         PAGE

PREFACE                    v
I. The Red Fox             1
II. The "Grey" Fox        10
THE WHITE FOX, _Somebody_ 20


PREFACE

These tales were told
by foxes.


THE FOX BOOK


THE RED FOX

BY A RED FOX

     From _Foxes_. By permission
     of the foxes.


There was a red fox,
and it was red,
quite red,
and never
anything else.

THE RED FOX WAS HERE

it wrote.


I

It ran.


II

It sat.


The Grey Fox[A]


There was a grey fox,
and it was grey,
quite grey,
and never
anything else.

FOOTNOTES:

[A] A kind of fox.

It is rare.


The White Fox


There was a white fox,
and it was white,
quite white,
and never
anything else.




NOTES

THE RED FOX

Told in
Wales
and in
many other
countries.


THE WHITE FOX

Told everywhere.
"""


def test_a_collection(tmp_path):
    assert told(tmp_path, COLLECTION) == {
        "The Red Fox": [
            "There was a red fox, and it was red, quite red, and never anything else.",
            "THE RED FOX WAS HERE",
            "it wrote.",
            "It ran.",
            "It sat.",
        ],
        "The Grey Fox": ["There was a grey fox, and it was grey, quite grey, and never anything else."],
        "The White Fox": ["There was a white fox, and it was white, quite white, and never anything else."],
    }
    red = read_book(book(tmp_path, COLLECTION)).tales[0]
    assert [len(section) for section in red.sections] == [3, 1, 1]


def test_without_contents_blank_lines_tell(tmp_path):
    fox, bear = "There was a fox.\nIt ran.\nIt sat.\nIt ate.\nIt slept.", "There was a bear.\nIt\nsat\nand\nsat."
    text = f"TWO TALES\n\n\n\n\nThe Fox\n\n{fox}\n\n\nNot a Title\n\nIt woke.\n\n\n\nThe Bear\n\n{bear}\n"
    assert told(tmp_path, text) == {
        "The Fox": ["There was a fox. It ran. It sat. It ate. It slept.", "Not a Title", "It woke."],
        "The Bear": ["There was a bear. It sat and sat."],
    }


@pytest.mark.parametrize(
    "contents", ["", "CONTENTS\n\nCHAPTER I. The Wood\nCHAPTER II. The Bear\nCHAPTER III. Home\n\n\n"]
)
def test_a_novel_is_one_tale(tmp_path, contents):
    chapters = [
        f"CHAPTER {number}\n\nHow the fox went on,\nand why\n\n\nThe fox went on\nfor day {number}.\n\n\n\n"
        for number in ("I", "II", "III")
    ]
    found = read_book(book(tmp_path, f"THE FOX\n\nA NOVEL\n\nby Nobody\n\n\n\n{contents}{''.join(chapters)}THE END\n"))
    assert found.novel and [tale.title for tale in found.tales] == ["The Fox"]
    assert [section[0].text for section in found.tales[0].sections] == [
        f"The fox went on for day {n}." for n in ("I", "II", "III")
    ]


def test_chapters_without_blank_lines_around_them(tmp_path):
    text = "THE FOX\n\nA. Nobody\n\nCHAPTER I. Home\n\nThe fox sat\nat home.\n\nCHAPTER II. Out\n\nThe fox ran\naway.\n"
    assert told(tmp_path, text) == {"The Fox": ["The fox sat at home.", "The fox ran away."]}


def test_contents_without_blank_lines_behind(tmp_path):
    body = "\n\n".join(f"The fox went on\nfor day {number}." for number in range(9))
    (paragraphs,) = told(tmp_path, f"THE FOX\n\nCONTENTS\n\nDay 1\n\nDay 2\n\n{body}\n").values()
    assert paragraphs[-9:] == [f"The fox went on for day {number}." for number in range(9)]


def test_a_story_alone(tmp_path):
    found = read_book(book(tmp_path, STORY))
    assert not found.novel and [tale.text for tale in found.tales] == [
        "Once there was a fox. It lived in a wood.\n\nOne day it met a bear."
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; remove it, or download it again"),
        (" \r\n", "is empty"),
        ("* * *\n\n[Illustration]\n", "has no tale in it: no paragraph"),
        ("CONTENTS\n\nThe Fox 1\nThe Bear 2\n", "has no tale in it: nothing but"),
    ],
)
def test_no_book(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_book(book(tmp_path, text))


def test_200_mb_on_one_line(tmp_path):
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(UserError, match="long.txt has 200 MiB, and a book a few; give each book a file of its own"):
        read_book(path)


def test_a_book_that_has_lost_its_line_ends(tmp_path):
    (tale,) = read_book(book(tmp_path, "The fox ran on. " * 100_000, "the_fox.txt")).tales
    assert tale.title == "the fox" and tale.text.split() == ["The", "fox", "ran", "on."] * 100_000
    assert max(len(paragraph.ends) for section in tale.sections for paragraph in section) == 500


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.txt: No such file"):
        read_book(tmp_path / "none.txt")
