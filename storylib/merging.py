"""Merge an adapter into its base: one model that needs neither PEFT nor the base, scored again once it is written."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from storylib import data
from storylib.architectures import architecture
from storylib.cards import model_card
from storylib.checkpoints import full_disk_named
from storylib.config import Recipe
from storylib.data.corpus import new_folder
from storylib.errors import UserError
from storylib.evaluation import held_out_texts
from storylib.facts import RunFacts, gather, recipe_of
from storylib.files import atomic_folder, write_text
from storylib.generation import generate
from storylib.models import base_of, check_tokenizer, load_base, load_finetuned, load_tokenizer, resolve, weights_hash
from storylib.perplexity import perplexity
from storylib.prompts import joined
from storylib.runtime import Machine, gib, machine
from storylib.sizes import DOUBT, skeleton

PRECISIONS = ("float16", "bfloat16")
TEXTS = 40  # held-out stories, at most
PROMPTS = 6
LENGTH = 100  # tokens of a greedy story, at most
DRIFT = 0.005  # bits per byte that rounding may change
AGREEMENT = 0.97  # of the next tokens, that must stay the same


@dataclass(frozen=True)
class Merged:
    """What a merge did to held-out stories and to greedy text."""

    precision: str
    adapter: str  # sha256 of its weights
    trained: float | None  # bits per byte with the base in 4 bits, as the adapter was trained; None where it was not
    before: float  # bits per byte of the whole base with the adapter beside it
    after: float  # bits per byte of the merged model, read back from its files
    agreement: float  # share of the tokens of greedy stories after which both would go on with the same one
    same: int  # greedy stories that are the same word for word
    stories: int

    def __str__(self) -> str:
        trained = "" if self.trained is None else f"{self.trained:.4f} on the base in 4 bits, as it was trained; "
        return (
            f"bits per byte of held-out stories: {trained}{self.before:.4f} on the whole base, {self.after:.4f} merged "
            f"({self.precision}); the same next token in {self.agreement:.1%} of places, {self.same} of {self.stories} "
            "greedy stories the same word for word"
        )

    def check(self) -> None:
        """UserError where the merged model is another than what was merged."""
        if not abs(self.after - self.before) <= DRIFT or self.agreement < AGREEMENT:
            raise UserError(
                f"the merged model is not what was merged, and was not kept ({self}); at most {DRIFT} bits per byte "
                f"and {1 - AGREEMENT:.0%} of the tokens may differ: try --precision {other(self.precision)}"
            )


@dataclass(frozen=True)
class Probe:
    """Held-out stories to read, and prompts to tell for."""

    texts: list[str]
    prompts: list[str]
    asked: list[str]


def merge(
    folder: Path, out: Path, precision: str = "float16", licence: str = "", say: Callable[[str], None] = print
) -> Merged:
    """Write the base with the adapter of a run merged into it to the new folder `out`, with tokenizer and card.

    The base is loaded whole: merged into weights of 4 bits, the adapter would be rounded away. `out` appears only when
    the model that was read back from it says what it said before, within DRIFT and AGREEMENT. Raises UserError where
    it does not, for too little memory or disk, a base that is stored quantised, and a run without an adapter.
    """
    if precision not in PRECISIONS:
        raise UserError(f"a model is merged in {' or '.join(PRECISIONS)}, got {precision!r}")
    facts, out = gather(folder), new_folder(out)
    if facts.result is None or facts.whole:
        what = "a whole model already" if facts.whole else "a run without an adapter yet: let it end"
        raise UserError(f"{folder} is {what}")
    adapter, recipe, base = facts.result, recipe_of(facts.card), base_of(facts.result)
    refuse_packed(base)
    work = getattr(torch, check_memory(recipe, precision))
    check_disk(recipe, precision, out)
    tokenizer = own_tokenizer(adapter, base)
    probe = held_out(recipe)
    trained = bits(*load_finetuned(adapter), probe) if recipe.four_bit else None
    say(f"merging {adapter} into {base} …")
    model = PeftModel.from_pretrained(load_base(base, four_bit=False, dtype=work), adapter).eval()
    before, stories = bits(model, tokenizer, probe), tell(model, tokenizer, probe, recipe)
    rows = joined(tokenizer, probe.asked, stories)
    choices = next_tokens(model, rows)
    with full_disk_named(existing(out)), atomic_folder(out) as part:
        write_model(merged_weights(model, precision), tokenizer, part)
        del model  # before the one that was written is read
        again = load_base(str(part), four_bit=False, dtype=work).eval()
        found = Merged(
            precision,
            weights_hash(str(adapter)),
            trained,
            before,
            bits(again, tokenizer, probe),
            agreement(choices, next_tokens(again, rows)),
            sum(one == two for one, two in zip(stories, tell(again, tokenizer, probe, recipe), strict=True)),
            len(stories),
        )
        say(str(found))
        found.check()
        write_cards(facts, found, part, out.name, licence)
    return found


def other(precision: str) -> str:
    return next(name for name in PRECISIONS if name != precision)


def refuse_packed(base: str) -> None:
    """UserError for a base whose files are quantised."""
    if getattr(architecture(resolve(base)), "quantization_config", None):
        raise UserError(f"{base} is stored quantised, and no adapter is merged into that; name its whole base")


def check_memory(recipe: Recipe, precision: str, on: Machine | None = None) -> str:
    """The precision to work in: fp32 on a CPU that has room for it, where it is quickest, else the given one.

    Raises UserError where there is room for neither.
    """
    on = on or machine()
    on.check()
    for name in ("float32", precision) if on.device == "cpu" else (precision,):
        needed = round((1 + DOUBT) * model_bytes(recipe, name))
        if needed <= on.room:
            return name
    kind = "GPU memory" if on.device == "cuda" else "RAM"
    advice = "close other programs, or merge on a machine with more"
    raise UserError(f"merging {recipe.name} takes {gib(needed)} of {kind}, and {gib(on.room)} are free; {advice}")


def check_disk(recipe: Recipe, precision: str, out: Path) -> None:
    needed, free = model_bytes(recipe, precision), shutil.disk_usage(existing(out)).free
    if needed > free:
        raise UserError(f"the merged model takes {gib(needed)}, and {gib(free)} are free on the disk of {out}")


def model_bytes(recipe: Recipe, precision: str) -> int:
    """What the whole base takes with its adapter, nothing packed."""
    return sum(weight.nbytes for weight in skeleton(recipe.base, recipe.lora, precision=precision).parameters())


def existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def own_tokenizer(adapter: Path, base: str) -> PreTrainedTokenizerBase:
    """The adapter's, where one was saved with it, else the base's; UserError where the two have other tokens."""
    tokenizer = load_tokenizer(base)
    check_tokenizer(adapter, tokenizer, base)
    return load_tokenizer(str(adapter)) if (adapter / "tokenizer_config.json").exists() else tokenizer


def held_out(recipe: Recipe) -> Probe:
    """Test stories of the recipe's corpus, as many of each language."""
    rows = data.load(recipe.corpus, **recipe.data)["test"]
    parts = held_out_texts(recipe, rows).values()
    pairs = [pair for texts, prompts in parts for pair in list(zip(texts, prompts, strict=True))[: TEXTS // len(parts)]]
    texts, prompts = zip(*pairs, strict=True)
    return Probe(list(texts), list(prompts), list(dict.fromkeys(rows["prompt"]))[:PROMPTS])


def bits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probe: Probe) -> float:
    """Per byte of the held-out stories."""
    return perplexity(model, tokenizer, probe.texts, probe.prompts).bits_per_byte


def tell(model, tokenizer, probe: Probe, recipe: Recipe) -> list[str]:
    """The greedy stories."""
    settings = replace(recipe.generate, temperature=0.0, max_new_tokens=min(LENGTH, recipe.generate.max_new_tokens))
    return [story.text for story in generate(model, tokenizer, probe.asked, settings)]


@torch.inference_mode()
def next_tokens(model: PreTrainedModel, rows: Sequence[tuple[list[int], int]]) -> list[int]:
    """The likeliest token after each beginning of each row, from the end of its prompt on."""
    found = []
    for ids, start in rows:
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]  # (T, V)
        found += logits[max(start - 1, 0) :].argmax(-1).tolist()
    return found


