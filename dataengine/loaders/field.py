"""What a sample holds of one column: which steps around its own, or which time before it, and at what size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.errors import UsageError
from dataengine.transforms.resizing import FITS, Fit


@dataclass(frozen=True)
class Field:
    """A window of one column around a sample's step.

    At most one of `steps`, `seconds` and `window` is given; with none of them the value at the step itself, without a time axis.

    Attributes:
        steps: offsets in steps, such as [-1, 0] or range(16).
        seconds: offsets in s; each takes the step nearest to that time. Needs a known rate.
        window: (from, to) in s around the step: the samples of the native stream after `from` and up to `to`, as recorded, not resampled. Needs `rows`.
        rows: how many rows a `window` has: the latest that many samples, last ones last; missing ones are padded in front.
        size: (height, width) in px that pictures are brought to.
        fit: how: "stretch", "pad" (keep the aspect, black bars) or "crop" (keep the aspect, cut the longer side).
        dtype: numpy name that numbers are cast to; by default float32 for floats of any size, and integers as they are where all datasets agree.
    """

    steps: tuple[int, ...] | Iterable[int] | None = None
    seconds: tuple[float, ...] | Iterable[float] | None = None
    window: tuple[float, float] | None = None
    rows: int | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "stretch"
    dtype: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("steps", "seconds", "window") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"Field: must have one of steps, seconds and window, got {' and '.join(given)}")
        self._settle("steps", int)
        self._settle("seconds", float)
        self._settle("window", float)
        self._settle("size", int)
        if (self.window is None) != (self.rows is None):
            raise UsageError("Field: window and rows go together: window=(-0.5, 0.0), rows=100 gives the latest 100 samples of the last half second")
        if self.window is not None and (len(self.window) != 2 or self.window[0] >= self.window[1]):
            raise UsageError(f"Field: window must be (from, to) in s with from < to, got {self.window}")
        if self.rows is not None and self.rows < 1:
            raise UsageError(f"Field: rows must be at least 1, got {self.rows}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise UsageError(f"Field: size must be (height, width) in px, got {self.size}")
        if self.seconds is not None and not all(math.isfinite(value) for value in self.seconds):
            raise UsageError(f"Field: seconds must be finite, got {self.seconds}")
        if self.dtype is not None and not _of_numbers(self.dtype):
            raise UsageError(f"Field: dtype must be numpy's name of a type of numbers, such as 'float32', got {self.dtype!r}")
        if self.fit not in FITS:
            raise UsageError(f"Field: fit must be one of {', '.join(FITS)}, got {self.fit!r}")

    def _settle(self, name: str, kind: type) -> None:
        """Turn a list or range into a tuple, so that fields can be compared and hashed."""
        value: Any = getattr(self, name)
        if value is None:
            return
        try:
            settled = tuple(kind(one) for one in value)
        except (TypeError, ValueError):
            raise UsageError(f"Field: {name} must be a list of numbers, got {value!r}") from None
        if not settled or (kind is int and any(one != other for one, other in zip(settled, value, strict=True))):
            raise UsageError(f"Field: {name} must be a list of {'whole ' if kind is int else ''}numbers, got {value!r}")
        object.__setattr__(self, name, settled)

    @property
    def count(self) -> int | None:
        """Return the length of the time axis, None where there is none."""
        for offsets in (self.steps, self.seconds):
            if offsets is not None:
                return len(tuple(offsets))
        return self.rows


def _of_numbers(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False
