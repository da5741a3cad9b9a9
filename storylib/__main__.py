"""The command line: thin, typed. `python -m storylib --help` lists it."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from storylib import config, terminal
from storylib.emoji import name, three
from storylib.errors import UserError
from storylib.files import DATA
from storylib.runs import runs_folder
from storylib.storyteller import SHIPPED_ADAPTER
from storylib.terminal import say

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RUNS = runs_folder()


@app.callback()
def start() -> None:
    """Stories from fine-tuned language models, on a laptop or a T4."""


@app.command()
def tell(
    wanted: Annotated[str, typer.Argument(help="Who, where, what about: 🦔🏰📚; or words, for another adapter.")],
    seed: Annotated[int, typer.Option(help="Another number, another story.")] = 0,
    stream: Annotated[bool, typer.Option("--stream", help="Show sentences as they are written.")] = False,
    adapter: Annotated[Path, typer.Option(help="A fine-tuned adapter or model.")] = SHIPPED_ADAPTER,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Let through what is unfit for children.")] = False,
) -> None:
    """Tell a bedtime story for three emojis; the story alone goes to standard output.

    An adapter of another job takes a genre ("horror"), wishes ("character: a shy fox; tone: warm") or a story's first
    sentence. A story with something in it that is unfit for children is told again, up to five times.
    """
    from storylib.runs import read_card
    from storylib.storyteller import prompt_for, storyteller

    if (adapter / "run.json").exists():  # torch takes seconds to load: what is wrong is said before
        card = read_card(adapter / "run.json")
        prompt_for(wanted, card)
        if card["recipe"]["corpus"] == "emoji":
            check_emojis(wanted, card["emojis"], unchecked)
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        print(text, end="", flush=True)

    story = storyteller(adapter, safe=not unchecked)(wanted, seed=seed, on_text=show if stream else None)
    if "".join(shown) == story.text:
        print()
        return
    if shown:
        say("\nwhat came next is unfit for children; another story instead:")
    print(story.text)


def check_emojis(wanted: str, known: Mapping[str, str], unchecked: bool) -> None:
    """A warning for an emoji that no story had; UserError for one that asks for what is unfit for children."""
    from storylib import gate

    for emoji in three(wanted):
        if not unchecked:
            gate.check_prompt(name(emoji))
        if emoji not in known:
            say(f"{emoji} was in none of the training stories; its name is used: {name(emoji)}")


@app.command()
def finetune(
    recipe: Annotated[str, typer.Argument(help="A recipe such as emoji/cpu, or its job: emoji.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder, new or with this very run unfinished.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Another number of passes over the stories.")] = None,
    data: Annotated[str | None, typer.Option(help="Your own JSONL, CSV or folder, or a Hub data set.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value of the recipe: train.learning_rate=1e-4, base=NAME."),
    ] = None,
    from_feedback: Annotated[Path | None, typer.Option(help="Readers' judgements to learn from: a store.")] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="What learns from feedback; else the recipe's run, or what ships.")
    ] = None,
) -> None:
    """Teach a base model a corpus with 4-bit LoRA; the adapter, log, samples and plot land in one folder.

    With --from-feedback an adapter that the recipe has trained learns what readers prefer; it stays as it is, and a
    new one is made. A run that was cut off goes on from its last checkpoint when the same command is given again.
    """
    chosen = config.recipe(recipe)
    own = RUNS / chosen.name.replace("/", "-")
    if from_feedback is None:
        if adapter is not None:
            raise UserError(
                f"{adapter} can learn from feedback alone: add --from-feedback STORE, or leave out --adapter"
            )
        chosen = changed(chosen, epochs, data, setting or ())
        learn, out = partial(teach, chosen), out or own
    else:
        if data is not None:
            raise UserError(f"what is learnt from is the feedback: leave out --data {data}")
        if setting:
            raise UserError(f"feedback teaches an adapter as its own recipe has it: leave out --set {setting[0]}")
        out = out or own.with_name(f"{own.name}-feedback")
        learn = partial(teach_taste, chosen, adapter or trained_adapter(own, chosen), from_feedback, epochs)
    with stoppable():
        trained = learn(out)
    from storylib import plots
    from storylib.parallel import processes

    if not processes().is_main_process:
        return
    curves = plots.training_curve(trained.log)
    if from_feedback is not None:
        curves[0].set_ylabel("nats per pair")
    plots.save(curves[0].figure, out / "training.png")
    say(f"{trained.run.result.name}: {trained.run.result}\nlog:     {trained.run.log}\nplot:    {out / 'training.png'}")
    if chosen.corpus == "languages":
        compare_languages(chosen, trained.run.result)


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C in the block says how to go on: typer would end without a word."""
    try:
        yield
    except KeyboardInterrupt as stop:
        say(str(stop) or "stopped at once; what was saved before is kept")
        say(f"go on with: python -m storylib {shlex.join(sys.argv[1:])}")
        raise typer.Exit(130) from None


