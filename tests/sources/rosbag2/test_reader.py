"""ROS 2 bags: the real ones in both containers, written ones against the rosbags library, and what is absent, packed or wrong in a folder."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, Rows
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.rosbag2 import Bag2Message, Bag2Options, bag2_messages, write_bag2, write_database, write_ros2_mcap
from dataengine.sources.listing import list_source
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.rosbag2 import reader as rosbag2
from tests.support.child import run_reader
from tests.support.mcap_files import Cdr, payloads_of
from tests.support.rosbag_files import Messages, check_of, library_bag2, problems_of, read_folder, read_one, sorted_messages
from tests.support.shared import shared_data

S = 10**9
T0 = 1_700_000_000 * S
STRING = "std_msgs/msg/String"


def _texts(count: int, first: int = 0) -> list[Bag2Message]:
    return [Bag2Message("/say", STRING, T0 + index, Cdr().text(f"text {index}").bytes(), "string data\n") for index in range(first, first + count)]


@pytest.fixture(scope="module")
def sent() -> list[Bag2Message]:
    return bag2_messages([_recording()])


def _recording() -> ArmRecording:
    return record(0, 1, ArmConfig(40, 56, max_steps=20))


# --- the real bags


@pytest.mark.parametrize("name", ["talker", "wbag"])
def test_the_real_bags_give_the_known_figures_in_both_containers(name: str) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())
    root = ("teleop_mcap_ros", "rosbag2", "rosbag2_py")
    for storage, ending in (("mcap", "mcap"), ("sqlite3", "db3")):
        folder = shared_data(*root, storage, name)
        episode = read_one(rosbag2, folder)
        found = payloads_of(episode)
        counts: dict[str, int] = {}
        theirs: Messages = {}
        for path in sorted(folder.glob(f"*.{ending}")):
            for key, messages in library_bag2(path).items():
                theirs.setdefault(key, []).extend(messages)
            fact = facts["/".join((*root, storage, name, path.name))]
            topics = fact["topics"].items() if storage == "mcap" else [(topic[0], [topic[3]]) for topic in fact["topics"] if topic[3]]
            for topic, said in topics:
                counts[topic] = counts.get(topic, 0) + said[0]
        assert sorted_messages(found) == sorted_messages(theirs)
        assert {topic: len(messages) for (topic, _), messages in found.items()} == counts
        assert sum(counts.values()) == {"talker": 20, "wbag": 6074}[name]
        assert episode.info.dataset == name
        expected = {"wbag": {"start_differs": "info"}, "talker": {"definition_replaced": "info"} if storage == "sqlite3" else {}}
        assert problems_of(episode) == expected[name]


@pytest.mark.parametrize("name", ["talker", "wbag"])
def test_both_containers_of_one_recording_have_the_same_streams(name: str) -> None:
    """What an episode's id is made of: names, kinds, values, and the clock that a stream goes by."""
    first, second = (read_one(rosbag2, shared_data("teleop_mcap_ros", "rosbag2", "rosbag2_py", storage, name)) for storage in ("mcap", "sqlite3"))
    assert set(first.streams) == set(second.streams)
    assert first.info.stream_clocks == second.info.stream_clocks
    assert first.info.start_ns == second.info.start_ns
    for stream, one in first.streams.items():
        other = second.streams[stream]
        assert one.column.kind == other.column.kind
        assert np.array_equal(one.timestamps_ns, other.timestamps_ns)  # type: ignore[arg-type]
        assert _content(one.values) == _content(other.values)


def _content(values: Any) -> Any:
    return [bytes(item) for item in values.data] if isinstance(values, Items) else (values.dtype, values.tolist())


# --- written bags


