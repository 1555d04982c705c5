"""LeRobot datasets: v1 (Arrow), v2.0, v2.1 and v3.0 (Parquet and video), and GR00T's modality.json.

An item is one table: the Parquet file of one episode (v2) or of many (v3), or the shards of a table (v1), with the side files and videos that belong to it.
Streams are named as the features are; a camera's stands under `observation.images.`. `task` is the text of each row's task_index,
`<annotation>.text` that of an annotation's number.

The clock is nominal where timestamps are row / fps, and measured where they are not (see `clocks`); frames of a video are found by the container's times (see `cameras`).
Statistics that a dataset brings are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.episode import EpisodeInfo, Event, Noticed, Origin, Rejected
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.kept_video import KeptVideos
from dataengine.sources.lerobot.cells import cell_type, storage
from dataengine.sources.lerobot.columns import stream_name
from dataengine.sources.lerobot.dataset import Dataset, body_of, read_dataset
from dataengine.sources.lerobot.episode import Cut, EpisodeReading, PlannedColumn
from dataengine.sources.lerobot.folder import find_datasets
from dataengine.sources.lerobot.summary import index_problems, table_problems, whole_problems
from dataengine.sources.lerobot.tables import Later, Segment, Tables

NAME = "lerobot"
VERSION = "2"
RECOGNISED_BY = (
    "meta/info.json with a codebase_version (or features and fps) and the Parquet files and videos of its folder; "
    "of v1, Arrow tables with columns episode_index and frame_index beside meta_data/ or videos/"
)
KEEPS = (
    "every column of the table with its dtype, pictures and video byte for byte (episodes are ranges of frames), tasks and annotations as text, language as JSON, "
    "names, units and parts of modality.json, recorded timestamps beside the nominal clock; statistics are not kept"
)

# Where files lie and how they were cut says nothing of an episode.
_PLACES = frozenset(["data_path", "video_path", "chunks_size", "total_chunks", "data_files_size_in_mb", "video_files_size_in_mb"])

MAX_EPISODE_BYTES = 1 << 30  # of the numbers of one episode, held in memory while it is read


def find(listing: Listing) -> Found:
    """Claim the datasets of a listing: their tables as items, their videos and the side files that are used."""
    return find_datasets(listing, NAME)


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read the episodes of one table, in its order.

    Raises:
        BadRecording: the table or the dataset's info.json cannot be read, or the dataset is kept in a format that is not supported.
    """
    refused = item.extra.get("refused")
    if refused:
        raise BadRecording(item.path, refused["expected"], refused["found"], refused["advice"], check=refused["check"])
    reading = _Reading(item, files, options)
    with closing(reading.tables):
        yield from reading.events()


def _as_problem(error: BadRecording) -> Problem:
    return Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice)


@dataclass
class _Loose:
    """Rows without an episode_index, from place `row` of the table on; they are held only where the episode `before` them may go on after."""

    row: int
    before: int | None
    rows: int = 0
    bytes: int = 0
    parts: list[tuple[Any, Segment]] = field(default_factory=list)

    def add(self, part: Any, segment: Segment, most: int) -> None:
        """Add a part of a batch; one more byte than `most`, and no episode can hold them."""
        self.rows += segment.count
        self.bytes += part.nbytes
        if self.bytes > most:
            self.before = None
        if self.before is None:
            self.parts.clear()
        else:
            self.parts.append((part, segment))


