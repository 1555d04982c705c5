"""Faults of a measured clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.problem import Problem
from dataengine.validate.limits import CheckLimits


@dataclass(frozen=True, eq=False)
class ClockFacts:
    """A clock's steps as evidence: `steps_s` (N-1,) float64 signed; percentiles over the steps that go forward, 0 where there are none."""

    times_ns: Array
    steps_s: Array
    back: int
    equal: int
    p10_s: float
    median_s: float
    p90_s: float
    longest_s: float


def clock_facts(timestamps_ns: Array) -> ClockFacts:
    """Measure a clock, (N,) int64 ns."""
    ordered = timestamps_ns[1:] >= timestamps_ns[:-1]
    steps_s = np.diff(timestamps_ns.astype(np.float64)) / NS_PER_S
    forward = np.sort(steps_s[steps_s > 0])
    last = len(forward) - 1
    p10, median, p90, longest = (float(forward[round(last * share)]) for share in (0.1, 0.5, 0.9, 1.0)) if last >= 0 else (0.0, 0.0, 0.0, 0.0)
    equal = int(np.count_nonzero(timestamps_ns[1:] == timestamps_ns[:-1]))
    return ClockFacts(timestamps_ns, steps_s, len(ordered) - int(np.count_nonzero(ordered)), equal, p10, median, p90, longest)


def clock_not_monotonic(where: str, clock: ClockFacts, limits: CheckLimits) -> list[Problem]:
    """Find times that step back."""
    if not clock.back:
        return []
    row = int(np.argmax(clock.times_ns[1:] < clock.times_ns[:-1])) + 1
    step_ns = int(clock.times_ns[row]) - int(clock.times_ns[row - 1])
    found = f"a step of {step_ns} ns at row {row}" + (f", {clock.back} in all" if clock.back > 1 else "")
    advice = "rows are kept as recorded and aligned in the order of time; look at what set the clock"
    return [Problem("clock_not_monotonic", f"{where}: times must not step back, found {found}", where, "warning", "times that do not step back", found, advice)]


def duplicate_times(where: str, clock: ClockFacts, limits: CheckLimits) -> list[Problem]:
    """Find rows that have the time of the row before."""
    if not clock.equal:
        return []
    row = int(np.argmax(clock.times_ns[1:] == clock.times_ns[:-1])) + 1
    found = f"{clock.equal} of {len(clock.times_ns)} rows with the time of the row before, the first at row {row}"
    return [Problem("duplicate_times", f"{where}: times must increase, found {found}", where, "info", "times that increase", found)]


def time_gaps(where: str, clock: ClockFacts, limits: CheckLimits) -> list[Problem]:
    """Find drop-outs of a regular clock."""
    bound_s = max(limits.gap_periods * clock.median_s, limits.gap_s)
    if clock.longest_s <= bound_s or clock.p90_s > limits.regular_periods * clock.median_s or len(clock.steps_s) < 10:
        return []
    gaps = np.flatnonzero(clock.steps_s > bound_s)
    row = int(gaps[0])
    found = f"{len(gaps)} longer gap{'s' if len(gaps) > 1 else ''}, the longest of {clock.longest_s:.3f} s, the first after row {row}"
    expected = f"a sample every {clock.median_s:.4g} s, at most {bound_s:.3g} s apart"
    return [Problem("time_gaps", f"{where}: expected {expected}, found {found}", where, "warning", expected, found, "steps in the gap are null")]


def clock_jitter(where: str, clock: ClockFacts, limits: CheckLimits) -> list[Problem]:
    """Find a clock whose steps scatter."""
    if len(clock.steps_s) < 10 or clock.p90_s > limits.regular_periods * clock.median_s:
        return []
    spread = (clock.p90_s - clock.p10_s) / clock.median_s
    if spread <= limits.jitter_share:
        return []
    found = f"steps from {clock.p10_s * 1e3:.3g} to {clock.p90_s * 1e3:.3g} ms (10th to 90th percentile)"
    expected = f"steps near {clock.median_s * 1e3:.3g} ms"
    return [Problem("clock_jitter", f"{where}: expected {expected}, found {found}", where, "info", expected, found)]
