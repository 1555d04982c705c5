"""Grippers in one convention, and the way back: linear where a value is commanded, held where only changes are."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array
from dataengine.transforms.action_parts import GripperPart

DEAD_BAND = 0.1  # a smaller command (1 closes or opens fully) is none, as Octo's rel2abs_gripper_actions takes it


def closedness(part: GripperPart, numbers: Array) -> Array:
    """Return 0 where the numbers say open and 1 where they say closed, linear between and beyond."""
    return np.asarray((numbers - part.open) / (part.closed - part.open))


def numbers_of(part: GripperPart, closed: Array) -> Array:
    """Return the numbers that say a closedness: the way back of `closedness`."""
    return np.asarray(part.open + closed * (part.closed - part.open))


def commands(part: GripperPart, numbers: Array) -> Array:
    """Return (T,) int8 of a relative gripper: 1 closes, -1 opens, 0 leaves it."""
    directed = 2 * closedness(part, numbers) - 1
    return np.asarray(np.where(directed > DEAD_BAND, 1, np.where(directed < -DEAD_BAND, -1, 0)), dtype=np.int8)


def held(part: GripperPart, numbers: Array, start: float) -> Array:
    """Return (T,) the closedness that relative commands leave the gripper in, from `start` on: the last command holds."""
    given = commands(part, numbers)
    last = np.maximum.accumulate(np.where(given != 0, np.arange(len(given)), -1))
    return np.asarray(np.where(last < 0, start, given[last] > 0), dtype=np.float64)


def commanded(part: GripperPart, closed: Array, start: float, recorded: Array | None) -> Array:
    """Return the relative commands that lead to a closedness at each step.

    A held value cannot tell a repeated command from none, nor a weak one from a strong one. So `recorded`, the commands that were seen, is given back
    wherever it leads to the very values; elsewhere each change gets one full command.
    """
    before = np.concatenate([[start], closed[:-1]])
    change = np.sign(np.round(closed) - np.round(before))
    numbers = numbers_of(part, (change + 1) / 2)
    if recorded is None:
        return numbers
    seen = held(part, recorded, start)
    same = (np.abs(seen - closed) < 1e-9) & (np.abs(np.concatenate([[start], seen[:-1]]) - before) < 1e-9)
    return np.where(same, recorded, numbers)
