"""Episodes of a video with what was recorded beside it: the whole of it, or one episode for each cut. For every reader whose recordings are long videos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo, Event, Noticed
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.slices import media_source
from dataengine.core.stream import Items, Rows
from dataengine.sources.cuts import OPEN_END, OPEN_START, Cut, EpisodeRule, Segment, by_annotation, by_frames, by_length
from dataengine.sources.kept_video import Span, constant_rate_hz, frame_column, frame_rows
from dataengine.sources.scenes import scene_starts
from dataengine.video.index import FrameIndex

ABOUT = "annotation"  # the stream of what annotations say beside their texts


@dataclass(frozen=True, eq=False)
class VideoTrack:
    """A kept track that becomes a stream: its file (and part of it), its index, and its camera."""

    stream: str
    path: str
    index: FrameIndex
    span: Span | None = None
    camera: Camera | None = None
    doc: str = ""


@dataclass(frozen=True, eq=False)
class SideStream:
    """What was recorded beside a video: rows with their times by clock.

    `clock` names the one that counts as the video's own does, so that the rows can be cut with the frames; None where there is none.
    """

    column: Column
    values: Array | Items
    clocks: Mapping[str, Array] = field(default_factory=dict)
    clock: str | None = None
    ascending: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        stamps = None if self.clock is None else self.clocks[self.clock]
        object.__setattr__(self, "ascending", stamps is not None and bool(np.all(np.diff(stamps) >= 0)))


def distinct_names(sides: Sequence[SideStream]) -> list[SideStream]:
    """Return streams with names that differ: a number stands behind a name that occurs again."""
    used: set[str] = set()
    out = []
    for side in sides:
        name, number = side.column.name, 2
        while name in used:
            name, number = f"{side.column.name}_{number}", number + 1
        used.add(name)
        out.append(side if name == side.column.name else SideStream(replace(side.column, name=name), side.values, side.clocks, side.clock))
    return out


def text_streams(segments: Sequence[Segment]) -> list[SideStream]:
    """Return what annotations say as streams: their texts by the time at which each begins, and all else as JSON.

    Moments, which have no end, stand in a stream of their own where others of their stream have one.
    """
    streams: list[SideStream] = []
    for name in dict.fromkeys(part.stream for part in segments):
        group = [part for part in segments if part.stream == name]
        ended, moments = [part for part in group if part.end_ns is not None], [part for part in group if part.end_ns is None]
        if ended:
            streams.append(_texts(name, ended, "what happens, from its start to its end"))
        if moments:
            streams.append(_texts(f"{name}_moments" if ended else name, moments, "what happens, at a moment"))
    about = [part for part in segments if part.about]
    if about:
        rows = [json.dumps(dict(part.about), sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace") for part in _in_order(about)]
        column = Column(ABOUT, "message", "bytes", (), encoding="json", steps=False, doc="all that annotations say, by the time at which each begins")
        streams.append(SideStream(column, Items(rows, "json"), {"start": _times([part.start_ns for part in _in_order(about)])}, "start"))
    return streams


def _in_order(segments: Sequence[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda part: (part.start_ns, part.end_ns or 0, part.key, part.text))


def _times(values: Sequence[int]) -> Array:
    return np.array(values, dtype=np.int64)


def _texts(name: str, segments: Sequence[Segment], doc: str) -> SideStream:
    rows = _in_order(segments)
    clocks = {"start": _times([part.start_ns for part in rows])}
    ends = [part.end_ns for part in rows if part.end_ns is not None]
    if ends:
        clocks["end"] = _times(ends)
    shared = set(rows[0].clocks).intersection(*(part.clocks for part in rows))
    clocks |= {clock: _times([part.clocks[clock] for part in rows]) for clock in sorted(shared)}
    column = Column(name, "text", "string", (), encoding="utf-8", meaning="language", doc=doc)
    return SideStream(column, Items([part.text.encode("utf-8", "backslashreplace") for part in rows], "utf-8"), clocks, "start")


def _taken(values: Array | Items, rows: Array | slice) -> Array | Items:
    if isinstance(values, Items):
        places = range(*rows.indices(len(values))) if isinstance(rows, slice) else rows.tolist()
        encodings = values.encodings if isinstance(values.encodings, str) else [values.encodings[row] for row in places]
        return Items([values.data[row] for row in places], encodings)
    return values[rows]


def _within(side: SideStream, cut: Cut, first: bool) -> SideStream | None:
    """Return the rows of a stream that lie in a cut; one that cannot be cut goes whole with the first episode."""
    if side.clock is None:
        return side if first else None
    stamps = side.clocks[side.clock]
    rows: Array | slice
    if side.ascending:
        at, count = cut.rows(stamps)
        rows = slice(at, at + count)
    else:
        rows = np.flatnonzero((stamps >= cut.start_ns) & (stamps < cut.end_ns))
        count = len(rows)
    if not count:
        return None
    if count == len(stamps):
        return side
    return SideStream(side.column, _taken(side.values, rows), {name: times[rows] for name, times in side.clocks.items()}, side.clock)


def find_cuts(rule: EpisodeRule, main: VideoTrack, segments: Sequence[Segment], files: Opener, where: str) -> tuple[list[Cut], list[Problem]]:
    """Return where a recording is cut by a rule, and what is worth knowing of it. Only cutting by scene decodes frames."""
    frames_ns = main.index.pts_ns
    if rule.by == "length":
        return by_length(frames_ns, rule.seconds, where), []
    if rule.by == "scene":
        source = media_source(files, main.path, main.span)
        try:
            starts, problems = scene_starts(source, main.index, rule.threshold, rule.shortest_s, where)
        finally:
            if not isinstance(source, str):
                source.close()
        return by_frames(frames_ns, starts, "scene change", where), problems
    if not any(part.end_ns is not None for part in segments):
        message = f"{where}: there are no annotations with a start and an end: the recording is one episode"
        return [Cut(OPEN_START, OPEN_END, "no annotations")], [Problem("no_annotations", message, where, "info")]
    return by_annotation(frames_ns, int(frames_ns[0]) + main.index.duration_ns, segments, rule.rest, where)


def episodes_of_video(
    tracks: Sequence[VideoTrack],
    main: str,
    info: EpisodeInfo,
    files: Opener,
    rule: EpisodeRule | None = None,
    sides: Sequence[SideStream] = (),
    segments: Sequence[Segment] = (),
    where: str = "",
) -> Iterator[Event]:
    """Yield the episodes of a recording as events: one without a rule, else one for each cut.

    An episode holds the texts of all annotations that begin in it; the one that it was cut by is also its task.

    Args:
        tracks: the videos, on one clock (that of their containers).
        main: the stream whose frames count; a cut without any of them is no episode.
        info: what holds for all episodes; columns, clocks and the start are filled in here.
        files: access to the bytes, for a rule that looks at pictures.
        rule: how to cut.
        sides: what was recorded beside the videos.
        segments: what annotations say of parts of it.
        where: what to call the recording in messages.
    """
    first_track = next(track for track in tracks if track.stream == main)
    where = where or first_track.path
    if rule is None:
        yield from _episode(tracks, main, [*sides, *text_streams(segments)], Cut(OPEN_START, OPEN_END, "whole"), info, True)
        return
    cuts, problems = find_cuts(rule, first_track, segments, files, where)
    for problem in [*problems, *_uncut(sides, cuts, where), *_unheard(segments, cuts, where)]:
        yield Noticed(problem)
    repeated = Counter(cut.segment.key for cut in cuts if cut.segment is not None)
    texts = text_streams(segments)
    for number, cut in enumerate(cuts):
        key = cut.segment.key if cut.segment is not None and repeated[cut.segment.key] == 1 and cut.segment.key else str(number)
        first, count = cut.rows(first_track.index.pts_ns)
        shown = {
            "file": first_track.path,
            "why": cut.why,
            "number": number,
            "of": len(cuts),
            "first_frame": first,
            "frames": count,
            "start_ns": None if cut.start_ns == OPEN_START else cut.start_ns,
            "end_ns": None if cut.end_ns == OPEN_END else cut.end_ns,
        }
        about: dict[str, Any] = {"cut": shown}
        tasks = info.tasks
        if cut.segment is not None:
            about["annotation"] = dict(cut.segment.about)
            tasks = tuple(dict.fromkeys([*([cut.segment.text] if cut.segment.text.strip() else []), *tasks]))
        whole_key = f"{info.key}/{key}" if info.key else key
        yield from _episode(tracks, main, [*sides, *texts], cut, replace(info, key=whole_key, tasks=tasks, metadata={**info.metadata, **about}), number == 0)


def _uncut(sides: Sequence[SideStream], cuts: Sequence[Cut], where: str) -> Iterator[Problem]:
    """Say which streams cannot be cut, and how many samples are in no episode."""
    untimed = [side.column.name for side in sides if side.clock is None]
    if untimed and len(cuts) > 1:
        message = f"{where}: {', '.join(untimed[:8])} cannot be cut with the video, as their times are not known: they go whole with the first episode"
        yield Problem("uncut_stream", message[:500], where, "info")  # why their times are not known is a problem of its own
    for side in sides:
        if side.clock is None:
            continue
        stamps = np.sort(side.clocks[side.clock])
        outside, until = len(stamps), OPEN_START
        for cut in cuts:  # by their starts; overlapping ones count once
            if cut.end_ns > until:
                outside -= replace(cut, start_ns=max(cut.start_ns, until)).rows(stamps)[1]
                until = cut.end_ns
        if outside:
            message = f"{where}: {side.column.name}: {outside} of {len(stamps)} samples lie in no episode"
            yield Problem("samples_in_no_episode", message, where, "info")


def _unheard(segments: Sequence[Segment], cuts: Sequence[Cut], where: str) -> Iterator[Problem]:
    """Say how many annotations begin in no episode, and of which streams."""
    rows = _in_order(segments)
    starts = _times([part.start_ns for part in rows])
    change = np.zeros(len(rows) + 1, dtype=np.int64)
    for cut in cuts:
        first, count = cut.rows(starts)
        change[first] += 1
        change[first + count] -= 1
    gone = Counter(rows[row].stream for row in np.flatnonzero(np.cumsum(change[:-1]) == 0).tolist())
    if gone:
        shown = ", ".join(f"{count} of {name}" for name, count in sorted(gone.items())[:8])
        message = f"{where}: {sum(gone.values())} of {len(rows)} annotations begin in no episode and are not kept: {shown}"
        yield Problem("annotations_in_no_episode", message[:500], where, "info")


def _episode(tracks: Sequence[VideoTrack], main: str, sides: Sequence[SideStream], cut: Cut, info: EpisodeInfo, first: bool) -> Iterator[Event]:
    columns: dict[str, Column] = {}
    clocks: dict[str, str] = {}
    starts: list[int] = []
    rate_hz = info.rate_hz
    for track in tracks:
        start, count = cut.rows(track.index.pts_ns)
        if not count:
            continue
        yield frame_rows(track.stream, track.path, track.index, start, count, span=track.span)
        columns[track.stream] = frame_column(track.stream, track.index, track.camera, track.doc)
        clocks[track.stream] = "pts"
        starts.append(int(track.index.pts_ns[start]))
        if track.stream == main:
            rate_hz = constant_rate_hz(track.index, start, count) or rate_hz
    for side in sides:
        part = _within(side, cut, first)
        if part is None or not len(part.values):
            continue
        yield Rows(part.column.name, part.values, part.clocks)
        columns[part.column.name] = part.column
        if part.clock is not None:
            clocks[part.column.name] = part.clock
            if part.column.kind == "numeric":  # what was measured belongs to the recording; a text may speak of what was before
                starts.append(int(part.clocks[part.clock].min()))
    yield replace(info, columns=columns, stream_clocks=clocks, start_ns=min(starts), rate_hz=rate_hz, follow=main)
