"""What a table beside a recording holds, by the names of its columns: times and their units, poses, vectors, single numbers, texts.

Nothing is guessed: a time whose header names no unit is no clock unless the configuration says which unit it has, and it is then kept as a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column
from dataengine.core.problem import Problem, Severity
from dataengine.core.stream import Items
from dataengine.sources.cut_video import SideStream, distinct_names
from dataengine.sources.cuts import Segment
from dataengine.sources.tables import Table, numbers, rows_as_json, times_ns

NS_PER_S = 1_000_000_000
SLACK_NS = 60 * NS_PER_S  # a recorder beside the camera may start and end so much apart

_UNITS = {
    **dict.fromkeys(["ns", "nanos", "nanosec", "nanoseconds"], "ns"),
    **dict.fromkeys(["us", "usec", "micros", "microseconds"], "us"),
    **dict.fromkeys(["ms", "msec", "millis", "milliseconds"], "ms"),
    **dict.fromkeys(["s", "sec", "secs", "seconds"], "s"),
}
_START = frozenset(["start", "start_time", "start_timestamp", "begin", "begin_time", "t_start"])
_END = frozenset(["end", "end_time", "end_timestamp", "stop", "stop_time", "stop_timestamp", "t_end", "t_stop"])
_TIME = frozenset(["t", "ts", "time", "timestamp", "stamp"])
TEXTS = ("narration", "narration_text", "text", "caption", "description", "instruction", "sentence", "label", "action", "task", "query")
_POSITION = frozenset(["", "t", "p", "pos", "position", "translation", "trans"])
_QUATERNION = frozenset(["q", "quat", "quaternion", "rot", "rotation", "orientation"])
_WORDS = {"a": "accelerometer", "g": "gyroscope", "m": "magnetometer", "": "position", "q": "orientation"}
_MATRIX = re.compile(r"(?:t|m|r|pose|mat|matrix|transform)_?([0-3])_?([0-3])")


@dataclass(frozen=True)
class Header:
    """A column's name taken apart: `base` in small letters without its unit, and the unit as the header says it, None where it does not."""

    name: str
    base: str
    unit: str | None

    @property
    def time_unit(self) -> str | None:
        """Return the unit as one of ns, us, ms and s, None where it is none of time."""
        return None if self.unit is None else _UNITS.get(self.unit.lower())

    @property
    def role(self) -> str:
        """Return "start", "end", "time" or "value"."""
        if self.base in _START:
            return "start"
        if self.base in _END:
            return "end"
        timed = self.base in _TIME or self.base.endswith(("_timestamp", "_time", "_stamp"))
        return "time" if timed and (self.unit is None or self.time_unit is not None) else "value"


def header(name: str) -> Header:
    """Take a column's name apart: `accl_x [m/s^2]`, `timestamp_ns`, `time (s)`, `px_m`."""
    bracketed = re.fullmatch(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]\s*", name)
    text, unit = (bracketed[1], bracketed[2] or None) if bracketed else (name, None)
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text)
    base = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if unit is None:
        suffixed = re.fullmatch(r"(.+)_(\w+)", base)
        if suffixed and suffixed[2] in (*_UNITS, "m", "mm", "rad", "deg", "px", "hz"):
            base, unit = suffixed[1], suffixed[2]
    return Header(name, base or "_", unit)


def is_timed(names: Sequence[str]) -> bool:
    """Return whether columns of these names are a table of a recording: one of time with something beside it, or a pose or an IMU's vectors."""
    headers = [header(name) for name in names]
    if len(headers) > 1 and any(entry.role in ("time", "start") for entry in headers):
        return True
    groups = _vectors(headers)
    return any(len(group) == 4 for group in groups.values()) or bool({"a", "g", "acc", "accel", "accl", "gyro"} & groups.keys())


def _vectors(headers: Sequence[Header]) -> dict[str, list[Header]]:
    """Return the columns that are the axes of a vector, by what they have in common: x, y, z or x, y, z, w of one unit."""
    found: dict[str, dict[str, Header]] = {}
    for entry in headers:
        match = re.fullmatch(r"(.*?)_?([xyzw])", entry.base)
        if match and entry.role == "value":
            found.setdefault(match[1], {}).setdefault(match[2], entry)
    whole = {prefix: [axes[axis] for axis in "xyzw" if axis in axes] for prefix, axes in found.items() if {"x", "y", "z"} <= axes.keys()}
    return {prefix: group for prefix, group in whole.items() if len({entry.unit for entry in group}) == 1}


