"""Training-ready copies of stored episodes: what a trajectory has at its steps, cameras in one size, one frame a step.

A copy is an episode like any other. Its streams are those columns of the trajectory that hold anything: a column of numbers has a row for each step at which it
is valid, a stream of texts or messages a row for each of its own rows that some step saw. A camera has one frame for each step, so that the number of the frame
is that of the step; where the step saw none, its trajectory says so and the frame repeats the one before (the next one, at the start). What lies between the
steps is not in the copy. All times are those of the steps, on the clock `control`, or `nominal` where the episode's times are nominal.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.align.align import Aligned
from dataengine.core.arrays import Array
from dataengine.core.column import LOSSLESS_KINDS, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, CorruptStore
from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, Rows
from dataengine.core.trajectory import Trajectory
from dataengine.store import layout
from dataengine.store.landing import Placed
from dataengine.store.new_rate import at_rate, stored_inputs
from dataengine.store.row import Row
from dataengine.store.seen_pictures import pictures
from dataengine.store.shard import RunningEpisode
from dataengine.store.steps import read_steps
from dataengine.store.store import Store
from dataengine.store.stored_streams import StoredItems, array_key, read_items
from dataengine.video.fit import Fit, Size, fitted, fitted_camera

READER = "store"
VERSION = "1"
COPIED_FROM = "materialized_from"
CLOCK = "control"
BLOCK_ROWS = 64
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class CopySpec:
    """What a copy is made of and how: the store and version that it is of, the cameras' size in px, and the steps' rate (None: as they are)."""

    store_id: str
    version: int
    height: int
    width: int
    fit: Fit = "stretch"
    rate_hz: float | None = None

    @property
    def size(self) -> Size:
        """Return what pictures become."""
        return Size(self.height, self.width, self.fit)

    def affecting(self) -> dict[str, Any]:
        """Return what changes a copy's content."""
        return {"size": [self.height, self.width], "fit": self.fit, "rate_hz": self.rate_hz}


def nearest_seen(frames: Array) -> Array:
    """Return for each step the frame it sees, else the one seen last before it, else the first one seen; at least one step must see one."""
    seen = np.flatnonzero(frames >= 0)
    before = np.searchsorted(seen, np.arange(len(frames)), side="right") - 1
    return np.asarray(frames[seen[np.maximum(before, 0)]])


def as_colour(picture: Array) -> Array | None:
    """Return a picture as (H, W, 3) uint8 RGB, None where it has no 8-bit colours or greys."""
    if picture.dtype != np.uint8:
        return None
    if picture.ndim == 2 or picture.shape[2] in (1, 2):
        grey = picture if picture.ndim == 2 else picture[:, :, 0]
        return np.repeat(grey[:, :, None], 3, axis=2)
    return picture[:, :, :3] if picture.shape[2] in (3, 4) else None


