"""The clock of an episode: LeRobot's `timestamp` is made as row / fps; where that holds the clock is nominal, else what was recorded counts.

- `nominal`: timestamps are (first + row / fps) within TOLERANCE_S. The clock "nominal" has row / fps in exact integers from 0; "timestamp" beside it what the file has.
- `measured`: timestamps that differ from row / fps were taken from some clock when it was recorded (a writer that computes them cannot get there): they
  are the clock, and are named (`timestamps_off_rate`).
- no timestamps: `nominal` with the rate alone, `unknown` without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S, ClockKind, nominal_timestamps_ns
from dataengine.core.problem import Problem

# What LeRobot itself tolerates between a timestamp and a frame's time.
TOLERANCE_S = 1e-4
MAX_SECONDS = float(1 << 33)
SAME_RATE = 0.1  # a median step that differs more from 1 / fps than by this share is another rate


@dataclass(frozen=True)
class Clock:
    """The clock of an episode's rows: `times` by name, each (N,) int64 ns; `chosen` the one to go by, None where there is none.

    `start_ns` is the first time of the chosen clock. `rate_hz` is None where it is unknown or contradicts the times.
    """

    kind: ClockKind
    times: Mapping[str, Array] = field(default_factory=dict)
    chosen: str | None = None
    start_ns: int = 0
    rate_hz: float | None = None
    problems: tuple[Problem, ...] = ()

    def part(self, start: int, end: int) -> dict[str, Array]:
        """Return the times of rows [start, end)."""
        return {name: times[start:end] for name, times in self.times.items()}

    def at(self, places: Array) -> dict[str, Array]:
        """Return the times of the rows at these places."""
        return {name: times if len(places) == len(times) else times[places] for name, times in self.times.items()}


def _error_s(timestamps: Array) -> float:
    """Return how far a number of this type may be from the time that it stands for."""
    top = float(np.max(np.abs(timestamps))) if len(timestamps) else 0.0
    return TOLERANCE_S + 2 * top * float(np.finfo(timestamps.dtype).eps)


def _on_schedule(timestamps: Array, rows: Array, rate_hz: float) -> bool:
    offset = timestamps.astype(np.float64) - rows / rate_hz
    return bool(np.all(np.abs(offset - offset[0]) <= _error_s(timestamps)))


def regular_rate(timestamps: Array) -> bool:
    """Return whether timestamps step evenly, as computed ones do."""
    if len(timestamps) < 3 or timestamps.dtype.kind != "f" or not bool(np.all(np.isfinite(timestamps))):
        return False
    step = (float(timestamps[-1]) - float(timestamps[0])) / (len(timestamps) - 1)
    return step > 0 and _on_schedule(timestamps, np.arange(len(timestamps), dtype=np.float64), 1 / step)


def clock_of(rows: int, timestamps: Array | None, frames: Array | None, rate_hz: float | None, where: str) -> Clock:
    """Return the clock of an episode.

    Args:
        rows: how many rows it has.
        timestamps: (rows,) its column `timestamp` in s, None where there is none.
        frames: (rows,) its column `frame_index`, None where there is none.
        rate_hz: fps of the dataset, else the rate that was asked for, else None.
        where: the episode, for messages.
    """
    problems: list[Problem] = []

    def note(check: str, expected: str, found: str, severity: str = "warning", advice: str = "") -> None:
        message = f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else "")
        problems.append(Problem(check, message, where, severity, expected, found, advice))  # type: ignore[arg-type]

    counted = np.arange(rows, dtype=np.float64)
    if frames is not None and not np.array_equal(frames, np.arange(rows)):
        note("frame_index_differs", f"frame_index 0 to {rows - 1}", f"{int(frames[0])} to {int(frames[-1])}, not each once")
    if timestamps is not None and timestamps.dtype.kind != "f":
        note("odd_timestamps", "timestamp in seconds, a float", str(timestamps.dtype), advice="the column is kept, and is not taken as a clock")
        timestamps = None
    if timestamps is not None and not bool(np.all(np.isfinite(timestamps) & (np.abs(timestamps) < MAX_SECONDS))):
        note("odd_timestamps", "timestamps that are times", "some that are not finite or absurd", advice="the column is kept, and is not taken as a clock")
        timestamps = None
    if timestamps is None or not rows:
        if rate_hz is None:
            return Clock("unknown", problems=tuple(problems))
        return Clock("nominal", {"nominal": nominal_timestamps_ns(rows, rate_hz)}, "nominal", 0, rate_hz, tuple(problems))
    recorded_ns = np.rint(timestamps.astype(np.float64) * NS_PER_S).astype(np.int64)
    first = float(timestamps[0])
    if rate_hz is not None:
        nominal_ns = None
        if _on_schedule(timestamps, counted, rate_hz):
            nominal_ns = nominal_timestamps_ns(rows, rate_hz)
        elif (
            frames is not None
            and frames.dtype.kind in "iu"
            and bool(np.all(np.diff(frames.astype(np.int64)) > 0))
            and 0 <= int(frames[0]) <= int(frames[-1]) < 2**31
        ):
            counted = (frames - frames[0]).astype(np.float64)
            if int(counted[-1]) < 100 * rows + 10_000 and _on_schedule(timestamps, counted, rate_hz):
                nominal_ns = nominal_timestamps_ns(int(counted[-1]) + 1, rate_hz)[counted.astype(np.int64)]
        if nominal_ns is not None:
            if abs(first) > _error_s(timestamps):
                note("timestamps_start_late", "the first timestamp at 0 s", f"{first:.6g} s", "info", "times count from the first row")
            return Clock("nominal", {"timestamp": recorded_ns, "nominal": nominal_ns}, "nominal", 0, rate_hz, tuple(problems))
    elif regular_rate(timestamps):
        return Clock("nominal", {"timestamp": recorded_ns}, "timestamp", int(recorded_ns[0]), None, tuple(problems))
    if rate_hz is not None:
        worst = float(np.max(np.abs((timestamps.astype(np.float64) - first) - counted / rate_hz)))
        median_s = float(np.median(np.diff(recorded_ns))) / NS_PER_S if rows > 1 else 0.0
        if rows > 1 and abs(median_s * rate_hz - 1) > SAME_RATE:
            note("rate_differs", f"a timestamp every {1 / rate_hz:.6g} s (fps {rate_hz:g})", f"every {median_s:.6g} s", advice="the timestamps count, no rate")
            rate_hz = None
        else:
            note("timestamps_off_rate", f"timestamps of row / {rate_hz:g}", f"up to {worst * 1e3:.3g} ms beside it", "info", "they are taken as measured")
    return Clock("measured", {"timestamp": recorded_ns}, "timestamp", int(recorded_ns.min()), rate_hz, tuple(problems))
