"""Embeddings of tokens that a base has never told apart."""

from dataclasses import replace

import datasets
import pytest
import torch

from storylib.embeddings import corpus_tokens, renew, tokens_to_learn
from storylib.errors import UserError
from storylib.models import load_adapter, load_base, load_tokenizer
from storylib.perplexity import perplexity
from storylib.training import finetune


def piled_up(base, tokens: list[int]):
    """The base with these tokens at one place, as training leaves what never came up."""
    model = load_base(str(base), four_bit=False, dtype=torch.float32)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[tokens] = 5.0 + 0.01 * torch.randn(len(tokens), weight.shape[1])
    return model


def test_tokens_at_one_place_are_spread_like_the_others(tiny_base):
    pile = list(range(100, 400))
    model = piled_up(tiny_base, pile)
    before = model.get_input_embeddings().weight.clone()
    torch.manual_seed(3)
    asked = [5, 6, *pile[:200]]
    assert renew(model, asked) == pile[:200]
    after = model.get_input_embeddings().weight
    others = torch.tensor([token for token in range(len(after)) if token not in pile[:200]])
    assert torch.equal(after[others], before[others])
    kept = before[[token for token in range(len(after)) if token not in pile]]
    assert torch.allclose(after[pile[:200]].mean(), kept.mean(), atol=0.01)
    assert torch.allclose(after[pile[:200]].std(), kept.std(), rtol=0.1)


def test_the_seed_decides_and_distinct_tokens_stay(tiny_base):
    drawn = []
    for _ in range(2):
        model = piled_up(tiny_base, [100, 101])
        torch.manual_seed(3)
        renew(model, [100, 101])
        drawn.append(model.get_input_embeddings().weight[[100, 101]].clone())
    assert torch.equal(*drawn)
    fresh = load_base(str(tiny_base), four_bit=False)
    assert renew(fresh, [7, 8, 9]) == []


def test_tokens_of_the_corpus_or_of_the_names(tokenizer):
    rows = datasets.Dataset.from_list([{"prompt": "从前", "completion": "有一只狐狸。"}])
    ids = tokenizer(["从前", "有一只狐狸。"], add_special_tokens=False).input_ids
    assert set(corpus_tokens(tokenizer, rows)) == {token for text in ids for token in text}
    assert tokens_to_learn("none", tokenizer, {"🦊": "fox"}, rows) == []
    assert len(tokens_to_learn("names", tokenizer, {"🦊": "fox"}, rows)) == 2


def test_an_adapter_keeps_the_renewed_embeddings(tiny_recipe, rows, tiny_base, tmp_path):
    tokenizer = load_tokenizer(str(tiny_base))
    pile = corpus_tokens(tokenizer, rows["train"])
    base = tmp_path / "base"
    piled_up(tiny_base, pile).save_pretrained(base)
    tokenizer.save_pretrained(base)
    recipe = replace(
        tiny_recipe,
        base=str(base),
        lora=replace(tiny_recipe.lora, embeddings="corpus"),
        train=replace(tiny_recipe.train, renew_embeddings=True),
    )
    trained = finetune(recipe, tmp_path / "run", rows, samples=0)
    last = [row["eval_loss"] for row in trained.log if "eval_loss" in row][-1]
    told = [text + tokenizer.eos_token for text in rows["test"]["completion"]]
    found = perplexity(*load_adapter(trained.run.adapter), told, rows["test"]["prompt"])
    assert torch.tensor(found.perplexity).log().item() == pytest.approx(last, abs=1e-3)
    with pytest.raises(UserError, match="an adapter keeps renewed embeddings with lora.embeddings='corpus' only"):
        replace(recipe, lora=tiny_recipe.lora)
