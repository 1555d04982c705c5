from __future__ import annotations

import numpy as np
import pytest

from dataengine.validate.clocks import clock_facts, clock_jitter, clock_not_monotonic, duplicate_times, time_gaps
from dataengine.validate.limits import CheckLimits

LIMITS = CheckLimits()
MS = 1_000_000
THIRTY_HZ = np.arange(60, dtype=np.int64) * 33_333_333


def facts(times_ns):
    return clock_facts(np.asarray(times_ns, dtype=np.int64))


def test_a_good_clock_has_no_problem():
    for check in (clock_not_monotonic, duplicate_times, time_gaps, clock_jitter):
        assert check("top", facts(THIRTY_HZ), LIMITS) == []
        assert check("top", facts([]), LIMITS) == []
        assert check("top", facts([5]), LIMITS) == []
        assert check("top", facts([5, 5]), LIMITS) == [] or check is duplicate_times


def test_a_gap_is_found_with_its_place():
    times = THIRTY_HZ.copy()
    times[41:] += 400 * MS
    (problem,) = time_gaps("stream 'top'", facts(times), LIMITS)
    assert problem.check == "time_gaps"
    assert problem.found == "1 longer gap, the longest of 0.433 s, the first after row 40"
    # six periods of a 200 Hz joint are a hiccup, not a gap
    joints = np.arange(400, dtype=np.int64) * 5 * MS
    joints[200:] += 30 * MS
    assert time_gaps("joints", facts(joints), LIMITS) == []


def test_events_have_no_gaps():
    rng = np.random.default_rng(3)
    assert time_gaps("button", facts(np.cumsum(rng.exponential(1e9, 100)).astype(np.int64)), LIMITS) == []


def test_a_step_back_is_named_with_its_row():
    times = THIRTY_HZ.copy()
    times[12] = times[10] - 1
    (problem,) = clock_not_monotonic("stream 'top'", facts(times), LIMITS)
    assert problem.found == "a step of -33333334 ns at row 12"
    times[30] = 0
    assert clock_not_monotonic("top", facts(times), LIMITS)[0].found.endswith("at row 12, 2 in all")


def test_equal_times_are_counted():
    (problem,) = duplicate_times("top", facts([0, 10, 10, 10, 20]), LIMITS)
    assert problem.found == "2 of 5 rows with the time of the row before, the first at row 2"
    assert problem.severity == "info"


def test_jitter_is_the_spread_over_the_median():
    steps = np.array([20, 30, 40] * 20) * MS
    (problem,) = clock_jitter("imu", facts(np.cumsum(steps)), LIMITS)
    assert problem.found == "steps from 20 to 40 ms (10th to 90th percentile)"
    assert clock_jitter("imu", facts(np.cumsum(np.array([29, 30, 31] * 20) * MS)), LIMITS) == []


def test_times_at_both_ends_of_int64_are_measured():
    ends = facts([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    assert ends.longest_s == pytest.approx(2**64 / 1e9)
    assert clock_not_monotonic("x", facts([np.iinfo(np.int64).max, np.iinfo(np.int64).min]), LIMITS)[0].found.startswith("a step of -18446744073709551615 ns")
