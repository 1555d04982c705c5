"""What stands between an encoder and a decoder of actions: little enough passes that it is the change that passes, not the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Passed:
    """What a bottleneck lets through.

    `latent` (B, L, D) goes to the decoder; `codes` (B, L) int64 say the same where it is discrete, None where it is not. `loss` is a scalar that is added to the
    training loss, `figures` are scalars to be logged.
    """

    latent: Tensor
    codes: Tensor | None
    loss: Tensor
    figures: dict[str, Tensor] = field(default_factory=dict)


class Bottleneck(Protocol):
    """A module of L tokens with D channels each.

    `inputs` is how many channels a token needs from the encoder, `size` how many different codes a token has, None where it is continuous.
    """

    inputs: int
    size: int | None

    def __call__(self, x: Tensor, generator: torch.Generator) -> Passed:
        """Let tokens (B, L, inputs) through in training; all that is random comes from the generator."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latents (B, L, D) and codes (B, L): what a row becomes depends on that row alone."""

    def bits(self) -> float:
        """Return its capacity in bits: of codes the logarithm of their number, else the information that passed on average, nats of KL over ln 2."""


class Standardiser(nn.Module):
    """Scale each channel to mean 0 and standard deviation 1 by running statistics: magnitudes stay comparable between rows, which a norm over channels would undo.

    In training each batch is scaled by its own statistics.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x (B, *shape)."""
        if self.training and len(x) > 1:
            mean, variance = x.mean(0), x.var(0, unbiased=False)
            with torch.no_grad():
                self.seen += 1
                share = torch.clamp(1 / self.seen, min=self.momentum)  # a plain mean at first
                self.mean.lerp_(mean.detach().to(self.mean), share)
                self.variance.lerp_(variance.detach().to(self.variance), share)
        else:
            mean, variance = self.mean, self.variance
        return (x - mean) * torch.rsqrt(variance + 1e-6)
