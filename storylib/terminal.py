"""What the command line shows: tables on standard output, and what it says meanwhile on standard error."""

import sys
from collections.abc import Mapping


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


def show_board(board) -> None:
    """The score table on standard output, some stories, and how sure it is that fine-tuning changed anything."""
    from rich.table import Table

    from storylib import scoreboard

    grid = Table("", *board.table, title=f"value [95 % interval]; {scoreboard.OVERLAP}")
    for measure in dict.fromkeys(measure for row in board.table.values() for measure in row):
        cells = (row.get(measure) for row in board.table.values())
        grid.add_row(measure, *(scoreboard.shown(measure, score) if score else "" for score in cells))
    screen = console()
    screen.print(grid)
    for note in board.notes:
        screen.print(note, style="dim", soft_wrap=True)
    for system, words in scoreboard.verdicts(board).items():
        for word in dict.fromkeys(words.values()):
            screen.print(f"{system}: {word} in {', '.join(m for m in words if words[m] == word)}", soft_wrap=True)
    told = {story.prompt: story.text for story in reversed(list(board.systems.values())[-1].stories)}
    for prompt, text in list(reversed(told.items()))[:3]:
        print(f"\n{prompt.strip()}\n{text}")


def show_ratings(answers) -> None:
    """What people said, how far they agree, and what does not count, on standard output."""
    from storylib.metrics.ratings import summarise

    found = summarise(answers.ratings, answers.choices)
    scores: dict[str, object] = {}
    tables: dict[str, list[dict]] = {}
    if found.means:
        columns = found.means | {"agreement (alpha)": found.agreement}
        scores |= {f"{column}, {name}": score for column, row in columns.items() for name, score in row.items()}
        tables["Mean rating, 1 to 5 [95 % interval]"] = [
            {"criterion": name} | {column: str(row.get(name, "")) for column, row in columns.items()}
            for name in found.agreement
        ]
    if found.wins:
        pairs = {f"{system} wins over {other}": rate for (system, other), rate in found.wins.items()}
        pairs |= {"the left is preferred": found.left or "only ties", "agreement (alpha)": found.agreement["better"]}
        scores |= pairs
        tables["Pairs, share [95 % interval]"] = [{"": name, "figure": str(score)} for name, score in pairs.items()]
    unclear = [{"case": f"missing, {rater}", "cells": count, "where": ""} for rater, count in answers.missing.items()]
    unclear += [
        {"case": case, "cells": len(places), "where": "; ".join(places[:3]) + (" …" if len(places) > 3 else "")}
        for case, places in answers.cases.items()
    ]
    show_tables(tables | ({"Missing, or set aside": unclear} if unclear else {}))
    for label, score in scores.items():
        score = getattr(score, "score", score)  # an agreement's
        if hasattr(score, "signature"):
            console().print(f"{label}: {score.signature}", style="dim", soft_wrap=True)


def show_feelings(feelings) -> None:
    """How stories end, counted by system and genre."""
    rows = [
        {"system": system, "genre": genre, "positive": f.positive, "negative": f.negative, "neutral": f.neutral}
        for system, genres in feelings.items()
        for genre, f in genres.items()
    ]
    show_tables({"How stories end": rows})


def show_languages(before, after) -> None:
    """Bits per byte of each language's stories before a run and after it."""
    rows = [
        {"language": code, "before": f"{before[code].bits_per_byte:.2f}", "after": f"{after[code].bits_per_byte:.2f}"}
        for code in before
    ]
    show_tables({"Bits per byte of the same stories in each language": rows})


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
