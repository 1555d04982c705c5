from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput, followed_stream, median_period_ns, rate_grid_ns, shared_rows
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording

MEASURED = EpisodeInfo("lab", {}, "measured")
S = 1_000_000_000


def numbers(name, times, meaning="other"):
    times_ns = np.array(times, dtype=np.int64)
    return AlignInput(Column(name, meaning=meaning), times_ns, np.zeros(len(times_ns)))


def camera(name, times):
    times_ns = np.array(times, dtype=np.int64)
    return AlignInput(Column(name, kind="image", dtype="uint8", shape=(None, None, 3)), times_ns, len(times_ns))


def follow(streams, info=MEASURED, **config):
    by_name = {stream.column.name: stream for stream in streams}
    return followed_stream(info, by_name, {name: stream.timestamps_ns for name, stream in by_name.items()}, AlignConfig(**config))


FAST = numbers("joints", range(0, 1000, 5))
SLOW_CAMERA = camera("z.slow", range(0, 1000, 100))
QUICK_CAMERA = camera("a.quick", range(0, 1000, 33))


def test_the_control_stream_by_default():
    arm = numbers("arm.command", range(3, 1000, 20), "action")
    gripper = numbers("action", [50, 700], "action")
    assert follow([FAST, QUICK_CAMERA, SLOW_CAMERA, arm, gripper]) == "arm.command"
    assert follow([FAST, QUICK_CAMERA, SLOW_CAMERA]) == "z.slow"
    assert follow([FAST, numbers("imu", range(0, 1000, 5))]) == "imu"
    assert follow([FAST, camera("still", [4])]) == "joints"
    assert follow([numbers("b", range(9), "action"), numbers("action", range(9), "action")]) == "action"


def test_the_reader_and_above_it_the_configuration_name_the_control_stream():
    info = EpisodeInfo("lab", {}, "measured", follow="a.quick")
    assert follow([FAST, QUICK_CAMERA, SLOW_CAMERA], info) == "a.quick"
    assert follow([FAST, QUICK_CAMERA, SLOW_CAMERA], info, follow="joints") == "joints"
    assert follow([FAST, SLOW_CAMERA], info) == "z.slow"
    with pytest.raises(BadRecording, match="'wrist', found none"):
        follow([FAST], follow="wrist")


def rows_of(info, **lengths):
    return shared_rows(info, {name: AlignInput(Column(name), None, length) for name, length in lengths.items()})


def test_rows_without_times_share_a_clock_and_one_may_have_a_tail():
    unknown = EpisodeInfo("lab", {}, "unknown")
    assert rows_of(unknown, a=7, b=7, none=0) == 7
    assert rows_of(unknown, a=7, b=8, c=8) == 7
    assert rows_of(unknown) == 0
    with pytest.raises(BadRecording, match=r"recording 'demo_3': .*rows: c 5, a 7, b 8") as error:
        rows_of(EpisodeInfo("lab", {}, "unknown", key="demo_3"), a=7, b=8, c=5)
    assert error.value.check == "unequal_lengths"


def test_measured_clocks_are_shared_only_when_their_times_are():
    a, same = numbers("a", [0, 10, 20]), numbers("b", [0, 10, 20])
    assert shared_rows(MEASURED, {"a": a, "b": same}) == 3
    assert shared_rows(MEASURED, {"a": a, "b": numbers("b", [0, 10, 20, 30])}) == 3
    assert shared_rows(MEASURED, {"a": a, "b": numbers("b", [0, 10, 21])}) is None
    # a stream that stopped early is put in its place by its times
    assert shared_rows(MEASURED, {"a": a, "b": numbers("b", [0, 10, 20, 30, 40])}) is None
    # two topics that begin with the episode are no table
    assert shared_rows(MEASURED, {"a": numbers("a", [0]), "b": numbers("b", [0, 10])}) is None
    assert shared_rows(MEASURED, {"a": a, "b": AlignInput(Column("b"), None, 3)}) is None


def test_a_nominal_clock_of_one_rate_wants_equal_lengths():
    nominal = EpisodeInfo("lab", {}, "nominal", rate_hz=10)
    tenth = range(0, S, S // 10)
    assert shared_rows(nominal, {"a": numbers("a", tenth), "b": numbers("b", range(0, S, S // 5))}) is None
    with pytest.raises(BadRecording, match="a 4, b 10"):
        shared_rows(nominal, {"b": numbers("b", tenth), "a": numbers("a", list(tenth)[:4])})


def test_the_median_period_leaves_standing_times_out():
    assert median_period_ns(np.array([0, 0, 5, 5, 15, 20], dtype=np.int64)) == 5
    assert median_period_ns(np.array([3, 3], dtype=np.int64)) is None
    assert median_period_ns(np.array([-(2**63), 2**63 - 1], dtype=np.int64)) == 2**64 - 1


def test_a_rate_makes_a_half_open_grid_without_rounding_drift():
    assert rate_grid_ns(5, 5 + S, 4, 10).tolist() == [5, 250_000_005, 500_000_005, 750_000_005]
    assert rate_grid_ns(0, S + 1, 4, 10).tolist()[-1] == S
    thirds = rate_grid_ns(0, 1000 * S, 3, 10_000)
    assert thirds[1] == 333_333_333
    assert thirds[3] == S
    assert thirds[2999] == 999_666_666_666
    assert rate_grid_ns(7, 7, 30, 1).tolist() == []


def test_a_grid_is_bounded_before_it_is_made():
    with pytest.raises(BadRecording, match=r"at most 10200 steps for 2 recorded rows, found 259200001 steps at 30 Hz") as error:
        rate_grid_ns(0, 100 * 86_400 * S + 1, 30, 2)
    assert error.value.check == "clock_span"


@given(st.integers(-(10**12), 10**12), st.integers(0, 10 * S), st.floats(0.1, 200))
def test_grids_partition_a_timeline(start, length, rate_hz):
    grid = rate_grid_ns(start, start + length, rate_hz, 10**6)
    assert all(start <= t < start + length for t in grid.tolist())
    assert (np.diff(grid) > 0).all()
    period = S / rate_hz
    assert abs(len(grid) - length / period) <= 1 + len(grid) * 1e-5
