"""Have systems tell what a job's test prompts ask for, and take the likelihood of the test stories under each."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from storylib import data
from storylib.config import GenerationSettings, Recipe
from storylib.data.reading import read_rows
from storylib.errors import UserError
from storylib.generation import Story, generate
from storylib.models import base_of, load_base, load_finetuned, load_tokenizer, unpacked
from storylib.perplexity import Perplexity, perplexity
from storylib.runs import Run, read_card

STORIES = 60  # of a system, about, where nothing else is said
TEXT_COLUMNS = ("text", "story", "completion")  # where a file of stories may have them


@dataclass(frozen=True)
class Case:
    """A test prompt, with what is known of it: reference stories, the names a story should tell of, its label."""

    prompt: str
    references: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class System:
    """The stories of one teller; of a model also the likelihood of the test stories, by language."""

    stories: list[Story]
    likelihood: Mapping[str, Perplexity] = field(default_factory=dict)


def cases(test: Dataset) -> list[Case]:
    """The test rows grouped by prompt, in their order."""
    grouped: dict[str, list[dict]] = {}
    for row in test:
        grouped.setdefault(row["prompt"], []).append(row)
    kinds = [f"{kind}_name" for kind in ("role", "place", "theme") if f"{kind}_name" in test.column_names]
    return [
        Case(
            prompt,
            tuple(row["completion"] for row in rows),
            tuple(rows[0][kind] for kind in kinds),
            rows[0].get("label", ""),
        )
        for prompt, rows in grouped.items()
    ]


def models_told(
    recipe: Recipe, adapters: Mapping[str, Path], seeds: int | None = None, say: Callable[[str], None] = print
) -> dict[str, System]:
    """What each fine-tuned model tells for the recipe's test prompts, after the untuned base of each.

    adapters: name -> folder of an adapter or of a whole model. seeds: stories per prompt; as many as make about 60.
    Raises UserError for a missing or damaged folder, before any story is told.
    """
    rows = data.load(recipe.corpus, **recipe.data)
    chosen = cases(rows["test"])
    seeds = seeds or math.ceil(STORIES / len(chosen))
    texts = held_out_texts(recipe, rows["test"])
    systems = {}
    for name, model, tokenizer in base_and_tuned(recipe, adapters):
        say(f"{name} tells {len(chosen) * seeds} stories …")
        systems[name] = System(tell(model, tokenizer, chosen, recipe.generate, seeds), read(model, tokenizer, texts))
    return systems


def languages_read(recipe: Recipe, adapters: Mapping[str, Path]) -> dict[str, dict[str, Perplexity]]:
    """How well each base and fine-tuned model reads the same stories in every language: what it learnt, what it forgot.

    System -> language of the quartet -> likelihood. Raises as `models_told`.
    """
    texts = quartet_texts()
    return {name: read(model, tokenizer, texts) for name, model, tokenizer in base_and_tuned(recipe, adapters)}


Texts = dict[str, tuple[list[str], list[str]]]  # language -> stories and their prompts


def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Texts) -> dict[str, Perplexity]:
    return {code: perplexity(model, tokenizer, *pair) for code, pair in texts.items()}


def held_out_texts(recipe: Recipe, test: Dataset) -> Texts:
    """The test stories; for the language job those of the quartet, the same in each language."""
    return quartet_texts() if recipe.corpus == "languages" else {"en": (list(test["completion"]), list(test["prompt"]))}


def quartet_texts() -> Texts:
    rows = data.load("languages", language="all")["test"].to_list()
    codes = dict.fromkeys(row["language"] for row in rows)
    parts = {code: [row for row in rows if row["language"] == code] for code in codes}
    return {
        code: ([row["completion"] for row in part], [row["prompt"] for row in part]) for code, part in parts.items()
    }


def base_and_tuned(
    recipe: Recipe, adapters: Mapping[str, Path]
) -> Iterator[tuple[str, PreTrainedModel, PreTrainedTokenizerBase]]:
    """Each untuned base, then each fine-tuned model, with its name: loaded one at a time, as a GPU holds no two."""
    bases = {name: trained_on(folder) for name, folder in adapters.items()}
    for base in dict.fromkeys(bases.values()):
        name = "untuned base" if len(set(bases.values())) == 1 else f"untuned {base}"
        yield name, *load_untuned(base, recipe.four_bit)
    for name, folder in adapters.items():
        yield name, *load_finetuned(folder, recipe.four_bit)


def load_untuned(base: str, four_bit: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base ready to tell stories, with its tokenizer."""
    return unpacked(load_base(base, four_bit)).eval(), load_tokenizer(base)


