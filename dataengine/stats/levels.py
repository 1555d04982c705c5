"""The two levels of a number that stands for a class, such as a gripper's: where they lie and what is nearer to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array


@dataclass(frozen=True)
class TwoLevels:
    """The lower and the upper level of a number; `threshold` lies halfway between them, and what is above it is of the upper class."""

    low: float
    high: float

    @property
    def threshold(self) -> float:
        """Return the number halfway between the levels."""
        return (self.low + self.high) / 2

    def upper(self, values: Array) -> Array:
        """Return whether numbers are of the upper class."""
        return np.asarray(values > self.threshold)


def two_levels(values: Array) -> TwoLevels | None:
    """Return the levels of numbers: their means on both sides of the cut that leaves least variance (Otsu 1979), None where all are alike."""
    there = np.sort(np.asarray(values, np.float64)[np.isfinite(values)])
    if len(there) < 2 or there[-1] - there[0] < 1e-9:
        return None
    counts = np.arange(1, len(there))
    sums = np.cumsum(there)
    below = sums[:-1] / counts
    above = (sums[-1] - sums[:-1]) / (len(there) - counts)
    between = counts * (len(there) - counts) * (above - below) ** 2
    between[there[1:] == there[:-1]] = -1  # no cut between equal numbers
    cut = int(np.argmax(between))
    return TwoLevels(float(below[cut]), float(above[cut]))
