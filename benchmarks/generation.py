"""Tokens per second of writing stories: ours beside what one would run instead.

All write for the same prompts, at most 200 tokens, by the same settings, with the embedded base and its adapter:

    one by one    transformers' text-generation pipeline, a story at a time, on the base in 4 bits with the adapter
                  beside it, as the 2023 systems ran it; it is shown a few of the prompts only
    one by one, merged   the same loop with the very model that ours writes with
    plain batch   `model.generate` with that model on padded batches of 32, in the order of the prompts (on two cores
                  that is faster for it than the 100 and more that ours has side by side)
    limit         forward passes of full batches with a static cache, as many as the tokens of ours take, and nothing
                  else, neither prompts nor choices; the cache begins anew where stories of average length would end
    storylib      storylib.generation.generate

Tokens are those of the stories, up to their ends.
"""

from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import PreTrainedModel, StaticCache, pipeline

from benchmarks.runner import LIMIT, OURS, Row, Size, row, take_turns
from storylib import config, data
from storylib.files import DATA
from storylib.generation import generate
from storylib.models import load_adapter, load_base

ADAPTER = DATA / "adapters" / "emoji"
RECIPE = config.recipe("emoji")
SETTINGS = RECIPE.generate
PLAIN_BATCH = 32
SAMPLING = {
    "max_new_tokens": SETTINGS.max_new_tokens,
    "do_sample": True,
    "temperature": SETTINGS.temperature,
    "top_k": SETTINGS.top_k,
    "top_p": SETTINGS.top_p,
}


def rows(size: Size) -> list[Row]:
    adapted, tokenizer = load_adapter(ADAPTER)
    model = adapted.get_base_model()
    in_4_bits = PeftModel.from_pretrained(load_base(RECIPE.base), ADAPTER).eval()
    prompts = many_prompts(size.stories)
    written = 0

    def ours() -> int:
        nonlocal written
        told = generate(adapted, tokenizer, prompts, SETTINGS, range(len(prompts)))
        written = sum(story.tokens + (story.ended == "eos") for story in told)
        return written

    systems = {
        OURS: ours,
        LIMIT: lambda: bare_loop(model, tokenizer, prompts, written),
        "plain batch": lambda: plain_batch(model, tokenizer, prompts),
        "one by one": lambda: one_by_one(in_4_bits, tokenizer, prompts[: size.singles]),
        "one by one, merged": lambda: one_by_one(model, tokenizer, prompts[: size.singles]),
    }
    generate(adapted, tokenizer, prompts[:2], SETTINGS)  # warm-up
    one_by_one(in_4_bits, tokenizer, prompts[:1])
    speeds = take_turns(systems, size.rounds)
    others = ("one by one", "one by one, merged", "plain batch")
    return [row(f"generate vs {other}", "tokens/s", speeds, other) for other in others]


def many_prompts(count: int) -> list[str]:
    known = list(dict.fromkeys(data.load(RECIPE.corpus, **RECIPE.data)["train"]["prompt"]))
    return [known[number % len(known)] for number in range(count)]


def one_by_one(model: PreTrainedModel, tokenizer, prompts: Sequence[str]) -> int:
    teller = pipeline("text-generation", model=model, tokenizer=tokenizer)
    tokens = 0
    for prompt in prompts:
        told = teller(prompt, return_tensors=True, pad_token_id=tokenizer.pad_token_id, **SAMPLING)[0]
        tokens += len(told["generated_token_ids"]) - len(tokenizer(prompt).input_ids)
    return tokens


def plain_batch(model: PreTrainedModel, tokenizer, prompts: Sequence[str]) -> int:
    tokens = 0
    for start in range(0, len(prompts), PLAIN_BATCH):
        inputs = tokenizer(list(prompts[start : start + PLAIN_BATCH]), return_tensors="pt", padding=True)
        told = model.generate(**inputs.to(model.device), pad_token_id=tokenizer.pad_token_id, **SAMPLING)
        tokens += int((told[:, inputs["input_ids"].shape[1] :] != tokenizer.pad_token_id).sum())  # of (B, tokens)
    return tokens


@torch.no_grad()
def bare_loop(model: PreTrainedModel, tokenizer, prompts: Sequence[str], tokens: int) -> int:
    width = min(SETTINGS.batch_size, len(prompts))
    steps, long = -(-tokens // width), -(-tokens // len(prompts))
    longest = max(len(tokenizer(prompt).input_ids) for prompt in prompts)
    cache = StaticCache(config=model.config, max_cache_len=longest + long)
    ids = torch.full((width, 1), tokenizer.eos_token_id, device=model.device)
    for step in range(steps):
        if step % long == 0:
            cache.reset()
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return steps * width
