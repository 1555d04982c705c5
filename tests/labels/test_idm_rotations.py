"""Which entries of a column are rotations: by what it says, else by their names, and never those of joints."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column
from dataengine.labels.idm_rotations import rotation_entries, rotations_of

ARMS = tuple(f"{side}_{name}" for side in ("left", "right") for name in ("x", "y", "z", "roll", "pitch", "yaw"))


def column(dims: tuple[str, ...], unit: str | None = "m, rad", space: ActionSpace | None = None) -> Column:
    return Column("observation.state", shape=(len(dims),), dims=dims, unit=unit, meaning="state", action_space=space)


def found(each: Column) -> list[tuple[str, tuple[int, ...]]]:
    return [(rotation.kind, rotation.entries) for rotation in rotation_entries(each)]


@pytest.mark.parametrize(
    ("dims", "rotations"),
    [
        (("x", "yaw", "pitch", "roll"), [("rpy", (3, 2, 1))]),
        (("x", "rotvec_x", "rotvec_y", "rotvec_z"), [("rotvec", (1, 2, 3))]),
        (ARMS, [("rpy", (3, 4, 5)), ("rpy", (9, 10, 11))]),
        (("left_roll", "left_pitch", "left_yaw", "gripper"), [("rpy", (0, 1, 2))]),
        (("a.qw", "a.qx", "a.qy", "a.qz", "b.qw", "b.qx", "b.qy", "b.qz"), [("quat_xyzw", (1, 2, 3, 0)), ("quat_xyzw", (5, 6, 7, 4))]),
        (("left_roll", "right_pitch", "left_yaw"), []),  # of two hands
        (("left_wrist_roll", "left_wrist_pitch", "left_wrist_yaw"), []),  # three joints, each about an axis of its own
        (("rx", "ry", "rz"), []),  # a rotation vector, or Euler angles
    ],
)
def test_names_tell_rotations_where_nothing_says_what_a_column_means(dims: tuple[str, ...], rotations: list[tuple[str, tuple[int, ...]]]) -> None:
    assert found(column(dims)) == rotations


def test_angles_need_a_unit_and_quaternions_none() -> None:
    assert found(column(("roll", "pitch", "yaw"), None)) == []
    assert found(column(("qx", "qy", "qz", "qw"), None)) == [("quat_xyzw", (0, 1, 2, 3))]
    (turn,) = rotation_entries(column(("roll", "pitch", "yaw"), "deg"))
    assert turn.gain == pytest.approx(np.pi / 180)


def test_a_pose_of_two_hands_is_written_as_its_column_says() -> None:
    space = ActionSpace("ee_pose", rotation="rpy", absolute=True)
    assert found(column(ARMS, "m, rad", space)) == [("rpy", (3, 4, 5)), ("rpy", (9, 10, 11))]
    assert found(column(("left_rx", "left_ry", "left_rz"), "rad", ActionSpace("ee_pose", rotation="rotvec"))) == [("rotvec", (0, 1, 2))]
    assert found(column(ARMS, "m, rad", ActionSpace("joint_position"))) == []
    assert found(column(ARMS, "m, rad", ActionSpace("ee_pose"))) == []  # how they are written is not known


def test_columns_one_after_the_other() -> None:
    several = (column(("x", "y", "z"), "m"), column(("qx", "qy", "qz", "qw"), None), column(("roll", "pitch", "yaw"), "rad"))
    assert [(each.kind, each.entries) for each in rotations_of(several)] == [("quat_xyzw", (3, 4, 5, 6)), ("rpy", (7, 8, 9))]
    gripper = Column("gripper", shape=())
    assert rotations_of((gripper, several[2]))[0].entries == (1, 2, 3)
