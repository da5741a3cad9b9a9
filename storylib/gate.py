"""A gate before a child's ears: a story with something unfit in it is told again, by another seed, or not at all."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storylib.errors import UserError
from storylib.metrics.safety import Find, unsafe

if TYPE_CHECKING:
    from storylib.generation import Story

TRIES = 5
STEP = 1_000_000  # from a seed to the next try's: far from the seeds that a reader asks for


@dataclass(frozen=True)
class Rejected:
    """A story that was not let through, and what was found in it; nothing, where it is empty."""

    story: "Story"
    finds: tuple[Find, ...]

    @property
    def reason(self) -> str:
        return "; ".join(f"{find.category}: {find.term!r}" for find in self.finds) or "an empty story"


@dataclass(frozen=True)
class Told:
    """The story that came through, or None where no try did, and what was rejected before it."""

    story: "Story | None"
    rejected: tuple[Rejected, ...] = ()

    def checked(self) -> "Story":
        """The story. Raises UserError that says why there is none."""
        if self.story is None:
            reasons = Counter(rejected.reason for rejected in self.rejected).most_common()
            listed = ", ".join(f"{reason} ({count} x)" for reason, count in reasons)
            raise UserError(f"no story fit for children in {len(self.rejected)} tries, but {listed}; try another seed")
        return self.story


def tell_safely(
    tell: Callable[..., list["Story"]],
    prompts: Sequence[str],
    seeds: Sequence[int] | int = 0,
    language: str = "en",
    tries: int = TRIES,
) -> list[Told]:
    """One story per prompt in which `metrics.safety.unsafe` finds nothing, in the order of the prompts.

    tell: called with prompts and `seeds`, gives a story for each: `partial(generate, model, tokenizer,
        settings=settings)`.
    tries: stories per prompt at most, each by another seed; after the last one `Told.story` is None.

    The same prompts and seeds give the same stories. The gate looks at spelling: an adult reads first all the same.
    Raises UserError for a prompt that itself asks for something unfit, for fewer tries than one, seeds of another
    number than prompts and a language without lists.
    """
    seeds = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
    if tries < 1 or len(seeds) != len(prompts):
        raise UserError(
            f"as many seeds as prompts are needed, and a try; got {len(prompts)}, {len(seeds)} and {tries} tries"
        )
    for prompt in prompts:
        check_prompt(prompt, language)
    told = [Told(None)] * len(prompts)
    for attempt in range(tries):
        open_ = [index for index, so_far in enumerate(told) if so_far.story is None]
        if not open_:
            break
        stories = tell([prompts[index] for index in open_], seeds=[seeds[index] + STEP * attempt for index in open_])
        for index, story in zip(open_, stories, strict=True):
            told[index] = judged(story, told[index].rejected, language)
    return told


def judged(story: "Story", before: tuple[Rejected, ...], language: str) -> Told:
    """The story, or one more rejection."""
    finds = tuple(unsafe(story.text, language))
    if finds or not story.text.strip():
        return Told(None, (*before, Rejected(story, finds)))
    return Told(story, before)


def check_prompt(prompt: str, language: str = "en") -> None:
    """Raises UserError where a prompt asks for something that the gate would reject, such as 🍺, a beer mug."""
    if finds := unsafe(prompt, language):
        listed = ", ".join(dict.fromkeys(f"{find.term!r} ({find.category})" for find in finds))
        raise UserError(f"{prompt.strip()!r} asks for {listed}, which is nothing for children; ask for something else")
