"""Streams as a store holds them: numbers read whole, encoded items and video on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.core.stream import Buffer, Items, MediaFrames, Stream, Values
from dataengine.store import layout
from dataengine.store.array_reader import ArrayReader
from dataengine.store.damage import naming_damage
from dataengine.store.media import read_index
from dataengine.store.refs import read_json
from dataengine.store.row import Row

SPAN_BYTES = 8 << 20  # fetched by one range
GAP_BYTES = 1 << 16  # what lies between two items that are asked for may be fetched with them


class StoredItems(Sequence[Buffer]):
    """Encoded items of one episode, each fetched by one byte range when it is asked for."""

    def __init__(self, data: ArrayReader, offsets: Array) -> None:
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def lengths(self) -> Array:
        """Return (N,) int64, the bytes of each item; 0 for one that was absent in the source."""
        return np.diff(self._offsets)

    @overload
    def __getitem__(self, row: int) -> Buffer: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[Buffer]: ...

    def __getitem__(self, row: int | slice) -> Buffer | Sequence[Buffer]:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} items")
        row %= len(self)
        return self._data.bytes(int(self._offsets[row]), int(self._offsets[row + 1]))

    def block(self, first: int, stop: int) -> tuple[memoryview, Array]:
        """Return the bytes of items [first, stop), fetched by one range, and the (stop - first + 1,) offsets of which the first is where the bytes begin."""
        offsets = self._offsets[first : stop + 1]
        return memoryview(self._data.bytes(int(offsets[0]), int(offsets[-1]))), offsets

    def __iter__(self) -> Iterator[Buffer]:
        """Yield all items, fetching many by one range."""
        return self.of(np.arange(len(self)))

    def of(self, rows: Array) -> Iterator[bytes]:
        """Yield the items of rows that do not fall, fetching neighbours by one range; raise IndexError where there is no such row."""
        if len(rows) and not 0 <= int(rows[0]) <= int(rows[-1]) < len(self):
            raise IndexError(f"rows {int(rows[0])} to {int(rows[-1])} of {len(self)} items")
        starts, ends = self._offsets[rows].tolist(), self._offsets[rows + 1].tolist()
        at = 0
        while at < len(starts):
            stop = at + 1
            while stop < len(starts) and starts[stop] - ends[stop - 1] <= GAP_BYTES and ends[stop] - starts[at] <= SPAN_BYTES:
                stop += 1
            block = memoryview(self._data.bytes(starts[at], ends[stop - 1]))
            for start, end in zip(starts[at:stop], ends[at:stop], strict=True):
                yield bytes(block[start - starts[at] : end - starts[at]])
            at = stop


def array_key(row: Row, entry: Row) -> str:
    """Return the key of a stream's Zarr group."""
    return f"{layout.shard_prefix(row['dataset'], row['shard'])}/{entry['array']}"


def read_times(objects: Objects, key: str, entry: Row) -> tuple[Array | None, dict[str, Array]]:
    """Return the times of a stream's rows from the episode's start, None without a clock, and its further clocks by name."""
    start, stop = int(entry["row_start"]), int(entry["row_end"])
    timestamps = ArrayReader(objects, f"{key}/timestamps_ns").rows(start, stop) if entry["clock"] else None
    others = {name: ArrayReader(objects, f"{key}/clock_{layout.node_name(name)}_ns").rows(start, stop) for name in entry["clocks"] or ()}
    return timestamps, others


def read_items(objects: Objects, key: str, entry: Row) -> Items:
    """Return the items of one stream of an episode; their bytes are fetched when they are asked for."""
    start, stop = int(entry["row_start"]), int(entry["row_end"])
    codes = ArrayReader(objects, f"{key}/encoding").rows(start, stop)
    offsets = ArrayReader(objects, f"{key}/offsets").rows(start, stop + 1)
    with naming_damage(objects, key, "items with their encodings"):
        names = group_attributes(objects, key)["encodings"]
        encodings = [names[code] for code in codes]
    return Items(StoredItems(ArrayReader(objects, f"{key}/data"), offsets), encodings[0] if len(set(encodings)) == 1 else encodings)


def group_attributes(objects: Objects, key: str) -> Row:
    """Return the attributes of a stream's Zarr group."""
    with naming_damage(objects, f"{key}/zarr.json", "a Zarr group"):
        return dict(read_json(objects, f"{key}/zarr.json")["attributes"])


def media_of(row: Row, entry: Row) -> str:
    """Return the key of the video file that a stream's frames are in."""
    return str(entry["media"]) if entry["kind"] == "media" else f"{layout.shard_prefix(row['dataset'], row['shard'])}/{entry['media']}"


def read_stream(objects: Objects, row: Row, entry: Row, column: Column) -> Stream:
    """Return one stream of an episode by its entry in the shard's index."""
    key = array_key(row, entry)
    try:
        timestamps, clocks = read_times(objects, key, entry)
        values: Values
        if entry["kind"] == "array":
            values = ArrayReader(objects, f"{key}/values").rows(int(entry["row_start"]), int(entry["row_end"]))
        elif entry["kind"] == "items":
            values = read_items(objects, key, entry)
        else:
            media = media_of(row, entry)
            index, facts = read_index(objects, media, int(entry["track"]))
            values = MediaFrames(media, int(entry["track"]), int(entry["first_frame"]), int(entry["frames"]), index=index, facts=facts)
    except FileNotFoundError as error:
        raise CorruptStore(f"{objects.url}/{key}: a part of the stream is missing ({error}); restore it from a copy") from None
    return Stream(column, values, timestamps, clocks)
