"""How many stories of each genre feel good or bad, at their end and as a whole. English only.

A scorer says how positive a text is, -1 to 1: `Vader`, from word lists, offline; or `Classifier`, any sentiment
pipeline of transformers. Neither was made for tales, so compare scenarios with each other, by the same scorer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

import numpy as np

from storylib.data.sentences import sentences
from storylib.errors import UserError
from storylib.metrics.score import Score, share_score
from storylib.metrics.words import EMPTY, ENGLISH, OTHER, checked, kinds

if TYPE_CHECKING:
    from transformers import TextClassificationPipeline

SST2 = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
FEELINGS = ("positive", "negative", "neutral")
VIEWS = ("ending", "whole")
TOTAL = "total"
WINDOW = 50  # words of a window of Vader, some four sentences: half a short story
WORD = re.compile(r"\S+")


class Scorer(Protocol):
    """What says how positive texts are."""

    signature: str
    neutral: float  # up to this far from 0 a text is neutral

    def windows(self, story: str) -> list[str]:
        """The story in stretches that fit, full ones from its end on; together they are the story."""

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """How positive each text is, -1 to 1."""


@dataclass(frozen=True)
class Feelings:
    """How many stories of one genre and scenario are what."""

    positive: int
    negative: int
    neutral: int
    left: Mapping[str, int]  # stories without a feeling, by reason: empty, other language
    signature: str

    @property
    def told(self) -> int:
        return self.positive + self.negative + self.neutral

    def share(self, feeling: str = "positive") -> Score:
        """Share, 0 to 1, of the stories with text, with Wilson's interval. Raises UserError where there are none."""
        if feeling not in FEELINGS:
            raise UserError(f"a feeling is one of {', '.join(FEELINGS)}, got {feeling!r}")
        left = "|".join(f"{reason}:{count}" for reason, count in self.left.items())
        if not self.told:
            raise UserError(f"no story has a feeling: {left}; a share needs one")
        flags = [name == feeling for name in FEELINGS for _ in range(getattr(self, name))]
        return share_score(flags, f"{feeling}|{self.signature}|neutral:{self.neutral}|{left}")

    def __add__(self, other: "Feelings") -> "Feelings":
        counts = [getattr(self, name) + getattr(other, name) for name in FEELINGS]
        left = {reason: self.left[reason] + other.left[reason] for reason in self.left}
        return Feelings(*counts, left, self.signature)


Table = dict[str, dict[str, Feelings]]  # scenario -> genre -> feelings


@dataclass(frozen=True)
class Sentiment:
    """Two views of the same stories; each is scenario -> genre -> feelings, with all genres together as "total"."""

    ending: Table  # of the last window alone
    whole: Table  # of all windows, the later ones weighing more


def sentiment_by_genre(
    scenarios: Mapping[str, Mapping[str, Sequence[str]]], scorer: "Scorer | TextClassificationPipeline | None" = None
) -> Sentiment:
    """Counts of positive, negative and neutral stories by scenario and genre, by the ending and by the whole story.

    scenarios: name -> genre -> stories, such as {"untrained": {"horror": […], "fairy_tale": […]}}.
    scorer: what `load_scorer` gives, or a sentiment pipeline of transformers; by default what `load_scorer()` finds.

    The ending is the last window of the scorer: of VADER fifty words, of a model as many tokens as it reads at once. Of
    the whole story each window weighs its words times its place, 1 for the first: where the ending decides, late
    windows say more.
    Stories without a word and single ones in another language have no feeling; they are counted in `left`. Raises
    UserError for no scenarios or genres, a genre called "total", a genre without stories, and one of which most are
    not in English; TypeError for a str where a list is needed and for anything that is no text.
    """
    found, scorer = Sentiment({}, {}), as_scorer(scorer)
    for name, genres in checked(scenarios).items():
        if not isinstance(genres, Mapping) or not genres or TOTAL in genres:
            raise UserError(f"{name} must map genres to stories, such as {{'horror': […]}}, and none of them {TOTAL!r}")
        for genre, stories in genres.items():
            for view, feelings in feelings_of(stories, scorer, f"{genre} stories of {name}").items():
                getattr(found, view).setdefault(name, {})[genre] = feelings
        for view in VIEWS:
            table = getattr(found, view)[name]
            first, *rest = table.values()
            table[TOTAL] = sum(rest, first)
    return found


def positive_share(
    stories: Sequence[str], scorer: "Scorer | TextClassificationPipeline | None" = None, view: str = "ending"
) -> Score:
    """Share, 0 to 1, of the stories with text that are positive, with Wilson's interval; see `sentiment_by_genre`.

    Raises UserError for another view and where no story has text, and what `sentiment_by_genre` raises.
    """
    if view not in VIEWS:
        raise UserError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    return feelings_of(stories, as_scorer(scorer))[view].share()


