"""Frames into tokens: a learned stem of convolutions, a ViT on patches, or a frozen encoder from a folder (see `frozen_encoder`)."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field as Setting
from torch import Tensor, nn

from dataengine.core.config import Config
from dataengine.core.errors import UsageError
from dataengine.models.blocks import Attention, FeedForward, Norm
from dataengine.models.frozen_encoder import FrozenVit
from dataengine.models.optical_flow import cell_flow


class FrameTokenizer(Protocol):
    """Clips into tokens of each frame.

    `tokens` is S, the number of tokens of a frame. What is asked with clips (B, T, H, W, 3) in [0, 1] and `there` (B, T) bool, False where there is no frame,
    gives (B, T, S, C); what it gives where there is none is not used.
    """

    tokens: int

    def __call__(self, clips: Tensor, there: Tensor) -> Tensor: ...


class TokenizerConfig(Config):
    """How frames become tokens.

    Attributes:
        kind: "conv", a stem of convolutions; "patch", a ViT on patches; "frozen", the encoder in `folder`.
        channels, strides: of the convolutions, as many of each.
        differences: give the stem what changed since the frame before and what changes until the next, beside the frame: without it small nets find motion late.
        flow: copies of the pictures, smaller by these factors, whose optical flow from the frame before and to the next joins the output of the first convolution, cell
            by cell; () for none. With few data it makes the difference: a net need not learn first what motion is.
        readout: what tokens of the stem are. "grid": one for each place. "flat": one, of all places together. "points": one, of the places where feature maps
            are strongest (their soft arg max: Levine et al. 2016, "End-to-end training of deep visuomotor policies"). "both": one flat, one of points.
        patch: side of a patch in px.
        depth: blocks within a frame of the ViT.
        folder: of a frozen encoder, as its publishers lay it out: config.json and model.safetensors.
        pooled: mean over squares of so many patches a side of a frozen encoder.
    """

    kind: Literal["conv", "patch", "frozen"] = "conv"
    channels: tuple[int, ...] = (24, 48, 48)
    strides: tuple[int, ...] = (4, 1, 2)
    flow: tuple[int, ...] = (1, 2)
    differences: bool = True
    readout: Literal["grid", "flat", "points", "both"] = "both"
    patch: int = Setting(default=8, ge=1)
    depth: int = Setting(default=2, ge=1)
    folder: str | None = None
    pooled: int = Setting(default=1, ge=1)


def with_differences(clips: Tensor, there: Tensor) -> Tensor:
    """Return clips (B, T, H, W, 9): each frame about 0, what changed since the frame before and what changes until the next; 0 where one of the two is not there."""
    centred = (clips - 0.5) * there[:, :, None, None, None]
    change = (clips[:, 1:] - clips[:, :-1]) * (there[:, 1:] & there[:, :-1])[:, :, None, None, None]
    none = torch.zeros_like(clips[:, :1])
    return torch.cat([2 * centred, 4 * torch.cat([none, change], dim=1), 4 * torch.cat([change, none], dim=1)], dim=-1)


class ConvStem(nn.Module):
    """Convolutions over each frame, the changes around it and its optical flow; then tokens of all places together, of the strongest places, or of each place."""

    def __init__(self, config: TokenizerConfig, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        if len(config.strides) != len(config.channels) or not config.channels:
            raise UsageError(f"tokenizer: must have as many strides as channels, one or more, got {config.strides} and {config.channels}")
        self._differences, self._readout = config.differences, config.readout
        self._cells, self._scales = config.strides[0], config.flow
        if any(self._cells % scale or any(side % self._cells for side in size) for scale in config.flow):
            raise UsageError(f"tokenizer: flow must be of scales that divide the first stride, {self._cells}, which divides the size {size}, got {config.flow}")
        entering = [9 if config.differences else 3, *config.channels[:-1]]
        if config.flow and len(entering) > 1:
            entering[1] += 6 * len(config.flow)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3 if stride < 3 else stride + 2, stride=stride, padding=1)
            for before, after, stride in zip(entering, config.channels, config.strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, after // 8), after) for after in config.channels)
        height, wide = size
        for stride in config.strides:
            height, wide = ((side - 1) // stride + 1 if stride < 3 else side // stride for side in (height, wide))
        deep = config.channels[-1]
        self.tokens = {"grid": height * wide, "flat": 1, "points": 1, "both": 2}[config.readout]
        if config.readout == "grid":
            self.project = nn.Linear(deep, width)
            self.place = nn.Parameter(0.02 * torch.randn(height * wide, width))
        if config.readout in ("flat", "both"):
            self.narrow = nn.Conv2d(deep, 16, 1)
            self.flat = nn.Linear(16 * height * wide, width)
        if config.readout in ("points", "both"):
            self.heat = nn.Conv2d(deep, deep, 1)
            self.point = nn.Linear(3 * deep, width)
            rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, wide), indexing="ij")
            self.register_buffer("places", torch.stack([rows.flatten(), columns.flatten()], dim=1), persistent=False)  # (H W, 2)

    def forward(self, clips: Tensor, there: Tensor) -> Tensor:
        batch, frames = clips.shape[:2]
        seen = with_differences(clips, there) if self._differences else (clips - 0.5) * 2
        x = seen.flatten(0, 1).permute(0, 3, 1, 2)  # (B T, C, H, W), which lies with the channels last in memory
        for place, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if place == 1 and self._scales:
                x = torch.cat([x, flow_around(clips, there, self._cells, self._scales).flatten(0, 1).to(x.dtype)], dim=1)
            x = F.silu(norm(layer(x)))
        found = []
        if self._readout == "grid":
            found.append(self.project(x.flatten(2).transpose(1, 2)) + self.place)
        if self._readout in ("flat", "both"):
            found.append(self.flat(self.narrow(x).flatten(1))[:, None])
        if self._readout in ("points", "both"):
            heat = self.heat(x).flatten(2)  # (B T, C, H' W')
            share = heat.softmax(dim=-1)
            where = share @ self.places  # (B T, C, 2)
            found.append(self.point(torch.cat([4 * where.flatten(1), (share * heat).sum(-1)], dim=1))[:, None])
        return torch.cat(found, dim=1).unflatten(0, (batch, frames))  # (B, T, S, C)


def flow_around(clips: Tensor, there: Tensor, cells: int, scales: tuple[int, ...]) -> Tensor:
    """Return (B, T, 6 len(scales), H / cells, W / cells): flow from the frame before each, and to the next; 0 where one of the two is not there."""
    with torch.no_grad(), torch.autocast(clips.device.type, enabled=False):
        pictures = clips.float().permute(0, 1, 4, 2, 3)
        if clips.shape[1] == 1:
            height, width = (side // cells for side in clips.shape[2:4])
            return pictures.new_zeros(len(clips), 1, 6 * len(scales), height, width)
        flow = cell_flow(pictures, cells, scales) * (there[:, 1:] & there[:, :-1])[:, :, None, None, None]
        none = torch.zeros_like(flow[:, :1])
        return torch.cat([torch.cat([none, flow], dim=1), torch.cat([flow, none], dim=1)], dim=2)


class PatchViT(nn.Module):
    """Patches into tokens with learned places, and blocks of attention within each frame."""

    def __init__(self, config: TokenizerConfig, width: int, size: tuple[int, int], heads: int) -> None:
        super().__init__()
        self._differences = config.differences
        self.embed = nn.Conv2d(9 if config.differences else 3, width, config.patch, stride=config.patch)
        self.tokens = (size[0] // config.patch) * (size[1] // config.patch)
        self.place = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.attentions = nn.ModuleList(Attention(width, heads) for _ in range(config.depth))
        self.feeds = nn.ModuleList(FeedForward(width) for _ in range(config.depth))
        self.norms = nn.ModuleList(Norm(width) for _ in range(2 * config.depth))

    def forward(self, clips: Tensor, there: Tensor) -> Tensor:
        batch, frames = clips.shape[:2]
        seen = with_differences(clips, there) if self._differences else (clips - 0.5) * 2
        x = self.embed(seen.flatten(0, 1).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2) + self.place  # (B T, S, C)
        for place, (attention, feed) in enumerate(zip(self.attentions, self.feeds, strict=True)):
            x = x + attention(self.norms[2 * place](x))
            x = x + feed(self.norms[2 * place + 1](x))
        return x.unflatten(0, (batch, frames))


class FrozenEncoder(nn.Module):
    """The patches of an encoder that is not trained, pooled over squares and brought to the width of the blocks by a layer that is."""

    def __init__(self, config: TokenizerConfig, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        if config.folder is None:
            raise UsageError("tokenizer: a frozen encoder must have a folder with its config.json and model.safetensors, got none; set tokenizer.folder")
        self.encoder = FrozenVit(config.folder)
        self._pooled = config.pooled
        self._grid = tuple(max(1, round(side / self.encoder.patch)) for side in size)
        if any(side % config.pooled for side in self._grid):
            raise UsageError(f"tokenizer: pooled must divide the {self._grid[0]} x {self._grid[1]} patches of a picture, got {config.pooled}")
        self.tokens = (self._grid[0] // config.pooled) * (self._grid[1] // config.pooled)
        self.norm = Norm(self.encoder.width)
        self.project = nn.Linear(self.encoder.width, width)
        self.register_buffer("weights_digest", torch.tensor(list(bytes.fromhex(self.encoder.digest)), dtype=torch.uint8))

    def forward(self, clips: Tensor, there: Tensor) -> Tensor:
        batch, frames = clips.shape[:2]
        with torch.no_grad():
            x = self.encoder(clips.flatten(0, 1).permute(0, 3, 1, 2))  # (B T, h w, C)
            if self._pooled > 1:
                x = F.avg_pool2d(x.transpose(1, 2).unflatten(2, self._grid), self._pooled).flatten(2).transpose(1, 2)
        return self.project(self.norm(x)).unflatten(0, (batch, frames))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *told: Any) -> None:
        """Refuse to be used on top of another encoder than it was trained on."""
        kept = state_dict.get(prefix + "weights_digest")
        if kept is not None and not torch.equal(kept.cpu(), self.weights_digest.cpu()):
            told[-1].append(f"the frozen encoder must be the one of training, {bytes(kept.tolist()).hex()}, got the weights {self.encoder.digest}")
        super()._load_from_state_dict(state_dict, prefix, *told)


def tokenizer_of(config: TokenizerConfig, width: int, size: tuple[int, int], heads: int) -> nn.Module:
    """Return the tokenizer of a configuration for frames of a size (height, width); a `FrameTokenizer`."""
    if config.kind == "conv":
        return ConvStem(config, width, size)
    return PatchViT(config, width, size, heads) if config.kind == "patch" else FrozenEncoder(config, width, size)
