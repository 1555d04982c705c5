"""Decoders of latent actions: what the first picture becomes under a latent. They never see the picture that they are to tell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataengine.models.latent_encoder import ConvBlock


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """Return a picture (B, 3, H, W) each of whose pixels comes from `flow` (B, 2, H, W) px away, x then y: out[p] = picture[p - flow[p]], between pixels linear."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height, device=picture.device), torch.arange(width, device=picture.device), indexing="ij")
    at = torch.stack([x, y])[None] - flow
    scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=picture.device)[:, None, None]
    return F.grid_sample(picture, (at * scale - 1).permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=True)


class WarpDecoder(nn.Module):
    """Moves the first picture by a flow that is linear in the latent, and paints what the flow uncovers.

    The first picture gives a field for each channel of the latent, how each place moves with it; their sum is the flow. So the latent speaks of motion in the same terms
    wherever the arm stands, and zero is rest.
    """

    def __init__(self, width: int, latent: int, depth: int = 1, paint: bool = True, linear: bool = True) -> None:
        super().__init__()
        self.latent, self.linear = latent, linear
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, stride=2, padding=2), nn.SiLU())
        self.down1 = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), ConvBlock(2 * width))
        self.down2 = nn.Sequential(nn.Conv2d(2 * width, 3 * width, 3, stride=2, padding=1), *[ConvBlock(3 * width) for _ in range(depth)])
        self.up2 = nn.Conv2d(3 * width, 2 * width, 1)
        self.join2 = ConvBlock(2 * width)
        self.up1 = nn.Conv2d(2 * width, width, 1)
        self.join1 = ConvBlock(width)
        self.fields = nn.Conv2d(width, 2 * latent, 3, padding=1)
        self.told = nn.Linear(latent, 2 * width)
        self.paint = nn.Sequential(nn.Conv2d(width + 5, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1)) if paint else None
        nn.init.normal_(self.fields.weight, std=0.01)
        if self.paint is not None:
            nn.init.zeros_(self.paint[-1].weight)
            nn.init.zeros_(self.paint[-1].bias)

    def forward(self, first: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture (B, 3, H, W) and the flow (B, 2, H, W) in px of first pictures (B, 3, H, W) under latents (B, Z)."""
        fine = self.stem(first)
        middle = self.down1(fine)
        coarse = self.down2(middle)
        middle = self.join2(F.silu(middle + F.interpolate(self.up2(coarse), scale_factor=2.0, mode="bilinear", align_corners=False)))
        fine = self.join1(F.silu(fine + F.interpolate(self.up1(middle), scale_factor=2.0, mode="bilinear", align_corners=False)))
        fields = self.fields(fine).unflatten(1, (self.latent, 2))  # (B, Z, 2, H/2, W/2)
        flow = torch.einsum("bz,bzchw->bchw", latent, fields)
        flow = F.interpolate(flow, size=first.shape[-2:], mode="bilinear", align_corners=False)
        moved = warped(first, flow)
        if self.paint is None:
            return moved, flow
        scale, shift = self.told(latent)[:, :, None, None].chunk(2, dim=1)
        small = F.avg_pool2d(moved, 2)
        change = self.paint(torch.cat([fine * (1 + scale) + shift, small, F.avg_pool2d(flow, 2)], dim=1))
        change = F.interpolate(change, size=first.shape[-2:], mode="bilinear", align_corners=False)
        mask = torch.sigmoid(change[:, 3:] - 2)
        return moved + mask * change[:, :3], flow
