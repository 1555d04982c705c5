"""Tables beside a video: `<stem>.csv`, `<stem>.jsonl`, `<stem>.json`, and `<stem>_imu.csv` and the like, with poses, inertial samples and narrations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import basename, dirname, splitext
from typing import Any

from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.problem import Problem
from dataengine.core.protocols import Listing, Opener, ReadOptions
from dataengine.sources.cut_video import SideStream, distinct_names
from dataengine.sources.cuts import Segment
from dataengine.sources.tables import UNIT_DIGITS, Table, header_of, read_csv, read_json, read_lines, table_of
from dataengine.sources.timed_table import is_timed, read_timed

EXTENSIONS = (".csv", ".jsonl")
HEAD_BYTES = 2048
LISTS = ("narrations", "annotations", "segments", "captions", "events", "poses", "imu", "samples", "frames", "records", "data")
MAX_SUBTITLE_BYTES = 4 << 20
MAX_CUE_LETTERS = 200  # of the line with a cue's times
_CUE = re.compile(r"\s*(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})\s+-->\s+(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")
_WORD = re.compile(r"[._-]([a-z][a-z0-9]{0,19})", re.IGNORECASE)


def tables_beside(listing: Listing, videos: Iterable[str]) -> tuple[dict[str, list[str]], list[Problem]]:
    """Return the tables that belong to each video, by path, and which tables beside videos are none of a recording."""
    by_place: dict[tuple[str, str], str] = {}
    longest: dict[str, int] = {}
    for path in videos:
        stem = splitext(path)[0]
        by_place[dirname(stem), basename(stem)] = path
        longest[dirname(stem)] = max(longest.get(dirname(stem), 0), len(basename(stem)))
    found: dict[str, list[str]] = {}
    problems: list[Problem] = []
    if not by_place:
        return found, problems
    for path in listing.files:
        if not path.lower().endswith((*EXTENSIONS, ".json")) or dirname(path) not in longest:
            continue
        folder, stem = dirname(path), splitext(basename(path))[0]
        video = by_place.get((folder, stem))
        if video is None:
            # The longest video name that the table's name begins with, and one word behind it.
            cut = next(
                (end for end in range(len(stem) - 1, max(0, len(stem) - 22), -1) if _WORD.fullmatch(stem[end:]) and (folder, stem[:end]) in by_place), None
            )
            video = by_place[folder, stem[:cut]] if cut is not None else None
        elif path.lower().endswith(".json"):
            continue  # captions: the reader of videos claims them in any case
        if video is None:
            continue
        if path.lower().endswith(".csv") and not is_timed(header_of(listing.head(path, HEAD_BYTES))):
            message = f"{path}: no columns of a recording (a time with something beside it, a pose, an IMU) by their names; it is ignored"
            problems.append(Problem("unknown_side_car", message, path, "info", advice="name its columns, the time as timestamp_s, _ms or _ns"))
            continue
        found.setdefault(video, []).append(path)
    return found, problems


@dataclass
class SideCars:
    """What lies beside a video: streams, annotations, what JSON files hold besides, and what is wrong."""

    sides: list[SideStream] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    read: set[str] = field(default_factory=set)


def time_unit(options: ReadOptions) -> str | None:
    """Return the configured unit of times whose headers name none; raise ConfigError."""
    unit = options.config.get("time_unit")
    if unit is not None and unit not in UNIT_DIGITS:
        raise ConfigError(f"time_unit: must be one of {', '.join(UNIT_DIGITS)}, got {unit!r}")
    return unit


def _lists(content: Any) -> list[tuple[str, list[Any]]]:
    """Return the lists of timed records in a JSON value, by name."""
    candidates = [("", content)] if isinstance(content, list) else [(key, content[key]) for key in LISTS if key in content] if isinstance(content, dict) else []
    timed = []
    for name, records in candidates:
        if isinstance(records, list) and records and all(isinstance(record, dict) for record in records) and is_timed(list(records[0])):
            timed.append((name, records))
    return timed


def read_side_cars(files: Opener, video: str, tables: Iterable[str], jsons: Iterable[str], span_ns: tuple[int, int], unit: str | None) -> SideCars:
    """Read the tables of a video; a JSON file without timed records is left to whoever reads captions.

    Args:
        files: access to their bytes.
        video: the video's path.
        tables: paths of CSV, JSONL and JSON tables.
        jsons: paths of JSON files that may hold a table.
        span_ns: when the video begins and ends.
        unit: of times whose headers name none.
    """
    found = SideCars()
    asked = list(tables)
    stem = basename(splitext(video)[0])
    for path in [*asked, *jsons]:
        try:
            for name, table, rest in _tables(files, path):
                found.problems += table.problems
                timed = read_timed(table, path, span_ns, name or _word(path, stem), unit)
                found.sides += timed.sides
                found.segments += timed.segments
                found.problems += timed.problems
                found.read.add(path)
                if rest:
                    found.metadata[basename(path)] = rest
            if path in asked and path not in found.read:
                message = f"{path}: no timed records (poses, inertial samples, narrations) by their keys; it is not kept"
                found.problems.append(Problem("unknown_side_car", message, path, "info"))
        except BadRecording as error:
            if path in asked:
                found.problems.append(Problem("unreadable_side_car", str(error), path, "warning", error.expected, error.found, error.advice))
    found.sides = distinct_names(found.sides)
    return found


def _word(path: str, stem: str) -> str:
    return basename(splitext(path)[0])[len(stem) :].lstrip("._-").lower()


def _tables(files: Opener, path: str) -> list[tuple[str, Table, Mapping[str, Any]]]:
    if path.lower().endswith(".csv"):
        return [("", read_csv(files, path), {})]
    if path.lower().endswith(".jsonl"):
        return [("", read_lines(files, path), {})]
    content = read_json(files, path)
    lists = _lists(content)
    names = {name for name, _ in lists}
    rest = {key: value for key, value in content.items() if key not in names} if isinstance(content, dict) else {}
    single = len(lists) == 1
    return [("" if single else name, table_of(records, path), rest) for name, records in lists]


def subtitles(text: str) -> list[Segment]:
    """Return the cues of a file of subtitles (SubRip or WebVTT) as annotations: times as hours, minutes, seconds and their thousandths, lines joined by spaces."""
    found: list[Segment] = []
    lines = iter(text.splitlines())
    for line in lines:
        times = _CUE.match(line) if len(line) <= MAX_CUE_LETTERS else None
        if times is None:
            continue
        said: list[str] = []
        for spoken in lines:
            if not spoken.strip():
                break
            said += re.sub(r"<[^<>]{0,100}>", "", spoken).split()
        start, end = _cue_ns(times.groups()[:4]), _cue_ns(times.groups()[4:])
        if said and end > start:
            found.append(Segment(start, end, " ".join(said), stream="language.subtitle"))
    return found


def _cue_ns(parts: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, rest = (part or "0" for part in parts)
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1_000_000_000 + int(rest.ljust(3, "0")) * 1_000_000


def read_subtitles(files: Opener, paths: Iterable[str]) -> list[Segment]:
    """Return the cues of a video's files of subtitles; one that cannot be read is left to whoever keeps it as it is, and says so."""
    found: list[Segment] = []
    for path in paths:
        try:
            found += subtitles(files.read_bytes(path, MAX_SUBTITLE_BYTES).decode("utf-8-sig"))
        except (BadRecording, ValueError):
            continue
    return found
