"""Annotation JSON beside MP4, as Ctrl-World's script makes it of DROID: rows of 15 Hz in the JSON, and video of each third of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film


@dataclass(frozen=True)
class JsonMp4Options:
    """How a set is written.

    Args:
        raw: writes the rows at the robot's own rate too, `stride` of them to a frame.
        stride: rows to a frame.
        rate_hz: of the video.
        more_frames: how many frames more than states there are.
        texts: of each episode.
    """

    raw: bool = True
    stride: int = 3
    rate_hz: float = 5.0
    more_frames: int = 0
    texts: Sequence[str] = ("put the cup down",)


def arm_rows(rows: int, seed: int) -> dict[str, Array]:
    """Return smooth motion of an arm with a gripper: (rows, 6) poses, (rows, 7) joints, (rows,) gripper; no two rows are equal."""
    time_s = np.arange(rows, dtype=np.float64)[:, None] / 15
    phase = np.random.default_rng(seed).uniform(0, 6, 7)
    joints = 0.4 * np.sin(0.7 * time_s + phase) + 0.01 * time_s
    pose = np.concatenate([0.4 + 0.1 * np.sin(0.5 * time_s + phase[:3]), 0.2 * np.cos(0.4 * time_s + phase[3:6])], axis=1)
    return {"pose": pose, "joints": joints, "gripper": 0.5 + 0.5 * np.sin(time_s[:, 0] + phase[6])}


def write_json_mp4(folder: Path, lengths: Sequence[int], options: JsonMp4Options | None = None, split: str = "train", seed: int = 0) -> list[Path]:
    """Write one episode for each length (in raw rows) into the set `folder`; return the annotations."""
    options = options or JsonMp4Options()
    paths = []
    for number, rows in enumerate(lengths):
        motion = arm_rows(rows, seed + number)
        states = np.concatenate([motion["pose"], motion["gripper"][:, None]], axis=1)[:: options.stride]
        frames = len(states) + options.more_frames
        names = [f"videos/{split}/{number}/{camera}.mp4" for camera in range(3)]
        for camera, name in enumerate(names):
            write_numbered_film(folder / name, numbered_frames(frames, camera, number), options.rate_hz)
        content: dict[str, Any] = {"texts": list(options.texts), "episode_id": number, "success": 1, "video_length": len(states)}
        content["videos"] = [{"video_path": name} for name in names]
        content["latent_videos"] = [{"latent_video_path": f"latent_{name.removesuffix('.mp4')}.pt"} for name in names]
        content["states"] = states.tolist()
        if options.raw:
            content |= {"state_length": len(states), "raw_length": rows, "observation.state.cartesian_position": motion["pose"].tolist()}
            content |= {"observation.state.joint_position": motion["joints"].tolist(), "observation.state.gripper_position": motion["gripper"].tolist()}
            content |= {"action.cartesian_position": (motion["pose"] + 0.002).tolist(), "action.gripper_position": motion["gripper"].tolist()}
        else:
            joints = np.concatenate([motion["joints"], motion["gripper"][:, None]], axis=1)[:: options.stride]
            content["joints"] = joints.tolist()
        path = folder / "annotation" / split / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2))
        paths.append(path)
    return paths
