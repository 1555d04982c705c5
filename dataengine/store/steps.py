"""Trajectories on disk: one Parquet file a shard, one row group an episode.

Columns: episode_id, step, t_ns (null where the rate is unknown), each numeric column (a FixedSizeList where a row has several numbers; null
where no sample was fresh enough), `<column>.sampled_ns` where it was resampled, and for each camera the frame seen (null = none).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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
from dataengine.store.arrow_numpy import numbers, plain, present
from dataengine.store.damage import naming_damage

SAMPLED = ".sampled_ns"
BATCH_BYTES = 32 << 20
BUFFER_BYTES = 1 << 20
ZSTD_PAGE_BYTES = 16 << 10
WRITER: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["episode_id"],
    "write_statistics": False,
    "write_page_checksum": True,  # the file stands in no shard.json: its pages carry their own checksums
}


@dataclass(frozen=True)
class _Layout:
    """Which columns a trajectory has, and their types: trajectories of one layout stand in one table."""

    timed: bool
    numbers: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
    frames: tuple[str, ...]
    sampled: tuple[str, ...]
    valid: tuple[str, ...]

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of a row of each numeric column."""
        return {name: list(shape) for name, _, shape in self.numbers}


def _layout(trajectory: Trajectory) -> _Layout:
    numbers = tuple([(name, values.dtype, values.shape[1:]) for name, values in trajectory.columns.items()])
    return _Layout(trajectory.t_ns is not None, numbers, tuple(trajectory.frames), tuple(trajectory.sampled_ns), tuple(trajectory.valid))


def arrow_numbers(values: Array, valid: Array | None) -> pa.Array:
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


def _table(layout: _Layout, named: Sequence[tuple[str, Trajectory]]) -> pa.Table:
    """Return trajectories of one layout as one table, one after the other."""
    trajectories = [trajectory for _, trajectory in named]
    counts = [trajectory.steps for trajectory in trajectories]
    ids = pa.array([episode_id for episode_id, _ in named], pa.string())
    columns: dict[str, pa.Array] = {
        "episode_id": ids.take(pa.array(np.repeat(np.arange(len(counts)), counts))),
        "step": pa.array(np.concatenate([np.arange(count, dtype=np.int64) for count in counts])),
        "t_ns": pa.array(np.concatenate([each.t_ns for each in trajectories if each.t_ns is not None])) if layout.timed else pa.nulls(sum(counts), pa.int64()),
    }
    for name, _, _ in layout.numbers:
        valid = np.concatenate([each.valid[name] for each in trajectories]) if name in layout.valid else None
        columns[name] = arrow_numbers(np.concatenate([each.columns[name] for each in trajectories]), valid)
        if name in layout.sampled:
            columns[name + SAMPLED] = _times(np.concatenate([each.sampled_ns[name] for each in trajectories]), valid)
    for name in layout.frames:
        frames = np.concatenate([each.frames[name] for each in trajectories])
        columns[name] = pa.array(frames, mask=frames < 0)
        if name in layout.sampled:
            columns[name + SAMPLED] = _times(np.concatenate([each.sampled_ns[name] for each in trajectories]), frames >= 0)
    return pa.table(columns)


def _schema(layouts: Mapping[_Layout, Trajectory]) -> pa.Schema:
    """Return the schema of a file that holds trajectories of these layouts, given one of each."""
    schema = pa.schema([("episode_id", pa.string()), ("step", pa.int64()), ("t_ns", pa.int64())])
    shapes: dict[str, list[int]] = {}
    schemas = [_table(layout, [("", trajectory)]).schema for layout, trajectory in layouts.items()]
    for layout in layouts:
        shapes.update(layout.shapes())
    for name in shapes:
        # Episodes that differ in the size of a row: lists, of one size within each episode.
        types = {each.field(name).type for each in schemas if name in each.names}
        if len(types) > 1 and all(pa.types.is_fixed_size_list(each) for each in types):
            flexible = pa.field(name, pa.list_(next(iter(types)).value_type))
            schemas = [each.set(each.get_field_index(name), flexible) if name in each.names else each for each in schemas]
    if schemas:
        schema = pa.unify_schemas(schemas)
    return schema.with_metadata({"shapes": json.dumps(shapes)})


def _batches(layouts: Iterable[_Layout], named: Iterable[tuple[str, Trajectory]]) -> Iterator[tuple[_Layout, list[tuple[str, Trajectory]]]]:
    """Cut trajectories into runs of one layout and a bounded number of bytes.

    One table for a run: making a table of its own for each of some hundred episodes costs ten times as much as copying their numbers.
    """
    running: _Layout | None = None
    batch: list[tuple[str, Trajectory]] = []
    size = 0
    for layout, (episode_id, trajectory) in zip(layouts, named, strict=True):
        if running is not None and (layout != running or size > BATCH_BYTES):
            yield running, batch
            batch, size = [], 0
        running = layout
        batch.append((episode_id, trajectory))
        size += sum([values.nbytes for values in trajectory.columns.values()])
    if running is not None:
        yield running, batch


