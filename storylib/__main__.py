"""The command line: thin, typed. `python -m storylib --help` lists it."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from storylib import config
from storylib.emoji import name, three
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import emoji_prompt
from storylib.runs import runs_folder

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
SHIPPED_ADAPTER = DATA / "adapters" / "emoji"
RUNS = runs_folder()


@app.callback()
def start() -> None:
    """Stories from fine-tuned language models, on a laptop or a T4."""


@app.command()
def tell(
    emojis: Annotated[str, typer.Argument(help="Who, where, what about: 🦔🏰📚")],
    seed: Annotated[int, typer.Option(help="Another number, another story.")] = 0,
    stream: Annotated[bool, typer.Option("--stream", help="Show the words as they are written.")] = False,
    adapter: Annotated[Path, typer.Option(help="A fine-tuned adapter.")] = SHIPPED_ADAPTER,
) -> None:
    """Tell a bedtime story for three emojis; the story alone goes to standard output."""
    chosen = three(emojis)
    from storylib.generation import generate  # torch takes seconds to load: check the emojis first
    from storylib.models import load_adapter
    from storylib.runs import read_card

    model, tokenizer = load_adapter(adapter)
    card = read_card(adapter / "run.json")
    for emoji in chosen:
        if emoji not in card["emojis"]:
            say(f"{emoji} was in none of the training stories; its name is used: {name(emoji)}")
    prompt = emoji_prompt(chosen, card["emojis"], card["recipe"]["data"].get("names", True))
    show = (lambda text: print(text, end="", flush=True)) if stream else None
    story = generate(model, tokenizer, [prompt], config.recipe("emoji").generate, seed, show)[0]
    print("" if stream else story.text)


@app.command()
def finetune(
    recipe: Annotated[str, typer.Argument(help="A recipe such as emoji/cpu, or its job: emoji.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder, new or with this very run unfinished.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Another number of passes over the stories.")] = None,
    data: Annotated[str | None, typer.Option(help="Your own JSONL, CSV or folder, or a Hub data set.")] = None,
) -> None:
    """Teach a base model a corpus with 4-bit LoRA; the adapter, log, samples and plot land in one folder.

    A run that was cut off goes on from its last checkpoint when the same command is given again.
    """
    chosen = config.recipe(recipe)
    if epochs is not None:
        chosen = replace(chosen, train=replace(chosen.train, epochs=epochs))
    if data is not None:
        chosen = replace(chosen, data=chosen.data | {"source": data})
    out = out or RUNS / chosen.name.replace("/", "-")
    from storylib import plots
    from storylib.parallel import processes
    from storylib.training import finetune

    try:
        trained = finetune(chosen, out, say=say)
    except KeyboardInterrupt as stop:  # said here: typer would end without a word
        say(str(stop) or "stopped at once; what was saved before is kept")
        say(f"go on with: python -m storylib {shlex.join(sys.argv[1:])}")
        raise typer.Exit(130) from None
    if not processes().is_main_process:
        return
    plots.save(plots.training_curve(trained.log)[0].figure, out / "training.png")
    say(f"{trained.run.result.name}: {trained.run.result}\nlog:     {trained.run.log}\nplot:    {out / 'training.png'}")


@app.command()
def levels(
    recipe: Annotated[str, typer.Argument(help="A recipe such as genre/cpu, or its job: genre.")] = "genre",
    out: Annotated[Path | None, typer.Option(help="Folder of the runs, one in it for each level.")] = None,
) -> None:
    """Teach the same job at four levels: not at all, 30 % of the stories once, all once, all three times."""
    chosen = config.recipe(recipe)
    out = out or RUNS / f"{chosen.name.replace('/', '-')}-levels"
    from storylib import plots
    from storylib.levels import train_levels

    runs = {level: run for level, run in train_levels(chosen, out, say=say).items() if run}
    curves = plots.training_curve({level: run.log for level, run in runs.items()})
    plots.save(curves[0].figure, out / "training.png")
    say("\n".join(f"{level}: {run.run.result}" for level, run in runs.items()))
    say(f"plot: {out / 'training.png'}")


@app.command()
def recipes() -> None:
    """List the recipes: what each teaches to which base, and how."""
    rows = [
        {
            "recipe": recipe.name,
            "corpus": " ".join([recipe.corpus, *(f"{key}={value}" for key, value in recipe.data.items())]),
            "base": recipe.base,
            "trained": f"LoRA {recipe.lora.rank}" if recipe.lora else "all weights",
            "4 bits": "yes" if recipe.four_bit else "",
            "epochs": f"{recipe.train.epochs:g}",
            "batch": recipe.train.effective_batch,
            "rate": f"{recipe.train.learning_rate:g}",
        }
        for recipe in config.RECIPES.values()
    ]
    show_tables({"Recipes": rows})


@app.command()
def evaluate(
    job: Annotated[str, typer.Argument(help="The recipe that the adapter was trained by, or its job: emoji.")],
    adapter: Annotated[Path, typer.Option(help="A fine-tuned adapter.")] = SHIPPED_ADAPTER,
    out: Annotated[Path, typer.Option(help="Folder for scores.json, stories.jsonl and scores.png.")] = RUNS / "scores",
    seeds: Annotated[int, typer.Option(min=1, help="Stories per test combination.")] = 5,
) -> None:
    """Score a fine-tuned model beside its untuned base, with the two ends of the scale."""
    recipe = config.recipe(job)
    if (out / "scores.json").exists():
        raise UserError(f"{out} already holds scores; choose another folder with --out")
    from storylib import evaluation, plots

    say(f"telling stories with {adapter} and with its untuned base …")
    result = evaluation.compare(recipe, adapter, seeds)
    out.mkdir(parents=True, exist_ok=True)
    evaluation.write_scores(
        out / "scores.json", result.table, {"job": recipe.name, "adapter": str(adapter), "seeds": seeds}
    )
    evaluation.write_stories(out / "stories.jsonl", result.stories)
    plots.save(plots.score_bars(result.table)[0].figure, out / "scores.png")
    show_scores(result.table)
    for story in result.stories["fine-tuned"][: 3 * seeds : seeds]:
        print(f"\n{story.prompt.strip()}\n{story.text}")
    print(f"\nscores:  {out / 'scores.json'}\nstories: {out / 'stories.jsonl'}\nplot:    {out / 'scores.png'}")


@app.command()
def prepare(
    corpus: Annotated[str, typer.Argument(help="The kind of corpus: emoji, genres, personal or languages.")],
    source: Annotated[str, typer.Argument(help="Raw files: a file or a folder, as the corpus has them.")],
    out: Annotated[Path, typer.Option(help="The new folder.")],
    lines: Annotated[int | None, typer.Option(help="genres: lines of a book in a row, at most.")] = None,
    language: Annotated[str | None, typer.Option(help="languages: the code of the texts' language.")] = None,
    column: Annotated[str | None, typer.Option(help="languages: the name of the texts' column.")] = None,
    validation: Annotated[float | None, typer.Option(help="languages: share of the texts to validate with.")] = None,
    test: Annotated[float | None, typer.Option(help="languages: share of the texts to test with.")] = None,
    shortest: Annotated[int | None, typer.Option(help="personal: words of a story, at least.")] = None,
    longest: Annotated[int | None, typer.Option(help="personal: words of a story, at most.")] = None,
    adult: Annotated[bool | None, typer.Option("--adult", help="personal: keep adult content.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="personal: whose model finds the wishes, a URL.")] = None,
    model: Annotated[str | None, typer.Option(help="personal: the model's name there.")] = None,
    processes: Annotated[int | None, typer.Option(help="personal: how many clean at a time.")] = None,
) -> None:
    """Turn raw files into a folder of JSONL for training, validation and testing, with its card."""
    options = {name: value for name, value in locals().items() if name not in ("corpus", "source", "out")}
    from storylib import data

    report = data.prepare(corpus, source, out, **given(options))
    for note in report.notes:
        say(note)
    print(f"{out}: {', '.join(f'{count:,} {split}' for split, count in report.rows.items())}")


@app.command()
def describe(
    corpus: Annotated[str, typer.Argument(help="emoji, genres, personal or languages.")],
    source: Annotated[str | None, typer.Argument(help="Your own folder or file; without one, what is shipped.")] = None,
    language: Annotated[str | None, typer.Option(help="languages: a code, or all.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw lengths and openings into this PNG file.")] = None,
) -> None:
    """Show what is in a corpus: sizes, lengths, openings, duplicates and labels."""
    from storylib import data
    from storylib.data.description import describe

    rows = data.load(corpus, **given({"source": source, "language": language}))
    from transformers import PreTrainedTokenizerFast  # not before the source is known to be good

    found = describe(rows, PreTrainedTokenizerFast.from_pretrained(DATA.parent / config.EMBEDDED_BASE))
    show_tables(found.tables())
    if plot is not None:
        from storylib import plots

        axes = plots.panels(2, None, columns=1, height=3.4)
        plots.length_histogram(found.lengths(), axes[0])
        plots.opening_bars(sum(found.openings.values(), Counter()), axes[1])
        say(f"plot: {plots.save(axes[0].figure, plot)}")


@app.command()
def pretrain(
    stories: Annotated[Path, typer.Argument(help="Training stories: JSONL with a text column.")],
    held_out: Annotated[Path, typer.Argument(help="Held-out stories, likewise.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")] = RUNS / "base",
) -> None:
    """Train the embedded base again from scratch, with the shipped tokenizer; it takes hours on a CPU."""
    from storylib.data.reading import column, read_rows
    from storylib.models import load_tokenizer
    from storylib.pretraining import pretrain

    texts = [column(read_rows(path), "text", path) for path in (stories, held_out)]
    tokenizer = load_tokenizer(config.EMBEDDED_BASE)
    model = pretrain(*texts, tokenizer, config.PretrainConfig(), out, say)
    model.bfloat16().save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    say(f"model: {out / 'model'}")


def given(options: Mapping[str, object]) -> dict[str, object]:
    """The options that were given a value."""
    return {name: value for name, value in options.items() if value is not None}


def show_scores(table) -> None:
    """The score table on standard output, each figure with its 95 % interval."""
    from rich.table import Table

    metrics = list(dict.fromkeys(metric for row in table.values() for metric in row))
    grid = Table("", *table, title="value [95 % interval]; BLEU is overlap with the references, not quality")
    for metric in metrics:
        grid.add_row(metric, *(str(row[metric]) if metric in row else "" for row in table.values()))
    screen = console()
    screen.print(grid)
    for metric, score in table["fine-tuned"].items():
        screen.print(f"{metric}: {score.signature}", style="dim", soft_wrap=True)


def show_tables(tables: Mapping[str, list[dict]]) -> None:
    """Tables of plain rows on standard output, numbers to the right."""
    from rich.table import Table

    screen = console()
    for title, rows in tables.items():
        grid = Table(title=title, title_justify="left")
        for place, (heading, cell) in enumerate(rows[0].items()):
            side = "right" if type(cell) is int else "left"
            grid.add_column(heading, justify=side, overflow="fold", no_wrap=place == 0)
        for row in rows:
            grid.add_row(*(f"{cell:,}" if type(cell) is int else str(cell) for cell in row.values()))
        screen.print(grid)


def console():
    """A console that prints stories' own brackets and colons as they are."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110, markup=False, emoji=False, highlight=False)


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; what the user can put right is one line and exit code 2."""
    from storylib.runtime import quiet

    quiet()
    try:
        app()
    except (UserError, OSError) as error:
        say(f"error: {str(error).strip().splitlines()[0]}")
        sys.exit(2)


if __name__ == "__main__":
    main()
