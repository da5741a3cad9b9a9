"""The shape of a base, known without its weights: from its folder, the cache, what is shipped, or the Hub."""

from pathlib import Path

from torch import nn
from transformers import AutoConfig, PreTrainedConfig

from storylib.errors import UserError
from storylib.hub import check_access, shipped


def architecture(base: str) -> PreTrainedConfig:
    """The config of `base`, a folder or a Hub name; the network is asked last.

    Raises UserError where nothing says what shape it has.
    """
    if Path(base).is_dir() or base.startswith((".", "/")):
        return read_config(base)
    try:
        return AutoConfig.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError):  # not in the cache, or not whole there
        pass
    for known in shipped():
        if base in known["repositories"]:
            return AutoConfig.for_model(**known["config"])
    check_access(base)
    return read_config(base)


def read_config(base: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the shape of {base}: {str(error).strip().splitlines()[0]}") from error


def quantisable_falcon() -> None:
    """Let Falcon's linear layers be loaded in 4 bits.

    Theirs is a subclass of torch's that multiplies by hand, and newer releases of transformers (5.8 and on, 5.4 not)
    quantise the very class alone: a Falcon asked for in 4 bits came in 16, and nothing but a notice told.
    """
    from transformers.models.falcon import modeling_falcon

    modeling_falcon.FalconLinear = nn.Linear
