from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.align.align import align, align_noting
from dataengine.align.config import AlignConfig
from dataengine.align.control import AlignInput
from dataengine.core.column import ActionSpace, Column
from dataengine.core.config import parse_config
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording, ConfigError

MEASURED = EpisodeInfo("lab", {}, "measured")
UNKNOWN = EpisodeInfo("lab", {}, "unknown")
MS = 1_000_000
AS_IS = AlignConfig()


def ms(*times):
    return np.array(times, dtype=np.int64) * MS


def numbers(name, times, values, meaning="other", **about):
    values = np.asarray(values)
    return AlignInput(Column(name, dtype=str(values.dtype), shape=values.shape[1:], meaning=meaning, **about), times, values)


def camera(name, times, rows=None, present=None):
    column = Column(name, kind="image", dtype="uint8", shape=(None, None, 3), encoding="jpeg")
    return AlignInput(column, times, len(times) if rows is None else rows, present)


def run(info, *streams, **config):
    return align(info, {stream.column.name: stream for stream in streams}, AlignConfig(**config))


def test_rows_of_one_table_come_through_bit_for_bit():
    state = np.array([[0.1, 2**-149], [np.nan, -0.0], [3.5, np.inf]], dtype=np.float32)
    counts = np.array([2**62, -5, 7])
    trajectory = run(UNKNOWN, numbers("state", None, state, "state"), numbers("n", None, counts), camera("top", None, 3))
    assert trajectory.columns["state"].tobytes() == state.tobytes()
    assert trajectory.columns["n"].dtype == np.int64
    assert trajectory.columns["n"].tolist() == counts.tolist()
    assert trajectory.frames["top"].tolist() == [0, 1, 2]
    assert (trajectory.clock, trajectory.t_ns, trajectory.rate_hz, trajectory.steps, trajectory.flags) == ("unknown", None, None, 3, ())
    assert not trajectory.sampled_ns
    assert all(valid.all() for valid in trajectory.valid.values())


def test_no_rate_is_invented_for_a_clock_nobody_knows():
    with pytest.raises(BadRecording, match=r"expected times, to resample it, found rows without any; .*--rate") as error:
        run(UNKNOWN, numbers("a", None, [1.0, 2.0]), rate_hz=10.0)
    assert error.value.check == "no_clock"
    # a reader that says measured and gives no times is not believed
    assert run(MEASURED, numbers("a", None, [1.0, 2.0])).clock == "unknown"


def test_a_nominal_clock_stays_nominal():
    info = EpisodeInfo("lab", {}, "nominal", rate_hz=3.0)
    trajectory = run(info, numbers("a", None, [1.0, 2.0, 4.0]), camera("top", None, 3))
    assert (trajectory.clock, trajectory.rate_hz) == ("nominal", 3.0)
    assert trajectory.t_ns.tolist() == [0, 333_333_333, 666_666_666]
    assert trajectory.sampled_ns["top"].tolist() == trajectory.t_ns.tolist()
    faster = run(info, numbers("a", None, [1.0, 2.0, 4.0], "state"), rate_hz=6.0)
    assert (faster.clock, faster.rate_hz, faster.steps) == ("nominal", 6.0, 5)
    assert faster.columns["a"][:2] == pytest.approx([1.0, 1.5])


