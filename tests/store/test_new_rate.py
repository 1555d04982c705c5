"""Stored steps at another rate, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.align.control import AlignInput
from dataengine.core.column import ActionSpace, Column
from dataengine.core.episode import EpisodeInfo
from dataengine.core.errors import BadRecording
from dataengine.core.trajectory import Trajectory
from dataengine.store.new_rate import at_rate

MS = 1_000_000
STATE = Column("observation.state", dtype="float64", shape=(), meaning="state")
ACTION = Column("action", dtype="float32", shape=(), meaning="action", action_space=ActionSpace("ee_delta", absolute=False))
CAMERA = Column("observation.images.main", kind="image")
INFO = EpisodeInfo("lab", {}, "measured", rate_hz=10.0)


def steps(count: int = 10, action: Column = ACTION) -> tuple[Trajectory, dict[str, AlignInput]]:
    """Return steps at 0, 100, ... ms, a state at 50 Hz that is its time in ms, actions that are their number, a camera with a picture each 100 ms from 60 ms on."""
    t_ns = np.arange(count, dtype=np.int64) * 100 * MS
    state_ns = np.arange(5 * count, dtype=np.int64) * 20 * MS
    inputs = {
        STATE.name: AlignInput(STATE, state_ns, state_ns / MS),
        action.name: AlignInput(action, t_ns, np.arange(count, dtype=np.float32)),
        CAMERA.name: AlignInput(CAMERA, t_ns + 60 * MS, count),
    }
    columns = {STATE.name: t_ns / MS, action.name: np.arange(count, dtype=np.float32)}
    frames = {CAMERA.name: np.arange(-1, count - 1)}
    specs = {STATE.name: STATE, action.name: action, CAMERA.name: CAMERA}
    return Trajectory(t_ns, columns, specs, frames=frames, rate_hz=10.0, steps=count), inputs


def test_slower_and_faster() -> None:
    trajectory, inputs = steps()
    slow = at_rate(INFO, trajectory, inputs, 4.0).trajectory
    assert slow.t_ns is not None
    assert (slow.t_ns // MS).tolist() == [0, 250, 500, 750]
    assert (slow.rate_hz, slow.steps) == (4.0, 4)
    assert slow.columns[STATE.name].tolist() == [0.0, 250.0, 500.0, 750.0]
    # The command from a step to the next that is nearest to it: 3 comes at 300 ms, 8 at 800 ms.
    assert slow.columns["action"].tolist() == [0.0, 3.0, 5.0, 8.0]
    # The newest picture: at 250 ms that of 160 ms, at 750 ms that of 660 ms.
    assert slow.frames[CAMERA.name].tolist() == [-1, 1, 4, 6]
    fast = at_rate(INFO, trajectory, inputs, 20.0).trajectory
    assert fast.steps == 19
    assert fast.columns[STATE.name].tolist() == [50.0 * step for step in range(19)]
    assert fast.frames[CAMERA.name].tolist()[:6] == [-1, -1, 0, 0, 1, 1]


def test_changes_are_named_where_the_rate_is_another() -> None:
    trajectory, inputs = steps()
    assert [problem.check for problem in at_rate(INFO, trajectory, inputs, 4.0).problems] == ["resampled_deltas"]
    assert at_rate(INFO, trajectory, inputs, 10.0).problems == ()
    absolute = Column("action", dtype="float32", shape=(), meaning="action", action_space=ActionSpace("joint_position", absolute=True))
    assert at_rate(INFO, *steps(action=absolute), 4.0).problems == ()


def test_a_column_that_no_step_has_is_left_out() -> None:
    trajectory, inputs = steps()
    late = {**inputs, CAMERA.name: AlignInput(CAMERA, np.arange(10, dtype=np.int64) + 5_000 * MS, 10)}
    found = at_rate(INFO, trajectory, late, 4.0)
    assert CAMERA.name not in found.trajectory.frames
    assert CAMERA.name not in found.trajectory.specs
    assert "never_fresh" in {problem.check for problem in found.problems}


def test_without_times_there_is_no_rate() -> None:
    trajectory, inputs = steps()
    untimed = Trajectory(None, trajectory.columns, trajectory.specs, frames=trajectory.frames, clock="unknown", steps=10)
    with pytest.raises(BadRecording, match="leave --rate out"):
        at_rate(INFO, untimed, inputs, 4.0)
