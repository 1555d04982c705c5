"""The parts of an action or state: where in which column the hand's position, its rotation and the gripper stand, and what their numbers mean.

Everything comes from what the columns say (`Column`, `ActionSpace`); what they do not say is never guessed: `MissingFact` names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column, RotationKind
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.pose import (
    matrix_from_quat_xyzw,
    matrix_from_rot6d,
    matrix_from_rotvec,
    matrix_from_rpy,
    quat_xyzw_from_matrix,
    rot6d_from_matrix,
    rotvec_from_matrix,
    rpy_from_matrix,
)

AXES = ("x", "y", "z")
TOOL = "tool"  # the frame of the hand itself; every other name is a frame that stands still

# The names under which the entries of each kind of rotation stand in `dims`, in the order in which the maths takes them.
ROTATION_DIMS: dict[RotationKind, tuple[tuple[str, ...], ...]] = {
    "rpy": (("roll", "pitch", "yaw"), ("euler_x", "euler_y", "euler_z")),
    "rotvec": (("rotvec_x", "rotvec_y", "rotvec_z"), ("rx", "ry", "rz")),
    "quat_xyzw": (("qx", "qy", "qz", "qw"),),
    "quat_wxyz": (("qx", "qy", "qz", "qw"),),
    "rot6d": (tuple(f"rot6d_{number}" for number in range(6)), tuple(f"r{number}" for number in range(1, 7))),
    "matrix": (tuple(f"m{row}{column}" for row in range(3) for column in range(3)),),
}
ANGLES: tuple[RotationKind, ...] = ("rpy", "rotvec")  # kinds whose numbers have a unit, and of which absent entries are 0
_SOME_ROTATION = re.compile(r"(roll|pitch|yaw|euler|angle|rotation|rotvec|orientation|rot6d)(_.*)?|q_?[xyzw0-9]|r[xyz]")
_SOME_GRIPPER = re.compile(r"(.*_)?gripper(_\d+)?")
_UNIT = re.compile(r"(?:(\d+(?:\.\d+)?(?:e-?\d+)?) )?(m|cm|mm|rad|deg)")
_IN_SI = {"m": ("m", 1.0), "cm": ("m", 0.01), "mm": ("m", 0.001), "rad": ("rad", 1.0), "deg": ("rad", np.pi / 180)}
_STATE_IT = "correct the dataset's description, or state it: stated={{{column!r}: {{{fact!r}: ...}}}}"


def missing(column: str, fact: str, why: str) -> MissingFact:
    """Return the error for a fact that a column does not say."""
    return MissingFact(column, fact, f"{why}; " + _STATE_IT.format(column=column, fact=fact))


@dataclass(frozen=True)
class Part:
    """Entries of a column that are a position or a rotation: value = number * gain + offset, in m or rad.

    `slots` says for each entry in `entries` which number of the part it is: a position of (x, y) has the slots (0, 1).
    """

    column: str
    entries: tuple[int, ...]
    slots: tuple[int, ...]
    width: int
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    frame: str | None
    absolute: bool
    rotation: RotationKind | None = None

    def values(self, rows: Array) -> Array:
        """Return (T, width) float64 of the column's (T, D) rows; absent entries are 0."""
        found = np.zeros((len(rows), self.width))
        found[:, list(self.slots)] = rows[:, list(self.entries)] * np.asarray(self.gain) + np.asarray(self.offset)
        return found

    def numbers(self, values: Array) -> Array:
        """Return the (T, entries) numbers of (T, width) values: the way back of `values`."""
        return np.asarray((values[:, list(self.slots)] - np.asarray(self.offset)) / np.asarray(self.gain))

    def matrices(self, values: Array) -> Array:
        """Return (T, 3, 3) rotation matrices of (T, width) values."""
        return matrices_of(self.rotation or "rotvec", values)

    def of_matrices(self, matrices: Array) -> Array:
        """Return (T, width) values of (T, 3, 3) rotation matrices."""
        return values_of(self.rotation or "rotvec", matrices)


@dataclass(frozen=True)
class GripperPart:
    """The entry of a column that is the gripper; a relative one holds commands to close or open further, 0 between them."""

    column: str
    entry: int
    closed: float
    open: float
    relative: bool


@dataclass(frozen=True)
class Pose:
    """The parts that a column or several have: None where they have none."""

    position: Part | None
    rotation: Part | None
    gripper: GripperPart | None


