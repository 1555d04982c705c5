"""Unpack the chunks of an HDF5 dataset: gzip, shuffle and fletcher32, each held to the size that a chunk must have.

The library (2.0 and before) unpacks a chunk whatever it grows to, and takes one that unpacks to too few bytes for whole, with whatever lay in memory
behind it. So compressed chunks are unpacked here, and chunks that are stored plain must have their full size.
Source: HDF5 File Format Specification 3.0, section IV.A.2.l (filter pipeline); filters as in the HDF Group's documentation.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.hdf5.tree import DAMAGED, guarded

DEFLATE, SHUFFLE, FLETCHER32, LZF = 1, 2, 3, 32000
MAX_CHUNKS = 4_000_000

Pipeline = Sequence[tuple[int, tuple[int, ...]]]  # (filter, its parameters), in the order in which they were applied


@dataclass(frozen=True, eq=False)
class Chunked:
    """How a dataset is cut: its shape, a chunk's shape, bytes of an element, filters, and which chunks were written, (K,) int64 sorted."""

    where: str
    dataset: Any
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    item_bytes: int
    pipeline: Pipeline
    written: Array

    @property
    def chunk_bytes(self) -> int:
        """Return the bytes of an unpacked chunk."""
        return self.item_bytes * int(np.prod(self.chunk, dtype=object))

    @property
    def grid(self) -> tuple[int, ...]:
        """Return the number of chunks along each axis."""
        return tuple(-(-size // step) for size, step in zip(self.shape, self.chunk, strict=True))


def list_chunks(where: str, dataset: Any, shape: tuple[int, ...], chunk: tuple[int, ...], item_bytes: int, pipeline: Pipeline) -> Chunked:
    """List the chunks that were written; raise BadRecording where one's stored size cannot be true."""
    empty = Chunked(where, dataset, shape, chunk, item_bytes, pipeline, np.empty(0, np.int64))
    with guarded(where, "chunks that can be listed"):
        count = dataset.id.get_num_chunks()
    if count > MAX_CHUNKS or int(np.prod(empty.grid, dtype=object)) >= 2**62:
        raise BadRecording(where, f"at most {MAX_CHUNKS} chunks", str(count), "rewrite the file with larger chunks", check="absurd_size")
    most = empty.chunk_bytes + empty.chunk_bytes // 100 + 4096  # what does not compress grows a little
    grid = empty.grid
    numbers: list[int] = []
    wrong: list[str] = []

    def look(info: Any) -> None:
        at = [offset // step for offset, step in zip(info.chunk_offset, chunk, strict=True)]
        plain = not pipeline or info.filter_mask & ((1 << len(pipeline)) - 1) == (1 << len(pipeline)) - 1
        if (plain and info.size != empty.chunk_bytes) or info.size > most:
            wrong.append(f"a chunk of {info.size} stored bytes at {info.chunk_offset}")
        if all(0 <= index < size for index, size in zip(at, grid, strict=True)):
            numbers.append(int(np.ravel_multi_index(at, grid)))

    with guarded(where, "chunks that can be listed"):
        dataset.id.chunk_iter(look)
    if wrong:
        raise BadRecording(where, f"chunks of {empty.chunk_bytes} bytes", wrong[0], DAMAGED, check="damaged_hdf5")
    written = np.unique(np.array(numbers, dtype=np.int64))
    if len(written) != len(numbers):
        raise BadRecording(where, "each chunk once", "one that is listed twice", DAMAGED, check="damaged_hdf5")
    return Chunked(where, dataset, shape, chunk, item_bytes, pipeline, written)


def rows(chunked: Chunked, start: int, stop: int, dtype: np.dtype[Any], fill: Any) -> Array:
    """Return the elements of rows [start, stop), unpacked here; `dtype` is how they lie in the file, `fill` stands for chunks never written."""
    out = np.full((stop - start, *chunked.shape[1:]), fill, dtype=dtype)
    for at, raw in unpacked(chunked, start, stop):
        values = np.frombuffer(raw, dtype=dtype).reshape(chunked.chunk)
        into, take = [], []
        for axis, (low, step) in enumerate(zip(at, chunked.chunk, strict=True)):
            first, last = (start, stop) if axis == 0 else (0, chunked.shape[axis])
            begin, end = max(low, first), min(low + step, last)
            into.append(slice(begin - first, end - first))
            take.append(slice(begin - low, end - low))
        out[tuple(into)] = values[tuple(take)]
    return out


def unpacked(chunked: Chunked, start: int, stop: int) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield (offset, bytes) of each written chunk that holds some of the rows [start, stop)."""
    step = chunked.chunk[0]
    for index in product(range(start // step, -(-stop // step)), *(range(size) for size in chunked.grid[1:])):
        number = int(np.ravel_multi_index(index, chunked.grid))
        place = int(np.searchsorted(chunked.written, number))
        if place == len(chunked.written) or chunked.written[place] != number:
            continue
        at = tuple(part * size for part, size in zip(index, chunked.chunk, strict=True))
        with guarded(chunked.where, f"a chunk at {at} that can be read"):
            mask, packed = chunked.dataset.id.read_direct_chunk(at)
        yield at, unpack(chunked, mask, packed, at)


def unpack(chunked: Chunked, mask: int, packed: bytes, at: tuple[int, ...]) -> bytes:
    """Undo the filters of one chunk, last first; raise BadRecording unless exactly the bytes of a chunk come out. Lzf is measured only."""
    where, wanted = f"{chunked.where} chunk {at}", chunked.chunk_bytes
    data = packed
    for place in reversed(range(len(chunked.pipeline))):
        code, parameters = chunked.pipeline[place]
        if mask >> place & 1:
            continue
        if code == DEFLATE:
            data = _inflate(where, data, wanted + 4 * len(chunked.pipeline))
        elif code == SHUFFLE:
            data = _unshuffle(data, parameters[0] if parameters else 1)
        elif code == FLETCHER32:
            data = _checked(where, data)
        elif code == LZF:
            length = lzf_length(data)
            if length != wanted:
                raise _short(where, wanted, length)
            return bytes(0)
    if len(data) != wanted:
        raise _short(where, wanted, len(data))
    return data


def _short(where: str, wanted: int, found: int) -> BadRecording:
    return BadRecording(
        where, f"a chunk that unpacks to {wanted} bytes", f"{found} bytes or more" if found > wanted else f"{found}", DAMAGED, check="damaged_hdf5"
    )


def _inflate(where: str, data: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise BadRecording(where, "a chunk packed by deflate", str(error), DAMAGED, check="damaged_hdf5") from error
    if not inflater.eof and len(out) <= most:
        raise BadRecording(where, "a whole packed chunk", "one that is cut off", DAMAGED, check="damaged_hdf5")
    return out


def _unshuffle(data: bytes, item_bytes: int) -> bytes:
    """Put the bytes of each element together again; what is left over at the end was not shuffled."""
    count = len(data) // item_bytes if item_bytes > 0 else 0
    if item_bytes <= 1 or count <= 1:
        return data
    planes = np.frombuffer(data, np.uint8, count * item_bytes).reshape(item_bytes, count)
    return np.ascontiguousarray(planes.T).tobytes() + data[count * item_bytes :]


def fletcher32(data: bytes) -> int:
    """Return HDF5's checksum: Fletcher's over big-endian 16-bit words, a last odd byte as the high half of a word."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.uint64)
    low, high = 0, 0
    for start in range(0, len(words), 1 << 20):
        part = words[start : start + (1 << 20)]
        weights = np.arange(len(part), 0, -1, dtype=np.uint64)
        high = (high + len(part) * low + int((part * weights).sum())) % 65535
        low = (low + int(part.sum())) % 65535
    return high << 16 | low


def _same_sum(a: int, b: int) -> bool:
    """Return whether two checksums are equal; 0 and 65535 are the same remainder."""
    return all((a >> shift & 0xFFFF) % 65535 == (b >> shift & 0xFFFF) % 65535 for shift in (0, 16))


def _checked(where: str, data: bytes) -> bytes:
    if len(data) < 4:
        raise BadRecording(where, "a chunk with its checksum", f"{len(data)} bytes", DAMAGED, check="damaged_hdf5")
    body, stored = data[:-4], int.from_bytes(data[-4:], "little")
    found = fletcher32(body)
    swapped = (stored & 0x00FF00FF) << 8 | stored >> 8 & 0x00FF00FF  # as early releases stored it
    if not _same_sum(stored, found) and not _same_sum(swapped, found):
        raise BadRecording(where, f"the checksum {stored:08x}", f"{found:08x}", DAMAGED, check="checksum")
    return body


def lzf_length(data: bytes) -> int:
    """Return how many bytes an LZF block unpacks to, -1 where it is cut off or reaches back before its start.

    A control byte below 32 is followed by that many and one literal bytes; else its upper 3 bits are a length (7: one more byte of it follows),
    the lower 5 and the next byte the distance. Source: liblzf's description of its format.
    """
    at, out, size = 0, 0, len(data)
    while at < size:
        control = data[at]
        at += 1
        if control < 32:
            at += control + 1
            out += control + 1
            continue
        length = control >> 5
        if length == 7:
            if at >= size:
                return -1
            length += data[at]
            at += 1
        if at >= size or out < ((control & 31) << 8 | data[at]) + 1:
            return -1
        at += 1
        out += length + 2
    return out if at == size else -1
