"""One shard while it is being written: native streams, trajectories and the index of where each stream of each episode lies.

A shard has an attempt-unique name, and nothing points to it until its manifest is committed, so a writer can be killed at any instruction.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.core.arrays import Array
from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording
from dataengine.core.objects import Objects, fsync_path
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, MediaFrames, Rows
from dataengine.core.trajectory import Trajectory
from dataengine.schema.arrow import index_schema
from dataengine.store import layout
from dataengine.store.arrays import FileLog, file_crc32c, write_group
from dataengine.store.exact_frames import ExactFramesLane
from dataengine.store.lanes import ItemsLane, LaneEpisode, NumericLane
from dataengine.store.media import fsync_tree
from dataengine.store.media_lane import KeptFiles, MediaLane
from dataengine.store.steps import write_steps
from dataengine.store.video_lane import VideoLane, VideoPolicy

MAX_STREAMS = 4096
NUMBERS = frozenset(  # the data types that Zarr v3 knows
    ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "complex64", "complex128"]
)

Lane = NumericLane | ItemsLane | VideoLane | ExactFramesLane | MediaLane


@dataclass(frozen=True)
class ShardPlace:
    """Where a shard goes: its store, dataset and name, and a folder on this machine to build it in."""

    objects: Objects
    dataset: str
    shard: str
    job: str
    scratch: Path

    @property
    def prefix(self) -> str:
        """Return the shard's folder in the store."""
        return layout.shard_prefix(self.dataset, self.shard)

    @property
    def folder(self) -> Path:
        """Return the folder on this machine that the shard is built in: its own place in a local store, a scratch folder otherwise."""
        return self.objects.local(self.prefix) or self.scratch / self.shard

    @property
    def steps(self) -> Path:
        """Return the file on this machine that the shard's trajectories are written to."""
        key = layout.steps_key(self.dataset, self.shard)
        return self.objects.local(key) or self.scratch / f"{self.shard}.steps.parquet"


@dataclass(frozen=True, eq=False)
class RunningEpisode:
    """What the shard has laid down of the episode that is being read: input of alignment, checks and identity."""

    streams: Mapping[str, LaneEpisode]
    timestamps_ns: Mapping[str, Array | None]
    numbers: Mapping[str, Array]
    rows: Mapping[str, int]
    lanes: Mapping[str, Lane]
    problems: tuple[Problem, ...] = ()


@lru_cache(maxsize=1024)
def _array_form(dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> str | None:
    """Return what arrays of a type and shape are called, None where they hold no numbers; asked for each stream of each episode."""
    return f"{dtype.newbyteorder('=').str[1:]}{list(row_shape)}" if dtype.name in NUMBERS else None


@dataclass
class _Clocks:
    parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, clocks: Mapping[str, Array]) -> None:
        for name, stamps in clocks.items():
            self.parts.setdefault(name, []).append(stamps)

    def whole(self) -> dict[str, Array]:
        return {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in self.parts.items()}


def _index_bytes(rows: Sequence[tuple[str, int, str, str, Mapping[str, Any]]]) -> bytes:
    """Return a shard's index.parquet: of each stream its episode's id and ordinal, name and digest, and what its lane says of it."""
    schema = index_schema()
    known = dict(zip(("episode_id", "ordinal", "stream", "digest"), zip(*rows, strict=True), strict=False))
    columns = {name: known[name] if name in known else [row[-1].get(name) for row in rows] for name in schema.names}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), sink, compression="zstd")
    return sink.getvalue()


