"""Prompts in, stories out: batched, seeded, streamed, stopped."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TextStreamer,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from storylib.config import GenerationSettings
from storylib.data.sentences import SENTENCE_END
from storylib.errors import UserError


@dataclass(frozen=True)
class Story:
    """A story and how it came about."""

    prompt: str
    seed: int
    text: str
    ended: str  # "eos": the model stopped by itself; "limit": max_new_tokens was reached
    tokens: int  # new ones, EOS not counted


class SeededChoice(LogitsProcessor):
    """Adds Gumbel noise from one generator per row, so that the arg-max is a sample from the row's softmax.

    A row's noise depends on its own seed alone, never on its neighbours in the batch (the Gumbel-max trick,
    https://arxiv.org/abs/1611.00712, section 2).
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width = scores.shape[-1]
        uniform = torch.stack([torch.rand(width, generator=generator) for generator in self.generators])  # (B, V)
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores + noise.to(scores)


class Sentences(TextStreamer):
    """Hands on a story sentence by sentence while it is written, so that no half sentence or character is shown."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text, self.written, self.shown = on_text, "", 0

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.written = (self.written + text).lstrip()
        if SENTENCE_END.search(self.written):
            self.show(whole_sentences(self.written))

    def show(self, text: str) -> None:
        """Hand on what of `text`, the story so far, has not been handed on."""
        if len(text) > self.shown:
            self.on_text(text[self.shown :])
            self.shown = len(text)


def choices(settings: GenerationSettings, seeds: Sequence[int]) -> LogitsProcessorList:
    """Repetition controls, then the temperature, top-k and top-p of sampling, then the seeded choice itself."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))
    if settings.temperature > 0:
        processors.append(TemperatureLogitsWarper(settings.temperature))
        if settings.top_k:
            processors.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            processors.append(TopPLogitsWarper(settings.top_p))
        processors.append(SeededChoice(seeds))
    return processors


def row_seed(prompt: str, seed: int) -> int:
    """A generator seed of its own for each prompt and seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{prompt}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()  # not inference_mode: FSDP would train on with what it gathered here
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    seeds: Sequence[int] | int = 0,
    on_text: Callable[[str], None] | None = None,
) -> list[Story]:
    """One story per prompt, in the order of the prompts.

    The same prompt and seed give the same story whatever else is in the batch, up to rounding: padding moves logits
    by about 1e-6. `on_text` is given a single prompt's story in whole sentences as it is written.

    Raises UserError for no prompts, seeds of another number than prompts, or a prompt that fills the model's window.
    """
    seeds = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
    if not prompts or len(seeds) != len(prompts):
        raise UserError(f"as many seeds as prompts are needed, and at least one; got {len(prompts)} and {len(seeds)}")
    was_training = model.training
    model.eval()
    try:
        stories: list[Story] = []
        for start in range(0, len(prompts), settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            stories += generate_batch(model, tokenizer, prompts[batch], settings, seeds[batch], on_text)
        return stories
    finally:
        model.train(was_training)


def generate_batch(model, tokenizer, prompts, settings: GenerationSettings, seeds, on_text) -> list[Story]:
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left").to(model.device)
    width = inputs["input_ids"].shape[1]
    room = model.config.max_position_embeddings - width
    if room < 1:
        raise UserError(f"the longest prompt has {width} tokens; the model's window holds {width + room}")
    streamer = Sentences(tokenizer, on_text) if on_text else None
    output = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=min(settings.max_new_tokens, room),
        do_sample=False,  # the sampling is in the processors
        temperature=None,
        top_p=None,
        top_k=None,
        logits_processor=choices(settings, [row_seed(p, s) for p, s in zip(prompts, seeds, strict=True)]),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        streamer=streamer,
    )
    new = output[:, width:].tolist()  # (B, new tokens)
    stories = [finish(tokenizer, p, s, ids) for p, s, ids in zip(prompts, seeds, new, strict=True)]
    if streamer:
        streamer.show(stories[0].text)
    return stories


def finish(tokenizer, prompt: str, seed: int, ids: list[int]) -> Story:
    """A story from its token ids: all of it up to EOS, or up to its last whole sentence where the limit cut it."""
    stopped = tokenizer.eos_token_id in ids
    ids = ids[: ids.index(tokenizer.eos_token_id)] if stopped else ids
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Story(prompt, seed, text if stopped else whole_sentences(text), "eos" if stopped else "limit", len(ids))


def whole_sentences(text: str) -> str:
    """`text` up to the end of its last sentence, or all of it where no sentence ends.

    >>> whole_sentences('"Good night," said Owl. Then the')
    '"Good night," said Owl.'
    """
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text
