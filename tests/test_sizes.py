"""Counts by hand and from the papers; memory beside what torch and bitsandbytes really take."""

from dataclasses import replace

import bitsandbytes
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, FalconConfig, GPT2Config, LlamaConfig
from trl.trainer.utils import add_fused_lm_head

from storylib import architectures, config, sizes
from storylib.architectures import architecture
from storylib.config import LoraSettings, Recipe, TrainSettings
from storylib.errors import UserError
from storylib.footprint import LOSS_TILE, backbone, step_bytes
from storylib.hub import shipped
from storylib.models import attach_lora, count_parameters, estimate_memory, load_base, trainable_in_fp32
from storylib.runtime import T4, Machine

FALCON = config.recipe("genre/falcon-7b")
LAPTOP = Machine(device="cpu", name="CPU", ram=16 * 2**30, free_ram=12 * 2**30)
SMALL = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 1}
TINY = {
    "llama": LlamaConfig(hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4, **SMALL),
    "falcon": FalconConfig(
        hidden_size=128, num_hidden_layers=4, num_attention_heads=4, bias=False, alibi=False, **SMALL
    ),
    "gpt2": GPT2Config(n_embd=128, n_layer=4, n_head=4, **SMALL),
}


@pytest.fixture(scope="module", params=TINY)
def tiny(request, tmp_path_factory) -> Recipe:
    """A recipe on a base of each family, small, with random weights."""
    folder = tmp_path_factory.mktemp("bases") / request.param
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(TINY[request.param]).save_pretrained(folder)
    return on_base(folder, train=TrainSettings(batch_size=4, window=96))


def on_base(folder, **other) -> Recipe:
    """A 4-bit recipe with LoRA on all linear layers, another part of it replaced."""
    return replace(FALCON, **{"base": str(folder), "lora": LoraSettings(rank=8, alpha=16)} | other)


def storages(tensors) -> dict[int, int]:
    """Bytes by storage: tied weights and views count once."""
    return {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}


# Counts


def test_falcon_trains_0068_percent_and_where_013_comes_from():
    count = count_parameters("genre/falcon-7b")
    # 32 layers, query_key_value from 4544 to 4544 + 2 * 64 (71 heads share one key and one value), rank 16
    assert count.trainable == 32 * 16 * (4544 + 4672) == 4_718_592
    assert count.total == 6_921_720_704 + 4_718_592
    assert f"{count.share:.3%}" == "0.068%"
    assert count.stored == 3_613_463_424  # what the reports of 2023 printed as "all params"
    assert f"{count.reported_share:.2%}" == "0.13%"
    assert "0.068%" in count.note and "0.13%" in count.note and "two to a byte" in count.note


def test_llama_trains_rank_64_on_all_its_layers():
    assert count_parameters("emoji/llama2-7b").trainable == 32 * 64 * (4 * 8192 + 3 * (4096 + 11008)) == 159_907_840


def test_whole_precision_hides_nothing():
    count = count_parameters(on_base("gpt2", lora=LoraSettings(rank=4), four_bit=False))
    # 12 layers: c_attn 768 -> 2304, c_proj 768 -> 768, c_fc 768 -> 3072, c_proj 3072 -> 768
    assert count.trainable == 12 * 4 * (3072 + 1536 + 3840 + 3840)
    assert count.stored == count.total == 124_439_808 + count.trainable and count.note == ""


def test_full_training_trains_all():
    count = count_parameters(on_base("HuggingFaceTB/SmolLM2-135M", lora=None, four_bit=False))
    assert count.trainable == count.total == 134_515_008 and count.share == 1


def test_tokens_with_embeddings_of_their_own_count():
    recipe = config.recipe("emoji/cpu")
    more = count_parameters(recipe, tokens=(5, 6, 7)).trainable - count_parameters(recipe).trainable
    assert more == 3 * 256  # one row each, in and out alike: the head is tied


