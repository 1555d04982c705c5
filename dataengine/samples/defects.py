"""What goes wrong with recordings: faults of the recording itself, each named, applied to a sound one before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UnknownName
from dataengine.samples.arm import ArmRecording, CameraTrack
from dataengine.samples.kinematics import JOINT_HIGH
from dataengine.samples.pictures import encode_picture

RecordingDefect = Callable[[ArmRecording, np.random.Generator], ArmRecording]


def _camera(recording: ArmRecording, change: Callable[[CameraTrack], CameraTrack], name: str = "front") -> ArmRecording:
    """Return the recording with one camera changed (the first where it lacks `name`)."""
    chosen = name if name in recording.cameras else next(iter(recording.cameras))
    return replace(recording, cameras={**recording.cameras, chosen: change(recording.cameras[chosen])})


def _images(track: CameraTrack, change: Callable[[Array], None]) -> CameraTrack:
    images = track.images.copy()
    change(images)
    return replace(track, images=images)


def _row(rng: np.random.Generator, rows: int) -> int:
    """Return a row away from both ends."""
    return int(rng.integers(rows // 4, max(rows * 3 // 4, rows // 4 + 1)))


def frozen_frames(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Show one picture for the middle third of the episode, to the bit."""

    def freeze(images: Array) -> None:
        third = len(images) // 3
        images[third : 2 * third] = images[third]

    return _camera(recording, lambda track: _images(track, freeze))


