"""How the stories of systems feel and what they are about: sentiment by genre, top words, topics. English only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from storylib.errors import UserError
from storylib.evaluation import Case, System
from storylib.files import write_text
from storylib.metrics.sentiment import FEELINGS, VIEWS, Sentiment, sentiment_by_genre
from storylib.metrics.topics import Topics, find_topics
from storylib.metrics.words import ENGLISH, TopWords, kinds, top_words

Scenarios = dict[str, dict[str, list[str]]]  # scenario -> genre -> stories


@dataclass(frozen=True)
class Contents:
    """Each scenario's feelings by genre, its opinion words and its topics; the latter none of where stories are few."""

    sentiment: Sentiment
    words: dict[str, TopWords]
    topics: dict[str, Topics]
    notes: list[str]


def scenarios_of(systems: Mapping[str, System], cases: Sequence[Case]) -> Scenarios:
    """The stories of each system by the label of their prompts. Raises UserError for a prompt without one."""
    labels = {case.prompt: case.label for case in cases if case.label}
    scenarios: Scenarios = {}
    for name, system in systems.items():
        for story in system.stories:
            if story.prompt not in labels:
                raise UserError(f"{name}: no genre is known of the prompt {story.prompt!r}; give those of the test")
            scenarios.setdefault(name, {}).setdefault(labels[story.prompt], []).append(story.text)
    return scenarios


def find_contents(scenarios: Scenarios) -> Contents:
    """Sentiment, words and topics of each scenario, and notes of what has none of them.

    A scenario of other stories than English ones is left out. Raises UserError where none is left.
    """
    left_out = {name: why for name, genres in scenarios.items() if (why := unreadable(name, genres))}
    notes = [f"{name} has no contents: {why}" for name, why in left_out.items()]
    if len(left_out) == len(scenarios):
        raise UserError("; ".join(notes) or "no scenarios: give at least one")
    scenarios = {name: genres for name, genres in scenarios.items() if name not in left_out}
    together = {name: [text for told in genres.values() for text in told] for name, genres in scenarios.items()}
    topics = {}
    try:
        topics = find_topics(together)
    except UserError as error:
        notes.append(f"no topics: {error}")
    return Contents(sentiment_by_genre(scenarios), top_words(together), topics, notes)


def unreadable(name: str, genres: Mapping[str, Sequence[str]]) -> str:
    """Why feelings and words cannot be found in a scenario's stories, "" if they can."""
    try:
        found = [kind for genre, told in genres.items() for kind in kinds(told, f"{genre} stories of {name}")]
    except UserError as error:
        return str(error)
    return "" if ENGLISH in found else "its stories have no words"


def write_contents(folder: Path, found: Contents) -> None:
    """contents.md, and contents.json with all counts."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "contents.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
    write_text(folder / "contents.md", contents_page(found))


def contents_page(found: Contents) -> str:
    """The counts, words and topics as Markdown tables."""
    pages = [feelings_table(found, view) for view in VIEWS]
    for name, words in found.words.items():
        sides = (
            ", ".join(f"{w.word} {w.count}" for w in words.positive),
            ", ".join(f"{w.word} {w.count}" for w in words.negative),
        )
        pages.append(f"## Words of {name}\n\nPositive: {sides[0]}\n\nNegative: {sides[1]}\n\n`{words.signature}`\n")
    for name, topics in found.topics.items():
        rows = [f"{number}. {', '.join(topic.words)}" for number, topic in enumerate(topics.topics, start=1)]
        listed = "\n".join(rows)
        pages.append(
            f"## Topics of {name}\n\n{listed}\n\ncoherence {topics.coherence}: `{topics.coherence.signature}`\n"
        )
    return "\n".join([*pages, *(f"- {note}" for note in found.notes)])


def feelings_table(found: Contents, view: str) -> str:
    """Stories by scenario, genre and feeling, with the share of positive ones and its interval."""
    rows = [
        f"## Sentiment, {view}\n",
        f"| scenario | genre | {' | '.join(FEELINGS)} | share that is positive |",
        "|" + " --- |" * 6,
    ]
    for scenario, genres in getattr(found.sentiment, view).items():
        for genre, feelings in genres.items():
            counts = " | ".join(str(getattr(feelings, feeling)) for feeling in FEELINGS)
            share = feelings.share() if feelings.told else ""
            rows.append(f"| {scenario} | {genre} | {counts} | {share} |")
    return "\n".join(rows) + "\n"