def changed(recipe: config.Recipe, epochs: float | None, data: str | None, settings: Sequence[str]) -> config.Recipe:
    """The recipe with the user's own epochs, data and settings."""
    for setting in settings:
        key, mark, value = setting.partition("=")
        if not mark:
            raise UserError(f"--set takes NAME=VALUE, such as train.learning_rate=1e-4, got {setting!r}")
        recipe = config.with_setting(recipe, key, value)
    if epochs is not None:
        recipe = replace(recipe, train=replace(recipe.train, epochs=epochs))
    return recipe if data is None else replace(recipe, data=recipe.data | {"source": data})


def trained_adapter(run: Path, recipe: config.Recipe) -> Path:
    """What the recipe's own run ended with, else what ships for it; UserError where there is neither."""
    if (run / "adapter").is_dir():
        return run / "adapter"
    if recipe.lora and recipe.base == config.EMBEDDED_BASE:
        return shipped_adapter(recipe)
    train = f"python -m storylib finetune {recipe.name}"
    raise UserError(f"no adapter of {recipe.name} in {run} to go on from: train one ({train}), or name one: --adapter")


def teach(recipe: config.Recipe, out: Path):
    from storylib.training import finetune

    return finetune(recipe, out, say=say)


def teach_taste(recipe: config.Recipe, adapter: Path, store: Path, epochs: float | None, out: Path):
    from storylib.feedback import as_pairs

    as_pairs(store)  # before torch, which takes seconds to load
    from storylib.preference import PreferenceSettings, finetune_from_feedback

    settings = PreferenceSettings() if epochs is None else PreferenceSettings(epochs=epochs)
    return finetune_from_feedback(recipe, adapter, store, out, settings, say=say)


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

    with stoppable():
        runs = {level: run for level, run in train_levels(chosen, out, say=say).items() if run}
    from storylib.parallel import processes

    if not processes().is_main_process:
        return
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
    terminal.show_tables({"Recipes": rows})


@app.command()
def evaluate(
    job: Annotated[str, typer.Argument(help="The recipe that the models were trained by, or its job: emoji.")],
    adapter: Annotated[
        list[str] | None, typer.Option(help="A fine-tuned model, its run or its levels, as [NAME=]FOLDER.")
    ] = None,
    stories: Annotated[list[str] | None, typer.Option(help="Anybody's stories, as [NAME=]FILE: JSONL or CSV.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the scores, the stories and the plot.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Stories per test prompt; as many as make 60.")] = None,
) -> None:
    """Score systems side by side: fine-tuned models with their untuned base, and stories from anywhere.

    With --stories alone no model is needed. Any option may be given several times.
    """
    recipe = config.recipe(job)
    out = out or RUNS / f"{recipe.name.replace('/', '-')}-scores"
    if (out / "scores.json").exists():
        raise UserError(f"{out} already holds scores; choose another folder with --out")
    if not (adapter or stories):
        adapter = [str(shipped_adapter(recipe))]
    from storylib import data, evaluation, plots, scoreboard

    models = evaluation.all_models([named(folder) for folder in adapter or ()])
    told: dict[str, evaluation.System] = {}
    taken = {"untuned base", *models} if models else set()
    for called, file in map(named, stories or ()):
        found = evaluation.read_told(file, called or file.stem)
        if twice := found.keys() & (taken | told.keys()):
            raise UserError(f"two systems are called {min(twice)}; name them, such as --stories theirs={file}")
        told |= found
    systems = (evaluation.models_told(recipe, models, seeds, say) if models else {}) | told
    rows = data.load(recipe.corpus, **recipe.data)
    cases = evaluation.cases(rows["test"])
    board = scoreboard.score_systems(systems, cases, rows["train"]["completion"], recipe.data.get("language", "en"))
    facts = {"job": recipe.name, "models": {model: str(path) for model, path in models.items()}}
    scoreboard.write_board(out, board, facts)
    plots.save(plots.score_bars(scoreboard.shortlist(board.table))[0].figure, out / "scores.png")
    terminal.show_board(board)
    files = {"scores": "scores.json", "table": "scores.md", "stories": "stories.jsonl", "plot": "scores.png"}
    if any(case.label for case in cases):
        try:
            find_contents(out, {"training data": evaluation.as_system(rows["train"])} | systems, cases)
            files |= {"contents": "contents.md"}
        except UserError as error:  # the scores are there all the same
            say(error)
    print("\n" + "\n".join(f"{what + ':':<9} {out / file}" for what, file in files.items()))


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="Folder of scores.")],
    other: Annotated[Path, typer.Argument(help="Folder of the scores that they are compared with.")],
    system: Annotated[str, typer.Option(help="Whose scores, in both.")] = "fine-tuned",
) -> None:
    """Is one evaluation better than another, worse, or can't we tell? Both must have told for the same prompts."""
    from storylib import scoreboard

    tables, prompts = zip(*(scoreboard.read_board(folder) for folder in (run, other)), strict=True)
    for folder, table in zip((run, other), tables, strict=True):
        if system not in table:
            raise UserError(f"no system {system!r} in {folder}; there are {', '.join(table)}")
    names = (str(run), str(other))
    found = scoreboard.versus(
        {name: table[system] for name, table in zip(names, tables, strict=True)},
        {name: told[system] for name, told in zip(names, prompts, strict=True) if system in told},
        *names,
    )
    if not found:
        raise UserError(f"{run} and {other} have no measure over the same prompts in common; evaluate both alike")
    rows = [
        {"measure": measure, "difference": str(gap), "verdict": scoreboard.verdict(measure, gap)}
        for measure, gap in found.items()
    ]
    terminal.show_tables({f"{run} against {other}": rows})


