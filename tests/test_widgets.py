"""The forms as a reader uses them, without a browser; they must hold under ipywidgets 7 and 8 alike."""

import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import pytest

widgets = pytest.importorskip("ipywidgets")

from storylib import picking  # noqa: E402
from storylib.errors import UserError  # noqa: E402
from storylib.feedback import FeedbackStore  # noqa: E402
from storylib.widgets import comparison_form, emoji_picker, rating_form, wishes_form  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 10  # seconds
CHOSEN = {"Who?": "🦔", "Where?": "🏰", "What about?": "📚"}
SCRIPT = "A <script>alert('fox')</script> sat & slept."


@dataclass(frozen=True)
class Story:
    """What tell functions give back; `storylib.generation.Story` would need torch."""

    prompt: str
    seed: int
    text: str
    ended: str = "eos"


class Teller:
    """Tells what it is given, sentence by sentence, and remembers how it was asked; may wait or fail."""

    def __init__(self, text="A fox sat. It slept.", error=None):
        self.text, self.error, self.asked = text, error, []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def __call__(self, wanted, *, seed, max_new_tokens, on_text):
        self.asked.append((wanted, seed, max_new_tokens))
        on_text(self.text.split(". ")[0] + ".")
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        if self.error:
            raise self.error
        on_text(" and more")
        return Story("".join(wanted) or "Story:", seed, self.text)


def notice(form) -> str:
    text = form.controls.notice.value if hasattr(form, "controls") else form.notice.value
    return text.removeprefix('<p role="status" aria-live="polite">').removesuffix("</p>")


def choose(form, chosen=CHOSEN) -> None:
    for emoji in chosen.values():
        form.controls.emojis[emoji].click()


def told(form) -> str:
    """Have the chosen emojis told, and what the card shows then."""
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    return form.controls.card.told.value


def hidden(widget) -> bool:
    return "storylib-hidden" in widget._dom_classes


def shown_emojis(form) -> set[str]:
    groups = picking.groups()
    visible = {question for question, group in form.controls.groups.items() if not hidden(group)}
    return {emoji for question in visible for emoji in groups[question] if not hidden(form.controls.emojis[emoji])}


@pytest.fixture
def store(tmp_path):
    return FeedbackStore(tmp_path / "feedback.sqlite")


# -- how the parts lie -------------------------------------------------------------------------------------------------


def test_logic_needs_no_widgets_and_widgets_no_torch():
    code = "import sys, storylib.picking, storylib.storyteller; print('ipywidgets' in sys.modules, end=' ');"
    code += "import storylib.widgets; print([name for name in ('torch', 'datasets', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "False []", done.stderr


def test_nothing_imports_widgets():
    for path in (ROOT / "storylib").rglob("*.py"):
        if path.parent.name != "widgets":
            assert not re.search(
                r"import (?:widgets|ipywidgets)|storylib\.widgets", path.read_text(encoding="utf-8")
            ), path


# -- what the picker knows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CASTLE", {"🏰"}),
        ("bunn", {"🐰"}),  # another word for it
        ("park", {"🎢", "🏞️"}),  # also as a second word
        ("🦔", {"🦔"}),
        ("astle", set()),  # a word is searched from its beginning
        ("  fox ", {"🦊"}),
        ("(", set()),
    ],
)
def test_search(text, found):
    assert {emoji for group in picking.search(text).values() for emoji in group} == found


def test_search_for_nothing_finds_all():
    assert picking.search(" ") == {question: list(group) for question, group in picking.groups().items()}


def test_a_story_is_said_to_be_hard_or_cut_where_it_is():
    hard = Story("", 0, "one two three four five six seven eight nine ten eleven twelve. One.", "limit")
    assert picking.about(hard, picking.AGES[0]) == (
        "13 words, about 6 in a sentence: easy to follow at 2 years. It reached the length you chose and ends early."
    )
    assert "long sentences for 2 years" in picking.about(Story("", 0, "a b c d e f g h."), picking.AGES[0])


