from __future__ import annotations

import pytest

from dataengine.align.config import AlignConfig
from dataengine.align.methods import method_of, quaternion_at
from dataengine.core.column import ActionSpace, Column
from dataengine.core.errors import ConfigError

NOTHING_ASKED = AlignConfig()


def pose(rotation, shape=(7,), dims=None, meaning="state"):
    return Column("observation.state", shape=shape, dims=dims, meaning=meaning, action_space=ActionSpace("ee_pose", rotation=rotation))


@pytest.mark.parametrize(
    ("column", "is_float", "is_array", "expected"),
    [
        (Column("observation.images.top", kind="image", dtype="uint8", shape=(64, 48, 3)), False, False, "previous"),
        (Column("action", shape=(7,), meaning="action"), True, True, "commanded"),
        (Column("observation.state", shape=(7,), meaning="state"), True, True, "linear"),
        (Column("observation.counts", dtype="int64", meaning="state"), False, True, "previous"),
        (Column("reward", meaning="reward"), True, True, "previous"),
        (Column("imu.covariance", shape=(9,)), True, True, "previous"),
        (Column("task", kind="text", dtype="string", meaning="language"), False, False, "previous"),
        (pose("quat_xyzw"), True, True, "slerp"),
        (pose("quat_wxyz", shape=(8,)), True, True, "slerp"),
        (pose("rpy", shape=(6,)), True, True, "previous"),
        (pose("quat_xyzw", shape=(3,)), True, True, "previous"),
        (Column("x", shape=(2,), align="nearest"), True, True, "nearest"),
        (Column("action", shape=(7,), meaning="action", align="previous"), True, True, "previous"),
    ],
)
def test_a_column_is_taken_by_its_meaning(column, is_float, is_array, expected):
    assert method_of(column, is_float, is_array, NOTHING_ASKED) == expected


def test_the_configuration_goes_before_the_column():
    config = AlignConfig(methods={"x": "linear"})
    assert method_of(Column("x", shape=(2,), align="nearest"), True, True, config) == "linear"


def test_the_quaternion_is_found_by_names_first():
    assert quaternion_at(pose("quat_xyzw", (8,), ("gripper", "x", "y", "z", "qx", "qy", "qz", "qw"))) == 4
    assert quaternion_at(pose("quat_wxyz", (7,), ("rot_w", "rot_x", "rot_y", "rot_z", "x", "y", "z"))) == 0
    assert quaternion_at(pose("quat_xyzw", (7,))) == 3
    assert quaternion_at(Column("imu.orientation", shape=(4,))) == 0
    assert quaternion_at(Column("q", shape=(7,))) is None


@pytest.mark.parametrize(
    ("column", "is_float", "is_array", "way", "says"),
    [
        (Column("top", kind="image", dtype="uint8"), False, False, "linear", "previous or nearest, got 'linear'"),
        (Column("count", dtype="int64"), False, True, "linear", "dtype int64 cannot be interpolated"),
        (Column("joints", shape=(7,)), True, True, "slerp", "has no quaternion for slerp"),
    ],
)
def test_an_impossible_way_is_refused(column, is_float, is_array, way, says):
    with pytest.raises(ConfigError, match=says):
        method_of(column, is_float, is_array, AlignConfig(methods={column.name: way}))
