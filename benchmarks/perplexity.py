"""Seconds of perplexity: ours beside the loop of `evaluate`.

All score the same stories with the same model in memory, BOS in front:

    evaluate    batches of 16 in the order given, all padded to the longest story of all, with a mask; all logits of a
                batch and a copy of them. Its metric is fetched from the network, so its loop is written out here
    by batch    the same, but for padding: each batch to the longest of its own stories
    storylib    `storylib.perplexity.perplexity`
    limit       the forward passes of ours over tokens that lie ready, and nothing after them

Only stories that fit the model's window are taken, since evaluate has no other way with longer ones than to cut them:
TinyStories where they lie beside the project, else the shipped ones, every third of them joined to the next two.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import CrossEntropyLoss

from benchmarks.runner import LIMIT, OURS, Row, Size, row, take_turns
from storylib.config import EMBEDDED_BASE
from storylib.data.reading import read_rows
from storylib.errors import UserError
from storylib.files import DATA
from storylib.models import load_base, load_tokenizer
from storylib.perplexity import BATCH_TOKENS, batches, perplexity, tokenised

TINYSTORIES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "tinystories_en"
BATCH = 16  # stories; evaluate's default


def rows(size: Size) -> list[Row]:
    tokenizer, model = load_tokenizer(EMBEDDED_BASE), load_base(EMBEDDED_BASE, four_bit=False).eval()
    tokenizer.padding_side = "right"  # on the left, evaluate would score each story's first token after padding
    window, count = model.config.max_position_embeddings, size.texts
    texts = list(islice((text for text in read_texts() if len(tokenizer(text).input_ids) <= window), count))
    if len(texts) < count:
        raise UserError(f"{count} stories of at most {window} tokens are needed, got {len(texts)}; ask for fewer")
    tokens = sum(len(ids) - start for ids, start in tokenised(tokenizer, texts))
    found: dict[str, Sequence[float]] = {}

    def loop(name: str, score) -> float:
        found[name] = score()
        return tokens

    systems = {
        OURS: lambda: loop(OURS, lambda: perplexity(model, tokenizer, texts).per_story),
        "evaluate": lambda: loop("evaluate", lambda: evaluate_loop(model, tokenizer, texts, padded_together=count)),
        "by batch": lambda: loop("by batch", lambda: evaluate_loop(model, tokenizer, texts, padded_together=BATCH)),
        LIMIT: lambda: loop(LIMIT, ready_passes(model, tokenizer, texts)),
    }
    evaluate_loop(model, tokenizer, texts[:BATCH], BATCH)  # warm-up
    speeds = take_turns(systems, size.rounds)
    np.testing.assert_allclose(found[OURS], found["evaluate"], rtol=1e-4)  # whose sums are in fp32
    return [
        row("perplexity vs evaluate", "tokens/s", speeds, "evaluate"),
        row("perplexity vs evaluate, padded by batch", "tokens/s", speeds, "by batch"),
    ]


def ready_passes(model, tokenizer, texts: Sequence[str]):
    scored = [ids for ids, _ in tokenised(tokenizer, texts)]
    padded = []
    for batch in batches([len(ids) for ids in scored], BATCH_TOKENS):
        width = max(len(scored[index]) for index in batch)
        padded.append(torch.tensor([scored[index] + [0] * (width - len(scored[index])) for index in batch])[:, :-1])

    @torch.inference_mode()
    def passes() -> None:
        for ids in padded:  # (B, T)
            model(input_ids=ids.to(model.device), use_cache=False)

    return passes


def read_texts() -> Iterator[str]:
    """Stories, one after the other, in their order."""
    if not TINYSTORIES.exists():
        files = [DATA / "emoji_stories" / level / "train.jsonl" for level in ("rich", "easy")]
        told = [one["story"] for one in chain.from_iterable(map(read_rows, files))]
        for index, story in enumerate(told):
            yield " ".join(told[index : index + 3]) if index % 3 == 0 else story
        return
    for one in chain.from_iterable(map(read_rows, [TINYSTORIES / "valid.jsonl", TINYSTORIES / "train.jsonl"])):
        yield one["text"]


@torch.no_grad()
def evaluate_loop(model, tokenizer, texts: Sequence[str], padded_together: int) -> list[float]:
    """Perplexities by the code of `evaluate`'s metric 0.4, step by step."""
    found, loss = [], CrossEntropyLoss(reduction="none")
    for first in range(0, len(texts), padded_together):
        together = list(texts[first : first + padded_together])
        encoded = tokenizer(together, add_special_tokens=False, padding=True, return_tensors="pt").to(model.device)
        for start in range(0, len(together), BATCH):
            ids, mask = encoded.input_ids[start : start + BATCH], encoded.attention_mask[start : start + BATCH]
            bos = torch.full((len(ids), 1), tokenizer.bos_token_id, device=ids.device)
            ids, mask = torch.cat([bos, ids], dim=1), torch.cat([torch.ones_like(bos), mask], dim=1)
            logits = model(ids, attention_mask=mask).logits
            shifted, labels = logits[..., :-1, :].contiguous(), ids[..., 1:].contiguous()
            scored = mask[..., 1:].contiguous()
            found += torch.exp((loss(shifted.transpose(1, 2), labels) * scored).sum(1) / scored.sum(1)).tolist()
    return found
