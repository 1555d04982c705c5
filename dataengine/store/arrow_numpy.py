"""Arrow arrays as numpy arrays, straight from their buffers.

pyarrow's own conversions import its compute functions (0.1 s) and, where it is installed, pandas (0.6 s): too long for the first batch of a loader.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dataengine.core.arrays import Array

_DTYPES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def dtype_of(kind: pa.DataType) -> np.dtype[np.generic]:
    """Return the numpy dtype of a type of numbers or booleans."""
    return np.dtype(_DTYPES.get(str(kind), str(kind)))


def _bits(buffer: pa.Buffer, offset: int, count: int) -> Array:
    """Return bits [offset, offset + count) of a bitmap, (count,) bool."""
    packed = np.frombuffer(buffer, np.uint8)[offset // 8 : (offset + count + 7) // 8]
    return np.unpackbits(packed, bitorder="little")[offset % 8 : offset % 8 + count].astype(bool)


def present(column: pa.Array) -> Array:
    """Return which entries of an array are not null, (N,) bool."""
    validity = column.buffers()[0]
    if pa.types.is_null(column.type):
        return np.zeros(len(column), bool)
    return np.ones(len(column), bool) if validity is None else _bits(validity, column.offset, len(column))


def plain(column: pa.Array, null: int | float | bool | None = None) -> Array:
    """Return an array of numbers or booleans, (N,): null entries as `null`, or as whatever lies there; without nulls a view where it can be."""
    if len(column) == 0:
        return np.zeros(0, dtype_of(column.type))
    data = column.buffers()[1]
    if pa.types.is_boolean(column.type):
        values = _bits(data, column.offset, len(column))
    else:
        values = np.frombuffer(data, dtype_of(column.type))[column.offset : column.offset + len(column)]
    if null is None or not column.null_count:
        return values
    return np.where(present(column), values, np.asarray(null, values.dtype))


def numbers(column: pa.Array, shape: tuple[int, ...] = ()) -> Array:
    """Return a column of numbers or of rows of numbers, (N, ...): zeros where it is null; rows take `shape` where it has as many entries as they."""
    rows = len(column)
    if not (pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)):
        return plain(column, 0)
    there = present(column)
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        flat = plain(column.values)[column.offset * width : (column.offset + rows) * width].reshape(rows, width)
        values = flat if there.all() else np.where(there[:, None], flat, np.zeros((), flat.dtype))
    else:
        # A file whose episodes differ in the size of a row has lists; within one episode all rows are of one size.
        offsets = plain(column.offsets)
        sizes = np.diff(offsets)
        width = int(sizes[there][0]) if there.any() else 0
        values = np.zeros((rows, width), dtype_of(column.type.value_type))
        values[there] = plain(column.values)[offsets[:-1][there][:, None] + np.arange(width)]
    return values.reshape(rows, *shape) if shape and int(np.prod(shape)) == width else values
