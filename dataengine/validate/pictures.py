"""Faults of pictures, found in their bytes and headers alone: nothing is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.pictures import PICTURE_ENCODINGS, PictureHeaders
from dataengine.core.problem import Problem
from dataengine.core.stream import Items
from dataengine.validate.limits import CheckLimits

_PARSED = frozenset(PICTURE_ENCODINGS)
_TAIL_BYTES = 24
_HEADER_BYTES = 640  # of a JPEG with the usual tables, before its first pixel


class PictureFacts(Protocol):
    """A camera's pictures as evidence, one entry a row.

    `size` (N, 3) int is height, width, channels, height 0 where the row is absent or no header could be read; `complete` (N,) bool whether the end is in
    its place; `empty` (N,) bool whether the row is absent. `digests` are N fingerprints: the length in 4 bytes, least significant first,
    and the last 24 bytes. Equal pictures have equal ones; two different ones of equal length and end are improbable, a run of them more so.
    """

    @property
    def size(self) -> Array:
        """Return (N, 3) heights, widths and channels."""

    @property
    def complete(self) -> Array:
        """Return (N,) whether a picture's end is there."""

    @property
    def empty(self) -> Array:
        """Return (N,) whether a row is absent."""

    @property
    def digests(self) -> Sequence[bytes]:
        """Return N fingerprints."""


@dataclass(frozen=True, eq=False)
class ReadPictures:
    """`PictureFacts` of pictures that were read."""

    size: Array
    complete: Array
    empty: Array
    digests: Sequence[bytes]


def picture_facts(items: Items) -> ReadPictures:
    """Measure encoded pictures. Of encodings other than JPEG, PNG and JPEG XL nothing is known, and nothing is said to be wrong."""
    read = PictureHeaders()
    table = np.zeros((len(items), 4), dtype=np.int32)
    for row, data in enumerate(items.data):
        if not len(data):
            continue
        header = read(data)
        if header is not None:
            table[row] = header.height, header.width, header.channels, header.complete
        elif items.encoding(row) not in _PARSED:
            table[row] = 0, 0, 0, 1
    lengths = np.fromiter(map(len, items.data), dtype=np.int64, count=len(items))
    digests = [len(data).to_bytes(4, "little") + bytes(data[-_TAIL_BYTES:]) for data in items.data]
    return ReadPictures(table[:, :3], table[:, 3].astype(bool), lengths == 0, digests)


def _is_constant(pictures: PictureFacts) -> bool:
    """Return whether there are several pictures and all are one."""
    return len(pictures.digests) > 1 and not pictures.empty[0] and len(set(pictures.digests)) == 1


def repeats(pictures: PictureFacts) -> Array:
    """Return (N,) bool: which pictures equal the one before."""
    digests = pictures.digests
    equal = [False, *(after == before for before, after in pairwise(digests))]
    return np.array(equal[: len(digests)], dtype=bool) & ~pictures.empty


def _longest_run(repeated: Array) -> int:
    """Return the number of pictures in the longest run of equal ones."""
    starts = np.flatnonzero(~repeated)
    return int(np.diff(np.append(starts, len(repeated))).max()) if len(starts) else 0


def are_plain(pictures: PictureFacts) -> bool:
    """Return whether no check can find anything: all there, whole, of one size, and no two of them alike."""
    if len(set(pictures.digests)) < len(pictures.digests) or not len(pictures.size):
        return False
    return bool((pictures.size == pictures.size[0]).all() and pictures.complete.all() and not pictures.empty.any())


def missing_frames(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find rows without a picture."""
    absent = np.flatnonzero(pictures.empty)
    if not len(absent):
        return []
    found = f"{len(absent)} of {len(pictures.empty)} frames are empty, the first at row {int(absent[0])}"
    return [Problem("missing_frames", f"stream {where!r}: every row should hold a picture, {found}", where, "warning", "a picture in each row", found)]


def damaged_frames(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find frames whose header cannot be read or whose end is missing."""
    rows = np.flatnonzero(~pictures.complete & ~pictures.empty)
    if not len(rows):
        return []
    found = f"{len(rows)} of {len(pictures.empty)} frames cut off or unreadable, the first at row {int(rows[0])}"
    message = f"stream {where!r}: every picture should be whole, found {found}"
    return [Problem("damaged_frames", message, where, "warning", "whole pictures", found, "the bytes are kept as they are; mask these frames")]


def _kinds(values: Array) -> list[tuple[tuple[int, ...], int]]:
    """Return the different rows of (N, K), the most frequent first, with how often each occurs."""
    if not len(values) or bool((values == values[0]).all()):
        return []
    return Counter(map(tuple, values.tolist())).most_common(5)


def mixed_frame_sizes(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find a camera whose frames differ in height or width."""
    kinds = _kinds(pictures.size[pictures.size[:, 0] > 0, :2])
    if not kinds:
        return []
    found = ", ".join(f"{height}x{width} ({count})" for (height, width), count in kinds)
    message = f"stream {where!r}: frames should have one size, found {found}"
    return [Problem("mixed_frame_sizes", message, where, "warning", "frames of one size", found)]


def grey_among_colour(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find a camera of which some frames have another number of channels."""
    kinds = _kinds(pictures.size[pictures.size[:, 0] > 0, 2:])
    if not kinds:
        return []
    found = ", ".join(f"{count} with {channels}" for (channels,), count in kinds)
    message = f"stream {where!r}: frames should have the same number of channels, found {found}"
    return [Problem("grey_among_colour", message, where, "warning", "frames with the same channels", found)]


def constant_image(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find a camera all of whose frames are one picture: a stand-in where that picture is blank, else a camera that hung."""
    if not _is_constant(pictures):
        return []
    height, width, _ = pictures.size[0].tolist()
    size = int.from_bytes(pictures.digests[0][:4], "little")
    blank = height > 0 and size <= _HEADER_BYTES + limits.blank_bytes_per_px * height * width
    found = f"one picture in all {len(pictures.digests)} rows" + (", a blank" if blank else "")
    message = f"stream {where!r}: pictures should differ, found {found}"
    return [Problem("constant_image", message, where, "info" if blank else "warning", "pictures that differ", found, "leave this camera out")]


def frozen_frames(where: str, pictures: PictureFacts, limits: CheckLimits) -> list[Problem]:
    """Find runs of equal frames in a camera that otherwise changes."""
    repeated = repeats(pictures)
    run = _longest_run(repeated)
    if run < limits.frozen_frames or _is_constant(pictures):
        return []
    found = f"{run} equal frames in a row, {int(np.count_nonzero(repeated))} repeated of {len(repeated)}"
    message = f"stream {where!r}: each frame should be a new picture, found {found}"
    return [Problem("frozen_frames", message, where, "warning", "new pictures", found, "cut the frozen part, or drop the episode")]
