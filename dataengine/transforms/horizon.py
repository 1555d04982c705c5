"""Windows of actions relative to where they start: what a policy that predicts changes is trained on, step by step of its horizon.

For the window of A actions that starts at step t, entry h is action[t + h], or its change from a reference:

- `state`: the state at t;
- `first`: the first action of the window, action[t]; entry 0, which has none, stays what it is;
- `consecutive`: the action before, action[t + h - 1]; that of entry 0 is the state at t.

Positions and joints are subtracted, from the entries of the same names where the state is another than the action. Where the columns say that entries are
a rotation, the change is one of poses: seen from the reference in the frame "tool", reference_from_base base_from_target; in "base" the difference of the
positions and the rotation R with R_target = R R_reference. It is written in the same kind of numbers. A gripper is brought to a value whatever it was, so
it stays as recorded, and so do entries that the state does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.transforms.action_parts import Part, gripper_part, position_part, rotation_part

Reference = Literal["state", "first", "consecutive"]
Frame = Literal["tool", "base"]
REFERENCES: tuple[Reference, ...] = ("state", "first", "consecutive")
FRAMES: tuple[Frame, ...] = ("tool", "base")
MAX_STEPS = 1000  # each entry of a horizon has statistics of its own
_CHANGES = ("joint_velocity", "joint_torque", "ee_delta", "ee_velocity", "base_velocity")


@dataclass(frozen=True)
class Horizon:
    """The entries 0 to `steps` - 1 of windows of a column.

    `reference` is None for the values as they are. `state` names the column of the state; None takes `observation.state` where it fits, else the only state
    that does. `frame` is that in which poses change.
    """

    steps: int
    reference: Reference | None = None
    column: str = "action"
    state: str | None = None
    frame: Frame = "tool"

    def __post_init__(self) -> None:
        if not 0 < self.steps <= MAX_STEPS:
            raise UsageError(f"horizon: must be 1 to {MAX_STEPS} steps, got {self.steps}")
        if self.reference is not None and self.reference not in REFERENCES:
            raise UsageError(f"relative: must be one of {', '.join(REFERENCES)}, got {self.reference!r}")
        if self.frame not in FRAMES:
            raise UsageError(f"frame: must be one of {', '.join(FRAMES)}, got {self.frame!r}")
        if self.state is not None and not self.needs_state:
            raise UsageError(f"state: must be left out unless actions are relative to the state, got {self.state!r}")

    @property
    def needs_state(self) -> bool:
        """Whether the reference of some entry is the state."""
        return self.reference in ("state", "consecutive")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Side:
    """Rows that changes are counted from or lead to: (N, D) numbers in the action's order, (N, 3, 3) rotations, and (N,) whether they hold anything."""

    numbers: Array
    turns: Array | None
    valid: Array


