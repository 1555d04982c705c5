"""Faces over time: finds joined into tracks, and the boxes of each frame made unrecognisable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dataengine.core.arrays import Array
from dataengine.privacy.config import FacesConfig
from dataengine.privacy.detector import Box

# Two finds are one face where their centres are no further apart than this many sizes, for each frame between them a little more.
NEAR = 0.6
DRIFT = 0.12
# No square of a mosaic is smaller, however small the face is.
SMALLEST_CELL_PX = 6


@dataclass
class _Track:
    """One face: its finds so far as (row, box), and whether one of them was sure."""

    finds: list[tuple[int, Box]]
    sure: bool

    @property
    def row(self) -> int:
        return self.finds[-1][0]

    @property
    def box(self) -> Box:
        return self.finds[-1][1]


def _centre(box: Box) -> tuple[float, float]:
    return box.top + box.height / 2, box.left + box.width / 2


def _same_face(before: Box, after: Box, rows: int) -> float | None:
    """Return how far two finds are apart in sizes, None where they are of two faces."""
    size = max(before.height, before.width, after.height, after.width)
    (top, left), (other_top, other_left) = _centre(before), _centre(after)
    apart = float(np.hypot(top - other_top, left - other_left)) / size
    return apart if apart <= NEAR + DRIFT * rows else None


def between(before: Box, after: Box, share: float) -> Box:
    """Return the box that lies at `share` (0 to 1) of the way between two."""
    return Box(*((1 - share) * one + share * other for one, other in zip(before[:4], after[:4], strict=True)))


class Tracks:
    """Joins the finds of consecutive frames of one camera: a face that is missed in some frames is blurred there too.

    A track counts once one of its finds is sure; what came before in it, as far as those frames still wait, counts then too. `add` takes the finds of the next frame (None where it was
    not searched) and yields the boxes of all frames that later finds cannot change any more.
    """

    def __init__(self, config: FacesConfig) -> None:
        self.gap = max(config.gap, config.every)
        self.pad = max(config.pad, config.every - 1)
        self._sure = config.sure
        self._rows = 0
        self._first = 0
        self._waiting: deque[list[Box]] = deque()
        self._tracks: list[_Track] = []

    @property
    def window(self) -> int:
        """Return how many frames wait at most."""
        return max(self.gap, self.pad) + 1

    def _blur(self, row: int, box: Box) -> None:
        if self._first <= row < self._first + len(self._waiting):
            self._waiting[row - self._first].append(box)

    def _blur_between(self, before: tuple[int, Box], after: tuple[int, Box]) -> None:
        """Blur from the frame after one find to the next find, both known to be one face."""
        for row in range(before[0] + 1, after[0] + 1):
            self._blur(row, between(before[1], after[1], (row - before[0]) / (after[0] - before[0])))

    def _begin(self, track: _Track) -> None:
        """Blur all finds of a track that has become sure, and the frames before the first."""
        row, box = track.finds[0]
        for earlier in range(row - self.pad, row + 1):
            self._blur(earlier, box)
        for before, after in pairwise(track.finds):
            self._blur_between(before, after)

    def _find(self, row: int, box: Box, free: list[_Track]) -> None:
        near = [(apart, place) for place, track in enumerate(free) if (apart := _same_face(track.box, box, row - track.row)) is not None]
        sure = box.score >= self._sure
        if not near:
            track = _Track([(row, box)], sure)
            self._tracks.append(track)
            if sure:
                self._begin(track)
            return
        track = free.pop(min(near)[1])
        track.finds.append((row, box))
        if track.sure:
            self._blur_between(track.finds[-2], track.finds[-1])
        elif sure:
            track.sure = True
            self._begin(track)
        track.finds = [find for find in track.finds if find[0] >= self._first] or track.finds[-1:]

    def add(self, finds: Sequence[Box] | None) -> Iterator[list[Box]]:
        """Take the finds of the next frame; yield the boxes of the frames that are settled, in order."""
        row = self._rows
        self._rows += 1
        self._waiting.append([])
        free = list(self._tracks)
        for box in sorted(finds or (), key=lambda box: -box.score):
            self._find(row, box, free)
        for track in self._tracks:
            if track.sure and 0 < row - track.row <= self.pad:
                self._blur(row, track.box)
        self._tracks = [track for track in self._tracks if row - track.row < self.gap]
        while len(self._waiting) >= self.window:
            self._first += 1
            yield self._waiting.popleft()

    def end(self) -> Iterator[list[Box]]:
        """Yield the boxes of the frames that still wait."""
        while self._waiting:
            self._first += 1
            yield self._waiting.popleft()
        self._tracks = []


def grown(box: Box, margin: float, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return (top, bottom, left, right) of a box with its margin inside a picture, None where nothing of it is."""
    tall, wide = box.height * margin, box.width * margin
    top, bottom = int(np.floor(max(0.0, box.top - tall))), int(np.ceil(min(float(height), box.top + box.height + tall)))
    left, right = int(np.floor(max(0.0, box.left - wide))), int(np.ceil(min(float(width), box.left + box.width + wide)))
    return (top, bottom, left, right) if top < bottom and left < right else None


def blur(frame: Array, boxes: Sequence[Box], margin: float, cells: int) -> Array:
    """Return a copy of an (H, W) or (H, W, C) picture with its boxes as flat squares, each the mean of what it covers: nothing finer than a square is left."""
    out = np.array(frame)
    height, width = out.shape[:2]
    for box in boxes:
        place = grown(box, margin, height, width)
        if place is None:
            continue
        top, bottom, left, right = place
        cell = max(SMALLEST_CELL_PX, -(-max(bottom - top, right - left) // cells))
        for row in range(top, bottom, cell):
            for column in range(left, right, cell):
                square = out[row : min(row + cell, bottom), column : min(column + cell, right)]
                mean = square.mean(axis=(0, 1), dtype=np.float64)
                square[:] = np.rint(mean).astype(out.dtype) if out.dtype.kind in "ui" else mean.astype(out.dtype)
    return out
