"""Settings are data: frozen dataclasses for each step, checked where they are made."""

from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches

from storylib.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How the embedded base was made."""

    hidden: int = 256
    feed_forward: int = 704
    layers: int = 4
    heads: int = 8
    window: int = 512  # tokens
    steps: int = 4000
    batch_tokens: int = 3072  # padding counted
    muon_lr: float = 0.02
    adam_lr: float = 4e-3
    weight_decay: float = 0.05
    warmup: int = 100  # steps
    decay: float = 0.725  # share of the steps over which the rates fall to zero
    prompted: float = 0.6  # share of the stories with three of their words in front
    named_weight: float = 3.0  # loss weight of a prompted word where the story says it
    evaluate_every: int = 200  # steps
    checkpoint_every: int = 100  # steps
    compile: bool = True
    seed: int = 17


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"  # PEFT's word for every linear layer but the head
    embeddings: str = "none"  # that are learnt too: "names" of the corpus's emojis, or all of the "corpus"

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise UserError(f"rank must be at least 1 and dropout in [0, 1), got {self}")
        if self.embeddings not in ("none", "names", "corpus"):
            raise UserError(f"embeddings are learnt of none, names or corpus, got {self}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One fine-tuning run."""

    epochs: float = 1.0
    batch_size: int = 16  # stories per forward pass
    accumulate: int = 1  # forward passes per optimizer step
    learning_rate: float = 2e-4
    schedule: str = "linear"  # a name that transformers knows: linear, cosine, constant_with_warmup …
    warmup: float = 0.03  # share of the steps
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch"
    window: int = 512  # tokens of a row, prompt and end included
    evaluations: int = 4  # how often, about, the held-out loss and the samples are taken
    renew_embeddings: bool = False  # tokens of the corpus that the base cannot tell apart begin anew
    seed: int = 17

    def __post_init__(self) -> None:
        if self.epochs <= 0 or min(self.batch_size, self.accumulate, self.window, self.evaluations) < 1:
            raise UserError(f"epochs must be above 0 and sizes at least 1, got {self}")

    @property
    def effective_batch(self) -> int:
        return self.batch_size * self.accumulate


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How the next token is chosen; temperature 0 is greedy."""

    max_new_tokens: int = 200
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 50
    repetition_penalty: float = 1.0  # 1 is off
    no_repeat_ngram: int = 0  # tokens; 0 is off
    batch_size: int = 32  # stories side by side

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise UserError(f"temperature and top_k must be 0 or more and top_p in (0, 1], got {self}")
        if min(self.max_new_tokens, self.batch_size) < 1:
            raise UserError(f"max_new_tokens and batch_size must be at least 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One experiment: a corpus, a base, and how the one is taught to the other."""

    name: str  # job/profile
    corpus: str  # a name that storylib.data.load knows
    data: dict[str, str | bool | int] = field(default_factory=dict)  # its options
    base: str  # a folder or a Hub name
    lora: LoraSettings | None  # None trains all weights
    train: TrainSettings
    generate: GenerationSettings = GenerationSettings()
    four_bit: bool = True  # base in NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314)

    def __post_init__(self) -> None:
        if self.four_bit and self.lora is None:
            raise UserError(f"{self.name}: weights in 4 bits cannot be trained; set lora, or four_bit=False")
        if self.train.renew_embeddings and self.lora and self.lora.embeddings != "corpus":
            raise UserError(f"{self.name}: an adapter keeps renewed embeddings with lora.embeddings='corpus' only")


EMBEDDED_BASE = "data/base_model"
LLAMA2 = "meta-llama/Llama-2-7b-hf"
QWEN = "Qwen/Qwen2.5-7B"  # Apache-2.0, nothing to ask for; it reads Chinese, Portuguese and Japanese
TINY_LLAMA = "nickypro/tinyllama-42M"  # 42 M parameters, English TinyStories only

SIDE_BY_SIDE = GenerationSettings(batch_size=128)  # keys and values of 128 stories of the embedded base take 0.3 GB

# -- emojis ------------------------------------------------------------------------------------------------------------

EMOJI = Recipe(
    name="emoji/cpu",
    corpus="emoji",
    data={"level": "easy"},
    base=EMBEDDED_BASE,
    lora=LoraSettings(rank=64, alpha=64, embeddings="names"),
    train=TrainSettings(epochs=4.5, learning_rate=3e-3, evaluations=3),
    generate=SIDE_BY_SIDE,
)

