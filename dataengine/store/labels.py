"""Labels on disk: `labels/<label set>/<shard>/labels.parquet`, one row group an episode, beside a shard.json.

Columns: episode_id, step, and for each labelled column its values (a FixedSizeList where a row has several numbers; null where the model abstained),
`<column>.low` and `<column>.high` where there are intervals, and `<column>.confidence`. The schema's metadata holds one JSON document under "labels":
the model, what it was trained on, parameters, and what each column means.
"""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.errors import CorruptStore, UsageError
from dataengine.core.labels import CONFIDENCE, HIGH, LOW, Labels, LabelSet
from dataengine.core.objects import Objects
from dataengine.schema.column_json import column_from_json, column_to_json
from dataengine.schema.schema import validate
from dataengine.store import layout
from dataengine.store.arrow_numpy import numbers, plain, present
from dataengine.store.damage import naming_damage
from dataengine.store.row import Row
from dataengine.store.steps import WRITER, arrow_numbers

DOCUMENT = b"labels"


@dataclass(frozen=True)
class LabelPlace:
    """Where a shard of labels goes: the job that writes it, a name that no other attempt has, the dataset of its episodes, and the version that was read."""

    job: str
    shard: str
    dataset: str
    read: int | None


@dataclass(frozen=True)
class LabelledEpisode:
    """Labels to be written, and the episode with the reading that the model saw."""

    episode_id: str
    reading: str
    labels: Labels


def label_shard_name(job: str, number: int) -> str:
    """Return the name of a job's label shard, unique to this attempt."""
    return f"{job}-{number:05d}-{secrets.token_hex(4)}"


def label_fact(label_set: str, episode_id: str) -> str:
    """Return what names a label among those of its dataset."""
    return digest_json([label_set, episode_id])


def label_document(label_set: LabelSet, place: LabelPlace, specs: Mapping[str, Column]) -> dict[str, Any]:
    """Return what a file of labels says of itself, as in `labels.schema.json`."""
    return {
        "label_set": label_set.name,
        "dataset": place.dataset,
        "model": label_set.model,
        "trained_on": label_set.trained_on,
        "preprocessing": label_set.preprocessing,
        "parameters": dict(label_set.parameters),
        "recipe": label_set.recipe,
        "read": place.read,
        "columns": [column_to_json(specs[name]) for name in sorted(specs)],
    }


def write_label_shard(objects: Objects, label_set: LabelSet, place: LabelPlace, labelled: Sequence[LabelledEpisode]) -> list[Row]:
    """Write the labels of some episodes of one dataset as a shard, and return their catalog rows, which nothing points to until they are committed.

    The same labels give the same bytes. Every episode has the same labelled columns; an interval or a confidence that one lacks is null there.

    Raises:
        ValueError: no episode, or episodes whose columns differ.
        UsageError: the parameters are not JSON.
    """
    if not labelled:
        raise ValueError("labels: a shard must hold an episode, got none")
    specs = dict(labelled[0].labels.specs)
    specs = {name: specs[name] for name in sorted(labelled[0].labels.columns)}
    for episode in labelled:
        if {name: episode.labels.specs[name] for name in sorted(episode.labels.columns)} != specs:
            raise ValueError(
                f"labels of episode {episode.episode_id}: must have the columns of the shard, {', '.join(specs)}, and mean the same; use another shard"
            )
    document = label_document(label_set, place, specs)
    problems = validate("labels", document)
    if problems:
        raise UsageError(f"label set {label_set.name!r}: must be described as in schemas/v1/labels.schema.json, got {'; '.join(problems[:3])}")
    try:
        said = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"label set {label_set.name!r}: parameters must be JSON, got {error}; leave out what is not finite or no plain value") from None
    data = _file(specs, said, labelled)
    folder = layout.label_prefix(label_set.name, place.shard)
    objects.put(f"{folder}/{layout.LABEL_FILE}", data)
    shard = {
        "shard": place.shard,
        "dataset": place.dataset,
        "job": place.job,
        "format_version": layout.FORMAT_VERSION,
        "files": [{"path": layout.LABEL_FILE, "size": len(data), "crc32c": f"{google_crc32c.value(data):08x}"}],
        "episodes": len(labelled),
        "created_ns": time.time_ns(),
    }
    objects.put(f"{folder}/{layout.SHARD}", json.dumps(shard, indent=1).encode())
    return [_row(label_set, place, ordinal, episode, size) for ordinal, (episode, size) in enumerate(zip(labelled, _group_bytes(data), strict=True))]


