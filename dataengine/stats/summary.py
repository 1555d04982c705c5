"""Statistics of a numeric column over many episodes, kept so that parts can be merged."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column_statistics import SEVERAL
from dataengine.stats.sketches import QuantileSketch

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MAX_DIMS = 4096  # a sketch a dimension: more are a picture or a point cloud, of which quantiles say nothing


class ColumnSummary:
    """Count, mean, standard deviation, extremes and quantiles of each dimension of a column, and whether it has one value, two, or more.

    Rows that are null (not valid) are counted and left out; so are single values that are NaN or infinite. Means and variances are merged as of Chan, Golub
    and LeVeque 1979, in float64. Integers above 2**53 are rounded.
    """

    def __init__(self, dims: int) -> None:
        """Start empty, for rows of `dims` numbers; raise ValueError for none, or more than 4,096."""
        if not 0 < dims <= MAX_DIMS:
            raise ValueError(f"dims: must be 1 to {MAX_DIMS}, got {dims}")
        self.dims = dims
        self.rows = 0
        self.nulls = 0
        self.counts = np.zeros(dims, dtype=np.int64)
        self.not_finite = np.zeros(dims, dtype=np.int64)
        self._mean = np.zeros(dims)
        self._squares = np.zeros(dims)
        self._low = np.full(dims, np.inf)
        self._high = np.full(dims, -np.inf)
        self._two = np.ones(dims, dtype=bool)  # every number seen is the lowest or the highest
        self._sketches = [QuantileSketch() for _ in range(dims)]

    def update(self, values: Array, valid: Array | None = None) -> None:
        """Add rows.

        Args:
            values: (N, ...) numbers or booleans with `dims` of them a row.
            valid: (N,) bool, False for rows that are null; None where none is.
        """
        rows = values.reshape(len(values), -1) if len(values) else np.empty((0, self.dims))
        if rows.shape[1] != self.dims:
            raise ValueError(f"values: must have {self.dims} numbers a row, got {rows.shape[1]}")
        self.rows += len(rows)
        if valid is not None:
            self.nulls += len(rows) - int(np.count_nonzero(valid))
            rows = rows[valid]
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        finite = np.isfinite(rows)
        counts = np.count_nonzero(finite, axis=0)
        self.not_finite += len(rows) - counts
        complete = bool((counts == len(rows)).all())
        present = rows if complete else np.where(finite, rows, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = present.sum(axis=0) / np.maximum(counts, 1)
            deviations = present - mean if complete else np.where(finite, present - mean, 0.0)
            self._add(counts, mean, np.square(deviations).sum(axis=0))
        low = rows.min(axis=0) if complete else np.where(finite, rows, np.inf).min(axis=0)
        high = rows.max(axis=0) if complete else np.where(finite, rows, -np.inf).max(axis=0)
        self._two = self._two & ((rows == low) | (rows == high) | ~finite).all(axis=0)
        self._extend(low, high)
        for dimension, sketch in enumerate(self._sketches):
            column = rows[:, dimension]
            sketch.update(column if complete else column[finite[:, dimension]])

    def _add(self, counts: Array, mean: Array, squares: Array) -> None:
        total = self.counts + counts
        share = counts / np.maximum(total, 1)
        delta = mean - self._mean
        self._squares = self._squares + squares + np.square(delta) * self.counts * share
        self._mean = self._mean + delta * share
        self.counts = total

    def _extend(self, low: Array, high: Array) -> None:
        """Widen the extremes; what was one of two values before must still be an extreme."""
        lowest, highest = np.minimum(self._low, low), np.maximum(self._high, high)
        for end in (self._low, self._high, low, high):
            self._two = self._two & ((end == lowest) | (end == highest) | ~np.isfinite(end))
        self._low, self._high = lowest, highest

    def merge(self, other: ColumnSummary) -> None:
        """Add everything that another summary has seen; the other is left as it is."""
        if other.dims != self.dims:
            raise ValueError(f"summaries: must have the same dimensions, got {self.dims} and {other.dims}")
        self.rows += other.rows
        self.nulls += other.nulls
        self.not_finite = self.not_finite + other.not_finite
        with np.errstate(over="ignore", invalid="ignore"):
            self._add(other.counts, other._mean, other._squares)
        self._two = self._two & other._two
        self._extend(other._low, other._high)
        for mine, theirs in zip(self._sketches, other._sketches, strict=True):
            mine.merge(theirs)

    def result(self) -> dict[str, Any]:
        """Return the statistics as plain numbers for JSON.

        `rows` and `nulls` are numbers; `count`, `not_finite`, `distinct` (how many different numbers were seen, 3 for three and more), `mean`, `std` (of
        the population), `min`, `max` and each quantile are lists with one entry a dimension, None where nothing finite was seen; `rank_error` is the
        largest possible error of a quantile's rank, 0 where they are exact.
        """
        seen = self.counts > 0

        def listed(numbers: Array) -> list[float | None]:
            return [float(number) if there and np.isfinite(number) else None for number, there in zip(numbers, seen, strict=True)]

        quantiles = np.stack([sketch.quantiles(np.array(list(QUANTILES.values()))) for sketch in self._sketches])
        with np.errstate(over="ignore", invalid="ignore"):
            std = np.sqrt(np.maximum(self._squares, 0.0) / np.maximum(self.counts, 1))
        return {
            "rows": self.rows,
            "nulls": self.nulls,
            "count": self.counts.tolist(),
            "not_finite": self.not_finite.tolist(),
            "distinct": np.where(~seen, 0, np.where(self._low == self._high, 1, np.where(self._two, 2, SEVERAL))).tolist(),
            "mean": listed(self._mean),
            "std": listed(std),
            "min": listed(self._low),
            "max": listed(self._high),
            **{name: listed(quantiles[:, index]) for index, name in enumerate(QUANTILES)},
            "rank_error": max(sketch.rank_error for sketch in self._sketches),
        }