# The prompt of the 2023 system: three emojis and not a word, so that their meaning must be learnt from the stories.
EMOJI_ALONE = replace(EMOJI, name="emoji/cpu-alone", data={"level": "easy", "names": False})

# As the 2023 system ran it, but with a pad token of its own, so that it learns to stop.
EMOJI_LLAMA2 = Recipe(
    name="emoji/llama2-7b",
    corpus="emoji",
    data={"level": "rich", "names": False},
    base="meta-llama/Llama-2-7b-chat-hf",
    lora=LoraSettings(rank=64, alpha=16, dropout=0.1),
    train=TrainSettings(
        epochs=1,
        batch_size=4,
        learning_rate=2e-4,
        schedule="constant",
        max_grad_norm=0.3,
        optimizer="paged_adamw_32bit",
    ),
    generate=GenerationSettings(temperature=1.0, top_p=1.0, top_k=10),
)

# What serves better on a T4: an open base, a rate that falls, names beside the emojis.
T4_TRAIN = TrainSettings(
    epochs=2, batch_size=4, accumulate=4, schedule="cosine", max_grad_norm=0.3, optimizer="paged_adamw_8bit"
)
EMOJI_T4 = Recipe(
    name="emoji/t4",
    corpus="emoji",
    data={"level": "rich"},
    base=QWEN,
    lora=LoraSettings(rank=16, alpha=32, dropout=0.05),
    train=T4_TRAIN,
)

# -- genres ------------------------------------------------------------------------------------------------------------

GENRE = Recipe(
    name="genre/cpu",
    corpus="genres",
    data={"lines": 20},  # the embedded base's window holds no 50
    base=EMBEDDED_BASE,
    lora=LoraSettings(rank=64, alpha=64),
    train=TrainSettings(epochs=4, batch_size=8, learning_rate=2e-3, evaluations=2),
    generate=replace(SIDE_BY_SIDE, repetition_penalty=1.1),
)
GENRE_FALCON = Recipe(
    name="genre/falcon-7b",
    corpus="genres",
    data={"source": "gutenberg"},
    base="tiiuae/falcon-7b-instruct",
    lora=LoraSettings(rank=16, alpha=32, dropout=0.05, targets=("query_key_value",)),
    train=TrainSettings(
        epochs=1, batch_size=1, accumulate=8, window=1024, schedule="constant", optimizer="paged_adamw_8bit"
    ),
)
GENRE_LLAMA2 = replace(
    GENRE_FALCON,
    name="genre/llama2-7b",
    base=LLAMA2,
    lora=LoraSettings(rank=16, alpha=32, dropout=0.05, targets=("q_proj", "v_proj")),
)
GENRE_T4 = replace(
    GENRE_FALCON,
    name="genre/t4",
    base=QWEN,
    lora=LoraSettings(rank=16, alpha=32, dropout=0.05),
    train=replace(T4_TRAIN, batch_size=1, accumulate=16, window=1024),
)

# -- wishes ------------------------------------------------------------------------------------------------------------

PERSONAL = Recipe(
    name="personal/cpu",
    corpus="personal",
    base=EMBEDDED_BASE,
    lora=LoraSettings(rank=64, alpha=64),
    train=TrainSettings(epochs=3, batch_size=8, learning_rate=2e-3, evaluations=2),
    generate=replace(SIDE_BY_SIDE, max_new_tokens=300, repetition_penalty=1.1),
)
PERSONAL_LLAMA2 = Recipe(
    name="personal/llama2-7b",
    corpus="personal",
    base=LLAMA2,
    lora=LoraSettings(rank=16, alpha=32, dropout=0.05),
    train=TrainSettings(
        epochs=1, batch_size=1, accumulate=16, window=1024, schedule="cosine", optimizer="paged_adamw_8bit"
    ),
    generate=GenerationSettings(max_new_tokens=500),
)
PERSONAL_MISTRAL = replace(PERSONAL_LLAMA2, name="personal/mistral-7b", base="mistralai/Mistral-7B-v0.1")
PERSONAL_GPT2 = replace(PERSONAL_LLAMA2, name="personal/gpt2", base="openai-community/gpt2", four_bit=False)
PERSONAL_T4 = replace(PERSONAL_LLAMA2, name="personal/t4", base=QWEN, train=replace(PERSONAL_LLAMA2.train, epochs=2))

# -- languages ---------------------------------------------------------------------------------------------------------


