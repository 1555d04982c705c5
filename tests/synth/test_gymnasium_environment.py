from __future__ import annotations

from contextlib import closing
from importlib.util import find_spec

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.errors import UsageError
from dataengine.synth.gymnasium_environment import STREAM, GymnasiumEnvironment
from dataengine.synth.metaworld_environment import render_library
from dataengine.synth.rollout import Play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gymnasium") is None or find_spec("mujoco") is None, reason="not installed: pip install 'robot-dataengine[sim]'"),
    pytest.mark.skipif(render_library() is None, reason="neither EGL nor OSMesa is installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gymnasium"),
]


def test_any_environment_that_renders_is_played_at_random() -> None:
    with closing(GymnasiumEnvironment("Reacher-v5", 40, 48)) as world:
        runs = [next(iter(episodes_of(Play("random", max_steps=12).events(world, seed)))) for seed in (3, 3, 4)]
    assert all(isinstance(run, Episode) for run in runs)
    one, again, other = (np.asarray(run.streams["action"].values) for run in runs)  # type: ignore[union-attr]
    assert one.shape == (12, 2)
    assert np.abs(one).max() <= 1.0
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    pictures = runs[0].streams[STREAM].values.pixels  # type: ignore[union-attr]
    assert pictures.shape == (13, 40, 48, 3)
    assert runs[0].info.success is None  # type: ignore[union-attr]
    assert runs[0].info.rate_hz == world.facts.rate_hz  # type: ignore[union-attr]


def test_an_unknown_id_says_so() -> None:
    with pytest.raises(UsageError, match="gym:Nope-v1: must be an installed environment that renders rgb_array, got NameNotFound"):
        GymnasiumEnvironment("Nope-v1")
