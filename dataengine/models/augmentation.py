"""Augmentation of clips for models that look for motion: the same for every frame of a clip, drawn from a generator, and never a mirror image.

A flip would turn the motion to the right into one to the left while the label stays; a shift that differs from frame to frame would be motion itself.
"""

from __future__ import annotations

import torch
from pydantic import Field as Setting
from torch import Tensor

from dataengine.core.config import Config


class AugmentConfig(Config):
    """How clips are changed in training.

    `shift` is the farthest shift as a share of the side, edges repeated; `zoom` the largest share of the side that a crop leaves out; `brightness`, `contrast` and
    `saturation` the largest change of each as a share.
    """

    shift: float = Setting(default=0.06, ge=0, le=0.5)
    zoom: float = Setting(default=0.0, ge=0, le=0.5)
    brightness: float = Setting(default=0.1, ge=0, le=1)
    contrast: float = Setting(default=0.1, ge=0, le=1)
    saturation: float = Setting(default=0.1, ge=0, le=1)


def augmented(clips: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return clips (B, T, H, W, 3) in [0, 1], each changed in its own way and all its frames in the same way."""
    return jittered(moved(clips, config, generator), config, generator)


def moved(clips: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return clips, of whole numbers too, shifted by whole pixels and, with `zoom`, cropped and scaled up; what is beyond the edge is the edge."""
    batch, frames, height, width, _ = clips.shape
    found = clips
    if config.zoom:
        share = 1 - config.zoom * _uniform(batch, clips, generator)
        room = (1 - share)[:, None] * (2 * torch.stack([_uniform(batch, clips, generator), _uniform(batch, clips, generator)], dim=1) - 1)
        grid = torch.zeros(batch, 2, 3, device=clips.device)
        grid[:, 0, 0], grid[:, 1, 1], grid[:, :, 2] = share, share, room
        places = torch.nn.functional.affine_grid(grid, [batch, 1, height, width], align_corners=False)
        flat = found.permute(0, 1, 4, 2, 3).reshape(batch, frames * 3, height, width)
        flat = flat if clips.is_floating_point() else flat.to(grid.dtype)  # between pixels there are no whole numbers
        flat = torch.nn.functional.grid_sample(flat, places, padding_mode="border", align_corners=False)
        flat = flat if clips.is_floating_point() else flat.round().to(clips.dtype)
        found = flat.reshape(batch, frames, 3, height, width).permute(0, 1, 3, 4, 2)
    if config.shift:
        most = (int(config.shift * height), int(config.shift * width))
        rows, columns = (_shifts(batch, side, far, clips.device, generator) for side, far in zip((height, width), most, strict=True))
        number = torch.arange(batch, device=clips.device)[:, None, None]
        found = found.permute(0, 2, 3, 1, 4)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)  # (B, T, H, W, 3)
    return found


def jittered(clips: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return clips with other brightness, contrast and saturation, in [0, 1]."""
    batch, found = clips.shape[0], clips
    brightness, contrast, saturation = (
        1 + most * (2 * _uniform(batch, clips, generator)[:, None, None, None, None] - 1) for most in (config.brightness, config.contrast, config.saturation)
    )
    if config.saturation:
        grey = found.mean(dim=4, keepdim=True)
        found = grey + (found - grey) * saturation
    if config.contrast:
        middle = found.mean(dim=(1, 2, 3, 4), keepdim=True)
        found = middle + (found - middle) * contrast
    if config.brightness:
        found = found * brightness
    return found.clamp(0, 1) if config.brightness or config.contrast or config.saturation else found


def _uniform(count: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=like.device)


def _shifts(batch: int, side: int, most: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Return (B, side) places: those of each clip shifted by its own number of pixels."""
    by = torch.randint(-most, most + 1, (batch, 1), generator=generator, device=device)
    return (torch.arange(side, device=device)[None] + by).clamp(0, side - 1)
