"""Emojis as people type, paste and mistype them."""

import pytest

from storylib import emoji
from storylib.errors import UserError

FAMILY = "👨\u200d👩\u200d👦\u200d👦"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("🦔🏰📚", ["🦔", "🏰", "📚"]),
        (" 🦔, 🏰，📚、\n", ["🦔", "🏰", "📚"]),
        (FAMILY + "🏰", [FAMILY, "🏰"]),
        ("👩🏽\u200d🚀👦🏽", ["👩🏽\u200d🚀", "👦🏽"]),
        ("🧙\u200d♂", ["🧙\u200d♂\ufe0f"]),
        ("🇧🇷🇯🇵", ["🇧🇷", "🇯🇵"]),
        (SCOTLAND + "🏴", [SCOTLAND, "🏴"]),
        ("1\ufe0f\u20e31\u20e3", ["1\ufe0f\u20e3", "1\ufe0f\u20e3"]),
        ("❤🏖", ["❤\ufe0f", "🏖\ufe0f"]),
        ("❤\ufe0f🏖\ufe0f", ["❤\ufe0f", "🏖\ufe0f"]),
        ("👩\u200d❤\u200d👨", ["👩\u200d❤\ufe0f\u200d👨"]),
        ("©\ufe0f", ["©\ufe0f"]),
        ("🦔\u200d🏰", ["🦔", "🏰"]),
        ("🦔\ufe0f🏰\u200d", ["🦔", "🏰"]),
        ("\u200d", []),
    ],
)
def test_split(text, expected):
    assert emoji.split(text) == expected


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("hedgehog", "'hedgehog'"),
        ("🦔 castle 📚", "'castle'"),
        ("©", "copyright sign"),
        ("1", "'1'"),
        ("🇽🇽", "regional indicator"),  # no such country
        ("🏽", "modifier"),  # a skin tone with nobody in front
        ("🦔\x00", "U+0000"),
        ("\ud83e", "U+D83E"),  # half an emoji
    ],
)
def test_split_says_what_is_no_emoji(text, got):
    with pytest.raises(UserError) as error:
        emoji.split(text)
    assert got in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "got"),
    [("", "got none"), ("\u200d", "got none"), ("🦔 🏰", "got 2: 🦔 🏰"), ("🦔🏰📚💪", "got 4: 🦔 🏰 📚 💪")],
)
def test_three_says_how_many_it_got(text, got):
    with pytest.raises(UserError) as error:
        emoji.three(text)
    needs = "a story needs exactly three emojis (who, where, what about)"
    assert str(error.value) == f"{needs}, {got}; try 🦔🏰📚"


def test_three():
    assert emoji.three(f"🧙\u200d♂ 🏖 {FAMILY}") == ["🧙\u200d♂\ufe0f", "🏖\ufe0f", FAMILY]


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        (FAMILY, "family"),
        ("👨\u200d👩\u200d👧", "family"),  # not in the vocabulary
        ("👧🏻", "girl"),
        ("👧🏿", "girl"),
        ("👧", "girl"),
        ("🧙🏽\u200d♂", "wizard"),
        ("🎢", "amusement park"),
        ("❤", "love"),
        ("🦕", "sauropod"),
        ("👩🏻\u200d🤝\u200d👩🏽", "women holding hands"),
        ("🇧🇷", "Brazil"),
        ("🥌", "curling stone"),  # no skin tone in it
    ],
)
def test_name(sign, expected):
    assert emoji.name(sign) == expected


def test_name_wants_one_emoji():
    with pytest.raises(UserError, match="got 2: 🦔 🏰"):
        emoji.name("🦔🏰")


def test_vocabulary():
    words = emoji.vocabulary()
    assert {key: len(words[key]) for key in words} == {"roles": 26, "places": 16, "themes": 16, "forms": 58}
    assert words["roles"]["🦔"] == "hedgehog" and "shar" in words["forms"]["sharing"]
    signs = [sign for key in ("roles", "places", "themes") for sign in words[key]]
    assert [emoji.one(sign) for sign in signs] == signs  # fully qualified already
