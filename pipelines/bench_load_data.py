"""What the reading benchmark reads: raw frames that we make once, and our store of them.

The frames are those of the sample arm (`samples/scene.py`): a textured table (planks with grain, or woven cloth), shaded boxes, a moving arm and a wrist
camera whose whole picture moves, under Gaussian sensor noise of 1.6 grey levels in each channel that is another one in each of 32 frames in a row.
State and action have 14 dimensions: joint positions, velocities and the hand's pose; the action is the next step's state.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.align.config import AlignConfig
from dataengine.core.arrays import Array
from dataengine.core.clock import nominal_timestamps_ns
from dataengine.core.column import Camera, Column
from dataengine.core.digest import digest_json
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import AlreadyThere
from dataengine.core.objects import open_objects
from dataengine.core.stream import Frames, Rows
from dataengine.schema.column_json import features_document
from dataengine.sources.listing import SourceOpener
from dataengine.store import layout
from dataengine.store.commit import Committer
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.landing import Landing, LandingPolicy
from dataengine.store.outcome import Reading
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.store import create_store
from dataengine.store.video_lane import VideoPolicy

CAMERAS = {"front": "primary", "wrist": "wrist"}
DIMS = 14
TASK = "move the block to the pad"
SHARD_EPISODES = 200

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RawSpec:
    """How much is made: `episodes` of `steps`, two cameras of `height` x `width` px at `rate_hz`."""

    episodes: int = 40
    steps: int = 200
    height: int = 240
    width: int = 320
    rate_hz: int = 30
    seed: int = 0

    @property
    def name(self) -> str:
        """Return a name for folders of this data."""
        return f"{self.episodes}x{self.steps}-{self.width}x{self.height}-{self.rate_hz}hz-{self.seed}"


def stream_of(camera: str) -> str:
    """Return the name of a camera's stream."""
    return f"observation.images.{camera}"


def episode_folder(raw: Path, episode: int) -> Path:
    """Return where the raw arrays of an episode lie: `front.npy`, `wrist.npy`, `state.npy`, `action.npy`."""
    return raw / f"episode_{episode:06d}"


def record_raw(spec: RawSpec, episode: int) -> dict[str, Array]:
    """Return an episode's arrays: each camera (steps, H, W, 3) uint8, state and action (steps, 14) float32.

    A task is over in 60 to 160 frames; where `steps` asks for more, the same motion is filmed at a higher rate and so moves less from frame to frame.
    """
    from dataengine.samples.arm import ArmConfig, record

    def filmed(rate_hz: float, height: int, width: int) -> Any:
        return record(spec.seed, episode, ArmConfig(height=height, width=width, camera_hz=rate_hz, joint_hz=max(200.0, 2 * rate_hz), failure_rate=0.0))

    shortest = min(len(track.t_ns) for track in filmed(spec.rate_hz, 8, 8).cameras.values())
    made = filmed(spec.rate_hz * max(1.0, 1.03 * (spec.steps + 2) / shortest), spec.height, spec.width)
    at = np.clip(np.searchsorted(made.joint_t_ns, made.cameras["front"].t_ns[: spec.steps + 1]), 0, len(made.joint_t_ns) - 1)
    state = np.concatenate([made.joint_position[at], made.joint_velocity[at], made.ee_position[at], made.ee_quat_xyzw[at, 2:3]], axis=1).astype(np.float32)
    return {name: made.cameras[name].images[: spec.steps] for name in CAMERAS} | {"state": state[:-1], "action": state[1:]}


def write_raw(work: Path, spec: RawSpec, progress: Progress) -> Path:
    """Write the raw arrays unless they are there from an earlier run; return their folder. `raw.json` is written last and names the sizes."""
    raw = work / f"raw-{spec.name}"
    if (raw / "raw.json").exists():
        return raw
    for episode in range(spec.episodes):
        folder = episode_folder(raw, episode)
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in record_raw(spec, episode).items():
            np.save(folder / f"{name}.npy", values)
        progress("episodes rendered", episode + 1, spec.episodes)
    (raw / "raw.json").write_text(json.dumps(asdict(spec) | {"cameras": list(CAMERAS), "task": TASK}))
    return raw


def _columns(height: int, width: int) -> dict[str, Column]:
    columns = [
        Column("observation.state", dtype="float32", shape=(DIMS,), meaning="state"),
        Column("action", dtype="float32", shape=(DIMS,), meaning="action", action_source="commanded"),
    ]
    columns += [
        Column(stream_of(name), kind="image", dtype="uint8", shape=(height, width, 3), camera=Camera(role))  # type: ignore[arg-type]
        for name, role in CAMERAS.items()
    ]
    return {column.name: column for column in columns}


def describe(store: Path, datasets: Iterable[str]) -> None:
    """Put the feature specification that the rows of the catalogue benchmark name: its episodes do not exist, but what they would hold can be asked."""
    from pipelines.bench_catalog import FEATURES

    objects = open_objects(str(store))
    for dataset in datasets:
        document = features_document(dataset, _columns(240, 320).values(), None, None, False)
        with contextlib.suppress(AlreadyThere):
            objects.put_if_absent(layout.features_key(dataset, FEATURES), json.dumps(document).encode())


