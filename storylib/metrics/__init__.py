"""Scores from text alone; every one comes with its signature, and none needs torch."""

from storylib.metrics.copying import CopiedShare, Passage, copied_share
from storylib.metrics.coverage import concept_coverage
from storylib.metrics.diversity import compression_ratio, distinct_n, self_bleu
from storylib.metrics.judge import Judge, Judgement, judge_pairs
from storylib.metrics.length import empty_share, length_in_words
from storylib.metrics.overlap import bleu, chrf, rouge
from storylib.metrics.paired import Difference, difference, paired_test
from storylib.metrics.readability import familiar_words, reading_grade
from storylib.metrics.references import leave_one_out, shifted, turned
from storylib.metrics.repetition import repeated_ngrams
from storylib.metrics.rubric import Rubric, Weights, rubric
from storylib.metrics.safety import Find, UnsafeShare, unsafe, unsafe_share
from storylib.metrics.score import Score, Tally, bootstrap_interval, mean_tally
from storylib.metrics.sentiment import Feelings, Sentiment, load_scorer, positive_share, sentiment_by_genre
from storylib.metrics.stopping import stopped_share
from storylib.metrics.topics import Topic, Topics, find_topics, topic_coherence
from storylib.metrics.words import Lexicon, OpinionWord, TopWords, log_odds, opinion_balance, opinion_lexicon, top_words

__all__ = [
    "CopiedShare",
    "Difference",
    "Feelings",
    "Find",
    "Judge",
    "Judgement",
    "Lexicon",
    "OpinionWord",
    "Passage",
    "Rubric",
    "Score",
    "Sentiment",
    "Tally",
    "TopWords",
    "Topic",
    "Topics",
    "UnsafeShare",
    "Weights",
    "bleu",
    "bootstrap_interval",
    "chrf",
    "compression_ratio",
    "concept_coverage",
    "copied_share",
    "difference",
    "distinct_n",
    "empty_share",
    "familiar_words",
    "find_topics",
    "judge_pairs",
    "leave_one_out",
    "length_in_words",
    "load_scorer",
    "log_odds",
    "mean_tally",
    "opinion_balance",
    "opinion_lexicon",
    "paired_test",
    "positive_share",
    "reading_grade",
    "repeated_ngrams",
    "rouge",
    "rubric",
    "self_bleu",
    "sentiment_by_genre",
    "shifted",
    "stopped_share",
    "top_words",
    "topic_coherence",
    "turned",
    "unsafe",
    "unsafe_share",
]
