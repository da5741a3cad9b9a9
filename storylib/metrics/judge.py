"""A language model as a judge: which of two systems' stories is better, asked in both orders.

Judges rank systems well and single stories badly, and they like a position and length (arXiv 2406.07791). So each pair
is shown in both orders, where the two answers disagree it is a tie, and the report says how often that was, how long
the winners are, and what it all cost.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import mean
from threading import Lock

from storylib.data.duplicates import words
from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories, clusters, share_score, wilson_interval
from storylib.runtime import where

CRITERIA = (
    "how well it does what was asked for, whether it hangs together and comes to an end, "
    "how well it is told, and whether it is fit for its readers"
)
ASK = """You compare two stories that were written for the same request. Judge {criteria}.
A story is no better for being shown first, nor for being longer.
Answer with one word and nothing else: first, second or tie."""
SHOW = """Request: {prompt}

<first story>
{first}
</first story>

<second story>
{second}
</second story>

Which story is better? Answer first, second or tie."""
VERDICT = re.compile(r"\W*(first|second|tie)\W*", re.IGNORECASE)
THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # of models that think aloud
UNREADABLE, UNANSWERED = "unreadable", "unanswered"
LOCAL = "none"  # a server of one's own asks for no key, and the client insists on some text


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model behind an OpenAI-compatible address, and how to ask it.

    key: by default OPENAI_API_KEY of the environment, or of Colab's or Kaggle's secret store; it is never shown.
    price: dollars for a million tokens, read and written; (0, 0) for a model of one's own.
    """

    model: str
    url: str = "https://api.openai.com/v1"
    key: str = field(default="", repr=False)
    criteria: str = CRITERIA
    options: Mapping[str, object] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 512})
    price: tuple[float, float] = (0.0, 0.0)
    timeout: float = 60.0  # seconds
    retries: int = 5  # after 429, 5xx and time-outs, with the pauses of openai's client or those the server asks for
    concurrency: int = 4  # requests at a time

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"the judge's {self.url!r} is no address; give one such as http://localhost:8000/v1")
        if self.concurrency < 1 or self.retries < 0 or self.timeout <= 0 or min(self.price) < 0:
            raise UserError(f"concurrency must be 1 or more, timeout above 0, retries and price 0 or more, got {self}")


@dataclass(frozen=True)
class Judgement:
    """What a judge said of a system's stories beside a baseline's on the same prompts."""

    win_rate: Score  # wins and half the ties, of the pairs with a verdict; 0.5 is as good as the baseline
    flip_rate: Score  # share of the asked and readable pairs in which the same position won in both orders
    wins: int
    ties: int
    losses: int
    verdicts: tuple[str, ...]  # of each pair: win, tie, loss, unreadable or unanswered
    unreadable: int  # pairs with an answer that is no verdict; they are left out
    unanswered: int  # pairs with a request that failed to the end; they are left out, and asked again the next time
    empty: int  # pairs in which one story has no text and so loses unasked, or both have none: a tie
    same: int  # pairs of equal stories, a tie unasked
    said_first: float  # share of the readable answers that named the first story; 0.5 where position plays no part
    words_of_winners: float  # mean over the pairs with a winner; NaN without any
    words_of_losers: float
    tokens_read: int
    tokens_written: int
    cost: float  # dollars; answers from the cache included, which were paid for when they were asked for
    requests: int  # answers that were needed
    cached: int  # of them from the cache

    def scores(self) -> dict[str, Score]:
        return {"win rate": self.win_rate, "flip rate": self.flip_rate}

    def table(self) -> dict[str, str]:
        """The report in words and figures, one row each."""
        return {
            "win rate": str(self.win_rate),
            "wins, ties, losses": f"{self.wins}, {self.ties}, {self.losses}",
            "same position won in both orders": str(self.flip_rate),
            "answers that named the first": f"{self.said_first:.2f}",
            "words of winners, losers": f"{self.words_of_winners:.0f}, {self.words_of_losers:.0f}",
            "left out: unreadable, unanswered": f"{self.unreadable}, {self.unanswered}",
            "not asked: empty, same": f"{self.empty}, {self.same}",
            "tokens read, written": f"{self.tokens_read:,}, {self.tokens_written:,}",
            "cost": f"${self.cost:.4f} for {self.requests} answers, {self.cached} of them from the cache",
        }


