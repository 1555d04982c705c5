"""Genuine raw UMI sessions of the sample world: demonstrations as folders with video, camera path, sensors and calibration, as UMI's scripts leave them.

The camera's path is that of the arm's hand. The first frames and one stretch in the middle are lost: zeros, as SLAM writes them, and a time of 0 before it started.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording
from dataengine.samples.gopro import add_telemetry, payloads_of
from dataengine.samples.steps import newest_at
from dataengine.samples.video import VideoOptions, write_film

HEADER = "frame_idx,timestamp,state,is_lost,is_keyframe,x,y,z,q_x,q_y,q_z,q_w"
LOST_AT_START = 2
LOST = slice(6, 8)
SERIALS = ("C3441328164125", "C3501326042385")
TX_SLAM_TAG = [[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, 0.2], [0.0, 0.0, 1.0, 0.3], [0.0, 0.0, 0.0, 1.0]]


@dataclass(frozen=True)
class UmiSessionOptions:
    """How a session is written.

    Args:
        telemetry: adds a GoPro telemetry track to each video.
        twins: writes tags and plan as JSON beside the pickles.
    """

    telemetry: bool = True
    twins: bool = False


def demo_name(number: int) -> str:
    """Return the folder of a demonstration."""
    return f"demo_{SERIALS[0]}_2024.01.05_10.{number:02d}.30.000000"


def camera_rows(recording: ArmRecording, frames: int, rate_hz: float) -> Array:
    """Return (N, 7) poses of the camera at its frames, x, y, z, qx, qy, qz, qw; zeros where it was lost."""
    at = newest_at(recording.joint_t_ns, np.rint(np.arange(frames) * 1e9 / rate_hz).astype(np.int64))
    poses = np.concatenate([recording.ee_position, recording.ee_quat_xyzw], axis=1)[at]
    poses[:LOST_AT_START] = 0
    poses[LOST] = 0
    return np.asarray(poses)


def trajectory_csv(recording: ArmRecording, frames: int, rate_hz: float) -> str:
    """Return the camera's path as SLAM writes it."""
    lines = [HEADER]
    for row, pose in enumerate(camera_rows(recording, frames, rate_hz)):
        lost = not pose.any()
        seconds = 0.0 if row < LOST_AT_START else row / rate_hz
        values = "0,0,0,0,0,0,0" if lost else ",".join(f"{value:.9f}" for value in pose)
        lines.append(f"{row},{seconds:.6f},{1 if lost else 2},{'true' if lost else 'false'},{'true' if row % 5 == 0 else 'false'},{values}")
    return "\n".join(lines) + "\n"


def imu_document(recording: ArmRecording) -> dict[str, Any]:
    """Return the sensors as gopro-telemetry exports them."""
    streams = {}
    for key, title, unit, values in (
        ("ACCL", "Accelerometer", "m/s2", recording.linear_acceleration),
        ("GYRO", "Gyroscope", "rad/s", recording.angular_velocity),
    ):
        samples = [{"value": row.tolist(), "cts": time / 1e6} for row, time in zip(values, recording.imu_t_ns.tolist(), strict=True)]
        streams[key] = {"samples": samples, "name": title, "units": unit}
    return {"1": {"streams": streams, "device name": "Sample Camera"}, "frames/second": recording.config.camera_hz}


def _video(folder: Path, recording: ArmRecording, options: UmiSessionOptions) -> int:
    """Write the wrist camera's video; return its frames."""
    path = write_film(folder / "raw_video.mp4", recording, ["wrist"], VideoOptions())
    if options.telemetry:
        add_telemetry(path, payloads_of(recording))
    return len(recording.cameras["wrist"].t_ns)


def write_umi_session(folder: Path, recordings: Sequence[ArmRecording], options: UmiSessionOptions | None = None) -> Path:
    """Write a session: the first recording's video as the mapping and the calibration too, then each as a demonstration; return its folder."""
    options = options or UmiSessionOptions()
    demos = folder / "demos"
    plan = []
    for number, recording in enumerate(recordings):
        demo = demos / demo_name(number)
        demo.mkdir(parents=True)
        frames = _video(demo, recording, options)
        (demo / "camera_trajectory.csv").write_text(trajectory_csv(recording, frames, recording.config.camera_hz))
        (demo / "imu_data.json").write_text(json.dumps(imu_document(recording)))
        tags = [{"frame_idx": row, "time": row / recording.config.camera_hz, "tag_dict": {"0": {"tvec": [0.01, 0.0, 0.2]}}} for row in range(frames)]
        (demo / "tag_detection.pkl").write_bytes(pickle.dumps(tags))
        if options.twins:
            (demo / "tag_detection.json").write_text(json.dumps(tags))
        plan.append({"cameras": [{"video_path": f"{demo.name}/raw_video.mp4", "video_start_end": [2, frames - 1]}], "grippers": []})
    for name, own in (("mapping", "mapping_camera_trajectory.csv"), (f"gripper_calibration_{SERIALS[0]}_2024.01.05_09.00.00.000000", None)):
        (demos / name).mkdir()
        frames = _video(demos / name, recordings[0], options)
        if own is not None:
            (demos / name / own).write_text(trajectory_csv(recordings[0], frames, recordings[0].config.camera_hz))
            (demos / name / "tx_slam_tag.json").write_text(json.dumps({"tx_slam_tag": TX_SLAM_TAG}))
        else:
            (demos / name / "gripper_range.json").write_text(json.dumps({"gripper_id": 0, "max_width": 0.08, "min_width": 0.001}))
    (folder / "dataset_plan.pkl").write_bytes(pickle.dumps(plan))
    if options.twins:
        (folder / "dataset_plan.json").write_text(json.dumps(plan))
    links = folder / "raw_videos"
    links.mkdir()
    for number in range(len(recordings)):
        (links / f"GX01{number:04d}.MP4").symlink_to(f"../demos/{demo_name(number)}/raw_video.mp4")
    return folder
