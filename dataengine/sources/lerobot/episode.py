"""One episode of a dataset as events: its numbers, what is read beside them, its cameras, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.column import Column
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem, Severity
from dataengine.core.stream import Frames, Items, Rows
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, frame_rows
from dataengine.sources.lerobot.cameras import place
from dataengine.sources.lerobot.cells import CellType, json_cells, numbers, picture_encoding, pictures, raw_bytes, storage, texts
from dataengine.sources.lerobot.clocks import Clock, clock_of
from dataengine.sources.lerobot.columns import camera_column, item_column, number_column, stream_name
from dataengine.sources.lerobot.dataset import Dataset, inside
from dataengine.sources.lerobot.info import Feature
from dataengine.sources.lerobot.language import ONE_LIST, PERSISTENT, Held, entries_of
from dataengine.sources.lerobot.metadata import EpisodeRecord, VideoRange
from dataengine.sources.lerobot.number_rows import sort_rows
from dataengine.sources.lerobot.tables import Later, Segment, arrow_faults
from dataengine.video.index import FrameIndex

ODD_ROWS = "rows that the column of numbers cannot hold: of another shape, or with nulls inside"


@dataclass(frozen=True)
class PlannedColumn:
    """One column of the table: its key, its cells, and the stream that it becomes."""

    key: str
    cell: CellType
    stream: str
    feature: Feature | None

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Return the shape of its rows of numbers as the schema fixes it, else as info.json declares it; None where neither does."""
        sizes = tuple(size for size in self.cell.sizes if size is not None)
        if len(sizes) == len(self.cell.sizes):
            return sizes
        stated = self.feature.shape if self.feature is not None else None
        return stated if stated is not None and len(stated) == len(self.cell.sizes) and min(stated) > 0 else None


@dataclass
class Cut:
    """The rows of one episode as they were cut out of the table: `arrays` are the small columns, Arrow arrays in order.

    `joined` are rows without an episode_index that stand between its own, `beside` such rows next to it that may belong to it: their places in the table.
    """

    index: int
    occurrence: int = 0
    rows: int = 0
    bytes: int = 0
    segments: list[Segment] = field(default_factory=list)
    arrays: dict[str, list[Any]] = field(default_factory=dict)
    joined: list[int] = field(default_factory=list)
    beside: list[int] = field(default_factory=list)


