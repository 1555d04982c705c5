"""What the rosbags library reads of a bag, to compare with what lands of it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.sources.listing import list_source
from dataengine.sources.rosbag1 import reader as rosbag1
from dataengine.sources.rosbag2 import reader as rosbag2
from tests.support.mcap_files import payloads_of

Messages = dict[tuple[str, str], list[tuple[int, bytes]]]


def read_folder(reader: ModuleType, folder: Path, **options: Any) -> list[Episode]:
    """Return the episodes of all bags in a folder, none of them rejected."""
    listing = list_source(str(folder))
    found = reader.find(listing)
    assert found.items
    episodes = []
    for item in found.items:
        for episode in episodes_of(reader.read(item, listing.opener, ReadOptions(config=options))):
            assert isinstance(episode, Episode), episode
            episodes.append(episode)
    return episodes


def read_one(reader: ModuleType, folder: Path, **options: Any) -> Episode:
    """Return the only episode of a folder."""
    (episode,) = read_folder(reader, folder, **options)
    return episode


def check_of(reader: ModuleType, folder: Path, **options: Any) -> str:
    """Return why the only bag of a folder is rejected."""
    try:
        read_folder(reader, folder, **options)
    except BadRecording as error:
        assert error.advice  # noqa: PT017 - every rejection tells what to do
        return error.check
    raise AssertionError("it landed")


def problems_of(episode: Episode) -> dict[str, str]:
    """Return the problems of an episode: severity by check."""
    return {problem.check: problem.severity for problem in episode.info.problems}


def sorted_messages(found: Messages) -> Messages:
    """Return messages by time: the library reads by the index."""
    return {key: sorted(messages) for key, messages in found.items()}


def library_bag1(path: Path) -> Messages:
    """Return what rosbags reads of a ROS 1 bag: (time, payload) by (topic, type)."""
    from rosbags.rosbag1 import Reader

    found: Messages = {}
    with Reader(path) as bag:
        for connection, time_ns, data in bag.messages():
            found.setdefault((connection.topic, connection.msgtype.replace("/msg/", "/")), []).append((time_ns, bytes(data)))
    return sorted_messages(found)


def library_bag2(path: Path) -> Messages:
    """Return what rosbags reads of a ROS 2 bag (a folder or one file): (time, payload) by (topic, type)."""
    from rosbags.rosbag2 import Reader

    found: Messages = {}
    with Reader(path) as bag:
        for connection, time_ns, data in bag.messages():
            found.setdefault((connection.topic, connection.msgtype), []).append((time_ns, bytes(data)))
    return sorted_messages(found)


def compare_bag1(folder: str) -> str:
    """Read the bag of a folder with both; raise AssertionError where ours lands something else. For `tests.support.child.run_over`."""
    listing = list_source(folder)
    found = rosbag1.find(listing)
    if not found.items:
        return "unrecognised"
    ours: Messages = {}
    for episode in episodes_of(rosbag1.read(found.items[0], listing.opener, ReadOptions())):
        assert not isinstance(episode, Rejected | Noticed)
        ours.update(payloads_of(episode))
    try:
        theirs = library_bag1(Path(folder) / found.items[0].path)
    except UnicodeDecodeError:
        return "landed"  # the library takes no connection whose texts (a caller's name) are not UTF-8
    assert sorted_messages(ours) == theirs
    return "landed"


def plain_database(path: Path) -> Messages:
    """Return what the messages of a database are, read by table and without any index: (time, payload) by (topic, type)."""
    import apsw

    base = apsw.Connection(f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    topics = {number: (name, kind) for number, name, kind in base.execute("SELECT id, name, type FROM topics NOT INDEXED")}
    found: Messages = {}
    for number, time_ns, data in base.execute("SELECT topic_id, timestamp, data FROM messages NOT INDEXED"):
        found.setdefault(topics[number], []).append((time_ns, bytes(data)))
    return found


def compare_database(folder: str) -> str:
    """Read the database of a folder with both; raise AssertionError where ours lands something else. For `tests.support.child.run_over`."""
    listing = list_source(folder)
    found = rosbag2.find(listing)
    if not found.items:
        return "unrecognised"
    ours: Messages = {}
    for episode in episodes_of(rosbag2.read(found.items[0], listing.opener, ReadOptions())):
        assert not isinstance(episode, Rejected | Noticed)
        ours.update(payloads_of(episode))
    named = {(topic, name): messages for (topic, name), messages in ours.items()}
    theirs = plain_database(Path(folder) / "a.db3")
    assert {topic: messages for (topic, _), messages in named.items()} == {topic: messages for (topic, _), messages in theirs.items()}
    return "landed"


def land_bag2(folder: str) -> int:
    """Read the bags of a folder; return how many messages landed. For `tests.support.child.run_over`."""
    listing = list_source(folder)
    count = 0
    for item in rosbag2.find(listing).items:
        for episode in episodes_of(rosbag2.read(item, listing.opener, ReadOptions())):
            assert isinstance(episode, Episode)
            count += sum(map(len, payloads_of(episode).values()))
    return count


def recover(folder: str) -> int:
    """Read what is whole of the bag of a folder, of either kind; return how many messages landed. For `tests.support.child.run_over`."""
    listing = list_source(folder)
    count = 0
    for reader in (rosbag1, rosbag2):
        for item in reader.find(listing).items:
            for episode in episodes_of(reader.read(item, listing.opener, ReadOptions(config={"recover_truncated": True}))):
                assert isinstance(episode, Episode)
                count += sum(map(len, payloads_of(episode).values()))
    return count
