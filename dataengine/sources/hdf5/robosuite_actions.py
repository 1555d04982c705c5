"""What the actions of a robosuite environment mean, from the controller settings that its recordings hold.

Operational-space control takes displacements scaled to [-1, 1]: (x, y, z) and a rotation vector, then the gripper, of which robosuite's grippers
take 1 as closed and -1 as open. Up to release 1.4 the settings are those of one arm, with `control_delta`; from 1.5 on they stand under
`body_parts`, with `input_type` and `input_ref_frame`.
Source: robosuite, `controllers/osc.py`, `controllers/parts/arm/osc.py`, `models/grippers/panda_gripper.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataengine.core.column import ActionKind, ActionSpace, Gripper, RotationKind
from dataengine.sources.hdf5.tree import number_of

# Controller -> what it takes as a displacement, what it takes as a target, rotation kind, and entries of the arm (None: as many as joints).
CONTROLLERS: dict[str, tuple[ActionKind, ActionKind, RotationKind | None, int | None]] = {
    "OSC_POSE": ("ee_delta", "ee_pose", "rotvec", 6),
    "OSC_POSITION": ("ee_delta", "ee_pose", None, 3),
    "JOINT_POSITION": ("joint_position", "joint_position", None, None),
    "JOINT_VELOCITY": ("joint_velocity", "joint_velocity", None, None),
    "JOINT_TORQUE": ("joint_torque", "joint_torque", None, None),
}
DIMS = ("x", "y", "z", "rotvec_x", "rotvec_y", "rotvec_z")
SCALES = ("input_min", "input_max", "output_min", "output_max")


def arm_controller(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the settings of the controller of the one arm, None where there are none or several."""
    found = settings.get("controller_configs")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, Mapping):
        return None
    parts = found.get("body_parts")
    if not isinstance(parts, Mapping):
        return found
    arms = [part for name, part in parts.items() if name in ("right", "left") and isinstance(part, Mapping)]
    return arms[0] if len(arms) == 1 else None


def action_facts(settings: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the fields of the action's column; without known controller settings, only that it is the commanded action.

    `shape` is (T, D). The gripper is named only where D is one more than the entries of the arm.
    """
    facts: dict[str, Any] = {"meaning": "action", "action_source": "commanded"}
    controller = arm_controller(settings)
    kind = controller.get("type") if controller is not None else None
    if controller is None or not isinstance(kind, str) or kind not in CONTROLLERS or len(shape) != 2:
        return facts
    relative_kind, target_kind, rotation, entries = CONTROLLERS[kind]
    new = "input_type" in controller
    relative = controller.get("input_type") == "delta" if new else controller.get("control_delta") is not False
    if kind in ("JOINT_VELOCITY", "JOINT_TORQUE"):
        relative = False
    # Displacements of one arm are turned about the axes of its base; up to 1.4 these are the world's, as no base was turned.
    frame = None if entries is None else str(controller.get("input_ref_frame", "base"))[:40] if new else "world"
    gripper = Gripper(shape[1] - 1, closed=1.0, open=-1.0) if entries is not None and shape[1] == entries + 1 else None
    rate_hz = number_of(settings, "control_freq")
    facts["action_space"] = ActionSpace(relative_kind if relative else target_kind, rotation, frame, absolute=not relative, gripper=gripper, rate_hz=rate_hz)
    if gripper is not None and entries is not None:
        facts["dims"] = (*DIMS[:entries], "gripper")
    scale = {name: controller[name] for name in SCALES if _is_scale(controller.get(name))}
    if scale:
        facts["extra"] = {"scale": scale}
        facts["doc"] = "scaled: input_min to input_max stand for output_min to output_max (m, rad)"
    return facts


def _is_scale(value: Any) -> bool:
    values = value if isinstance(value, list) and len(value) <= 64 else [value]
    return all(isinstance(part, int | float) and abs(part) < 1e9 for part in values)
