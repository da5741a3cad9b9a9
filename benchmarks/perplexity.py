"""Seconds of perplexity: ours beside the loop of `evaluate`, as ratios in one run.

    python -m benchmarks.perplexity [--stories 1000] [--rounds 3] [--threads 1] [--file STORIES.jsonl] [--out FILE.json]

All score the same stories with the same model in memory, BOS in front:

    evaluate    batches of 16 in the order given, all padded to the longest story of all, with a mask; all logits of a
                batch and a copy of them. Its metric is fetched from the network, so its loop is written out here
    by batch    the same, but for padding: each batch to the longest of its own stories
    storylib    `storylib.perplexity.perplexity`

Only stories that fit the model's window are taken, since evaluate has no other way with longer ones than to cut them:
TinyStories where they lie beside the project, else the shipped ones, every third of them joined to the next two. The
loops take turns, so that a busy machine slows all of them; the ratio is taken within each round, and its median counts.
One thread, since on a busy machine several wait for each other; processor time is given beside the time that passed.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch.nn import CrossEntropyLoss

from storylib.config import EMBEDDED_BASE
from storylib.data.reading import read_rows
from storylib.errors import UserError
from storylib.files import DATA, write_text
from storylib.models import load_base, load_tokenizer
from storylib.perplexity import perplexity

TINYSTORIES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "tinystories_en"
BATCH = 16  # stories; evaluate's default


def main(
    stories: Annotated[int, typer.Option(help="How many.")] = 1000,
    rounds: Annotated[int, typer.Option(help="How often each loop runs.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
    file: Annotated[Path | None, typer.Option(help="JSONL of other stories, in a column `text` or `story`.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the figures go, as JSON.")] = None,
) -> None:
    """Measure, print a table, and write the figures."""
    torch.set_num_threads(threads)
    tokenizer, model = load_tokenizer(EMBEDDED_BASE), load_base(EMBEDDED_BASE, four_bit=False).eval()
    tokenizer.padding_side = "right"  # on the left, evaluate would score each story's first token after padding
    window = model.config.max_position_embeddings
    texts = list(islice((text for text in read_texts(file) if len(tokenizer(text).input_ids) <= window), stories))
    if len(texts) < stories:
        raise UserError(f"{stories} stories of at most {window} tokens are needed, got {len(texts)}; ask for fewer")
    loops = {
        "evaluate": lambda: evaluate_loop(model, tokenizer, texts, padded_together=stories),
        "by batch": lambda: evaluate_loop(model, tokenizer, texts, padded_together=BATCH),
        "storylib": lambda: perplexity(model, tokenizer, texts).per_story,
    }
    evaluate_loop(model, tokenizer, texts[:BATCH], BATCH)  # warm
    seconds, busy = measure(loops, rounds)
    lengths = np.percentile([len(tokenizer(text).input_ids) for text in texts], [0, 25, 50, 75, 100])
    facts = {"stories": stories, "tokens by quartile": lengths.astype(int).tolist(), "threads": threads}
    ratios, ratios_busy = ratios_of(seconds), ratios_of(busy)
    print(facts)
    print(f"{'loop':10} {'seconds':>8} {'ratio':>6} {'processor seconds':>18} {'ratio':>6}")
    for name in loops:
        wall, cpu = statistics.median(seconds[name]), statistics.median(busy[name])
        print(f"{name:10} {wall:8.1f} {ratios[name]:6.2f} {cpu:18.1f} {ratios_busy[name]:6.2f}")
    if out:
        facts |= {"seconds": seconds, "processor seconds": busy, "ratio": ratios, "processor ratio": ratios_busy}
        write_text(out, json.dumps(facts, indent=1))


def measure(loops: dict[str, Callable], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and processor seconds of each loop in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    busy: dict[str, list[float]] = {name: [] for name in loops}
    found: dict[str, Sequence[float]] = {}
    for number in range(rounds):
        for name, loop in loops.items():
            start, worked = time.perf_counter(), time.process_time()
            found[name] = loop()
            seconds[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - worked)
        took = ", ".join(f"{name} {times[-1]:.1f} s" for name, times in seconds.items())
        print(f"round {number + 1}: {took}", flush=True)
    np.testing.assert_allclose(found["storylib"], found["evaluate"], rtol=1e-4)  # whose sums are in fp32
    return seconds, busy


def ratios_of(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as long as ours each loop took, the median over rounds."""
    ours = seconds["storylib"]
    return {name: statistics.median(a / b for a, b in zip(took, ours, strict=True)) for name, took in seconds.items()}


def read_texts(file: Path | None) -> Iterator[str]:
    """Stories, one after the other, in their order."""
    if file is None and not TINYSTORIES.exists():
        files = [DATA / "emoji_stories" / level / "train.jsonl" for level in ("rich", "easy")]
        told = [row["story"] for row in chain.from_iterable(map(read_rows, files))]
        for index, story in enumerate(told):
            yield " ".join(told[index : index + 3]) if index % 3 == 0 else story
        return
    files = [TINYSTORIES / "valid.jsonl", TINYSTORIES / "train.jsonl"] if file is None else [file]
    for row in chain.from_iterable(map(read_rows, files)):
        yield row["text"] if "text" in row else row["story"]


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


if __name__ == "__main__":
    typer.run(main)
