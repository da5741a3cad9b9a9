"""What a reader might have wished for to get a story: its character, traits, setting, plot, tone and arc.

An extractor is called with the premise and the story and gives the wishes, "" for one that it cannot tell. There are
two: `by_rules`, offline, and `ModelExtractor`, which asks any instruction model behind an OpenAI-compatible address.
"""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPException
from itertools import chain
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from storylib.data.words import count_words, forms, read_list
from storylib.errors import UserError

WISHES = ("character", "traits", "setting", "plot", "tone", "arc")
Extractor = Callable[[str, str], dict[str, str]]

LEAST = 2  # different words of a plot, tone or arc; in the premise one counts twice
AHEAD = 1.25  # times as many as of the next best, or nothing is said
DETERMINERS = set("a an the your my his her its their our this one two three four some every".split())
NUMBERS = {"two", "three", "four"}
BARRIERS = set("of where who whose that which when with in on at to is are was were has have by for from as or".split())
WORD = re.compile(r"[\w'-]+|[^\w\s]")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}")
NO_NAMES = set("God Mister Miss Mrs Doctor Earth English American Sir Lord Dad Mom Mum Father Mother".split()) | set(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August "
    "September October November December Christmas".split()
)


class BadAnswer(ValueError):
    """The model answered, and not as it was asked to, however often."""


def by_rules(premise: str, story: str) -> dict[str, str]:
    """The wishes as word lists see them (`data/word_lists/wishes.json`); the same for the same texts, always.

    character: the first person or creature of a known kind in the premise, with the words between it and its article;
        else the kind said most often in the story, at least twice and with an article; else the name said most often.
    setting: the first known place of the premise that is not part of a person's name ("the lighthouse keeper"),
        likewise; else the place said most often in the story.
    traits: the two of 30 whose words are most often in the premise (which counts twice) and the story; one in the story
        alone needs two.
    plot, tone, arc: of the 21, 7 and 7 that are listed, the one with the most different words in the premise (twice)
        and the story: at least two, and 1.25 times as many as the next. Take tone and arc for hints: on the shipped
        stories these are right no more often than by chance.

    >>> wishes = by_rules("A brave knight guards a ruined castle on Mars.", "It was brave of him.")
    >>> wishes["character"], wishes["traits"], wishes["setting"], wishes["plot"]
    ('a knight', 'brave', 'a ruined castle', '')
    """
    said, told = count_words(premise), count_words(story)
    tokens, scores = WORD.findall(premise), score(said, told)
    return {
        "character": character(tokens, story, told),
        "traits": traits(scores),
        "setting": setting(tokens, story, told),
        "plot": closest("plots", scores),
        "tone": closest("tones", scores),
        "arc": closest("arcs", scores),
    }


def character(tokens: list[str], story: str, told: Counter[str]) -> str:
    for kind in ("roles", "people"):
        if phrase := first_phrase(tokens, known(kind)):
            return phrase
    if role := most_said(known("roles"), story, told):
        return role
    names = Counter(name for name in NAME.findall(story) if name not in NO_NAMES).most_common(1)
    return names[0][0] if names and names[0][1] >= 3 else ""


def setting(tokens: list[str], story: str, told: Counter[str]) -> str:
    worlds, persons = read_list("wishes")["worlds"], known("roles") | known("people")
    if phrase := first_phrase(tokens, known("places"), persons):
        return phrase
    if named := [worlds[token.lower()] for token in tokens if token.lower() in worlds]:
        return named[0]
    if phrase := first_phrase(tokens, known("rooms"), persons) or most_said(known("places"), story, told):
        return phrase
    world = max(worlds, key=lambda world: told[world])
    return worlds[world] if told[world] >= LEAST else most_said(known("rooms"), story, told)


def first_phrase(tokens: list[str], heads: frozenset[str], not_before: frozenset[str] = frozenset()) -> str:
    """The first of the heads in a premise, with up to three words between it and its article; "" for none.

    A head before another one, or before a word of `not_before`, only describes that: "a castle school". In "a knight
    guards" the second is a verb.
    """
    lowered = [token.lower() for token in tokens] + [""]
    if heads.isdisjoint(lowered):
        return ""
    for place, head in enumerate(lowered[:-1]):
        following = lowered[place + 1]
        if head in heads and not (following in not_before or following in heads and not is_plural(following)):
            start = place
            while start > max(0, place - 4) and lowered[start - 1] not in BARRIERS and lowered[start - 1][0].isalnum():
                start -= 1
            articles = [spot for spot in range(start, place) if lowered[spot] in DETERMINERS]
            before = range(articles[-1] + 1 if articles else place, place)
            words = [tokens[spot] for spot in before if lowered[spot] not in known("traits")]
            return with_article(words + [head], lowered[articles[-1]] if articles else "")
    return ""


def with_article(words: list[str], determiner: str = "") -> str:
    """The phrase as a wish: "the" and numbers stay, possessives become "a" or "an", plurals have none."""
    phrase, head = " ".join(words), words[-1]
    if determiner in NUMBERS or determiner == "the":
        return f"{determiner} {phrase}"
    if is_plural(head):
        return phrase
    return f"{'an' if phrase.lower().startswith(('a', 'e', 'i', 'o', 'u', '8', '11', '18')) else 'a'} {phrase}"


def is_plural(word: str) -> bool:
    return word.endswith(("men", "children")) or word.endswith("s") and not word.endswith(("ss", "us"))


def most_said(heads: frozenset[str], story: str, told: Counter[str]) -> str:
    """The head that the story says most often, at least twice after an article; "" for none."""
    lowered = story.lower()
    often = [head for head in heads & told.keys() if told[head] >= LEAST]
    for head in sorted(often, key=lambda head: (-told[head], head)):
        if sum(lowered.count(f" {article} {head}") for article in ("a", "an", "the")) >= LEAST:
            return with_article([head])
    return ""


