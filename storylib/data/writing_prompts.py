"""Stories for wishes: who, with which traits, where, what happens, in which tone and arc; each may be left open.

The shipped 240 were written with their wishes. WritingPrompts (Fan, Lewis and Dauphin 2018), 300,000 stories of an
internet forum, has prompts and stories alone: `prepare` cleans them and finds the wishes in the texts.
"""

import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from storylib.data.cleaning import tidy
from storylib.data.content_filter import adult_reason
from storylib.data.corpus import SPLITS, Card, Report, find_split, new_folder, read_corpus, write_corpus
from storylib.data.detokenise import restore
from storylib.data.duplicates import fingerprint
from storylib.data.forum import notice, split_tag, strip_notes
from storylib.data.reading import column, lines, read_jsonl, read_rows, stream_rows
from storylib.data.splitting import split_of
from storylib.data.wishes import WISHES, BadAnswer, Extractor, ModelExtractor, by_rules
from storylib.data.words import count_words
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import wish_prompt

if TYPE_CHECKING:
    import datasets

SHIPPED = DATA / "personal"
COLUMNS = {
    "id": "the source's own, or its split and line",
    "prompt": "the premise, as a sentence or two",
    "tag": "the forum's tags of the prompt, joined by /: WP writing prompt, EU established universe, …; may be empty",
    "character": "who it is about; like all wishes it may be empty",
    "traits": "one or two of the character's traits",
    "setting": "where it takes place",
    "plot": "what happens",
    "tone": "its tone, in a word",
    "arc": "the shape of its plot",
    "story": "the story; paragraphs are parted by line ends",
}
OFFICIAL = {"train": "train", "valid": "validation", "test": "test"}  # files of WritingPrompts -> splits
PAIR = (".wp_source", ".wp_target")
HELD_OUT = ("test", "validation")
SHARE = 0.1  # of the prompts to each held-out split that has no file of its own
CHUNK = 200  # stories handed to a process at a time
CLEANED = """\
Texts put together again from their tokens (`do n't` became don't); tags, links and the author's notes before and after
the story taken off; off-topic, deleted and moderator's posts, stories too short or too long and, by word lists, adult
content dropped; of stories with the same words one kept. No prompt is in two splits."""
BY_RULES = """\
Wishes that did not come with the stories were found in the texts by rules over word lists: the character and the
setting are the first of a known kind in the prompt, else those said most often in the story; traits, plot, tone and arc
are those with the most words. On the 40 shipped stories that are not for training, written with their own wishes,
the rules name the same character (by its last word) in 35, the same setting in 29, one of the two traits in 28 and the
same plot in 20; but the same tone in 6 and the same arc in 5, which is no better than chance. The lists were written
with the kinds of those wishes in mind: expect less of other texts."""
CARD = Card(
    title="Stories for wishes, from WritingPrompts",
    summary="Stories of the forum r/WritingPrompts with their prompts and, for each, what a reader might have wished "
    "for to get it: character, traits, setting, plot, tone and arc.",
    languages=["en"],
    licence="None is stated. The texts are their authors': use them for research, do not publish them.",
    source="WritingPrompts: Fan, Lewis, Dauphin: Hierarchical Neural Story Generation. ACL 2018.",
    made=CLEANED,
    columns=COLUMNS,
    tags=["stories", "writing-prompts"],
)
OWN_CARD = replace(
    CARD,
    title="Stories for wishes",
    summary=CARD.summary.replace("of the forum r/WritingPrompts ", ""),
    licence="unknown",
    source="The texts are those of whoever made this folder, and so is the choice of a licence.",
    tags=["stories"],
)


