"""Genuine UMI replay buffers of the sample world, as `07_generate_replay_buffer.py` of UMI lays them out: a Zarr 2 group, zipped or as a folder.

Every frame is one chunk that is one JPEG XL picture; numbers are packed with blosc. Written with zarr-python and imagecodecs, not with the project's own reader.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.arm import ArmRecording
from dataengine.samples.steps import control_steps

MAX_WIDTH_M = 0.08

FramePacking = Literal["jpegxl", "blosc"]


@dataclass(frozen=True)
class UmiOptions:
    """How a buffer is written.

    Args:
        zipped: `<name>.zarr.zip`, members stored, as UMI does; else a folder `<name>.zarr`.
        frames: "jpegxl": one picture a chunk, nearly lossless (level 99); "blosc": 16 raw frames a chunk.
        zarr_format: 2 as UMI writes it, or 3.
        name: of the file or folder.
    """

    zipped: bool = True
    frames: FramePacking = "jpegxl"
    zarr_format: Literal[2, 3] = 2
    name: str = "dataset"


def rotvec_of(angle_rad: Array) -> Array:
    """Return (N, 3) rotation vectors about z of (N,) angles."""
    return np.stack([np.zeros_like(angle_rad), np.zeros_like(angle_rad), angle_rad], axis=1)


def _arrays(recordings: Sequence[ArmRecording]) -> tuple[dict[str, Array], Array]:
    """Return the arrays of `data` over all recordings, and the ends of the episodes: one arm is robot 0, with its wrist camera."""
    parts: dict[str, list[Array]] = {}
    ends: list[int] = []
    for recording in recordings:
        steps = control_steps(recording)
        positions = np.asarray(steps.ee_pose[:, :3], np.float32)
        rotations = rotvec_of(2 * np.arctan2(steps.ee_pose[:, 5], steps.ee_pose[:, 6])).astype(np.float32)
        poses = np.concatenate([positions, rotations], axis=1).astype(np.float64)
        rows: dict[str, Array] = {
            "robot0_eef_pos": positions,
            "robot0_eef_rot_axis_angle": rotations,
            "robot0_gripper_width": np.asarray(steps.qpos[:, 4:5] * MAX_WIDTH_M, np.float32),
            "robot0_demo_start_pose": np.repeat(poses[:1], len(poses), axis=0),
            "robot0_demo_end_pose": np.repeat(poses[-1:], len(poses), axis=0),
            "camera0_rgb": recording.cameras["wrist"].images[steps.frame["wrist"]],
        }
        for name, values in rows.items():
            parts.setdefault(name, []).append(values)
        ends.append((ends[-1] if ends else 0) + len(poses))
    return {name: np.concatenate(values) for name, values in parts.items()}, np.array(ends, np.int64)


def write_umi(folder: Path, recordings: Sequence[ArmRecording], options: UmiOptions | None = None) -> Path:
    """Write recordings as one replay buffer; return its file or folder."""
    options = options or UmiOptions()
    folder.mkdir(parents=True, exist_ok=True)
    data, ends = _arrays(recordings)
    path = folder / f"{options.name}.zarr{'.zip' if options.zipped else ''}"
    write_buffer(path, data, ends, options)
    return path


def write_buffer(path: Path, data: dict[str, Array], ends: Array, options: UmiOptions) -> None:
    """Write arrays with a row for each step, and the ends of the episodes, as a replay buffer."""
    import numcodecs
    import zarr
    import zarr.storage
    from imagecodecs.numcodecs import Jpegxl

    numcodecs.register_codec(Jpegxl)
    store: Any = zarr.storage.ZipStore(path, mode="w") if options.zipped else zarr.storage.LocalStore(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python remarks on each zip member that is written again
        root = zarr.open_group(store, mode="w", zarr_format=options.zarr_format)
        for group, arrays in (("data", data), ("meta", {"episode_ends": ends})):
            into = root.create_group(group)
            for name, values in arrays.items():
                chunks, packed = _packing(values, options, Jpegxl)
                array = into.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, compressors=packed, fill_value=0)
                array[...] = values
        store.close()


def _packing(values: Array, options: UmiOptions, jpegxl: Any) -> tuple[tuple[int, ...], Any]:
    import numcodecs
    import zarr.codecs

    if values.ndim == 4 and options.frames == "jpegxl":
        return (1, *values.shape[1:]), jpegxl(level=99, numthreads=1)
    rows = 16 if values.ndim == 4 else 161  # neither divides the rows of a recording
    if options.zarr_format == 3:
        return (min(rows, len(values)), *values.shape[1:]), zarr.codecs.BloscCodec(cname="zstd", clevel=5)
    return (min(rows, len(values)), *values.shape[1:]), numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
