"""How much a camera's picture changes from one to the next, as evidence of motion: blind to brightness and to noise.

A picture is grey and small (some 50 px a side): motion shows at any size, and small ones cost little and hide what a codec does to single pixels.
"""

from __future__ import annotations

from array import array

import numpy as np

from dataengine.align.offset import ImageMotion
from dataengine.core.arrays import Array

NOISE_LEVELS = 3.0  # of 100 levels of mean brightness: smaller changes of a pixel are noise of the sensor or of the codec
MEDIAN_OF = 3  # every third pixel tells how the brightness of all has changed
LONGEST_PAIR_NS = 1_000_000_000  # what changed in more than a second says nothing about when


def _middle(values: Array) -> float:
    """Return the upper median; `np.median` costs five times as much for a picture this small."""
    half = len(values) // 2
    return float(np.partition(values, half)[half])


class ChangeMeter:
    """Measures the change from picture to picture, one after the other; memory of one picture and three numbers for each.

    A picture equal to the one before in every pixel is the same picture again (a recorder that is faster than its camera): the next change counts from its
    first showing.
    """

    def __init__(self) -> None:
        self._before: Array | None = None
        self._shown = 0
        self._starts, self._ends, self._changes = array("q"), array("q"), array("d")

    def cut(self) -> None:
        """Begin anew: the next picture does not follow the last."""
        self._before = None

    def add(self, row: int, grey: Array) -> None:
        """Take the picture of a row, (h, w) uint8; one of another size than the last begins anew."""
        picture = grey.astype(np.float32)
        picture *= 100.0 * picture.size / max(float(picture.sum()), 1.0)
        before = self._before
        if before is not None and before.shape == picture.shape:
            difference = picture - before
            if not difference.any():
                return
            difference -= _middle(difference.reshape(-1)[::MEDIAN_OF])
            np.abs(difference, out=difference)
            difference -= NOISE_LEVELS
            self._starts.append(self._shown)
            self._ends.append(row)
            self._changes.append(float(np.maximum(difference, 0.0, out=difference).sum()) / difference.size)
        self._before, self._shown = picture, row

    def motion(self, times_ns: Array) -> ImageMotion:
        """Return the changes as pairs of times, given the time of each row, (N,) int64; pairs whose clock does not go forward, or only after long, are left out."""
        starts, ends = np.frombuffer(self._starts, np.int64), np.frombuffer(self._ends, np.int64)
        start_ns, end_ns = times_ns[starts], times_ns[ends]
        good = (end_ns > start_ns) & (end_ns - start_ns <= LONGEST_PAIR_NS)
        return ImageMotion(start_ns[good], end_ns[good], np.frombuffer(self._changes, np.float64)[good])
