"""What a run left behind, gathered once: its report and its card are written from it."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from storylib import config
from storylib.config import GenerationSettings, LoraSettings, Recipe, TrainSettings
from storylib.emoji import vocabulary
from storylib.errors import UserError
from storylib.evaluation import is_model
from storylib.files import DATA, read_log
from storylib.models import resolve, weights_hash
from storylib.prompts import emoji_prompt, genre_prompt, wish_prompt
from storylib.runs import Run, flat, read_card
from storylib.scoreboard import Table, read_board, read_scores

# What may differ from a named recipe, and the option of `finetune` that makes it so.
OPTIONS = {"train.epochs": "--epochs", "data.source": "--data"}
KINDS = ("roles", "places", "themes")
SHIPPED = {"emoji": "emoji_stories", "genres": "genres", "personal": "personal", "languages": "quartet"}


@dataclass(frozen=True)
class RunFacts:
    """A run, finished or not, or an adapter alone, which has no log and no samples."""

    folder: Path
    card: Mapping  # run.json: recipe, hashes, versions, emojis
    log: list[dict] = field(default_factory=list)
    samples: list[dict] = field(default_factory=list)
    table: Table = field(default_factory=dict)  # scores by system and measure, where `evaluate` left some
    result: Path | None = None  # the adapter or the model, once it is whole

    @property
    def name(self) -> str:
        return self.card["recipe"]["name"]

    @property
    def base(self) -> str:
        return self.card["recipe"]["base"]

    @property
    def local_base(self) -> bool:
        """Whether the base is a folder, which others don't have."""
        return Path(resolve(self.base)).is_dir()

    @property
    def whole(self) -> bool:
        """Whether the result needs no base beside it: all weights were trained, or the adapter was merged."""
        return self.result is not None and (self.result / "config.json").exists()

    @property
    def weights(self) -> str:
        """sha256 of the result's weights; empty where there is none."""
        return weights_hash(str(self.result)) if self.result else ""

    @property
    def languages(self) -> list[str]:
        """Codes; none where the run was of every language."""
        code = self.card["recipe"].get("data", {}).get("language", "en")
        codes = [code] if isinstance(code, str) else list(code)
        return [] if codes == ["all"] else codes

    @property
    def changed(self) -> dict[str, object]:
        """Settings that are other than those of the recipe of that name, or all where there is none.

        A setting that came after the run was as it is in the recipe.
        """
        known = config.RECIPES.get(self.name)
        before = flat(as_card(known)) if known else {}
        return {key: value for key, value in flat(self.card["recipe"]).items() if before.get(key) != value}

    @property
    def command(self) -> str:
        """What trains it again; empty where a recipe of one's own was used."""
        settable = config.settable(config.RECIPES[self.name]) if self.name in config.RECIPES else {}
        if self.changed.keys() - OPTIONS.keys() - settable.keys():
            return ""
        said = [word for key, value in self.changed.items() for word in option(key, value)]
        return shlex.join(["python", "-m", "storylib", "finetune", self.name, *said])

    @property
    def training(self) -> str:
        """What was trained, and on what, in words."""
        recipe, lora = self.card["recipe"], self.card["recipe"].get("lora")
        how = f"LoRA of rank {lora['rank']}" if lora else "all weights"
        return f"{how} on {self.base}" + (" in 4 bits" if recipe.get("four_bit") else "")

    @property
    def prompt(self) -> str:
        """A prompt such as the model was taught."""
        if self.samples:
            return self.samples[0]["prompt"]
        emojis = self.card.get("emojis", {})
        known = [next((emoji for emoji in vocabulary()[kind] if emoji in emojis), "") for kind in KINDS]
        if all(known):
            return emoji_prompt(known, emojis, self.card["recipe"].get("data", {}).get("names", True))
        examples = {"genres": genre_prompt("horror"), "personal": wish_prompt(character="a shy fox", tone="warm")}
        return examples.get(self.card["recipe"]["corpus"], "")

    def licences(self) -> dict[str, str]:
        """Those of the base and of the stories, where a card beside them says so."""
        shipped = None if "source" in self.card["recipe"].get("data", {}) else DATA / SHIPPED.get(self.corpus, "")
        found = {"base": licence_of(Path(resolve(self.base))), "stories": shipped and licence_of(shipped)}
        return {what: licence for what, licence in found.items() if licence}

    @property
    def corpus(self) -> str:
        return self.card["recipe"]["corpus"]


