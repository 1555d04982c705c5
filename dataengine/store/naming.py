"""Naming versions: what of the catalog belongs to one, and giving the next its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import google_crc32c
import polars as pl
from deltalake import DeltaTable

from dataengine.core.errors import AlreadyThere
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.jobs import read_job
from dataengine.store.refs import Version, latest_version, put_version

COMPACT_ABOVE_FILES = 50


@dataclass(frozen=True)
class JobEnd:
    """What a job has done at its end: how many commits, to which datasets, and the last commits of other jobs that it left something out for."""

    commits: int
    datasets: frozenset[str]
    relied: Mapping[str, int]


def open_jobs(catalog: Catalog, table: DeltaTable, before: Version | None, job: str) -> dict[str, int]:
    """Return the jobs that have rows in the table but named no version, each with the last of its commits that the version before shows.

    A job that was killed after it had named its version, and before it could say that it ended, is one whose rows the version before does not hide.
    """
    jobs = set(catalog.scan(table=table).select("job").unique().collect()["job"])
    shown = before.open_jobs if before is not None else {}
    silent = [other for other in sorted(jobs) if other != job and not _says_it_ended(catalog.objects, other)]
    whole: set[str] = set()
    if before is not None and any(other not in shown for other in silent):
        whole = set(catalog.scan(before.catalog_version).select("job").unique().collect()["job"]) - set(shown)
    return {other: shown.get(other, 0) for other in silent if other not in whole}


def _replacing(catalog: Catalog, frame: pl.LazyFrame, before: Version | None, hidden: Mapping[str, int]) -> dict[str, int]:
    """Return the last commits in which jobs that have not ended replaced what the version before shows.

    They are shown, though the jobs are not whole: were they hidden, what they replaced would be in no version until somebody runs the jobs again.
    """
    if before is None or not hidden:
        return {}
    sources = pl.col("kind") == "source"
    rows = frame.filter(sources & pl.col("job").is_in(sorted(hidden))).select("dataset", "fact", "job", "job_commit").collect()
    late = {(dataset, fact): (job, commit) for dataset, fact, job, commit in rows.iter_rows() if commit > hidden[job]}
    if not late:
        return {}
    shown = visible(catalog.scan(before.catalog_version), before).filter(sources & pl.col("fact").is_in(sorted({fact for _, fact in late})))
    found: dict[str, int] = {}
    for dataset, fact in shown.select("dataset", "fact").collect().iter_rows():
        if (dataset, fact) in late:
            job, commit = late[dataset, fact]
            found[job] = max(found.get(job, 0), commit)
    return found


def _says_it_ended(objects: Objects, job: str) -> bool:
    record = read_job(objects, job)
    return record is not None and record.state == "ended"


def name_version(objects: Objects, job: str, command: str, config_digest: str, counts: Mapping[str, Any], relied: Mapping[str, int]) -> Version:
    """Name the state of the catalog as the next version.

    Jobs that have rows but have not ended stay hidden in it, except for the commits that some ended job relies on.
    """
    catalog = Catalog(objects)
    while True:
        before = latest_version(objects)
        table = catalog.table()
        frame = catalog.scan(table=table)
        hidden = open_jobs(catalog, table, before, job)
        for other, commit in (*relied.items(), *_replacing(catalog, frame, before, hidden).items()):
            if other in hidden:
                hidden[other] = max(hidden[other], commit)
        version = Version(before.number + 1 if before is not None else 1, int(table.version()), job, command, config_digest, {}, hidden)
        episodes = visible(frame, version).filter(pl.col("kind") == "episode")
        totals = episodes.select(pl.len().alias("episodes"), pl.col("steps").sum()).collect()
        whole = {"episodes": int(totals["episodes"][0]), "steps": int(totals["steps"][0] or 0), **counts}
        try:
            return put_version(objects, replace(version, counts=whole), _new_checksums(catalog, table, before))
        except AlreadyThere:
            continue  # another job ended first: what it landed is part of this version too


def end_job(catalog: Catalog, job: str, command: str, config_digest: str, counts: Mapping[str, Any], done: JobEnd) -> Version | None:
    """Merge small files and name the version that a job's end makes. Return the newest version where the job changed nothing, None for a store that has none."""
    before = latest_version(catalog.objects)
    hidden = open_jobs(catalog, catalog.table(), before, job) if done.relied else {}
    new_relied = {other: number for other, number in done.relied.items() if other in hidden and number > hidden[other]}
    if done.commits == 0 and not new_relied:
        return before
    crowded = [name for name in done.datasets if len(catalog.table().file_uris(file_pruning_predicate=[("dataset", "=", name)])) > COMPACT_ABOVE_FILES]
    catalog.compact(crowded)
    return name_version(catalog.objects, job, command, config_digest, counts, new_relied)


def _new_checksums(catalog: Catalog, table: DeltaTable, before: Version | None) -> dict[str, str]:
    """Return the crc32c of each data file of the table that the table of the version before did not have, by its path below catalog/."""
    known = set(catalog.table(before.catalog_version).file_uris()) if before is not None else set()
    paths = sorted(unquote(uri.split(f"/{layout.CATALOG}/")[-1]) for uri in set(table.file_uris()) - known)
    return {path: f"{google_crc32c.value(catalog.objects.get(f'{layout.CATALOG}/{path}')):08x}" for path in paths}


def visible(frame: pl.LazyFrame, version: Version | None) -> pl.LazyFrame:
    """Return the rows of a catalog frame that are part of a version."""
    if version is None:
        return frame
    for job, number in version.open_jobs.items():
        frame = frame.filter(~((pl.col("job") == job) & (pl.col("job_commit") > number)))
    return frame
