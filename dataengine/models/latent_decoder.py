"""The decoder of latent actions: what the first picture becomes under a latent. It never sees the picture that it is to tell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.models.blocks import SpaceTimeTransformer
from dataengine.models.latent_encoder import ConvBlock


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """Return a picture (B, C, H, W) moved by a flow (B, 2, H, W) in px, x then y: out[p] = picture[p - flow[p]], linear between pixels, beyond the edge the edge."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=picture.device, dtype=flow.dtype), torch.arange(width, device=picture.device, dtype=flow.dtype), indexing="ij"
    )
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=picture.device, dtype=flow.dtype)[:, None, None]
    places = ((torch.stack([x, y]) - flow) * scale - 1).permute(0, 2, 3, 1)
    return F.grid_sample(picture, places, mode="bilinear", padding_mode="border", align_corners=True)


def doubled(x: Tensor) -> Tensor:
    """Return feature maps at twice the size."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


@dataclass(frozen=True, eq=False)
class Told:
    """A picture (B, 3, H, W) that was told, and the flow (B, 2, H, W) in px of its parts."""

    picture: Tensor
    flow: Tensor


class Trunk(nn.Module):
    """Feature maps of a picture at a half, a quarter and an eighth of its size."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, width, 5, stride=2, padding=2), nn.SiLU())
        self.middle = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), ConvBlock(2 * width))
        self.coarse = nn.Sequential(nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1), *[ConvBlock(3 * width) for _ in range(depth)])

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.fine(picture)
        quarter = self.middle(half)
        return half, quarter, self.coarse(quarter)


class WarpDecoder(nn.Module):
    """Moves the first picture by a flow that is linear in the latent, and paints what the flow uncovers.

    The first picture alone gives a field for each channel of the latent, how each place moves with it; the flow is their sum. So a latent has to speak of motion, zero is
    rest, twice the latent twice the way.
    """

    def __init__(self, width: int, latent: int, depth: int, paint: bool) -> None:
        super().__init__()
        self.latent = latent
        self.trunk = Trunk(width, depth)
        self.to_quarter, self.at_quarter = nn.Conv2d(3 * width, 2 * width, 1), ConvBlock(2 * width)
        self.to_half, self.at_half = nn.Conv2d(2 * width, width, 1), ConvBlock(width)
        self.fields = nn.Conv2d(width, 2 * latent, 3, padding=1)
        nn.init.normal_(self.fields.weight, std=0.01)
        self.condition = nn.Linear(latent, 2 * width) if paint else None
        self.paint = nn.Sequential(nn.Conv2d(width + 5, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1)) if paint else None
        if self.paint is not None:
            nn.init.zeros_(self.paint[-1].weight)
            nn.init.zeros_(self.paint[-1].bias)

    def forward(self, first: Tensor, latent: Tensor, maps: tuple[Tensor, Tensor, Tensor] | None = None) -> Told:
        """Tell the picture that follows.

        Args:
            first: (B, 3, H, W).
            latent: (B, Z).
            maps: what `trunk` gives for `first`, where that is known.
        """
        half, quarter, eighth = self.trunk(first) if maps is None else maps
        quarter = self.at_quarter(F.silu(quarter + doubled(self.to_quarter(eighth))))
        half = self.at_half(F.silu(half + doubled(self.to_half(quarter))))  # (B, C, H/2, W/2)
        fields = self.fields(half).unflatten(1, (self.latent, 2))  # (B, Z, 2, H/2, W/2)
        coarse = torch.einsum("bz,bzchw->bchw", latent, fields)
        flow = doubled(coarse)
        moved = warped(first, flow)
        if self.paint is None or self.condition is None:
            return Told(moved, flow)
        scale, shift = self.condition(latent)[:, :, None, None].chunk(2, dim=1)
        painted = doubled(self.paint(torch.cat([half * (1 + scale) + shift, F.avg_pool2d(moved, 2), coarse], dim=1)))
        share = torch.sigmoid(painted[:, 3:] - 2)  # begins at 0.12, so that moving is learned before painting
        return Told(moved + share * painted[:, :3], flow)


class FeatureDecoder(nn.Module):
    """Tells features of the last picture from those of the first (B, S, C) and the latent: attention within the picture, modulated by the latent."""

    def __init__(self, channels: int, latent: int, depth: int, width: int = 64) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(channels, width), nn.Linear(width, channels)
        self.condition = nn.Linear(latent, width)
        self.body = SpaceTimeTransformer(width, depth, 4, conditioned=True)

    def forward(self, first: Tensor, latent: Tensor) -> Tensor:
        told = self.body(self.into(first)[:, None], condition=self.condition(latent)[:, None])
        return first + self.out(told[:, 0])
