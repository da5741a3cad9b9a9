"""Sentiment by genre: counts and windows by hand, both scorers behind one interface, and stories without a feeling."""

import evaluate
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    TextClassificationPipeline,
)

from storylib.errors import UserError
from storylib.metrics import (
    Feelings,
    load_scorer,
    opinion_balance,
    opinion_lexicon,
    positive_share,
    sentiment_by_genre,
)
from storylib.metrics.as_evaluate import as_metric
from storylib.metrics.score import wilson_interval
from storylib.metrics.sentiment import TOTAL, Classifier, Vader, view_scores

GOOD, BAD, DULL = (
    "The happy king loved the good child.",
    "The evil ghost killed the poor child.",
    "The table stood there.",
)
PORTUGUESE = "Era uma vez uma menina chamada Lily que adorava a cor rosa e tinha um vestido muito bonito."


class Signs:
    """Scores a window by its first letter, windows of two words."""

    signature, neutral = "signs", 0.0

    def windows(self, story):
        words = story.split()
        return [" ".join(words[max(0, end - 2) : end]) for end in range(len(words), 0, -2)][::-1]

    def __call__(self, texts):
        return [{"g": 1.0, "b": -1.0}.get(text[0], 0.0) for text in texts]


def counts(feelings):
    return feelings.positive, feelings.negative, feelings.neutral


def test_counts_by_scenario_and_genre_and_in_total():
    told = {"horror": [GOOD, BAD, BAD, DULL, ""], "fairy_tale": [GOOD, GOOD, BAD]}
    found = sentiment_by_genre({"data": told, "base": {"horror": [GOOD]}}, Vader())
    for table in (found.ending, found.whole):  # stories of one window
        assert {genre: counts(feelings) for genre, feelings in table["data"].items()} == {
            "horror": (1, 2, 1),
            "fairy_tale": (2, 1, 0),
            TOTAL: (3, 3, 1),
        }
        assert counts(table["base"][TOTAL]) == (1, 0, 0)
    assert found.ending["data"][TOTAL].left == {"empty": 1, "other language": 0}


def test_shares_have_wilsons_interval_and_say_what_was_left_out():
    score = Feelings(6, 3, 1, {"empty": 2, "other language": 0}, "sentiment|vader").share()
    assert (score.value, (score.low, score.high)) == (0.6, wilson_interval(6, 10))
    assert score.low == pytest.approx(0.3127, abs=1e-4) and score.high == pytest.approx(0.8318, abs=1e-4)
    assert "positive|sentiment|vader|neutral:1|empty:2|other language:0|interval:wilson|stories:10" == score.signature


def test_the_ending_and_the_whole_story_are_two_views():
    # windows "g", "b b" and "g g"; weights 1 * 1, 2 * 2 and 3 * 2
    assert view_scores(["g b b g g"], Signs()) == {"ending": [1.0], "whole": [pytest.approx((1 - 4 + 6) / 11)]}
    # windows "g g" and "b b": the later one weighs twice
    assert view_scores(["g g b b"], Signs()) == {"ending": [-1.0], "whole": [pytest.approx((2 - 4) / 6)]}


def test_vader_cuts_windows_from_the_end_and_keeps_the_text():
    story = "\n\n".join(f"word{number}" for number in range(103))
    windows = Vader().windows(story)
    assert [len(window.split()) for window in windows] == [3, 50, 50] and "".join(windows) == story
    assert Vader().windows("One fox.") == ["One fox."]


def test_vader_takes_the_mean_over_sentences():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    score = SentimentIntensityAnalyzer().polarity_scores
    expected = (score(GOOD)["compound"] + score(BAD)["compound"]) / 2
    assert Vader()([f"{GOOD} {BAD}", DULL]) == [pytest.approx(expected), 0.0]


def test_a_bad_ending_turns_a_good_story():
    story = " ".join([GOOD] * 6 + [BAD] * 8)  # the last 50 words are bad
    found = sentiment_by_genre({"a": {"horror": [story]}}, Vader())
    assert counts(found.ending["a"]["horror"]) == (0, 1, 0)
    assert view_scores([story], Vader())["whole"] > view_scores([story], Vader())["ending"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([GOOD, BAD, DULL, "", "🦔"]), min_size=1), st.randoms())
def test_order_does_not_matter(stories, rng):
    shuffled = rng.sample(stories, len(stories))
    assert sentiment_by_genre({"a": {"x": stories}}, Vader()) == sentiment_by_genre({"a": {"x": shuffled}}, Vader())


def test_positive_share_of_one_list():
    score = positive_share([GOOD, GOOD, BAD, "", PORTUGUESE], Vader())
    assert score.value == pytest.approx(2 / 3) and "|empty:1|other language:1|" in score.signature
    assert "view:ending" in score.signature and "|512 words" not in score.signature
    assert "view:whole|weights:place*words" in positive_share([GOOD], Vader(), "whole").signature
    assert positive_share([GOOD], Vader()).value == 1.0  # a single story, with an interval to match
    assert positive_share([GOOD], Vader()).low < 0.3


def test_shares_are_metrics_of_evaluate_too():
    metrics = [as_metric(positive_share, scorer=Vader()), as_metric(opinion_balance, lexicon=opinion_lexicon("vader"))]
    found = evaluate.combine(metrics).compute(predictions=[GOOD, BAD, GOOD, GOOD])
    assert found["positive_share"] == 0.75 and found["positive_share_signature"].startswith("positive|sentiment|vader-")
    # good: happy, loved, good; bad: evil, ghost, killed, poor
    assert found["opinion_balance"] == pytest.approx(9 / 13)


