"""Rows of the Zarr arrays that `dataengine.store.arrays` writes, fetched by byte range, local or remote."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.store.arrays import blosc
from dataengine.store.refs import read_json

BLOSC_HEADER_BYTES = 16
ABSENT = 2**64 - 1


class ArrayReader:
    """Reads rows of an array that one of the writers above wrote, by byte range, local or remote.

    Raises:
        FileNotFoundError: there is no such array.
        CorruptStore: bytes of it are missing, or not what was written.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        self.objects, self.key = objects, key
        metadata = read_json(objects, f"{key}/zarr.json")
        try:
            self.shape: tuple[int, ...] = tuple(metadata["shape"])
            self.dtype = np.dtype(metadata["data_type"])
            self.attributes: dict[str, Any] = metadata.get("attributes", {})
            first = metadata["codecs"][0]
            outer_rows = int(metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
            self.sharded = first["name"] == "sharding_indexed"
            inner = first["configuration"]["codecs"] if self.sharded else metadata["codecs"]
            self.compressed = any(codec["name"] == "blosc" for codec in inner)
            self.chunk_rows = int(first["configuration"]["chunk_shape"][0]) if self.sharded else outer_rows
            self.chunks_a_shard = outer_rows // self.chunk_rows
        except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CorruptStore(f"{key}/zarr.json: expected the metadata of an array, found something else ({error!r}); restore it from a copy") from error
        self._indexes: dict[int, Array] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def file_key(self, number: int) -> str:
        """Return the key of the file of a shard or plain chunk, by its number along the rows."""
        return "/".join([self.key, "c", str(number), *["0"] * (len(self.shape) - 1)])

    def _missing(self, number: int) -> CorruptStore:
        return CorruptStore(f"{self.file_key(number)}: expected a file of the array, found none; restore it from a copy")

    def _range(self, number: int, offset: int, size: int) -> bytes:
        """Return bytes of a file of the array; raise CorruptStore where it does not have them."""
        try:
            data = self.objects.get_range(self.file_key(number), offset, size)
        except FileNotFoundError:
            raise self._missing(number) from None
        if len(data) != size:
            raise CorruptStore(f"{self.file_key(number)}: expected {size} bytes from {offset}, found {len(data)}; restore it from a copy")
        return data

    def shard_index(self, shard: int) -> Array:
        """Return where the chunks of a shard file lie in it, (chunks, 2) offset and size, 2^64 - 1 for one that is absent."""
        if shard not in self._indexes:
            key = self.file_key(shard)
            meta = self.objects.head(key)
            size = self.chunks_a_shard * 16 + 4
            if meta is None:
                raise self._missing(shard)
            if meta.size < size:
                raise CorruptStore(f"{key}: expected a shard file with its index, found {meta.size} bytes; restore it from a copy")
            packed = self._range(shard, meta.size - size, size)
            if google_crc32c.value(packed[:-4]) != int.from_bytes(packed[-4:], "little"):
                raise CorruptStore(f"{key}: the shard index does not match its checksum; restore the file from a copy")
            index = np.frombuffer(packed[:-4], dtype="<u8").reshape(-1, 2)
            if np.any(index[index[:, 0] != ABSENT] > meta.size):
                raise CorruptStore(f"{key}: the shard index points behind the end of the file; restore the file from a copy")
            self._indexes[shard] = index
        return self._indexes[shard]

    def _chunk(self, number: int) -> Array:
        shard, inside = divmod(number, self.chunks_a_shard)
        if self.sharded:
            offset, size = (int(value) for value in self.shard_index(shard)[inside])
            if offset == ABSENT:
                raise CorruptStore(f"{self.file_key(shard)}: expected chunk {inside} of it, found none; restore the file from a copy")
            data = self._range(shard, offset, size)
        else:
            try:
                data = self.objects.get(self.file_key(shard))
            except FileNotFoundError:
                raise self._missing(shard) from None
        return self._decoded(data, self.file_key(shard))

    def _decoded(self, data: bytes, where: str) -> Array:
        """Return one chunk; its size is checked before it is unpacked."""
        expected = self.chunk_rows * int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        found = len(data)
        if self.compressed:
            found = int.from_bytes(data[4:8], "little") if len(data) >= BLOSC_HEADER_BYTES else -1
        if found != expected:
            raise CorruptStore(f"{where}: expected a chunk of {expected} bytes, found {'none' if found < 0 else found}; restore the file from a copy")
        if self.compressed:
            try:
                data = blosc(self.dtype.itemsize).decode(data)
            except (RuntimeError, ValueError) as error:
                raise CorruptStore(f"{where}: a chunk cannot be unpacked ({error}); restore the file from a copy") from error
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
        shard_bytes = self.chunk_rows * self.chunks_a_shard
        parts = []
        while start < stop:
            shard, inside = divmod(start, shard_bytes)
            length = min(stop - start, shard_bytes - inside)
            parts.append(self._range(shard, inside, length))
            start += length
        return parts[0] if len(parts) == 1 else b"".join(parts)
