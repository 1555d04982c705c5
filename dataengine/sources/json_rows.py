"""Rows of numbers that stand beside video without times of their own: tables out of JSON, and where rows lie between frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dataengine.core.arrays import Array

MAX_STRIDE = 1000
MAX_RANK = 4
EXACT = 2.0**53  # up to which float64 holds every integer


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what nested lists hold, in their order."""
    if isinstance(value, list):
        for entry in value:
            yield from _leaves(entry)
    else:
        yield value


def table_of(value: Any) -> Array | None:
    """Return a JSON list of numbers, or of equally long lists of numbers, as (N, ...) float64, int64, uint64 or bool; None for anything else.

    JSON says nothing of a number's type: one with a point or an exponent anywhere makes all of them float64, which holds each as it was written. Integers are
    never rounded: beyond int64 they are uint64 where none is negative, and where no type holds all of them there is no table.
    """
    if not isinstance(value, list) or not value:
        return None
    try:
        table = np.asarray(value)
    except (ValueError, OverflowError, TypeError):
        return None
    if table.dtype.kind == "f" and bool(np.any(np.abs(table) >= EXACT)):  # numpy rounds integers beyond int64, and those beside a decimal
        try:
            numbers = list(_leaves(value))
            if all(type(number) is int and number >= 0 for number in numbers):
                table = np.array(numbers, np.uint64).reshape(table.shape)
            elif any(type(number) is int and int(float(number)) != number for number in numbers):
                return None
        except OverflowError:
            return None
    return table if table.dtype.kind in "biuf" and table.size and table.ndim <= MAX_RANK else None


def stride_of(rows: int, frames: int) -> list[int]:
    """Return every s for which each s-th of `rows` rows, from the first on, gives `frames` rows: frames == ceil(rows / s)."""
    if frames < 1 or rows < frames:
        return []
    least = -(-rows // frames)
    most = rows if frames == 1 else (rows - 1) // (frames - 1)
    return list(range(least, min(most, MAX_STRIDE) + 1))


def chosen_stride(rows: int, frames: int, pairs: Iterable[tuple[Array, Array]]) -> int | None:
    """Return how many rows there are to a frame, None where the file does not say.

    Args:
        rows: of the faster signal.
        frames: of the slower one.
        pairs: (slow, fast) tables of one quantity, where the file holds it at both rates: only strides count at which they are equal.
    """
    candidates = stride_of(rows, frames)
    for slow, fast in pairs:
        candidates = [stride for stride in candidates if len(fast[::stride]) >= len(slow) and np.array_equal(fast[::stride][: len(slow)], slow)]
    return candidates[0] if len(candidates) == 1 else None


def times_between(frame_ns: Array, stride: int, rows: int) -> Array:
    """Return the times of rows of which `stride` belong to each frame, (rows,) int64 ns: row stride * k has exactly the time of frame k.

    Args:
        frame_ns: (F,) times of the frames; rows after the last frame go on with the last step.
        stride: rows to a frame.
        rows: how many rows; at most stride * F.
    """
    steps = np.diff(frame_ns)
    steps = np.append(steps, steps[-1:] if len(steps) else np.zeros(1, np.int64))
    frame, part = np.divmod(np.arange(rows, dtype=np.int64), stride)
    times: Array = frame_ns[frame] + steps[frame] * part // stride
    return times
