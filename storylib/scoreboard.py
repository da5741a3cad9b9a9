"""What suits a job, measured of systems side by side: a table, a JSON file, a Markdown page, and who is better."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from storylib import metrics
from storylib.emoji import vocabulary
from storylib.errors import UserError
from storylib.evaluation import Case, System, as_lines
from storylib.files import write_text
from storylib.metrics import Difference, Score
from storylib.metrics.score import clusters, mean_tally, singles
from storylib.metrics.stopping import ENDS

Table = dict[str, dict[str, Score]]  # system -> measure -> score
SHARES = (  # 0 to 1, shown in per cent
    *("stopped by itself", "repeated 4-grams", "distinct-2", "copied 8-grams", "empty stories"),
    *("positive endings", "familiar words", "unfit for children"),
)


@dataclass(frozen=True)
class Told:
    """Stories with all that they can be measured against."""

    texts: list[str]
    ended: list[str]
    asked: list[Case]  # of each story; empty where a prompt is none of the test's
    training: Sequence[str]
    language: str

    @property
    def references(self) -> list[tuple[str, ...]]:
        return [case.references for case in self.asked]

    @property
    def concepts(self) -> list[tuple[str, ...]]:
        return [case.concepts for case in self.asked]


@dataclass(frozen=True)
class Measure:
    """A figure of the table: how it comes about, of which stories it can, and which end of it is the better one."""

    of: Callable[[Told], Score]
    better: int = 0  # 1: the higher, -1: the lower, 0: neither
    fits: Callable[[Told], bool] = lambda told: True


def compared(told: Told) -> bool:
    """Whether overlap with the references means anything: not where a prompt such as a genre leaves all open."""
    return bool(told.asked) and all(case.references and not case.label for case in told.asked)


def in_english(told: Told) -> bool:
    return told.language == "en"


def rubric_total(told: Told) -> Score:
    known = {"concepts": told.concepts, "forms": vocabulary()["forms"]} if any(told.concepts) else {}
    ended = told.ended if all(end in ENDS for end in told.ended) else None
    return metrics.rubric(told.texts, **known, ended=ended, language=told.language).total


OVERLAPS = {
    "BLEU corpus": partial(metrics.bleu, average="corpus"),
    "BLEU story": partial(metrics.bleu, average="story"),
    "chrF": metrics.chrf,
    "ROUGE-1": partial(metrics.rouge, kind="rouge1"),
    "ROUGE-2": partial(metrics.rouge, kind="rouge2"),
    "ROUGE-L": partial(metrics.rouge, kind="rougeL"),
}
MEASURES = {
    "stopped by itself": Measure(
        lambda told: metrics.stopped_share(told.ended), 1, lambda told: all(end in ENDS for end in told.ended)
    ),
    "concepts named": Measure(
        lambda told: metrics.concept_coverage(told.texts, told.concepts, vocabulary()["forms"]),
        1,
        lambda told: bool(told.asked) and all(told.concepts),
    ),
    "repeated 4-grams": Measure(lambda told: metrics.repeated_ngrams(told.texts, n=4), -1),
    "words": Measure(lambda told: metrics.length_in_words(told.texts)),
    **{
        name: Measure(lambda told, metric=metric: metric(told.texts, told.references), 1, compared)
        for name, metric in OVERLAPS.items()
    },
    "distinct-2": Measure(lambda told: metrics.distinct_n(told.texts, n=2), 1),
    "Self-BLEU": Measure(lambda told: metrics.self_bleu(told.texts), -1),
    "compression ratio": Measure(lambda told: metrics.compression_ratio(told.texts), -1),
    "copied 8-grams": Measure(
        lambda told: metrics.copied_share(told.texts, told.training, n=8), -1, lambda told: bool(told.training)
    ),
    "empty stories": Measure(lambda told: metrics.empty_share(told.texts), -1),
    "positive endings": Measure(lambda told: metrics.positive_share(told.texts), 0, in_english),
    "reading grade": Measure(lambda told: metrics.reading_grade(told.texts), 0, in_english),
    "familiar words": Measure(lambda told: metrics.familiar_words(told.texts), 0, in_english),
    "unfit for children": Measure(lambda told: metrics.unsafe_share(told.texts, told.language), -1),
    "rubric": Measure(rubric_total, 1),
}
OVERLAP = "BLEU, chrF and ROUGE measure overlap with the references, not quality."
LIKELIHOODS = ("perplexity", "mean story perplexity", "bits per byte", "bits per character")  # lower is better
FEW = 6  # prompts; of five pairs the rarest outcome of a fair coin comes in 1 of 16 times, above `paired.ALPHA`
PICTURED = (  # as many as the picture takes, those first that say most
    *(f"bits per byte, {code}" for code in ("en", "zh", "pt", "ja")),
    *("stopped by itself", "concepts named", "repeated 4-grams", "words", "BLEU corpus", "BLEU story"),
    *("bits per byte", "distinct-2", "copied 8-grams"),
)


@dataclass(frozen=True)
class Board:
    """Every score of every system, the stories behind them, and what could not be measured and why."""

    table: Table
    systems: dict[str, System]
    notes: list[str]


def score_systems(
    systems: Mapping[str, System], cases: Sequence[Case], training: Sequence[str] = (), language: str = "en"
) -> Board:
    """All measures that suit each system's stories, between the two ends of the scale where there are references.

    training: what the models were trained on, to find copies in. A measure that cannot be taken is left out, with the
    reason in the notes. Raises UserError for no systems.
    """
    if not systems:
        raise UserError("no systems: give an adapter or a file of stories")
    by_prompt = {case.prompt: case for case in cases}
    table: Table = {}
    notes: list[str] = []
    for name, system in systems.items():
        known = all(story.prompt in by_prompt for story in system.stories)
        asked = [by_prompt[story.prompt] for story in system.stories] if known else []
        told = Told(
            [story.text for story in system.stories],
            [story.ended for story in system.stories],
            asked,
            training,
            language,
        )
        if not known:
            notes.append(f"{name}: its prompts are not those of the test, so nothing is compared with references")
        table[name] = score_stories(told, lambda note, name=name: notes.append(f"{name}: {note}"))
        table[name] |= likelihood_scores(system)
    floor, ceiling = score_scale(cases)
    whole = {"floor": floor} | table | {"ceiling": ceiling}
    return Board({name: row for name, row in whole.items() if row}, dict(systems), notes)


def score_stories(told: Told, note: Callable[[str], None]) -> dict[str, Score]:
    """Each measure that fits; `note` is told why one cannot be taken."""
    scores = {}
    for name, measure in MEASURES.items():
        if measure.fits(told):
            try:
                scores[name] = measure.of(told)
            except UserError as error:
                note(f"no {name}: {error}")
    return scores


def likelihood_scores(system: System) -> dict[str, Score]:
    """Perplexity and bits of the test stories; of several languages each under its code."""
    several = len(system.likelihood) > 1
    return {
        f"{name}, {code}" if several else name: score
        for code, found in system.likelihood.items()
        for name, score in found.scores().items()
    }


def score_scale(cases: Sequence[Case]) -> tuple[dict[str, Score], dict[str, Score]]:
    """The two ends of the scale: another prompt's references (floor), one reference against the others (ceiling).

    Nothing where a prompt has fewer than two references, or a label.
    """
    references = [list(case.references) for case in cases]
    single = any(len(told) < 2 for told in references) or len({case.references for case in cases}) < 2
    if single or any(case.label for case in cases):
        return {}, {}
    ends = []
    for pairs, asked in (
        (metrics.shifted(references), metrics.turned(cases)),
        (metrics.leave_one_out(references), cases),
    ):
        scores = {name: metric(*pairs) for name, metric in OVERLAPS.items()}
        if all(case.concepts for case in cases):
            named = [(text, ask.concepts) for case, ask in zip(cases, asked, strict=True) for text in case.references]
            texts, concepts = zip(*named, strict=True)
            scores["concepts named"] = metrics.concept_coverage(texts, concepts, vocabulary()["forms"])
        ends.append(scores)
    return ends[0], ends[1]


def write_board(folder: Path, board: Board, facts: Mapping) -> None:
    """scores.json, scores.md and stories.jsonl in `folder`; `facts` say of what and how the scores were taken."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "stories.jsonl", as_lines(board.systems))
    write_text(folder / "scores.md", as_markdown(board.table, board.notes))
    scores = {name: {measure: asdict(score) for measure, score in row.items()} for name, row in board.table.items()}
    prompts = {name: [story.prompt for story in system.stories] for name, system in board.systems.items()}
    found = {**facts, "notes": board.notes, "scores": scores, "prompts": prompts}
    write_text(folder / "scores.json", json.dumps(found, indent=1, ensure_ascii=False))


