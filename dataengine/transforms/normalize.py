"""Normalisation of batches by the statistics of their sources, and its exact inverse: both are transforms.

    normalize = normalizer([statistics_of_a, statistics_of_b], ["action", "state"], "quantile")
    batch = normalize(batch)              # batch["dataset"] says which source each sample is of
    actions = normalize.inverse(predicted)  # in the units of the data again

Each number x becomes (x - centre) / spread, with a centre and a spread for each source and dimension, or each source, step of a horizon and dimension:

- `mean_std`: mean and standard deviation;
- `min_max`: the smallest number becomes -1 and the largest 1;
- `quantile`: q01 becomes -1 and q99 becomes 1.

A dimension that never changes becomes 0, and comes back as its value whatever was predicted for it. So does one that changes by less than float32 can hold.
A binary one (two values in all, as of a gripper or a flag) is left as recorded, unless `binary="scale"`. Where q01 and q99 are equal although the dimension
changes (99 % of a force may be 0), its smallest and largest number take their place. NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.errors import UnknownName, UsageError

Mode = Literal["mean_std", "min_max", "quantile"]
Binary = Literal["keep", "scale"]
MODES: tuple[Mode, ...] = ("mean_std", "min_max", "quantile")
BINARY: tuple[Binary, ...] = ("keep", "scale")
SOURCE = "dataset"
_FLOAT32_STEP = 2.0**-23


@dataclass(frozen=True)
class Scaling:
    """How one array of a batch is scaled.

    `shape` is (S, D) for S sources, or (S, A, D) where each step of a horizon has numbers of its own; the others hold one entry each in C order. A
    spread of 0 stands for a dimension that never changes; centre 0 and spread 1 for one that is left as it is, which is never clipped.
    """

    name: str
    shape: tuple[int, ...]
    centre: tuple[float, ...] = field(repr=False)
    spread: tuple[float, ...] = field(repr=False)
    left: tuple[bool, ...] = field(repr=False)

    def __post_init__(self) -> None:
        require(len(self.shape) in (2, 3), f"{self.name}: shape must be (S, D) or (S, A, D), got {self.shape}")
        for name in ("centre", "spread", "left"):
            require(len(getattr(self, name)) == math.prod(self.shape), f"{self.name}: {name} must have {math.prod(self.shape)} entries")

    @cached_property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """Return centre, spread, gain (1 / spread, 0 for a spread of 0) and left, each of `shape`."""
        centre, spread = (np.array(numbers).reshape(self.shape) for numbers in (self.centre, self.spread))
        gain = np.divide(1.0, spread, out=np.zeros(self.shape), where=spread != 0)
        return read_only(centre), read_only(spread), read_only(gain), read_only(np.array(self.left).reshape(self.shape))

    def chosen(self, numbers: Array, source: Array, array: Array) -> Array:
        """Return the numbers of each sample's source, in a shape that goes with its array.

        Args:
            numbers: (S, D) or (S, A, D).
            source: (B,) or of any leading axes.
            array: (B, ..., D), or (B, ..., A, D) where there is a horizon.
        """
        own = len(self.shape) - 1
        if array.ndim < source.ndim + own or array.shape[array.ndim - own :] != self.shape[1:]:
            wanted = "(…, " + ", ".join(str(size) for size in self.shape[1:]) + ")"
            raise UsageError(f"{self.name!r}: must be of shape {wanted} as its statistics are, got {array.shape}; take the statistics of these steps and dims")
        between = array.ndim - source.ndim - own
        picked = numbers[source]
        return picked.reshape(*source.shape, *(1,) * between, *self.shape[1:])


@dataclass(frozen=True)
class Normalize:
    """Scales arrays of a batch to about [-1, 1] by the statistics of their sources; `inverse` brings them back.

    With `clip` (for `min_max` and `quantile`) numbers beyond [-1, 1] become -1 or 1: these alone do not come back. Without it every number comes back but
    for the rounding of float32, of the number itself and of its distance from the centre.
    """

    scalings: tuple[Scaling, ...]
    mode: Mode
    clip: bool = False
    binary: Binary = "keep"

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with its arrays scaled, float32; names that it does not have are passed over, and all others are as they were.

        Raises:
            UsageError: an array is not of the shape of its statistics, or `dataset` is missing or names no source.
        """
        found = dict(batch)
        for scaling, array, source in _arrays(self.scalings, batch):
            centre, _, gain, left = scaling.arrays
            with np.errstate(over="ignore", invalid="ignore"):  # infinite numbers stay so
                scaled = (array - scaling.chosen(centre, source, array)) * scaling.chosen(gain, source, array)
                if self.clip:
                    scaled = np.where(scaling.chosen(left, source, array), scaled, np.clip(scaled, -1.0, 1.0))
                found[scaling.name] = scaled.astype(np.float32)
        return found

    @property
    def inverse(self) -> Denormalize:
        """Return the way back."""
        return Denormalize(self)


