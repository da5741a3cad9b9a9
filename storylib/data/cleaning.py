"""Plain text as every corpus wants it: one kind of space and line end, nothing invisible."""

import re
import unicodedata

import regex

# Controls that are no spaces, halves of characters, soft hyphens, zero-width spaces, byte order marks, and marks of
# writing direction. Not all that Unicode calls format characters: the flag of Wales is made of them.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff"
    "\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+"
)
# Joiners hold emojis and the letters of some scripts together; beside a space or a Latin letter they do nothing
STRAY_JOINERS = regex.compile(r"(?<![^\s\p{ASCII}\p{Latin}])[\u200c\u200d]+|[\u200c\u200d]+(?![^\s\p{ASCII}\p{Latin}])")


def tidy(text: str) -> str:
    """Composed characters (NFC), plain spaces one at a time, lines ended by \\n, one blank line at most, stripped.

    Controls, byte order marks and zero-width characters go; the joiners inside emojis stay.

    >>> tidy(" A\\u00a0 fox.\\r\\n\\r\\n\\r\\nThe\\u200b end\\x00 \\n")
    'A fox.\\n\\nThe end'
    """
    if not text.replace("\n", "").isprintable():  # most texts are, and what is invisible is not
        text = STRAY_JOINERS.sub("", INVISIBLE.sub("", text))
    lines = unicodedata.normalize("NFC", text).splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)  # both know the spaces of Unicode
    return re.sub(r"\n{3,}", "\n\n", text).strip() if "\n\n\n" in text else text.strip()
