"""The errand: the script does it, the gripper and the order matter, and pictures show where things are."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.environment import Observed
from dataengine.samples.errand import CAMERA, NEAR, STATE, STEP, STEPS, WHOLE, Errand


def played(world: Errand, seed: int, closed: float | None = None) -> tuple[Observed, int]:
    """Play the script to the end of an episode, with another gripper where it is given; return what is seen last and after how many steps."""
    seen, steps = world.reset(seed), 0
    while not seen.over and steps < STEPS:
        command = world.expert()
        assert command is not None
        seen, steps = world.step(command if closed is None else np.array([*command[:2], closed])), steps + 1
    return seen, steps


def test_the_script_does_it() -> None:
    world = Errand(32, 32)
    ends = [played(world, seed) for seed in range(50)]
    assert all(seen.success for seen, _ in ends)
    assert max(steps for _, steps in ends) < 30


def test_without_the_gripper_nothing_is_brought() -> None:
    seen, steps = played(Errand(32, 32), 3, closed=0.0)
    assert (seen.success, steps) == (False, STEPS)


def test_a_step_by_hand() -> None:
    world = Errand(32, 32)
    first = world.reset(5)
    moved = world.step(np.array([1.0, -0.5, 1.0]))
    assert moved.values[STATE][:2] - first.values[STATE][:2] == pytest.approx([STEP, -STEP / 2], abs=1e-6)
    assert moved.values[STATE][2] == 0.0  # it closed far from the thing
    assert np.array_equal(moved.values[WHOLE], first.values[WHOLE])
    beyond = world.step(np.array([9.0, 0.0, 0.0]))
    assert beyond.values[STATE][0] - moved.values[STATE][0] == pytest.approx(STEP, abs=1e-6)  # commands are kept within bounds


def test_what_is_held_moves_along_until_it_is_let_go() -> None:
    world = Errand(32, 32)
    seen = world.reset(1)
    while seen.values[STATE][2] == 0.0:
        command = world.expert()
        assert command is not None
        seen = world.step(command)
    seen = world.step(np.array([0.5, 0.0, 1.0]))
    assert np.array_equal(seen.values[WHOLE][:2], seen.values[STATE][:2])
    let_go = world.step(np.array([0.0, 0.5, 0.0]))
    stays = world.step(np.array([1.0, 1.0, 0.0]))
    assert let_go.values[STATE][2] == 0.0
    assert np.array_equal(stays.values[WHOLE], let_go.values[WHOLE])
    assert np.array_equal(let_go.values[WHOLE][:2], let_go.values[STATE][:2])


def test_the_same_seed_gives_the_same_episode_and_pictures_show_it() -> None:
    one, other = Errand(40, 80), Errand(40, 80)
    seen = one.reset(9)
    assert np.array_equal(seen.values[WHOLE], other.reset(9).values[WHOLE])
    picture = one.render()[CAMERA]
    assert np.array_equal(picture, other.render()[CAMERA])
    assert picture.shape == (40, 80, 3)
    thing = np.round(seen.values[WHOLE][:2] * [79, 39]).astype(int)
    assert picture[thing[1], thing[0]].tolist() == [250, 60, 20]
    goal = np.round(seen.values[WHOLE][2:] * [79, 39]).astype(int)
    assert picture[goal[1], goal[0]].tolist() == [20, 40, 250]
    assert np.linalg.norm(seen.values[WHOLE][2:] - seen.values[WHOLE][:2]) > 3 * NEAR
