from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.align.resample import (
    UNLIMITED_NS,
    between_rows,
    commanded_rows,
    linear,
    nearest_rows,
    previous_rows,
    slerp,
    take,
)

INT64 = np.iinfo(np.int64)


def ns(*times: int) -> np.ndarray:
    return np.array(times, dtype=np.int64)


def test_previous_holds_from_a_samples_own_time_until_the_next_ones():
    picked = previous_rows(ns(10, 20, 35), ns(9, 10, 19, 20, 34, 35, 36), staleness_ns=100)
    assert picked.rows.tolist() == [-1, 0, 0, 1, 1, 2, 2]
    assert picked.valid.tolist() == [False, True, True, True, True, True, True]
    assert picked.sampled_ns.tolist() == [-1, 10, 10, 20, 20, 35, 35]


def test_previous_counts_the_staleness_bound_in():
    picked = previous_rows(ns(10, 20), ns(15, 16, 25, 26), staleness_ns=5)
    assert picked.rows.tolist() == [0, -1, 1, -1]


def test_nearest_gives_ties_to_the_earlier_sample():
    picked = nearest_rows(ns(10, 20, 35), ns(14, 15, 16, 27, 28), staleness_ns=100)
    assert picked.rows.tolist() == [0, 0, 1, 1, 2]
    assert picked.sampled_ns.tolist() == [10, 10, 20, 20, 35]


def test_nearest_does_not_reach_outside_the_first_and_last_sample():
    picked = nearest_rows(ns(10, 20), ns(9, 10, 20, 21), staleness_ns=100)
    assert picked.rows.tolist() == [-1, 0, 1, -1]


def test_nearest_counts_the_staleness_bound_in():
    picked = nearest_rows(ns(0, 100), ns(30, 31, 69, 70), staleness_ns=30)
    assert picked.rows.tolist() == [0, -1, -1, 1]


def test_of_samples_at_one_time_the_earlier_row_is_used():
    times = ns(10, 20, 20, 20, 30)
    assert previous_rows(times, ns(20, 29), 100).rows.tolist() == [1, 1]
    assert nearest_rows(times, ns(19, 20, 24), 100).rows.tolist() == [1, 1, 1]
    between = between_rows(times, ns(20, 25), 100)
    assert between.earlier.tolist() == [1, 1]
    assert between.later.tolist() == [1, 4]


def test_linear_weighs_by_distance():
    times = ns(0, 10, 30)
    values = np.array([[0.0, 100.0], [5.0, 90.0], [-15.0, 190.0]], dtype=np.float32)
    between = between_rows(times, ns(0, 4, 10, 15, 30), staleness_ns=100)
    out = linear(values, between)
    assert out.dtype == np.float32
    # at 15: a quarter of the way from row 1 to row 2
    assert out.tolist() == [[0.0, 100.0], [2.0, 96.0], [5.0, 90.0], [0.0, 115.0], [-15.0, 190.0]]
    assert between.sampled_ns.tolist() == [0, 10, 10, 30, 30]


def test_linear_wants_both_neighbours_within_the_bound():
    times = ns(0, 100)
    between = between_rows(times, ns(0, 39, 40, 50, 60, 61, 100), staleness_ns=60)
    assert between.valid.tolist() == [True, False, True, True, True, False, True]
    assert linear(np.array([1.0, 2.0]), between).tolist() == [1.0, 0.0, 1.4, 1.5, 1.6, 0.0, 2.0]


def test_linear_extrapolates_nothing():
    between = between_rows(ns(10, 20), ns(9, 21), staleness_ns=1000)
    assert between.valid.tolist() == [False, False]
    assert between.sampled_ns.tolist() == [-1, -1]


def test_linear_is_the_sample_itself_on_its_own_time_whatever_stands_beside_it():
    values = np.array([np.nan, 0.1, np.inf, 7.0])
    out = linear(values, between_rows(ns(0, 10, 20, 30), ns(10, 20, 30), 100))
    assert out.tolist() == [0.1, np.inf, 7.0]


