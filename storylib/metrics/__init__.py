"""Scores from text alone; every one comes with its signature, and none needs torch."""

from storylib.metrics.coverage import concept_coverage
from storylib.metrics.overlap import bleu, leave_one_out, shifted, turned
from storylib.metrics.repetition import length_in_words, repeated_ngrams
from storylib.metrics.score import Score, bootstrap_interval
from storylib.metrics.stopping import stopped_share

__all__ = [
    "Score",
    "bleu",
    "bootstrap_interval",
    "concept_coverage",
    "leave_one_out",
    "length_in_words",
    "repeated_ngrams",
    "shifted",
    "stopped_share",
    "turned",
]
