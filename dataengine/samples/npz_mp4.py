"""MP4 with an NPZ beside it: pairs by name, in folders side by side, or a folder for each recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.json_mp4 import arm_rows
from dataengine.samples.numbered_film import numbered_frames, write_numbered_film

EPOCH_S = 1_650_000_000


@dataclass(frozen=True)
class NpzMp4Options:
    """How a recording is written.

    Args:
        frames: of each film, and rows of states.
        layout: the pair by name, in folders side by side, or one folder a recording.
        cameras: names of the films; one film has the archive's own name.
        times: writes `time_stamp`, seconds since 1970 in eighths.
        packed: deflates the archive.
        rate_hz: of the films.
    """

    frames: int = 10
    layout: Literal["stem", "aside", "folder"] = "stem"
    cameras: tuple[str, ...] = ("",)
    times: bool = False
    packed: bool = True
    rate_hz: float = 5.0


def arrays_of(options: NpzMp4Options, number: int = 0) -> dict[str, Array]:
    """Return the arrays of a recording: states of each frame, commands between them, a text, a matrix of a camera."""
    motion = arm_rows(options.frames, number)
    found: dict[str, Any] = {
        "states": np.concatenate([motion["pose"], motion["gripper"][:, None]], axis=1).astype(np.float32),
        "actions": np.diff(motion["pose"], axis=0),
        "terminals": np.arange(options.frames) == options.frames - 1,
        "language": np.array("put the spoon into the pot"),
        "camera_matrix": np.eye(3),
    }
    if options.times:
        found["time_stamp"] = EPOCH_S + np.arange(options.frames) / 4 + (np.arange(options.frames) % 2) / 8
    return found


def write_npz_mp4(folder: Path, options: NpzMp4Options | None = None, number: int = 0) -> Path:
    """Write one recording into the set `folder`; return its archive."""
    options = options or NpzMp4Options()
    stem = f"traj{number:03d}"
    home = {"stem": folder, "aside": folder / "npz", "folder": folder / stem}[options.layout]
    films = {"stem": folder, "aside": folder / "videos", "folder": folder / stem}[options.layout]
    home.mkdir(parents=True, exist_ok=True)
    path = home / ("trajectory.npz" if options.layout == "folder" else f"{stem}.npz")
    (np.savez_compressed if options.packed else np.savez)(path, **arrays_of(options, number))  # type: ignore[arg-type]
    for place, camera in enumerate(options.cameras):
        name = camera or "film" if options.layout == "folder" else f"{stem}_{camera}" if camera else stem
        write_numbered_film(films / f"{name}.mp4", numbered_frames(options.frames, place, number), options.rate_hz)
    return path
