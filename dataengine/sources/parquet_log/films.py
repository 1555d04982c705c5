"""The films that a log's rows name: which rows show which, and where their frames stand on the log's clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from posixpath import dirname
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem, Severity
from dataengine.core.protocols import Item
from dataengine.sources.named_files import below, is_inside
from dataengine.sources.parquet_log.mapping import PLACES, LogMapping, StreamMapping
from dataengine.sources.parquet_log.values import leaf, numbers, runs

# So many films of one stream are kept for an episode; a log that names more has rows that are no recording of one camera.
MAX_FILMS = 100
FILM_ENDS = (".mp4", ".mkv", ".webm", ".mov", ".avi")


@dataclass
class Film:
    """One film of a stream in an episode: how many rows show it, their frame numbers and their times."""

    path: str
    rows: int = 0
    shown: list[Array] = field(default_factory=list)
    row_ns: list[Array] = field(default_factory=list)

    def placed(self, name: str, stream: StreamMapping, frames: int, pts_ns: Array | None, where: str, problems: list[Problem]) -> tuple[int, int, Array | None]:
        """Return the first frame, how many, and the time of each on the log's clock, None where the log does not say.

        Args:
            name: of the stream.
            stream: what the mapping says of it.
            frames: how many the film has.
            pts_ns: the container's times, where the mapping's offset holds for this film.
            where: the log.
            problems: what the rows leave open is added to it.

        Raises:
            BadRecording: rows show frames that the film lacks, or go back in it.
        """
        if stream.offset_s is not None:
            return 0, frames, None if pts_ns is None else pts_ns + round(stream.offset_s * 1e9)
        shown = np.concatenate(self.shown) if stream.frame and self.shown else np.arange(min(self.rows, frames))
        if not len(shown) or shown.dtype.kind not in "iu" or (np.diff(shown.astype(np.int64)) < 0).any() or int(shown[0]) < 0 or int(shown[-1]) >= frames:
            raise BadRecording(where, f"frame numbers of {name!r} that do not fall, 0 to {frames - 1}", "others", "correct the log", check="odd_frames")
        if stream.frame is None and self.rows != frames:
            message = f"{where}: {name}: {frames} frames for {self.rows} rows; frame k is taken for row k"
            problems.append(Problem("frames_differ", message, where, advice="name a column of frame numbers"))
        frame, rows = np.unique(shown.astype(np.int64), return_index=True)
        first, count = int(frame[0]), int(frame[-1] - frame[0]) + 1
        if not self.row_ns:
            return first, count, None
        if len(frame) != count:
            message = f"{where}: {name}: {count - len(frame)} frames between the first and the last belong to no row, so the frames have no times of the log"
            problems.append(Problem("frames_without_rows", message, where, advice="give offset_s"))
            return first, count, None
        return first, count, np.concatenate(self.row_ns)[rows]


def film_runs(stream: StreamMapping, batch: Any, key: str, stem: str) -> Iterator[tuple[int, int, str | None]]:
    """Yield (first row, row after the last, path) of consecutive rows that show one film; the path is None where a column of it is null."""
    assert stream.video is not None
    known: dict[str, Any] = {"episode": key, "stem": stem}
    columns = [name for name in dict.fromkeys(PLACES.findall(stream.video)) if name not in known]
    found = {name: leaf(batch, name) for name in columns}
    borders = {0, batch.num_rows} | {stop for values in found.values() for _, stop, _ in runs(values)}
    for start, stop in pairwise(sorted(borders)):
        here = known | {name: values[start].as_py() for name, values in found.items()}
        lacks = any(here[name] is None for name in columns)
        yield start, stop, None if lacks else PLACES.sub(lambda place, here=here: printable(str(here.get(place.group(1), ""))), stream.video)  # type: ignore[misc]


def take_films(films: dict[str, Film], stream: StreamMapping, batch: Any, row_ns: Array | None, key: str, stem: str, where: str) -> int:
    """Add rows to the films of a stream; return how many rows name none.

    Raises:
        BadRecording: more films than one camera's recording has, or rows without a frame number.
    """
    without = 0
    for start, stop, path in film_runs(stream, batch, key, stem):
        if path is None:
            without += stop - start
            continue
        film = films.setdefault(path, Film(path))
        if len(films) > MAX_FILMS:
            advice = "check `video`; it names a film, not a picture for each row"
            raise BadRecording(where, f"at most {MAX_FILMS} films of a stream in an episode", "more", advice, check="several_films")
        film.rows += stop - start
        if row_ns is not None:
            film.row_ns.append(row_ns[start:stop])
        if stream.frame:
            column = leaf(batch, stream.frame).slice(start, stop - start)
            if column.null_count:
                raise BadRecording(where, f"a frame number in each row of {stream.frame!r}", f"{column.null_count} nulls", check="odd_frames")
            film.shown.append(numbers(column, where))
    return without


def named_films(mapping: LogMapping, batch: Any, key: str, folder: str, stem: str) -> set[str]:
    """Return the films, as paths from the source's root, that some rows of an episode name."""
    streams = [stream for stream in mapping.streams.values() if stream.video is not None]
    paths = {path for stream in streams for _, _, path in film_runs(stream, batch, key, stem)}
    return {below(folder, path) for path in paths if path is not None and is_inside(path)}


def films_below(names: Iterable[str], folder: str, stem: str, mapping: LogMapping) -> list[str]:
    """Return those of the listed files that are films below a log's folder which the mapping's paths may mean."""
    patterns = []
    for stream in mapping.streams.values():
        if stream.video is not None:
            parts = PLACES.split(stream.video)
            places = [re.escape(part) if number % 2 == 0 else re.escape(stem) if part == "stem" else ".+" for number, part in enumerate(parts)]
            patterns.append("".join(places))
    if not patterns:
        return []
    inside = re.compile(f"{re.escape(f'{folder}/'.lstrip('/'))}(?:{'|'.join(patterns)})")
    return [name for name in names if name.lower().endswith(FILM_ENDS) and inside.fullmatch(name)]


def unnamed_films(item: Item, named: set[str], shared: bool) -> Iterator[Problem]:
    """Say which films of an item no row of its log names, as these land nowhere.

    Args:
        item: the log with its films.
        named: the films that rows name.
        shared: whether another log takes its films from the same folder, and may name them.
    """
    left = [file.path for file in item.files if file.path.lower().endswith(FILM_ENDS) and file.path not in named]
    if left:
        severity: Severity = "info" if shared else "warning"
        who = "no row of this log names; another log beside it may" if shared else "no row of the log names: they land in no episode"
        message = f"{item.path}: {len(left)} film{'s' if len(left) > 1 else ''} that {who}: {', '.join(map(printable, left[:10]))}"
        advice = "correct the log, or move them out of the folder so that they land as plain video"
        yield Problem("video_without_episode", message[:2000], dirname(item.path) or item.path, severity, advice=advice)


def further_name(name: str, number: int, taken: Mapping[str, Any] | set[str]) -> str:
    """Return the name of the stream of an episode's second, third … film."""
    found = f"{name}.film_{number}"
    while found in taken:
        found += "_"
    return found
