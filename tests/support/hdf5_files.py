"""Tiny HDF5 recordings whose values are known, and an independent reading of a file to hold a reader's result against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.support.child import EpisodeDigest, Reading, array_digest, items_digest, run_reader

READER = "dataengine.sources.hdf5"
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


def _expected(values: Any) -> str:
    array = np.asarray(values)
    return array_digest(array.astype(array.dtype.newbyteorder("=")))


def _compare_pictures(dataset: Any, stream: Any) -> str:
    """Compare compressed rows: each must be the row's bytes up to where only zeros follow, or up to an end marker."""
    rows = [row.tobytes() for row in dataset[()]]
    whole = [row.rstrip(b"\0") for row in rows]
    encodings = {"jpeg", "png"}
    if any(items_digest((encoding, data) for data in whole) == stream.values for encoding in encodings):
        return ""
    return "rows differ"


ALOHA_STREAMS = {
    "observation.state": "observations/qpos",
    "observation.velocity": "observations/qvel",
    "observation.effort": "observations/effort",
    "action": "action",
    "action.base": "base_action",
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


def differences(path: Path, episode: EpisodeDigest) -> list[str]:
    """Return where an episode that landed is not what plain h5py reads from the same file."""
    found = []
    with h5py.File(path, "r") as file:
        group = file[f"data/{episode.key}"] if episode.key else file
        names = ROBOMIMIC_STREAMS if episode.key else ALOHA_STREAMS
        for name, stream in episode.streams.items():
            source = episode.sources[name]
            if name in names and source != names[name]:
                found.append(f"{name}: comes from {source!r}")
            if source not in group:  # a name that is no Unicode is shown in another way
                source = next((path for path in _paths(group) if path.encode("utf-8", "backslashreplace").decode() == source), "")
            if not source:
                found.append(f"{name}: no such dataset")
                continue
            dataset = group[source]
            if stream.kind == "items":
                wrong = _compare_pictures(dataset, stream) if dataset.ndim == 2 else ""
            else:
                wrong = "" if _expected(dataset[()]) == stream.values else "values differ"
            if stream.rows != dataset.shape[0]:
                wrong = f"{stream.rows} rows for {dataset.shape}"
            if wrong:
                found.append(f"{name}: {wrong}")
    return found


def _paths(group: Any) -> list[str]:
    paths: list[str] = []
    group.visititems(lambda path, thing: paths.append(path) if isinstance(thing, h5py.Dataset) else None)
    return paths


def read_and_compare(folder: str) -> tuple[Reading, list[str]]:
    """Read a folder with the reader, then each episode that landed with plain h5py; return the reading and where the two differ."""
    reading = run_reader(READER, folder)
    path = next(item for item in Path(folder).iterdir())
    wrong = [f"{episode.key}: {text}" for episode in reading.episodes for text in differences(path, episode)]
    return reading, wrong


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "aloha-raw": lambda path: write_aloha(path),
    "aloha-jpeg": lambda path: write_aloha(path, compressed=True),
    "aloha-gzip": lambda path: write_aloha(path, gzip=True),
    "robomimic-raw": lambda path: write_robomimic(path),
    "robomimic-gzip": lambda path: write_robomimic(path, gzip=True),
}
