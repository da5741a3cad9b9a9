"""BLEU: how many runs of words a story shares with its references."""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU, BLEUScore

from storylib.errors import UserError
from storylib.metrics.score import Score, bootstrap_interval, bootstrap_label, check_stories, mean_score

AVERAGES = ("corpus", "story")


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], average: str = "corpus") -> Score:
    """BLEU in points, 0 to 100, by sacrebleu. It measures overlap, not quality: a good story that no reference tells
    scores low, so read it between the floor (`shifted`) and the ceiling (`leave_one_out`) of the same references.

    references: for each hypothesis its list of references; their number may differ between stories.
    average: "corpus" pools the counts of all stories. "story" is the mean of sacrebleu's corpus BLEU of each story by
        itself, without effective order; a story without a common run of four words still gets points by smoothing. The
        two can rank systems differently, so compare like with like.

    `per_story` holds each story's own BLEU for both averages. An empty hypothesis scores 0. The interval is a bootstrap
    over the prompts: stories that share references are drawn together.
    Raises UserError for another average, unequal lengths, no stories and no references, TypeError for a str where a
    list is needed and for anything that is no text.

    Papineni and others 2002, https://aclanthology.org/P02-1040; Post 2018, https://aclanthology.org/W18-6319
    """
    if average not in AVERAGES:
        raise UserError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    check_stories(hypotheses, "hypotheses")
    check_references(references)
    if len(hypotheses) != len(references):
        raise UserError(f"each hypothesis needs its references, got {len(hypotheses)} and {len(references)}")
    pairs = list(zip(hypotheses, references, strict=True))
    singles = [BLEU().corpus_score([story], columns([texts])) for story, texts in pairs]
    per_story = tuple(single.score for single in singles)
    metric = BLEU()
    pooled = metric.corpus_score(hypotheses, columns(references))
    signature = f"bleu|{metric.get_signature()}|average:{average}"
    units = shared_clusters(hypotheses, references)
    if average == "story":
        return mean_score(per_story, signature, units)
    counts = np.array([sufficient_counts(single) for single in singles])  # (stories, 10)
    low, high = bootstrap_interval(lambda drawn: pooled_bleu(counts[drawn].sum(axis=0).tolist()), units)
    return Score(pooled.score, f"{signature}|{bootstrap_label(units)}", low, high, per_story)


def leave_one_out(references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The ceiling: hypotheses and references for `bleu`, each reference against the others of its prompt.

    One reference fewer than a system's story gets, so the ceiling comes out a little low. A prompt given several times
    counts once. Raises UserError for a prompt with one reference, and what `bleu` raises for references.

    >>> leave_one_out([["a", "b", "c"]])
    (['a', 'b', 'c'], [['b', 'c'], ['a', 'c'], ['a', 'b']])
    """
    prompts = distinct(references)
    if lonely := [texts[0] for texts in prompts if len(texts) < 2]:
        raise UserError(f"a ceiling needs two references of each prompt; {lonely[0][:40]!r} is alone")
    pairs = [(text, texts[:i] + texts[i + 1 :]) for texts in prompts for i, text in enumerate(texts)]
    return [text for text, _ in pairs], [others for _, others in pairs]


def shifted(references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The floor: hypotheses and references for `bleu`, each reference against those of the prompt half the list away.
    What is left is the manner that all these stories share.

    A prompt given several times counts once. Raises UserError for a single prompt, and what `bleu` raises for
    references.

    >>> shifted([["a", "b"], ["c", "d"]])
    (['a', 'b', 'c', 'd'], [['c', 'd'], ['c', 'd'], ['a', 'b'], ['a', 'b']])
    """
    prompts = distinct(references)
    if len(prompts) < 2:
        raise UserError("a floor needs the references of at least two prompts, got one")
    pairs = [(text, wrong) for texts, wrong in zip(prompts, turned(prompts), strict=True) for text in texts]
    return [text for text, _ in pairs], [wrong for _, wrong in pairs]


def turned(prompts: Sequence) -> list:
    """The same prompts begun half-way, so that each stands where one far from it stood."""
    return [*prompts[len(prompts) // 2 :], *prompts[: len(prompts) // 2]]


def distinct(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each list of references once, in order."""
    check_references(references)
    return [list(texts) for texts in dict.fromkeys(map(tuple, references))]


def check_references(references: Sequence[Sequence[str]]) -> None:
    if isinstance(references, str):
        raise TypeError(f"references must be a list of lists of texts, got one str: {references[:40]!r}")
    if len(references) == 0:
        raise UserError("no references: give each story a list of them")
    for index, texts in enumerate(references):
        if texts is None:
            raise TypeError(f"references[{index}] must be a list of texts, got None")
        check_stories(texts, f"references[{index}]")


def columns(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """sacrebleu's layout: the first reference of every story, then the second, None where a story has no more."""
    most = max(map(len, references))
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]


def shared_clusters(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[int]]:
    """Indices of the stories that hang together: by a reference, or by being each other's, as in `leave_one_out`."""
    groups: list[tuple[set, list[int]]] = []
    for index, (story, texts) in enumerate(zip(hypotheses, references, strict=True)):
        marks, members = {*texts, frozenset([story, *texts])}, [index]
        for group in [group for group in groups if group[0] & marks]:
            groups.remove(group)
            marks, members = marks | group[0], group[1] + members
        groups.append((marks, members))
    return [members for _, members in groups]


def sufficient_counts(score: BLEUScore) -> list[int]:
    """What adds up over stories: common and all n-grams of length 1 to 4, words of the story and of its reference."""
    return [*score.counts, *score.totals, score.sys_len, score.ref_len]


def pooled_bleu(counts: Sequence[int]) -> float:
    """BLEU in points from added `sufficient_counts`, with the settings `BLEU()` has."""
    return BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp").score
