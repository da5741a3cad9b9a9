"""How likely texts are under a model: perplexity, bits per byte and bits per character."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from storylib.errors import UserError
from storylib.metrics.score import Score, Tally, check_stories, mean_tally, share, tally_score
from storylib.prompts import joined, token_ids

BATCH_TOKENS = 1024  # as much as a CPU's caches take; a GPU is faster with 8192 and more
LARGEST_WINDOW = 2048  # by default: the logits of a window are kept at once, and some models see 100,000 tokens
CHUNK = 256  # tokens whose logits are in fp32 at a time

Row = tuple[list[int], int]  # token ids (T,), and the place of the first one that is scored, 1 or later


@dataclass(frozen=True)
class Perplexity:
    """The likelihood of each text, and what it all comes to. An empty text counts in nothing."""

    nats: tuple[float, ...]  # negative log-likelihood of each text
    tokens: tuple[int, ...]  # scored ones of each text
    bytes: tuple[int, ...]  # of each text in UTF-8
    characters: tuple[int, ...]  # code points of each text
    signature: str

    @property
    def perplexity(self) -> float:
        """Of the corpus: exp of the mean over all tokens. It compares models of one tokenizer on the same texts."""
        return self.tallies()["perplexity"].of()

    @property
    def mean_story_perplexity(self) -> float:
        """The reference protocol, that of `evaluate`: the mean of the stories' own perplexities. It is no corpus
        perplexity: one odd story can double it."""
        return self.tallies()["mean story perplexity"].of()

    @property
    def bits_per_byte(self) -> float:
        """It compares models whatever their tokenizers, on the same texts."""
        return self.tallies()["bits per byte"].of()

    @property
    def bits_per_character(self) -> float:
        """Nearer than bits per byte to being comparable between languages: a Chinese character has three bytes."""
        return self.tallies()["bits per character"].of()

    @property
    def per_story(self) -> tuple[float, ...]:
        """The perplexity of each text in the order given; NaN for an empty one."""
        pairs = zip(self.nats, self.tokens, strict=True)
        return tuple(exp_mean((nats, tokens)) if tokens else math.nan for nats, tokens in pairs)

    def scores(self) -> dict[str, Score]:
        """The four figures with intervals, which take the texts for independent, over those that are not empty."""
        return {name: tally_score(tally, f"{name}|{self.signature}") for name, tally in self.tallies().items()}

    def tallies(self) -> dict[str, Tally]:
        """What adds up, for each of the four figures."""
        columns = np.array([self.nats, self.tokens, self.bytes, self.characters])  # (4, texts)
        nats, tokens, size, characters = columns[:, columns[1] > 0]
        bits = nats / math.log(2)
        return {
            "perplexity": Tally(np.stack([nats, tokens], axis=1), exp_mean),
            "mean story perplexity": mean_tally(np.exp(nats / tokens)),
            "bits per byte": Tally(np.stack([bits, size], axis=1), share),
            "bits per character": Tally(np.stack([bits, characters], axis=1), share),
        }


def exp_mean(counts: Sequence[float]) -> float:
    nats, tokens = counts
    return float(np.exp(nats / tokens))


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    prompts: Sequence[str] | None = None,
    window: int | None = None,
    stride: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Perplexity:
    """How likely the model finds each text.

    A BOS (an EOS where the tokenizer has none) starts each text and is not scored, nor is an end of the story.
    prompts: for each text what stood before it; only the text is scored. The prompt's tokens are those that it has
        alone, as in fine-tuning (`storylib.prompts.joined`).
    window: tokens that the model sees at once, BOS counted; None for all that it can, at most 2048.
    stride: a longer text is read in windows that begin so many tokens apart, by default half a window, and each of its
        tokens is scored once, in the first window that holds it.
    batch_tokens: tokens of a batch, padding counted; no more logits than these, or those of a window, are ever kept.

    Results are in the order of the texts, whatever the batches. An empty text has no tokens, and is counted in the
    signature. Raises UserError where all are, for no texts, prompts of another number, a window or stride that cannot
    be, and a likelihood that is not finite; TypeError for a str where a list is needed and for what is no text.
    """
    check_stories(texts, "texts")
    if prompts is not None:
        check_stories(prompts, "prompts")
        if len(prompts) != len(texts):
            raise UserError(f"each text needs its prompt, got {len(texts)} texts and {len(prompts)} prompts")
    window, stride = checked_window(model, window, stride)
    rows = tokenised(tokenizer, texts, prompts)
    tokens = tuple(len(ids) - start for ids, start in rows)
    if not any(tokens):
        raise UserError(f"all {len(texts)} texts are empty: nothing to score")
    pieces = [(index, piece) for index, row in enumerate(rows) for piece in windows(row, window, stride)]
    nats = [0.0] * len(rows)
    for (index, _), found in zip(pieces, log_losses(model, [row for _, row in pieces], batch_tokens), strict=True):
        nats[index] += found
    check_finite(nats)
    return Perplexity(
        tuple(nats),
        tokens,
        tuple(len(text.encode()) for text in texts),
        tuple(map(len, texts)),
        f"bos:unscored|eos:no|prompts:{'no' if prompts is None else 'unscored'}|vocabulary:{len(tokenizer)}"
        f"|window:{window}|stride:{stride}|cut:{sum(len(ids) > window for ids, _ in rows)}|empty:{tokens.count(0)}",
    )


def checked_window(model: PreTrainedModel, window: int | None, stride: int | None) -> tuple[int, int]:
    """Window and stride, with the model's own where none is given."""
    most = getattr(model.config, "max_position_embeddings", None)
    window = min(most or LARGEST_WINDOW, LARGEST_WINDOW) if window is None else window
    stride = window // 2 if stride is None else stride
    if not 2 <= window <= (most or window):
        raise UserError(f"window must be 2 to {most or 'any number of'} tokens, which the model can see, got {window}")
    if not 1 <= stride < window:
        raise UserError(f"stride must be 1 to {window - 1} tokens, less than the window, got {stride}")
    return window, stride


