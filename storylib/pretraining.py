"""How the embedded base was made: a small Llama learns to tell stories, most of them from three words."""

import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import regex
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from storylib.config import PretrainConfig
from storylib.errors import UserError
from storylib.files import atomic_path, trim_log, write_text
from storylib.perplexity import log_losses, tokenised
from storylib.prompts import story_prompt
from storylib.runs import read_card, text_hash

Row = tuple[list[int], list[float]]  # token ids, and the weight of each one in the loss


class WordPrompter:
    """Picks three content words of a story: rare elsewhere, frequent here, in their order."""

    def __init__(self, stories: Sequence[str]) -> None:
        self.words = [regex.findall(r"\b[a-z]{3,}\b", story) for story in stories]
        spread = Counter(word for words in self.words for word in set(words))
        self.rarity = {word: math.log(len(stories) / count) for word, count in spread.items()}

    def pick(self, story: int, rng: random.Random, n: int = 3) -> list[str]:
        """`n` words of story number `story`, or fewer where it has no more; words with a capital are left out."""
        weights = {w: self.rarity[w] ** 2 * min(c, 4) for w, c in Counter(self.words[story]).items()}
        picked: set[str] = set()
        while len(picked) < min(n, len(weights)):
            left = [word for word in weights if word not in picked]
            picked.add(rng.choices(left, [weights[word] + 1e-9 for word in left])[0])
        return sorted(picked, key=self.words[story].index)