def test_one_row_more_is_no_step_and_is_flagged():
    streams = {"a": numbers("a", None, [1.0, 2.0, 3.0]), "b": numbers("b", None, [7, 8, 9, 10]), "top": camera("top", None, 4)}
    aligned = align_noting(UNKNOWN, streams, AS_IS)
    assert aligned.trajectory.steps == 3
    assert aligned.trajectory.columns["b"].tolist() == [7, 8, 9]
    assert aligned.trajectory.frames["top"].tolist() == [0, 1, 2]
    assert aligned.trajectory.flags == ("tail_longer",)
    assert [(problem.where, problem.message) for problem in aligned.problems] == [
        ("b", "stream 'b': has 4 rows beside 3; its last row is no step"),
        ("top", "stream 'top': has 4 rows beside 3; its last row is no step"),
    ]
    # what a simulation shows after its last action is no fault; one that lacks a row of anything else is flagged as before
    simulated, act = replace(UNKNOWN, origin="simulation"), numbers("a", None, [1.0, 2.0, 3.0], "action")
    whole = align_noting(simulated, streams | {"a": act}, AS_IS)
    assert (whole.trajectory.steps, whole.trajectory.flags, list(whole.problems)) == (3, (), [])
    assert align_noting(simulated, streams, AS_IS).trajectory.flags == ("tail_longer",)
    with pytest.raises(BadRecording, match="a 3, b 5"):
        run(UNKNOWN, streams["a"], numbers("b", None, [7, 8, 9, 10, 11]))


def test_absent_pictures_and_empty_streams_are_null():
    present = np.array([True, False, True])
    trajectory = run(UNKNOWN, numbers("a", None, [1.0, 2.0, 3.0]), camera("top", None, 3, present), camera("wrist", None, 0))
    assert trajectory.frames["top"].tolist() == [0, -1, 2]
    assert trajectory.valid["top"].tolist() == [True, False, True]
    assert trajectory.frames["wrist"].tolist() == [-1, -1, -1]
    # between clocks the frame before is still what is seen
    late = numbers("a", ms(5, 105, 205, 305), np.zeros((4, 1)), "action")
    seen = run(MEASURED, late, camera("top", ms(0, 100, 200), present=present))
    assert seen.frames["top"].tolist() == [0, 0, 2, 2]
    assert seen.sampled_ns["top"].tolist() == ms(0, 0, 200, 200).tolist()


