"""What was measured: commands as recorded, displacements up to the next step or over a gap, angles on SO(3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column
from dataengine.labels.targets import command_target, displacement_target, targets_of
from tests.support.watched_square import watched_square


def test_a_displacement_is_that_up_to_the_next_step() -> None:
    episode = watched_square(3, steps=6)
    command, moved = targets_of(episode)
    values, valid = moved.measured(episode)
    assert valid.tolist() == [True] * 5 + [False]
    assert values[:5] == pytest.approx(np.diff(episode.columns["state"].astype(float), axis=0))
    assert command.measured(episode)[1].all()
    assert moved.labels.name == "observation.state.delta"


def test_over_a_gap_of_two_steps() -> None:
    episode = watched_square(3, steps=6)
    values, valid = displacement_target(episode.specs["state"], gap_s=0.1).measured(episode)
    state = episode.columns["state"].astype(float)
    assert valid.tolist() == [True] * 4 + [False] * 2
    assert values[:4] == pytest.approx(state[2:] - state[:-2])


def test_a_step_beside_one_that_was_not_measured_has_no_displacement() -> None:
    episode = watched_square(3, steps=5)
    hole = np.array([True, True, False, True, True])
    (moved,) = targets_of(replace(episode, valid={**episode.valid, "state": hole}), ("displacement",))
    assert moved.measured(replace(episode, valid={**episode.valid, "state": hole}))[1].tolist() == [True, False, False, True, False]


def test_a_turn_across_pi_is_a_small_one() -> None:
    state = Column(
        "observation.state",
        shape=(6,),
        dims=("x", "y", "z", "roll", "pitch", "yaw"),
        unit="m, rad",
        meaning="state",
        action_space=ActionSpace("ee_pose", rotation="rpy", absolute=True),
    )
    episode = watched_square(1, steps=2)
    poses = np.array([[0, 0, 0, 0, 0, 3.1], [0.5, 0, 0, 0, 0, -3.1]], np.float32)
    values, valid = displacement_target(state).measured(
        replace(episode, columns={"state": poses}, valid={"state": np.ones(2, np.bool_)}, specs={"state": state})
    )
    assert valid.tolist() == [True, False]
    assert values[0] == pytest.approx([0.5, 0, 0, 0, 0, 2 * np.pi - 6.2], abs=1e-6)


def test_labels_of_whole_numbers_are_not_whole_numbers() -> None:
    column = Column("action", dtype="int64", shape=(2,), dims=("x", "y"), meaning="action", align="previous")
    target = command_target(column)
    assert (target.labels.dtype, target.labels.align, target.labels.action_source) == ("float32", None, "idm")
    assert target.column is column
    state = Column("observation.state", shape=(4,), dims=("gripper", "roll", "pitch", "yaw"), unit="deg", meaning="state")
    assert displacement_target(state).labels.unit == "rad"


def test_without_such_a_column_nothing_is_asked() -> None:
    episode = watched_square(1, steps=4)
    assert targets_of(replace(episode, specs={})) == []
    (moved,) = targets_of(replace(episode, specs={"state": episode.specs["state"]}))
    assert moved.kind == "displacement"
    assert not moved.measured(replace(episode, columns={}, valid={}))[1].any()
