"""A merged model says what the adapter said, opens without PEFT, and is kept only where both are true."""

import json
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from storylib import merging
from storylib.config import GenerationSettings, LoraSettings, recipe
from storylib.errors import UserError
from storylib.facts import gather
from storylib.merging import check_memory, merge, model_bytes
from storylib.models import attach_lora, load_base, load_finetuned, weights_hash
from storylib.runs import Run, describe
from storylib.runtime import T4, Machine
from storylib.training import save

LAYER = "model.layers.1.self_attn.q_proj"
LAPTOP = Machine(device="cpu", name="CPU", ram=2**33, free_ram=2**33)


@pytest.fixture(scope="module")
def taught(tiny_base):
    return replace(
        recipe("emoji/cpu"),
        base=str(tiny_base),
        lora=LoraSettings(rank=4, alpha=8),
        generate=GenerationSettings(max_new_tokens=8),
    )


@pytest.fixture(scope="module")
def run(taught, tokenizer, tmp_path_factory) -> Run:
    """A run that ended with an adapter that changes much, though nothing was trained."""
    run = Run(tmp_path_factory.mktemp("merging") / "run")
    run.start(describe(taught, {"data": "d", "base": weights_hash(taught.base)}, {}))
    torch.manual_seed(1)
    model = attach_lora(load_base(taught.base), taught.lora)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    save(run, model, tokenizer, taught.base)
    return run


@pytest.fixture(scope="module")
def merged(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "model"
    return out, merge(run.folder, out, licence="cc0-1.0", say=lambda text: None)


def test_weights_are_base_plus_adapter(run, taught, merged):
    base = load_file(f"{taught.base}/model.safetensors")
    lora = load_file(run.adapter / "adapter_model.safetensors")
    a, b = (lora[f"base_model.model.{LAYER}.lora_{side}.weight"] for side in "AB")
    expected = base[f"{LAYER}.weight"] + 8 / 4 * b @ a  # alpha / rank
    found = load_file(merged[0] / "model.safetensors")
    assert found[f"{LAYER}.weight"].dtype == torch.float16 and not [name for name in found if "lora" in name]
    assert torch.allclose(found[f"{LAYER}.weight"].float(), expected, rtol=1e-3, atol=1e-5)
    assert (expected - base[f"{LAYER}.weight"]).abs().max() > 0.01  # the adapter does something


def test_figures_are_near_and_written_down(run, merged):
    out, found = merged
    assert abs(found.after - found.before) < 0.005 and found.agreement >= 0.97 and found.stories == 6
    assert found.trained != found.before  # on a base in 4 bits it is another model
    card = json.loads((out / "run.json").read_text())
    assert card["merged"]["after"] == found.after and card["merged"]["adapter"] == weights_hash(str(run.adapter))
    page = ModelCard.load(out / "README.md")
    assert page.data.library_name == "transformers" and page.data.license == "cc0-1.0"
    assert f"{found.after:.4f} after it" in str(page) and 'from_pretrained("model")' in str(page)


def test_merged_model_opens_with_transformers_alone(merged):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(merged[0]), AutoTokenizer.from_pretrained(merged[0])
    mine, own = load_finetuned(merged[0])
    ids = tokenizer(" fox, garden, hope\n", return_tensors="pt").input_ids
    assert torch.allclose(model(ids).logits.float(), mine(ids).logits, atol=0.05)
    assert tokenizer.get_vocab() == own.get_vocab() and model.dtype == torch.float16
    assert gather(merged[0]).whole


def test_merge_that_changes_the_model_is_not_kept(run, tmp_path, monkeypatch):
    def spoilt(model, precision):
        merged = merging_weights(model, precision)
        with torch.no_grad():
            merged.model.layers[0].mlp.down_proj.weight.mul_(-3)
        return merged

    merging_weights = merging.merged_weights
    monkeypatch.setattr(merging, "merged_weights", spoilt)
    with pytest.raises(UserError, match="is not what was merged, and was not kept.*try --precision bfloat16"):
        merge(run.folder, tmp_path / "out", say=lambda text: None)
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_the_precision(run, taught):
    from peft import PeftModel

    base = load_base(taught.base, four_bit=False)
    with torch.no_grad():
        base.model.norm.weight[0] = 1e5
    with pytest.raises(UserError, match=r"1 weights are too large for float16, the first is model.norm.weight; try"):
        merging.merged_weights(PeftModel.from_pretrained(base, run.adapter), "float16")


def test_memory_is_checked_before_anything_is_loaded(taught):
    assert check_memory(taught, "float16", LAPTOP) == "float32"
    qwen = recipe("emoji/t4")  # 7.6 billion weights: 15 GB in fp16, and 30 in fp32
    assert 15.2e9 < model_bytes(qwen, "float16") < 15.5e9
    assert check_memory(qwen, "float16", replace(LAPTOP, free_ram=24 * 2**30)) == "float16"
    assert check_memory(qwen, "bfloat16", replace(T4, free_memory=40 * 2**30)) == "bfloat16"
    with pytest.raises(UserError, match=r"takes 15\.\d GiB of RAM, and 8\.0 GiB are free; close other programs"):
        check_memory(qwen, "float16", LAPTOP)
    with pytest.raises(UserError, match=r"of GPU memory, and 14\.6 GiB are free"):
        check_memory(qwen, "float16", T4)


def test_full_disk(run, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(UserError, match="are free on the disk of"):
        merge(run.folder, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged(run, merged, tmp_path, tiny_base):
    (tmp_path / "there").mkdir()
    for folder, out, options, reason in (
        (merged[0], tmp_path / "out", {}, "is a whole model already"),
        (run.folder, tmp_path / "there", {}, "exists already"),
        (run.folder, tmp_path / "out", {"precision": "int4"}, "float16 or bfloat16, got 'int4'"),
        (tmp_path, tmp_path / "out", {}, "no run.json in"),
    ):
        with pytest.raises(UserError, match=reason):
            merge(folder, out, **options)
    (tmp_path / "run.json").write_bytes(run.card.read_bytes())
    with pytest.raises(UserError, match="without an adapter yet"):
        merge(tmp_path, tmp_path / "out")


def test_base_that_is_stored_quantised(tiny_base, tmp_path):
    settings = json.loads((tiny_base / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    merging.refuse_packed(str(tiny_base))
    with pytest.raises(UserError, match="is stored quantised, and no adapter is merged into that"):
        merging.refuse_packed(str(tmp_path))