def test_kept_stories_are_text_and_never_overwrite(tmp_path):
    story = Story("", 3, "# Not a title\n<script>x</script> [y](z) *1*")
    first = picking.keep(story, list(CHOSEN.values()), tmp_path / "new" / "folder")
    second = picking.keep(story, list(CHOSEN.values()), tmp_path / "new" / "folder")
    assert [first.name, second.name] == ["hedgehog-castle-learning.md", "hedgehog-castle-learning-2.md"]
    assert sorted(path.name for path in first.parent.iterdir()) == [second.name, first.name]  # nothing half-written
    text = first.read_text(encoding="utf-8")
    assert text.startswith("# 🦔🏰📚 hedgehog, castle, learning\n\n\\# Not a title\n\\<script\\>x")
    assert "\\[y\\](z) \\*1\\*" in text and "seed 3" in text


def test_kept_stories_read_back_from_markdown_as_they_were(tmp_path):
    markdown = pytest.importorskip("markdown_it").MarkdownIt()
    text = "<script>alert(1)</script> & <b>*bold*</b> `code` [link](javascript:1) _x_ \\ | #1"
    html = markdown.render(picking.keep(Story("", 0, text), ["🦔", "🏰", "📚"], tmp_path).read_text(encoding="utf-8"))
    assert "<script" not in html and "<b>" not in html and "<a " not in html and "<code>" not in html
    from html import unescape

    assert text in unescape(html)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept in .*choose another folder"):
        picking.keep(Story("", 0, "x"), ["🦔", "🏰", "📚"], tmp_path / "file")


# -- the picker --------------------------------------------------------------------------------------------------------


def test_three_emojis_give_their_story_with_its_facts():
    tell = Teller()
    form = emoji_picker(tell)
    choose(form)
    assert form.chosen == CHOSEN and "press “Tell me a story”" in notice(form)
    assert told(form) == "<p>A fox sat. It slept.</p>"
    assert tell.asked == [(["🦔", "🏰", "📚"], 0, picking.USUAL_AGE.length.tokens)]
    assert "<span>🦔</span><span>🏰</span><span>📚</span>hedgehog, castle, learning" in form.controls.card.title.value
    assert "5 words, about 2 in a sentence: easy to follow at 3 to 4 years." in form.controls.card.facts.value
    assert notice(form) == "Your story is ready." and not hidden(form.controls.card)


def test_each_emoji_has_a_button_with_its_name_and_a_story_of_its_own():
    form = emoji_picker(Teller())
    assert form.controls.emojis["🏰"].description == "🏰\ncastle"
    assert len(form.controls.emojis) == 26 + 16 + 16


def test_groups_open_one_after_the_other_and_a_slot_opens_its_own_again():
    form = emoji_picker(Teller())
    assert shown_emojis(form) == set(picking.groups()["Who?"])
    form.controls.emojis["🦔"].click()
    assert shown_emojis(form) == set(picking.groups()["Where?"])
    form.controls.slots["Who?"].click()
    assert shown_emojis(form) == set(picking.groups()["Who?"])
    assert form.controls.emojis["🦔"].description == "🦔\n✓ hedgehog"  # not by colour alone
    form.controls.emojis["🦊"].click()
    assert form.controls.slots["Who?"].description == "🦊\nWho? fox"
    assert form.controls.emojis["🦔"].description == "🦔\nhedgehog"


def test_a_second_press_takes_an_emoji_out_again():
    form = emoji_picker(Teller())
    choose(form)
    form.controls.emojis["🏰"].click()
    assert form.chosen == {"Who?": "🦔", "What about?": "📚"}
    assert form.controls.slots["Where?"].description == "❔\nWhere?"


@pytest.mark.parametrize(
    ("left_out", "asked"),
    [(["Where?"], "for “Where?” first"), (["Who?", "What about?"], "for “Who?” and “What about?” first")],
)
def test_an_empty_slot_is_asked_for_and_nothing_is_told(left_out, asked):
    tell = Teller()
    form = emoji_picker(tell)
    choose(form, {question: emoji for question, emoji in CHOSEN.items() if question not in left_out})
    form.controls.tell.click()
    assert asked in notice(form) and not tell.asked
    choose(form, {question: CHOSEN[question] for question in left_out})
    assert told(form) == "<p>A fox sat. It slept.</p>"


def test_search_shows_what_it_finds_in_all_groups_and_picking_ends_it():
    form = emoji_picker(Teller())
    form.controls.search.value = "ca"
    assert {"🐱", "🏰"} <= shown_emojis(form) == {e for group in picking.search("ca").values() for e in group}
    assert hidden(form.controls.emojis["🦔"])
    form.controls.emojis["🏰"].click()
    assert form.chosen == {"Where?": "🏰"} and form.controls.search.value == ""
    assert shown_emojis(form) == set(picking.groups()["Who?"])


