"""What the arrays of a replay buffer mean, by the names that UMI and diffusion-policy give them; null where a name says nothing.

UMI stores no action: the pose of the gripper is what was done, and training derives actions from the poses that follow. Its pose columns are states in the
terms of an action space. Sources: `umi/common` and `scripts_slam_pipeline/07_generate_replay_buffer.py` in
github.com/real-stanford/universal_manipulation_interface; `diffusion_policy/common/replay_buffer.py` in github.com/real-stanford/diffusion_policy.
"""

from __future__ import annotations

import re
from typing import Any

from dataengine.core.column import ActionSpace, Camera, Column, Kind
from dataengine.sources.replay_buffer.zarr_arrays import ZarrArray

MIN_PICTURE_PX = 8

_XYZ = ("x", "y", "z")
_ROTVEC = ("rotvec_x", "rotvec_y", "rotvec_z")
_SIDES = {"0": "right", "1": "left"}
_ROBOT = re.compile(r"robot(\d+)_(eef_pos|eef_rot_axis_angle|gripper_width|demo_start_pose|demo_end_pose)")
_CAMERA = re.compile(r"camera(\d+)_rgb")
_PICTURE = re.compile(r"img|image|rgb|camera|cam(?![a-z])", re.IGNORECASE)

UMI_FACTS: dict[str, dict[str, Any]] = {
    "eef_pos": {"dims": _XYZ, "unit": "m", "meaning": "state", "action_space": ActionSpace("ee_pose", absolute=True)},
    "eef_rot_axis_angle": {"dims": _ROTVEC, "unit": "rad", "meaning": "state", "action_space": ActionSpace("ee_pose", rotation="rotvec", absolute=True)},
    "gripper_width": {"dims": ("gripper",), "unit": "m", "meaning": "state", "doc": "opening between the fingers"},
    "demo_start_pose": {"dims": (*_XYZ, *_ROTVEC), "doc": "pose of the gripper at the start of the demonstration (m, rad), the same in each row"},
    "demo_end_pose": {"dims": (*_XYZ, *_ROTVEC), "doc": "pose of the gripper at the end of the demonstration (m, rad), the same in each row"},
}


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name.replace("/", ".")).strip("_.") or "array"


def _is_picture(array: ZarrArray, name: str) -> bool:
    shape, kind = array.row_shape, array.layout.dtype
    if len(shape) != 3 or shape[2] not in (1, 3, 4) or min(shape[:2]) < MIN_PICTURE_PX:
        return False
    return kind == "uint8" or (kind.kind == "f" and _PICTURE.search(name) is not None)


def kind_of(array: ZarrArray, name: str) -> Kind:
    """Return what the rows of an array are."""
    if array.layout.dtype.kind in "SU":
        return "text"
    if "depth" in name.lower() and array.layout.dtype.itemsize > 1 and len(array.row_shape) in (2, 3) and min(array.row_shape[:2]) >= MIN_PICTURE_PX:
        return "depth"
    return "image" if array.frames or _is_picture(array, name) else "numeric"


def stream_name(name: str, kind: Kind) -> str:
    """Return the stream of an array by the field's convention: `action` stays, cameras are `observation.images.<camera>`, the rest `observation.<name>`."""
    if kind in ("image", "depth"):
        camera = _CAMERA.fullmatch(name)
        return f"observation.images.camera{camera[1]}" if camera else f"observation.images.{_safe(name).replace('.', '_')}"
    return _safe(name) if name.split("/")[0] in ("action", "actions", "timestamp") else f"observation.{_safe(name)}"


def _camera(name: str) -> Camera:
    """Return the role: UMI's cameras sit on the grippers, robomimic's names say it."""
    return Camera("wrist" if _CAMERA.fullmatch(name) or re.search("wrist|hand", name.lower()) else "other")


def column_of(array: ZarrArray, name: str) -> Column:
    """Return the column of an array of `data`, by its name there."""
    kind, dtype = kind_of(array, name), array.layout.dtype
    stream, extra = stream_name(name, kind), {"source": f"data/{name}"}
    if kind == "text":
        return Column(stream, "text", "string", (), encoding="utf-8", extra=extra)
    if kind in ("image", "depth"):
        return Column(stream, kind, dtype.name, array.row_shape, encoding=array.frames, camera=_camera(name), extra=extra)
    facts: dict[str, Any] = {}
    robot = _ROBOT.fullmatch(name)
    if robot is not None:
        facts = dict(UMI_FACTS[robot[2]])
        if robot[1] in _SIDES:
            extra["side"] = _SIDES[robot[1]]
        if array.row_shape != (len(facts["dims"]),):
            facts = {}
    elif name in ("action", "actions"):
        facts = {"meaning": "action"}
    elif name == "state":
        facts = {"meaning": "state"}
    elif name == "timestamp":
        facts = {"meaning": "time"}
    return Column(stream, "numeric", dtype.name, array.row_shape, extra=extra, **facts)
