"""Prompts in, stories out: batched, seeded, streamed, stopped."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from storylib import decoding
from storylib.choosing import Choice, ChosenAlone
from storylib.config import GenerationSettings
from storylib.data.sentences import SENTENCE_END
from storylib.decoding import Draft
from storylib.errors import UserError


@dataclass(frozen=True)
class Story:
    """A story and how it came about."""

    prompt: str
    seed: int
    text: str
    ended: str  # "eos": the model stopped by itself; "limit": max_new_tokens was reached
    tokens: int  # new ones, EOS not counted


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


def row_seed(prompt: str, seed: int) -> int:
    """A generator seed of its own for each prompt and seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{prompt}".encode()).digest()[:8], "big") >> 1


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    seeds: Sequence[int] | int = 0,
    on_text: Callable[[str], None] | None = None,
) -> list[Story]:
    """One story per prompt, in the order of the prompts.

    The same prompt and seed give the same story whatever else is asked for, up to rounding: a batch of another size
    moves logits by about 1e-6. `on_text` is given a single prompt's story in whole sentences as it is written.

    Raises UserError for no prompts, seeds of another number than prompts, or a prompt that fills the model's window.
    """
    seeds = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
    if not prompts or len(seeds) != len(prompts):
        raise UserError(f"as many seeds as prompts are needed, and at least one; got {len(prompts)} and {len(seeds)}")
    if on_text and len(prompts) > 1:
        raise UserError(f"one story at a time can be streamed; got {len(prompts)} prompts")
    streamer = Sentences(tokenizer, on_text) if on_text else None
    asked = [
        draft(model, tokenizer, prompt, seed, settings, number)
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    asked.sort(key=lambda draft: -len(draft.ids))  # alike ones together; the cache has its full size from the start
    told = dict(stories(model, tokenizer, iter(asked), settings, streamer))
    if streamer:
        streamer.show(told[0].text)
    return [told[number] for number in range(len(prompts))]


def draft(model, tokenizer, prompt: str, seed: int, settings: GenerationSettings, number: int = 0) -> Draft:
    """A story still to be written. Raises UserError for a prompt that fills the model's window, or has no tokens."""
    ids, window = prompt_tokens(model, tokenizer, prompt), model.config.max_position_embeddings
    generator = torch.Generator().manual_seed(row_seed(prompt, seed))
    return Draft(number, prompt, seed, ids, len(ids), min(settings.max_new_tokens, window - len(ids)), generator)


def prompt_tokens(model, tokenizer, prompt: str) -> list[int]:
    """The prompt as token ids. Raises UserError where there are none, or so many that no story fits into the window."""
    ids, window = tokenizer(prompt).input_ids, model.config.max_position_embeddings
    if not 0 < len(ids) < window:
        raise UserError(
            f"{prompt[:40]!r}… has {len(ids)} tokens; the model's window holds {window}, the story included"
        )
    return ids


@torch.no_grad()  # not inference_mode: FSDP would train on with what it gathered here
def stories(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Iterator[Draft],
    settings: GenerationSettings,
    streamer: TextStreamer | None = None,
) -> Iterator[tuple[int, Story]]:
    """Each draft's number and story as soon as it has ended; more drafts are taken only when there is room for them."""
    with at_rest(model):
        for done in writer(model)(asked, settings, tokenizer.eos_token_id, streamer):
            yield done.number, finish(tokenizer, done.prompt, done.seed, done.story)


def writer(model) -> Callable[..., Iterator[Draft]]:
    """What turns drafts into whole stories by this model."""
    if not isinstance(model, torch.nn.Module):
        return model.write  # an engine of its own, as `vllm_backend` has it
    return partial(decoding.write if decoding.has_slots(model) else write_batches, model)


@contextmanager
def at_rest(model) -> Iterator[None]:
    """Without dropout until the block ends."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def write_batches(model, drafts: Iterator[Draft], settings: GenerationSettings, eos: int, streamer) -> Iterator[Draft]:
    """As `decoding.write`, by `model.generate`, which knows every kind of model: batch after batch, padded in front."""
    while batch := list(islice(drafts, settings.batch_size)):
        width = max(draft.begins for draft in batch)
        pad = [width - draft.begins for draft in batch]
        ids = torch.tensor([[eos] * gap + draft.ids for gap, draft in zip(pad, batch, strict=True)])  # (B, T)
        mask = torch.tensor([[0] * gap + [1] * draft.begins for gap, draft in zip(pad, batch, strict=True)])
        choice = ChosenAlone(Choice(settings), [draft.generator for draft in batch], mask)
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=min(draft.room for draft in batch),
            do_sample=False,  # the sampling is in the choice
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList([choice]),
            eos_token_id=eos,
            pad_token_id=eos,
            streamer=streamer,
        )
        for draft, new in zip(batch, output[:, width:].tolist(), strict=True):
            draft.ids += new
            yield draft


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
