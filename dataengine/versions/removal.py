"""Taking episodes or labels out of the next version (`rm`), and bringing an older version's content back (`restore`).

Both are one commit in the catalog's log and a new version; the bytes stay, and so does every older version. A removal leaves the source rows: an
item that was read and has not changed is not read again, so what was removed does not come back by itself. It does come back where a
user asks for it: with another configuration (a new reading), from a file that has changed, from a copy under another name, or by `restore`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from deltalake import DeltaTable

from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.objects import Objects
from dataengine.store.catalog import Catalog, Change
from dataengine.store.naming import name_version, open_jobs, visible
from dataengine.store.query import where as matching
from dataengine.store.refs import OPEN, Version, latest_version, resolve
from dataengine.store.store import Store
from dataengine.versions.writing import writing

FACT = ["kind", "dataset", "fact"]


@dataclass(frozen=True)
class RemovalPlan:
    """What `rm` would take out: episodes as rows {dataset, episode_id, tasks, steps, bytes}, and how many labels go with them."""

    url: str
    version: int
    where: str
    episodes: tuple[dict[str, Any], ...]
    labels: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"store": self.url, "version": self.version, "where": self.where, "episodes": list(self.episodes), "labels": self.labels}


def plan_removal(store: Store, where: str) -> RemovalPlan:
    """Find the episodes of the latest version for which an SQL condition holds.

    Raises:
        UsageError: the condition is none over episode columns, or the store is not open at its latest version.
    """
    latest = latest_version(store.objects)
    if latest is None or store.version is None or store.version.number != latest.number:
        raise UsageError(f"{store.objects.url}: episodes are removed from the latest version only; leave out what follows '@'")
    columns = ["dataset", "episode_id", "tasks", "steps", "bytes"]
    found = matching(store.episodes(), where).select(columns).sort("dataset", "episode_id").collect()
    labels = store.rows("label").select("dataset", "episode_id").collect().join(found, on=["dataset", "episode_id"], how="semi").height
    return RemovalPlan(store.objects.url, latest.number, where, tuple(found.iter_rows(named=True)), labels)


def remove(objects: Objects, plan: RemovalPlan, command: str) -> Version:
    """Take the planned episodes out, with their labels, and name a version; an episode that is gone already is no error.

    Raises:
        UsageError: the plan names no episode.
    """
    if not plan.episodes:
        raise UsageError(f"{objects.url}: no episode of the latest version is such that {plan.where}; see `dataengine ls --where`")
    wanted = pl.LazyFrame([{"dataset": row["dataset"], "episode_id": row["episode_id"]} for row in plan.episodes])
    datasets = {str(row["dataset"]) for row in plan.episodes}
    catalog = Catalog(objects)
    taken: list[int] = []

    def decide(table: DeltaTable) -> Change:
        rows = catalog.scan(table=table).filter(pl.col("kind").is_in(["episode", "label"]) & pl.col("dataset").is_in(sorted(datasets)))
        gone = rows.join(wanted, on=["dataset", "episode_id"], how="semi").select(FACT).collect()
        taken[:] = [gone.filter(pl.col("kind") == "episode").height]
        return Change([], [], list(gone.iter_rows()))

    with writing(objects, command) as job:
        catalog.commit(job, 1, datasets, decide)
        return name_version(objects, job, command, digest_json({"where": plan.where}), {"removed": taken[0]}, {})


@dataclass(frozen=True)
class LabelRemovalPlan:
    """What `rm --labels` would take out of the latest version: how many labels of one set of each dataset, of all episodes or of those that match `where`."""

    url: str
    version: int
    label_set: str
    where: str | None
    labels: dict[str, int]
    episodes: frozenset[tuple[str, str]]

    @property
    def count(self) -> int:
        """Return how many labels there are."""
        return sum(self.labels.values())


def plan_label_removal(store: Store, label_set: str, where: str | None = None) -> LabelRemovalPlan:
    """Find the labels of one set, stale ones too, of all episodes or of those for which an SQL condition holds.

    Raises:
        UsageError: no episode has such labels, the condition is none, or the store is not open at its latest version.
    """
    latest = latest_version(store.objects)
    if latest is None or store.version is None or store.version.number != latest.number:
        raise UsageError(f"{store.objects.url}: labels are removed from the latest version only; leave out what follows '@'")
    newest = store.catalog.scan()  # with what jobs that died committed: it holds the name, too
    rows = newest.filter(pl.col("kind") == "label").select("dataset", "episode_id", "label_set").collect()
    found = rows.filter(pl.col("label_set") == label_set)
    if not found.height:
        raise UsageError(f"{store.objects.url}: has no label set {label_set!r}; label sets: {', '.join(sorted(rows['label_set'].unique())) or 'none'}")
    if where is not None:
        found = found.join(matching(store.episodes(), where).select("dataset", "episode_id").collect(), on=["dataset", "episode_id"], how="semi")
    counts = dict(found.group_by("dataset").len().sort("dataset").iter_rows())
    return LabelRemovalPlan(store.objects.url, latest.number, label_set, where, counts, frozenset(found.select("dataset", "episode_id").iter_rows()))


def remove_labels(objects: Objects, plan: LabelRemovalPlan, command: str) -> Version:
    """Take the planned labels out and name a version; older versions keep them.

    A whole set goes with what jobs that died left of it, so that its name is free for another model.

    Raises:
        StoreError: another job is at work: it may be adding labels of this set.
    """
    catalog = Catalog(objects)
    taken: list[int] = []

    def decide(table: DeltaTable) -> Change:
        rows = catalog.scan(table=table).filter((pl.col("kind") == "label") & (pl.col("label_set") == plan.label_set)).select(*FACT, "episode_id").collect()
        gone = [(kind, dataset, fact) for kind, dataset, fact, episode_id in rows.iter_rows() if plan.where is None or (dataset, episode_id) in plan.episodes]
        taken[:] = [len(gone)]
        return Change([], [], gone)

    with writing(objects, command, alone=True) as job:
        catalog.commit(job, 1, set(plan.labels), decide, plan.label_set)
        return name_version(objects, job, command, digest_json({"labels": plan.label_set, "where": plan.where}), {"labels_removed": taken[0]}, {})


def restore(objects: Objects, ref: str, command: str) -> Version:
    """Make a new version with the content of an older one. What was added since is taken out, what was removed or replaced comes back.

    The rows that differ are computed and committed, not the table's state put back: rows of jobs that died stay as they are, hidden until a job
    adopts them, and a job that starts meanwhile decides anew on what it finds.

    Raises:
        StoreError: another job is at work.
        VersionNotFound: no such version.
    """
    if ref == OPEN:
        raise UsageError(f"{objects.url}@{OPEN}: is no version; give a number or a tag")
    wanted = resolve(objects, ref)
    if wanted is None:
        raise UsageError(f"{objects.url}: has no version yet")
    catalog = Catalog(objects)
    then = visible(catalog.scan(wanted.catalog_version), wanted).collect()
    figures: dict[str, int] = {}
    with writing(objects, command, alone=True) as job:

        def decide(table: DeltaTable) -> Change:
            before = latest_version(objects)
            assert before is not None
            hidden = Version(0, int(table.version()), job, open_jobs=open_jobs(catalog, table, before, job))
            now = visible(catalog.scan(table=table), hidden).collect()
            same = _marked(then).join(_marked(now), on=[*FACT, "content"], how="semi")
            back = then.join(same, on=FACT, how="anti")
            gone = now.join(then, on=FACT, how="anti").select(FACT)
            figures.update(restored=wanted.number, back=back.height, gone=gone.height)
            return Change([], back.to_dicts(), list(gone.iter_rows()))

        catalog.commit(job, 1, sorted(set(then["dataset"]) | set(_datasets(catalog))), decide)
        shown = then.group_by("job").agg(pl.col("job_commit").max())
        return name_version(objects, job, command, digest_json({"restore": wanted.number}), figures, dict(shown.iter_rows()))


def _datasets(catalog: Catalog) -> list[str]:
    return catalog.scan().select("dataset").unique().collect()["dataset"].to_list()


def _marked(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows' names and a text of everything they say."""
    return rows.select(*FACT, content=pl.struct(pl.all()).struct.json_encode())