def gather(folder: Path, scores: Path | None = None) -> RunFacts:
    """The facts of a run, or of an adapter or model that one ended with.

    scores: the folder that `evaluate` wrote; without one, scores are looked for in the run. Raises UserError where
    there is no run, or a file of it is damaged.
    """
    run = Run(run_of(Path(folder).expanduser()))
    if not run.card.exists():
        raise UserError(f"no run.json in {folder}: name the folder of a run, or an adapter that storylib has trained")
    card = read_card(run.card)
    recipe = card.get("recipe") if isinstance(card, dict) else None
    if not isinstance(recipe, dict) or not all(isinstance(recipe.get(key), str) for key in ("name", "base", "corpus")):
        raise UserError(f"{run.card} is no run's card: it has no recipe with a name, base and corpus")
    result = run.result or (run.folder if is_model(run.folder) else None)
    within = [place for place in (run.folder / "scores", run.folder) if (place / "scores.json").exists()]
    places = [scores] if scores else within
    if scores:
        check_scored(scores, run.folder)
    return RunFacts(
        folder=run.folder,
        card=card,
        log=[row for row in read_log(run.log) if isinstance(row, dict) and "step" in row],
        samples=[
            row for row in read_log(run.samples) if isinstance(row, dict) and {"step", "prompt", "text"} <= {*row}
        ],
        table=read_board(places[0])[0] if places else {},
        result=result,
    )


def option(key: str, value: object) -> tuple[str, str]:
    """How a setting is given to `finetune`."""
    words = ",".join(value) if isinstance(value, list | tuple) else str(value)
    return (OPTIONS[key], words) if key in OPTIONS else ("--set", f"{key}={words}")


def check_scored(scores: Path, run: Path) -> None:
    """Raises UserError where the scores say of what they are, and it is another model than the run's."""
    scored = [Path(model) for model in read_scores(scores).get("models", {}).values()]
    own = run.resolve()
    if scored and not any(
        own.name in model.parts or own in (model.resolve(), model.resolve().parent) for model in scored
    ):
        others = ", ".join(map(str, scored))
        score = f"storylib evaluate JOB --adapter {run} --out {run / 'scores'}"
        raise UserError(f"the scores in {scores} are of {others}, not of {run}; score the run first: {score}")


def run_of(folder: Path) -> Path:
    """The run whose `adapter` or `model` the folder is, else the folder."""
    folder = folder.resolve() if str(folder) in ("", ".") else folder
    cards = [folder / "run.json", folder.parent / "run.json"]
    own = folder.name in ("adapter", "model") and all(card.exists() for card in cards)
    return folder.parent if own and cards[0].read_bytes() == cards[1].read_bytes() else folder


def recipe_of(card: Mapping) -> Recipe:
    """The recipe of a run's card. Raises UserError for settings that this version does not know."""
    found = {key: value for key, value in card["recipe"].items() if key != "preference"}
    try:
        if lora := found["lora"]:
            targets = lora["targets"] if isinstance(lora["targets"], str) else tuple(lora["targets"])
            found["lora"] = LoraSettings(**lora | {"targets": targets})
        parts = {"train": TrainSettings(**found["train"]), "generate": GenerationSettings(**found["generate"])}
        return Recipe(**found | parts)
    except (KeyError, TypeError) as error:
        raise UserError(f"the run's recipe is not one of this version ({error}); train it again") from error


def as_card(recipe: Recipe) -> dict:
    """A recipe as `run.json` has it."""
    found = asdict(recipe)
    if recipe.lora and not isinstance(recipe.lora.targets, str):
        found["lora"]["targets"] = list(recipe.lora.targets)
    return found


def licence_of(folder: Path) -> str:
    """What the card in a folder says of the licence; empty where it says nothing."""
    from huggingface_hub import ModelCard

    page = folder / "README.md"
    return str(ModelCard.load(page).data.to_dict().get("license") or "") if page.exists() else ""
