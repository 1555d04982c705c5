"""What a model is asked to say of a step, and the way from a column's numbers to what a network predicts and back.

A target of D numbers falls into parts: numbers on a scale, classes (a gripper and everything else that has two values), rotations on SO(3), and what never
changes. A network predicts the first as normalised numbers, the second as classes and the third as a rotation; what never changes is not predicted at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.column import Column, RotationKind
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.errors import UsageError
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

PartKind = Literal["scaled", "levels", "rotation", "constant"]
CONSTANT_STD = 1e-6  # a smaller one is that of rounding
NOTHING = 1e-6  # no longer are the numbers of what is no rotation
AT_LEVEL = 0.05  # a gripper counts as one of two levels where so many of its numbers, as a share of the way between them, lie this near to one

NO_ROTATION: dict[RotationKind, tuple[float, ...]] = {  # quaternions as x, y, z, w, as everywhere here
    "rpy": (0, 0, 0),
    "rotvec": (0, 0, 0),
    "quat_xyzw": (0, 0, 0, 1),
    "quat_wxyz": (0, 0, 0, 1),
    "rot6d": (1, 0, 0, 0, 1, 0),
    "matrix": (1, 0, 0, 0, 1, 0, 0, 0, 1),
}


@dataclass(frozen=True)
class RotationEntries:
    """Where a rotation stands in a column: its entries in the order of its kind (quaternions as x, y, z, w), and how many rad the number 1 of an angle is."""

    kind: RotationKind
    entries: tuple[int, ...]
    gain: float = 1.0


@dataclass(frozen=True)
class SpecPart:
    """Some entries of a target.

    Attributes:
        kind: "scaled" numbers, "levels" of one entry, a "rotation", or a "constant".
        entries: which of the D entries.
        centre, spread: of "scaled" entries: a number becomes (number - centre) / spread. Of a rotation the spread is the size of a usual one, in rad.
        levels: of "levels": the values that there are, in order; of "constant" the value of each entry.
        low, high: of "scaled" entries: the smallest and largest number that was seen; what is predicted is kept between them.
        rotation: how a rotation is written.
        gain: how many rad the number 1 of an angle stands for.
    """

    kind: PartKind
    entries: tuple[int, ...]
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    rotation: RotationKind | None = None
    gain: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.kind in ("scaled", "levels", "rotation", "constant"), f"part of a target: kind must be scaled, levels, rotation or constant: {self.kind!r}"
        )
        require(self.kind != "scaled" or all(spread > 0 for spread in self.spread), "part of a target: spread must be positive")
        require(self.kind != "levels" or (len(self.levels) >= 2 and len(self.entries) == 1), "part of a target: levels must be two or more of one entry")


@dataclass(frozen=True, eq=False)
class Predicted:
    """What stands for rows (...,) of a target in the terms of a network.

    `scaled` (..., C) normalised numbers, `classes` (..., G) int64 numbers of levels, `rotations` (..., R, 3, 3).
    """

    scaled: Array
    classes: Array
    rotations: Array


@dataclass(frozen=True)
class ActionSpec:
    """A target of an embodiment: the name of its column, the names of its D entries, and its parts, which hold each entry once."""

    name: str
    dims: tuple[str, ...]
    parts: tuple[SpecPart, ...]

    def __post_init__(self) -> None:
        held = sorted(entry for part in self.parts for entry in part.entries)
        require(held == list(range(len(self.dims))), f"target {self.name!r}: its parts must hold each of {len(self.dims)} entries once, got {held}")

    @property
    def width(self) -> int:
        """Return D."""
        return len(self.dims)

    def of_kind(self, kind: PartKind) -> tuple[SpecPart, ...]:
        """Return the parts of a kind, in order."""
        return tuple(part for part in self.parts if part.kind == kind)

    @property
    def scaled_entries(self) -> tuple[int, ...]:
        """Return the C entries that are normalised numbers, in order."""
        return tuple(entry for part in self.of_kind("scaled") for entry in part.entries)

    @property
    def level_counts(self) -> tuple[int, ...]:
        """Return how many levels each of the G entries with levels has."""
        return tuple(len(part.levels) for part in self.of_kind("levels"))

    @property
    def predicted_entries(self) -> tuple[int, ...]:
        """Return the entries that a network says something of: all but those that never change."""
        return tuple(entry for entry in range(self.width) if not any(entry in part.entries for part in self.of_kind("constant")))

    def bounds(self) -> tuple[Array, Array]:
        """Return the smallest and the largest normalised number of each of the C entries, float64."""
        centre, spread = self._scale()
        low = np.array([value for part in self.of_kind("scaled") for value in part.low or (-np.inf,) * len(part.entries)])
        high = np.array([value for part in self.of_kind("scaled") for value in part.high or (np.inf,) * len(part.entries)])
        return (low - centre) / spread, (high - centre) / spread

    def _scale(self) -> tuple[Array, Array]:
        parts = self.of_kind("scaled")
        return np.array([x for part in parts for x in part.centre], np.float64), np.array([x for part in parts for x in part.spread], np.float64)

    def usable(self, values: Array) -> Array:
        """Return (...,) bool whether (..., D) numbers say an action: all finite, and every rotation one."""
        numbers = np.asarray(values, dtype=np.float64)
        found: Array = np.asarray(np.isfinite(numbers).all(axis=-1))
        for part in self.of_kind("rotation"):
            found = found & is_rotation(part.rotation or "rotvec", np.where(found[..., None], numbers[..., list(part.entries)], 0))
        return found

    def blank(self) -> Array:
        """Return (D,) numbers that stand for nothing, where an action is missing: the middle, the first level, no rotation."""
        found = np.zeros(self.width)
        for part in self.parts:
            if part.kind == "rotation":
                found[list(part.entries)] = NO_ROTATION[part.rotation or "rotvec"]
            else:
                found[list(part.entries)] = part.centre if part.kind == "scaled" else part.levels[:1]
        return found

    def predicted(self, values: Array) -> Predicted:
        """Return what stands for (..., D) numbers; a gripper's number becomes the nearest level."""
        numbers = np.asarray(values, dtype=np.float64)
        require(numbers.shape[-1] == self.width, f"target {self.name!r}: must have {self.width} entries, got {numbers.shape}")
        centre, spread = self._scale()
        lead = numbers.shape[:-1]
        classes = [np.abs(numbers[..., part.entries[0], None] - np.array(part.levels)).argmin(-1) for part in self.of_kind("levels")]
        rotations = [rotation_matrix(part.rotation or "rotvec", numbers[..., list(part.entries)], part.gain) for part in self.of_kind("rotation")]
        return Predicted(
            (numbers[..., list(self.scaled_entries)] - centre) / spread,
            np.stack(classes, axis=-1).astype(np.int64) if classes else np.zeros((*lead, 0), np.int64),
            np.stack(rotations, axis=-3) if rotations else np.zeros((*lead, 0, 3, 3)),
        )

    def values(self, predicted: Predicted) -> Array:
        """Return the (..., D) numbers that something predicted stands for, float64: the way back of `predicted`."""
        centre, spread = self._scale()
        lead = predicted.scaled.shape[:-1]
        found = np.zeros((*lead, self.width))
        found[..., list(self.scaled_entries)] = predicted.scaled * spread + centre
        for place, part in enumerate(self.of_kind("levels")):
            found[..., part.entries[0]] = np.array(part.levels)[predicted.classes[..., place]]
        for place, part in enumerate(self.of_kind("rotation")):
            found[..., list(part.entries)] = rotation_numbers(part.rotation or "rotvec", predicted.rotations[..., place, :, :], part.gain)
        for part in self.of_kind("constant"):
            found[..., list(part.entries)] = np.array(part.levels)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        parts = [{name: value for name, value in asdict(part).items() if value not in ((), None)} for part in self.parts]
        return {"name": self.name, "dims": list(self.dims), "parts": [{k: list(v) if isinstance(v, tuple) else v for k, v in part.items()} for part in parts]}