def test_a_search_without_a_find_says_so_and_escapes_it():
    form = emoji_picker(Teller())
    form.controls.search.value = "<b>zzz"
    assert not shown_emojis(form)
    assert "“&lt;b&gt;zzz”" in notice(form)
    form.controls.search.value = ""
    assert shown_emojis(form) and notice(form) == ""


def test_surprises_are_the_same_for_a_seed():
    forms = [emoji_picker(Teller(), surprise_seed=5) for _ in range(2)]
    seen = []
    for form in forms:
        chosen = []
        for _ in range(4):
            form.controls.surprise.click()
            chosen.append(tuple(form.chosen.values()))
        seen.append(chosen)
    assert seen[0] == seen[1] and len(set(seen[0])) > 1
    assert list(seen[0][0]) == picking.surprise(Random(5))
    assert told(forms[0])


def test_clear_empties_all():
    form = emoji_picker(Teller())
    choose(form)
    form.controls.clear.click()
    assert form.chosen == {} and shown_emojis(form) == set(picking.groups()["Who?"])


def test_settings_are_folded_away_and_an_age_sets_the_length():
    tell = Teller()
    form = emoji_picker(tell)
    assert hidden(form.controls.settings)
    form.controls.unfold.click()
    assert not hidden(form.controls.settings)
    form.controls.age.value = picking.AGES[-1]
    assert form.controls.length.value == picking.LONG and "8 years or more" in form.controls.advice.value
    form.controls.length.value = picking.TINY
    form.controls.seed.value = 7
    choose(form)
    told(form)
    assert tell.asked == [(["🦔", "🏰", "📚"], 7, picking.TINY.tokens)]
    form.controls.unfold.click()
    assert hidden(form.controls.settings)


def test_again_is_another_seed_for_the_emojis_of_the_story():
    tell = Teller()
    form = emoji_picker(tell)
    choose(form)
    told(form)
    form.controls.clear.click()
    form.controls.again.click()
    assert form.job.wait(PATIENCE)
    assert [(wanted, seed) for wanted, seed, _ in tell.asked] == [(["🦔", "🏰", "📚"], 0), (["🦔", "🏰", "📚"], 1)]


def test_a_story_shows_as_it_is_written_and_nothing_waits_for_it():
    tell = Teller()
    tell.go_on.clear()
    form = emoji_picker(tell)
    choose(form)
    form.controls.tell.click()  # returns at once
    assert tell.begun.wait(PATIENCE)
    assert form.controls.card.told.value == "<p>A fox sat.</p>" and "being written" in notice(form)
    assert form.controls.tell.disabled and form.controls.again.disabled
    form.controls.tell.click()  # a second click that was on its way
    assert "One story at a time" in notice(form) and len(tell.asked) == 1
    tell.go_on.set()
    assert form.job.wait(PATIENCE)
    assert form.controls.card.told.value == "<p>A fox sat. It slept.</p>" and not form.controls.tell.disabled
    told(form)
    assert len(tell.asked) == 2


def test_a_card_says_ready_over_nothing_but_a_finished_story():
    form = emoji_picker(Teller())
    choose(form)
    told(form)
    seen = []
    form.controls.card.told.observe(lambda change: seen.append((change.new, notice(form))), "value")
    told(form)
    assert [text for text, _ in seen] == [
        "",
        "<p>A fox sat.</p>",
        "<p>A fox sat. and more</p>",
        "<p>A fox sat. It slept.</p>",
    ]
    assert all(said == "The story is being written …" for _, said in seen)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("no adapter in runs/mine; train one"), "No adapter in runs/mine; train one."),
        (OSError("disk <b>gone</b>"), "(OSError: disk &lt;b&gt;gone&lt;/b&gt;); try again."),
        (MemoryError(), "(MemoryError: MemoryError); try again."),
    ],
)
def test_errors_are_sentences_and_the_next_story_works(error, said):
    tell = Teller(error=error)
    form = emoji_picker(tell)
    choose(form)
    assert told(form) == ""  # half a story may be one that was refused
    assert notice(form).endswith(said) and hidden(form.controls.card) and not form.controls.tell.disabled
    tell.error = None
    assert told(form) == "<p>A fox sat. It slept.</p>" and not hidden(form.controls.card)


