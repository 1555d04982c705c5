"""Faults of numeric signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.problem import Problem, Severity
from dataengine.validate.limits import CheckLimits

SIGNALS = frozenset({"state", "action"})
POSITION_KINDS = frozenset({"joint_position", "ee_pose"})
POSITION_UNITS = frozenset({"rad", "m"})
POSITION_NAMES = ("position", "positions", "qpos", "pose")
MAX_SIGNAL_DIMS = 512
_TURN_RAD, _TURN_SLACK_RAD = 2 * np.pi, 0.3


@dataclass(frozen=True, eq=False)
class SignalFacts:
    """A state's or an action's rows as evidence.

    `rows` is (N, D) float64; `low` and `high` (D,) over its finite values; `switches` (D,) bool marks dimensions that stand near one end or the other most
    of the time (a gripper, a flag), of which jumps and stops say nothing.
    """

    rows: Array
    low: Array
    high: Array
    switches: Array

    def part(self, start: int, stop: int) -> SignalFacts:
        """Return the facts of some of the dimensions."""
        return SignalFacts(self.rows[:, start:stop], self.low[start:stop], self.high[start:stop], self.switches[start:stop])


def is_signal(column: Column, values: Array) -> bool:
    """Return whether a column is a state or an action, in numbers; embeddings, rewards, flags and what has no known meaning are none."""
    return column.meaning in SIGNALS and values.dtype.kind in "fiu" and len(values) > 0 and 0 < values[0].size <= MAX_SIGNAL_DIMS


def all_finite(rows: Array) -> bool:
    """Return whether all values are finite; now and then False where they are, since their sum is not."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(rows.sum()))


