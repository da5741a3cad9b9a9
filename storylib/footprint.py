"""How much memory one training step takes, found by running it on tensors that have a shape but no memory."""

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

LOSS_TILE = (4096, 32768)  # tokens x vocabulary entries whose logits TRL holds at once, in a buffer of this width
CPU_TILES = 7  # fp32 tensors of the tile that torch makes beside it on the way back, where no kernel does all in one


class LiveBytes(TorchDispatchMode):
    """As a context: counts the bytes of all tensors made in it, from their making to their release.

    `now` is what lives at present, `peak` the most that ever lived together. Tensors in `known` are not counted.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}  # storages: a view is no new memory

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor.untyped_storage())
        return result

    def add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())

    def drop(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def step_bytes(
    model: PreTrainedModel, batch: int, window: int, precision: torch.dtype, checkpointing: bool, on_cpu: bool
) -> int:
    """The most that one step holds at a time besides weights, gradients and optimiser, for (batch, window) tokens.

    `model` is on the meta device and is used up. Its trainable weights take part in `precision`, as under autocast.
    """
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    with FakeTensorMode():
        fake_weights(model, precision)
        ids = torch.zeros(batch, window, dtype=torch.long)
        mask = torch.ones(batch, window, dtype=torch.long)  # stories of unlike lengths: the mask is held as well
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        with LiveBytes([*model.parameters(), *model.buffers(), *gradients]) as live:
            hidden = backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False)[0]  # (B, T, H)
            head = model.get_output_embeddings().weight  # (V, H)
            gradient = loss_workspace(hidden, head, on_cpu)
            del head
            hidden.backward(gradient)
    return live.peak


def loss_workspace(hidden: Tensor, head: Tensor, on_cpu: bool) -> Tensor:
    """Hold for a moment what the loss does, and return the gradient that it hands back.

    The logits are never there as a whole: TRL takes a tile of them at a time, and turns it into its own gradient.
    """
    tokens = min(hidden.shape[:-1].numel(), LOSS_TILE[0])
    gradient = torch.empty(hidden.shape, dtype=torch.float32)
    work = [torch.empty(tokens, LOSS_TILE[1], dtype=hidden.dtype)]
    if on_cpu:
        work.append(torch.empty(CPU_TILES, tokens, min(len(head), LOSS_TILE[1]), dtype=torch.float32))
    if head.requires_grad:
        work.append(torch.empty(head.shape, dtype=torch.float32))
    del work
    return gradient.to(hidden.dtype)


def backbone(model: PreTrainedModel) -> nn.Module:
    """The model without its head, adapters included."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.base_model


def fake_weights(model: nn.Module, precision: torch.dtype) -> None:
    """Move all weights from the meta device to a CPU without memory, where attention goes the way it really goes.

    The trainable ones get `precision`, and their gradients.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                if weight not in made:
                    made[weight] = fake(weight, precision)
                module._parameters[name] = made[weight]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def fake(weight: nn.Parameter, precision: torch.dtype) -> nn.Parameter:
    dtype = precision if weight.requires_grad else weight.dtype
    made = nn.Parameter(torch.empty(weight.shape, dtype=dtype), requires_grad=weight.requires_grad)
    if weight.requires_grad:
        made.grad = torch.empty_like(made)
    return made
