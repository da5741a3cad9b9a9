"""Score systems side by side on one job: stories in, one table, one JSON file and one picture out."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset

from storylib import data, metrics
from storylib.config import GenerationSettings, Recipe
from storylib.emoji import vocabulary
from storylib.files import write_text
from storylib.generation import Story, generate
from storylib.metrics import Score
from storylib.models import load_adapter

Table = dict[str, dict[str, Score]]  # system -> metric -> score


@dataclass(frozen=True)
class Case:
    """One test combination: its prompt, the three names a story should tell of, and its reference stories."""

    prompt: str
    concepts: tuple[str, ...]
    references: tuple[str, ...]


def cases(test: Dataset) -> list[Case]:
    """The test rows grouped by prompt, in their order."""
    grouped: dict[str, list[dict]] = {}
    for row in test:
        grouped.setdefault(row["prompt"], []).append(row)
    return [
        Case(
            prompt,
            tuple(rows[0][f"{kind}_name"] for kind in ("role", "place", "theme")),
            tuple(row["completion"] for row in rows),
        )
        for prompt, rows in grouped.items()
    ]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: every score, and every story behind them by system."""

    table: Table
    stories: dict[str, list[Story]]


def compare(recipe: Recipe, adapter: Path, seeds: int) -> Comparison:
    """`seeds` stories per test combination by the adapter and by its untuned base, between floor and ceiling.

    Raises UserError for a missing or damaged adapter.
    """
    model, tokenizer = load_adapter(adapter)
    chosen = cases(data.load(recipe.corpus, **recipe.data)["test"])
    with model.disable_adapter():
        untuned = tell(model, tokenizer, chosen, recipe.generate, range(seeds))
    tuned = tell(model, tokenizer, chosen, recipe.generate, range(seeds))
    stories = {"untuned base": untuned, "fine-tuned": tuned}
    floor, ceiling = score_scale(chosen)
    scored = {system: score_stories(told, chosen) for system, told in stories.items()}
    return Comparison({"floor": floor} | scored | {"ceiling": ceiling}, stories)


def tell(model, tokenizer, cases: Sequence[Case], settings: GenerationSettings, seeds: Iterable[int]) -> list[Story]:
    """A story for each case and seed, case by case."""
    pairs = [(case.prompt, seed) for case in cases for seed in seeds]
    prompts, numbers = zip(*pairs, strict=True)
    return generate(model, tokenizer, prompts, settings, numbers)


def score_stories(stories: Sequence[Story], cases: Sequence[Case]) -> dict[str, Score]:
    """Every metric for one system's stories."""
    by_prompt = {case.prompt: case for case in cases}
    told = [by_prompt[story.prompt] for story in stories]
    texts = [story.text for story in stories]
    references = [list(case.references) for case in told]
    return {
        "stopped by itself": metrics.stopped_share([story.ended for story in stories]),
        "concepts named": coverage(texts, told),
        "repeated 4-grams": metrics.repeated_ngrams(texts, n=4),
        "words": metrics.length_in_words(texts),
        "BLEU corpus": metrics.bleu(texts, references, average="corpus"),
        "BLEU story": metrics.bleu(texts, references, average="story"),
    }


def score_scale(cases: Sequence[Case]) -> tuple[dict[str, Score], dict[str, Score]]:
    """The two ends of the scale: another prompt's references (floor), one reference against the others (ceiling)."""
    references = [list(case.references) for case in cases]
    floor = _overlap(*metrics.shifted(references)) | {
        "concepts named": _reference_coverage(cases, metrics.turned(cases))
    }
    ceiling = _overlap(*metrics.leave_one_out(references)) | {"concepts named": _reference_coverage(cases, cases)}
    return floor, ceiling


def coverage(texts: Sequence[str], told: Sequence[Case]) -> Score:
    return metrics.concept_coverage(texts, [case.concepts for case in told], vocabulary()["forms"])


def _overlap(hypotheses: list[str], references: list[list[str]]) -> dict[str, Score]:
    return {f"BLEU {average}": metrics.bleu(hypotheses, references, average=average) for average in ("corpus", "story")}


def _reference_coverage(texts_of: Sequence[Case], asked: Sequence[Case]) -> Score:
    pairs = [(text, ask) for case, ask in zip(texts_of, asked, strict=True) for text in case.references]
    return coverage([text for text, _ in pairs], [ask for _, ask in pairs])


def write_scores(path: Path, table: Table, facts: Mapping) -> None:
    """All scores with intervals and signatures, and `facts` about the run, as one JSON file."""
    scores = {system: {metric: asdict(score) for metric, score in row.items()} for system, row in table.items()}
    write_text(path, json.dumps({**facts, "scores": scores}, indent=1, ensure_ascii=False))


def write_stories(path: Path, systems: Mapping[str, Sequence[Story]]) -> None:
    """Every story of every system, one JSON line each."""
    rows = [{"system": system} | asdict(story) for system, stories in systems.items() for story in stories]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