# one of those that share base and adapter
@pytest.mark.parametrize(
    "recipe", {(recipe.base, recipe.lora): recipe for recipe in config.RECIPES.values()}.values(), ids=lambda r: r.name
)
def test_every_recipe_is_counted_without_a_network(recipe, monkeypatch):
    monkeypatch.setattr(architectures, "check_access", lambda base: pytest.fail(f"asked for {base}"))
    count = count_parameters(recipe)
    assert (count.trainable == count.total) == (recipe.lora is None)


@pytest.mark.parametrize("known", shipped(), ids=lambda known: known["repositories"][0])
def test_shipped_shapes_have_the_published_number_of_weights(known):
    for base in known["repositories"]:
        assert architecture(base).model_type == known["config"]["model_type"]
    assert count_parameters(on_base(base, lora=None, four_bit=False)).total == known["parameters"]


def test_targets_that_match_no_layer():
    with pytest.raises(UserError, match="match no layer"):
        count_parameters(replace(FALCON, base="gpt2"))


def test_shape_of_a_base_nobody_knows(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="cannot read the shape of"):
        architecture(str(tmp_path))

    def offline(base):
        raise UserError("huggingface.co can't be reached")

    monkeypatch.setattr(architectures, "check_access", offline)
    with pytest.raises(UserError, match="can't be reached"):
        architecture("nobody/has-this-model")


# Weights, adapter, optimizer


def test_weights_take_what_the_estimate_says(tiny):
    model = load_base(tiny.base)
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 4 * {"llama": 7, "falcon": 4, "gpt2": 4}[model.config.model_type]  # falcon's too
    scales = []
    for state in (layer.weight.quant_state for layer in layers):
        scales += [state.absmax, state.code, state.offset, state.state2.absmax]
    real = sum(storages([*model.parameters(), *model.buffers(), *scales]).values())
    assert sizes.weight_bytes(sizes.skeleton(tiny.base, tiny.lora), four_bit=True) == pytest.approx(real, rel=0.02)


def test_half_precision_halves_what_is_not_packed(tiny):
    whole, half = (sizes.skeleton(tiny.base, tiny.lora, precision=width) for width in ("float32", "float16"))
    assert sizes.weight_bytes(half, False) == pytest.approx(sizes.weight_bytes(whole, False) / 2, rel=0.01)
    packed = sum(sizes.nf4_bytes(weight.numel()) for weight in sizes.packed_weights(whole))
    rest = sizes.weight_bytes(whole, True) - packed
    assert sizes.weight_bytes(half, True) - packed == pytest.approx(rest / 2, rel=0.01)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adamw_torch", torch.optim.AdamW),
        ("paged_adamw_32bit", bitsandbytes.optim.PagedAdamW32bit),
        ("adamw_8bit", bitsandbytes.optim.AdamW8bit),
        ("paged_adamw_8bit", bitsandbytes.optim.PagedAdamW8bit),
    ],
)
@pytest.mark.filterwarnings("ignore:Paged optimizers")
def test_adapter_and_optimizer_to_the_byte(tiny, name, optimizer):
    lora = LoraSettings(rank=40)  # some matrices above the 4096 weights from which 8 bits are used
    trained = [p for p in attach_lora(load_base(tiny.base), lora).parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    steps = optimizer(trained)
    steps.step()
    shared = ("step", "qmap1", "qmap2")  # a count, and tables that all share
    state = [value for p in trained for key, value in steps.state[p].items() if key not in shared]
    told = [weight for weight in sizes.skeleton(tiny.base, lora).parameters() if weight.requires_grad]
    assert sum(weight.nbytes for weight in told) == sum(p.nbytes for p in trained)
    kept, paged = sizes.optimizer_bytes([weight.numel() for weight in told], name, "cpu")
    assert kept == sum(value.nbytes for value in state) and paged == 0  # nothing pages on a CPU


def test_only_large_matrices_page_and_only_on_a_gpu():
    matrices = [16 * 4096, 64 * 4096]
    assert sizes.optimizer_bytes(matrices, "paged_adamw_32bit", "cuda") == (8 * 16 * 4096, 8 * 64 * 4096)
    assert sizes.optimizer_bytes(matrices, "paged_adamw_32bit", "cpu") == (8 * 80 * 4096, 0)
    assert sizes.optimizer_bytes(matrices, "adamw_torch", "cuda") == (8 * 80 * 4096, 0)
    # in 8 bits: two bytes a weight, and two fp32 scales per 256 weights that stay
    assert sizes.optimizer_bytes(matrices[1:], "paged_adamw_8bit", "cuda") == (2 * 4 * 1024, 2 * 64 * 4096)


# Activations


def real_step(recipe: Recipe, checkpointing: bool):
    """A training step on a real 4-bit model, with the loss that TRL gives it."""
    model = attach_lora(load_base(recipe.base), recipe.lora)
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy", "is_top1"))
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    ids = torch.randint(2, 512, (recipe.train.batch_size, recipe.train.window))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0

    def step() -> None:
        model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True, use_cache=False).loss.backward()

    step()  # the gradients are there from now on
    return step


