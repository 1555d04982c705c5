"""Tiny HDF5 recordings whose values are known, and an independent reading of a file to hold a reader's result against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames, Items
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.hdf5.tree import printable
from dataengine.sources.listing import list_source
from tests.support.child import Reading, run_reader

READER = "dataengine.sources.hdf5.reader"
CAMERAS = ("cam_high", "cam_low", "cam_left_wrist")  # ALOHA's own order, which is not the alphabet's


def jpeg(seed: int, height: int = 24, width: int = 32) -> bytes:
    """Return a JPEG of smooth colours and some noise."""
    import cv2

    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256
    pixels = np.stack([ramp, np.roll(ramp, seed, axis=0), rng.integers(0, 255, (height, width))], axis=-1).astype(np.uint8)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60 + seed % 30])
    assert done
    return bytes(data.tobytes())


def write_aloha(path: Path, steps: int = 6, *, compressed: bool = False, seed: int = 0, with_lengths: bool = True, gzip: bool = False) -> dict[str, Any]:
    """Write an ALOHA episode; return what was written by dataset path (compressed cameras as lists of JPEG bytes)."""
    rng = np.random.default_rng(seed)
    wrote: dict[str, Any] = {
        "observations/qpos": rng.normal(size=(steps, 14)),
        "observations/qvel": rng.normal(size=(steps, 14)).astype(np.float32),
        "observations/effort": rng.normal(size=(steps, 14)),
        "action": rng.normal(size=(steps, 14)),
        "base_action": rng.normal(size=(steps, 2)),
    }
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = False
        for name, values in wrote.items():
            file.create_dataset(name, data=values, chunks=(2, values.shape[1]) if gzip else None, compression="gzip" if gzip else None)
        lengths = []
        for number, camera in enumerate(CAMERAS):
            key = f"observations/images/{camera}"
            if compressed:
                frames = [jpeg(seed + 100 * number + row) for row in range(steps)]
                longest = max(map(len, frames)) + 7
                padded = np.zeros((steps, longest), np.uint8)
                for row, data in enumerate(frames):
                    padded[row, : len(data)] = np.frombuffer(data, np.uint8)
                file.create_dataset(key, data=padded, chunks=(1, longest))
                lengths.append([len(data) for data in frames])
                wrote[key] = frames
            else:
                wrote[key] = rng.integers(0, 256, (steps, 12, 16, 3), dtype=np.uint8)
                file.create_dataset(key, data=wrote[key], chunks=(1, 12, 16, 3), compression="gzip" if gzip else None)
        if compressed and with_lengths:
            file["compress_len"] = np.array(lengths, dtype=np.float32)  # float32 is what create_dataset without a type makes
    return wrote


def write_texts(path: Path, steps: int = 5) -> dict[str, Any]:
    """Write an ALOHA episode with everything that is less usual: texts and bytes of varying length, lzf, fletcher32, enums, newest file format."""
    rng = np.random.default_rng(5)
    wrote: dict[str, Any] = {
        "action": rng.normal(size=(steps, 7)).astype(">f4"),
        "observations/qpos": rng.normal(size=(steps, 7)),
        "observations/qvel": rng.integers(-9, 9, (steps, 7)).astype(np.int16),
        "observations/contact": rng.integers(0, 2, steps).astype(bool),
        "observations/note": [f"step {row}: \u00e4" for row in range(steps)],
        "observations/images/cam": [jpeg(row) for row in range(steps)],
    }
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["task"] = "fold the towel"
        file.attrs["success"] = True
        file.create_dataset("action", data=wrote["action"], compression="gzip", shuffle=True, fletcher32=True, chunks=(2, 4))
        file.create_dataset("observations/qpos", data=wrote["observations/qpos"], compression="lzf", chunks=(2, 7))
        file.create_dataset("observations/qvel", data=wrote["observations/qvel"], fletcher32=True, chunks=(3, 7))
        file["observations/contact"] = wrote["observations/contact"]
        file.create_dataset("observations/note", data=wrote["observations/note"], dtype=h5py.string_dtype())
        images = file.create_dataset("observations/images/cam", (steps,), h5py.vlen_dtype(np.uint8), chunks=(2,), compression="gzip")
        for row, data in enumerate(wrote["observations/images/cam"]):
            images[row] = np.frombuffer(data, np.uint8)
        file["instruction_count"] = 3
    return wrote


def write_robomimic(path: Path, demos: dict[str, int] | None = None, *, images: bool = True, gzip: bool = False, seed: int = 0) -> dict[str, Any]:
    """Write a robomimic file with demos of the given numbers of steps; return what was written by dataset path."""
    import json

    rng = np.random.default_rng(seed)
    wrote: dict[str, Any] = {}
    packing: dict[str, Any] = {"compression": "gzip", "shuffle": True} if gzip else {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        kwargs = {
            "robots": ["Panda"],
            "control_freq": 20,
            "reward_shaping": False,
            "controller_configs": {"type": "OSC_POSE", "control_delta": True, "input_max": 1, "input_min": -1, "output_max": [0.05] * 3 + [0.5] * 3},
        }
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": kwargs})
        for key, steps in (demos or {"demo_0": 5, "demo_10": 3, "demo_2": 4}).items():
            demo = data.create_group(key)
            demo.attrs["model_file"] = "<mujoco/>"
            demo.attrs["num_samples"] = steps
            rewards = np.zeros(steps)
            rewards[-1] = float(key != "demo_10")
            values: dict[str, Any] = {
                "actions": rng.uniform(-1, 1, (steps, 7)),
                "states": rng.normal(size=(steps, 11)),
                "rewards": rewards,
                "dones": np.eye(1, steps, steps - 1, dtype=np.int64)[0],
                "obs/robot0_eef_pos": rng.normal(size=(steps, 3)),
                "next_obs/robot0_eef_pos": rng.normal(size=(steps, 3)),
            }
            if images:
                values["obs/agentview_image"] = rng.integers(0, 256, (steps, 10, 14, 3), dtype=np.uint8)
            for name, array in values.items():
                demo.create_dataset(name, data=array, **packing)
                wrote[f"data/{key}/{name}"] = array
        keys = [key.encode() for key in demos or ("demo_0", "demo_10", "demo_2")]
        file["mask/train"] = np.array(keys[:2])
        file["mask/valid"] = np.array(keys[2:] or keys[:1])
    return wrote


# --- an independent reading ----------------------------------------------------------------------------------------------------------

ALOHA_STREAMS = {
    "observation.state": "observations/qpos",
    "observation.velocity": "observations/qvel",
    "observation.effort": "observations/effort",
    "action": "action",
    "action.base": "base_action",
    **{f"observation.images.{camera}": f"observations/images/{camera}" for camera in CAMERAS},
}
ROBOMIMIC_STREAMS = {
    "action": "actions",
    "observation.state": "states",
    "reward": "rewards",
    "done": "dones",
    "observation.robot0_eef_pos": "obs/robot0_eef_pos",
    "next_observation.robot0_eef_pos": "next_obs/robot0_eef_pos",
    "observation.images.agentview": "obs/agentview_image",
}


def episodes(folder: str | Path, options: ReadOptions | None = None) -> list[Episode | Rejected | Noticed]:
    """Return what the reader makes of a folder, in memory; a BadRecording goes up."""
    listing = list_source(str(folder))
    found = []
    for item in hdf5.find(listing).items:
        found.extend(episodes_of(hdf5.read(item, listing.opener, options or ReadOptions())))
    return found


def only(folder: str | Path, options: ReadOptions | None = None) -> Episode:
    """Return the one episode of a folder."""
    (episode,) = episodes(folder, options)
    assert isinstance(episode, Episode), episode
    return episode


def differences(path: Path, episode: Episode) -> list[str]:
    """Return where an episode that landed is not what plain h5py reads from the same file."""
    found = []
    key = episode.info.key
    with h5py.File(path, "r") as file:
        group = file
        if key:  # a mutant may have given a demo a name that is no Unicode, which is shown in another way
            shown = {printable(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")): name for name in file["data"]}
            group = file["data"][shown[key]]
        known = ROBOMIMIC_STREAMS if key else ALOHA_STREAMS
        for name, stream in episode.streams.items():
            source = stream.column.extra["source"]
            if name in known and source != known[name]:
                found.append(f"{name}: comes from {source!r}")
            if source in group and len(stream) != group[source].shape[0]:
                found.append(f"{name}: {len(stream)} rows for {group[source].shape}")
            elif source in group:  # a mutant may have given it a name that is no Unicode, which is shown in another way
                found.extend(f"{name}: {text}" for text in _unlike(group[source][()], stream.values))
    return found


def _unlike(expected: Any, values: Any) -> list[str]:
    if isinstance(values, Items) and expected.ndim == 1:
        rows = [row.tobytes() if isinstance(row, np.ndarray) else row for row in expected]
        wrong = [row for row, data in enumerate(values.data) if not rows[row].startswith(data) or rows[row][len(data) :].strip(b"\0")]
        return [f"rows {wrong} are not the file's"] if wrong else []
    if isinstance(values, Items):
        wrong = [row for row, (data, padded) in enumerate(zip(values.data, expected, strict=True)) if not _fits(bytes(data), padded.tobytes())]
        return [f"rows {wrong} are not the file's"] if wrong else []
    array = values.pixels if isinstance(values, Frames) else values
    same = array.dtype == expected.dtype.newbyteorder("=") and np.array_equal(array.view(np.uint8), expected.astype(array.dtype).view(np.uint8))
    return [] if same else [f"{array.dtype} values differ from {expected.dtype}"]


def _fits(data: bytes, padded: bytes) -> bool:
    """Whether a picture is the start of its row, and what was cut off is padding: zeros, or anything behind an end marker."""
    return padded.startswith(data) and (not padded[len(data) :].strip(b"\0") or data.endswith(b"\xff\xd9"))


def read_and_compare(folder: str) -> tuple[Reading, list[str]]:
    """Read a folder with the reader, then each episode that landed with plain h5py; return the reading and where the two differ."""
    reading = run_reader(READER, folder)
    if not reading.episodes:
        return reading, []
    path = next(item for item in Path(folder).iterdir())
    landed: list[Episode] = []
    try:
        landed.extend(episode for episode in episodes(folder) if isinstance(episode, Episode))
    except BadRecording:
        return reading, ["a second reading was rejected"]
    return reading, [f"{episode.info.key}: {text}" for episode in landed for text in differences(path, episode)]


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "aloha-raw": lambda path: write_aloha(path),
    "aloha-jpeg": lambda path: write_aloha(path, compressed=True),
    "aloha-gzip": lambda path: write_aloha(path, gzip=True),
    "robomimic-raw": lambda path: write_robomimic(path),
    "robomimic-gzip": lambda path: write_robomimic(path, gzip=True),
    "aloha-texts": lambda path: write_texts(path),
}
