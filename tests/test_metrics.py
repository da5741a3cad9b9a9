"""Values worked out by hand, or by sacrebleu directly."""

import json
import time

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from storylib.errors import UserError
from storylib.files import DATA
from storylib.metrics import (
    Score,
    bleu,
    bootstrap_interval,
    concept_coverage,
    empty_share,
    leave_one_out,
    length_in_words,
    repeated_ngrams,
    shifted,
    stopped_share,
)
from storylib.metrics.length import words
from storylib.metrics.references import shared_clusters

STORIES = ["The fox ran to the sea and the sea was blue.", "An owl sat in a tree and read a big book."]
REFERENCES = [
    ["The fox ran to the sea and swam.", "A fox went to the sea and it was blue."],
    ["The owl sat in a tree and slept.", "An owl read a big book in a tree all night."],
]


# Score and its interval


@pytest.mark.parametrize(
    "score, text",
    [
        (Score(18.519, "s", 16.9, 20.1), "18.52 [16.90, 20.10]"),
        (Score(2, "s"), "2.00"),
        (Score(0, "s", 0, 0), "0.00 [0.00, 0.00]"),
    ],
)
def test_score_as_text(score, text):
    assert str(score) == text


def mean_of(values):
    return lambda drawn: np.array(values)[drawn].mean()


def test_bootstrap_of_two_clusters_gives_their_values():
    # Two draws from {0, 1} have mean 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: both tails lie at the ends
    assert bootstrap_interval(mean_of([0.0, 1.0]), [[0], [1]]) == (0.0, 1.0)


def test_bootstrap_draws_a_cluster_as_one():
    values = [0.0] * 50 + [1.0] * 50
    alone = bootstrap_interval(mean_of(values), [[i] for i in range(100)])
    together = bootstrap_interval(mean_of(values), [list(range(50)), list(range(50, 100))])
    assert together == (0.0, 1.0) and 0.35 < alone[0] < alone[1] < 0.65


def test_bootstrap_follows_its_seed():
    values, units = list(range(30)), [[i] for i in range(30)]
    assert bootstrap_interval(mean_of(values), units, seed=1) == bootstrap_interval(mean_of(values), units, seed=1)
    assert bootstrap_interval(mean_of(values), units, seed=1) != bootstrap_interval(mean_of(values), units, seed=2)


@pytest.mark.parametrize("units, resamples", [([], 10), ([[0]], 0)])
def test_bootstrap_needs_something_to_draw(units, resamples):
    with pytest.raises(UserError, match="clusters and resamples"):
        bootstrap_interval(mean_of([1.0]), units, resamples)


# Overlap


def sacrebleu_single(story, texts):
    return BLEU().corpus_score([story], [[text] for text in texts]).score


def test_bleu_is_sacrebleus_own():
    singles = [sacrebleu_single(story, texts) for story, texts in zip(STORIES, REFERENCES, strict=True)]
    pooled = BLEU().corpus_score(STORIES, [list(texts) for texts in zip(*REFERENCES, strict=True)]).score
    corpus, story = bleu(STORIES, REFERENCES), bleu(STORIES, REFERENCES, average="story")
    assert corpus.value == pytest.approx(pooled, abs=1e-9)
    assert story.value == pytest.approx(sum(singles) / 2, abs=1e-9)
    assert corpus.per_story == story.per_story == pytest.approx(singles, abs=1e-9)
    assert corpus.low <= corpus.value <= corpus.high and story.low == min(singles) and story.high == max(singles)


def test_bleu_signature_tells_everything():
    signature = bleu(STORIES, REFERENCES, average="story").signature
    for part in (
        "nrefs:2",
        "tok:13a",
        "eff:no",
        "average:story",
        "empty:0",
        "clusters:2",
        "bootstrap:1000",
        "seed:12345",
    ):
        assert f"|{part}" in signature


