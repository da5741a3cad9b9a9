"""Opinion words: counts and log-odds by hand, the stemming fault, lexicons, and what is no English."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylib.errors import UserError
from storylib.metrics import log_odds, opinion_balance, opinion_lexicon, top_words
from storylib.metrics.words import EMPTY, ENGLISH, FORMS, OTHER, PRIOR, Lexicon, kinds, lemma, signed_form

LEXICON = Lexicon(
    "lexicon:mine",
    positive=frozenset("happy love better good envious".split()),
    negative=frozenset("sad womanizer envious die dying ghost bad frightened".split()),
)
PORTUGUESE = "Era uma vez uma menina chamada Lily que adorava a cor rosa e tinha um vestido muito bonito."
CHINESE = "从前有一只小狐狸住在森林里。"


def rows(words):
    return [(word.word, word.count, word.stories) for word in words]


def test_words_are_counted_by_lemma_and_ranked():
    stories = ["A sad woman loved a ghost. The ghosts were sad, sad!", "The sad fox loves the women, happy at last."]
    found = top_words({"base": stories}, lexicon=LEXICON)["base"]
    assert rows(found.positive) == [("love", 2, 2), ("happy", 1, 1)]
    assert rows(found.negative) == [("sad", 4, 2), ("ghost", 2, 1)]
    assert {(word.log_odds, word.stands_out) for word in found.positive} == {(None, False)}  # nothing to compare with
    for part in ("lexicon:mine", "form:lemma:simplemma-", "most:30", "log-odds:no", "stories:2|empty:0"):
        assert part in found.signature


def test_most_cuts_and_ties_go_by_the_alphabet():
    found = top_words({"base": ["sad ghost bad"]}, most=2, lexicon=LEXICON)["base"]
    assert rows(found.negative) == [("bad", 1, 1), ("ghost", 1, 1)] and found.positive == ()


def test_stems_make_woman_a_negative_word_and_lemmas_do_not():
    stories = {"base": ["The woman was sad.", "A woman and her ghost."]}
    stems, lemmas = (
        rows(top_words(stories, lexicon=LEXICON, form=form)["base"].negative) for form in ("stem", "lemma")
    )
    assert stems == [("woman", 2, 2), ("ghost", 1, 1), ("sad", 1, 1)]
    assert lemmas == [("ghost", 1, 1), ("sad", 1, 1)]


@pytest.mark.parametrize(
    "word, found",
    [
        ("loves", ("love", 1)),
        ("died", ("die", -1)),
        ("dying", ("die", -1)),  # listed, and so is its lemma
        ("better", ("good", 1)),
        ("frightened", ("frightened", -1)),  # listed, and its lemma is not
        ("envious", ("envious", 0)),  # in both lists
        ("women", ("woman", 0)),
        ("ghost’s", ("ghost", -1)),
    ],
)
def test_form_and_sign_of_a_word(word, found):
    assert signed_form(LEXICON, "lemma")(word) == found


def test_a_word_that_means_another_thing_than_its_lemma_stands_for_itself():
    assert lemma("lovely") == "lovely" and lemma("better") == "good"
    lexicon = Lexicon("mine", frozenset(["better"]), frozenset(["good"]))
    assert signed_form(lexicon, "lemma")("better") == ("better", 1)


def test_log_odds_by_hand():
    # king: 30 of 100 here, 10 of 100 there; 40 of 200 in both, so the prior is 500 * 0.2 = 100 kings and 400 others
    expected = math.log((130 / 470) / (110 / 490)) / math.sqrt(1 / 130 + 1 / 110)
    odds = log_odds({"king": 30, "fox": 70}, {"king": 10, "fox": 90}, {"king": 40, "fox": 160})
    assert PRIOR == 500 and odds["king"] == pytest.approx(expected) == pytest.approx(1.6112, abs=1e-4)
    assert odds["fox"] == pytest.approx(math.log((470 / 130) / (490 / 110)) / math.sqrt(1 / 470 + 1 / 490))


def test_log_odds_of_systems_that_are_alike_and_of_a_single_word():
    assert log_odds({"a": 3, "b": 1}, {"a": 3, "b": 1}, {"a": 6, "b": 2}) == {"a": 0, "b": 0}
    assert log_odds({"a": 3}, {"a": 9}, {"a": 12}) == {"a": 0.0}


def test_each_scenario_is_set_against_the_others():
    scenarios = {"horror": ["sad sad ghost"] * 40, "tale": ["happy sad fox"] * 40, "tale 2": ["happy sad fox"] * 40}
    found = top_words(scenarios, lexicon=LEXICON)
    sad, ghost = found["horror"].negative
    assert (sad.word, sad.count) == ("sad", 80) and sad.log_odds > 1.96 and ghost.log_odds > 1.96
    assert ghost.stands_out and not found["tale"].negative[0].stands_out
    assert found["tale"].negative[0].log_odds < 0 and found["tale"].positive[0].log_odds > 0
    assert "|log-odds:dirichlet|prior:500|against:2|" in found["tale"].signature


def test_balance_is_the_share_of_positive_words():
    score = opinion_balance(["sad sad happy fox", "love the fox", "the fox"], LEXICON)
    assert score.value == 0.5 and score.per_story == (1 / 3, 1, 0) and score.low <= 0.5 <= score.high
    assert score.signature.startswith("opinion balance|lexicon:mine|form:lemma:")


STORIES = st.lists(
    st.sampled_from(["A sad fox.", "He loved the happy king.", "A ghost!", "The women died.", ""]), min_size=2
)


@settings(max_examples=30, deadline=None)
@given(STORIES.filter(lambda stories: any(stories)), st.randoms(), st.sampled_from(FORMS))
def test_order_does_not_matter(stories, rng, form):
    shuffled = rng.sample(stories, len(stories))
    other = ["The king was good."]
    assert top_words({"a": stories, "b": other}, lexicon=LEXICON, form=form) == top_words(
        {"a": shuffled, "b": other}, lexicon=LEXICON, form=form
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from("dying loved ghosts women frightened better envious womanizer fox".split()), min_size=1)
)
def test_every_word_shown_stands_in_the_lexicon(words):
    found = top_words({"a": [" ".join(words)]}, lexicon=LEXICON)["a"]
    assert all(word.word in LEXICON.positive for word in found.positive)
    assert all(word.word in LEXICON.negative for word in found.negative)


# Lexicons


def test_vader_is_there_offline_and_has_no_emoticons():
    lexicon = opinion_lexicon("vader")
    assert lexicon.sign("horror") == -1 and lexicon.sign("happy") == 1 and lexicon.sign(":)") == 0
    assert lexicon.name.startswith("lexicon:vader-") and lexicon.sign("woman") == 0


HU_LIU = {"positive-words.txt": "; Hu and Liu\n;\n\ngood\nna\xefve\n", "negative-words.txt": "; Hu and Liu\n\nbad\n"}


def write_lists(folder):
    folder.mkdir(parents=True)
    for name, text in HU_LIU.items():
        (folder / name).write_bytes(text.encode("latin-1"))


def test_a_folder_of_lists(tmp_path):
    write_lists(tmp_path / "mine")
    lexicon = opinion_lexicon(tmp_path / "mine")
    assert lexicon == Lexicon("lexicon:mine:2+1", frozenset(["good", "naïve"]), frozenset(["bad"]))
    with pytest.raises(UserError, match="positive-words.txt; give a folder"):
        opinion_lexicon(tmp_path / "none")


def test_hu_and_liu_is_the_default_where_nltk_has_it(tmp_path, monkeypatch):
    from nltk import data
    from nltk.corpus import LazyCorpusLoader
    from nltk.corpus.reader import OpinionLexiconCorpusReader

    monkeypatch.setattr(data, "path", [str(tmp_path)])
    names = r"(\w+)\-words\.txt"
    for there in (False, True):  # a loader that has found its files once keeps them
        loader = LazyCorpusLoader("opinion_lexicon", OpinionLexiconCorpusReader, names, encoding="ISO-8859-2")
        monkeypatch.setattr("nltk.corpus.opinion_lexicon", loader)
        if not there:
            assert opinion_lexicon().name.startswith("lexicon:vader-")
            with pytest.raises(UserError, match="nltk.downloader opinion_lexicon"):
                opinion_lexicon("hu-liu")
            write_lists(tmp_path / "corpora" / "opinion_lexicon")
        else:
            assert opinion_lexicon().name == opinion_lexicon("hu-liu").name == "lexicon:hu-liu:2+1"


# Bad input


def test_what_kind_of_story_it_is():
    tale = "Once there was a little old woman who lived in a house by the sea."
    assert kinds([tale, tale, "🦔!", " ", PORTUGUESE, "Wszystko?"]) == [ENGLISH, ENGLISH, EMPTY, EMPTY, OTHER, ENGLISH]
    assert kinds(["", " "]) == [EMPTY, EMPTY]
    assert kinds(["princess princess " * 20]) == [ENGLISH]  # a model that repeats itself


@pytest.mark.parametrize(
    "stories", [[PORTUGUESE], [CHINESE], ["Era uma vez."] * 9, [PORTUGUESE, CHINESE, "A fox ran."]]
)
def test_other_languages_are_refused(stories):
    for metric in (lambda: top_words({"base": stories}), lambda: opinion_balance(stories)):
        with pytest.raises(UserError, match="English"):
            metric()


def test_left_out_stories_are_counted():
    tale = "The sad fox lived in a house by the sea with an old king."
    assert "|stories:2|empty:1|other language:1" in top_words({"a": [tale, "", PORTUGUESE, tale]})["a"].signature


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: top_words({}), UserError, "no scenarios"),
        (lambda: top_words(["A fox."]), TypeError, "must map a name to stories"),
        (lambda: top_words({"base": []}), UserError, "no stories of base"),
        (lambda: top_words({"base": "A fox."}), TypeError, "must be a list"),
        (lambda: top_words({"base": ["A fox.", None]}), TypeError, r"stories of base\[1\] must be a text, got None"),
        (lambda: top_words({"base": ["", "…"]}), UserError, "none of the 2 stories of base has a word"),
        (lambda: top_words({"base": ["A fox."]}, most=0), UserError, "most must be at least 1"),
        (
            lambda: top_words({"base": ["A fox."]}, form="root"),
            UserError,
            "form must be one of lemma, stem",
        ),
        (
            lambda: opinion_balance(["A fox.", "The sea."], LEXICON),
            UserError,
            "none of 2 stories has a word of",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
