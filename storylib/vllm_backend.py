"""Stories by vLLM on a GPU, behind the same calls: `generate(*load(adapter), prompts, settings)`.

vLLM draws by its own generators: a prompt and seed give the same story each time, but another than without it.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

from transformers import PreTrainedTokenizerBase

from storylib.config import GenerationSettings
from storylib.decoding import Draft
from storylib.errors import UserError
from storylib.models import base_of, check_tokenizer, load_tokenizer, resolve

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for
AT_A_TIME = 1024  # drafts that are handed over together; vLLM makes its own batches of them


class Vllm:
    """A model in vLLM's hands, in the place of one of transformers' in `generation.generate` and `stories`."""

    def __init__(self, engine, adapter=None) -> None:
        self.engine, self.adapter = engine, adapter
        self.config = SimpleNamespace(max_position_embeddings=engine.llm_engine.model_config.max_model_len)

    def write(self, drafts: Iterator[Draft], settings: GenerationSettings, eos: int, streamer=None) -> Iterator[Draft]:
        """As `decoding.write`. Raises UserError for what vLLM cannot do."""
        if streamer:
            raise UserError("vLLM tells whole stories; leave out on_text, or vLLM")
        if settings.no_repeat_ngram:
            raise UserError(f"vLLM knows no no_repeat_ngram, got {settings.no_repeat_ngram}; set repetition_penalty")
        while batch := list(islice(drafts, AT_A_TIME)):
            answers = self.engine.generate(
                [{"prompt_token_ids": draft.ids} for draft in batch],
                [sampling(draft, settings, eos) for draft in batch],
                lora_request=self.adapter,
                use_tqdm=False,
            )
            for draft, answer in zip(batch, answers, strict=True):
                draft.ids = draft.ids + list(answer.outputs[0].token_ids)
                if answer.outputs[0].finish_reason == "stop" and draft.ids[-1] != eos:
                    draft.ids.append(eos)
                yield draft


def sampling(draft: Draft, settings: GenerationSettings, eos: int):
    """`settings` as vLLM's SamplingParams."""
    from vllm import SamplingParams

    return SamplingParams(
        max_tokens=draft.room,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k or -1,
        repetition_penalty=settings.repetition_penalty,
        seed=draft.generator.initial_seed(),
        stop_token_ids=[eos],
        detokenize=False,
    )


def load(folder: Path) -> tuple[Vllm, PreTrainedTokenizerBase]:
    """A fine-tuned adapter on its base, or a whole model, with its tokenizer.

    The base is loaded in the precision it was saved in, not in 4 bits. Raises UserError where vLLM is not installed, as
    `models.load_adapter` does, and for an adapter that learnt embeddings of its own, which vLLM does not take.
    """
    try:
        from vllm import LLM
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise UserError(
            f"vLLM can't be loaded ({error}); pip install 'storylib[vllm]', on a machine with a GPU"
        ) from error
    folder = Path(folder)
    if (folder / "config.json").exists():
        return Vllm(LLM(model=str(folder))), load_tokenizer(str(folder))
    base = base_of(folder)
    tokenizer = load_tokenizer(base)
    check_tokenizer(folder, tokenizer, base)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("trainable_token_indices"):
        raise UserError(f"vLLM takes no adapter with embeddings of its own, as {folder} is; train with names=False")
    if config["r"] > RANKS[-1]:
        raise UserError(f"vLLM takes adapters of rank {RANKS[-1]} at most; {folder} has {config['r']}")
    rank = next(rank for rank in RANKS if rank >= config["r"])
    engine = LLM(model=resolve(base), enable_lora=True, max_lora_rank=rank)
    return Vllm(engine, LoRARequest("adapter", 1, str(folder.resolve()))), tokenizer
