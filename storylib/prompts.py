"""The one prompt template per job, shared by training, generation and evaluation."""

from collections.abc import Sequence

from storylib.emoji import familiar, name


def story_prompt(names: Sequence[str], emojis: Sequence[str] = ()) -> str:
    """The line in front of a story: emojis where given, then the names where given.

    >>> story_prompt(["hedgehog", "castle", "courage"], ["🦔", "🏰", "💪"])
    '🦔🏰💪 hedgehog, castle, courage\\n'
    >>> story_prompt([], ["🦔", "🏰", "💪"])
    '🦔🏰💪\\n'

    Names begin with a space even with no emoji in front: the tokenizer has words in that form.

    >>> story_prompt(["hedgehog", "castle", "courage"])
    ' hedgehog, castle, courage\\n'
    """
    words = f" {', '.join(names)}" if names else ""
    return f"{''.join(emojis)}{words}\n"


def emoji_prompt(emojis: Sequence[str]) -> str:
    """The prompt for emojis from a reader: all are named, and those the stories were not written with are only named.

    >>> emoji_prompt(["🦕", "🏰", "💪"])
    '🏰💪 sauropod, castle, courage\\n'
    """
    return story_prompt([name(emoji) for emoji in emojis], [emoji for emoji in emojis if familiar(emoji)])