def spec_of_json(document: Mapping[str, Any]) -> ActionSpec:
    """Return the spec that `as_json` gave."""
    listed: list[dict[str, Any]] = [{name: tuple(value) if isinstance(value, list) else value for name, value in part.items()} for part in document["parts"]]
    parts = tuple(SpecPart(**part) for part in listed)
    return ActionSpec(str(document["name"]), tuple(document["dims"]), parts)


def is_rotation(kind: RotationKind, numbers: Array) -> Array:
    """Return (...,) bool whether finite numbers (..., w) are a rotation: no quaternion or matrix of zeros, and two columns of different directions."""
    if kind in ("rpy", "rotvec"):
        return np.ones(numbers.shape[:-1], np.bool_)
    if kind != "rot6d":
        return np.asarray(np.square(numbers).sum(axis=-1) > NOTHING**2)
    first, second = numbers[..., :3], numbers[..., 3:]
    length = np.linalg.norm(first, axis=-1)
    across = np.linalg.norm(np.cross(first, second), axis=-1)  # what is left of the second column beside the first, times the length of the first
    return np.asarray((length > NOTHING) & (across > NOTHING * np.maximum(length, NOTHING)))


def rotation_matrix(kind: RotationKind, numbers: Array, gain: float = 1.0) -> Array:
    """Return (..., 3, 3) matrices of rotations whose numbers (..., w) are in the order of their kind, quaternions as (x, y, z, w)."""
    if kind == "rpy":
        return matrix_from_rpy(numbers * gain)
    if kind == "rotvec":
        return matrix_from_rotvec(numbers * gain)
    if kind == "rot6d":
        return matrix_from_rot6d(numbers)
    return numbers.reshape(*numbers.shape[:-1], 3, 3) if kind == "matrix" else matrix_from_quat_xyzw(numbers)


