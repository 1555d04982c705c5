"""Zarr v3 arrays that grow row by row in bounded memory.

Core codecs only, so any Zarr v3 tool reads them. An array that fits one inner chunk is one plain chunk; a larger one is sharded
(`sharding_indexed`, index with crc32c at the end): inner chunks of about 256 KiB, 256 of them a shard file. Numbers are compressed with Blosc.
Encoded items (`data`, uint8) are not compressed and their inner chunks lie in order, so bytes [a, b) of the array are bytes of the file.
Everything that was added since a `mark()` can be taken back until `close()`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Buffer

CHUNK_BYTES = 256 << 10
CHUNKS_A_SHARD = 256
WRITE_BYTES = 256 << 10  # how much of a shard file waits in memory for one write
_ABSENT = 2**64 - 1


def blosc(itemsize: int) -> Any:
    """Return the compressor of numbers: Blosc with zstd 1, shuffled by byte."""
    from numcodecs import Blosc

    return Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE if itemsize > 1 else Blosc.BITSHUFFLE)


def _blosc_metadata(itemsize: int) -> dict[str, Any]:
    return {
        "name": "blosc",
        "configuration": {"typesize": itemsize, "cname": "zstd", "clevel": 1, "shuffle": "shuffle" if itemsize > 1 else "bitshuffle", "blocksize": 0},
    }


def _bytes_metadata(itemsize: int) -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": "little"}} if itemsize > 1 else {"name": "bytes"}


def array_metadata(
    dtype: np.dtype[Any], shape: tuple[int, ...], chunk_rows: int, sharded: bool, compressed: bool, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the `zarr.json` of one of our arrays."""
    inner: list[dict[str, Any]] = [_bytes_metadata(dtype.itemsize)]
    if compressed:
        inner.append(_blosc_metadata(dtype.itemsize))
    row = [max(1, size) for size in shape[1:]]  # a chunk has no side of 0, also where the array has one
    codecs = inner
    outer_rows = chunk_rows
    if sharded:
        outer_rows = chunk_rows * CHUNKS_A_SHARD
        codecs = [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [chunk_rows, *row],
                    "codecs": inner,
                    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                    "index_location": "end",
                },
            }
        ]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, outer_rows), *row]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": {"b": False, "i": 0, "u": 0, "f": 0.0, "c": [0.0, 0.0]}[dtype.kind],
        "codecs": codecs,
        "attributes": dict(attributes),
    }


def file_crc32c(path: Path) -> tuple[int, int]:
    """Return the size and the crc32c of a file."""
    crc, size = 0, 0
    with open(path, "rb") as handle:
        while block := handle.read(4 << 20):
            crc, size = google_crc32c.extend(crc, block), size + len(block)
    return size, crc


class FileLog:
    """Size and crc32c of each finished file of a shard, computed while it was written."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}

    def write(self, path: Path, data: Buffer, name: str) -> None:
        """Write a small file whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = data if isinstance(data, bytes) else bytes(data)
        _write(path, os.O_CREAT | os.O_TRUNC, [data])
        self.files[name] = (len(data), google_crc32c.value(data))


def _write(path: Path, how: int, parts: Sequence[bytes]) -> None:
    """Write whole buffers one after the other; a file object would cost twice as much as the call, and copy what is small."""
    handle = os.open(path, os.O_WRONLY | how, 0o666)
    try:
        for part in parts:
            written = os.write(handle, part)
            while written < len(part):  # a signal, or more than 2 GiB
                written += os.write(handle, memoryview(part)[written:])
    finally:
        os.close(handle)


class _ShardFile:
    """A shard file of an array: chunks one after the other, the index when it is full or closed.

    It is open only while bytes go to it: a recording may have thousands of streams, and each has several arrays.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self.path = path
        self.chunks: list[tuple[int, int]] = []
        self.size = 0
        self.crc = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def append(self, data: Buffer) -> None:
        data = data if isinstance(data, bytes) else bytes(data)
        self.crc = google_crc32c.extend(self.crc, data)
        self.size += len(data)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._pending:
            _write(self.path, os.O_APPEND, self._pending)
            self._pending, self._pending_bytes = [], 0

    def finish(self) -> None:
        """Append the index."""
        index = np.full((CHUNKS_A_SHARD, 2), _ABSENT, dtype="<u8")
        if self.chunks:
            index[: len(self.chunks)] = self.chunks
        packed = index.tobytes()
        self.append(packed + google_crc32c.value(packed).to_bytes(4, "little"))
        self.flush()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes that were appended."""
        self.flush()
        with open(self.path, "rb") as handle:
            return os.pread(handle.fileno(), size, offset)

    def cut(self, size: int) -> None:
        """Take back everything from `size` on and continue from there."""
        self.flush()
        os.truncate(self.path, size)
        crc = 0
        with open(self.path, "rb") as handle:
            while block := handle.read(1 << 20):
                crc = google_crc32c.extend(crc, block)
        self.size, self.crc = size, crc