def _file(specs: Mapping[str, Column], document: str, labelled: Sequence[LabelledEpisode]) -> bytes:
    fields = [pa.field("episode_id", pa.string()), pa.field("step", pa.int64())]
    for name, spec in specs.items():
        values = arrow_numbers(np.zeros((0, *_sizes(spec)), dtype=spec.dtype), None).type
        fields.append(pa.field(name, values))
        if any(name in episode.labels.low for episode in labelled):
            fields += [pa.field(name + LOW, values), pa.field(name + HIGH, values)]
        if any(name in episode.labels.confidence for episode in labelled):
            fields.append(pa.field(name + CONFIDENCE, pa.float32()))
    schema = pa.schema(fields).with_metadata({DOCUMENT: document})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **WRITER) as writer:
        for episode in labelled:
            writer.write_table(_table(schema, episode), row_group_size=max(1, episode.labels.steps))
    return bytes(sink.getvalue())


def _table(schema: pa.Schema, episode: LabelledEpisode) -> pa.Table:
    labels = episode.labels
    there: dict[str, pa.Array] = {
        "episode_id": pa.array([episode.episode_id] * labels.steps, pa.string()),
        "step": pa.array(np.arange(labels.steps, dtype=np.int64)),
    }
    for name, values in labels.columns.items():
        valid = labels.valid[name]
        there[name] = arrow_numbers(values, valid)
        for suffix, ends in ((LOW, labels.low), (HIGH, labels.high)):
            if name in ends:
                there[name + suffix] = arrow_numbers(ends[name], valid)
        if name in labels.confidence:
            said = labels.confidence[name]
            there[name + CONFIDENCE] = pa.array(said, mask=np.isnan(said))
    return pa.table([there.get(field.name, pa.nulls(labels.steps, field.type)) for field in schema], schema=schema)


def _sizes(spec: Column) -> tuple[int, ...]:
    return tuple(int(size) for size in spec.shape if size is not None)


def _group_bytes(data: bytes) -> list[int]:
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [sum(group.column(column).total_compressed_size for column in range(group.num_columns)) for group in groups]


def _row(label_set: LabelSet, place: LabelPlace, ordinal: int, episode: LabelledEpisode, size: int) -> Row:
    labels = episode.labels
    columns: dict[str, dict[str, Any]] = {}
    for name in sorted(labels.columns):
        columns[name] = {"labelled": int(labels.valid[name].sum()), "source": labels.specs[name].action_source}
        said = labels.confidence.get(name, np.zeros(0, dtype=np.float32))
        there = said[~np.isnan(said)].astype(np.float64)
        if len(there):
            columns[name] |= {"confidence_mean": round(float(there.mean()), 6), "confidence_min": round(float(there.min()), 6)}
    summary = {"recipe": label_set.recipe, "read": place.read, "steps": labels.steps, "columns": columns}
    return {
        "kind": "label",
        "dataset": place.dataset,
        "fact": label_fact(label_set.name, episode.episode_id),
        "episode_id": episode.episode_id,
        "reading": episode.reading,
        "label_set": label_set.name,
        "model": label_set.model,
        "trained_on": label_set.trained_on,
        "address": f"{place.shard}/{ordinal}",
        "bytes": size,
        "summary": json.dumps(summary, sort_keys=True, separators=(",", ":")),
    }


@dataclass(frozen=True)
class LabelFile:
    """What a file of labels says of itself: the label set, the version that was read, and the labelled columns."""

    label_set: LabelSet
    dataset: str
    read: int | None
    columns: Mapping[str, Column]


def label_key(label_set: str, address: str) -> tuple[str, int]:
    """Return the file and the row group that a label's address names; raise CorruptStore."""
    shard, _, ordinal = address.rpartition("/")
    if not shard or "/" in shard or shard in (".", "..") or not ordinal.isdecimal():
        raise CorruptStore(f"label set {label_set!r}: expected an address `<shard>/<row group>`, found {address!r}; restore the catalog from a copy")
    return f"{layout.label_prefix(label_set, shard)}/{layout.LABEL_FILE}", int(ordinal)


