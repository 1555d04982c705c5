"""The committer of a job that labels: payload first, then rows, each episode labelled once a set, whoever else is at work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from deltalake import DeltaTable

from dataengine.core.errors import StoreError, UsageError
from dataengine.core.labels import LabelSet
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.catalog import Catalog, Change
from dataengine.store.labels import label_fact
from dataengine.store.naming import JobEnd, end_job
from dataengine.store.refs import Version
from dataengine.store.removed import PURGED, purged_episodes
from dataengine.store.row import Row

EPISODE = ("dataset", "episode_id", "reading")


@dataclass
class LabelTally:
    """What a labelling job has done so far.

    `labelled` episodes got labels; `skipped` had labels of this set for their reading already; `gone` were taken out, read anew or purged since the
    model saw them, and got none; `gone_ids` are theirs. `steps` are those that labelled episodes have.
    """

    labelled: int = 0
    skipped: int = 0
    gone: int = 0
    steps: int = 0
    bytes: int = 0
    gone_ids: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return what a version says of the job."""
        return {"labelled": self.labelled, "skipped": self.skipped, "gone": self.gone}


@dataclass
class _Decision:
    change: Change = field(default_factory=lambda: Change([]))
    tally: LabelTally = field(default_factory=LabelTally)
    relied: dict[str, int] = field(default_factory=dict)


