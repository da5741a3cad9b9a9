"""What is unfit for children, and above all what is not; and the gate that lets through the rest."""

import json

import pytest

from storylib.data.words import read_list
from storylib.errors import UserError
from storylib.files import DATA
from storylib.gate import STEP, Rejected, Told, check_prompt, tell_safely
from storylib.generation import Story
from storylib.metrics.safety import SCRIPTS, listed, unsafe, unsafe_share

INNOCENT = {
    "en": [
        "The class passed the grass to the assembled bass; an assessment of brass.",
        "Mr. Dickens saw a peacock, a woodcock and a cockerel eat shiitake in a cocktail dress.",
        "Scunthorpe, Essex and Middlesex; a blue tit and a great tit sang, and the cock crew.",
        "The killer whale killed time until the music died away. Mum was dead tired.",
        "He'll ring the bell, she'll shell the peas, and I'm dying to see the hello sign.",
        "They have drunk the tea, and the milk was drunk by the cat. We've drunk enough.",
        "A water pistol, a glue gun, a bath bomb, a bullet train, blood oranges and poison ivy.",
        "The Owl and the Pussy-cat; pussy willows; a therapist, a grape and a rapier.",
        "Grandma had root beer at the Swineford fair, and grog-coloured shoes began begging.",
        "A skilled painter, a studied idiom, a dieting duke, a warm bloodhound and daredevils.",
        "The robot's battery died. The dead leaves fell. She rolled a die.",
        "The ghost was shy. The witch screamed with delight. A monster hid under the bed.",
    ],
    "pt": [
        "A mata era escura, e a matemática do mato também. Matou a fome com um bolo.",
        "Morreu de rir, morto de sono e de medo. As folhas mortas caíam.",
        "O porto, a porta, a computação, o disputado curumim e o cubo do circo.",
        "A torneira pinga. O rinoceronte tem um corno. A força da bombinha de chocolate.",
        "Uma pistola de água e um casaco cor de vinho.",
    ],
    "zh": [
        "她遇到了大麻烦，大麻雀飞走了。我累死了，笑死了，高兴死了！",
        "这是妈妈的手。你妈的生日到了。他去世界各地旅行。",
        "树上吊着一个苹果。绳子弹起来了。她红酒窝一笑。屋里屋外内脏兮兮的。",
        "同学们做操，个性交流，任性爱哭。把绳子打死结，滚蛋糕。",
        "小朋友各自尽力跑，自尽情唱。我想死你了。",
    ],
    "ja": [
        "みんなは楽しんでいました。たのしんでしまいました。しんだいでねました。",
        "ドアがあくまえに、あくまで待ちました。ピエロがサセックスでグレイプを食べた。",
        "水鉄砲で遊んだ。土人形を作った。ページをめくらないで。かたわらに花。",
        "いいところすべて、こころして聞く。女性的な声。個性的な絵。男性交代。",
        "わたしね！うれしいな。ながいこつぶの豆。はやしね！",
    ],
}
UNFIT = {
    "en": [
        ("The wolf MURDERED him.", "violence", "murdered"),
        ("They beat the drum, not beaten to death.", "violence", "beaten to death"),
        ("“He was shot in the head,” she said.", "violence", "shot in the head"),
        ("The killer-whale met a killer.", "violence", "killer"),
        ("The dragon’s blood ran.", "death and gore", "blood"),
        ("It was Satan's castle.", "fear", "satan"),
        ("There was a sexy orgasm.", "sex", "sexy"),
        ("He was drunk.", "drugs and alcohol", "drunk"),
        ("A cocktail, please.", "drugs and alcohol", "cocktail"),
        ("The ｇｕｎ was loaded.", "weapons", "gun"),
        ("She killed herself.", "self-harm", "killed herself"),
        ("Kiss my ass, you FUCKING hedgehog!", "crude language", "fucking"),
        ("They called him a wetback.", "slurs", "wetback"),
    ],
    "pt": [
        ("O lobo matou o cordeiro.", "violence", "matou o"),
        ("Havia sangue no cha\u0303o e um cada\u0301ver.", "death and gore", "cadáver"),
        ("O DIABO veio.", "fear", "diabo"),
        ("Sexo!", "sex", "sexo"),
        ("Papai estava bêbado.", "drugs and alcohol", "bêbado"),
        ("Um revólver e duas granadas.", "weapons", "granadas"),
        ("Ela queria morrer.", "self-harm", "queria morrer"),
        ("Que merda, filho da puta!", "crude language", "filho da puta"),
    ],
    "zh": [
        ("凶手杀了他。", "violence", "凶手"),
        ("地上有一具尸体。", "death and gore", "尸体"),
        ("恶魔来了。", "fear", "恶魔"),
        ("他是妓女。", "sex", "妓女"),
        ("爸爸喝醉了。", "drugs and alcohol", "喝醉"),
        ("他开枪了。", "weapons", "开枪"),
        ("她想自杀。", "self-harm", "自杀"),
        ("王八蛋！他妈的！", "crude language", "他妈的"),
    ],
    "ja": [
        ("おおかみはひつじを殺した。", "violence", "殺し"),
        ("ねこはしんでしまいました。", "death and gore", "しんでしま"),
        ("あくまが来た。", "fear", "あくま"),
        ("セックス", "sex", "セックス"),
        ("ビールを飲んだ。", "drugs and alcohol", "ビール"),
        ("ピストルをうった。", "weapons", "ピストル"),
        ("かれは自殺した。", "self-harm", "自殺"),
        ("くそったれ！", "crude language", "くそったれ"),
    ],
}