def test_the_average_can_turn_the_table():
    """One system wins by the mean of single stories, the other by corpus BLEU, on the same two stories."""
    long = "once upon a time a little hedgehog went to the beach and made a castle of wet sand with her best friend"
    references = [["the fox slept well"], [long]]
    short_right = ["the fox slept well", "purple cows drive seven noisy lorries past grey towers"]
    long_right = ["purple cows drive lorries", long.replace("wet sand", "cold snow")]
    assert bleu(short_right, references, "story").value == pytest.approx(50)  # 100 and 0
    assert bleu(short_right, references, "story").value > bleu(long_right, references, "story").value
    assert bleu(short_right, references, "corpus").value < bleu(long_right, references, "corpus").value


def test_bleu_of_extremes():
    same = bleu(["the fox slept all day"], [["the fox slept all day"]])
    assert same.value == pytest.approx(100) and same.low == same.high == pytest.approx(100)
    for average in ("corpus", "story"):
        assert bleu(["", ""], REFERENCES, average).value == 0
    assert bleu(["", STORIES[1]], REFERENCES, "story").per_story[0] == 0


def test_bleu_takes_different_numbers_of_references():
    ragged = [REFERENCES[0], REFERENCES[1][:1]]
    score = bleu(STORIES, ragged)
    expected = BLEU().corpus_score(STORIES, [[ragged[0][0], ragged[1][0]], [ragged[0][1], None]]).score
    assert score.value == pytest.approx(expected, abs=1e-9) and "nrefs:var" in score.signature


@pytest.mark.parametrize(
    "hypotheses, references, error, message",
    [
        ("a fox", [["a fox"]], TypeError, "hypotheses must be a list"),
        (["a fox"], ["a fox"], TypeError, r"references\[0\] must be a list"),
        (["a fox"], "a fox", TypeError, "list of lists"),
        (["a fox"], [["a fox"], ["an owl"]], UserError, "got 1 and 2"),
        ([], [], UserError, "no hypotheses"),
        (["a fox"], [], UserError, "no references"),
        (["a fox"], [[]], UserError, r"no references\[0\]"),
        (["a fox"], [["a fox", " "]], UserError, r"references\[0\]\[1\] has no text"),
        ([None], [["a fox"]], TypeError, "None"),
        (["a fox"], [[None]], TypeError, "None"),
        (["a fox"], [None], TypeError, "None"),
    ],
)
def test_bleu_refuses(hypotheses, references, error, message):
    with pytest.raises(error, match=message):
        bleu(hypotheses, references)


def test_bleu_refuses_an_unknown_average():
    with pytest.raises(UserError, match="corpus, story, got 'mean'"):
        bleu(STORIES, REFERENCES, "mean")


def test_clusters_are_prompts_also_for_floor_and_ceiling():
    prompts = [["a", "b", "c"], ["d", "e"]]
    assert shared_clusters(["x", "y", "z"], [prompts[0], prompts[1], prompts[0]]) == [[0, 2], [1]]
    assert shared_clusters(["x", "y", "z"], [["a"], ["b"], ["a", "b"]]) == [[0, 1, 2]]  # one joins the other two
    assert shared_clusters(*leave_one_out(prompts)) == [[0, 1, 2], [3, 4]]
    assert shared_clusters(*shifted(prompts)) == [[0, 1, 2], [3, 4]]


def test_floor_and_ceiling_count_a_prompt_once():
    assert leave_one_out([["a", "b"], ["a", "b"]]) == (["a", "b"], [["b"], ["a"]])
    assert shifted([["a"], ["b"], ["a"]]) == (["a", "b"], [["b"], ["a"]])


@pytest.mark.parametrize("scale, references", [(leave_one_out, [["a"]]), (shifted, [["a", "b"]]), (shifted, [])])
def test_floor_and_ceiling_refuse(scale, references):
    with pytest.raises(UserError):
        scale(references)


# Coverage and the scale on the shipped stories