def judge_pairs(
    judge: Judge, prompts: Sequence[str], stories: Sequence[str], baseline: Sequence[str], cache: str | Path
) -> Judgement:
    """Which system's stories a judge likes better, pair by pair on the same prompts, each pair in both orders.

    cache: a JSONL file, made where there is none, that each answer is added to at once. What was asked before, word for
        word of the same model at the same address, is read from it: after a stop the same call goes on.

    The win rate's interval is Wilson's, with as many trials as there are different prompts.
    Raises UserError for lists of unequal lengths, where nobody answers at the address or the request is refused (wrong
    key or model), and where no pair got a verdict; TypeError for a str where a list is needed.
    """
    for what, texts in {"prompts": prompts, "stories": stories, "baseline": baseline}.items():
        check_stories(texts, what)
    if not len(prompts) == len(stories) == len(baseline):
        raise UserError(f"each prompt needs two stories, got {len(prompts)}, {len(stories)} and {len(baseline)}")
    pairs = list(zip(prompts, stories, baseline, strict=True))
    asked = [index for index, pair in enumerate(pairs) if unasked(*pair[1:]) is None]
    orders = [request(judge, *order) for index in asked for order in both_orders(*pairs[index])]
    answers, cached = ask_all(judge, orders, Cache(cache))
    said = [verdict(answer) for answer in answers]
    verdicts = [unasked(story, other) for _, story, other in pairs]
    for place, index in enumerate(asked):
        verdicts[index] = together(*said[2 * place : 2 * place + 2])
    return report(judge, pairs, verdicts, said, answers, cached)


def both_orders(prompt: str, story: str, other: str) -> list[tuple[str, str, str]]:
    return [(prompt, story, other), (prompt, other, story)]


def unasked(story: str, other: str) -> str | None:
    """The verdict on a pair that needs no judge, or None."""
    if story.strip() == other.strip():
        return "tie"
    return None if story.strip() and other.strip() else "win" if story.strip() else "loss"


def request(judge: Judge, prompt: str, first: str, second: str) -> dict:
    """All that is sent, the key apart."""
    shown = SHOW.format(prompt=prompt.strip(), first=first.strip(), second=second.strip())
    messages = [
        {"role": "system", "content": ASK.format(criteria=judge.criteria)},
        {"role": "user", "content": shown},
    ]
    return {"model": judge.model, "messages": messages, **judge.options}


def verdict(answer: Mapping | None) -> str:
    """first, second or tie where the answer is that word alone, else unreadable; unanswered for no answer.

    >>> verdict({"answer": "**Second**."}), verdict({"answer": "I think the first is better"}), verdict(None)
    ('second', 'unreadable', 'unanswered')
    """
    if answer is None:
        return UNANSWERED
    found = VERDICT.fullmatch(THOUGHTS.sub("", answer["answer"] or ""))
    return found[1].lower() if found else UNREADABLE


def together(one: str, turned: str) -> str:
    """What the verdicts in both orders come to for the story that was first in the one and second in the other.

    >>> together("first", "second"), together("first", "first"), together("first", "unreadable")
    ('win', 'tie', 'unreadable')
    """
    for missing in (UNANSWERED, UNREADABLE):
        if missing in (one, turned):
            return missing
    return {("first", "second"): "win", ("second", "first"): "loss"}.get((one, turned), "tie")


def report(judge: Judge, pairs: list, verdicts: list[str], said: list[str], answers: list, cached: int) -> Judgement:
    counts = Counter(verdicts)
    decided = [index for index, found in enumerate(verdicts) if found in ("win", "loss")]
    both = [pair for pair in zip(said[::2], said[1::2], strict=True) if not {UNREADABLE, UNANSWERED} & set(pair)]
    if not counts["win"] + counts["loss"] + counts["tie"]:
        raise UserError(
            f"no verdict on {len(pairs)} pairs: {counts[UNREADABLE]} unreadable, {counts[UNANSWERED]} unanswered; "
            f"{judge.model} said {next((repr(a['answer'][:60]) for a in answers if a), 'nothing')}"
        )
    winners, losers = lengths(pairs, verdicts, decided)
    readable = [one for one in said if one not in (UNREADABLE, UNANSWERED)]
    paid = {answer["key"]: answer for answer in answers if answer}.values()  # a pair that comes twice is asked once
    read, written = (sum(answer[kind] for answer in paid) for kind in ("read", "written"))
    return Judgement(
        win_rate=win_rate(judge, pairs, verdicts),
        flip_rate=flip_rate(judge, both),
        wins=counts["win"],
        ties=counts["tie"],
        losses=counts["loss"],
        verdicts=tuple(verdicts),
        unreadable=counts[UNREADABLE],
        unanswered=counts[UNANSWERED],
        empty=sum(not (story.strip() and other.strip()) for _, story, other in pairs),
        same=sum(story.strip() == other.strip() != "" for _, story, other in pairs),
        said_first=readable.count("first") / len(readable) if readable else float("nan"),
        words_of_winners=winners,
        words_of_losers=losers,
        tokens_read=read,
        tokens_written=written,
        cost=(read * judge.price[0] + written * judge.price[1]) / 1e6,
        requests=len(answers),
        cached=cached,
    )