def parse_label_file(schema: pa.Schema, where: str) -> LabelFile:
    """Return what a file of labels says of itself, given its schema; raise CorruptStore."""
    document = json.loads((schema.metadata or {}).get(DOCUMENT, b"null"))
    problems = validate("labels", document)
    if problems:
        raise CorruptStore(f"{where}: expected a description as in schemas/v1/labels.schema.json, found {'; '.join(problems[:3])}; restore it from a copy")
    made = LabelSet(document["label_set"], document["model"], document["trained_on"], document["preprocessing"], document["parameters"])
    columns = {content["name"]: column_from_json(content, where) for content in document["columns"]}
    return LabelFile(made, document["dataset"], document["read"], columns)


class LabelsFile:
    """A file of labels that is open, so that several episodes are read at the cost of one footer; remote ones by ranges, unless `whole`.

    Raises:
        CorruptStore: it says nothing of itself that can be understood.
        FileNotFoundError, OSError, ArrowException: it is gone or damaged; wrap in `naming_damage`.
    """

    def __init__(self, objects: Objects, key: str, whole: bool = False) -> None:
        local = objects.local(key)
        source: Any = local if local is not None else io.BytesIO(objects.get(key)) if whole else objects.open(key)
        self.where = f"{objects.url}/{key}"
        self._file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        self.about = parse_label_file(self._file.schema_arrow, self.where)

    def labels(self, ordinal: int, episode_id: str, columns: Collection[str] | None = None) -> Labels:
        """Return the labels of one episode: row group `ordinal`, all labelled columns or those that are named.

        Raises:
            CorruptStore: another episode stands there, or none.
            UsageError: a column is not labelled.
        """
        about, names = self.about, self._file.schema_arrow.names
        if not 0 <= ordinal < self._file.num_row_groups:
            raise CorruptStore(f"{self.where}: expected a row group {ordinal}, found {self._file.num_row_groups} of them; restore the file from a copy")
        unknown = sorted(set(columns or ()) - set(about.columns))
        if unknown:
            raise UsageError(f"label set {about.label_set.name!r}: has no column {unknown[0]!r}; columns: {', '.join(about.columns)}")
        wanted = [name for name in about.columns if columns is None or name in columns]
        needed = [name + suffix for name in wanted for suffix in ("", LOW, HIGH, CONFIDENCE) if name + suffix in names]
        table = self._file.read_row_group(ordinal, columns=["episode_id", *needed], use_threads=False)
        found = set(table["episode_id"].to_pylist())
        if found - {episode_id}:
            raise CorruptStore(f"{self.where}: expected labels of {episode_id} in row group {ordinal}, found those of {', '.join(sorted(map(str, found)))}")
        return _labels(table, about, wanted)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def describe_labels(objects: Objects, key: str) -> LabelFile:
    """Return what a file of labels says of itself; raise CorruptStore where it is gone or damaged."""
    with naming_damage(objects, key, "labels"), closing(LabelsFile(objects, key)) as file:
        return file.about


def read_label_group(objects: Objects, key: str, ordinal: int, episode_id: str, columns: Collection[str] | None = None) -> Labels:
    """Read the labels of one episode: row group `ordinal` of a file, all labelled columns or those that are named.

    Raises:
        CorruptStore: the file is gone or damaged, or holds another episode there.
        UsageError: a column is not labelled.
    """
    with naming_damage(objects, key, "labels"), closing(LabelsFile(objects, key, whole=True)) as file:
        return file.labels(ordinal, episode_id, columns)


def _labels(table: pa.Table, about: LabelFile, wanted: Sequence[str]) -> Labels:
    values: dict[str, Array] = {}
    valid: dict[str, Array] = {}
    ends: dict[str, dict[str, Array]] = {LOW: {}, HIGH: {}}
    confidence: dict[str, Array] = {}
    for name in wanted:
        spec = about.columns[name]
        column = table[name].combine_chunks()
        values[name], valid[name] = _numbers(column, spec), present(column)
        for suffix, group in ends.items():
            if name + suffix in table.column_names:
                column = table[name + suffix].combine_chunks()
                group[name] = _numbers(column, spec)
        if name + CONFIDENCE in table.column_names:
            confidence[name] = plain(table[name + CONFIDENCE].combine_chunks(), np.nan).astype(np.float32, copy=False)
    specs = {name: about.columns[name] for name in wanted}
    return Labels(values, specs, valid, ends[LOW], ends[HIGH], confidence, about.label_set, about.read)


def _numbers(column: pa.Array, spec: Column) -> Array:
    """Return numbers of the column's own dtype and shape, zeros where there are none."""
    if not present(column).any():
        return np.zeros((len(column), *_sizes(spec)), dtype=spec.dtype)
    return numbers(column, _sizes(spec)).astype(spec.dtype, copy=False)
