"""Bodies as data: what is in the project, and that a careless file is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dataengine.core.errors import ConfigError, UnknownName
from dataengine.samples.kinematics import JOINT_HIGH, JOINT_LOW, JOINT_NAMES, JOINT_UNITS
from dataengine.schema.embodiments import embodiment, embodiments, read_embodiments

GOOD = "name: a\ntitle: An arm\nbody: arm\njoints: [{name: j, unit: rad, lower: -1, upper: 2}]\ncite: {joints: a manual}\n"


def write(folder: Path, text: str, name: str = "a") -> Path:
    (folder / f"{name}.yaml").write_text(text)
    return folder


def test_widowx_limits_are_the_published_degrees() -> None:
    joints = {joint.name: joint for joint in embodiments()["widowx_250"].joints or ()}
    published = {"shoulder": (-108, 114), "elbow": (-123, 92), "wrist_angle": (-100, 123)}
    for name, (lower, upper) in published.items():
        assert joints[name].lower == pytest.approx(math.radians(lower), abs=1e-5)
        assert joints[name].upper == pytest.approx(math.radians(upper), abs=1e-5)


def test_aloha_is_two_equal_arms_with_grippers() -> None:
    joints = embodiments()["aloha_bimanual"].joints or ()
    assert len(joints) == 14
    left, right = joints[:7], joints[7:]
    assert [joint.name.removeprefix("left_") for joint in left] == [joint.name.removeprefix("right_") for joint in right]
    assert [(joint.lower, joint.upper) for joint in left] == [(joint.lower, joint.upper) for joint in right]
    assert (left[1].lower, left[1].upper) == (pytest.approx(math.radians(-106), abs=1e-5), pytest.approx(math.radians(72), abs=1e-5))


def test_sim_arm_is_the_arm_of_the_samples() -> None:
    joints = embodiments()["sim_arm"].joints or ()
    assert tuple(joint.name for joint in joints) == JOINT_NAMES
    assert tuple(joint.unit for joint in joints) == JOINT_UNITS
    assert [joint.lower for joint in joints] == list(JOINT_LOW)
    assert [joint.upper for joint in joints] == list(JOINT_HIGH)


def test_by_alias_and_unknown() -> None:
    assert embodiment("widowx").name == "widowx_250"
    with pytest.raises(UnknownName, match="did you mean 'franka_panda'"):
        embodiment("franka_pandas")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("cite: {joints: a manual}\n", ""), "must say where joints is published, or the field must be null"),
        (GOOD.replace("joints: a manual", "gripper: a manual, joints: x"), "cite: names gripper, which holds no fact here"),
        (GOOD.replace("lower: -1, upper: 2", "lower: 2, upper: -1"), r"lower must be below upper, got 2.0 and -1.0"),
        (GOOD.replace("unit: rad, ", ""), "a limit needs a unit"),
        (GOOD.replace("body: arm", "body: leg"), "body: "),
        (GOOD.replace("title:", "titel:"), "unknown key 'titel', did you mean 'title'"),
        (GOOD.replace("name: a\n", "name: b\n"), "name must be 'a' as the file's, got 'b'"),
    ],
)
def test_careless_files(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_embodiments(write(tmp_path, text))


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace("name: a\n", "name: b\naliases: [a]\n"), "b")
    with pytest.raises(ConfigError, match="the name 'a' is taken by 'a'"):
        read_embodiments(tmp_path)