@dataclass(frozen=True)
class WindowPlan:
    """How the rows of a column become windows: made by `window_plan`.

    `taken` says for each entry of the action which one of the state it changes from. `kept` entries stay as they are. `position` are those of x, y and z
    where they are seen from the reference.
    """

    horizon: Horizon
    state: str | None = None
    taken: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    rotation: Part | None = None
    state_rotation: Part | None = None
    position: tuple[int, ...] = ()
    state_width: int = 0

    def windows(self, rows: Array, valid: Array, state: Array | None, state_valid: Array | None, episode: Array) -> Iterator[tuple[Array, Array]]:
        """Yield (values, valid) for each entry h of the horizon: (N_h, D) float64 and (N_h,) bool, one row for each window that reaches so far.

        Args:
            rows: (N, D) the column's rows of whole episodes, one after the other.
            valid: (N,) bool, False where the row holds nothing.
            state: (N, S) the state's rows, where the plan has a state.
            state_valid: (N,) bool of it.
            episode: (N,) a number that is the same for all rows of an episode, and for no neighbour's.
        """
        rows = np.asarray(rows, dtype=np.float64)
        action = _Side(rows, _matrices(self.rotation, rows), valid)
        now = action
        if self.state is not None:
            if state is None or state_valid is None:
                raise ValueError("state: its rows must be handed over where actions are relative to it")
            numbers = np.asarray(state, dtype=np.float64)
            now = _Side(numbers[:, list(self.taken)], _matrices(self.state_rotation, numbers), state_valid)
        for h in range(self.horizon.steps):
            target = np.arange(min(h, len(rows)), len(rows))
            target = target[episode[target] == episode[target - h]]
            if self.horizon.reference is None:
                yield rows[target], valid[target]
            elif self.horizon.reference == "first" and h == 0:
                yield self._as_written(action, target), valid[target]
            elif self.horizon.reference == "consecutive" and h > 0:
                yield self._change(action, target, action, target - 1)
            else:
                yield self._change(action, target, now, target - h)

    def _as_written(self, action: _Side, target: Array) -> Array:
        """Return rows with their rotations in the one of several equal forms that changes have, too."""
        found = np.array(action.numbers[target])
        if self.rotation is not None and action.turns is not None:
            found[:, list(self.rotation.entries)] = _written(self.rotation, action.turns[target], change=False)
        return found

    def _change(self, action: _Side, target: Array, before: _Side, reference: Array) -> tuple[Array, Array]:
        """Return the changes of the action at some rows from what is before it at others, and whether both hold something."""
        wanted = action.numbers[target]
        change = wanted - before.numbers[reference]
        if self.rotation is not None and action.turns is not None and before.turns is not None:
            back = np.swapaxes(before.turns[reference], -1, -2)
            inward = self.horizon.frame == "tool"
            change[:, list(self.rotation.entries)] = _written(self.rotation, back @ action.turns[target] if inward else action.turns[target] @ back)
            if inward and self.position:
                change[:, list(self.position)] = (back @ change[:, list(self.position), None])[..., 0]
        change[:, list(self.kept)] = wanted[:, list(self.kept)]
        return change, action.valid[target] & before.valid[reference]


def _matrices(part: Part | None, rows: Array) -> Array | None:
    """Return (N, 3, 3) rotations, NaN where the numbers say none; None without a part."""
    if part is None:
        return None
    values = part.values(rows)
    good = np.isfinite(values).all(axis=1)
    if part.rotation in ("quat_xyzw", "quat_wxyz", "rot6d"):
        good &= np.abs(values).max(axis=1, initial=0.0) > 1e-9
    if part.rotation == "rot6d":  # two columns that are parallel say nothing of the third
        good &= np.linalg.norm(np.cross(values[:, :3], values[:, 3:]), axis=1) > 1e-9
    found = np.full((len(rows), 3, 3), np.nan)
    found[good] = part.matrices(values[good])
    return found


def _written(part: Part, matrices: Array, change: bool = True) -> Array:
    """Return (N, entries) the numbers of rotations as the column has them; the number of a change has no offset."""
    good = np.isfinite(matrices).all(axis=(1, 2))
    found = np.full((len(matrices), len(part.entries)), np.nan)
    values = part.of_matrices(matrices[good])
    found[good] = values[:, list(part.slots)] / np.asarray(part.gain) if change else part.numbers(values)
    return found


def window_plan(columns: Mapping[str, Column], horizon: Horizon) -> WindowPlan:
    """Return how windows of a dataset's actions are made, from what its columns say.

    Raises:
        UsageError: there is no such column, it holds changes already, or no state fits.
        MissingFact: entries are a rotation, and the column does not say how it is written.
    """
    column = columns.get(horizon.column)
    if column is None or column.kind != "numeric":
        numeric = sorted(name for name, each in columns.items() if each.kind == "numeric")
        raise UsageError(f"column {horizon.column!r}: must be a numeric one to have a horizon, got none such; columns: {', '.join(numeric) or 'none'}")
    if horizon.reference is None:
        return WindowPlan(horizon)
    width = column.shape[0] if len(column.shape) == 1 else None
    if width is None:
        raise UsageError(f"column {column.name!r}: must have rows of one axis and one size to be made relative, got {column.shape}")
    space = column.action_space
    if space is not None and (space.absolute is False or (space.absolute is None and space.kind in _CHANGES)):
        raise UsageError(
            f"column {column.name!r}: must hold absolute values to be made relative, got {space.kind}, which are changes already; leave `relative` out"
        )
    joints = space is not None and space.kind.startswith("joint")  # of which one may be called roll
    rotation = None if joints else _whole(rotation_part(column))
    position = _place(column, rotation) if horizon.frame == "tool" else ()
    grippers = _grippers(column)
    if not horizon.needs_state:
        return WindowPlan(horizon, kept=grippers, rotation=rotation, position=position)
    state = _state_of(columns, column, horizon.state)
    turned = _whole(rotation_part(state)) if rotation is not None else None
    if rotation is not None and turned is None:
        raise UsageError(f"column {state.name!r}: must hold a rotation, as {column.name!r} does, for it to be relative")
    if column.unit != state.unit and None not in (column.unit, state.unit):
        raise UsageError(f"columns {column.name!r} and {state.name!r}: must be in one unit, got {column.unit} and {state.unit}")
    shared = _shared(column, state)
    turning = set(rotation.entries) if rotation is not None else set()
    kept = {*grippers, *(entry for entry in range(width) if entry not in shared and entry not in turning)}
    lacking = [entry for entry in position if entry not in shared]
    if lacking:
        raise UsageError(f"column {state.name!r}: must hold the position that {column.name!r} holds, to be seen from it")
    taken = tuple(shared.get(entry, 0) for entry in range(width))
    return WindowPlan(horizon, state.name, taken, tuple(sorted(kept)), rotation, turned, position, int(state.shape[0] or 0))


