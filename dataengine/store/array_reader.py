"""Rows of the Zarr arrays that `dataengine.store.arrays` writes, fetched by byte range, local or remote."""

from __future__ import annotations

import json
from typing import Any

import google_crc32c
import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.store.arrays import CHUNKS_A_SHARD, blosc


class ArrayReader:
    """Reads rows of an array that one of the writers above wrote, by byte range, local or remote."""

    def __init__(self, objects: Objects, key: str) -> None:
        self.objects, self.key = objects, key
        metadata = json.loads(objects.get(f"{key}/zarr.json"))
        self.shape: tuple[int, ...] = tuple(metadata["shape"])
        self.dtype = np.dtype(metadata["data_type"])
        self.attributes: dict[str, Any] = metadata.get("attributes", {})
        first = metadata["codecs"][0]
        self.sharded = first["name"] == "sharding_indexed"
        inner = first["configuration"]["codecs"] if self.sharded else metadata["codecs"]
        self.compressed = any(codec["name"] == "blosc" for codec in inner)
        self.chunk_rows = int(first["configuration"]["chunk_shape"][0] if self.sharded else metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
        self._indexes: dict[int, Array] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def file_key(self, number: int) -> str:
        """Return the key of a file of chunks."""
        return "/".join([self.key, "c", str(number), *["0"] * (len(self.shape) - 1)])

    def shard_index(self, shard: int) -> Array:
        """Return (CHUNKS_A_SHARD, 2) offset and size of each inner chunk of a file, 2^64 - 1 where there is none."""
        if shard not in self._indexes:
            key = self.file_key(shard)
            meta = self.objects.head(key)
            if meta is None:
                raise CorruptStore(f"{key}: expected a shard file, found none; restore it from a copy")
            size = CHUNKS_A_SHARD * 16 + 4
            packed = self.objects.get_range(key, meta.size - size, size)
            if google_crc32c.value(packed[:-4]) != int.from_bytes(packed[-4:], "little"):
                raise CorruptStore(f"{key}: the shard index does not match its checksum; restore the file from a copy")
            self._indexes[shard] = np.frombuffer(packed[:-4], dtype="<u8").reshape(CHUNKS_A_SHARD, 2)
        return self._indexes[shard]

    def _chunk(self, number: int) -> Array:
        if self.sharded:
            shard, inside = divmod(number, CHUNKS_A_SHARD)
            offset, size = (int(value) for value in self.shard_index(shard)[inside])
            data = self.objects.get_range(self.file_key(shard), offset, size)
        else:
            data = self.objects.get(self.file_key(0))
        if self.compressed:
            data = blosc(self.dtype.itemsize).decode(data)
        return np.frombuffer(data, dtype=self.dtype).reshape(-1, *self.shape[1:])

    def rows(self, start: int, stop: int) -> Array:
        """Return rows [start, stop)."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise CorruptStore(f"{self.key}: rows [{start}, {stop}) are outside its {self.shape[0]} rows")
        if start == stop:
            return np.zeros((0, *self.shape[1:]), dtype=self.dtype)
        if 0 in self.shape[1:]:
            return np.zeros((stop - start, *self.shape[1:]), dtype=self.dtype)
        first, last = start // self.chunk_rows, (stop - 1) // self.chunk_rows
        parts = [self._chunk(number) for number in range(first, last + 1)]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined[start - first * self.chunk_rows : stop - first * self.chunk_rows]

    def bytes(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of an uncompressed uint8 array: one range read, two where they cross a shard file's end."""
        if not 0 <= start <= stop <= self.shape[0] or self.compressed or self.dtype != np.uint8:
            raise CorruptStore(f"{self.key}: bytes [{start}, {stop}) are outside its {self.shape[0]} bytes")
        shard_bytes = self.chunk_rows * CHUNKS_A_SHARD if self.sharded else max(1, self.shape[0])
        parts = []
        while start < stop:
            shard, inside = divmod(start, shard_bytes)
            length = min(stop - start, shard_bytes - inside)
            parts.append(self.objects.get_range(self.file_key(shard), inside, length))
            start += length
        return parts[0] if len(parts) == 1 else b"".join(parts)
