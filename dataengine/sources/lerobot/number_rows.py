"""The rows of a column of numbers, sorted by what they hold: numbers of one shape, nothing, or what the column's dtype and shape cannot hold.

What kind of stream a column becomes is fixed by the table's schema and by info.json. Only where both leave the length of a list open do the rows
that are there decide, and a row that is null never does: one bad row must not make another column of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.sources.lerobot.cells import CellType, json_cells, numbers, storage


def _none() -> Array:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class NumberRows:
    """The rows of one column in one episode; rows are named by their place in it, in order.

    `values` are numbers of one shape (n, ...), or `cells` the bytes of rows whose lengths nothing fixes, in `form`; `places` are their rows.
    `odd` are rows kept as JSON in `odd_cells`: of another shape, or with nulls that the dtype cannot say. `missing` are rows that are null.
    `holed` are rows of numbers with nulls inside that stand as NaN, `nulls` of them; JSON has null for them.
    """

    places: Array
    values: Array | None = None
    cells: list[bytes] | None = None
    form: Literal["raw", "json"] = "raw"
    odd: Array = field(default_factory=_none)
    odd_cells: list[bytes] = field(default_factory=list)
    missing: Array = field(default_factory=_none)
    holed: Array = field(default_factory=_none)
    nulls: int = 0


def sort_rows(cell: CellType, array: Any, shape: tuple[int, ...] | None) -> NumberRows:
    """Return the rows of a column of numbers, sorted.

    Args:
        cell: what the cells are; a float that stands alone and is null stays a row, as NaN.
        array: (N,) Arrow array of an episode.
        shape: that of a row as the schema or info.json fixes it, None where neither does.
    """
    array = storage(array)
    places = np.arange(len(array))
    missing = _none()
    if array.null_count and (cell.sizes or not cell.dtype.startswith("float")):
        there = np.asarray(array.is_valid().to_numpy(zero_copy_only=False))
        missing, places = np.flatnonzero(~there), places[there]
        array = array.drop_null()
    values, nulls = numbers(array)
    if values is not None:
        return NumberRows(places, values, missing=missing, holed=places[_holes(array)] if nulls else _none(), nulls=nulls)
    rows = [numbers(array.slice(row, 1)) for row in range(len(array))]
    shapes = {found.shape[1:] for found, _ in rows if found is not None}
    uneven = any(found is None and not count for found, count in rows)
    if len(shapes) == 1 and not uneven and shape not in shapes:
        shape = next(iter(shapes))
    holed = np.array([bool(count) for _, count in rows], dtype=bool)
    if shape is None and (uneven or len(shapes) > 1) and len(cell.sizes) > 1:
        return NumberRows(places, cells=json_cells(array), form="json", missing=missing)
    kept = np.array([found is not None and shape in (None, found.shape[1:]) for found, _ in rows], dtype=bool)
    parts = [found for (found, _), good in zip(rows, kept, strict=True) if good and found is not None]
    nulls = sum(count for (_, count), good in zip(rows, kept, strict=True) if good)
    open_length = shape is None and len(shapes) > 1
    return NumberRows(
        places[kept],
        np.concatenate(parts) if parts and not open_length else None,
        [part.tobytes() for part in parts] if open_length else None,
        odd=places[~kept],
        odd_cells=[data or b"[]" for row in np.flatnonzero(~kept).tolist() for data in json_cells(array.slice(row, 1))],
        missing=missing,
        holed=places[holed & kept],
        nulls=nulls,
    )


def _holes(array: Any) -> Array:
    """Return which rows of one shape have a null inside, (N,) bool."""
    import pyarrow.types as pt

    rows = len(array)
    while pt.is_list(array.type) or pt.is_large_list(array.type) or pt.is_fixed_size_list(array.type):
        array = storage(array.flatten())
    return np.asarray(np.any(np.asarray(array.is_null().to_numpy(zero_copy_only=False)).reshape(rows, -1), axis=1))


__all__ = ["NumberRows", "sort_rows"]
