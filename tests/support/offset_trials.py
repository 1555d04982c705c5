"""Trials of the estimate of clock offsets: sample recordings, cameras that are off by a known time, and a table of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.align.offset import BodyMotion, ClockOffset, estimate_offset
from dataengine.samples.arm import ArmRecording
from dataengine.samples.pictures import encoded_frames
from dataengine.store.camera_motion import items_motion
from tests.support.camera_clocks import MS, late_cameras

Sensors = Literal["positions", "velocities", "all"]


@dataclass(frozen=True)
class Trial:
    """One camera of one recording: the time it was off, that of a frame, and what was estimated."""

    late_ms: float
    frame_ms: float
    found: ClockOffset

    @property
    def error_frames(self) -> float | None:
        """Return how far the estimate is from the truth, None where it abstained."""
        return None if self.found.offset_ns is None else abs(self.found.offset_ns / MS - self.late_ms) / self.frame_ms


def sensed(recording: ArmRecording, sensors: Sensors) -> list[BodyMotion]:
    """Return what an arm's sensors say of its motion, as a reader would give it."""
    positions = BodyMotion("position", recording.joint_t_ns, recording.joint_position)
    velocities = BodyMotion("velocity", recording.joint_t_ns, recording.joint_velocity, speeds=True)
    if sensors != "all":
        return [positions if sensors == "positions" else velocities]
    hand = BodyMotion("hand", recording.joint_t_ns[::4], recording.ee_position[::4])
    gyro = BodyMotion("gyro", recording.imu_t_ns, recording.angular_velocity, speeds=True)
    return [positions, hand, velocities, gyro]


def trials(recording: ArmRecording, late_ms: float, sensors: Sensors = "all") -> list[Trial]:
    """Estimate the offset of each camera of a recording, from its JPEGs."""
    motions = sensed(recording, sensors)
    out = []
    for track in late_cameras(recording, late_ms).cameras.values():
        frames = encoded_frames(track, quality=85)
        sizes = np.tile(np.array(track.images.shape[1:]), (len(frames), 1))
        image = items_motion(lambda first, stop, frames=frames: frames[first:stop], sizes, len(frames[0]), track.t_ns, motions)  # type: ignore[misc]
        out.append(Trial(late_ms, 1000 / recording.config.camera_hz, estimate_offset(image, motions)))
    return out


def summary(name: str, done: Sequence[Trial]) -> str:
    """Return a line about many trials: errors in frames, abstentions, and confident answers that are more than a frame wrong."""
    errors = [trial.error_frames for trial in done if trial.error_frames is not None]
    median, high = (float(np.quantile(errors, share)) if errors else float("nan") for share in (0.5, 0.9))
    reasons = sorted({str(trial.found.reason) for trial in done if trial.error_frames is None})
    wrong = sum(error > 1 for error in errors)
    return f"{name:<44} {len(done):>4} trials  median {median:.3f}  90 % {high:.3f}  abstained {len(done) - len(errors):>3}  wrong {wrong}  {' '.join(reasons)}"


def run(
    recordings: Iterable[ArmRecording], sensors: Sensors = "all", change: Callable[[ArmRecording], ArmRecording] = lambda same: same, seed: int = 0
) -> list[Trial]:
    """Try every camera of every recording with an offset drawn from -150 to 150 ms."""
    rng = np.random.default_rng(seed)
    return [trial for recording in recordings for trial in trials(change(recording), float(rng.uniform(-150, 150)), sensors)]
