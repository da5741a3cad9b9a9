"""Does the story tell of what the prompt asked for?"""

import re
from collections.abc import Mapping, Sequence

from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories, clusters, mean_score

LONG = 5  # letters from which a form may go on in any way
DOUBLING = re.compile(r"[^aeiou][aeiou][^aeiouvwxy]$")  # pup, puppy; star, starry, but not "stared"


def concept_coverage(
    stories: Sequence[str], concepts: Sequence[Sequence[str]], forms: Mapping[str, Sequence[str]]
) -> Score:
    """Mean number of its concepts that a story names: 0 to 3 for the three emojis of a prompt.

    concepts: for each story the names of its concepts, such as ("hedgehog", "castle", "learning").
    forms: the words, or beginnings of words, by which a concept is named beside its own name.

    A word names a concept if it begins with one of its forms, upper or lower case, within three limits, since "been" is
    no bee and "sharp" no sharing:
    - the longest form that a word begins with decides ("princess" names no prince, "fairy" no fair);
    - a form of five letters or more may go on in any way ("friend" in "friendship");
    - a shorter one may only be inflected ("bee" in "bees", "hum" in "hummed", "dog" in "doggy", not "cat" in "catch"),
      except that a stem of the concept's own name may also go on with e or i ("shar" in "share", not in "shark").
    Being a matter of spelling it still takes "waved" for the sea, and misses "snowman" for snow.

    The interval draws the stories of the same concepts together. Raises UserError for unequal lengths, no stories, or a
    story without concepts; TypeError for a str where a list is needed.
    """
    check_stories(stories)
    check_concepts(stories, concepts)
    everything = {name: () for wanted in concepts for name in wanted} | dict(forms)
    pattern, owners = compile_forms(everything)
    counts = []
    for story, wanted in zip(stories, concepts, strict=True):
        named = {name for match in pattern.finditer(story) for name in owners[match.lastindex - 1]}
        counts.append(len(named & set(wanted)))
    signature = "coverage|match:beginnings|short:inflected|longest:wins"
    return mean_score(counts, signature, clusters([tuple(wanted) for wanted in concepts]))


def compile_forms(forms: Mapping[str, Sequence[str]]) -> tuple[re.Pattern[str], list[list[str]]]:
    """A pattern with one group per form, the longest form first, and for each group the concepts it names."""
    owners: dict[str, list[str]] = {}
    for name, words in forms.items():
        if isinstance(words, str):
            raise TypeError(f"forms[{name!r}] must be a list of words, got {words!r}; put it in a list: [{words!r}]")
        for form in dict.fromkeys(form.lower() for form in (name, *words)):
            owners.setdefault(form, []).append(name)
    ordered = sorted(owners, key=len, reverse=True)
    branches = (f"({re.escape(form)}){endings(form, owners[form])}" for form in ordered)
    return re.compile(rf"\b(?:{'|'.join(branches)})\b", re.IGNORECASE), [owners[form] for form in ordered]


def endings(form: str, names: Sequence[str]) -> str:
    """A pattern of what may follow `form` up to the end of the word, where `form` names the concepts `names`."""
    if len(form) >= LONG:
        return r"\w*"
    doubled = f"{form[-1]}(?:ed|ing|y)"
    verbal = "d" if form.endswith("e") else doubled if DOUBLING.search(form) else "ed|ing"
    stem = any(name.startswith(form) and name != form for name in names)
    plural = "es" if form.endswith(("s", "x", "z", "h")) else "s"
    return rf"(?:{plural}|{verbal}|[ei]\w*)?" if stem else f"(?:{plural}|{verbal})?"


def check_concepts(stories: Sequence[str], concepts: Sequence[Sequence[str]]) -> None:
    if len(stories) != len(concepts):
        raise UserError(f"each story needs its concepts, got {len(stories)} stories and {len(concepts)} lists of them")
    for index, wanted in enumerate(concepts):
        if isinstance(wanted, str):
            raise TypeError(f"concepts[{index}] must be a list of names such as ['fox', 'sea', 'hope'], got {wanted!r}")
        if not wanted:
            raise UserError(f"concepts[{index}] is empty: nothing to look for")
