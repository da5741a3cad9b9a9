"""The one prompt template per job, shared by training, generation and evaluation."""

from collections.abc import Sequence


def story_prompt(names: Sequence[str], emojis: Sequence[str] = ()) -> str:
    """The line in front of a story: emojis where given, then the names.

    >>> story_prompt(["hedgehog", "castle", "courage"], ["🦔", "🏰", "💪"])
    '🦔🏰💪 hedgehog, castle, courage\\n'
    """
    return f"{''.join(emojis)} {', '.join(names)}\n"