def rotation_numbers(kind: RotationKind, matrices: Array, gain: float = 1.0) -> Array:
    """Return (..., w) numbers of (..., 3, 3) rotations: the way back of `rotation_matrix`."""
    if kind == "rpy":
        return rpy_from_matrix(matrices) / gain
    if kind == "rotvec":
        return rotvec_from_matrix(matrices) / gain
    if kind == "rot6d":
        return rot6d_from_matrix(matrices)
    return matrices.reshape(*matrices.shape[:-2], 9) if kind == "matrix" else quat_xyzw_from_matrix(matrices)


def names_of(column: Column, width: int) -> tuple[str, ...]:
    """Return the names of a column's entries, their numbers where it has no names."""
    return column.dims if column.dims is not None and len(column.dims) == width else tuple(str(entry) for entry in range(width))


def spec_of(column: Column, statistics: ColumnStatistics, rotations: tuple[RotationEntries, ...] = ()) -> ActionSpec:
    """Return how a column is predicted, from what it says and what its numbers in the training split are.

    An entry of two values has levels, as has a gripper whose numbers lie at its ends; what never changes is constant; an entry of a rotation belongs to it. All
    others are scaled by mean and standard deviation.

    Args:
        column: of numbers, (D,) or () a row.
        statistics: of its training episodes.
        rotations: which of its entries are rotations.

    Raises:
        UsageError: an entry has no finite number.
    """
    figures = {name: statistics.array(name).reshape(-1) for name in ("mean", "std", "min", "max", "q10", "q50", "q90", "distinct", "count")}
    width = len(figures["mean"])
    dims = names_of(column, width)
    gripper = column.action_space.gripper if column.action_space is not None and column.meaning == "action" else None
    turned = {entry for rotation in rotations for entry in rotation.entries}
    parts: list[SpecPart] = [
        SpecPart("rotation", rotation.entries, spread=(_usual_angle(rotation, figures),), rotation=rotation.kind, gain=rotation.gain) for rotation in rotations
    ]
    for entry in range(width):
        if entry in turned:
            continue
        if figures["count"][entry] == 0:
            raise UsageError(f"column {column.name!r}: entry {dims[entry]!r} must have numbers in the training episodes, got none; leave the column out")
        mean, std, low, high = (float(figures[name][entry]) for name in ("mean", "std", "min", "max"))
        levels = (low, high)
        if gripper is not None and gripper.dimension == entry and figures["distinct"][entry] > 2:
            levels = (min(gripper.closed, gripper.open), max(gripper.closed, gripper.open))
        if high - low <= CONSTANT_STD or std <= CONSTANT_STD:
            parts.append(SpecPart("constant", (entry,), levels=(mean if high > low else low,)))
        elif figures["distinct"][entry] == 2 or (gripper is not None and gripper.dimension == entry and _at_levels(levels, figures, entry)):
            parts.append(SpecPart("levels", (entry,), levels=levels))
        else:
            parts.append(SpecPart("scaled", (entry,), centre=(mean,), spread=(std,), low=(low,), high=(high,)))
    return ActionSpec(column.name, dims, tuple(parts))


def _at_levels(levels: tuple[float, float], figures: Mapping[str, Array], entry: int) -> bool:
    """Whether the quantiles of an entry all lie at one of two levels."""
    way = levels[1] - levels[0]
    along = [(float(figures[name][entry]) - levels[0]) / way for name in ("min", "q10", "q50", "q90", "max")] if way > 0 else [0.5]
    return all(min(abs(place), abs(place - 1)) <= AT_LEVEL for place in along)


def _usual_angle(rotation: RotationEntries, figures: Mapping[str, Array]) -> float:
    """Return the root mean square angle of a rotation that is written in angles, at most 1 rad; 1 for any other."""
    if rotation.kind not in ("rpy", "rotvec"):
        return 1.0
    chosen = list(rotation.entries)
    squares = np.square(figures["mean"][chosen] * rotation.gain) + np.square(figures["std"][chosen] * rotation.gain)
    return float(np.clip(np.sqrt(squares.sum()), 1e-3, 1.0))
