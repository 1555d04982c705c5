"""Windows relative to where they start, against a window after window computation and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.pose import matrix_from_quat_xyzw, matrix_from_rotvec, quat_xyzw_from_matrix, rotvec_from_matrix
from dataengine.transforms.horizon import Horizon, WindowPlan, window_plan

JOINTS = {
    "action": Column("action", shape=(2,), meaning="action", action_space=ActionSpace("joint_position", absolute=True)),
    "observation.state": Column("observation.state", shape=(2,), meaning="state"),
}
POSE_DIMS = ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z", "gripper")
POSE_SPACE = ActionSpace("ee_pose", rotation="rotvec", frame="base", absolute=True, gripper=Gripper(6, 1.0, 0.0))
POSE = {
    "action": Column("action", shape=(7,), dims=POSE_DIMS, unit="m, rad", meaning="action", action_space=POSE_SPACE),
    "observation.state": Column("observation.state", shape=(7,), dims=POSE_DIMS, unit="m, rad", meaning="state", action_space=POSE_SPACE),
}


def computed(plan: WindowPlan, episodes, state_episodes=None):
    """Return the list of valid changes of each step; an episode is (rows, valid)."""
    rows, valid = (np.concatenate([each[part] for each in episodes]) for part in (0, 1))
    states = state_episodes or [(np.zeros_like(each[0]), each[1]) for each in episodes]
    state, state_valid = (np.concatenate([each[part] for each in states]) for part in (0, 1))
    episode = np.repeat(np.arange(len(episodes)), [len(each[0]) for each in episodes])
    return [(values[there], len(values)) for values, there in plan.windows(rows, valid, state, state_valid, episode)]


def naive(horizon: Horizon, episodes, state_episodes, difference):
    """Return the same window by window and step by step."""
    found = [[] for _ in range(horizon.steps)]
    windows = [0] * horizon.steps
    for (rows, valid), (states, states_valid) in zip(episodes, state_episodes or episodes, strict=True):
        for t in range(len(rows)):
            for h in range(horizon.steps):
                if t + h >= len(rows):
                    continue  # padded
                reference, there = None, True
                if horizon.reference == "state" or (horizon.reference == "consecutive" and h == 0):
                    reference, there = states[t], states_valid[t]
                elif horizon.reference == "first" and h > 0:
                    reference, there = rows[t], valid[t]
                elif horizon.reference == "consecutive":
                    reference, there = rows[t + h - 1], valid[t + h - 1]
                windows[h] += 1
                if valid[t + h] and there:
                    found[h].append(rows[t + h] if reference is None else difference(rows[t + h], reference))
    return found, windows


def made(dims: int, lengths=(5, 1, 9, 2), seed=3):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(length, dims)), rng.random(length) < 0.8) for length in lengths]


def test_by_hand() -> None:
    rows = np.array([[0.0, 5], [1, 5], [3, 6], [6, 8]])
    everything = np.ones(4, bool)
    first = computed(window_plan(JOINTS, Horizon(3, "first")), [(rows, everything)])
    assert [values.tolist() for values, _ in first] == [rows.tolist(), [[1, 0], [2, 1], [3, 2]], [[3, 1], [5, 3]]]
    states = [(rows + [[1, 10]] * 4, np.array([True, True, False, True]))]
    state = computed(window_plan(JOINTS, Horizon(2, "state")), [(rows, everything)], states)
    assert [(values.tolist(), count) for values, count in state] == [([[-1, -10], [-1, -10], [-1, -10]], 4), ([[0, -10], [1, -9]], 3)]
    steps = computed(window_plan(JOINTS, Horizon(3, "consecutive")), [(rows, everything)], states)
    assert [values.tolist() for values, _ in steps] == [[[-1, -10]] * 3, [[1, 0], [2, 1], [3, 2]], [[2, 1], [3, 2]]]
    plain = computed(window_plan(JOINTS, Horizon(5)), [(rows, everything)])
    assert [values.tolist() for values, _ in plain] == [rows.tolist(), rows[1:].tolist(), rows[2:].tolist(), rows[3:].tolist(), []]


@pytest.mark.parametrize("reference", [None, "state", "first", "consecutive"])
def test_joints_agree_with_a_window_by_window_computation(reference) -> None:
    horizon = Horizon(4, reference)
    episodes, states = made(2), made(2, seed=4)
    expected, windows = naive(horizon, episodes, states, lambda a, b: a - b)
    found = computed(window_plan(JOINTS, horizon), episodes, states)
    for h in range(4):
        assert found[h][1] == windows[h]
        np.testing.assert_allclose(found[h][0], np.reshape(expected[h], (-1, 2)), atol=1e-15)


def pose_difference(frame):
    def difference(target, reference):
        ends, starts = matrix_from_rotvec(target[3:6]), matrix_from_rotvec(reference[3:6])
        moved = target[:3] - reference[:3]
        if frame == "base":
            return np.concatenate([moved, rotvec_from_matrix(ends @ starts.T), target[6:]])
        return np.concatenate([starts.T @ moved, rotvec_from_matrix(starts.T @ ends), target[6:]])

    return difference


@pytest.mark.parametrize("frame", ["tool", "base"])
@pytest.mark.parametrize("reference", ["state", "first", "consecutive"])
def test_poses_turn_on_so3_and_the_gripper_stays(reference, frame) -> None:
    horizon = Horizon(3, reference, frame=frame)
    episodes, states = made(7), made(7, seed=4)
    expected, _ = naive(horizon, episodes, states, pose_difference(frame))
    found = computed(window_plan(POSE, horizon), episodes, states)
    for h in range(3):
        np.testing.assert_allclose(found[h][0], np.reshape(expected[h], (-1, 7)), atol=1e-12)


def test_a_turn_by_hand() -> None:
    rows = np.zeros((2, 7))
    rows[0, 3:6] = [math.pi / 2, 0, 0]  # a quarter turn about x, then one about z: from the first to the second in the base's frame
    rows[1] = [1, 0, 0, 0, 0, math.pi / 2, 1]
    rows[1, 1] = 2
    turn = 2 * math.pi / 3 / math.sqrt(3)
    ((_, _), (values, _)) = computed(window_plan(POSE, Horizon(2, "first", frame="base")), [(rows, np.ones(2, bool))])
    # Rz(90) Rx(-90) is a turn by 120 degrees about (-1, -1, 1)
    np.testing.assert_allclose(values[0], [1, 2, 0, -turn, -turn, turn, 1], atol=1e-12)
    ((_, _), (values, _)) = computed(window_plan(POSE, Horizon(2, "first")), [(rows, np.ones(2, bool))])
    # Rx(-90) takes y to -z; Rx(-90) Rz(90) is a turn by 120 degrees about (-1, 1, 1)
    np.testing.assert_allclose(values[0], [1, 0, -2, -turn, turn, turn, 1], atol=1e-12)


def test_the_state_may_be_another_column_in_another_order() -> None:
    columns = {
        "action": Column("action", shape=(3,), dims=("a", "b", "left_gripper"), meaning="action"),
        "observation.state": Column("observation.state", shape=(4,), dims=("left_gripper", "b", "speed", "c"), meaning="state"),
    }
    rows, states = np.array([[1.0, 2, 3], [4, 6, 8]]), np.array([[10.0, 20, 30, 40], [50, 60, 70, 80]])
    found = computed(window_plan(columns, Horizon(2, "state")), [(rows, np.ones(2, bool))], [(states, np.ones(2, bool))])
    # only b changes: a is no state, and a gripper stays
    assert [values.tolist() for values, _ in found] == [[[1, -18, 3], [4, -54, 8]], [[4, -14, 8]]]


def test_quaternions_of_length_0_and_nan_turn_nothing() -> None:
    dims = ("qx", "qy", "qz", "qw")
    column = Column("action", shape=(4,), dims=dims, meaning="action", action_space=ActionSpace("ee_pose", "quat_wxyz", absolute=True))
    rows = np.array([[0, 0, 0, 1.0], [0, 0, 2**-0.5, 2**-0.5], [0, 0, 0, 0], [np.nan, 0, 0, 1]])
    _, (values, _) = computed(window_plan({"action": column}, Horizon(2, "first")), [(rows, np.ones(4, bool))])
    np.testing.assert_allclose(values[0], quat_xyzw_from_matrix(matrix_from_quat_xyzw(rows[1])), atol=1e-12)
    assert np.isnan(values[1:]).all()


def test_entry_0_of_first_is_written_as_changes_are() -> None:
    dims = ("x", "qw", "qx", "qy", "qz")
    column = Column("action", shape=(5,), dims=dims, meaning="action", action_space=ActionSpace("ee_pose", "quat_wxyz", absolute=True))
    ((values, _),) = computed(window_plan({"action": column}, Horizon(1, "first", frame="base")), [(np.array([[7.0, -2, 0, 0, 2]]), np.ones(1, bool))])
    np.testing.assert_allclose(values, [[7, 2**-0.5, 0, 0, -(2**-0.5)]], atol=1e-12)


def test_degrees_stay_degrees() -> None:
    space = ActionSpace("ee_pose", "rpy", absolute=True)
    column = Column("action", shape=(3,), dims=("roll", "pitch", "yaw"), unit="deg", meaning="action", action_space=space)
    rows = np.array([[0, 0, 170.0], [0, 0, -170]])
    _, (values, _) = computed(window_plan({"action": column}, Horizon(2, "first")), [(rows, np.ones(2, bool))])
    np.testing.assert_allclose(values, [[0, 0, 20]], atol=1e-9)


@pytest.mark.parametrize(
    ("columns", "horizon", "error"),
    [
        ({}, Horizon(2), "column 'action': must be a numeric one to have a horizon, got none such; columns: none"),
        ({"action": replace(JOINTS["action"], action_space=ActionSpace("ee_delta"))}, Horizon(2, "first"), "must hold absolute values to be made relative"),
        (
            {"action": JOINTS["action"]},
            Horizon(2, "state"),
            r"needs a state of its shape or with some of its dims, of shape \(2,\), to be relative to; states: none",
        ),
        ({"action": JOINTS["action"]}, Horizon(2, "consecutive"), "needs a state"),
        (JOINTS, Horizon(2, "state", state="x"), "column 'x': must be a numeric one to be the state"),
        (
            {**JOINTS, "observation.state": replace(JOINTS["observation.state"], shape=(3,))},
            Horizon(2, "state", state="observation.state"),
            r"must have the shape or some dims of 'action', of shape \(2,\), got of shape \(3,\)",
        ),
        ({"action": replace(JOINTS["action"], shape=(2, 2))}, Horizon(2, "first"), r"rows of one axis and one size to be made relative, got \(2, 2\)"),
        ({**POSE, "observation.state": replace(POSE["observation.state"], action_space=None)}, Horizon(2, "state"), "must hold a rotation, as 'action' does"),
        (
            {"action": Column("action", shape=(2,), dims=("roll", "yaw"), unit="rad", action_space=ActionSpace("ee_pose", "rpy", absolute=True))},
            Horizon(2, "first"),
            "must hold all 3 entries of its rotation or a single angle",
        ),
    ],
)
def test_what_cannot_be_made_relative_is_refused(columns, horizon, error) -> None:
    with pytest.raises(UsageError, match=error):
        window_plan(columns, horizon)


def test_a_rotation_that_is_not_known_is_not_guessed() -> None:
    space = replace(POSE_SPACE, rotation=None)
    with pytest.raises(MissingFact, match="its rotation must be known"):
        window_plan({"action": replace(POSE["action"], action_space=space)}, Horizon(2, "first"))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((0,), "1 to 1000 steps, got 0"),
        ((2, "last"), "one of state, first, consecutive, got 'last'"),
        ((2, "first", "action", "s"), "left out unless"),
        ((2, "first", "action", None, "world"), "frame: must be one of tool, base, got 'world'"),
    ],
)
def test_settings_that_are_none(fields, error) -> None:
    with pytest.raises(UsageError, match=error):
        Horizon(*fields)
