"""Genuine HDF5 recordings of the robomimic/LIBERO/robosuite family: one file with `data/demo_<i>` and split lists under `mask`.

Source: robomimic's dataset documentation and robosuite's `collect_human_demonstrations.py`; the shared sample of robosuite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataengine.samples.arm import ArmRecording
from dataengine.samples.steps import control_steps, offset_rows

_CAMERA_KEYS = {"front": "agentview_image", "wrist": "robot0_eye_in_hand_image"}


@dataclass(frozen=True)
class RobomimicOptions:
    """How a file is written.

    Args:
        images: writes the cameras under `obs`.
        next_obs: writes `next_obs` beside `obs`, numbers only.
        compression: of image datasets, None for raw chunks.
        language: writes the instruction as LIBERO does, in `problem_info` of `data`, where one task holds for the whole file, and as an attribute of each demo.
    """

    images: bool = True
    next_obs: bool = False
    compression: str | None = None
    language: bool = True


def write_robomimic(
    path: Path, recordings: Sequence[ArmRecording], options: RobomimicOptions | None = None, masks: Mapping[str, Sequence[int]] | None = None
) -> Path:
    """Write recordings into one file; `masks` names, for each split, the demos in it by their number (default: the last fifth is "valid")."""
    import h5py

    options = options or RobomimicOptions()
    cut = len(recordings) - max(1, len(recordings) // 5) if len(recordings) > 1 else len(recordings)
    masks = masks if masks is not None else {"train": range(cut), "valid": range(cut, len(recordings))}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=True) as file:
        data = file.create_group("data")
        rate_hz = recordings[0].config.control_hz if recordings else 20.0
        data.attrs["env_args"] = json.dumps(
            {"env_name": "SampleArm", "env_version": "1.0", "type": 1, "env_kwargs": {"control_freq": rate_hz, "robots": ["SampleArm"]}}
        )
        total = 0
        for number, recording in enumerate(recordings):
            steps = control_steps(recording)
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = len(steps)
            demo.attrs["success"] = recording.success
            if options.language:
                demo.attrs["language_instruction"] = recording.task
            demo.create_dataset("actions", data=offset_rows(recording, "action", steps.action))
            demo.create_dataset("states", data=np.concatenate([steps.qpos, steps.block_pose], axis=1))
            demo.create_dataset("rewards", data=steps.reward.astype(np.float64))
            done = np.zeros(len(steps), dtype=np.int64)
            done[-1:] = 1
            demo.create_dataset("dones", data=done)
            seen = {
                "robot0_joint_pos": offset_rows(recording, "state", steps.qpos[:, :4]),
                "robot0_joint_vel": steps.qvel[:, :4],
                "robot0_eef_pos": steps.ee_pose[:, :3],
                "robot0_eef_quat": steps.ee_pose[:, 3:],
                "robot0_gripper_qpos": steps.qpos[:, 4:],
                "object": steps.block_pose,
            }
            obs = demo.create_group("obs")
            for key, rows in seen.items():
                obs.create_dataset(key, data=rows)
            if options.next_obs:
                after = demo.create_group("next_obs")
                for key, rows in seen.items():
                    after.create_dataset(key, data=np.concatenate([rows[1:], rows[-1:]]))
            for name, track in recording.cameras.items() if options.images else ():
                rows = offset_rows(recording, name, steps.frame[name])
                obs.create_dataset(_CAMERA_KEYS[name], data=track.images[rows], chunks=(1, *track.images.shape[1:]), compression=options.compression)
            total += len(steps)
        data.attrs["total"] = total
        tasks = {recording.task for recording in recordings}
        if options.language and len(tasks) == 1:
            data.attrs["problem_info"] = json.dumps({"problem_name": "sample_arm", "language_instruction": next(iter(tasks))})
        if masks:
            mask = file.create_group("mask")
            for split, numbers in masks.items():
                mask.create_dataset(split, data=np.array([f"demo_{number}".encode() for number in numbers], dtype="S"))
    return path