AnyPart = TypeVar("AnyPart", Part, GripperPart)


def matrices_of(kind: RotationKind, values: Array) -> Array:
    """Return (T, 3, 3) rotation matrices of rotations written as `kind`; quaternions come as (x, y, z, w) whatever their order in the file."""
    if kind == "rpy":
        return matrix_from_rpy(values)
    if kind == "rotvec":
        return matrix_from_rotvec(values)
    if kind == "rot6d":
        return matrix_from_rot6d(values)
    return matrix_from_quat_xyzw(values) if kind.startswith("quat") else values.reshape(-1, 3, 3)


def values_of(kind: RotationKind, matrices: Array) -> Array:
    """Return rotations written as `kind`: the way back of `matrices_of`."""
    if kind == "rpy":
        return rpy_from_matrix(matrices)
    if kind == "rotvec":
        return rotvec_from_matrix(matrices)
    if kind == "rot6d":
        return rot6d_from_matrix(matrices)
    return quat_xyzw_from_matrix(matrices) if kind.startswith("quat") else matrices.reshape(-1, 9)


def stated_column(column: Column, facts: Mapping[str, Any]) -> Column:
    """Return a column with facts that the caller states: fields of `Column` (`unit`, `dims`, `frame`) or of its `ActionSpace`."""
    of_space = {name: value for name, value in facts.items() if name in ("kind", "rotation", "frame", "absolute", "gripper", "rate_hz")}
    of_column = {name: value for name, value in facts.items() if name in ("unit", "dims", "frame", "extra")}
    unknown = sorted(set(facts) - set(of_space) - set(of_column))
    if unknown:
        raise UsageError(f"stated[{column.name!r}]: {', '.join(unknown)} is no fact of a column; known: unit, dims, frame, kind, rotation, absolute, gripper")
    space = replace(column.action_space or ActionSpace("other"), **of_space) if of_space else column.action_space
    return replace(column, action_space=space, **of_column)