class _Reading:
    """One pass over one table."""

    def __init__(self, item: Item, files: Opener, options: ReadOptions) -> None:
        self._item, self._files, self._options = item, files, options
        self._dataset: Dataset = read_dataset(item, files, options)
        self.tables = Tables(files, item.extra["tables"])
        self._plan = self._planned()
        self._small = [planned.key for planned in self._plan if planned.cell.is_small or planned.cell.form == "frame_of_video"]
        large = [planned.key for planned in self._plan if planned.key not in self._small]
        self._later = Later(self.tables, large)
        self._videos = KeptVideos(files)
        self._looked_at: set[str] = set()
        self._seen: dict[int, int] = {}
        self._spans: dict[int, tuple[int, int]] = {}
        self._rate_hz = options.description.get("rate_hz") or options.rate_hz

    def _planned(self) -> list[PlannedColumn]:
        found = []
        features = self._dataset.info.features
        for entry in self.tables.schema:
            cell, feature = cell_type(entry.type), features.get(entry.name)
            camera = cell.form in ("picture", "frame_of_video") or (cell.form == "numbers" and feature is not None and feature.is_picture)
            found.append(PlannedColumn(entry.name, cell, stream_name(entry.name, camera), feature))
        return found

    def events(self) -> Iterator[Event]:
        for error in self.tables.broken:
            yield Rejected(error.where, _as_problem(error))
        for problem in (*self._dataset.problems, *table_problems(self._dataset, self._plan, self.tables, self._item.path)):
            yield Noticed(problem)
        if self._item.extra.get("first"):
            yield from (Noticed(problem) for problem in whole_problems(self._dataset, self._item))
        read = 0
        for cut in self._cuts():
            read += 1
            if isinstance(cut, Rejected):
                yield cut
                continue
            yield from self._episode(cut)
        if not read and not self.tables.broken:
            message = f"{self._item.path}: expected rows, found none; nothing lands of this file"
            yield Noticed(Problem("empty_file", message, self._item.path))
        yield from (Noticed(problem) for problem in index_problems(self._dataset, self._item, self._files, self._spans))

    # --- rows into episodes

    def _cuts(self) -> Iterator[Cut | Rejected]:
        """Yield the rows of each episode: they end where episode_index changes; a group that cannot be read costs the episodes that touch it.

        Rows without an episode_index belong to the episode on both sides of them, of a file that is named for an episode also before and after all
        rows; elsewhere nothing says whose they are, and they are rejected.
        """
        running: Cut | None = None
        loose: _Loose | None = None
        before = named = self._dataset.names.episode
        row = 0
        for number, group in enumerate(self.tables.groups):
            at = 0
            batches = self.tables.batches(group, self._small or [planned.key for planned in self._plan])
            while True:
                try:
                    batch = next(batches, None)
                except BadRecording as error:
                    if loose is not None:
                        yield self._without_episode(loose, running)
                    if running is not None:
                        yield running if self._is_whole(running, at) else Rejected(self._key(running), _as_problem(error))
                    running = loose = before = None
                    yield Rejected(f"rows from {row} on, row group {number}", _as_problem(error))
                    break
                if batch is None:
                    break
                for index, start, count in self._runs(batch, running):
                    part, segment = batch.slice(start, count), Segment(number, at + start, count)
                    if index is None:
                        loose = loose or _Loose(row + start, before)
                        loose.add(part, segment, MAX_EPISODE_BYTES)
                        continue
                    refused = None
                    if loose is not None and index == loose.before:
                        running = self._join(running or Cut(index), loose)
                    elif loose is not None:
                        refused = self._without_episode(loose, running)
                    if running is not None and index != running.index:
                        yield running
                        running = None
                    if running is None:
                        running = Cut(index)
                        self._spans.setdefault(index, (row + start, row + start))
                    if refused is not None:
                        yield refused
                        running.beside.append(row + start - 1)
                    loose, before = None, index
                    self._extend(running, part, segment)
                    self._spans[index] = (self._spans[index][0], row + start + count)
                at += batch.num_rows
                row += batch.num_rows
        if loose is not None and named is not None and named == loose.before:
            running, loose = self._join(running or Cut(named), loose), None
        refused = self._without_episode(loose, running) if loose is not None else None
        if running is not None:
            yield running
        if refused is not None:
            yield refused

    def _join(self, cut: Cut, loose: _Loose) -> Cut:
        """Add rows without an episode_index to the episode that they belong to."""
        cut.joined += [loose.row, loose.rows]
        for part, segment in loose.parts:
            self._extend(cut, part, segment)
        first, end = self._spans.get(cut.index, (loose.row, loose.row))
        self._spans[cut.index] = (min(first, loose.row), max(end, loose.row + loose.rows))
        return cut

    def _without_episode(self, loose: _Loose, running: Cut | None) -> Rejected:
        """Return the rejection of rows that nothing gives to an episode; the one before them may lack them, and says so."""
        if running is not None:
            running.beside.append(loose.row)
        rows = f"rows {loose.row} to {loose.row + loose.rows - 1}"
        expected, found = "an episode_index at each row", f"none at {loose.rows}, and not one episode on both sides"
        advice = "fill the column; the episodes beside them land without these rows"
        return Rejected(rows, _as_problem(BadRecording(f"{self._item.path}: {rows}", expected, found, advice, check="rows_without_episode")))

    def _is_whole(self, cut: Cut, rows_of_group: int) -> bool:
        """Return whether an episode was over before a group that cannot be read: by its length, else as none of its rows stand in that group."""
        record = self._dataset.record(cut.index, self._seen.get(cut.index, 0))
        return rows_of_group == 0 if record is None or record.length is None else record.length == cut.rows

    def _runs(self, batch: Any, running: Cut | None) -> list[tuple[int | None, int, int]]:
        """Return (episode, first row, rows) of each run of rows with one episode_index, None where it is null."""
        place = batch.schema.get_field_index("episode_index")
        rows = batch.num_rows
        if not rows:
            return []
        column = batch.column(place) if place >= 0 else None
        planned = next((planned for planned in self._plan if planned.key == "episode_index"), None)
        if column is None or planned is None or planned.cell.dtype[:3] not in ("int", "uin") or planned.cell.sizes:
            named = self._dataset.names.episode
            return [(running.index if running is not None else named if named is not None else 0, 0, rows)]
        column = storage(column)
        there = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        values = np.zeros(rows, dtype=np.int64)
        values[there] = np.asarray(column.drop_null().to_numpy(zero_copy_only=False)).astype(np.int64)
        starts = [0, *(np.flatnonzero((np.diff(values) != 0) | (there[1:] != there[:-1])) + 1).tolist()]
        return [(int(values[start]) if there[start] else None, start, end - start) for start, end in zip(starts, [*starts[1:], rows], strict=True)]

    def _extend(self, cut: Cut, batch: Any, segment: Segment) -> None:
        cut.rows += batch.num_rows
        last = cut.segments[-1] if cut.segments else None
        if last is not None and last.group == segment.group and last.start + last.count == segment.start:
            cut.segments[-1] = replace(last, count=last.count + segment.count)
        else:
            cut.segments.append(segment)
        for key in self._small:
            part = batch.column(batch.schema.get_field_index(key))
            cut.arrays.setdefault(key, []).append(part)
            cut.bytes += part.nbytes
        if cut.bytes > MAX_EPISODE_BYTES:
            raise BadRecording(self._item.path, f"episodes of at most {MAX_EPISODE_BYTES} bytes of numbers", f"more in episode {cut.index}", check="too_large")

    def _key(self, cut: Cut) -> str:
        seen = self._seen.get(cut.index, 0)
        return str(cut.index) if not seen else f"{cut.index}.{seen + 1}"

    # --- one episode

    def _episode(self, cut: Cut) -> Iterator[Event]:
        key = self._key(cut)
        cut.occurrence = self._seen.get(cut.index, 0)
        self._seen[cut.index] = cut.occurrence + 1
        where = f"{self._item.path}: episode {key}"
        reading = EpisodeReading(cut, self._plan, self._dataset, self._videos, self._looked_at, self._later, self._rate_hz, where)
        try:
            yield from reading.events(self._files)
            if cut.occurrence:
                reading.note("repeated_episode_index", "the rows of an episode in one piece, each episode_index once", f"it again as part {cut.occurrence + 1}")
            self._note_rows(cut, reading)
            yield self._info(cut, key, reading)
        except BadRecording as error:
            yield Rejected(key, _as_problem(error))

    def _note_rows(self, cut: Cut, reading: EpisodeReading) -> None:
        """Name rows without an episode_index that were given to the episode, or that may be missing of it."""
        if cut.joined:
            found = f"none at {sum(cut.joined[1::2])} of {cut.rows}, from row {cut.joined[0]} of the table on"
            reading.note("joined_rows", "an episode_index at each row", found, "what stands on both sides of them says that they are of this episode", "info")
        for row in cut.beside:
            reading.note("rows_without_episode", "an episode_index at each row", f"none at row {row} of the table, next to it", "it may lack rows")

    def _info(self, cut: Cut, key: str, reading: EpisodeReading) -> EpisodeInfo:
        info, record, options = self._dataset.info, reading.record, self._options
        clock = reading.clock
        described = options.description
        origin: Origin = described.get("origin") or "teleop"
        splits = tuple(dict.fromkeys((*self._item.splits, *info.splits_of(cut.index))))
        metadata: dict[str, Any] = {"format": f"lerobot/{info.version or self._item.extra['layout']}", "episode_index": cut.index}
        if info.robot_type is not None:
            metadata["robot_type"] = info.robot_type
        if record is not None and record.rest:
            metadata["episode"] = dict(record.rest)
        if record is not None and record.tasks:
            metadata["tasks"] = list(record.tasks)
        said = {name: value for name, value in info.rest.items() if name not in _PLACES}
        if said:
            metadata["info"] = said
        success = reading.success
        if success is None and record is not None and isinstance(record.rest.get("success"), bool):
            success = record.rest["success"]
        return EpisodeInfo(
            dataset=self._item.dataset,
            columns=reading.columns,
            clock=clock.kind,
            key=key,
            stream_clocks=reading.stream_clocks,
            start_ns=clock.start_ns,
            epoch=clock.kind == "measured" and clock.start_ns > 978_307_200 * 1_000_000_000,
            rate_hz=clock.rate_hz,
            follow="action" if "action" in reading.columns else None,
            tasks=reading.tasks,
            success=success,
            splits=splits,
            embodiment=body_of(info.robot_type) or described.get("embodiment"),
            origin=origin,
            licence=described.get("licence"),
            metadata=metadata,
            problems=tuple(reading.problems),
        )


__all__ = ["KEEPS", "NAME", "RECOGNISED_BY", "VERSION", "find", "read"]
