"""Samples of ROS bags read back with the rosbags library, decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.rosbag1 import BagOptions, write_bag
from dataengine.samples.rosbag2 import Bag2Options, bag2_messages, write_bag2
from dataengine.samples.topics import TopicOptions


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, ArmConfig(40, 56, max_steps=20))


def _decoded(path: Path, store: Stores) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path], default_typestore=get_typestore(store)) as reader:
        for connection, time_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((time_ns, reader.deserialize(data, connection.msgtype)))
    return found


def _check(found: dict[str, list[tuple[int, Any]]], recording: ArmRecording) -> None:
    joints = [value for _, value in found["/joint_states"]]
    stamps = [value.header.stamp.sec * 10**9 + value.header.stamp.nanosec for value in joints]
    assert stamps == (recording.start_ns + recording.joint_t_ns).tolist()
    assert np.array_equal([value.position for value in joints], recording.joint_position)
    assert np.array_equal([value.position for _, value in found["/joint_commands"]], recording.action)
    name, track = next(iter(recording.cameras.items()))
    pictures = [value.data.reshape(value.height, value.width, 3) for _, value in found[f"/camera/{name}/image_raw"]]
    assert np.array_equal(pictures, track.images)


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_bags_hold_every_sample(tmp_path: Path, recording: ArmRecording, compression: Any) -> None:
    path = write_bag(tmp_path / "a.bag", [recording], BagOptions(compression, topics=TopicOptions(raw_images=True), publishers=2))
    _check(_decoded(path, Stores.ROS1_NOETIC), recording)


@pytest.mark.parametrize(("storage", "packing", "schema"), [("sqlite3", "", 3), ("sqlite3", "message", 4), ("mcap", "file", 4)])
def test_bags_of_ros_2_hold_every_sample(tmp_path: Path, recording: ArmRecording, storage: Any, packing: Any, schema: int) -> None:
    sent = bag2_messages([recording], TopicOptions(raw_images=True))
    path = write_bag2(tmp_path / "x", sent, Bag2Options(storage, packing, split=300, schema_version=schema))
    assert len(list(path.iterdir())) == 1 + -(-len(sent) // 300)
    _check(_decoded(path, Stores.ROS2_JAZZY), recording)
