"""How far a task still has to go, as a distribution: a network over a few past frames and states whose answer is a histogram of the return.

The return of a step of an episode that succeeds is the steps that remain, negative, over the steps of the longest episode of its task: in [-1, 0]. That of an episode that fails
is one number below, the same at each of its steps. The histogram has a bin of its own for failure and evenly spaced ones for the rest, and is fitted by cross-entropy
(Bellemare et al. 2017, "A Distributional Perspective on Reinforcement Learning"; Farebrother et al. 2024, "Stop Regressing"), as value functions that policies are
improved by are (Physical Intelligence 2025, "pi*0.6: a VLA That Learns From Experience").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn

from dataengine.core.config import Config
from dataengine.core.roles import CAMERA
from dataengine.models.blocks import SpaceTimeTransformer

PATCH_PX = 16  # of the picture that one token stands for: convolutions of stride 4, 2 and 2


class ValueConfig(Config):
    """A value model.

    Attributes:
        cameras: columns or roles of the pictures.
        columns: columns or roles of numbers; "state" for the recorded state.
        size: (height, width) in px of the pictures, multiples of 16.
        seconds: when what is seen was seen, in s from the step, none in the future, the last one 0.
        bins: of the return between -1 and 0.
        failure: the return of a failed episode, in longest episodes.
        width, depth, heads: of the transformer.
        shift_px, jitter: augmentation in training: pictures moved by up to so many px, the same for all frames of a sample, and their brightness and contrast changed by up to such a share.
        blind: share of the training samples whose numbers are hidden, so that pictures are looked at too.
        advantage_s: over how many s an advantage looks ahead.
    """

    cameras: tuple[str, ...] = (f"{CAMERA}primary",)
    columns: tuple[str, ...] = ("state",)
    size: tuple[int, int] = (64, 64)
    seconds: tuple[float, ...] = (-0.2, 0.0)
    bins: int = Setting(default=101, ge=2)
    failure: float = Setting(default=-2.0, lt=-1)
    width: int = Setting(default=64, ge=8)
    depth: int = Setting(default=1, ge=1)
    heads: int = Setting(default=4, ge=1)
    shift_px: int = Setting(default=2, ge=0)
    jitter: float = Setting(default=0.15, ge=0, lt=1)
    blind: float = Setting(default=0.2, ge=0, le=1)
    advantage_s: float = Setting(default=0.5, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> ValueConfig:
        if not self.cameras and not self.columns:
            raise ValueError("cameras and columns must not both be empty: the model would see nothing")
        if any(length % PATCH_PX for length in self.size):
            raise ValueError(f"size must be multiples of {PATCH_PX} px")
        if not self.seconds or self.seconds[-1] != 0 or list(self.seconds) != sorted(set(self.seconds)):
            raise ValueError("seconds must rise to 0, the step itself: what comes after it is not known when a value is asked for")
        if self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of twice the heads")
        return self

    @property
    def atoms(self) -> Tensor:
        """Return the returns that the bins stand for, (bins + 1,), failure first."""
        return torch.cat([torch.tensor([self.failure]), torch.linspace(-1.0, 0.0, self.bins)])


def two_hot(returns: Tensor, atoms: Tensor) -> Tensor:
    """Share numbers (B,) between the two atoms (K,) beside each, so that the mean over the atoms is the number: (B, K)."""
    returns = returns.clamp(atoms[0], atoms[-1])
    above = torch.searchsorted(atoms, returns).clamp(1, len(atoms) - 1)
    low, high = atoms[above - 1], atoms[above]
    share = (returns - low) / (high - low)
    return (
        torch.zeros(len(returns), len(atoms), device=returns.device)
        .scatter_(1, above[:, None] - 1, (1 - share)[:, None])
        .scatter_add_(1, above[:, None], share[:, None])
    )


def split_surprise(logits: Tensor, target: Tensor, succeeded: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two parts of the cross-entropy between a target and a histogram, (B,) each: of success or failure, and where it succeeded of what remains, else 0.

    Both are proper on their own, so each may be a mean over those that it is about: where most steps are those of long failures, how far success is would else hardly be learned.
    """
    everything = torch.logsumexp(logits, dim=-1)
    hopeful = torch.logsumexp(logits[:, 1:], dim=-1)
    failing = everything - torch.where(succeeded, hopeful, logits[:, 0])
    remaining = -(target[:, 1:] * F.log_softmax(logits[:, 1:], dim=-1)).sum(-1)
    return failing, torch.where(succeeded, remaining, torch.zeros_like(remaining))


