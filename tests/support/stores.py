"""Small stores made in this process: episodes in memory, landed and committed as a job does it, without Ray, children or files to read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dataengine.align.config import AlignConfig
from dataengine.core.column import Column
from dataengine.core.digest import digest_json
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.objects import LocalObjects, Objects
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.store.catalog import Catalog, KnownIds
from dataengine.store.commit import Committer
from dataengine.store.features import dataset_columns, feature_digests
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.landing import Landing, LandingPolicy
from dataengine.store.outcome import Outcome, Reading, reject_row
from dataengine.store.refs import Version
from dataengine.store.row import Row
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.store import create_store
from dataengine.store.video_lane import VideoPolicy

ROWS = 8
RATE_HZ = 10
STEP_NS = 100_000_000


def noise(seed: int, *shape: int) -> np.ndarray:
    """Return (…) uint8 of noise: pictures that no codec makes small and no two of which are equal."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(seed: int, side: int = 32) -> bytes:
    """Return a JPEG of noise, (side, side, 3)."""
    import cv2

    done, data = cv2.imencode(".jpg", noise(seed, side, side, 3))
    assert done
    return bytes(data.data)


COLUMNS = {
    "observation.state": Column("observation.state", dtype="float64", shape=(3,), meaning="state"),
    "action": Column("action", dtype="float32", shape=(2,), meaning="action"),
    "observation.wide": Column("observation.wide", dtype="float64", shape=(6000,), steps=False),
    "observation.images.front": Column("observation.images.front", kind="image", dtype="uint8", shape=(32, 32, 3), encoding="jpeg"),
    "observation.images.depth": Column("observation.images.depth", kind="depth", dtype="uint16", shape=(8, 8)),
    "observation.images.raw": Column("observation.images.raw", kind="image", dtype="uint8", shape=(32, 32, 3)),
    "observation.images.film": Column("observation.images.film", kind="image", dtype="uint8", shape=(64, 96, 3), encoding="h264"),
    "task": Column("task", kind="text", dtype="string", meaning="language", encoding="utf-8"),
}


@dataclass(frozen=True)
class Made:
    """One recording to make: everything in it follows from `seed`. `film` is a video file that is kept, `big` adds arrays of several chunks."""

    seed: int
    task: str = "stack the cups"
    big: bool = False
    raw: bool = False
    film: Path | None = None
    rows: int = ROWS
    metadata: Mapping[str, str] = field(default_factory=dict)

    def state(self) -> np.ndarray:
        """Return the (rows, 3) states: numbers that occur in no other recording."""
        return np.random.default_rng(self.seed + 1000).normal(size=(self.rows, 3))

    def wide(self) -> np.ndarray:
        """Return the (rows, 6000) numbers of a big recording: more than a chunk holds."""
        return np.random.default_rng(self.seed + 2000).normal(size=(self.rows, 6000))

    def pictures(self) -> list[bytes]:
        """Return the JPEGs of the front camera."""
        return [picture(self.seed * 1000 + row, 96 if self.big else 32) for row in range(self.rows)]

    def events(self) -> Iterator[Event]:
        """Yield the recording as a reader does."""
        stamps = 1_700_000_000_000_000_000 + self.seed * 10**12 + np.arange(self.rows, dtype=np.int64) * STEP_NS
        clocks = {"stamp": stamps, "log": stamps + 1000}
        streams = ["observation.state", "action", "observation.images.front", "observation.images.depth", "task"]
        rng = np.random.default_rng(self.seed)
        yield Rows("observation.state", self.state(), clocks)
        yield Rows("action", rng.normal(size=(self.rows, 2)).astype(np.float32), clocks)
        yield Rows("observation.images.front", Items(self.pictures(), "jpeg"), clocks)
        yield Rows("observation.images.depth", Frames(rng.integers(0, 5000, (self.rows, 8, 8), dtype=np.uint16), exact=True), clocks)
        yield Rows("task", Items([f"{self.task} {self.seed}".encode()] * self.rows, "utf-8"), clocks)
        if self.big:
            streams.append("observation.wide")
            yield Rows("observation.wide", self.wide(), clocks)
        if self.raw:
            streams.append("observation.images.raw")
            blocks = np.random.default_rng(self.seed + 3000).integers(30, 220, (self.rows, 4, 4, 3), dtype=np.uint8)
            yield Rows("observation.images.raw", Frames(blocks.repeat(8, axis=1).repeat(8, axis=2)), clocks)
        if self.film is not None:
            from dataengine.video.index import frame_index

            streams.append("observation.images.film")
            index = frame_index(str(self.film))
            frames = MediaFrames(self.film.name, index.track, 0, len(index), index=index.as_columns(), facts={"codec": "h264", **index.as_facts()})
            yield Rows("observation.images.film", frames, {"stamp": stamps[0] + index.pts_ns})
        yield EpisodeInfo(
            "lab",
            {name: COLUMNS[name] for name in streams},
            "measured",
            str(self.seed),
            dict.fromkeys(streams, "stamp"),
            int(stamps[0]),
            True,
            RATE_HZ,
            tasks=(f"{self.task} {self.seed}",),
            metadata=self.metadata,
        )


