"""Standardised actions as a reversible view: what a dataset commands, as the change of the hand's pose and the gripper, in one convention; and the way back.

A view, never an overwrite: the store keeps what was recorded. `transforms.actions.action_view` reads from the columns what their numbers mean; the view then
turns rows into (T, 7) numbers and `inverse` turns them into the very columns again.

- Position: the change in m. Of absolute poses it is the target less the state of the same step, so that the state must be there both ways.
- Rotation: a change R with R_target = R R_state in a frame that stands still, R_target = R_state R in the hand's own (`tool`). A change of roll, pitch
  and yaw is read as such a rotation; where a dataset means differences of angles the two agree to first order only.
- Gripper: `closed` to `open` of the convention, linear and not clipped. Relative commands (closing, opening, nothing) are held; that needs the gripper's
  state before the first of them.
- What is not commanded: no rotation is the rotation by nothing; no gripper is NaN. `commanded` says so for each of the seven.
- What has no place in the seven (a flag that ends the episode, say) and what the seven cannot tell (the sign of a quaternion, turns beyond half a turn,
  repeated commands of the gripper) is kept in `rest`, so that the way back is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array, read_only, require
from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.trajectory import Trajectory
from dataengine.transforms.action_parts import AXES, ROTATION_DIMS, TOOL, GripperPart, Part, Pose, matrices_of, values_of
from dataengine.transforms.grippers import closedness, commanded, held, numbers_of

SAME_ROTATION_RAD = 1e-6  # how far a rotation may be from the one that was seen for the recorded numbers to be given back


@dataclass(frozen=True)
class Convention:
    """How standardised actions are written.

    `frame`: None leaves changes in the frame that the dataset uses, "tool" is the hand's own, any other name a frame that stands still.
    """

    rotation: Literal["rotvec", "rpy"] = "rotvec"
    frame: str | None = None
    closed: float = 0.0
    open: float = 1.0

    def __post_init__(self) -> None:
        require(self.closed != self.open, "convention: closed and open must differ")

    @property
    def dims(self) -> tuple[str, ...]:
        """Return the names of the seven entries."""
        return (*AXES, *ROTATION_DIMS[self.rotation][0], "gripper")


@dataclass(frozen=True, eq=False)
class StandardActions:
    """(T, 7) float64 actions in a convention; rows that are not `valid` are NaN. `frame` is None where the dataset does not name its own.

    `commanded` says which of the seven the dataset commands. `rest` holds what the seven do not.
    """

    values: Array
    valid: Array
    convention: Convention
    frame: str | None
    commanded: tuple[bool, ...]
    rest: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.values.shape == (len(self.valid), 7), f"values: must be (T, 7), got {self.values.shape}")
        object.__setattr__(self, "values", read_only(self.values))
        object.__setattr__(self, "valid", read_only(self.valid))

    @property
    def dims(self) -> tuple[str, ...]:
        """Return the names of the seven entries."""
        return self.convention.dims

    @property
    def column(self) -> Column:
        """Return what a column of these numbers says of itself."""
        gripper = Gripper(6, self.convention.closed, self.convention.open)
        space = ActionSpace("ee_delta", self.convention.rotation, self.frame, absolute=False, gripper=gripper)
        return Column("action", dtype="float64", shape=(7,), dims=self.dims, unit="m, rad", frame=self.frame, meaning="action", action_space=space)


@dataclass(frozen=True)
class ActionView:
    """A reversible view of the action columns of one dataset; made by `action_view`."""

    action: Pose
    state: Pose
    convention: Convention
    frame: str | None
    columns: tuple[tuple[str, str, tuple[int | None, ...]], ...]  # name, dtype and shape of a row

    @property
    def needs_state(self) -> bool:
        """Whether the state's pose is needed, both for the view and for its inverse."""
        return self.absolute or self.turned

    @property
    def absolute(self) -> bool:
        """Whether the dataset commands poses rather than changes."""
        return any(part is not None and part.absolute for part in (self.action.position, self.action.rotation))

    @property
    def turned(self) -> bool:
        """Whether changes are turned between the hand's frame and one that stands still."""
        return self.frame != self._recorded_frame and TOOL in (self.frame, self._recorded_frame)

    @property
    def _recorded_frame(self) -> str | None:
        part = self.action.position or self.action.rotation
        assert part is not None
        return part.frame

    def of(self, trajectory: Trajectory, gripper_start: float | None = None) -> StandardActions:
        """Return the standardised actions of a trajectory, as `Store.read_trajectory` gives it."""
        return self(trajectory.columns, trajectory.valid, gripper_start)

    def __call__(self, columns: Mapping[str, Array], valid: Mapping[str, Array] | None = None, gripper_start: float | None = None) -> StandardActions:
        """Return the standardised actions of rows.

        Args:
            columns: (T, ...) rows of each column that the view needs.
            valid: (T,) for each column whether a row holds a value; all do by default.
            gripper_start: the gripper before the first row, in the view's convention; read from the state where the dataset says it.

        Raises:
            UsageError: a column is absent.
            MissingFact: a relative gripper, and its state before the first row is not known.
        """
        names = [name for name, _, _ in self.columns]
        needed = list(dict.fromkeys([*names, *self._state_columns()]))
        absent = [name for name in needed if name not in columns]
        if absent:
            raise UsageError(f"the rows lack {', '.join(absent)}, which this view needs; got {', '.join(sorted(columns)) or 'none'}")
        rows = {name: _flat(columns[name]) for name in needed}
        good = np.logical_and.reduce(
            [np.asarray(valid[name]) for name in needed if valid is not None and name in valid] or [np.ones(len(rows[needed[0]]), bool)]
        )
        for part in (self.action.rotation, self.state.rotation if self.needs_state else None):
            good = good & _turns(part, rows) if part is not None else good
        rest = {f"{name}/others": np.delete(rows[name], self._taken(name), axis=1) for name in names}
        rest |= {f"{name}/not_valid": rows[name][~good] for name in names}
        rest = {name: array for name, array in rest.items() if array.size}
        chosen = {name: array[good] for name, array in rows.items()}
        values = np.full((len(good), 7), np.nan)
        position, matrices = self._change(chosen)
        values[good, :3] = position
        values[good, 3:6] = values_of(self.convention.rotation, matrices)
        if self.action.gripper is not None:
            values[good, 6], recorded = self._gripper(chosen, gripper_start)
            if recorded is not None:
                rest["gripper"] = _spread(recorded[:, None], good)
                rest["gripper_start"] = np.array([self._start(chosen, gripper_start)])
        if (rotation := self.action.rotation) is not None:
            rest["rotation"] = _spread(chosen[rotation.column][:, list(rotation.entries)], good)
        here = (self.action.position, self.action.rotation, self.action.gripper)
        said = (*(here[0] is not None and slot in here[0].slots for slot in range(3)), *(here[1] is not None,) * 3, here[2] is not None)
        return StandardActions(values, good, self.convention, self.frame, said, {name: read_only(array) for name, array in rest.items()})

    def inverse(self, standard: StandardActions, columns: Mapping[str, Array] | None = None, gripper_start: float | None = None) -> dict[str, Array]:
        """Return the action columns that standardised actions stand for, in the dtypes and shapes of the dataset: exact to float tolerance.

        Args:
            standard: what the view gave, or other values (a policy's, say): without its `rest`, entries that the seven do not hold are NaN, or 0 in integers.
            columns: rows of the state columns, where `needs_state`.
            gripper_start: the gripper before the first row, in the view's convention, for relative commands that no view gave.

        Raises:
            UsageError: the state is needed and absent, or a change cannot be written in the dataset's columns.
        """
        good = np.asarray(standard.valid)
        require(standard.convention == self.convention, f"standard: must be in the convention of the view, {self.convention}, got {standard.convention}")
        state = {name: _flat(array)[good] for name, array in (columns or {}).items() if name in self._state_columns()}
        lack = [part.column for part in (self.state.position, self.state.rotation) if self.needs_state and part is not None and part.column not in state]
        if lack:
            raise UsageError(f"the way back needs the state: {', '.join(lack)}; hand over the rows that the view was made of")
        values = standard.values[good]
        found = {name: np.full((len(good), int(np.prod([size or 1 for size in shape]))), np.nan) for name, _, shape in self.columns}
        self._put_pose(found, good, values, state, standard.rest)
        if self.action.gripper is not None:
            self._put_gripper(found[self.action.gripper.column], good, values[:, 6], standard.rest, state, gripper_start)
        back = {}
        for name, dtype, shape in self.columns:
            rows = _restored(found[name], dtype)
            if f"{name}/others" in standard.rest:  # in the dtype that they came in: large integers are not exact as floats
                rows[:, np.delete(np.arange(rows.shape[1]), self._taken(name))] = standard.rest[f"{name}/others"]
            if f"{name}/not_valid" in standard.rest:
                rows[~good] = standard.rest[f"{name}/not_valid"]
            back[name] = rows.reshape(len(good), *(size or 1 for size in shape))
        return back

    def _state_columns(self) -> list[str]:
        parts: list[Part | GripperPart | None] = [self.state.position, self.state.rotation] if self.needs_state else []
        if self.action.gripper is not None and self.action.gripper.relative:
            parts.append(self.state.gripper)
        return list(dict.fromkeys(part.column for part in parts if part is not None))

    def _taken(self, name: str) -> list[int]:
        parts = [part for part in (self.action.position, self.action.rotation) if part is not None and part.column == name]
        gripper = [self.action.gripper.entry] if self.action.gripper is not None and self.action.gripper.column == name else []
        return [entry for part in parts for entry in part.entries] + gripper

    def _state_pose(self, rows: Mapping[str, Array], count: int) -> tuple[Array, Array]:
        position, rotation = self.state.position, self.state.rotation
        at = position.values(rows[position.column]) if position is not None else np.zeros((count, 3))
        turned = rotation.matrices(_told(rotation, rows[rotation.column])) if rotation is not None else np.broadcast_to(np.eye(3), (count, 3, 3))
        return at, turned

    def _change(self, rows: Mapping[str, Array]) -> tuple[Array, Array]:
        """Return (T, 3) and (T, 3, 3): the change of the hand's position and rotation in the view's frame."""
        count = len(next(iter(rows.values())))
        position, rotation = self.action.position, self.action.rotation
        moved = position.values(rows[position.column]) if position is not None else np.zeros((count, 3))
        turned = rotation.matrices(_told(rotation, rows[rotation.column])) if rotation is not None else np.broadcast_to(np.eye(3), (count, 3, 3))
        if not self.needs_state:
            return moved, turned
        at, stands = self._state_pose(rows, count)
        if self.absolute:
            moved = moved - at if position is not None else moved
            turned = turned @ _transposed(stands) if rotation is not None else turned
        if self.turned:
            inward = self.frame == TOOL  # from a frame that stands still to the hand's
            moved = _applied(_transposed(stands) if inward else stands, moved)
            turned = _transposed(stands) @ turned @ stands if inward else stands @ turned @ _transposed(stands)
        return moved, turned

    def _put_pose(self, found: dict[str, Array], good: Array, values: Array, state: Mapping[str, Array], rest: Mapping[str, Array]) -> None:
        moved, turned = values[:, :3], matrices_of(self.convention.rotation, values[:, 3:6])
        position, rotation = self.action.position, self.action.rotation
        if self.needs_state:
            at, stands = self._state_pose(state, len(values))
            if self.turned:
                outward = self.frame == TOOL
                moved = _applied(stands if outward else _transposed(stands), moved)
                turned = stands @ turned @ _transposed(stands) if outward else _transposed(stands) @ turned @ stands
            if self.absolute:
                moved, turned = moved + at, turned @ stands
        if position is not None:
            _require_written(position, moved, "position")
            _put(found[position.column], good, position, position.numbers(moved))
        if rotation is not None:
            written = rotation.of_matrices(turned)
            recorded = rest["rotation"][good] if "rotation" in rest else None
            if recorded is not None:  # the numbers that were seen, where they say this very rotation
                same = _angle(rotation.matrices(_told(rotation, recorded, by_entry=True)), turned) < SAME_ROTATION_RAD
            else:
                same = np.zeros(len(written), bool)
            if not same.all():
                _require_written(rotation, written[~same], "rotation")
            numbers = rotation.numbers(written)
            _put(found[rotation.column], good, rotation, numbers if recorded is None else np.where(same[:, None], recorded, numbers))

    def _start(self, rows: Mapping[str, Array], gripper_start: float | None) -> float:
        """Return the closedness before the first row."""
        if gripper_start is not None:
            return (gripper_start - self.convention.open) / (self.convention.closed - self.convention.open)
        part = self.state.gripper
        if part is None or part.column not in rows:
            assert self.action.gripper is not None
            name = self.action.gripper.column
            raise MissingFact(name, "state of the gripper before the first command", "its commands are relative; pass gripper_start (0 or 1 in the convention)")
        first = rows[part.column][:1, part.entry].astype(np.float64)
        return float(np.round(np.clip(closedness(part, first), 0, 1))[0]) if len(first) else 0.0

    def _gripper(self, rows: Mapping[str, Array], gripper_start: float | None) -> tuple[Array, Array | None]:
        part = self.action.gripper
        assert part is not None
        numbers = rows[part.column][:, part.entry].astype(np.float64)
        closed = held(part, numbers, self._start(rows, gripper_start)) if part.relative else closedness(part, numbers)
        return self.convention.open + closed * (self.convention.closed - self.convention.open), numbers if part.relative else None

    def _put_gripper(
        self, found: Array, good: Array, values: Array, rest: Mapping[str, Array], state: Mapping[str, Array], gripper_start: float | None
    ) -> None:
        part = self.action.gripper
        assert part is not None
        closed = (values - self.convention.open) / (self.convention.closed - self.convention.open)
        if not part.relative:
            found[good, part.entry] = numbers_of(part, closed)
            return
        seen = gripper_start is None and "gripper_start" in rest
        start = float(rest["gripper_start"][0]) if seen else self._start(state, gripper_start)
        found[good, part.entry] = commanded(part, closed, start, rest["gripper"][good, 0] if "gripper" in rest else None)


