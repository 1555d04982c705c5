"""A continuous bottleneck: a Gaussian for each channel, drawn to the standard one by a small weight (Kingma and Welling 2014), as AdaWorld and DreamDojo have it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dataengine.models.bottleneck import Passed


def kl_to_standard(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) ‖ N(0, 1)) in nats of each channel: (μ² + σ² - ln σ² - 1) / 2."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


class Vae(nn.Module):
    """Tokens that pass as draws from N(μ, σ²); where labels are made, μ passes."""

    passed_nats: Tensor
    seen: Tensor

    def __init__(self, tokens: int, dimension: int, beta: float = 1e-4) -> None:
        super().__init__()
        self.inputs, self.size, self.beta = 2 * dimension, None, beta
        self.register_buffer("passed_nats", torch.zeros(()))  # running mean
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, generator: torch.Generator) -> Passed:
        mean, log_variance = self._parts(x.float())
        nats = kl_to_standard(mean, log_variance).sum((1, 2)).mean()
        if self.training:
            with torch.no_grad():
                self.seen += 1
                self.passed_nats.lerp_(nats.detach(), torch.clamp(1 / self.seen, min=0.02))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return Passed(mean + torch.exp(0.5 * log_variance) * noise, None, self.beta * nats, {"kl_nats": nats.detach()})

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._parts(x)[0], None

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = x.chunk(2, dim=-1)
        return mean, log_variance.clamp(-12, 4) - 2  # begins at σ = e⁻¹: noise at the start drowns what the decoder should learn to read

    def bits(self) -> float:
        return float(self.passed_nats) / math.log(2)
