"""The one prompt template per job, shared by training, generation and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from storylib.emoji import name
from storylib.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


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


def emoji_prompt(emojis: Sequence[str], known: Mapping[str, str], names: bool = True) -> str:
    """The prompt for a reader's emojis, in the words that the model knows; an emoji it has never seen is only named.

    known: the emojis that the model was taught, with their names. names: whether it was taught with names.

    >>> emoji_prompt(["🦕", "🏰", "💪"], {"🏰": "castle", "💪": "courage"})
    '🏰💪 sauropod, castle, courage\\n'
    """
    words = [known.get(emoji) or name(emoji) for emoji in emojis if names or emoji not in known]
    return story_prompt(words, [emoji for emoji in emojis if emoji in known])


def known_emojis(rows: Dataset) -> dict[str, str]:
    """The emojis of a corpus with their names, from its role, place and theme columns; none where it has no such."""
    kinds = [kind for kind in ("role", "place", "theme") if kind in rows.column_names]
    return {emoji: word for kind in kinds for emoji, word in zip(rows[kind], rows[f"{kind}_name"], strict=True)}


GENRES = {"fairy_tale": "fairy tale", "horror": "horror story"}  # label -> its words


def genre_prompt(genre: str) -> str:
    """The line in front of a story of a genre.

    >>> genre_prompt("horror"), genre_prompt("fairy_tale")
    ('Write me a horror story\\n', 'Write me a fairy tale\\n')
    """
    return f"Write me a {GENRES[genre]}\n"


WISHES = ("premise", "character", "traits", "setting", "plot", "tone", "arc")


def continuation_prompt(beginning: str) -> str:
    """The beginning of a story as it stands, to be gone on with; the space at its end belongs to the next word.

    >>> continuation_prompt("Once upon a time ")
    'Once upon a time'
    """
    return beginning.rstrip()


def wish_prompt(
    premise: str | None = None,
    *,
    character: str | None = None,
    traits: str | None = None,
    setting: str | None = None,
    plot: str | None = None,
    tone: str | None = None,
    arc: str | None = None,
) -> str:
    """The lines in front of a story that a reader wishes for, one for each wish that is not empty.

    >>> print(wish_prompt("A fox finds a key.", character="a shy fox", tone="warm"), end="")
    Premise: A fox finds a key.
    Character: a shy fox
    Tone: warm
    Story:
    >>> wish_prompt()
    'Story:\\n'
    """
    wishes = dict(zip(WISHES, (premise, character, traits, setting, plot, tone, arc), strict=True))
    told = {label: " ".join((wish or "").split()) for label, wish in wishes.items()}  # a line end would end the wish
    return "".join(f"{label.title()}: {wish}\n" for label, wish in told.items() if wish) + "Story:\n"


def prompt_of(corpus: str, request: str) -> str:
    """The prompt for what a reader asks of a model that learnt `corpus`, in words on one line.

    A genre by its name; wishes as "character: a shy fox; tone: warm", or a premise; the beginning of a story.
    Raises UserError for another genre or wish, and for nothing at all.

    >>> prompt_of("genres", "write me a horror story"), prompt_of("languages", "Era uma vez uma raposa. ")
    ('Write me a horror story\\n', 'Era uma vez uma raposa.')
    >>> prompt_of("personal", "A fox finds a key.; tone: warm")
    'Premise: A fox finds a key.\\nTone: warm\\nStory:\\n'
    """
    if not request.strip():
        raise UserError("nothing is asked for; say what the story should be of")
    if corpus == "genres":
        chosen = [label for label, words in GENRES.items() if words.split()[0] in request.casefold()]
        if len(chosen) != 1:
            raise UserError(f"ask for one of {' or '.join(GENRES.values())}, got {request!r}")
        return genre_prompt(chosen[0])
    return wish_prompt(**wishes_of(request)) if corpus == "personal" else continuation_prompt(request)


def wishes_of(request: str) -> dict[str, str]:
    """The wishes of one line by name; what has no name is the premise."""
    wishes: dict[str, str] = {}
    for part in filter(str.strip, request.split(";")):
        label, mark, wish = part.partition(":")
        known = label.strip().casefold()
        if mark and " " not in known and known not in WISHES:
            raise UserError(f"no wish {label.strip()!r}; there are {', '.join(WISHES)}")
        wishes |= {known: wish} if known in WISHES and mark else {"premise": part}
    return wishes


def joined(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], stories: Sequence[str], special: bool = True
) -> list[tuple[list[int], int]]:
    """Token ids of each prompt with its story behind it, and where the story begins; EOS is not added.

    A prompt has the tokens that it has alone, for so a model reads it when it tells a story. Chinese and Japanese have
    tokens that reach over the border, such as a full stop with a quotation mark: such a story is tokenised apart.
    special: whether the tokenizer puts its BOS in front.
    """
    alone = token_ids(tokenizer, prompts, special)
    together = token_ids(tokenizer, [prompt + story for prompt, story in zip(prompts, stories, strict=True)], special)
    rows = []
    for prompt, whole, story in zip(alone, together, stories, strict=True):
        if whole[: len(prompt)] != prompt:
            (apart,) = token_ids(tokenizer, [story], special=False)
            if tokenizer.convert_ids_to_tokens(apart[0]) == "▁":  # the space that Llama's puts in front of any text
                apart = apart[1:]
            whole = prompt + apart
        rows.append((whole, len(prompt)))
    return rows


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=special, verbose=False).input_ids if texts else []