@dataclass(frozen=True)
class Raw:
    """A prompt and its story as they were found, with the wishes that came with them."""

    id: str
    prompt: str
    story: str
    given: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is kept, and who finds the wishes."""

    shortest: int  # words
    longest: int  # words
    adult: bool  # whether adult content is kept
    extract: Extractor

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise UserError(f"no story has {self.shortest} to {self.longest} words; try shortest=50 and longest=1500")


@dataclass(frozen=True)
class Cleaned:
    """A row, or None for one that is dropped; what to count; and what tells stories and prompts apart."""

    row: dict[str, str] | None
    notes: tuple[str, ...]
    story: bytes = b""
    prompt: str = ""


def load(source: str | Path | None = None) -> "datasets.DatasetDict":
    """Splits with prompt (the premise and the wishes as a model reads them), completion (the story), premise, tag and
    the wishes: character, traits, setting, plot, tone, arc.

    source: None is the shipped stories. Else a folder that `prepare` wrote, or any with train.jsonl or train.csv; or a
        .jsonl or .csv file, which is split by prompt. `prompt` and `story` are needed, all else may be missing.

    Raises UserError for a source that cannot be read and rows without prompt or story.
    """
    import datasets

    path = SHIPPED if source is None else Path(source).expanduser()
    if path.suffix.lower() not in (".jsonl", ".csv"):
        return datasets.DatasetDict({split: with_prompts(part, path) for split, part in read_corpus(path).items()})
    splits = {split: [] for split in SPLITS}
    rows = read_rows(path)
    for row, prompt in zip(rows, column(rows, "prompt", path), strict=True):
        splits[split_of(fingerprint(prompt), SHARE, SHARE)].append(row)
    if empty := [split for split, found in splits.items() if not found]:
        raise UserError(f"the {empty[0]} split of {path} would be empty; give more rows, with more prompts")
    return datasets.DatasetDict(
        {split: with_prompts(datasets.Dataset.from_list(found), path) for split, found in splits.items()}
    )


def with_prompts(part: "datasets.Dataset", path: Path) -> "datasets.Dataset":
    """The rows with the wishes told in their prompts."""
    for name in ("prompt", "story"):
        if name not in part.column_names:
            raise UserError(f"{path} has no column {name!r}; it has {', '.join(part.column_names)}")
        for number, text in enumerate(part[name], start=1):
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"row {number} of {path} has no {name!r}; each needs one")
    for name in {"tag", *WISHES} - set(part.column_names):
        part = part.add_column(name, [""] * len(part))
    part = part.rename_columns({"prompt": "premise", "story": "completion"})
    prompts = [wish_prompt(**row) for row in part.select_columns(["premise", *WISHES])]
    return part.add_column("prompt", prompts).select_columns(["prompt", "completion", "premise", "tag", *WISHES])


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    shortest: int = 50,
    longest: int = 1500,
    adult: bool = False,
    endpoint: str = "",
    model: str = "",
    processes: int | None = None,
) -> Report:
    """Clean prompts and stories, find their wishes and write them to the folder `out`, with its card.

    source: a folder with train.wp_source and train.wp_target, and the same of valid and test where they are kept as
        splits; or with train.jsonl or train.csv, which have `prompt` and `story`; or one such file. A held-out split
        without a file gets a tenth of train's prompts, chosen by a hash.
    shortest, longest: bounds of a story in words. adult: whether adult content is kept.
    endpoint, model: who finds the wishes instead of the rules, such as "http://localhost:8000/v1" and a model's name;
        the key is that of OPENAI_API_KEY. Where its answers stay malformed, the rules find them.
    processes: how many clean at a time; None is one for each processor.

    Rows are streamed: memory does not grow with them, but for 100 bytes a story by which repeats are known. Raises
    UserError for files that cannot be read or do not belong together, before anything is cleaned; for an endpoint that
    does not answer; and what `write_corpus` raises.
    """
    if bool(endpoint) != bool(model):
        raise UserError(f"endpoint={endpoint!r} and model={model!r} belong together: give both, or neither")
    extract = ModelExtractor(endpoint, model) if endpoint else by_rules
    rules = Rules(shortest=shortest, longest=longest, adult=adult, extract=extract)
    out, source = new_folder(out), Path(source).expanduser()
    inputs = find_inputs(source)
    card = CARD if source.suffix in PAIR or official(source) else OWN_CARD
    by_whom = f"Wishes that did not come with the stories were found by the model {model}." if model else BY_RULES
    card = replace(card, made=f"{card.made}\n\n{by_whom}")
    notes = Counter()
    with TemporaryDirectory() as folder:
        aside = {split: Path(folder) / f"{split}.jsonl" for split in reversed(HELD_OUT)}
        train = sort_rows(inputs, rules, processes or os.cpu_count() or 1, aside, notes)
        rows = write_corpus(out, {"train": train} | {split: read_jsonl(path) for split, path in aside.items()}, card)
    return Report(rows, [f"{count:,} rows {note}" for note, count in notes.most_common()])


def sort_rows(
    inputs: Mapping[str, Callable[[], Iterator[Raw]]],
    rules: Rules,
    processes: int,
    aside: Mapping[str, Path],
    notes: Counter[str],
) -> Iterator[dict[str, str]]:
    """The rows of train; those of the other splits go to the files `aside`. `notes` gains what was dropped and why.

    Held-out files come first: a story or prompt that is in train, too, is dropped there.
    """
    shares = {split: 0 if split in inputs else SHARE for split in HELD_OUT}
    stories, prompts = set(), {}
    with ExitStack() as stack:
        files = {split: stack.enter_context(path.open("w", encoding="utf-8")) for split, path in aside.items()}
        for split in (*HELD_OUT, "train"):
            for cleaned in clean_all(inputs[split](), rules, processes) if split in inputs else ():
                notes.update(cleaned.notes)
                if cleaned.row is None:
                    continue
                if cleaned.story in stories:
                    notes["dropped: the story repeats an earlier one"] += 1
                elif prompts.get(cleaned.prompt, split) != split:
                    notes[f"dropped: the prompt is in {prompts[cleaned.prompt]}, too"] += 1
                else:
                    stories.add(cleaned.story)
                    target = split if split != "train" else split_of(cleaned.prompt, **shares)
                    if split in HELD_OUT:
                        prompts[cleaned.prompt] = split
                    if target == "train":
                        yield cleaned.row
                    else:
                        files[target].write(json.dumps(cleaned.row, ensure_ascii=False) + "\n")


def clean_all(raws: Iterator[Raw], rules: Rules, processes: int) -> Iterator[Cleaned]:
    """Each row cleaned, in their order; only a few chunks are under way at a time, so that memory stays small."""
    work = partial(clean_chunk, rules)
    chunks = iter(lambda: list(islice(raws, CHUNK)), [])
    if processes == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with ProcessPoolExecutor(processes) as pool:
        under_way = deque(pool.submit(work, chunk) for chunk in islice(chunks, 2 * processes))
        while under_way:
            cleaned = under_way.popleft().result()
            under_way.extend(pool.submit(work, chunk) for chunk in islice(chunks, 1))
            yield from cleaned


def clean_chunk(rules: Rules, raws: Iterable[Raw]) -> list[Cleaned]:
    return [clean(raw, rules) for raw in raws]


def clean(raw: Raw, rules: Rules) -> Cleaned:
    """The row of a prompt and its story, or why there is none."""
    tag, premise = split_tag(" ".join(tidy(restore(raw.prompt)).split()))
    story = restore(raw.story)
    reason = notice(tag, premise, story)
    if not reason:
        story = tidy(strip_notes(story))
        reason = refuse(tag, premise, story, rules)
    if reason:
        return Cleaned(None, (f"dropped: {reason}",))
    notes = ("mended: NUL bytes taken out",) if "\0" in raw.prompt + raw.story else ()
    wishes = {wish: raw.given.get(wish) or "" for wish in WISHES}
    if not all(wishes.values()):
        found, fault = find_wishes(premise, story, rules.extract)
        wishes = {wish: text or found[wish] for wish, text in wishes.items()}
        notes += fault
    row = {"id": raw.id, "prompt": premise, "tag": tag} | wishes | {"story": story}
    return Cleaned(row, notes, bytes.fromhex(fingerprint(story)), fingerprint(premise))


def refuse(tag: str, premise: str, story: str, rules: Rules) -> str:
    """Why a clean text is not kept; "" when it is."""
    if not premise:
        return "no prompt"
    size = len(story.split())
    if size < rules.shortest:
        return f"fewer than {rules.shortest} words"
    if size > rules.longest:
        return f"more than {rules.longest} words"
    if rules.adult:
        return ""
    if "NSFW" in tag.split("/"):
        return "adult content (tagged NSFW)"
    adult = adult_reason(count_words(premise)) or adult_reason(count_words(story))
    return adult and f"adult content ({adult})"


def find_wishes(premise: str, story: str, extract: Extractor) -> tuple[dict[str, str], tuple[str, ...]]:
    """The extractor's wishes, or those of the rules with a note."""
    try:
        return extract(premise, story), ()
    except BadAnswer:
        return by_rules(premise, story), ("with wishes by the rules: the model's answers were malformed",)


