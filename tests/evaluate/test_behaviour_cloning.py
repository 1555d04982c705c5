"""Cloning from rows: what is constant is left out, grippers are choices, and a policy does what its demonstrations did."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.evaluate.behaviour_cloning import CloningConfig, InputSpec, Levels, Rows, Scale, clone_state, command, gripper_levels

ACTION = Column("action", shape=(2,), meaning="action", action_space=ActionSpace("ee_delta", gripper=Gripper(1, closed=0.6, open=0.0)))
SPEC = InputSpec(("state",), ("push",))


def linear_rows(count: int = 400) -> tuple[Rows, Scale, Scale]:
    """Return rows whose action is [2 x - y, 0.6 where y > 0]; the third input never changes."""
    rng = np.random.default_rng(3)
    inputs = np.concatenate([rng.normal(size=(count, 2)), np.full((count, 1), 5.0)], axis=1).astype(np.float32)
    actions = np.stack([2 * inputs[:, 0] - inputs[:, 1], np.where(inputs[:, 1] > 0, 0.6, 0.0)], axis=1).astype(np.float32)
    return Rows(inputs, actions, np.ones(count, np.float32)), Scale.of(inputs), Scale.of(actions)


def test_scale_by_hand() -> None:
    scale = Scale.of(np.array([[1.0, 7.0], [3.0, 7.0]], np.float32))
    assert scale.mean.tolist() == [2.0, 7.0]
    assert scale.std.tolist() == [1.0, 1.0]
    assert scale.used.tolist() == [True, False]
    assert scale.normal(np.array([[5.0, 9.0]], np.float32)).tolist() == [[3.0, 0.0]]  # what never changed in training says nothing later
    assert scale.normal(np.array([[500.0, 7.0]], np.float32)).tolist() == [[8.0, 0.0]]  # held


def test_levels_are_those_that_were_measured() -> None:
    actions = np.array([[0.0, 0.6], [1.0, 0.0], [2.0, 0.6]], np.float32)
    levels = gripper_levels(ACTION, actions)
    assert levels is not None
    assert (levels.dimension, levels.values.tolist()) == (1, [0.0, pytest.approx(0.6)])
    assert levels.nearest(np.array([[0.0, 0.29], [0.0, 0.31], [9.0, -4.0]], np.float32)).tolist() == [0, 1, 0]
    assert gripper_levels(ACTION, np.array([[0.0, 0.6]], np.float32)) is None  # it never moves
    assert gripper_levels(ACTION, np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)) is None  # it has no levels
    assert gripper_levels(Column("action", shape=(2,)), actions) is None


def test_command_by_hand() -> None:
    scale = Scale(np.array([1.0, 0.3], np.float32), np.array([2.0, 0.3], np.float32), np.array([True, True]))
    answers = np.array([[0.5, 9.0, -1.0, 1.0], [-0.5, 9.0, 3.0, 1.0]], np.float32)
    levels = Levels(1, np.array([0.0, 0.6], np.float32))
    assert command(answers, scale, levels).tolist() == [[2.0, pytest.approx(0.6)], [0.0, 0.0]]
    assert command(answers[:, :2], scale, None).tolist() == [[2.0, pytest.approx(3.0)], [0.0, pytest.approx(3.0)]]
    unused = Scale(scale.mean, scale.std, np.array([False, True]))
    assert command(answers, unused, levels)[:, 0].tolist() == [1.0, 1.0]  # a command that never changed stays


def test_tasks_are_told_apart_where_there_are_several() -> None:
    spec = InputSpec(("a", "b"), ("lift", "push"))
    rows = spec.rows({"a": np.array([[1.0], [2.0]]), "b": np.array([[[3.0], [4.0]], [[5.0], [6.0]]])}, np.array([1, -1]))
    assert rows.tolist() == [[1, 3, 4, 0, 1], [2, 5, 6, 0, 0]]
    assert InputSpec(("a",), ("push",)).rows({"a": np.array([[1.0]])}, np.array([0])).tolist() == [[1]]


def test_a_policy_does_what_was_demonstrated_and_needs_no_torch() -> None:
    rows, inputs, actions = linear_rows()
    levels = gripper_levels(ACTION, rows.actions)
    policy = clone_state(rows, SPEC, inputs, actions, levels, CloningConfig(hidden=(32,), steps=500, learning_rate=1e-2), seed=0)
    given = [policy.act({"state": np.array(state, np.float32)}, {}, "push") for state in ([1.0, 0.5, 5.0], [-1.0, -0.5, 5.0], [0.2, 1.0, 5.0])]
    assert np.abs(np.array(given)[:, 0] - [1.5, -1.5, -0.6]).max() < 0.15
    assert [round(float(one[1]), 6) for one in given] == [0.6, 0.0, 0.6]
    assert all(isinstance(array, np.ndarray) for layer in policy.layers for array in layer)


def test_the_same_seed_gives_the_same_policy() -> None:
    rows, inputs, actions = linear_rows(50)
    config = CloningConfig(hidden=(8,), steps=5)
    one, same, other = (clone_state(rows, SPEC, inputs, actions, None, config, seed).layers[0][0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_rows_of_no_weight_teach_nothing() -> None:
    rows, inputs, actions = linear_rows(100)
    wrong = Rows(
        np.concatenate([rows.inputs, rows.inputs]),
        np.concatenate([rows.actions, -9 * rows.actions]),
        np.concatenate([rows.weight, 0 * rows.weight]),
    )
    policy = clone_state(wrong, SPEC, inputs, actions, None, CloningConfig(hidden=(32,), steps=400, learning_rate=1e-2), seed=0)
    assert abs(float(policy.act({"state": np.array([1.0, 0.0, 5.0], np.float32)}, {}, "push")[0]) - 2.0) < 0.4
    with pytest.raises(ValueError, match="not all 0"):
        Rows(rows.inputs, rows.actions, 0 * rows.weight)
