"""Units of jobs in this process: what a test's reader yields, landed and committed as a job does it."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.align.config import AlignConfig
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.objects import LocalObjects, Objects
from dataengine.core.stream import Items, Rows
from dataengine.store.catalog import Catalog, KnownIds
from dataengine.store.commit import Committer
from dataengine.store.features import dataset_columns, feature_digests
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.landing import Landing, LandingPolicy
from dataengine.store.outcome import Outcome, Reading
from dataengine.store.refs import Version
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.store import create_store
from dataengine.store.video_lane import VideoPolicy

READING = digest_json(["test", "1"])
STEP_NS = 100_000_000  # 10 Hz


def new_store(root: Path) -> Objects:
    """Create an empty store and return its objects."""
    objects = LocalObjects(root)
    create_store(objects)
    return objects


@dataclass(frozen=True)
class SourceItem:
    """An item of a source as a test makes it: what its reader yields, and how it is told from others."""

    name: str
    events: Iterable[Event]
    splits: tuple[str, ...] = ()
    reading: str = READING
    fingerprint: str = "1"
    partial: bool = False

    def as_reading(self, dataset: str) -> Reading:
        """Return what stands in every row that comes of the item."""
        return Reading(self.reading, "test", "1", dataset, f"src/{self.name}", self.fingerprint, self.splits, 1000)


def times_ns(rows: int, start_ns: int = 0, step_ns: int = STEP_NS) -> np.ndarray[Any, Any]:
    """Return a regular clock, (rows,) int64."""
    return np.arange(rows, dtype=np.int64) * step_ns + start_ns


def episode(number: int, rows: int = 5, *, key: str = "", tasks: Sequence[str] = ("push the block",), **info: Any) -> list[Event]:
    """Return the events of a small episode that no other number has: action (rows, 3) float32, state (rows, 2) float64, and a text a row.

    `info` overrides fields of its EpisodeInfo.
    """
    rng = np.random.default_rng(number)
    clock = {"log": times_ns(rows, 1_000 + number)}
    columns = {
        "action": Column("action", dtype="float32", shape=(3,), meaning="action"),
        "observation.state": Column("observation.state", dtype="float64", shape=(2,), meaning="state"),
        "note": Column("note", kind="text", dtype="string", meaning="language", encoding="utf-8"),
    }
    fields: dict[str, Any] = {
        "dataset": "lab",
        "columns": columns,
        "clock": "measured",
        "key": key,
        "stream_clocks": dict.fromkeys(columns, "log"),
        "start_ns": 1_000 + number,
        "tasks": tuple(tasks),
    }
    return [
        Rows("action", rng.normal(size=(rows, 3)).astype(np.float32), clock),
        Rows("observation.state", rng.normal(size=(rows, 2)), clock),
        Rows("note", Items([f"episode {number} row {row}".encode() for row in range(rows)], "utf-8"), clock),
        EpisodeInfo(**(fields | info)),
    ]


@dataclass
class Lander:
    """Lands items into a store as one unit of a job does."""

    objects: Objects
    dataset: str = "lab"
    job: str = field(default_factory=new_job_id)
    video: VideoPolicy = field(default_factory=VideoPolicy)
    align: AlignConfig = field(default_factory=AlignConfig)
    shard_bytes: int = 256 << 20
    shard_episodes: int = 200
    replaces: frozenset[str] = frozenset()
    source: Path | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)

    def land(self, items: Iterable[SourceItem]) -> list[Outcome]:
        """Return what became of each item; its shards lie in the store, and nothing points to them yet."""
        catalog = Catalog(self.objects)
        table = catalog.table()
        known = KnownIds()
        known.update(catalog, table, self.dataset)
        columns = dataset_columns(self.objects, feature_digests(catalog, table, [self.dataset]))[self.dataset]
        replaced = self.replaces

        class Known:
            def __contains__(self, episode_id: object) -> bool:
                return isinstance(episode_id, str) and episode_id not in replaced and episode_id in known

        files = LocalObjects(self.source) if self.source is not None else self.objects
        outcomes = []
        with tempfile.TemporaryDirectory(prefix="dataengine-test-") as scratch:

            def open_shard() -> ShardWriter:
                place = ShardPlace(self.objects, self.dataset, f"{self.job}-00000-{uuid.uuid4().hex[:8]}", self.job, Path(scratch))
                return ShardWriter(place, self.video)

            policy = LandingPolicy(self.align, self.video.lossless, **self.policy)
            landing = Landing(open_shard, self.shard_bytes, self.shard_episodes, Known(), columns, None, policy)
            for item in items:
                outcome = landing.land(item.as_reading(self.dataset), iter(item.events), files)  # type: ignore[arg-type]
                outcome.partial = item.partial
                outcomes.append(outcome)
            landing.close()
        return outcomes


@dataclass
class Ingested:
    """A job that has ended: its committer (with the tally) and the version it named."""

    committer: Committer
    outcomes: list[Outcome]
    version: Version | None

    @property
    def ids(self) -> list[str]:
        """Return the ids of what landed in shards, in order."""
        return [str(row["episode_id"]) for outcome in self.outcomes for row in outcome.episodes]


def ingest(objects: Objects, items: Iterable[SourceItem], *, dataset: str = "lab", job: str | None = None, **lander: Any) -> Ingested:
    """Land items and commit them as one whole job; `lander` are fields of Lander."""
    name = job or new_job_id()
    heartbeat = Heartbeat(objects, name, "test")
    outcomes = Lander(objects, dataset, name, **lander).land(items)
    committer = Committer(objects, name, "test", digest_json({}))
    committer.add(outcomes)
    done = Ingested(committer, outcomes, committer.finish({}))
    heartbeat.end("ended")
    return done


def ingest_episodes(objects: Objects, *numbers: int, dataset: str = "lab", rows: int = 5) -> list[str]:
    """Land one small episode for each number, each an item of its own; return their ids."""
    return ingest(objects, [SourceItem(f"{number}.rec", episode(number, rows)) for number in numbers], dataset=dataset).ids