def named(value: str) -> tuple[str, Path]:
    """A name and a path from NAME=PATH; a path alone has the name ""."""
    name, mark, path = value.partition("=")
    return (name, Path(path)) if mark and not Path(value).exists() else ("", Path(value))


def shipped_adapter(recipe: config.Recipe) -> Path:
    """The adapter in `data` for a recipe's job; UserError where there is none."""
    job = recipe.name.split("/")[0]
    folder = DATA / "adapters" / (f"{job}-{recipe.data['language']}" if job == "language" else job)
    from storylib.runs import read_card

    if not folder.exists() or read_card(folder / "run.json")["recipe"]["name"] != recipe.name:
        raise UserError(
            f"no adapter for {recipe.name} ships: train one (storylib finetune), then name it with --adapter"
        )
    return folder


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
    terminal.show_tables(found.tables())
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


@app.command()
def sheet(
    stories: Annotated[Path, typer.Argument(help="Stories of one or more systems, as `evaluate` writes them.")],
    out: Annotated[Path, typer.Option(help="The new sheet, a .csv file; its key is written beside it.")],
    pairs: Annotated[bool, typer.Option("--pairs", help="Ask which of two systems' stories is better.")] = False,
    seed: Annotated[int, typer.Option(help="Another number, another order and choice.")] = 0,
    per_prompt: Annotated[int | None, typer.Option(min=1, help="Of each system for a prompt, at most.")] = None,
) -> None:
    """Write a sheet on which people rate stories without knowing who told them."""
    from storylib import ratings
    from storylib.evaluation import read_told

    told = {name: system.stories for name, system in read_told(stories, stories.stem).items()}
    blinded = (ratings.blind_pairs if pairs else ratings.blind)(told, seed, per_prompt)
    key = ratings.write_sheet(blinded, out)
    for note in blinded.notes:
        say(note)
    print(f"{ratings.guide(blinded.key)}\n\nsheet: {out} ({len(blinded.rows)} rows)")
    print(f"key:   {key} (raters must not see it)")


@app.command()
def ratings(
    answers: Annotated[list[Path], typer.Argument(help="Sheets filled in, each named after its rater; stores, too.")],
    key: Annotated[Path | None, typer.Option(help="The .key.json that was written beside the sheet.")] = None,
    store: Annotated[Path | None, typer.Option(help="Keep the answers in this store of feedback as well.")] = None,
) -> None:
    """Show what people's ratings say of each system, and how far the raters agree."""
    from storylib import ratings
    from storylib.feedback import FeedbackStore

    found = ratings.read_answers(answers, None if key is None else ratings.read_key(key))
    terminal.show_ratings(found)
    if store is not None:
        ties = ratings.keep(found, FeedbackStore(store))
        say(f"kept in {store}" + (f", but for {ties} ties, which it has no place for" if ties else ""))


