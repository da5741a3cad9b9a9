"""Settings are data: frozen dataclasses for each step, checked where they are made."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How the embedded base was made."""

    hidden: int = 256
    feed_forward: int = 704
    layers: int = 4
    heads: int = 8
    window: int = 512  # tokens
    steps: int = 4500
    batch_tokens: int = 3072  # padding counted
    muon_lr: float = 0.02
    adam_lr: float = 4e-3
    weight_decay: float = 0.05
    warmup: int = 100  # steps
    decay: float = 0.5  # share of the steps over which the rates fall to zero
    prompted: float = 0.6  # share of the stories with three of their words in front
    named_weight: float = 3.0  # loss weight of a prompted word where the story says it
    evaluate_every: int = 200  # steps
    checkpoint_every: int = 200  # steps
    compile: bool = True
    seed: int = 17
