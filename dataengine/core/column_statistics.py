"""What is known of the numbers of a column: the values that normalisation is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dataengine.core.arrays import Array, read_only, require

NUMBERS = ("mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99")
COUNTS = ("count", "not_finite", "distinct")
SEVERAL = 3  # `distinct` counts no further


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of each dimension of a column, or of each dimension at each step of a horizon.

    `shape` is (D,) or (A, D); every other tuple of numbers holds one entry a dimension in C order, NaN where nothing finite was seen. `rows` and `nulls`
    hold one number, or one a step of the horizon. `count` are the finite numbers seen, `not_finite` those that are NaN or infinite; `distinct` is how many
    different numbers were seen, 3 for three and more. `std` is that of the population. `rank_error` bounds the error of a quantile's rank as a share.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...]
    nulls: tuple[int, ...]
    count: tuple[int, ...]
    not_finite: tuple[int, ...]
    distinct: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...]
    q10: tuple[float, ...]
    q50: tuple[float, ...]
    q90: tuple[float, ...]
    q99: tuple[float, ...]
    rank_error: float = 0.0
    dims: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require(len(self.shape) in (1, 2), f"shape: must be (D,) or (A, D), got {self.shape}")
        size = math.prod(self.shape)
        for name in (*COUNTS, *NUMBERS):
            require(len(getattr(self, name)) == size, f"{name}: must have {size} entries for the shape {self.shape}, got {len(getattr(self, name))}")
        steps = self.shape[0] if len(self.shape) == 2 else 1
        for name in ("rows", "nulls"):
            require(len(getattr(self, name)) == steps, f"{name}: must have {steps} entries for the shape {self.shape}, got {len(getattr(self, name))}")
        require(self.dims is None or len(self.dims) == self.shape[-1], f"dims: must name {self.shape[-1]} dimensions, got {self.dims}")

    def __eq__(self, other: object) -> bool:
        """Whether all is equal; what was not seen equals what was not seen."""
        if not isinstance(other, ColumnStatistics):
            return NotImplemented
        return all(_same(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    def __hash__(self) -> int:
        return hash((self.shape, self.rows, self.count, self.dims))

    def array(self, name: str) -> Array:
        """Return one of the statistics by name as an array of `shape`, float64 or int64."""
        return read_only(np.array(getattr(self, name), dtype=np.int64 if name in COUNTS else np.float64).reshape(self.shape))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def column_statistics(entry: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> ColumnStatistics:
    """Return the statistics that JSON values hold.

    Args:
        entry: what `ColumnSummary.result` gives, perhaps with `dims`; or a list of such, one for each step of a horizon.
    """
    steps = [entry] if isinstance(entry, Mapping) else list(entry)
    require(bool(steps), "statistics: must be of at least one step")
    width = len(steps[0]["count"])
    require(all(len(step["count"]) == width for step in steps), "statistics: must have as many dimensions at each step of the horizon")
    dims = steps[0].get("dims")
    listed: dict[str, Any] = {name: tuple(int(number) for step in steps for number in step[name]) for name in COUNTS}
    listed |= {name: tuple(math.nan if number is None else float(number) for step in steps for number in step[name]) for name in NUMBERS}
    return ColumnStatistics(
        shape=(width,) if isinstance(entry, Mapping) else (len(steps), width),
        rows=tuple(int(step["rows"]) for step in steps),
        nulls=tuple(int(step["nulls"]) for step in steps),
        rank_error=max(float(step["rank_error"]) for step in steps),
        dims=tuple(dims) if dims is not None else None,
        **listed,
    )
