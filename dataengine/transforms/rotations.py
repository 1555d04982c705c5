"""Rotations in a batch, written in another way: `ConvertRotation`, for actions and states with any leading axes.

Exact to float rounding, up to what each kind leaves open. There and back:

- `quat_xyzw`, `quat_wxyz`: of the two that are one rotation, the one with w >= 0, of length 1.
- `rpy`: angles in [-pi, pi], pitch in [-pi/2, pi/2]; at a pitch of +-pi/2 the roll is 0. `rotvec`: at most pi long.
- `rot6d`, `matrix`: what is not orthogonal (a network's output) becomes the rotation that Gram-Schmidt or, for `matrix`, least squares gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import RotationKind
from dataengine.core.errors import UnknownName, UsageError
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
from dataengine.transforms.batch_fields import demand, floats_of, mask_of, padding_of

WIDTHS: dict[RotationKind, int] = {"rpy": 3, "rotvec": 3, "quat_xyzw": 4, "quat_wxyz": 4, "rot6d": 6, "matrix": 9}
IDENTITIES: dict[RotationKind, tuple[float, ...]] = {
    "rpy": (0, 0, 0),
    "rotvec": (0, 0, 0),
    "quat_xyzw": (0, 0, 0, 1),
    "quat_wxyz": (1, 0, 0, 0),
    "rot6d": (1, 0, 0, 0, 1, 0),
    "matrix": (1, 0, 0, 0, 1, 0, 0, 0, 1),
}


def _nearest_rotation(numbers: Array) -> Array:
    """Return the (..., 3, 3) rotations nearest to (..., 9) numbers, row by row (orthogonal Procrustes problem)."""
    left, _, right = np.linalg.svd(numbers.reshape(*numbers.shape[:-1], 3, 3))
    left[..., :, 2] *= np.linalg.det(left @ right)[..., None]  # no mirror image
    return np.asarray(left @ right)


_TO_MATRIX: dict[RotationKind, Callable[[Array], Array]] = {
    "rpy": matrix_from_rpy,
    "rotvec": matrix_from_rotvec,
    "quat_xyzw": matrix_from_quat_xyzw,
    "quat_wxyz": lambda numbers: matrix_from_quat_xyzw(np.roll(numbers, -1, axis=-1)),
    "rot6d": matrix_from_rot6d,
    "matrix": _nearest_rotation,
}
_FROM_MATRIX: dict[RotationKind, Callable[[Array], Array]] = {
    "rpy": rpy_from_matrix,
    "rotvec": rotvec_from_matrix,
    "quat_xyzw": quat_xyzw_from_matrix,
    "quat_wxyz": lambda matrices: np.roll(quat_xyzw_from_matrix(matrices), 1, axis=-1),
    "rot6d": rot6d_from_matrix,
    "matrix": lambda matrices: matrices.reshape(*matrices.shape[:-2], 9),
}


def check_kind(kind: RotationKind) -> None:
    """Raise UnknownName unless `kind` is a way to write a rotation."""
    if kind not in WIDTHS:
        raise UnknownName("kind of rotation", kind, WIDTHS)


def says_rotation(kind: RotationKind, numbers: Array) -> Array:
    """Return (...) bool whether (..., width) numbers say a rotation: finite, and not degenerate (a quaternion of length 0, parallel columns)."""
    finite = np.asarray(np.isfinite(numbers).all(axis=-1))
    if kind in ("rpy", "rotvec"):
        return finite
    numbers = np.where(finite[..., None], numbers, 0).astype(np.float64)
    if kind.startswith("quat"):
        return np.asarray(np.linalg.norm(numbers, axis=-1) > 1e-9)
    if kind == "rot6d":
        first, second = (part / np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), 1e-9) for part in (numbers[..., :3], numbers[..., 3:]))
        return np.asarray(np.linalg.norm(np.cross(first, second), axis=-1) > 1e-6)
    return np.asarray(np.linalg.svd(numbers.reshape(*numbers.shape[:-1], 3, 3), compute_uv=False)[..., 1] > 1e-9)


def rotation_matrices(kind: RotationKind, numbers: Array) -> Array:
    """Return (..., 3, 3) float64 matrices of (..., width) numbers of a kind."""
    return _TO_MATRIX[kind](np.asarray(numbers, dtype=np.float64))


def rotation_numbers(kind: RotationKind, matrices: Array) -> Array:
    """Return (..., width) float64 numbers of (..., 3, 3) rotation matrices."""
    return np.asarray(_FROM_MATRIX[kind](matrices))


def told_matrices(name: str, kind: RotationKind, numbers: Array, excused: Array) -> tuple[Array, Array]:
    """Return (..., 3, 3) matrices, the identity where the numbers say no rotation, and (...) bool where that is.

    Args:
        name: the field, for the message.
        kind: how the rotation is written.
        numbers: (..., width).
        excused: (...) bool, where the numbers need not say one: padded steps, and what a body does not have.

    Raises:
        UsageError: numbers that are not excused say no rotation.
    """
    empty = ~says_rotation(kind, numbers)
    wrong = empty & ~excused
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise UsageError(
            f"batch[{name!r}]: must hold rotations of kind {kind!r} at {place}, got {np.asarray(numbers)[place].tolist()}; {int(wrong.sum())} such"
        )
    return rotation_matrices(kind, np.where(empty[..., None], IDENTITIES[kind], numbers)), empty


@dataclass(frozen=True)
class ConvertRotation:
    """Write the rotation in a field in another way, in place of the old entries: what stands behind it moves, as the width of the kinds differs.

    A mask `<name>_mask` (..., D) changes with it: a body has the rotation where it has all of its entries, and 0 where it does not. Padded steps
    are converted where they say a rotation and are 0 where they say none (a quaternion of zeros).

    Args:
        name: the field, (..., D) floats.
        start: the first of the entries, which follow each other as the kind has them (quaternions as their name says).
        from_kind: how it is written now; angles in rad.
        to_kind: how it shall be written.
    """

    name: str
    start: int
    from_kind: RotationKind
    to_kind: RotationKind

    def __post_init__(self) -> None:
        check_kind(self.from_kind)
        check_kind(self.to_kind)
        demand(self.start >= 0, f"ConvertRotation of {self.name!r}: start must not be negative, got {self.start}")

    @property
    def inverse(self) -> ConvertRotation:
        """Return the way back, exact up to what the kinds leave open (see the module)."""
        return ConvertRotation(self.name, self.start, self.to_kind, self.from_kind)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        stop = self.start + WIDTHS[self.from_kind]
        array = floats_of(batch, self.name, f"whose entries {self.start} to {stop - 1} are a rotation of kind {self.from_kind!r}", stop)
        numbers = array[..., self.start : stop]
        excused = padding_of(batch, self.name, array.shape[:-1])
        lacks = np.zeros((), bool)
        changed: dict[str, Any] = {}
        if f"{self.name}_mask" in batch:
            mask = mask_of(batch, self.name, array.shape[-1])
            there = np.asarray(mask[..., self.start : stop].all(axis=-1))  # (B,), or (B, A) where it is said for each step
            lacks = ~there.reshape(*there.shape, *(1,) * (excused.ndim - there.ndim))
            new = np.broadcast_to(there[..., None], (*there.shape, WIDTHS[self.to_kind]))
            changed[f"{self.name}_mask"] = np.concatenate([mask[..., : self.start], new, mask[..., stop:]], axis=-1)
        matrices, empty = told_matrices(self.name, self.from_kind, numbers, excused | lacks)
        written = np.where((empty | lacks)[..., None], 0, rotation_numbers(self.to_kind, matrices)).astype(array.dtype)
        changed[self.name] = np.concatenate([array[..., : self.start], written, array[..., stop:]], axis=-1)
        return {**batch, **changed}
