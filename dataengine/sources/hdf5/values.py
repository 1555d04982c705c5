"""Look at an HDF5 dataset before it is read, and read it in blocks of rows.

What a file declares costs nothing to declare: shapes, chunk sizes and compressed sizes are held against the file's own size before
anything is allocated. Data that lies in other files (external storage, virtual datasets) is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.hdf5.chunks import LZF, Chunked, list_chunks, rows, unpacked
from dataengine.sources.hdf5.tree import DAMAGED, Tree, guarded

BLOCK_BYTES = 16 << 20  # of rows that are read in one go: 18 frames of 480 x 640 x 3
MAX_BLOCK_BYTES = 192 << 20  # where one chunk spans many rows
MAX_ROW_BYTES = 128 << 20
MAX_CHUNK_BYTES = 192 << 20
MAX_FILL_BYTES = 256 << 20  # rows that were declared and never written: they read as the fill value
MAX_ITEM_BYTES = 64 << 20
MAX_BLOCK_ROWS = 1 << 20
MAX_RANK = 9  # a column's rows have at most 8 axes

DEFLATE_RATIO = 1032  # the most that deflate can expand (zlib technical notes)

# Filters by number (HDF Group's registry); True where their output is bounded in `chunks`.
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
    tree: Tree
    stored: np.dtype[Any] | None = None  # how elements lie in the file, None where only the library can convert them
    chunked: Chunked | None = None

    @property
    def rows(self) -> int:
        """Return the size of the leading dimension, -1 for a single value."""
        return self.shape[0] if self.shape else -1


def _absurd(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, DAMAGED, check="absurd_size")


def _content(dtype: np.dtype[Any], rank: int) -> Content:
    import h5py

    if rank > MAX_RANK:
        return "other"
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
        shape = tuple(int(size) for size in dataset.shape or ())
        declared = dataset.dtype
        kind = dataset.id.get_type()
        item_bytes = int(kind.get_size())
        chunks = dataset.chunks
        pipeline = [(code, tuple(parameters)) for code, _, parameters, _ in (plan.get_filter(index) for index in range(plan.get_nfilters()))]
        standard = bool(kind.equal(h5py.h5t.py_create(declared, logical=True)))
    content = _content(declared, len(shape))
    referred = declared.kind == "O"
    if content == "other" or (referred and layout == h5py.h5d.COMPACT):
        return Table(path, where, dataset, shape, declared, "other", 1, tree)
    stored: np.dtype[Any] | None = declared if standard else None
    if referred:
        stored = np.dtype(f"V{tree.heap.reference_bytes}")
        item_bytes = stored.itemsize  # the library tells the size of a pointer in memory
    row_bytes = item_bytes * int(np.prod(shape[1:], dtype=object))
    total = row_bytes * (shape[0] if shape else 1)
    if row_bytes > MAX_ROW_BYTES:
        raise _absurd(where, f"rows of at most {MAX_ROW_BYTES} bytes", f"shape {shape} of {declared}: {row_bytes} bytes a row")
    chunked = _check_storage(tree, where, dataset, layout, shape, total, item_bytes, chunks, pipeline)
    dtype = declared if referred else declared.newbyteorder("=")
    return Table(path, where, dataset, shape, dtype, content, _block_rows(row_bytes, chunks[0] if chunks else 1, bool(pipeline)), tree, stored, chunked)


def _block_rows(row_bytes: int, chunk_rows: int, filtered: bool) -> int:
    """Return how many rows to read in one go: whole chunks where they are filtered, so that each is unpacked once."""
    fitting = max(1, min(BLOCK_BYTES // max(row_bytes, 1), MAX_BLOCK_ROWS))
    if not filtered or chunk_rows <= 1:
        return fitting
    whole_chunks = max(1, fitting // chunk_rows) * chunk_rows
    return whole_chunks if whole_chunks * row_bytes <= MAX_BLOCK_BYTES else max(1, MAX_BLOCK_BYTES // row_bytes)


def _check_storage(
    tree: Tree,
    where: str,
    dataset: Any,
    layout: int,
    shape: tuple[int, ...],
    total: int,
    item_bytes: int,
    chunks: tuple[int, ...] | None,
    pipeline: list[tuple[int, tuple[int, ...]]],
) -> Chunked | None:
    """Hold what is declared against what the file can hold; return the list of its chunks, where it has any."""
    import h5py

    codes = [code for code, _ in pipeline]
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
        stored = int(dataset.id.get_storage_size())
        offset = None if chunks else dataset.id.get_offset()
    if stored > tree.size:
        raise _absurd(where, f"values that fit into the file's {tree.size} bytes", f"{stored} stored bytes")
    chunked = None
    if chunks:
        chunk_bytes = item_bytes * int(np.prod(chunks, dtype=object))
        if not 0 < chunk_bytes <= MAX_CHUNK_BYTES or len(chunks) != len(shape):
            raise _absurd(where, f"chunks of 1 to {MAX_CHUNK_BYTES} bytes", f"chunks {chunks} of {item_bytes} bytes; rewrite with h5repack -l")
        packed = [code for code in codes if code in (1, LZF)]
        if len(packed) > 1 or len(codes) != len(set(codes)):
            raise _absurd(where, "each filter once, one compression at most", f"filters {codes}")
        chunked = list_chunks(where, dataset, shape, tuple(int(size) for size in chunks), item_bytes, pipeline)
        held = len(chunked.written) * chunk_bytes
        if held > (DEFLATE_RATIO if packed else 1) * stored + chunk_bytes:
            raise _absurd(where, "chunks that their stored bytes can hold", f"{len(chunked.written)} chunks of {chunk_bytes} bytes from {stored} bytes")
        unwritten = total - held
    else:
        # A compact dataset lies in its object header and has no offset; neither has one that was never written.
        compact = layout == h5py.h5d.COMPACT
        unwritten = 0 if compact or offset is not None else total
        if (offset is not None and offset + total > tree.size) or (compact and total > stored):
            raise _absurd(where, f"values that lie inside the file's {tree.size} bytes", f"shape {shape}: {total} bytes at {offset or 0}")
    if unwritten > MAX_FILL_BYTES:
        raise _absurd(where, f"at most {MAX_FILL_BYTES} bytes that were declared and never written", f"shape {shape} with {unwritten} bytes unwritten")
    return chunked


def _stored_rows(table: Table, start: int, stop: int) -> Array | None:
    """Return rows as they lie in the file without asking the library, None where it may be asked: values that are stored plain."""
    chunked, stored = table.chunked, table.stored
    referred = table.dtype.kind == "O"
    if chunked is not None and (chunked.pipeline or referred):
        if stored is None or any(code == LZF for code, _ in chunked.pipeline):
            for _ in unpacked(chunked, start, stop):
                pass  # each chunk is held to its size; the library may then unpack it
            if not referred:
                return None
        assert stored is not None
        with guarded(table.where, "a fill value"):
            fill = bytes(stored.itemsize) if referred else table.dataset.fillvalue
        return rows(chunked, start, stop, stored, np.void(fill) if referred else fill)
    if not referred:
        return None
    assert stored is not None
    with guarded(table.where, "a dataset whose storage can be found"):
        offset = table.dataset.id.get_offset()
    shape = (stop - start, *table.shape[1:])
    if offset is None:
        return np.zeros(shape, stored)
    width = stored.itemsize * int(np.prod(table.shape[1:], dtype=object))
    data = table.tree.heap.pread(offset - table.tree.heap.base + start * width, (stop - start) * width, table.where)
    return np.frombuffer(data, stored).reshape(shape)


def _read(table: Table, start: int, stop: int) -> Array:
    """Return rows [start, stop): numbers and fixed texts as such, texts and byte rows of varying length as an array of bytes objects."""
    found = _stored_rows(table, start, stop)
    if found is None:
        with guarded(table.where, f"rows {start} to {stop - 1} that can be read"):
            found = table.dataset[start:stop]
        if not isinstance(found, np.ndarray) or found.shape != (stop - start, *table.shape[1:]):
            raise BadRecording(table.where, f"{table.rows} rows", f"fewer from row {start}", DAMAGED, check="damaged_hdf5")
    if table.dtype.kind == "O":
        values = list(table.tree.heap.resolve(found.tobytes(), table.where))
        out = np.empty(len(values), dtype=object)
        out[:] = [value.split(b"\0")[0] for value in values] if table.content == "text" else values
        return out.reshape(found.shape)
    return found if found.dtype == table.dtype else found.astype(table.dtype)


def blocks(table: Table) -> Iterator[Array]:
    """Yield the rows of a dataset in order, a bounded number at a time."""
    step = 64 if table.dtype.kind == "O" else table.block_rows
    for start in range(0, table.rows, step):
        yield _read(table, start, min(start + step, table.rows))


def whole(table: Table, limit: int) -> Array | str | None:
    """Return all values of a small dataset, None where it is larger than `limit` bytes or cannot be kept."""
    if table.content == "other":
        return None
    count = int(np.prod(table.shape, dtype=object)) if table.shape else 1
    if count * max(table.dtype.itemsize, 1) > limit:
        return None
    if table.shape:
        return _read(table, 0, table.rows)
    if table.dtype.kind == "O":
        (value,) = _scalar(table)
        return value.decode("utf-8", "backslashreplace") if table.content == "text" else np.frombuffer(value, np.uint8)
    with guarded(table.where, "a value that can be read"):
        value = table.dataset[()]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else np.asarray(value)


def _scalar(table: Table) -> list[bytes]:
    with guarded(table.where, "a dataset whose storage can be found"):
        offset = table.dataset.id.get_offset()
    if offset is None:
        return [b""]
    heap = table.tree.heap
    found = list(heap.resolve(heap.pread(offset - heap.base, heap.reference_bytes, table.where), table.where))
    return [found[0].split(b"\0")[0] if table.content == "text" else found[0]]
