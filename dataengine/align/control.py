"""The control clock of an episode: which times become its steps.

1. Streams that share one clock (the same times row by row, or no times at all) are one table already: rows are steps, nothing is resampled,
   whatever stream is followed. One row more at the end of some of them is a tail: it stays in the native stream and is no step.
2. Else the steps are the times of one stream: `AlignConfig.follow`, else what the reader names, else the action stream with the most rows,
   else the slowest camera, else the numeric stream with the most rows, else any with the most rows. Equal candidates: a stream named `action`, then by name.
3. `AlignConfig.rate_hz` replaces those times by a regular clock over the time that they span.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dataengine.align.config import AlignConfig
from dataengine.align.resample import distance_ns
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording

MAX_SPAN_NS = 10 * 365 * 86_400 * NS_PER_S
MAX_STEPS = 100_000_000
STEPS_PER_ROW = 100  # a regular grid of more steps than this for each recorded row is a broken clock or a mistyped rate
SPARE_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class AlignInput:
    """One stream as alignment sees it.

    `timestamps_ns` is (N,) int64 from the episode's start, None where the stream has no clock. `values` are the (N, ...) numbers, or the number of
    rows where only a row can be named (pictures, texts, kept video). `present` is (N,) bool, False for a row that is absent in the source
    (an empty picture); None where all are there.
    """

    column: Column
    timestamps_ns: Array | None
    values: Array | int
    present: Array | None = None

    def __len__(self) -> int:
        return self.values if isinstance(self.values, int) else len(self.values)


def recording_name(info: EpisodeInfo) -> str:
    """Return how a message calls the recording."""
    return f"recording {info.key!r}" if info.key else "the recording"


def median_period_ns(times_ns: Array) -> int | None:
    """Return the median of the steps of a sorted clock that are not zero, None where there is none; exact over the whole int64 range."""
    steps = distance_ns(times_ns[1:], times_ns[:-1])
    steps = np.sort(steps[steps > 0])
    return int(steps[(len(steps) - 1) // 2]) if len(steps) else None


def _same_times(a: Array | None, b: Array | None, rows: int) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or bool(np.array_equal(a[:rows], b[:rows]))


def shared_rows(info: EpisodeInfo, streams: Mapping[str, AlignInput]) -> int | None:
    """Return the number of steps when all streams stand on one clock, None when they do not.

    Streams without rows do not count. Raises BadRecording (`unequal_lengths`) where nothing but the row number relates the streams, and the
    numbers of rows differ by more than one.
    """
    lengths = {name: length for name, stream in streams.items() if (length := len(stream))}
    if not lengths:
        return 0
    rows, most = min(lengths.values()), max(lengths.values())
    times_ns = [streams[name].timestamps_ns for name in lengths]
    first_ns = times_ns[0]
    if not all(each_ns is first_ns or _same_times(first_ns, each_ns, rows) for each_ns in times_ns):
        return None
    measured = first_ns is not None and info.clock == "measured"
    if most == rows or (most == rows + 1 and (rows > 1 or not measured)):
        return rows
    if measured:
        return None
    found = ", ".join(f"{name} {length}" for name, length in sorted(lengths.items(), key=lambda entry: (entry[1], entry[0])))
    raise BadRecording(
        recording_name(info),
        "streams on one clock with equal numbers of rows (or one row more at the end)",
        f"rows: {found[:1000]}",
        "record them together, or give each stream its own times",
        check="unequal_lengths",
    )


def _default_stream(candidates: Mapping[str, AlignInput], sorted_times: Mapping[str, Array]) -> str:
    """Return the stream to follow where nobody names one; see the module."""

    def most_rows(name: str) -> tuple[int, bool, str]:
        return -len(candidates[name]), name != "action", name

    def slowest(name: str) -> tuple[int, int, str]:
        return -(median_period_ns(sorted_times[name]) or 0), -len(candidates[name]), name

    numeric = [name for name, stream in candidates.items() if not isinstance(stream.values, int)]
    actions = [name for name in numeric if candidates[name].column.meaning == "action" and len(candidates[name]) > 1]
    if actions:
        return min(actions, key=most_rows)
    cameras = [name for name, stream in candidates.items() if stream.column.is_camera and len(stream) > 1]
    if cameras:
        return min(cameras, key=slowest)
    return min(numeric or list(candidates), key=most_rows)


def require_known_follow(info: EpisodeInfo, streams: Mapping[str, AlignInput], config: AlignConfig) -> None:
    """Raise BadRecording (`no_control_stream`) when the recording lacks the stream that the configuration names."""
    if config.follow is not None and not (config.follow in streams and len(streams[config.follow])):
        raise BadRecording(
            recording_name(info),
            f"a stream {config.follow!r} to follow",
            f"streams {', '.join(sorted(name for name, stream in streams.items() if len(stream)))[:1000] or 'none'}",
            "name one of these in `follow`, or leave it out",
            check="no_control_stream",
        )


def followed_stream(info: EpisodeInfo, streams: Mapping[str, AlignInput], sorted_times: Mapping[str, Array], config: AlignConfig) -> str:
    """Return the name of the stream whose clock is the control clock.

    Args:
        info: what the reader knows; its `follow` counts where that stream has times.
        streams: all streams.
        sorted_times: the times of those with rows and a clock.
        config: the user's choices.

    Raises:
        BadRecording: the stream that the configuration names has no times.
    """
    if config.follow is not None and config.follow not in sorted_times:
        raise BadRecording(recording_name(info), f"times of the stream {config.follow!r}", "none", "follow a stream that has times", check="no_control_stream")
    asked = config.follow or info.follow
    if asked in sorted_times:
        return str(asked)
    return _default_stream({name: streams[name] for name in sorted_times if streams[name].column.steps}, sorted_times)


def require_plausible_span(where: str, times_ns: Array) -> None:
    """Raise BadRecording (`clock_span`) when a control clock spans more than ten years: its times are not times."""
    if len(times_ns) and int(times_ns[-1]) - int(times_ns[0]) > MAX_SPAN_NS:
        raise BadRecording(
            f"stream {where!r}",
            "times that span less than ten years",
            f"{int(times_ns[0])} to {int(times_ns[-1])} ns",
            "follow another stream, or repair its clock",
            check="clock_span",
        )


def rate_grid_ns(start_ns: int, end_ns: int, rate_hz: float, rows: int) -> Array:
    """Return the times of a regular clock in the half-open window [start_ns, end_ns), (T,) int64.

    Step k is at start + floor(k / rate), in exact integers. Raises BadRecording (`clock_span`) before allocating when that were more steps
    than `rows` recorded rows can be worth.
    """
    rate = Fraction(rate_hz).limit_denominator(1_000_000)
    period_ns = Fraction(NS_PER_S) / rate
    steps = max(0, -((start_ns - end_ns) * rate.numerator // (NS_PER_S * rate.denominator)))
    limit = min(MAX_STEPS, STEPS_PER_ROW * rows + SPARE_STEPS)
    if steps > limit:
        raise BadRecording(
            "the control clock",
            f"at most {limit} steps for {rows} recorded rows",
            f"{steps} steps at {rate_hz:g} Hz over {(end_ns - start_ns) / NS_PER_S:.0f} s",
            "choose a lower rate, or repair the clock",
            check="clock_span",
        )
    whole, part = divmod(period_ns.numerator, period_ns.denominator)
    if steps * part < 2**62:
        k = np.arange(steps, dtype=np.int64)
        return k * whole + (k * part) // period_ns.denominator + start_ns
    return np.array([start_ns + (k * period_ns.numerator) // period_ns.denominator for k in range(steps)], dtype=np.int64)
