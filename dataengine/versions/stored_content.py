"""What the store holds of a stream, read again: its digest, its clock, and what the checks of an episode look at. Bounded memory whatever the size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.digest import digest_json, new_digest
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.core.pictures import PictureHeaders
from dataengine.store import layout
from dataengine.store.array_reader import ArrayReader
from dataengine.store.lanes import KEPT_FOR_STEPS_BYTES, PICTURES, STEP_ROW_BYTES
from dataengine.store.media import read_index
from dataengine.store.stored_streams import StoredItems, group_attributes
from dataengine.validate.pictures import ReadPictures

BLOCK_BYTES = 64 << 20
TAIL_BYTES = 24


@dataclass(frozen=True, eq=False)
class StoredContent:
    """One stream of an episode as it lies in the store.

    `digest` is recomputed from what is stored, None where that is not what came (frames encoded with loss). `timestamps_ns` is (N,) int64, None where the
    clock is unknown; `numbers` the (N, ...) values where they may be looked at whole; `pictures` what the headers say.
    """

    rows: int
    digest: str | None
    timestamps_ns: Array | None
    numbers: Array | None = None
    pictures: ReadPictures | None = None


class ShardReader:
    """The arrays of one shard, each opened once."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects, self.folder = objects, folder
        self._arrays: dict[str, ArrayReader] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._indexes: dict[tuple[str, int], int] = {}

    def array(self, name: str) -> ArrayReader:
        """Return an array by its path below the shard; raise FileNotFoundError."""
        if name not in self._arrays:
            self._arrays[name] = ArrayReader(self.objects, f"{self.folder}/{name}")
        return self._arrays[name]

    def encodings(self, group: str) -> list[str]:
        """Return the names of the encodings of a group of items."""
        if group not in self._attributes:
            self._attributes[group] = group_attributes(self.objects, f"{self.folder}/{group}")
        return list(self._attributes[group]["encodings"])

    def video_frames(self, key: str, track: int) -> int:
        """Return how many frames a track of a video has by its index."""
        if (key, track) not in self._indexes:
            columns, _ = read_index(self.objects, key, track)
            self._indexes[key, track] = len(columns["pts_ns"])
        return self._indexes[key, track]

    def read(self, entry: dict[str, Any]) -> StoredContent:
        """Read one stream of an episode by its row in the index.

        Raises:
            CorruptStore: rows or frames are outside of what is stored.
        """
        start, stop = int(entry["row_start"]), int(entry["row_end"])
        group = str(entry["array"])
        times = self.array(f"{group}/timestamps_ns").rows(start, stop) if entry["clock"] else None
        for clock in entry["clocks"] or ():
            self.array(f"{group}/clock_{layout.node_name(clock)}_ns").rows(start, stop)
        if entry["kind"] == "array":
            digest, numbers = self._numbers(group, start, stop, str(entry["digest"]))
            return StoredContent(stop - start, digest, times, numbers)
        if entry["kind"] == "items":
            digest, pictures = self._items(group, start, stop, str(entry["digest"]))
            return StoredContent(stop - start, digest, times, None, pictures)
        key = str(entry["media"]) if entry["kind"] == "media" else f"{self.folder}/{entry['media']}"
        first, frames = int(entry["first_frame"]), int(entry["frames"])
        there = self.video_frames(key, int(entry["track"]))
        if first < 0 or frames != stop - start or first + frames > there:
            raise CorruptStore(f"{key}: expected frames [{first}, {first + frames}) for {stop - start} rows, found {there} frames")
        if entry["kind"] == "media":
            name = key.rsplit("/", 1)[-1].split(".", 1)[0]
            return StoredContent(frames, digest_json([name, int(entry["track"]), first, frames]), times)
        return StoredContent(frames, None, times)

    def _numbers(self, group: str, start: int, stop: int, expected: str) -> tuple[str, Array | None]:
        values = self.array(f"{group}/values")
        row_bytes = max(1, int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize)
        plain, frames = new_digest(), new_digest()
        frames.update(f"{values.dtype.name}{list(values.shape[1:])}".encode())
        kept: list[Array] | None = [] if row_bytes <= STEP_ROW_BYTES and row_bytes * (stop - start) <= KEPT_FOR_STEPS_BYTES else None
        for first in range(start, stop, max(1, BLOCK_BYTES // row_bytes)):
            block = np.ascontiguousarray(values.rows(first, min(stop, first + max(1, BLOCK_BYTES // row_bytes))))
            if block.nbytes:
                plain.update(block.reshape(-1).view(np.uint8).data)
                frames.update(block.reshape(-1).view(np.uint8).data)
            if kept is not None:
                kept.append(block)
        numbers = None if kept is None else np.concatenate([np.zeros((0, *values.shape[1:]), values.dtype), *kept])
        digests = [str(running.hexdigest(length=16)) for running in (plain, frames)]  # raw frames that were kept exact have the second
        return digests[1] if digests[1] == expected else digests[0], numbers

    def _items(self, group: str, start: int, stop: int, expected: str) -> tuple[str, ReadPictures | None]:
        ends = self.array(f"{group}/offsets").rows(start, stop + 1)
        lengths = np.diff(ends)
        if (lengths < 0).any():
            raise CorruptStore(f"{self.folder}/{group}/offsets: must not decrease")
        names = self.encodings(group)
        encodings = [names[code] for code in self.array(f"{group}/encoding").rows(start, stop)]
        pictures = any(encoding in PICTURES for encoding in encodings)
        table = np.zeros((len(lengths), 4), dtype=np.int32)
        ends_of: list[bytes] = []
        headers, running = PictureHeaders(), new_digest()
        items = StoredItems(self.array(f"{group}/data"), ends)
        for row, data in enumerate(items):
            running.update(data)
            if pictures:
                header = headers(data) if len(data) else None
                if header is not None:
                    table[row] = header.height, header.width, header.channels, header.complete
                ends_of.append(len(data).to_bytes(4, "little") + bytes(data[-TAIL_BYTES:]))
        running.update(lengths.tobytes())
        digest = str(running.hexdigest(length=16))
        if digest != expected and set(encodings) == {"png"}:
            digest = next((other for other in _pixel_digests(items) if other == expected), digest)
        return digest, ReadPictures(table[:, :3], table[:, 3].astype(bool), lengths == 0, ends_of) if pictures else None


def _pixel_digests(items: StoredItems) -> Iterator[str]:
    """Yield the digests of raw pixels that may have been kept exact as these PNGs: grey ones with and without an axis for the channel."""
    import cv2

    for channel_axis in (False, True):
        running, started = new_digest(), False
        for data in items:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if picture is None:
                return
            if picture.ndim == 3:
                picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
            elif channel_axis:
                picture = picture[:, :, None]
            if not started:
                running.update(f"{picture.dtype.name}{list(picture.shape)}".encode())
                started = True
            running.update(np.ascontiguousarray(picture).reshape(-1).view(np.uint8).data)
        yield str(running.hexdigest(length=16))
