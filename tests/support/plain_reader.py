"""Reads a local store by the words of `schemas/README.md` alone, with deltalake, pyarrow and zarr: nothing of `dataengine.store` is used.

`faults(root)` says where a store is not what the format says; `read_episode` follows §11 of the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from deltalake import DeltaTable

from dataengine.core.digest import digest_json
from dataengine.schema.arrow import catalog_schema, index_schema, media_index_schema
from dataengine.schema.schema import validate
from dataengine.schema.tables import row_problems

NO_TIME = -(2**63)


def documents(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kind and path of every JSON document of a store that has a schema."""
    yield "store", root / "store.json"
    for kind, pattern in (("version", "versions/*.json"), ("tag", "tags/*.json"), ("job", "jobs/*.json"), ("features", "datasets/*/*.json")):
        for path in sorted(root.glob(pattern)):
            yield kind, path
    for path in sorted([*root.glob("streams/*/*/shard.json"), *root.glob("labels/*/*/shard.json")]):
        yield "shard", path


def catalog_rows(root: Path, version: int | None = None) -> list[dict[str, Any]]:
    """Return the rows of a version (§5), by default of the newest."""
    number = version if version is not None else max(int(path.stem) for path in (root / "versions").glob("*.json"))
    named = json.loads((root / "versions" / f"{number}.json").read_text())
    rows: list[dict[str, Any]] = DeltaTable(root / "catalog", version=named["catalog_version"]).to_pyarrow_table().to_pylist()
    limits = named["open_jobs"]
    return [row for row in rows if row["job_commit"] <= limits.get(row["job"], row["job_commit"])]


def _schema_faults(where: str, found: pa.Schema, expected: pa.Schema) -> Iterator[str]:
    for field in expected:
        if field.name not in found.names:
            yield f"{where}: column {field.name} is absent"
        elif found.field(field.name).type.to_pandas_dtype() != field.type.to_pandas_dtype():
            yield f"{where}: column {field.name} must be {field.type}, is {found.field(field.name).type}"
    yield from (f"{where}: {name} is no column of it" for name in found.names if name not in expected.names)


def _document_faults(root: Path) -> Iterator[str]:
    for kind, path in documents(root):
        document = json.loads(path.read_text())
        where = path.relative_to(root).as_posix()
        yield from (f"{where}: {problem}" for problem in validate(kind, document))
        if kind == "features" and path.stem != digest_json(document):
            yield f"{where}: is not named by its digest {digest_json(document)}"
        if kind == "shard":
            yield from (f"{where}: {fault}" for fault in _file_faults(path.parent, document["files"]))


def _file_faults(folder: Path, files: list[dict[str, Any]]) -> Iterator[str]:
    for file in files:
        path = folder / file["path"]
        data = path.read_bytes() if path.is_file() else None
        if data is None or len(data) != file["size"] or f"{google_crc32c.value(data):08x}" != file["crc32c"]:
            yield f"{file['path']}: is {'absent' if data is None else 'not what was written'}"
    listed = {file["path"] for file in files} | {"shard.json"}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    yield from (f"{name}: is not listed" for name in sorted(present - listed))


def _index_faults(root: Path, rows: list[dict[str, Any]]) -> Iterator[str]:
    for path in sorted(root.glob("streams/*/*/index.parquet")):
        where = path.relative_to(root).as_posix()
        table = pq.read_table(path)
        yield from _schema_faults(where, table.schema, index_schema())
        yield from (f"{where}: {problem}" for row in table.to_pylist() for problem in row_problems(row, "index"))
    for path in sorted([*root.glob("media/*.index.parquet"), *root.glob("streams/*/*/videos/*.index.parquet")]):
        yield from _schema_faults(path.relative_to(root).as_posix(), pq.read_schema(path), media_index_schema())
    for row in rows:
        if row["kind"] == "episode":
            for part in (
                f"streams/{row['dataset']}/{row['shard']}/shard.json",
                f"steps/{row['dataset']}/{row['shard']}.parquet",
                f"datasets/{row['dataset']}/{row['features']}.json",
            ):
                if not (root / part).is_file():
                    yield f"episode {row['episode_id']}: {part} is absent"
    for row in rows:
        if row["kind"] == "label":
            yield from _label_faults(root, row)


