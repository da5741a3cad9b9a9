"""Scores from text alone; every one comes with its signature, and none needs torch."""

from storylib.metrics.copying import CopiedShare, Passage, copied_share
from storylib.metrics.coverage import concept_coverage
from storylib.metrics.diversity import compression_ratio, distinct_n, self_bleu
from storylib.metrics.length import empty_share, length_in_words
from storylib.metrics.overlap import bleu, chrf, rouge
from storylib.metrics.paired import Difference, difference, paired_test
from storylib.metrics.references import leave_one_out, shifted, turned
from storylib.metrics.repetition import repeated_ngrams
from storylib.metrics.score import Score, Tally, bootstrap_interval, mean_tally
from storylib.metrics.stopping import stopped_share

__all__ = [
    "CopiedShare",
    "Difference",
    "Passage",
    "Score",
    "Tally",
    "bleu",
    "bootstrap_interval",
    "chrf",
    "compression_ratio",
    "concept_coverage",
    "copied_share",
    "difference",
    "distinct_n",
    "empty_share",
    "leave_one_out",
    "length_in_words",
    "mean_tally",
    "paired_test",
    "repeated_ngrams",
    "rouge",
    "self_bleu",
    "shifted",
    "stopped_share",
    "turned",
]