def language(name: str, code: str, epochs: float, rate: float) -> Recipe:
    """All weights of the 42 M base trained on stories of one language, as the 2024 system ran it."""
    return Recipe(
        name=f"language/{name}",
        corpus="languages",
        data={"language": code},
        base=TINY_LLAMA,
        lora=None,
        train=TrainSettings(epochs=epochs, batch_size=32, learning_rate=rate),
        four_bit=False,
    )


def on_cpu(code: str) -> tuple[Recipe, Recipe]:
    """All weights of the embedded base, and LoRA with the embeddings of tokens that it has never seen."""
    full = replace(
        language(f"{code}-cpu", code, 8, 1e-3),
        base=EMBEDDED_BASE,
        train=TrainSettings(epochs=8, batch_size=8, learning_rate=1e-3, warmup=0.1, renew_embeddings=True),
        generate=SIDE_BY_SIDE,
    )
    lora = LoraSettings(rank=64, alpha=64, embeddings="corpus")
    train = replace(full.train, learning_rate=3e-3)
    return full, replace(full, name=f"language/{code}-lora-cpu", lora=lora, train=train, four_bit=True)


def on_t4(code: str) -> Recipe:
    """A base that has read the language, in 4 bits: ours, beside the all-weights runs of 2024."""
    return replace(PERSONAL_T4, name=f"language/{code}-t4", corpus="languages", data={"language": code})


LANGUAGES = (
    language("zh", "zh", 8, 1e-4),
    language("zh-slow-8", "zh", 8, 3e-5),  # the control: not enough
    language("zh-slow-16", "zh", 16, 3e-5),
    language("pt", "pt", 8, 1e-4),
    language("ja", "ja", 90, 3e-5),
    language("ja-300", "ja", 300, 3e-5),
    *on_cpu("zh"),
    *on_cpu("pt"),
    *on_cpu("ja"),
    *map(on_t4, ("zh", "pt", "ja")),
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        *(EMOJI, EMOJI_ALONE, EMOJI_LLAMA2, EMOJI_T4),
        *(GENRE, GENRE_FALCON, GENRE_LLAMA2, GENRE_T4),
        *(PERSONAL, PERSONAL_LLAMA2, PERSONAL_MISTRAL, PERSONAL_GPT2, PERSONAL_T4),
        *LANGUAGES,
    )
}


def recipe(name: str) -> Recipe:
    """The recipe called `name`; a bare job such as "emoji" means its `cpu` recipe.

    Raises UserError with the nearest names for one that does not exist.
    """
    full = name if "/" in name else f"{name}/cpu"
    if full not in RECIPES:
        near = get_close_matches(full, RECIPES, cutoff=0.3) or list(RECIPES)
        raise UserError(f"no recipe {name!r}; did you mean {', '.join(near)}?")
    return RECIPES[full]


def settable(recipe: Recipe) -> dict[str, object]:
    """The settings of a recipe that `with_setting` changes, by name, such as "train.learning_rate"."""
    found: dict[str, object] = {"base": recipe.base, "four_bit": recipe.four_bit}
    parts = {"lora": recipe.lora, "train": recipe.train, "generate": recipe.generate}
    for part, settings in parts.items():
        if settings:
            found |= {f"{part}.{one.name}": getattr(settings, one.name) for one in fields(settings)}
    return found


def with_setting(recipe: Recipe, key: str, value: str) -> Recipe:
    """The recipe with one setting changed, its value in words; several `lora.targets` have commas between them.

    Raises UserError with the nearest names for a setting that the recipe hasn't got, and for a value that is none.

    >>> with_setting(EMOJI, "train.learning_rate", "1e-4").train.learning_rate
    0.0001
    """
    known = settable(recipe)
    if key not in known:
        near = get_close_matches(key, known, cutoff=0.3) or list(known)
        raise UserError(f"{recipe.name} has no setting {key!r}; did you mean {', '.join(near)}?")
    part, _, name = key.rpartition(".")
    changed = {name: parsed(key, value, known[key])}
    return replace(recipe, **({part: replace(getattr(recipe, part), **changed)} if part else changed))


def parsed(key: str, value: str, old: object) -> object:
    """A value in words, of the old one's kind."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(old, int | float):
            return type(old)(value)
    except (KeyError, ValueError):
        raise UserError(f"{key} is {kinds[type(old)]}, got {value!r}") from None
    return tuple(value.split(",")) if "," in value else value
