"""Recordings in the layout of EgoDex: `<part>/<task>/<i>.hdf5` with a pose of each joint for each frame, and `<i>.mp4` beside it.

Source: the project's page and loaders (https://github.com/apple/ml-egodex): 68 joints of the upper body and hands, and the camera, float32 4x4 matrices in ARKit's world
frame; attributes as in its description. The motion is made up: a body that turns slowly, with fingers that open and close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording
from dataengine.samples.video import VideoOptions, write_film

_SIDE = ("Hand", "Forearm", "Arm", "Shoulder")
_FINGER = ("Metacarpal", "Knuckle", "IntermediateBase", "IntermediateTip", "Tip")


def joint_names() -> list[str]:
    """Return the 68 tracked joints: 25 of each hand with its wrist, forearm, arm and shoulder, and 12 of the trunk."""
    names = ["hip", *(f"spine{number}" for number in range(1, 8)), *(f"neck{number}" for number in range(1, 5))]
    for side in ("left", "right"):
        names += [side + part for part in _SIDE]
        names += [f"{side}Thumb{part}" for part in _FINGER[1:]]
        names += [f"{side}{finger}Finger{part}" for finger in ("Index", "Middle", "Ring", "Little") for part in _FINGER]
    return names


@dataclass(frozen=True)
class EgodexOptions:
    """How files are written.

    Args:
        confidences: writes `confidences/<joint>`, as newer files have it.
        reversible: two descriptions, of which `which` was done.
        which: "1" or "2".
        extra_poses: rows more (or fewer, below 0) than the video has frames.
        joints: only the first so many joints, for small files; None for all.
    """

    confidences: bool = True
    reversible: bool = False
    which: str = "1"
    extra_poses: int = 0
    joints: int | None = None


def poses(count: int, joint: int) -> Array:
    """Return (count, 4, 4) float32: a turn about the vertical axis and a path that differ for each joint."""
    t = np.arange(count) / 30.0
    angle = 0.3 * t + 0.01 * joint
    out = np.zeros((count, 4, 4))
    out[:, 0, 0] = out[:, 2, 2] = np.cos(angle)
    out[:, 0, 2], out[:, 2, 0] = np.sin(angle), -np.sin(angle)
    out[:, 1, 1] = out[:, 3, 3] = 1.0
    out[:, :3, 3] = np.stack([0.01 * joint + 0.1 * t, 1.0 + 0.001 * joint * t, -0.2 * np.cos(t)], axis=1)
    return out.astype(np.float32)


def write_egodex(folder: Path, recordings: Sequence[ArmRecording], options: EgodexOptions | None = None, task: str = "add_remove_lid") -> list[Path]:
    """Write `<task>/<i>.hdf5` and `.mp4` below a part's folder; return the HDF5 files."""
    import h5py

    options = options or EgodexOptions()
    (folder / task).mkdir(parents=True, exist_ok=True)
    paths = []
    for number, recording in enumerate(recordings):
        path = folder / task / f"{number}.hdf5"
        camera = next(iter(recording.cameras))
        write_film(path.with_suffix(".mp4"), recording, [camera], VideoOptions())
        images = recording.cameras[camera].images
        count, height, width = len(images) + options.extra_poses, images.shape[1], images.shape[2]
        with h5py.File(path, "w") as file:
            intrinsic = [[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]]
            file.create_dataset("camera/intrinsic", data=np.array(intrinsic, dtype=np.float32))
            for place, joint in enumerate(["camera", *joint_names()[: options.joints]]):
                file.create_dataset(f"transforms/{joint}", data=poses(count, place))
                if options.confidences and joint != "camera":
                    file.create_dataset(f"confidences/{joint}", data=np.full(count, 0.5 + 0.005 * place, dtype=np.float32))
            for name, value in _attributes(recording, options, task, number).items():
                file.attrs[name] = value
        paths.append(path)
    return paths


def _attributes(recording: ArmRecording, options: EgodexOptions, task: str, number: int) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "annotated": True,
        "annotator_version": "1",
        "environment": "table",
        "extra": "",
        "object": "jar",
        "session_name": f"session_{number}",
        "task": task,
        "type": "reversible" if options.reversible else "single",
        "llm_type": "reversible" if options.reversible else "single",
        "llm_description": recording.task,
        "llm_objects": ["jar", "lid"],
        "llm_verbs": ["put"],
        "description": recording.task,
    }
    if options.reversible:
        kept |= {"llm_description2": f"undo: {recording.task}", "description2": f"undo: {recording.task}", "which_llm_description": options.which}
    return kept
