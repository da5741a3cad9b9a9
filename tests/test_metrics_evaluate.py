"""Our metrics as `evaluate.Metric`s: the same values, alone and combined, with no network."""

import evaluate
import pytest

from storylib.errors import UserError
from storylib.metrics import (
    bleu,
    chrf,
    compression_ratio,
    concept_coverage,
    copied_share,
    distinct_n,
    empty_share,
    length_in_words,
    repeated_ngrams,
    rouge,
    self_bleu,
    stopped_share,
)
from storylib.metrics.as_evaluate import as_metric

STORIES = ["The fox ran to the sea and the sea was blue.", "An owl sat in a tree and read a big book."]
REFERENCES = [["The fox ran to the sea and swam.", "A fox went by."], ["The owl sat in a tree and slept."]]
CONCEPTS = [["fox", "sea", "hope"], ["owl", "tree", "sleep"]]
FORMS = {"sleep": ["slept"]}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.parametrize(
    "function, options",
    [
        (bleu, {}),
        (bleu, {"average": "story"}),
        (chrf, {}),
        (rouge, {"kind": "rouge2"}),
        (distinct_n, {"n": 1, "length": 10}),
        (self_bleu, {"length": 10}),
        (compression_ratio, {"length": 10}),
        (repeated_ngrams, {"n": 2}),
        (copied_share, {"training": ["He sat in a tree and read."], "n": 3}),
        (length_in_words, {}),
        (empty_share, {}),
    ],
)
def test_alone(function, options):
    metric = as_metric(function, **options)
    assert isinstance(metric, evaluate.Metric) and metric.name == function.__name__
    needed = {"predictions": STORIES} | ({"references": REFERENCES} if function in (bleu, chrf, rouge) else {})
    expected = function(*needed.values(), **options)
    found = metric.compute(**needed)
    name = function.__name__
    assert found == {
        name: expected.value,
        f"{name}_low": expected.low,
        f"{name}_high": expected.high,
        f"{name}_signature": expected.signature,
    }
    assert metric.compute(**needed) == found  # and again


def test_combined_with_each_metrics_own_columns():
    combined = evaluate.combine(
        {
            "corpus": as_metric(bleu),
            "story": as_metric(bleu, average="story"),
            "coverage": as_metric(concept_coverage, forms=FORMS),
            "stopped": as_metric(stopped_share),
            "distinct": as_metric(distinct_n, length=10),
        }
    )
    columns = {"predictions": STORIES, "references": REFERENCES, "concepts": CONCEPTS, "ended": ["eos", "limit"]}
    found = combined.compute(**columns)
    assert found["corpus_bleu"] == bleu(STORIES, REFERENCES).value
    assert found["story_bleu"] == bleu(STORIES, REFERENCES, average="story").value
    assert (found["concept_coverage"], found["stopped_share"]) == (2, 0.5)
    assert found["distinct_n"] == distinct_n(STORIES, length=10).value


def test_added_one_by_one_and_by_batch():
    metric = as_metric(bleu)
    metric.add(prediction=STORIES[0], reference=REFERENCES[0])
    metric.add_batch(predictions=STORIES[1:], references=REFERENCES[1:])
    assert metric.compute()["bleu"] == bleu(STORIES, REFERENCES).value


def test_ends_need_no_predictions():
    assert as_metric(stopped_share).compute(ended=["eos", "eos"])["stopped_share"] == 1


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"predictions": STORIES}, UserError, "bleu needs references"),
        ({"predictions": [], "references": []}, UserError, "no hypotheses"),
        ({"predictions": STORIES, "references": REFERENCES[:1]}, ValueError, "Mismatch"),
        ({"predictions": STORIES, "references": [REFERENCES[0], None]}, TypeError, r"references\[1\]"),
        ({"predictions": [STORIES[0], None], "references": REFERENCES}, TypeError, r"hypotheses\[1\]"),
        (
            {"predictions": STORIES, "references": REFERENCES, "average": "story"},
            UserError,
            "give average to as_metric",
        ),
    ],
)
def test_bad_input_is_refused_and_forgotten(given, error, message):
    metric = as_metric(bleu)
    with pytest.raises(error, match=message):
        metric.compute(**given)
    assert metric.compute(predictions=STORIES, references=REFERENCES)["bleu"] == bleu(STORIES, REFERENCES).value


@pytest.mark.parametrize(
    "function, options, message",
    [
        (bleu, {"avarage": "story"}, "bleu has no option avarage; there are average"),
        (concept_coverage, {}, r"needs forms: as_metric\(concept_coverage, forms=…\)"),
    ],
)
def test_options_are_checked_when_the_metric_is_made(function, options, message):
    with pytest.raises(UserError, match=message):
        as_metric(function, **options)