def test_a_genre_without_any_text_is_counted_and_has_no_share():
    found = sentiment_by_genre({"a": {"horror": ["", " "], "fairy_tale": [GOOD]}}, Vader()).ending["a"]
    assert counts(found["horror"]) == (0, 0, 0) and found["horror"].left["empty"] == 2
    with pytest.raises(UserError, match="no story has a feeling: empty:2"):
        found["horror"].share()
    assert found[TOTAL].share().value == 1.0


# Classifiers

WORDS = "the a fox king sad happy ##ly old sea ran and house in by of".split()


@pytest.fixture(scope="module")
def pipeline():
    """DistilBERT in small, with random weights and windows of ten tokens."""
    torch.manual_seed(1)
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=12, **special)
    config = DistilBertConfig(
        vocab_size=len(vocabulary),
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        max_position_embeddings=12,
        initializer_range=1.0,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    return TextClassificationPipeline(model=DistilBertForSequenceClassification(config).eval(), tokenizer=tokenizer)


def test_windows_are_the_models_own_tokens_cut_between_words(pipeline):
    story = "The old king sadly ran by the sea. The happy fox ran in the house."
    windows = Classifier(pipeline).windows(story)
    sizes = [len(pipeline.tokenizer(window, add_special_tokens=False).input_ids) for window in windows]
    assert "".join(windows) == story and sizes == [8, 10]
    assert windows[-1] == "sea. The happy fox ran in the house."


def test_no_word_is_cut_unless_it_fills_a_window(pipeline):
    scorer = Classifier(pipeline)
    # ten tokens from the end begin inside "happyly" (two of them), so the window begins behind it
    assert scorer.windows("fox happyly a a a a a a a a a") == ["fox happyly ", "a a a a a a a a a"]
    assert scorer.windows("happy" + "ly" * 14) == ["happy" + "ly" * 4, "ly" * 10]
    assert scorer.windows("fox") == ["fox"]


def test_a_classifier_scores_batches_as_it_scores_texts_one_by_one(pipeline):
    texts = ["the fox ran", "a sad old king by the sea", "fox", "the happy king and the fox"]
    scorer = Classifier(pipeline, batch_size=3)
    scores = scorer(texts)
    with torch.no_grad():
        for text, score in zip(texts, scores, strict=True):
            logits = pipeline.model(**pipeline.tokenizer(text, return_tensors="pt")).logits[0]
            negative, positive = logits.softmax(-1).tolist()
            assert score == pytest.approx(positive - negative, abs=1e-5)
    assert len({round(score, 4) for score in scores}) == 4


def test_both_scorers_go_through_one_interface(pipeline):
    stories = ["The old king ran by the sea and the fox ran in the house.", "The happy king.", ""]
    given, made = (
        sentiment_by_genre({"a": {"x": stories}}, pipeline),
        sentiment_by_genre({"a": {"x": stories}}, Classifier(pipeline)),
    )
    assert given == made and given.ending["a"]["x"].told == 2
    assert "|window:10 tokens|view:ending" in given.ending["a"]["x"].signature


def test_a_classifier_is_loaded_from_a_folder(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    scorer = load_scorer(str(tmp_path))
    assert scorer(["a sad fox"]) == pytest.approx(Classifier(pipeline)(["a sad fox"]))


def test_labels_must_say_what_is_positive(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.model.config, "id2label", {0: "LABEL_0", 1: "LABEL_1"})
    with pytest.raises(UserError, match="begins with 'pos', got LABEL_0, LABEL_1"):
        Classifier(pipeline)


def test_vader_is_the_default_where_no_model_has_been_downloaded(monkeypatch):
    monkeypatch.setattr("storylib.hub.in_cache", lambda name: False)
    assert isinstance(load_scorer(), Vader) and isinstance(load_scorer("vader"), Vader)
    with pytest.raises(UserError, match="no sentiment model not a name.*'vader' needs none"):
        load_scorer("not a name")


# Bad input


@pytest.mark.parametrize(
    "scenarios, error, message",
    [
        ({}, UserError, "no scenarios"),
        ({"a": {}}, UserError, "a must map genres to stories"),
        ({"a": [GOOD]}, UserError, "a must map genres to stories"),
        ({"a": {TOTAL: [GOOD]}}, UserError, "none of them 'total'"),
        ({"a": {"horror": []}}, UserError, "no horror stories of a: give at least one"),
        ({"a": {"horror": [GOOD, None]}}, TypeError, r"horror stories of a\[1\] must be a text, got None"),
        ({"a": {"horror": GOOD}}, TypeError, "must be a list"),
        ({"a": {"horror": [PORTUGUESE]}}, UserError, "for English stories only"),
        ({"a": {"horror": ["从前有一只小狐狸住在森林里。"]}}, UserError, "for English stories only"),
    ],
)
def test_bad_input(scenarios, error, message):
    with pytest.raises(error, match=message):
        sentiment_by_genre(scenarios, Vader())


def test_a_view_and_a_feeling_must_be_known():
    with pytest.raises(UserError, match="view must be one of ending, whole, got 'start'"):
        positive_share([GOOD], Vader(), "start")
    with pytest.raises(UserError, match="positive, negative, neutral, got 'joy'"):
        Feelings(1, 0, 0, {}, "s").share("joy")
    with pytest.raises(UserError, match="no story has a feeling"):
        positive_share(["", " "], Vader())


def test_a_scorer_that_gives_no_number_is_refused():
    class Broken(Signs):
        def __call__(self, texts):
            return [float("nan") for _ in texts]

    with pytest.raises(UserError, match="signs gives no number"):
        positive_share([GOOD], Broken())
    with pytest.raises(UserError, match="no stories: give at least one"):
        positive_share([], Vader())
