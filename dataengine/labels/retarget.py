"""Actions from hand poses: where the wrist is in a stated frame, how it moves from step to step, and how far the hand is open. Nothing is trained.

`action.<hand>` at step t is the motion from t to t + 1 and the aperture at t + 1, which the hand is brought to; the last step has none. With the poses frame_from_wrist at t and
t + 1 (both seen from the camera at t, where the frame is the camera, so that a turning head moves no hand):

- motion "tool": wrist_t_from_wrist_t+1, thus R_t^T (p_t+1 - p_t) and R_t^T R_t+1;
- motion "frame": p_t+1 - p_t and R_t+1 R_t^T, both in the axes of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.core.config import Config, parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.labels.hand_tracks import (
    LAYOUTS,
    HandLayout,
    HandSource,
    Track,
    egodex_layout,
    is_there,
    layout_of,
    read_track,
    read_width,
)
from dataengine.transforms.rotations import rotation_numbers

NAME = "retarget"
VERSION = "1"  # raised with whatever changes the labels

CAMERA, FIRST_CAMERA, RECORDED = "camera", "first_camera", "recorded"
_Aperture = tuple[Array, Array, Array]  # (T,) each: how far a hand is open, whether that is known, how sure it is
LONGEST_STEP = 1.5  # of the usual one: what is longer spans a step that was dropped, and is the motion of two
_ROTATION_DIMS = {
    "rotvec": ("rotvec_x", "rotvec_y", "rotvec_z"),
    "rot6d": ("rot6d_xx", "rot6d_yx", "rot6d_zx", "rot6d_xy", "rot6d_yy", "rot6d_zy"),
}


class Aperture(Config):
    """How the distance from thumb to finger, or the recorded width, reads: in m, or 0 when closed and 1 when open where both are given (and no further)."""

    closed_m: float | None = None
    open_m: float | None = None

    @model_validator(mode="after")
    def _both(self) -> Aperture:
        if (self.closed_m is None) != (self.open_m is None) or (self.closed_m is not None and self.closed_m == self.open_m):
            raise ValueError("closed_m and open_m must be given both and differ, or neither")
        return self

    def scaled(self, width_m: Array) -> Array:
        """Return widths as they are labelled."""
        if self.closed_m is None or self.open_m is None:
            return width_m
        return np.clip((width_m - self.closed_m) / (self.open_m - self.closed_m), 0, 1)


class RetargetConfig(Config):
    """What is derived from the poses of hands.

    Attributes:
        hands: which; all that the layout names and the episode holds where none is given. A hand that is named and not there is labelled with nothing.
        layout: where the hands are found: a name of `LAYOUTS`, or "auto" for the first one that fits.
        sources: where they are found, column by column, in place of a layout.
        frame: what wrist poses are seen from: "recorded" (the frame that the recording has), "camera" (at the same step), "first_camera" (at the first step of which the camera's pose is known).
        motion: whether a motion is that of the hand in its own axes ("tool"), or in those of the frame ("frame").
        rotation: how rotations are written.
        aperture: how the aperture reads.
        thumb, finger: joints of EgoDex between which it is measured.
        lost_at: a pose with this confidence or less is not known.
        wrist_from_tool: 16 numbers of a 4x4 pose, row by row: another point and other axes that move with the wrist, in place of the wrist's own.
    """

    hands: tuple[str, ...] = ()
    layout: str = "auto"
    sources: HandLayout | None = None
    frame: Literal["recorded", "camera", "first_camera"] = "recorded"
    motion: Literal["tool", "frame"] = "tool"
    rotation: Literal["rotvec", "rot6d"] = "rotvec"
    aperture: Aperture = Aperture()
    thumb: str = "ThumbTip"
    finger: str = "IndexFingerTip"
    lost_at: float = Setting(default=0.0, ge=0, lt=1)
    wrist_from_tool: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RetargetConfig:
        if self.wrist_from_tool is not None:
            pose = np.array(self.wrist_from_tool, np.float64)
            turned = pose.reshape(4, 4)[:3, :3] if pose.size == 16 else np.zeros((3, 3))
            if np.abs(turned @ turned.T - np.eye(3)).max() > 1e-6 or np.linalg.det(turned) < 0 or tuple(pose[12:]) != (0, 0, 0, 1):
                raise ValueError("wrist_from_tool must be the 16 numbers of a rigid 4x4 pose, row by row")
        return self

    @property
    def layouts(self) -> dict[str, HandLayout]:
        """Return where hands are looked for, in order."""
        if self.sources is not None:
            return {"sources": self.sources}
        known = LAYOUTS | {"egodex": egodex_layout(self.thumb, self.finger)}
        if self.layout == "auto":
            return known
        if self.layout not in known:
            raise UnknownName("layout of hand poses", self.layout, ["auto", *known])
        return {self.layout: known[self.layout]}


def open_retarget(options: Mapping[str, Any] | RetargetConfig | None = None) -> RetargetLabeller:
    """Open the labeller with its options.

    Raises:
        ConfigError: an option is unknown or of another kind.
        UnknownName: a layout or a hand is not known.
    """
    config = options if isinstance(options, RetargetConfig) else parse_config(RetargetConfig, dict(options or {}), "options of retarget")
    known = sorted({name for layout in config.layouts.values() for name in layout.hands})
    for name in config.hands:
        if name not in known:
            raise UnknownName("hand", name, known)
    return RetargetLabeller(config)


@dataclass(frozen=True)
class RetargetLabeller:
    """Labels wrist poses, motions and apertures: see the module. An answer is the number of its step, and all is derived from the numbers of the whole episode."""

    config: RetargetConfig

    @property
    def needs(self) -> Needs:
        """What it must see: columns of every layout that is looked for, no pictures."""
        columns = [name for layout in self.config.layouts.values() for hand in layout.hands.values() for name in hand.named]
        columns += [name for layout in self.config.layouts.values() if layout.camera is not None for name in layout.camera.named]
        return Needs(columns=tuple(dict.fromkeys(columns)))

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common: the method's name, version and options stand for a model."""
        parameters = self.config.model_dump(mode="json")
        return LabelSet(name, digest_json([NAME, VERSION, parameters]), parameters={"method": NAME, "version": VERSION, **parameters})

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return the steps, counted in the episode."""
        return {"step": np.asarray(steps, np.int64) + part.first}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the steps."""
        return {"step": np.asarray(inputs["step"])}

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return the labels of an episode.

        Raises:
            UsageError: the episode holds no hand that is looked for, or no pose of the camera although the frame is the camera's, or the answers are in another order than the steps.
            MissingFact: the recording does not say how a rotation is written.
        """
        if not np.array_equal(answers["step"], np.arange(episode.steps)):
            raise UsageError(f"episode {episode.episode_id}: answers must stand in the order of its steps; the job that gathers them must order them by step")
        layout = layout_of(episode, self.config.layouts, self.config.hands)
        if layout is None:
            wanted = ", ".join(self.config.hands) or "any hand"
            raise UsageError(
                f"episode {episode.episode_id} of {episode.dataset}: must hold the poses of {wanted} as one of {', '.join(self.config.layouts)} has them, found none; "
                "name its columns under `sources`"
            )
        camera = self._camera(episode, layout)
        found = _Found()
        for name in self.config.hands or layout.hands:
            if is_there(episode, layout.hands[name]):
                self._hand(episode, name, layout.hands[name], camera, found)
            elif self.config.hands:
                self._absent(episode, name, layout, found)
        return Labels(found.columns, found.specs, valid=found.valid, confidence=found.confidence)

    def _camera(self, episode: Watched, layout: HandLayout) -> Track | None:
        """Return the poses frame_from_camera at every step, None where the frame is not the camera's."""
        if self.config.frame == RECORDED:
            return None
        if layout.camera is None or any(name not in episode.columns for name in layout.camera.columns):
            raise UsageError(
                f"episode {episode.episode_id} of {episode.dataset}: must hold the camera's pose for the frame {self.config.frame!r}, found none; "
                "choose the frame 'recorded', or name the column under `sources`"
            )
        camera = read_track(episode, layout.camera, self.config.lost_at)
        if self.config.frame == CAMERA:
            return camera
        first = int(np.argmax(camera.known))  # where none is known it is 0, and nothing is known there either
        count = episode.steps
        return Track(np.tile(camera.pose[first], (count, 1, 1)), np.full(count, camera.known[first]), np.full(count, camera.confidence[first]), camera.frame)

    def _hand(self, episode: Watched, name: str, hand: HandSource, camera: Track | None, found: _Found) -> None:
        wrist = read_track(episode, hand.wrist, self.config.lost_at)
        if self.config.wrist_from_tool is not None:
            tool = wrist.pose @ np.array(self.config.wrist_from_tool, np.float64).reshape(4, 4)
            wrist = Track(tool, wrist.known, wrist.confidence, wrist.frame)
        now, after = wrist, _one_later(wrist)
        if camera is not None:  # both poses as the camera at t sees them; what it saw at t + 1 does not matter
            camera_from_frame = _inverse(camera.pose)
            known, confidence = wrist.known & camera.known, np.fmin(wrist.confidence, camera.confidence)
            now = Track(camera_from_frame @ now.pose, known, confidence, self.config.frame)
            after = Track(camera_from_frame @ after.pose, after.known, after.confidence, self.config.frame)
        self._add(found, name, now, after, self._aperture(episode, hand), _proper_steps(episode))

    def _add(self, found: _Found, name: str, now: Track, after: Track, aperture: _Aperture | None, proper: Array) -> None:
        """Add the pose, the aperture and the action of a hand."""
        space = ActionSpace("ee_pose", self.config.rotation, now.frame, absolute=True)
        spec = Column(
            f"wrist_pose.{name}",
            shape=(len(self._dims),),
            dims=self._dims,
            unit="m, rad",
            frame=now.frame,
            meaning="state",
            action_space=space,
            doc="pose of the hand, derived from its recorded pose",
        )
        found.add(spec, self._numbers(now.pose), now.known, now.confidence)
        values, dims = self._numbers(self._motion(now.pose, after.pose)), self._dims
        known, confidence = now.known & after.known & proper, np.fmin(now.confidence, after.confidence)
        if aperture is not None:
            width, told, sure = aperture
            found.add(Column(f"aperture.{name}", doc="how far the hand is open", unit=self._unit, meaning="state"), width, told, sure)
            values, dims = np.concatenate([values, np.roll(width, -1)[:, None]], axis=1), (*dims, "aperture")
            known, confidence = known & np.roll(told, -1), np.fmin(confidence, np.roll(sure, -1))
        confidence[-1] = np.nan
        found.add(self._action_spec(name, dims, now.frame, aperture is not None), values, known, confidence)

    def _motion(self, now: Array, after: Array) -> Array:
        """Return the motions (T, 4, 4) between poses: see the module."""
        if self.config.motion == "tool":
            return np.asarray(_inverse(now) @ after)
        motion = np.tile(np.eye(4), (len(now), 1, 1))
        motion[:, :3, 3] = after[:, :3, 3] - now[:, :3, 3]
        motion[:, :3, :3] = after[:, :3, :3] @ now[:, :3, :3].transpose(0, 2, 1)
        return motion

    @property
    def _unit(self) -> str | None:
        return "m" if self.config.aperture.open_m is None else None

    def _numbers(self, pose: Array) -> Array:
        return np.concatenate([pose[:, :3, 3], rotation_numbers(self.config.rotation, pose[:, :3, :3])], axis=1)  # (T, 3 + 3 or 6)

    @property
    def _dims(self) -> tuple[str, ...]:
        return ("x", "y", "z", *_ROTATION_DIMS[self.config.rotation])

    def _action_spec(self, name: str, dims: tuple[str, ...], frame: str | None, has_aperture: bool) -> Column:
        frame = "tool" if self.config.motion == "tool" else frame
        calibrated = has_aperture and self._unit is None  # in m nobody said how far the hand opens
        gripper = Gripper(len(dims) - 1, closed=0.0, open=1.0) if calibrated else None
        space = ActionSpace("ee_delta", self.config.rotation, frame, absolute=False, gripper=gripper)
        doc = "motion of the hand to the next step" + (", and the aperture there" if has_aperture else "")
        return Column(
            f"action.{name}",
            shape=(len(dims),),
            dims=dims,
            unit="m, rad",
            frame=frame,
            meaning="action",
            action_space=space,
            action_source="retargeted",
            doc=doc,
        )

    def _aperture(self, episode: Watched, hand: HandSource) -> _Aperture | None:
        """Return (T,) apertures, whether each is known, and its confidence; None where the recording does not hold what it takes."""
        if hand.width is not None and hand.width.column in episode.columns:
            width, known, confidence = read_width(episode, hand.width)
            return self.config.aperture.scaled(width), known, confidence
        tips = [tip for tip in (hand.thumb, hand.finger) if tip is not None and all(name in episode.columns for name in tip.columns)]
        if len(tips) < 2:
            return None
        thumb, finger = (read_track(episode, tip, self.config.lost_at, point=True) for tip in tips)
        width = np.linalg.norm(thumb.pose[:, :3, 3] - finger.pose[:, :3, 3], axis=1)
        return self.config.aperture.scaled(width), thumb.known & finger.known, np.fmin(thumb.confidence, finger.confidence)

    def _absent(self, episode: Watched, name: str, layout: HandLayout, found: _Found) -> None:
        """Add a hand that an episode does not hold: no step of it is valid."""
        other = next(hand for hand in layout.hands.values() if is_there(episode, hand))
        spec = episode.specs.get(other.wrist.columns[0])
        frame = self.config.frame if self.config.frame != RECORDED else spec.frame if spec is not None else None
        nothing, unsaid = np.zeros(episode.steps, np.bool_), np.full(episode.steps, np.nan)
        nowhere = Track(np.tile(np.eye(4), (episode.steps, 1, 1)), nothing, unsaid, frame)
        hand = layout.hands[name]
        aperture = (np.zeros(episode.steps), nothing, unsaid) if hand.width is not None or hand.thumb is not None else None
        self._add(found, name, nowhere, nowhere, aperture, nothing)


class _Found:
    """Labelled columns as they are gathered."""

    def __init__(self) -> None:
        self.columns: dict[str, Array] = {}
        self.specs: dict[str, Column] = {}
        self.valid: dict[str, Array] = {}
        self.confidence: dict[str, Array] = {}

    def add(self, spec: Column, values: Array, known: Array, confidence: Array) -> None:
        self.specs[spec.name] = spec
        self.columns[spec.name] = np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, 0).astype(np.float32)
        self.valid[spec.name] = known
        self.confidence[spec.name] = confidence.astype(np.float32)


def _one_later(track: Track) -> Track:
    """Return what is known one step later; the last row is that of the first step, and no motion leads there."""
    return Track(np.roll(track.pose, -1, axis=0), np.roll(track.known, -1), np.roll(track.confidence, -1), track.frame)


def _inverse(pose: Array) -> Array:
    """Return the inverses of (T, 4, 4) rigid poses."""
    turned = pose[:, :3, :3].transpose(0, 2, 1)
    inverse = np.tile(np.eye(4), (len(pose), 1, 1))
    inverse[:, :3, :3] = turned
    inverse[:, :3, 3] = -(turned @ pose[:, :3, 3:])[:, :, 0]
    return inverse


def _proper_steps(episode: Watched) -> Array:
    """Return (T,) whether a step leads to the next one: not the last, and not across a hole in the clock."""
    proper = np.arange(episode.steps) < episode.steps - 1
    if episode.t_ns is not None and episode.steps > 2:
        lengths = np.diff(episode.t_ns)
        proper[:-1] &= lengths <= LONGEST_STEP * float(np.median(lengths))
    return proper
