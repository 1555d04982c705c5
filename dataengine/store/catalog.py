"""The catalog: one append-only Delta table of facts, the only truth about what a store holds.

A commit carries two Delta transactions: one of the job, so that a job that was declared dead can never commit again, and one of each
dataset it touches, so that of two writers that looked at the same state only one gets through and the other looks again. Inserting
only what is absent is therefore exact although plain appends never conflict in Delta Lake.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from dataengine.core.arrays import Array
from dataengine.core.errors import CommitConflict, NotAStore, StoreError
from dataengine.core.objects import Objects, storage_options
from dataengine.schema.arrow import catalog_schema
from dataengine.store import layout
from dataengine.store.removed import purged_episodes
from dataengine.store.row import Row

FOREVER = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
# Smallest and largest values stand in the log beside each data file, and the log is never rewritten: so only of columns that hold nothing personal.
STATISTICS = {"delta.dataSkippingStatsColumns": "fact,episode_id,job,job_commit"}
ENDED = 2**62
ATTEMPTS = 200


def rows_table(rows: Sequence[Row]) -> pa.Table:
    """Return catalog rows as an Arrow table; columns that a row does not name are null."""
    schema = catalog_schema()
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise ValueError(f"catalog rows have columns that the schema does not: {sorted(unknown)}")
    return pa.Table.from_pydict({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)


@dataclass
class Change:
    """What one commit does.

    `rows` are facts that are not there yet. `updated` are facts that take the place of those with the same (kind, dataset, fact);
    `gone` names facts that are taken out, as (kind, dataset, fact). All of it happens in one commit.
    """

    rows: list[Row]
    updated: list[Row] = field(default_factory=list)
    gone: list[tuple[str, str, str]] = field(default_factory=list)


class KnownIds:
    """The episode ids of one dataset, kept up with the table by reading only files that are new.

    Purged episodes count as known in every dataset, so that none of them lands again. Jobs and a purge never run at the same time.
    """

    def __init__(self) -> None:
        self.purged: frozenset[str] | None = None
        self._files: set[str] = set()
        self._ids: Array = np.zeros(0, dtype="S32")
        self._recent: set[bytes] = set()

    def update(self, catalog: Catalog, table: DeltaTable, dataset: str) -> None:
        """Read the ids of data files that were not there before."""
        if self.purged is None:
            self.purged = frozenset(purged_episodes(catalog.objects))
        files = [path for path in catalog.data_files(table, "episode", dataset) if path not in self._files]
        if not files:
            return
        ids = pl.scan_parquet(files, storage_options=storage_options(catalog.objects)).select("episode_id").collect()["episode_id"]
        self._files.update(files)
        fresh = {value.encode() for value in ids}
        if len(fresh) < 100_000 and len(self._recent) < 200_000:
            self._recent |= fresh
        else:
            self._ids = np.unique(np.concatenate([self._ids, np.array(sorted(fresh | self._recent), dtype="S32")]))
            self._recent = set()

    def __contains__(self, episode_id: str) -> bool:
        key = episode_id.encode()
        if key in self._recent or episode_id in (self.purged or ()):
            return True
        at = int(np.searchsorted(self._ids, key))
        return at < len(self._ids) and bool(self._ids[at] == key)


class _LocalTable(DeltaTable):
    """A table in a folder: its file names as the file system has them. The library gives them percent-encoded, so that a folder "a b" would not be found."""

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        return [unquote(uri) for uri in super().file_uris(*args, **kwargs)]


class Catalog:
    """The Delta table of a store."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.uri = f"{objects.url}/{layout.CATALOG}"

    def create(self) -> None:
        """Create the table unless it is there."""
        if DeltaTable.is_deltatable(self.uri, storage_options=storage_options(self.objects)):
            return
        DeltaTable.create(
            self.uri,
            schema=catalog_schema(),
            mode="ignore",
            partition_by=["kind", "dataset"],
            configuration={**FOREVER, **STATISTICS, "delta.checkpointInterval": "100"},
            storage_options=storage_options(self.objects),
        )

    def table(self, version: int | None = None) -> DeltaTable:
        """Open the table at a commit, by default the newest."""
        try:
            kind = DeltaTable if self.objects.local("") is None else _LocalTable
            return kind(self.uri, version=version, storage_options=storage_options(self.objects))
        except TableNotFoundError:
            raise NotAStore(f"{self.objects.url}: holds no catalog; expected a store that `dataengine ingest` made") from None
        except DeltaError as error:
            said = str(error).strip().split("\n")[0]
            raise StoreError(f"{self.uri}: expected a Delta table, found one that cannot be opened ({said}); restore its log from a copy") from None

    def data_files(self, table: DeltaTable, kind: str, dataset: str) -> list[str]:
        """Return the addresses of the data files of one partition."""
        return list(table.file_uris(file_pruning_predicate=[("kind", "=", kind), ("dataset", "=", dataset)]))

    def scan(self, version: int | None = None, table: DeltaTable | None = None) -> pl.LazyFrame:
        """Return all rows at a commit, lazily."""
        table = table or self.table(version)
        if not table.file_uris():
            return empty_frame()
        return pl.scan_delta(table, storage_options=storage_options(self.objects))

    def commit(self, job: str, number: int, datasets: Iterable[str], decide: Callable[[DeltaTable], Change], label_set: str | None = None) -> int:
        """Commit what `decide` returns for the newest state of the table, again and again until no other writer was faster.

        Args:
            job: the committing job.
            number: its commit number, ascending from 1; a job that has been ended, or a number that is there already, is refused.
            datasets: the datasets whose state the decision depends on.
            decide: looks at the table and returns the rows to add.
            label_set: the label set whose state the decision depends on, in whatever dataset.

        Returns:
            The table's new version.

        Raises:
            StoreError: the job was declared dead by somebody else.
            CommitConflict: other writers were faster every time.
        """
        names = sorted(set(datasets))
        for attempt in range(ATTEMPTS):
            table = self.table()
            last = table.transaction_version(job) or 0
            if last >= number:
                if last >= ENDED > number:
                    raise StoreError(f"job {job}: was ended by another process, since it had fallen silent; run the command again")
                return int(table.version())
            change = decide(table)
            transactions = [Transaction(job, number)]
            shared = [f"dataset/{name}" for name in names] + ([] if label_set is None else [f"label-set/{label_set}"])
            transactions += [Transaction(name, (table.transaction_version(name) or 0) + 1) for name in shared]
            properties = CommitProperties(app_transactions=transactions, custom_metadata={"job": job})
            try:
                if change.updated or change.gone:
                    _merge(table, change, properties)
                else:
                    write_deltalake(table, rows_table(change.rows), mode="append", commit_properties=properties)
            except CommitFailedError:
                time.sleep(random.uniform(0.0, min(1.0, 0.01 * 2 ** min(attempt, 7))))
                continue
            return int(self.table().version())
        raise CommitConflict(f"{self.uri}: other writers committed first {ATTEMPTS} times in a row; run the command again")

    def end(self, job: str) -> None:
        """Make sure that a job can never commit again."""
        self.commit(job, ENDED, (), lambda table: Change([]))

    def compact(self, datasets: Iterable[str]) -> None:
        """Merge the small files of the datasets' partitions; a concurrent writer makes it give up, which costs nothing but speed."""
        for name in sorted(set(datasets)):
            table = self.table()
            try:
                table.optimize.compact(partition_filters=[("dataset", "=", name)])
            except CommitFailedError:
                continue


def empty_frame() -> pl.LazyFrame:
    """Return a frame of catalog rows without any."""
    frame = pl.from_arrow(rows_table([]))
    assert isinstance(frame, pl.DataFrame)
    return frame.lazy()


def _merge(table: DeltaTable, change: Change, properties: CommitProperties) -> None:
    """Add, replace and take out facts in one commit; a fact that goes is marked by a negative `created_ns` in the merge's source."""
    gone = [{"kind": kind, "dataset": dataset, "fact": fact, "job": "", "job_commit": 0, "created_ns": -1} for kind, dataset, fact in change.gone]
    (
        table.merge(
            rows_table([*change.rows, *change.updated, *gone]),
            predicate="t.kind = s.kind AND t.dataset = s.dataset AND t.fact = s.fact",
            source_alias="s",
            target_alias="t",
            commit_properties=properties,
        )
        .when_matched_delete(predicate="s.created_ns < 0")
        .when_matched_update_all()
        .when_not_matched_insert_all(predicate="s.created_ns >= 0")
        .execute()
    )
