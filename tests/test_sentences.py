"""Where sentences end, in four languages: every rule, and every story of the shipped quartet."""

import json

import pytest

from storylib.data.sentences import RULES, sentence_ends, sentences
from storylib.errors import UserError
from storylib.files import DATA

CUT = {  # the texts, with | where a sentence ends
    "en": [
        # quotations, and who speaks them
        '"Come! Now!" she said.| They ran.|',
        '"Come!" Lily said.| Then she ran.|',
        "“Look out!” the old fox cried.| “Where? Here?” Tom asked his mother.|",
        '"Come!"| Then Tom said it again.|',
        'Ben said, "Is it far?"| Mia said, "No."|',
        '"Hi," said Ben.| "I am lost."|',
        'He is 5" tall.| He said "Ha."| She left.|',
        "He gave a jump (what a jump!) and fell.| (He was fine.)| She laughed.|",
        "“Oh no!| She fell.| Nobody had closed the quotation.|\n\n“Are you hurt?” he asked.|",
        # full stops that end nothing
        "Mr. Fox and Dr. J. R. Owl ate 3.5 cakes.| They slept.|",
        "1. Find a fox.| It was I.| Then he hid.|",
        "It was 7 a.m. and cold.| Brr!|",
        # rows of marks
        "Wait... what?!| No way!!| Well . . . yes.| He waited...| Nobody came.|",
        # lines
        "The Fox\n\nA fox ran\nhome.| It was\nred.|",
        'He said:\n"Good night"|\nThe end.|',
        "One.|\n\ntwo.|",
        "A whole one.| And one without a mark",
    ],
    "pt": [
        "— Oi! — disse Ana.| — Tudo bem? — perguntou o Sr. Leão.| A Dra. Rita riu.|",
        "— Oi!| — Olá!|",
        '"Vamos!", gritaram.| "Não!" disse ela.| "Sim?" Ana perguntou.|',
        'Ela disse: "Venha cá. Agora".| Ele veio.|',
        '"Quem é?"| Então Ana disse: "Eu".|',
        "Custa R$ 3.50 ou 2,5.| Era uma vez... um gato.| Fim|",
        "«Não! Já!» disse ela.| Foi.|",
    ],
    "zh": [
        "“我来找！”露露说，可是她也绊倒了。|校车来了。|",
        "“走吧！快！”好心的叔叔小声说。|他们走了。|",
        "“好。”她眨眨眼睛，小声说。|天黑了。|",
        "他说：“走吧。快！”|露露说：“好。”|",
        "“走吧！”|妈妈说：“好。”|",
        "“走吧！”|他们走了。|“噗！”的一声，破了。|",
        "「好！」他說。|走了。|",
        '他走了。|"你好。"她说。|他笑了。|',
        "“一、二……”他数了起来。|他等啊等……|终于来了！|",
        "圆周率是3.14。|对吗？|",
        "“好”|\n“不好。”他喊。|",
    ],
    "ja": [
        "「行こう！」と言った。|雨だ。|",
        "「行こう。早く！」とルルは言った。|「うん。」って、レオ。|",
        "「行こう！」ルルがさけんだ。|みんな走った。|",
        "「行こう！」|とつぜん、雨がふった。|",
        "「おはよう。」|「おはよう。」|二人はわらった。|",
        "「あ」|\n「い」|\n『本』を読んだ。|",
        "３．５メートルと3.5メートル。|そうか？　|うん！|",
        "「『行け！』だって。本当？」と聞いた。|はい。|",
    ],
}


@pytest.mark.parametrize(("language", "marked"), [(code, text) for code, texts in CUT.items() for text in texts])
def test_where_sentences_end(language, marked):
    expected = [piece.strip() for piece in marked.split("|") if piece]
    assert sentences(marked.replace("|", ""), language) == expected


@pytest.mark.parametrize(("language", "seven"), [("en", 450), ("zh", 439), ("pt", 450), ("ja", 450)])
def test_the_quartet_has_seven_sentences(language, seven):
    paths = (DATA / "quartet" / language).glob("*.jsonl")
    texts = [json.loads(line)["text"] for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    counts = [len(sentences(text, language)) for text in texts]
    assert len(texts) == 450 and counts.count(7) == seven and set(counts) <= {7, 8}


def test_offsets():
    text = ' "No!" \nShe left. And'
    assert [text[:end] for end in sentence_ends(text, "en")] == [' "No!"', ' "No!" \nShe left.']
    assert list(sentence_ends("", "ja")) == [] and sentences(" \n ", "pt") == []


@pytest.mark.parametrize("language", RULES)
def test_marks_that_are_never_closed_cost_no_time(language):
    text = "“hello. " * 20_000 + '"' * 20_000 + "! " * 20_000 + "(" * 20_000 + "\n" * 20_000
    assert sum(1 for _ in sentence_ends(text, language)) > 0  # hours, if any rule looked ahead to the end of the text


def test_codes():
    assert sentences("Oi. Olá.", "pt-BR") == sentences("Oi. Olá.", "pt_PT") == ["Oi.", "Olá."]
    with pytest.raises(UserError, match="no sentence splitter for 'fr'; there are en, zh, pt, ja$"):
        sentences("Bonjour.", "fr")