def read_board(folder: Path) -> tuple[Table, dict[str, list[str]]]:
    """The table of a folder that `write_board` filled, and the prompts of each system's stories.

    Raises UserError where there is none, or it is damaged.
    """
    found = read_scores(folder)
    try:
        table = {
            name: {
                measure: Score(**{key: score[key] for key in ("value", "signature", "low", "high", "per_story")})
                for measure, score in row.items()
            }
            for name, row in found["scores"].items()
        }
        return table, found.get("prompts", {})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{Path(folder) / 'scores.json'} is damaged ({error!r}); evaluate again") from error


def read_scores(folder: Path) -> dict:
    """scores.json as it stands. Raises UserError where there is none, or it is no JSON object."""
    path = Path(folder) / "scores.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no scores.json in {folder}; make it with storylib evaluate") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error!r}); evaluate again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (no object); evaluate again")
    return found


def shortlist(table: Table, most: int = 6) -> Table:
    """The part of a table that a picture shows."""
    there = {measure for row in table.values() for measure in row}
    chosen = [measure for measure in PICTURED if measure in there][:most]
    return {name: {measure: row[measure] for measure in chosen if measure in row} for name, row in table.items()}


def as_markdown(table: Table, notes: Sequence[str] = ()) -> str:
    """The table with a row per measure and a column per system; then notes and signatures."""
    rows = dict.fromkeys(measure for row in table.values() for measure in row)
    lines = [f"| | {' | '.join(table)} |", "| --- |" + " --- |" * len(table)]
    for measure in rows:
        cells = (shown(measure, row[measure]) if measure in row else "" for row in table.values())
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    signatures = {row[measure].signature: measure for row in table.values() for measure in row}
    lines += ["", f"95 % intervals in brackets. {OVERLAP}", ""]
    lines += [f"- {note}" for note in notes]
    lines += [f"- {measure}: `{signature}`" for signature, measure in signatures.items()]
    return "\n".join(lines) + "\n"


