"""Rows that fit the window a model is trained with: long stories end early, behind a whole sentence."""

from bisect import bisect_right
from collections.abc import Sequence

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from storylib.data.sentences import RULES, base, sentence_ends
from storylib.errors import UserError
from storylib.prompts import joined

LOST = 0.005  # share of the rows that may be left out


def fit(rows: Dataset, tokenizer: PreTrainedTokenizerBase, window: int) -> tuple[Dataset, str]:
    """The prompt and completion of the rows within `window` tokens, EOS included, and a note on what was cut.

    The prompt is never cut. A row with no room for the first sentence is left out; UserError where those are more than
    0.5 % of the rows, or all.
    """

    def length(prompt: str, story: str) -> int:
        return story_lengths(tokenizer, [prompt], [story])[0]

    def shorten(batch: dict[str, list]) -> dict[str, list]:
        stories = list(zip(batch["prompt"], batch["completion"], strict=True))
        lengths = story_lengths(tokenizer, batch["prompt"], batch["completion"])
        fitted = {"prompt": [], "completion": [], "cut": []}
        languages = batch.get("language") or ["en"] * len(stories)
        for (prompt, story), long, language in zip(stories, lengths, languages, strict=True):
            if cut := long > window:
                ends = [0, *sentence_ends(story, language if base(language) in RULES else "en")]
                fitting = bisect_right(ends, window, key=lambda end: length(prompt, story[:end]))  # noqa: B023
                story = story[: ends[max(fitting, 1) - 1]]
            if story:
                for column, value in zip(fitted, (prompt, story, cut), strict=True):
                    fitted[column].append(value)
        return fitted

    fitted = rows.map(shorten, batched=True, remove_columns=rows.column_names)
    lost, cut = len(rows) - len(fitted), sum(fitted["cut"])
    if lost > LOST * len(rows) or not len(fitted):
        raise UserError(
            f"{lost} of {len(rows)} rows have no room for a sentence of story in a window of {window} tokens; "
            "raise train.window or shorten the prompts"
        )
    notes = [f"{cut} of {len(rows)} stories end early, behind a sentence, to fit {window} tokens"] * (cut > 0)
    notes += [f"{lost} rows left out: no room for a sentence of story"] * (lost > 0)
    return fitted.remove_columns("cut"), "; ".join(notes)


def story_rows(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], stories: Sequence[str]
) -> list[tuple[list[int], int]]:
    """Token ids of each prompt with its story and EOS, as they are trained on, and where the story begins."""
    end = tokenizer.eos_token_id
    rows = joined(tokenizer, prompts, stories)
    return [(ids if ids[-1] == end else [*ids, end], start) for ids, start in rows]


def story_lengths(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], stories: Sequence[str]) -> list[int]:
    """Tokens of each such row."""
    return [len(ids) for ids, _ in story_rows(tokenizer, prompts, stories)]
