"""Geometry of the sample arm: two planar links, a wrist that turns, and a lift, standing at the origin of the table.

The base frame has x away from the robot, y to the robot's left, z up; z = 0 is the table.
"""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array

JOINT_NAMES = ("shoulder", "elbow", "wrist", "lift")
JOINT_UNITS = ("rad", "rad", "rad", "m")
JOINT_LOW = np.array([-2.6, -2.7, -3.1, 0.0])
JOINT_HIGH = np.array([2.6, 2.7, 3.1, 0.22])
UPPER_LINK_M = 0.30
FORE_LINK_M = 0.25
GRIPPER_WIDTH_M = 0.09  # between the fingers' inner faces when fully open


def forward(joints: Array) -> Array:
    """Return (..., 4) hand poses (x_m, y_m, z_m, yaw_rad) of (..., 4) joint positions (shoulder, elbow, wrist, lift)."""
    shoulder, elbow, wrist, lift = np.moveaxis(np.asarray(joints, dtype=np.float64), -1, 0)
    x = UPPER_LINK_M * np.cos(shoulder) + FORE_LINK_M * np.cos(shoulder + elbow)
    y = UPPER_LINK_M * np.sin(shoulder) + FORE_LINK_M * np.sin(shoulder + elbow)
    return np.stack([x, y, lift, shoulder + elbow + wrist], axis=-1)


def elbow_position(joints: Array) -> Array:
    """Return (..., 2) positions of the elbow in m."""
    shoulder = np.asarray(joints, dtype=np.float64)[..., 0]
    return np.stack([UPPER_LINK_M * np.cos(shoulder), UPPER_LINK_M * np.sin(shoulder)], axis=-1)


def inverse(pose: Array) -> Array:
    """Return (4,) joint positions that bring the hand to (x_m, y_m, z_m, yaw_rad), elbow to the robot's right.

    A pose out of reach is brought to the nearest reachable radius, and joints are kept inside their limits.
    """
    x, y, z, yaw = (float(value) for value in pose)
    reach = float(np.hypot(x, y))
    near, far = abs(UPPER_LINK_M - FORE_LINK_M) + 0.01, UPPER_LINK_M + FORE_LINK_M - 0.002
    wanted = min(max(reach, near), far)
    if reach > 1e-9:
        x, y = x * wanted / reach, y * wanted / reach
    else:
        x, y = wanted, 0.0
    cosine = (wanted**2 - UPPER_LINK_M**2 - FORE_LINK_M**2) / (2 * UPPER_LINK_M * FORE_LINK_M)
    elbow = float(np.arccos(np.clip(cosine, -1.0, 1.0)))
    shoulder = float(np.arctan2(y, x) - np.arctan2(FORE_LINK_M * np.sin(elbow), UPPER_LINK_M + FORE_LINK_M * np.cos(elbow)))
    turn = yaw - shoulder - elbow
    wrist = float((turn + np.pi) % (2 * np.pi) - np.pi)
    return np.asarray(np.clip(np.array([shoulder, elbow, wrist, z]), JOINT_LOW, JOINT_HIGH))


def quat_xyzw_from_yaw(yaw_rad: Array) -> Array:
    """Return (..., 4) unit quaternions of turns about z."""
    half = np.asarray(yaw_rad, dtype=np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([zero, zero, np.sin(half), np.cos(half)], axis=-1)
