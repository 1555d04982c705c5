"""Where a recording holds the pose of a hand (a wrist, or a gripper that a person carries) and how far it is open, and how to read both.

A hand's columns are named by a layout, an entry of `LAYOUTS`, or one by one in a `HandSource`. Poses are frame_from_wrist: what is seen from the wrist times the pose is seen from the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field as Setting

from dataengine.core.arrays import Array, read_only
from dataengine.core.column import RotationKind
from dataengine.core.config import Config
from dataengine.core.errors import MissingFact, UsageError
from dataengine.core.labelling import Watched
from dataengine.transforms.rotations import IDENTITIES, WIDTHS, rotation_matrices, says_rotation

RIGID = 1e-2  # how far a 4x4 pose in float32 may be from a rotation; what was blended, or set to zero, is further


class PoseSource(Config):
    """Columns that hold a pose: one of 4x4 matrices, or one or several whose numbers, one after the other, are x, y, z and a rotation.

    Attributes:
        columns: their names.
        rotation: how the rotation is written; None where the last column's action space says it.
        start: the first of the numbers.
        confidence: the column with the confidence that the source gives, 0 to 1.
        lost: the column that is true where the source says that it did not know.
    """

    columns: tuple[str, ...] = Setting(min_length=1)
    rotation: RotationKind | None = None
    start: int = Setting(default=0, ge=0)
    confidence: str | None = None
    lost: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        return (*self.columns, *(name for name in (self.confidence, self.lost) if name is not None))


class WidthSource(Config):
    """A number that says how far a hand or a gripper is open: the column, and which of its numbers."""

    column: str
    entry: int = Setting(default=0, ge=0)
    confidence: str | None = None


class HandSource(Config):
    """Where one hand is found: the wrist, and either the tips of thumb and finger (4x4 poses, or x, y, z) or a width that was recorded."""

    wrist: PoseSource
    thumb: PoseSource | None = None
    finger: PoseSource | None = None
    width: WidthSource | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Return the columns that are read."""
        tips = [name for tip in (self.thumb, self.finger) if tip is not None for name in tip.named]
        widths = [name for name in ((self.width.column, self.width.confidence) if self.width is not None else ()) if name is not None]
        return tuple(dict.fromkeys([*self.wrist.named, *tips, *widths]))


class HandLayout(Config):
    """The hands of a kind of recording, and the pose of the camera in the frame of the hands, where there is one."""

    hands: dict[str, HandSource]
    camera: PoseSource | None = None


def _egodex(joint: str) -> PoseSource:
    return PoseSource(columns=(f"observation.transforms.{joint}",), rotation="matrix", confidence=f"observation.confidences.{joint}")


def egodex_layout(thumb: str, finger: str) -> HandLayout:
    """Return the layout of EgoDex, with the aperture from one joint of each hand to another ("ThumbTip", "IndexFingerTip")."""
    hands = {side: HandSource(wrist=_egodex(f"{side}Hand"), thumb=_egodex(side + thumb), finger=_egodex(side + finger)) for side in ("left", "right")}
    return HandLayout(hands=hands, camera=PoseSource(columns=("observation.transforms.camera",), rotation="matrix"))


def _umi(robot: int) -> HandSource:
    wrist = PoseSource(columns=(f"observation.robot{robot}_eef_pos", f"observation.robot{robot}_eef_rot_axis_angle"), rotation="rotvec")
    return HandSource(wrist=wrist, width=WidthSource(column=f"observation.robot{robot}_gripper_width"))


LAYOUTS: dict[str, HandLayout] = {  # in the order in which they are tried
    "egodex": egodex_layout("ThumbTip", "IndexFingerTip"),
    "umi": HandLayout(hands={"left": _umi(1), "right": _umi(0)}),
    "umi_session": HandLayout(hands={"hand": HandSource(wrist=PoseSource(columns=("observation.camera_pose",), rotation="quat_xyzw", lost="slam.is_lost"))}),
}


@dataclass(frozen=True, eq=False)
class Track:
    """T poses or points: `pose` (T, 4, 4) float64, the identity where not `known` (T,); `confidence` (T,) float64 in [0, 1], NaN where the source gives none.

    `frame` is what the pose is seen from, None where the recording does not say.
    """

    pose: Array
    known: Array
    confidence: Array
    frame: str | None

    def __post_init__(self) -> None:
        for name in ("pose", "known", "confidence"):
            object.__setattr__(self, name, read_only(getattr(self, name)))


def is_there(watched: Watched, hand: HandSource) -> bool:
    """Whether an episode holds the poses of a hand's wrist."""
    return all(name in watched.columns for name in hand.wrist.columns)


