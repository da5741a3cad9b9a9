"""A table as a notebook shows it: rows of plain values, in a page and in plain text alike."""

import html
from collections.abc import Mapping, Sequence

from storylib.errors import UserError


class Table:
    """Rows with the same keys or some of them, which are the headings; numbers stand to the right.

    >>> Table([{"corpus": "emoji", "rows": 1785}, {"corpus": "genres", "split": "test"}])
    corpus   rows  split
    emoji   1,785
    genres         test
    """

    def __init__(self, rows: Sequence[Mapping[str, object]]) -> None:
        if not rows:
            raise UserError("a table needs at least one row")
        self.headings = list(dict.fromkeys(heading for row in rows for heading in row))
        self.cells = [[shown(row.get(heading, "")) for heading in self.headings] for row in rows]
        self.right = [any(is_number(row.get(heading)) for row in rows) for heading in self.headings]

    def __repr__(self) -> str:
        lines = [self.headings, *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        pads = [f"{{:{'>' if right else '<'}{width}}}" for right, width in zip(self.right, widths, strict=True)]
        return "\n".join("  ".join(pads).format(*line).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        sides = [f' style="text-align:{"right" if right else "left"};vertical-align:top"' for right in self.right]

        def line(cells: Sequence[str], tag: str) -> str:
            pairs = zip(cells, sides, strict=True)
            return "<tr>" + "".join(f"<{tag}{side}>{html.escape(cell)}</{tag}>" for cell, side in pairs) + "</tr>"

        body = "".join(line(cells, "td") for cells in self.cells)
        return f"<table><thead>{line(self.headings, 'th')}</thead><tbody>{body}</tbody></table>"


def progress(log: Sequence[Mapping[str, float]]) -> dict[str, object]:
    """What a run's log comes to: its steps, and losses at its first and its last evaluation or step.

    >>> progress([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_loss": 2.5}])
    {'steps': 2, 'first loss': '3.00', 'last loss': '2.00', 'held out, first': '2.50', 'held out, last': '2.50'}
    """
    losses = [row["loss"] for row in log if "loss" in row]
    held_out = [row["eval_loss"] for row in log if "eval_loss" in row]
    ends = {"first loss": losses[:1], "last loss": losses[-1:]}
    ends |= {"held out, first": held_out[:1], "held out, last": held_out[-1:]}
    return {"steps": len(losses)} | {name: f"{found[0]:.2f}" if found else "" for name, found in ends.items()}


def shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