def dark_frames(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Blacken a fifth of a camera's pictures: a covered lens."""

    def cover(images: Array) -> None:
        start = _row(rng, len(images))
        images[start : start + max(len(images) // 5, 1)] = 2

    return _camera(recording, lambda track: _images(track, cover))


def dropped_frames(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Lose a quarter of a camera's frames, with their times."""

    def drop(track: CameraTrack) -> CameraTrack:
        kept = np.sort(rng.permutation(len(track.t_ns))[: len(track.t_ns) - len(track.t_ns) // 4])
        return replace(track, t_ns=track.t_ns[kept], images=track.images[kept])

    return _camera(recording, drop)


def duplicated_frames(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Show every fifth picture a second time in place of the next."""

    def repeat(images: Array) -> None:
        later = np.arange(1, len(images), 5)
        images[later] = images[later - 1]

    return _camera(recording, lambda track: _images(track, repeat))


def camera_drift(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Let a camera's clock run 8 % fast, so that its rows fall behind the robot's more and more."""
    return _camera(recording, lambda track: replace(track, t_ns=np.rint(track.t_ns * 1.08).astype(np.int64)))


def time_jitter(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Jitter a camera's times by up to 45 % of a period, in order still."""
    period = 1e9 / recording.config.camera_hz
    return _camera(recording, lambda track: replace(track, t_ns=track.t_ns + np.rint(rng.uniform(0, 0.9 * period, len(track.t_ns))).astype(np.int64)))


def time_backwards(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Set the clocks of the joints and of a camera back by 0.2 s half-way."""

    def back(t_ns: Array) -> Array:
        return np.concatenate([t_ns[: len(t_ns) // 2], t_ns[len(t_ns) // 2 :] - 200_000_000])

    return _camera(replace(recording, joint_t_ns=back(recording.joint_t_ns)), lambda track: replace(track, t_ns=back(track.t_ns)))


def time_gap(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Lose half a second of joint samples."""
    start = recording.joint_t_ns[_row(rng, len(recording.joint_t_ns))]
    kept = (recording.joint_t_ns < start) | (recording.joint_t_ns >= start + 500_000_000)
    return replace(
        recording,
        joint_t_ns=recording.joint_t_ns[kept],
        joint_position=recording.joint_position[kept],
        joint_velocity=recording.joint_velocity[kept],
        joint_effort=recording.joint_effort[kept],
        ee_position=recording.ee_position[kept],
        ee_quat_xyzw=recording.ee_quat_xyzw[kept],
    )


def action_lag(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Write each command four steps late: row t holds what was commanded at t - 4."""
    return replace(recording, action=np.concatenate([np.repeat(recording.action[:1], 4, axis=0), recording.action])[: len(recording.action)])


def unit_swap(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Write the measured angles in degrees, the commands still in radians."""
    scale = np.array([180 / np.pi] * 3 + [1.0, 1.0])
    return replace(recording, joint_position=recording.joint_position * scale)


def sign_swap(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Count the measured shoulder the other way round."""
    sign = np.array([-1.0, 1, 1, 1, 1])
    return replace(recording, joint_position=recording.joint_position * sign, joint_velocity=recording.joint_velocity * sign)


def gripper_chatter(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Let the gripper command flip between open and closed at each step."""
    action = recording.action.copy()
    action[:, 4] = np.arange(len(action)) % 2
    return replace(recording, action=action)


def saturation(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Hold the commands of two joints at their limits for 60 % of the episode."""
    action = recording.action.copy()
    action[len(action) // 5 : len(action) * 4 // 5, :2] = JOINT_HIGH[:2]
    return replace(recording, action=action)


def idle(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Let nothing happen: the arm stands at its first pose, commanded to stay there."""

    def still(rows: Array) -> Array:
        return np.repeat(rows[:1], len(rows), axis=0)

    return replace(
        recording,
        joint_position=still(recording.joint_position),
        joint_velocity=np.zeros_like(recording.joint_velocity),
        joint_effort=np.zeros_like(recording.joint_effort),
        ee_position=still(recording.ee_position),
        ee_quat_xyzw=still(recording.ee_quat_xyzw),
        action=still(recording.action),
        block_pose=still(recording.block_pose),
        contact=np.zeros_like(recording.contact),
        held=np.zeros_like(recording.held),
        cameras={name: replace(track, images=still(track.images)) for name, track in recording.cameras.items()},
        success=False,
    )


def nan_values(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Put NaN into the joints for a tenth of the episode."""
    position = recording.joint_position.copy()
    start = _row(rng, len(position))
    position[start : start + max(len(position) // 10, 1), 1] = np.nan
    return replace(recording, joint_position=position)


def state_jump(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Let the measured shoulder jump by 1.5 rad for the rest of the episode."""
    position = recording.joint_position.copy()
    position[_row(rng, len(position)) :, 0] += 1.5
    return replace(recording, joint_position=position)


def longer_tail(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Write one state more than actions (formats of steps)."""
    return replace(recording, row_offsets={"state": 1})


def unequal_lengths(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Write seven actions fewer than states (formats of steps)."""
    return replace(recording, row_offsets={"action": -7})


def wrong_rate(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Claim half the true rates: of commands in descriptions, of frames in a video's times."""
    config = replace(recording.config, control_hz=recording.config.control_hz / 2, camera_hz=recording.config.camera_hz / 2)
    return replace(recording, config=config)


def swapped_cameras(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Exchange the names of the cameras."""
    names = list(recording.cameras)
    return replace(recording, cameras=dict(zip(names, [recording.cameras[name] for name in reversed(names)], strict=True)))


def _replace_frame(recording: ArmRecording, rng: np.random.Generator, make: Callable[[Array], bytes]) -> ArmRecording:
    def change(track: CameraTrack) -> CameraTrack:
        row = _row(rng, len(track.t_ns))
        return replace(track, replaced={**track.replaced, row: make(track.images[row])})

    return _camera(recording, change)


def damaged_picture(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Cut one encoded frame off after two thirds (formats that keep encoded frames)."""

    def cut(image: Array) -> bytes:
        whole = encode_picture(image, "jpeg")
        return whole[: len(whole) * 2 // 3]

    return _replace_frame(recording, rng, cut)


def grey_frame(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Put a frame of one channel among coloured ones (formats that keep encoded frames)."""
    return _replace_frame(recording, rng, lambda image: encode_picture(image.mean(axis=-1).astype(np.uint8), "jpeg"))


def resized_frame(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Put a frame of half the size among the others (formats that keep encoded frames)."""
    return _replace_frame(recording, rng, lambda image: encode_picture(image[::2, ::2], "jpeg"))


def missing_frame(recording: ArmRecording, rng: np.random.Generator) -> ArmRecording:
    """Put no bytes in place of a frame (formats that keep encoded frames)."""
    return _replace_frame(recording, rng, lambda image: b"")


DEFECTS: Mapping[str, RecordingDefect] = {
    "frozen_frames": frozen_frames,
    "dark_frames": dark_frames,
    "dropped_frames": dropped_frames,
    "duplicated_frames": duplicated_frames,
    "camera_drift": camera_drift,
    "time_jitter": time_jitter,
    "time_backwards": time_backwards,
    "time_gap": time_gap,
    "action_lag": action_lag,
    "unit_swap": unit_swap,
    "sign_swap": sign_swap,
    "gripper_chatter": gripper_chatter,
    "saturation": saturation,
    "idle": idle,
    "nan_values": nan_values,
    "state_jump": state_jump,
    "longer_tail": longer_tail,
    "unequal_lengths": unequal_lengths,
    "wrong_rate": wrong_rate,
    "swapped_cameras": swapped_cameras,
    "damaged_picture": damaged_picture,
    "grey_frame": grey_frame,
    "resized_frame": resized_frame,
    "missing_frame": missing_frame,
}


def with_defect(recording: ArmRecording, name: str, seed: int = 0) -> ArmRecording:
    """Return the recording with a named defect; raise UnknownName."""
    if name not in DEFECTS:
        raise UnknownName("defect", name, DEFECTS)
    return DEFECTS[name](recording, np.random.default_rng([seed, recording.index, 17]))
