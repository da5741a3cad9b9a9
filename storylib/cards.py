"""The card of a fine-tuned model: what the Hub shows of it, from the facts of its run."""

import re

from huggingface_hub import ModelCard, ModelCardData

from storylib import scoreboard
from storylib.facts import RunFacts
from storylib.runs import flat
from storylib.tables import progress

MARKS = re.compile(r"([\\`*_\[\]<>#|~$&])")  # what Markdown or HTML would take for its own
USE = (
    "For learning how story-writing models are fine-tuned, and for stories that an adult reads first. Stories are "
    "machine-written: they make things up, lose their thread, and may hold what is unfit for children. Not for facts "
    "or advice, and not for children alone."
)
LOAD_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")"""
LOAD_MODEL = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")"""
TELL = """
inputs = tokenizer({prompt}, return_tensors="pt")
story = model.generate(**inputs, max_new_tokens={length}, do_sample=True, temperature={temperature})
print(tokenizer.decode(story[0], skip_special_tokens=True))"""


def model_card(facts: RunFacts, name: str = "", licence: str = "") -> ModelCard:
    """The card of what the run ended with.

    name: how it will be called on the Hub; without one, its folder.
    licence: an identifier of the Hub, or nothing: it is for those who share a model to say, and neither the base's nor
        the stories' licence is simply taken over.
    """
    front = ModelCardData(
        license=licence or None,
        language=facts.languages or None,
        library_name="transformers" if facts.whole else "peft",
        base_model=None if facts.local_base else facts.base,
        pipeline_tag="text-generation",
        tags=["stories", "storylib", facts.corpus],
    )
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# Stories: {plain(facts.name)}",
        about(facts),
        f"## How to use\n\n```python\n{usage(facts, name)}\n```",
        f"## For whom, and for whom not\n\n{USE}",
        training(facts),
        samples(facts),
        scores(facts.table),
        licences(facts),
        f"## Versions and hashes\n\n{rows(versions_and_hashes(facts))}",
    ]
    return ModelCard("\n\n".join(part.strip() for part in parts if part) + "\n")


def about(facts: RunFacts) -> str:
    merged = facts.card.get("merged")
    what = "A whole model" if facts.whole else "An adapter"
    kind = f"{what} that tells stories, made with storylib: {plain(facts.training)}, on its corpus *{facts.corpus}*"
    if merged:
        kind += (
            f", merged into the base in {merged['precision']}. Held-out stories had {merged['before']:.4f} bits per "
            f"byte before the merge, and have {merged['after']:.4f} after it"
        )
    if facts.local_base and not facts.whole:
        kind += ". Its base is a folder of the project, and from there it opens"
    return f"{kind}. `run.json` has the recipe with its seed, the versions and the hashes."


def usage(facts: RunFacts, name: str) -> str:
    generate = facts.card["recipe"].get("generate", {})
    load = LOAD_MODEL if facts.whole else LOAD_ADAPTER
    tell = TELL.format(
        prompt=repr(facts.prompt or "Once upon a time"),
        length=generate.get("max_new_tokens", 200),
        temperature=generate.get("temperature", 0.7) or 1.0,
    )
    return load.format(name=name or (facts.result or facts.folder).name) + "\n" + tell


def training(facts: RunFacts) -> str:
    """The recipe, and what the log comes to."""
    again = f"\n\nMade again by `{facts.command}`." if facts.command else ""
    found = flat(facts.card["recipe"]) | (dict(progress(facts.log)) if facts.log else {})
    return f"## Training\n\n{rows(found)}{again}"


def samples(facts: RunFacts) -> str:
    """What the first prompt was told before and after, as it came."""
    told = [row for row in facts.samples if row["prompt"] == facts.samples[0]["prompt"]]
    ends = list({row["step"]: row for row in told[:1] + told[-1:]}.values())
    stories = [f"Step {row['step']}:\n\n{quoted(row['text'])}" for row in ends]
    prompt = f"For {plain(repr(facts.prompt))}, as it came:"
    return "\n\n".join(["## Samples through training", prompt, *stories]) if stories else ""


def scores(table: scoreboard.Table) -> str:
    """Every measure with its signature."""
    named = {plain(system): row for system, row in table.items()}
    return f"## Scores\n\n{scoreboard.as_markdown(named)}" if named else ""


def licences(facts: RunFacts) -> str:
    found = facts.licences()
    said = [f"that of the {what} is {plain(licence)}" for what, licence in found.items()]
    return f"## Licences\n\nOf what it was made from, {'; '.join(said)}." if said else ""


def versions_and_hashes(facts: RunFacts) -> dict[str, str]:
    found = {f"{what} (sha256)": value for what, value in facts.card.get("hashes", {}).items()}
    if facts.local_base is False and "base (sha256)" in found:
        found["base"] = found.pop("base (sha256)")  # a base of the Hub is known by its name
    if facts.weights:
        found["weights (sha256)"] = facts.weights
    return dict(facts.card.get("versions", {})) | found


def rows(cells: dict[str, object]) -> str:
    """A Markdown table of two columns."""
    lines = [
        f"| {plain(str(name))} | {plain(str(value))} |" for name, value in cells.items() if value not in ("", None)
    ]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def plain(text: str) -> str:
    r"""Text in Markdown that shows as it is, on one line.

    >>> plain("a|b <i>")
    'a\\|b \\<i\\>'
    """
    return MARKS.sub(r"\\\1", " ".join(text.split()))


def quoted(text: str) -> str:
    r"""A story in Markdown that shows as it is, its paragraphs kept.

    >>> quoted("# Owl\n\nThe end")
    '> \\# Owl\n>\n> The end'
    """
    return "\n".join(f"> {plain(line)}".rstrip() for line in text.splitlines()) or "> "
