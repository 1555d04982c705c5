"""A first look at all numeric columns of an episode at once: which of them the single checks need to see.

An episode has ten or twenty short columns, and a call into numpy costs a microsecond or two whatever its size: the checks of each column by itself took
0.5 ms an episode, a fifth of ingestion. Columns of equally many rows are therefore measured side by side, as one matrix. A column that this look
does not suspect has no problem; of the others the checks say what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.validate.limits import CheckLimits
from dataengine.validate.numbers import SignalFacts, all_finite, facts_of, gripper_dimensions, is_position, is_signal, leaps, stuck

_Entry = tuple[str, Column, Array]

SIDE_BY_SIDE = 1 << 16  # numbers of a column; a longer one is worth a look of its own


@dataclass(frozen=True, eq=False)
class Look:
    """What a look at one column gave.

    `finite` False: some value may not be finite. `moved` is the largest range of a dimension of a signal, None for other columns. `suspects` names the
    checks of signals that may find something, and `signal` is there for them.
    """

    finite: bool
    moved: float | None = None
    suspects: tuple[str, ...] = ()
    signal: SignalFacts | None = None


def first_look(columns: Mapping[str, tuple[Column, Array]], limits: CheckLimits) -> dict[str, Look]:
    """Look at numeric columns, each (N, ...) with N > 0."""
    looks: dict[str, Look] = {}
    together: dict[int, tuple[list[_Entry], list[_Entry]]] = {}
    for name, (column, values) in columns.items():
        signal = is_signal(column, values)
        if not signal and (values.dtype.kind != "f" or values.size > SIDE_BY_SIDE):
            looks[name] = Look(values.dtype.kind not in "fc")
        elif values.size > SIDE_BY_SIDE:
            looks |= _look([(name, column, values)], [], limits)
        else:
            signals, others = together.setdefault(len(values), ([], []))
            (signals if signal else others).append((name, column, values))
    for signals, others in together.values():
        looks |= _look(signals, others, limits)
    return looks


def _look(signals: list[_Entry], others: list[_Entry], limits: CheckLimits) -> dict[str, Look]:
    """Look at signals, and at other columns of floats of which only finite values are asked, all with the same number of rows."""
    matrix = np.concatenate([values.reshape(len(values), -1) for _, _, values in (*signals, *others)], axis=1, dtype=np.float64, casting="unsafe")
    finite = all_finite(matrix)
    looks = {name: Look(finite) for name, _, _ in others}
    if not signals:
        return looks
    starts = [0, *accumulate([values[0].size for _, _, values in signals])]
    whole = facts_of(matrix[:, : starts.pop()], finite)
    moved = np.maximum.reduceat(whole.high - whole.low, starts).tolist()
    for at, suspects in enumerate(_suspects(whole, [column for _, column, _ in signals], starts, limits)):
        name, _, values = signals[at]
        looks[name] = Look(finite, moved[at], suspects, whole.part(starts[at], starts[at] + values[0].size) if suspects else None)
    return looks


def _suspects(whole: SignalFacts, columns: list[Column], starts: list[int], limits: CheckLimits) -> list[tuple[str, ...]]:
    """Return for each column, whose dimensions begin at `starts`, the checks of signals that may find something."""

    def by_column(found: Array) -> list[bool]:
        flags: list[bool] = np.logical_or.reduceat(found, starts).tolist()
        return flags

    faults: dict[str, list[bool]] = {}  # in the order of the checks
    if len(whole.rows) >= limits.signal_rows:
        states = [column.meaning == "state" for column in columns]
        faults["frozen_signal"] = [state and not moved for state, moved in zip(states, by_column(np.asarray(whole.low != whole.high)), strict=True)]
        faults["saturated"] = by_column(stuck(whole, whole.low, limits)[1] | stuck(whole, whole.high, limits)[1])
        positions = [state and is_position(column) for state, column in zip(states, columns, strict=True)]
        if any(positions):
            wild = by_column(np.asarray(leaps(whole, limits)[1].any(axis=0)))
            faults["jump"] = [found and there for found, there in zip(wild, positions, strict=True)]
    switches = by_column(whole.switches)
    faults["gripper_chatter"] = [switching and bool(gripper_dimensions(column)) for switching, column in zip(switches, columns, strict=True)]
    return [tuple([name for name, found in faults.items() if found[at]]) for at in range(len(columns))]


__all__ = ["Look", "first_look"]