@pytest.mark.parametrize(
    ("storage", "packing", "split", "schema"),
    [
        ("sqlite3", "", 0, 1),
        ("sqlite3", "", 200, 2),
        ("sqlite3", "file", 300, 3),
        ("sqlite3", "message", 0, 4),
        ("mcap", "", 300, 4),
        ("mcap", "file", 300, 3),
        ("mcap", "message", 0, 4),
    ],
)
def test_written_bags_land_as_the_library_reads_them(tmp_path: Path, sent: list[Bag2Message], storage: Any, packing: Any, split: int, schema: int) -> None:
    folder = write_bag2(tmp_path / "pick", sent, Bag2Options(storage, packing, split, schema))
    episode = read_one(rosbag2, folder)
    found = sorted_messages(payloads_of(episode))
    assert found == library_bag2(folder)
    assert sum(map(len, found.values())) == len(sent)
    recording = _recording()
    joints = episode.streams["joint_states.position"]
    assert isinstance(joints.values, np.ndarray)
    assert np.array_equal(joints.values, recording.joint_position)
    assert ("publish" in episode.streams["joint_states"].clocks) == (storage == "mcap")
    assert (joints.clocks["stamp"] - recording.start_ns).tolist() == recording.joint_t_ns.tolist()
    assert not [name for name in episode.streams if name.endswith(".sequence")]
    facts = episode.info.metadata["rosbag2"]
    assert (facts["storage"], bool(facts["packed_messages"])) == (storage, packing == "message")
    assert facts["definitions"]["sensor_msgs/msg/JointState"] == ("known" if storage == "sqlite3" and schema < 4 else "recorded")
    assert problems_of(episode) == {}
    assert episode.info.dataset == "pick"


def test_every_way_to_write_a_recording_gives_one_content(tmp_path: Path, sent: list[Bag2Message]) -> None:
    contents = []
    for number, options in enumerate([Bag2Options(), Bag2Options("mcap", split=300), Bag2Options("sqlite3", "message", 500, 2), Bag2Options("mcap", "file")]):
        episode = read_one(rosbag2, write_bag2(tmp_path / f"w{number}", sent, options))
        contents.append({name: (stream.column.kind, _content(stream.values), stream.timestamps_ns.tolist()) for name, stream in episode.streams.items()})  # type: ignore[union-attr]
    assert all(content == contents[0] for content in contents[1:])


@pytest.mark.parametrize(  # the library writes no packed MCAP files
    ("storage", "mode"), [("sqlite3", "NONE"), ("sqlite3", "FILE"), ("sqlite3", "MESSAGE"), ("mcap", "NONE"), ("mcap", "MESSAGE")]
)
def test_bags_of_the_library_land(tmp_path: Path, storage: str, mode: str) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    writer = Writer(tmp_path / "lib", version=9, storage_plugin=StoragePlugin[storage.upper()])
    if mode != "NONE":
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        joints = writer.add_connection("/joints", "sensor_msgs/msg/JointState", typestore=get_typestore(Stores.ROS2_HUMBLE))
        for index in range(50):
            writer.write(joints, T0 + index, _joint(index))
    episode = read_one(rosbag2, tmp_path)
    assert sorted_messages(payloads_of(episode)) == library_bag2(tmp_path / "lib")
    position = episode.streams["joints.position"]
    assert isinstance(position.values, np.ndarray)
    assert position.values.tolist() == [[index, 0.5] for index in range(50)]
    assert position.column.dims == ("a", "b")
    assert problems_of(episode) == {}


def _joint(index: int) -> bytes:
    return Cdr().header(T0 + index).number("I", 2).text("a").text("b").sequence("d", [index, 0.5]).number("I", 0).number("I", 0).bytes()


# --- definitions


def test_a_bag_without_definitions_is_read_by_those_of_ros_2_and_others_are_kept_whole(tmp_path: Path) -> None:
    sent = [
        Bag2Message("/joints", "sensor_msgs/msg/JointState", T0, _joint(3)),
        Bag2Message("/lab", "lab_msgs/msg/Secret", T0 + 1, b"\0\1\0\0\7\0\0\0"),
        Bag2Message("/text", STRING, T0 + 2, Cdr().text("a").bytes(), "int64 number\n"),
    ]
    episode = read_one(rosbag2, write_bag2(tmp_path / "x", sent, Bag2Options(schema_version=4)))
    assert episode.streams["joints.position"].values.tolist() == [[3.0, 0.5]]  # type: ignore[union-attr]
    assert payloads_of(episode)["/lab", "lab_msgs/msg/Secret"] == [(T0 + 1, b"\0\1\0\0\7\0\0\0")]
    assert episode.info.metadata["rosbag2"]["definitions"] == {
        "lab_msgs/msg/Secret": "unknown",
        "sensor_msgs/msg/JointState": "known",
        "std_msgs/msg/String": "replaced",
    }
    assert problems_of(episode) == {"definition_replaced": "info", "schema_not_read": "info"}


