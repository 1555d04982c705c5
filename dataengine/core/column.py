"""What a stream or a column of a trajectory means: dtype, shape, unit, frame, action space, camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dataengine.core.arrays import require

Kind = Literal["numeric", "text", "image", "depth", "mask", "tactile", "message", "audio"]
Meaning = Literal["state", "action", "language", "reward", "discount", "flag", "time", "other"]
CameraRole = Literal["primary", "secondary", "wrist", "overhead", "egocentric", "other"]
ActionKind = Literal["joint_position", "joint_velocity", "joint_torque", "ee_pose", "ee_delta", "ee_velocity", "base_velocity", "other"]
RotationKind = Literal["quat_xyzw", "quat_wxyz", "rpy", "rotvec", "rot6d", "matrix"]
ActionSource = Literal["commanded", "measured", "retargeted", "idm", "latent", "planned"]

CAMERA_KINDS: tuple[Kind, ...] = ("image", "depth", "mask", "tactile")
LOSSLESS_KINDS: tuple[Kind, ...] = ("depth", "mask", "tactile")


@dataclass(frozen=True)
class Gripper:
    """How a gripper value reads: the value when closed, the value when open, its unit, and which dimension it is."""

    dimension: int
    closed: float
    open: float
    unit: str | None = None


@dataclass(frozen=True)
class ActionSpace:
    """What an action (or a state in the same terms) means; None where it is not known.

    A gripper beside a pose or its change is always a value that it is brought to; one of kind "other" that is not `absolute` holds commands to
    close or open further, and 0 between them.
    """

    kind: ActionKind
    rotation: RotationKind | None = None
    frame: str | None = None
    absolute: bool | None = None
    gripper: Gripper | None = None
    rate_hz: float | None = None


@dataclass(frozen=True)
class Camera:
    """A camera: its role, and where known its size, intrinsics and pose.

    `intrinsics` is (fx, fy, cx, cy) in px; `distortion` the model's name and its coefficients;
    `base_from_camera` a 4x4 row-major pose in m, fixed over the episode; a moving camera names the stream of its pose instead.
    """

    role: CameraRole = "other"
    intrinsics_px: tuple[float, float, float, float] | None = None
    distortion: tuple[str, tuple[float, ...]] | None = None
    base_from_camera: tuple[float, ...] | None = None
    pose_stream: str | None = None


@dataclass(frozen=True)
class Column:
    """One feature of a dataset.

    `name` follows the field's convention (`observation.images.<camera>`, `observation.state`, `action`, `task`).
    `dtype` is a numpy name for numbers and frames, "string" for text, "bytes" for messages.
    `shape` is that of one row; None marks a size that varies from row to row. `dims` names the entries of the last axis.
    `unit` is "m", "rad", ..., for positions and rotations in one column "m, rad"; "0.1 m" where the number 1 stands for 0.1 m.
    `encoding` of items that are kept encoded ("jpeg", "png", "cdr", "protobuf", ...), None for plain arrays.
    `steps` says whether the column can stand in the aligned trajectory.
    """

    name: str
    kind: Kind = "numeric"
    dtype: str = "float32"
    shape: tuple[int | None, ...] = ()
    dims: tuple[str, ...] | None = None
    unit: str | None = None
    frame: str | None = None
    meaning: Meaning = "other"
    encoding: str | None = None
    action_space: ActionSpace | None = None
    action_source: ActionSource | None = None
    camera: Camera | None = None
    align: Literal["nearest", "previous", "linear", "slerp"] | None = None
    steps: bool = True
    doc: str = ""
    extra: dict[str, Any] = field(default_factory=dict, hash=False, compare=True)

    def __post_init__(self) -> None:
        require(bool(self.name), "column: name must not be empty")
        require(
            self.dims is None or (bool(self.shape) and len(self.dims) == self.shape[-1]), f"column {self.name!r}: dims must name each entry of the last axis"
        )

    @property
    def is_camera(self) -> bool:
        """Whether rows are pictures."""
        return self.kind in CAMERA_KINDS
