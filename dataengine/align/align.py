"""Put the streams of one episode on its control clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from dataengine.align.config import AlignConfig, Method
from dataengine.align.control import (
    AlignInput,
    followed_stream,
    median_period_ns,
    rate_grid_ns,
    recording_name,
    require_known_follow,
    require_plausible_span,
    shared_rows,
)
from dataengine.align.methods import method_of, quaternion_at, scalar_first
from dataengine.align.resample import (
    NONE,
    UNLIMITED_NS,
    Picked,
    between_rows,
    commanded_rows,
    linear,
    nearest_rows,
    previous_rows,
    slerp,
    take,
)
from dataengine.align.table import order_of, table
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S, nominal_timestamps_ns
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem, Severity
from dataengine.core.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Aligned:
    """A trajectory and what alignment noticed.

    The trajectory's flags name the problems that warn, a tail (`tail_longer`), and clocks that were put in order (`clock_not_monotonic`,
    `duplicate_times`); the checks of clocks describe the latter, so they are no problems here.
    """

    trajectory: Trajectory
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, eq=False)
class _Steps:
    """The control clock: T times, which of them is the whole row of a followed stream, and half-open windows for commands."""

    t_ns: Array
    follows: str | None
    start_ns: Array
    end_ns: Array
    period_ns: int


def _is_float(values: Array | int) -> bool:
    return not isinstance(values, int) and values.dtype.kind == "f"


def _windows_ns(t_ns: Array, period_ns: int, around: bool) -> tuple[Array, Array]:
    """Return the half-open window of each step: from it to the next, or around it where steps are themselves commands."""
    ends = np.append(t_ns[1:], t_ns[-1:] + period_ns)
    if not around:
        return t_ns, ends
    middles = t_ns + (ends - t_ns + 1) // 2
    return np.append(t_ns[:1] - period_ns // 2, middles[:-1]), middles


def _steps(info: EpisodeInfo, streams: Mapping[str, AlignInput], sorted_times: Mapping[str, Array], config: AlignConfig) -> _Steps:
    followed = followed_stream(info, streams, sorted_times, config)
    t_ns = sorted_times[followed]
    require_plausible_span(followed, t_ns)
    if config.rate_hz is not None:
        rows = max(len(stream) for stream in streams.values())
        t_ns = rate_grid_ns(int(t_ns[0]), int(t_ns[-1]) + 1, config.rate_hz, rows)
        period_ns = max(1, round(NS_PER_S / config.rate_hz))
        return _Steps(t_ns, None, *_windows_ns(t_ns, period_ns, around=False), period_ns)
    period_ns = median_period_ns(t_ns) or NS_PER_S
    around = streams[followed].column.meaning == "action"
    return _Steps(t_ns, followed, *_windows_ns(t_ns, period_ns, around), period_ns)


def _staleness_ns(name: str, stream: AlignInput, times_ns: Array, control_period_ns: int, config: AlignConfig) -> int:
    """Return how old a sample may be. An instruction holds until the next one; a single sample has no period of its own."""
    if name in config.staleness_ns_by_stream:
        return config.staleness_ns_by_stream[name]
    if config.staleness_ns is not None:
        return config.staleness_ns
    if stream.column.meaning == "language":
        return UNLIMITED_NS
    return min(UNLIMITED_NS, round(config.staleness_periods * (median_period_ns(times_ns) or control_period_ns)))


def _pick(method: Method, times_ns: Array, steps: _Steps, staleness_ns: int) -> Picked:
    if method == "commanded":
        return commanded_rows(times_ns, steps.t_ns, steps.start_ns, steps.end_ns, staleness_ns)
    return (nearest_rows if method == "nearest" else previous_rows)(times_ns, steps.t_ns, staleness_ns)


def _resampled(
    info: EpisodeInfo, streams: Mapping[str, AlignInput], sorted_times: Mapping[str, Array], orders: Mapping[str, Array], steps: _Steps, config: AlignConfig
) -> dict[str, tuple[Array | None, Array, Array, Array | None]]:
    """Return (values, valid, sampled_ns, rows) of each column: values of numbers, recorded row numbers of everything else."""
    count = len(steps.t_ns)
    out: dict[str, tuple[Array | None, Array, Array, Array | None]] = {}
    for name, stream in streams.items():
        if not stream.column.steps:
            continue
        values = stream.values
        method = method_of(stream.column, _is_float(values), not isinstance(values, int), config)
        times_ns = sorted_times.get(name, np.empty(0, dtype=np.int64))
        in_order = name not in orders and stream.present is None
        rows = orders[name] if name in orders else np.arange(len(times_ns), dtype=np.int64)
        if stream.present is not None and len(times_ns):
            there = stream.present[rows]
            times_ns, rows = times_ns[there], rows[there]
        if name == steps.follows and len(times_ns) == count:
            picked = Picked(np.arange(count, dtype=np.int64), np.ones(count, dtype=bool), times_ns)
        else:
            staleness_ns = _staleness_ns(name, stream, times_ns, steps.period_ns, config)
            if method in ("linear", "slerp") and not isinstance(values, int):
                between = between_rows(times_ns, steps.t_ns, staleness_ns)
                ordered = values if in_order else values[rows]
                first = quaternion_at(stream.column)
                mixed = linear(ordered, between) if method == "linear" or first is None else slerp(ordered, between, first, scalar_first(stream.column))
                out[name] = (mixed, between.valid, between.sampled_ns, None)
                continue
            picked = _pick(method, times_ns, steps, staleness_ns)
        recorded = np.full(count, NONE, dtype=np.int64)
        recorded[picked.valid] = rows[picked.rows[picked.valid]]
        taken = None if isinstance(values, int) else take(values, Picked(recorded, picked.valid, picked.sampled_ns))
        out[name] = (taken, picked.valid, picked.sampled_ns, recorded if taken is None else None)
    return out


def _never_fresh(streams: Mapping[str, AlignInput]) -> list[Problem]:
    """Name the streams without one sample near enough to a step; of topics whose meaning is not known (a map sent once) that is no fault."""
    problems = []
    for severity, names in (
        ("warning", [name for name, stream in streams.items() if stream.column.is_camera or stream.column.meaning in ("state", "action")]),
        ("info", [name for name, stream in streams.items() if not (stream.column.is_camera or stream.column.meaning in ("state", "action"))]),
    ):
        if names:
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            message = f"{listed}: expected samples within the staleness bound of the steps, found none; the native streams hold them"
            problems.append(Problem("never_fresh", message, names[0], cast(Severity, severity), "samples near the steps", f"none in {len(names)} streams"))
    return problems


def _rate_hz(info: EpisodeInfo, steps: _Steps, config: AlignConfig) -> float | None:
    if config.rate_hz is not None:
        return config.rate_hz
    if info.rate_hz is not None and config.follow in (None, info.follow):
        return info.rate_hz
    period_ns = median_period_ns(steps.t_ns)
    return NS_PER_S / period_ns if period_ns else None


def _on_control_clock(info: EpisodeInfo, streams: Mapping[str, AlignInput], config: AlignConfig, problems: list[Problem]) -> Trajectory:
    sorted_times: dict[str, Array] = {}
    orders: dict[str, Array] = {}
    flags: set[str] = set()
    for name, stream in streams.items():
        if len(stream) and stream.timestamps_ns is not None:
            order, clock_flags = order_of(stream.timestamps_ns)
            if stream.column.steps:  # the others are no columns: the checks of clocks describe them
                flags |= clock_flags
            sorted_times[name] = stream.timestamps_ns if order is None else stream.timestamps_ns[order]
            if order is not None:
                orders[name] = order
        elif len(stream) and stream.column.steps:
            message = f"stream {name!r}: has rows but no times beside streams that have; it stays native and its column is null"
            problems.append(Problem("no_clock", message, where=name))
    steps = _steps(info, streams, sorted_times, config)
    taken = _resampled(info, streams, sorted_times, orders, steps, config)
    problems += _never_fresh({name: streams[name] for name, (_, there, _, _) in taken.items() if name in sorted_times and len(there) and not there.any()})
    flags |= {problem.check for problem in problems if problem.severity != "info"}
    return Trajectory(
        steps.t_ns,
        {name: values for name, (values, _, _, _) in taken.items() if values is not None},
        {name: streams[name].column for name in taken},
        {name: there for name, (_, there, _, _) in taken.items()},
        {name: sampled for name, (_, _, sampled, _) in taken.items()},
        {name: rows for name, (_, _, _, rows) in taken.items() if rows is not None},
        info.clock,
        _rate_hz(info, steps, config),
        len(steps.t_ns),
        tuple(sorted(flags)),
    )


def align_noting(info: EpisodeInfo, streams: Mapping[str, AlignInput], config: AlignConfig) -> Aligned:
    """Put an episode on one clock, and say what was noticed on the way.

    Args:
        info: what the reader knows of the episode: its clock, rate, and which stream to follow.
        streams: every stream by name; those whose column says `steps=False` may be followed, and are no columns.
        config: the user's choices.

    Returns:
        The trajectory. Streams that share one clock keep dtype and value exactly; so does everything that is held. `valid` stands for each column,
        `sampled_ns` wherever there is a time, `frames` for each stream of which only rows can be named (pictures and texts).

    Raises:
        BadRecording: lengths that nothing explains (`unequal_lengths`), a control clock beyond reason (`clock_span`), a stream to follow that is
            not there (`no_control_stream`), or a rate asked of a recording that has no times (`no_clock`).
        ConfigError: a way of alignment that is impossible for a column.
    """
    problems: list[Problem] = []
    columns = {name: stream for name, stream in streams.items() if stream.column.steps}
    require_known_follow(info, streams, config)
    rows = shared_rows(info, columns)
    resamples = bool(rows) and (config.rate_hz is not None or (config.follow is not None and config.follow not in columns))
    if rows and resamples and all(stream.timestamps_ns is None for stream in columns.values() if len(stream)):
        if info.clock != "nominal" or not info.rate_hz:
            raise BadRecording(
                recording_name(info), "times, to resample it", "rows without any", "give the rate it was recorded at with --rate", check="no_clock"
            )
        times_ns = nominal_timestamps_ns(rows + 1, info.rate_hz)
        streams = {name: AlignInput(stream.column, times_ns[: len(stream)], stream.values, stream.present) for name, stream in columns.items()}
    if rows is not None and not resamples:
        return Aligned(table(info, columns, rows, problems), tuple(problems))
    return Aligned(_on_control_clock(info, streams, config, problems), tuple(problems))


def align(info: EpisodeInfo, streams: Mapping[str, AlignInput], config: AlignConfig) -> Trajectory:
    """Put an episode on one clock; see `align_noting`, which also returns what was noticed."""
    return align_noting(info, streams, config).trajectory