def pairs(table):
    return [(language, case) for language, cases in table.items() for case in cases]


@pytest.mark.parametrize("language, story", pairs(INNOCENT))
def test_false_alarms(language, story):
    assert unsafe(story, language) == []


@pytest.mark.parametrize("language, case", pairs(UNFIT))
def test_what_is_unfit_is_found_where_it_stands(language, case):
    story, category, term = case
    quiet = {"en": "The fox slept. ", "pt": "A raposa dormiu. ", "zh": "狐狸睡了。", "ja": "きつねはねました。"}[
        language
    ]
    found = unsafe(quiet + story, language)
    [find] = [find for find in found if (find.category, find.term) == (category, term)][:1]
    assert find.start >= len(quiet) and find.end <= len(quiet + story)
    assert find.sentence and find.sentence in story and quiet.strip() not in find.sentence


def test_offsets_are_those_of_the_story_as_it_stands():
    story = "🦔🏰 The cafe\u0301 had A  Gun."
    [find] = unsafe(story)
    assert story[find.start : find.end] == "Gun" and find.term == "gun"


def test_mark_between_words_parts_a_phrase():
    assert [find.term for find in unsafe("He had poison. Ivy grew.")] == ["poison"]
    assert unsafe("poison  ivy") == unsafe("poison-ivy") == []


def test_a_story_in_another_script_is_not_passed_over():
    [find] = unsafe("从前有一只狐狸。", "en")
    assert find.category == "unreadable" and (find.start, find.end) == (0, 8)
    assert unsafe("Once upon a time.", "zh")[0].category == "unreadable"
    assert unsafe("The fox said 你好.", "en") == [] and unsafe("🦔 123", "en") == [] and unsafe("", "en") == []


def test_what_cannot_be_checked():
    with pytest.raises(UserError, match="no lists of unsafe words for 'fr'; there are en, pt, zh, ja"):
        unsafe("Bonjour.", "fr")
    with pytest.raises(TypeError, match="must be a text, got None"):
        unsafe(None)
    with pytest.raises(UserError, match="no stories"):
        unsafe_share([])
    assert unsafe("A gun.", "en-GB") == unsafe("A gun.") != []


