"""Rows of the catalog emptied in place, in every data file that holds them, so that no version of the table shows what they said.

A data file keeps its name and its size: Delta readers trust the size that the log records, so what is saved is filled up between the rows and
the footer, where no Parquet reader looks.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataengine.core.errors import StoreError
from dataengine.core.objects import Objects
from dataengine.schema.arrow import catalog_schema
from dataengine.store.parquet import table_of
from dataengine.store.removed import PURGED
from dataengine.versions.table_files import DataFile

LEVELS = (9, 19, 22)
EMPTIED: dict[str, dict[str, Any]] = {
    "episode": {"tasks": [], "metadata": None, "figures": None, "success": None},
    "label": {"summary": None, "metadata": None},
}


def emptied(objects: Objects, file: DataFile, episode_ids: Collection[str]) -> bytes | None:
    """Return a data file with the rows of episodes emptied, None where there is nothing to do; always the same bytes."""
    data = objects.get(file.key)
    table = table_of(data)
    schema = pa.schema([catalog_schema().field(name) for name in table.column_names])
    table = pa.table([table[name].cast(schema.field(name).type) for name in table.column_names], schema=schema)
    hit = pc.is_in(table["episode_id"], value_set=pa.array(sorted(episode_ids), pa.string()))
    rows = [row for row, wanted in enumerate(hit.to_pylist()) if wanted]
    changed = _emptied(table, file.kind, rows)
    return None if changed.equals(table) else _of_size(changed, len(data), file.key)


def _emptied(table: pa.Table, kind: str, rows: list[int]) -> pa.Table:
    for name, value in EMPTIED[kind].items():
        table = _with(table, name, dict.fromkeys(rows, value))
    if kind == "episode":
        flags = {row: sorted({*(table["flags"][row].as_py() or ()), PURGED}) for row in rows}
        table = _with(table, "flags", flags)
    return table


def _with(table: pa.Table, name: str, values: dict[int, Any]) -> pa.Table:
    place = table.column_names.index(name)
    column = table[name].to_pylist()
    for row, value in values.items():
        column[row] = value
    return table.set_column(place, table.schema.field(name), pa.array(column, type=table.schema.field(name).type))


def _of_size(table: pa.Table, size: int, key: str) -> bytes:
    """Return the table as a Parquet file of exactly `size` bytes."""
    written = b""
    for level in LEVELS:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", compression_level=level, use_dictionary=True, write_statistics=False, store_schema=False)
        written = sink.getvalue()
        if len(written) <= size:
            footer = 8 + int.from_bytes(written[-8:-4], "little")
            return written[:-footer] + bytes(size - len(written)) + written[-footer:]
    raise StoreError(f"{key}: expected room for {len(written)} bytes, found {size}; the rows cannot be emptied in place")
