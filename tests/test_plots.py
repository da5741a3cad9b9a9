"""What is drawn, not how it looks."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from storylib import plots
from storylib.errors import UserError
from storylib.metrics import Feelings, OpinionWord, Score, Topic, Topics, TopWords

LOG = [
    {"step": 1, "loss": 3.0, "grad_norm": 2.0, "learning_rate": 1e-4},
    {"step": 2, "loss": 2.0, "grad_norm": 1.0, "tokens_per_second": 900.0},
    {"step": 2, "eval_loss": 2.2},
    {"step": 3, "loss": 1.5},
    {"step": 4, "eval_loss": 1.7},
]
TABLE = {
    "floor": {"BLEU corpus": Score(10, "s", 9, 11)},
    "untuned base": {"BLEU corpus": Score(7, "s", 6, 8), "words": Score(118, "s")},
    "fine-tuned": {"BLEU corpus": Score(18, "s", 16, 20), "words": Score(92, "s")},
    "ceiling": {"BLEU corpus": Score(29, "s", 26, 31)},
}


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("plt.show was called"))
    yield
    assert not plt.get_fignums(), "a figure was left in pyplot's hands"


def test_plots_need_no_pyplot():
    code = "import sys, storylib.plots; assert not {'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_training_curve_draws_loss_evaluation_and_gradient_norm():
    loss, norm, rate, speed = plots.training_curve(LOG)
    raw, smoothed, evaluation = loss.lines
    assert (
        raw.get_xydata().tolist() == smoothed.get_xydata().tolist() == [[1, 3], [2, 2], [3, 1.5]]
    )  # too short to smooth
    assert evaluation.get_xydata().tolist() == [[2, 2.2], [4, 1.7]] and evaluation.get_linestyle() == "None"
    assert norm.lines[0].get_xydata().tolist() == [[1, 2], [2, 1]]
    assert rate.lines[0].get_xydata().tolist() == [[1, 1e-4]] and speed.lines[0].get_xydata().tolist() == [[2, 900]]
    assert evaluation.get_zorder() > smoothed.get_zorder()


def test_runs_are_drawn_over_each_other_with_a_color_each():
    loss, norm, *_ = plots.training_curve({"once": LOG, "three times": LOG})
    assert [text.get_text() for text in loss.figure.legends[0].get_texts()] == ["once", "three times", "held out"]
    assert len({line.get_color() for line in loss.lines}) == 2 and len(norm.lines) == 4


def test_beginnings_of_epochs_are_marked():
    log = [{"step": step, "loss": 1.0, "epoch": step / 4} for step in range(1, 13)]  # four steps an epoch
    loss = plots.training_curve(log)[0]
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == ":"] == [5, 9]


def test_training_curve_without_evaluation_or_norms():
    loss, norm, *_ = plots.training_curve([{"step": 1, "loss": 3.0}])
    assert len(loss.lines) == 2 and not len(norm.lines[0].get_xdata())


def test_smoothing_takes_a_fortieth_on_either_side():
    values = np.arange(80.0)  # a line stays a line, but for its ends
    smoothed = plots.smooth(values)
    assert smoothed[2:-2] == pytest.approx(values[2:-2]) and smoothed[0] == pytest.approx(1.0)  # mean of 0, 1, 2


@pytest.mark.parametrize("log", [[], [{"step": 1, "eval_loss": 2.0}]])
def test_training_curve_needs_a_loss(log):
    with pytest.raises(UserError, match="no loss"):
        plots.training_curve(log)


def test_score_bars_draw_systems_as_bars_and_the_scale_as_lines():
    overlap, words = plots.score_bars(TABLE)
    assert [bar.get_width() for bar in overlap.patches] == [7, 18]
    assert [bar.get_width() for bar in words.patches] == [118, 92]
    assert [tick.get_text() for tick in overlap.get_yticklabels()] == ["untuned base", "fine-tuned"]
    dashed = [line for line in overlap.lines if line.get_linestyle() == "--"]
    whiskers = [line for line in overlap.lines if line not in dashed]
    assert [line.get_xdata()[0] for line in dashed] == [10, 29]
    assert [list(line.get_xdata()) for line in whiskers] == [[6, 8], [16, 20]]
    assert not words.lines  # neither interval nor scale
    assert [text.get_text().strip() for text in overlap.texts] == ["7.00", "18.00", "floor 10.00", "ceiling 29.00"]


def test_only_overlap_is_marked_as_no_quality():
    titles = [panel.get_title() for panel in plots.score_bars(TABLE)]
    assert titles == ["BLEU corpus (overlap, not quality)", "words"]


def test_a_missing_score_leaves_its_place_empty():
    table = {"a": {"x": Score(1, "s")}, "b": {"x": Score(2, "s"), "y": Score(3, "s")}}
    _, y = plots.score_bars(table)
    (bar,) = y.patches
    assert bar.get_y() + bar.get_height() / 2 == pytest.approx(1) and len(y.get_yticks()) == 2


@pytest.mark.parametrize("value", [0.0, 0.02])
def test_tiny_scores_can_be_drawn(value):
    (panel,) = plots.score_bars({"base": {"repeated": Score(value, "s", 0.0, value)}})
    assert panel.get_xlim()[1] > value


def test_a_panel_of_lines_alone():
    (panel,) = plots.score_bars({"floor": {"BLEU": Score(10, "s")}})
    assert len(panel.lines) == 1 and not panel.patches


@pytest.mark.parametrize("table", [{}, {"base": {}}])
def test_score_bars_need_scores(table):
    with pytest.raises(UserError, match="no scores"):
        plots.score_bars(table)


@pytest.mark.parametrize("draw, data", [(plots.training_curve, LOG), (plots.score_bars, TABLE)])
def test_given_axes_are_drawn_on(draw, data):
    axes = Figure().subplots(1, 2)
    assert draw(data, axes) == list(axes) and all(panel.get_title() for panel in axes)
    with pytest.raises(UserError, match=r"\d panels need \d Axes, got 5"):
        draw(data, Figure().subplots(1, 5))


def test_save_writes_a_whole_png(tmp_path):
    path = plots.save(plots.score_bars(TABLE)[0].figure, tmp_path / "new" / "scores.png")
    assert path.read_bytes().startswith(b"\x89PNG") and [file.name for file in path.parent.iterdir()] == ["scores.png"]


def test_length_histogram_compares_groups_of_any_size():
    axes = plots.length_histogram({"train": [3, 3, 4, 5], "test": [5], "validation": []})
    outlines = {patch.get_label(): patch.get_data() for patch in axes.patches}
    assert outlines["train (4)"].values.tolist() == [50, 25, 25] and outlines["test (1)"].values.tolist() == [0, 0, 100]
    assert outlines["train (4)"].edges.tolist() == [2.5, 3.5, 4.5, 5.5] and len(outlines) == 2
    axes = plots.length_histogram({"train": [0, 299]})  # ten words to a bin
    assert np.diff(axes.patches[0].get_data().edges).tolist() == [10] * 30
    with pytest.raises(UserError, match="no lengths to draw"):
        plots.length_histogram({"train": []})


def test_opening_bars_draw_the_most_frequent_first():
    given = Figure().add_subplot()
    axes = plots.opening_bars({"one day a": 2, "once upon a": 5, "era uma vez": 1}, given, most=2)
    assert axes is given and [bar.get_width() for bar in axes.patches] == [5, 2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["once upon a", "one day a"]
    with pytest.raises(UserError, match="no openings"):
        plots.opening_bars({})


def test_openings_that_no_font_draws_are_numbered(monkeypatch, tmp_path):
    monkeypatch.setattr(plots.font_manager, "get_font_names", lambda: ["DejaVu Sans", "DejaVu Serif"])
    axes = plots.opening_bars({"era uma vez": 3, "从前有一": 2, "むかし、": 1})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["era uma vez", "no. 2", "no. 3"]
    plots.save(axes.figure, tmp_path / "a.png")


def test_choice_bars_keep_the_order_and_cross_out_what_cannot_come():
    plain, cut = plots.choice_bars({"plain": {"a": 0.6, "b": 0.3, "c": 0.1}, "top_k 2": {"a": 0.7, "b": 0.3}})
    assert [bar.get_width() for bar in plain.patches] == [0.6, 0.3, 0.1] and not len(plain.lines[0].get_xdata())
    assert [bar.get_width() for bar in cut.patches] == [0.7, 0.3, 0] and list(cut.lines[0].get_ydata()) == [2]
    with pytest.raises(UserError, match="no choices"):
        plots.choice_bars({})


def test_quantisation_levels_draw_every_weight_and_every_level():
    panel = plots.quantisation_levels([-1, -0.5, 0.5, 1], [-1, 0, 1])
    assert sum(patch.get_height() for patch in panel.patches) == pytest.approx(100)
    assert [line.get_xdata()[0] for line in panel.lines] == [-1, 0, 1]


def test_lora_shapes_are_to_scale():
    panel = plots.lora_shapes(8, 6, 2)
    assert [(box.get_height(), box.get_width()) for box in panel.patches] == [(8, 6), (8, 2), (2, 6)]
    assert panel.patches[0].get_label() == "W: 8 x 6, 48 numbers"


def test_a_picture_carries_its_alt_text():
    shown = plots.picture(plots.training_curve(LOG), "Loss falls from 3 to 1.5")
    data, about = shown._repr_mimebundle_()
    assert data["text/plain"] == about["image/png"]["alt"] == "Loss falls from 3 to 1.5" and shown.png.startswith(
        b"\x89PNG"
    )
    with pytest.raises(UserError, match="alt text"):
        plots.picture(plots.training_curve(LOG), " ")


def test_a_run_so_far_says_its_numbers():
    assert plots.training_picture(LOG).alt == (
        "Loss by step, from 3.00 at step 1 to 1.50 at step 3; gradient norm beside it, at most 2.00"
    )


NONE_LEFT = {"empty": 0, "other language": 0}
FEELINGS = {
    "data": {"horror": Feelings(3, 6, 1, NONE_LEFT, "s"), "fairy_tale": Feelings(5, 5, 0, NONE_LEFT, "s")},
    "untrained": {"horror": Feelings(0, 0, 0, {"empty": 4, "other language": 0}, "s")},
    "trained": {"horror": Feelings(8, 2, 0, {"empty": 2, "other language": 1}, "s")},
}


def test_sentiment_bars_draw_counts_with_wilsons_interval_for_any_number_of_scenarios():
    horror, fairy = plots.sentiment_bars(FEELINGS)
    assert [bar.get_width() for bar in horror.patches] == [3, 6, 1, 8, 2, 0]
    assert [bar.get_width() for bar in fairy.patches] == [5, 5, 0] and fairy.get_title() == "fairy tale"
    assert [tick.get_text() for tick in horror.get_yticklabels()] == ["data", "untrained", "trained"]
    assert horror.lines[0].get_xdata() == pytest.approx([1.078, 6.032], abs=1e-3)  # of 3 in 10
    labels = [text.get_text() for text in horror.texts]
    assert labels == ["3", "6", "1", "4 empty", "8   (2 empty, 1 other language)", "2", "0"]


def test_sentiment_bars_of_a_scorer_that_is_never_neutral_draw_two():
    (panel,) = plots.sentiment_bars({"data": {"total": Feelings(3, 7, 0, NONE_LEFT, "s")}})
    assert [bar.get_width() for bar in panel.patches] == [3, 7]
    assert [text.get_text() for text in panel.figure.legends[0].get_texts()] == ["positive", "negative"]


def test_word_bars_draw_negative_words_to_the_left_and_mark_what_stands_out():
    good, sad = OpinionWord("good", 7, 4, 0.5), OpinionWord("sad", 3, 2, 4.2)
    found = TopWords((good, OpinionWord("kind", 2, 2, -5.0)), (sad,), "s")
    one, other = plots.word_bars({"data": found, "base": TopWords((), (), "s")}, most=2)
    assert [bar.get_width() for bar in one.patches] == [-3, 7, 2] and not other.patches
    assert [text.get_text() for text in one.texts] == ["sad *", "good", "kind"]
    assert [panel.get_title() for panel in (one, other)] == ["data", "base"]


def test_topic_bars_draw_the_words_of_each_topic():
    found = Topics((Topic(("king", "queen"), (0.5, 0.2), 0.61, 0.124, None),), Score(0.1, "s"))
    (panel,) = plots.topic_bars(found)
    assert [bar.get_width() for bar in panel.patches] == [0.5, 0.2]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["king", "queen"]
    assert panel.get_title() == "topic 1: 61% of words\nNPMI +0.12"


def test_pictures_of_stories_need_something_to_draw_and_as_many_axes(tmp_path):
    for table in ({}, {"data": {}}):
        with pytest.raises(UserError, match="no genres"):
            plots.sentiment_bars(table)
    with pytest.raises(UserError, match="no scenarios"):
        plots.word_bars({})
    axes = Figure().subplots(1, 2)
    assert plots.sentiment_bars(FEELINGS, axes) == list(axes)
    plots.save(axes[0].figure, tmp_path / "a.png")
    with pytest.raises(UserError, match="2 panels need 2 Axes, got 3"):
        plots.sentiment_bars(FEELINGS, Figure().subplots(1, 3))
