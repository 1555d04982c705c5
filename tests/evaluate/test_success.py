"""Shares of successes and their intervals, and what counts as done, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.environment import EnvironmentFacts, Observed
from dataengine.evaluate.success import plays, wilson
from dataengine.samples.moving_square import MovingSquare


def test_wilson_by_hand() -> None:
    # p = 0.8, n = 10, z = 2: middle (0.8 + 4/20) / 1.4, half 2/1.4 * sqrt(0.016 + 4/400)
    low, high = wilson(8, 10, z=2.0)
    assert low == pytest.approx(1.0 / 1.4 - 2 / 1.4 * np.sqrt(0.026), abs=1e-12)
    assert high == pytest.approx(1.0 / 1.4 + 2 / 1.4 * np.sqrt(0.026), abs=1e-12)
    low, high = wilson(7, 40)  # 17.5 % of 40, as tables of the interval have it
    assert (round(low, 4), round(high, 4)) == (0.0875, 0.3195)


def test_wilson_at_the_ends() -> None:
    low, high = wilson(0, 20)
    assert low == 0.0
    assert high == pytest.approx(3.8414588 / 23.8414588, abs=1e-7)  # z² / (n + z²)
    low, high = wilson(20, 20)
    assert (low, high) == (pytest.approx(20 / 23.8414588, abs=1e-7), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="from 0 to 3"):
        wilson(4, 3)


class Corridor:
    """A square's world in which standing at 40 px or further to the right is done, and going below 20 px is the end."""

    def __init__(self) -> None:
        self._world = MovingSquare(64, 64, 12)
        self.rendered = 0
        self.given: list[float] = []

    @property
    def facts(self) -> EnvironmentFacts:
        return self._world.facts

    @property
    def task(self) -> str:
        return "go right"

    def _judged(self, seen: Observed) -> Observed:
        x = float(seen.values["observation.state"][0])
        return Observed(seen.values, x >= 40, over=seen.over or x < 20)

    def reset(self, seed: int) -> Observed:
        return self._judged(self._world.reset(seed))

    def step(self, action: Array) -> Observed:
        self.given.append(float(action[0]))
        return self._judged(self._world.step(action))

    def render(self) -> Mapping[str, Array]:
        self.rendered += 1
        return self._world.render()

    def expert(self) -> Array | None:
        return np.array([1.0, 0.0])

    def sample(self, rng: np.random.Generator) -> Array:
        return rng.uniform(-1, 1, 2)

    def close(self) -> None:
        pass


class Constant:
    """A policy that always goes the same way, as fast as it is told."""

    sees_pictures = False

    def __init__(self, speed: float) -> None:
        self.speed = speed

    def act(self, values: Mapping[str, Array], pictures: Mapping[str, Array], task: str) -> Array:
        return np.array([self.speed, 0.0], np.float32)


def test_an_episode_is_done_when_the_environment_says_so() -> None:
    world = Corridor()
    assert plays(Constant(1.0), world, [0, 1, 2]) == [True, True, True]
    assert plays(Constant(-1.0), world, [0, 1]) == [False, False]
    assert plays(Constant(0.01), world, [0], max_steps=2) == [False]
    assert world.rendered == 0  # nobody looks


def test_commands_are_kept_within_bounds() -> None:
    world = Corridor()
    plays(Constant(7.0), world, [3])
    assert set(world.given) == {1.0}