class EpisodeReading:
    """The reading of one episode; after `events` its facts stand in `columns`, `stream_clocks`, `clock`, `tasks`, `success` and `problems`."""

    def __init__(
        self, cut: Cut, plan: list[PlannedColumn], dataset: Dataset, videos: KeptVideos, looked_at: set[str], later: Later, rate_hz: float | None, where: str
    ) -> None:
        self._cut, self._plan, self._dataset, self._videos, self._later = cut, plan, dataset, videos, later
        self._looked_at = looked_at
        self._asked_hz = rate_hz
        self.where = where
        self.record: EpisodeRecord | None = dataset.record(cut.index, cut.occurrence)
        self.clock = Clock("unknown")
        self.columns: dict[str, Column] = {}
        self.stream_clocks: dict[str, str] = {}
        self.tasks: tuple[str, ...] = ()
        self.success: bool | None = None
        self.problems: list[Problem] = []
        self._numbers: dict[str, Array] = {}

    def note(self, check: str, expected: str, found: str, advice: str = "", severity: Severity = "warning", where: str = "") -> None:
        """Name what is wrong with the episode."""
        where = where or self.where
        message = f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else "")
        self.problems.append(Problem(check, message, where, severity, expected, found, advice))

    def events(self, opener: Any) -> Iterator[Rows]:
        """Yield the rows of every stream; raise BadRecording."""
        import pyarrow as pa

        with arrow_faults(self.where):
            whole = {key: pa.concat_arrays([storage(part) for part in parts]) for key, parts in self._cut.arrays.items()}
            frames_of_video = {
                planned: self._video_cells(whole.pop(planned.key)) for planned in self._plan if planned.cell.form == "frame_of_video" and planned.key in whole
            }
            for key, array in whole.items():
                values, _ = numbers(array)
                if values is not None:
                    self._numbers[key] = values
        self._set_clock(frames_of_video)
        self._check_record()
        for planned in self._plan:
            if planned.cell.is_small:
                with arrow_faults(self.where):
                    found = list(self._number_rows(planned, whole[planned.key]))
                yield from found
        yield from self._task_rows()
        yield from self._later_rows(opener)
        for planned, (paths, seconds) in frames_of_video.items():
            yield from self._referred_video(planned, paths, seconds)
        if not frames_of_video:
            for camera in sorted({*self._dataset.info.cameras, *self._dataset.cameras}):
                yield from self._camera_rows(camera)
        success = self._numbers.get("next.success")
        if success is not None and success.dtype == bool:
            self.success = bool(success.any())

    # --- the clock

    def _scalar(self, key: str) -> Array | None:
        values = self._numbers.get(key)
        return values.reshape(-1) if values is not None and values.size == self._cut.rows else None

    def _set_clock(self, frames_of_video: Mapping[PlannedColumn, tuple[list[str], Array]]) -> None:
        timestamps, frames = self._scalar("timestamp"), self._scalar("frame_index")
        rate_hz = self._dataset.info.fps or self._asked_hz
        if frames is not None and frames.dtype.kind not in "iu":
            frames = None
        if rate_hz is None:
            for paths, _ in frames_of_video.values():
                path = inside(self._dataset.root, paths[0]) if paths else None
                index = None if path is None else self._index(path)
                rate_hz = rate_hz or (constant_rate_hz(index) if index is not None else None)
        self.clock = clock_of(self._cut.rows, timestamps, frames, rate_hz, self.where)
        self.problems += self.clock.problems

    def _add(self, column: Column, clock: str | None) -> None:
        self.columns[column.name] = column
        if clock is not None:
            self.stream_clocks[column.name] = clock

    # --- numbers and tasks

    def _check_record(self) -> None:
        """Compare the rows with what the side files say of the episode."""
        record, rows = self.record, self._cut.rows
        own = self._dataset.names
        if own.episode is not None and own.episode != self._cut.index:
            self.note("episode_index_differs", f"episode {own.episode} as the file is named", f"episode_index {self._cut.index}", "the number inside is kept")
        if record is None:
            return
        if record.length is not None and record.length != rows:
            self.note("length_differs", f"{record.length} rows as the side files say", f"{rows}", "the rows of the table count")
        first = self._scalar("index")
        if record.rows is not None and first is not None and int(first[0]) != record.rows[0]:
            self.note("index_differs", f"the first index {record.rows[0]} as the side files say", str(int(first[0])), severity="info")
        if record.data_file is not None and own.file is not None and record.data_file != own.file:
            expected = f"it in chunk {record.data_file[0]}, file {record.data_file[1]} as the side files say"
            self.note("data_file_differs", expected, f"it in chunk {own.file[0]}, file {own.file[1]}")

    def _number_rows(self, planned: PlannedColumn, array: Any) -> Iterator[Rows]:
        """Yield the rows of a column of numbers: those that it can hold, and beside them, as JSON, those that it cannot; rows that are null are gaps."""
        key, stream, found = planned.key, planned.stream, sort_rows(planned.cell, array, planned.row_shape)
        parts = self._dataset.modality.parts.get(key)
        timed = self.clock.chosen is not None
        self._note_missing(key, found.missing, len(array))
        if found.nulls:
            said = f"{found.nulls} nulls in {len(found.holed)} rows, the first row {found.holed[0]}"
            self.note("null_values", f"a value of {key!r} at each row", said, "they are NaN", "info")
        if found.values is not None and len(found.values):
            column = number_column(stream, key, planned.feature, found.values.dtype.name, found.values.shape[1:], parts)
            gaps = len(found.places) < len(array)
            self._add(replace(column, steps=False) if gaps and not timed else column, self.clock.chosen)
            if parts and found.values.ndim == 2:
                problem = self._dataset.modality.range_problem(key, found.values.shape[1], self.where)
                self.problems += [problem] if problem is not None else []
            yield Rows(stream, found.values, self.clock.at(found.places))
        elif found.cells:
            encoding = f"raw/{planned.cell.dtype}" if found.form == "raw" else "json"
            self._add(item_column(stream, key, planned.feature, CellType("json"), encoding), self.clock.chosen)
            yield Rows(stream, Items(found.cells, encoding), self.clock.at(found.places))
        if len(found.odd):
            beside = f"{stream}.odd_rows"
            while any(beside == other.stream for other in self._plan):
                beside += "_"
            said = f"{len(found.odd)} of {len(array)} of another shape or with nulls inside, the first row {found.odd[0]}"
            self.note("odd_rows", f"rows of {planned.cell.dtype} of one shape in {key!r}", said, f"they are kept as JSON in {beside!r}")
            self._add(replace(item_column(beside, key, planned.feature, CellType("json"), "json"), doc=ODD_ROWS), self.clock.chosen)
            yield Rows(beside, Items(found.odd_cells, "json"), self.clock.at(found.odd))

    def _note_missing(self, key: str, missing: Array, rows: int) -> None:
        if len(missing):
            said = f"none at {len(missing)} of {rows}, the first row {missing[0]}"
            self.note("missing_values", f"a value of {key!r} at each row", said, "only the others are kept")

    def _task_rows(self) -> Iterator[Rows]:
        """Yield the text of each row's task and annotations, and set the episode's tasks."""
        taken = {planned.stream for planned in self._plan}
        listed = self.record.tasks if self.record is not None else ()
        found: dict[str, None] = {}
        explained: set[str] = set()
        for planned in self._plan:
            is_task = planned.key == "task_index"
            values = self._scalar(planned.key) if is_task or planned.key.startswith("annotation.") else None
            if values is None or values.dtype.kind not in "iu" or not (self._dataset.tasks or is_task):
                continue
            known = self._dataset.tasks
            unknown = sorted({int(number) for number in np.unique(values)} - known.keys())
            if unknown and is_task and len(np.unique(values)) == len(unknown) == len(listed) == 1:
                known, unknown = {unknown[0]: listed[0]}, []  # the entry of the episode says what the lost list of tasks would
            if unknown and is_task:
                self.note("unknown_task", "each task_index in the list of tasks", f"{unknown[:5]} that are not", "their text is empty")
            words = {number: text.encode("utf-8", "backslashreplace") for number, text in known.items()}
            stream = "task" if is_task else f"{planned.stream}.text"
            said = {known[number]: None for number in dict.fromkeys(values.tolist()) if number in known}
            if is_task:
                found |= said
            else:
                explained |= said.keys()
            if stream in taken or not said:
                continue
            column = Column(stream, "text", "string", meaning="language", encoding="utf-8", extra={"source": planned.key})
            self._add(column, self.clock.chosen)
            yield Rows(stream, Items([words.get(number, b"") for number in values.tolist()], "utf-8"), self.clock.times)
        found |= {text: None for text in listed if text not in explained}
        self.tasks = tuple(text for text in found if text.strip())

    # --- what is read beside the numbers

    def _later_rows(self, opener: Any) -> Iterator[Rows]:
        columns = [planned for planned in self._plan if not planned.cell.is_small and planned.cell.form != "frame_of_video"]
        if not columns:
            return
        at = 0
        held = Held()
        missing: dict[str, int] = {}
        gaps: dict[str, list[int]] = {}
        for batch in self._later.read(self._cut.segments):
            times = self.clock.part(at, at + batch.num_rows)
            at += batch.num_rows
            for planned in columns:
                with arrow_faults(f"{self.where}: {planned.key}"):
                    array = storage(batch.column(batch.schema.get_field_index(planned.key)))
                    kept = times
                    if planned.cell.form == "numbers" and array.null_count:
                        there = np.asarray(array.is_valid().to_numpy(zero_copy_only=False))
                        gaps.setdefault(planned.key, []).extend((np.flatnonzero(~there) + at - batch.num_rows).tolist())
                        array, kept = array.drop_null(), {name: stamps[there] for name, stamps in times.items()}
                    rows = self._beside(planned, array, kept, held, opener, missing) if len(array) else None
                if rows is not None:
                    yield rows
        for planned in columns:
            if planned.key == PERSISTENT and held.same is not None:
                entries = entries_of(held.same)
                if entries is not None:
                    column = item_column(planned.stream, planned.key, planned.feature, planned.cell, "json")
                    timed = "timestamp" in entries.times and self.clock.chosen is not None
                    self._add(replace(column, doc=ONE_LIST), "timestamp" if timed else None)
                    yield Rows(planned.stream, Items(entries.items, "json"), entries.times)
        for planned in columns:
            self._note_missing(planned.key, np.array(gaps.get(planned.key, ()), dtype=np.int64), self._cut.rows)
            if planned.key in gaps and planned.stream in self.columns and self.clock.chosen is None:
                self.columns[planned.stream] = replace(self.columns[planned.stream], steps=False)  # without times, a gap would shift the rows
        for key, count in missing.items():
            self.note("missing_picture", f"a picture of {key!r} at each row", f"none at {count} of {self._cut.rows}", "these rows are empty")
        if "task_index" not in self._numbers and not self.tasks:
            self.tasks = tuple(held.texts)

    def _beside(self, planned: PlannedColumn, array: Any, times: Mapping[str, Array], held: Held, opener: Any, missing: dict[str, int]) -> Rows | None:
        form, feature = planned.cell.form, planned.feature
        if form == "numbers":
            values, _ = numbers(array)
            if values is None:
                raise BadRecording(f"{self.where}: {planned.key}", "rows of one shape", "several, or nulls", "pad them", check="ragged_rows")
            if feature is not None and feature.is_picture and values.dtype == np.uint8 and values.ndim in (3, 4):
                pixels = np.ascontiguousarray(np.moveaxis(values, 1, -1)) if feature.is_channel_first and values.ndim == 4 else values
                column = replace(item_column(planned.stream, planned.key, feature, CellType("picture"), "png"), shape=pixels.shape[1:], encoding=None)
                self._add(column, self.clock.chosen)
                return Rows(planned.stream, Frames(pixels, exact=column.kind != "image"), times)
            self._add(number_column(planned.stream, planned.key, feature, values.dtype.name, values.shape[1:]), self.clock.chosen)
            return Rows(planned.stream, values, times)
        if form == "picture":
            found = [self._picture(data, path, opener) for data, path in pictures(array)]
            absent = sum(not data for data in found)
            if absent:
                missing[planned.key] = missing.get(planned.key, 0) + absent
            known = [picture_encoding(data) if data else "" for data in found]
            first = next((encoding for encoding in known if encoding), "png")
            if planned.stream not in self.columns:
                self._add(item_column(planned.stream, planned.key, feature, planned.cell, first), self.clock.chosen)
            return Rows(planned.stream, Items(found, [encoding or first for encoding in known]), times)
        if form == "text":
            words = texts(array)
            if "instruction" in planned.key or planned.key in ("task", "language"):
                held.hear(words)
            self._add(item_column(planned.stream, planned.key, feature, planned.cell, "utf-8"), self.clock.chosen)
            return Rows(planned.stream, Items(words, "utf-8"), times)
        if form == "bytes":
            self._add(item_column(planned.stream, planned.key, feature, planned.cell, "application/octet-stream"), self.clock.chosen)
            return Rows(planned.stream, Items(raw_bytes(array), "application/octet-stream"), times)
        cells = json_cells(array)
        if planned.key == PERSISTENT:
            kept = held.keep(cells)
            if kept is None:
                return None
            cells = kept
            count = len(cells)
            at = held.rows - count
            times = self.clock.part(at, at + count)
        self._add(item_column(planned.stream, planned.key, feature, planned.cell, "json"), self.clock.chosen)
        return Rows(planned.stream, Items(cells, "json"), times)

    def _picture(self, data: bytes, path: str, opener: Any) -> bytes:
        """Return a picture of the table: its bytes, or those of the file inside the dataset that it names."""
        if data or not path:
            return data
        place = inside(self._dataset.root, path)
        try:
            return b"" if place is None else bytes(opener.read_bytes(place))
        except BadRecording:
            return b""

    # --- cameras

    def _index(self, path: str) -> FrameIndex | None:
        """Return the frames of a video file; None, and a problem, where it cannot be read."""
        try:
            index = self._videos.main(path)
        except BadRecording as error:
            check = "missing_video" if error.check == "unreadable_file" else "unreadable_video"
            self.problems.append(
                Problem(check, str(error), path, "warning", error.expected, error.found, "copy it again; the episode lands without this camera")
            )
            return None
        if path not in self._looked_at:
            self._looked_at.add(path)
            problem = self._videos.decodes(path, index)
            self.problems += [problem] if problem is not None else []
        return index

    def _camera_rows(self, camera: str) -> Iterator[Rows]:
        found = self._dataset.video_of(camera, self._cut.index, self.record) if self._cut.occurrence == 0 or self.record is not None else None
        if found is not None:
            yield from self._video(camera, *found)
        elif camera in self._dataset.cameras:
            self.note("missing_video", f"a video of {camera!r}", "none of this episode", "look for the file; the episode lands without this camera")

    def _referred_video(self, planned: PlannedColumn, paths: list[str], seconds: Array) -> Iterator[Rows]:
        """Yield the frames that the rows themselves refer to (v1)."""
        if len(set(paths)) != 1:
            self.note("several_videos", f"one file of {planned.key!r}", f"{len(set(paths))}", "the episode lands without this camera")
            return
        path = inside(self._dataset.root, paths[0])
        if path is None:
            self.note("path_escapes", "a path inside the dataset's folder", repr(paths[0])[:200], "the episode lands without this camera")
            return
        step_s = 1 / self.clock.rate_hz if self.clock.rate_hz else 0.0
        yield from self._video(planned.key, path, VideoRange(None, float(seconds[0]), float(seconds[-1]) + step_s if step_s else None))

    def _video(self, camera: str, path: str, found: VideoRange | None) -> Iterator[Rows]:
        index = self._index(path)
        if index is None:
            return
        feature = self._dataset.info.features.get(camera)
        rate_hz = self.clock.rate_hz or self._dataset.info.fps or constant_rate_hz(index)
        at = f"{path}: {self.where}"
        start_s, end_s = (None, None) if found is None else (found.start_s, found.end_s)
        lies = place(index, start_s, end_s, self.clock, self._cut.rows, rate_hz, at)
        if lies is None:
            length = f"{(int(index.pts_ns[-1]) - int(index.pts_ns[0])) / NS_PER_S:.6g} s of video"
            self.note("video_range", f"frames from {start_s} s on", length, "the episode lands without this camera", where=at)
            return
        self.problems += lies.problems
        name = stream_name(camera, True)
        declared = feature.picture_shape if feature is not None else None
        column = camera_column(name, camera, feature, index, self._dataset.modality.cameras.get(camera))
        if declared is not None and declared[:2] != column.shape[:2]:
            self.note("shape_differs", f"frames of {declared[0]}x{declared[1]} as declared", f"{column.shape[0]}x{column.shape[1]}", where=at)
        self._add(column, lies.clock)
        clocks = {lies.clock: lies.times_ns} if lies.clock is not None and lies.times_ns is not None else {}
        yield frame_rows(name, path, index, lies.first, lies.count, clocks)

    def _video_cells(self, array: Any) -> tuple[list[str], Array]:
        paths = [str(path) for path in array.field("path").to_pylist()]
        seconds = np.asarray(array.field("timestamp").to_numpy(zero_copy_only=False), dtype=np.float64)
        return paths, np.where(np.isfinite(seconds) & (np.abs(seconds) < 1e9), seconds, 0.0)