def read_track(watched: Watched, source: PoseSource, lost_at: float, point: bool = False) -> Track:
    """Read a pose, or a point's position alone, at every step of a whole episode.

    A row is not known where the store has none, the source says that it was lost, its confidence is `lost_at` or less, or its numbers are no pose.

    Raises:
        UsageError: the columns are not there, or hold too few numbers.
        MissingFact: nobody says how the rotation is written.
    """
    missing = [name for name in source.columns if name not in watched.columns]
    if missing:
        raise UsageError(
            f"episode {watched.episode_id}: must have the column {missing[0]!r} to read a hand's pose, its columns lack it; name others under `sources`"
        )
    known = np.logical_and.reduce([watched.valid[name] for name in source.columns])
    pose, shaped = _matrices(watched, source, point)
    known &= shaped
    confidence = read_confidence(watched, source.confidence)
    known &= ~(confidence <= lost_at)  # NaN compares false: where there is none nothing is lost
    if source.lost is not None and source.lost in watched.columns:
        known &= watched.valid[source.lost] & ~watched.columns[source.lost].astype(np.bool_).reshape(watched.steps)
    spec = watched.specs.get(source.columns[0])
    return Track(np.where(known[:, None, None], pose, np.eye(4)), known, confidence, spec.frame if spec is not None else None)


def read_confidence(watched: Watched, column: str | None) -> Array:
    """Return (T,) float64 confidences in [0, 1], NaN where there are none."""
    if column is None or column not in watched.columns:
        return np.full(watched.steps, np.nan)
    said = watched.columns[column].astype(np.float64).reshape(watched.steps)
    return np.where(watched.valid[column], np.clip(said, 0, 1), np.nan)


def read_width(watched: Watched, source: WidthSource) -> tuple[Array, Array, Array]:
    """Return (T,) widths as recorded, whether each is known, and its confidence."""
    if source.column not in watched.columns:
        raise UsageError(f"episode {watched.episode_id}: must have the column {source.column!r} to read how far the hand is open; name another under `sources`")
    flat = watched.columns[source.column].astype(np.float64).reshape(watched.steps, -1)
    if source.entry >= flat.shape[1]:
        raise UsageError(f"episode {watched.episode_id}: column {source.column!r}: must have an entry {source.entry}, got {flat.shape[1]} numbers")
    width = flat[:, source.entry]
    known = watched.valid[source.column] & np.isfinite(width)
    return np.where(known, width, 0), known, read_confidence(watched, source.confidence)


def _matrices(watched: Watched, source: PoseSource, point: bool) -> tuple[Array, Array]:
    """Return (T, 4, 4) and whether each is a pose."""
    values = [watched.columns[name].astype(np.float64) for name in source.columns]
    pose = np.tile(np.eye(4), (watched.steps, 1, 1))
    if len(values) == 1 and values[0].shape[1:] == (4, 4):
        with np.errstate(invalid="ignore", over="ignore"):
            turned = values[0][:, :3, :3]
            square = np.abs(turned @ turned.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2)) <= RIGID
            rigid = square & (np.linalg.det(turned) > 0) & (np.abs(values[0][:, 3] - (0, 0, 0, 1)).max(axis=1) <= RIGID)
        good = np.isfinite(values[0][:, :3, 3]).all(axis=1) & (np.ones_like(rigid) if point else rigid)
        pose[:, :3, 3] = values[0][:, :3, 3]
        if not point:
            pose[rigid, :3, :3] = rotation_matrices("matrix", turned[rigid].reshape(-1, 9))  # float32 and 1e-7 off: the nearest rotation
        return pose, good
    numbers = np.concatenate([each.reshape(watched.steps, -1) for each in values], axis=1)[:, source.start :]
    kind = None if point else _rotation_kind(watched, source)
    width = 3 + (WIDTHS[kind] if kind is not None else 0)
    if numbers.shape[1] < width:
        raise UsageError(
            f"episode {watched.episode_id}: columns {', '.join(source.columns)}: must hold {width} numbers from {source.start} on, x, y, z and a rotation, got {numbers.shape[1]}"
        )
    pose[:, :3, 3] = numbers[:, :3]
    good = np.isfinite(numbers[:, :3]).all(axis=1)
    if kind is not None:
        told = says_rotation(kind, numbers[:, 3:width])
        pose[:, :3, :3] = rotation_matrices(kind, np.where(told[:, None], numbers[:, 3:width], IDENTITIES[kind]))
        good &= told
    return pose, good


def _rotation_kind(watched: Watched, source: PoseSource) -> RotationKind:
    if source.rotation is not None:
        return source.rotation
    spec = watched.specs.get(source.columns[-1])
    if spec is None or spec.action_space is None or spec.action_space.rotation is None:
        raise MissingFact(source.columns[-1], "rotation", "a hand's pose is read from it; state `rotation` beside its name under `sources`")
    return spec.action_space.rotation


def layout_of(watched: Watched, layouts: Mapping[str, HandLayout], hands: Sequence[str]) -> HandLayout | None:
    """Return the first layout of which an episode holds a hand, one of `hands` where they are named."""
    for layout in layouts.values():
        if any(is_there(watched, hand) for name, hand in layout.hands.items() if not hands or name in hands):
            return layout
    return None
