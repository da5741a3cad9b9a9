"""Draw the numbers it is handed on given or new Axes; return the Axes. In a notebook `picture(axes, alt)` shows it."""

import base64
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from storylib.errors import UserError
from storylib.files import atomic_path
from storylib.metrics import Feelings, Score, Topics, TopWords

# Okabe and Ito's palette, told apart with every common colour blindness
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000 #E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7".split()
)
BARS = (SKY, GREEN, PURPLE, YELLOW, ORANGE, "#999999")  # none that a line has
LINES = {"floor": VERMILION, "ceiling": BLUE}  # ends of a scale, drawn across the bars
FEELINGS = {"positive": BLUE, "negative": VERMILION, "neutral": "#BBBBBB"}
OUTLINES = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, YELLOW, BLACK)
FONTS = [  # matplotlib's own, and those for Chinese and Japanese that systems have
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("IPAGothic", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "MS Gothic"),
]
COLUMNS = 3  # panels side by side
CURVES = {  # what a log holds of each step -> title and unit
    "loss": ("Loss", "nats per token"),
    "grad_norm": ("Gradient norm", ""),
    "learning_rate": ("Learning rate", ""),
    "tokens_per_second": ("Speed", "tokens per second"),
}

Log = Sequence[Mapping[str, float]]


def training_curve(logs: Log | Mapping[str, Log], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """What each optimizer step logged, a panel each, faint as logged and bold smoothed: loss (nats per token, with the
    held-out loss as points), gradient norm, learning rate, and tokens per second.

    logs: the log of one run, or several runs' by name, drawn over each other: one dict per step with `step` and any of
        the numbers. Of one run alone the beginning of each epoch is marked.
    axes: as many Axes as are wanted, one to four. Raises UserError for more, and for a log without a loss.
    """
    runs = logs if isinstance(logs, Mapping) else {"training": logs}
    for name, log in runs.items():
        if not len(series(log, "loss")[0]):
            raise UserError(f"the log of {name} has {len(log)} rows and no loss; train for at least one step")
    axes = panels(len(CURVES) if axes is None else min(np.size(axes), len(CURVES)), axes, columns=2, height=2.6)
    for panel, (key, (title, unit)) in zip(axes, CURVES.items(), strict=False):
        for color, (name, log) in zip(cycle(OUTLINES), runs.items(), strict=False):
            if key == "learning_rate":  # smooth as it is
                panel.plot(*series(log, key), color=color, linewidth=2)
            else:
                draw_smoothed(panel, *series(log, key), color, name)
            held_out = series(log, "eval_loss")
            if key == "loss" and len(held_out[0]):
                dots = VERMILION if len(runs) == 1 else color
                panel.plot(*held_out, "o", markeredgecolor="white", zorder=3, color=dots)
        if len(runs) == 1:
            mark_epochs(panel, *runs.values())
        panel.set(title=title, xlabel="step", ylabel=unit)
        if key != "loss":
            panel.set_ylim(0, None)
    handles, _ = axes[0].get_legend_handles_labels()
    if any(series(log, "eval_loss")[0].size for log in runs.values()):
        dots = VERMILION if len(runs) == 1 else BLACK
        handles.append(Line2D([], [], marker="o", linestyle="", color=dots, markeredgecolor="white", label="held out"))
    if len(runs) == 1:
        axes[0].legend(handles=handles, frameon=False, fontsize=8)
    else:
        axes[0].figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8
        )
    return axes


def mark_epochs(panel: Axes, log: Log) -> None:
    """A faint line where each epoch but the first begins."""
    last = 1
    for row in log:
        if row.get("epoch", 0) >= last + 1e-6:
            panel.axvline(row["step"], color=BLACK, alpha=0.2, linewidth=0.8, linestyle=":")
            last = math.floor(row["epoch"] + 1e-6) + 1