def read_rows(name):
    lines = (DATA / "emoji_stories" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


FORMS = json.loads((DATA / "emoji_stories" / "vocabulary.json").read_text(encoding="utf-8"))["forms"]


@pytest.mark.parametrize("level", ["easy", "rich"])
def test_shipped_references_name_their_concepts(level):
    rows = read_rows(f"{level}/test.jsonl")
    concepts = [tuple(row[f"{kind}_name"] for kind in ("role", "place", "theme")) for row in rows]
    stories = [row["story"] for row in rows]
    score = concept_coverage(stories, concepts, FORMS)
    assert score.value == 3 and set(score.per_story) == {3} and "clusters:12" in score.signature
    assert concept_coverage(stories, concepts[5:] + concepts[:5], FORMS).value < 0.5  # five stories a prompt


def test_scale_of_the_shipped_references():
    prompts = {}
    for row in read_rows("easy/test.jsonl"):
        prompts.setdefault(row["role"] + row["place"] + row["theme"], []).append(row["story"])
    start = time.perf_counter()
    ceiling = bleu(*leave_one_out(list(prompts.values())))
    assert time.perf_counter() - start < 10  # 60 stories with their interval: about half a second
    floor = bleu(*shifted(list(prompts.values())))
    assert floor.high < ceiling.low and "clusters:12" in ceiling.signature


@pytest.mark.parametrize(
    "concept, named, not_named",
    [
        ("bee", "bee Bees bee's BEE", "been beep beetle beef being"),
        ("cat", "cat cats kittens", "catch caught caterpillar"),
        ("prince", "prince princes Prince's", "princess princesses"),
        ("bear", "bear bears", "beard cube cubes"),
        ("sea", "sea seas waves", "seat seal search seasons"),
        ("snow", "snow ice", "nice mice icicle know"),
        ("dog", "dog dogs doggy puppy pups", "puppet pupil dogma"),
        ("amusement park", "fair fairs ride rides carousel", "fairy fairies park"),
        ("park", "park parks", "spark"),
        ("wish", "star stars starry wishes", "start started stared staring starfish"),
        ("family", "mom mommy family families grandma daddy", "moment momo dada"),
        ("music", "hum hummed humming song sings", "human humble single"),
        ("learning", "read reading reads learned", "ready bread"),
        ("sharing", "share shared sharing shares", "sharp shark"),
        ("love", "love loved lovely loving", "glove clover"),
        ("patience", "patient patiently grows growing", "growled impatient"),
        ("teamwork", "team teamwork helped together", "steam"),
        ("fox", "fox foxes", "foxglove"),
        ("sleep", "sleepy asleep-sleep nap napped", "napkin snap"),
        ("friendship", "friend friends friendly", "fiend"),
    ],
)
def test_what_names_a_concept(concept, named, not_named):
    score = concept_coverage(
        [*named.split(), *not_named.split()], [[concept]] * len((named + " " + not_named).split()), FORMS
    )
    assert score.per_story == tuple([1] * len(named.split()) + [0] * len(not_named.split()))


def test_coverage_counts_each_concept_once():
    stories = ["A fox and a fox and the sea.", "The sea was full of hope for the fox.", ""]
    score = concept_coverage(stories, [("fox", "sea", "hope")] * 3, FORMS)
    assert score.per_story == (2, 3, 0) and score.value == pytest.approx(5 / 3)
    assert score.low == score.high == pytest.approx(5 / 3)  # one prompt tells nothing of others


def test_a_concept_without_forms_goes_by_its_name():
    assert concept_coverage(["Two sauropods met."], [["sauropod", "teddy bear", "sea"]], {}).value == 1


@pytest.mark.parametrize(
    "stories, concepts, forms, error",
    [
        ("a fox", [["fox"]], FORMS, TypeError),
        (["a fox"], ["fox"], FORMS, TypeError),
        (["a fox"], [["fox"]], {"fox": "fox"}, TypeError),
        (["a fox"], [], FORMS, UserError),
        ([], [], FORMS, UserError),
        (["a fox"], [[]], FORMS, UserError),
        ([None], [["fox"]], FORMS, TypeError),
    ],
)
def test_coverage_refuses(stories, concepts, forms, error):
    with pytest.raises(error):
        concept_coverage(stories, concepts, forms)


# Repetition, length, stopping


@pytest.mark.parametrize(
    "text, expected",
    [
        ('"Don\'t go!" said Mr. Owl -- at 5.', ["don't", "go", "said", "mr", "owl", "at", "5"]),
        ("merry-go-round, well—yes…", ["merry-go-round", "well", "yes"]),
        ("🦔 _Não_!", ["não"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    "stories, n, value",
    [
        (["a b c d e"], 4, 0.0),
        (["The fox ran. The fox ran! the fox RAN"], 3, 4 / 7),  # tfr frt rtf | tfr frt rtf tfr
        (["a b a b a", "c d e"], 2, 2 / 6),  # pooled: 2 of 4 and 0 of 2
        (["a b c d e", "a b", ""], 4, 0.0),
        (["a b c d", "a b c d"], 4, 0.0),  # another story's words are no repetition
    ],
)
def test_repeated_ngrams(stories, n, value):
    score = repeated_ngrams(stories, n)
    assert score.value == pytest.approx(value) and len(score.per_story) == len(stories)
    assert score.low <= score.value <= score.high and f"|n:{n}|" in score.signature
    assert f"|short:{sum(len(story.split()) < n for story in stories)}|" in score.signature


def test_repeated_ngrams_at_one_length():
    stories = ["a b c d e a b c d e", "a b c a b", "a b"]
    assert repeated_ngrams(stories, n=2).value == 5 / 14  # 4 of 9, 1 of 4, 0 of 1
    score = repeated_ngrams(stories, n=2, length=5)
    assert score.value == 1 / 8 and len(score.per_story) == 2 and "|length:5|left out:1|" in score.signature


@pytest.mark.parametrize("stories, length", [([""], None), (["a b c", ""], None), (["a b c d e"], 6)])
def test_nothing_to_repeat_is_no_zero(stories, length):
    with pytest.raises(UserError, match="every story is shorter|the longest has 5"):
        repeated_ngrams(stories, n=4, length=length)


def test_length_in_words():
    score = length_in_words(["one two three", "One, two - three; four five!", ""])
    assert score.per_story == (3, 5, 0) and score.value == pytest.approx(8 / 3) and "|empty:1|" in score.signature


def test_length_of_scripts_without_spaces_is_in_characters():
    assert length_in_words(["从前，有一只狐狸。", "むかし 3びき"]).per_story == (7, 6)


def test_empty_stories_are_counted():
    score = empty_share(["A fox.", "\n ", "", "🦊"])
    assert score.value == 0.5 and score.per_story == (0, 1, 1, 0)
    assert empty_share(["A fox."] * 10).high == pytest.approx(0.2775, abs=1e-4)  # none of ten, by Wilson's formula


@pytest.mark.parametrize("metric", [repeated_ngrams, length_in_words, empty_share, stopped_share])
def test_lists_of_texts_are_needed(metric):
    with pytest.raises(UserError, match="at least one"):
        metric([])
    with pytest.raises(TypeError, match="put it in a list"):
        metric("eos")
    with pytest.raises(TypeError, match=r"\[1\] must be a text, got None"):
        metric(["eos", None])


def test_repeated_ngrams_refuses_n_below_one():
    with pytest.raises(UserError, match="got 0"):
        repeated_ngrams(["a b"], n=0)


@pytest.mark.parametrize(
    "stopped, of, low, high",  # limits from Wilson's formula, four digits
    [(3, 4, 0.3006, 0.9544), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (30, 60, 0.3773, 0.6227)],
)
def test_stopped_share(stopped, of, low, high):
    score = stopped_share(["eos"] * stopped + ["limit"] * (of - stopped))
    assert score.value == stopped / of and sum(score.per_story) == stopped
    assert (score.low, score.high) == pytest.approx((low, high), abs=1e-4)


def test_stopped_share_refuses_other_ends():
    with pytest.raises(UserError, match="eos or limit, got 'length'"):
        stopped_share(["eos", "length"])