def check_finite(nats: Sequence[float]) -> None:
    """Raises UserError that names the first text without a finite likelihood."""
    if broken := [index for index, found in enumerate(nats) if not math.isfinite(found)]:
        raise UserError(
            f"the log-likelihood of texts[{broken[0]}] is {-nats[broken[0]]}, and {len(broken)} of {len(nats)} are not "
            "finite: the model's weights are damaged, or its precision is too low; load it in float32"
        )


def tokenised(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompts: Sequence[str] | None = None
) -> list[Row]:
    """Token ids of each text, with BOS and its prompt in front, and where the text begins."""
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise UserError("the tokenizer has neither a BOS nor an EOS token to start a text with; give it one")
    if prompts is None:
        return [([first, *ids], 1) for ids in token_ids(tokenizer, texts, special=False)]
    return [([first, *ids], 1 + start) for ids, start in joined(tokenizer, prompts, texts, special=False)]


def windows(row: Row, window: int, stride: int) -> Iterator[Row]:
    """The pieces of a row of which each is seen at once; every token from the row's start on is scored in one of them.

    >>> list(windows(([0, 1, 2, 3, 4, 5, 6], 1), window=4, stride=2))
    [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 2), ([4, 5, 6], 2)]
    """
    ids, done = row
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        if end > done:
            yield ids[begin:end], done - begin
            done = end


@torch.inference_mode()
def log_losses(model: PreTrainedModel, rows: Sequence[Row], batch_tokens: int = BATCH_TOKENS) -> list[float]:
    """Negative log-likelihood in nats of each row from its start on, in batches of like lengths."""
    losses = [0.0] * len(rows)
    was_training = model.training
    model.eval()
    try:
        for batch in batches([len(ids) for ids, _ in rows], batch_tokens):
            for index, loss in zip(batch, batch_losses(model, [rows[index] for index in batch]), strict=True):
                losses[index] = loss
    finally:
        model.train(was_training)
    return losses


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers, the longest rows first, so that what is too large for the memory fails at once.

    >>> list(batches([2, 9, 3, 4], batch_tokens=8))
    [[1], [3, 2], [0]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def batch_losses(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """Rows padded on the right, where a causal model cannot see it, so it needs no mask."""
    width, first = max(len(ids) for ids, _ in rows), min(start for _, start in rows)
    ids = torch.tensor([row + [row[0]] * (width - len(row)) for row, _ in rows], device=model.device)  # (B, T)
    keep = width - first  # K: what stands before it is scored in no row
    logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=keep).logits  # (B, K, V)
    chunks = zip(logits.flatten(0, 1).split(CHUNK), ids[:, -keep:].flatten().split(CHUNK), strict=True)
    losses = torch.cat([F.cross_entropy(some.float(), targets, reduction="none") for some, targets in chunks])
    losses = losses.view(len(rows), keep).cpu().double()  # in fp32 a sum of thousands is off
    parts = [(start - first, len(row) - first) for row, start in rows]
    return [float(loss[start:end].sum()) for loss, (start, end) in zip(losses, parts, strict=True)]
