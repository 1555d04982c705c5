"""What schemas and bytes of messages can hold."""

from __future__ import annotations

import base64

import pytest

from dataengine.privacy.payloads import is_taken_out, may_show_somebody, message_type, schema_facts
from dataengine.samples.protobuf import protobuf_schema
from dataengine.samples.ros import definition


def of_ros(name: str) -> dict[str, str]:
    return {"name": name.replace("/", "/msg/"), "encoding": "ros2msg", "text": definition(name, "ros2")}


def of_protobuf(name: str) -> dict[str, str]:
    return {"name": name.replace("/", "."), "encoding": "protobuf", "base64": base64.b64encode(protobuf_schema(name)).decode()}


@pytest.mark.parametrize("schema", [of_ros, of_protobuf])
def test_fields_and_blobs_of_one_message_alone(schema) -> None:  # type: ignore[no-untyped-def]
    """A protobuf schema holds the whole file: what other messages in it say does not count."""
    fix, joints, video = (schema_facts(schema(name)) for name in ("sensor_msgs/NavSatFix", "sensor_msgs/JointState", "foxglove_msgs/CompressedVideo"))
    assert fix is not None
    assert joints is not None
    assert video is not None
    assert {"latitude", "longitude", "service"} <= fix.fields
    assert "latitude" not in joints.fields
    assert {"position", "frame_id"} <= joints.fields
    assert (fix.blobs, joints.blobs, video.blobs) == (False, False, True)
    assert message_type(schema("sensor_msgs/NavSatFix")) == "sensor_msgs/NavSatFix"


def test_rows_that_could_show_somebody() -> None:
    joints, video = schema_facts(of_ros("sensor_msgs/JointState")), schema_facts(of_ros("foxglove_msgs/CompressedVideo"))
    big, picture = bytes(range(256)) * 3, base64.b64encode(bytes(range(256)) * 3)
    assert not may_show_somebody(big, "cdr", joints, "sensor_msgs/JointState")
    assert may_show_somebody(b"\0\1" + picture, "cdr", joints, "sensor_msgs/JointState")
    assert may_show_somebody(big, "cdr", video, "foxglove_msgs/CompressedVideo")
    assert not may_show_somebody(big[:200], "cdr", video, "foxglove_msgs/CompressedVideo")
    assert may_show_somebody(big, "cbor", None, "")
    assert not may_show_somebody(b"plain words, many of them. " * 40, "utf-8", None, "")
    assert may_show_somebody(b'{"image": "' + picture + b'"}', "json", None, "")
    assert may_show_somebody(b'{"image": [' + b", ".join(str(value % 256).encode() for value in range(1000)) + b"]}", "json", None, "")
    assert not may_show_somebody(b'{"position": [' + b", ".join(f"{value / 7:.5f}".encode() for value in range(1000)) + b"]}", "json", None, "")


def test_messages_whose_picture_stands_elsewhere() -> None:
    assert is_taken_out("cdr/spliced-0")
    assert is_taken_out("json/base64-12")
    assert not is_taken_out("cdr")
