"""What the numbers of DROID mean, in the raw recordings and in sets that were made from them.

Poses are those of the hand in the base frame of the arm: x, y, z in m, then roll, pitch, yaw in rad. A gripper position is 0 when open and 1 when closed.
Commanded velocities are shares of the largest step that the controller allows, -1 to 1, not m/s or rad/s.
Source: DROID, https://arxiv.org/abs/2403.12945, and its recorder, https://github.com/droid-dataset/droid.
"""

from __future__ import annotations

from typing import Any

from dataengine.core.column import ActionSpace, Gripper

POSE_DIMS = ("x", "y", "z", "roll", "pitch", "yaw")
JOINT_DIMS = tuple(f"panda_joint{number}" for number in range(1, 8))
BASE = "base"

_POSE = ActionSpace("ee_pose", rotation="rpy", frame=BASE, absolute=True)
_JOINTS = ActionSpace("joint_position", absolute=True)


def gripper(dimension: int = 0) -> Gripper:
    """Return how a gripper position reads: 0 open, 1 closed."""
    return Gripper(dimension, closed=1.0, open=0.0)


# Name -> (numbers in a row, facts of its column). The plural names are those of measured values.
_KNOWN: dict[str, tuple[int, dict[str, Any]]] = {
    "cartesian_position": (6, {"dims": POSE_DIMS, "frame": BASE, "action_space": _POSE, "doc": "pose of the hand: m, rad"}),
    "cartesian_velocity": (6, {"dims": POSE_DIMS, "frame": BASE, "action_space": ActionSpace("ee_velocity", rotation="rpy", frame=BASE, absolute=False)}),
    "joint_position": (7, {"dims": JOINT_DIMS, "unit": "rad", "action_space": _JOINTS}),
    "joint_velocity": (7, {"dims": JOINT_DIMS, "action_space": ActionSpace("joint_velocity")}),
    "gripper_position": (1, {"action_space": ActionSpace("other", absolute=True, gripper=gripper()), "doc": "0 open, 1 closed"}),
    "gripper_velocity": (1, {"action_space": ActionSpace("other", absolute=False)}),
    "joint_positions": (7, {"dims": JOINT_DIMS, "unit": "rad", "action_space": _JOINTS}),
    "joint_velocities": (7, {"dims": JOINT_DIMS, "unit": "rad/s"}),
    "joint_torques_computed": (7, {"dims": JOINT_DIMS, "unit": "N*m"}),
    "motor_torques_measured": (7, {"dims": JOINT_DIMS, "unit": "N*m"}),
    "prev_joint_torques_computed": (7, {"dims": JOINT_DIMS, "unit": "N*m", "doc": "of the command before"}),
    "prev_joint_torques_computed_safened": (7, {"dims": JOINT_DIMS, "unit": "N*m", "doc": "of the command before, as limited"}),
    "states": (7, {"dims": (*POSE_DIMS, "gripper"), "frame": BASE, "action_space": ActionSpace("ee_pose", "rpy", BASE, True, gripper(6))}),
    "joints": (8, {"dims": (*JOINT_DIMS, "gripper"), "action_space": ActionSpace("joint_position", absolute=True, gripper=gripper(7))}),
}
_VELOCITY_DOC = "a share of the largest step that the controller allows, -1 to 1"


def facts_of(name: str, shape: tuple[int, ...], commanded: bool) -> dict[str, Any]:
    """Return what is known of a column by the last part of its name: nothing where its rows are not as wide as DROID's.

    Args:
        name: "cartesian_position", "joint_positions", ...; a prefix "target_" is taken off.
        shape: of one row; () for a single number.
        commanded: whether it is a command; else it is a measured state. A value is as it was when the step began, so it is held, not mixed.
    """
    facts: dict[str, Any] = {"meaning": "action", "action_source": "commanded"} if commanded else {"meaning": "state", "align": "previous"}
    width, known = _KNOWN.get(name.removeprefix("target_"), (0, {}))
    if shape not in ((width,), () if width == 1 else (width,)):
        return facts
    facts |= known
    if width == 1 and shape == (1,):
        facts["dims"] = ("gripper",)
    if commanded and name.endswith("_velocity"):
        facts["doc"] = _VELOCITY_DOC
    return facts
