"""Where an episode comes from: the item it was read from and how, by which job, the versions that show it, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dataengine.store.jobs import read_job
from dataengine.store.refs import Version, read_version, version_numbers
from dataengine.store.row import Row
from dataengine.store.store import Store
from dataengine.versions.table_files import read_columns, table_files

MAX_PARENTS = 1000
ORIGIN = (
    "dataset",
    "episode_id",
    "origin",
    "reader",
    "reader_version",
    "reading",
    "source_uri",
    "source_key",
    "fingerprint",
    "licence",
    "consent",
    "job",
    "created_ns",
)


@dataclass(frozen=True)
class Lineage:
    """What is known of an episode's origin.

    `origin` are the row's own fields; `command` the command of the job that landed it, None where neither its version nor its record is there any more.
    `first_version` is the oldest kept version that shows the episode, `versions` all of them. `parents` are the rows' fields of what it was made
    from, the nearest first (empty for a recording). `labels` names each label set of it with its model.
    """

    origin: Mapping[str, Any]
    command: str | None
    first_version: int | None
    versions: tuple[int, ...]
    parents: tuple[Mapping[str, Any], ...] = ()
    labels: tuple[Mapping[str, Any], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            **self.origin,
            "command": self.command,
            "first_version": self.first_version,
            "versions": list(self.versions),
            "parents": [dict(parent) for parent in self.parents],
            "labels": [dict(label) for label in self.labels],
        }


def lineage(store: Store, episode_id: str) -> Lineage:
    """Return where an episode comes from; raise EpisodeNotFound."""
    row = store.row(episode_id)
    kept = [read_version(store.objects, number) for number in version_numbers(store.objects)]
    showing = _versions_showing(store, row, kept)
    named = next((version.command for version in kept if version.job == row["job"]), None)
    record = read_job(store.objects, row["job"]) if named is None else None
    labels = (
        store.rows("label")
        .filter((pl.col("episode_id") == row["episode_id"]) & (pl.col("dataset") == row["dataset"]))
        .select("label_set", "model", "trained_on", "reading", "job")
        .sort("label_set")
        .collect()
    )
    return Lineage(
        _origin(row),
        record.command if record is not None else named,
        showing[0] if showing else None,
        tuple(showing),
        tuple(_origin(parent) for parent in _parents(store, row)),
        tuple(labels.iter_rows(named=True)),
    )


def _origin(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ORIGIN}


def _versions_showing(store: Store, row: Row, kept: list[Version]) -> list[int]:
    """Return the versions in which the episode is, from the catalog's files and how long each was in use: no version is opened."""
    files = [file for file in table_files(store.objects)[0] if (file.kind, file.dataset) == ("episode", row["dataset"])]
    rows = read_columns(store.objects, files, ["episode_id", "job", "job_commit"]).filter(pl.col("episode_id") == row["episode_id"])
    by_key = {file.key: file for file in files}
    found = [(by_key[file], job, commit) for file, job, commit in rows.select("file", "job", "job_commit").iter_rows()]
    return [
        version.number
        for version in kept
        if any(file.used_at(version.catalog_version) and commit <= version.open_jobs.get(job, commit) for file, job, commit in found)
    ]


def _parents(store: Store, row: Row) -> list[Row]:
    """Return the rows that a synthetic episode was made from, the nearest first; one that is not in this version ends the chain."""
    found: list[Row] = []
    seen = {row["episode_id"]}
    parent = row["parent"]
    while parent is not None and parent not in seen and len(found) < MAX_PARENTS:
        seen.add(parent)
        rows = store.episodes().filter(pl.col("episode_id") == parent).head(1).collect()
        if not rows.height:
            break
        found.append(rows.row(0, named=True))
        parent = found[-1]["parent"]
    return found
