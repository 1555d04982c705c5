"""Summaries of the columns of a dataset's episodes, apart for each embodiment and control mode, in one pass over the trajectories; parts are merged, never read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.control_mode import control_mode
from dataengine.core.errors import UsageError
from dataengine.core.trajectory import Trajectory
from dataengine.stats.summary import MAX_DIMS, ColumnSummary
from dataengine.store import layout
from dataengine.store.steps import read_each
from dataengine.store.store import Store
from dataengine.transforms.horizon import Horizon, WindowPlan, window_plan

BATCH_ROWS = 8192  # rows of several episodes are summarised together: each update costs as much as some hundred rows

_Rows = tuple[Array, Array | None]


@dataclass
class StatisticsPart:
    """What was seen of one embodiment under one control mode, or of several together.

    `summaries` holds for each column one summary, or one for each step of a horizon. `left_out` says why a numeric column has none.
    """

    embodiment: str | None = None
    control_mode: str | None = None
    episodes: int = 0
    steps: int = 0
    summaries: dict[str, list[ColumnSummary]] = field(default_factory=dict)
    dims: dict[str, list[str] | None] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    per_step: bool = False
    _pending: dict[str, list[_Rows]] = field(default_factory=dict)
    _pending_rows: dict[str, int] = field(default_factory=dict)
    _windows: dict[WindowPlan, list[tuple[_Rows, _Rows | None]]] = field(default_factory=dict)
    _window_rows: int = 0

    def add(self, trajectory: Trajectory) -> None:
        """Add every numeric column of a trajectory."""
        for name, values in trajectory.columns.items():
            if values.dtype.kind not in "biuf" or name in self.left_out:
                continue
            flat = values.reshape(trajectory.steps, -1)
            if not self._prepare(name, trajectory.specs.get(name), flat.shape[1], 1):
                continue
            self._pending.setdefault(name, []).append((flat, trajectory.valid.get(name)))
            self._pending_rows[name] = self._pending_rows.get(name, 0) + len(flat)
            if self._pending_rows[name] >= BATCH_ROWS:
                self._settle(name)

    def add_windows(self, trajectory: Trajectory, plan: WindowPlan) -> None:
        """Add the windows of one column of a trajectory; nothing where it has no such column."""
        name = plan.horizon.column
        if name not in trajectory.columns or name in self.left_out:
            return
        flat = trajectory.columns[name].reshape(trajectory.steps, -1)
        if not self._prepare(name, trajectory.specs.get(name), flat.shape[1], plan.horizon.steps):
            return
        state: _Rows | None = None
        if plan.state is not None:
            there = plan.state in trajectory.columns
            of_state = trajectory.columns[plan.state].reshape(trajectory.steps, -1) if there else np.zeros((len(flat), plan.state_width))
            state = (of_state, trajectory.valid.get(plan.state) if there else np.zeros(len(flat), dtype=bool))
        self._windows.setdefault(plan, []).append(((flat, trajectory.valid.get(name)), state))
        self._window_rows += len(flat)
        if self._window_rows >= BATCH_ROWS:
            self._settle_windows()

    def _prepare(self, name: str, column: Column | None, width: int, steps: int) -> bool:
        """Make room for a column, or note why it has no statistics."""
        if name not in self.summaries:
            if steps > 1 and width * steps > MAX_DIMS:
                raise UsageError(f"horizon: {steps} steps of {width} numbers must be at most {MAX_DIMS} together, got {steps * width}; ask for fewer steps")
            if not 0 < width <= MAX_DIMS:
                self.left_out[name] = f"{width} numbers a row; statistics are of 1 to {MAX_DIMS}"
                return False
            self.summaries[name] = [ColumnSummary(width) for _ in range(steps)]
            self.dims[name] = list(column.dims) if column is not None and column.dims and len(column.dims) == width else None
        elif self.summaries[name][0].dims != width:
            self._leave_out(name, f"rows of {self.summaries[name][0].dims} and of {width} numbers")
            return False
        return True

    def _leave_out(self, name: str, why: str) -> None:
        self.left_out[name] = why
        for kept in (self.summaries, self.dims, self._pending, self._pending_rows):
            kept.pop(name, None)
        self._windows = {plan: rows for plan, rows in self._windows.items() if plan.horizon.column != name}

    def _settle(self, name: str) -> None:
        values, valid = _joined(self._pending.pop(name, []))
        self._pending_rows[name] = 0
        if values is not None:
            self.summaries[name][0].update(values, valid)

    def _settle_windows(self) -> None:
        for plan, rows in self._windows.items():
            values, valid = _joined([action for action, _ in rows])
            state, state_valid = _joined([state for _, state in rows if state is not None])
            assert values is not None
            episode = np.repeat(np.arange(len(rows)), [len(action[0]) for action, _ in rows])
            all_valid = np.ones(len(values), dtype=bool)
            windows = plan.windows(values, all_valid if valid is None else valid, state, all_valid if state_valid is None else state_valid, episode)
            for summary, (numbers, there) in zip(self.summaries[plan.horizon.column], windows, strict=True):
                summary.update(numbers, there)
        self._windows, self._window_rows = {}, 0

    def finish(self) -> StatisticsPart:
        """Summarise what is still waiting; return the part."""
        for name in list(self._pending):
            self._settle(name)
        self._settle_windows()
        return self

    def merge(self, other: StatisticsPart) -> None:
        """Add what another part, which is finished, has seen; the other is left as it is."""
        self.episodes += other.episodes
        self.steps += other.steps
        self.per_step = self.per_step or other.per_step
        for name, why in other.left_out.items():
            self._leave_out(name, self.left_out.get(name, why))
        for name, summaries in other.summaries.items():
            if name in self.left_out or not self._prepare(name, None, summaries[0].dims, len(summaries)):
                continue
            if not self.summaries[name][0].rows:
                self.dims[name] = other.dims[name]
            elif self.dims[name] != other.dims[name]:
                self.dims[name] = None
            for mine, theirs in zip(self.summaries[name], summaries, strict=True):
                mine.merge(theirs)

    def columns(self) -> dict[str, Any]:
        """Return for each column, in order of name, its statistics as JSON-able values: an object, or a list of one for each step of the horizon."""
        found: dict[str, Any] = {}
        for name in sorted(self.summaries):
            entries = [summary.result() | {"dims": self.dims[name]} for summary in self.summaries[name]]
            found[name] = entries if self.per_step else entries[0]
        return found


def _joined(rows: Sequence[_Rows]) -> tuple[Array | None, Array | None]:
    """Return rows of several episodes one after the other; the second is None where all are valid."""
    if not rows:
        return None, None
    values = np.concatenate([each for each, _ in rows])
    if all(valid is None for _, valid in rows):
        return values, None
    return values, np.concatenate([np.ones(len(each), dtype=bool) if valid is None else valid for each, valid in rows])


def merged(parts: Iterable[StatisticsPart]) -> StatisticsPart:
    """Return several parts as one."""
    whole = StatisticsPart()
    for part in parts:
        whole.merge(part)
    return whole


def summarise(store: Store, rows: pl.DataFrame, horizon: Horizon | None = None) -> list[StatisticsPart]:
    """Read trajectories once and return a part for each embodiment and control mode, in order of these.

    Shards are read in order of their smallest episode, so that the result depends on what they hold and not on what they are called.

    Args:
        store: the store.
        rows: rows of the episodes, with `dataset`, `episode_id`, `embodiment`, `features`, `shard` and `ordinal`.
        horizon: windows of one column instead of every column.

    Raises:
        UsageError: no episode has the column of the horizon, or it cannot be made relative.
        MissingFact: the column does not say how its rotation is written.
    """
    found: dict[tuple[str, str], StatisticsPart] = {}
    specs = {features: store.columns(row) for features, row in ((row["features"], row) for row in _one_of_each(rows))}
    modes = {features: control_mode(columns) for features, columns in specs.items()}
    plans = _plans(specs, horizon) if horizon is not None else {}
    ordered = rows.with_columns(first=pl.col("episode_id").min().over("dataset", "shard")).sort("first", "dataset", "shard", "ordinal")
    for (dataset, shard), group in ordered.group_by("dataset", "shard", maintain_order=True):
        episodes = [row for row in group.iter_rows(named=True) if horizon is None or row["features"] in plans]
        trajectories = read_each(store.objects, layout.steps_key(str(dataset), str(shard)), [(row["ordinal"], specs[row["features"]]) for row in episodes])
        for row, trajectory in zip(episodes, trajectories, strict=True):
            mode = modes[row["features"]]
            part = found.setdefault((row["embodiment"] or "", mode or ""), StatisticsPart(row["embodiment"], mode, per_step=horizon is not None))
            part.episodes += 1
            part.steps += trajectory.steps
            if horizon is None:
                part.add(trajectory)
            else:
                part.add_windows(trajectory, plans[row["features"]])
    return [found[key].finish() for key in sorted(found)]


def _one_of_each(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return rows.unique("features", maintain_order=True).to_dicts()


def _plans(specs: Mapping[str, Mapping[str, Column]], horizon: Horizon) -> dict[str, WindowPlan]:
    """Return how each set of features is made relative; those without the column are passed over, unless all are."""
    having = [features for features, columns in specs.items() if horizon.column in columns]
    return {features: window_plan(specs[features], horizon) for features in having or specs}
