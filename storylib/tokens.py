"""What a model reads and what it chooses from: the pieces of a text, those that are trained on, the next token."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storylib.config import GenerationSettings
from storylib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TINTS = ("#cfe8f7", "#fdebc8")  # of pieces side by side
ROLES = {  # how a token is marked: what it is, its HTML tag and colour, its signs in plain text
    "prompt": ("the prompt: read, not trained on", "span", "#e4e4e4", ("", "")),
    "trained": ("the story: trained on", "mark", "#bfe3d3", ("[", "]")),
    "end": ("the end: trained on, so that the model learns to stop", "mark", "#f6c38b", ("<", ">")),
}


@dataclass(frozen=True)
class Piece:
    """A stretch of text and its tokens: one, or several where a character falls apart into bytes."""

    text: str
    ids: tuple[int, ...]
    role: str = ""  # a key of ROLES


@dataclass(frozen=True)
class Pieces:
    """Pieces as a notebook shows them: coloured in a page, between bars in plain text."""

    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        return sum(len(piece.ids) for piece in self.pieces)

    def __str__(self) -> str:
        if not any(piece.role for piece in self.pieces):
            return "|".join(piece.text for piece in self.pieces)
        return "".join(f"{ROLES[role][3][0]}{text}{ROLES[role][3][1]}" for role, text in self.stretches())

    __repr__ = __str__

    def stretches(self) -> list[tuple[str, str]]:
        """Role and text of the pieces, those of one role that follow each other joined."""
        found: list[tuple[str, str]] = []
        for piece in self.pieces:
            if found and found[-1][0] == piece.role:
                found[-1] = (piece.role, found[-1][1] + piece.text)
            else:
                found.append((piece.role, piece.text))
        return found

    def _repr_html_(self) -> str:
        spans, style = [], "padding:1px 2px;border-radius:3px;color:#1a1a1a;white-space:pre-wrap;"
        for number, piece in enumerate(self.pieces):
            _, tag, color, _ = ROLES.get(piece.role, ("", "span", TINTS[number % 2], ()))
            ids = " ".join(map(str, piece.ids))
            text = html.escape(piece.text).replace("\n", "↵<br>")
            spans.append(f'<{tag} title="{ids}" style="{style}background:{color}">{text}</{tag}>')
        roles = dict.fromkeys(piece.role for piece in self.pieces if piece.role)
        legend = "".join(
            f'<br><{ROLES[role][1]} style="{style}background:{ROLES[role][2]}">{ROLES[role][0]}</{ROLES[role][1]}>'
            for role in roles
        )
        return f'<div style="line-height:1.9">{"".join(spans)}{legend}</div>'


def pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> Pieces:
    """A text as its tokens part it."""
    return Pieces(tuple(split(tokenizer, tokenizer(text, add_special_tokens=False).input_ids)))


def trained_on(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Pieces:
    """A row as training sees it: the prompt is read, the story and its end are learnt."""
    from storylib.window import story_rows

    [(whole, start)] = story_rows(tokenizer, [prompt], [completion])
    return Pieces(
        (
            *split(tokenizer, whole[:start], "prompt"),
            *split(tokenizer, whole[start:-1], "trained"),
            *split(tokenizer, whole[-1:], "end"),
        )
    )


def costs(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
    """What texts that say the same in several languages take, as rows; the last column is beside the first language."""
    rows: list[dict[str, object]] = []
    for language, told in texts.items():
        tokens = sum(map(len, tokenizer(list(told), add_special_tokens=False).input_ids))
        characters = sum(map(len, told))
        row = {"language": language, "characters": characters, "bytes": sum(len(text.encode()) for text in told)}
        row |= {"tokens": tokens, "tokens per character": f"{tokens / characters:.2f}"}
        rows.append(row | {"tokens, first = 1": f"{tokens / (rows[0] if rows else row)['tokens']:.2f}"})
    return rows


def split(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], role: str = "") -> list[Piece]:
    """Token by token, but for those that are a part of a character each: they stay together."""
    found, waiting = [], []
    for place, token in enumerate(ids):
        waiting.append(token)
        text = tokenizer.decode(waiting)
        if "\ufffd" not in text or place == len(ids) - 1:
            found.append(Piece(text, tuple(waiting), role))
            waiting = []
    return found


def next_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    settings: GenerationSettings,
    most: int = 12,
) -> dict[str, float]:
    """How likely each next token is once `settings` have had their say, the likeliest first; the model's own
    probabilities at temperature 1, top_p 1 and top_k 0. Tokens that can't come are left out.

    Raises UserError for fewer than one token.
    """
    import torch

    from storylib.choosing import Choice

    if most < 1:
        raise UserError(f"most must be at least 1, got {most}")
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        logits = model(**inputs).logits[:, -1]  # (1, V)
    scores, ids = Choice(settings).left(inputs["input_ids"], logits)  # (1, k) each
    shares = scores.softmax(-1)[0]
    return {
        visible(tokenizer.decode([token])): float(value)
        for value, token in zip(shares[:most], ids[0, :most].tolist(), strict=True)
        if value > 0
    }


def visible(text: str) -> str:
    """A token with its space shown.

    >>> visible(" fox"), visible("\\n")
    ('·fox', '↵')
    """
    return text.replace(" ", "·").replace("\n", "↵")
