from __future__ import annotations

import numpy as np
import pytest

from dataengine.samples.arm_environment import CONTACT, STATE, arm_environment
from dataengine.samples.closed_loop import begin


def test_an_action_acts_between_its_observation_and_the_next() -> None:
    """Promise 6: action[t] is commanded after observation[t] and acts before observation[t + 1]."""
    arm = arm_environment(32, 32)
    seen = [arm.reset(5)]
    for _ in range(4):
        seen.append(arm.step(arm.expert()))  # type: ignore[arg-type]
    quiet = arm_environment(32, 32)
    same = [quiet.reset(5)]
    for step in range(4):
        command = quiet.expert()
        assert command is not None
        if step == 3:
            command = command + np.array([0.2, 0.0, 0.0, 0.0, 0.0])
        before = quiet.render()
        same.append(quiet.step(command))
        assert not np.array_equal(before["observation.images.front"], quiet.render()["observation.images.front"])
    states, others = (np.stack([one.values[STATE] for one in run]) for run in (seen, same))
    assert np.array_equal(states[:4], others[:4])  # observation 3 was taken before action 3
    assert others[4, 0] - states[4, 0] > 0.02  # the shoulder obeys within the step
    assert others[4, 1:] == pytest.approx(states[4, 1:])


def test_the_script_does_the_task_or_misses_as_its_fault_says() -> None:
    arm = arm_environment(16, 16, ())
    done = []
    for seed in range(6):
        seen, touched = arm.reset(seed), False
        while (command := arm.expert()) is not None:
            seen = arm.step(command)
            touched = touched or bool(seen.values[CONTACT])
        done.append((seen.success, touched))
    assert [seed for seed, (success, touched) in enumerate(done) if success and touched] == [0, 2, 4, 5]
    assert [done[1], done[3]] == [(False, False), (False, False)]  # the operator missed the block
    assert arm.facts.low.shape == arm.facts.noise_scale.shape == (5,)
    assert arm.facts.noise_scale[4] == 0.0  # the gripper is never perturbed


def test_an_episode_is_that_of_its_seed() -> None:
    arm = arm_environment(24, 32, ("front",))
    first, picture, task = arm.reset(9), arm.render()["observation.images.front"], arm.task
    arm.reset(10)
    arm.step(np.zeros(5))
    again = arm.reset(9)
    assert np.array_equal(first.values[STATE], again.values[STATE])
    assert np.array_equal(picture, arm.render()["observation.images.front"])
    assert picture.shape == (24, 32, 3)
    assert task == arm.task == begin(9, 9).task
