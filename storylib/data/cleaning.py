"""Plain text as every corpus wants it: one kind of space and line end, nothing invisible."""

import unicodedata

import regex

LINE_ENDS = regex.compile(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
SPACES = regex.compile(r"[\t\p{Zs}]")
# Controls, half characters, soft hyphens, zero-width spaces, byte order marks, and marks of writing direction. Not all
# of \p{Cf}: flags such as that of Wales are made of it.
INVISIBLE = regex.compile(
    r"[\p{Cs}\p{Cc}--\n]|[\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]", regex.V1
)
# Joiners hold emojis and the letters of some scripts together; beside a space or a Latin letter they do nothing
STRAY_JOINERS = regex.compile(r"(?<![^\s\p{ASCII}\p{Latin}])[\u200c\u200d]+|[\u200c\u200d]+(?![^\s\p{ASCII}\p{Latin}])")
RUNS = regex.compile(r" {2,}")
LINE_EDGES = regex.compile(r" ?\n ?")
BLANK_LINES = regex.compile(r"\n{3,}")


def tidy(text: str) -> str:
    """Composed characters (NFC), plain spaces one at a time, lines ended by \\n, one blank line at most, stripped.

    Controls, byte order marks and zero-width characters go; the joiners inside emojis stay.

    >>> tidy(" A\\u00a0 fox.\\r\\n\\r\\n\\r\\nThe\\u200b end\\x00 \\n")
    'A fox.\\n\\nThe end'
    """
    text = unicodedata.normalize("NFC", LINE_ENDS.sub("\n", text))
    if not (text.isascii() and text.replace("\n", " ").isprintable()):
        text = STRAY_JOINERS.sub("", INVISIBLE.sub("", SPACES.sub(" ", text)))
    return BLANK_LINES.sub("\n\n", LINE_EDGES.sub("\n", RUNS.sub(" ", text))).strip()