def episode_events(arrays: dict[str, Array], key: str, rate_hz: float) -> Iterator[Event]:
    """Yield an episode's arrays as a reader yields a recording: every stream on one nominal clock."""
    steps, height, width = arrays["front"].shape[:3]
    clocks = {"nominal": nominal_timestamps_ns(steps, rate_hz)}
    yield Rows("observation.state", np.ascontiguousarray(arrays["state"]), clocks)
    yield Rows("action", np.ascontiguousarray(arrays["action"]), clocks)
    for name in CAMERAS:
        yield Rows(stream_of(name), Frames(np.ascontiguousarray(arrays[name])), clocks)
    columns = _columns(height, width)
    yield EpisodeInfo("bench", columns, "nominal", key, dict.fromkeys(columns, "nominal"), rate_hz=rate_hz, tasks=(TASK,), origin="simulation")


def raw_events(raw: Path, spec: RawSpec, progress: Progress, episodes: Sequence[int] | None = None) -> Iterator[Event]:
    """Yield the episodes of a raw folder, or those that are named."""
    for episode in range(spec.episodes) if episodes is None else episodes:
        folder = episode_folder(raw, episode)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*CAMERAS, "state", "action")}
        yield from episode_events(arrays, f"{episode:06d}", spec.rate_hz)
        progress("episodes written", episode + 1, spec.episodes)


def land_events(store: Path, events: Iterable[Event], policy: VideoPolicy, shard_episodes: int = SHARD_EPISODES) -> int:
    """Land episodes as an ingest job does, in this process, into the new dataset `bench` of a store; return how many landed.

    Raises:
        RuntimeError: an episode was rejected.
    """
    objects = open_objects(str(store))
    create_store(objects)
    job = new_job_id()
    heartbeat = Heartbeat(objects, job, "bench load")
    committer = Committer(objects, job, "bench load", digest_json([]))
    reading = Reading(digest_json(["bench"]), "bench", "1", "bench", f"{store}/raw", uuid.uuid4().hex, ("train",), 1)
    with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch:

        def open_shard() -> ShardWriter:
            return ShardWriter(ShardPlace(objects, "bench", f"{job}-{uuid.uuid4().hex[:8]}", job, Path(scratch)), policy)

        landing = Landing(open_shard, 1 << 40, shard_episodes, frozenset(), {}, None, LandingPolicy(AlignConfig()))
        outcome = landing.land(reading, events, SourceOpener(objects))
        landing.close()
    committer.add([outcome])
    committer.finish({"landed": len(outcome.episodes)})
    heartbeat.end("ended")
    if outcome.rejects:
        raise RuntimeError(f"bench: {len(outcome.rejects)} episodes were rejected: {outcome.rejects[0]}")
    return len(outcome.episodes)


def write_store(work: Path, raw: Path, spec: RawSpec, crf: int, gop: int, progress: Progress) -> Path:
    """Write our store of the raw frames unless an earlier run did; return its folder."""
    store = work / f"store-{spec.name}-crf{crf}-gop{gop}"
    done = store.with_name(f"{store.name}.done")
    if not done.exists():
        shutil.rmtree(store, ignore_errors=True)
        land_events(store, raw_events(raw, spec, progress), VideoPolicy(crf=crf, gop=gop))
        done.write_text("")
    return store


def write_tiny_store(work: Path, episodes: int, progress: Progress, steps: int = 8, side: int = 32) -> Path:
    """Write a store of many tiny episodes (smooth random pictures of `side` px) unless an earlier run did; return its folder."""
    store = work / f"tiny-{episodes}x{steps}-{side}"
    done = store.with_name(f"{store.name}.done")
    if done.exists():
        return store

    def events() -> Iterator[Event]:
        for episode in range(episodes):
            rng = np.random.default_rng([5, episode])
            film = rng.integers(40, 210, (len(CAMERAS), steps, side // 8, side // 8, 3), dtype=np.uint8).repeat(8, 2).repeat(8, 3)
            numbers = rng.normal(size=(steps + 1, DIMS)).astype(np.float32)
            arrays = dict(zip(CAMERAS, film, strict=True)) | {"state": numbers[:-1], "action": numbers[1:]}
            yield from episode_events(arrays, f"{episode:06d}", 30)
            if episode % 500 == 499:
                progress("tiny episodes", episode + 1, episodes)

    shutil.rmtree(store, ignore_errors=True)
    land_events(store, events(), VideoPolicy(gop=steps))
    done.write_text("")
    return store


# What a loader never opens: native clocks and numbers (it reads the steps), checksums, records of jobs.
_NOT_READ = ("arrays.zarr", "shard.json", "jobs")


def read_bytes_of(store: Path) -> int:
    """Return the bytes of everything in a store that a loader reads: videos and their indexes, steps, the shards' indexes, the catalogue and its documents."""
    files = (path for path in store.rglob("*") if path.is_file() and not set(path.relative_to(store).parts) & set(_NOT_READ))
    return sum(path.stat().st_size for path in files)
