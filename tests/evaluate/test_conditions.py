"""What each condition takes of labelled demonstrations: steps, actions and weights, of demonstrations that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.evaluate.conditions import CONDITIONS, Choice
from dataengine.evaluate.demonstrations import Demonstrations


def demonstrations(lengths: tuple[int, ...] = (4, 3, 5)) -> Demonstrations:
    """Return episodes whose true action is [step, 0], whose label is [100 * episode + step, 1]; the last step of each has no label, and the first no action."""
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    last = np.asarray(lengths)[episode] - 1
    return Demonstrations(
        {"state": step[:, None].astype(np.float32)},
        np.stack([step, 0 * step], 1).astype(np.float32),
        step > 0,
        np.stack([100 * episode + step, 0 * step + 1], 1).astype(np.float32),
        step < last,
        np.where(step % 2 == 0, 0.9, 0.3).astype(np.float32),
        episode,
        step,
        np.zeros(len(step), np.int64),
        tuple(f"{number:032x}" for number in range(len(lengths))),
        ("push",),
    )


def taken(name: str, threshold: float | None = None, seed: int = 0) -> tuple[list[list[float]], list[float], list[int]]:
    added = CONDITIONS[name](demonstrations(), Choice(seed, threshold))
    assert added is not None
    return added.actions.tolist(), added.weight.tolist(), added.places.tolist()


def test_real_adds_nothing() -> None:
    assert taken("real") == ([], [], [])


def test_perfect_takes_true_actions_where_they_were_measured() -> None:
    actions, weights, places = taken("perfect")
    assert places == [1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert actions == [[1, 0], [2, 0], [3, 0], [1, 0], [2, 0], [1, 0], [2, 0], [3, 0], [4, 0]]
    assert weights == [1.0] * 9


def test_pseudo_takes_labels_where_there_are_any() -> None:
    actions, _, places = taken("pseudo")
    assert places == [0, 1, 2, 4, 5, 7, 8, 9, 10]
    assert actions == [[value, 1] for value in (0, 1, 2, 100, 101, 200, 201, 202, 203)]


def test_filtered_takes_the_sure_ones() -> None:
    assert [action[0] for action in taken("filtered", 0.5)[0]] == [0, 2, 100, 200, 202]
    assert CONDITIONS["filtered"](demonstrations(), Choice(0, None)) is None
    assert CONDITIONS["filtered"](demonstrations(), Choice(0, 0.95)) is None


def test_weights_are_confidences_over_their_mean() -> None:
    _, weights, _ = taken("weighted")
    mean = (5 * 0.9 + 4 * 0.3) / 9
    assert weights == pytest.approx([0.9 / mean, 0.3 / mean, 0.9 / mean, 0.9 / mean, 0.3 / mean, 0.9 / mean, 0.3 / mean, 0.9 / mean, 0.3 / mean], rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_are_of_another_episode_at_another_time(seed: int) -> None:
    actions, _, places = taken("shuffled", seed=seed)
    own = np.asarray(demonstrations().episode)[places]
    givers = np.asarray([action[0] for action in actions]) // 100
    assert sorted(places) == [0, 1, 2, 4, 5, 7, 8, 9, 10]
    assert (own != givers).all()
    assert all(len(set(givers[own == number])) == 1 for number in range(3))
    assert set(givers) == {0, 1, 2}  # every episode's labels are used


def test_steps_of_shuffled_labels_are_shuffled_too() -> None:
    long = demonstrations((200, 200))
    added = CONDITIONS["shuffled"](long, Choice(0, None))
    assert added is not None
    steps = added.actions[:, 0] % 100
    together = np.corrcoef(steps, long.step[added.places] % 100)[0, 1]
    assert abs(together) < 0.15


def test_what_demonstrations_do_not_have_is_left_out() -> None:
    assert CONDITIONS["shuffled"](demonstrations((4,)), Choice(0, None)) is None
    assert CONDITIONS["pseudo"](demonstrations((1, 1)), Choice(0, None)) is None
