from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.synth.metaworld_environment import CONTACT, STATE, STREAM, MetaWorldEnvironment, pixel_means, render_library


def simulated(test: Callable[[], None]) -> Callable[[], None]:
    """Mark a test that plays: not by importing the simulator, since MuJoCo chooses the library that it renders with as it is imported, and the environment tells it which."""
    marks = (
        pytest.mark.slow,
        pytest.mark.skipif(find_spec("metaworld") is None, reason="the simulator is not installed: pip install 'robot-dataengine[sim]'"),
        pytest.mark.skipif(render_library() is None, reason="neither EGL nor OSMesa is installed"),
    )
    for mark in marks:
        test = mark(test)
    return test


def test_a_pixel_is_the_mean_of_its_points() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    picture[:, :2, 0] = [[0, 255], [255, 255]]
    picture[1, 3] = [2, 3, 1]
    assert pixel_means(picture, 2).tolist() == [[[191, 0, 0], [1, 1, 0]]]  # 191.25; 0.5, 0.75 and 0.25
    assert pixel_means(picture, 1).tolist() == picture.tolist()


@simulated
def test_a_command_of_one_is_four_centimetres() -> None:
    with closing(MetaWorldEnvironment("push-v3")) as world:
        world.reset(1)
        target = world._world.data.mocap_pos.copy()
        for _ in range(4):
            seen = world.step(np.array([0.5, -0.25, 0.2, -1.0]))
        assert (world._world.data.mocap_pos - target)[0] == pytest.approx([0.08, -0.04, 0.032])
        assert seen.values[STATE][3] == pytest.approx(1.0, abs=0.01)  # -1 opens
        for _ in range(4):
            seen = world.step(np.array([0.0, 0.0, 0.0, 1.0]))
        assert seen.values[STATE][3] < 0.7
        assert not bool(seen.values[CONTACT])


@simulated
def test_pictures_stand_upright_and_are_not_mirrored() -> None:
    with closing(MetaWorldEnvironment("push-v3", 64, 96)) as world:
        world.reset(1)
        picture = world.render()[STREAM]
        assert picture.shape == (64, 96, 3)
        assert picture[:8].mean() < picture[-8:].mean()  # black sky above, floor and table below
        # The robot is red and stands at x = 0, y = 0; the camera, at (0.75, 0.075, 0.7), looks along +y and -x, so that it has the robot on its left.
        red = (picture[:, :, 0].astype(int) - picture[:, :, 1:].max(axis=2)) > 60
        assert red[:, :48].sum() > 2 * red[:, 48:].sum()


@simulated
def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown Meta-World task 'pusk-v3'.*did you mean 'push-v3'"):
        MetaWorldEnvironment("pusk-v3")
