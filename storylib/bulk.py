"""Stories for a file of prompts, appended to another file as they end; after a kill it goes on where it was."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from storylib import runs
from storylib.config import GenerationSettings
from storylib.data.reading import stream_rows
from storylib.decoding import Draft
from storylib.emoji import three
from storylib.errors import UserError
from storylib.files import write_text
from storylib.generation import draft, prompt_tokens, stories
from storylib.parallel import processes
from storylib.prompts import emoji_prompt

Key = tuple[str, int]  # the row's id and the seed: what a story is known by
PART = 2**16  # bytes that are looked at a time


@dataclass(frozen=True)
class Ask:
    """One story that is asked for."""

    id: str | int
    prompt: str
    seed: int

    @property
    def key(self) -> Key:
        return str(self.id), self.seed


class Prompts:
    """The prompts of a JSONL or CSV file, read anew each time, one row at a time.

    A row has a `prompt`, or emojis: `emojis`, or `role`, `place` and `theme`. It may have an `id`; else its number
    counts. known, names: what `prompts.emoji_prompt` wants to know of the model.
    """

    def __init__(self, path: Path, seeds: int, known: Mapping[str, str], names: bool = True) -> None:
        self.path, self.seeds, self.known, self.names = path, seeds, known, names

    def __iter__(self) -> Iterator[Ask]:
        for number, row in enumerate(stream_rows(self.path), start=1):
            known_as = number if row.get("id") is None else row["id"]
            prompt = self.prompt(row, number)
            for seed in range(self.seeds):
                yield Ask(known_as, prompt, seed)

    def prompt(self, row: Mapping, number: int) -> str:
        if isinstance(row.get("prompt"), str) and row["prompt"]:
            return row["prompt"]
        emojis = row.get("emojis") or "".join(str(row.get(kind, "")) for kind in ("role", "place", "theme"))
        if isinstance(emojis, list):
            emojis = "".join(map(str, emojis))
        if not emojis or not isinstance(emojis, str):
            raise UserError(f"row {number} of {self.path} has neither a prompt nor emojis")
        return emoji_prompt(three(emojis), self.known, self.names)

    def check(self, check_prompt: Callable[[str], object]) -> int:
        """How many stories are asked for. Raises UserError for a file without rows, an id that comes twice, and what
        `check_prompt` raises."""
        seen: set[Key] = set()
        for ask in self:
            if ask.key in seen:
                raise UserError(f"{self.path} has the id {ask.id!r} twice; a story is known by the id of its prompt")
            if ask.seed == 0:
                check_prompt(ask.prompt)
            seen.add(ask.key)
        if not seen:
            raise UserError(f"{self.path} has no rows")
        return len(seen)


class Shelf:
    """An append-only JSONL file of stories that several processes of one machine write to.

    Each line is written whole under a lock that ends with its process. What a kill left of a line is cut off before
    the next is written, so a story is in the file once, or not at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.card = path.with_name(f"{path.stem}.run.json")
        self.lock = runs.lock_of(path)

    def open(self, card: Mapping) -> set[Key]:
        """The stories that are there already; UserError where they were told in another way than `card` says."""
        with self.lock:
            if self.card.exists():
                if other := runs.changes(runs.read_card(self.card), card):
                    raise UserError(f"{self.path} holds stories with {other}; choose another file with --out")
            elif self.path.exists():
                raise UserError(f"{self.path} exists already and is not of this command; choose another --out")
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.card, json.dumps(card, indent=1, ensure_ascii=False))
            self.path.touch()
            cut_torn_line(self.path)
            return {(str(row["id"]), row["seed"]) for row in stream_rows(self.path)}

    def append(self, row: Mapping) -> None:
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self.lock:
            cut_torn_line(self.path)
            with self.path.open("ab", buffering=0) as file:
                file.write(line)


def cut_torn_line(path: Path) -> None:
    """Cut a file off behind its last line end."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - PART)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                break
            end = start
        keep = start + place + 1 if end else 0
        if keep < file.seek(0, os.SEEK_END):
            file.truncate(keep)


def tell_all(
    model, tokenizer, prompts: Prompts, settings: GenerationSettings, shelf: Shelf, hashes: Mapping[str, str]
) -> int:
    """Append a story for each prompt and seed that has none yet; how many are asked for in all.

    Under `accelerate launch` each of n processes tells every n-th story. Memory doesn't grow with the prompts, but for
    their ids. hashes: of the prompts and of what tells the stories.

    Raises UserError before the first story where a prompt is missing or too long, an id comes twice, or the file holds
    stories told in another way.
    """
    state = processes()
    total = prompts.check(lambda prompt: prompt_tokens(model, tokenizer, prompt))
    how = {name: value for name, value in asdict(settings).items() if name != "batch_size"}
    with runs.Run(shelf.path.with_name(f"{shelf.path.name} as process {state.process_index}")).alone():
        done = shelf.open({"recipe": how, "hashes": dict(hashes)})
        state.wait_for_everyone()  # none writes before all have read
        mine = islice(enumerate(prompts), state.process_index, None, state.num_processes)
        asked = ((number, ask) for number, ask in mine if ask.key not in done)
        begun: dict[int, Ask] = {}

        def drafts() -> Iterator[Draft]:
            for number, ask in asked:
                begun[number] = ask
                yield draft(model, tokenizer, ask.prompt, ask.seed, settings, number)

        share = -(-(total - len(done)) // state.num_processes)
        with tqdm(total=share, unit=" stories", disable=not state.is_main_process) as bar:
            for number, story in stories(model, tokenizer, drafts(), settings):
                shelf.append({"id": begun.pop(number).id} | asdict(story))
                bar.update()
        state.wait_for_everyone()
    return total
