"""Encoders of latent actions: from the first and the last pictures of a gap, and those between, to tokens of what changed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.models.blocks import RMSNorm, SpaceTimeTransformer


class ConvBlock(nn.Module):
    """Two convolutions added to what they were given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(8, width // 4), width)
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


def expectation(logits: Tensor) -> Tensor:
    """Return where each channel's mass lies after a softmax over the picture (spatial softmax, Levine et al. 2016): (B, C, H, W) → (B, C, 2) as x, y in [-1, 1]."""
    height, width = logits.shape[-2:]
    mass = logits.flatten(2).softmax(-1).unflatten(-1, (height, width))
    x = (mass.sum(-2) * torch.linspace(-1, 1, width, device=logits.device)).sum(-1)
    y = (mass.sum(-1) * torch.linspace(-1, 1, height, device=logits.device)).sum(-1)
    return torch.stack([x, y], dim=-1)


class DifferenceEncoder(nn.Module):
    """The difference of two pictures' own embeddings, as LAPA takes it: no change is 0, the way back is the negative, and the parts of a way add up to the whole.

    A picture is embedded by where its features are (spatial softmax) and what they are, so that latents are differences of coordinates.
    """

    def __init__(self, width: int, frames: int, outputs: int, depth: int = 1, points: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *[ConvBlock(2 * width) for _ in range(depth)],
        )
        self.points = nn.Conv2d(2 * width, points, 1)
        self.down = nn.Sequential(
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1), ConvBlock(3 * width), nn.SiLU(), nn.Conv2d(3 * width, 8, 1), nn.AdaptiveAvgPool2d(8)
        )
        self.read = nn.Sequential(nn.Linear(2 * points + 8 * 64, 256), nn.SiLU(), nn.Linear(256, outputs))

    def embed(self, frames: Tensor) -> Tensor:
        """Return (N, outputs) of pictures (N, 3, H, W)."""
        found = self.stem(frames)
        return self.read(torch.cat([4 * expectation(self.points(found)).flatten(1), self.down(found).flatten(1)], dim=1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return (B, outputs) of windows (B, F, 3, H, W): the last picture's embedding less the first's."""
        ends = torch.cat([frames[:, 0], frames[:, -1]])
        first, last = self.embed(ends).chunk(2)
        return last - first


class PairEncoder(nn.Module):
    """Convolutions over the pictures of a window and their differences side by side, at the same places."""

    def __init__(self, width: int, frames: int, outputs: int, depth: int = 1, points: int = 32) -> None:
        super().__init__()
        self.antisymmetric = False
        self.stem = nn.Sequential(nn.Conv2d(3 * (2 * frames - 1), width, 5, stride=2, padding=2), nn.SiLU())
        self.body = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *[ConvBlock(2 * width) for _ in range(depth)],
            nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1),
            *[ConvBlock(3 * width) for _ in range(depth)],
            nn.GroupNorm(8, 3 * width),
            nn.SiLU(),
            nn.Conv2d(3 * width, 16, 1),
            nn.AdaptiveAvgPool2d(8),
        )
        self.read = nn.Sequential(nn.Flatten(), nn.Linear(16 * 64, 256), nn.SiLU(), nn.Linear(256, outputs))

    def forward(self, frames: Tensor) -> Tensor:
        """Return (B, outputs) of windows (B, F, 3, H, W)."""
        if self.antisymmetric:
            one, two = self.one_way(torch.cat([frames, frames.flip(1)])).chunk(2)
            return one - two
        return self.one_way(frames)

    def one_way(self, frames: Tensor) -> Tensor:
        change = 4 * (frames[:, 1:] - frames[:, :1])
        return self.read(self.body(self.stem(torch.cat([frames, change], dim=1).flatten(1, 2))))
