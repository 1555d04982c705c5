"""Encoders of latent actions: from the first and the last pictures of a gap, and those between, to tokens of what changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.models.blocks import SpaceTimeTransformer
from dataengine.models.latent_config import LatentActionConfig

POINTS = 32  # feature points of a picture
READ = 256  # width of the last hidden layer
SIDE = 8  # places a side that features are pooled to before they are read
PATCH = 8  # px a side of a transformer's tokens


class ConvBlock(nn.Module):
    """Two convolutions added to what they were given; at first they add nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


def expectation(logits: Tensor) -> Tensor:
    """Return where the mass of each channel lies after a softmax over the picture (Levine et al. 2016): (B, C, H, W) → (B, C, 2) as x, y in [-1, 1]."""
    height, width = logits.shape[-2:]
    mass = logits.flatten(2).softmax(-1).unflatten(-1, (height, width))
    x = (mass.sum(-2) * torch.linspace(-1, 1, width, device=logits.device)).sum(-1)
    y = (mass.sum(-1) * torch.linspace(-1, 1, height, device=logits.device)).sum(-1)
    return torch.stack([x, y], dim=-1)


class DifferenceEncoder(nn.Module):
    """The difference of two pictures' own embeddings, as LAPA takes it: no change is 0, the way back is the negative, and the parts of a way add up to the whole.

    A picture is embedded by where its features are and what they are, so that latents are differences of coordinates of what is seen: the same motion has much the same
    latent wherever it begins, which is what a linear probe asks for.
    """

    def __init__(self, config: LatentActionConfig, outputs: int) -> None:
        super().__init__()
        width = config.width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *[ConvBlock(2 * width) for _ in range(config.depth)],
        )
        self.points = nn.Conv2d(2 * width, POINTS, 1)
        self.content = nn.Sequential(
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1),
            ConvBlock(3 * width),
            nn.SiLU(),
            nn.Conv2d(3 * width, 8, 1),
            nn.AdaptiveAvgPool2d(SIDE),
        )
        self.read = nn.Sequential(nn.Linear(2 * POINTS + 8 * SIDE * SIDE, READ), nn.SiLU(), nn.Linear(READ, outputs))

    def embed(self, pictures: Tensor) -> Tensor:
        """Return (N, outputs) of pictures (N, 3, H, W)."""
        found = self.stem(pictures)
        places = 4 * expectation(self.points(found)).flatten(1)
        return self.read(torch.cat([places, self.content(found).flatten(1)], dim=1))

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, outputs) of clips (B, F, 3, H, W): the last picture's embedding less the first's."""
        first, last = self.embed(torch.cat([clips[:, 0], clips[:, -1]])).chunk(2)
        return last - first


def with_changes(clips: Tensor) -> Tensor:
    """Return the pictures of a clip (B, F, 3, H, W) and, four times as strong, how each differs from the first: (B, 2F - 1, 3, H, W)."""
    return torch.cat([clips, 4 * (clips[:, 1:] - clips[:, :1])], dim=1)


class PairEncoder(nn.Module):
    """Convolutions over the pictures of a clip and their differences, side by side at the same places."""

    def __init__(self, config: LatentActionConfig, outputs: int) -> None:
        super().__init__()
        width = config.width
        self.body = nn.Sequential(
            nn.Conv2d(3 * (2 * config.frames - 1), width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *[ConvBlock(2 * width) for _ in range(config.depth)],
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1),
            *[ConvBlock(3 * width) for _ in range(config.depth)],
            nn.GroupNorm(8, 3 * width),
            nn.SiLU(),
            nn.Conv2d(3 * width, 16, 1),
            nn.AdaptiveAvgPool2d(SIDE),
        )
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(16 * SIDE * SIDE, READ), nn.SiLU(), nn.Linear(READ, outputs))

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, outputs) of clips (B, F, 3, H, W)."""
        return self.read(self.body(with_changes(clips).flatten(1, 2)))


class TransformerEncoder(nn.Module):
    """Attention over the patches of all pictures and, with each picture, one place for each token of the latent; those of the last picture are read."""

    def __init__(self, config: LatentActionConfig, outputs: int) -> None:
        super().__init__()
        self.tokens, width = config.bottleneck.tokens, config.width
        self.patches = nn.Conv2d(6, width, PATCH, stride=PATCH)
        places = (config.size[0] // PATCH) * (config.size[1] // PATCH)
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        self.asked = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.body = SpaceTimeTransformer(width, config.depth, config.heads)
        self.read = nn.Linear(width, outputs // self.tokens)

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, outputs) of clips (B, F, 3, H, W)."""
        batch, frames = clips.shape[:2]
        seen = torch.cat([clips, 4 * (clips - clips[:, :1])], dim=2)  # (B, F, 6, H, W)
        x = self.patches(seen.flatten(0, 1)).flatten(2).transpose(1, 2) + self.place  # (B F, S, C)
        x = torch.cat([self.asked.expand(batch, frames, -1, -1), x.unflatten(0, (batch, frames))], dim=2)
        return self.read(self.body(x)[:, -1, : self.tokens]).flatten(1)


ENCODERS: dict[str, Callable[[LatentActionConfig, int], nn.Module]] = {
    "difference": DifferenceEncoder,
    "pair": PairEncoder,
    "transformer": TransformerEncoder,
}