def facts_of(rows: Array, finite: bool) -> SignalFacts:
    """Measure (N, D) float64 rows, of which `finite` says whether all are known to be finite."""
    if finite:
        low, high = rows.min(axis=0), rows.max(axis=0)
    else:
        known = np.isfinite(rows)
        low, high = np.where(known, rows, np.inf).min(axis=0), np.where(known, rows, -np.inf).max(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        margin = 0.05 * (high - low)
        near_an_end = ((rows <= low + margin) | (rows >= high - margin)).sum(axis=0)
    return SignalFacts(rows, low, high, near_an_end > 0.8 * len(rows))


def signal_facts(column: Column, values: Array) -> SignalFacts | None:
    """Measure a signal, None for columns that are none."""
    if not is_signal(column, values):
        return None
    rows = values.reshape(len(values), -1).astype(np.float64)
    return facts_of(rows, all_finite(rows))


def _dimension(column: Column, dimension: int) -> str:
    name = column.dims[dimension] if column.dims is not None and dimension < len(column.dims) else str(dimension)
    return f"column {column.name!r} dimension {name}"


def not_finite(column: Column, values: Array, limits: CheckLimits) -> list[Problem]:
    """Find NaN and infinite values; of a column whose meaning is not known they may be how it says "nothing" (a laser without an echo)."""
    if values.dtype.kind not in "fc":
        return []
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(values.sum(dtype=np.complex128 if values.dtype.kind == "c" else np.float64)):
            return []
    finite = np.isfinite(values).reshape(len(values), -1)
    bad = finite.size - int(np.count_nonzero(finite))
    if not bad:
        return []
    row = int(np.argmin(finite.all(axis=1)))
    found = f"{bad} of {values.size} are NaN or infinite, the first at row {row}"
    severity: Severity = "info" if column.meaning == "other" else "warning"
    message = f"column {column.name!r}: values must be finite, {found}"
    return [Problem("not_finite", message, column.name, severity, "finite values", found, "mask these rows before training")]


def frozen_signal(column: Column, signal: SignalFacts, limits: CheckLimits) -> list[Problem]:
    """Find a state of several dimensions of which not one changes by a bit: a sensor that stopped, or that was never there."""
    if column.meaning != "state" or len(signal.rows) < limits.signal_rows or signal.rows.shape[1] < 2 or (signal.low != signal.high).any():
        return []
    found = f"the same numbers in all {len(signal.rows)} rows"
    message = f"column {column.name!r}: a measured state should change, found {found}"
    return [Problem("frozen_signal", message, column.name, "warning", "a state that changes", found, "check that the sensor was connected")]


def stuck(signal: SignalFacts, extremes: Array, limits: CheckLimits) -> tuple[Array, Array]:
    """Return, for each dimension, the share of rows at its extreme, and whether that is more than a signal does by itself."""
    share = (signal.rows == extremes).sum(axis=0) / len(signal.rows)
    return share, (share > limits.saturated_share) & (signal.high > signal.low) & ~signal.switches & (extremes != 0)


def saturated(column: Column, signal: SignalFacts, limits: CheckLimits) -> list[Problem]:
    """Find dimensions that stay at their extreme: a command or a sensor that was clipped."""
    if len(signal.rows) < limits.signal_rows:
        return []
    problems = []
    for extremes in (signal.low, signal.high):
        share, clipped = stuck(signal, extremes, limits)
        for dimension in np.flatnonzero(clipped).tolist():
            found = f"{share[dimension]:.0%} of the rows at {extremes[dimension]:.6g} exactly"
            message = f"{_dimension(column, dimension)}: values should not stand at their limit, found {found}"
            problems.append(Problem("saturated", message, column.name, "info", "values inside their range", found))
    return problems


def is_position(column: Column) -> bool:
    """Return whether a column is known to hold positions, which cannot leap: by its action space, its unit or its name."""
    if column.action_space is not None:
        return column.action_space.kind in POSITION_KINDS
    return column.unit in POSITION_UNITS or column.name.lower().endswith(POSITION_NAMES)


def leaps(signal: SignalFacts, limits: CheckLimits) -> tuple[Array, Array, Array]:
    """Return (N-1, D) the sizes of steps and which of them are out of all proportion, and (D,) the size of a usual large step."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.abs(signal.rows[1:] - signal.rows[:-1])
        steps[~np.isfinite(steps)] = 0.0
        if steps.max(initial=0.0) > _TURN_RAD - _TURN_SLACK_RAD:
            steps[np.abs(steps - _TURN_RAD) < _TURN_SLACK_RAD] = 0.0
        rank = len(steps) - 4 - len(steps) // 50
        usual = np.partition(steps, rank, axis=0)[rank]
        bound = np.maximum(np.maximum(limits.jump_factor * usual, limits.jump_floor), limits.jump_range_share * (signal.high - signal.low))
        return steps, (steps > bound) & (usual > 0) & ~signal.switches, usual


def jump(column: Column, signal: SignalFacts, limits: CheckLimits) -> list[Problem]:
    """Find single steps of a measured position that are out of all proportion to its other steps.

    Whole turns of an angle are none, and of other states nothing is said: velocities and forces do leap at a contact.
    """
    if column.meaning != "state" or len(signal.rows) < limits.signal_rows or not is_position(column):
        return []
    steps, wild, usual = leaps(signal, limits)
    problems = []
    for dimension in np.flatnonzero(wild.any(axis=0)).tolist():
        row = int(np.argmax(wild[:, dimension]))
        found = f"a step of {steps[row, dimension]:.6g} at row {row + 1}"
        expected = f"steps of at most about {usual[dimension]:.3g}"
        message = f"{_dimension(column, dimension)}: expected {expected}, found {found}"
        problems.append(Problem("jump", message, column.name, "warning", expected, found, "look at the recording around this row"))
    return problems


def gripper_dimensions(column: Column) -> list[int]:
    """Return which dimensions of a column are grippers: as its action space says, else by their names."""
    if column.action_space is not None and column.action_space.gripper is not None:
        return [column.action_space.gripper.dimension]
    if column.dims is not None:
        return [index for index, name in enumerate(column.dims) if "gripper" in name.lower()]
    return [0] if "gripper" in column.name.lower() and column.shape in ((), (1,)) else []


def gripper_chatter(column: Column, signal: SignalFacts, limits: CheckLimits) -> list[Problem]:
    """Find a gripper that opens and closes again within a few rows, over and over."""
    problems = []
    for dimension in gripper_dimensions(column):
        if dimension >= signal.rows.shape[1] or not signal.switches[dimension]:
            continue
        values = signal.rows[:, dimension]
        low, span = signal.low[dimension], signal.high[dimension] - signal.low[dimension]
        ends = np.flatnonzero((values <= low + 0.25 * span) | (values >= low + 0.75 * span))
        is_high = values[ends] > low + 0.5 * span
        changes = ends[1:][is_high[1:] != is_high[:-1]]
        if span <= 0 or len(changes) < limits.chatter_changes:
            continue
        interval = float(np.median(np.diff(changes)))
        if interval <= limits.chatter_rows:
            found = f"{len(changes)} changes in {len(values)} rows, typically {interval:g} rows apart"
            message = f"{_dimension(column, dimension)}: a gripper should stay open or closed, found {found}"
            problems.append(Problem("gripper_chatter", message, column.name, "warning", "a gripper that stays open or closed", found, "filter it, or drop it"))
    return problems
