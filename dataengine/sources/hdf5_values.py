"""Look at an HDF5 dataset before it is read, and read it in blocks of rows.

What a file declares costs nothing to declare: shapes, chunk sizes and compressed sizes are held against the file's own size before
anything is allocated. Data that lies in other files (external storage, virtual datasets) is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.hdf5_tree import DAMAGED, Tree, guarded

BLOCK_BYTES = 16 << 20  # of rows that are read in one go: 18 frames of 480 x 640 x 3
MAX_BLOCK_BYTES = 192 << 20  # where one chunk spans many rows
MAX_ROW_BYTES = 128 << 20
MAX_CHUNK_BYTES = 192 << 20
MAX_FILL_BYTES = 256 << 20  # rows that were declared and never written: they read as the fill value
MAX_ITEM_BYTES = 64 << 20
MAX_BLOCK_ROWS = 1 << 20

DEFLATE_RATIO = 1032  # the most that deflate can expand (zlib technical notes)
BOMB_BYTES = 256 << 20  # what a chunk may expand to without being looked at first

# Filters by number (HDF Group's registry). Those with True are built into the library and bounded here.
FILTERS = {
    1: ("deflate", True),
    2: ("shuffle", True),
    3: ("fletcher32", True),
    4: ("szip", False),
    5: ("nbit", False),
    6: ("scaleoffset", False),
    32000: ("lzf", True),
    32001: ("blosc", False),
    32004: ("lz4", False),
    32008: ("bitshuffle", False),
    32013: ("zfp", False),
    32015: ("zstd", False),
    32026: ("blosc2", False),
}

Content = Literal["numeric", "text", "bytes", "other"]


@dataclass(frozen=True)
class Table:
    """A dataset that may be read: `shape` as declared and found plausible, `dtype` in native byte order, `content` what its values are.

    `content` is "numeric" for numbers, "text" for strings, "bytes" for rows of bytes of varying length, "other" for what cannot be kept
    (references, compounds, opaque and ragged types; `dtype` then only names it).
    """

    path: str
    where: str
    dataset: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    content: Content
    block_rows: int

    @property
    def rows(self) -> int:
        """Return the size of the leading dimension, -1 for a single value."""
        return self.shape[0] if self.shape else -1


def _absurd(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, DAMAGED, check="absurd_size")


def _content(dtype: np.dtype[Any]) -> Content:
    import h5py

    if h5py.check_string_dtype(dtype) is not None:
        return "text"
    if dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.subdtype is None:
        return "numeric"
    ragged = h5py.check_vlen_dtype(dtype)
    return "bytes" if ragged is not None and np.dtype(ragged) == np.uint8 else "other"


def inspect(tree: Tree, dataset: Any, path: str) -> Table:
    """Check a dataset's declarations without reading its values; raise BadRecording where they are dangerous or cannot be true."""
    import h5py

    where = tree.where(path)
    with guarded(where, "a dataset whose properties can be read"):
        plan = dataset.id.get_create_plist()
        layout, external = plan.get_layout(), plan.get_external_count()
    if external or layout == h5py.h5d.VIRTUAL:
        raise BadRecording(
            where,
            "values inside this file",
            "storage in external files" if external else "a virtual dataset, which is put together from other datasets",
            "write the values into the file itself (h5repack)",
            check="external_storage",
        )
    with guarded(where, "a dataset whose properties can be read"):
        shape = dataset.shape or ()
        declared = dataset.dtype
        chunks = dataset.chunks
        codes = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    content = _content(declared)
    item_bytes = declared.itemsize or 1
    row_bytes = item_bytes * int(np.prod([int(size) for size in shape[1:]], dtype=object))
    total = row_bytes * (int(shape[0]) if shape else 1)
    if row_bytes > MAX_ROW_BYTES:
        raise _absurd(where, f"rows of at most {MAX_ROW_BYTES} bytes", f"shape {shape} of {declared}: {row_bytes} bytes a row")
    if content != "other":
        _check_storage(tree, where, dataset, layout, shape, total, item_bytes, chunks, codes)
    block_rows = _block_rows(row_bytes, chunks[0] if chunks else 1, bool(codes))
    dtype = declared if content in ("bytes", "other") or declared.kind == "O" else declared.newbyteorder("=")
    return Table(path, where, dataset, tuple(int(size) for size in shape), dtype, content, block_rows)


