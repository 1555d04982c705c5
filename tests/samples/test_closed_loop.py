"""The arm under somebody else's command: it does what a recording of the same commands shows, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.closed_loop import Observation, begin, observe, play, step
from dataengine.samples.kinematics import JOINT_HIGH, JOINT_LOW
from dataengine.samples.steps import control_steps

STEADY = ArmConfig(height=32, width=48, control_hz=10, camera_hz=10, jitter_ns=0, failure_rate=0.0)


@pytest.mark.parametrize(("index", "kind"), [(0, "push_left"), (1, "lift"), (2, "push_right"), (3, "place")])
def test_a_recording_that_is_played_again_ends_as_it_did(index: int, kind: str) -> None:
    recording, steps = record(0, index, STEADY), control_steps(record(0, index, STEADY))
    situation = begin(0, index, STEADY)
    assert (situation.kind, situation.task) == (recording.kind, recording.task) == (kind, observe(situation).task)
    assert not situation.success
    apart = []
    for row, action in enumerate(steps.action):
        seen = observe(situation)
        apart.append(float(np.abs(seen.state[:4] - steps.qpos[row, :4]).max()))
        if row in (0, len(steps) // 2):  # the recorder's picture is up to 20 ms older, and the grain differs
            assert np.abs(seen.images["wrist"].astype(float) - recording.cameras["wrist"].images[steps.frame["wrist"][row]]).mean() < 12
        situation = step(situation, action)
    assert max(apart) < 0.05  # the recorded state is up to 5 ms older
    assert situation.success == recording.success is True
    assert situation.world.block == pytest.approx(recording.block_pose[-1], abs=1e-9)


def test_who_holds_still_does_not_succeed() -> None:
    ended = play(lambda seen: seen.state, begin(3, 4, ArmConfig(cameras=())), 30)
    assert (ended.steps, ended.success, ended.world.t_ns) == (30, False, 1_500_000_000)
    assert ended.world.block == pytest.approx(ended.first_block)


def test_commands_are_kept_within_the_joints_limits() -> None:
    situation = begin(0, 0, ArmConfig(cameras=()))
    assert step(situation, np.full(5, 1e30)).world.command.tolist() == [*JOINT_HIGH.tolist(), 1.0]
    assert step(situation, np.full(5, -1e30)).world.command.tolist() == [*JOINT_LOW.tolist(), 0.0]
    with pytest.raises(UsageError, match="action: must be 5 finite numbers"):
        step(situation, np.array([0.0, np.nan, 0.0, 0.0, 0.0]))
    with pytest.raises(UsageError, match="action: must be 5 finite numbers"):
        play(lambda seen: seen.state[:4], situation, 1)


def test_a_policy_sees_the_cameras_it_is_given() -> None:
    seen: Observation = observe(begin(0, 0, ArmConfig(height=24, width=40, cameras=("wrist",))))
    assert {name: (picture.shape, picture.dtype) for name, picture in seen.images.items()} == {"wrist": ((24, 40, 3), np.dtype("uint8"))}
    assert seen.state.shape == (5,)
