"""RLDS samples read back with google-crc32c and protobuf messages declared here: nothing of the writer's own code."""

import json
from pathlib import Path
from typing import Any

import cv2
import google_crc32c
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.defects import with_defect
from dataengine.samples.rlds import RldsOptions, write_rlds
from dataengine.samples.steps import control_steps
from dataengine.samples.tfexample import encode_example, masked_crc32c, varint

SMALL = ArmConfig(48, 64, max_steps=9)


def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    for name, kind, packed in (("BytesList", 12, False), ("FloatList", 2, True), ("Int64List", 3, True)):
        entry = file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
        if packed:
            entry.options.packed = True
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        camel = "".join(part.capitalize() for part in name.split("_"))
        feature.field.add(name=name, number=number, label=1, type=11, type_name=f".tf.{camel}", oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".tf.Feature")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".tf.Features.FeatureEntry")
    file.message_type.add(name="Example").field.add(name="features", number=1, label=1, type=11, type_name=".tf.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | ((crc << 17) & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32


def _records(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        assert int.from_bytes(data[at + 8 : at + 12], "little") == _masked(data[at : at + 8])
        payload = data[at + 12 : at + 12 + length]
        assert int.from_bytes(data[at + 12 + length : at + 16 + length], "little") == _masked(payload)
        found.append(payload)
        at += 16 + length
    return found


def _read(path: Path) -> list[dict[str, Any]]:
    example = _example_class()
    out = []
    for payload in _records(path):
        message = example()
        message.ParseFromString(payload)
        out.append({key: list(getattr(feature, feature.WhichOneof("kind")).value) for key, feature in message.features.feature.items()})
    return out


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, index, SMALL) for index in range(5)]


def test_crc_of_a_known_string() -> None:
    assert google_crc32c.value(b"123456789") == 0xE3069283  # RFC 3720, appendix B.4
    assert masked_crc32c(b"123456789") == _masked(b"123456789")


def test_wire_by_hand() -> None:
    assert varint(300) == b"\xac\x02"
    assert varint(-1) == b"\xff" * 9 + b"\x01"
    # Example{features{feature{key "a" value{int64_list{value [3]}}}}}
    assert encode_example({"a": np.array([3])}) == bytes.fromhex("0a0c 0a0a 0a01 61 1205 1a03 0a01 03".replace(" ", ""))


def test_values_frames_and_shards(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    options = RldsOptions(shards=2, ragged=True, languages=3)
    root = write_rlds(tmp_path, {"train": recordings[:4], "val": recordings[4:]}, options)
    assert root == tmp_path / "sample_arm" / "1.0.0"
    info = json.loads((root / "dataset_info.json").read_text())
    assert [(split["name"], split["shardLengths"]) for split in info["splits"]] == [("train", ["2", "2"]), ("val", ["0", "1"])]
    files = sorted(root.glob("*.tfrecord-*"))
    assert [file.name for file in files][:2] == ["sample_arm-train.tfrecord-00000-of-00002", "sample_arm-train.tfrecord-00001-of-00002"]
    assert int(info["splits"][0]["numBytes"]) == files[0].stat().st_size + files[1].stat().st_size
    episodes = [episode for file in files for episode in _read(file)]
    assert len(episodes) == 5
    for recording, episode in zip(recordings, episodes, strict=True):
        steps = control_steps(recording)
        count = len(steps)
        assert np.array_equal(np.array(episode["steps/action"], np.float32).reshape(count, 5), steps.action.astype(np.float32))
        assert np.array_equal(np.array(episode["steps/observation/state"], np.float32).reshape(count, 5), steps.qpos.astype(np.float32))
        assert episode["steps/is_first"] == [1] + [0] * (count - 1)
        assert episode["steps/is_last"] == [0] * (count - 1) + [1]
        assert episode["steps/is_terminal"][-1] == int(recording.success)
        assert episode["steps/language_instruction_3"] == [recording.phrases[2].encode()] * count
        assert episode["episode_metadata/success"] == [int(recording.success)]
        lengths = episode["steps/observation/contacts/ragged_row_lengths_0"]
        assert len(lengths) == count
        assert len(episode["steps/observation/contacts/ragged_flat_values"]) == 2 * sum(lengths)
        frames = episode["steps/observation/image"]
        track = recording.cameras["front"]
        for row in (0, count - 1):
            picture = cv2.imdecode(np.frombuffer(frames[row], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            assert np.abs(picture.astype(int) - track.images[steps.frame["front"][row]]).mean() < 4


def test_png_is_exact(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    root = write_rlds(tmp_path, {"train": recordings[:1]}, RldsOptions(picture="png"))
    episode = _read(next(root.glob("*.tfrecord-*")))[0]
    steps, track = control_steps(recordings[0]), recordings[0].cameras["wrist"]
    for row, data in enumerate(episode["steps/observation/wrist_image"]):
        assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], track.images[steps.frame["wrist"][row]])


def test_features_describe_every_key(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    root = write_rlds(tmp_path, {"train": recordings[:1]}, RldsOptions(ragged=True))

    def leaves(node: dict[str, Any], path: str) -> list[str]:
        if "featuresDict" in node:
            return [leaf for key, inner in node["featuresDict"]["features"].items() for leaf in leaves(inner, f"{path}/{key}")]
        if "sequence" in node and node["pythonClassName"].endswith("Dataset"):
            return leaves(node["sequence"]["feature"], path)
        if "sequence" in node:
            return [f"{path}/ragged_flat_values", f"{path}/ragged_row_lengths_0"]
        return [path]

    declared = {leaf[1:] for leaf in leaves(json.loads((root / "features.json").read_text()), "")}
    assert declared == set(_read(next(root.glob("*.tfrecord-*")))[0])


def test_defects_reach_the_file(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    count = len(recordings[1].action)
    for name in ("unequal_lengths", "longer_tail"):
        root = write_rlds(tmp_path / name, {"train": [with_defect(recordings[1], name)]})
        episode = _read(next(root.glob("*.tfrecord-*")))[0]
        assert len(episode["steps/action"]) == 5 * (count - 7 if name == "unequal_lengths" else count)
        assert len(episode["steps/observation/state"]) == 5 * (count + 1 if name == "longer_tail" else count)
    root = write_rlds(tmp_path / "missing", {"train": [with_defect(record(0, 1, ArmConfig(48, 48, control_hz=30)), "missing_frame")]})
    assert _read(next(root.glob("*.tfrecord-*")))[0]["steps/observation/image"].count(b"") == 1