def tell(model, tokenizer, cases: Sequence[Case], settings: GenerationSettings, seeds: int) -> list[Story]:
    """So many stories for each case, case by case."""
    pairs = [(case.prompt, seed) for case in cases for seed in range(seeds)]
    prompts, numbers = zip(*pairs, strict=True)
    return generate(model, tokenizer, prompts, settings, numbers)


def trained_on(folder: Path) -> str:
    """The base of an adapter or of a whole model. Raises UserError where there is none, or it is damaged."""
    card = Path(folder) / "run.json"
    if (Path(folder) / "config.json").exists() and card.exists():
        return read_card(card)["recipe"]["base"]
    return base_of(Path(folder))


def all_models(folders: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """The fine-tuned models in folders by name: an adapter, a whole model, a run with one of them, or a folder of runs,
    whose models have the runs' names.

    folders: a name and a folder each; without a name a single model is "fine-tuned" and several have their runs' names.
    Raises UserError where there is none, and where two would have one name.
    """
    models: dict[str, Path] = {}
    for name, folder in folders:
        name = name or ("fine-tuned" if len(folders) == 1 else run_name(folder))
        found = {name: folder} if is_model(folder) else {name: Run(folder).result} if Run(folder).result else {}
        found = found or {run.name: Run(run).result for run in sorted(folder.glob("*/")) if Run(run).result}
        if not found:
            raise UserError(f"no fine-tuned model in {folder}: train one (storylib finetune) or name another folder")
        if twice := found.keys() & models:
            raise UserError(f"two systems are called {min(twice)}; name them, such as --adapter mine={folder}")
        models |= found
    return models


def run_name(folder: Path) -> str:
    """What a run is called, by its own folder or by that of its adapter."""
    folder = Path(folder).absolute()
    return folder.parent.name if is_model(folder) and folder.name in ("adapter", "model") else folder.name


def is_model(folder: Path) -> bool:
    return any((folder / file).exists() for file in ("adapter_config.json", "config.json"))


def as_system(rows: Dataset) -> System:
    """The stories of a corpus, as if somebody had told them for its prompts."""
    return System([Story(row["prompt"], 0, row["completion"], "", 0) for row in rows])


def read_told(path: Path, name: str) -> dict[str, System]:
    """The stories of a JSONL or CSV file, whoever wrote them: a `text`, `story` or `completion` in each row, which may
    be empty; `prompt`, `seed` and `ended` ("eos" or "limit") where known. Rows with a `system` are told apart by it.

    name: what the one system is called where rows name none. Raises UserError for rows without a text.
    """
    rows = read_rows(path)
    column = next((column for column in TEXT_COLUMNS if column in rows[0]), None)
    systems: dict[str, System] = {}
    for number, row in enumerate(rows, start=1):
        if column is None or not isinstance(row.get(column), str):
            raise UserError(f"row {number} of {path} has no story; put it under one of {', '.join(TEXT_COLUMNS)}")
        prompt, seed, ended = row.get("prompt") or "", row.get("seed") or 0, row.get("ended") or ""
        if not all(isinstance(text, str) for text in (prompt, ended)):
            raise UserError(f"row {number} of {path} has a prompt that is no text: {prompt!r}")
        try:
            story = Story(prompt, int(float(seed)), row[column], ended, 0)  # pandas writes 1.0 for 1
        except (TypeError, ValueError):
            raise UserError(f"row {number} of {path} has a seed that is no whole number: {seed!r}") from None
        systems.setdefault(row.get("system") or name, System([])).stories.append(story)
    return systems


def as_lines(systems: Mapping[str, System]) -> str:
    """Every story of every system, one JSON line each, in a form that `read_told` reads."""
    rows = [{"system": name} | vars(story) for name, system in systems.items() for story in system.stories]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
