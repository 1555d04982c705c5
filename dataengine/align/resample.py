"""Find, for each time of a grid, the samples of a stream that speak for it.

Everything here is a pure function of int64 ns. `times_ns` is (N,) and must not step back (several samples may share a time);
`grid_ns` is (T,) in any order. Rules that hold throughout:

- Of samples at the same time the earlier row is used; of two samples equally near the earlier one.
- A sample is used only when it is at most `staleness_ns` from the grid time, that distance included.
- Nothing is extrapolated: before the first sample there is none. Nearest and interpolation end with the last sample; a held sample is in
  force from its own time until the next one's (half-open), the last one like every other until it is stale.

Distances are taken modulo 2**64 as unsigned numbers, so that times at both ends of the int64 range do not overflow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.pose import slerp_xyzw

NONE = -1
UNLIMITED_NS = 2**64 - 1
SWITCH_ROWS = 8  # in fewer rows, two values are no sign of a switch


class Picked(NamedTuple):
    """For each grid time one sample.

    `rows` (T,) int64 is the row used, `valid` (T,) bool whether there is one, `sampled_ns` (T,) int64 its measured time; -1 in both where
    there is none.
    """

    rows: Array
    valid: Array
    sampled_ns: Array


class Between(NamedTuple):
    """For each grid time the two samples around it: rows (T,), and the weight of the later one in [0, 1].

    On a sample's own time both rows are that sample and the weight is 0. `sampled_ns` is the time of the later one.
    """

    earlier: Array
    later: Array
    weight: Array
    valid: Array
    sampled_ns: Array


def distance_ns(later_ns: Array, earlier_ns: Array) -> Array:
    """Return `later_ns - earlier_ns` as uint64, exact over the whole int64 range; `later_ns` must not be before `earlier_ns`."""
    return np.asarray(later_ns.view(np.uint64) - earlier_ns.view(np.uint64))


def _first_of_equal_times(times_ns: Array, rows: Array) -> Array:
    return np.searchsorted(times_ns, times_ns[rows], side="left")


def _picked(times_ns: Array, rows: Array, valid: Array) -> Picked:
    return Picked(np.where(valid, rows, NONE), valid, np.where(valid, times_ns[rows], NONE))


def _nothing(steps: int) -> Picked:
    none = np.full(steps, NONE, dtype=np.int64)
    return Picked(none, np.zeros(steps, dtype=bool), none)


def previous_rows(times_ns: Array, grid_ns: Array, staleness_ns: int) -> Picked:
    """Pick the last sample at or before each grid time: what was known, or in force, at that time."""
    if len(times_ns) == 0:
        return _nothing(len(grid_ns))
    rows = np.searchsorted(times_ns, grid_ns, side="right") - 1
    seen = rows >= 0
    rows = _first_of_equal_times(times_ns, np.maximum(rows, 0))
    used_ns = times_ns[rows]
    return _picked(times_ns, rows, seen & (distance_ns(np.maximum(grid_ns, used_ns), used_ns) <= staleness_ns))


def nearest_rows(times_ns: Array, grid_ns: Array, staleness_ns: int) -> Picked:
    """Pick the sample nearest to each grid time, the earlier of two equally near; none outside the first and the last sample."""
    between = between_rows(times_ns, grid_ns, UNLIMITED_NS)
    if len(times_ns) == 0:
        return _nothing(len(grid_ns))
    before = distance_ns(np.maximum(grid_ns, times_ns[between.earlier]), times_ns[between.earlier])
    after = distance_ns(np.maximum(times_ns[between.later], grid_ns), grid_ns)
    rows = np.where(before <= after, between.earlier, between.later)
    return _picked(times_ns, rows, between.valid & (np.minimum(before, after) <= staleness_ns))


def commanded_rows(times_ns: Array, grid_ns: Array, start_ns: Array, end_ns: Array, staleness_ns: int) -> Picked:
    """Pick what was commanded at each step: the command in `[start_ns, end_ns)` nearest to the grid time, else the one still in force.

    Args:
        times_ns: (N,) times of the commands.
        grid_ns: (T,) the steps.
        start_ns: (T,) start of each step's window, at or before its grid time.
        end_ns: (T,) end of it, after its grid time.
        staleness_ns: how far from the grid time a command may be.

    With windows from one observation to the next this is the first command after `observation[t]` and before `observation[t+1]`.
    A hold alone would give the command that answered the observation before.
    """
    if len(times_ns) == 0:
        return _nothing(len(grid_ns))
    held = previous_rows(times_ns, grid_ns, staleness_ns)
    after = np.minimum(np.searchsorted(times_ns, grid_ns, side="left"), len(times_ns) - 1)
    after_ns = times_ns[after]
    ahead_ns = distance_ns(np.maximum(after_ns, grid_ns), grid_ns)
    answers = (after_ns >= grid_ns) & (after_ns < end_ns) & (ahead_ns <= staleness_ns)
    held_in_window = held.valid & (held.sampled_ns >= start_ns)
    behind_ns = distance_ns(np.maximum(grid_ns, held.sampled_ns), held.sampled_ns)
    answers &= ~held_in_window | (ahead_ns < behind_ns)
    return _picked(times_ns, np.where(answers, after, np.maximum(held.rows, 0)), answers | held.valid)


def between_rows(times_ns: Array, grid_ns: Array, staleness_ns: int) -> Between:
    """Find the samples on both sides of each grid time; valid only where each of the two is within the staleness bound."""
    steps = len(grid_ns)
    if len(times_ns) == 0:
        none = np.full(steps, NONE, dtype=np.int64)
        return Between(none, none, np.zeros(steps), np.zeros(steps, dtype=bool), none)
    last = len(times_ns) - 1
    later = np.searchsorted(times_ns, grid_ns, side="left")
    valid = (later <= last) & (grid_ns >= times_ns[0])
    later = np.minimum(later, last)
    on_sample = times_ns[later] == grid_ns
    earlier = np.where(on_sample | (later == 0), later, _first_of_equal_times(times_ns, np.maximum(later - 1, 0)))
    earlier_ns, later_ns = times_ns[earlier], times_ns[later]
    before = distance_ns(np.maximum(grid_ns, earlier_ns), earlier_ns)
    after = distance_ns(np.maximum(later_ns, grid_ns), grid_ns)
    valid &= (before <= staleness_ns) & (after <= staleness_ns)
    span = distance_ns(later_ns, earlier_ns).astype(np.float64)
    weight = np.where(valid & ~on_sample, before.astype(np.float64) / np.where(span > 0, span, 1.0), 0.0)
    return Between(earlier, later, weight, valid, np.where(valid, later_ns, NONE))


def take(values: Array, picked: Picked) -> Array:
    """Return (T, ...) the picked rows of `values` (N, ...) unchanged, zeros where there is none."""
    out = np.zeros((len(picked.rows), *values.shape[1:]), dtype=values.dtype)
    out[picked.valid] = values[picked.rows[picked.valid]]
    return out


def linear(values: Array, between: Between) -> Array:
    """Interpolate `values` (N, ...) of a float dtype: (T, ...) of the same dtype, zeros where not valid.

    Computed in float64. A result never leaves the range of its two samples, and is exactly the sample on the sample's own time. A dimension that
    takes only two different values in eight rows or more (an open or closed gripper, a switch) is held: it has nothing in between.
    """
    out = np.zeros((len(between.weight), *values.shape[1:]), dtype=values.dtype)
    if not between.valid.any():
        return out
    earlier_rows, later_rows = between.earlier[between.valid], between.later[between.valid]
    weight = between.weight[between.valid].reshape((-1,) + (1,) * (values.ndim - 1))
    held = values[earlier_rows]
    earlier, later = held.astype(np.float64), values[later_rows].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        mixed = (1.0 - weight) * earlier + weight * later
        mixed = np.clip(mixed, np.minimum(earlier, later), np.maximum(earlier, later))
        low, high = values.min(axis=0), values.max(axis=0)
    is_switch = ((values == low) | (values == high)).all(axis=0) & (len(values) >= SWITCH_ROWS)
    out[between.valid] = np.where(is_switch | (weight == 0), held, mixed.astype(values.dtype))
    return out


def slerp(values: Array, between: Between, first: int, scalar_first: bool = False) -> Array:
    """Interpolate poses: the quaternion in dimensions `first` to `first + 4` on the shorter arc, the others linearly.

    Args:
        values: (N, D) of a float dtype.
        between: the samples around each grid time.
        first: the quaternion's first dimension.
        scalar_first: whether it is stored as (w, x, y, z) instead of (x, y, z, w).

    Returns:
        (T, D) of the same dtype, zeros where not valid. On a sample's own time it is that sample, bit for bit. Where one of the two quaternions
        is zero or not finite the earlier sample is held.
    """
    out = linear(values, between)
    moved = np.flatnonzero(between.valid & (between.weight > 0))
    part = slice(first, first + 4)
    earlier = values[between.earlier[moved], part].astype(np.float64)
    later = values[between.later[moved], part].astype(np.float64)
    length = np.minimum(np.linalg.norm(earlier, axis=1), np.linalg.norm(later, axis=1))
    usable = np.isfinite(earlier).all(axis=1) & np.isfinite(later).all(axis=1) & (length > 1e-6)
    out[moved, part] = values[between.earlier[moved], part]
    if usable.any():
        order = [1, 2, 3, 0] if scalar_first else [0, 1, 2, 3]
        turned = slerp_xyzw(earlier[usable][:, order], later[usable][:, order], between.weight[moved][usable])
        out[moved[usable], part] = turned[:, np.argsort(order)]
    return out
