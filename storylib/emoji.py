"""Split, check and name emojis, joined ones (👨‍👩‍👦‍👦) included."""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from storylib.errors import UserError
from storylib.files import DATA

JOINER = "\u200d"  # makes one emoji of several: 👩 + joiner + 🚀 is 👩‍🚀
EXAMPLE = "🦔🏰📚"
IGNORED = re.compile(f"[\\s,，、{JOINER}\ufe0f]*")
TEXT_SIGNS = "©®‼⁉™ℹ"  # ordinary text unless the variation selector U+FE0F follows
SELECTOR = re.compile(f"(?<![{TEXT_SIGNS}])\ufe0f")
TONE = re.compile("[\U0001f3fb-\U0001f3ff]")
TONE_NAME = re.compile(r" (?:light|dark|medium|medium-light|medium-dark) skin tone")


def split(text: str) -> list[str]:
    """The emojis of `text` in the form Unicode calls fully qualified; white space and commas between them are dropped.

    A missing variation selector is added, stray joiners and selectors are dropped.
    Raises UserError for anything that is no emoji, and says what it was.

    >>> split("🦔, ❤ 👨‍👩‍👦‍👦")
    ['🦔', '❤️', '👨\\u200d👩\\u200d👦\\u200d👦']
    """
    found, rest = [], _bare(text)
    while rest := rest[IGNORED.match(rest).end() :]:
        bare = _longest(rest)
        if not bare:
            raise UserError(f"{_shown(rest)} is no emoji; try emojis alone, such as {EXAMPLE}")
        found.append(_qualified()[bare])
        rest = rest[len(bare) :]
    return found


def one(text: str) -> str:
    """The single emoji of `text`, fully qualified; UserError for none or several."""
    found = split(text)
    if len(found) != 1:
        raise UserError(f"one emoji is needed here, got {_listed(found)}")
    return found[0]


def three(text: str) -> list[str]:
    """The three emojis of a story: who, where, what about. Raises UserError for another number or for other text.

    >>> three("🦔 🏰 📚")
    ['🦔', '🏰', '📚']
    """
    found = split(text)
    if len(found) != 3:
        needs = "a story needs exactly three emojis (who, where, what about)"
        raise UserError(f"{needs}, got {_listed(found)}; try {EXAMPLE}")
    return found


def name(emoji: str) -> str:
    """What an emoji is called in a prompt: the stories' own word, else its Unicode name; skin tones share a name.

    Raises UserError for anything but one emoji.

    >>> name("🎢"), name("🦕"), name("👦🏽")
    ('amusement park', 'sauropod', 'boy')
    """
    emoji = one(emoji)
    return _story_names().get(_toneless(emoji)) or _unicode_name(emoji)


@cache
def vocabulary() -> dict[str, dict]:
    """The emojis the stories were written for: `roles`, `places` and `themes` map emoji to name, and `forms` maps a
    name to the words (beginnings or parts of words) by which a story counts as telling of it."""
    return json.loads((DATA / "emoji_stories" / "vocabulary.json").read_text(encoding="utf-8"))


@cache
def _story_names() -> dict[str, str]:
    kinds = ("roles", "places", "themes")
    return {_toneless(emoji): word for kind in kinds for emoji, word in vocabulary()[kind].items()}


def _unicode_name(emoji: str) -> str:
    words = TONE_NAME.sub("", _unicode()[emoji]["en"].strip(":").replace("_", " "))
    return "family" if words.startswith("family ") else words  # not "family man woman girl boy"


@cache
def _unicode() -> dict[str, dict]:
    from emoji import EMOJI_DATA, STATUS  # here, not above: its table takes a tenth of a second to load

    return {emoji: facts for emoji, facts in EMOJI_DATA.items() if facts["status"] == STATUS["fully_qualified"]}


@cache
def _qualified() -> dict[str, str]:
    """The fully qualified form by the bare one."""
    return {_bare(emoji): emoji for emoji in _unicode()}


@cache
def _longest_length() -> int:
    return max(map(len, _qualified()))


def _longest(text: str) -> str:
    """The longest emoji, bare, that `text` begins with; empty where there is none."""
    lengths = range(min(len(text), _longest_length()), 0, -1)
    return next((text[:n] for n in lengths if text[:n] in _qualified()), "")


def _bare(text: str) -> str:
    """Without variation selectors, which keyboards and programs leave out at will."""
    return SELECTOR.sub("", text)


def _toneless(emoji: str) -> str:
    return TONE.sub("", _bare(emoji))


def _listed(emojis: Sequence[str]) -> str:
    dots = [" …"] if len(emojis) > 8 else []
    return f"{len(emojis)}: {' '.join([*emojis[:8], *dots])}" if emojis else "none"


def _shown(text: str) -> str:
    """The first word of `text`, and its name where a screen may not show it."""
    word = re.split(r"[\s,]", text, maxsplit=1)[0]
    word = word if len(word) <= 20 else word[:20] + "…"
    label = unicodedata.name(text[0], "").lower() or f"U+{ord(text[0]):04X}"
    return f"{word!r}" if text[0].isalnum() else f"{word!r} ({label})"