@dataclass(frozen=True)
class Denormalize:
    """Brings arrays that `normalize` scaled back to their units."""

    normalize: Normalize

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with its arrays in the units of the data, float32; as `Normalize.__call__` otherwise."""
        found = dict(batch)
        for scaling, array, source in _arrays(self.normalize.scalings, batch):
            centre, spread, _, _ = scaling.arrays
            with np.errstate(over="ignore", invalid="ignore"):
                moved = array * scaling.chosen(spread, source, array) + scaling.chosen(centre, source, array)
                found[scaling.name] = moved.astype(np.float32)
        return found

    @property
    def inverse(self) -> Normalize:
        """Return the way there."""
        return self.normalize


def _arrays(scalings: Sequence[Scaling], batch: Mapping[str, Any]) -> list[tuple[Scaling, Array, Array]]:
    """Return each scaling whose array the batch has, with that array as float64 and the source of each sample."""
    found = []
    for scaling in scalings:
        if scaling.name not in batch:
            continue
        array = np.asarray(batch[scaling.name])
        sources = scaling.shape[0]
        if SOURCE not in batch and sources > 1:
            raise UsageError(f"batch: must have {SOURCE!r}, which of {sources} sources each sample is of, got {', '.join(sorted(batch))}")
        source = np.asarray(batch.get(SOURCE, 0))  # of a single source every sample is
        if source.size and (source.min() < 0 or source.max() >= sources):
            raise UsageError(
                f"batch[{SOURCE!r}]: must be 0 to {sources - 1}, one of the sources whose statistics are known, got {source.min()} to {source.max()}"
            )
        if array.shape[: source.ndim] != source.shape:
            raise UsageError(f"{scaling.name!r}: must start with the axes of {SOURCE!r}, {source.shape}, got {array.shape}")
        found.append((scaling, array.astype(np.float64), source))
    return found


def normalizer(
    statistics: Sequence[Mapping[str, ColumnStatistics]], names: Sequence[str], mode: Mode = "quantile", clip: bool = False, binary: Binary = "keep"
) -> Normalize:
    """Return the normalisation of batches from several sources.

    Args:
        statistics: of each source by name, in the order of the numbers in batch["dataset"]. A source that lacks a name has no such array: its samples,
            padded and masked, are left as they are. So are the dimensions beyond its own, where sources differ in width, and those in which it has no number.
        names: the arrays to normalise.
        mode: what becomes -1 and 1, or 0 and its distance.
        clip: let what lies beyond [-1, 1] become -1 or 1; not for `mean_std`, which has no bounds.
        binary: leave dimensions of two values as recorded ("keep"), or scale them as all others.

    Raises:
        UsageError: a name has statistics in no source, or some for each step of a horizon and some not, or of horizons that differ.
        UnknownName: the mode or what becomes of binary dimensions is not known.
    """
    for what, given, known in (("mode of normalisation", mode, MODES), ("way with binary dimensions", binary, BINARY)):
        if given not in known:
            raise UnknownName(what, str(given), known)
    if clip and mode == "mean_std":
        raise UsageError("clip: must be left out with 'mean_std', which has no bounds; use 'quantile' or 'min_max'")
    if not statistics:
        raise UsageError("statistics: must be of at least one source, got none")
    lacking = [name for name in names if all(name not in source for source in statistics)]
    if lacking:
        known_names = ", ".join(sorted({name for source in statistics for name in source})) or "none"
        raise UsageError(f"normalize: must have statistics of {', '.join(map(repr, lacking))} in some source, got those of {known_names}")
    return Normalize(tuple(_scaling(name, [source.get(name) for source in statistics], mode, binary) for name in names), mode, clip, binary)


def _scaling(name: str, sources: Sequence[ColumnStatistics | None], mode: Mode, binary: Binary) -> Scaling:
    horizons = sorted({found.shape[0] if len(found.shape) == 2 else 0 for found in sources if found is not None})
    if len(horizons) > 1:
        said = " and ".join(f"for {steps} steps of a horizon" if steps else "for all steps together" for steps in horizons)
        raise UsageError(f"statistics of {name!r}: must be for the same steps in every source, got some {said}")
    width = max(found.shape[-1] for found in sources if found is not None)
    shape = (len(sources), *((horizons[0],) if horizons[0] else ()), width)
    centre, spread, left = np.zeros(shape), np.ones(shape), np.ones(shape, dtype=bool)
    for place, found in enumerate(sources):
        if found is None:
            continue
        own = (place, ..., slice(0, found.shape[-1]))
        middle, half, skipped = _range(found, mode, binary)
        centre[own], spread[own], left[own] = np.where(skipped, 0.0, middle), np.where(skipped, 1.0, half), skipped
    return Scaling(name, shape, tuple(centre.ravel().tolist()), tuple(spread.ravel().tolist()), tuple(left.ravel().tolist()))


def _range(found: ColumnStatistics, mode: Mode, binary: Binary) -> tuple[Array, Array, Array]:
    """Return centre, spread (0 for what never changes) and whether a dimension is left as it is, each of the statistics' shape."""
    low, high, distinct = found.array("min"), found.array("max"), found.array("distinct")
    lower, upper = (found.array("q01"), found.array("q99")) if mode == "quantile" else (low, high)
    lower, upper = np.where(lower == upper, low, lower), np.where(lower == upper, high, upper)
    constant = high - low <= _FLOAT32_STEP * np.maximum(np.abs(low), np.abs(high))
    if mode == "mean_std":
        centre, spread = found.array("mean"), found.array("std")
    else:
        centre, spread = lower / 2 + upper / 2, upper / 2 - lower / 2
    skipped = (distinct == 0) | ~np.isfinite(centre) | ~np.isfinite(spread)
    if binary == "keep":
        skipped = skipped | ((distinct == 2) & ~constant)
    return np.where(constant, low, centre), np.where(constant | (spread == 0), 0.0, spread), skipped