def traits(scores: Mapping[tuple[str, str], int]) -> str:
    """The two best of the traits that score at least two, joined by "and"."""
    found = {trait: scores.get(("traits", trait), 0) for trait in named("traits")}
    best = sorted((trait for trait in found if found[trait] >= LEAST), key=lambda trait: -found[trait])
    return " and ".join(best[:2])


def closest(kind: str, scores: Mapping[tuple[str, str], int]) -> str:
    """The plot, tone or arc whose words are clearly the most; "" when none is."""
    found = {name: scores.get((kind, name), 0) for name in named(kind)}
    second, first = sorted(found, key=found.get)[-2:]
    return first if found[first] >= max(LEAST, AHEAD * found[second]) else ""


def score(said: Counter[str], told: Counter[str]) -> Counter[tuple[str, str]]:
    """For each kind and name, how many different words of it the story has, and twice how many the premise has."""
    hits = [labels()[word] for words in (told, said, said) for word in labels().keys() & words.keys()]
    return Counter(chain.from_iterable(hits))


@cache
def labels() -> dict[str, list[tuple[str, str]]]:
    """For each word that the lists name, the kinds and names it stands for."""
    found = {}
    for kind in ("traits", "plots", "tones", "arcs"):
        for name, words in named(kind).items():
            for word in words:
                found.setdefault(word, []).append((kind, name))
    return found


@cache
def named(kind: str) -> dict[str, frozenset[str]]:
    """The words by trait, plot, tone or arc."""
    return {name: forms(patterns) for name, patterns in read_list("wishes")[kind].items()}


@cache
def known(kind: str) -> frozenset[str]:
    """All words of a kind, be it a list or named lists."""
    listed = read_list("wishes")[kind]
    return forms(listed) if isinstance(listed, str) else frozenset().union(*named(kind).values())


ASK = """You label short stories. Answer with one JSON object and nothing else. Its keys are exactly:
"character": the main character in 2 to 6 words, such as "a shy lighthouse keeper";
"traits": the character's two clearest traits, such as "brave and short-tempered";
"setting": where it takes place, in 2 to 6 words;
"plot": what happens, in 3 to 9 words, such as "a promise that is hard to keep";
"tone": one word, such as warm, eerie, funny, hopeful, bittersweet, suspenseful, dark;
"arc": one of overcoming the monster, rags to riches, the quest, voyage and return, rebirth, comedy of errors, tragedy.
Use "" for what the story does not tell."""
LONGEST_STORY = 12_000  # characters that a model is shown, so that 4,096 tokens hold them
LONGEST_WISH = 120  # characters


@dataclass(frozen=True)
class ModelExtractor:
    """The wishes as an instruction model sees them, asked for through `{endpoint}/chat/completions`.

    Calling it raises UserError when nobody answers at the endpoint or the request is refused (wrong key, wrong model),
    and BadAnswer when after `tries` there is still no answer of the form asked for.
    """

    endpoint: str  # such as http://localhost:8000/v1
    model: str
    key: str = field(default_factory=lambda: os.environ.get("OPENAI_API_KEY", ""), repr=False)
    tries: int = 3
    pause: float = 1.0  # seconds before the second try, doubled before each further one
    timeout: float = 120.0  # seconds

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("http://", "https://")):
            raise UserError(f"the endpoint {self.endpoint!r} is no address; give one such as http://localhost:8000/v1")

    def __call__(self, premise: str, story: str) -> dict[str, str]:
        question = f"Premise: {premise}\n\nStory: {story[:LONGEST_STORY]}"
        for again in range(self.tries):
            if again:
                time.sleep(self.pause * 2 ** (again - 1))
            try:
                return parse_answer(self.ask(question))
            except BadAnswer as error:
                reason = error
        raise reason

    def ask(self, question: str) -> str:
        """The model's answer. Raises BadAnswer for one that a second try may better."""
        messages = [{"role": "system", "content": ASK}, {"role": "user", "content": question}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 300}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = Request(f"{self.endpoint.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urlopen(request, timeout=self.timeout) as response:
                return json.load(response)["choices"][0]["message"]["content"]
        except HTTPError as error:
            if error.code == 429 or error.code >= 500:
                raise BadAnswer(f"status {error.code}") from error
            advice = "check the address, the model's name and OPENAI_API_KEY"
            raise UserError(f"{self.endpoint} refused with {error.code} {error.reason}; {advice}") from error
        except URLError as error:
            raise UserError(f"nobody answers at {self.endpoint}: {error.reason}; start the server first") from error
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise BadAnswer(f"no completion: {error}") from error


def parse_answer(answer: object) -> dict[str, str]:
    """The wishes in a model's answer, which may say something around them. Raises BadAnswer for another form.

    >>> parse_answer('Sure! {"character": "a fox", "tone": "warm"}')["tone"]
    'warm'
    """
    text = answer if isinstance(answer, str) else ""
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError as error:
        raise BadAnswer(f"no JSON object in {text[:60]!r}") from error
    wishes = {wish: found.get(wish) or "" for wish in WISHES}
    if not all(isinstance(text, str) and len(text) <= LONGEST_WISH for text in wishes.values()):
        raise BadAnswer(f"wishes that are no short texts: {str(wishes)[:60]}")
    if not any(wishes.values()):
        raise BadAnswer(f"none of {', '.join(WISHES)} in {text[:60]!r}")
    return {wish: " ".join(text.split()) for wish, text in wishes.items()}
