"""Genuine RLDS datasets in the TFDS layout: `<name>/<version>/` with features.json, dataset_info.json and sharded TFRecords.

Source: tfds `core/example_serializer.py` and `core/features/*`; the shared sample of octo.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.samples.arm import ArmRecording
from dataengine.samples.pictures import PictureFormat, encoded_frames
from dataengine.samples.steps import control_steps, offset_rows
from dataengine.samples.tfexample import FeatureValue, encode_example, write_record

_CLASSES = {
    "dict": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "dataset": "tensorflow_datasets.core.features.dataset_feature.Dataset",
    "sequence": "tensorflow_datasets.core.features.sequence_feature.Sequence",
    "tensor": "tensorflow_datasets.core.features.tensor_feature.Tensor",
    "scalar": "tensorflow_datasets.core.features.scalar.Scalar",
    "text": "tensorflow_datasets.core.features.text_feature.Text",
    "image": "tensorflow_datasets.core.features.image_feature.Image",
}
_CAMERA_KEYS = {"front": "image", "wrist": "wrist_image"}


@dataclass(frozen=True)
class RldsOptions:
    """How a dataset is written.

    Args:
        name: of the dataset (its folder).
        version: of the dataset (the folder inside).
        shards: files for each split.
        picture: format of the frames.
        quality: of JPEG frames.
        languages: how many language_instruction fields (1 to 3) each step has.
        ragged: adds `steps/observation/contacts`, a list of contact points (n, 2) for each step, of differing length.
        rate_in_description: writes the control rate into the description of dataset_info.json.
    """

    name: str = "sample_arm"
    version: str = "1.0.0"
    shards: int = 1
    picture: PictureFormat = "jpeg"
    quality: int = 95
    languages: int = 2
    ragged: bool = False
    rate_in_description: bool = True


def _tensor(shape: Sequence[int], dtype: str, description: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"pythonClassName": _CLASSES["tensor" if shape else "scalar"]}
    spec["tensor"] = {"shape": {"dimensions": [str(size) for size in shape]} if shape else {}, "dtype": dtype, "encoding": "none"}
    return spec | ({"description": description} if description else {})


def _text(description: str = "") -> dict[str, Any]:
    return {"pythonClassName": _CLASSES["text"], "text": {}} | ({"description": description} if description else {})


def _mapping(features: Mapping[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": _CLASSES["dict"], "featuresDict": {"features": dict(features)}}


def rlds_features(recording: ArmRecording, options: RldsOptions) -> dict[str, Any]:
    """Return the content of features.json."""
    observation: dict[str, Any] = {
        "state": _tensor((5,), "float32", "Shoulder, elbow, wrist (rad), lift (m), gripper opening (0 closed, 1 open)."),
        "ee_pose": _tensor((7,), "float32", "Hand in the base frame: position (m) and quaternion x, y, z, w."),
        "joint_velocity": _tensor((5,), "float64", "Velocities of state."),
    }
    for name, track in recording.cameras.items():
        dimensions = [str(size) for size in track.images.shape[1:]]
        image = {"shape": {"dimensions": dimensions}, "dtype": "uint8", "encodingFormat": options.picture}
        observation[_CAMERA_KEYS[name]] = {"pythonClassName": _CLASSES["image"], "image": image, "description": f"The {name} camera."}
    if options.ragged:
        observation["contacts"] = {
            "pythonClassName": _CLASSES["sequence"],
            "sequence": {"feature": _tensor((2,), "float32"), "length": "-1"},
            "description": "Points (m) at which the hand touches the block; none where it does not.",
        }
    steps: dict[str, Any] = {
        "observation": _mapping(observation),
        "action": _tensor((5,), "float32", "Commanded joint positions and gripper opening, absolute, in the terms of state."),
        "action_dict": _mapping({"joint_position": _tensor((4,), "float64"), "gripper_position": _tensor((1,), "float64")}),
        "reward": _tensor((), "float32"),
        "discount": _tensor((), "float32"),
        "is_first": _tensor((), "bool"),
        "is_last": _tensor((), "bool"),
        "is_terminal": _tensor((), "bool"),
    }
    for number in range(options.languages):
        steps["language_instruction" if number == 0 else f"language_instruction_{number + 1}"] = _text("What is asked.")
    metadata = {"episode_id": _tensor((), "int32"), "file_path": _text(), "success": _tensor((), "bool"), "seed": _tensor((), "int64")}
    dataset = {"pythonClassName": _CLASSES["dataset"], "sequence": {"feature": _mapping(steps), "length": "-1"}}
    return _mapping({"steps": dataset, "episode_metadata": _mapping(metadata)})


def _contacts(recording: ArmRecording) -> tuple[FeatureValue, FeatureValue]:
    """Return the flat points (sum n, 2) and the numbers of points (T,): two while held, one while pushed, none otherwise."""
    steps = control_steps(recording)
    counts = np.where(steps.contact, np.where(steps.block_pose[:, 2] > 0, 2, 1), 0)
    points = [steps.block_pose[row, :2] + 0.01 * point for row, count in enumerate(counts) for point in range(count)]
    return np.array(points, dtype=np.float32).reshape(-1, 2), counts.astype(np.int64)


def rlds_example(recording: ArmRecording, options: RldsOptions) -> dict[str, FeatureValue]:
    """Return the flat features of one episode."""
    steps = control_steps(recording)
    count = len(steps)
    terminal = np.zeros(count, dtype=bool)
    terminal[-1:] = recording.success
    features: dict[str, FeatureValue] = {
        "steps/observation/state": offset_rows(recording, "state", steps.qpos).astype(np.float32),
        "steps/observation/ee_pose": steps.ee_pose.astype(np.float32),
        "steps/observation/joint_velocity": steps.qvel,
        "steps/action": offset_rows(recording, "action", steps.action).astype(np.float32),
        "steps/action_dict/joint_position": steps.action[:, :4],
        "steps/action_dict/gripper_position": steps.action[:, 4:],
        "steps/reward": steps.reward,
        "steps/discount": np.ones(count, dtype=np.float32),
        "steps/is_first": np.arange(count) == 0,
        "steps/is_last": np.arange(count) == count - 1,
        "steps/is_terminal": terminal,
        "episode_metadata/episode_id": np.array([recording.index]),
        "episode_metadata/file_path": [f"arm/seed_{recording.seed}/{recording.name}".encode()],
        "episode_metadata/success": np.array([recording.success]),
        "episode_metadata/seed": np.array([recording.seed]),
    }
    for name, track in recording.cameras.items():
        frames = encoded_frames(track, options.picture, options.quality)
        seen = [frames[row] for row in steps.frame[name]]
        offset = recording.row_offsets.get(name, 0)
        features[f"steps/observation/{_CAMERA_KEYS[name]}"] = seen[:offset] if offset < 0 else seen + seen[-1:] * offset
    for number in range(options.languages):
        key = "steps/language_instruction" if number == 0 else f"steps/language_instruction_{number + 1}"
        features[key] = [recording.phrases[number % len(recording.phrases)].encode()] * count
    if options.ragged:
        points, lengths = _contacts(recording)
        features["steps/observation/contacts/ragged_flat_values"] = points
        features["steps/observation/contacts/ragged_row_lengths_0"] = lengths
    return features


def write_dataset(folder: Path, options: RldsOptions, features: Mapping[str, Any], splits: Mapping[str, tuple[int, Iterable[bytes]]], rate_hz: float) -> Path:
    """Write the files of a dataset from serialised examples; return its version folder.

    Args:
        folder: gets `<name>/<version>/`.
        options: how it is written.
        features: content of features.json.
        splits: for each split the number of its examples and the examples, which are taken one at a time.
        rate_hz: the control rate, for the description.
    """
    root = folder / options.name / options.version
    root.mkdir(parents=True, exist_ok=True)
    infos = []
    for split, (count, examples) in splits.items():
        lengths = [count * (shard + 1) // options.shards - count * shard // options.shards for shard in range(options.shards)]
        remaining, size = iter(examples), 0
        for shard, length in enumerate(lengths):
            with (root / f"{options.name}-{split}.tfrecord-{shard:05d}-of-{options.shards:05d}").open("wb") as file:
                size += sum(write_record(file, next(remaining)) for _ in range(length))
        infos.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(size),
                "shardLengths": [str(length) for length in lengths],
            }
        )
    rate = f" Commands at {rate_hz:g} Hz." if options.rate_in_description else ""
    info = {
        "citation": "",
        "description": f"A simulated arm pushes and lifts a block.{rate}",
        "fileFormat": "tfrecord",
        "moduleName": f"{options.name}.{options.name}_dataset_builder",
        "name": options.name,
        "releaseNotes": {options.version: "First release."},
        "splits": infos,
        "version": options.version,
    }
    (root / "features.json").write_text(json.dumps(features, indent=4))
    (root / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return root


def write_rlds(folder: Path, splits: Mapping[str, Sequence[ArmRecording]], options: RldsOptions | None = None) -> Path:
    """Write recordings as an RLDS dataset with the given splits; return its version folder."""
    options = options or RldsOptions()
    first = next(recording for recordings in splits.values() for recording in recordings)
    examples = {split: (len(items), (encode_example(rlds_example(item, options)) for item in items)) for split, items in splits.items()}
    return write_dataset(folder, options, rlds_features(first, options), examples, first.config.control_hz)
