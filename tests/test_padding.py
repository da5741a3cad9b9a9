"""Padding with EOS hides every end from training; a pad of its own does not."""

from storylib import config, padding
from storylib.generation import Story
from storylib.models import load_tokenizer

ROWS = [{"prompt": "", "completion": "She slept."}, {"prompt": "", "completion": "Then all the animals slept."}]


def test_eos_is_left_out_of_the_labels_only_where_it_is_the_pad():
    for pad, learnt in (("eos", False), ("own", True)):
        tokenizer = padding.with_pad(load_tokenizer(config.EMBEDDED_BASE), pad)
        batch = padding.batch_of(tokenizer, ROWS)
        for ids, labels, mask in zip(
            *(batch[key].tolist() for key in ("input_ids", "labels", "attention_mask")), strict=True
        ):
            last = max(place for place, seen in enumerate(mask) if seen)
            assert ids[last] == tokenizer.eos_token_id and (labels[last] == ids[last]) is learnt
            assert all(label == -100 for label, seen in zip(labels, mask, strict=True) if not seen)


def test_rows_show_the_end_or_its_lack():
    (_, long), (_, cured) = (
        padding.label_rows(config.EMBEDDED_BASE, pad, [row["completion"] for row in ROWS]) for pad in ("eos", "own")
    )
    assert long["read"] == cured["read"] and long["read"].endswith("</s>")
    assert long["trained on"].endswith(" -") and cured["trained on"].endswith(" </s>")


def test_both_trainings_run(tiny_recipe, rows):
    for pad in ("eos", "own"):
        trained = padding.train_padded(tiny_recipe, pad, rows)
        assert (trained.tokenizer.pad_token_id == trained.tokenizer.eos_token_id) is (pad == "eos")


def test_ending_scores():
    told = [Story("", 0, "one two three", "eos", 3), Story("", 1, "one", "limit", 9)]
    scores = padding.ending_scores(told)
    assert scores["stopped by itself"].value in (0.5, 50) and scores["words"].value == 2
