from __future__ import annotations

import numpy as np

from dataengine.core.clock import steps_near


def test_the_nearest_step_is_taken_and_ties_go_to_the_earlier() -> None:
    times = np.array([0, 100, 200, 350], dtype=np.int64) * 1_000_000
    steps, beyond = steps_near(times, np.array([1, 3]), (-0.1, 0.05, 0.12))
    assert steps.tolist() == [[0, 1, 2], [2, 3, 3]]  # 0.15 s lies halfway between two: the earlier; 250 ms is nearer to 200 than to 350
    assert beyond.tolist() == [[False, False, False], [False, False, True]]


def test_an_episode_of_one_step_has_no_neighbours() -> None:
    steps, beyond = steps_near(np.array([5], dtype=np.int64), np.array([0]), (0.0, 0.05))
    assert steps.tolist() == [[0, 0]]
    assert beyond.tolist() == [[False, True]]
