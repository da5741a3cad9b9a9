"""Stories written side by side, one token each at a time; who ends makes room for the next (continuous batching).

A story has a slot of its own in a preallocated cache and stands at its own place in it, so nothing is padded while
stories grow, and a story is the same whoever its neighbours are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import Cache, DynamicCache, PreTrainedModel, TextStreamer
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from storylib.choosing import Choice
from storylib.config import GenerationSettings
from storylib.runtime import sharded

BLOCK = 64  # places that a slot grows by


@dataclass
class Draft:
    """A story in the making."""

    number: int  # whose turn it was
    prompt: str
    seed: int
    ids: list[int]  # the prompt's tokens, and the story's as they are written
    begins: int  # where in `ids` the story begins
    room: int  # tokens that the story may have
    generator: torch.Generator  # of its choices

    @property
    def story(self) -> list[int]:
        return self.ids[self.begins :]


def has_slots(model: PreTrainedModel) -> bool:
    """Whether `write` can be used: a decoder whole on one device, each of its layers looking back equally far."""
    config, layers = model.config, DynamicCache(config=model.config).layers
    return (
        not sharded()
        and not config.is_encoder_decoder
        and not getattr(config, "alibi", False)
        and config._attn_implementation == "sdpa"  # takes a mask of any shape
        and len(set(getattr(model, "hf_device_map", {}).values())) <= 1
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
        and len({look_back(layer) for layer in layers}) == 1
    )


def look_back(layer: CacheLayerMixin) -> int | None:
    """How many tokens a layer sees, its own included; None for all."""
    return getattr(layer, "sliding_window", None)


def write(
    model: PreTrainedModel,
    drafts: Iterator[Draft],
    settings: GenerationSettings,
    eos: int,
    streamer: TextStreamer | None = None,
) -> Iterator[Draft]:
    """Each draft once it has come to `eos` or to the end of its room, in the order in which they end.

    Drafts are taken from the iterator when there is room for them, `settings.batch_size` at a time.
    """
    slots, choice, live = Slots(model), Choice(settings), []
    few = max(1, settings.batch_size // 8)  # a pass over prompts takes about as long for few as for one
    while True:
        room = settings.batch_size - len(live)
        if room >= few or not live:
            slots.admit(new := list(islice(drafts, room)), len(live))
            live += new
            if new and streamer:
                streamer.put(torch.tensor(new[0].ids))  # it wants to be shown the prompt, to leave it out
        if not live:
            return
        logits = slots.step(live)  # (B, V)
        said = side_by_side(live, logits.device) if choice.looks_back else None
        tokens = choice(said, logits, [draft.generator for draft in live]).tolist()
        for row in reversed(range(len(live))):  # backwards, for the last one moves into a gap
            draft, token = live[row], tokens[row]
            draft.ids.append(token)
            if streamer:
                streamer.put(torch.tensor([token]))
            if token == eos or len(draft.ids) == draft.begins + draft.room:
                last = live.pop()
                if last is not draft:
                    live[row] = last
                    slots.move(len(live), row)
                if streamer:
                    streamer.end()
                yield draft


def side_by_side(live: Sequence[Draft], device: torch.device) -> torch.Tensor:
    """The tokens of all drafts, (B, T), ending together, with -1 in front of shorter ones."""
    longest = max(len(draft.ids) for draft in live)
    return torch.tensor([[-1] * (longest - len(draft.ids)) + draft.ids for draft in live], device=device)


class Slots:
    """The keys and values of live drafts: row by row, each token at its own place."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        kinds = DynamicCache(config=model.config).layers
        self.cache = Cache(layers=[SlotLayer(self) for _ in kinds])
        self.look_back = look_back(kinds[0])
        self.number = self.capacity = 0  # slots, and places in each
        # Of the pass at hand: it writes to `places`, (B, T), of the slots from `first` on, and reads the first `width`
        # places of them, or no more than its own tokens where that is 0.
        self.places: torch.Tensor | None = None
        self.first = self.width = 0

    def admit(self, new: Sequence[Draft], first: int) -> None:
        """Read the prompts of new drafts into the slots from `first` on, all but their last tokens."""
        reach = max((draft.begins + draft.room for draft in new), default=0)
        self.number, self.capacity = max(self.number, first + len(new)), max(self.capacity, -(-reach // BLOCK) * BLOCK)
        longest = max((len(draft.ids) for draft in new), default=1)
        if longest > 1:
            # Padded behind: no token looks at what comes after it, and a place is written again before it counts.
            ids = [draft.ids[:-1] + draft.ids[-1:] * (longest - len(draft.ids)) for draft in new]
            self.forward(ids, [range(longest - 1)] * len(new), first, 0)

    def step(self, live: Sequence[Draft]) -> torch.Tensor:
        """The logits after the last token of each draft, (B, V); that token is read into the draft's slot."""
        ends = [len(draft.ids) for draft in live]
        return self.forward([draft.ids[-1:] for draft in live], [[end - 1] for end in ends], 0, max(ends))

    def forward(self, ids: list[list[int]], places: list[Sequence[int]], first: int, width: int) -> torch.Tensor:
        ids, self.places = torch.tensor([ids, [list(row) for row in places]]).to(self.model.device)  # (B, T) each
        self.first, self.width = first, width
        seen = torch.arange(width or ids.shape[1], device=ids.device)
        mask = seen <= self.places[..., None]  # (B, T, width)
        if self.look_back:
            mask &= seen > self.places[..., None] - self.look_back
        output = self.model(
            input_ids=ids,
            attention_mask=mask[:, None],
            position_ids=self.places,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]  # (B, V)

    def move(self, source: int, target: int) -> None:
        for layer in self.cache.layers:
            layer.keys[target], layer.values[target] = layer.keys[source], layer.values[source]


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values: (slots, heads, places, dimensions)."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self.slots = slots

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what this pass computed, (B, heads, T, dimensions), and hand out what it looks at."""
        self.keys, self.values = self.kept(self.keys, keys), self.kept(self.values, values)
        if not (width := self.slots.width):
            return keys, values
        return self.keys[: len(keys), :, :width], self.values[: len(keys), :, :width]

    def kept(self, old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        first, last = self.slots.first, self.slots.first + len(new)
        if old is None:
            # Zeros: what is masked counts nothing times what lies there, and nothing times NaN is NaN.
            old = new.new_zeros(self.slots.number, new.shape[1], self.slots.capacity, new.shape[3])
        rows, places = self.slots.number - old.shape[0], self.slots.capacity - old.shape[2]
        if rows or places:
            old = torch.nn.functional.pad(old, (0, 0, 0, places, 0, 0, 0, rows))
        old[torch.arange(first, last, device=new.device)[:, None], :, self.slots.places] = new.transpose(1, 2)
        return old

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The first update does it."""

    def get_mask_sizes(self, query_length: int | torch.Tensor) -> tuple[int, int]:
        return self.slots.width or (query_length if isinstance(query_length, int) else len(query_length)), 0

    def get_seq_length(self) -> int:
        return 0  # every place is said outright

    def get_max_length(self) -> int:
        return self.slots.capacity

    get_max_cache_shape = get_max_length  # its name in transformers 5.0, where places stand for the query's length
