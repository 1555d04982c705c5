from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.synth.metaworld_environment import CONTACT, STATE, STREAM, MetaWorldEnvironment, render_library

# Not by importing it: MuJoCo chooses the library that it renders with as it is imported, and the environment tells it which.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("metaworld") is None, reason="the simulator is not installed: pip install 'robot-dataengine[sim]'"),
    pytest.mark.skipif(render_library() is None, reason="neither EGL nor OSMesa is installed"),
]


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


def test_pictures_stand_upright_and_are_not_mirrored() -> None:
    with closing(MetaWorldEnvironment("push-v3", 64, 96)) as world:
        world.reset(1)
        picture = world.render()[STREAM]
        assert picture.shape == (64, 96, 3)
        assert picture[:8].mean() < picture[-8:].mean()  # black sky above, floor and table below
        # The robot is red and stands at x = 0, y = 0; the camera, at (0.75, 0.075, 0.7), looks along +y and -x, so that it has the robot on its left.
        red = (picture[:, :, 0].astype(int) - picture[:, :, 1:].max(axis=2)) > 60
        assert red[:, :48].sum() > 2 * red[:, 48:].sum()


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown Meta-World task 'pusk-v3'.*did you mean 'push-v3'"):
        MetaWorldEnvironment("pusk-v3")
