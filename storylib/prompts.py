"""The one prompt template per job, shared by training, generation and evaluation."""

from collections.abc import Sequence


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