class _Films:
    """Opens the films that recordings keep, by name."""

    def __init__(self, made: Sequence[Made]) -> None:
        self._paths = {recording.film.name: recording.film for recording in made if recording.film is not None}

    def open(self, path: str):  # type: ignore[no-untyped-def]
        return open(self._paths[path], "rb")

    def local(self, path: str) -> str:
        return str(self._paths[path])


@dataclass(frozen=True)
class Job:
    """A job that landed recordings: what was committed, and what it is waiting for."""

    objects: Objects
    committer: Committer
    heartbeat: Heartbeat
    outcome: Outcome

    @property
    def ids(self) -> list[str]:
        """Return the ids of the episodes that landed, in order."""
        return [str(row["episode_id"]) for row in self.outcome.episodes]

    def end(self) -> Version:
        """End the job as it should end."""
        version = self.committer.finish({"landed": self.committer.tally.landed})
        assert version is not None
        self.heartbeat.end("ended")
        return version


def new_store(folder: Path) -> Objects:
    """Make an empty store."""
    objects = LocalObjects(folder)
    create_store(objects)
    return objects


def begin(
    objects: Objects,
    made: Sequence[Made],
    dataset: str = "lab",
    source: str = "/recordings/a.rec",
    splits: tuple[str, ...] = (),
    reading: str = "1",
    commit: bool = True,
    shard_episodes: int = 100,
    rejects: int = 0,
    again: bool = False,
) -> Job:
    """Land recordings, and with `commit` commit them, in a job that goes on; `again` lands those that are known as a new reading does."""
    job = new_job_id()
    heartbeat = Heartbeat(objects, job, f"ingest {source}")
    committer = Committer(objects, job, f"ingest {source}", digest_json([]))
    table = committer.catalog.table()
    known = KnownIds()
    known.update(committer.catalog, table, dataset)
    columns = dataset_columns(objects, feature_digests(committer.catalog, table, [dataset]))[dataset]
    number = iter(range(1000))
    how = Reading(digest_json([reading]), "made", reading, dataset, source, f"fingerprint of {source}", splits, 1)
    with tempfile.TemporaryDirectory() as scratch:

        def open_shard() -> ShardWriter:
            place = ShardPlace(objects, dataset, f"{job}-{next(number):05d}-{job[-8:]}", job, Path(scratch))
            return ShardWriter(place, VideoPolicy())

        landing = Landing(open_shard, 1 << 30, shard_episodes, (known.purged or ()) if again else known, columns, None, LandingPolicy(AlignConfig()))
        outcome = landing.land(how, (event for recording in made for event in recording.events()), _Films(made))  # type: ignore[arg-type]
        landing.close()
    for place in range(rejects):
        from dataengine.core.problem import Problem

        problem = Problem("truncated", "cut off", f"record {place}", "error", "a whole record", "its half", "record it again")
        outcome.rejects.append(reject_row(how, f"bad{place}", problem, place))
    committer.add([outcome])
    if commit:
        committer.flush()
    return Job(objects, committer, heartbeat, outcome)


def land(objects: Objects, made: Sequence[Made], **how: object) -> list[str]:
    """Land recordings in a job that ends; return the ids of what is new."""
    job = begin(objects, made, **how)  # type: ignore[arg-type]
    job.end()
    return job.ids


def die(job: Job, silent: bool = True) -> None:
    """Let a job fall silent as if its process had been killed: its record says that it runs, in a process that is not there."""
    import json

    from dataengine.store import layout
    from dataengine.store.refs import read_json

    job.heartbeat.end("failed")
    document = read_json(job.objects, layout.job_key(job.heartbeat.job))
    if silent:
        document |= {"state": "running", "pid_started": document["pid_started"] - 1000}
    job.objects.put(layout.job_key(job.heartbeat.job), json.dumps(document).encode())


def rows_at(objects: Objects, version: int | None = None) -> list[Row]:
    """Return all rows of the catalog at a version of the table."""
    return Catalog(objects).scan(version).collect().to_dicts()
