"""Load a base (4-bit or not), attach LoRA, save and reopen an adapter."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from storylib.architectures import quantisable_falcon
from storylib.config import EMBEDDED_BASE, LoraSettings
from storylib.errors import UserError
from storylib.files import DATA
from storylib.hub import check_access
from storylib.runs import read_card
from storylib.runtime import compute_dtype, device, sharded
from storylib.sizes import count_parameters, estimate_memory  # noqa: F401 - said of models, so found here

UNPACK_BELOW = 500_000_000  # parameters; whole, they take 2 GB


def resolve(base: str) -> str:
    """Where `base` is: the shipped folder for the embedded base from any working folder, else `base` itself."""
    return str(DATA.parent / base) if base == EMBEDDED_BASE else base


def check_weights(folder: Path, stem: str) -> None:
    """Raise UserError where the safetensors file `stem` of a local model is missing or cut off."""
    files = sorted(folder.glob(f"{stem}*.safetensors"))
    if not files:
        raise UserError(f"no weights ({stem}.safetensors) in {folder}: the copy is incomplete; fetch it again")
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except SafetensorError as error:
            raise UserError(f"{file} is damaged or cut off ({error}); fetch it again") from error


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """The base's tokenizer, padding on the left, with a pad token other than EOS where it has one to spare.

    Raises UserError where it can't be had, naming what to do; the network is asked for a Hub name alone.
    """
    where = resolve(base)
    here = not check_access(where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, padding_side="left", local_files_only=here)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load the tokenizer of {base}: {reason}") from error
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        # Padding with EOS hides EOS from the loss, and the model never learns to stop.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.bos_token
    return tokenizer


def load_base(base: str, four_bit: bool = True, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The base on this machine's device, its linear layers in NF4 (double quantisation) or as they are.

    dtype: of what is not in NF4; by default that of this machine. Raises UserError for a folder without whole weights,
    and for a Hub name that is gated, unknown or out of reach.
    """
    where = resolve(base)
    if Path(where).is_dir():
        check_weights(Path(where), "model")
    elif base == EMBEDDED_BASE or base.startswith((".", "/")):
        raise UserError(f"no model folder {where}")
    if four_bit and sharded():
        raise UserError("FSDP cannot deal out a base in 4 bits: set four_bit=False, or launch configs/ddp_two_t4.yaml")
    here = not check_access(where)
    quantisable_falcon()
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(),
    )
    model = AutoModelForCausalLM.from_pretrained(
        where,
        dtype=dtype or compute_dtype(),
        device_map=None if sharded() else {"": device()},  # the trainer deals the parts out
        quantization_config=quantisation if four_bit else None,
        local_files_only=here,
    )
    never_repack(model)
    return model


def never_repack(model: torch.nn.Module) -> None:
    """Keep 4-bit layers trainable on CPUs with AVX512-bf16.

    There bitsandbytes repacks a layer's weights for inference the first time it runs in eval mode, and the packed
    kernel has no gradient: one sample before or between training steps would make all later steps wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def attach_lora(model: PreTrainedModel, settings: LoraSettings, tokens: Sequence[int] = ()) -> PeftModel:
    """New adapters in fp32 on a frozen base, `tokens` with embeddings of their own.

    Raises UserError where `settings.targets` matches no layer.
    """
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets if isinstance(settings.targets, str) else list(settings.targets),
        trainable_token_indices=list(tokens) or None,
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"LoRA targets {settings.targets!r} match no layer of the base: {error}") from error
    found = model.base_model.targeted_module_names
    for name in config.target_modules if isinstance(settings.targets, tuple) else ():
        if not any(layer == name or layer.endswith(f".{name}") for layer in found):
            raise UserError(f"LoRA target {name!r} matches no layer of the base; the others of {settings.targets} do")
    if not hasattr(model.get_output_embeddings(), "bias"):
        model.get_output_embeddings().bias = None  # TRL asks a tied head for it, and PEFT's wrapper hides it
    trainable_in_fp32(model)
    return model


def trainable_in_fp32(model: torch.nn.Module) -> None:
    """Adapters learn in fp32: fp16's gradient scaler refuses bf16 weights, and small steps vanish in both."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def load_finetuned(folder: Path, four_bit: bool | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What a run ended with, an adapter or a whole model, ready to tell stories; see `load_adapter`."""
    if (Path(folder) / "config.json").exists():
        return load_base(str(folder), four_bit=False).eval(), load_tokenizer(str(folder))
    return load_adapter(folder, four_bit)


def load_adapter(folder: Path, four_bit: bool | None = None) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """A fine-tuned model ready to tell stories, with its tokenizer.

    four_bit: whether the base is in 4 bits; by default as it was beside the adapter in training, by the run's card.
    Raises UserError where a file is missing or cut off, and where the base is not the one that was trained on.
    """
    base, card = base_of(Path(folder)), Path(folder) / "run.json"
    tokenizer = load_tokenizer(base)
    check_tokenizer(Path(folder), tokenizer, base)
    if four_bit is None:
        four_bit = read_card(card)["recipe"].get("four_bit", True) if card.exists() else True
    model = PeftModel.from_pretrained(unpacked(load_base(base, four_bit)), folder)
    model.merge_adapter()
    return model.eval(), tokenizer


def base_of(folder: Path) -> str:
    """The base of an adapter. Raises UserError where the adapter is not whole, or its base has changed since."""
    config, card = folder / "adapter_config.json", folder / "run.json"
    if not config.exists():
        raise UserError(f"no adapter in {folder}: adapter_config.json is missing; train one or name another folder")
    check_weights(folder, "adapter_model")
    try:
        base = json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
        trained_on = json.loads(card.read_text(encoding="utf-8"))["hashes"]["base"] if card.exists() else None
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder} is damaged ({error!r}); train the adapter again or fetch it again") from error
    known_by_weights = Path(resolve(base)).is_dir() and re.fullmatch("[0-9a-f]{64}", trained_on or "")
    if known_by_weights and weights_hash(base) != trained_on:
        raise UserError(
            f"{folder} was trained on a base with other weights than {base} has now, and would tell nonsense on it; "
            "bring back its base or train it again"
        )
    return base


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, base: str) -> None:
    """UserError where the tokenizer that was saved with an adapter has other tokens than its base's."""
    if (folder / "tokenizer_config.json").exists():
        if load_tokenizer(str(folder)).get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"{folder} was trained with another tokenizer than that of {base}, and would read other words; "
                "bring back its base or train it again"
            )


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """A small 4-bit model on a CPU with whole matrices of the same values, where it tells a story three times as fast.

    There a 4-bit layer unpacks all its weights again for each token.
    """
    packed = getattr(model, "is_quantized", False)
    small = model.num_parameters() < UNPACK_BELOW
    return model.dequantize() if packed and small and model.device.type == "cpu" else model


def weights_hash(base: str) -> str:
    """sha256 over a local base's weights files; a base of the Hub is known by its name."""
    digest = hashlib.sha256()
    for file in sorted(Path(resolve(base)).glob("*.safetensors")):
        with file.open("rb") as weights:
            while chunk := weights.read(2**20):
                digest.update(chunk)
    return digest.hexdigest() if Path(resolve(base)).is_dir() else base