def _label_faults(root: Path, row: dict[str, Any]) -> Iterator[str]:
    """Check the file that a label's row names (§10)."""
    shard, _, group = row["address"].partition("/")
    where = f"labels/{row['label_set']}/{shard}/labels.parquet"
    if not (root / where).is_file():
        yield f"label of {row['episode_id']}: {where} is absent"
        return
    file = pq.ParquetFile(root / where)
    document = json.loads(file.schema_arrow.metadata[b"labels"])
    yield from (f"{where}: {problem}" for problem in validate("labels", document))
    if document["recipe"] != digest_json([document["model"], document["trained_on"], document["preprocessing"], document["parameters"]]):
        yield f"{where}: the recipe is not the digest of what it should be"
    if any(document[name] != row[name] for name in ("label_set", "dataset", "model", "trained_on")):
        yield f"{where}: is of another label set, dataset or model than its row"
    table = file.read_row_group(int(group))
    if set(table["episode_id"].to_pylist()) - {row["episode_id"]} or table["step"].to_pylist() != list(range(len(table))):
        yield f"{where}: row group {group} is not of {row['episode_id']}, step by step"
    names = {"episode_id", "step"}
    for column in document["columns"]:
        names |= {column["name"], *(column["name"] + suffix for suffix in (".low", ".high", ".confidence"))}
    yield from (f"{where}: {name} is no column of it" for name in file.schema_arrow.names if name not in names)


def faults(root: Path) -> list[str]:
    """Return where the newest version of a local store is not what `schemas/README.md` says, one sentence each."""
    rows = catalog_rows(root)
    found = [*_document_faults(root), *_index_faults(root, rows)]
    found += [f"catalog: {row['kind']} {row['fact']}: {problem}" for row in rows for problem in row_problems(row)]
    found += list(_schema_faults("catalog", pa.schema(DeltaTable(root / "catalog").schema().to_arrow()), catalog_schema()))
    names = [(row["kind"], row["dataset"], row["fact"]) for row in rows]
    found += [f"catalog: {name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
    return found


@dataclass(frozen=True, eq=False)
class PlainStream:
    """A stream as the format has it: `rows` is an array of numbers, a list of bytes, or (file, track, first frame, frames)."""

    rows: Any
    timestamps_ns: np.ndarray[Any, Any] | None
    encodings: tuple[str, ...] = ()


def read_episode(root: Path, row: dict[str, Any]) -> dict[str, PlainStream]:
    """Return the native streams of the episode that a catalog row names."""
    folder = root / "streams" / row["dataset"] / row["shard"]
    streams = {}
    for entry in pq.read_table(folder / "index.parquet").to_pylist():
        if entry["episode_id"] != row["episode_id"] or entry["ordinal"] != row["ordinal"]:
            continue
        group = zarr.open_group(folder / entry["array"], mode="r") if entry["array"] else None
        first, last = entry["row_start"], entry["row_end"]
        times = None
        if entry["clock"] is not None and group is not None:
            times = np.asarray(group["timestamps_ns"][first:last])
        encodings: tuple[str, ...] = ()
        rows: Any
        if entry["kind"] == "array":
            rows = np.asarray(group["values"][first:last])
        elif entry["kind"] == "items":
            offsets = np.asarray(group["offsets"][first : last + 1])
            data = bytes(np.asarray(group["data"][int(offsets[0]) : int(offsets[-1])]))
            rows = [data[a:b] for a, b in zip(offsets[:-1] - offsets[0], offsets[1:] - offsets[0], strict=True)]
            encodings = tuple(group.attrs["encodings"][code] for code in group["encoding"][first:last])
        else:
            media = root / entry["media"] if entry["media"].startswith("media/") else folder / entry["media"]
            rows = (media, entry["track"], entry["first_frame"], entry["frames"])
        streams[entry["stream"]] = PlainStream(rows, times, encodings)
    return streams


def read_steps(root: Path, row: dict[str, Any]) -> pa.Table:
    """Return the trajectory of the episode that a catalog row names."""
    return pq.ParquetFile(root / "steps" / row["dataset"] / f"{row['shard']}.parquet").read_row_group(row["ordinal"])


def read_labels(root: Path, row: dict[str, Any], version: int | None = None) -> dict[str, pa.Table]:
    """Return the labels of the episode that a catalog row names, by label set."""
    found = {}
    for label in catalog_rows(root, version):
        if label["kind"] == "label" and all(label[name] == row[name] for name in ("dataset", "episode_id", "reading")):
            shard, _, group = label["address"].partition("/")
            found[label["label_set"]] = pq.ParquetFile(root / "labels" / label["label_set"] / shard / "labels.parquet").read_row_group(int(group))
    return found
