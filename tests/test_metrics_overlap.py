"""chrF and ROUGE against their libraries, other scripts, and paired tests against sacrebleu's."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from storylib.errors import UserError
from storylib.metrics import bleu, chrf, difference, leave_one_out, mean_tally, paired_test, rouge, shifted
from storylib.metrics.overlap import RougeWords, tokenizer_for
from storylib.metrics.paired import Difference
from storylib.metrics.score import singles

STORIES = ["The fox ran to the sea and the sea was blue.", "An owl sat in a tree and read a big book."]
REFERENCES = [
    ["The fox ran to the sea and swam.", "A fox went to the sea and it was blue."],
    ["The owl sat in a tree and slept.", "An owl read a big book in a tree all night."],
]
CHINESE = ["从前有一只小狐狸住在森林里。", "猫头鹰在树上看书。"]
CHINESE_REFERENCES = [["从前有一只狐狸，它住在森林里。"], ["猫头鹰坐在树上睡觉。"]]
JAPANESE = ["むかし、きつねが森にいました。", "ふくろうは木の上で本を読みました。"]
JAPANESE_REFERENCES = [["むかしむかし、森にきつねがいました。"], ["ふくろうは木の上でねました。"]]
METRICS = [bleu, chrf, rouge]


WORDS = "the a fox owl sea tree ran sat saw sang home blue and to in".split()


def seeded_stories(count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(8, 20))) for _ in range(count)]


# chrF


def test_chrf_is_sacrebleus_own():
    alone = [CHRF().sentence_score(story, texts).score for story, texts in zip(STORIES, REFERENCES, strict=True)]
    pooled = CHRF().corpus_score(STORIES, [list(texts) for texts in zip(*REFERENCES, strict=True)]).score
    corpus, story = chrf(STORIES, REFERENCES), chrf(STORIES, REFERENCES, average="story")
    assert corpus.value == pytest.approx(pooled, abs=1e-9)
    assert story.value == pytest.approx(sum(alone) / 2, abs=1e-9)
    assert corpus.per_story == story.per_story == pytest.approx(alone, abs=1e-9)
    assert corpus.low <= corpus.value <= corpus.high and story.low == min(alone)
    for part in ("chrf|nrefs:2", "nc:6", "nw:0", "average:corpus", "clusters:2", "bootstrap:1000"):
        assert part in corpus.signature


def test_chrf_by_hand():
    """Of "ab" against "abc": precision 2/2 and 1/1, recall 2/3 and 1/2; longer runs are in the reference alone."""
    precision, recall = 1, (2 / 3 + 1 / 2) / 2
    assert chrf(["ab"], [["abc"]]).value == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))


# ROUGE


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores_own_in_english(kind):
    scorer = RougeScorer([kind])
    pairs = zip(STORIES, REFERENCES, strict=True)
    expected = [100 * scorer.score_multi(texts, story)[kind].fmeasure for story, texts in pairs]
    score = rouge(STORIES, REFERENCES, kind)
    assert score.per_story == pytest.approx(expected) and score.value == pytest.approx(sum(expected) / 2)
    assert (score.low, score.high) == (min(score.per_story), max(score.per_story))
    assert f"type:{kind}|" in score.signature and "average:story|" in score.signature and "nrefs:2" in score.signature


@pytest.mark.parametrize(
    "kind, story, reference, share",
    [
        ("rouge1", "the fox ran", "the fox sat down", 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
        ("rouge2", "the fox ran", "the fox sat down", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        ("rougeL", "a b c d", "b a d c", 2 / 4),  # in order: b d, b c, a d or a c
        ("rougeL", "狐狸跑了", "狐狸睡了", 3 / 4),
        ("rouge2", "きつねは走る", "きつねは寝る", 3 / 5),  # きつ つね ねは
        ("rouge1", "não há pão", "não há mais", 2 / 3),
    ],
)
def test_rouge_by_hand(kind, story, reference, share):
    assert rouge([story], [[reference]], kind).value == pytest.approx(100 * share)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_is_cut_as_rouge_score_does(text):
    assert RougeWords().tokenize(text) == DefaultTokenizer().tokenize(text)


def test_rouge_refuses_another_kind():
    with pytest.raises(UserError, match="rouge1, rouge2, rougeL, got 'rougeLsum'"):
        rouge(STORIES, REFERENCES, "rougeLsum")


# All three


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("story, texts", [(CHINESE, CHINESE_REFERENCES), (JAPANESE, JAPANESE_REFERENCES)])
def test_no_script_scores_zero_for_its_letters(metric, story, texts):
    assert 10 < metric(story, texts).value < 90
    assert metric(story, [[text] for text in story]).value == pytest.approx(100)
    assert metric(story, texts[::-1]).value < metric(story, texts).value / 2


@pytest.mark.parametrize(
    "texts, name",
    [
        (["Uma raposa 狐."], "13a"),
        (CHINESE, "zh"),
        (["狐狸说：“OK！”"], "zh"),
        (JAPANESE, "char"),
        (["🦊 123"], "13a"),
        (["สุนัขจิ้งจอก"], "char"),
        (["Лиса бежит домой."], "13a"),
    ],
)
def test_tokenizer_follows_the_references(texts, name):
    assert tokenizer_for([texts]) == name
    assert f"tok:{name}|" in bleu(["x"], [texts]).signature


def test_bleu_of_chinese_is_sacrebleus_with_its_chinese_tokenizer():
    expected = BLEU(tokenize="zh").corpus_score(CHINESE, [[texts[0] for texts in CHINESE_REFERENCES]]).score
    assert bleu(CHINESE, CHINESE_REFERENCES).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_extremes(metric):
    same = metric(["the fox slept all day"], [["an owl", "the fox slept all day"]])
    assert same.value == same.low == same.high == pytest.approx(100)
    none = metric(["", "  "], REFERENCES)
    assert none.value == none.low == none.high == 0 and "|empty:2|" in none.signature
    assert metric(STORIES, [REFERENCES[0], REFERENCES[1][:1]]).value > 0  # another number of references


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "hypotheses, references, error",
    [
        ("a fox", [["a fox"]], TypeError),
        (["a fox"], ["a fox"], TypeError),
        (["a fox"], [["a fox"], ["an owl"]], UserError),
        ([], [], UserError),
        (["a fox"], [[]], UserError),
        (["a fox"], [["a fox", ""]], UserError),
        ([None], [["a fox"]], TypeError),
        (["a fox"], [[None]], TypeError),
    ],
)
def test_bad_input(metric, hypotheses, references, error):
    with pytest.raises(error):
        metric(hypotheses, references)


@pytest.mark.parametrize("metric", METRICS)
def test_floor_and_ceiling_stand_apart(metric):
    same = [[f"{tale} {end}" for end in ("at home.", "by night.", "at last.")] for tale in STORIES]
    assert metric(*shifted(same)).value < metric(*leave_one_out(same)).value


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(order=st.permutations(range(8)))
def test_order_does_not_matter(metric, order):
    stories, texts = seeded_stories(8, 1), [[text] for text in seeded_stories(8, 2)]
    given_order = metric(stories, texts)
    shuffled = metric([stories[i] for i in order], [texts[i] for i in order])
    assert shuffled.value == pytest.approx(given_order.value)
    assert shuffled.per_story == tuple(given_order.per_story[i] for i in order)


# Paired tests


def far_and_near(count):
    """Two systems of which the first is nearer to the references, in most stories."""
    texts = seeded_stories(count, 7)
    rng = random.Random(8)

    def spoilt(text, share):
        return " ".join("x" if rng.random() < share else word for word in text.split())

    return [spoilt(text, 0.35) for text in texts], [spoilt(text, 0.45) for text in texts], [[text] for text in texts]


@pytest.mark.parametrize("test", ["ar", "bs"])
@pytest.mark.parametrize("metric, theirs", [(bleu, BLEU), (chrf, CHRF)])
def test_p_is_sacrebleus_where_each_story_has_its_own_references(metric, theirs, test):
    system, baseline, texts = far_and_near(30)
    columns = [[story[0] for story in texts]]
    _, scores = PairedTest([("base", baseline), ("system", system)], {"m": theirs()}, columns, test_type=test)()
    (name,) = set(scores) - {"System"}
    expected = scores[name]
    found = paired_test(metric, system, baseline, texts, test=test)
    assert found.p == pytest.approx(expected[1].p_value, abs=1e-12) and 0.0001 < found.p < 0.5
    assert found.value == pytest.approx(expected[1].score - expected[0].score, abs=1e-9)
    assert found.low <= found.value <= found.high and f"test:{test}|" in found.signature


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("test", ["ar", "bs"])
def test_a_system_does_not_differ_from_itself(metric, test):
    found = paired_test(metric, STORIES, STORIES, REFERENCES, test=test)
    assert (found.value, found.p, found.verdict) == (0, 1, "can't tell")


def test_randomisation_of_few_clusters_by_hand():
    """Three of three prompts are better by one: of the eight ways to swap, two are as far apart."""
    found = difference(mean_tally([1, 1, 1]), mean_tally([0, 0, 0]), singles(3), "x")
    assert found.p == pytest.approx(2 / 8, abs=0.02) and found.verdict == "can't tell"
    assert (found.value, found.low, found.high, found.per_story) == (1, 1, 1, (1, 1, 1))
    many = difference(mean_tally([1] * 12), mean_tally([0] * 12), singles(12), "x")
    assert many.p < 0.01 and many.verdict == "higher"
    assert difference(mean_tally([0] * 12), mean_tally([1] * 12), singles(12), "x").verdict == "lower"


def test_stories_of_one_prompt_are_no_independent_evidence():
    """Ten seeds of each of two prompts say no more than two prompts can."""
    ones, noughts = mean_tally([1.0] * 20), mean_tally([0.0] * 20)
    prompts = [list(range(10)), list(range(10, 20))]
    assert difference(ones, noughts, singles(20), "x").p < 0.001
    assert difference(ones, noughts, prompts, "x").p == pytest.approx(1 / 2, abs=0.02)
    shared = [REFERENCES[0]] * 10 + [REFERENCES[1]] * 10
    assert "clusters:2|" in paired_test(bleu, STORIES[:1] * 20, STORIES[1:] * 20, shared).signature


def test_test_of_alike_systems_is_seldom_sure():
    """Under 0.05 in about 5 of 100 comparisons of systems that are alike."""
    rng = np.random.default_rng(1)
    pairs = [(mean_tally(rng.random(15)), mean_tally(rng.random(15))) for _ in range(40)]
    assert sum(difference(a, b, singles(15), "x").verdict != "can't tell" for a, b in pairs) <= 6


def test_difference_as_text():
    assert str(Difference(-2, "s", -3.1, -0.5, p=0.0123)) == "-2.00 [-3.10, -0.50] p=0.0123"


def test_options_of_the_metric_reach_it():
    found = paired_test(rouge, STORIES, STORIES[::-1], REFERENCES, kind="rouge2")
    assert "type:rouge2|" in found.signature
    expected = rouge(STORIES, REFERENCES, "rouge2").value - rouge(STORIES[::-1], REFERENCES, "rouge2").value
    assert found.value == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric, baseline, test, message",
    [
        (len, STORIES, "ar", "bleu, chrf, rouge, got 'len'"),
        (bleu, STORIES, "t", "ar, bs, got 't'"),
        (bleu, STORIES[:1], "ar", "got 1 and 2"),
        (bleu, [], "ar", "no hypotheses"),
    ],
)
def test_paired_test_refuses(metric, baseline, test, message):
    with pytest.raises(UserError, match=message):
        paired_test(metric, STORIES, baseline, REFERENCES, test=test)


def test_difference_refuses_systems_of_other_sizes():
    with pytest.raises(UserError, match="got 3 and 2"):
        difference(mean_tally([1, 2, 3]), mean_tally([1, 2]), singles(3), "x")
