"""A raw Project Gutenberg file as blocks of text: header, trailer, notes and ornaments taken off.

`storylib.data.tales` makes tales of the blocks; `storylib.data.genres` rows of the tales.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from storylib.errors import UserError

LARGEST = 16 * 2**20  # bytes: the longest novels have 4 MB
LONG_LINE = 200  # characters: nobody wraps there, so such a line is a whole paragraph
WIDTH = 72  # of a line of a book
LONGEST_BLOCK = 500  # lines of a paragraph: a book that has lost its line ends is cut here
CREDITED = 12  # blocks at the top among which the makers of a file are named

# Encoding
DECLARED = re.compile(rb"character set encoding:[ \t]*([\w. -]+)", re.IGNORECASE)
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x19\x1b-\x1f\x7f]")  # not: tab, line ends, page feed, DOS end of file

# Markers of header and trailer, since 1991
GUTENBERG = r"(?:the |this )?(?:copyrighted )?(?:project gutenberg|etext|e-text|ebook)"
START = re.compile(
    r"^[ \t]*\*{1,3} ?start of " + GUTENBERG + r"(?:[^\n]*\n)(?:(?<!\*\n)[^\n]*\S[^\n]*\n)*"  # a title of several lines
    r"|^.*\*end ?[*]? ?the small print.*\n",
    re.IGNORECASE | re.MULTILINE,
)
END = re.compile(
    r"^[ \t*\[]*(?:the )?end of " + GUTENBERG + r"|^\*+ ?start: full license",
    re.IGNORECASE | re.MULTILINE,
)
NUMBER = re.compile(r"\[?(?:ebook|etext|e-text) ?#(\d+)", re.IGNORECASE)
FIELD = r"^{}:[ \t]*(\S[^\n]*(?:\n[ \t]+\S[^\n]*)*)"

# Notes in brackets: whole blocks or inside a paragraph; one pair of brackets may stand inside
NOTE = re.compile(
    r"\[ ?(?:illustration|footnote|frontispiece|transcriber|decoration|image|picture|ornament|blank page)"
    r"[^\[\]]{0,4000}(?:\[[^\[\]]{0,400}\][^\[\]]{0,4000})*\]",
    re.IGNORECASE,
)
PAGE = re.compile(r"[\[{](?:pg|page|p)\.? ?(?:\d+|[ivxlc]+)?[\]}](?:\d+)?", re.IGNORECASE)
MARK = re.compile(  # references to footnotes; _italics_, one side at a time: the other may stand in another paragraph
    r"\[(?:\d{1,3}|[A-Z]|\*|[A-Z]?\d*_\d+)\]|(?<=[\w.,;:!?\"'”’)])\*+(?=[\s.,;:!?\"'”’)]|$)|(?<!_)_(?!_)"
)
LETTER = re.compile(r"\[=(\w+)\]|[\^_]\{(\w+)\}")  # [=ee], 12^{th}, H_{2}O
HOLE = "\x01"  # in place of a note until blocks are made

# Blocks that are no prose
FOOTNOTE = re.compile(r"(?:\[(?:\d{1,3}|[A-Z]|\*)\]|[*†‡])\s*[\"“'‘_]*\w")
PAGE_NUMBER = re.compile(r"\W*page\W*|\W*(?:page\s*)?\d{1,4}\W*", re.IGNORECASE)
CREDIT = re.compile(
    r"(?:produced|prepared|transcribed|scanned|proofread|digiti[sz]ed) (?:by|from)\b|html version by"
    r"|(?:this )?(?:e-?text|e-?book) (?:was )?(?:prepared|produced|transcribed|scanned)",
    re.IGNORECASE,
)
NAMED = re.compile(r"project gutenberg|www\.pgdp\.net|distributed proofread", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """Lines between blank lines."""

    lines: tuple[str, ...]
    gap: int  # blank lines in front

    @cached_property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())

    @cached_property
    def heading(self) -> str:
        """The words without marks of italics and footnotes."""
        return " ".join(MARK.sub("", self.text).split())

    @cached_property
    def indented(self) -> bool:
        """Whether every line is: a poem, a letter or an inscription, whose lines stay lines."""
        return all(line.startswith("  ") for line in self.lines)


@dataclass(frozen=True)
class RawBook:
    """What stands between header and trailer. `missing`: which of the markers, "start" and "end", were not found."""

    title: str  # as the header has it; "" without one
    number: int | None  # Project Gutenberg's
    blocks: tuple[Block, ...]
    missing: tuple[str, ...]


def read_raw(path: Path) -> RawBook:
    """The blocks of a raw file. Where a marker is missing nothing is cut.

    Raises UserError for a file that cannot be read, is empty or too large for a book, and what `decode` raises.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"{path} has {size / 2**20:.0f} MiB, and a book a few; give each book a file of its own")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not raw.strip():
        raise UserError(f"{path} is empty; remove it, or download it again")
    header, body, missing = strip(decode(raw, path))
    number = NUMBER.search(header)
    return RawBook(header_field(header, "Title"), int(number[1]) if number else None, tuple(blocks(body)), missing)


