"""Rotations and rigid poses: unit quaternions as (x, y, z, w), names read right to left (`base_from_tool`)."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array


def normalise_quat_xyzw(quat_xyzw: Array) -> Array:
    """Return (..., 4) quaternions scaled to length 1; a zero quaternion raises ValueError."""
    length = np.linalg.norm(quat_xyzw, axis=-1, keepdims=True)
    if np.any(length < 1e-12):
        raise ValueError("quat_xyzw: must not be zero")
    return np.asarray(quat_xyzw / length)


def slerp_xyzw(a: Array, b: Array, weight: Array) -> Array:
    """Interpolate between unit quaternions on the shorter arc.

    Args:
        a: (N, 4) at weight 0.
        b: (N, 4) at weight 1.
        weight: (N,) in [0, 1].

    Returns:
        (N, 4) unit quaternions. Source: Shoemake 1985, with the linear form where the angle is below 1e-6 rad.
    """
    a = normalise_quat_xyzw(np.asarray(a, dtype=np.float64))
    b = normalise_quat_xyzw(np.asarray(b, dtype=np.float64))
    cosine = np.sum(a * b, axis=-1)
    b = np.where((cosine < 0)[:, None], -b, b)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    small = angle < 1e-6
    sine = np.where(small, 1.0, np.sin(angle))
    weight_a = np.where(small, 1.0 - weight, np.sin((1.0 - weight) * angle) / sine)
    weight_b = np.where(small, weight, np.sin(weight * angle) / sine)
    return normalise_quat_xyzw(weight_a[:, None] * a + weight_b[:, None] * b)


def matrix_from_quat_xyzw(quat_xyzw: Array) -> Array:
    """Return (..., 3, 3) rotation matrices of (..., 4) unit quaternions."""
    x, y, z, w = np.moveaxis(normalise_quat_xyzw(quat_xyzw), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
