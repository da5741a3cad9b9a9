"""What is adult content, and above all what is not."""

import json

import pytest

from storylib.data.content_filter import LIMIT, REASONS, adult_reason, listed, lists
from storylib.data.words import count_words
from storylib.files import DATA


def reason(text):
    return adult_reason(count_words(text))


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe, Penistone, Essex, Sussex, Middlesex and Cockermouth are places in England.",
        "The pilot in the cockpit drank a cocktail; a peacock, a woodcock and a shuttlecock flew by.",
        "A therapist, a rapier, a grape, a drape and a rapscallion in a field of rapeseed, the oil of which",
        "The assassin passed the class with brass, assessed the mass and assumed an assistant.",
        "Analysis of a canal, a banal finale, an analogy, and the title of the Titanic.",
        "Dick Turpin and Moby Dick; the cock crew at dawn; a blue tit and a great tit sang.",
        "She moaned about the weather.",
        "He undressed the wound, naked fear in his eyes.",
        "He sniggered niggardly at the raccoon, spick and span, a faggoted hem in a cocoon.",
        "The shiitake was hot; a dyke of mud kept the sea out, and no one gave a damn. Hell!",
        "It was a bastard of a day, said the captain of a hundred men, and spat. " * 2 + "The rest slept. " * 60,
    ],
)
def test_false_alarms(text):
    assert reason(text) == ""


@pytest.mark.parametrize(
    "text, why",
    [
        ("He was a rapist.", "sexual violence"),
        ("There was an orgasm, and it was loud.", "sexual content"),
        ("Porn, topless, nude: the shop window had it all.", "sexual content"),
        ("MASTURBATING! he read aloud.", "sexual content"),
        ("They called him a wetback.", "slurs"),
        ("Shit! Fuck! Bullshit! said the parrot.", "strong language"),
        ("a rapist and an orgasm", "sexual violence"),  # the gravest is named
    ],
)
def test_adult_content(text, why):
    assert reason(text) == why


def test_mild_words_count_once_each():
    assert reason("nude " * 50) == "" and reason("nude topless") == "" and LIMIT == 3


def test_strong_language_is_a_share_of_the_words():
    calm = "The rain fell on the roof all night. "  # 8 words
    assert reason("Shit! Shit! Shit! " + calm * 37) == "strong language"  # 3 of 299
    assert reason("Shit! Shit! Shit! " + calm * 38) == ""  # 3 of 307
    assert reason("Shit! Shit! " + calm) == ""


def test_lists_are_words_in_small_letters():
    assert all(word == word.lower() and word.replace("'", "").isalpha() for word in listed())
    for why in REASONS:
        strong, mild = lists()[why]
        assert strong and mild and not strong & mild


def test_no_shipped_story_is_adult_content():
    names = ("emoji_stories/easy", "emoji_stories/rich", "personal")
    paths = [path for name in names for path in (DATA / name).glob("*.jsonl")]
    stories = [json.loads(line)["story"] for path in paths for line in path.open(encoding="utf-8")]
    assert len(stories) == 2 * 845 + 240
    assert [story for story in stories if reason(story)] == []