def find_inputs(source: Path) -> dict[str, Callable[[], Iterator[Raw]]]:
    """For each split that the source has, what reads it. All pairs of files are read through once, so that what is
    wrong with them is known before the work begins."""
    if source.is_dir():
        paths = official(source) or {split: path for split in SPLITS if (path := find_split(source, split))}
        if "train" not in paths:
            raise UserError(f"{source} has no train.wp_source, train.jsonl or train.csv; put one there, or name a file")
    elif source.exists():
        paths = {"train": source}
    else:
        raise UserError(f"there is no {source}; give a folder with train.wp_source and train.wp_target, or a file")
    return {split: reader(path, split) for split, path in paths.items()}


def official(folder: Path) -> dict[str, Path]:
    """The prompts of WritingPrompts' own files by split, even where only the stories of a pair are there."""
    found = {split: folder / f"{stem}.wp_source" for stem, split in OFFICIAL.items()}
    return {split: path for split, path in found.items() if path.exists() or path.with_suffix(".wp_target").exists()}


def reader(path: Path, split: str) -> Callable[[], Iterator[Raw]]:
    if path.suffix in PAIR:
        return partial(read_pairs, *check_pair(*map(path.with_suffix, PAIR)), split)
    return partial(read_table, path, split)


def check_pair(prompts: Path, stories: Path) -> tuple[Path, Path]:
    """The two paths. Raises UserError unless both can be read and have as many lines as each other, and some."""
    for path, partner in ((prompts, stories), (stories, prompts)):
        if not path.exists():
            raise UserError(f"{partner} has no {path.name} beside it; put both into one folder")
    counts = {path: sum(1 for _ in lines(path)) for path in (prompts, stories)}
    if len(set(counts.values())) > 1:
        told = " and ".join(f"{path} has {count:,} lines" for path, count in counts.items())
        raise UserError(f"{told}; they must belong line by line: get them again")
    if not counts[prompts]:
        raise UserError(f"{prompts} and {stories.name} are empty; get them again")
    return prompts, stories


def read_pairs(prompts: Path, stories: Path, split: str) -> Iterator[Raw]:
    for (number, prompt), (_, story) in zip(lines(prompts), lines(stories), strict=True):
        yield Raw(f"{split}-{number}", prompt, story, {})


def read_table(path: Path, split: str) -> Iterator[Raw]:
    for number, row in enumerate(stream_rows(path), start=1):
        for name in ("prompt", "story"):
            if not isinstance(row.get(name), str):
                raise UserError(f"row {number} of {path} has no {name!r}; each needs one")
        given = {wish: row[wish] for wish in WISHES if isinstance(row.get(wish), str)}
        yield Raw(str(row.get("id") or f"{split}-{number}"), row["prompt"], row["story"], given)
