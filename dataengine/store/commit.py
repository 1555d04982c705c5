"""The committer of a job: what units landed becomes facts, each episode once, in an order that does not depend on who was faster."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from deltalake import DeltaTable

from dataengine.core.column import Column
from dataengine.core.errors import AlreadyThere, StoreError
from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.schema.column_json import features_columns
from dataengine.store import layout
from dataengine.store.catalog import Catalog, Change, KnownIds
from dataengine.store.features import add_columns, dataset_columns, feature_digests, features_conflict
from dataengine.store.naming import JobEnd, end_job
from dataengine.store.outcome import Outcome, Reading, problem_of, reject_row, same_files
from dataengine.store.refs import Version
from dataengine.store.row import Row


@dataclass
class Tally:
    """What a job has done so far; found = landed + skipped + rejected."""

    landed: int = 0
    skipped: int = 0
    rejected: int = 0
    steps: int = 0
    bytes: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)
    datasets: dict[str, dict[str, int]] = field(default_factory=dict)

    def add_to(self, dataset: str, **counts: int) -> None:
        """Add to a dataset's own counts."""
        own = self.datasets.setdefault(dataset, {"landed": 0, "skipped": 0, "rejected": 0, "steps": 0})
        for key, count in counts.items():
            own[key] += count

    @property
    def found(self) -> int:
        """Return how many recordings were found."""
        return self.landed + self.skipped + self.rejected


@dataclass
class _Decision:
    """What one look at the table makes of the outcomes that wait."""

    change: Change
    tally: Tally
    relied: dict[str, int]


def shard_media(objects: Objects, dataset: str, shard: str, purged: Iterable[str] = ()) -> list[str]:
    """Return the keys of the kept video files that a shard's streams refer to, without those of purged episodes."""
    key = f"{layout.shard_prefix(dataset, shard)}/{layout.INDEX}"
    index = pl.read_parquet(objects.get(key), columns=["kind", "media", "episode_id"])
    return sorted(index.filter((pl.col("kind") == "media") & ~pl.col("episode_id").is_in(sorted(purged)))["media"].unique())


