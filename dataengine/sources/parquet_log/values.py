"""Columns of Arrow as rows of streams: numbers with their dtype, bytes and texts as they are, nulls as gaps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, printable
from dataengine.core.stream import Items
from dataengine.sources.parquet_log.mapping import NS_IN

Form = Literal["numbers", "lists", "text", "bytes", "times"]
MAX_WIDTH = 1 << 20
MAX_NS = 9 * 10**18


@contextmanager
def guarded(where: str, expected: str = "a Parquet file that can be read") -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into BadRecording; only calls into it stand under this."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RuntimeError) as error:
        text = printable(str(error)).splitlines() or [type(error).__name__]
        raise BadRecording(where, expected, text[0][:300], "make the copy again from the original", check="damaged_parquet") from error


def flattened(schema: Any) -> list[tuple[str, Any]]:
    """Return (name, type) of each leaf of a schema, those of structs with dots between."""
    import pyarrow

    found: list[tuple[str, Any]] = []
    stack = [(field.name, field.type) for field in reversed(list(schema))]
    while stack:
        name, kind = stack.pop()
        if pyarrow.types.is_struct(kind):
            stack.extend((f"{name}.{kind.field(place).name}", kind.field(place).type) for place in reversed(range(kind.num_fields)))
        else:
            found.append((name, kind))
    return found


def form_of(kind: Any) -> Form | None:
    """Say what the rows of a type are, None for what cannot be kept as rows."""
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        return form_of(kind.value_type)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "numbers"
    if types.is_timestamp(kind) or types.is_duration(kind):
        return "times"
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "bytes"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "lists" if form_of(kind.value_type) in ("numbers", "lists") else None
    return None


def leaf(batch: Any, name: str) -> Any:
    """Return a column of a batch by its name, a member of structs by its path, nulls of the structs included; dictionaries are resolved."""
    import pyarrow
    import pyarrow.compute

    if name in batch.schema.names:
        column = batch.column(name)
    else:
        head = next(top for top in batch.schema.names if name.startswith(f"{top}."))
        column, path = batch.column(head), name[len(head) + 1 :]
        while path:
            inner = next(
                part
                for part in sorted((column.type.field(i).name for i in range(column.type.num_fields)), key=len, reverse=True)
                if f"{path}.".startswith(f"{part}.")
            )
            column, path = pyarrow.compute.struct_field(column, inner), path[len(inner) + 1 :]
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def runs(values: Any) -> Iterator[tuple[int, int, Any]]:
    """Yield (first row, row after the last, value) of each run of equal values of a column."""
    import pyarrow.compute

    if not len(values):
        return
    same = pyarrow.compute.equal(values[1:], values[:-1]).fill_null(False).to_numpy(zero_copy_only=False)
    both_null = ~values.is_valid().to_numpy(zero_copy_only=False)
    same = same | (both_null[1:] & both_null[:-1])
    borders = [0, *(np.flatnonzero(~same) + 1).tolist(), len(values)]
    for start, stop in pairwise(borders):
        yield start, stop, values[start].as_py()


def present(column: Any) -> Array:
    """Return (n,) bool: which rows are not null."""
    mask: Array = column.is_valid().to_numpy(zero_copy_only=False)
    return mask


def numbers(column: Any, where: str) -> Array:
    """Return the rows of a column without nulls, (n, ...) of the column's own dtype.

    Raises:
        BadRecording: lists of differing length, or with nulls inside.
    """
    import pyarrow

    kind = column.type
    if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)):
        if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_duration(kind):
            column = column.cast(pyarrow.int64())
        values: Array = column.to_numpy(zero_copy_only=False)
        return values
    inner = column.flatten()
    width = len(inner) // len(column) if len(column) else 0
    if not pyarrow.types.is_fixed_size_list(kind):
        import pyarrow.compute

        lengths = pyarrow.compute.list_value_length(column).to_numpy(zero_copy_only=False)
        if len(lengths) and not (lengths == lengths[0]).all():
            raise BadRecording(where, "lists of one length", f"{int(lengths.min())} to {int(lengths.max())} values a row", "fill them up", check="ragged_lists")
    if inner.null_count or width > MAX_WIDTH:
        found = f"{inner.null_count} nulls inside of lists" if inner.null_count else f"{width} values a row"
        raise BadRecording(where, f"lists of at most {MAX_WIDTH} numbers", found, "write numbers", check="ragged_lists")
    table = numbers(inner, where)
    return table.reshape(len(column), width, *table.shape[1:])


def items(column: Any, encoding: str) -> Items:
    """Return the rows of a column of texts or bytes without nulls."""
    return Items([value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in column.to_pylist()], encoding)


def times_ns(column: Any, unit: str, where: str) -> Array:
    """Return times as int64 ns, exact where they are whole numbers of their unit; a type that has a unit brings its own.

    Raises:
        BadRecording: no numbers, not finite, or beyond what int64 ns can hold.
    """
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_duration(kind):
        unit = kind.unit
    elif not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        raise BadRecording(where, "numbers or timestamps", f"a column of type {kind}", "name another column as time", check="odd_times")
    values = numbers(column, where)
    factor = NS_IN[unit]
    if len(values) and (not np.isfinite(values).all() or max(abs(float(values.max())), abs(float(values.min()))) * factor > MAX_NS):
        raise BadRecording(where, f"times in {unit} that int64 nanoseconds hold", "values that are not finite or absurd", "correct `unit`", check="odd_times")
    if values.dtype.kind != "f":
        return values.astype(np.int64) * factor
    whole = np.floor(values.astype(np.float64))
    part = values.astype(np.float64) - whole
    return np.asarray(whole.astype(np.int64) * factor + np.rint(part * factor).astype(np.int64), dtype=np.int64)
