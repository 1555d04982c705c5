"""MCAP files as episodes: streams, clocks, episodes in a file, what is said of them, and what is rejected."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType

from dataengine.core.episode import Episode
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.stream import Frames, Items
from dataengine.sources.listing import list_source
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.messages.recording import BATCH_ROWS
from tests.support.mcap_files import (
    JOINT_STATE,
    STRING,
    Cdr,
    compare_with_library,
    episode_of_file,
    episodes_of_file,
    events_of_file,
    joint_state,
    library_payloads,
    payloads_of,
    write_mcap,
)
from tests.support.shared import shared_data

S = 1_000_000_000
T0 = 1_700_000_000 * S
JOINTS = ("cdr", "sensor_msgs/msg/JointState", "ros2msg", JOINT_STATE)
TEXT = ("cdr", "std_msgs/msg/String", "ros2msg", STRING)


def _text(text: str) -> bytes:
    return Cdr().text(text).bytes()


# --- real recordings


def _facts(*parts: str) -> dict[str, object]:
    path = shared_data("FACTS.json")
    shared_data(*parts)
    found = json.loads(path.read_text())["/".join(parts)]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "parts",
    [
        ("teleop_mcap_ros", "rerun_sensor_msgs", "rosbag2_2025_09_10-13_03_56_0.mcap"),
        ("teleop_mcap_ros", "rerun_protobuf", "foxglove_log.mcap"),
        ("teleop_mcap_ros", "rerun_protobuf", "simple-protobuf.mcap"),
        ("teleop_mcap_ros", "rerun_protobuf", "simple_protobuf_vec3.mcap"),
        ("teleop_mcap_ros", "owa_desktop", "0.5.1.mcap"),
        ("teleop_mcap_ros", "rosbag2", "rosbag2_py", "mcap", "talker", "talker.mcap"),
        *(("teleop_mcap_ros", "rosbag2", "rosbag2_py", "mcap", "wbag", f"wbag_{part}.mcap") for part in range(5)),
    ],
    ids=lambda parts: parts[-1],
)
def test_real_recordings_give_every_message_and_the_known_figures(parts: tuple[str, ...], tmp_path: Path) -> None:
    facts = _facts(*parts)
    path = shared_data(*parts)
    episode = episode_of_file(tmp_path, path.read_bytes())
    found = payloads_of(episode)
    assert found == library_payloads(path)
    topics = facts["topics"]
    assert isinstance(topics, dict)
    assert {topic: [len(messages), schema] for (topic, schema), messages in found.items()} == {topic: said[:2] for topic, said in topics.items()}
    assert sum(map(len, found.values())) == facts["messages"]
    times = [time_ns for messages in found.values() for time_ns, _ in messages]
    assert (min(times), max(times)) == (facts["t0_ns"], facts["t1_ns"])
    assert episode.info.metadata["mcap"]["profile"] == facts["profile"]


def test_the_sensor_recording_has_the_known_values(tmp_path: Path) -> None:
    parts = ("teleop_mcap_ros", "rerun_sensor_msgs", "rosbag2_2025_09_10-13_03_56_0.mcap")
    facts = _facts(*parts)
    episode = episode_of_file(tmp_path, shared_data(*parts).read_bytes())
    first, last, imu, picture, encoded = (facts[name] for name in ("joint_first", "joint_last", "imu_first", "image", "compressed"))
    assert isinstance(first, dict)
    assert isinstance(last, dict)
    assert isinstance(imu, dict)
    assert isinstance(picture, dict)
    assert isinstance(encoded, dict)
    position = episode.streams["joint_state.position"]
    assert position.column.dims == tuple(first["name"])
    assert isinstance(position.values, np.ndarray)
    assert position.values.dtype == np.float64
    assert position.values[0].tolist() == first["position"]
    assert np.round(position.values[-1], 6).tolist() == last["position"]
    assert position.clocks["stamp"][[0, -1]].tolist() == [s * S + ns for s, ns in (first["stamp"], last["stamp"])]
    assert episode.info.stream_clocks["joint_state.position"] == "stamp"
    assert episode.streams["imu.linear_acceleration"].values[0].tolist() == imu["acc"]  # type: ignore[index]
    assert episode.streams["imu.angular_velocity"].values[0].tolist() == imu["gyr"]  # type: ignore[index]
    jpeg = episode.streams["observation.images.compressed_image"].values
    assert isinstance(jpeg, Items)
    assert ([len(data) for data in jpeg.data], jpeg.encoding(0)) == ([encoded["bytes"]], "jpeg")
    raw = episode.streams["observation.images.image"].values
    assert isinstance(raw, Frames)
    assert raw.pixels.shape == (1, picture["h"], picture["w"], 3)
    import hashlib

    assert hashlib.sha256(raw.pixels.tobytes()).hexdigest()[:16] == picture["sha"]
    camera = episode.info.columns["observation.images.compressed_image"].camera
    assert camera is not None
    assert camera.intrinsics_px == (500.0, 500.0, 320.0, 240.0)
    assert {name: episode.info.columns[name].steps for name in ("camera_info.k", "rosout.level", "joint_state.position", "joint_state")} == {
        "camera_info.k": False,
        "rosout.level": False,
        "joint_state.position": True,
        "joint_state": False,
    }
    assert episode.info.metadata["mcap"]["metadata"] == [{"name": "rosbag2", "metadata": {"ROS_DISTRO": "humble"}}]
    assert (episode.info.dataset, episode.info.clock, episode.info.epoch) == (episode.info.dataset, "measured", True)


def test_conformance_files_without_messages_are_rejected_and_the_others_land(tmp_path: Path) -> None:
    for index, path in enumerate(sorted(shared_data("conformance", "mcap").rglob("*.mcap"))):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / path.name).write_bytes(path.read_bytes())
        if "Message" in path.name:
            assert compare_with_library(str(folder)) == "landed"
        else:
            with pytest.raises(BadRecording) as caught:
                compare_with_library(str(folder))
            assert caught.value.check == "no_messages"


# --- finding


def test_files_are_claimed_by_content_and_by_name(tmp_path: Path) -> None:
    data = write_mcap({"/a": TEXT}, [("/a", T0, _text("x"))])
    (tmp_path / "lab" / "data").mkdir(parents=True)
    for name, content in (("lab/data/run.bin", data), ("lab/empty.mcap", b""), ("lab/text.MCAP", b"hello"), ("lab/other.bin", b"hello")):
        (tmp_path / name).write_bytes(content)
    listing = list_source(str(tmp_path))
    found = mcap.find(listing)
    assert [(item.path, item.dataset) for item in found.items] == [("lab/data/run.bin", "lab"), ("lab/empty.mcap", "lab"), ("lab/text.MCAP", "lab")]
    assert found.claimed == {"lab/data/run.bin", "lab/empty.mcap", "lab/text.MCAP"}
    for item in found.items[1:]:
        with pytest.raises(BadRecording, match="magic"):
            list(mcap.read(item, listing.opener, mcap.ReadOptions()))


# --- clocks


def test_a_stream_goes_by_the_stamp_where_every_message_has_one(tmp_path: Path) -> None:
    sent = [
        ("/joints", T0 + 30, joint_state(T0 + 10, ["a"], [1.5])),
        ("/half", T0 + 31, joint_state(T0 + 11, ["a"], [1.0])),
        ("/say", T0 + 32, _text("go")),
        ("/joints", T0 + 40, joint_state(T0 + 21, ["a"], [-2.5])),
        ("/half", T0 + 41, joint_state(0, ["a"], [2.0])),
    ]
    episode = episode_of_file(tmp_path, write_mcap({"/joints": JOINTS, "/half": JOINTS, "/say": TEXT}, sent))
    clocks = episode.info.stream_clocks
    assert {name: clocks[name] for name in ("joints", "joints.position", "half", "half.position", "say", "say.data")} == {
        "joints": "stamp",
        "joints.position": "stamp",
        "half": "log",
        "half.position": "log",
        "say": "log",
        "say.data": "log",
    }
    assert (episode.info.start_ns, episode.info.epoch) == (T0 + 10, True)
    joints, half = episode.streams["joints.position"], episode.streams["half"]
    assert joints.timestamps_ns is not None
    assert half.timestamps_ns is not None
    assert joints.timestamps_ns.tolist() == [0, 11]
    assert half.timestamps_ns.tolist() == [21, 31]
    assert episode.streams["joints"].clocks["log"].tolist() == [T0 + 30, T0 + 40]
    assert episode.streams["joints"].clocks["publish"].tolist() == [T0 + 25, T0 + 35]
    assert half.clocks["stamp"].tolist() == [T0 + 11, 0]
    assert isinstance(joints.values, np.ndarray)
    assert joints.values.tolist() == [[1.5], [-2.5]]


def test_stamps_of_a_clock_that_was_never_set_give_way_to_the_log_beside_other_topics(tmp_path: Path) -> None:
    sent = [("/joints", T0, joint_state(50 * S, ["a"], [1.0])), ("/say", T0 + 7, _text("go"))]
    episode = episode_of_file(tmp_path, write_mcap({"/joints": JOINTS, "/say": TEXT}, sent))
    assert episode.info.stream_clocks["joints.position"] == "log"
    assert [problem.check for problem in episode.info.problems] == ["clocks_disagree"]
    assert episode.streams["joints"].clocks["stamp"].tolist() == [50 * S]


def test_a_recording_of_simulated_time_alone_goes_by_its_stamps(tmp_path: Path) -> None:
    episode = episode_of_file(tmp_path, write_mcap({"/joints": JOINTS}, [("/joints", T0, joint_state(50 * S, ["a"], [1.0]))]))
    assert (episode.info.stream_clocks["joints"], episode.info.start_ns, episode.info.epoch) == ("stamp", 50 * S, False)
    assert not episode.info.problems


def test_the_config_can_ask_for_the_log_time(tmp_path: Path) -> None:
    data = write_mcap({"/joints": JOINTS}, [("/joints", T0 + 5, joint_state(T0, ["a"], [1.0]))])
    assert set(episode_of_file(tmp_path, data, config={"clock": "log"}).info.stream_clocks.values()) == {"log"}
    with pytest.raises(ConfigError, match="clock: must be one of stamp, log"):
        events_of_file(tmp_path, config={"clock": "wall"})


def test_a_time_beyond_2262_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadRecording) as caught:
        episode_of_file(tmp_path, write_mcap({"/say": TEXT}, [("/say", 1 << 63, _text("x"))]))
    assert caught.value.check == "time_too_large"


# --- topics and names


def test_one_topic_under_two_schemas_and_topics_of_one_name_stay_apart(tmp_path: Path) -> None:
    topics = {
        "/a/b": ("cdr", "p/msg/X", "ros2msg", "int32 v\n"),
        "/a/b#2": ("cdr", "p/msg/Y", "ros2msg", "float64 v\n"),
        "/a.b": ("cdr", "p/msg/X", "ros2msg", "int32 v\n"),
        "/a/b/v": ("raw", "", "", ""),
    }
    sent = [
        ("/a/b", T0, Cdr().number("i", 7).bytes()),
        ("/a/b#2", T0 + 1, Cdr().number("d", 0.5).bytes()),
        ("/a.b", T0 + 2, Cdr().number("i", 9).bytes()),
        ("/a/b/v", T0 + 3, b"\xff"),
    ]
    data = write_mcap(topics, sent)
    episode = episode_of_file(tmp_path, data)
    assert payloads_of(episode) == library_payloads(tmp_path / "a.mcap")
    values = sorted((s.column.dtype, s.values.tolist()) for s in episode.streams.values() if isinstance(s.values, np.ndarray))  # type: ignore[union-attr]
    assert values == [("float64", [0.5]), ("int32", [7]), ("int32", [9])]
    assert {name for name in episode.streams if "-" not in name} == {"a.b", "a_b", "a_b.v", "a.b.v"}


def test_two_channels_of_one_topic_and_schema_are_one_stream(tmp_path: Path) -> None:
    data = write_mcap({"/say": TEXT, "/say#2": TEXT}, [("/say", T0, _text("a")), ("/say#2", T0 + 1, _text("b")), ("/say", T0 + 2, _text("c"))])
    episode = episode_of_file(tmp_path, data)
    said = episode.streams["say.data"].values
    assert isinstance(said, Items)
    assert [bytes(text) for text in said.data] == [b"a", b"b", b"c"]
    assert [channel["id"] for channel in episode.info.metadata["mcap"]["channels"]["say"]] == [1, 2]


def test_a_description_names_streams_and_the_control_clock(tmp_path: Path) -> None:
    sent = [("/cmd", T0, joint_state(T0, ["a"], [1.0])), ("/joints", T0 + 1, joint_state(T0, ["a"], [2.0]))]
    data = write_mcap({"/cmd": JOINTS, "/joints": JOINTS}, sent)
    streams = {"action": "/cmd:position", "observation.state": "/joints:position", "reward": "/nothing:here"}
    episode = episode_of_file(tmp_path, data, config={"streams": streams})
    assert episode.streams["action"].values.tolist() == [[1.0]]  # type: ignore[union-attr]
    assert episode.streams["observation.state"].values.tolist() == [[2.0]]  # type: ignore[union-attr]
    assert (episode.info.follow, episode.info.columns["action"].meaning, episode.info.columns["observation.state"].meaning) == ("action", "action", "state")
    assert [(p.check, p.where) for p in episode.info.problems] == [("mapped_field_absent", "/nothing:here")]
    assert "joints.position" not in episode.streams


def test_a_dataset_description_names_streams_by_their_other_names_and_gives_rate_and_body(tmp_path: Path) -> None:
    sent = [("/cmd", T0, joint_state(T0, ["a"], [1.0])), ("/joints", T0 + 1, joint_state(T0, ["a"], [2.0]))]
    data = write_mcap({"/cmd": JOINTS, "/joints": JOINTS}, sent)
    columns = {"action": {"also": ["actions", "/other:position", "/cmd:position"]}, "observation.state": {"also": ["/joints:position", "/cmd:position"]}}
    description = {"columns": columns, "rate_hz": 20.0, "embodiment": "arm"}
    episode = episode_of_file(tmp_path, data, description=description, rate_hz=30.0)
    assert episode.streams["action"].values.tolist() == [[1.0]]  # type: ignore[union-attr]
    assert episode.streams["observation.state"].values.tolist() == [[2.0]]  # type: ignore[union-attr]
    assert (episode.info.follow, episode.info.rate_hz, episode.info.embodiment) == ("action", 20.0, "arm")
    assert not episode.info.problems
    assert episode_of_file(tmp_path, rate_hz=30.0).info.rate_hz == 30.0


@pytest.mark.parametrize("streams", [["/a"], {"action": 5}, {"a": "/x:y", "b": "/x:y"}])
def test_a_wrong_mapping_is_named(tmp_path: Path, streams: object) -> None:
    with pytest.raises(ConfigError, match="streams: "):
        events_of_file(tmp_path, write_mcap({"/say": TEXT}, []), config={"streams": streams})


def test_messages_without_schema_or_of_an_unknown_encoding_land_whole(tmp_path: Path) -> None:
    topics = {"/raw": ("own", "", "", b""), "/idl": ("cdr", "a/msg/B", "ros2idl", "module a {};"), "/bad": ("protobuf", "B", "protobuf", b"\xff\xff")}
    sent = [("/raw", T0, b"\0\1"), ("/idl", T0, b"\0\1\0\0abc"), ("/bad", T0, b"zz")]
    episode = episode_of_file(tmp_path, write_mcap(topics, sent))
    assert payloads_of(episode) == {("/raw", ""): [(T0, b"\0\1")], ("/idl", "a/msg/B"): [(T0, b"\0\1\0\0abc")], ("/bad", "B"): [(T0, b"zz")]}
    assert sorted((p.check, p.where) for p in episode.info.problems) == [("schema_not_read", "/bad"), ("schema_not_read", "/idl"), ("schema_not_read", "/raw")]
    assert episode.info.columns["idl"].extra["schema"] == {"name": "a/msg/B", "encoding": "ros2idl", "text": "module a {};"}
    assert episode.info.columns["bad"].extra["schema"]["base64"] == "//8="


def test_a_payload_that_does_not_fit_its_schema_lands_whole_without_a_row_of_numbers(tmp_path: Path) -> None:
    sent = [
        ("/joints", T0, joint_state(T0, ["a"], [1.0])),
        ("/joints", T0 + 1, joint_state(T0, ["a"], [2.0])[:-3]),
        ("/joints", T0 + 2, joint_state(T0, ["a"], [3.0])),
    ]
    episode = episode_of_file(tmp_path, write_mcap({"/joints": JOINTS}, sent))
    assert payloads_of(episode)["/joints", JOINTS[1]] == [(time_ns, payload) for _, time_ns, payload in sent]
    assert episode.streams["joints.position"].values.tolist() == [[1.0], [3.0]]  # type: ignore[union-attr]
    assert episode.streams["joints.position"].clocks["log"].tolist() == [T0, T0 + 2]
    (problem,) = episode.info.problems
    assert problem.check == "undecodable_messages"
    assert "1 of 3 messages" in problem.message
    assert "message 1:" in problem.message


# --- sequence numbers, attachments, metadata


def test_sequence_numbers_are_two_figures_while_they_count_and_a_stream_once_they_do_not(tmp_path: Path) -> None:
    sent = [("/say", T0 + i, _text("x")) for i in range(4)]
    counting = episode_of_file(tmp_path, write_mcap({"/say": TEXT}, sent, sequences=[5, 6, 7, 8]))
    assert counting.info.metadata["mcap"]["sequence"] == {"say": {"first": 5, "step": 1}}
    still = episode_of_file(tmp_path, write_mcap({"/say": TEXT}, sent, sequences=[0, 0, 0, 0]))
    assert still.info.metadata["mcap"]["sequence"] == {"say": {"first": 0, "step": 0}}
    broken = episode_of_file(tmp_path, write_mcap({"/say": TEXT}, sent, sequences=[5, 6, 8, 9]))
    assert broken.info.metadata["mcap"]["sequence"] == {"say": {"stream": "say.sequence"}}
    stream = broken.streams["say.sequence"]
    assert (stream.values.tolist(), stream.column.dtype, stream.timestamps_ns) == ([5, 6, 8, 9], "uint32", None)  # type: ignore[union-attr]


def test_a_break_after_many_batches_gives_all_sequence_numbers(tmp_path: Path) -> None:
    count = BATCH_ROWS * 2 + 3
    numbers = [*range(10, 10 + count - 1), 7]
    data = write_mcap({"/say": TEXT}, [("/say", T0 + i, _text("x")) for i in range(count)], sequences=numbers)
    assert episode_of_file(tmp_path, data).streams["say.sequence"].values.tolist() == numbers  # type: ignore[union-attr]


def test_attachments_and_metadata_are_kept(tmp_path: Path) -> None:
    files = [(T0 + 3, "calib.yaml", b"k: 1"), (T0 + 4, "empty", b"")]
    data = write_mcap({"/say": TEXT}, [("/say", T0, _text("x"))], attachments=files, metadata={"robot": {"serial": "7", "site": "Zürich"}})
    episode = episode_of_file(tmp_path, data)
    stream = episode.streams["attachments"]
    assert isinstance(stream.values, Items)
    assert [bytes(item) for item in stream.values.data] == [b"k: 1", b""]
    assert (stream.clocks["log"].tolist(), stream.timestamps_ns) == ([T0 + 3, T0 + 4], None)
    said = episode.info.metadata["mcap"]
    assert said["attachments"][0] == {"name": "calib.yaml", "media_type": "text/plain", "bytes": 4}
    assert said["metadata"] == [{"name": "robot", "metadata": {"serial": "7", "site": "Zürich"}}]
    json.dumps(said)
    assert episode.info.start_ns == T0


# --- several episodes in a file


def _keys(episodes: list[Episode]) -> list[tuple[str, list[str]]]:
    found = []
    for episode in episodes:
        values = episode.streams["say.data"].values if "say.data" in episode.streams else Items([], "utf-8")
        assert isinstance(values, Items)
        found.append((episode.info.key, [bytes(text).decode() for text in values.data]))
    return found


def test_a_gap_begins_a_new_episode(tmp_path: Path) -> None:
    times = [0, 2, 7, 7.5, 13, 12, 17.5]  # the message at 12 came late: 17.5 is 4.5 after the latest before it
    data = write_mcap({"/say": TEXT}, [("/say", T0 + int(t * S), _text(str(t))) for t in times])
    episodes = episodes_of_file(tmp_path, data, config={"episodes": {"by": "gap", "seconds": 4.6}})
    assert _keys(episodes) == [("0", ["0", "2"]), ("1", ["7", "7.5"]), ("2", ["13", "12", "17.5"])]
    assert [episode.info.start_ns for episode in episodes] == [T0, T0 + 7 * S, T0 + 12 * S]


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}], ids=["chunks", "loose"])
def test_a_marker_topic_begins_a_new_episode_with_the_marker_in_it(tmp_path: Path, options: dict[str, bool]) -> None:
    sent = [("/say", T0, _text("before")), ("/go", T0 + 1, b"1"), ("/say", T0 + 2, _text("one")), ("/go", T0 + 3, b"2"), ("/go", T0 + 4, b"3")]
    data = write_mcap({"/say": TEXT, "/go": ("own", "", "", "")}, sent, **options)
    episodes = episodes_of_file(tmp_path, data, config={"episodes": {"by": "topic", "topic": "/go"}})
    assert _keys(episodes) == [("0", ["before"]), ("1", ["one"]), ("2", []), ("3", [])]
    assert [len(episode.streams["go"].values) if "go" in episode.streams else 0 for episode in episodes] == [0, 1, 1, 1]


def test_a_fixed_time_begins_a_new_episode(tmp_path: Path) -> None:
    data = write_mcap({"/say": TEXT}, [("/say", T0 + i * S, _text(str(i))) for i in range(5)])
    episodes = episodes_of_file(tmp_path, data, config={"episodes": {"by": "duration", "seconds": 2}})
    assert _keys(episodes) == [("0", ["0", "1"]), ("1", ["2", "3"]), ("2", ["4"])]


@pytest.mark.parametrize("rule", [{"by": "gap"}, {"by": "gap", "seconds": -1}, {"by": "moon"}, {"by": "topic", "topic": ""}, {"by": "gap", "seconds": True}, 5])
def test_a_wrong_rule_is_named(tmp_path: Path, rule: object) -> None:
    with pytest.raises(ConfigError, match="episodes: must be"):
        events_of_file(tmp_path, write_mcap({"/say": TEXT}, []), config={"episodes": rule})


# --- damage


def test_a_file_that_was_cut_off_is_rejected_unless_asked_to_land_what_is_whole(tmp_path: Path) -> None:
    data = write_mcap({"/say": TEXT}, [("/say", T0 + i, _text(f"{i}")) for i in range(3)], use_chunking=False)
    cut = data[: data.rindex(_text("2")) + 2]
    with pytest.raises(BadRecording) as caught:
        episode_of_file(tmp_path, cut)
    assert caught.value.check == "truncated"
    episode = episode_of_file(tmp_path, cut, config={"recover_truncated": True})
    assert _keys([episode]) == [("", ["0", "1"])]
    assert [problem.check for problem in episode.info.problems] == ["truncated"]


def test_a_message_of_a_channel_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    data = write_mcap({"/say": TEXT}, [("/say", T0, _text("x"))], use_chunking=False, enable_data_crcs=False)
    at = data.index(struct.pack("<HIQ", 1, 0, T0))
    with pytest.raises(BadRecording) as caught:
        episode_of_file(tmp_path, data[:at] + b"\x09\0" + data[at + 2 :])
    assert caught.value.check == "no_channel"


def test_the_same_number_for_two_schemas_is_rejected(tmp_path: Path) -> None:
    data = write_mcap({"/a": TEXT, "/b": JOINTS}, [("/a", T0, _text("x"))], use_chunking=False, enable_data_crcs=False)
    at = data.index(struct.pack("<HI", 2, len(JOINTS[1])) + JOINTS[1].encode())
    with pytest.raises(BadRecording) as caught:
        episode_of_file(tmp_path, data[:at] + b"\x01\0" + data[at + 2 :])
    assert caught.value.check == "schema_conflict"


@pytest.mark.parametrize("compression", list(CompressionType))
def test_batches_do_not_change_what_lands(tmp_path: Path, compression: CompressionType) -> None:
    rng = np.random.default_rng(4)
    sent = []
    for i in range(3000):
        sent.append(("/joints", T0 + 2 * i, joint_state(T0 + i, ["a", "bc"], rng.random(2).tolist())))
        if i % 30 == 0:
            sent.append(("/big", T0 + 2 * i + 1, rng.bytes(50_000 + i)))
    data = write_mcap({"/joints": JOINTS, "/big": ("own", "", "", "")}, sent, compression=compression, chunk_size=300_000)
    episode = episode_of_file(tmp_path, data)
    assert payloads_of(episode) == library_payloads(tmp_path / "a.mcap")
    assert episode.streams["joints.position"].values.shape == (3000, 2)  # type: ignore[union-attr]
    assert episode.streams["joints.position"].clocks["stamp"].tolist() == [T0 + i for i in range(3000)]
