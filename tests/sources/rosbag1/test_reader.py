"""ROS 1 bags: the real one, written ones against the rosbags library, every clock and publisher, and bags that are broken by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.stream import Frames, Items
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.ros import encode
from dataengine.samples.rosbag1 import MAGIC, BagOptions, BagTopic, BagWriter, definition_sum, write_bag
from dataengine.samples.topics import TopicOptions
from dataengine.sources.listing import list_source
from dataengine.sources.rosbag1 import reader as rosbag1
from tests.support.mcap_files import payloads_of
from tests.support.rosbag_files import check_of, library_bag1, problems_of, read_folder, read_one, sorted_messages
from tests.support.shared import shared_data

S = 10**9
T0 = 1_700_000_000 * S
TEXT = BagTopic("/say", "std_msgs/String", "string data\n", "992ce8a1687cec8c8bd883ec73ca41d1", (("callerid", "/talker"), ("latching", "1")))


def _text(text: str) -> bytes:
    return encode("std_msgs/String", {"data": text}, "ros1")


def _bag(sent: list[tuple[int, str]], **options: Any) -> bytes:
    closed = options.pop("closed", True)
    writer = BagWriter(**options)
    number = writer.connect(TEXT)
    for time_ns, text in sent:
        writer.write(number, time_ns, _text(text))
    return writer.finish(closed)


def _put(folder: Path, data: bytes, name: str = "a.bag") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(0, 1, ArmConfig(40, 56, max_steps=20))


# --- the real bag


def test_the_real_bag_gives_every_message_and_the_known_figures(tmp_path: Path) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())["teleop_ros1bag/foxglove_turtlesim/example.bag"]
    path = shared_data("teleop_ros1bag", "foxglove_turtlesim", "example.bag")
    episode = read_one(rosbag1, path.parent)
    found = payloads_of(episode)
    assert sorted_messages(found) == library_bag1(path)
    assert {topic: [len(messages), kind.replace("/", "/msg/")] for (topic, kind), messages in found.items()} == facts["topics"]
    times = [time_ns for messages in found.values() for time_ns, _ in messages]
    assert (len(times), min(times), max(times) + 1) == (facts["messages"], facts["start_ns"], facts["end_ns"])
    assert rosbag1.find(list_source(str(path.parent.parent))).items[0].dataset == "foxglove_turtlesim"


def test_the_real_bag_keeps_who_said_what_and_when(tmp_path: Path) -> None:
    episode = read_one(rosbag1, shared_data("teleop_ros1bag", "foxglove_turtlesim"))
    said = episode.info.metadata["rosbag1"]["connections"]["tf"]
    assert [(entry["publisher"], entry["callerid"]) for entry in said] == [(0, "/turtle2_tf_broadcaster"), (1, "/turtle1_tf_broadcaster")]
    publishers = episode.streams["tf.publisher"]
    assert isinstance(publishers.values, np.ndarray)
    assert np.bincount(publishers.values).tolist() == [1344, 1344]
    assert episode.info.metadata["rosbag1"]["publisher"]["turtle1.pose"] == {"first": 0, "step": 0}
    pose = episode.streams["tf.world.turtle1"]
    assert (len(pose), sorted(pose.clocks), episode.info.stream_clocks["tf.world.turtle1"]) == (1344, ["log", "stamp"], "stamp")
    assert (episode.info.stream_clocks["turtle1.pose"], episode.info.clock, episode.info.epoch) == ("log", "measured", True)
    assert [problem.check for problem in episode.info.problems] == []


# --- written bags


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_written_bags_land_as_the_library_reads_them(tmp_path: Path, recording: ArmRecording, compression: Any) -> None:
    path = write_bag(tmp_path / "lab" / "a.bag", [recording], BagOptions(compression, chunk_size=60_000, publishers=2))
    episode = read_one(rosbag1, tmp_path)
    assert sorted_messages(payloads_of(episode)) == library_bag1(path)
    joints = episode.streams["joint_states.position"]
    assert isinstance(joints.values, np.ndarray)
    assert np.array_equal(joints.values, recording.joint_position)
    assert (joints.clocks["stamp"] - recording.start_ns).tolist() == recording.joint_t_ns.tolist()
    camera = next(iter(recording.cameras))
    pictures = episode.streams[f"observation.images.camera_{camera}"]
    assert isinstance(pictures.values, Items)
    assert {pictures.values.encoding(row) for row in range(len(pictures))} == {"jpeg"}
    assert episode.info.metadata["rosbag1"]["compression"] == [compression]
    assert episode.info.dataset == "lab"


def test_raw_pictures_are_the_pixels(tmp_path: Path, recording: ArmRecording) -> None:
    write_bag(tmp_path / "a.bag", [recording], BagOptions("lz4", topics=TopicOptions(raw_images=True)))
    episode = read_one(rosbag1, tmp_path)
    name, track = next(iter(recording.cameras.items()))
    raw = episode.streams[f"observation.images.camera_{name}"].values
    assert isinstance(raw, Frames)
    assert np.array_equal(raw.pixels, track.images)
    assert episode.info.columns[f"observation.images.camera_{name}"].camera.intrinsics_px == pytest.approx(track.intrinsics_px)  # type: ignore[union-attr]


@pytest.mark.parametrize("compression", [None, "bz2", "lz4"])
def test_bags_of_the_library_land(tmp_path: Path, compression: str | None) -> None:
    from rosbags.rosbag1 import Writer

    writer = Writer(tmp_path / "a.bag")
    if compression:
        writer.set_compression(Writer.CompressionFormat[compression.upper()])
    with writer:
        say = writer.add_connection("/say", "std_msgs/msg/String", msgdef="string data\n", md5sum=TEXT.md5sum)
        for index in range(300):
            writer.write(say, T0 + index, _text(f"text {index}" * 50))
    episode = read_one(rosbag1, tmp_path)
    assert sorted_messages(payloads_of(episode)) == library_bag1(tmp_path / "a.bag")
    assert episode.streams["say"].clocks["log"].tolist() == [T0 + index for index in range(300)]


def test_definition_sums_are_those_of_ros() -> None:
    assert definition_sum("std_msgs/String") == "992ce8a1687cec8c8bd883ec73ca41d1"
    assert definition_sum("std_msgs/Header") == "2176decaecbce78abc3b96ef049fabed"
    assert definition_sum("sensor_msgs/JointState") == "3066dcd76a6cfaef579bd0f34173e9fd"


def test_messages_stay_in_the_order_of_the_file_and_times_are_exact(tmp_path: Path) -> None:
    sent = [(T0 + 999_999_999, "a"), (T0 + 5, "b"), (4_294_967_295 * S + 999_999_999, "c")]
    episode = read_one(rosbag1, _put(tmp_path, _bag(sent, chunk_size=1)))
    assert episode.streams["say"].clocks["log"].tolist() == [time_ns for time_ns, _ in sent]
    texts = episode.streams["say.data"].values
    assert isinstance(texts, Items)
    assert [bytes(text) for text in texts.data] == [b"a", b"b", b"c"]
    assert episode.info.start_ns == T0 + 5


def test_headers_in_another_order_and_with_more_fields_are_read(tmp_path: Path) -> None:
    """Writers differ in the order of fields: time before connection, op last, and one that nobody knows."""
    data = bytearray(_bag([(T0, "a"), (T0 + 7, "b")]))
    old = b"\x04\0\0\0op=\x02" + b"\x09\0\0\0conn=\0\0\0\0" + b"\x0d\0\0\0time="
    stamp = struct.pack("<II", 1_700_000_000, 7)
    at = data.index(old + stamp)
    new = b"\x0d\0\0\0time=" + stamp + b"\x09\0\0\0conn=\0\0\0\0" + b"\x04\0\0\0op=\x02"
    data[at : at + len(new)] = new
    episode = read_one(rosbag1, _put(tmp_path, bytes(data)))
    assert episode.streams["say"].clocks["log"].tolist() == [T0, T0 + 7]


def test_a_topic_without_a_definition_is_kept_whole(tmp_path: Path) -> None:
    writer = BagWriter()
    writer.write(writer.connect(BagTopic("/x", "lab_msgs/Secret", "")), T0, b"\1\2\3")
    episode = read_one(rosbag1, _put(tmp_path, writer.finish()))
    assert payloads_of(episode) == {("/x", "lab_msgs/Secret"): [(T0, b"\1\2\3")]}
    assert problems_of(episode) == {"schema_not_read": "info"}


def test_rules_cut_a_bag_into_episodes(tmp_path: Path) -> None:
    _put(tmp_path, _bag([(T0, "a"), (T0 + S, "b"), (T0 + 9 * S, "c")], chunk_size=40))
    first, second = read_folder(rosbag1, tmp_path, episodes={"by": "gap", "seconds": 5})
    assert (first.info.key, second.info.key) == ("0", "1")
    assert [len(episode.streams["say"]) for episode in (first, second)] == [2, 1]


def test_streams_are_named_as_the_config_says(tmp_path: Path, recording: ArmRecording) -> None:
    write_bag(tmp_path / "a.bag", [recording])
    episode = read_one(rosbag1, tmp_path, streams={"observation.state": "/joint_states:position", "action": "/joint_commands:position"}, clock="log")
    assert episode.info.follow == "action"
    assert set(episode.info.stream_clocks.values()) == {"log"}
    assert np.array_equal(episode.streams["action"].values, recording.action)  # type: ignore[arg-type]


# --- finding


def test_bags_are_claimed_by_content_and_by_name(tmp_path: Path) -> None:
    data = _bag([(T0, "a")])
    for name, content in (("lab/2024-01-02-15-04-05/run.bin", data), ("lab/bags/x.bag", b"hello"), ("lab/y.bag.active", data), ("lab/z.txt", b"hello")):
        _put(tmp_path / Path(name).parent, content, Path(name).name)
    found = rosbag1.find(list_source(str(tmp_path)))
    assert [(item.path, item.dataset, item.by_name) for item in found.items] == [
        ("lab/2024-01-02-15-04-05/run.bin", "lab", False),
        ("lab/bags/x.bag", "lab", True),
        ("lab/y.bag.active", "lab", False),
    ]


# --- broken by hand


def test_a_bag_that_was_never_closed_is_refused_with_advice_and_lands_on_request(tmp_path: Path) -> None:
    _put(tmp_path, _bag([(T0, "a" * 100), (T0 + 1, "b" * 100), (T0 + 2, "c")], chunk_size=150, closed=False))
    assert check_of(rosbag1, tmp_path) == "truncated"
    episode = read_one(rosbag1, tmp_path, recover_truncated=True)
    # Two messages in chunks that were ended, the last one in the chunk that was open.
    assert episode.streams["say"].clocks["log"].tolist() == [T0, T0 + 1, T0 + 2]
    assert problems_of(episode) == {"truncated": "warning"}


@pytest.mark.parametrize("compression", ["none", "bz2", "lz4"])
def test_a_bag_that_was_cut_off_lands_what_is_whole_on_request(tmp_path: Path, compression: Any) -> None:
    data = _bag([(T0 + index, f"{index}" * 100) for index in range(10)], compression=compression, chunk_size=150)
    _put(tmp_path, data[: data.rindex(b"compression=") + 30])
    assert check_of(rosbag1, tmp_path) == "truncated"
    episode = read_one(rosbag1, tmp_path, recover_truncated=True)
    assert episode.streams["say"].clocks["log"].tolist() == [T0 + index for index in range(9)]
    assert problems_of(episode) == {"truncated": "warning"}


@pytest.mark.parametrize(("compression", "least"), [("none", 300), ("bz2", 0), ("lz4", 100)])
def test_what_is_whole_of_a_chunk_that_is_cut_lands_on_request(tmp_path: Path, compression: Any, least: int) -> None:
    """One chunk of 600 messages, cut in its middle: bz2 gives whole blocks only, here none."""
    rng = np.random.default_rng(0)
    sent = [(T0 + index, rng.bytes(150).hex()) for index in range(600)]
    data = _bag(sent, compression=compression)
    start = data.index(b"compression=")
    _put(tmp_path, data[: start + (len(data) - start) * 6 // 10])
    assert check_of(rosbag1, tmp_path) == "truncated"
    if not least:
        assert check_of(rosbag1, tmp_path, recover_truncated=True) == "no_messages"
        return
    episode = read_one(rosbag1, tmp_path, recover_truncated=True)
    texts = episode.streams["say.data"].values
    assert isinstance(texts, Items)
    assert least < len(texts) < 600
    assert [bytes(text).decode() for text in texts.data] == [text for _, text in sent[: len(texts)]]
    assert problems_of(episode) == {"truncated": "warning"}


def test_each_kind_of_damage_is_named(tmp_path: Path) -> None:
    whole = _bag([(T0, "a"), (T0 + 1, "b")])
    empty = BagWriter()
    empty.connect(TEXT)
    time_at = whole.index(b"time=") + 5
    cases = {
        "empty": (b"", "no_magic"),
        "text": (b"hello, world", "no_magic"),
        "only magic": (MAGIC, "truncated"),
        "old": (b"#ROSBAG V1.2\n" + whole[13:], "bag_version"),
        "no messages": (empty.finish(), "no_messages"),
        "huge chunk": (whole.replace(b"size=" + struct.pack("<I", _chunk_size(whole)), b"size=\xff\xff\xff\xff"), "chunk_too_large"),
        "packed otherwise": (whole.replace(b"compression=none", b"compression=zstd"), "compression"),
        "a time that the index does not have": (whole[:time_at] + b"\1" + whole[time_at + 1 :], "bad_index"),
        "no connection": (whole.replace(b"conn=\0\0\0\0", b"conn=\1\0\0\0", 1), "no_connection"),
        "garbage behind": (whole + b"garbage", "truncated"),
    }
    for name, (data, check) in cases.items():
        folder = _put(tmp_path / name.replace(" ", "_"), data)
        assert check_of(rosbag1, folder) == check, name


def _chunk_size(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, data.index(b"size=") + 5)[0])


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    for compression in ("bz2", "lz4"):
        data = _bag([(T0, "a" * 1000)], compression=compression)
        size = _chunk_size(data)
        less = data.replace(b"size=" + struct.pack("<I", size), b"size=" + struct.pack("<I", size - 10))
        assert check_of(rosbag1, _put(tmp_path / compression, less)) == "bad_chunk"