class StoryRows:
    """The rows of an epoch, plain and word-prompted, in batches of like lengths; the same for the same seed."""

    def __init__(self, stories: Sequence[str], tokenizer: PreTrainedTokenizerFast, config: PretrainConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.prompter = WordPrompter(stories)
        self.stories = tokenizer(list(stories), add_special_tokens=False).input_ids

    def row(self, story: int, rng: random.Random) -> Row:
        ids = self.stories[story] + [self.tokenizer.eos_token_id]
        weights = [1.0] * len(ids)
        prompt = [self.tokenizer.bos_token_id]
        if rng.random() < self.config.prompted:
            words = self.prompter.pick(story, rng)
            prompt += self.tokenizer(story_prompt(words), add_special_tokens=False).input_ids
            named = {self.tokenizer(f" {word}", add_special_tokens=False).input_ids[0] for word in words}
            weights = [self.config.named_weight if token in named else 1.0 for token in ids]
        window = self.config.window + 1
        return (prompt + ids)[:window], ([0.0] * len(prompt) + weights)[:window]

    def batches(self, epoch: int) -> list[list[Row]]:
        """All rows of an epoch in batches of at most `batch_tokens` tokens, padding counted."""
        rng = random.Random(f"{self.config.seed}-{epoch}")
        rows = [self.row(story, rng) for story in range(len(self.stories))]
        rng.shuffle(rows)
        rows.sort(key=lambda row: len(row[0]) // 16)  # like lengths together, else in shuffled order
        batches, batch = [], []
        for row in rows:
            if batch and (len(batch) + 1) * padded(len(row[0])) > self.config.batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(row)
        batches.append(batch)
        rng.shuffle(batches)
        return batches

    def stream(self, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches from number `start` on, epoch after epoch, as tensors (B, T)."""
        epoch, seen = 0, 0
        while True:
            batches = self.batches(epoch)
            for number in range(max(0, start - seen), len(batches)):
                yield collate(batches[number], self.tokenizer.pad_token_id)
            seen += len(batches)
            epoch += 1


def padded(length: int) -> int:
    return math.ceil(length / 16) * 16  # few different shapes


def collate(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the right, where a causal model cannot see it: ids (B, T) and loss weights (B, T)."""
    width = padded(max(len(ids) for ids, _ in rows))
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows])
    weights = torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in rows])
    return ids, weights


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    `torch.optim.Muon` iterates in bf16, which CPUs without bf16 units do ten times slower than fp32.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(momentum, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrix, roughly (singular values 0.7 to 1.2), by Newton and Schulz's iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def new_model(tokenizer: PreTrainedTokenizerFast, config: PretrainConfig) -> LlamaForCausalLM:
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.window,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def weighted_loss(
    model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean loss to train on, and the plain mean over the same tokens to look at, in nats per token."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # (B, T-1, V)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    scored = weights > 0
    return (losses * weights).sum() / weights.sum(), (losses * scored).sum().detach() / scored.sum()


def bits_per_byte(model, tokenizer: PreTrainedTokenizerFast, stories: Sequence[str], window: int = 480) -> float:
    """Held-out quality: each story alone after BOS, its first `window` tokens, bits over their UTF-8 bytes."""
    kept = [(ids[: window + 1], start) for ids, start in tokenised(tokenizer, stories) if ids[start:]]
    size = sum(len(tokenizer.decode(ids[start:]).encode()) for ids, start in kept)
    return sum(log_losses(model, kept)) / math.log(2) / size


def learning_rate_factor(step: int, config: PretrainConfig) -> float:
    """Warm-up, then constant, then linear to zero over the last `decay` of the steps."""
    return min(1.0, (step + 1) / config.warmup, (config.steps - step) / (config.decay * config.steps))


def optimizers(model: LlamaForCausalLM, config: PretrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    layers = [p for p in model.model.layers.parameters() if p.ndim == 2]
    in_layers = {id(p) for p in layers}
    rest = [p for p in model.parameters() if id(p) not in in_layers]
    return {
        "muon": Muon(layers, lr=config.muon_lr, weight_decay=config.weight_decay),
        "adam": torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    }


def save_checkpoint(path: Path, model, optims: dict[str, torch.optim.Optimizer], step: int) -> None:
    """One safetensors file with weights, optimiser state and step, moved into place when it is whole."""
    tensors = {f"model|{name}": p.detach() for name, p in model.named_parameters()}
    for kind, optim in optims.items():
        for number, state in optim.state_dict()["state"].items():
            tensors |= {f"{kind}|{number}|{key}": value for key, value in state.items()}
    with atomic_path(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata={"step": str(step)})


def load_checkpoint(path: Path, model, optims: dict[str, torch.optim.Optimizer]) -> int:
    """Fill model and optimisers from `path`; return the number of steps already done."""
    states: dict[str, dict] = {kind: {} for kind in optims}
    parameters = dict(model.named_parameters())
    with safe_open(path, "pt") as file:
        for name in file.keys():
            kind, key, *rest = name.split("|")
            if kind == "model":
                parameters[key].data.copy_(file.get_tensor(name))
            else:
                states[kind].setdefault(int(key), {})[rest[0]] = file.get_tensor(name)
        step = int(file.metadata()["step"])
    for kind, optim in optims.items():
        optim.load_state_dict(optim.state_dict() | {"state": states[kind]})
    return step


def check_folder(out: Path, card: dict) -> None:
    """Make the run's folder; UserError where another run with other settings or stories is in it."""
    path = out / "run.json"
    if path.exists() and read_card(path) != card:
        raise UserError(f"{out} holds a run with other settings or stories; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(card, indent=2))


def pretrain(
    stories: Sequence[str],
    held_out: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    config: PretrainConfig,
    out: Path,
    log=print,
) -> LlamaForCausalLM:
    """Train a base from scratch in folder `out`, or go on from its checkpoint; `log.jsonl` there holds the curve."""
    check_folder(out, {"config": asdict(config), "stories": text_hash(stories)})
    model = new_model(tokenizer, config)
    optims = optimizers(model, config)
    checkpoint = out / "checkpoint.safetensors"
    done = load_checkpoint(checkpoint, model, optims) if checkpoint.exists() else 0
    trim_log(out / "log.jsonl", done)
    step_loss = torch.compile(weighted_loss, dynamic=True) if config.compile else weighted_loss
    batches = StoryRows(stories, tokenizer, config).stream(done)
    started, tokens = time.monotonic(), 0
    for step in range(done, config.steps):
        ids, weights = next(batches)
        for optim in optims.values():
            for group in optim.param_groups:
                group["lr"] = optim.defaults["lr"] * learning_rate_factor(step, config)
        loss, plain = step_loss(model, ids, weights)
        if not torch.isfinite(loss):
            raise UserError(f"loss is {loss.item()} at step {step}: lower muon_lr or adam_lr and start again")
        loss.backward()
        for optim in optims.values():
            optim.step()
            optim.zero_grad()
        tokens += int((weights > 0).sum())
        entry = {
            "step": step + 1,
            "loss": round(plain.item(), 4),
            "factor": round(learning_rate_factor(step, config), 4),
        }
        entry |= {"tokens_per_second": round(tokens / (time.monotonic() - started))}
        last = step + 1 == config.steps
        if (step + 1) % config.evaluate_every == 0 or last:
            entry["bits_per_byte"] = round(bits_per_byte(model, tokenizer, held_out if last else held_out[:100]), 4)
        if (step + 1) % config.checkpoint_every == 0 or last:
            save_checkpoint(checkpoint, model, optims, step + 1)
        with (out / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if (step + 1) % 20 == 0 or "bits_per_byte" in entry:
            log(entry)
    return model
