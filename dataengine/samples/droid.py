"""Genuine raw DROID folders: `<lab>/<outcome>/<date>/<time>/{trajectory.h5, metadata_<uuid>.json, recordings/MP4/…}`.

Names, shapes and types are those of one real episode and of the recorder (https://github.com/droid-dataset/droid); pictures carry their number as a barcode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.json_mp4 import arm_rows
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film

SERIALS = {"wrist": "14436910", "exterior_1": "22008760", "exterior_2": "24400334"}
EPOCH_MS = 1_683_000_000_000
LATENCY_MS = 41  # two and a half periods of a camera at 60 Hz, as the recorder computes it


@dataclass(frozen=True)
class DroidOptions:
    """How an episode is written.

    Args:
        steps: rows.
        seed: of the motion and of the jitter of the clocks.
        success: outcome, which the attributes, the metadata and the folder say.
        stereo: writes `<serial>-stereo.mp4` too, both lenses side by side.
        films: writes films at all.
        metadata: writes the metadata file.
        frames: how many frames more (or fewer) than steps the films have, by camera.
        frame_times: writes `<serial>_timestamps.json` beside the films.
        intrinsics: writes `observation/camera_intrinsics`, as later recorders do.
        pauses: steps at which the operator held the robot still.
        lab: the folder of the laboratory.
    """

    steps: int = 24
    seed: int = 0
    success: bool = True
    stereo: bool = False
    films: bool = True
    metadata: bool = True
    frames: Mapping[str, int] | None = None
    frame_times: bool = False
    intrinsics: bool = False
    pauses: tuple[int, ...] = (4, 5)
    lab: str = "LAB"


def step_times_ms(options: DroidOptions) -> dict[str, Array]:
    """Return the times of each step in epoch ms, (T,) int64 each: about 14.5 Hz with some ms of jitter, one part of a step after the other."""
    rng = np.random.default_rng(options.seed)
    count = options.steps
    start = EPOCH_MS + np.cumsum(69 + rng.integers(-4, 5, count))
    read = start + rng.integers(1, 3, count)
    times = {"step_start": start, "robot_read_start": read, "robot_read_end": read + rng.integers(1, 4, count)}
    for number, camera in enumerate(SERIALS):
        begin = times["robot_read_end"] + number * 2
        times[f"{camera}_read_start"] = begin
        times[f"{camera}_frame_received"] = begin + rng.integers(1, 6, count)
        times[f"{camera}_read_end"] = times[f"{camera}_frame_received"] + 1
        times[f"{camera}_estimated_capture"] = times[f"{camera}_frame_received"] - LATENCY_MS
    times["policy_start"] = start + 20
    times["sleep_start"] = start + 24 + rng.integers(0, 3, count)
    times["control_start"] = start + 55 + rng.integers(0, 3, count)
    times["step_end"] = times["control_start"] + 3
    return {name: values.astype(np.int64) for name, values in times.items()}


def signals(options: DroidOptions) -> dict[str, Array]:
    """Return the numbers of an episode by their path in the file, without the times."""
    count = options.steps
    motion = arm_rows(count, options.seed)
    rng = np.random.default_rng([options.seed, 1])
    pose, joints, gripper = motion["pose"], motion["joints"], motion["gripper"]
    out: dict[str, Array] = {
        "action/cartesian_position": pose + 0.01,
        "action/cartesian_velocity": rng.uniform(-1, 1, (count, 6)),
        "action/gripper_position": np.clip(gripper + 0.05, 0, 1),
        "action/gripper_velocity": rng.uniform(-1, 1, count),
        "action/joint_position": joints + 0.01,
        "action/joint_velocity": rng.uniform(-1, 1, (count, 7)),
        "action/target_cartesian_position": pose + 0.02,
        "action/target_gripper_position": gripper,
        "action/robot_state/cartesian_position": pose + 0.001,
        "action/robot_state/joint_positions": joints + 0.001,
        "observation/robot_state/cartesian_position": pose,
        "observation/robot_state/gripper_position": gripper,
        "observation/robot_state/joint_positions": joints,
        "observation/robot_state/joint_velocities": np.gradient(joints, axis=0) * 15,
        "observation/robot_state/joint_torques_computed": rng.normal(0, 5, (count, 7)),
        "observation/robot_state/motor_torques_measured": rng.normal(0, 5, (count, 7)),
        "observation/robot_state/prev_joint_torques_computed": rng.normal(0, 5, (count, 7)),
    }
    moving = np.ones(count, dtype=bool)
    moving[[step for step in options.pauses if step < count]] = False
    out["observation/controller_info/movement_enabled"] = moving
    out["observation/controller_info/controller_on"] = np.ones(count, dtype=bool)
    out["observation/controller_info/success"] = out["observation/controller_info/failure"] = np.zeros(count, dtype=bool)
    out["observation/timestamp/skip_action"] = ~moving
    for number, (camera, serial) in enumerate(SERIALS.items()):
        out[f"observation/camera_type/{serial}"] = np.full(count, 0 if camera == "wrist" else 1, dtype=np.int64)
        fixed = np.tile(np.array([0.1 * number, 0.4, 0.5, -1.5, 0.1, 0.2 * number]), (count, 1))
        for side in ("left", "right"):
            name = f"observation/camera_extrinsics/{serial}_{side}"
            out[name] = pose + (0.05 if side == "left" else 0.07) if camera == "wrist" else fixed
            if camera == "wrist":
                out[f"{name}_gripper_offset"] = fixed
        if options.intrinsics:
            matrix = np.array([[730.0 + number, 0.0, 640.0], [0.0, 731.0, 360.0], [0.0, 0.0, 1.0]])
            out[f"observation/camera_intrinsics/{serial}_left"] = np.tile(matrix, (count, 1, 1))
    return out


def _times_by_path(options: DroidOptions) -> dict[str, Array]:
    times, root = step_times_ms(options), "observation/timestamp"
    out = {f"{root}/control/{name}": times[name] for name in ("step_start", "policy_start", "sleep_start", "control_start", "step_end")}
    out |= {f"{root}/robot_state/{name}": times[f"robot_{name}"] for name in ("read_start", "read_end")}
    robot_ns = (times["robot_read_start"] + 137) * 1_000_000 + 4321  # the robot's computer has a clock of its own
    out[f"{root}/robot_state/robot_timestamp_seconds"], out[f"{root}/robot_state/robot_timestamp_nanos"] = np.divmod(robot_ns, 10**9)
    for camera, serial in SERIALS.items():
        for name in ("read_start", "read_end", "frame_received", "estimated_capture"):
            out[f"{root}/cameras/{serial}_{name}"] = times[f"{camera}_{name}"]
    return out


def write_trajectory(path: Path, options: DroidOptions) -> Path:
    """Write `trajectory.h5` alone."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs.update({"building": "Main Hall", "controller_on": True, "movement_enabled": True, "scene_id": 77, "time": "Tue_May__2_04:00:00_2023"})
        file.attrs.update({"current_task": "Put the cup on the shelf", "success": options.success, "failure": not options.success, "user": "Ada Example"})
        file.attrs.update({"robot_serial_number": "295341-1325480", "version_number": "1.1"})
        file.attrs["fixed_tasks"] = np.array(["Put the cup on the shelf", "Close the drawer"], dtype=h5py.string_dtype())
        for name, values in {**signals(options), **_times_by_path(options)}.items():
            file[name] = values
    return path