def _flat(array: Array) -> Array:
    return np.asarray(array).reshape(len(array), -1)


def _turns(part: Part, rows: Mapping[str, Array]) -> Array:
    """Return (T,) whether the numbers of a rotation say one: finite, and no quaternion of length 0."""
    numbers = rows[part.column][:, list(part.entries)]
    said = np.asarray(np.isfinite(numbers).all(axis=1))
    return said & (np.abs(numbers).max(axis=1, initial=0.0) > 1e-9) if part.rotation in ("quat_xyzw", "quat_wxyz", "rot6d") else said


def _told(part: Part, numbers: Array, by_entry: bool = False) -> Array:
    """Return the values of a part, from rows of its column or, `by_entry`, from its entries alone."""
    if not by_entry:
        return part.values(numbers)
    found = np.zeros((len(numbers), part.width))
    found[:, list(part.slots)] = numbers * np.asarray(part.gain) + np.asarray(part.offset)
    return found


def _put(column: Array, good: Array, part: Part, numbers: Array) -> None:
    column[np.flatnonzero(good)[:, None], np.asarray(part.entries)[None, :]] = numbers


def _spread(values: Array, good: Array) -> Array:
    found = np.full((len(good), values.shape[1]), np.nan)
    found[good] = values
    return found


def _transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


def _applied(matrices: Array, vectors: Array) -> Array:
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def _angle(a: Array, b: Array) -> Array:
    """Return the angle between rotations: of a small one the sine's, which the cosine would lose to rounding."""
    return np.asarray(np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(2))


def _require_written(part: Part, values: Array, what: str) -> None:
    """Raise UsageError where a value is not zero in an entry that the column does not have."""
    others = [slot for slot in range(part.width) if slot not in part.slots]
    if others and len(values) and np.abs(values[:, others]).max(initial=0.0) > 1e-6:
        raise UsageError(f"column {part.column!r}: must be able to hold the {what}, got a change in an entry that it does not have")


def _restored(array: Array, dtype: str) -> Array:
    target = np.dtype(dtype)
    return np.rint(np.nan_to_num(array)).astype(target) if target.kind in "iub" else array.astype(target)
