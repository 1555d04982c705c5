"""One episode out of a log's rows: its streams as they come, and at its end the films that the rows name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column
from dataengine.core.errors import BadRecording, printable
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem, Severity
from dataengine.core.protocols import Opener
from dataengine.core.stream import Items, Rows
from dataengine.sources.kept_video import KeptVideos, frame_column, frame_rows
from dataengine.sources.named_files import below, is_inside
from dataengine.sources.parquet_log.films import Film, further_name, take_films
from dataengine.sources.parquet_log.mapping import LogMapping, StreamMapping
from dataengine.sources.parquet_log.values import Form, form_of, guarded, items, leaf, numbers, present, times_ns
from dataengine.video.index import FrameIndex

TIME = "time"
MAX_TASKS = 1000


@dataclass(frozen=True)
class Source:
    """A stream and the columns that it is made of."""

    name: str
    mapping: StreamMapping
    columns: tuple[str, ...]
    form: Form
    picture: bool = False


def sources_of(mapping: LogMapping, leaves: Mapping[str, Any], problems: list[Problem], where: str) -> list[Source]:
    """Return the streams of a log: those of the mapping, then each column that it does not name, if the rest is to be kept.

    Raises:
        BadRecording: a column is of a type that its stream cannot be made of.
    """
    found = []
    for name, stream in mapping.streams.items():
        columns = stream.columns or tuple(column for column in (stream.image, stream.text) if column)
        forms = {form_of(leaves[column]) for column in columns}
        wanted = {"text"} if stream.text else {"bytes"} if stream.image else {"numbers"} if len(columns) > 1 else {"numbers", "lists"}
        if columns and not forms <= wanted:
            kinds = ", ".join(f"{column} is {leaves[column]}" for column in columns)[:300]
            raise BadRecording(where, f"columns of {' or '.join(sorted(wanted))} for the stream {name!r}", kinds, "correct the mapping", check="bad_mapping")
        if columns:
            form = forms.pop()
            assert form is not None
            found.append(Source(name, stream, columns, form, stream.image is not None))
    named = mapping.sources()
    for column, kind in leaves.items() if mapping.rest == "keep" else ():
        if column in named:
            continue
        form = form_of(kind)
        if form is None:
            problems.append(Problem("column_not_kept", f"{where}: the column {printable(column)!r} of type {kind} cannot be kept as rows", where))
            continue
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", printable(column))[:200] or "column"
        while name in mapping.streams or any(source.name == name for source in found):
            name += "_"
        found.append(Source(name, StreamMapping(columns=(column,)), (column,), form))
    return found


@dataclass
class RunningEpisode:
    """The episode that is being read: what its rows have shown so far."""

    key: str
    where: str
    mapping: LogMapping
    sources: list[Source]
    leaves: Mapping[str, Any]
    stem: str
    columns: dict[str, Column] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, None] = field(default_factory=dict)
    success: bool | None = None
    starts: list[int] = field(default_factory=list)
    films: dict[str, dict[str, Film]] = field(default_factory=dict)
    without_time: int = 0
    widths: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def take(self, batch: Any) -> Iterator[Rows]:
        """Yield the streams of some consecutive rows of the episode."""
        with guarded(self.where):
            batch, clocks = self._timed(batch)
            self._notice(batch, clocks.get(TIME))
        for source in self.sources:
            with guarded(self.where):
                rows = self._rows(source, batch, clocks)
            if rows is not None:
                yield rows

    def _timed(self, batch: Any) -> tuple[Any, dict[str, Array]]:
        """Return the rows that have a time (all, where the log has none), and their clocks."""
        import pyarrow

        stamps = {name: clock for name, clock in ((TIME, self.mapping.time), *self.mapping.clocks.items()) if clock is not None}
        there = np.ones(batch.num_rows, dtype=bool)
        for clock in stamps.values():
            there &= present(leaf(batch, clock.column))
        if not there.all():
            self.without_time += int(np.count_nonzero(~there))
            batch = batch.filter(pyarrow.array(there))
        clocks = {name: times_ns(leaf(batch, clock.column), clock.unit, f"{self.where}: {clock.column}") for name, clock in stamps.items()}
        if TIME in clocks and len(clocks[TIME]):
            self.starts.append(int(clocks[TIME].min()))
        return batch, clocks

    def _notice(self, batch: Any, row_ns: Array | None) -> None:
        """Take down tasks, the outcome, and what the films need."""
        if self.mapping.task and len(self.tasks) < MAX_TASKS:
            for text in leaf(batch, self.mapping.task).unique().to_pylist()[:MAX_TASKS]:
                if text is not None and str(text).strip():
                    self.tasks.setdefault(" ".join(printable(str(text)).split()))
        if self.mapping.success:
            said = [value for value in leaf(batch, self.mapping.success).unique().to_pylist() if value is not None]
            if said and all(value in (0, 1) for value in said):
                rows = leaf(batch, self.mapping.success).drop_null()
                self.success = bool(rows[len(rows) - 1].as_py())
        for name, stream in self.mapping.streams.items():
            if stream.video is None or not batch.num_rows:
                continue
            films = self.films.setdefault(name, {})
            without = take_films(films, stream, batch, row_ns, self.key, self.stem, self.where)
            if without:
                self.gaps[name] = self.gaps.get(name, 0) + without

    def _rows(self, source: Source, batch: Any, clocks: Mapping[str, Array]) -> Rows | None:
        import pyarrow

        parts = [leaf(batch, column) for column in source.columns]
        there = np.ones(batch.num_rows, dtype=bool)
        for part in parts:
            there &= present(part)
        if not there.all():
            self.gaps[source.name] = self.gaps.get(source.name, 0) + int(np.count_nonzero(~there))
            parts = [part.filter(pyarrow.array(there)) for part in parts]
            clocks = {name: values[there] for name, values in clocks.items()}
        if not there.any():
            return None
        where = f"{self.where}: {', '.join(source.columns)}"
        if source.form in ("text", "bytes"):
            return Rows(source.name, self._items(source, parts[0]), clocks)
        tables = [numbers(part, where) for part in parts]
        values = tables[0] if len(tables) == 1 else np.stack(tables, axis=1)
        shape = self.widths.setdefault(source.name, values.shape[1:])
        if values.shape[1:] != shape:
            raise BadRecording(where, f"rows of shape {shape} throughout", f"rows of shape {values.shape[1:]}", "split the log", check="ragged_lists")
        if source.name not in self.columns:
            self.columns[source.name] = self._numeric(source, values)
        return Rows(source.name, values, clocks)

    def _items(self, source: Source, part: Any) -> Items:
        encoding = "utf-8" if source.form == "text" else "raw/bytes"
        packed = items(part, encoding)
        if source.picture:
            found = []
            for data in packed.data:
                header = picture_header(data)
                found.append(header.encoding if header else "unknown")
            packed = replace(packed, encodings=found)
            encoding = found[0]
        if source.name not in self.columns:
            terms = _terms(source.mapping)
            if source.picture:
                camera = Camera(source.mapping.camera or "other")
                column = Column(source.name, "image", "uint8", (None, None, None), encoding=encoding, camera=camera, **terms)
            elif source.form == "text":
                column = Column(source.name, "text", "string", (), encoding=encoding, **terms)
            else:
                column = Column(source.name, "message", "bytes", (), encoding=encoding, steps=False, **terms)
            self.columns[source.name] = column
        return packed

    def _numeric(self, source: Source, values: Array) -> Column:
        terms, stream = _terms(source.mapping), source.mapping
        dims = stream.dims or (source.columns if len(source.columns) > 1 else None)
        if dims is not None and (values.ndim != 2 or values.shape[1] != len(dims)):
            found = f"rows of shape {values.shape[1:]}"
            raise BadRecording(self.where, f"{len(dims)} numbers a row for the dims of {source.name!r}", found, "correct `dims`", check="bad_mapping")
        unit = stream.unit
        if unit is None and source.form == "times":
            unit = str(getattr(self.leaves[source.columns[0]], "unit", "ns"))
        return Column(source.name, "numeric", values.dtype.name, values.shape[1:], dims=dims, **(terms | {"unit": unit}))

    def problems(self) -> list[Problem]:
        """Say which rows are missing where, and why."""
        found = []
        if self.without_time:
            message = f"{self.where}: {self.without_time} rows of episode {self.key!r} have no time and are in no stream"
            found.append(Problem("rows_without_time", message, self.where))
        known = "these rows are gaps of that stream" if self.mapping.time else "without times its rows cannot be told apart, so it is in no trajectory"
        severity: Severity
        for severity, mapped in (("warning", True), ("info", False)):  # a column that nobody named may well be filled now and then
            gaps = {name: count for name, count in self.gaps.items() if count and (name in self.mapping.streams) == mapped}
            if gaps:
                shown = ", ".join(f"{name} {count}" for name, count in list(gaps.items())[:20])
                message = f"{self.where}: nulls in {len(gaps)} stream{'s' if len(gaps) > 1 else ''} ({shown}): {known}"
                found.append(Problem("null_rows", message, self.where, severity))
        return found

    def ended_columns(self) -> dict[str, Column]:
        """Return the columns; without times a stream with gaps cannot stand in steps."""
        if self.mapping.time is not None:
            return dict(self.columns)
        return {name: replace(column, steps=False) if self.gaps.get(name) else column for name, column in self.columns.items()}

    def kept_films(self, files: Opener, folder: str, problems: list[Problem]) -> Iterator[tuple[Rows, str | None]]:
        """Yield the frames of each film that the rows name, and the name of their clock.

        A stream of kept video is one piece: where the rows of the episode name several films for it, the first is the stream that the mapping names, and each
        other one is a stream of its own, outside of steps.

        Raises:
            BadRecording: a film that is there cannot be read, or rows show frames that it lacks.
        """
        videos = KeptVideos(files)
        for name, films in self.films.items():
            stream, taken = self.mapping.streams[name], {*self.mapping.streams, *(source.name for source in self.sources), *self.columns}
            names = {path: further_name(name, number, taken) if number > 1 else name for number, path in enumerate(films, 1)}
            if len(films) > 1:
                problems.append(self._several(name, names))
            for path, film in films.items():
                index = self._film_index(videos, files, folder, name, path, problems)
                if index is None:
                    continue
                terms = {key: value for key, value in _terms(stream).items() if key in ("meaning", "align", "doc") and value is not None}
                column = frame_column(names[path], index, Camera(stream.camera or "other"))
                column = replace(column, **(terms if terms.get("doc") else {key: value for key, value in terms.items() if key != "doc"}))
                is_first = names[path] == name
                self.columns[names[path]] = column if is_first else replace(column, steps=False, extra={**column.extra, "continues": name})
                # An offset counts from the start of one film; where the next one stands is not known by it.
                first, count, times = film.placed(names[path], stream, len(index), index.pts_ns if is_first else None, self.where, problems)
                clocks = {} if times is None else {TIME: times}
                yield frame_rows(names[path], below(folder, path), index, first, count, clocks), None if times is None else TIME

    def _several(self, name: str, names: Mapping[str, str]) -> Problem:
        """Say that an episode has several films of one stream, and where they are."""
        further = [f"{path[:200]!r} as {stream}" for path, stream in names.items() if stream != name]
        shown = f"{', '.join(further[:10])}{' and more' if len(further) > 10 else ''}"
        message = f"{self.where}: {name}: the rows of one episode name {len(names)} films; the first is this stream, the others are kept beside it: {shown}"
        advice = "name a column as `episode` that changes with the film, so that each film is an episode"
        return Problem("several_films", message, self.where, advice=advice)

    def _film_index(self, videos: KeptVideos, files: Opener, folder: str, name: str, path: str, problems: list[Problem]) -> FrameIndex | None:
        """Return the frames of a film, None where it is not there, which is then said."""
        if not is_inside(path):
            problems.append(Problem("path_escapes", f"{self.where}: {name}: the film must lie below the log's folder, found {path[:200]!r}", self.where))
            return None
        try:
            files.open(below(folder, path)).close()
        except BadRecording as error:
            if error.check != "unreadable_file":
                raise
            message = f"{self.where}: the film {path[:200]!r} of {name!r} is not there"
            problems.append(Problem("missing_video", message, self.where, advice="copy it too"))
            return None
        return videos.main(below(folder, path))


def _terms(stream: StreamMapping) -> dict[str, Any]:
    """Return what a stream's mapping says of its column."""
    return {
        "meaning": stream.meaning,
        "unit": stream.unit,
        "frame": stream.reference_frame,
        "action_space": stream.action_space.value() if stream.action_space is not None else None,
        "action_source": stream.action_source or ("commanded" if stream.meaning == "action" else None),
        "align": stream.align,
        "doc": stream.doc,
    }