def _grippers(column: Column) -> tuple[int, ...]:
    """Return the entries that are a gripper, as the action space or their names say."""
    known = gripper_part(column) if column.action_space is not None and column.action_space.gripper is not None else None
    named = [entry for entry, name in enumerate(column.dims or ()) if "gripper" in name]
    return tuple(sorted({*named, *([known.entry] if known is not None else [])}))


def _whole(part: Part | None) -> Part | None:
    """Refuse a rotation of which entries are absent: the change of two such may not fit into them."""
    if part is not None and 1 < len(part.slots) < part.width:
        raise UsageError(
            f"column {part.column!r}: must hold all {part.width} entries of its rotation or a single angle to be made relative, got {len(part.slots)}"
        )
    return part


def _place(column: Column, rotation: Part | None) -> tuple[int, ...]:
    """Return the entries of x, y and z that are seen from a hand that turns."""
    part = position_part(column) if rotation is not None else None
    if part is None:
        return ()
    if len(part.slots) != 3 or len(set(part.gain)) != 1:
        raise UsageError(f"column {column.name!r}: must hold x, y and z in one unit to be seen from the hand; take the frame 'base'")
    return part.entries


def _state_of(columns: Mapping[str, Column], action: Column, name: str | None) -> Column:
    """Return the state that has entries of the action."""
    if name is not None:
        chosen = columns.get(name)
        if chosen is None or chosen.kind != "numeric":
            raise UsageError(f"column {name!r}: must be a numeric one to be the state, got none such; columns: {', '.join(sorted(columns))}")
        if not _shared(action, chosen):
            raise UsageError(f"column {name!r}: must have the shape or some dims of {action.name!r}, {_entries(action)}, got {_entries(chosen)}")
        return chosen
    states = [column for column in columns.values() if column.meaning == "state" and column.kind == "numeric" and column.steps]
    fitting = [column for column in states if _shared(action, column)]
    usual = [column for column in fitting if column.name == "observation.state"]
    if len(fitting) != 1 and not usual:
        found = ", ".join(f"{column.name} {_entries(column)}" for column in states) or "none"
        raise UsageError(
            f"column {action.name!r}: needs a state of its shape or with some of its dims, {_entries(action)}, to be relative to; states: {found}; "
            f"name one as `state`, or take another reference"
        )
    return (usual or fitting)[0]


def _shared(action: Column, state: Column) -> dict[int, int]:
    """Return for each entry of the action the one of the state that is the same: of that name, or in that place where names are not known."""
    if len(state.shape) != 1 or state.shape[0] is None:
        return {}
    if action.dims is not None and state.dims is not None:
        return {entry: state.dims.index(name) for entry, name in enumerate(action.dims) if name in state.dims}
    return {entry: entry for entry in range(state.shape[0])} if state.shape == action.shape else {}


def _entries(column: Column) -> str:
    return f"({', '.join(column.dims)})" if column.dims else f"of shape {column.shape}"