def scale_of(column: Column, wanted: str, entries: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return gain and offset that bring the entries of a column to `wanted`, m or rad; raise MissingFact where it has no such unit."""
    scale = column.extra.get("scale")
    if isinstance(scale, Mapping) and {"input_min", "input_max", "output_min", "output_max"} <= set(scale):
        low, high, to_low, to_high = (
            np.broadcast_to(np.asarray(scale[name], dtype=np.float64), (max(entries) + 1,) if np.ndim(scale[name]) == 0 else np.shape(scale[name]))
            for name in ("input_min", "input_max", "output_min", "output_max")
        )
        chosen = list(entries)
        gain = (to_high[chosen] - to_low[chosen]) / (high[chosen] - low[chosen])
        return tuple(gain.tolist()), tuple((to_low[chosen] - low[chosen] * gain).tolist())
    for part in (column.unit or "").split(","):
        found = _UNIT.fullmatch(part.strip())
        if found is not None and _IN_SI[found[2]][0] == wanted:
            gain_of_all = float(found[1] or 1) * _IN_SI[found[2]][1]
            return (gain_of_all,) * len(entries), (0.0,) * len(entries)
    what = "position in m" if wanted == "m" else "rotation in rad"
    raise missing(column.name, "unit", f"it brings the {what} (units are such as 'm', 'm, rad', '0.1 m, 0.1 rad')")


def _frame(column: Column) -> str | None:
    return (column.action_space.frame if column.action_space is not None else None) or column.frame


def _absolute(column: Column) -> bool:
    space = column.action_space
    assert space is not None
    return space.kind == "ee_pose" if space.absolute is None else space.absolute


def _part(column: Column, wanted: str, names: tuple[str, ...], rotation: RotationKind | None) -> Part:
    dims = column.dims or ()
    slots = tuple(slot for slot, name in enumerate(names) if name in dims)
    entries = tuple(dims.index(names[slot]) for slot in slots)
    scaled = rotation is None or rotation in ANGLES
    gain, offset = scale_of(column, wanted, entries) if scaled else ((1.0,) * len(entries), (0.0,) * len(entries))
    return Part(column.name, entries, slots, len(names), gain, offset, _frame(column), _absolute(column), rotation)


def rotation_part(column: Column) -> Part | None:
    """Return the rotation in a column of a pose or its change, None where its dimensions name none; raise MissingFact."""
    dims, space = column.dims or (), column.action_space
    some = [name for name in dims if _SOME_ROTATION.fullmatch(name)]
    if space is None or (space.rotation is None and not some):
        return None
    if space.rotation is None:
        raise missing(column.name, "rotation", f"its entries {', '.join(some[:6])} turn the hand, and how they are written is not known")
    for names in ROTATION_DIMS[space.rotation]:
        present = [name for name in names if name in dims]
        if len(present) == len(names) or (present and space.rotation in ANGLES):
            return _part(column, "rad", names, space.rotation)
    if some:
        known = " or ".join(", ".join(names) for names in ROTATION_DIMS[space.rotation])
        raise missing(column.name, "dims", f"a rotation of kind {space.rotation!r} has the entries {known}, got {', '.join(dims)}")
    return None


def position_part(column: Column) -> Part | None:
    """Return the position in a column of a pose or its change, None where its dimensions name none; raise MissingFact."""
    if column.dims is None:
        raise missing(column.name, "dims", "they say which entry is which")
    return _part(column, "m", AXES, None) if any(axis in (column.dims or ()) for axis in AXES) else None


def gripper_part(column: Column) -> GripperPart | None:
    """Return the gripper in a column, None where it has none; raise MissingFact where it has one whose values are not known."""
    space = column.action_space
    if space is not None and space.gripper is not None:
        relative = space.kind == "other" and space.absolute is False
        if space.kind == "other" and space.absolute is None:
            raise missing(column.name, "absolute", "a gripper alone is either brought to a value or moved further")
        return GripperPart(column.name, space.gripper.dimension, space.gripper.closed, space.gripper.open, relative)
    named = [name for name in column.dims or () if _SOME_GRIPPER.fullmatch(name)]
    if named:
        raise missing(column.name, "gripper", f"its entry {named[0]!r} is one, and its value when closed and when open is not known")
    return None


def moves_hand(column: Column) -> bool:
    """Whether a column says that it holds a pose of the hand or its change."""
    return column.action_space is not None and column.action_space.kind in ("ee_pose", "ee_delta")


def pose_of(columns: Sequence[Column], what: str, gripper: bool = True) -> Pose:
    """Return the parts that the columns have together; without `gripper`, whatever they say of one is passed over.

    Raises:
        MissingFact: a column does not say what is needed; the message names all that is missing.
        UsageError: the columns hold no pose of the hand, or several of one part.
    """
    hands = [column for column in columns if moves_hand(column)]
    if not hands:
        for column in columns:
            if column.action_space is None:
                raise missing(column.name, "kind", "whether it is a pose of the hand (ee_pose), its change (ee_delta) or something else is not known")
        kinds = sorted({column.action_space.kind for column in columns if column.action_space is not None})
        raise UsageError(
            f"{what}: must hold the hand's pose or its change, got {', '.join(kinds) or 'no column'}; joint commands and velocities are not turned into poses"
        )
    lacking: list[MissingFact] = []
    positions = _found(position_part, hands, lacking)
    rotations = _found(rotation_part, hands, lacking)
    grippers = _found(gripper_part, columns, lacking) if gripper else []
    if lacking:
        first, *others = lacking
        also = f"; also missing: {', '.join(f'{error.fact} of {error.column!r}' for error in others)}" if others else ""
        raise MissingFact(first.column, first.fact, first.why + also)
    where = {"positions": [part.column for part in positions], "rotations": [part.column for part in rotations], "grippers": [part.column for part in grippers]}
    for name, found in where.items():
        if len(found) > 1:
            raise UsageError(f"{what}: must hold one hand, got {name} in {', '.join(found)}; name the columns that belong together")
    return Pose(positions[0] if positions else None, rotations[0] if rotations else None, grippers[0] if grippers else None)


def _found(part_of: Callable[[Column], AnyPart | None], columns: Sequence[Column], lacking: list[MissingFact]) -> list[AnyPart]:
    """Return the parts of one sort in the columns; what they lack is noted, each fact of a column once."""
    found = []
    for column in columns:
        try:
            part = part_of(column)
        except MissingFact as error:
            if (error.column, error.fact) not in [(known.column, known.fact) for known in lacking]:
                lacking.append(error)
            continue
        if part is not None:
            found.append(part)
    return found
