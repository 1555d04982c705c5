"""Rotations and rigid poses: unit quaternions as (x, y, z, w), names read right to left (`base_from_tool`).

Kinds of rotation, each with ways to and from (..., 3, 3) matrices:

- `rpy`: angles about the fixed axes x, y, z in this order: R = Rz(yaw) Ry(pitch) Rx(roll).
- `rotvec`: axis times angle in rad.
- `rot6d`: the first two columns of the matrix, one after the other (Zhou et al. 2019, "On the Continuity of Rotation Representations").
"""

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


def quat_xyzw_from_matrix(matrix: Array) -> Array:
    """Return (..., 4) unit quaternions with w >= 0 of (..., 3, 3) rotation matrices.

    Each row of 4 q q^T can be read off the matrix; the one with the largest entry on its diagonal divides by no small number (Shepperd 1978).
    """
    m = np.asarray(matrix, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = [
        [1 + xx - yy - zz, xy, xz, xw],
        [xy, 1 - xx + yy - zz, yz, yw],
        [xz, yz, 1 - xx - yy + zz, zw],
        [xw, yw, zw, 1 + xx + yy + zz],
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)  # (..., 4, 4)
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    quat_xyzw = normalise_quat_xyzw(np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :])
    return np.where(quat_xyzw[..., 3:] < 0, -quat_xyzw, quat_xyzw)


def matrix_from_rotvec(rotvec: Array) -> Array:
    """Return (..., 3, 3) rotation matrices of (..., 3) rotation vectors in rad."""
    rotvec = np.asarray(rotvec, dtype=np.float64)
    half = np.linalg.norm(rotvec, axis=-1, keepdims=True) / 2
    return matrix_from_quat_xyzw(np.concatenate([rotvec * np.sinc(half / np.pi) / 2, np.cos(half)], axis=-1))


def rotvec_from_matrix(matrix: Array) -> Array:
    """Return (..., 3) rotation vectors, at most pi long, of (..., 3, 3) rotation matrices."""
    quat_xyzw = quat_xyzw_from_matrix(matrix)
    sine = np.linalg.norm(quat_xyzw[..., :3], axis=-1, keepdims=True)
    half = np.arctan2(sine, quat_xyzw[..., 3:])
    small = sine < 1e-9
    return np.asarray(quat_xyzw[..., :3] * np.where(small, 2.0, 2 * half / np.where(small, 1.0, sine)))


def matrix_from_rpy(rpy: Array) -> Array:
    """Return (..., 3, 3) rotation matrices of (..., 3) angles (roll, pitch, yaw) in rad."""
    rpy = np.asarray(rpy, dtype=np.float64)
    (cr, cp, cy), (sr, sp, sy) = np.moveaxis(np.cos(rpy), -1, 0), np.moveaxis(np.sin(rpy), -1, 0)
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rpy_from_matrix(matrix: Array) -> Array:
    """Return (..., 3) angles of (..., 3, 3) rotation matrices: pitch in [-pi/2, pi/2], roll and yaw in [-pi, pi].

    Where the pitch is +-pi/2 only the sum or difference of roll and yaw is determined: the roll is then 0.
    """
    m = np.asarray(matrix, dtype=np.float64)
    level = np.hypot(m[..., 0, 0], m[..., 1, 0])  # cosine of the pitch
    locked = level < 1e-8
    roll = np.where(locked, 0.0, np.arctan2(m[..., 2, 1], m[..., 2, 2]))
    yaw = np.where(locked, np.arctan2(-m[..., 0, 1], m[..., 1, 1]), np.arctan2(m[..., 1, 0], m[..., 0, 0]))
    return np.stack([roll, np.arctan2(-m[..., 2, 0], level), yaw], axis=-1)


def matrix_from_rot6d(rot6d: Array) -> Array:
    """Return (..., 3, 3) rotation matrices of (..., 6) numbers, made orthogonal; raise ValueError where the two columns are parallel."""
    rot6d = np.asarray(rot6d, dtype=np.float64)
    first, second = rot6d[..., :3], rot6d[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    if np.any(length < 1e-12):
        raise ValueError("rot6d: the first column must not be zero")
    first = first / length
    second = second - np.sum(first * second, axis=-1, keepdims=True) * first
    length = np.linalg.norm(second, axis=-1, keepdims=True)
    if np.any(length < 1e-12):
        raise ValueError("rot6d: the two columns must not be parallel")
    second = second / length
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def rot6d_from_matrix(matrix: Array) -> Array:
    """Return (..., 6) numbers, the first two columns, of (..., 3, 3) rotation matrices."""
    return np.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1)
