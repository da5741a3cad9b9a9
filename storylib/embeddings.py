"""Which tokens learn embeddings of their own, and how those begin that the base has never told apart."""

from collections.abc import Mapping, Sequence

import torch
from datasets import Dataset
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

ALIKE = 0.98  # cosine from which on two tokens are one to the model


def tokens_to_learn(
    kind: str, tokenizer: PreTrainedTokenizerBase, emojis: Mapping[str, str], rows: Dataset
) -> list[int]:
    """The tokens whose embeddings `LoraSettings.embeddings` asks for: of "none", of "names" or of the "corpus"."""
    if kind == "names":
        return name_tokens(tokenizer, emojis)
    return corpus_tokens(tokenizer, rows) if kind == "corpus" else []


def name_tokens(tokenizer: PreTrainedTokenizerBase, emojis: Mapping[str, str]) -> list[int]:
    """The emojis and the words of their names that are one token each, which a base may hardly have seen.

    A piece such as "ing" stays as it is: other words need it.
    """
    words = [f" {word}" for name in emojis.values() for word in name.split()]
    ids = tokenizer([*emojis, *words], add_special_tokens=False).input_ids
    return sorted({tokens[0] for tokens in ids if len(tokens) == 1})


def corpus_tokens(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> list[int]:
    """Every token of the stories."""
    ids = tokenizer([*rows["prompt"], *rows["completion"]], add_special_tokens=False).input_ids
    return sorted({token for tokens in ids for token in tokens})


@torch.no_grad()
def renew(model: PreTrainedModel, tokens: Sequence[int]) -> list[int]:
    """Give those of `tokens` that the base cannot tell from each other embeddings anew; return which they were.

    Tokens that never came up in training all end at one place, where the softmax pushes what is never right, and a
    whole script is one and the same token. They start again as draws from a normal distribution with the mean and the
    spread of the other embeddings (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html), by torch's
    seed.
    """
    weight = model.get_input_embeddings().weight  # (V, D)
    found = torch.tensor(tokens, device=weight.device)
    near = normalize(weight[found].float(), dim=1) @ normalize(weight.float(), dim=1).T  # (T, V)
    near[torch.arange(len(tokens)), found] = 0  # not each with itself
    alike = found[(near > ALIKE).any(dim=1)]
    if len(alike):
        told_apart = weight[
            (normalize(weight[alike[:1]].float(), dim=1) @ normalize(weight.float(), dim=1).T)[0] < ALIKE
        ]
        drawn = torch.randn(len(alike), weight.shape[1])
        mean, spread = told_apart.float().mean(dim=0), told_apart.float().std(dim=0)
        weight[alike] = (mean + spread * drawn.to(weight.device)).to(weight.dtype)
    return alike.tolist()