@app.command("generate")
def generate_stories(
    prompts: Annotated[Path, typer.Argument(help="JSONL or CSV: a prompt or emojis in each row, and an id if any.")],
    out: Annotated[Path, typer.Option(help="JSONL that stories are appended to; told ones are not told again.")],
    adapter: Annotated[Path, typer.Option(help="A fine-tuned adapter or model.")] = SHIPPED_ADAPTER,
    seeds: Annotated[int, typer.Option(min=1, help="Stories per prompt, by seeds 0, 1, …")] = 1,
    job: Annotated[str | None, typer.Option(help="Whose settings choose the words; else the adapter's recipe.")] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Let vLLM write, on a GPU.")] = False,
) -> None:
    """Tell a story for each row of a file; under `accelerate launch` the rows are shared out.

    The same command goes on after a kill: no story is told twice, and none is lost.
    """
    from storylib.runs import read_card, text_hash

    card = adapter / "run.json"
    taught = read_card(card) if card.exists() else {"emojis": {}, "recipe": {"name": "emoji/cpu", "data": {}}}
    settings = config.recipe(job or taught["recipe"]["name"]).generate
    from storylib import bulk, models

    asked = bulk.Prompts(prompts, seeds, taught["emojis"], taught["recipe"]["data"].get("names", True))
    hashes = {"prompts": text_hash(ask.prompt for ask in asked if not ask.seed)}
    if vllm:
        from storylib import vllm_backend

        model, tokenizer = vllm_backend.load(adapter)
    else:
        model, tokenizer = models.load_finetuned(adapter)
    hashes["model"] = models.weights_hash(str(adapter))
    total = bulk.tell_all(model, tokenizer, asked, settings, bulk.Shelf(out), hashes)
    say(f"stories: {out} ({total:,})")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of an adapter.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and model_card.md; else the run's.")] = None,
    scores: Annotated[Path | None, typer.Option(help="What `evaluate` wrote; else looked for in the run.")] = None,
) -> None:
    """Put a run on one page: curves, samples, scores, versions, hashes; and write the model's card from the same."""
    from storylib import facts, run_report

    found = facts.gather(run, scores)
    print(*run_report.write_report(found, out or found.folder), sep="\n")


@app.command()
def merge(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of its adapter.")],
    out: Annotated[Path, typer.Option(help="The new folder, for a model that needs neither PEFT nor the base.")],
    precision: Annotated[str, typer.Option(help="float16 or bfloat16.")] = "float16",
    licence: Annotated[str, typer.Option(help="For the card, as the Hub calls it: apache-2.0.")] = "",
) -> None:
    """Merge an adapter into its whole base, never into 4-bit weights, and score the result again."""
    from storylib import merging

    merging.merge(run, out, precision, licence, say)
    print(out)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A run, an adapter, a merged model, or a corpus.")],
    name: Annotated[str, typer.Argument(help="What it is to be called: user/name.")],
    upload: Annotated[bool, typer.Option("--upload", help="Do it; else it is only said what would be done.")] = False,
    public: Annotated[bool, typer.Option("--public", help="A new repository for everybody to see.")] = False,
    licence: Annotated[str, typer.Option(help="For a card without one, as the Hub calls it: apache-2.0.")] = "",
) -> None:
    """Put a model or a corpus on the Hugging Face Hub; without --upload say what would go there and what is missing."""
    from storylib import sharing

    planned = sharing.plan(folder, name, licence)
    print(planned)
    if upload:
        print(sharing.push(planned, not public, say))
    else:
        say("nothing was uploaded; add --upload" + (" once nothing is missing" if planned.missing else ""))


def given(options: Mapping[str, object]) -> dict[str, object]:
    """The options that were given a value."""
    return {name: value for name, value in options.items() if value is not None}


def find_contents(out: Path, systems, cases) -> None:
    """How stories of several genres feel, and their words and topics: counts on standard output, the rest in `out`."""
    from storylib import contents, plots

    prompts = {case.prompt for case in cases}
    known = {who: system for who, system in systems.items() if prompts.issuperset(s.prompt for s in system.stories)}
    for who in systems.keys() - known.keys():
        say(f"{who} is left out of the contents: no genre is known of its prompts; give those of the test")
    found = contents.find_contents(contents.scenarios_of(known, cases))
    contents.write_contents(out, found)
    for note in found.notes:
        say(note)
    plots.save(plots.sentiment_bars(found.sentiment.ending)[0].figure, out / "sentiment.png")
    plots.save(plots.word_bars(found.words)[0].figure, out / "words.png")
    for number, topics in enumerate(found.topics.values()):
        plots.save(plots.topic_bars(topics)[0].figure, out / f"topics-{number}.png")
    terminal.show_feelings(found.sentiment.ending)


def compare_languages(recipe: config.Recipe, result: Path) -> None:
    """What a run on one language did to all of them, on standard output."""
    from storylib.evaluation import languages_read

    terminal.show_languages(*languages_read(recipe, {"fine-tuned": result}).values())


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
