"""The same job taught more and more: nothing, 30 % of the stories once, all of them once, all of them three times."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import Dataset, DatasetDict

from storylib import data
from storylib.config import Recipe
from storylib.errors import UserError
from storylib.training import Trained, finetune


@dataclass(frozen=True)
class Level:
    """How much of the training stories is seen, and how often."""

    name: str  # also the name of its folder
    share: float  # of the training rows
    epochs: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or (self.share > 0) != (self.epochs > 0):
            raise UserError(f"a level has a share in [0, 1] and as many epochs as make sense of it, got {self}")


LEVELS = (Level("none", 0, 0), Level("30-percent", 0.3, 1), Level("all-once", 1, 1), Level("all-three-times", 1, 3))


def train_levels(
    recipe: Recipe,
    out: Path,
    levels: Sequence[Level] = LEVELS,
    dataset: DatasetDict | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Trained | None]:
    """The run of each level by its name, in folders of `out`; None for the untrained base.

    Every level starts from the base: a learning rate that falls over the run makes one epoch something else than the
    first of three. A call that was cut off goes on when it is made again. Raises what `finetune` raises.
    """
    dataset = dataset or data.load(recipe.corpus, **recipe.data)
    runs: dict[str, Trained | None] = {}
    for level in levels:
        part = DatasetDict(dataset | {"train": sample(dataset["train"], level.share, recipe.train.seed)})
        taught = replace(recipe, train=replace(recipe.train, epochs=level.epochs)) if level.epochs else None
        runs[level.name] = finetune(taught, Path(out) / level.name, part, say=say) if taught else None
    return runs


def sample(rows: Dataset, share: float, seed: int, by: str = "label") -> Dataset:
    """`share` of the rows of each `by`, the same for a seed, in their order; a smaller share is part of a larger.

    Rows without such a column are one group.
    """
    groups: dict[object, list[int]] = {}
    for number, group in enumerate(rows[by] if by in rows.column_names else [None] * len(rows)):
        groups.setdefault(group, []).append(number)
    shuffled = {
        group: random.Random(f"{seed}-{group}").sample(numbers, len(numbers)) for group, numbers in groups.items()
    }
    kept = [number for numbers in shuffled.values() for number in numbers[: round(share * len(numbers))]]
    return rows.select(sorted(kept))
