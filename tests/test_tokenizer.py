"""A tokenizer of its own: special ids, whole emojis, nothing unknown."""

from storylib.tokenizer import train_tokenizer

FAMILY = "👨\u200d👩\u200d👦\u200d👦"


def test_trained_tokenizer():
    tokenizer = train_tokenizer(["the fox and the owl", "the fox sat"] * 10, ["🦔", FAMILY], vocab_size=280)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert len(tokenizer) <= 280
    ids = tokenizer(f"{FAMILY}🦔 the fox").input_ids
    assert ids[0] == 0 and ids[1:3] == [len(tokenizer) - 1, len(tokenizer) - 2]
    assert len(ids) == 5  # BOS, two emojis, " the", " fox"
    for text in (f"🦔🦕 {FAMILY}\nthe end", "狐狸 ação ねこ"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
