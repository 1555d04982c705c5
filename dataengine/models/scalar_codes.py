"""Finite scalar quantisation (Mentzer et al. 2023): each channel is rounded to one of a few levels; the codes are all combinations, and no codebook is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dataengine.models.bottleneck import Passed, Standardiser
from dataengine.models.vector_codes import perplexity


class Fsq(nn.Module):
    """Tokens whose D channels take `levels` evenly spaced values in [-1, 1].

    Channels are standardised before the tanh, so that all levels are in use from the first step on and rounding to zero alone cannot pay: with spread 1 a level is farthest at
    tanh(1) of the way out, whatever the encoder's scale is. Gradients pass straight through the rounding. A latent holds L Σ log2(levels) bits.
    """

    def __init__(self, tokens: int, levels: tuple[int, ...] = (5, 5, 5)) -> None:
        super().__init__()
        self.tokens, self.levels = tokens, tuple(levels)
        self.inputs, self.size = len(levels), math.prod(levels)
        self.standardise = Standardiser((tokens, len(levels)))
        self.register_buffer("steps_of", torch.tensor(levels, dtype=torch.float32), persistent=False)
        places = [math.prod(levels[channel + 1 :]) for channel in range(len(levels))]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    steps_of: Tensor
    places: Tensor

    def forward(self, x: Tensor, generator: torch.Generator) -> Passed:
        bounded = torch.tanh(self.standardise(x.float()))
        digits = self._digits(bounded.detach())
        values = self.values(self.codes(digits))
        codes = self.codes(digits)
        return Passed(bounded + (values - bounded).detach(), codes, x.new_zeros(()), {"perplexity": perplexity(codes, self.size)})

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.codes(self._digits(torch.tanh(self.standardise(x))))
        return self.values(codes), codes

    def _digits(self, bounded: Tensor) -> Tensor:
        """Return the level of each channel: (..., D) in [-1, 1] → (..., D) int64 in [0, levels)."""
        return torch.round((bounded + 1) / 2 * (self.steps_of - 1)).to(torch.int64)

    def codes(self, digits: Tensor) -> Tensor:
        """Return the number that the levels of a token stand for, the first channel most significant: (..., D) → (...)."""
        return (digits * self.places).sum(-1)

    def values(self, codes: Tensor) -> Tensor:
        """Return the channels of codes: (...) → (..., D) in [-1, 1]."""
        digits = codes[..., None] // self.places % self.steps_of.to(torch.int64)
        return 2 * digits / (self.steps_of - 1) - 1

    def bits(self) -> float:
        return self.tokens * math.log2(self.size)
