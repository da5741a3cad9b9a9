"""Where sentences end in English, Chinese, Portuguese and Japanese stories: rules on punctuation, nothing to download.

A quotation is never cut, and it stays with the clause that says who speaks: `"Come! Now!" she said.` is one sentence,
and so are 「行こう！」と言った。 and “我来找！”露露说。 A line without an end mark, such as a title, belongs to the
sentence after it. Single quotation marks are not looked at: too many of them are apostrophes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from storylib.errors import UserError

MARKS = ".!?…。！？．"
CLOSING = "\"'”’»」』)）\\]】》"
MARK = rf"[{MARKS}](?: ?[{MARKS}])*"  # also the ellipsis ". . ."
# a quotation that is a line of its own ends there, mark or not
SENTENCE_END = regex.compile(rf"{MARK}[{CLOSING}]*|[\"”»」』](?=[^\S\n]*\n)")


def without(marks: str) -> str:
    """Pattern of text that has none of `marks` and no blank line: a forgotten mark costs one paragraph at most."""
    return rf"(?:[^{marks}\n]|\n(?!\s*\n))*+"


PAIRS = [rf"\{first}{without(first + last)}\{last}" for first, last in ("“”", "「」", "『』", "«»", "()", "（）")]
STRAIGHT = rf"""(?<![\p{{Latin}}\d])"(?=\S){without('"')}(?<=\S)\""""
QUOTED = regex.compile("|".join([*PAIRS, STRAIGHT]))
QUOTATION = regex.compile(r"\s*(?:“[^”\"]*[”\"]|「[^」]*」|『[^』]*』|«[^»]*»)")
LAST_MARK = regex.compile(rf"(?r)(?:{MARK})?[{CLOSING}]+$")  # searched from the end
HIDDEN = dict.fromkeys(map(ord, MARKS), "·")


@dataclass(frozen=True)
class Rules:
    """What may stand behind an end mark where the sentence goes on all the same."""

    goes_on: regex.Pattern
    speaker: regex.Pattern  # counts where the sentence so far is one quotation


def spaced(shortened: str, verbs: str, openers: str) -> Rules:
    """Rules of a language with spaces between words.

    shortened: words that end in a full stop. verbs: of a clause that names a speaker. openers: words that begin a
    sentence of their own, even where somebody speaks in it.
    """
    goes_on = rf"""(?!\s*\n\s*\n)(?:
          (?<=(?<![\p{{L}}\d])(?:{shortened}|(?!I)\p{{Lu}})\.)        # Mr. Fox, J. R. Fox
        | (?<=(?:^|\n)\s*\d+\.)                                   # 1. First …
        | (?=\S)                                                  # 3.14; "Come!", he said
        | \s+\p{{Ll}}                                             # "Come!" she said
        | [^\S\n]*[—–-]+\s*\p{{Ll}}                               # — Oi! — disse Ana
        )"""
    speaker = rf"(?<=[!?…][{CLOSING}])[^\S\n]+(?!(?:{openers})\b)(?:[\p{{L}}'’-]+\.?[^\S\n]+){{0,3}}(?i:{verbs})\b"
    return Rules(regex.compile(goes_on, regex.VERBOSE), regex.compile(speaker))


def unspaced(follows: str, verbs: str, last_verbs: str) -> Rules:
    """Rules of a language without them.

    follows: what binds a quotation to what is behind it. verbs: of a clause that names a speaker. last_verbs: those
    that end a sentence where what was said stands in front.
    """
    goes_on = rf"""(?!\s*\n\s*\n)(?:
          (?<=\.)(?=\S) | (?<=．)(?=\d)                             # 3.14
        | [^\S\n]*[,，、;；:：]
        | (?<=[{CLOSING}])(?:{follows})
        )"""
    # a colon begins the next quotation: “好！”妈妈说：“走吧。”
    speaker = rf"""[^\S\n]*(?:
          [^，。！？：:；…\s“”「」"]*(?:{verbs})[^，。！？：:；…\s“”「」"]*+(?![：:])
        | [^。！？：:；…“”「」"\n]*(?:{last_verbs})。
        )"""
    return Rules(regex.compile(goes_on, regex.VERBOSE), regex.compile(speaker, regex.VERBOSE))


RULES = {
    "en": spaced(
        "Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|Capt|Col|Gen|Lt|Sgt|Rev|Hon|Mt|vs",
        "said|asked|cried|shouted|called|replied|answered|whispered|exclaimed|yelled|screamed|added|told|thought|sang",
        "Then|But|And|So|When|After|As|Suddenly|One|That|Later|Soon",
    ),
    "zh": unspaced(
        "的",
        "说|說|问|問|喊|叫|嚷|答|嘟囔|嘀咕|告诉|告訴|唱|(?:(?<!知)道|想|写|念|数)[着了]?(?:起来)?(?=[，。！？])",
        "[说說问問喊叫嚷道答]",
    ),
    "pt": spaced(
        "Sr|Sra|Srs|Sras|Srta|Dr|Dra|Drs|Prof|Profa|Exmo|Exma|Sto|Sta|Cap|Cel|Gen|Ten|Av",
        "disse|diz|dizem|disseram|pergunta|perguntou|grita|gritou|gritaram|responde|respondeu|falou|exclamou|sussurrou",
        "Então|Mas|E|Quando|Depois|Um|Uma|Assim|Logo|De",
    ),
    "ja": unspaced(
        r"と(?!つぜん|ても|きどき|ころ|なり|うとう)|って|など|なんて|の[\p{Han}\p{Katakana}]",
        "言|いいました|いった(?=[、。])|さけ[びん]|叫|こたえ|答え|たずね|聞きま|ききま|よびかけ|つぶや|話し",
        "言いました|言った|いいました",
    ),
}


def sentence_ends(text: str, language: str) -> Iterator[int]:
    """Offsets in `text` behind each whole sentence: its mark and closing quotes, but not the space after them.

    Raises UserError for a language without rules.
    """
    rule = rules(language)
    shown = QUOTED.sub(hide_marks, text)  # as long as `text`: the offsets hold
    start = 0
    for match in SENTENCE_END.finditer(shown):
        end = match.end()
        quotation = QUOTATION.fullmatch(shown, start, end)
        if not (rule.goes_on.match(shown, end) or quotation and rule.speaker.match(shown, end)):
            yield end
            start = end


def hide_marks(quotation: regex.Match) -> str:
    """The quotation with no marks but those at its very end, and an opening quote that cannot be a closing one."""
    text = quotation[0]
    last = LAST_MARK.search(text).start()
    return text[0].replace('"', "“") + text[1:last].translate(HIDDEN) + text[max(1, last) :]


def sentences(text: str, language: str) -> list[str]:
    """The sentences of `text`, without the space between them; what follows the last end mark is one too.

    >>> sentences('"Come! Now!" said Mr. Fox. They ran', "en")
    ['"Come! Now!" said Mr. Fox.', 'They ran']
    >>> sentences("「行こう！」と言った。雨だ。", "ja")
    ['「行こう！」と言った。', '雨だ。']
    """
    cuts = [0, *sentence_ends(text, language), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(cuts, cuts[1:], strict=False)]
    return [piece for piece in pieces if piece]


def rules(language: str) -> Rules:
    if base(language) not in RULES:
        raise UserError(f"no sentence splitter for {language!r}; there are {', '.join(RULES)}")
    return RULES[base(language)]


def base(language: str) -> str:
    """The language of a code without its country or script.

    >>> base("pt-BR")
    'pt'
    """
    return language.replace("_", "-").partition("-")[0].lower()
