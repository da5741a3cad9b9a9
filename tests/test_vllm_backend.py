"""What is handed to vLLM, by a stand-in that notes it down: no GPU is needed."""

import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from peft import LoraConfig, get_peft_model

from storylib import vllm_backend
from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.generation import generate, row_seed
from storylib.models import load_base

SETTINGS = GenerationSettings(max_new_tokens=9, temperature=0.6, top_p=0.9, top_k=0, repetition_penalty=1.2)


@pytest.fixture
def calls(monkeypatch, tokenizer):
    """A module named vllm: how its model was made, and what it was asked."""
    noted = SimpleNamespace(made=None, asked=None)
    fox, eos = tokenizer(" fox").input_ids, tokenizer.eos_token_id

    class LLM:
        llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=64))

        def __init__(self, **options):
            noted.made = options

        def generate(self, prompts, params, lora_request=None, use_tqdm=True):
            noted.asked = prompts, params, lora_request
            ends = [([*fox, eos], "stop"), (fox, "stop"), (fox * 2, "length")]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=t, finish_reason=r)]) for t, r in ends]

    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams = LLM, lambda **options: options
    request.LoRARequest = lambda name, number, path: (name, number, path)
    for module in (vllm, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return noted


@pytest.fixture(scope="module")
def adapter(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(
        load_base(str(tiny_base), four_bit=False), LoraConfig(r=12, target_modules="all-linear")
    ).save_pretrained(folder)
    return folder


def test_adapter_and_settings_are_mapped(calls, adapter, tiny_base, tokenizer):
    prompts = [" fox\n", " owl, sea\n", " bee, sand\n"]
    told = generate(*vllm_backend.load(adapter), prompts, SETTINGS, [1, 2, 3])
    assert calls.made == {"model": str(tiny_base), "enable_lora": True, "max_lora_rank": 16}
    asked, params, lora = calls.asked
    longest = sorted(prompts, key=lambda prompt: -len(tokenizer(prompt).input_ids))
    assert [prompt["prompt_token_ids"] for prompt in asked] == [tokenizer(prompt).input_ids for prompt in longest]
    assert lora == ("adapter", 1, str(adapter))
    assert params[0] == {
        "max_tokens": 9,
        "temperature": 0.6,
        "top_p": 0.9,
        "top_k": -1,
        "repetition_penalty": 1.2,
        "seed": row_seed(longest[0], prompts.index(longest[0]) + 1),
        "stop_token_ids": [tokenizer.eos_token_id],
        "detokenize": False,
    }
    assert [story.prompt for story in told] == prompts
    ends = {story.prompt: (story.text, story.ended) for story in told}
    assert [ends[prompt] for prompt in longest] == [("fox", "eos"), ("fox", "eos"), ("fox fox", "limit")]


def test_a_whole_model_needs_no_adapter(calls, tiny_base):
    model, _ = vllm_backend.load(tiny_base)
    assert calls.made == {"model": str(tiny_base)} and model.adapter is None


def test_what_vllm_cannot_do_is_refused(calls, adapter, tmp_path, monkeypatch):
    model, tokenizer = vllm_backend.load(adapter)
    with pytest.raises(UserError, match="no_repeat_ngram"):
        generate(model, tokenizer, [" fox"], replace(SETTINGS, no_repeat_ngram=3))
    with pytest.raises(UserError, match="whole stories"):
        generate(model, tokenizer, [" fox"], SETTINGS, on_text=print)
    with pytest.raises(UserError, match="window holds 64"):
        generate(model, tokenizer, [" fox" * 70], SETTINGS)
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"trainable_token_indices": [5]}))
    with pytest.raises(UserError, match="embeddings of its own"):
        vllm_backend.load(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"storylib\[vllm\]"):
        vllm_backend.load(adapter)
