from __future__ import annotations

import h5py
import numpy as np

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.stream import Items
from dataengine.validate.episode import CHECKS, CheckInput, check_episode, examine
from dataengine.validate.limits import CheckLimits
from dataengine.validate.pictures import picture_facts

MEASURED = EpisodeInfo("lab", {}, "measured")
NOMINAL = EpisodeInfo("lab", {}, "nominal", rate_hz=10.0)


def numbers(values, meaning="state", times_ns=None, **about):
    values = np.asarray(values)
    return CheckInput(Column("x", shape=values.shape[1:], meaning=meaning, **about), times_ns, values, len(values))


def moving(rows=50, dims=3):
    return np.cumsum(np.random.default_rng(1).normal(size=(rows, dims)), axis=0)


def test_every_check_is_named_for_its_fault():
    assert sorted(CHECKS) == [
        "clock_jitter",
        "clock_not_monotonic",
        "constant_image",
        "damaged_frames",
        "duplicate_times",
        "frozen_frames",
        "frozen_signal",
        "grey_among_colour",
        "gripper_chatter",
        "idle_episode",
        "jump",
        "missing_frames",
        "mixed_frame_sizes",
        "not_finite",
        "saturated",
        "time_gaps",
        "too_short",
    ]
    assert all(check.__name__ == name and check.__doc__ for name, check in CHECKS.items())


def test_a_clock_that_is_shared_is_judged_once():
    times = np.arange(50, dtype=np.int64) * 10_000_000
    times[30:] += 10**9
    streams = {"a": numbers(moving(), times_ns=times), "b": numbers(moving(), times_ns=times.copy()), "c": numbers(moving())}
    (problem,) = check_episode(MEASURED, streams)
    assert (problem.check, problem.where) == ("time_gaps", "stream 'a' and 1 on its clock")
    findings = examine(MEASURED, streams)
    assert findings.flags == ("time_gaps",)
    assert findings.figures["longest_gap_s"] == 1.01
    # nothing is said of a clock that was never measured
    assert check_episode(NOMINAL, streams) == []


def test_an_episode_without_movement_is_idle():
    rest = np.tile(np.array([0.3, 1.2]), (40, 1))
    rest[::2] += 4e-4
    (problem,) = check_episode(NOMINAL, {"state": numbers(rest), "action": numbers(moving(40), "action")})
    assert (problem.check, problem.found) == ("idle_episode", "a movement of 0.0004 at most")
    # another part of the robot moves
    assert check_episode(NOMINAL, {"left": numbers(rest), "right": numbers(moving(40))}) == []


def test_an_episode_of_four_rows_is_too_short():
    (problem,) = check_episode(NOMINAL, {"a": numbers(moving(4)), "log": CheckInput(Column("log", kind="message", steps=False), None, None, 900)})
    assert (problem.check, problem.found) == ("too_short", "4 in its longest stream")
    log_only = {"log": CheckInput(Column("log", kind="message", steps=False), None, None, 2)}
    assert check_episode(NOMINAL, {}) == check_episode(NOMINAL, log_only) == []
    assert check_episode(NOMINAL, {"a": numbers(moving(4))}, CheckLimits(min_rows=4)) == []


def test_figures_are_evidence_and_flags_are_warnings_only():
    top = Column("top", kind="image", dtype="uint8", shape=(None, None, 3))
    pictures = picture_facts(Items([b""] + [b"\xff\xd8x"] * 9, "jpeg"))
    clipped = np.clip(np.sin(np.arange(50) / 5), -0.7, 0.7)[:, None] * np.array([1.0, 2.0])
    clipped[4, 1] = np.nan
    findings = examine(NOMINAL, {"top": CheckInput(top, None, None, 10, pictures), "x": numbers(clipped, "action")})
    assert findings.flags == ("damaged_frames", "missing_frames", "not_finite")
    assert "saturated" in {problem.check for problem in findings.problems}
    assert findings.figures == {"repeated_frames_share": 0.8, "not_finite": 1.0}


def test_real_demonstrations_are_plausible(shared_data):
    with h5py.File(shared_data("teleop_hdf5", "robosuite_demos", "lift_demo.hdf5")) as file:
        for demo in file["data"].values():
            streams = {"observation.state": numbers(demo["states"][:]), "action": numbers(demo["actions"][:], "action")}
            assert check_episode(NOMINAL, streams) == []
