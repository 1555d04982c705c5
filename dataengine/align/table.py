"""Take streams that share one clock as the table they already are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataengine.align.control import AlignInput, median_period_ns, require_plausible_span
from dataengine.align.resample import NONE
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S, ClockKind, nominal_timestamps_ns
from dataengine.core.episode import EpisodeInfo
from dataengine.core.problem import Problem
from dataengine.core.trajectory import Trajectory


def order_of(times_ns: Array) -> tuple[Array | None, set[str]]:
    """Return the rows of a clock in the order of time, equal times in recorded order, and the flags that it earns.

    None stands for rows that are in order already. Flags are `clock_not_monotonic` and `duplicate_times`.
    """
    earlier, later = times_ns[:-1], times_ns[1:]
    flags = {"duplicate_times"} if bool((later == earlier).any()) else set()
    if bool((later >= earlier).all()):
        return None, flags
    return np.argsort(times_ns, kind="stable"), flags | {"clock_not_monotonic"}


def _tails(info: EpisodeInfo, streams: Mapping[str, AlignInput], lengths: Mapping[str, int], rows: int) -> list[Problem]:
    """Name the streams with a row more; a simulation's observations after its last action are as they should be."""
    if info.origin == "simulation" and all(streams[name].column.meaning == "action" for name, length in lengths.items() if length == rows):
        return []
    return [
        Problem("tail_longer", f"stream {name!r}: has {rows + 1} rows beside {rows}; its last row is no step", where=name, severity="info")
        for name, length in lengths.items()
        if length > rows
    ]


def table(info: EpisodeInfo, streams: Mapping[str, AlignInput], rows: int, problems: list[Problem]) -> Trajectory:
    """Take streams that share one clock row by row: every value and dtype as it is.

    Without times the clock is nominal where the episode's rate is known, else unknown: `t_ns` and `rate_hz` are then None. A clock that steps back
    is put in order, all columns alike. `problems` gains what was noticed.
    """
    lengths = {name: len(stream) for name, stream in streams.items()}
    problems += _tails(info, streams, lengths, rows)
    filled = next(((name, streams[name]) for name, length in lengths.items() if length), None)
    t_ns = None if filled is None or filled[1].timestamps_ns is None or info.clock == "unknown" else filled[1].timestamps_ns[:rows]
    clock: ClockKind = info.clock
    if t_ns is None:
        clock = "nominal" if info.clock == "nominal" and info.rate_hz else "unknown"
        if clock == "nominal" and info.rate_hz:
            t_ns = nominal_timestamps_ns(rows, info.rate_hz)
    flags = {problem.check for problem in problems}
    order = None
    if t_ns is not None:
        order, clock_flags = order_of(t_ns)
        flags |= clock_flags
    if order is not None and t_ns is not None:
        t_ns = t_ns[order]
    if filled is not None and t_ns is not None:
        require_plausible_span(filled[0], t_ns)
    rate_hz = None if clock == "unknown" else info.rate_hz
    if rate_hz is None and t_ns is not None:
        period_ns = median_period_ns(t_ns)
        rate_hz = NS_PER_S / period_ns if period_ns else None

    everywhere, nowhere = np.ones(rows, dtype=bool), np.zeros(rows, dtype=bool)
    all_rows = np.arange(rows, dtype=np.int64) if order is None else order
    none = np.full(rows, NONE, dtype=np.int64)
    columns: dict[str, Array] = {}
    valid: dict[str, Array] = {}
    sampled_ns: dict[str, Array] = {}
    frames: dict[str, Array] = {}
    for name, stream in streams.items():
        if not stream.column.steps:
            continue
        there = everywhere if lengths[name] else nowhere
        if lengths[name] and stream.present is not None:
            there = stream.present[:rows] if order is None else stream.present[:rows][order]
        valid[name] = there
        if t_ns is not None:
            sampled_ns[name] = t_ns if there is everywhere else np.where(there, t_ns, NONE)
        if isinstance(stream.values, int):
            frames[name] = all_rows if there is everywhere else np.where(there, all_rows, none)
        elif not lengths[name]:
            columns[name] = np.zeros((rows, *stream.values.shape[1:]), dtype=stream.values.dtype)
        else:
            columns[name] = stream.values[:rows] if order is None else stream.values[:rows][order]
    specs = {name: stream.column for name, stream in streams.items() if stream.column.steps}
    return Trajectory(t_ns, columns, specs, valid, sampled_ns, frames, clock, rate_hz, rows, tuple(sorted(flags)))
