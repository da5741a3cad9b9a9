"""Tokens per second of writing 100 stories: ours beside what one would run instead, as ratios in one run.

    python benchmarks/generation.py [--stories 100] [--rounds 3] [--threads 2] [--out FILE.json]

All four write with the same merged adapter, on the same prompts, by the same settings (at most 200 tokens,
32 at a time):

    one by one    transformers' text-generation pipeline, one story at a time; it is shown a few of the prompts only
    plain batch   `model.generate` on padded batches, in the order of the prompts
    bare loop     forward passes of full batches with a static cache, as many as the tokens of ours take, and nothing
                  else, neither prompts nor choices: the limit
    storylib      storylib.generation.generate

Tokens are those of the stories, up to their ends. The systems take turns, so that a busy machine slows all of them, and
the ratio is taken within each round; its median counts. Beside the clock stands the processor's time, which a busy
machine changes less.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import PreTrainedModel, StaticCache, pipeline

from storylib import config, data
from storylib.files import DATA, write_text
from storylib.generation import generate
from storylib.models import load_adapter

RECIPE = config.recipe("emoji")
SETTINGS = RECIPE.generate
SAMPLING = {
    "max_new_tokens": SETTINGS.max_new_tokens,
    "do_sample": True,
    "temperature": SETTINGS.temperature,
    "top_k": SETTINGS.top_k,
    "top_p": SETTINGS.top_p,
}
SINGLES = 3  # stories that the one-by-one loop is timed on


def one_by_one(model: PreTrainedModel, tokenizer, prompts: Sequence[str]) -> int:
    teller = pipeline("text-generation", model=model, tokenizer=tokenizer)
    return sum(
        len(
            teller(prompt, return_tensors=True, pad_token_id=tokenizer.pad_token_id, **SAMPLING)[0][
                "generated_token_ids"
            ]
        )
        - len(tokenizer(prompt).input_ids)
        for prompt in prompts[:SINGLES]
    )


def plain_batch(model: PreTrainedModel, tokenizer, prompts: Sequence[str]) -> int:
    tokens = 0
    for start in range(0, len(prompts), SETTINGS.batch_size):
        inputs = tokenizer(list(prompts[start : start + SETTINGS.batch_size]), return_tensors="pt", padding=True)
        told = model.generate(**inputs.to(model.device), pad_token_id=tokenizer.pad_token_id, **SAMPLING)
        new = told[:, inputs["input_ids"].shape[1] :]  # (B, tokens)
        tokens += int((new != tokenizer.pad_token_id).sum())
    return tokens


def ours(model: PreTrainedModel, tokenizer, prompts: Sequence[str]) -> int:
    told = generate(model, tokenizer, prompts, SETTINGS, range(len(prompts)))
    return sum(story.tokens + (story.ended == "eos") for story in told)


@torch.no_grad()
def bare_loop(model: PreTrainedModel, tokenizer, prompts: Sequence[str], tokens: int) -> int:
    """As many passes as `tokens` take; the cache begins anew where stories of average length would end."""
    steps, long = -(-tokens // SETTINGS.batch_size), tokens // len(prompts)
    longest = max(len(tokenizer(prompt).input_ids) for prompt in prompts)
    cache = StaticCache(config=model.config, max_cache_len=longest + SETTINGS.max_new_tokens)
    ids = torch.full((SETTINGS.batch_size, 1), tokenizer.eos_token_id, device=model.device)
    for step in range(steps):
        if step % long == 0:
            cache.reset()
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return steps * SETTINGS.batch_size


def main(
    stories: Annotated[int, typer.Option(min=SINGLES)] = 100,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    out: Annotated[Path, typer.Option()] = Path("runs/benchmark-generation.json"),
) -> None:
    torch.set_num_threads(threads)
    adapted, tokenizer = load_adapter(DATA / "adapters" / "emoji")
    model = adapted.get_base_model()
    prompts = list(dict.fromkeys(data.load(RECIPE.corpus, **RECIPE.data)["train"]["prompt"]))[:stories]
    systems: dict[str, Callable[[], int]] = {
        "storylib": lambda: ours(adapted, tokenizer, prompts),
        "bare loop": lambda: bare_loop(model, tokenizer, prompts, written),
        "plain batch": lambda: plain_batch(model, tokenizer, prompts),
        "one by one": lambda: one_by_one(model, tokenizer, prompts),
    }
    generate(adapted, tokenizer, prompts[:2], SETTINGS)  # warm-up
    speeds = {"clock": {system: [] for system in systems}, "processor": {system: [] for system in systems}}
    for _ in range(rounds):
        for system, run in systems.items():
            clock, processor = time.perf_counter(), time.process_time()
            tokens = run()
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            if system == "storylib":
                written = tokens
            speeds["clock"][system].append(tokens / clock)
            speeds["processor"][system].append(tokens / processor)
            print(
                f"{system}: {tokens} tokens, {tokens / clock:.0f} a second, {tokens / processor:.0f} by the processor's"
            )
    ratios = {
        timer: {
            system: statistics.median(mine / other for mine, other in zip(by["storylib"], others, strict=True))
            for system, others in by.items()
        }
        for timer, by in speeds.items()
    }
    for system in systems:
        print(f"storylib / {system}: {ratios['clock'][system]:.2f}, by the processor {ratios['processor'][system]:.2f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"stories": stories, "threads": threads, "tokens_per_second": speeds, "ratios": ratios}
    write_text(out, json.dumps(facts, indent=2))


if __name__ == "__main__":
    typer.run(main)