def test_the_release_chooses_between_forms_of_a_message(tmp_path: Path) -> None:
    """sensor_msgs/Range has a variance since Iron."""
    for release, extra in (("humble", []), ("jazzy", [0.25])):
        payload = Cdr().header(T0).number("B", 1).number("f", 0.5, 0.1, 4.0, 2.5, *extra).bytes()
        folder = write_bag2(tmp_path / release, [Bag2Message("/range", "sensor_msgs/msg/Range", T0, payload)], Bag2Options(schema_version=2))
        episode = read_one(rosbag2, folder)
        assert episode.streams["range.range"].values.tolist() == [2.5]  # type: ignore[union-attr]
        assert ("range.variance" in episode.streams) == bool(extra)


# --- folders


def _find(root: Path) -> list[tuple[str, str, list[str]]]:
    found = rosbag2.find(list_source(str(root)))
    return [(item.path, item.dataset, [file.path for file in item.files]) for item in found.items]


def test_bags_are_whole_folders_and_named_by_what_tells_something(tmp_path: Path) -> None:
    for place in ("lab/pick", "lab/rosbag2_2025_09_10-13_03_56", "lab/towel/episode_003"):
        write_bag2(tmp_path / place, _texts(4), Bag2Options(split=2))
    found = _find(tmp_path)
    assert [(path, dataset, len(files)) for path, dataset, files in found] == [
        ("lab/pick/metadata.yaml", "pick", 3),
        ("lab/rosbag2_2025_09_10-13_03_56/metadata.yaml", "lab", 3),
        ("lab/towel/episode_003/metadata.yaml", "towel", 3),
    ]


def test_without_metadata_files_are_grouped_by_name_and_number(tmp_path: Path) -> None:
    for number in (0, 1, 10, 2):
        write_database(tmp_path / f"run_{number}.db3", _texts(2, number * 2))
    write_database(tmp_path / "other_3.db3", _texts(1))
    write_database(tmp_path / "bag.sqlite", _texts(1))
    with closing(sqlite3.connect(tmp_path / "no_bag.sqlite")) as base:
        base.execute("CREATE TABLE birds(name)")
        base.commit()
    assert [(path, files) for path, _, files in _find(tmp_path)] == [
        ("run_0.db3", ["run_0.db3", "run_1.db3", "run_2.db3", "run_10.db3"]),
        ("bag.sqlite", ["bag.sqlite"]),
        ("other_3.db3", ["other_3.db3"]),
    ]
    run = read_folder(rosbag2, tmp_path)[0]
    assert [time_ns - T0 for time_ns, _ in payloads_of(run)["/say", STRING]] == [0, 1, 2, 3, 4, 5, 20, 21]
    assert problems_of(run) == {"missing_split": "warning"}


def test_mcap_files_without_metadata_are_a_bag_only_where_they_are_clearly_split(tmp_path: Path) -> None:
    for folder, names in (("pick", ("pick_0", "pick_1")), ("lab", ("episode_0", "episode_1")), ("single", ("single_0",))):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(names):
            write_ros2_mcap(tmp_path / folder / f"{name}.mcap", _texts(2, number * 2))
    listing = list_source(str(tmp_path))
    bags = rosbag2.find(listing)
    assert [[file.path for file in item.files] for item in bags.items] == [["pick/pick_0.mcap", "pick/pick_1.mcap"]]
    assert [item.path for item in mcap.find(listing.without(bags.claimed)).items] == ["lab/episode_0.mcap", "lab/episode_1.mcap", "single/single_0.mcap"]
    episode = read_one(rosbag2, tmp_path)
    assert len(episode.streams["say"]) == 4
    assert episode.info.metadata["rosbag2"]["sequence"] == {"say": {"runs": [{"row": 0, "first": 0, "step": 1}, {"row": 2, "first": 0, "step": 1}]}}


