"""Trajectories on disk: one Parquet file a shard, one row group an episode.

Columns: episode_id, step, t_ns (null where the rate is unknown), each numeric column (a FixedSizeList where a row has several numbers; null
where no sample was fresh enough), `<column>.sampled_ns` where it was resampled, and for each camera the frame seen (null = none).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import CorruptStore
from dataengine.core.objects import Objects
from dataengine.core.trajectory import Trajectory

SAMPLED = ".sampled_ns"
WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["episode_id"],
    "write_statistics": False,
    "write_page_checksum": True,  # the file stands in no shard.json: its pages carry their own checksums
}


def _column(values: Array, valid: Array | None) -> pa.Array:
    """Return numbers as an Arrow array, null where not valid; float16 stays float16."""
    rows = len(values)
    mask = None if valid is None or bool(valid.all()) else ~valid
    if values.ndim == 1:
        return pa.array(values, mask=mask)
    width = int(np.prod(values.shape[1:], dtype=np.int64))
    if width == 0:
        return pa.nulls(rows, pa.list_(pa.from_numpy_dtype(values.dtype), 0))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, width, mask=None if mask is None else pa.array(mask))


def _times(sampled_ns: Array, valid: Array | None) -> pa.Array:
    """Return measured times, null where there was no sample; a time before the episode's start is negative and stays."""
    return pa.array(sampled_ns, mask=sampled_ns == -1 if valid is None else ~valid)


def trajectory_table(episode_id: str, trajectory: Trajectory) -> pa.Table:
    """Return a trajectory as a table of T rows."""
    count = trajectory.steps
    columns: dict[str, pa.Array] = {
        "episode_id": pa.repeat(episode_id, count),
        "step": pa.array(np.arange(count, dtype=np.int64)),
        "t_ns": pa.nulls(count, pa.int64()) if trajectory.t_ns is None else pa.array(trajectory.t_ns),
    }
    for name, values in trajectory.columns.items():
        columns[name] = _column(values, trajectory.valid.get(name))
        if name in trajectory.sampled_ns:
            columns[name + SAMPLED] = _times(trajectory.sampled_ns[name], trajectory.valid.get(name))
    for name, frames in trajectory.frames.items():
        columns[name] = pa.array(frames, mask=frames < 0)
        if name in trajectory.sampled_ns:
            columns[name + SAMPLED] = _times(trajectory.sampled_ns[name], frames >= 0)
    shapes = {name: list(values.shape[1:]) for name, values in trajectory.columns.items()}
    return pa.table(columns).replace_schema_metadata({"shapes": json.dumps(shapes)})


def write_steps(path: Path, tables: list[pa.Table]) -> None:
    """Write the trajectories of a shard, one row group each, under one schema; a column that an episode lacks is null there."""
    schemas = {table.schema.remove_metadata(): table.schema for table in tables}
    schema = pa.unify_schemas(list(schemas)) if schemas else pa.schema([("episode_id", pa.string()), ("step", pa.int64()), ("t_ns", pa.int64())])
    shapes: dict[str, Any] = {}
    for table in schemas.values():
        shapes.update(json.loads((table.metadata or {}).get(b"shapes", b"{}")))
    schema = schema.with_metadata({"shapes": json.dumps(shapes)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, **WRITER) as writer:
        for table in tables:
            if table.column_names != schema.names:
                table = pa.table(
                    [table[name] if name in table.column_names else pa.nulls(len(table), schema.field(name).type) for name in schema.names], schema=schema
                )
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=max(1, len(table)))


def read_steps(objects: Objects, key: str, ordinal: int, columns: Mapping[str, Column]) -> Trajectory:
    """Read one episode's trajectory: row group `ordinal` of the file."""
    local = objects.local(key)
    file = pq.ParquetFile(local if local is not None else io.BytesIO(objects.get(key)), pre_buffer=False)
    try:
        if not 0 <= ordinal < file.num_row_groups:
            raise CorruptStore(f"{objects.url}/{key}: expected a row group {ordinal}, found {file.num_row_groups} of them; restore the file from a copy")
        table = file.read_row_group(ordinal, use_threads=False)
        shapes = json.loads((file.schema_arrow.metadata or {}).get(b"shapes", b"{}"))
    finally:
        file.close()
    numbers: dict[str, Array] = {}
    valid: dict[str, Array] = {}
    sampled: dict[str, Array] = {}
    frames: dict[str, Array] = {}
    for name in table.column_names:
        if name in ("episode_id", "step", "t_ns"):
            continue
        column = table[name].combine_chunks()
        present = column.is_valid().to_numpy(zero_copy_only=False)
        if name.endswith(SAMPLED) and name.removesuffix(SAMPLED) in table.column_names:
            sampled[name.removesuffix(SAMPLED)] = column.fill_null(-1).to_numpy(zero_copy_only=False)
        elif name not in shapes:  # pictures, texts, messages: the row seen
            if present.any():
                frames[name] = column.fill_null(-1).to_numpy(zero_copy_only=False)
        elif present.any() or len(table) == 0:
            numbers[name] = _numbers(column, present, tuple(shapes.get(name, ())))
            if not present.all():
                valid[name] = present
    t_ns = table["t_ns"]
    times = None if t_ns.null_count == len(t_ns) and len(t_ns) else t_ns.to_numpy()
    specs = {name: columns[name] for name in (*numbers, *frames) if name in columns}
    return Trajectory(times, numbers, specs, valid, sampled, frames, steps=len(table))


def _numbers(column: pa.Array, present: Array, shape: tuple[int, ...]) -> Array:
    """Return an Arrow column as numbers, zeros where it is null."""
    rows = len(column)
    if pa.types.is_fixed_size_list(column.type):
        values = np.zeros((rows, column.type.list_size), dtype=column.type.value_type.to_pandas_dtype())
        values[present] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)
        return values.reshape(rows, *shape) if shape else values
    zero = False if pa.types.is_boolean(column.type) else 0
    return np.asarray(column.fill_null(zero).to_numpy(zero_copy_only=False)) if column.null_count else np.asarray(column.to_numpy(zero_copy_only=False))
