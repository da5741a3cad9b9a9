"""Reference stories: what they must be, what they share, and the floor and ceiling that they give."""

from collections.abc import Sequence

from storylib.errors import UserError
from storylib.metrics.score import check_stories, clusters


def leave_one_out(references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The ceiling: hypotheses and references for `bleu`, `chrf` and `rouge`, each reference against the others of its
    prompt.

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
    """The floor: hypotheses and references for `bleu`, `chrf` and `rouge`, each reference against those of the prompt
    half the list away. What is left is the manner that all these stories share.

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


def check_pairs(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raises UserError for unequal lengths, no stories, no references and a blank one; TypeError for a str where a list
    is needed and for anything that is no text."""
    check_stories(hypotheses, "hypotheses")
    check_references(references)
    if len(hypotheses) != len(references):
        raise UserError(f"each hypothesis needs its references, got {len(hypotheses)} and {len(references)}")


def check_references(references: Sequence[Sequence[str]]) -> None:
    if isinstance(references, str):
        raise TypeError(f"references must be a list of lists of texts, got one str: {references[:40]!r}")
    if len(references) == 0:
        raise UserError("no references: give each story a list of them")
    for index, texts in enumerate(references):
        if texts is None:
            raise TypeError(f"references[{index}] must be a list of texts, got None")
        check_stories(texts, f"references[{index}]")
        if blank := [number for number, text in enumerate(texts) if not text.strip()]:
            raise UserError(f"references[{index}][{blank[0]}] has no text: leave it out, or every story scores 0 by it")


def reference_count(references: Sequence[Sequence[str]]) -> str:
    """References of each story as sacrebleu's signatures have it: a number, or "var" where they differ."""
    counts = {len(texts) for texts in references}
    return str(counts.pop()) if len(counts) == 1 else "var"


def shared_clusters(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[int]]:
    """Indices of the stories that hang together: by a reference, or by being each other's, as in `leave_one_out`."""
    earlier = list(range(len(hypotheses)))  # a story that each one hangs together with, or itself
    seen: dict[object, int] = {}

    def first(index: int) -> int:
        while earlier[index] != index:
            earlier[index] = index = earlier[earlier[index]]
        return index

    for index, (story, texts) in enumerate(zip(hypotheses, references, strict=True)):
        for mark in {*texts, frozenset([story, *texts])}:
            earlier[first(index)] = first(seen.setdefault(mark, index))
    return clusters([first(index) for index in range(len(hypotheses))])