def test_joints_at_200_hz_against_a_camera_at_30_hz():
    joints_ns = np.arange(0, 1_000_000_000, 5_000_000, dtype=np.int64)
    seconds = joints_ns / 1e9
    joints = np.stack([2 * seconds, -3 * seconds + 1], axis=1).astype(np.float32)
    frames_ns = np.array([k * 1_000_000_000 // 30 + 2_000_000 for k in range(29)], dtype=np.int64)
    trajectory = run(MEASURED, numbers("observation.state", joints_ns, joints, "state"), camera("top", frames_ns))
    assert trajectory.t_ns.tolist() == frames_ns.tolist()
    assert trajectory.rate_hz == pytest.approx(30.0, abs=1e-5)
    assert trajectory.frames["top"].tolist() == list(range(29))
    # frame 1 is seen at 35.333333 ms: between the samples at 35 and 40 ms
    assert trajectory.sampled_ns["observation.state"][1] == 40 * MS
    assert trajectory.columns["observation.state"][1] == pytest.approx([0.070666666, 0.894], abs=1e-7)
    assert trajectory.columns["observation.state"].dtype == np.float32
    assert trajectory.valid["observation.state"].all()
    # the other way round each camera frame is held for six or seven joint samples, none before it was taken
    back = run(MEASURED, numbers("observation.state", joints_ns, joints, "state"), camera("top", frames_ns), follow="observation.state")
    assert back.frames["top"][:10].tolist() == [-1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert back.columns["observation.state"].tobytes() == joints.tobytes()


def test_the_action_of_a_step_was_commanded_after_its_observation():
    # a policy at 10 Hz: sees a frame, commands 30 ms later; command k answers frame k
    frames_ns = ms(*range(0, 500, 100))
    commands_ns = frames_ns + 30 * MS
    action = numbers("action", commands_ns, np.arange(5, dtype=np.int16)[:, None], "action")
    by_frames = run(MEASURED, action, camera("top", frames_ns), follow="top")
    assert by_frames.columns["action"][:, 0].tolist() == [0, 1, 2, 3, 4]
    by_actions = run(MEASURED, action, camera("top", frames_ns))
    assert by_actions.frames["top"].tolist() == [0, 1, 2, 3, 4]
    regular = run(MEASURED, action, camera("top", frames_ns), follow="top", rate_hz=20.0)
    assert regular.columns["action"][:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    for trajectory in (by_frames, by_actions):
        action_ns, t_ns = trajectory.sampled_ns["action"], trajectory.t_ns
        assert (t_ns <= action_ns).all()
        assert (action_ns[:-1] < t_ns[1:]).all()
        assert (trajectory.sampled_ns["top"] <= t_ns).all()
    # a plain hold would be one step late; it has to be asked for
    held = run(MEASURED, action, camera("top", frames_ns), follow="top", methods={"action": "previous"})
    assert held.columns["action"][1:, 0].tolist() == [0, 1, 2, 3]


def test_two_arms_commanded_in_one_loop_stay_together():
    left_ns = ms(*range(0, 100, 20))
    left = numbers("left.command", left_ns, np.arange(5.0), "action")
    for shift in (-2 * MS, 3 * MS):
        right = numbers("right.command", left_ns + shift, np.arange(5.0) + 10, "action")
        assert run(MEASURED, left, right).columns["right.command"].tolist() == [10, 11, 12, 13, 14]


def test_a_drop_out_longer_than_the_bound_is_null_and_a_shorter_one_is_not():
    times = ms(0, 10, 20, 30, 40, 110, 120, 130)  # median 10 ms, so 30 ms is fresh enough
    state = numbers("state", times, np.arange(8.0), "state")
    steps = numbers("action", ms(20, 40, 69, 70, 71, 80, 81, 110), np.zeros(8), "action")
    trajectory = run(MEASURED, state, steps)
    # between 40 and 110 no time is within 30 ms of both
    assert trajectory.valid["state"].tolist() == [True, True, False, False, False, False, False, True]
    assert trajectory.sampled_ns["state"].tolist() == [20 * MS, 40 * MS, -1, -1, -1, -1, -1, 110 * MS]
    held = run(MEASURED, state, steps, methods={"state": "previous"})
    assert held.valid["state"].tolist() == [True, True, True, True, False, False, False, True]
    assert held.columns["state"][:4].tolist() == [2, 4, 4, 4]
    wider = run(MEASURED, state, steps, staleness_ns_by_stream={"state": 41 * MS})
    assert wider.valid["state"].tolist() == [True, True, True, True, True, True, True, True]
    assert wider.columns["state"][2] == pytest.approx(4 + 29 / 70)
    assert run(MEASURED, state, steps, staleness_ns=0).valid["state"].tolist() == [True, True, False, False, False, False, False, True]


def test_nothing_is_extrapolated():
    state = numbers("state", ms(20, 30, 40), [1.0, 2.0, 3.0], "state")
    steps = numbers("action", ms(0, 19, 20, 40, 41, 70, 71), np.zeros(7), "action")
    assert run(MEASURED, state, steps).valid["state"].tolist() == [False, False, True, True, False, False, False]
    # what is held stays in force until it is stale, at the end like anywhere else
    flag = numbers("flag", ms(20, 30, 40), [True, False, True], "flag")
    trajectory = run(MEASURED, flag, steps)
    assert trajectory.valid["flag"].tolist() == [False, False, True, True, True, True, False]
    assert trajectory.columns["flag"].tolist() == [False, False, True, True, True, True, False]


def test_an_instruction_holds_until_the_next_one():
    task = AlignInput(Column("task", kind="text", dtype="string", meaning="language"), ms(10, 5000), 2)
    steps = numbers("action", ms(*range(0, 9000, 1000)), np.zeros(9), "action")
    assert run(MEASURED, task, steps).frames["task"].tolist() == [-1, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_clock_that_steps_back_is_put_in_order_and_flagged():
    state = numbers("state", ms(0, 10, 30, 20, 40), [0.0, 1.0, 3.0, 2.0, 4.0], "state")
    frames = camera("top", ms(5, 25, 15, 35))
    trajectory = run(MEASURED, state, frames)
    assert trajectory.t_ns.tolist() == ms(5, 15, 25, 35).tolist()
    assert trajectory.frames["top"].tolist() == [0, 2, 1, 3]
    assert trajectory.columns["state"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert trajectory.flags == ("clock_not_monotonic",)
    # one table is put in order as a whole
    table = run(MEASURED, numbers("a", ms(0, 20, 10), [1, 2, 3]), numbers("b", ms(0, 20, 10), [4, 5, 6]))
    assert (table.t_ns.tolist(), table.columns["a"].tolist(), table.columns["b"].tolist()) == (ms(0, 10, 20).tolist(), [1, 3, 2], [4, 6, 5])


def test_equal_times_keep_their_rows_and_lookups_use_the_earlier():
    steps = numbers("action", ms(0, 10, 10, 20), [0.0, 1.0, 2.0, 3.0], "action")
    flag = numbers("flag", ms(0, 10, 10, 15), [5, 6, 7, 8], "flag")
    trajectory = run(MEASURED, steps, flag)
    assert trajectory.columns["action"].tolist() == [0, 1, 2, 3]
    assert trajectory.columns["flag"].tolist() == [5, 6, 6, 8]
    assert trajectory.flags == ("duplicate_times",)


def test_poses_turn_on_the_shorter_arc():
    half = np.sqrt(0.5)
    pose = np.array([[0, 0, 0, 0, 0, 0, 1, 0.5], [1, 2, 3, 0, 0, half, half, 0.7]])
    space = ActionSpace("ee_pose", rotation="quat_xyzw")
    stream = numbers("pose", ms(0, 10), pose, "state", action_space=space)
    trajectory = run(MEASURED, stream, numbers("action", ms(2, 5), [0.0, 0.0], "action"))
    angle = np.pi / 8
    assert trajectory.columns["pose"][1] == pytest.approx([0.5, 1, 1.5, 0, 0, np.sin(angle), np.cos(angle), 0.6])


def test_a_stream_without_times_beside_measured_ones_is_null_and_named():
    aligned = align_noting(MEASURED, {"a": numbers("a", ms(0, 10, 20), [1.0, 2.0, 3.0]), "b": numbers("b", None, [1.0, 2.0])}, AS_IS)
    assert aligned.trajectory.flags == ("no_clock",)
    assert not aligned.trajectory.valid["b"].any()


def test_a_stream_on_another_epoch_is_null_and_named():
    steps = numbers("action", ms(0, 10, 20), np.zeros(3), "action")
    trajectory = run(MEASURED, steps, numbers("imu", ms(0, 10, 20) + 2**60, [1.0, 2.0, 3.0], "state"))
    assert trajectory.flags == ("never_fresh",)
    assert trajectory.sampled_ns["imu"].tolist() == [-1, -1, -1]
    # of topics that nobody gave a meaning it is said once, and is no fault
    late = {name: numbers(name, ms(0, 10, 20) + 2**60, [1.0, 2.0, 3.0]) for name in "abcdefg"}
    aligned = align_noting(MEASURED, {"action": steps, **late}, AS_IS)
    assert aligned.trajectory.flags == ()
    assert [(problem.severity, problem.found) for problem in aligned.problems] == [("info", "none in 7 streams")]
    assert aligned.problems[0].message.startswith("a, b, c, d, e and 2 more: expected")


def test_absurd_control_clocks_are_rejected_before_anything_is_made():
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max])
    with pytest.raises(BadRecording, match="expected times that span less than ten years") as error:
        run(MEASURED, numbers("a", ends, [1.0, 2.0]))
    assert error.value.check == "clock_span"
    with pytest.raises(BadRecording, match="at most 10200 steps"):
        run(MEASURED, numbers("a", ms(0, 10**9), [1.0, 2.0]), rate_hz=1000.0)


def test_the_rate_comes_from_the_user_then_the_file_then_the_clock():
    streams = (numbers("action", ms(0, 20, 40, 61), np.zeros(4), "action"), camera("top", ms(1, 34, 67)))
    told = EpisodeInfo("lab", {}, "measured", rate_hz=15.0)
    assert run(told, *streams).rate_hz == 15.0
    assert run(MEASURED, *streams).rate_hz == 50.0
    assert run(told, *streams, follow="top").rate_hz == pytest.approx(1000 / 33)
    resampled = run(told, *streams, rate_hz=25.0)
    assert (resampled.rate_hz, resampled.t_ns.tolist()) == (25.0, ms(0, 40).tolist())


def test_a_stream_that_is_no_column_can_be_followed():
    ticks = AlignInput(Column("ticks", kind="message", dtype="bytes", steps=False), ms(0, 50, 100), 3)
    table = (numbers("a", ms(0, 20, 40, 60, 80, 100), np.arange(6.0), "state"), ticks)
    trajectory = run(MEASURED, *table, follow="ticks")
    assert list(trajectory.specs) == ["a"]
    assert trajectory.columns["a"].tolist() == [0, 2.5, 5]


def test_an_episode_without_rows_has_no_steps():
    trajectory = run(MEASURED, numbers("a", ms(), np.empty((0, 3), dtype=np.float32)), camera("top", ms()))
    assert (trajectory.steps, trajectory.columns["a"].shape) == (0, (0, 3))


def test_a_configuration_is_read_strictly():
    assert parse_config(AlignConfig, {"follow": "top", "methods": {"a": "slerp"}}, "x.yaml").methods == {"a": "slerp"}
    with pytest.raises(ConfigError, match="unknown key 'stalenes_ns', did you mean 'staleness_ns'"):
        parse_config(AlignConfig, {"stalenes_ns": 5}, "x.yaml")
    with pytest.raises(ConfigError, match="rate_hz"):
        parse_config(AlignConfig, {"rate_hz": 0}, "x.yaml")


def test_real_demonstrations_come_through_unchanged(shared_data):
    with h5py.File(shared_data("teleop_hdf5", "robosuite_demos", "lift_demo.hdf5")) as file:
        demo = file["data/demo_1"]
        states, actions = demo["states"][:], demo["actions"][:]
    trajectory = run(UNKNOWN, numbers("observation.state", None, states, "state"), numbers("action", None, actions, "action"))
    assert trajectory.columns["observation.state"].tobytes() == states.tobytes()
    assert trajectory.columns["action"].tobytes() == actions.tobytes()
    assert trajectory.steps == len(actions)
    assert trajectory.t_ns is None


TIMES = st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-50, 50).map(lambda k: k * MS)), max_size=12)


@given(TIMES, TIMES, TIMES, st.sampled_from([None, "a", "top"]), st.sampled_from([None, 7.0, 1000.0]))
@settings(deadline=None)
def test_any_clocks_give_a_trajectory_or_a_reason(a, b, frames, follow, rate_hz):
    streams = (
        numbers("a", np.array(a, dtype=np.int64), np.arange(len(a), dtype=np.float32), "state"),
        numbers("b", np.array(b, dtype=np.int64), np.arange(len(b)), "action"),
        camera("top", np.array(frames, dtype=np.int64)),
    )
    trajectory, reason = None, None
    try:
        trajectory = run(MEASURED, *streams, follow=follow, rate_hz=rate_hz)
    except BadRecording as error:
        reason = error.check
    if trajectory is None:
        assert reason in ("clock_span", "no_control_stream")
        return
    t_ns = trajectory.t_ns
    assert t_ns is None or (t_ns[1:] >= t_ns[:-1]).all()
    seen = trajectory.frames["top"]
    assert ((seen == -1) == ~trajectory.valid["top"]).all()
    for name, recorded in (("a", a), ("b", b), ("top", frames)):
        there = trajectory.valid[name]
        if t_ns is not None:
            assert set(trajectory.sampled_ns[name][there].tolist()) <= set(recorded)
    for k in np.flatnonzero(trajectory.valid["top"]):
        assert frames[seen[k]] == trajectory.sampled_ns["top"][k]
        assert frames[seen[k]] <= t_ns[k]
