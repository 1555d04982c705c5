"""Rows of payload overwritten with zeros or nulls in place: under the same keys, with the same numbers of rows, bytes an item, and frames."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.core.errors import StoreError
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.array_reader import ArrayReader
from dataengine.store.arrays import CHUNKS_A_SHARD, blosc
from dataengine.store.media import read_index
from dataengine.store.steps import WRITER

ABSENT = 2**64 - 1
HEADERS = ("height", "width", "channels", "complete")


class Rewritten:
    """The objects that were written anew: key to size and crc32c."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.files: dict[str, tuple[int, int]] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write an object and note what it is now."""
        self.objects.put(key, data)
        self.files[key] = (len(data), google_crc32c.value(data))


def blank_rows(key: str, start: int, stop: int, into: Rewritten) -> None:
    """Overwrite rows [start, stop) of a Zarr array with zeros; an array that is not there has none."""
    if into.objects.head(f"{key}/zarr.json") is None:
        return
    array = ArrayReader(into.objects, key)
    if start >= stop or 0 in array.shape[1:]:
        return
    rows_a_file = array.chunk_rows * (CHUNKS_A_SHARD if array.sharded else 1)
    for number in range(start // rows_a_file, (stop - 1) // rows_a_file + 1):
        first, last = max(start - number * rows_a_file, 0), min(stop - number * rows_a_file, rows_a_file)
        file = array.file_key(number)
        data = into.objects.get(file)
        into.put(file, _blank_shard(array, number, data, first, last) if array.sharded else _blank_chunk(array, data, first, last))


def _blank_chunk(array: ArrayReader, data: bytes, first: int, last: int) -> bytes:
    codec = blosc(array.dtype.itemsize)
    rows = np.frombuffer(codec.decode(data) if array.compressed else data, dtype=array.dtype).reshape(-1, *array.shape[1:]).copy()
    rows[first:last] = 0
    return bytes(codec.encode(rows.reshape(-1))) if array.compressed else rows.tobytes()


def _blank_shard(array: ArrayReader, number: int, data: bytes, first: int, last: int) -> bytes:
    """Return a file of chunks with rows overwritten, chunks packed one after the other and the index made anew."""
    index = array.shard_index(number)
    places = np.full((CHUNKS_A_SHARD, 2), ABSENT, dtype="<u8")
    parts: list[bytes] = []
    size = 0
    for chunk, (offset, length) in enumerate(index.tolist()):
        if offset == ABSENT:
            continue
        part = data[offset : offset + length]
        start = chunk * array.chunk_rows
        if start < last and first < start + array.chunk_rows:
            part = _blank_chunk(array, part, max(first - start, 0), min(last - start, array.chunk_rows))
        places[chunk] = size, len(part)
        parts.append(part)
        size += len(part)
    packed = places.tobytes()
    return b"".join([*parts, packed, google_crc32c.value(packed).to_bytes(4, "little")])


def blank_stream(folder: str, entry: Mapping[str, Any], into: Rewritten) -> None:
    """Overwrite everything that a shard holds of one stream of an episode, times included. What stays: how many rows there were and how long each item was.

    Args:
        folder: the shard's folder.
        entry: the stream's row in the shard's index.
        into: notes what is rewritten.
    """
    if entry["array"]:
        group, start, stop = f"{folder}/{entry['array']}", int(entry["row_start"]), int(entry["row_end"])
        for name in ("timestamps_ns", *(f"clock_{layout.node_name(clock)}_ns" for clock in entry["clocks"] or ())):
            blank_rows(f"{group}/{name}", start, stop, into)
        if entry["kind"] == "array":
            blank_rows(f"{group}/values", start, stop, into)
        elif entry["kind"] == "items":
            ends = ArrayReader(into.objects, f"{group}/offsets").rows(start, stop + 1)
            blank_rows(f"{group}/data", int(ends[0]), int(ends[-1]), into)
            for name in HEADERS:
                blank_rows(f"{group}/{name}", start, stop, into)
    if entry["kind"] == "video":
        blank_frames(f"{folder}/{entry['media']}", int(entry["track"]), int(entry["first_frame"]), int(entry["frames"]), into)


def blank_frames(key: str, track: int, first: int, count: int, into: Rewritten) -> None:
    """Overwrite the encoded bytes of frames of a video that this project encoded; other episodes start on key frames of their own, so they still decode."""
    index, _ = read_index(into.objects, key, track)
    offsets, sizes = index["offset"][first : first + count], index["size"][first : first + count]
    if (offsets < 0).any():
        raise StoreError(f"{into.objects.url}/{key}: expected the place of each frame's bytes in the index, found none; the frames cannot be erased")
    data = bytearray(into.objects.get(key))
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        data[offset : offset + size] = bytes(size)
    into.put(key, bytes(data))


def blank_steps(key: str, ordinals: Collection[int], into: Rewritten) -> None:
    """Overwrite the trajectories of episodes with nulls, all columns but the id and the number of the step."""
    file = pq.ParquetFile(io.BytesIO(into.objects.get(key)), pre_buffer=False)
    schema = file.schema_arrow
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, **WRITER) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            if group in ordinals:
                kept = {name: table[name] if name in ("episode_id", "step") else pa.nulls(len(table), schema.field(name).type) for name in schema.names}
                table = pa.table(list(kept.values()), schema=schema)
            writer.write_table(table, row_group_size=max(1, len(table)))
    into.put(key, sink.getvalue())