class EpisodeCopy:
    """The copy of one episode: `events` gives it as a reader would, and `place` puts it on its steps once it is laid down.

    Args:
        store: the version that it is of.
        row: the episode's row in the catalog.
        spec: what the copy is to be.
    """

    def __init__(self, store: Store, row: Row, spec: CopySpec) -> None:
        self.store, self.row, self.spec = store, row, spec
        self.problems: tuple[Problem, ...] = ()
        self._steps: Trajectory | None = None

    def events(self) -> Iterator[Event]:
        """Yield the rows of the copy's streams, in order of name, then what is known of it.

        Raises:
            BadRecording: part of the episode is missing, damaged, or cannot be put on the clock that was asked for.
        """
        try:
            yield from self._events()
        except (CorruptStore, FileNotFoundError) as error:
            where = f"{self.store.objects.url}: episode {self.row['episode_id']}"
            raise BadRecording(where, "an episode that can be read", str(error), "see `dataengine check --deep`", check="damaged_original") from error

    def _events(self) -> Iterator[Event]:
        row, objects = self.row, self.store.objects
        columns = self.store.columns(row)
        entries = {str(entry["stream"]): entry for entry in self.store.index(row)}
        steps = read_steps(objects, layout.steps_key(row["dataset"], row["shard"]), row["ordinal"], columns)
        steps = replace(steps, clock=row["clock"], rate_hz=row["rate_hz"], flags=tuple(row["flags"] or ()))
        missing = sorted({*steps.columns, *steps.frames} - entries.keys())
        if missing:
            raise CorruptStore(f"{objects.url}: episode {row['episode_id']}: its steps have {missing[0]!r}, and its shard has no such stream")
        info = self.store.episode_info(row, columns)
        if self.spec.rate_hz is not None:
            aligned = at_rate(info, steps, stored_inputs(objects, row, entries, steps), self.spec.rate_hz)
            self.problems = aligned.problems
            steps = replace(aligned.trajectory, flags=tuple(row["flags"] or ()))
        clock = None if steps.t_ns is None else "nominal" if row["clock"] == "nominal" else CLOCK
        self._clock, self._start_ns = clock, row["start_ns"] or 0
        described: dict[str, Column] = {}
        frames: dict[str, Array] = {}
        for name in sorted({*steps.columns, *steps.frames}):
            column = steps.specs[name]
            if name in steps.columns:
                described[name] = column
                there = steps.valid[name] if name in steps.valid else np.ones(steps.steps, dtype=bool)
                yield Rows(name, steps.columns[name][there], self._clocks(steps, there))
            elif column.is_camera:
                frames[name] = np.where(steps.frames[name] >= 0, np.arange(steps.steps), -1)
                described[name] = yield from self._camera(objects, entries[name], column, steps)
            else:
                described[name] = column
                seen, first, place = np.unique(steps.frames[name], return_index=True, return_inverse=True)
                frames[name] = place - int(seen[0] < 0)
                yield from self._items(objects, entries[name], name, seen[seen >= 0], self._clocks(steps, first[seen >= 0]))
        self._steps = replace(steps, frames=frames, specs=described)
        yield replace(
            info,
            columns=described,
            key="",
            stream_clocks={} if clock is None else dict.fromkeys(described, clock),
            rate_hz=steps.rate_hz,
            parent=row["episode_id"],
            metadata=self._metadata(objects, info, entries),
        )

    def place(self, info: EpisodeInfo, running: RunningEpisode) -> Placed:
        """Return the steps of the copy, which refer to the rows that were laid down, and the figures of its original."""
        assert self._steps is not None
        figures = {str(figure["name"]): float(figure["value"]) for figure in self.row["figures"] or ()}
        return Placed(Aligned(self._steps, self.problems), figures)

    def _clocks(self, steps: Trajectory, rows: Array | slice) -> dict[str, Array]:
        return {} if self._clock is None or steps.t_ns is None else {self._clock: steps.t_ns[rows] + self._start_ns}

    def _camera(self, objects: Objects, entry: Row, column: Column, steps: Trajectory) -> Generator[Event, None, Column]:
        """Yield one frame for each step; return what the column is in the copy."""
        exact = column.kind in LOSSLESS_KINDS
        size, copied = self.spec.size, column
        block: list[Array] = []
        block_bytes = done = 0
        last = scaled = None
        for step, picture in enumerate(pictures(objects, self.row, entry, nearest_seen(steps.frames[column.name]))):
            if picture is not last:
                colour = None if exact else as_colour(picture)
                scaled, last = fitted(picture if colour is None else colour, size, exact=colour is None), picture
            assert scaled is not None
            if step == 0:
                exact = exact or scaled.dtype != np.uint8 or scaled.ndim == 2
                camera = column.camera and fitted_camera(column.camera, picture.shape[0], picture.shape[1], size)
                was = {"fit": self.spec.fit, "height_px": picture.shape[0], "width_px": picture.shape[1]}
                extra = {**column.extra, "fitted": was}
                copied = replace(column, dtype=scaled.dtype.name, shape=scaled.shape, dims=None, encoding=None, camera=camera, extra=extra)
            block.append(scaled)
            block_bytes += scaled.nbytes
            if len(block) == BLOCK_ROWS or block_bytes >= BLOCK_BYTES or step == steps.steps - 1:
                yield Rows(column.name, Frames(self._stacked(block, column.name), exact), self._clocks(steps, slice(done, step + 1)))
                done, block, block_bytes = step + 1, [], 0
        return copied

    def _stacked(self, block: list[Array], name: str) -> Array:
        forms = sorted({f"{list(picture.shape)} {picture.dtype.name}" for picture in block})
        if len(forms) > 1:
            raise BadRecording(f"stream {name!r}", "pictures of one kind", ", ".join(forms), "leave the episode out", check="layout_changes")
        return np.stack(block)

    def _items(self, objects: Objects, entry: Row, name: str, rows: Array, clocks: Mapping[str, Array]) -> Iterator[Event]:
        items = read_items(objects, array_key(self.row, entry), entry)
        assert isinstance(items.data, StoredItems)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            part = {clock: stamps[start : start + BLOCK_ROWS] for clock, stamps in clocks.items()}
            yield Rows(name, Items(list(items.data.of(block)), [items.encoding(at) for at in block.tolist()]), part)

    def _metadata(self, objects: Objects, info: EpisodeInfo, entries: Mapping[str, Row]) -> dict[str, Any]:
        """Return the original's metadata, whole, and beside it what the copy is of."""
        metadata = dict(info.metadata)
        beside = entries.get(str(metadata.get("whole_in_stream")))
        if beside is not None and beside["kind"] == "items":
            metadata = json.loads(bytes(read_items(objects, array_key(self.row, beside), beside).data[0]))
        row, spec = self.row, self.spec
        origin = {name: row[name] for name in ("dataset", "episode_id", "reading", "reader", "source_uri", "source_key", "rate_hz")}
        before = {"before": metadata[COPIED_FROM]} if COPIED_FROM in metadata else {}
        return {**metadata, COPIED_FROM: {"store_id": spec.store_id, "version": spec.version, **origin, **spec.affecting(), **before}}