class Committer:
    """Commits the outcomes of one job to a store's catalog."""

    def __init__(self, objects: Objects, job: str, command: str, config_digest: str) -> None:
        self.objects, self.job, self.command, self.config_digest = objects, job, command, config_digest
        self.catalog = Catalog(objects)
        self.tally = Tally()
        self.number = 0
        self.datasets: set[str] = set()
        self.relied: dict[str, int] = {}
        self.replaced: frozenset[str] = frozenset()  # episodes that new readings in this job take the place of
        self._waiting: list[Outcome] = []
        self._ids: dict[str, KnownIds] = {}
        self._documents: set[str] = set()
        self._columns: dict[str, dict[str, Column]] = {}
        self.last_commit = time.monotonic()
        self.waiting_bytes = 0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes, in the order of the plan."""
        for outcome in outcomes:
            self._waiting.append(outcome)
            self.waiting_bytes += sum(int(row["bytes"]) for row in outcome.episodes)

    def rely(self, job: str, job_commit: int) -> None:
        """Note that this job left something out because another job's commit holds it already."""
        self.relied[job] = max(self.relied.get(job, 0), job_commit)

    def flush(self) -> None:
        """Commit what waits, in one commit."""
        if not self._waiting:
            return
        outcomes, self._waiting, self.waiting_bytes = self._waiting, [], 0
        self._require_payload(outcomes)
        self._put_documents(outcomes)
        datasets = {str(outcome.source["dataset"]) for outcome in outcomes}
        last: list[_Decision] = []

        def decide(table: DeltaTable) -> Change:
            last[:] = [self._decide(table, outcomes, datasets)]
            return last[0].change

        self.number += 1
        self.catalog.commit(self.job, self.number, datasets, decide)
        self.datasets |= datasets
        self._count(last[0])
        self.last_commit = time.monotonic()

    def _count(self, decision: _Decision) -> None:
        tally, new = self.tally, decision.tally
        tally.landed += new.landed
        tally.skipped += new.skipped
        tally.rejected += new.rejected
        tally.steps += new.steps
        tally.bytes += new.bytes
        tally.problems += new.problems
        tally.rejects += new.rejects
        for dataset, counts in new.datasets.items():
            tally.add_to(dataset, **counts)
        for job, number in decision.relied.items():
            self.rely(job, number)

    def _require_payload(self, outcomes: Iterable[Outcome]) -> None:
        shards = {(str(row["dataset"]), str(row["shard"])) for outcome in outcomes for row in outcome.episodes}
        for dataset, shard in sorted(shards):
            key = f"{layout.shard_prefix(dataset, shard)}/{layout.SHARD}"
            if self.objects.head(key) is None:
                raise StoreError(f"{self.objects.url}/{key}: the shard that this job wrote is gone; run the command again")
            for media in shard_media(self.objects, dataset, shard):
                if self.objects.head(media) is None:
                    raise StoreError(f"{self.objects.url}/{media}: the video that this job refers to is gone; run the command again")

    def _put_documents(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            for digest, document in outcome.features.items():
                key = layout.features_key(str(outcome.source["dataset"]), digest)
                if key in self._documents:
                    continue
                self._documents.add(key)
                try:
                    self.objects.put_if_absent(key, json.dumps(document, indent=1).encode())
                except AlreadyThere:
                    continue

    def _columns_of(self, digest: str, outcome: Outcome) -> dict[str, Column]:
        """Return the columns of a feature document of an outcome, parsed once."""
        if digest not in self._columns:
            self._columns[digest] = features_columns(outcome.features[digest], digest)
        return self._columns[digest]

    def _existing(self, table: DeltaTable, kind: str, datasets: set[str], facts: list[str]) -> dict[tuple[str, str], Row]:
        if not facts:
            return {}
        frame = (
            self.catalog.scan(table=table).filter((pl.col("kind") == kind) & pl.col("dataset").is_in(sorted(datasets)) & pl.col("fact").is_in(facts)).collect()
        )
        return {(row["dataset"], row["fact"]): row for row in frame.iter_rows(named=True)}

    def _decide(self, table: DeltaTable, outcomes: list[Outcome], datasets: set[str]) -> _Decision:
        """Drop what landed meanwhile, merge splits, keep features in accord, and replace what an older reading left."""
        for dataset in datasets:
            self._ids.setdefault(dataset, KnownIds()).update(self.catalog, table, dataset)
        wanted = [str(row["fact"]) for outcome in outcomes for row in outcome.episodes if row["fact"] in self._ids[str(row["dataset"])]]
        wanted += [duplicate.episode_id for outcome in outcomes for duplicate in outcome.duplicates]
        there = self._existing(table, "episode", datasets, wanted)
        sources = self._existing(table, "source", datasets, [str(outcome.source["fact"]) for outcome in outcomes])
        columns = dataset_columns(self.objects, feature_digests(self.catalog, table, datasets, self.replaced))
        addresses = {str(source["source_uri"]) for source in (*(outcome.source for outcome in outcomes), *sources.values())}
        rejected_before = self._rejects_of(table, datasets, addresses)
        decision = _Decision(Change([]), Tally(), {})
        inserts: dict[tuple[str, str], Row] = {}
        updates: dict[tuple[str, str], Row] = {}
        for outcome in outcomes:
            self._decide_one(outcome, decision, there, sources, columns[str(outcome.source["dataset"])], inserts, updates, rejected_before)
        stamp = {"job": self.job, "job_commit": self.number, "created_ns": time.time_ns()}
        change = decision.change
        # An item that was named twice gives the same facts twice: the later ones count.
        change.rows = _once(row | stamp for row in (*inserts.values(), *change.rows))
        change.updated = _once(row | stamp if row.get("job") is None else row for row in (*updates.values(), *change.updated))
        kept = {(row["kind"], row["dataset"], row["fact"]) for row in (*change.rows, *change.updated)}
        kept |= self._claimed(table, datasets, outcomes, change)
        change.gone = [gone for gone in change.gone if gone not in kept]
        return decision

    def _claimed(self, table: DeltaTable, datasets: set[str], outcomes: list[Outcome], change: Change) -> set[tuple[str, str, str]]:
        """Return the episodes that a new reading no longer yields, but another source does: they stay."""
        going = sorted({fact for kind, _, fact in change.gone if kind == "episode"})
        if not going:
            return set()
        read_now = [str(outcome.source["fact"]) for outcome in outcomes]
        others = self.catalog.scan(table=table).filter(
            (pl.col("kind") == "source") & pl.col("dataset").is_in(sorted(datasets)) & ~pl.col("fact").is_in(read_now)
        )
        frame = others.select("dataset", pl.col("episode_ids").alias("id")).explode("id").filter(pl.col("id").is_in(going)).collect()
        claimed = {("episode", dataset, episode_id) for dataset, episode_id in frame.iter_rows()}
        for row in (*change.rows, *change.updated):
            if row["kind"] == "source":
                claimed |= {("episode", row["dataset"], episode_id) for episode_id in row["episode_ids"] or ()}
        return claimed

    def _rejects_of(self, table: DeltaTable, datasets: set[str], uris: set[str]) -> dict[tuple[str, str], list[str]]:
        """Return the facts of the rejects that earlier readings of these items left, by dataset and source."""
        frame = (
            self.catalog.scan(table=table)
            .filter((pl.col("kind") == "reject") & pl.col("dataset").is_in(sorted(datasets)) & pl.col("source_uri").is_in(sorted(uris)))
            .select("dataset", "source_uri", "fact")
            .collect()
        )
        found: dict[tuple[str, str], list[str]] = {}
        for dataset, uri, fact in frame.iter_rows():
            found.setdefault((dataset, uri), []).append(fact)
        return found

    def _decide_one(
        self,
        outcome: Outcome,
        decision: _Decision,
        there: Mapping[tuple[str, str], Row],
        sources: Mapping[tuple[str, str], Row],
        columns: dict[str, Column],
        inserts: dict[tuple[str, str], Row],
        updates: dict[tuple[str, str], Row],
        rejected_before: Mapping[tuple[str, str], list[str]],
    ) -> None:
        change, tally = decision.change, decision.tally
        dataset, uri = str(outcome.source["dataset"]), str(outcome.source["source_uri"])
        before = sources.get((dataset, str(outcome.source["fact"])))
        addresses = {uri} if before is None else {uri, str(before["source_uri"])}  # a reading with --scrub may have written the address otherwise
        rejects = list(outcome.rejects)
        ids: list[str] = []
        for row in outcome.episodes:
            key = (dataset, str(row["fact"]))
            new_columns = self._columns_of(str(row["features"]), outcome)
            conflict = features_conflict(dataset, columns, new_columns, str(row["source_key"]))
            if conflict is not None:
                rejects.append(reject_row(_reading_of(outcome), str(row["source_key"]), problem_of(conflict), len(rejects)))
                continue
            ids.append(str(row["episode_id"]))
            old = there.get(key)
            if old is not None and old["source_uri"] in addresses and old["reading"] != row["reading"]:
                kept = {"duplicate_across_splits"} & set(old["flags"] or ())  # what is known of the splits does not change with the reading
                updates[key] = row | {"splits": _union(old["splits"], row["splits"]), "flags": sorted({*(row["flags"] or ()), *kept})}
            elif old is not None or key in inserts:
                self._duplicate(key, row["splits"] or (), uri, decision, there, inserts, updates)
                continue
            else:
                inserts[key] = dict(row)
            add_columns(columns, new_columns)
            tally.landed += 1
            tally.steps += int(row["steps"])
            tally.bytes += int(row["bytes"])
            tally.add_to(dataset, landed=1, steps=int(row["steps"]))
        for duplicate in outcome.duplicates:
            ids.append(duplicate.episode_id)
            self._duplicate((dataset, duplicate.episode_id), duplicate.splits, uri, decision, there, inserts, updates)
        source = outcome.source | {"episode_ids": ids, "rejected": len(rejects), "recordings": len(ids) + len(rejects)}
        old_rejects = {fact for address in addresses for fact in rejected_before.get((dataset, address), [])}
        if not outcome.partial:
            (change.rows if before is None else change.updated).append(source)
            change.gone += [("reject", dataset, fact) for fact in sorted(old_rejects)]
            if before is not None and same_files(str(before["fingerprint"]), str(source["fingerprint"])) and before["reading"] != source["reading"]:
                change.gone += [("episode", dataset, old) for old in before["episode_ids"] or () if old not in ids]
        for reject in rejects:
            (change.updated if reject["fact"] in old_rejects else change.rows).append(reject)
        tally.rejected += len(rejects)
        tally.add_to(dataset, rejected=len(rejects))
        tally.rejects += rejects
        tally.problems += outcome.problems

    def _duplicate(
        self,
        key: tuple[str, str],
        splits: Iterable[str],
        uri: str,
        decision: _Decision,
        there: Mapping[tuple[str, str], Row],
        inserts: dict[tuple[str, str], Row],
        updates: dict[tuple[str, str], Row],
    ) -> None:
        """Count a recording that is in the dataset already; where it comes from another split, the row says so and the leak is named."""
        decision.tally.skipped += 1
        decision.tally.add_to(key[0], skipped=1)
        row = inserts.get(key) or updates.get(key) or there.get(key)
        if row is None:
            return
        if row.get("job") is not None:
            decision.relied[row["job"]] = max(decision.relied.get(row["job"], 0), int(row["job_commit"]))
        merged = _union(row["splits"], splits)
        if row["source_uri"] != uri:
            leak = len(merged) > len(row["splits"] or ())
            problem = Problem(
                "duplicate_across_splits" if leak else "duplicate_recording",
                f"{uri}: the recording {key[1]} is that of {row['source_uri']}" + (f", in the splits {' and '.join(merged)}" if leak else ""),
                uri,
                "warning" if leak else "info",
                "each recording once" + (", in one split" if leak else ""),
                f"the same content as {row['source_uri']} {row['source_key'] or ''}".rstrip(),
                "leave it out of one of the splits before training" if leak else "",
                key[1],
            )
            decision.tally.problems.append(problem.as_dict() | {"source": uri})
        if len(merged) == len(row["splits"] or ()):
            return
        changed = row | {"splits": merged, "flags": sorted({*(row["flags"] or ()), "duplicate_across_splits"})}
        if key in inserts:
            inserts[key] = changed
        else:
            updates[key] = changed

    def rejects_of(self, uri: str) -> list[Row]:
        """Return the rejected recordings of an item that was read before."""
        columns = ["dataset", "source_uri", "source_key", "check", "where", "expected", "found", "advice"]
        frame = self.catalog.scan().filter((pl.col("kind") == "reject") & (pl.col("source_uri") == uri)).select(columns).collect()
        return list(frame.iter_rows(named=True))

    # -- the end of the job

    def finish(self, counts: Mapping[str, Any]) -> Version | None:
        """Commit what waits, merge small files, and name the version. Return the newest version, None for a store that has none."""
        self.flush()
        done = JobEnd(self.number, frozenset(self.datasets), self.relied)
        return end_job(self.catalog, self.job, self.command, self.config_digest, counts, done)


def _once(rows: Iterable[Row]) -> list[Row]:
    return list({(row["kind"], row["dataset"], row["fact"]): row for row in rows}.values())


def _reading_of(outcome: Outcome) -> Reading:
    source = outcome.source
    return Reading(
        source["reading"],
        source["reader"],
        source["reader_version"],
        source["dataset"],
        source["source_uri"],
        source["fingerprint"],
        tuple(source["splits"] or ()),
        source["bytes"],
    )


def _union(a: Iterable[str] | None, b: Iterable[str] | None) -> list[str]:
    return sorted({*(a or ()), *(b or ())})
