"""What a labeller is asked for, step by step, and what was measured of it: the command, or the change of the state that came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dataengine.core.action_spec import ActionSpec, spec_of
from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.column_statistics import column_statistics
from dataengine.core.displacement import Displacement, displacement_of
from dataengine.core.labelling import Watched
from dataengine.labels.idm_rotations import rotation_entries
from dataengine.stats.summary import ColumnSummary

TargetKind = Literal["command", "displacement"]
SOURCES: dict[TargetKind, str] = {"command": "action", "displacement": "state"}  # the role that holds what was measured


@dataclass(frozen=True, eq=False)
class Target:
    """What is asked for.

    Attributes:
        kind: "command" or "displacement".
        column: that what was measured comes from: of actions, or of states.
        labels: the column that labels of it are.
        displacement: how a displacement comes from states; None for a command.
        gap_s: over what time, in s; up to the next step where it is None.
    """

    kind: TargetKind
    column: Column
    labels: Column
    displacement: Displacement | None = None
    gap_s: float | None = None

    def measured(self, part: Watched) -> tuple[Array, Array]:
        """Return (T, D) float64 and (T,) bool where it was measured; the last step has no displacement."""
        name = next((name for name in (SOURCES[self.kind], self.column.name) if name in part.columns), None)
        width = len(self.displacement.dims) if self.displacement is not None else width_of(self.column)
        if name is None:
            return np.zeros((part.steps, width)), np.zeros(part.steps, np.bool_)
        values = part.columns[name].reshape(part.steps, -1).astype(np.float64)
        valid = part.valid[name] & np.isfinite(values).all(1)
        if self.displacement is None:
            return values, valid
        steps = np.arange(part.steps)
        if self.gap_s is None:
            after, beyond = np.minimum(steps + 1, part.steps - 1), steps == part.steps - 1
        else:
            near, past = part.near(steps, (self.gap_s,))
            after, beyond = near[:, 0], past[:, 0]
        between = self.displacement.between(values, values[after])
        moved = valid & valid[after] & ~beyond & np.isfinite(between).all(1)
        return np.where(moved[:, None], between, 0.0), moved

    def spec(self, values: Array) -> ActionSpec:
        """Return how it is predicted, from what was measured (N, D) in training."""
        if self.displacement is not None:
            return self.displacement.spec(values.mean(0), values.std(0), values.min(0), values.max(0))
        summary = ColumnSummary(values.shape[1])
        summary.update(values)
        return spec_of(self.column, column_statistics(summary.result()))


def width_of(column: Column) -> int:
    """Return how many numbers a row of a column has."""
    return math.prod(size or 0 for size in column.shape)


def command_target(column: Column) -> Target:
    """Return the target of a column of actions."""
    doc = "what a model takes for the command, from pictures"
    return Target("command", column, replace(column, dtype="float32", meaning="action", action_source="idm", align=None, doc=doc))


def displacement_target(column: Column, gap_s: float | None = None) -> Target:
    """Return the target of a column of states: by how much it changes over a gap in s, or up to the next step."""
    displacement = displacement_of(column, width_of(column), rotation_entries(column))
    labels = Column(
        name=displacement.name,
        dtype="float32",
        shape=(len(displacement.dims),),
        dims=displacement.dims,
        unit=displacement.unit(column.unit),
        frame=column.frame,
        action_source="idm",
        doc=f"what a model takes for the change of {column.name} {'up to the next step' if gap_s is None else f'until {gap_s:g} s later'}, from pictures",
    )
    return Target("displacement", column, labels, displacement, gap_s)


def targets_of(part: Watched, kinds: Sequence[TargetKind] = ("command", "displacement"), gap_s: float | None = None) -> list[Target]:
    """Return the targets that an episode has something measured of; a role that stands for several columns has none."""
    found = []
    for kind in kinds:
        column = part.specs.get(SOURCES[kind])
        if column is not None and column.kind == "numeric" and None not in column.shape:
            found.append(command_target(column) if kind == "command" else displacement_target(column, gap_s))
    return found