def _block_rows(row_bytes: int, chunk_rows: int, filtered: bool) -> int:
    """Return how many rows to read in one go: whole chunks where they are filtered, so that each is unpacked once."""
    fitting = max(1, min(BLOCK_BYTES // max(row_bytes, 1), MAX_BLOCK_ROWS))
    if not filtered or chunk_rows <= 1:
        return fitting
    whole = max(1, fitting // chunk_rows) * chunk_rows
    return whole if whole * row_bytes <= MAX_BLOCK_BYTES else max(1, MAX_BLOCK_BYTES // row_bytes)


def _check_storage(
    tree: Tree, where: str, dataset: Any, layout: int, shape: tuple[int, ...], total: int, item_bytes: int, chunks: tuple[int, ...] | None, codes: list[int]
) -> None:
    """Hold what is declared against what the file can hold."""
    for code in codes:
        name, known = FILTERS.get(code, (f"number {code}", False))
        if not known:
            raise BadRecording(
                where,
                "values that are stored plain or with gzip, lzf, shuffle or fletcher32",
                f"the filter {name}",
                "rewrite the file with h5repack -f GZIP=4",
                check="unknown_filter",
            )
    with guarded(where, "a dataset whose storage can be found"):
        stored = dataset.id.get_storage_size()
        written = dataset.id.get_num_chunks() if chunks else 0
        offset = None if chunks else dataset.id.get_offset()
    if stored > tree.size:
        raise _absurd(where, f"values that fit into the file's {tree.size} bytes", f"{stored} stored bytes")
    if chunks:
        chunk_bytes = item_bytes * int(np.prod([int(size) for size in chunks], dtype=object))
        if chunk_bytes > MAX_CHUNK_BYTES:
            raise _absurd(where, f"chunks of at most {MAX_CHUNK_BYTES} bytes", f"chunks {chunks}: {chunk_bytes} bytes; rewrite with h5repack -l")
        packed = [code for code in codes if code in (1, 32000)]
        if len(packed) > 1:
            raise _absurd(where, "one compression at most", f"{len(packed)} in a row")
        expands = DEFLATE_RATIO if packed else 1
        if written * chunk_bytes > expands * (stored + 64) + chunk_bytes:
            raise _absurd(where, "chunks that their stored bytes can hold", f"{written} chunks of {chunk_bytes} bytes from {stored} bytes")
        unwritten = total - written * chunk_bytes
        if 1 in packed and chunk_bytes:
            _check_bombs(where, dataset, chunk_bytes, written, codes)
    else:
        # A compact dataset lies in its object header and has no offset; neither has one that was never written.
        import h5py

        compact = layout == h5py.h5d.COMPACT
        unwritten = 0 if compact or offset is not None else total
        if (offset is not None and offset + total > tree.size) or (compact and total > stored):
            raise _absurd(where, f"values that lie inside the file's {tree.size} bytes", f"shape {shape}: {total} bytes at {offset or 0}")
    if unwritten > MAX_FILL_BYTES:
        raise _absurd(where, f"at most {MAX_FILL_BYTES} bytes that were declared and never written", f"shape {shape} with {unwritten} bytes unwritten")


def _check_bombs(where: str, dataset: Any, chunk_bytes: int, written: int, codes: list[int]) -> None:
    """Unpack chunks that could grow beyond all bounds piece by piece first: the library unpacks a chunk whole, whatever its size."""
    for index in range(written):
        with guarded(where, "chunks that can be listed"):
            chunk = dataset.id.get_chunk_info(index)
        if chunk.size * DEFLATE_RATIO <= BOMB_BYTES:
            continue
        if chunk.size > chunk_bytes + chunk_bytes // 100 + 4096:
            raise _absurd(where, f"stored chunks of at most {chunk_bytes} bytes", f"{chunk.size} bytes")
        with guarded(where, "chunks that can be read"):
            _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
        inflater = zlib.decompressobj()
        grown = 0
        rest: bytes = packed
        try:
            while rest and not inflater.eof and grown <= chunk_bytes:
                grown += len(inflater.decompress(rest, 1 << 20))
                rest = inflater.unconsumed_tail
        except zlib.error as error:
            raise BadRecording(where, "chunks packed by deflate", str(error), DAMAGED, check="damaged_hdf5") from error
        if grown > chunk_bytes:
            raise _absurd(where, f"chunks that unpack to {chunk_bytes} bytes", "one that unpacks to more")


def blocks(table: Table) -> Iterator[Array]:
    """Yield the rows of a dataset in order, a bounded number at a time; texts and byte rows come as arrays of objects or fixed strings."""
    step = 64 if table.dataset.dtype.kind == "O" else table.block_rows
    for start in range(0, table.rows, step):
        with guarded(table.where, f"rows {start} to {min(start + step, table.rows) - 1} that can be read"):
            values = table.dataset[start : start + step]
        if not isinstance(values, np.ndarray) or len(values) != min(step, table.rows - start):
            raise BadRecording(table.where, f"{table.rows} rows", f"fewer from row {start}", DAMAGED, check="damaged_hdf5")
        yield values if values.dtype == table.dtype else values.astype(table.dtype)


def whole(table: Table, limit: int) -> Array | str | None:
    """Return all values of a small dataset, None where it is larger than `limit` bytes or cannot be kept."""
    if table.content == "other":
        return None
    count = int(np.prod(table.shape, dtype=object)) if table.shape else 1
    if count * max(table.dtype.itemsize, 1) > limit:
        return None
    with guarded(table.where, "values that can be read"):
        value = table.dataset[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else np.asarray(value)
