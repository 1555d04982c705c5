"""A recording as recorded: streams on their own clocks, and what is known about the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dataengine.core.clock import ClockKind
from dataengine.core.column import Column
from dataengine.core.problem import Problem
from dataengine.core.stream import Frames, Items, MediaFrames, Rows, Stream, Values

Origin = Literal["teleop", "policy", "human_video", "simulation", "world_model"]


@dataclass(frozen=True, eq=False)
class EpisodeInfo:
    """What a reader knows of an episode once its last row has been read; it ends the episode in the stream of events.

    `key` names the recording inside its item ("12", "demo_3", "" for a whole file). `columns` has one entry for each stream that
    had rows (and may name streams without any). `stream_clocks` names, for each stream, which of its clocks is the one that
    `timestamps_ns` is made of; a stream that is missing there has no clock. `start_ns` is subtracted from every such clock and is
    ns since the epoch where `epoch` is true. `rate_hz` is the control rate where it is known.
    `follow` names the stream whose clock is the control clock; None lets alignment choose. `metadata` is JSON-able.
    `dataset` is the name that the reader proposes, from the folder of the recording. `parent` is the id of the episode that this one was made of.
    """

    dataset: str
    columns: Mapping[str, Column]
    clock: ClockKind
    key: str = ""
    stream_clocks: Mapping[str, str] = field(default_factory=dict)
    start_ns: int = 0
    epoch: bool = False
    rate_hz: float | None = None
    follow: str | None = None
    tasks: tuple[str, ...] = ()
    success: bool | None = None
    splits: tuple[str, ...] = ()
    embodiment: str | None = None
    origin: Origin = "teleop"
    licence: str | None = None
    consent: str | None = None
    parent: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A reader's event: the recording that was being read (its rows since the last end) is broken; the next one follows."""

    key: str
    problem: Problem


@dataclass(frozen=True)
class Noticed:
    """A reader's event: a problem of the item as a whole that costs no recording (a listed part that is absent, say)."""

    problem: Problem


Event = Rows | EpisodeInfo | Rejected | Noticed


@dataclass(frozen=True, eq=False)
class Episode:
    """One continuous recording in memory: `info`, and each stream by name."""

    info: EpisodeInfo
    streams: Mapping[str, Stream]


def _concatenate(parts: list[Values]) -> Values:
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    if isinstance(first, Items):
        data: list[Any] = []
        encodings: list[str] = []
        for part in parts:
            assert isinstance(part, Items)
            data.extend(part.data)
            encodings.extend(part.encoding(row) for row in range(len(part)))
        return Items(data, encodings[0] if len(set(encodings)) == 1 else encodings)
    if isinstance(first, Frames):
        return Frames(np.concatenate([part.pixels for part in parts if isinstance(part, Frames)]))
    assert isinstance(first, MediaFrames)
    raise ValueError("a stream of kept video must come in one piece")


def assemble(rows: Iterable[Rows], info: EpisodeInfo) -> Episode:
    """Put the rows of one episode together in memory: for tests and small recordings; jobs stream them into the store instead."""
    values: dict[str, list[Values]] = {}
    clocks: dict[str, dict[str, list[Any]]] = {}
    for part in rows:
        values.setdefault(part.stream, []).append(part.values)
        into = clocks.setdefault(part.stream, {})
        for name, stamps in part.clocks.items():
            into.setdefault(name, []).append(stamps)
    streams = {}
    for name, parts in values.items():
        stamps_of = {clock: np.concatenate(stamps) for clock, stamps in clocks[name].items()}
        chosen = info.stream_clocks.get(name)
        timestamps_ns = None if chosen is None else stamps_of[chosen] - info.start_ns
        streams[name] = Stream(info.columns[name], _concatenate(parts), timestamps_ns, stamps_of)
    return Episode(info, streams)


def episodes_of(events: Iterable[Event]) -> Iterator[Episode | Rejected | Noticed]:
    """Yield whole episodes (and rejections, and notices) from a reader's events."""
    pending: list[Rows] = []
    for event in events:
        if isinstance(event, Rows):
            pending.append(event)
            continue
        if isinstance(event, EpisodeInfo):
            yield assemble(pending, event)
            pending = []
        elif isinstance(event, Rejected):
            pending = []
            yield event
        else:
            yield event


def events_of(episode: Episode) -> Iterator[Event]:
    """Yield an episode in memory as the events a reader would give: how live collection enters the store."""
    for name, stream in episode.streams.items():
        clocks = dict(stream.clocks)
        chosen = episode.info.stream_clocks.get(name)
        if chosen is not None and chosen not in clocks and stream.timestamps_ns is not None:
            clocks[chosen] = stream.timestamps_ns + episode.info.start_ns
        yield Rows(name, stream.values, clocks)
    yield episode.info