def _matrix(headers: Sequence[Header]) -> list[Header]:
    """Return the 16 or 12 columns of a pose matrix, by rows; none where there is no whole one."""
    cells = {(int(match[1]), int(match[2])): entry for entry in headers if (match := _MATRIX.fullmatch(entry.base))}
    for rows in (4, 3):
        wanted = [(row, column) for row in range(rows) for column in range(4)]
        if all(cell in cells for cell in wanted):
            return [cells[cell] for cell in wanted]
    return []


@dataclass
class Timed:
    """What a table gives: streams, segments of annotations, and what is wrong."""

    sides: list[SideStream]
    segments: list[Segment]
    problems: list[Problem]


def read_timed(
    table: Table,
    where: str,
    span_ns: tuple[int, int],
    word: str = "",
    unit: str | None = None,
    clock: str | None = None,
    stream: str = "language.narration",
    untimed: Severity = "warning",
) -> Timed:
    """Read a table of a recording.

    Args:
        table: its columns.
        where: what to call it in messages.
        span_ns: when the video begins and ends; times that lie apart from it count on another clock.
        word: what the file is called beside the video ("imu"): it stands in the streams' names.
        unit: of times whose header names none; None where that is not known.
        clock: the name of the column that is the rows' clock; None takes the first of time.
        stream: the stream of texts.
        untimed: how bad it is that rows have no time.
    """
    headers = [header(name) for name in table.texts]
    problems: list[Problem] = []
    stamps: dict[str, tuple[Header, Array, Array]] = {}
    unknown: list[str] = []
    for entry in headers:
        if entry.role == "value":
            continue
        found = times_ns(table.texts[entry.name], entry.time_unit or unit)
        if found is not None:
            stamps[entry.name] = (entry, *found)
        elif entry.time_unit is None and unit is None and numbers(table.texts[entry.name]) is not None:
            unknown.append(entry.name)
        else:
            problems.append(Problem("unreadable_times", f"{where}: the column {entry.name!r} holds no times; it is kept as it stands", where))
    if unknown:
        message = f"{where}: the unit of the times in {', '.join(map(repr, unknown))} is not known, as their headers name none; they are kept as numbers and are no clock"
        problems.append(
            Problem("unknown_time_unit", message, where, advice="name the column timestamp_ns, timestamp_ms or timestamp_s, or set time_unit for this reader")
        )
    chosen = clock if clock in stamps else next((name for role in ("time", "start") for name, (entry, _, _) in stamps.items() if entry.role == role), None)
    chosen = chosen or next(iter(stamps), None)
    text = next((entry for base in TEXTS for entry in headers if entry.base == base and numbers(table.texts[entry.name]) is None), None)
    rest = [entry for entry in headers if entry.name not in stamps]
    if text is not None and chosen is not None and _on_video(stamps[chosen], span_ns):
        segments, lost = _segments(table, stamps, chosen, text, rest, stream)
        return Timed(_streams(lost, {}, None, rest, where, word, problems, "_untimed") if lost.rows else [], segments, problems)
    if chosen is None:
        return Timed(_streams(table, {}, None, rest, where, word, problems), [], problems)
    entry, times, have = stamps[chosen]
    if not _on_video(stamps[chosen], span_ns):
        first, last = int(times[have].min()) if have.any() else 0, int(times[have].max()) if have.any() else 0
        message = (
            f"{where}: its times ({first / 1e9:g} to {last / 1e9:g} s) lie apart from the video's ({span_ns[0] / 1e9:g} to {span_ns[1] / 1e9:g} s): "
            "they count on another clock, which is kept and is not the streams' own"
        )
        problems.append(Problem("other_clock", message, where, advice="say how the clocks are related, in the file's times"))
    rows, gone = np.flatnonzero(have), np.flatnonzero(~have)
    clocks = {_clock_name(part): values[rows] for part, values, known in stamps.values() if known[rows].all()}
    own = _clock_name(entry) if _on_video(stamps[chosen], span_ns) else None
    sides = _streams(table.taken(rows) if len(gone) else table, clocks, own, rest, where, word, problems)
    if len(gone):
        problems.append(
            Problem("rows_without_time", f"{where}: {len(gone)} of {table.rows} rows have no time; they are kept in streams of their own", where, untimed)
        )
        sides += _streams(table.taken(gone), {}, None, rest, where, word, [], "_untimed")
    return Timed(sides, [], problems)


def _on_video(stamped: tuple[Header, Array, Array], span_ns: tuple[int, int]) -> bool:
    _, times, have = stamped
    return bool(have.any()) and bool(np.any((times[have] >= span_ns[0] - SLACK_NS) & (times[have] <= span_ns[1] + SLACK_NS)))


def _clock_name(entry: Header) -> str:
    return entry.base if entry.role in ("start", "end") or entry.base not in _TIME else "stamp"


