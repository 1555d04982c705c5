"""Which streams of an episode say how a body moved: measured positions and speeds, told by what their columns mean or what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from dataengine.align.control import AlignInput
from dataengine.align.offset import MIN_PAIRS, BodyMotion
from dataengine.core.arrays import Array
from dataengine.core.column import Column

MAX_MOTIONS = 6
MAX_DIMENSIONS = 32
# What is commanded moves before the body does; forces and accelerations are not speeds; the rest is no motion at all.
_OTHER = re.compile(
    r"\b(actions?|command(s|ed)?|cmd|targets?|goals?|desired|reference|setpoint|efforts?|torques?|forces?|wrench|currents?|voltage|temperature|covariance"
    r"|accel(eration|erometer)?|info|time|timestamp|index|reward|done|success)\b"
)
_SPEEDS = re.compile(r"\b(velocit(y|ies)|q?vel|speeds?|twist|gyro(scope)?)\b")
_POSITIONS = re.compile(r"\b(positions?|q?pos|joints?|poses?|state|orientation|quaternion|transform|tf|gripper|odom(etry)?)\b")
_SPEED_UNITS = frozenset({"rad/s", "deg/s", "m/s"})


def _is_speed(column: Column) -> bool | None:
    """Return whether a column holds speeds, or positions; None where it holds neither."""
    words = re.sub(r"[^a-z]+", " ", column.name.lower())
    if column.meaning not in ("state", "other") or _OTHER.search(words):
        return None
    if _SPEEDS.search(words) or column.unit in _SPEED_UNITS:
        return True
    return False if column.meaning == "state" or _POSITIONS.search(words) else None


def body_motions(streams: Mapping[str, AlignInput], camera_ns: Array, shared_clocks: bool = False) -> list[BodyMotion]:
    """Return what moved in an episode, states before others, positions before speeds, at most six of them.

    Args:
        streams: all streams.
        camera_ns: the times of the camera that they are to be compared with.
        shared_clocks: also take streams on the very clock of the camera.
    """
    found: list[tuple[tuple[bool, bool, int, str], BodyMotion]] = []
    for name, stream in streams.items():
        values, times_ns, column = stream.values, stream.timestamps_ns, stream.column
        if isinstance(values, int) or times_ns is None or len(values) < MIN_PAIRS or values.dtype.kind not in "fiu":
            continue
        if values.ndim > 2 or (values.ndim == 2 and not 0 < values.shape[1] <= MAX_DIMENSIONS):
            continue
        speeds = _is_speed(column)
        if speeds is None or (not shared_clocks and np.array_equal(times_ns, camera_ns)):
            continue
        order = np.argsort(times_ns, kind="stable") if bool((times_ns[1:] < times_ns[:-1]).any()) else slice(None)
        motion = BodyMotion(name, times_ns[order], values[order], speeds)
        found.append(((column.meaning != "state", speeds, -len(values), name), motion))
    return [motion for _, motion in sorted(found, key=lambda entry: entry[0])[:MAX_MOTIONS]]