def win_rate(judge: Judge, pairs: list, verdicts: list[str]) -> Score:
    points = {"win": 1.0, "tie": 0.5, "loss": 0.0}
    kept = [(prompt, points[found]) for (prompt, *_), found in zip(pairs, verdicts, strict=True) if found in points]
    value, units = mean(point for _, point in kept), len(clusters([prompt for prompt, _ in kept]))
    signature = f"{label(judge)}|orders:both|disagreement:tie|interval:wilson|pairs:{len(kept)}|clusters:{units}"
    per_story = tuple(points.get(found, float("nan")) for found in verdicts)
    return Score(value, signature, *wilson_interval(value * units, units), per_story)


def flip_rate(judge: Judge, both: list[tuple[str, str]]) -> Score:
    """NaN where no pair had two readable answers."""
    if not both:
        return Score(float("nan"), f"flips|{label(judge)}|pairs:0")
    flips = [pair in (("first", "first"), ("second", "second")) for pair in both]
    return share_score(flips, f"flips|{label(judge)}")


def label(judge: Judge) -> str:
    options = ",".join(f"{name}={value}" for name, value in sorted(judge.options.items()))
    asked = sha256(f"{ASK}{SHOW}{judge.criteria}".encode()).hexdigest()[:8]
    return f"judge|model:{judge.model}|{options}|question:{asked}"


def lengths(pairs: list, verdicts: list[str], decided: list[int]) -> tuple[float, float]:
    """Mean number of words of the stories that won, and of those that lost."""
    if not decided:
        return float("nan"), float("nan")
    counted = [[len(words(story)) for story in pairs[index][1:]] for index in decided]
    won = [two if verdicts[index] == "win" else two[::-1] for index, two in zip(decided, counted, strict=True)]
    return tuple(map(mean, zip(*won, strict=True)))


class Cache:
    """Answers by the hash of what was asked, in a JSONL file that is only ever added to; threads may share it."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.lock, self.rows = Path(path), Lock(), {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                self.rows[row["key"]] = row
            except (ValueError, KeyError, TypeError):  # torn when a program was killed: it is asked again
                continue
        if text and not text.endswith("\n"):
            self.append("")

    def append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def get(self, key: str) -> dict | None:
        return self.rows.get(key)

    def put(self, key: str, row: dict) -> None:
        with self.lock:
            self.rows[key] = row = {"key": key, **row}
            self.append(json.dumps(row, ensure_ascii=False))


def key_of(url: str, asked: Mapping) -> str:
    return sha256(json.dumps([url, asked], sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def ask_all(judge: Judge, orders: Sequence[dict], cache: Cache) -> tuple[list[dict | None], int]:
    """The answer to each request, None for one that failed to the end, and how many came from the cache.

    The first error that concerns all requests ends it: what is under way is waited for and kept.
    """
    keys = [key_of(judge.url, asked) for asked in orders]
    missing = {key: asked for key, asked in zip(keys, orders, strict=True) if not cache.get(key)}
    if missing:
        ask = asker(judge)
        pool = ThreadPoolExecutor(judge.concurrency)
        try:
            jobs = [pool.submit(keep, ask, cache, key, asked) for key, asked in missing.items()]
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return list(map(cache.get, keys)), sum(key not in missing for key in keys)


def keep(ask: Callable[[dict], dict | None], cache: Cache, key: str, asked: dict) -> None:
    answer = ask(asked)
    if answer is not None:
        cache.put(key, answer)


def asker(judge: Judge) -> Callable[[dict], dict | None]:
    """A function that sends a request and gives the answer and its tokens, or None where it failed to the end."""
    import openai  # a second to load

    client = openai.OpenAI(
        base_url=judge.url, api_key=find_key(judge), timeout=judge.timeout, max_retries=judge.retries
    )

    def ask(asked: dict) -> dict | None:
        try:
            reply = client.chat.completions.create(**asked)
            usage = reply.usage
            read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
            return {"answer": reply.choices[0].message.content or "", "read": read, "written": written}
        except openai.APITimeoutError:
            return None
        except openai.APIConnectionError as error:
            reason = error.__cause__ or error
            raise UserError(
                f"nobody answers at {judge.url}: {reason}; start the server or check the address"
            ) from error
        except (openai.RateLimitError, openai.InternalServerError, openai.APIResponseValidationError):
            return None
        except openai.APIStatusError as error:
            advice = "check the address, the model's name, the options and OPENAI_API_KEY"
            raise UserError(f"{judge.url} refused with {error.status_code}: {said_why(error)}; {advice}") from error
        except (AttributeError, IndexError, TypeError, ValueError):  # an answer of another form
            return None

    return ask


def said_why(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())[:200]


def find_key(judge: Judge) -> str:
    """The judge's key, that of the environment or of the host's secret store, or one that means nothing."""
    if judge.key or os.environ.get("OPENAI_API_KEY"):
        return judge.key or os.environ["OPENAI_API_KEY"].strip()
    from storylib.hub import secret

    return (secret(where(), "OPENAI_API_KEY") or LOCAL).strip()