def shown(measure: str, score: Score) -> str:
    """A score as a cell, in per cent where it is a share.

    >>> shown("stopped by itself", Score(0.5, "", 0.25, 0.75)), shown("words", Score(87.31, "", 85.0, 90.0))
    ('50.0 % [25.0, 75.0]', '87 [85, 90]')
    """
    per_cent = measure in SHARES
    values = [100 * value if per_cent else value for value in (score.value, score.low, score.high) if value is not None]
    digits = 1 if per_cent or 10 <= abs(score.value) < 80 else 0 if abs(score.value) >= 80 else 2
    value, *ends = (f"{value:.{digits}f}" for value in values)
    return value + (" %" if per_cent else "") + (f" [{', '.join(ends)}]" if ends else "")


def versus(table: Table, prompts: Mapping[str, Sequence[str]], system: str, baseline: str) -> dict[str, Difference]:
    """How far apart two systems of a table are in each measure that is a mean over the stories, paired by prompt.

    Of fewer than six prompts no chance could ever be ruled out: there it is story against story, and the answer is for
    these prompts, not for others like them (the signature says so).
    Nothing for a measure of which either has none, for one that is no mean (corpus BLEU, diversity), and where the
    two did not tell for the same prompts in the same order. Raises UserError for a system that is not in the table.
    """
    for name in (system, baseline):
        if name not in table:
            raise UserError(f"no system {name!r}; there are {', '.join(table)}")
    found = {}
    for measure, score in table[system].items():
        other = table[baseline].get(measure)
        likelihood = measure.split(",")[0] in LIKELIHOODS
        paired = likelihood or (system in prompts and prompts[system] == prompts.get(baseline))
        if other and paired and is_mean(score) and is_mean(other) and len(score.per_story) == len(other.per_story):
            units = singles(len(score.per_story)) if likelihood else clusters(prompts[system])
            label = score.signature.split("|")[0]
            if len(units) < FEW:  # then stories are what is swapped, and the answer is for these prompts alone
                label, units = f"{label}|these prompts:{len(units)}", singles(len(score.per_story))
            found[measure] = metrics.difference(mean_tally(score.per_story), mean_tally(other.per_story), units, label)
    return found


def verdicts(board: Board) -> dict[str, dict[str, str]]:
    """Whether each system is better than the first one, by measure: the answers of `verdict`, under "A against B"."""
    baseline, *others = board.systems
    prompts = {name: [story.prompt for story in system.stories] for name, system in board.systems.items()}
    return {
        f"{name} against {baseline}": {
            measure: verdict(measure, gap) for measure, gap in versus(board.table, prompts, name, baseline).items()
        }
        for name in others
    }


def is_mean(score: Score) -> bool:
    """Whether a score is the mean of its stories' scores, so that pairs of stories can be compared."""
    return bool(score.per_story) and bool(np.isclose(np.mean(score.per_story), score.value))


def verdict(measure: str, difference: Difference) -> str:
    """ "better", "worse" or "can't tell"; "higher" or "lower" where neither is better.

    >>> verdict("repeated 4-grams", Difference(-0.1, "", p=0.01)), verdict("words", Difference(-0.1, "", p=0.01))
    ('better', 'lower')
    """
    better = -1 if measure.split(",")[0] in LIKELIHOODS else MEASURES[measure].better
    if difference.verdict == "can't tell" or not better:
        return difference.verdict
    return "better" if (difference.verdict == "higher") == (better > 0) else "worse"