def decode(raw: bytes, path: Path) -> str:
    """UTF-8 with or without byte order mark; else what the header declares; else Windows' Latin-1 for plain bytes.

    Raises UserError with the offset of the first byte that fits none of them.
    """
    if control := CONTROL.search(raw):
        advice = "is it UTF-16, or no text? save it as UTF-8"
        raise UserError(f"{path} has a control byte 0x{raw[control.start()]:02x} at offset {control.start()}; {advice}")
    encoding = "utf-8"
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        failed = error
    found = DECLARED.search(raw[:10_000])
    declared = charset(found[1].decode("ascii").strip()) if found else None
    if declared != "utf-8" and raw[: failed.start].isascii():  # else it is UTF-8 with a bad byte in it
        # cp1252: what calls itself Latin-1 has Windows' quotes and dashes where Latin-1 has nothing
        encoding = "cp1252" if declared in (None, "ascii", "iso8859-1") else declared
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            failed = error
    place = f"byte 0x{raw[failed.start]:02x} at offset {failed.start}"
    raise UserError(f"{path} is not {encoding} at {place}; save it as UTF-8")


def charset(name: str) -> str | None:
    """Python's name for an encoding that a header declares; None for one that does not exist ("UTF-9").

    >>> charset("ISO Latin-1"), charset("Unicode UTF-8"), charset("UTF-9")
    ('iso8859-1', 'utf-8', None)
    """
    name = re.sub(r"^(?:iso|unicode) (?=latin|utf)", "", name.lower())
    try:
        b"    ".decode(name)  # refuses what is no encoding of text, such as "hex"
        return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        return None


def strip(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Header, body, and which of the two markers, "start" and "end", were not found."""
    text = re.sub(r"[ \t]*\r*\n", "\n", text.replace("\x0c", "\n").replace("\x1a", ""))
    # the small print stands in front of old books, but behind some of 2002 to 2004
    starts = [match for match in START.finditer(text) if not END.search(text, 0, match.start())]
    begin = starts[-1].end() if starts else 0
    end = END.search(text, begin)
    missing = tuple(name for name, found in (("start", starts), ("end", end)) if not found)
    return text[:begin], text[begin : end.start() if end else len(text)], missing


def header_field(header: str, name: str) -> str:
    found = re.search(FIELD.format(name), header, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def blocks(body: str) -> Iterator[Block]:
    """The blocks of a body less its notes, page numbers, rules, credits and what else has no word of prose."""
    body = NOTE.sub(HOLE, PAGE.sub("", LETTER.sub(lambda match: match[1] or match[2], body)))
    gap = 4  # the top of a book is as good as blank lines
    for place, block in enumerate(raw_blocks(to_margin(body.expandtabs().split("\n")))):
        lines = tuple(line.replace(HOLE, "") for line in block.lines if line.strip(HOLE + " "))
        gap = max(gap, block.gap)  # that of a block left out goes to the next
        if is_told(block := Block(lines, gap)) and not (place < CREDITED and CREDIT.match(block.text)):
            yield block
            gap = 0


def to_margin(lines: list[str]) -> list[str]:
    """The lines moved to the left by the indentation of most of them: some of the first books have a margin."""
    indents = [len(line) - len(line.lstrip()) for line in lines]
    margin = Counter(indent for indent, line in zip(indents, lines, strict=True) if line).most_common(1)
    return [line[min(indent, margin[0][0]) :] for indent, line in zip(indents, lines, strict=True)] if margin else lines


def raw_blocks(lines: list[str]) -> Iterator[Block]:
    gap, block = 0, []
    for line, after in zip([*lines, ""], [*lines[1:], "", ""], strict=True):
        alone = len(line) > LONG_LINE  # a book with a paragraph on each line
        # books without blank lines between paragraphs indent the first line of each
        first = block and line.startswith("  ") and block[-1][0] != " " and after[:1] not in ("", " ")
        if block and (alone or first or not line.strip()):
            yield Block(tuple(block), gap)
            gap, block = int(bool(first)), []
        if alone:
            wrapped = wrap(line)
            for start in range(0, len(wrapped), LONGEST_BLOCK):
                yield Block(tuple(wrapped[start : start + LONGEST_BLOCK]), max(gap, 1))
                gap = 1
        elif line.strip():
            block.append(line)
        else:
            gap += 1


def wrap(line: str) -> list[str]:
    """A long line in lines as a book has them."""
    return [found[0].rstrip() for found in re.finditer(rf"\S.{{0,{WIDTH - 1}}}(?=\s|$)|\S+", line)]


def is_told(block: Block) -> bool:
    """Whether anything is left of a block without notes, ornaments and page numbers."""
    text = block.text
    if not any(letter.isalpha() for letter in text) or PAGE_NUMBER.fullmatch(text):
        return False
    return not (FOOTNOTE.match(text) or NAMED.search(text))
