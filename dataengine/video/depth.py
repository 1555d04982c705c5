"""Depth that was laid into 12-bit grey video: from grey values back to metres.

LeRobot writes distances d between `depth_min` and `depth_max` as rint(4095 * (log(d + shift) - log(min + shift)) / (log(max + shift) - log(min + shift))), so
that near distances take more of the codes; without `use_log` the codes are linear. The three lengths are in metres whatever unit the sensor had
(`depth_unit`). What lies outside of the bounds was clipped to them: code 0 may also be "no measurement", which the video cannot tell.

Source: `lerobot/datasets/depth_utils.py` (quantize_depth, dequantize_depth).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording

LARGEST_CODE = 4095


@dataclass(frozen=True)
class DepthCoding:
    """How distances were laid into codes 0 to 4095; lengths in metres."""

    min_m: float = 0.01
    max_m: float = 10.0
    shift_m: float = 3.5
    use_log: bool = True


def depth_coding(facts: Mapping[str, Any], where: str = "depth") -> DepthCoding:
    """Return the coding that a depth column states in `extra["depth"]`; what it does not state is as LeRobot has it.

    Raises:
        BadRecording: numbers from which no distance can be had.
    """
    standard = DepthCoding()
    lengths = [facts.get(name, value) for name, value in (("depth_min", standard.min_m), ("depth_max", standard.max_m), ("shift", standard.shift_m))]
    use_log = facts.get("use_log", standard.use_log)
    sound = all(isinstance(length, (int, float)) and not isinstance(length, bool) and math.isfinite(length) for length in lengths) and isinstance(use_log, bool)
    if not sound or not lengths[0] < lengths[1] or (use_log and lengths[0] + lengths[2] <= 0):
        raise BadRecording(where, "depth_min below depth_max, both in m, and above -shift", repr(dict(facts))[:200], check="bad_depth")
    return DepthCoding(float(lengths[0]), float(lengths[1]), float(lengths[2]), use_log)


def depth_metres(codes: Array, coding: DepthCoding) -> Array:
    """Return distances in metres, float32 of the same shape, for codes 0 to 4095."""
    share = np.asarray(codes, dtype=np.float64) / LARGEST_CODE
    if coding.use_log:
        low, high = math.log(coding.min_m + coding.shift_m), math.log(coding.max_m + coding.shift_m)
        metres = np.exp(low + share * (high - low)) - coding.shift_m
    else:
        metres = coding.min_m + share * (coding.max_m - coding.min_m)
    return np.clip(metres, coding.min_m, coding.max_m).astype(np.float32)


def depth_codes(metres: Array, coding: DepthCoding) -> Array:
    """Return the codes of distances in metres, uint16 of the same shape: the inverse of `depth_metres` to half a code."""
    bounded = np.clip(np.asarray(metres, dtype=np.float64), coding.min_m, coding.max_m)
    if coding.use_log:
        low, high = math.log(coding.min_m + coding.shift_m), math.log(coding.max_m + coding.shift_m)
        share = (np.log(bounded + coding.shift_m) - low) / (high - low)
    else:
        share = (bounded - coding.min_m) / (coding.max_m - coding.min_m)
    return np.rint(share * LARGEST_CODE).astype(np.uint16)