def test_an_empty_story_is_no_story():
    form = emoji_picker(Teller(" "))
    choose(form)
    assert told(form) == "" and "found no words" in notice(form)


def test_what_is_told_is_shown_as_text():
    form = emoji_picker(Teller(SCRIPT + "\n\n<img src=x onerror=alert(1)>"))
    choose(form)
    assert told(form) == (
        "<p>A &lt;script&gt;alert(&#x27;fox&#x27;)&lt;/script&gt; sat &amp; slept.</p>"
        "<p>&lt;img src=x onerror=alert(1)&gt;</p>"
    )


def test_likes_and_dislikes_are_kept_and_the_last_counts(store):
    form = emoji_picker(Teller(), store=store, rater="Kim", system="shipped")
    choose(form)
    told(form)
    form.controls.like.click()
    assert "noted that you like it" in notice(form)
    form.controls.dislike.click()
    form.controls.dislike.click()
    (row,) = store.ratings()
    assert {key: row[key] for key in ("prompt", "story", "score", "criterion", "rater", "system")} == {
        "prompt": "🦔🏰📚",
        "story": "A fox sat. It slept.",
        "score": 1,
        "criterion": "liked",
        "rater": "Kim",
        "system": "shipped",
    }


def test_without_a_store_nothing_asks_for_likes():
    form = emoji_picker(Teller())
    assert hidden(form.controls.like) and hidden(form.controls.dislike)


def test_keep_says_where(tmp_path):
    form = emoji_picker(Teller(), folder=tmp_path / "kept")
    form.controls.keep.click()
    assert notice(form) == "There is no finished story yet."
    choose(form)
    told(form)
    form.controls.keep.click()
    assert notice(form) == f"Kept in {tmp_path}/kept/hedgehog-castle-learning.md."
    assert "A fox sat. It slept." in (tmp_path / "kept" / "hedgehog-castle-learning.md").read_text(encoding="utf-8")


def test_a_page_that_is_gone_leaves_a_usable_state():
    """A send to a closed page may fail at any line of the job, also where it says that it failed."""
    form = emoji_picker(Teller())
    choose(form)

    def gone(*_):
        raise RuntimeError("the comm is closed")

    for control in (form.controls.card.told, form.controls.notice, form.controls.tell):
        control.observe(gone)
        form.controls.tell._handle_button_msg(None, {"event": "click"}, None)
        assert form.job.wait(PATIENCE)
        control.unobserve(gone)
        form.controls.tell.disabled = False  # as a page that is loaded again
        assert told(form) == "<p>A fox sat. It slept.</p>" and not form.controls.tell.disabled


# -- wishes ------------------------------------------------------------------------------------------------------------


def test_two_stories_for_the_wishes_that_are_filled_in(store):
    tell = Teller()
    form = wishes_form(tell, store=store, tokens=80)
    form.controls.wishes["character"].value = "  a shy\nfox "
    form.controls.wishes["tone"].value = "warm"
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    wishes = {"character": "a shy fox", "tone": "warm"}
    assert tell.asked == [(wishes, 0, 80), (wishes, 1, 80)] and form.controls.seed.value == 2
    assert [card.told.value for card in form.controls.cards] == ["<p>A fox sat. It slept.</p>"] * 2
    said = []
    form.controls.cards[0].told.observe(lambda _: said.append(notice(form)), "value")
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    assert set(said) == {"The first story is being written …"}


def test_the_better_of_two_is_kept(store):
    texts = iter(["First.", "Second.", "Third.", "Fourth."])

    def tell(wishes, *, seed, max_new_tokens, on_text):
        return Story("Story:\n", seed, next(texts))

    form = wishes_form(tell, store=store, rater="Kim")
    form.controls.better[1].click()
    assert "no two finished stories" in notice(form)
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    form.controls.better[1].click()
    assert "second story is noted as the better one (1 so far)" in notice(form)
    form.controls.likes[0].click()
    form.controls.dislikes[1].click()
    (choice,) = store.choices()
    assert (choice["prompt"], choice["chosen"], choice["rejected"]) == ("Story:\n", "Second.", "First.")
    assert {row["story"]: row["score"] for row in store.ratings()} == {"First.": 5, "Second.": 1}