class LabelCommitter:
    """Commits the labels of one job, all of one label set, to a store's catalog.

    Raises:
        UsageError: the set's name is taken by labels of another model or other parameters.
    """

    def __init__(self, objects: Objects, job: str, command: str, label_set: LabelSet) -> None:
        self.objects, self.job, self.command, self.label_set = objects, job, command, label_set
        self.catalog = Catalog(objects)
        self.tally = LabelTally()
        self.number = 0
        self.datasets: set[str] = set()
        self.relied: dict[str, int] = {}
        self.last_commit = time.monotonic()
        self.waiting_bytes = 0
        self._waiting: list[Row] = []
        self._require_own_name(self.catalog.table())

    def pending(self, episodes: pl.DataFrame) -> pl.DataFrame:
        """Return those of some episodes that have no label of this set yet for their reading, whichever job wrote it; the others count as skipped.

        Args:
            episodes: rows with `dataset`, `episode_id` and `reading` among their columns.
        """
        there = self.catalog.scan().filter((pl.col("kind") == "label") & (pl.col("label_set") == self.label_set.name))
        labels = there.select(*EPISODE, "job", "job_commit").collect()
        known = labels.join(episodes.select(EPISODE), on=EPISODE, how="semi")
        for job, commit in known.group_by("job").agg(pl.col("job_commit").max()).iter_rows():
            self._rely(job, commit)
        self.tally.skipped += known.height
        return episodes.join(labels, on=EPISODE, how="anti")

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of a shard that was written, in the order of the plan."""
        for row in rows:
            self._waiting.append(row)
            self.waiting_bytes += int(row["bytes"] or 0)

    def flush(self) -> None:
        """Commit what waits, in one commit."""
        if not self._waiting:
            return
        rows, self._waiting, self.waiting_bytes = self._waiting, [], 0
        self._require_payload(rows)
        datasets = {str(row["dataset"]) for row in rows}
        purged = frozenset(purged_episodes(self.objects))
        last: list[_Decision] = []

        def decide(table: DeltaTable) -> Change:
            last[:] = [self._decide(table, rows, datasets, purged)]
            return last[0].change

        self.number += 1
        self.catalog.commit(self.job, self.number, datasets, decide, self.label_set.name)
        self.datasets |= datasets
        for name, count in vars(last[0].tally).items():
            setattr(self.tally, name, getattr(self.tally, name) + count)
        for job, commit in last[0].relied.items():
            self._rely(job, commit)
        self.last_commit = time.monotonic()

    def finish(self) -> Version | None:
        """Commit what waits and name the version. Return the newest version, None for a store that has none."""
        self.flush()
        done = JobEnd(self.number, frozenset(self.datasets), self.relied)
        return end_job(self.catalog, self.job, self.command, self.label_set.recipe, self.tally.counts(), done)

    def _rely(self, job: str, commit: int) -> None:
        """Note that another job's commit holds what this one leaves out."""
        if job != self.job:
            self.relied[job] = max(self.relied.get(job, 0), commit)

    def _require_payload(self, rows: Iterable[Row]) -> None:
        for shard in sorted({str(row["address"]).rpartition("/")[0] for row in rows}):
            folder = layout.label_prefix(self.label_set.name, shard)
            if any(self.objects.head(f"{folder}/{name}") is None for name in (layout.SHARD, layout.LABEL_FILE)):
                raise StoreError(f"{self.objects.url}/{folder}: the labels that this job wrote are gone; run the command again")

    def _require_own_name(self, table: DeltaTable) -> None:
        """Refuse a name that stands for something else. One row tells: none gets in that differs from those before it."""
        rows = self.catalog.scan(table=table).filter((pl.col("kind") == "label") & (pl.col("label_set") == self.label_set.name))
        for purged in (False, True):  # a purged episode's row says the model still, but not the rest
            found = rows.filter(pl.col("summary").is_null() == purged).select("model", "trained_on", "summary").head(1).collect()
            if not found.height:
                continue
            model, trained_on, summary = found.row(0)
            recipe = self.label_set.recipe if purged else json.loads(summary).get("recipe")
            if (model, trained_on, recipe) != (self.label_set.model, self.label_set.trained_on, self.label_set.recipe):
                differs = "model" if model != self.label_set.model else "set of parameters"
                raise UsageError(
                    f"{self.objects.url}: label set {self.label_set.name!r}: must hold labels of one model and one set of parameters, and holds those of another "
                    f"{differs} (model {model}, recipe {recipe}); give the labels another name, or take the old ones out with `dataengine rm --labels`"
                )
            return

    def _decide(self, table: DeltaTable, rows: Sequence[Row], datasets: set[str], purged: frozenset[str]) -> _Decision:
        """Drop what was labelled meanwhile and what is no longer there; labels of an older reading make room."""
        self._require_own_name(table)
        ids = sorted({str(row["episode_id"]) for row in rows})
        facts = [label_fact(self.label_set.name, episode_id) for episode_id in ids]
        frame = self.catalog.scan(table=table).filter(pl.col("dataset").is_in(sorted(datasets)))
        there = _by_fact(frame.filter((pl.col("kind") == "label") & pl.col("fact").is_in(facts)))
        episodes = _by_fact(frame.filter((pl.col("kind") == "episode") & pl.col("fact").is_in(ids)))
        decision = _Decision()
        stamp = {"job": self.job, "job_commit": self.number, "created_ns": time.time_ns()}
        taken: set[tuple[str, str]] = set()
        for row in rows:
            key = (str(row["dataset"]), str(row["fact"]))
            episode, old = episodes.get((key[0], str(row["episode_id"]))), there.get(key)
            if episode is None or episode["reading"] != row["reading"] or row["episode_id"] in purged or PURGED in (episode["flags"] or ()):
                decision.tally.gone += 1
                decision.tally.gone_ids += (str(row["episode_id"]),)
            elif (steps := json.loads(row["summary"])["steps"]) != episode["steps"]:
                raise ValueError(f"labels of episode {row['episode_id']}: must have {episode['steps']} rows, one a step, got {steps}")
            elif key in taken:
                decision.tally.skipped += 1
            elif old is not None and old["reading"] == row["reading"]:
                decision.tally.skipped += 1
                decision.relied[old["job"]] = max(decision.relied.get(old["job"], 0), int(old["job_commit"]))
            else:
                taken.add(key)
                (decision.change.rows if old is None else decision.change.updated).append(row | stamp)
                decision.tally.labelled += 1
                decision.tally.steps += int(episode["steps"])
                decision.tally.bytes += int(row["bytes"] or 0)
        return decision


def _by_fact(frame: pl.LazyFrame) -> Mapping[tuple[str, str], dict[str, Any]]:
    columns = ["dataset", "fact", "reading", "flags", "steps", "job", "job_commit"]
    return {(row["dataset"], row["fact"]): row for row in frame.select(columns).collect().iter_rows(named=True)}