def _compression(named: Sequence[tuple[str, Trajectory]], columns: int) -> dict[str, Any]:
    """Return how pages are compressed: zstd costs 15 us for each page before its first byte, which only longer pages are worth."""
    size = sum(sum([values.nbytes for values in trajectory.columns.values()]) for _, trajectory in named)
    return {} if size >= ZSTD_PAGE_BYTES * columns * len(named) else {"compression": "snappy", "compression_level": None}


def write_steps(path: Path, named: Sequence[tuple[str, Trajectory]]) -> None:
    """Write the trajectories of a shard, each with its episode's id, one row group each, under one schema.

    A column that an episode lacks is null there.
    """
    layouts = [_layout(trajectory) for _, trajectory in named]
    schema = _schema({layout: trajectory for layout, (_, trajectory) in zip(layouts, named, strict=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        pa.output_stream(str(path), buffer_size=BUFFER_BYTES) as sink,
        pq.ParquetWriter(sink, schema, **{**WRITER, **_compression(named, len(schema))}) as writer,
    ):
        for layout, batch in _batches(layouts, named):
            table = _table(layout, batch)
            columns = [table[name] if name in table.column_names else pa.nulls(len(table), schema.field(name).type) for name in schema.names]
            table = pa.table(columns, schema=schema)
            start = 0
            for _, trajectory in batch:
                writer.write_table(table.slice(start, trajectory.steps), row_group_size=max(1, trajectory.steps))
                start += trajectory.steps


def read_steps(objects: Objects, key: str, ordinal: int, columns: Mapping[str, Column]) -> Trajectory:
    """Read one episode's trajectory: row group `ordinal` of the file; raise CorruptStore where it is gone or damaged."""
    with naming_damage(objects, key, "trajectories"):
        return _read_steps(objects, key, ordinal, columns)


class StepsFile:
    """A file of trajectories that stays open, for reading some columns of many episodes.

    Raises:
        FileNotFoundError, OSError, ArrowException: it is gone or damaged; wrap in `naming_damage`.
    """

    def __init__(self, objects: Objects, key: str, whole: bool = False) -> None:
        local = objects.local(key)
        source: Any = local if local is not None else io.BytesIO(objects.get(key)) if whole else objects.open(key)
        self._where = f"{objects.url}/{key}"
        self._file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        self.names = frozenset(self._file.schema_arrow.names)
        self.shapes: dict[str, list[int]] = json.loads((self._file.schema_arrow.metadata or {}).get(b"shapes", b"{}"))

    def table(self, ordinal: int, names: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of an episode, all columns or those named."""
        if not 0 <= ordinal < self._file.num_row_groups:
            raise CorruptStore(f"{self._where}: expected a row group {ordinal}, found {self._file.num_row_groups} of them; restore the file from a copy")
        return self._file.read_row_group(ordinal, columns=None if names is None else list(names), use_threads=False)

    def trajectory(self, ordinal: int, columns: Mapping[str, Column], names: Collection[str] | None = None) -> Trajectory:
        """Return the trajectory of an episode with all of its columns, or with those named that the file has."""
        wanted = None if names is None else ["t_ns", *(name for name in names if name in self.names and name != "t_ns")]
        return _trajectory(self.table(ordinal, wanted), self.shapes, columns)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _read_steps(objects: Objects, key: str, ordinal: int, columns: Mapping[str, Column]) -> Trajectory:
    with closing(StepsFile(objects, key, whole=True)) as file:
        return file.trajectory(ordinal, columns)


def read_each(objects: Objects, key: str, wanted: Iterable[tuple[int, Mapping[str, Column]]]) -> Iterator[Trajectory]:
    """Yield the numbers of several trajectories of a file, given as (ordinal, columns): the file is opened once, and cameras and texts are passed over."""
    with naming_damage(objects, key, "trajectories"), closing(StepsFile(objects, key, whole=True)) as file:
        names = ["t_ns", *(name for name in file.shapes if name in file.names)]
        for ordinal, columns in wanted:
            yield _trajectory(file.table(ordinal, names), file.shapes, columns)


def _trajectory(table: pa.Table, shapes: Mapping[str, Sequence[int]], columns: Mapping[str, Column]) -> Trajectory:
    found: dict[str, Array] = {}
    valid: dict[str, Array] = {}
    sampled: dict[str, Array] = {}
    frames: dict[str, Array] = {}
    for name in table.column_names:
        if name in ("episode_id", "step", "t_ns"):
            continue
        column = table[name].combine_chunks()
        there = present(column)
        if name.endswith(SAMPLED) and name.removesuffix(SAMPLED) in table.column_names:
            sampled[name.removesuffix(SAMPLED)] = plain(column, -1)
        elif name not in shapes:  # pictures, texts, messages: the row seen
            if there.any():
                frames[name] = plain(column, -1)
        elif there.any() or len(table) == 0:
            found[name] = numbers(column, tuple(shapes.get(name, ())))
            if not there.all():
                valid[name] = there
    t_ns = table["t_ns"]
    times = None if t_ns.null_count == len(t_ns) and len(t_ns) else plain(t_ns.combine_chunks())
    specs = {name: columns[name] for name in (*found, *frames) if name in columns}
    return Trajectory(times, found, specs, valid, sampled, frames, steps=len(table))
