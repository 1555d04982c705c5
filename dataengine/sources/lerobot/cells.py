"""Cells of a table as rows of a stream: numbers as arrays of their own dtype, pictures and texts as their bytes, everything else as JSON."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Buffer

Form = Literal["numbers", "text", "picture", "frame_of_video", "bytes", "json"]

# A row of so many numbers is read with the others of its episode; a longer one (pixels, say) batch by batch.
SMALL_ROW = 4096
MAX_LEVELS = 6


@dataclass(frozen=True)
class CellType:
    """What the cells of a column are: `form`, and of numbers the dtype, the levels of lists, and their sizes where the type fixes them."""

    form: Form
    dtype: str = ""
    sizes: tuple[int | None, ...] = ()

    @property
    def is_small(self) -> bool:
        """Whether a whole episode of it is held in memory: numbers of few dimensions."""
        return self.form == "numbers" and len(self.sizes) <= 2 and math.prod(size or 1 for size in self.sizes) <= SMALL_ROW


def cell_type(kind: Any) -> CellType:
    """Return what the cells of an Arrow type are."""
    import pyarrow.types as pt

    while _is_extension(kind):
        kind = kind.storage_type
    sizes: list[int | None] = []
    inner = kind
    while pt.is_list(inner) or pt.is_large_list(inner) or pt.is_fixed_size_list(inner):
        sizes.append(inner.list_size if pt.is_fixed_size_list(inner) else None)
        inner = inner.value_type
        while _is_extension(inner):
            inner = inner.storage_type
    if len(sizes) <= MAX_LEVELS:
        if pt.is_boolean(inner) or pt.is_integer(inner) or pt.is_floating(inner):
            return CellType("numbers", np.dtype(inner.to_pandas_dtype()).name, tuple(sizes))
        if pt.is_temporal(inner) and not pt.is_interval(inner) and not sizes:
            return CellType("numbers", "int64")
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if pt.is_string(kind) or pt.is_large_string(kind):
        return CellType("text")
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind):
        return CellType("bytes")
    if pt.is_struct(kind):
        names = {kind.field(place).name for place in range(kind.num_fields)}
        if names == {"bytes", "path"}:
            return CellType("picture")
        if names == {"path", "timestamp"}:
            return CellType("frame_of_video")
    return CellType("json")


def _is_extension(kind: Any) -> bool:
    import pyarrow as pa

    return isinstance(kind, pa.BaseExtensionType)


def storage(array: Any) -> Any:
    """Return an Arrow array as what it is stored as: without extension types and dictionaries."""
    import pyarrow as pa

    while _is_extension(array.type):
        array = array.storage
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def numbers(array: Any) -> tuple[Array | None, int]:
    """Return the numbers of a column and how many cells inside are null (NaN where the dtype has it).

    Returns:
        (N, ...) with the dtype of the column, None where rows are ragged or a null cannot be told; and the number of nulls.
    """
    import pyarrow as pa
    import pyarrow.types as pt

    array = storage(array)
    rows = len(array)
    shape: list[int] = [rows]
    nulls = 0
    while pt.is_list(array.type) or pt.is_large_list(array.type) or pt.is_fixed_size_list(array.type):
        if array.null_count:
            return None, array.null_count
        if pt.is_fixed_size_list(array.type):
            size = array.type.list_size
        else:
            lengths = np.diff(array.offsets.to_numpy(zero_copy_only=False))
            size = int(lengths[0]) if len(lengths) else 0
            if len(lengths) and bool(np.any(lengths != size)):
                return None, 0
        array = storage(array.flatten())
        shape.append(size)
    if pt.is_temporal(array.type):
        array = array.cast(pa.int64() if array.type.bit_width == 64 else pa.int32()).cast(pa.int64())
    if array.null_count:
        nulls = array.null_count
        if not pt.is_floating(array.type):
            return None, nulls
    values = array.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values).reshape(shape), nulls


def picture_encoding(data: Buffer) -> str:
    """Return the encoding of a picture by its first bytes."""
    header = picture_header(data)
    if header is not None:
        return header.encoding
    start = bytes(data[:12])
    for encoding, magic, at in (("webp", b"WEBP", 8), ("tiff", b"II*\0", 0), ("tiff", b"MM\0*", 0), ("bmp", b"BM", 0), ("gif", b"GIF8", 0)):
        if start[at : at + len(magic)] == magic:
            return encoding
    return "unknown"


def texts(array: Any) -> list[bytes]:
    """Return the texts of a column in UTF-8, empty for a null."""
    return [_buffer(cell).decode("utf-8", "replace").encode() for cell in storage(array)]


def raw_bytes(array: Any) -> list[bytes]:
    """Return the cells of a binary column, empty for a null."""
    return [_buffer(cell) for cell in storage(array)]


def _buffer(cell: Any) -> bytes:
    buffer = cell.as_buffer() if cell.is_valid else None
    return b"" if buffer is None else bytes(buffer.to_pybytes())


def pictures(array: Any) -> list[tuple[bytes, str]]:
    """Return (bytes, path) of each picture, both empty for a null."""
    array = storage(array)
    data, paths = storage(array.field("bytes")), storage(array.field("path"))
    found = []
    for row in range(len(array)):
        there = array[row].is_valid
        picture = _buffer(data[row]) if there else b""
        path = paths[row].as_py() if there and paths[row].is_valid else ""
        found.append((picture, path if isinstance(path, str) else ""))
    return found


def plain(value: Any) -> Any:
    """Return a cell as JSON can hold it: bytes as base64, numbers that are not finite and times as text."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def as_json(value: Any) -> bytes:
    """Return a cell as JSON in UTF-8, empty for a null or an empty list: nothing is there."""
    if value is None or (isinstance(value, list) and not value):
        return b""
    return json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "backslashreplace")


def json_cells(array: Any) -> list[bytes]:
    """Return each cell as JSON, see `as_json`; floats of 32 bits as the shortest text that reads back as the same."""
    return [as_json(_shortest(cell)) for cell in storage(array)]


def _shortest(cell: Any) -> Any:
    """Return the value of a cell, with floats of 32 bits rounded to what they were written as."""
    import pyarrow as pa
    import pyarrow.types as pt

    if not cell.is_valid:
        return None
    if isinstance(cell, pa.StructScalar):
        return {name: _shortest(cell[name]) for name in cell}
    if isinstance(cell, (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)):
        return [_shortest(part) for part in cell.values]
    value = cell.as_py()
    if pt.is_float32(cell.type) and math.isfinite(value):
        return float(str(np.float32(value)))
    return value
