"""Time as int64 nanoseconds, half-open windows, and clocks that say how they came about."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array

ClockKind = Literal["measured", "nominal", "unknown"]

NS_PER_S = 1_000_000_000


def nominal_timestamps_ns(count: int, rate_hz: float | Fraction) -> Array:
    """Return `count` times of a perfectly regular clock, (count,) int64 from 0.

    Row i is at floor(i / rate) computed in exact integers, so that no rounding error accumulates.
    """
    rate = Fraction(rate_hz).limit_denominator(1_000_000)
    if rate <= 0:
        raise ValueError(f"rate_hz: must be positive, got {rate_hz}")
    step = NS_PER_S * rate.denominator
    if count * step < 2**62:
        return (np.arange(count, dtype=np.int64) * step) // rate.numerator
    return np.array([(i * step) // rate.numerator for i in range(count)], dtype=np.int64)


def median_rate_hz(timestamps_ns: Array) -> float | None:
    """Return 1 / median step of a clock, None for fewer than two rows or a clock that stands still."""
    if len(timestamps_ns) < 2:
        return None
    step_ns = float(np.median(np.diff(timestamps_ns)))
    return NS_PER_S / step_ns if step_ns > 0 else None


def steps_near(times_ns: Array, steps: Array, seconds: Sequence[float]) -> tuple[Array, Array]:
    """Return the step nearest to each of K offsets in s from some steps, ties to the earlier, and whether that time lies beyond the steps there are.

    Args:
        times_ns: (T,) int64, increasing; T at least 1.
        steps: (n,) int64 in [0, T).
        seconds: K offsets.

    Returns:
        (n, K) int64 in [0, T) and (n, K) bool, True where the nearest step is more than half a period away.
    """
    count = len(times_ns)
    offsets = np.rint(np.array(list(seconds)) * 1e9).astype(np.int64)
    wanted = times_ns[steps][:, None] + offsets
    after = np.clip(np.searchsorted(times_ns, wanted), 1, max(1, count - 1))
    before = after - 1
    after = np.minimum(after, count - 1)
    nearest = np.where(times_ns[after] - wanted < wanted - times_ns[before], after, before)
    period = int(np.median(np.diff(times_ns))) if count > 1 else 0
    return nearest, np.abs(times_ns[nearest] - wanted) > period // 2 + 1
