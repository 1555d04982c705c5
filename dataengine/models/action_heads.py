"""Heads that say distributions of an action: numbers as bins or as a mixture of Gaussians, grippers as classes, rotations on SO(3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field as Setting
from torch import Tensor, nn

from dataengine.core.config import Config

LEAST_SIGMA, MOST_SIGMA = (
    0.1,
    5.0,
)  # of a component, in the unit in which the target has a standard deviation of 1: where nearly all targets are equal, a narrower one would drown all else
COMPONENTS = 3


class HeadConfig(Config):
    """How numbers are predicted.

    Attributes:
        numbers: "mixture" of three Gaussians, or "binned": shares of bins, a target between two of which counts for both.
        bins: how many.
        reach: the outermost bins, in standard deviations of the target.
        scale: whether bins are even ("linear") or finer around 0 ("symlog").
        readout: what is taken of a distribution. A mean is the least off, but drawn to the middle where there are several answers (calibration undoes that on the whole); a median or the mode is less so.
        mean_weight: of the squared error of the mean beside the likelihood. By the likelihood alone, rows that a model is unsure of hardly teach it what their mean is.
        balance: let each class of a gripper count alike, however rare it is.
    """

    numbers: Literal["mixture", "binned"] = "mixture"
    bins: int = Setting(default=51, ge=3)
    reach: float = Setting(default=4.0, gt=0)
    scale: Literal["linear", "symlog"] = "linear"
    readout: Literal["mean", "median", "mode"] = "mean"
    mean_weight: float = Setting(default=4.0, ge=0)
    balance: bool = True


@dataclass(frozen=True)
class TargetShape:
    """What a head predicts: C numbers, one class of so many for each gripper, R rotations whose usual sizes are `turns` in rad."""

    scaled: int
    levels: tuple[int, ...] = ()
    turns: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Said:
    """What a head says of rows (...,), and what is read off it.

    `value` (..., C) of the numbers in normalised units and `variance` (..., C), from the middle 68 % of the distribution, so that faint tails do not count; `odds` [(..., L)] logits of each gripper, `rotation` (..., R, 3, 3) and
    `turn_variance` (..., R), of the angle between it and the truth, in units of the rotation's usual size squared.
    """

    value: Tensor
    variance: Tensor
    odds: tuple[Tensor, ...]
    rotation: Tensor
    turn_variance: Tensor


class ActionHead(nn.Module):
    """A linear map from tokens to the distributions of one target of one embodiment."""

    def __init__(self, width: int, shape: TargetShape, config: HeadConfig) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        each = 3 * COMPONENTS if config.numbers == "mixture" else config.bins
        self._sizes = [shape.scaled * each, sum(shape.levels), 7 * len(shape.turns)]
        self.out = nn.Linear(width, sum(self._sizes))
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        if config.numbers == "mixture" and shape.scaled:  # the components begin apart, or they would stay alike
            bias = self.out.bias.data[: self._sizes[0]].view(shape.scaled, COMPONENTS, 3)
            bias[:, :, 1] = torch.linspace(-1, 1, COMPONENTS)
        centres = torch.linspace(-1, 1, config.bins) * (config.reach if config.scale == "linear" else float(symlog(torch.tensor(config.reach))))
        self.register_buffer("centres", centres if config.scale == "linear" else symexp(centres), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is said of tokens (..., C) before it is read: (..., C, n), (..., sum of levels), (..., R, 7)."""
        numbers, levels, turns = self.out(x).float().split(self._sizes, dim=-1)
        return (
            numbers.unflatten(-1, (self.shape.scaled, -1)) if self.shape.scaled else numbers[..., None],
            levels,
            turns.unflatten(-1, (-1, 7)) if turns.shape[-1] else turns[..., None],
        )

    def loss(self, said: tuple[Tensor, Tensor, Tensor], scaled: Tensor, classes: Tensor, rotations: Tensor, there: Tensor) -> dict[str, Tensor]:
        """Return the mean loss of each sort of targets: "numbers", "grippers", "rotations".

        Args:
            said: what `forward` gave for rows (N,).
            scaled: (N, C) normalised numbers.
            classes: (N, G) int64.
            rotations: (N, R, 3, 3).
            there: (N,) bool, where there is a target.
        """
        numbers, levels, turns = said
        count = there.sum().clamp(min=1)
        found: dict[str, Tensor] = {}
        if self.shape.scaled:
            target = torch.where(there[:, None], scaled, 0.0)
            each = self._mixture_loss(numbers, target) if self.config.numbers == "mixture" else self._binned_loss(numbers, target)
            if self.config.mean_weight:
                each = each + self.config.mean_weight * (self._mean(numbers) - target).square()
            found["numbers"] = (each * there[:, None]).sum() / count
        for place, (logits, size) in enumerate(zip(levels.split(list(self.shape.levels), dim=-1) if self.shape.levels else (), self.shape.levels, strict=True)):
            weight = there.float()
            if self.config.balance:
                share = torch.zeros(size, device=logits.device).index_add_(0, classes[:, place], weight)
                weight = weight * (count / (size * share.clamp(min=1))).clamp(max=10)[classes[:, place]]
            each = F.cross_entropy(logits, classes[:, place], reduction="none") * weight
            found["grippers"] = found.get("grippers", 0) + each.sum() / weight.sum().clamp(min=1)
        if self.shape.turns:
            rotation, log_sigma = self._turned(turns)
            size_of = torch.tensor(self.shape.turns, device=turns.device)
            angle = geodesic(rotation, rotations) / size_of
            each = 0.5 * (angle * torch.exp(-log_sigma)).square() + 3 * log_sigma  # a Gaussian in the three directions of the tangent space
            found["rotations"] = (each * there[:, None]).sum() / count
        return found

    def read(self, said: tuple[Tensor, Tensor, Tensor]) -> Said:
        """Return what is read off a head's output."""
        numbers, levels, turns = said
        lead = numbers.shape[:-2]
        if not self.shape.scaled:
            value = variance = numbers.new_zeros(*lead, 0)
        elif self.config.numbers == "mixture":
            value, variance = self._read_mixture(numbers)
        else:
            value, variance = self._read_bins(numbers)
        odds = tuple(levels.split(list(self.shape.levels), dim=-1)) if self.shape.levels else ()
        if self.shape.turns:
            rotation, log_sigma = self._turned(turns)
            return Said(value, variance, odds, rotation, 3 * torch.exp(2 * log_sigma))
        return Said(value, variance, odds, value.new_zeros(*lead, 0, 3, 3), value.new_zeros(*lead, 0))

    def _mean(self, numbers: Tensor) -> Tensor:
        """Return (..., C) the means of distributions of numbers."""
        if self.config.numbers == "binned":
            return (numbers.softmax(-1) * self.centres).sum(-1)
        log_weight, mean, _ = self._parts(numbers)
        return (log_weight.exp() * mean).sum(-1)

    # numbers as bins

    def _binned_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return (N, C) cross entropies with targets that lie between two bins."""
        kept = target.clamp(float(self.centres[0]), float(self.centres[-1]))
        above = torch.searchsorted(self.centres, kept.contiguous()).clamp(1, len(self.centres) - 1)
        lower, upper = self.centres[above - 1], self.centres[above]
        share = (kept - lower) / (upper - lower)
        log_p = logits.log_softmax(-1)
        return -(log_p.gather(-1, (above - 1)[..., None])[..., 0] * (1 - share) + log_p.gather(-1, above[..., None])[..., 0] * share)

    def _read_bins(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        p = logits.softmax(-1)
        below = p.cumsum(-1)
        half = (self._bin_quantile(below, 0.84) - self._bin_quantile(below, 0.16)) / 2
        variance = half.square()
        if self.config.readout == "mean":
            return self._mean(logits), variance
        if self.config.readout == "mode":  # the mean of the likeliest bin and its neighbours
            best = p.argmax(-1, keepdim=True)
            near = torch.cat([(best + by).clamp(0, len(self.centres) - 1) for by in (-1, 0, 1)], dim=-1)
            weight = p.gather(-1, near)
            return (weight * self.centres[near]).sum(-1) / weight.sum(-1), variance
        return self._bin_quantile(below, 0.5), variance

    def _bin_quantile(self, below: Tensor, share: float) -> Tensor:
        """Return where a share of what is spread evenly over each bin lies below, from the running sums (..., bins)."""
        place = (below < share).sum(-1, keepdim=True).clamp(max=len(self.centres) - 1)
        after = below.gather(-1, place)[..., 0]
        before = torch.where(place[..., 0] > 0, below.gather(-1, (place - 1).clamp(min=0))[..., 0], 0.0)
        along = ((share - before) / (after - before).clamp(min=1e-9)).clamp(0, 1)
        edges = torch.cat([self.centres[:1], (self.centres[1:] + self.centres[:-1]) / 2, self.centres[-1:]])
        lower, upper = edges[place[..., 0]], edges[place[..., 0] + 1]
        return lower + along * (upper - lower)

    # numbers as a mixture

    def _parts(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = numbers.unflatten(-1, (COMPONENTS, 3))  # (..., C, 3, 3)
        sigma = LEAST_SIGMA + F.softplus(parts[..., 2])
        return parts[..., 0].log_softmax(-1), parts[..., 1], sigma.clamp(max=MOST_SIGMA)

    def _mixture_loss(self, numbers: Tensor, target: Tensor) -> Tensor:
        log_weight, mean, sigma = self._parts(numbers)
        each = log_weight - 0.5 * ((target[..., None] - mean) / sigma).square() - sigma.log()
        return -each.logsumexp(-1)

    def _read_mixture(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        log_weight, mean, sigma = self._parts(numbers)
        weight = log_weight.exp()
        half = (self._mixture_quantile(weight, mean, sigma, 0.84) - self._mixture_quantile(weight, mean, sigma, 0.16)) / 2
        if self.config.readout == "mean":
            return self._mean(numbers), half.square()
        if self.config.readout == "mode":
            best = (log_weight - sigma.log()).argmax(-1, keepdim=True)
            return mean.gather(-1, best)[..., 0], half.square()
        return self._mixture_quantile(weight, mean, sigma, 0.5), half.square()

    @staticmethod
    def _mixture_quantile(weight: Tensor, mean: Tensor, sigma: Tensor, share: float) -> Tensor:
        low, high = (mean - 6 * sigma).amin(-1), (mean + 6 * sigma).amax(-1)
        for _ in range(30):  # halves the interval: 2^-30 of it
            half = (low + high) / 2
            under = (weight * torch.special.ndtr((half[..., None] - mean) / sigma)).sum(-1) < share
            low, high = torch.where(under, half, low), torch.where(under, high, half)
        return (low + high) / 2

    # rotations

    def _turned(self, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Return (..., R, 3, 3) rotations and (..., R) the log of their standard deviation in units of the usual size."""
        size = torch.tensor(self.shape.turns, device=turns.device)[:, None]
        start = torch.tensor([1.0, 0, 0, 0, 1, 0], device=turns.device)
        return rotation_of(start + size * turns[..., :6]), turns[..., 6].clamp(-4, 2)


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x|) (Webber 2013)."""
    return x.sign() * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """Return the way back of `symlog`."""
    return x.sign() * torch.expm1(x.abs())


def rotation_of(six: Tensor) -> Tensor:
    """Return (..., 3, 3) rotations whose first two columns are six numbers made orthogonal (Zhou et al. 2019)."""
    first = F.normalize(six[..., :3], dim=-1)
    second = six[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def geodesic(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle (...) in rad between rotations (..., 3, 3): from the length of their difference, whose slope is finite everywhere but at pi.

    |A - B| = 2 sqrt(2) sin(angle / 2), in the norm of Frobenius.
    """
    chord = (a - b).square().sum((-1, -2)).clamp(min=1e-12).sqrt() / (2 * 2**0.5)
    return 2 * torch.asin(chord.clamp(max=1 - 1e-6))


def heads_of(width: int, shapes: Mapping[str, TargetShape], config: HeadConfig) -> nn.ModuleDict:
    """Return a head for each target by name."""
    return nn.ModuleDict({name: ActionHead(width, shape, config) for name, shape in shapes.items()})


def summed(losses: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return the sum of losses of several heads, a scalar."""
    return torch.stack([value for each in losses for value in each.values()]).sum()