def test_linear_holds_a_dimension_that_only_switches():
    # dimension 1 is a gripper: it is open or closed, never half
    values = np.array([[10.0 * k, 1.0 if k < 5 else 0.04] for k in range(8)])
    out = linear(values, between_rows(ns(*range(0, 80, 10)), ns(5, 45, 55), 100))
    assert out.tolist() == [[5.0, 1.0], [45.0, 1.0], [55.0, 0.04]]
    # three rows say nothing yet
    assert linear(values[4:7, 1], between_rows(ns(0, 10, 20), ns(5), 100)).tolist() == [pytest.approx(0.52)]


def test_linear_of_huge_values_does_not_overflow():
    values = np.array([-1.5e308, 1.5e308, 0.0])
    assert linear(values, between_rows(ns(0, 10, 20), ns(5), 100)).tolist() == [0.0]


def test_slerp_a_quarter_turn():
    half = np.sqrt(0.5)
    # x, y, z, then from identity to 90 degrees about z
    values = np.array([[0, 0, 0, 0, 0, 0, 1], [4, 0, 8, 0, 0, half, half], [9, 9, 9, 0, 0, 1, 0]], dtype=np.float64)
    out = slerp(values, between_rows(ns(0, 90, 180), ns(30), 1000), first=3)
    # a third of the way: 30 degrees about z, so sin 15 and cos 15
    assert out[0, :3] == pytest.approx([4 / 3, 0, 8 / 3])
    assert out[0, 3:] == pytest.approx([0, 0, 0.25881904510252074, 0.9659258262890683])


def test_slerp_takes_the_shorter_arc_and_reads_scalar_first():
    half = np.sqrt(0.5)
    # the same quarter turn as (w, x, y, z), the second with its sign turned
    values = np.array([[1, 0, 0, 0], [-half, 0, 0, -half], [0, 0, 1, 0]], dtype=np.float32)
    out = slerp(values, between_rows(ns(0, 90, 180), ns(60), 1000), first=0, scalar_first=True)
    assert out.dtype == np.float32
    assert out[0] == pytest.approx([0.8660254, 0, 0, 0.5], abs=1e-6)


def test_slerp_holds_where_a_quaternion_is_none():
    values = np.array([[0, 0, 0, 1], [0, 0, 0, 0], [np.nan, 0, 0, 1], [1, 0, 0, 0]], dtype=np.float64)
    out = slerp(values, between_rows(ns(0, 10, 20, 30), ns(5, 15, 25, 30), 1000), first=0)
    assert out[0].tolist() == [0, 0, 0, 1]
    assert out[1].tolist() == [0, 0, 0, 0]
    assert np.isnan(out[2, 0])
    assert out[3].tolist() == [1, 0, 0, 0]


def test_slerp_is_exact_on_a_samples_own_time_even_unnormalised():
    values = np.array([[0, 0, 0, 2.0], [0.1, 0.2, 0.3, 0.4], [1, 1, 1, 1]])
    assert slerp(values, between_rows(ns(0, 10, 20), ns(10), 100), first=0).tolist() == [[0.1, 0.2, 0.3, 0.4]]


def test_commanded_takes_the_first_command_of_the_step_and_else_the_one_in_force():
    # frames every 100; commands answer them 30 later, one is missing, one frame gets two
    steps = ns(0, 100, 200, 300)
    commands = ns(30, 230, 260, 330)
    picked = commanded_rows(commands, steps, steps, ns(100, 200, 300, 400), staleness_ns=200)
    assert picked.rows.tolist() == [0, 0, 1, 3]
    assert picked.sampled_ns.tolist() == [30, 30, 230, 330]


def test_commanded_window_is_half_open():
    steps = ns(0, 100)
    ends = ns(100, 200)
    assert commanded_rows(ns(100), steps, steps, ends, 500).rows.tolist() == [-1, 0]
    assert commanded_rows(ns(99), steps, steps, ends, 500).rows.tolist() == [0, 0]
    assert commanded_rows(ns(200), steps, steps, ends, 500).rows.tolist() == [-1, -1]


