"""MCAP samples read back with the decoders of the mcap project."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory as ProtobufDecoder
from mcap_ros1.decoder import DecoderFactory as Ros1Decoder
from mcap_ros2.decoder import DecoderFactory as Ros2Decoder

from dataengine.samples.arm import QPOS_NAMES, ArmConfig, ArmRecording, record
from dataengine.samples.mcap import McapEncoding, McapOptions, write_mcap
from dataengine.samples.topics import TopicOptions


def _read(path: Path, decode: bool = True) -> tuple[dict[str, list[tuple[Any, Any]]], Any]:
    found: dict[str, list[tuple[Any, Any]]] = {}
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[Ros2Decoder(), Ros1Decoder(), ProtobufDecoder()])
        if decode:
            for _, channel, message, decoded in reader.iter_decoded_messages():
                found.setdefault(channel.topic, []).append((message, decoded))
        else:
            for _, channel, message in reader.iter_messages():
                found.setdefault(channel.topic, []).append((message, json.loads(message.data)))
        return found, reader.get_summary()


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, ArmConfig(40, 56, max_steps=20))


def _stamp_ns(stamp: Any) -> int:
    for seconds, rest in (("sec", "nanosec"), ("secs", "nsecs"), ("seconds", "nanos")):
        if hasattr(stamp, seconds):
            return int(getattr(stamp, seconds)) * 1_000_000_000 + int(getattr(stamp, rest))
    return int(stamp["sec"]) * 1_000_000_000 + int(stamp["nsec"])


@pytest.mark.parametrize(("encoding", "compression"), [("ros2", "zstd"), ("ros1", "lz4"), ("protobuf", "none")])
def test_every_sample_is_there(tmp_path: Path, recording: ArmRecording, encoding: McapEncoding, compression: Any) -> None:
    options = McapOptions(encoding, compression, chunk_size=50_000, topics=TopicOptions(points_hz=10))
    found, summary = _read(write_mcap(tmp_path / "a.mcap", [recording], options))
    joints = found["/joint_states"]
    assert [_stamp_ns(value.header.stamp) for _, value in joints] == (recording.start_ns + recording.joint_t_ns).tolist()
    assert np.array_equal([list(value.position) for _, value in joints], recording.joint_position)
    assert np.array_equal([list(value.effort) for _, value in joints], recording.joint_effort)
    assert list(joints[0][1].name) == list(QPOS_NAMES)
    assert np.array_equal([list(value.position) for _, value in found["/joint_commands"]], recording.action)
    turning = [[getattr(value.angular_velocity, axis) for axis in "xyz"] for _, value in found["/imu/data"]]
    assert np.array_equal(turning, recording.angular_velocity)
    for message, value in joints:
        assert message.publish_time == _stamp_ns(value.header.stamp)
        assert 1_000_000 < message.log_time - message.publish_time < 3_000_000
    for name, track in recording.cameras.items():
        frames = found[f"/camera/{name}/image/compressed"]
        assert [message.publish_time for message, _ in frames] == (recording.start_ns + track.t_ns).tolist()
        assert frames[3][1].format == "jpeg"
        picture = cv2.imdecode(np.frombuffer(bytes(frames[3][1].data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(picture.astype(int) - track.images[3]).mean() < 5
        info = found[f"/camera/{name}/camera_info"][0][1]
        matrix = list(info.K if encoding == "ros1" else info.k)
        assert [matrix[0], matrix[4], matrix[2], matrix[5]] == list(track.intrinsics_px)
    cloud = found["/points"][0][1]
    assert (cloud.width, cloud.point_step, len(cloud.data)) == (128, 12, 1536)
    assert found["/task"][0][1].data == recording.task
    pose = found["/tf"][0][1].transforms[0]
    assert pose.child_frame_id == "hand"
    assert [getattr(pose.transform.translation, axis) for axis in "xyz"] == recording.ee_position[0].tolist()
    assert summary.statistics.chunk_count > 1


def test_json(tmp_path: Path, recording: ArmRecording) -> None:
    found, summary = _read(write_mcap(tmp_path / "a.mcap", [recording], McapOptions("json")), decode=False)
    assert np.array_equal([value["position"] for _, value in found["/joint_states"]], recording.joint_position)
    assert base64.b64decode(found["/camera/front/image/compressed"][0][1]["data"])[:2] == b"\xff\xd8"
    assert {schema.encoding for schema in summary.schemas.values()} == {"jsonschema"}
    assert _stamp_ns(found["/joint_states"][7][1]["header"]["stamp"]) == recording.start_ns + recording.joint_t_ns[7]


def test_raw_images_are_exact(tmp_path: Path, recording: ArmRecording) -> None:
    found, _ = _read(write_mcap(tmp_path / "a.mcap", [recording], McapOptions(topics=TopicOptions(raw_images=True))))
    for row, (_, value) in enumerate(found["/camera/wrist/image_raw"]):
        assert (value.encoding, value.height, value.width, value.step) == ("rgb8", 40, 56, 168)
        assert bytes(value.data) == recording.cameras["wrist"].images[row].tobytes()


def test_several_recordings_without_chunks_or_delay(tmp_path: Path, recording: ArmRecording) -> None:
    second = record(0, 2, ArmConfig(40, 56, max_steps=5))
    options = McapOptions(chunk_size=0, topics=TopicOptions(log_delay_ns=0))
    found, summary = _read(write_mcap(tmp_path / "a.mcap", [recording, second], options, {"session": {"who": "nobody"}}))
    assert summary.statistics.chunk_count == 0
    assert [index.name for index in summary.metadata_indexes] == ["episode", "episode", "session"]
    assert len(found["/joint_states"]) == len(recording.joint_t_ns) + len(second.joint_t_ns)
    assert all(message.log_time == message.publish_time for message, _ in found["/imu/data"])