def total(weights: Tensor) -> Tensor:
    """Return the sum of weights, no less than what may be divided by."""
    return weights.sum().clamp(min=1e-6)


class ValueNet(nn.Module):
    """Pictures and numbers at K times → logits over the bins. Each picture is tokens, the numbers of a time are one, and one token a time gathers the answer."""

    def __init__(self, config: ValueConfig, numbers: int) -> None:
        super().__init__()
        width, (height, breadth) = config.width, config.size
        self.config, self.numbers = config, numbers
        wide = max(8, 3 * width // 4 // 4 * 4)
        self.stem = nn.Sequential(
            nn.Conv2d(6, width // 2, 8, 4, 2),  # a picture, and how it differs from that of the step itself; on a CPU the first pixels cost most
            nn.GroupNorm(4, width // 2),
            nn.SiLU(),
            nn.Conv2d(width // 2, wide, 3, 2, 1),
            nn.GroupNorm(4, wide),
            nn.SiLU(),
            nn.Conv2d(wide, width, 3, 2, 1),
        )
        places = height * breadth // PATCH_PX**2
        self.place = nn.Parameter(0.02 * torch.randn(len(config.cameras), places, width))
        self.missing = nn.Parameter(0.02 * torch.randn(width))
        self.told = nn.Sequential(nn.Linear(2 * numbers, width), nn.SiLU(), nn.Linear(width, width)) if numbers else None
        self.asked = nn.Parameter(0.02 * torch.randn(width))
        self.mixer = SpaceTimeTransformer(width, config.depth, config.heads)
        self.head = nn.Linear(width, config.bins + 1)
        self.register_buffer("times", torch.tensor(config.seconds) * 10.0, persistent=False)

    def forward(self, pictures: Tensor, seen: Tensor, numbers: Tensor, known: Tensor) -> Tensor:
        """Return logits (B, bins + 1).

        Args:
            pictures: (B, N, K, 3, H, W) of N cameras, about 0 and within ±0.5.
            seen: (B, N, K) bool: where there is a picture.
            numbers: (B, K, D), about 0 with a spread of 1.
            known: (B, K, D) bool: where there is a number.
        """
        batch, cameras, times = seen.shape
        tokens = [self.asked.expand(batch, times, 1, -1)]
        if cameras:
            pictures = pictures * seen[..., None, None, None]
            moved = (pictures - pictures[:, :, -1:]) * (seen & seen[:, :, -1:])[..., None, None, None]
            stacked = torch.cat([pictures, moved], dim=3).flatten(0, 2)  # (B N K, 6, H, W)
            found = self.stem(stacked).flatten(2).transpose(1, 2)  # (B N K, S, C)
            found = found.unflatten(0, (batch, cameras, times)) + self.place[None, :, None]
            found = torch.where(seen[..., None, None], found, self.missing)
            tokens.append(found.transpose(1, 2).flatten(2, 3))  # (B, K, N S, C)
        if self.told is not None:
            said = torch.cat([numbers * known, known.to(numbers.dtype)], dim=-1)
            tokens.append(self.told(said)[:, :, None])  # (B, K, 1, C)
        mixed = self.mixer(torch.cat(tokens, dim=2), self.times)
        logits: Tensor = self.head(mixed[:, -1, 0])
        return logits


def as_pictures(frames: Tensor) -> Tensor:
    """Return uint8 pictures (..., H, W, 3) as the network takes them, (..., 3, H, W)."""
    return frames.movedim(-1, -3).to(torch.float32) / 255 - 0.5


def augmented(pictures: Tensor, config: ValueConfig, generator: torch.Generator) -> Tensor:
    """Move pictures (B, N, K, 3, H, W) and change their light, the same for all of a sample's times."""
    batch, cameras = pictures.shape[:2]
    device = pictures.device
    if config.shift_px:
        height, width = pictures.shape[-2:]
        padded = F.pad(pictures.flatten(0, 3), (config.shift_px,) * 4, mode="replicate").unflatten(0, pictures.shape[:4])
        shift = torch.randint(0, 2 * config.shift_px + 1, (2, batch, cameras), generator=generator, device=device)
        rows = shift[0][..., None] + torch.arange(height, device=device)  # (B, N, H)
        columns = shift[1][..., None] + torch.arange(width, device=device)  # (B, N, W)
        sample = torch.arange(batch, device=device)[:, None, None, None]
        camera = torch.arange(cameras, device=device)[None, :, None, None]
        # what is indexed stands first, (B, N, H, W), then the times and colours
        pictures = padded.permute(0, 1, 4, 5, 2, 3)[sample, camera, rows[..., :, None], columns[..., None, :]].permute(0, 1, 4, 5, 2, 3)
    if config.jitter:
        light = (2 * torch.rand((2, batch, cameras, 1, 1, 1, 1), generator=generator, device=device) - 1) * config.jitter
        pictures = pictures * (1 + light[0]) + 0.5 * light[1]
    return pictures


class ValueFit:
    """What is fitted: a value network and its loss on the loader's batches.

    Args:
        module: the network, on its device.
        returns: (E,) longest episode of each episode's task, in steps; its steps; and its outcome (1, 0, -1 where nobody said), by the numbers under `episode` in a batch.
        centre, scale: (datasets, D) what numbers are shifted by, and divided by, 0 where a dimension is not used.
    """

    def __init__(self, module: ValueNet, returns: tuple[Tensor, Tensor, Tensor], centre: Tensor, scale: Tensor) -> None:
        self.module: nn.Module = module
        self._config = module.config
        device = next(module.parameters()).device
        self._longest, self._steps, self._success = (each.to(device) for each in returns)
        self._centre, self._scale, self._atoms = centre.to(device), scale.to(device), module.config.atoms.to(device)

    def targets(self, episode: Tensor, step: Tensor) -> Tensor:
        """Return the returns (B,) of steps of episodes whose outcome is known."""
        remaining = (self._steps[episode] - 1 - step).to(torch.float32)
        succeeded = (-remaining / self._longest[episode]).clamp(min=-1.0)
        return torch.where(self._success[episode] == 1, succeeded, self._atoms[0])

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy of samples whose episode's outcome is known, and figures."""
        pictures, seen, numbers, known = self.inputs(batch)
        device = seen.device
        if pictures.shape[1]:
            pictures = augmented(pictures, self._config, generator)
            if self._config.blind and numbers.shape[-1]:
                hidden = torch.rand(len(known), generator=generator, device=device) < self._config.blind
                known = known & ~hidden[:, None, None]
        logits = self.module(pictures, seen, numbers, known).to(torch.float32)
        succeeded = self._success[batch["episode"]] == 1
        target = two_hot(self.targets(batch["episode"], batch["step"]), self._atoms)
        told = batch["weight"] * (self._success[batch["episode"]] >= 0)
        failing, remaining = split_surprise(logits, target, succeeded)
        loss = (failing * told).sum() / total(told) + (remaining * told).sum() / total(told * succeeded)
        with torch.no_grad():
            expected = (F.softmax(logits, dim=-1) * self._atoms).sum(-1)
            away = ((expected - (target * self._atoms).sum(-1)).abs() * told).sum() / total(told)
        return loss, {"return_mae": away, "known_outcome": (told > 0).to(torch.float32).mean()}

    def inputs(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a loader's batch as the network takes it."""
        config = self._config
        count, times = len(batch["weight"]), len(config.seconds)
        device = self._atoms.device
        frames = [as_pictures(batch[camera]) for camera in config.cameras]
        pictures = torch.stack(frames, dim=1) if frames else torch.zeros(count, 0, times, 3, *config.size, device=device)
        absent = [batch[f"{camera}_is_pad"] for camera in config.cameras]
        seen = ~torch.stack(absent, dim=1) if absent else torch.zeros(count, 0, times, dtype=torch.bool, device=device)
        parts, known = [], []
        for name in config.columns:
            values = batch[name].to(torch.float32).flatten(2)  # (B, K, D)
            there = ~batch[f"{name}_is_pad"][..., None].expand_as(values)
            if f"{name}_mask" in batch:
                there = there & batch[f"{name}_mask"].flatten(1)[:, None]
            parts.append(values)
            known.append(there & torch.isfinite(values))
        numbers = torch.cat(parts, dim=-1) if parts else torch.zeros(count, times, 0, device=device)
        there = torch.cat(known, dim=-1) if known else torch.zeros_like(numbers, dtype=torch.bool)
        centre, scale = self._centre[batch["dataset"]][:, None], self._scale[batch["dataset"]][:, None]
        return pictures, seen, *normalised(numbers, there, centre, scale)


def normalised(numbers: Tensor, known: Tensor, centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers about 0 with a spread of 1, at most 10, and which of them are used."""
    known = known & (scale > 0)
    shifted = (torch.where(known, numbers, 0.0) - centre) / torch.where(scale > 0, scale, 1.0)
    return torch.where(known, shifted.clamp(-10, 10), 0.0), known