def write_droid(root: Path, options: DroidOptions | None = None, number: int = 0) -> Path:
    """Write one episode below the set's folder `root`; return its own folder."""
    options = options or DroidOptions()
    outcome = "success" if options.success else "failure"
    folder = root / options.lab / outcome / "2023-05-02" / f"Tue_May__2_04:{number:02d}:00_2023"
    write_trajectory(folder / "trajectory.h5", options)
    films = folder / "recordings" / "MP4"
    for camera, (name, serial) in enumerate(SERIALS.items()) if options.films else ():
        count = options.steps + (options.frames or {}).get(name, 0)
        frames = numbered_frames(count, camera, number)
        write_numbered_film(films / f"{serial}.mp4", frames)
        if options.stereo:
            write_numbered_film(films / f"{serial}-stereo.mp4", np.concatenate([frames, frames[:, :, ::-1]], axis=2))
        if options.frame_times:
            received = step_times_ms(options)[f"{name}_frame_received"]
            beyond = received[-1] + 67 * np.arange(1, max(count - options.steps, 0) + 1)
            (films / f"{serial}_timestamps.json").write_text(json.dumps(np.concatenate([received, beyond])[:count].tolist()))
    if options.metadata:
        uuid = f"{options.lab}+0a1b2c3d+2023-05-02-04h-{number:02d}m-00s"
        (folder / f"metadata_{uuid}.json").write_text(json.dumps(_metadata(options, uuid, outcome), indent=1))
    return folder


def _metadata(options: DroidOptions, uuid: str, outcome: str) -> dict[str, Any]:
    cameras = {"wrist": "wrist", "exterior_1": "ext1", "exterior_2": "ext2"}
    content: dict[str, Any] = {"uuid": uuid, "lab": options.lab, "user": "Ada Example", "user_id": "0a1b2c3d", "date": "2023-05-02", "building": "Main Hall"}
    content |= {"scene_id": 77, "success": options.success, "robot_serial": "295341-1325480", "r2d2_version": "1.1"}
    content |= {"current_task": "Put the cup on the shelf", "trajectory_length": options.steps, "hdf5_path": f"{outcome}/2023-05-02/trajectory.h5"}
    for name, key in cameras.items():
        content[f"{key}_cam_serial"] = SERIALS[name]
        content[f"{key}_mp4_path"] = f"{outcome}/2023-05-02/recordings/MP4/{SERIALS[name]}.mp4"
    return content


def write_instructions(root: Path, folders: Mapping[str, tuple[str, ...]]) -> Path:
    """Write the file of instructions of a set: by the name of the episode, as its metadata file has it."""
    path = root / "aggregated-annotations-030724.json"
    texts = {uuid: {f"language_instruction{number}": text for number, text in enumerate(some, 1)} for uuid, some in folders.items()}
    path.write_text(json.dumps(texts))
    return path