def _segments(
    table: Table, stamps: Mapping[str, tuple[Header, Array, Array]], chosen: str, text: Header, rest: Sequence[Header], stream: str
) -> tuple[list[Segment], Table]:
    """Return the rows of a table as annotations, and the rows that have no time."""
    start, have = stamps[chosen][1], stamps[chosen][2]
    ends = next(((values, known) for entry, values, known in stamps.values() if entry.role == "end"), None)
    others = {_clock_name(entry): (values, known) for name, (entry, values, known) in stamps.items() if name != chosen and entry.role != "end"}
    texts = table.texts[text.name].fill_null("").to_list()
    about = list(rows_as_json(table, [entry.name for entry in rest if entry.name != text.name]))
    found = []
    for row in np.flatnonzero(have).tolist():
        end = int(ends[0][row]) if ends is not None and ends[1][row] else None
        clocks = {name: int(values[row]) for name, (values, known) in others.items() if known[row]}
        found.append(Segment(int(start[row]), end, texts[row], str(about[row].get("id", "")), about[row], clocks, stream))
    return found, table.taken(np.flatnonzero(~have))


def _streams(
    table: Table, clocks: Mapping[str, Array], own: str | None, rest: Sequence[Header], where: str, word: str, problems: list[Problem], ending: str = ""
) -> list[SideStream]:
    """Return every column as a stream, axes of a vector together."""
    values = {entry.name: found for entry in rest if (found := numbers(table.texts[entry.name])) is not None}
    numeric = [entry for entry in rest if entry.name in values]
    sides: list[SideStream] = []
    taken: set[str] = set()

    def add(name: str, group: Sequence[Header], array: Array, **facts: Any) -> None:
        full = ".".join(part for part in ("observation", word, name) if part) + ending
        source = ", ".join(entry.name for entry in group)
        doc = str(facts.pop("doc", ""))
        steps = own is not None  # without a clock it cannot stand beside the frames
        column = Column(full, "numeric", array.dtype.name, array.shape[1:], steps=steps, doc=doc, extra={"source": source}, **facts)
        sides.append(SideStream(column, array, clocks, own))
        taken.update(entry.name for entry in group)

    matrix = _matrix(numeric)
    if matrix:
        array = np.stack([values[entry.name] for entry in matrix], axis=1).reshape(table.rows, -1, 4)
        add("pose_matrix", matrix, array, action_space=ActionSpace("other", rotation="matrix", absolute=True), meaning="state", doc="pose as a matrix, by rows")
    vectors = _vectors([entry for entry in numeric if entry.name not in taken])
    position = next((prefix for prefix in vectors if prefix in _POSITION and len(vectors[prefix]) == 3), None)
    turned = next((prefix for prefix in vectors if prefix in _QUATERNION and len(vectors[prefix]) == 4), None)
    if position is not None and turned is not None:
        group = [*vectors.pop(position), *vectors.pop(turned)]
        array = np.stack([values[entry.name] for entry in group], axis=1)
        space = ActionSpace("other", rotation="quat_xyzw", absolute=True)
        dims = ("x", "y", "z", "qx", "qy", "qz", "qw")
        add(
            "pose",
            group,
            array,
            dims=dims,
            unit=group[0].unit,
            action_space=space,
            meaning="state",
            doc="position, and turn as a quaternion; the unit is the position's",
        )
    for prefix, group in vectors.items():
        array = np.stack([values[entry.name] for entry in group], axis=1)
        add(_WORDS.get(prefix, prefix), group, array, dims=tuple("xyzw"[: len(group)]), unit=group[0].unit, meaning="state")
    for entry in numeric:
        if entry.name not in taken:
            add(entry.base, [entry], values[entry.name], unit=entry.unit)
    for name, array in table.arrays.items():
        entry = header(name)
        facts: dict[str, Any] = {"unit": entry.unit}
        if array.shape[1:] in ((4, 4), (3, 4)):
            facts |= {"action_space": ActionSpace("other", rotation="matrix", absolute=True), "meaning": "state"}
        add(entry.base, [entry], array, **facts)
    for entry in rest:
        if entry.name in taken or entry.name in values or table.texts[entry.name].null_count() == table.rows:
            continue
        rows = [text.encode() for text in table.texts[entry.name].fill_null("").to_list()]
        full = ("language.narration" if entry.base in TEXTS else ".".join(part for part in ("observation", word, entry.base) if part)) + ending
        meaning: Any = "language" if entry.base in TEXTS else "other"
        column = Column(full, "text", "string", (), encoding="utf-8", meaning=meaning, steps=own is not None, extra={"source": entry.name})
        sides.append(SideStream(column, Items(rows, "utf-8"), clocks, own))
    if not sides:
        problems.append(Problem("empty_table", f"{where}: there is nothing in it beside its times", where, "info"))
    return distinct_names(sides)