def allocated_at_most(step) -> int:
    """Bytes at the peak of `step` above its start, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("checkpointing", [False, True])
def test_step_takes_what_the_estimate_says(tiny, checkpointing):
    real = allocated_at_most(real_step(tiny, checkpointing))
    model = sizes.skeleton(tiny.base, tiny.lora)
    told = step_bytes(model, 4, 96, torch.float32, checkpointing, on_cpu=True)
    assert told == pytest.approx(real, rel=0.1)


def test_activations_are_the_tensors_kept_for_the_way_back(tiny):
    model = attach_lora(load_base(tiny.base), tiny.lora).train()
    weights = storages(model.parameters())
    kept = {}

    def keep(tensor):
        kept.update(storages([tensor]))
        return tensor

    ids = torch.randint(2, 512, (4, 96))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = backbone(model)(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    real = sum(size for storage, size in kept.items() if storage not in weights) + hidden.nbytes
    told = step_bytes(sizes.skeleton(tiny.base, tiny.lora), 4, 96, torch.float32, checkpointing=False, on_cpu=False)
    loss = ids.numel() * 4 * LOSS_TILE[1] + hidden.nbytes  # a buffer for logits, and the gradient it hands back
    assert told - loss == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize("on", [LAPTOP, T4], ids=lambda on: on.device)
def test_every_layer_beyond_the_second_adds_the_same(tiny, on):
    model = sizes.skeleton(tiny.base, tiny.lora, precision=on.precision)
    whole = step_bytes(model, 4, 96, getattr(torch, on.precision), on is T4, on is LAPTOP)
    assert sizes.activation_bytes(tiny, on) == whole


def test_full_training_and_learnt_tokens_are_estimated(tiny_base):
    recipe = on_base(tiny_base, train=TrainSettings(batch_size=2, window=64))
    plain, learnt = estimate_memory(recipe, LAPTOP), estimate_memory(recipe, LAPTOP, tokens=(5, 6, 7))
    assert learnt.adapter - plain.adapter == 3 * 64 * 4
    whole = estimate_memory(replace(recipe, lora=None, four_bit=False), LAPTOP)
    assert whole.weights < 2048 and whole.adapter == whole.gradients == whole.optimizer / 2  # buffers alone are frozen
    model = load_base(str(tiny_base), four_bit=False)
    trainable_in_fp32(model)
    assert whole.adapter == sum(p.nbytes for p in model.parameters())


# Does it fit, and what to change


def test_seven_billion_weights_fit_a_t4_in_4_bits_only():
    estimate = estimate_memory(FALCON, T4)
    assert estimate.fits and estimate.advice == "" and estimate.checkpointing
    assert estimate.weights == pytest.approx(6_625_951_744 * 0.51587 + 2 * 295_768_960, rel=1e-4)  # linear, the rest
    whole = estimate_memory(replace(FALCON, four_bit=False), T4)
    assert whole.weights == pytest.approx(2 * 6_921_720_704, rel=0.001) and not whole.fits
    assert "it fits with four_bit=true" in whole.advice


def on_gpu_with(room: int) -> Machine:
    return replace(T4, free_memory=room)


def test_advice_is_the_first_change_that_fits(tiny_base):
    train = TrainSettings(batch_size=4, accumulate=2, window=128)
    recipe = on_base(tiny_base, lora=LoraSettings(rank=16), train=train)
    needed = estimate_memory(recipe, T4).total
    assert estimate_memory(recipe, on_gpu_with(needed)).fits
    tight = estimate_memory(recipe, on_gpu_with(needed - 1))
    assert not tight.fits
    assert "gradient checkpointing is on already" in tight.advice
    assert "it fits with train.batch_size=2, train.accumulate=4:" in tight.advice
    one = replace(recipe, train=replace(train, batch_size=1, accumulate=8))
    least = estimate_memory(one, T4).total
    assert "train.batch_size=1, train.accumulate=8:" in estimate_memory(recipe, on_gpu_with(least)).advice
    assert "it fits with train.window=128, lora.rank=8:" in estimate_memory(one, on_gpu_with(least - 1)).advice
    lowest = replace(one, lora=LoraSettings(rank=4))
    assert "nothing smaller fits" in estimate_memory(lowest, on_gpu_with(0)).advice


def test_shorter_window_comes_before_a_lower_rank():
    recipe = on_base("tiiuae/falcon-7b", lora=LoraSettings(rank=16), train=TrainSettings(batch_size=2, window=512))
    named = [change for change, _ in sizes.changes(recipe)]
    assert named[:5] == [
        "train.batch_size=1, train.accumulate=2",
        "train.batch_size=1, train.accumulate=2, train.window=256",
        "train.batch_size=1, train.accumulate=2, train.window=128",
        "train.batch_size=1, train.accumulate=2, train.window=128, lora.rank=8",
        "train.batch_size=1, train.accumulate=2, train.window=128, lora.rank=4",
    ]
    assert named[5:7] == [
        "a smaller base, base=NousResearch/Llama-2-7b-hf, lora.targets=all-linear",
        "a smaller base, base=HuggingFaceTB/SmolLM2-1.7B, lora.targets=all-linear",
    ]
    assert all(changed.train.effective_batch == 2 for _, changed in sizes.changes(recipe))


def test_small_base_on_a_cpu_is_never_refused_nor_waited_for(monkeypatch):
    monkeypatch.setattr(sizes, "step_bytes", pytest.fail)
    poor = replace(LAPTOP, ram=2**28, free_ram=0)
    for name in ("emoji/cpu", "language/zh-cpu"):
        said = sizes.check_room(config.recipe(name), poor)
        assert said.startswith(f"{poor}; training takes ") and said.endswith(" MiB and what a step needs")


def test_batch_that_is_too_large_is_no_reason_to_refuse(tiny_base):
    recipe = on_base(tiny_base, train=TrainSettings(batch_size=16, window=128))
    single = replace(recipe, train=TrainSettings(batch_size=1, accumulate=16, window=128))
    least = estimate_memory(single, T4).total
    assert "it fits with train.batch_size=1, train.accumulate=16" in sizes.check_room(recipe, on_gpu_with(least))
    assert "it fits" not in sizes.check_room(recipe, on_gpu_with(2 * estimate_memory(recipe, T4).total))
    with pytest.raises(UserError, match="does not fit Tesla T4: .* are needed"):
        sizes.check_room(recipe, on_gpu_with(round(least / 1.2)))


def test_seven_billion_weights_in_a_laptops_ram():
    with pytest.raises(UserError, match="genre/falcon-7b does not fit CPU: .* are free; it fits with train.window=512"):
        sizes.check_room(FALCON, LAPTOP)
    short = replace(FALCON, train=replace(FALCON.train, window=512))
    assert sizes.check_room(short, LAPTOP).startswith(f"{LAPTOP}; training takes ")


def test_table_adds_up(tiny):
    estimate = estimate_memory(tiny, LAPTOP)
    parts = (estimate.weights, estimate.adapter, estimate.gradients, estimate.optimizer, estimate.activations)
    assert estimate.total == sum(parts) + estimate.overhead and estimate.free == 12 * 2**30
    assert [name for name, _ in estimate.table][-2:] == ["total", "free"]
    assert str(estimate).endswith("it fits") and "all kept" in str(estimate)
