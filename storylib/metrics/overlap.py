"""BLEU, chrF and ROUGE: how much of a story's wording is in its references. Overlap, not quality.

A good story that no reference tells scores low, so read each figure between the floor (`shifted`) and the ceiling
(`leave_one_out`) of the same references. All are in points, 0 to 100; an empty story scores 0 and is counted in the
signature. Intervals are a bootstrap over the prompts: stories that share references are drawn together. References are
of one language a call, since the tokenizer is chosen by their script.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import regex
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from storylib.data.duplicates import words
from storylib.errors import UserError
from storylib.metrics.references import check_pairs, reference_count, shared_clusters
from storylib.metrics.score import Score, Tally, empty_label, mean_tally, tally_score

AVERAGES = ("corpus", "story")
KINDS = ("rouge1", "rouge2", "rougeL")
SCRIPTS = {  # sacrebleu's tokenizer: the letters of the scripts that it is for
    "13a": regex.compile(r"[\p{L}--[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}]]", regex.V1),
    "zh": regex.compile(r"\p{Han}"),
    "char": regex.compile(r"[\p{Hiragana}\p{Katakana}ー\p{Thai}]"),
}
JOINERS = regex.compile("['’-]")


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str = "corpus") -> Score:
    """BLEU by sacrebleu: runs of one to four words that a story shares with its references. Overlap, not quality.

    references: for each hypothesis its list of references; their number may differ between stories.
    average: "corpus" pools the counts of all stories. "story" is the mean of sacrebleu's corpus BLEU of each story by
        itself, without effective order; a story without a common run of four words still gets points by smoothing. The
        two can rank systems differently, so compare like with like.

    `per_story` holds each story's own BLEU for both averages.
    Raises UserError for another average, unequal lengths, no stories, no references and a blank one; TypeError for a
    str where a list is needed and for anything that is no text.

    Papineni and others 2002, https://aclanthology.org/P02-1040; Post 2018, https://aclanthology.org/W18-6319
    """
    return tally_score(*bleu_tally(hypotheses, references, average), shared_clusters(hypotheses, references))


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str = "corpus") -> Score:
    """chrF2 by sacrebleu: runs of one to six characters that a story shares with the nearest of its references.
    Overlap, not quality; it needs no words, so it serves every script, and counts "hedgehogs" for most of "hedgehog".

    Arguments, averages, `per_story` and errors are those of `bleu`.

    Popović 2015, https://aclanthology.org/W15-3049
    """
    return tally_score(*chrf_tally(hypotheses, references, average), shared_clusters(hypotheses, references))


def rouge(hypotheses: Sequence[str], references: Sequence[Sequence[str]], kind: str = "rougeL") -> Score:
    """ROUGE by rouge_score, the F measure against the nearest reference, in points. Overlap, not quality.

    kind: "rouge1" or "rouge2" for words or pairs of words in common, "rougeL" for the longest sequence of words that
        both have in this order. Words are not stemmed.

    There is no pooled form: the figure of a corpus is the mean over its stories, in rouge_score as in the literature.
    Words are those of rouge_score in English. It knows no letters but a to z, and finds nothing in Chinese or Japanese
    and half words in Portuguese; here other letters are letters, and a script without spaces gives characters.

    Arguments and errors are else those of `bleu`; UserError for another kind.

    Lin 2004, https://aclanthology.org/W04-1013
    """
    return tally_score(*rouge_tally(hypotheses, references, kind), shared_clusters(hypotheses, references))


def bleu_tally(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str = "corpus"
) -> tuple[Tally, str]:
    check_overlap(hypotheses, references, average)
    return sacrebleu_tally(BLEU(tokenize=tokenizer_for(references)), "bleu", hypotheses, references, average)


def chrf_tally(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str = "corpus"
) -> tuple[Tally, str]:
    check_overlap(hypotheses, references, average)
    return sacrebleu_tally(CHRF(), "chrf", hypotheses, references, average)


def sacrebleu_tally(metric: Metric, name: str, hypotheses, references, average: str) -> tuple[Tally, str]:
    """The counts that the metric takes from each story, pooled or each scored by itself; and its signature."""
    rows = np.array(metric._extract_corpus_statistics(hypotheses, columns(references)))  # (stories, counts)
    tally = Tally(rows, lambda counts: metric._compute_score_from_stats(counts.tolist()).score)
    signature = f"{name}|{metric.get_signature()}|average:{average}|{empty_label(hypotheses)}"
    return tally if average == "corpus" else mean_tally(tally.per_story), signature


def rouge_tally(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], kind: str = "rougeL"
) -> tuple[Tally, str]:
    check_pairs(hypotheses, references)
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    from rouge_score.rouge_scorer import RougeScorer  # loads nltk, which takes a second

    scorer = RougeScorer([kind], tokenizer=RougeWords())
    pairs = zip(references, hypotheses, strict=True)
    found = [100 * scorer.score_multi(texts, story)[kind].fmeasure for texts, story in pairs]
    refs, release = reference_count(references), version("rouge-score")
    signature = f"rouge|type:{kind}|measure:f|nrefs:{refs}|refs:best|tok:script|stem:no|version:{release}|average:story"
    return mean_tally(found), f"{signature}|{empty_label(hypotheses)}"


TALLIES: dict[Callable, Callable] = {bleu: bleu_tally, chrf: chrf_tally, rouge: rouge_tally}


class RougeWords:
    """A tokenizer for rouge_score: its own words in English, and words or characters in any other script."""

    def tokenize(self, text: str) -> list[str]:
        """
        >>> RougeWords().tokenize("Don’t go, Ação! 再见")
        ['don', 't', 'go', 'ação', '再', '见']
        """
        return [part for word in words(text) for part in JOINERS.split(word)]


def tokenizer_for(references: Sequence[Sequence[str]]) -> str:
    """sacrebleu's tokenizer for the script that most letters of the references are in.

    Its default, 13a, takes a Chinese or Japanese clause for one word, and so finds nothing in common.
    """
    texts = {text for story in references for text in story}
    return max(SCRIPTS, key=lambda name: sum(len(SCRIPTS[name].findall(text)) for text in texts))


def check_overlap(hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str) -> None:
    if average not in AVERAGES:
        raise UserError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    check_pairs(hypotheses, references)


def columns(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """sacrebleu's layout: the first reference of every story, then the second, None where a story has no more."""
    most = max(map(len, references))
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
