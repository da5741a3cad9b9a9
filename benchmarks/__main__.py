"""All benchmarks, or those that are named: `python -m benchmarks [generation training …] [--size laptop]`."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.runner import SIZES, draw, keep, table
from storylib.errors import UserError
from storylib.runtime import quiet

HERE = Path(__file__).resolve().parent
TABLES = ("training", "generation", "perplexity", "data_prep")  # each a module with rows(size)
OTHERS = ("growth", "cold_start")  # each a module with measure(size), which writes and draws what it finds


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(TABLES + OTHERS)}; all by default.")] = None,
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.")] = "laptop",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = HERE,
    figures: Annotated[Path, typer.Option(help="Folder of the pictures.")] = HERE.parent / "figures",
) -> None:
    """Run benchmarks, print their table, and write results.json and the pictures."""
    names = names or [*TABLES, *OTHERS]
    if unknown := set(names) - set(TABLES + OTHERS) or {size} - set(SIZES):
        raise UserError(f"no {unknown.pop()!r}; there are {', '.join(TABLES + OTHERS)}, in sizes {', '.join(SIZES)}")
    quiet()
    import torch  # here, not above: processes that only prepare data do without, and quiet() comes before it

    torch.set_num_threads(SIZES[size].threads)
    for folder in (out, figures):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(name, flush=True)
        module = import_module(f"benchmarks.{name}")
        if name in TABLES:
            rows = keep(out / "results.json", module.rows(SIZES[size]), size)
            print(table(rows), flush=True)
            draw(rows, figures / "benchmarks.png")
        else:
            module.measure(SIZES[size], out, figures)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
