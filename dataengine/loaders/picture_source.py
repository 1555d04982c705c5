"""Pictures of one camera of one episode, in whatever form they are stored: read in groups that belong together, held packed, painted into a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import StoreError
from dataengine.core.stream import Buffer
from dataengine.store.array_reader import ArrayReader
from dataengine.store.pixels import decode_picture
from dataengine.store.stored_streams import StoredItems
from dataengine.transforms.resizing import Fit, resized_into
from dataengine.video.colour import rgb_from_i420
from dataengine.video.decode import FrameReader

Fetch = Callable[[Sequence[tuple[int, int]]], object]  # begins to fetch ranges (start, length) of one object


@dataclass
class Tally:
    """What decoders of videos did so far: frames that they gave, also those that nobody asked for, and bytes that they took."""

    frames: int = 0
    bytes: int = 0


class PictureSource(Protocol):
    """Pictures by number within the episode."""

    def groups(self, frames: Array) -> Array:
        """Return for each picture (n,) a number; those of equal number are read together."""

    def load(self, frames: Sequence[int], spare: list[Array]) -> Iterator[tuple[int, Any]]:
        """Yield (number, packed picture) of ascending frames; arrays are taken from `spare` first.

        Raises:
            StoreError, BadRecording: a picture cannot be read.
        """

    def prefetch(self, frames: Sequence[int]) -> None:
        """Begin to fetch the bytes of ascending frames from a remote store; where they are at hand, do nothing."""

    def paint(self, packed: Any, out: Array, fit: Fit) -> None:
        """Write a packed picture into `out`, (H, W, C) or (H, W), scaled where the sizes differ."""


def fitted(picture: Array, out: Array, fit: Fit, where: str, exact: bool) -> None:
    """Write a picture into `out`, as it is where the sizes agree; `exact` ones (depth, masks) keep their values."""
    if picture.shape == out.shape:
        out[:] = picture
    elif picture.shape[2:] == out.shape[2:]:
        resized_into(picture, out, fit, exact)
    else:
        raise StoreError(f"{where}: expected pictures of {list(out.shape)}, found {list(picture.shape)}; give the field a size, or read the datasets apart")


class VideoPictures:
    """Frames of a video file from `first` on.

    Args:
        reader: gives the file's reader, which several episodes share; asked at each use, since files that are not read for a while are closed.
        first: the episode's first frame.
        grey: whether the sample values of grey video are given as they are coded.
        fetch: begins to fetch bytes of a remote file.
        scratch: by shape, pictures that may be written over: shared by all that paint in this process.
        exact: whether values must not be mixed.
        tally: where what is decoded is counted.
    """

    def __init__(
        self, reader: Callable[[], FrameReader], first: int, grey: bool, fetch: Fetch | None, scratch: dict[tuple[int, ...], Array], exact: bool, tally: Tally
    ) -> None:
        self._reader, self._first, self._grey, self._fetch, self._tally = reader, first, grey, fetch, tally
        self._shape, self._where = (*reader().shape, 3), reader().where
        self._scratch, self._exact = scratch, exact

    def groups(self, frames: Array) -> Array:
        return self._reader().groups(frames + self._first)

    def prefetch(self, frames: Sequence[int]) -> None:
        if self._fetch is not None:
            start, stop = self._reader().span(np.asarray(frames) + self._first)
            self._fetch([(start, stop - start)])

    def load(self, frames: Sequence[int], spare: list[Array]) -> Iterator[tuple[int, Any]]:
        reader, rows = self._reader(), [frame + self._first for frame in frames]
        before = reader.decoded, reader.bytes_read
        try:
            if self._grey:
                yield from zip(frames, reader.read_grey(rows), strict=True)
                return
            for row, packed in reader.packed(rows, spare):
                yield row - self._first, packed
        finally:
            self._tally.frames += reader.decoded - before[0]
            self._tally.bytes += reader.bytes_read - before[1]

    def paint(self, packed: Any, out: Array, fit: Fit) -> None:
        if self._grey or packed.ndim == 3:
            fitted(packed, out, fit, self._where, self._exact)
            return
        if out.shape == self._shape:
            rgb_from_i420(packed, out)
            return
        if self._shape not in self._scratch:
            self._scratch[self._shape] = np.empty(self._shape, np.uint8)
        whole = self._scratch[self._shape]
        rgb_from_i420(packed, whole)
        fitted(whole, out, fit, self._where, self._exact)


class ItemPictures:
    """Encoded pictures (JPEG, PNG, ...): their bytes wait, and are decoded when they are painted."""

    def __init__(self, items: StoredItems, where: str, exact: bool) -> None:
        self._items, self._where, self._exact = items, where, exact

    def groups(self, frames: Array) -> Array:
        return np.zeros(len(frames), np.int64)

    def prefetch(self, frames: Sequence[int]) -> None: ...

    def load(self, frames: Sequence[int], spare: list[Array]) -> Iterator[tuple[int, Any]]:
        """Yield the bytes, neighbours fetched by one range."""
        at = 0
        while at < len(frames):
            end = at + 1
            while end < len(frames) and frames[end] - frames[end - 1] <= 2:
                end += 1
            block, offsets = self._items.block(frames[at], frames[end - 1] + 1)
            for frame in frames[at:end]:
                inside = frame - frames[at]
                yield frame, block[int(offsets[inside] - offsets[0]) : int(offsets[inside + 1] - offsets[0])]
            at = end

    def paint(self, packed: Buffer | Array, out: Array, fit: Fit) -> None:
        if isinstance(packed, np.ndarray):  # was decoded for another sample
            fitted(packed, out, fit, self._where, self._exact)
            return
        fitted(decode_picture(packed, self._where), out, fit, self._where, self._exact)


class ArrayPictures:
    """Plain pictures in an array: depth, masks, tactile images."""

    def __init__(self, values: ArrayReader, start: int, where: str, exact: bool) -> None:
        self._values, self._start, self._where, self._exact = values, start, where, exact

    def groups(self, frames: Array) -> Array:
        return np.asarray((frames + self._start) // self._values.chunk_rows)

    def prefetch(self, frames: Sequence[int]) -> None: ...

    def load(self, frames: Sequence[int], spare: list[Array]) -> Iterator[tuple[int, Any]]:
        first = frames[0]
        rows = self._values.rows(self._start + first, self._start + frames[-1] + 1)
        for frame in frames:
            yield frame, rows[frame - first].copy()

    def paint(self, packed: Array, out: Array, fit: Fit) -> None:
        fitted(packed, out, fit, self._where, self._exact)