class ShardWriter:
    """Writes one shard.

    Use: `add(rows)…`, then `finish(info)`, then `keep(...)` or `abandon()`, for each episode; `close()` at the end. `abandon()` may also come
    right after any `add`.
    """

    def __init__(self, place: ShardPlace, policy: VideoPolicy) -> None:
        self.place, self.policy = place, policy
        self.log = FileLog()
        self.kept = KeptFiles(place.objects, place.scratch)
        self.arrays = place.folder / layout.ARRAYS
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._open: dict[str, Lane] = {}
        self._clocks: dict[str, _Clocks] = {}
        self._running: RunningEpisode | None = None
        self._stored: dict[str, dict[str, Array]] = {}
        self._index: list[tuple[str, int, str, str, Mapping[str, Any]]] = []
        self._steps: list[tuple[str, Trajectory]] = []
        self.episodes = 0
        self.payload_bytes = 0
        self._episode_bytes = 0

    # -- rows of the running episode

    @property
    def running(self) -> tuple[str, ...]:
        """Return the names of the streams that the running episode has so far."""
        return tuple(self._open)

    def add(self, rows: Rows) -> None:
        """Lay down rows of the running episode."""
        lane = self._open.get(rows.stream)
        if lane is None:
            lane = self._lane(rows)
            lane.begin()
            self._open[rows.stream] = lane
            self._clocks[rows.stream] = _Clocks()
            if len(self._open) > MAX_STREAMS:
                raise BadRecording("recording", f"at most {MAX_STREAMS} streams", "more", check="too_many_streams")
        if rows.clocks:
            self._clocks[rows.stream].add(rows.clocks)
        values = rows.values
        if isinstance(values, np.ndarray) and isinstance(lane, NumericLane):
            lane.add(values)
            self._episode_bytes += values.nbytes
        elif isinstance(values, Items) and isinstance(lane, ItemsLane):
            lane.add(values)
            self._episode_bytes += sum(map(len, values.data))
        elif isinstance(values, Frames) and isinstance(lane, VideoLane | ExactFramesLane):
            lane.add(values, rows.clocks)
            self._episode_bytes += values.pixels.nbytes
        elif isinstance(values, MediaFrames) and isinstance(lane, MediaLane):
            lane.add(values)
            self._episode_bytes += lane.size
        else:
            raise BadRecording(f"stream {rows.stream!r}", f"rows in one form ({lane.form})", type(values).__name__, check="layout_changes")

    def _lane(self, rows: Rows) -> Lane:
        """Return the lane for a stream whose rows have this form, making it when it is new in this shard."""
        values = rows.values
        if isinstance(values, np.ndarray):
            form = _array_form(values.dtype, values.shape[1:])
            if form is None:
                raise BadRecording(f"stream {rows.stream!r}", "numbers", f"values of dtype {values.dtype}", check="not_numeric")
        elif isinstance(values, Frames):
            form = f"frames{list(values.pixels.shape[1:])}{values.pixels.dtype.name}{values.exact}"
        else:
            form = type(values).__name__
        key = (rows.stream, form)
        if key not in self._lanes:
            same = sum(1 for stream, _ in self._lanes if stream == rows.stream)
            name = layout.node_name(rows.stream) + (f"~{same}" if same else "")
            folder = self.arrays / name
            array = f"{layout.ARRAYS}/{name}"
            if isinstance(values, np.ndarray):
                self._lanes[key] = NumericLane(folder, array, rows.stream, values.dtype.newbyteorder("="), values.shape[1:])
            elif isinstance(values, Items):
                self._lanes[key] = ItemsLane(folder, array, rows.stream)
            elif isinstance(values, Frames):
                if self.policy.encodes(values):
                    self._lanes[key] = VideoLane(self.place.folder, name, rows.stream, self.policy, values, self.place.scratch)
                else:
                    self._lanes[key] = ExactFramesLane(folder, array, rows.stream, values)
            else:
                self._lanes[key] = MediaLane(self.kept, folder, array, rows.stream)
        return self._lanes[key]

    # -- end of an episode

    def finish(self, info: EpisodeInfo) -> RunningEpisode:
        """End the rows of the running episode and return what is needed to align, check and name it."""
        streams: dict[str, LaneEpisode] = {}
        timestamps: dict[str, Array | None] = {}
        problems: list[Problem] = []
        span: list[int] = []
        for name, lane in self._open.items():
            if name not in info.columns:
                raise BadRecording(f"stream {name!r}", "a column that describes it", "none", check="undescribed_stream")
            clocks = self._clocks[name].whole()
            chosen = info.stream_clocks.get(name)
            times = None
            stored: dict[str, Array] = {}
            if clocks or chosen is not None:
                for clock, stamps in clocks.items():
                    if len(stamps) != lane.rows:
                        raise BadRecording(f"stream {name!r}", f"{lane.rows} times on clock {clock!r}", f"{len(stamps)}", check="unequal_lengths")
                if chosen is not None and chosen not in clocks and lane.rows:
                    raise BadRecording(f"stream {name!r}", f"times on clock {chosen!r}", "none", check="no_times")
                if chosen is not None and chosen in clocks:
                    span = _span_ns(name, clocks[chosen], info.start_ns, span)
                    times = stored["timestamps_ns"] = clocks[chosen] - info.start_ns
                stored.update({f"clock_{layout.node_name(clock)}_ns": stamps for clock, stamps in clocks.items() if clock not in (chosen, "nominal")})
            timestamps[name] = times
            self._stored[name] = stored
            ended = lane.end()
            ended.index["clocks"] = sorted([clock for clock in clocks if clock not in (chosen, "nominal")])
            ended.index["clock"] = chosen if times is not None else None
            streams[name] = ended
        numbers = {name: lane.matrix() for name, lane in self._open.items() if isinstance(lane, NumericLane) and lane.steppable}
        rows = {name: ended.rows for name, ended in streams.items()}
        self._running = RunningEpisode(streams, timestamps, numbers, rows, dict(self._open), tuple(problems))
        return self._running

    def add_beside(self, rows: Rows) -> None:
        """Lay down a stream without a clock beside the episode that was finished; it is no part of its identity."""
        assert self._running is not None
        self.add(rows)
        ended = self._open[rows.stream].end()
        ended.index.update(clocks=[], clock=None)
        self._stored[rows.stream] = {}
        self._running = replace(self._running, streams={**self._running.streams, rows.stream: ended})

    def episode_id(self, info: EpisodeInfo) -> str:
        """Return the digest of the recording's canonical content: stream names, measured clocks, and values as they came."""
        assert self._running is not None
        content = []
        for name in sorted(self._running.streams):
            ended, times = self._running.streams[name], self._running.timestamps_ns[name]
            column = info.columns[name]
            measured = digest_bytes(times.astype("<i8").tobytes()) if info.clock == "measured" and times is not None else None
            content.append([name, column.kind, ended.rows, ended.digest, measured])
        return digest_json(content)

    def keep(self, episode_id: str, trajectory: Trajectory) -> tuple[int, int]:
        """Keep the episode that was finished; return its ordinal in the shard and its payload bytes."""
        assert self._running is not None
        ordinal = self.episodes
        for name, ended in self._running.streams.items():
            self._index.append((episode_id, ordinal, name, ended.digest, ended.index))
        self._steps.append((episode_id, trajectory))
        for name, lane in self._open.items():
            lane.keep(self._stored[name])
        self.episodes += 1
        size = self._episode_bytes
        self.payload_bytes += size
        self._forget()
        return ordinal, size

    def abandon(self) -> None:
        """Take back whatever the running episode laid down."""
        for lane in self._open.values():
            lane.abandon()
        self._forget()

    def _forget(self) -> None:
        self._open, self._clocks, self._stored, self._running, self._episode_bytes = {}, {}, {}, None, 0

    # -- end of the shard

    def discard(self) -> None:
        """Remove whatever was laid down for a shard that holds no episode."""
        for lane in self._lanes.values():
            lane.close(FileLog())
        shutil.rmtree(self.place.folder, ignore_errors=True)

    def close(self) -> int:
        """Write what is buffered, index, checksums; flush to disk or send to the object store. Return the bytes that were written, videos included."""
        folder = self.place.folder
        folder.mkdir(parents=True, exist_ok=True)
        for lane in self._lanes.values():
            lane.close(self.log)
        self.kept.write_indexes()
        write_group(self.arrays, layout.ARRAYS, {"shard": self.place.shard}, self.log)
        self.log.write(folder / layout.INDEX, _index_bytes(self._index), layout.INDEX)
        write_steps(self.place.steps, self._steps)
        steps_size, steps_crc = file_crc32c(self.place.steps)
        document = {
            "shard": self.place.shard,
            "dataset": self.place.dataset,
            "job": self.place.job,
            "format_version": layout.FORMAT_VERSION,
            "files": [{"path": path, "size": size, "crc32c": f"{crc:08x}"} for path, (size, crc) in sorted(self.log.files.items())],
            "steps": {"size": steps_size, "crc32c": f"{steps_crc:08x}"},
            "episodes": self.episodes,
            "created_ns": time.time_ns(),
        }
        (folder / layout.SHARD).write_bytes(json.dumps(document, indent=1).encode())
        self._send()
        return sum(size for size, _ in self.log.files.values()) + steps_size + self.kept.written_bytes

    def _send(self) -> None:
        place = self.place
        if place.objects.local("") is not None:
            fsync_tree(place.folder)
            fsync_path(place.steps)
            fsync_path(place.steps.parent)
            return
        for path in sorted(place.folder.rglob("*")):
            if path.is_file():
                place.objects.upload(path, f"{place.prefix}/{path.relative_to(place.folder).as_posix()}")
        place.objects.upload(place.steps, layout.steps_key(place.dataset, place.shard))


def _span_ns(stream: str, stamps: Array, start_ns: int, before: list[int]) -> list[int]:
    """Return the first and last time of an episode so far, from its start; raise BadRecording (`clock_span`) where int64 cannot hold them."""
    if not len(stamps):
        return before
    ends = [*before, int(stamps.min()) - start_ns, int(stamps.max()) - start_ns]
    first, last = min(ends), max(ends)
    if first < -(2**63) or last - min(first, 0) >= 2**63 or not -(2**63) <= start_ns < 2**63:
        raise BadRecording(
            f"stream {stream!r}",
            "times within 292 years of the recording's start",
            f"{first} to {last} ns from {start_ns}",
            "repair its clock",
            check="clock_span",
        )
    return [first, last]
