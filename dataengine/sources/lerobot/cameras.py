"""The frames of an episode inside a camera's video file: found by the container's own times, never by counting alone.

A frame of row k is the one whose time is nearest to start + k / fps. That each frame of the range is such a one is verified; where it is not, or where there are
more or fewer frames than rows, it is named, all frames of the range are kept, and those that do not fit go by the container's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S, nominal_timestamps_ns
from dataengine.core.problem import Problem
from dataengine.sources.lerobot.clocks import Clock
from dataengine.video.index import FrameIndex


@dataclass(frozen=True)
class Place:
    """Frames [first, first + count) of a track, and their times: `clock` is the name of the clock of `times_ns`, (count,) int64."""

    first: int
    count: int
    clock: str | None
    times_ns: Array | None
    problems: tuple[Problem, ...] = ()


def _note(problems: list[Problem], check: str, where: str, expected: str, found: str, advice: str = "") -> None:
    message = f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else "")
    problems.append(Problem(check, message, where, "warning", expected, found, advice))


def place(index: FrameIndex, start_s: float | None, end_s: float | None, clock: Clock, rows: int, rate_hz: float | None, where: str) -> Place | None:
    """Return where the frames of an episode lie in a track, None (with no frame at all) where its range lies outside of the file.

    Args:
        index: the track.
        start_s: the range's start in seconds inside the file; None for a file that holds this episode alone.
        end_s: its end, None where it is not said.
        clock: that of the episode's rows.
        rows: how many rows it has.
        rate_hz: frames a second, None where it is not known.
        where: camera and episode, for messages.
    """
    problems: list[Problem] = []
    pts_ns = index.pts_ns
    step_ns = NS_PER_S / rate_hz if rate_hz else float(np.median(np.diff(pts_ns))) if len(pts_ns) > 1 else float(NS_PER_S)
    half_ns = max(1, int(step_ns / 2))
    start_ns = int(pts_ns[0]) if start_s is None else round(start_s * NS_PER_S)
    first = int(np.searchsorted(pts_ns, start_ns - half_ns, side="right")) if start_s is not None else 0
    if end_s is not None and end_s * NS_PER_S < start_ns:
        _note(problems, "video_range", where, "a range of the video that ends after its start", f"{start_s} to {end_s} s", "its end is not used")
        end_s = None
    if start_s is not None and end_s is None:
        end_ns = start_ns + round(rows * step_ns)
    else:
        end_ns = int(pts_ns[-1]) + 2 * half_ns if end_s is None else round(end_s * NS_PER_S)
    last = int(np.searchsorted(pts_ns, end_ns - half_ns, side="right")) if start_s is not None else len(pts_ns)
    count = last - first
    if first >= len(pts_ns) or count < 1:
        return None
    if start_s is not None and abs(int(pts_ns[first]) - start_ns) > half_ns:
        _note(problems, "frames_off_schedule", where, f"a frame at {start_s:.6g} s", f"the first at {int(pts_ns[first]) / NS_PER_S:.6g} s")
    if count != rows:
        _note(problems, "frame_count_differs", where, f"a frame for each of {rows} rows", str(count), "all frames are kept, by their own times")
    seen_ns = pts_ns[first:last] - start_ns
    return _timed(first, count, seen_ns, half_ns, clock, rows, rate_hz, where, problems)


def _timed(first: int, count: int, seen_ns: Array, half_ns: int, clock: Clock, rows: int, rate_hz: float | None, where: str, problems: list[Problem]) -> Place:
    """Give frames the times of the rows that they belong to, where their own times agree; else their own, counted from the range's start."""
    chosen = clock.times.get(clock.chosen) if clock.chosen is not None else None
    if chosen is None:
        return Place(first, count, None, None, tuple(problems))
    schedule_ns = nominal_timestamps_ns(count, rate_hz) if rate_hz else None
    fits = schedule_ns is not None and bool(np.all(np.abs(seen_ns - schedule_ns) <= half_ns))
    if count == rows and (fits or bool(np.all(np.abs(seen_ns - (chosen - chosen[0])) <= half_ns))):
        return Place(first, count, clock.chosen, chosen, tuple(problems))
    if fits and clock.chosen == "nominal" and schedule_ns is not None:
        return Place(first, count, "nominal", schedule_ns, tuple(problems))
    if count == rows:
        worst = int(np.max(np.abs(seen_ns - (chosen - chosen[0])))) / NS_PER_S
        _note(problems, "frames_off_schedule", where, "frames at the times of the rows", f"up to {worst:.3g} s beside them", "they go by the container's time")
    return Place(first, count, "video", seen_ns + int(chosen[0]), tuple(problems))