def test_share_counts_stories_not_words():
    score = unsafe_share(["A gun, a gun and wine.", "A gun.", "", "A fox."])
    assert score.value == 0.5 and score.per_story == (1, 1, 0, 0) and 0 < score.low < 0.5 < score.high < 1
    assert score.by_category == {"weapons": 2, "drugs and alcohol": 1}
    assert score.signature == "unsafe|lists:en|empty:1|interval:wilson|stories:4"
    assert [len(found) for found in score.finds] == [3, 1, 0, 0]


def test_lists_hold_no_term_twice_and_no_pattern_half_open():
    for language in SCRIPTS:
        terms = listed(language)
        assert all(term and term == term.casefold().strip("_") for term in terms if language in ("en", "pt"))
        assert not any(mark in term for term in terms for mark in "()|")
        assert len(set(terms.values())) >= 9 and "innocent" in terms.values()
    assert {name for name in read_list("unsafe")} - {"about"} == set(SCRIPTS)


# inspected: a garden after the frost, a stick and a twig that sprout after all, a tree that needs water (en and pt)
TRUE_CASES = {"train-0066", "train-0156", "train-0666", "q-363"}


def test_shipped_stories_for_children_pass():
    found, count = set(), 0
    for path in [*DATA.glob("emoji_stories/*/*.jsonl"), *DATA.glob("quartet/*/*.jsonl")]:
        language = path.parent.name if path.parent.parent.name == "quartet" else "en"
        for row in map(json.loads, path.open(encoding="utf-8")):
            count += 1
            if unsafe(row.get("story") or row["text"], language):
                found.add(row["id"])
    assert count == 2 * 845 + 4 * 450 and found <= TRUE_CASES


# The gate


class Teller:
    """Stories by seed; keeps what it was asked for."""

    def __init__(self, stories):
        self.stories, self.calls = stories, []

    def __call__(self, prompts, seeds):
        self.calls.append((prompts, seeds))
        told = [self.stories.get(seed, "A gun.") for seed in seeds]
        return [Story(*row, "eos", 3) for row in zip(prompts, seeds, told, strict=True)]


def test_rejected_stories_alone_are_told_again():
    tell = Teller({1: "A fox.", 2: "A gun.", 3: "", 2 + STEP: "An owl.", 3 + STEP: "Beer.", 3 + 2 * STEP: "A bee."})
    told = tell_safely(tell, ["a", "b", "c"], [1, 2, 3])
    assert [one.story.text for one in told] == ["A fox.", "An owl.", "A bee."]
    assert [prompts for prompts, _ in tell.calls] == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert [rejected.reason for rejected in told[2].rejected] == ["an empty story", "drugs and alcohol: 'beer'"]
    assert told[1].story.seed == 2 + STEP  # tells it again


def test_after_the_last_try_it_is_said():
    [told] = tell_safely(Teller({}), ["a"], 7, tries=3)
    assert told.story is None and len(told.rejected) == 3
    with pytest.raises(UserError, match=r"in 3 tries, but weapons: 'gun' \(3 x\); try another seed"):
        told.checked()


def test_prompts_that_ask_for_it():
    tell = Teller({})
    with pytest.raises(UserError, match=r"'beer mug' asks for 'beer' \(drugs and alcohol\)"):
        tell_safely(tell, ["fox", "beer mug"])
    assert tell.calls == []
    check_prompt("🎲 game die, 🅰️ A button (blood type)")


def test_bad_requests_to_the_gate():
    with pytest.raises(UserError, match="got 1, 2 and 5 tries"):
        tell_safely(Teller({}), ["a"], [1, 2])
    with pytest.raises(UserError, match="got 1, 1 and 0 tries"):
        tell_safely(Teller({}), ["a"], tries=0)
    with pytest.raises(UserError, match="no lists"):
        tell_safely(Teller({}), ["a"], language="de")
    assert tell_safely(Teller({}), []) == []
    assert Told(Story("p", 0, "A fox.", "eos", 2)).checked().text == "A fox."
    assert Rejected(Story("p", 0, "", "eos", 0), ()).reason == "an empty story"
