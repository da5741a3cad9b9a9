"""Any metric of ours as an `evaluate.Metric`, for `evaluate.combine` and other tools that take one. Nothing is loaded
from the network.

>>> from storylib.metrics import bleu, distinct_n
>>> both = evaluate.combine([as_metric(bleu, average="story"), as_metric(distinct_n, length=4)])
>>> found = both.compute(predictions=["The fox ran home."], references=[["The fox ran home."]])
>>> round(found["bleu"]), found["distinct_n"]
(100, 1.0)
"""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature

import evaluate
from datasets import Features, List, Value

from storylib.errors import UserError
from storylib.metrics.score import Score

COLUMNS = {  # a parameter with a value for each story: its name in `evaluate`, and its type
    "hypotheses": ("predictions", Value("string")),
    "stories": ("predictions", Value("string")),
    "texts": ("predictions", Value("string")),
    "references": ("references", List(Value("string"))),
    "concepts": ("concepts", List(Value("string"))),
    "ended": ("ended", Value("string")),
    "prompts": ("prompts", Value("string")),
}
NAMES = {name for name, _ in COLUMNS.values()}


def as_metric(function: Callable, **options) -> evaluate.Metric:
    """The metric as an `evaluate.Metric`; `options` go to it at each call.

    function: one that gives a Score, or an object whose `scores()` gives several by name, such as `perplexity`. What it
        needs for each story becomes an input of `compute`: hypotheses, stories and texts are `predictions` there, and
        references, concepts, ended and prompts keep their names.

    The result has for each score its value under the metric's name, and `_low`, `_high` and `_signature` behind it.
    Raises UserError for an option that the metric does not have, and for an option or input that it needs and lacks.
    """
    return StoryMetric(function, options)


class StoryMetric(evaluate.Metric):
    """See `as_metric`."""

    def __init__(self, function: Callable, options: Mapping) -> None:
        self.function, self.options = function, options
        self.parameters = {name: part for name, part in signature(function).parameters.items() if name in COLUMNS}
        check_options(function, options)
        super().__init__(keep_in_memory=True)
        self.info.module_name = function.__name__

    def _info(self) -> evaluate.MetricInfo:
        needed = [COLUMNS[name] for name, part in self.parameters.items() if part.default is Parameter.empty]
        return evaluate.MetricInfo(
            description=self.function.__doc__,
            citation="",
            inputs_description=f"\n\n{self.function.__doc__}",
            features=Features(dict(needed)),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Add the stories of a batch, and what else is needed for each of them."""
        given = {"predictions": predictions, "references": references, **kwargs}
        if missing := [name for name in self.features if given.get(name) is None]:
            raise UserError(f"{self.name} needs {' and '.join(missing)}: a list with one for each story")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, **columns) -> dict[str, float | str | None]:
        # `combine` hands the columns of each metric to all of them
        if unknown := sorted(columns.keys() - NAMES):
            raise UserError(f"give {', '.join(unknown)} to as_metric; compute takes {', '.join(sorted(NAMES))}")
        given = {name: columns[COLUMNS[name][0]] for name in self.parameters if COLUMNS[name][0] in columns}
        found = self.function(**given, **self.options)
        scores = {self.name: found} if isinstance(found, Score) else found.scores()
        return {key: value for name, score in scores.items() for key, value in named(name, score).items()}


def check_options(function: Callable, options: Mapping) -> None:
    name = function.__name__
    parts = {key: part for key, part in signature(function).parameters.items() if key not in COLUMNS}
    if unknown := sorted(options.keys() - parts.keys()):
        raise UserError(f"{name} has no option {', '.join(unknown)}; there are {', '.join(parts) or 'none'}")
    if missing := [key for key, part in parts.items() if part.default is Parameter.empty and key not in options]:
        raise UserError(f"{name} needs {', '.join(missing)}: as_metric({name}, {missing[0]}=…)")


def named(name: str, score: Score) -> dict[str, float | str | None]:
    parts = {"": score.value, "_low": score.low, "_high": score.high, "_signature": score.signature}
    return {name.replace(" ", "_") + part: value for part, value in parts.items()}