class ArrayWriter:
    """Grows one array of numbers, (N, *row_shape).

    Args:
        folder: where the array's `zarr.json` goes.
        name: the folder's path inside the shard, for the file log.
        dtype: little-endian numpy dtype.
        row_shape: shape of one row.
        attributes: JSON-able attributes of the array.
    """

    compressed = True

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...] = (), attributes: Mapping[str, Any] | None = None) -> None:
        self.folder, self.name = folder, name
        self.dtype = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
        self.row_shape = row_shape
        self.attributes = dict(attributes or {})
        self.row_bytes = max(1, int(np.prod(row_shape, dtype=np.int64)) * self.dtype.itemsize)
        self.chunk_rows = max(1, CHUNK_BYTES // self.row_bytes)
        self.rows = 0
        self._buffer: list[Array] = []
        self._buffered = 0
        self._shards: list[_ShardFile] = []

    def append(self, values: Array) -> None:
        """Add rows, (n, *row_shape)."""
        if len(values) == 0:
            return
        self._buffer.append(np.asarray(values, dtype=self.dtype))
        self._buffered += len(values)
        self.rows += len(values)
        if self._buffered > self.chunk_rows:
            self._flush(keep_tail=True)

    def _encode(self, chunk: Array) -> bytes:
        return bytes(blosc(self.dtype.itemsize).encode(np.ascontiguousarray(chunk).reshape(-1)))

    def _flush(self, keep_tail: bool) -> None:
        rows = self._buffer[0] if len(self._buffer) == 1 else np.concatenate(self._buffer)
        at = 0
        while len(rows) - at >= self.chunk_rows + (1 if keep_tail else 0):
            self._write_chunk(rows[at : at + self.chunk_rows])
            at += self.chunk_rows
        rest = rows[at:]
        if not keep_tail and len(rest):
            padded = np.zeros((self.chunk_rows, *self.row_shape), dtype=self.dtype)
            padded[: len(rest)] = rest
            self._write_chunk(padded)
            rest = rest[:0]
        self._buffer = [rest.copy()] if len(rest) else []
        self._buffered = len(rest)

    def _write_chunk(self, chunk: Array) -> None:
        if not self._shards or len(self._shards[-1].chunks) == CHUNKS_A_SHARD:
            if self._shards:
                self._shards[-1].finish()
            self._shards.append(_ShardFile(self._chunk_path(len(self._shards))))
        shard = self._shards[-1]
        encoded = self._encode(chunk)
        shard.chunks.append((shard.size, len(encoded)))
        shard.append(encoded)

    def _chunk_path(self, number: int) -> Path:
        return self.folder.joinpath("c", str(number), *["0"] * len(self.row_shape))

    def mark(self) -> int:
        """Return the place to which `cut` can take the array back."""
        return self.rows

    def cut(self, mark: int) -> None:
        """Take back every row from `mark` on."""
        flushed = self.rows - self._buffered
        if mark >= flushed:
            kept = np.concatenate(self._buffer)[: mark - flushed] if self._buffer else np.zeros((0, *self.row_shape), self.dtype)
        else:
            chunk_number = mark // self.chunk_rows
            shard_number, inside = divmod(chunk_number, CHUNKS_A_SHARD)
            for extra in self._shards[shard_number + 1 :]:
                extra.path.unlink()
            self._shards = self._shards[: shard_number + 1]
            shard = self._shards[shard_number]
            offset, size = shard.chunks[inside]
            chunk = self._decode(shard.read(offset, size))
            kept = chunk[: mark - chunk_number * self.chunk_rows]
            shard.cut(offset)
            shard.chunks = shard.chunks[:inside]
        self._buffer = [kept] if len(kept) else []
        self._buffered = len(kept)
        self.rows = mark

    def _decode(self, data: bytes) -> Array:
        return np.frombuffer(blosc(self.dtype.itemsize).decode(data), dtype=self.dtype).reshape(-1, *self.row_shape)

    def close(self, log: FileLog) -> None:
        """Write what is buffered and the metadata."""
        sharded = bool(self._shards)
        chunk_rows = self.chunk_rows
        if sharded:
            if self._buffered:
                self._flush(keep_tail=False)
            self._shards[-1].finish()
            for number, shard in enumerate(self._shards):
                log.files[f"{self.name}/{self._chunk_path(number).relative_to(self.folder).as_posix()}"] = (shard.size, shard.crc)
        else:
            chunk_rows = max(1, self.rows)
            if self.rows:
                path = self._chunk_path(0)
                log.write(path, self._encode(np.concatenate(self._buffer)), f"{self.name}/{path.relative_to(self.folder).as_posix()}")
        metadata = array_metadata(self.dtype, (self.rows, *self.row_shape), chunk_rows, sharded, self.compressed, self.attributes)
        log.write(self.folder / "zarr.json", json.dumps(metadata).encode(), f"{self.name}/zarr.json")


class BytesWriter:
    """Grows the `data` array of encoded items: uint8, uncompressed, so that an item is one byte range of a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.rows = 0
        self._small: list[Buffer] = []
        self._shards: list[_ShardFile] = []
        self._shard_bytes = CHUNK_BYTES * CHUNKS_A_SHARD

    def append(self, data: Buffer) -> None:
        """Add the bytes of one item."""
        self.rows += len(data)
        if not self._shards:
            self._small.append(data)
            if self.rows <= CHUNK_BYTES:
                return
            small, self._small = self._small, []
            for part in small:
                self._write(part)
            return
        self._write(data)

    def _write(self, data: Buffer) -> None:
        while len(data):
            if not self._shards or self._shards[-1].size == self._shard_bytes:
                if self._shards:
                    self._finish(self._shards[-1])
                self._shards.append(_ShardFile(self.folder / "c" / str(len(self._shards))))
            shard = self._shards[-1]
            room = self._shard_bytes - shard.size
            if len(data) <= room:
                shard.append(data)
                return
            shard.append(data[:room])
            data = data[room:]

    def _finish(self, shard: _ShardFile) -> None:
        padding = -shard.size % CHUNK_BYTES
        if padding:
            shard.append(b"\0" * padding)
        shard.chunks = [(at, CHUNK_BYTES) for at in range(0, shard.size, CHUNK_BYTES)]
        shard.finish()

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes [start, stop) of what was added, before `close`."""
        if not self._shards:
            return b"".join(self._small)[start:stop]
        parts = []
        while start < stop:
            number, inside = divmod(start, self._shard_bytes)
            size = min(stop - start, self._shard_bytes - inside)
            parts.append(self._shards[number].read(inside, size))
            start += size
        return b"".join(parts)

    def mark(self) -> int:
        """Return the place to which `cut` can take the array back."""
        return self.rows

    def cut(self, mark: int) -> None:
        """Take back every byte from `mark` on."""
        if not self._shards:
            joined = b"".join(bytes(part) for part in self._small)[:mark]
            self._small = [joined] if joined else []
        else:
            number, inside = divmod(mark, self._shard_bytes)
            if inside == 0 and number > 0:
                number, inside = number - 1, self._shard_bytes
            for extra in self._shards[number + 1 :]:
                extra.path.unlink()
            self._shards = self._shards[: number + 1]
            self._shards[number].cut(inside)
        self.rows = mark

    def close(self, log: FileLog) -> None:
        """Write what is buffered and the metadata."""
        sharded = bool(self._shards)
        if sharded:
            self._finish(self._shards[-1])
            for number, shard in enumerate(self._shards):
                log.files[f"{self.name}/c/{number}"] = (shard.size, shard.crc)
        elif self.rows:
            log.write(self.folder / "c" / "0", b"".join(bytes(part) for part in self._small), f"{self.name}/c/0")
        chunk = CHUNK_BYTES if sharded else max(1, self.rows)
        metadata = array_metadata(np.dtype(np.uint8), (self.rows,), chunk, sharded, False, {})
        log.write(self.folder / "zarr.json", json.dumps(metadata).encode(), f"{self.name}/zarr.json")


def write_group(folder: Path, name: str, attributes: Mapping[str, Any], log: FileLog) -> None:
    """Write the `zarr.json` of a group."""
    log.write(
        folder / "zarr.json",
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}).encode(),
        f"{name}/zarr.json" if name else "zarr.json",
    )
