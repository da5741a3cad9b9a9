"""Loading: damaged files are named, 4-bit layers stay trainable, adapters learn in fp32."""

import shutil
import socket
import time
from dataclasses import replace

import bitsandbytes
import pytest
import torch
from huggingface_hub.errors import GatedRepoError

from storylib import hub
from storylib.config import EMBEDDED_BASE, GenerationSettings
from storylib.errors import UserError
from storylib.generation import generate
from storylib.models import attach_lora, load_adapter, load_base, load_finetuned, load_tokenizer
from storylib.training import finetune


def test_missing_and_cut_off_weights_are_named(tiny_base, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_base, broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or cut off"):
        load_base(str(broken))
    (broken / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no weights \(model\.safetensors\)"):
        load_base(str(broken))
    with pytest.raises(UserError, match="no adapter in"):
        load_adapter(tmp_path / "nowhere")


def test_base_is_in_nf4_with_double_quantisation(tiny_base):
    model = load_base(str(tiny_base))
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 2 * 7
    assert {layer.weight.quant_state.quant_type for layer in layers} == {"nf4"}
    assert all(layer.weight.quant_state.nested for layer in layers)


def test_generating_never_packs_the_weights(tiny_base, tokenizer, monkeypatch):
    # As on a CPU with AVX512-bf16, where the packed weights would have no gradient.
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    packed = []
    monkeypatch.setattr(
        bitsandbytes.nn.modules,
        "_convert_weight_packed_for_cpu",
        lambda weight, state: packed.append(1) or (weight, state),
    )
    model = load_base(str(tiny_base))
    generate(model, tokenizer, [" fox\n"], GenerationSettings(max_new_tokens=2))
    assert packed == []


def test_adapter_weights_are_fp32_and_alone_in_training(tiny_base, tiny_recipe):
    model = attach_lora(load_base(str(tiny_base)), tiny_recipe.lora)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    # rank 4 on 2 layers: q, k, v, o are 64 x 64, gate and up 128 x 64, down 64 x 128
    assert sum(p.numel() for p in trained.values()) == 2 * 4 * (4 * 128 + 3 * 192)


def test_adapter_opens_again_with_the_same_stories(tiny_recipe, rows, tmp_path, tokenizer):
    trained = finetune(tiny_recipe, tmp_path / "run", rows)
    model, _ = load_adapter(trained.run.adapter)
    again = generate(model, tokenizer, [" fox\n"], tiny_recipe.generate, 5)
    assert again == generate(load_adapter(trained.run.adapter)[0], tokenizer, [" fox\n"], tiny_recipe.generate, 5)
    samples = trained.run.samples.read_text()
    last = generate(model, tokenizer, [rows["test"]["prompt"][0]], tiny_recipe.generate, tiny_recipe.train.seed)[0]
    assert f'"step": 4, "prompt": " hedgehog, castle, courage\\n", "seed": 17, "text": {quoted(last.text)}' in samples


@pytest.mark.parametrize("four_bit", [True, False])
def test_adapter_lies_on_the_base_that_it_was_trained_beside(tiny_recipe, rows, tmp_path, tokenizer, four_bit):
    adapter = finetune(replace(tiny_recipe, four_bit=four_bit), tmp_path / "run", rows, samples=0).run.adapter
    ids = tokenizer(" fox\n", return_tensors="pt").input_ids
    own, packed, whole = (load_adapter(adapter, bits)[0](ids).logits for bits in (None, True, False))
    assert torch.equal(own, packed) is four_bit and torch.equal(own, whole) is not four_bit


def test_targets_of_which_one_matches_no_layer(tiny_recipe):
    with pytest.raises(UserError, match="LoRA target 'v_porj' matches no layer of the base; the others of"):
        attach_lora(load_base(tiny_recipe.base), replace(tiny_recipe.lora, targets=("q_proj", "v_porj")))


def test_adapter_of_another_base_is_refused(tiny_recipe, rows, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_recipe.base, base)
    adapter = finetune(replace(tiny_recipe, base=str(base)), tmp_path / "run", rows).run.adapter
    other = load_base(str(base), four_bit=False)
    with torch.no_grad():
        other.model.norm.weight[0] += 1
    other.save_pretrained(base)
    with pytest.raises(UserError, match=r"adapter was trained on a base with other weights than .*base has now"):
        load_adapter(adapter)


def test_base_with_another_tokenizer_than_the_adapters_is_refused(tiny_recipe, rows, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_recipe.base, base)
    adapter = finetune(replace(tiny_recipe, base=str(base)), tmp_path / "run", rows).run.adapter
    other = load_tokenizer(str(base))
    other.add_tokens(["<moon>"])
    other.save_pretrained(base)
    with pytest.raises(UserError, match="adapter was trained with another tokenizer than that of .*base"):
        load_adapter(adapter)


def test_model_trained_whole_opens_again(tiny_recipe, rows, tmp_path):
    whole = replace(tiny_recipe, lora=None, four_bit=False)
    trained = finetune(whole, tmp_path / "run", rows)
    assert trained.run.result == trained.run.model and not trained.run.adapter.exists()
    model, tokenizer = load_finetuned(trained.run.result)
    fresh = load_base(tiny_recipe.base, four_bit=False).state_dict()
    moved = [not torch.equal(weight, fresh[name]) for name, weight in model.state_dict().items()]
    assert all(moved) and model.dtype == torch.float32
    story = generate(model, tokenizer, [rows["test"]["prompt"][0]], tiny_recipe.generate, tiny_recipe.train.seed)[0]
    assert (
        trained.run.samples.read_text()
        .splitlines()[-1]
        .endswith(f'"text": {quoted(story.text)}, "ended": "limit", "tokens": 8}}')
    )
    with pytest.raises(UserError, match="no adapter in"):
        load_finetuned(tmp_path / "nowhere")


def quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


def test_pad_is_never_eos(tmp_path, tokenizer):
    bare = load_tokenizer(EMBEDDED_BASE)
    bare.pad_token = bare.eos_token
    bare.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).pad_token_id != tokenizer.eos_token_id


def test_base_of_the_hub_is_asked_for_before_anything_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda base, name: None)
    for load in (load_tokenizer, load_base):
        with pytest.raises(UserError, match="'a/b/c' is neither a folder nor a name"):
            load("a/b/c")
    monkeypatch.setattr(hub, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/")  # nobody listens
    begun = time.monotonic()
    for load in (load_tokenizer, load_base):
        with pytest.raises(
            UserError, match="can't be reached for meta-llama/Llama-2-7b-chat-hf .*or take a cpu recipe"
        ):
            load("meta-llama/Llama-2-7b-chat-hf")
    assert time.monotonic() - begun < 10

    def gated(*_, **__):
        raise GatedRepoError.__new__(GatedRepoError, "gated")

    monkeypatch.setattr(hub, "get_hf_file_metadata", gated)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    for load in (load_tokenizer, load_base):
        with pytest.raises(UserError, match="is gated; .*or take the open NousResearch/Llama-2-7b-chat-hf"):
            load("meta-llama/Llama-2-7b-chat-hf")


def test_folder_needs_no_network(tiny_base, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))
    assert load_tokenizer(str(tiny_base)).eos_token == "</s>" and load_base(str(tiny_base), four_bit=False)
    with pytest.raises(UserError, match="cannot load the tokenizer of"):
        load_tokenizer(str(tiny_base.parent))
