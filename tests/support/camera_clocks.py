"""Sample recordings whose cameras are off by a known time, and bodies that do not move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dataengine.samples.arm import ArmRecording, CameraTrack

MS = 1_000_000


def late_cameras(recording: ArmRecording, late_ms: float | Mapping[str, float]) -> ArmRecording:
    """Return a recording whose cameras stamp their pictures so much later than they were taken."""
    late = dict.fromkeys(recording.cameras, late_ms) if isinstance(late_ms, int | float) else dict(late_ms)
    cameras = {name: replace(track, t_ns=track.t_ns + round(late.get(name, 0.0) * MS)) for name, track in recording.cameras.items()}
    return replace(recording, cameras=cameras)


def dropping_cameras(recording: ArmRecording, share: float, jitter_ms: float, seed: int = 0) -> ArmRecording:
    """Return a recording whose cameras lose a share of their frames, and stamp the others within a jitter."""
    rng = np.random.default_rng(seed)
    cameras = {}
    for name, track in recording.cameras.items():
        kept = np.flatnonzero(rng.random(len(track.t_ns)) >= share)
        t_ns = np.maximum.accumulate(track.t_ns[kept] + np.rint(rng.normal(0, jitter_ms * MS, len(kept))).astype(np.int64))
        cameras[name] = CameraTrack(t_ns, track.images[kept], track.intrinsics_px)
    return replace(recording, cameras=cameras)


def flickering_cameras(recording: ArmRecording, share: float, seed: int = 0) -> ArmRecording:
    """Return a recording whose light changes from frame to frame by a share of its brightness."""
    rng = np.random.default_rng(seed)
    cameras = {}
    for name, track in recording.cameras.items():
        gain = 1 + share * rng.uniform(-1, 1, len(track.images))
        images = np.clip(track.images * gain[:, None, None, None], 0, 255).astype(np.uint8)
        cameras[name] = replace(track, images=images)
    return replace(recording, cameras=cameras)


def motionless(recording: ArmRecording, seed: int = 0) -> ArmRecording:
    """Return a recording of an arm at rest: encoders that tremble, and pictures that differ by the noise of the sensor."""
    rng = np.random.default_rng(seed)

    def still(values: np.ndarray, size: float) -> np.ndarray:
        return np.repeat(values[:1], len(values), axis=0) + rng.normal(0, size, values.shape)

    cameras = {}
    for name, track in recording.cameras.items():
        noise = np.rint(rng.normal(0, 1.6, track.images.shape))
        cameras[name] = replace(track, images=np.clip(track.images[:1] + noise, 0, 255).astype(np.uint8))
    return replace(
        recording,
        cameras=cameras,
        joint_position=still(recording.joint_position, 1e-4),
        joint_velocity=rng.normal(0, 1e-3, recording.joint_velocity.shape),
        ee_position=still(recording.ee_position, 1e-5),
        angular_velocity=rng.normal(0, 2e-3, recording.angular_velocity.shape),
    )
