"""What is implausible in an episode: every check by name, and one pass that runs them.

Evidence and verdict are kept apart: figures are numbers that any reader may judge anew, flags are the names of the checks that found something
with today's limits. The pass reads headers and numbers only, so that it can run on every episode while it is ingested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.problem import Problem
from dataengine.validate.clocks import ClockFacts, clock_facts, clock_jitter, clock_not_monotonic, duplicate_times, time_gaps
from dataengine.validate.first_look import first_look
from dataengine.validate.limits import CheckLimits
from dataengine.validate.numbers import SIGNALS, SignalFacts, frozen_signal, gripper_chatter, jump, not_finite, saturated
from dataengine.validate.pictures import (
    PictureFacts,
    are_plain,
    constant_image,
    damaged_frames,
    frozen_frames,
    grey_among_colour,
    missing_frames,
    mixed_frame_sizes,
    repeats,
)


@dataclass(frozen=True, eq=False)
class CheckInput:
    """One stream as the checks see it.

    `timestamps_ns` is (N,) int64, None without a clock. `numbers` are the (N, ...) values of a numeric stream, None where there are none or they are not
    at hand; `rows` is N. `pictures` says what the headers of encoded pictures do, see `dataengine.validate.pictures`.
    """

    column: Column
    timestamps_ns: Array | None
    numbers: Array | None
    rows: int
    pictures: PictureFacts | None = None


@dataclass(frozen=True)
class Findings:
    """What a pass found: problems in the order of the streams, figures, and the names of the checks that warn (sorted, each once)."""

    problems: tuple[Problem, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def too_short(info: EpisodeInfo, streams: Mapping[str, CheckInput], limits: CheckLimits) -> list[Problem]:
    """Find an episode of so few rows that nothing can be learnt from it."""
    rows = [stream.rows for stream in streams.values() if stream.column.steps]
    if not rows or max(rows) >= limits.min_rows:
        return []
    found = f"{max(rows)} in its longest stream"
    return [Problem("too_short", f"the episode: should have at least {limits.min_rows} rows, found {found}", "", "warning", f"{limits.min_rows} rows", found)]


def idle_episode(info: EpisodeInfo, moved: Mapping[str, float], rows: Mapping[str, int], limits: CheckLimits) -> list[Problem]:
    """Find an episode in which no measured state moves; `moved` has the largest range of each state, `rows` its rows."""
    if not moved or max(rows[name] for name in moved) < limits.signal_rows:
        return []
    most = max(moved.values())
    if not most < limits.idle_range:
        return []
    found = f"a movement of {most:.3g} at most"
    return [
        Problem("idle_episode", f"the episode: its state should move, found {found}", "", "warning", "a state that moves", found, "leave it out of training")
    ]


CLOCK_CHECKS: dict[str, Callable[[str, ClockFacts, CheckLimits], list[Problem]]] = {
    "clock_not_monotonic": clock_not_monotonic,
    "duplicate_times": duplicate_times,
    "time_gaps": time_gaps,
    "clock_jitter": clock_jitter,
}
VALUE_CHECKS: dict[str, Callable[[Column, Array, CheckLimits], list[Problem]]] = {"not_finite": not_finite}
SIGNAL_CHECKS: dict[str, Callable[[Column, SignalFacts, CheckLimits], list[Problem]]] = {
    "frozen_signal": frozen_signal,
    "saturated": saturated,
    "jump": jump,
    "gripper_chatter": gripper_chatter,
}
PICTURE_CHECKS: dict[str, Callable[[str, PictureFacts, CheckLimits], list[Problem]]] = {
    "missing_frames": missing_frames,
    "damaged_frames": damaged_frames,
    "mixed_frame_sizes": mixed_frame_sizes,
    "grey_among_colour": grey_among_colour,
    "constant_image": constant_image,
    "frozen_frames": frozen_frames,
}
EPISODE_CHECKS: dict[str, Callable[..., list[Problem]]] = {"too_short": too_short, "idle_episode": idle_episode}
CHECKS: dict[str, Callable[..., list[Problem]]] = {**CLOCK_CHECKS, **VALUE_CHECKS, **SIGNAL_CHECKS, **PICTURE_CHECKS, **EPISODE_CHECKS}

DEFAULT_LIMITS = CheckLimits()


def _clocks(streams: Mapping[str, CheckInput]) -> list[tuple[str, Array, bool]]:
    """Return each clock once: what to call it (streams that share one are named together), its times, and whether a camera or a signal is on it."""
    clocks: list[tuple[list[str], Array]] = []
    for name, stream in streams.items():
        times_ns = stream.timestamps_ns
        if times_ns is None or len(times_ns) < 2:
            continue
        for names, known_ns in clocks:
            if known_ns is times_ns or np.array_equal(known_ns, times_ns):
                names.append(name)
                break
        else:
            clocks.append(([name], times_ns))
    out = []
    for names, times_ns in clocks:
        where = f"stream {names[0]!r}" + (f" and {len(names) - 1} on its clock" if len(names) > 1 else "")
        columns = [streams[name].column for name in names]
        # What a column says to be events (key strokes) comes when it comes, also where it is the action.
        signals = [column for column in columns if not column.extra.get("events")]
        out.append((where, times_ns, any(column.is_camera or column.meaning in SIGNALS for column in signals)))
    return out


def examine(info: EpisodeInfo, streams: Mapping[str, CheckInput], limits: CheckLimits = DEFAULT_LIMITS) -> Findings:
    """Run every check over an episode.

    Args:
        info: what the reader knows; clocks are judged only where they were measured, and warn only of cameras, states and actions: events come when
            they come.
        streams: each stream by name.
        limits: where a figure becomes a problem.

    Returns:
        Problems, figures (`longest_gap_s`, `jitter_share`: the worst clock; `repeated_frames_share`: the worst camera; `not_finite`:
        1 where a column has such values; `moved`: the largest range of a state), and flags.
    """
    problems: list[Problem] = []
    figures: dict[str, float] = {}

    def note(name: str, value: float) -> None:
        figures[name] = max(figures.get(name, value), value)

    if info.clock == "measured":
        for where, times_ns, samples in _clocks(streams):
            clock = clock_facts(times_ns)
            if samples:
                note("longest_gap_s", clock.longest_s)
            if samples and clock.median_s > 0:
                note("jitter_share", (clock.p90_s - clock.p10_s) / clock.median_s)
            for check_clock in CLOCK_CHECKS.values():
                faults = check_clock(where, clock, limits)
                problems += faults if samples else [replace(problem, severity="info") for problem in faults]
    looks = first_look(
        {name: (stream.column, stream.numbers) for name, stream in streams.items() if stream.numbers is not None and len(stream.numbers)}, limits
    )
    if looks:
        note("not_finite", 0.0)
    moved: dict[str, float] = {}
    for name, stream in streams.items():
        look = looks.get(name)
        if look is not None and look.moved is not None and stream.column.meaning == "state":
            moved[name] = look.moved
            note("moved", look.moved)
        if look is not None and stream.numbers is not None and not look.finite:
            found = [problem for check_values in VALUE_CHECKS.values() for problem in check_values(stream.column, stream.numbers, limits)]
            note("not_finite", float(bool(found)))
            problems += found
        if look is not None and look.signal is not None:
            for check in look.suspects:
                problems += SIGNAL_CHECKS[check](stream.column, look.signal, limits)
        if stream.pictures is not None and stream.rows and are_plain(stream.pictures):
            note("repeated_frames_share", 0.0)
        elif stream.pictures is not None and stream.rows:
            note("repeated_frames_share", np.count_nonzero(repeats(stream.pictures)) / stream.rows)
            for check_pictures in PICTURE_CHECKS.values():
                problems += check_pictures(name, stream.pictures, limits)
    problems += too_short(info, streams, limits)
    problems += idle_episode(info, moved, {name: streams[name].rows for name in moved}, limits)
    return Findings(tuple(problems), figures, tuple(sorted({problem.check for problem in problems if problem.severity != "info"})))


def check_episode(info: EpisodeInfo, streams: Mapping[str, CheckInput], limits: CheckLimits = DEFAULT_LIMITS) -> list[Problem]:
    """Return what is implausible in an episode; see `examine`, which also returns figures and flags."""
    return list(examine(info, streams, limits).problems)
