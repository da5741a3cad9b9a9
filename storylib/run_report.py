"""A run on one page to hand out: its curves, what it told, its scores, and all that is needed to run it again."""

import base64
import html
from collections.abc import Iterator, Mapping
from pathlib import Path

from storylib import plots, scoreboard
from storylib.cards import model_card, versions_and_hashes
from storylib.facts import RunFacts
from storylib.files import write_text
from storylib.plots import Picture
from storylib.runs import flat
from storylib.tables import Table, progress

STEPS = 3  # of those at which samples were told: the first, the last, and what lies between
PROMPTS = 3
STYLES = ("report.css", "run_report.css")


def page(facts: RunFacts) -> str:
    """The run as one HTML page that needs nothing else, fit to be printed; all that it quotes is shown as text."""
    style = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in STYLES)
    title = text(f"{facts.name}: a run")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body(facts)}\n</main>\n</body>\n</html>\n"
    )


def body(facts: RunFacts) -> str:
    parts = [head(facts)]
    if facts.log:
        parts.append(section("Curves", curves(facts.log)))
    if facts.samples:
        parts.append(section("Samples through training", *samples(facts.samples)))
    if facts.table:
        parts.append(section("Scores", *scores(facts.table)))
    parts.append(section("Recipe", recipe(facts)))
    parts.append(section("Versions and hashes", table(versions_and_hashes(facts))))
    return "\n".join(parts)


def head(facts: RunFacts) -> str:
    """What was trained, how far it came, and how to train it again."""
    lines = [f"<p>{text(facts.training)}; corpus {text(facts.corpus)}</p>"]
    if facts.log:
        lines.append(Table([progress(facts.log)])._repr_html_())
    if facts.result is None:
        lines.append('<p class="note">The run has not ended: there is no adapter yet.</p>')
    elif not facts.log:
        lines.append('<p class="note">An adapter alone: its log and samples stayed with the run.</p>')
    if facts.command:
        lines.append(f"<p>Again: <code>{text(facts.command)}</code></p>")
    return f"<header>\n<h1>{text(facts.name)}</h1>\n{''.join(lines)}\n</header>"


def curves(log: list[dict]) -> str:
    """Loss, gradient norm, learning rate and speed by step."""
    steps, losses = plots.series(log, "loss")
    if not len(losses):
        return '<p class="note">The log has no loss yet.</p>'
    alt = f"Loss by step, from {losses[0]:.2f} at step {steps[0]} to {losses[-1]:.2f} at step {steps[-1]}"
    alt += "; beside it gradient norm, learning rate and tokens per second"
    panels = plots.panels(len(plots.CURVES), None, columns=len(plots.CURVES), height=2.6)
    return figure(plots.picture(plots.training_curve(log, panels), alt))


def samples(told: list[dict]) -> Iterator[str]:
    """The same prompts at a few of the steps, side by side."""
    steps = sorted({row["step"] for row in told})
    chosen = sorted({steps[round(place * (len(steps) - 1) / (STEPS - 1))] for place in range(STEPS)})
    if len(chosen) < len(steps):
        yield f'<p class="note">At {len(chosen)} of the {len(steps)} steps that samples were told at.</p>'
    for prompt in list(dict.fromkeys(row["prompt"] for row in told))[:PROMPTS]:
        rows = {row["step"]: row for row in told if row["prompt"] == prompt}
        stories = "".join(story(rows[step]) for step in chosen if step in rows)
        yield f'<h3 dir="auto">{text(prompt.strip())}</h3>\n<div class="told">{stories}</div>'


def story(row: Mapping) -> str:
    cut = ", cut at the limit" if row.get("ended") == "limit" else ""
    return f'<article dir="auto"><h4>step {text(row["step"])}{cut}</h4>{text(row["text"])}</article>'


def scores(found: scoreboard.Table) -> Iterator[str]:
    """The measures that say most as bars, all as a table, and how each was computed."""
    short = scoreboard.shortlist(found)
    if any(short.values()):
        alt = f"Bars with 95 % intervals for {', '.join(short)}; the numbers are in the table below"
        yield figure(plots.picture(plots.score_bars(short), alt))
    measures = list(dict.fromkeys(measure for row in found.values() for measure in row))
    cells = [
        {"": measure} | {name: scoreboard.shown(measure, row[measure]) for name, row in found.items() if measure in row}
        for measure in measures
    ]
    if cells:
        yield Table(cells)._repr_html_()
    yield f'<p class="note">95 % intervals in brackets. {text(scoreboard.OVERLAP)}</p>'
    signatures = {row[measure].signature: measure for row in found.values() for measure in row}
    lines = "".join(f"<li>{text(measure)}: <code>{text(made)}</code></li>" for made, measure in signatures.items())
    yield f'<h3>How each was computed</h3><ul class="note">{lines}</ul>'


def recipe(facts: RunFacts) -> str:
    """The settings in groups side by side."""
    settings = facts.card["recipe"]
    groups = {name: flat(part) for name, part in settings.items() if isinstance(part, Mapping) and part}
    alone = {name: part for name, part in settings.items() if not isinstance(part, Mapping)}
    alone["lora"] = "no: all weights are trained" if alone.get("lora", "") is None else ""
    parts = (
        f"<section><h3>{text(name)}</h3>{table(part)}</section>" for name, part in ({"task": alone} | groups).items()
    )
    return f'<div class="side">{"".join(parts)}</div>'


def table(cells: Mapping[str, object]) -> str:
    """Names and values; what is empty is left out."""
    lines = (
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>'
        for name, value in cells.items()
        if value not in ("", None)
    )
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def figure(picture: Picture) -> str:
    """A drawing within the page."""
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{picture.width}" alt="{text(picture.alt)}"></figure>'
    )


def write_report(facts: RunFacts, out: Path) -> list[Path]:
    """`report.html` and `model_card.md` in a folder, which is made; where they are."""
    out.mkdir(parents=True, exist_ok=True)
    pages = {out / "report.html": page(facts), out / "model_card.md": str(model_card(facts))}
    for path, content in pages.items():
        write_text(path, content)
    return list(pages)


def section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{text(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def text(value: object) -> str:
    return html.escape(str(value))