def score_bars(table: Mapping[str, Mapping[str, Score]], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """A panel per metric: a bar per system with its value and its 95 % interval; floor and ceiling as dashed lines.

    table: system -> metric -> score, such as evaluation makes; a system may lack a metric.
    axes: as many Axes as there are metrics. Raises UserError for another number, and for a table without scores.
    """
    metrics = list(dict.fromkeys(metric for row in table.values() for metric in row))
    if not metrics:
        raise UserError("the table has no scores; it maps system -> metric -> Score")
    systems = [system for system in table if system not in LINES]
    axes = panels(len(metrics), axes, columns=COLUMNS, height=1.3 + 0.35 * max(2, len(systems)))
    for number, (panel, metric) in enumerate(zip(axes, metrics, strict=True)):
        scores = {system: row[metric] for system, row in table.items() if metric in row}
        draw_bars(panel, systems, scores)
        draw_scale(panel, scores)
        panel.set_title(panel_title(metric), fontsize=10.5, pad=18 if set(scores) & set(LINES) else 6)
        panel.tick_params(axis="y", length=0, labelleft=number % COLUMNS == 0)
    return axes


def sentiment_bars(table: Mapping[str, Mapping[str, Feelings]], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How many stories feel good, bad and neither, a panel per genre, with Wilson's 95 % interval on each count.

    table: scenario -> genre -> feelings, one of the two views of `sentiment_by_genre`; a scenario may lack a genre.
    Stories without text or in another language are named behind the bars.
    axes: as many Axes as there are genres. Raises UserError for another number, and for a table without genres.
    """
    genres = list(dict.fromkeys(genre for row in table.values() for genre in row))
    if not genres:
        raise UserError("the table has no genres; it maps scenario -> genre -> Feelings")
    shown = [
        f for f in FEELINGS if f != "neutral" or any(row.neutral for found in table.values() for row in found.values())
    ]
    axes = panels(len(genres), axes, columns=COLUMNS, height=1.2 + 0.26 * len(shown) * max(2, len(table)))
    for number, (panel, genre) in enumerate(zip(axes, genres, strict=True)):
        rows = [(place, row[genre]) for place, row in enumerate(table.values()) if genre in row]
        for place, feelings in rows:
            draw_feelings(panel, place, feelings, shown)
        panel.set(title=genre.replace("_", " "), xlabel="stories", ylim=(len(table) - 0.5, -0.5))
        panel.set_xlim(0, 1.3 * max(1, *(feelings.told for _, feelings in rows)))
        panel.set_yticks(range(len(table)), table)
        panel.tick_params(axis="y", length=0, labelleft=number % COLUMNS == 0)
        panel.grid(axis="y", visible=False)
    handles = [Patch(color=FEELINGS[feeling], label=feeling) for feeling in shown]
    axes[0].figure.legend(handles=handles, loc="outside lower center", ncols=len(shown), frameon=False, fontsize=8)
    return axes


def draw_feelings(panel: Axes, place: int, feelings: Feelings, shown: Sequence[str]) -> None:
    """The bars of one scenario and genre around their place."""
    height = 0.8 / len(shown)
    left = ", ".join(f"{count} {reason}" for reason, count in feelings.left.items() if count)
    for number, feeling in enumerate(shown if feelings.told else ()):
        middle, score, count = (
            place - 0.4 + height * (number + 0.5),
            feelings.share(feeling),
            getattr(feelings, feeling),
        )
        low, high = (feelings.told * end for end in (score.low, score.high))
        panel.barh(middle, count, height=0.9 * height, color=FEELINGS[feeling])
        panel.plot([low, high], [middle, middle], color=BLACK, linewidth=1, marker="|", markersize=5)
        note = f"{count}   ({left})" if left and not number else count
        panel.annotate(note, (high, middle), (5, 0), textcoords="offset points", va="center", fontsize=8)
    if not feelings.told:
        panel.annotate(left, (0, place), (5, 0), textcoords="offset points", va="center", fontsize=8)


def word_bars(words: Mapping[str, TopWords], axes: Sequence[Axes] | None = None, most: int = 15) -> list[Axes]:
    """The most frequent opinion words, a panel per scenario: negative ones to the left, positive ones to the right.

    words: scenario -> its words, as `top_words` makes them. A star marks a word that stands out from the others' use.
    axes: as many Axes as there are scenarios. Raises UserError for another number, and for no scenarios.
    """
    if not words:
        raise UserError("there are no scenarios to draw; words maps scenario -> TopWords")
    axes = panels(len(words), axes, columns=2, height=1.2 + 0.2 * most)
    for panel, (scenario, found) in zip(axes, words.items(), strict=True):
        for sign, color, side in (
            (-1, FEELINGS["negative"], found.negative),
            (1, FEELINGS["positive"], found.positive),
        ):
            for place, word in enumerate(side[:most]):
                panel.barh(place, sign * word.count, height=0.75, color=color)
                label = f"{word.word}{' *' if word.stands_out else ''}"
                style = {"va": "center", "ha": "left" if sign > 0 else "right", "fontsize": 8}
                panel.annotate(label, (sign * word.count, place), (4 * sign, 0), textcoords="offset points", **style)
        longest = max((word.count for word in found.positive + found.negative), default=1)
        panel.set(title=scenario, xlabel="times used", xlim=(-1.5 * longest, 1.5 * longest), ylim=(most - 0.4, -0.6))
        panel.axvline(0, color=BLACK, linewidth=0.8)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.xaxis.set_major_formatter(lambda count, _: f"{abs(count):.0f}")
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
    return axes


def topic_bars(found: Topics, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The topics of one scenario, a panel each: its words by their probability, its share of all words, its coherence.

    found: what `find_topics` gives for the scenario.
    axes: as many Axes as there are topics. Raises UserError for another number.
    """
    axes = panels(len(found.topics), axes, columns=5, height=1.2 + 0.17 * len(found.topics[0].words))
    for number, (panel, topic, color) in enumerate(zip(axes, found.topics, cycle(OUTLINES), strict=False), start=1):
        panel.barh(range(len(topic.words)), topic.weights, height=0.75, color=color)
        panel.set_yticks(range(len(topic.words)), topic.words, fontsize=8)
        title = f"topic {number}: {topic.share:.0%} of words\nNPMI {topic.coherence:+.2f}"
        panel.set_title(title, fontsize=9)
        panel.set(xlabel="probability", ylim=(len(topic.words) - 0.4, -0.6))
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", visible=False)
    return axes


def length_histogram(lengths: Mapping[str, Sequence[int]], axes: Axes | None = None) -> Axes:
    """How long the stories of each group are, as the share of its rows: outlines that compare large with small groups.

    lengths: group, such as a split or a language -> words of each row. Raises UserError when no group has a row.
    """
    lengths = {group: words for group, words in lengths.items() if len(words)}
    if not lengths:
        raise UserError("there are no lengths to draw: the corpus has no rows")
    panel = panels(1, axes and [axes], columns=1)[0]
    shortest, longest = min(map(min, lengths.values())), max(map(max, lengths.values()))
    step = math.ceil((longest - shortest + 1) / 30)  # whole words, or some bins would hold two lengths and some one
    edges = np.arange(shortest, longest + step + 1, step) - 0.5
    for color, (group, words) in zip(cycle(OUTLINES), lengths.items(), strict=False):
        share = 100 * np.histogram(words, edges)[0] / len(words)
        panel.stairs(share, edges, color=color, linewidth=1.5, label=f"{group} ({len(words):,})")
    panel.legend(frameon=False, fontsize=8)
    panel.set(title="Length of the stories", xlabel="words", ylabel="% of rows", ylim=(0, None))
    return panel


def opening_bars(openings: Mapping[str, int], axes: Axes | None = None, most: int = 10) -> Axes:
    """How many stories begin alike: a bar for each of the most frequent openings, the first on top.

    openings: opening -> rows. Raises UserError for none. Openings that no font here can draw are numbered instead.
    """
    top = Counter(openings).most_common(most)
    if not top:
        raise UserError("there are no openings to draw: the corpus has no rows")
    panel = panels(1, axes and [axes], columns=1, height=1.3 + 0.25 * len(top))[0]
    labels, rows = zip(*top, strict=True)
    bars = panel.barh(range(len(top)), rows, height=0.7, color=SKY)
    panel.bar_label(bars, padding=4, fontsize=8)
    fonts = sorted(set(FONTS) & set(font_manager.get_font_names()), key=FONTS.index)
    glyphs = {sign for font in fonts for sign in get_font(font_manager.findfont(font)).get_charmap()}
    drawn = [label if glyphs.issuperset(map(ord, label)) else f"no. {place}" for place, label in enumerate(labels, 1)]
    panel.set_yticks(range(len(top)), drawn, fontfamily=fonts)
    panel.set(title="Most frequent openings", xlabel="rows", ylim=(len(top) - 0.4, -0.6), xlim=(0, 1.15 * max(rows)))
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(axis="y", visible=False)
    return panel


def choice_bars(choices: Mapping[str, Mapping[str, float]], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How likely each next token is, a panel for each way to choose; those that can't be drawn have a cross.

    choices: the way, such as "temperature 0.7" -> token as it is written -> probability; the tokens of the first way
        are drawn, in its order. Raises UserError for none.
    """
    if not choices or not next(iter(choices.values())):
        raise UserError("there are no choices to draw; give a probability to at least one token")
    tokens = list(next(iter(choices.values())))
    axes = panels(len(choices), axes, columns=2, height=0.9 + 0.17 * len(tokens))
    for number, (panel, (way, found)) in enumerate(zip(axes, choices.items(), strict=True)):
        shares = [found.get(token, 0.0) for token in tokens]
        panel.barh(range(len(tokens)), shares, height=0.7, color=SKY)
        excluded = [place for place, share in enumerate(shares) if not share]
        panel.plot([0.02] * len(excluded), excluded, "x", color=VERMILION, markersize=4)
        panel.set_yticks(range(len(tokens)), tokens, fontsize=8)
        panel.tick_params(axis="y", length=0, labelleft=number % 2 == 0)
        panel.set(xlim=(0, 1), ylim=(len(tokens) - 0.4, -0.6), xlabel="probability")
        panel.set_title(way, fontsize=9.5)
        panel.grid(axis="y", visible=False)
    return axes


def quantisation_levels(weights: Sequence[float], levels: Sequence[float], axes: Axes | None = None) -> Axes:
    """Where weights lie, each as a share of the largest in its block, and the few values that they are rounded to."""
    panel = panels(1, axes and [axes], columns=1, height=2.6)[0]
    panel.hist(weights, bins=120, range=(-1, 1), color=SKY, weights=np.full(len(weights), 100 / len(weights)))
    for number, level in enumerate(levels):
        panel.axvline(level, color=VERMILION, linewidth=1, label=None if number else f"{len(levels)} values of NF4")
    panel.legend(facecolor="white", framealpha=1, edgecolor="white", fontsize=8, loc="upper left")
    panel.set(title="Weights and what they become", xlabel="share of the largest in its block", ylabel="% of weights")
    return panel


def lora_shapes(rows: int, columns: int, rank: int, axes: Axes | None = None) -> Axes:
    """A weight matrix and the two thin ones of LoRA beside it, all to one scale; what is trained is orange."""
    panel = panels(1, axes and [axes], columns=1, height=2.6)[0]
    gap = 0.3 * columns
    boxes = [("W", 0, rows, columns, SKY), ("B", columns + gap, rows, rank, ORANGE)]
    boxes.append(("A", columns + 2 * gap + rank, rank, columns, ORANGE))
    for name, left, height, width, color in boxes:
        label = f"{name}: {height:,} x {width:,}, {height * width:,} numbers"
        panel.add_patch(
            Rectangle((left, 0), width, height, facecolor=color, edgecolor=BLACK, linewidth=0.8, label=label)
        )
        panel.text(left + width / 2, -0.03 * rows, name, ha="center", va="bottom", fontsize=10)
    for sign, place in (("+", columns + gap / 2), ("·", columns + 1.5 * gap + rank)):
        panel.text(place, rows / 2, sign, ha="center", va="center", fontsize=16)
    panel.set(xlim=(-0.1 * columns, 2.1 * columns + 2 * gap + rank), ylim=(1.02 * rows, -0.15 * rows), aspect="equal")
    panel.set_title(f"blue is frozen, orange is trained: rank {rank}", fontsize=10)
    panel.set_axis_off()
    panel.legend(loc="center left", bbox_to_anchor=(0.93, 0.5), frameon=False, fontsize=7.5)
    return panel


@dataclass(frozen=True)
class Picture:
    """A drawing as every notebook, old or new, shows it: a PNG with its alt text, for those who don't see it."""

    png: bytes
    alt: str
    width: int  # of the page, in its pixels

    def _repr_mimebundle_(self, **_) -> tuple[dict[str, str], dict[str, dict]]:
        data = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def training_picture(log: Log) -> Picture:
    """Loss and gradient norm of a run so far, for `storylib.live.follow`. Raises UserError for a log without a loss."""
    axes = training_curve(log, panels(2, None, columns=2, height=2.8))
    (steps, losses), (_, norms) = series(log, "loss"), series(log, "grad_norm")
    alt = f"Loss by step, from {losses[0]:.2f} at step {steps[0]} to {losses[-1]:.2f} at step {steps[-1]}"
    return picture(axes, f"{alt}; gradient norm beside it, at most {norms.max():.2f}" if len(norms) else alt)


def picture(axes: Axes | Sequence[Axes], alt: str) -> Picture:
    """What was drawn, as a notebook's last line shows it.

    alt: what there is to see, in a sentence. Raises UserError without one.
    """
    if not alt.strip():
        raise UserError("a picture needs an alt text: say in a sentence what there is to see")
    figure = list(np.atleast_1d(axes).flat)[0].figure
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, facecolor="white")
    return Picture(file.getvalue(), alt, round(80 * figure.get_figwidth()))


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as a PNG, whole or not at all; a missing folder is made, and `path` is returned."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150, facecolor="white")
    return path


def panels(number: int, axes: Sequence[Axes] | None, columns: int, height: float = 3.0) -> list[Axes]:
    """The given Axes, or those of a new figure, in plain style. Raises UserError when `axes` are not `number`."""
    if axes is None:
        columns = min(columns, number)
        rows = math.ceil(number / columns)
        figure = Figure(figsize=(max(5.0, 3.4 * columns), height * rows), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # inches
        axes = [figure.add_subplot(rows, columns, place + 1) for place in range(number)]
    axes = list(np.atleast_1d(axes).flat)
    if len(axes) != number:
        raise UserError(f"{number} panels need {number} Axes, got {len(axes)}; leave axes out to have them made")
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
    return axes


def series(log: Log, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have `key`."""
    pairs = [(row["step"], row[key]) for row in log if row.get(key) is not None]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps), np.array(values, dtype=float)


def draw_smoothed(panel: Axes, steps: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    panel.plot(steps, values, color=color, alpha=0.25, linewidth=1)
    panel.plot(steps, smooth(values), color=color, linewidth=2, label=label)


def smooth(values: np.ndarray) -> np.ndarray:
    """Mean of each value and its neighbours, a fortieth of the run on either side.

    >>> smooth(np.array([1.0, 2.0])).tolist()   # too short a run to smooth
    [1.0, 2.0]
    """
    reach = len(values) // 40
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])


def draw_bars(panel: Axes, systems: Sequence[str], scores: Mapping[str, Score]) -> None:
    """Horizontal, the first system on top: long names stay readable. A system without a score keeps its place."""
    for place, system in enumerate(systems):
        if (score := scores.get(system)) is None:
            continue
        panel.barh(place, score.value, height=0.65, color=BARS[place % len(BARS)])
        end = score.value
        if score.low is not None and score.high is not None:
            panel.plot([score.low, score.high], [place, place], color=BLACK, linewidth=1.2, marker="|", markersize=7)
            end = max(end, score.high)
        label = panel.annotate(digits(score.value), (end, place), (6, 0), textcoords="offset points", va="center")
        label.set(fontsize=9, zorder=5, bbox={"color": "white", "pad": 1})  # stays readable on a dashed line
    furthest = max(max(score.value, score.high or 0) for score in scores.values())
    panel.set_xlim(0, 1.25 * furthest or 1)  # room for the labels
    panel.set_yticks(range(len(systems)), systems)
    panel.set_ylim(max(1, len(systems)) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)


def digits(value: float) -> str:
    """A number as it is written beside a bar.

    >>> digits(28.956), digits(0.0187), digits(0.0)
    ('28.96', '0.019', '0.00')
    """
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.2g}"


def draw_scale(panel: Axes, scores: Mapping[str, Score]) -> None:
    """Floor and ceiling as dashed lines with their values above the panel, side by side however near they are."""
    for name, sideways in (("floor", "right"), ("ceiling", "left")):
        if name in scores:
            value = scores[name].value
            panel.axvline(value, color=LINES[name], linestyle="--", linewidth=1.5)
            label = f" {name} {digits(value)} "
            panel.text(
                value, 1.01, label, color=LINES[name], ha=sideways, fontsize=8, transform=panel.get_xaxis_transform()
            )


def panel_title(metric: str) -> str:
    return f"{metric} (overlap, not quality)" if "bleu" in metric.lower() else metric
