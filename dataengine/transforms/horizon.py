"""Windows of actions relative to where they start: what a policy that predicts changes is trained on, step by step of its horizon.

For the window of A actions that starts at step t, entry h is action[t + h], or its change from a reference:

- `state`: the state at t, a column of the same entries;
- `first`: the first action of the window, action[t], so that entry 0 is no change at all;
- `consecutive`: the action of the step before, action[t + h - 1]; the first step of an episode has none before it.

Positions and joints are subtracted. Where the columns say that entries are a rotation, its change is the rotation R with R_target = R R_reference, in the
frame in which both are written, in the same kind of numbers. A gripper is brought to a value whatever it was, so it stays as recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.transforms.action_parts import Part, gripper_part, rotation_part

Reference = Literal["state", "first", "consecutive"]
REFERENCES: tuple[Reference, ...] = ("state", "first", "consecutive")
MAX_STEPS = 1000  # each entry of a horizon has statistics of its own
_CHANGES = ("joint_velocity", "joint_torque", "ee_delta", "ee_velocity", "base_velocity")


@dataclass(frozen=True)
class Horizon:
    """The entries 0 to `steps` - 1 of windows of a column.

    `reference` is None for the values as they are. `state` names the column of the state; None takes the one of the same dims.
    """

    steps: int
    reference: Reference | None = None
    column: str = "action"
    state: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.steps <= MAX_STEPS:
            raise UsageError(f"horizon: must be 1 to {MAX_STEPS} steps, got {self.steps}")
        if self.reference is not None and self.reference not in REFERENCES:
            raise UsageError(f"relative: must be one of {', '.join(REFERENCES)}, got {self.reference!r}")
        if self.state is not None and self.reference != "state":
            raise UsageError(f"state: must be left out unless actions are relative to the state, got {self.state!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class RelativeActions:
    """How the numbers of a column become changes: made by `relative_actions`."""

    horizon: Horizon
    state: str | None
    kept: tuple[int, ...]
    rotation: Part | None
    state_rotation: Part | None

    def windows(self, rows: Array, valid: Array, state: Array | None, state_valid: Array | None, episode: Array) -> Iterator[tuple[Array, Array]]:
        """Yield (values, valid) for each entry h of the horizon: (N_h, D) float64 and (N_h,) bool, one row for each window that reaches so far.

        Args:
            rows: (N, D) the column's rows of whole episodes, one after the other.
            valid: (N,) bool, False where the row holds nothing.
            state: (N, D) the state's rows, where the reference is the state.
            state_valid: (N,) bool of it.
            episode: (N,) a number that is the same for all rows of an episode, and for no neighbour's.
        """
        rows = np.asarray(rows, dtype=np.float64)
        before, before_valid = rows, valid
        if self.horizon.reference == "state":
            if state is None or state_valid is None:
                raise ValueError("state: its rows must be handed over where actions are relative to it")
            before, before_valid = np.asarray(state, dtype=np.float64), state_valid
        turns = self.rotation is not None and self.horizon.reference is not None
        target_turns, before_turns = (_matrices(self.rotation, rows), _matrices(self.state_rotation or self.rotation, before)) if turns else (None, None)
        count = len(rows)
        for h in range(self.horizon.steps):
            lag = 1 if self.horizon.reference == "consecutive" else h
            start = max(h, lag)  # rows before have no window of the first episode that ends in them
            target = np.arange(min(start, count), count)
            reference, window = target - lag, target - h
            inside = (episode[target] == episode[window]) & (episode[target] == episode[reference])
            target, reference = target[inside], reference[inside]
            if self.horizon.reference is None:
                yield rows[target], valid[target]
                continue
            change = rows[target] - before[reference]
            if self.rotation is not None and target_turns is not None and before_turns is not None:
                turned = target_turns[target] @ np.swapaxes(before_turns[reference], -1, -2)
                change[:, list(self.rotation.entries)] = _written(self.rotation, turned)
            change[:, list(self.kept)] = rows[target][:, list(self.kept)]
            yield change, valid[target] & before_valid[reference]


def _matrices(part: Part | None, rows: Array) -> Array:
    """Return (N, 3, 3) rotations, NaN where the numbers say none."""
    assert part is not None
    values = part.values(rows)
    good = np.isfinite(values).all(axis=1)
    if part.rotation in ("quat_xyzw", "quat_wxyz", "rot6d"):
        good &= np.abs(values).max(axis=1, initial=0.0) > 1e-9
    if part.rotation == "rot6d":  # two columns that are parallel say nothing of the third
        good &= np.linalg.norm(np.cross(values[:, :3], values[:, 3:]), axis=1) > 1e-9
    found = np.full((len(rows), 3, 3), np.nan)
    found[good] = part.matrices(values[good])
    return found


def _written(part: Part, matrices: Array) -> Array:
    good = np.isfinite(matrices).all(axis=(1, 2))
    found = np.full((len(matrices), len(part.entries)), np.nan)
    values = part.of_matrices(matrices[good])
    found[good] = values[:, list(part.slots)] / np.asarray(part.gain)  # a change has no offset
    return found


def relative_actions(columns: Mapping[str, Column], horizon: Horizon) -> RelativeActions:
    """Return how windows of a dataset's actions are made relative, from what its columns say.

    Raises:
        UsageError: there is no such column, it holds changes already, or no state of the same dims is there.
        MissingFact: entries are a rotation, and the column does not say how it is written.
    """
    column = columns.get(horizon.column)
    if column is None or column.kind != "numeric":
        numeric = sorted(name for name, each in columns.items() if each.kind == "numeric")
        raise UsageError(f"column {horizon.column!r}: must be a numeric one to have a horizon, got none such; columns: {', '.join(numeric) or 'none'}")
    if horizon.reference is None:
        return RelativeActions(horizon, None, (), None, None)
    if len(column.shape) > 1:
        raise UsageError(f"column {column.name!r}: must have rows of one axis to be made relative, got {column.shape}")
    space = column.action_space
    if space is not None and (space.absolute is False or (space.absolute is None and space.kind in _CHANGES)):
        raise UsageError(
            f"column {column.name!r}: must hold absolute values to be made relative, got {space.kind}, which are changes already; leave `relative` out"
        )
    gripper = gripper_part(column) if space is not None and space.gripper is not None else None
    kept = (gripper.entry,) if gripper is not None else ()
    rotation = _whole(rotation_part(column))
    if horizon.reference != "state":
        return RelativeActions(horizon, None, kept, rotation, None)
    state = _state_of(columns, column, horizon.state)
    turned = _whole(rotation_part(state)) if rotation is not None else None
    if rotation is not None and (turned is None or turned.entries != rotation.entries):
        raise UsageError(f"column {state.name!r}: must hold the rotation that {column.name!r} holds, at the same entries")
    return RelativeActions(horizon, state.name, kept, rotation, turned)


def _whole(part: Part | None) -> Part | None:
    """Refuse a rotation of which entries are absent: the change of two such may not fit into them."""
    if part is not None and 1 < len(part.slots) < part.width:
        raise UsageError(
            f"column {part.column!r}: must hold all {part.width} entries of its rotation or a single angle to be made relative, got {len(part.slots)}"
        )
    return part


def _state_of(columns: Mapping[str, Column], action: Column, name: str | None) -> Column:
    """Return the state of the same entries as the action."""
    if name is not None:
        chosen = columns.get(name)
        if chosen is None or chosen.kind != "numeric":
            raise UsageError(f"column {name!r}: must be a numeric one to be the state, got none such; columns: {', '.join(sorted(columns))}")
        if not _alike(chosen, action):
            raise UsageError(f"column {name!r}: must have the shape and dims of {action.name!r}, {_entries(action)}, got {_entries(chosen)}")
        return chosen
    states = [column for column in columns.values() if column.meaning == "state" and column.kind == "numeric" and column.steps]
    alike = [column for column in states if _alike(column, action)]
    usual = [column for column in alike if column.name == "observation.state"]
    if len(alike) != 1 and not usual:
        found = ", ".join(f"{column.name} {_entries(column)}" for column in states) or "none"
        raise UsageError(
            f"column {action.name!r}: needs a state of its shape and dims, {_entries(action)}, to be relative to; states: {found}; name one as `state`, or take another reference"
        )
    return (usual or alike)[0]


def _alike(state: Column, action: Column) -> bool:
    return state.shape == action.shape and (state.dims is None or action.dims is None or state.dims == action.dims)


def _entries(column: Column) -> str:
    return f"({', '.join(column.dims)})" if column.dims else f"of shape {column.shape}"
