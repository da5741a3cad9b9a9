"""Which token comes next: repetition controls, temperature, top-k and top-p, then a seeded choice."""

from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from storylib.config import GenerationSettings


class Choice:
    """Chooses the next token of each row of a batch by `settings`.

    A row's choice depends on its own scores and generator alone, never on its neighbours: Gumbel noise from one
    generator per row makes the arg-max a sample of the row's softmax (https://arxiv.org/abs/1611.00712, section 2).
    """

    def __init__(self, settings: GenerationSettings) -> None:
        self.settings = settings
        penalty, n = settings.repetition_penalty, settings.no_repeat_ngram
        self.penalty = RepetitionPenaltyLogitsProcessor(penalty) if penalty != 1.0 else None
        self.no_repeats = NoRepeatNGramLogitsProcessor(n) if n else None

    @property
    def looks_back(self) -> bool:
        """Whether what was said before counts."""
        return bool(self.penalty or self.no_repeats)

    def left(self, said: torch.Tensor | None, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the settings leave to choose from: scores and tokens, (B, k) each, the best first; -inf is ruled out.

        said: (B, T), the tokens so far, with -1 in front of shorter rows; None where the choice never looks back.
        scores: (B, V), the model's logits.
        """
        scores = scores.float()
        if self.penalty:
            scores = self.penalty(said.where(said >= 0, said[:, -1:]), scores)
        if self.no_repeats:
            scores = self.no_repeats(said, scores)
        if self.settings.temperature == 0:
            return scores.topk(1)
        # Top-k first: all that follows is then work on k numbers, and k numbers are all that leaves a GPU.
        best, tokens = scores.topk(min(self.settings.top_k or scores.shape[1], scores.shape[1]))
        best = best / self.settings.temperature
        if self.settings.top_p < 1:
            rest = best.softmax(-1).flip(-1).cumsum(-1).flip(-1)  # the share of a token and of all that are worse
            best[:, 1:].masked_fill_(rest[:, 1:] <= 1 - self.settings.top_p, -torch.inf)
        return best, tokens

    def __call__(
        self, said: torch.Tensor | None, scores: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> torch.Tensor:
        """The chosen tokens, (B,), on the CPU; arguments as in `left`, and a generator for each row."""
        width = scores.shape[1]
        best, tokens = (part.cpu() for part in self.left(said, scores))  # (B, k)
        if self.settings.temperature > 0:
            best = best + gumbel(tokens, width, generators)
        return tokens.gather(1, best.argmax(-1, keepdim=True)).squeeze(1)


def gumbel(tokens: torch.Tensor, width: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Noise for `tokens`, (B, k). Each row's generator draws for the whole vocabulary, whatever is kept of it."""
    uniform = torch.empty(len(generators), width)  # (B, V)
    for row, generator in zip(uniform, generators, strict=True):
        torch.rand(width, generator=generator, out=row)
    return -torch.log(-torch.log(uniform.gather(1, tokens).clamp(1e-20, 1 - 1e-7)))


class ChosenAlone(LogitsProcessor):
    """A choice for `model.generate`, made to be greedy: all tokens but the chosen one are ruled out."""

    def __init__(self, choice: Choice, generators: Sequence[torch.Generator], mask: torch.Tensor) -> None:
        self.choice, self.generators = choice, generators
        self.mask = mask  # (B, T) of the prompts: 0 where a row is padded in front

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        said = input_ids.clone()  # (B, T + new)
        said[:, : self.mask.shape[1]][self.mask.to(said.device) == 0] = -1
        chosen = self.choice(said, scores, self.generators).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)
