from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.errors import MissingFact, UsageError
from dataengine.transforms.from_columns import relative_actions, rotation_change
from dataengine.transforms.relative import DeltaActions, PoseEntries
from dataengine.transforms.rotations import ConvertRotation

POSE = Column(
    "action",
    shape=(7,),
    dims=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    unit="m, rad",
    meaning="action",
    action_space=ActionSpace("ee_pose", rotation="rpy", frame="base", absolute=True, gripper=Gripper(6, 0, 1)),
)
STATE = Column(
    "observation.state",
    shape=(8,),
    dims=("gripper", "qw", "qx", "qy", "qz", "x", "y", "z"),
    unit="m",
    meaning="state",
    action_space=ActionSpace("ee_pose", rotation="quat_wxyz", frame="base", gripper=Gripper(0, 0, 1)),
)
JOINTS = Column(
    "action", shape=(3,), dims=("shoulder", "gripper", "elbow"), unit="rad", action_space=ActionSpace("joint_position", absolute=True, gripper=Gripper(1, 0, 1))
)


def test_a_column_says_where_its_rotation_is() -> None:
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    column = Column("action", shape=(7,), dims=names, unit="m, rad", action_space=ActionSpace("ee_pose", rotation="rpy"))
    assert rotation_change(column, "rot6d") == ConvertRotation("action", 3, "rpy", "rot6d")
    wxyz = Column("s", shape=(7,), dims=("x", "y", "z", "qw", "qx", "qy", "qz"), unit="m", action_space=ActionSpace("ee_pose", rotation="quat_wxyz"))
    assert rotation_change(wxyz, "rotvec", name="state") == ConvertRotation("state", 3, "quat_wxyz", "rotvec")
    mixed = Column("s", shape=(4,), dims=("qx", "qy", "qz", "qw"), unit="m", action_space=ActionSpace("ee_pose", rotation="quat_wxyz"))
    with pytest.raises(UsageError, match="must follow each other, got them at"):
        rotation_change(mixed, "rotvec")
    degrees = Column("action", shape=(7,), dims=names, unit="m, deg", action_space=ActionSpace("ee_pose", rotation="rpy"))
    with pytest.raises(UsageError, match=r"angles must be in rad, got 1 that stands for 0\.0174533 rad"):
        rotation_change(degrees, "rot6d")
    with pytest.raises(MissingFact):
        rotation_change(Column("action", shape=(7,), dims=names, action_space=ActionSpace("ee_pose")), "rot6d")
    with pytest.raises(UsageError, match="must hold a rotation"):
        rotation_change(Column("action", shape=(2,), dims=("x", "y"), unit="m", action_space=ActionSpace("ee_pose")), "rot6d")


def test_poses_of_the_hand_by_what_their_columns_say() -> None:
    """The tool looks along the base's y: 2 m further along y are 2 m ahead. The gripper stays."""
    delta = relative_actions(POSE, STATE)
    assert delta == DeltaActions(poses=(PoseEntries((3, 4, 5), "rpy", (0, 1, 2), "tool", (1, 2, 3, 4), "quat_wxyz", (5, 6, 7)),))
    half = np.sqrt(0.5)
    batch = {"state": np.array([0.3, half, 0, 0, half, 1, 0, 0]), "action": np.array([[1.0, 2, 0, 0, 0, np.pi / 2 + 0.1, 0.8]])}
    assert np.allclose(delta(batch)["action"], [[2, 0, 0, 0, 0, 0.1, 0.8]])
    assert np.allclose(delta.inverse(delta(batch))["action"], batch["action"])


def test_joints_by_their_names() -> None:
    state = Column("observation.state", shape=(3,), dims=("elbow", "shoulder", "gripper"), unit="rad")
    delta = relative_actions(JOINTS, state, to="previous", names=("action", "qpos"), state_steps=True)
    assert delta == DeltaActions(dims=(0, 2), to="previous", action="action", state="qpos", state_dims=(1, 0), state_steps=True)
    batch = {"qpos": np.array([[9.0, 9, 9], [0.5, 0.25, 1]]), "action": np.array([[1.0, 0.5, 2], [1.5, 1, 4]])}
    assert delta(batch)["action"].tolist() == [[0.75, 0.5, 1.5], [0.5, 1, 2]]


def test_what_does_not_fit_is_refused() -> None:
    assert POSE.action_space is not None
    assert STATE.action_space is not None
    with pytest.raises(MissingFact, match="column 'action': its kind must be known"):
        relative_actions(replace(POSE, action_space=None), STATE)
    with pytest.raises(UsageError, match=r"column 'action': must be absolute poses or joints, got .*ee_delta"):
        relative_actions(replace(POSE, action_space=replace(POSE.action_space, kind="ee_delta")), STATE)
    with pytest.raises(UsageError, match="must be in one frame, got 'base' and 'world'"):
        relative_actions(POSE, replace(STATE, action_space=replace(STATE.action_space, frame="world")))
    with pytest.raises(UsageError, match="must have x, y and z in one unit, got m, rad and mm"):
        relative_actions(POSE, replace(STATE, unit="mm"))
    with pytest.raises(UsageError, match=r"angles must be in rad, got 1 that stands for 0\.0174533 rad"):
        relative_actions(replace(POSE, unit="m, deg"), STATE)
    with pytest.raises(UsageError, match="must both hold a rotation"):
        relative_actions(POSE, Column("s", shape=(3,), dims=("x", "y", "z"), unit="m", action_space=ActionSpace("ee_pose", frame="base")))
    turning = replace(STATE, shape=(4,), dims=("qw", "qx", "qy", "qz"), action_space=replace(STATE.action_space, gripper=None))
    with pytest.raises(UsageError, match="must both hold a position, or neither"):
        relative_actions(POSE, turning)
    with pytest.raises(UsageError, match="its rotation must have all 3 entries, got 1"):
        relative_actions(replace(POSE, shape=(4,), dims=("x", "y", "z", "yaw"), action_space=replace(POSE.action_space, gripper=None)), STATE)
    with pytest.raises(MissingFact, match="column 's': its dims must be known"):
        relative_actions(JOINTS, Column("s", shape=(3,), unit="rad"))
    with pytest.raises(UsageError, match="must be in one unit, got rad and deg"):
        relative_actions(JOINTS, Column("s", shape=(1,), dims=("elbow",), unit="deg"))
    with pytest.raises(UsageError, match="must name some joints alike"):
        relative_actions(JOINTS, Column("s", shape=(1,), dims=("knee",), unit="rad"))
