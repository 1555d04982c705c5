"""Quantiles of numbers that do not fit into memory: mergeable, the same in every run, with an error that is known.

Munro and Paterson 1980 and Manku, Rajagopalan and Lindsay 1998: numbers are kept in levels; one of level i stands for 2**i of them. A level that
overflows is sorted and every second number of it moves up. Which of each two, the smaller or the larger, alternates, so that the errors of one level cancel
instead of adding up. Nothing is drawn at random (as KLL does), so that the same numbers in the same order give the same answer.
"""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array

LEVEL_SIZE = 8192


class QuantileSketch:
    """Quantiles of the finite numbers seen so far: exact for up to 8,192, afterwards within `rank_error`.

    Each time that a level is thinned out, the rank of any number is off by at most what one of that level's numbers stands for, upwards
    or downwards by turns. The sum of both is tracked, and is a bound that holds in the worst case: after 10^6 numbers one at a time about 0.05 % of
    the ranks, after 10^9 about 0.11 %, and less where they come in larger batches. Merging adds the bounds up.
    """

    def __init__(self) -> None:
        self.count = 0
        self._pending: list[Array] = []
        self._pending_count = 0
        self._levels: list[Array] = [np.empty(0)]
        self._keeps_larger: list[bool] = [False]
        self._too_low = 0
        self._too_high = 0

    def update(self, values: Array) -> None:
        """Add finite numbers, (N,)."""
        if not len(values):
            return
        self.count += len(values)
        self._pending.append(np.array(values, dtype=np.float64))
        self._pending_count += len(values)
        if self._pending_count + len(self._levels[0]) > LEVEL_SIZE:
            self._settle()

    def merge(self, other: QuantileSketch) -> None:
        """Add everything that another sketch has seen; the other is left as it is."""
        while len(self._levels) < len(other._levels):
            self._levels.append(np.empty(0))
            self._keeps_larger.append(False)
        for level, values in enumerate(other._levels):
            if len(values):
                self._levels[level] = np.concatenate([self._levels[level], values])
        self._pending += other._pending
        self._pending_count += other._pending_count
        self.count += other.count
        self._too_low += other._too_low
        self._too_high += other._too_high
        self._settle()

    def _settle(self) -> None:
        self._levels[0] = np.concatenate([self._levels[0], *self._pending])
        self._pending, self._pending_count = [], 0
        level = 0
        while level < len(self._levels):
            if len(self._levels[level]) > LEVEL_SIZE:
                self._thin_out(level)
            level += 1

    def _thin_out(self, level: int) -> None:
        """Move every second number of a level up; of an odd number of them the largest stays."""
        if level + 1 == len(self._levels):
            self._levels.append(np.empty(0))
            self._keeps_larger.append(False)
        values = np.sort(self._levels[level])
        pairs = len(values) // 2
        larger = self._keeps_larger[level]
        self._levels[level + 1] = np.concatenate([self._levels[level + 1], values[int(larger) : 2 * pairs : 2]])
        self._levels[level] = values[2 * pairs :].copy()  # a view would keep all of them in memory
        self._keeps_larger[level] = not larger
        if larger:
            self._too_low += 1 << level
        else:
            self._too_high += 1 << level

    @property
    def rank_error(self) -> float:
        """Return the largest possible error of a quantile's rank, as a share of the count; 0 while exact."""
        return max(self._too_low, self._too_high) / self.count if self.count else 0.0

    def quantiles(self, shares: Array) -> Array:
        """Return (K,) for shares (K,) in [0, 1] the smallest number seen that at least this share of the numbers does not exceed; NaN when empty.

        Always a number that was seen: the median of an open and a closed gripper is one of them, not half open.
        """
        if not self.count:
            return np.full(len(shares), np.nan)
        self._settle()
        values = np.concatenate(self._levels)
        weights = np.concatenate([np.full(len(kept), 1 << level, dtype=np.int64) for level, kept in enumerate(self._levels)])
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weights[order])
        targets = np.maximum(1, np.ceil(np.asarray(shares) * reached[-1] - 1e-9 * reached[-1]).astype(np.int64))
        return np.asarray(values[order][np.minimum(np.searchsorted(reached, targets), len(values) - 1)])