def test_commanded_around_a_step_takes_the_nearer_command():
    # the two arms of one loop: the other command comes 2 before, then 3 after its step
    steps = ns(0, 100, 200)
    start, end = ns(-50, 50, 150), ns(50, 150, 250)
    assert commanded_rows(ns(-2, 98, 198), steps, start, end, 300).rows.tolist() == [0, 1, 2]
    assert commanded_rows(ns(3, 103, 203), steps, start, end, 300).rows.tolist() == [0, 1, 2]
    assert commanded_rows(ns(95, 105), steps, start, end, 300).rows.tolist() == [-1, 0, 1]


def test_no_samples_give_nothing():
    for picked in (previous_rows(ns(), ns(1, 2), 9), nearest_rows(ns(), ns(1, 2), 9), commanded_rows(ns(), ns(1), ns(1), ns(2), 9)):
        assert not picked.valid.any()
        assert set(picked.rows.tolist()) == {-1}
    assert take(np.empty((0, 3), dtype=np.float32), previous_rows(ns(), ns(1, 2), 9)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert linear(np.empty((0, 3)), between_rows(ns(), ns(1), 9)).shape == (1, 3)


def test_times_at_both_ends_of_int64_do_not_wrap():
    times = ns(INT64.min, 0, INT64.max)
    grid = ns(INT64.min, -1, 1, INT64.max)
    assert previous_rows(times, grid, 10).rows.tolist() == [0, -1, 1, 2]
    assert nearest_rows(times, grid, 10).rows.tolist() == [0, 1, 1, 2]
    assert previous_rows(times, grid, UNLIMITED_NS).rows.tolist() == [0, 0, 1, 2]


CLOCKS = st.lists(st.integers(-1000, 1000), min_size=0, max_size=30).map(sorted)
GRIDS = st.lists(st.integers(-1200, 1200), min_size=0, max_size=30)


@given(CLOCKS, GRIDS, st.integers(0, 500))
def test_what_is_picked_is_in_the_bound_and_never_extrapolated(times, grid, staleness_ns):
    times_ns, grid_ns = ns(*times), ns(*grid)
    previous, nearest = previous_rows(times_ns, grid_ns, staleness_ns), nearest_rows(times_ns, grid_ns, staleness_ns)
    between = between_rows(times_ns, grid_ns, staleness_ns)
    for k, t in enumerate(grid):
        held = [i for i, s in enumerate(times) if s <= t]
        best = max(held, key=lambda i: (times[i], -i), default=None)
        expected = best if best is not None and t - times[best] <= staleness_ns else -1
        assert previous.rows[k] == expected
        inside = bool(times) and times[0] <= t <= times[-1]
        near = min(range(len(times)), key=lambda i: (abs(times[i] - t), times[i], i), default=None)
        assert nearest.rows[k] == (near if inside and abs(times[near] - t) <= staleness_ns else -1)
        if between.valid[k]:
            assert inside
            assert times[between.earlier[k]] <= t <= times[between.later[k]]
            assert max(t - times[between.earlier[k]], times[between.later[k]] - t) <= staleness_ns
            assert between.sampled_ns[k] == times[between.later[k]]


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30, unique=True).map(sorted), st.data())
def test_a_clock_sampled_at_its_own_times_is_unchanged(times, data):
    values = np.array(data.draw(st.lists(st.floats(allow_nan=False), min_size=len(times), max_size=len(times))))
    times_ns = ns(*times)
    assert take(values, previous_rows(times_ns, times_ns, 0)).tolist() == values.tolist()
    assert take(values, nearest_rows(times_ns, times_ns, 0)).tolist() == values.tolist()
    assert linear(values, between_rows(times_ns, times_ns, 0)).tolist() == values.tolist()


@given(CLOCKS, GRIDS, st.data())
def test_interpolation_stays_between_its_neighbours(times, grid, data):
    values = np.array(data.draw(st.lists(st.floats(-1e300, 1e300), min_size=len(times), max_size=len(times))), dtype=np.float64)
    between = between_rows(ns(*times), ns(*grid), 10_000)
    out = linear(values, between)
    for k in np.flatnonzero(between.valid):
        low, high = sorted([values[between.earlier[k]], values[between.later[k]]])
        assert low <= out[k] <= high