def agreement(one: Sequence[int], two: Sequence[int]) -> float:
    """Share of places with the same token.

    >>> agreement([1, 2, 3, 4], [1, 2, 3, 5])
    0.75
    """
    return sum(a == b for a, b in zip(one, two, strict=True)) / len(one)


def merged_weights(model: PeftModel, precision: str) -> PreTrainedModel:
    """The base with the adapter in its weights; UserError where one is not finite in that precision."""
    try:
        merged = model.merge_and_unload(safe_merge=True).to(getattr(torch, precision))
    except ValueError as error:  # of PEFT, for weights that are not finite
        raise UserError(f"the adapter cannot be merged: {error}; train it again") from error
    if broken := [name for name, weight in merged.named_parameters() if not torch.isfinite(weight).all()]:
        advice = f"try --precision {other(precision)}"
        raise UserError(f"{len(broken)} weights are too large for {precision}, the first is {broken[0]}; {advice}")
    return merged


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_cards(facts: RunFacts, found: Merged, folder: Path, name: str, licence: str) -> None:
    """`run.json` with what the merge did, and the model's card."""
    card = dict(facts.card) | {"merged": asdict(found)}
    write_text(folder / "run.json", json.dumps(card, indent=2, ensure_ascii=False))
    write_text(folder / "README.md", str(model_card(replace(facts, card=card, result=folder), name, licence)))