def test_two_equal_stories_are_no_choice(store):
    form = wishes_form(Teller(), store=store)
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    form.controls.better[0].click()
    assert "A choice is between two stories" in notice(form) and store.choices() == []


def test_a_second_story_that_fails_takes_the_first_one_back(store):
    told = []

    def tell(wishes, *, seed, max_new_tokens, on_text):
        if told:
            raise UserError("no more")
        told.append(seed)
        return Story("x", seed, "First.")

    form = wishes_form(tell, store=store)
    form.controls.tell.click()
    assert form.job.wait(PATIENCE)
    assert notice(form) == "No more." and not form.controls.tell.disabled
    assert [card.told.value for card in form.controls.cards] == ["", ""]
    assert all(control.disabled for card in form.controls.cards for control in card.buttons)


# -- rating ------------------------------------------------------------------------------------------------------------

SHEET = [{"prompt": "a fox\n", "story": "Fox.", "system": "secret"}, {"prompt": "a bee\n", "story": SCRIPT}]


def everything_shown(widget) -> str:
    texts = [getattr(widget, name, "") or "" for name in ("description", "value")]
    return " ".join(map(str, texts)) + " ".join(map(everything_shown, getattr(widget, "children", ())))


def test_rating_goes_through_the_sheet_and_keeps_each_press():
    rated = []
    form = rating_form(SHEET, lambda *row: rated.append(row), {"coherence": "Does it make sense?", "empathy": ""})
    assert form.scores["coherence"].value is None and form.back.disabled and not form.next.disabled
    form.scores["coherence"].value = 4
    assert "0 judged" in form.progress.value
    form.scores["empathy"].value = 2
    assert "1 of 2 · 1 judged" in form.progress.value
    form.next.click()
    assert form.scores["coherence"].value is None and "a bee" in form.prompt.value
    form.back.click()
    assert form.scores["coherence"].value == 4  # shown again, not given again
    form.scores["coherence"].value = 5
    assert rated == [
        ("a fox\n", "Fox.", 4, "coherence"),
        ("a fox\n", "Fox.", 2, "empathy"),
        ("a fox\n", "Fox.", 5, "coherence"),
    ]
    form.next.click()
    form.scores["coherence"].value = 1
    form.scores["empathy"].value = 1
    assert notice(form) == "All 2 are judged. Thank you!" and form.next.disabled


def test_raters_see_no_system_and_no_markup():
    form = rating_form(SHEET, lambda *row: None, {"coherence": ""})
    assert "secret" not in everything_shown(form.page)
    form.next.click()
    assert "<script>" not in everything_shown(form.page) and "&lt;script&gt;" in form.card.told.value


def test_a_rating_that_cannot_be_kept_is_said_and_not_counted():
    def rate(*_):
        raise UserError("the disk is full")

    form = rating_form(SHEET, rate, {"coherence": ""})
    form.scores["coherence"].value = 3
    assert notice(form) == "The disk is full." and "0 judged" in form.progress.value


def test_ratings_go_into_a_store_of_feedback(store):
    form = rating_form(SHEET, partial(store.rate, rater="Kim"), {"coherence": ""})
    form.scores["coherence"].value = 3
    assert [(row["story"], row["score"], row["rater"]) for row in store.ratings()] == [("Fox.", 3, "Kim")]


@pytest.mark.parametrize("form", [lambda: rating_form([], print, {"x": ""}), lambda: comparison_form([], print)])
def test_an_empty_sheet_is_refused(form):
    with pytest.raises(UserError, match="the sheet has no rows"):
        form()


def test_pairs_are_compared_and_nothing_turns_by_itself():
    chosen = []
    pairs = [{"prompt": "a fox", "left": "L1", "right": "R1"}, {"prompt": "a bee", "left": "L2", "right": "R2"}]
    form = comparison_form(pairs, lambda *row: chosen.append(row))
    form.better[1].click()
    form.better[1].click()  # a double click judges this pair twice, not the next one unseen
    assert chosen == [("a fox", "R1", "L1")] * 2 and "1 of 2 · 1 judged" in form.progress.value
    form.equal.click()
    assert "kept already" in notice(form)
    form.next.click()
    form.equal.click()
    assert len(chosen) == 2 and notice(form) == "All 2 are judged. Thank you!"
    form.back.click()
    assert "storylib-picked" in form.better[1]._dom_classes
    assert "storylib-picked" not in form.equal._dom_classes
