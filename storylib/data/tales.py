"""The tales of a book, in paragraphs that know their lines: only what its author tells.

What is a tale: in a collection, what stands under a title that the contents list names or, without such a list, one
with three blank lines or more in front. A book in which no two such titles stand (chapters, letters and numbers are no
titles of tales) is one tale, and so is a novel that the catalogue names. Headings inside a tale part it into sections.

Left out: headings, title pages, contents, prefaces, introductions, notes, appendices, advertisements, and between the
title of a tale and its first line bylines, quotations and "by permission of". Poems and letters inside a tale stay.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, dropwhile, pairwise, takewhile
from pathlib import Path

from storylib.data.catalogue import BY_NUMBER
from storylib.data.cleaning import tidy
from storylib.data.gutenberg import MARK, Block, read_raw
from storylib.errors import UserError

FEWEST_LINES = 5  # of a tale in a collection; fewer are what is left of a title page
LONGEST_TITLE = 150  # characters

THE_END = re.compile(r"[\s_*[(-]*(?:the end|finis)[\s_*.!)\]-]*", re.IGNORECASE)
FRONT = r"preface|introduction|introductory|foreword|dedication|(?:table of )?contents|(?:list of )?illustrations"
BACK = (
    r"notes(?: and references|(?: to| on)\b.*)?|footnotes?|appendix|appendices|glossary|index|bibliography|errata"
    r"|advertisements?|acknowledge?ments?|uniform with .*|by the same author"
)
PERSON = "(?:author|editor|translator|publisher|preparer|transcriber)['’]?s?['’]?"
OTHER = r"\b\W*(?:[ivxlc\d]+\W*)?(?::.*)?"  # a number; what it is about
NOT_TOLD = re.compile(rf"\W*(?:the |an? )?(?:{PERSON} (?:notes?|preface)|{FRONT}|{BACK}|to the reader){OTHER}", re.I)
BACK_MATTER = re.compile(rf"\W*(?:{PERSON} notes?|{BACK}){OTHER}", re.I)
CONTENTS = re.compile(r"\W*(?:the |table of )?contents\W*", re.IGNORECASE)
CARDINAL = r"\d+|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten"
ORDINAL = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
NUMERAL = r"(?:[IVXLC]+|\d{1,3})"
PART = r"chapter|letter|part|book|volume|section|canto|stave|act|night|day|story|voyage"
CHAPTER = re.compile(
    rf"(?i:(?:{PART}|chap|vol)\.? (?:the )?(?:{CARDINAL}|{ORDINAL})\b)"
    rf"|(?i:(?:the )?(?:{ORDINAL})(?: and last)? (?:{PART})\b|prologue\b|epilogue\b)|{NUMERAL}[.:]?$"
)
NUMBERED = re.compile(rf"{NUMERAL}[.:)]\s")
TITLE_WORD = re.compile(r"[^\W\d_][\w'’-]*")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SMALL = frozenset("A AN AND AT BY FOR FROM HER HIS IN OF ON OR THE TO WITH".split())
SOURCE = re.compile(r"permission|copyright|published|^(?:from|translated)\b|--.{3,40}$", re.IGNORECASE)
SUBTITLE = re.compile(r"(?:by|from|translated|edited|retold|adapted)\b|or,?$|\(", re.IGNORECASE)


@dataclass(frozen=True)
class Paragraph:
    """A paragraph on one line (a poem keeps its lines), and where in it each line of the book ended."""

    text: str
    ends: tuple[int, ...]  # offsets in `text`, one for each line of the book
    verse: bool = False


Section = tuple[Paragraph, ...]


@dataclass(frozen=True)
class Tale:
    title: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(paragraph.text for section in self.sections for paragraph in section)

    @property
    def lines(self) -> int:
        return sum(len(paragraph.ends) for section in self.sections for paragraph in section)


@dataclass(frozen=True)
class Book:
    title: str
    tales: tuple[Tale, ...]
    missing: tuple[str, ...] = ()  # of the markers "start" and "end": nothing was cut there

    @property
    def novel(self) -> bool:
        """Whether it is one tale of several chapters."""
        return len(self.tales) == 1 and len(self.tales[0].sections) > 1


def read_book(path: Path) -> Book:
    """The tales of a raw file. Raises UserError for a file without any, and what `gutenberg.read_raw` raises."""
    path = Path(path)
    raw = read_raw(path)
    entry, found = BY_NUMBER.get(raw.number), raw.blocks
    if entry and entry.until:
        found = tuple(takewhile(lambda block: not block.text.startswith(entry.until), found))
    if not found:
        raise UserError(f"{path} has no tale in it: no paragraph between its header and its trailer")
    named = found[0].heading if is_title(found[0]) else path.stem.replace("_", " ")
    title = capitalised(tidy(entry.title if entry else raw.title or named)[:LONGEST_TITLE])
    told = tales(found, title, novel=bool(entry and entry.novel))
    if not told:
        raise UserError(f"{path} has no tale in it: nothing but headings, contents and notes")
    return Book(title, told, raw.missing)


def tales(found: Sequence[Block], title: str, novel: bool = False) -> tuple[Tale, ...]:
    """The tales of a book's blocks; `title` is that of a book that is one tale."""
    listed, first = contents(found)
    found = found[first : first + back_matter(found[first:])]
    starts = [] if novel else tale_starts(found, listed)
    parts = [(found[a].heading, found[a + 1 : b]) for a, b in pairwise([*starts, len(found)])]
    told = [Tale(capitalised(name), tuple(sections(part, title=True))) for name, part in parts]
    told = tuple(tale for tale in told if tale.lines >= FEWEST_LINES)
    if len(told) > 1:
        return told
    chapters = (i for i, block in enumerate(found[: len(found) // 10]) if is_chapter(block))
    told = tuple(dropwhile(is_title_page, sections(found[next(chapters, 0) :])))
    return (Tale(title, told),) * bool(told)


def contents(found: Sequence[Block]) -> tuple[str, int]:
    """The letters and digits of the contents list, and the index of the first block behind it; ("", 0) without one."""
    for start, block in enumerate(found[: len(found) // 2]):
        if CONTENTS.fullmatch(block.lines[0]):
            stop = start + 1 if len(block.lines) > 1 else start + 2  # the list begins in this block, or the next
            while stop < len(found) and found[stop].gap == 1:
                stop += 1
            if stop <= len(found) / 2:  # else no blank lines part the list from the tales
                return letters(" ".join(block.text for block in found[start:stop])), stop
    return "", 0


def back_matter(found: Sequence[Block]) -> int:
    """Index of the block at which notes, appendices or advertisements end the book; the number of blocks without."""
    late = range(len(found) * 2 // 3, len(found))
    return next((i for i in late if found[i].gap > 2 and BACK_MATTER.fullmatch(found[i].heading)), len(found))


def tale_starts(found: Sequence[Block], listed: str) -> list[int]:
    """Indices of the blocks that are titles of tales; none where more headings say "chapter"."""
    starts, chapters = [], 0
    for index, block in enumerate(found):
        name = block.heading
        if block.gap < 2 or not is_title(block) or NOT_TOLD.fullmatch(name):
            continue
        if CHAPTER.match(name) or block.gap < 3 and NUMBERED.match(name):
            chapters += name.lower().startswith("chapter")
        elif letters(name) in listed if listed else block.gap > 2:
            starts.append(index)
    return starts if chapters < max(3, len(starts)) else []


def sections(part: Sequence[Block], title: bool = False) -> Iterator[Section]:
    """The prose between the headings; what follows THE END, or a heading of what no tale is, is left out.

    title: whether the title of a tale stands in front of `part`.
    """
    prose, told, head, chapter = [], True, title, False
    gaps = [block.gap for block in part[1:]] + [0]
    for index, (block, gap) in enumerate(zip(part, gaps, strict=False)):  # gap: behind the block
        name = block.heading
        if THE_END.fullmatch(block.text) and index >= len(part) / 2:
            break
        apart = block.gap > 1 or head and not CONTENTS.fullmatch(name) or name.lower().startswith("footnote")
        if is_heading(block) or apart and NOT_TOLD.fullmatch(name):
            if prose:
                yield tuple(prose)
            prose, head, title = [], True, False
            told, chapter = not NOT_TOLD.fullmatch(name), name.lower().startswith("chap")
            continue
        head = head and block.gap == 1  # right behind a heading
        if head and is_head(block, title, chapter and gap > 1):
            continue
        head = head and title and block.indented  # a motto of the author's own: the source may stand behind it
        if told:
            prose.append(paragraph(block))
    if prose:
        yield tuple(prose)


def is_title_page(section: Section) -> bool:
    """Whether no paragraph has a second line: the crumbs of a title page."""
    return all(len(paragraph.ends) < 2 for paragraph in section)


def is_title(block: Block) -> bool:
    """Whether a block is short and written as titles are: in capitals, or its first, last and longer words with one."""
    name = block.heading
    words = TITLE_WORD.findall(name)
    if len(block.lines) > 3 or len(name) > LONGEST_TITLE or not words:
        return False
    if name.upper() == name:
        return True
    longer = [word for word in words if len(word) > 4]
    return name[-1] not in ".,;:" and all(word[0].isupper() for word in (words[0], words[-1], *longer))


def is_heading(block: Block) -> bool:
    """Whether a block inside a tale is the heading of a section; a line in italics is prose (_Dr. Seward's Diary_)."""
    name = block.heading
    if is_chapter(block):
        return True
    if block.gap < 2 or block.text[0] in "\"“'‘(_" or not is_title(block):
        return False
    return block.gap > 2 or name.upper() == name or bool(NUMBERED.match(name))


def is_chapter(block: Block) -> bool:
    """Whether a block is a heading that counts: LETTER II, Third Part, IV; or Chapter 1, with or without room."""
    room = block.gap > 1 or block.heading.lower().startswith("chapter")
    return room and len(block.lines) <= 3 and bool(CHAPTER.match(block.heading))


def is_head(block: Block, title: bool, subtitle: bool) -> bool:
    """Whether a block right behind a heading belongs to it: a byline or a second title.

    So do, behind the `title` of a tale, its source and a quotation; where `subtitle` says that blank lines follow, the
    lines under the number of a chapter.
    """
    name = block.heading
    if name.upper() == name or title and block.indented and SOURCE.search(name):
        return True
    known = SUBTITLE.match(name) or CHAPTER.match(name) or NUMBERED.match(name)
    return len(block.lines) <= 4 and bool(known or subtitle and not block.text.startswith("_"))


def letters(text: str) -> str:
    """Letters and digits alone, in lower case: a contents list has other marks than the titles over the tales."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def capitalised(title: str) -> str:
    """A title in capitals as titles are written in a sentence; another one as it is.

    >>> capitalised("THE EMPEROR'S NEW CLOTHES. OF A LEAP-FROG")
    "The Emperor's New Clothes. of a Leap-Frog"
    """
    title = title.strip('"“” .')
    if title.upper() != title:
        return title
    title = WORD.sub(lambda word: word[0].lower() if word[0] in SMALL else word[0].capitalize(), title)
    return title[:1].upper() + title[1:]


def paragraph(block: Block) -> Paragraph:
    """The lines of a block joined: with a space, with nothing behind a dash or hyphen; those of a poem stay lines."""
    verse = block.indented
    lines = [tidy(MARK.sub("", line)) for line in block.lines]
    pieces = [line + ("\n" if verse else "" if re.search(r"(?<![-\s])--?$", line) else " ") for line in lines[:-1]]
    pieces.append(lines[-1])
    ends = accumulate(len(piece) for piece in pieces)
    return Paragraph("".join(pieces), tuple(ends), verse)