def test_a_listed_file_that_is_absent_is_named_and_the_others_land(tmp_path: Path) -> None:
    folder = write_bag2(tmp_path / "x", _texts(6), Bag2Options(split=2))
    (folder / "x_1.db3").unlink()
    episode = read_one(rosbag2, folder)
    assert [time_ns - T0 for time_ns, _ in payloads_of(episode)["/say", STRING]] == [0, 1, 4, 5]
    assert problems_of(episode) == {"missing_split": "warning"}
    (problem,) = episode.info.problems
    assert "x_1.db3" in problem.message


def test_a_bag_without_any_of_its_files_is_named(tmp_path: Path) -> None:
    folder = write_bag2(tmp_path / "x", _texts(2))
    (folder / "x_0.db3").unlink()
    found = rosbag2.find(list_source(str(tmp_path)))
    assert (list(found.items), [(problem.check, problem.severity) for problem in found.problems]) == ([], [("missing_files", "error")])


def test_files_that_are_not_listed_are_read_by_themselves_and_unpacked_copies_are_not_read_twice(tmp_path: Path) -> None:
    folder = write_bag2(tmp_path / "x", _texts(2), Bag2Options(packing="file"))
    write_database(folder / "x_0.db3", _texts(2))
    write_database(folder / "stray.db3", _texts(1))
    found = rosbag2.find(list_source(str(tmp_path)))
    assert [[file.path for file in item.files] for item in found.items] == [["x/metadata.yaml", "x/x_0.db3.zstd", "x/x_0.db3"], ["x/stray.db3"]]
    assert [(problem.check, problem.severity, problem.where) for problem in found.problems] == [("unlisted_file", "warning", "x/stray.db3")]


def test_paths_of_a_metadata_never_leave_the_folder(tmp_path: Path) -> None:
    folder = write_bag2(tmp_path / "x", _texts(2), metadata={"relative_file_paths": ["../secret_0.db3", "/etc/passwd", "x/x_0.db3"]})
    write_database(tmp_path / "secret_0.db3", _texts(1))
    found = rosbag2.find(list_source(str(tmp_path)))
    assert [[file.path for file in item.files] for item in found.items] == [["secret_0.db3"], ["x/metadata.yaml", "x/x_0.db3"]]
    assert [problem.check for problem in found.problems] == ["path_escapes", "path_escapes"]
    assert folder.name == "x"


def test_counts_that_lie_are_named(tmp_path: Path) -> None:
    episode = read_one(rosbag2, write_bag2(tmp_path / "x", _texts(3), metadata={"message_count": 7}))
    assert problems_of(episode) == {"counts_differ": "warning"}
    assert "7 messages where the files hold 3" in episode.info.problems[0].message