def load_scorer(name: str | None = None) -> Scorer:
    """A scorer by name.

    name: "vader"; or a sentiment model of transformers, by its name on the Hub or its folder. None takes DistilBERT
        fine-tuned on SST-2 where it has been downloaded before, else VADER: the signature says which.
    Raises UserError for a model that can't be had or has no positive and negative label.
    """
    if name == "vader":
        return Vader()
    from storylib.hub import check_access, in_cache

    if name is None:
        return load_classifier(SST2, local=True) if in_cache(SST2) else Vader()
    try:
        return load_classifier(name, local=not check_access(name))
    except (OSError, ValueError, UserError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no sentiment model {name} ({reason}); 'vader' needs none") from error


def load_classifier(name: str, local: bool) -> "Classifier":
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, TextClassificationPipeline

    from storylib.runtime import device

    tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
    model = AutoModelForSequenceClassification.from_pretrained(name, local_files_only=local)
    return Classifier(TextClassificationPipeline(model=model, tokenizer=tokenizer, device=device()))


class Vader:
    """VADER (Hutto and Gilbert 2014): valences of words, with rules for negation and emphasis.

    It was made for single sentences, and on a page of them goes to its extremes. So a window is scored as its authors
    advise: the mean over its sentences, neutral within 0.05 of 0.
    """

    neutral = 0.05

    def __init__(self) -> None:
        release = version("vaderSentiment")
        self.signature = f"vader-{release}|window:{WINDOW} words|sentences:mean|neutral:{self.neutral}"

    def windows(self, story: str) -> list[str]:
        starts = [word.start() for word in WORD.finditer(story)]
        return pieces(story, [starts[place] for place in range(len(starts) - WINDOW, 0, -WINDOW)])

    def __call__(self, texts: Sequence[str]) -> list[float]:
        score = analyzer().polarity_scores
        return [float(np.mean([score(part)["compound"] for part in sentences(text, "en")])) for text in texts]


class Classifier:
    """A sentiment pipeline of transformers: the probability of its positive label less that of the negative one."""

    neutral = 0.0

    def __init__(self, pipeline: "TextClassificationPipeline", batch_size: int = 16) -> None:
        """Raises UserError for a model whose labels do not say which is positive and which negative."""
        self.pipeline, self.batch_size = pipeline, batch_size
        self.positive, self.negative = (self.label(start) for start in ("pos", "neg"))
        tokenizer, config = pipeline.tokenizer, pipeline.model.config
        positions = getattr(config, "max_position_embeddings", tokenizer.model_max_length)
        positions -= 2 * ("roberta" in config.model_type)  # which counts them from 2
        self.longest = min(positions, tokenizer.model_max_length)
        self.window = self.longest - tokenizer.num_special_tokens_to_add()
        self.signature = f"model:{config._name_or_path}|window:{self.window} tokens"

    def label(self, start: str) -> str:
        labels = list(self.pipeline.model.config.id2label.values())
        found = [label for label in labels if label.lower().startswith(start)]
        if len(found) != 1:
            raise UserError(f"a sentiment model needs one label that begins with {start!r}, got {', '.join(labels)}")
        return found[0]

    def windows(self, story: str) -> list[str]:
        """Cut between words, by the model's own tokens: 512 words do not fit 512 tokens."""
        encoded = self.pipeline.tokenizer(
            story, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        starts, words = [start for start, _ in encoded["offset_mapping"]], encoded.word_ids()
        cuts, end = [], len(starts)
        while end > self.window:
            first = end - self.window
            # the first word that is whole; a word longer than the window is cut all the same
            end = next((place for place in range(first, end) if words[place] != words[place - 1]), first)
            cuts.append(starts[end])
        return pieces(story, cuts)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # alike in length: little padding
        chosen = [texts[place] for place in order]
        options = {"batch_size": self.batch_size, "truncation": True, "max_length": self.longest}
        answers = self.pipeline(chosen, top_k=None, **options)
        scores = [0.0] * len(texts)
        for place, answer in zip(order, answers, strict=True):
            found = {label["label"]: label["score"] for label in answer}
            scores[place] = found[self.positive] - found[self.negative]
        return scores


@cache
def analyzer():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def pieces(story: str, cuts: Sequence[int]) -> list[str]:
    """The story cut at these offsets, which come from its end."""
    edges = [0, *reversed(cuts), len(story)]
    return [story[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def as_scorer(scorer: "Scorer | TextClassificationPipeline | None") -> Scorer:
    if scorer is None:
        return load_scorer()
    return scorer if hasattr(scorer, "windows") else Classifier(scorer)


def feelings_of(stories: Sequence[str], scorer: Scorer, name: str = "stories") -> dict[str, Feelings]:
    """How many of these stories are what, by view. Raises what `kinds` raises, and what `view_scores` does."""
    found = kinds(stories, name)
    told = [story for story, kind in zip(stories, found, strict=True) if kind == ENGLISH]
    left = {reason: found.count(reason) for reason in (EMPTY, OTHER)}
    return {view: counted(scores, scorer, view, left) for view, scores in view_scores(told, scorer).items()}


def view_scores(stories: Sequence[str], scorer: Scorer) -> dict[str, list[float]]:
    """How positive each story is, -1 to 1, in each view; all windows of all stories are scored together. Raises
    UserError where the scorer gives no number."""
    windows = [scorer.windows(story) for story in stories]
    every = [window for found in windows for window in found]
    given = scorer(every) if every else []
    if not np.isfinite(given).all():
        raise UserError(f"{scorer.signature} gives no number for some stories; load it in float32, or take 'vader'")
    scores = iter(given)
    views = {view: [] for view in VIEWS}
    for found in windows:
        each = [next(scores) for _ in found]
        weights = [place * len(window.split()) for place, window in enumerate(found, start=1)]
        views["ending"].append(each[-1])
        views["whole"].append(float(np.average(each, weights=weights)))
    return views


def counted(scores: Sequence[float], scorer: Scorer, view: str, left: Mapping[str, int]) -> Feelings:
    positive, negative = (sum(sign * score > scorer.neutral for score in scores) for sign in (1, -1))
    signature = f"sentiment|{scorer.signature}|view:{view}" + ("|weights:place*words" if view == "whole" else "")
    return Feelings(positive, negative, len(scores) - positive - negative, left, signature)