def test_a_metadata_that_cannot_be_used_is_named_and_its_files_land(tmp_path: Path) -> None:
    deep = "rosbag2_bagfile_information:\n  relative_file_paths:\n    - x_0.db3\n  a: " + "[" * 3000
    bomb = "rosbag2_bagfile_information:\n  version: 5\n  relative_file_paths: [x_0.db3]\n  a: &a [1,1,1,1,1,1,1,1,1]\n"
    names = "abcdefghij"
    bomb += "".join(f"  {new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in itertools.pairwise(names))
    for number, (text, check) in enumerate(
        [
            (deep, "bad_metadata"),
            (bomb, "bad_metadata"),
            ("rosbag2_bagfile_information:\n  version: 12\n  relative_file_paths: ['x_0.db3']\n", "bag_version"),
            ("rosbag2_bagfile_information:\n  version: 4\n  relative_file_paths:\n    - x_0.db3\n  topics_with_message_count: 5\n", "bad_metadata"),
            ("rosbag2_bagfile_information:\n  version: 4\n  relative_file_paths:\n    - x_0.db3\n  x: !!python/object/apply:os.getcwd []\n", "bad_metadata"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_database(folder / "x_0.db3", _texts(1))
        (folder / "metadata.yaml").write_text(text)
        listing = list_source(str(folder))
        found = rosbag2.find(listing)
        said = [problem.check for problem in found.problems]
        if not said:
            # Nothing in it is needed: the files that it lists land.
            episode = read_one(rosbag2, folder)
            assert problems_of(episode) == {check: "warning"}, number
            assert len(episode.streams["say"]) == 1
        else:
            # What lists no files says so when the bag is found; its files are read by themselves.
            assert said == [check], number
            assert [item.path for item in found.items] == ["x_0.db3"]


# --- databases


def test_a_database_that_was_not_closed_is_read_with_its_log(tmp_path: Path) -> None:
    path = write_database(tmp_path / "made.db3", _texts(2))
    with closing(sqlite3.connect(path)) as base:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)", (T0 + 2, Cdr().text("late").bytes()))
        base.commit()
        (tmp_path / "bag").mkdir()
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", tmp_path / "bag" / f"a.db3{ending}")
    episode = read_one(rosbag2, tmp_path / "bag")
    assert [time_ns - T0 for time_ns, _ in payloads_of(episode)["/say", STRING]] == [0, 1, 2]
    assert problems_of(episode) == {"not_closed": "info"}
    assert sorted(path.name for path in (tmp_path / "bag").iterdir()) == ["a.db3", "a.db3-wal"]


def test_a_database_that_was_cut_off_lands_what_is_whole_on_request(tmp_path: Path) -> None:
    write_database(tmp_path / "made.db3", _texts(500))
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "a.db3").write_bytes((tmp_path / "made.db3").read_bytes()[: 11 * 4096])
    assert check_of(rosbag2, tmp_path / "bag") == "truncated"
    episode = read_one(rosbag2, tmp_path / "bag", recover_truncated=True)
    times = episode.streams["say"].clocks["log"]
    assert 50 < len(times) < 450
    assert times.tolist() == [T0 + index for index in range(len(times))]
    assert problems_of(episode) == {"truncated": "warning"}


HOSTILE = {
    "a view": ("DROP TABLE messages", "CREATE VIEW messages AS SELECT 1 AS id, 1 AS topic_id, 1 AS timestamp, x'00' AS data"),
    "a generated column": (
        "DROP TABLE messages",
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB AS (zeroblob(500000000)))",
        "INSERT INTO messages (topic_id, timestamp) VALUES (1, 1)",
    ),
    "a virtual table": ("DROP TABLE messages", "CREATE VIRTUAL TABLE messages USING fts5(id, topic_id, timestamp, data)"),
    "no column": ("ALTER TABLE messages DROP COLUMN data",),
    "no table": ("DROP TABLE topics",),
    "a text for a time": ("UPDATE messages SET timestamp = 'soon'",),
    "no data": ("DROP TABLE messages", "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)", "INSERT INTO messages VALUES (1, 1, 1, 7)"),
    "no topic": ("UPDATE messages SET topic_id = 9",),
    "no messages": ("DELETE FROM messages",),
}
REASONS = {"no column": "no_bag", "no table": "no_bag", "no topic": "no_channel", "no messages": "no_messages"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_databases_are_refused(tmp_path: Path, name: str) -> None:
    path = write_database(tmp_path / "a.db3", _texts(3))
    with closing(sqlite3.connect(path)) as base:
        for statement in HOSTILE[name]:
            base.execute(statement)
        base.commit()
    assert check_of(rosbag2, tmp_path) == REASONS.get(name, "bad_database")


def test_triggers_and_other_tables_are_not_touched(tmp_path: Path) -> None:
    path = write_database(tmp_path / "a.db3", _texts(2))
    with closing(sqlite3.connect(path)) as base:
        base.execute("CREATE TABLE notes(text)")
        base.execute("CREATE TRIGGER t AFTER INSERT ON messages BEGIN DELETE FROM messages; END")
        base.execute("ALTER TABLE messages ADD COLUMN weather TEXT")
        base.commit()
    episode = read_one(rosbag2, tmp_path)
    assert len(episode.streams["say"]) == 2
    assert problems_of(episode) == {"unknown_tables": "info"}
    assert "messages.weather, notes" in str(episode.info.problems[0].message) or "notes, messages.weather" in episode.info.problems[0].message


def test_files_that_are_no_bags_are_refused(tmp_path: Path) -> None:
    import zstandard

    for number, (name, data, check) in enumerate(
        [
            ("a.db3", b"", "no_magic"),
            ("a.db3", b"hello", "no_magic"),
            ("a.db3", b"SQLite format 3\0", "truncated"),
            ("a.db3.zstd", zstandard.compress(b"hello"), "no_magic"),
            ("a.mcap.zstd", zstandard.compress(b"hello" * 1000)[:-3], "bad_chunk"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        found = check_of(rosbag2, folder)
        assert found == check or (check, found) == ("bad_chunk", "truncated"), name


def test_a_remote_database_is_copied_first(tmp_path: Path, sent: list[Bag2Message]) -> None:
    folder = write_bag2(tmp_path / "x", sent, Bag2Options(split=500))

    class Remote:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def local(self, path: str) -> None:
            return None

    near = run_reader("dataengine.sources.rosbag2.reader", str(folder))
    far = run_reader("dataengine.sources.rosbag2.reader", str(folder), opener=Remote)
    assert near.episodes == far.episodes
    assert len(near.episodes) == 1


def test_a_rule_cuts_a_bag_across_its_files(tmp_path: Path) -> None:
    sent = [Bag2Message("/say", STRING, T0 + time_s * S, Cdr().text("x").bytes()) for time_s in (0, 1, 2, 10, 11, 30)]
    for storage in ("sqlite3", "mcap"):
        folder = write_bag2(tmp_path / storage, sent, Bag2Options(storage, split=2, schema_version=2))
        episodes = read_folder(rosbag2, folder, episodes={"by": "gap", "seconds": 5})
        assert [len(episode.streams["say"]) for episode in episodes] == [3, 2, 1]
        assert [problems_of(episode) for episode in episodes] == [{}, {}, {}]


def test_events_come_in_batches(tmp_path: Path) -> None:
    write_database(tmp_path / "a.db3", _texts(2500))
    listing = list_source(str(tmp_path))
    events = list(rosbag2.read(rosbag2.find(listing).items[0], listing.opener, ReadOptions()))
    sizes = [len(event.values) for event in events if isinstance(event, Rows) and event.stream == "say"]
    assert sizes == [1024, 1024, 452]


def test_attachments_of_every_file_are_kept(tmp_path: Path) -> None:
    """A stream that is no topic's goes on from file to file."""
    from tests.support.mcap_files import write_mcap

    (tmp_path / "x").mkdir()
    for number in range(2):
        sent = [("/say", T0 + number, Cdr().text("a").bytes())]
        data = write_mcap({"/say": ("cdr", STRING, "ros2msg", "string data\n")}, sent, attachments=[(T0, f"{number}.txt", b"note %d" % number)])
        (tmp_path / "x" / f"x_{number}.mcap").write_bytes(data)
    metadata = "rosbag2_bagfile_information:\n  version: 4\n  storage_identifier: mcap\n  relative_file_paths:\n    - x_0.mcap\n    - x_1.mcap\n"
    (tmp_path / "x" / "metadata.yaml").write_text(metadata)
    episode = read_one(rosbag2, tmp_path)
    notes = episode.streams["attachments"].values
    assert isinstance(notes, Items)
    assert [bytes(note) for note in notes.data] == [b"note 0", b"note 1"]
    files = episode.info.metadata["rosbag2"]["files"]
    assert [[attachment["name"] for attachment in file["attachments"]] for file in files] == [["0.txt"], ["1.txt"]]
    assert len(episode.streams["say"]) == 2
