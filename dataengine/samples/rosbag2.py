"""Genuine ROS 2 bags: a folder of SQLite or MCAP files, split, packed by file or by message, with their metadata.yaml.

Source: the schema of rosbag2_storage_sqlite3 (versions 1 to 4) and the metadata of rosbag2_storage (versions 3 to 9).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from dataengine.samples.arm import ArmRecording
from dataengine.samples.ros import definition, encode, ros_type
from dataengine.samples.topics import TopicOptions, messages

BagStorage = Literal["sqlite3", "mcap"]
BagPacking = Literal["", "file", "message"]

# The version of the metadata that belongs to a version of the database's schema.
METADATA_VERSIONS = {1: 3, 2: 4, 3: 6, 4: 9}

_TIMES = "".join(f"  {name}:\n    sec: 0\n    nsec: 0\n" for name in ("deadline", "lifespan", "liveliness_lease_duration"))
_HASH = ""  # nobody computes it for a type that is not installed
_QOS = f"- history: 3\n  depth: 0\n  reliability: 1\n  durability: 2\n{_TIMES}  liveliness: 1\n  avoid_ros_namespace_conventions: false"


@dataclass(frozen=True)
class Bag2Options:
    """How a bag is written.

    Args:
        storage: of its files.
        packing: "file" packs whole files with zstd, "message" each message by itself.
        split: messages after which a new file begins, 0 for one file.
        schema_version: of the databases, 1 to 4; only 4 holds message definitions.
        metadata: writes metadata.yaml.
        topics: which topics there are.
    """

    storage: BagStorage = "sqlite3"
    packing: BagPacking = ""
    split: int = 0
    schema_version: int = 4
    metadata: bool = True
    topics: TopicOptions = field(default_factory=TopicOptions)


@dataclass(frozen=True)
class Bag2Message:
    """A message as it goes into a bag: `definition` may be empty."""

    topic: str
    type: str
    log_ns: int
    payload: bytes
    definition: str = ""
    publish_ns: int = 0


def bag2_messages(recordings: Sequence[ArmRecording], topics: TopicOptions | None = None) -> list[Bag2Message]:
    """Return the messages of recordings, one after the other."""
    found = []
    for recording in recordings:
        for message in messages(recording, topics or TopicOptions()):
            payload = encode(message.kind, message.value, "ros2")
            found.append(
                Bag2Message(message.topic, ros_type(message.kind, "ros2"), message.log_ns, payload, definition(message.kind, "ros2"), message.stamp_ns)
            )
    return found


def write_database(path: Path, sent: Sequence[Bag2Message], schema_version: int = 4) -> Path:
    """Write a database of a schema's version."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as base:
        more = {1: "", 2: ",offered_qos_profiles TEXT NOT NULL", 3: ",offered_qos_profiles TEXT NOT NULL"}.get(
            schema_version, ",offered_qos_profiles TEXT NOT NULL,type_description_hash TEXT NOT NULL"
        )
        base.execute(f"CREATE TABLE topics(id INTEGER PRIMARY KEY,name TEXT NOT NULL,type TEXT NOT NULL,serialization_format TEXT NOT NULL{more})")
        base.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY,topic_id INTEGER NOT NULL,timestamp INTEGER NOT NULL, data BLOB NOT NULL)")
        base.execute("CREATE INDEX timestamp_idx ON messages (timestamp ASC)")
        if schema_version >= 3:
            base.execute("CREATE TABLE schema(schema_version INTEGER PRIMARY KEY,ros_distro TEXT NOT NULL)")
            base.execute("INSERT INTO schema VALUES (?, ?)", (schema_version, "jazzy" if schema_version >= 4 else "humble"))
            base.execute("CREATE TABLE metadata(id INTEGER PRIMARY KEY,metadata_version INTEGER NOT NULL,metadata TEXT NOT NULL)")
        if schema_version >= 4:
            base.execute(
                "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY,topic_type TEXT NOT NULL,encoding TEXT NOT NULL,"
                "encoded_message_definition TEXT NOT NULL,type_description_hash TEXT NOT NULL)"
            )
        numbers: dict[str, int] = {}
        types: set[str] = set()
        for message in sent:
            if message.topic not in numbers:
                numbers[message.topic] = len(numbers) + 1
                values = [numbers[message.topic], message.topic, message.type, "cdr", *[_QOS, _HASH][: {1: 0, 2: 1, 3: 1}.get(schema_version, 2)]]
                base.execute(f"INSERT INTO topics VALUES ({','.join('?' * len(values))})", values)
                if schema_version >= 4 and message.definition and message.type not in types:
                    types.add(message.type)
                    said = (message.type, "ros2msg", message.definition, _HASH)
                    base.execute(
                        "INSERT INTO message_definitions (topic_type,encoding,encoded_message_definition,type_description_hash) VALUES (?,?,?,?)", said
                    )
            base.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", (numbers[message.topic], message.log_ns, message.payload))
        base.commit()
    return path


def write_ros2_mcap(path: Path, sent: Sequence[Bag2Message]) -> Path:
    """Write an MCAP file as ROS 2 does: its profile, a schema for each type, sequence numbers from 0."""
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        writer = Writer(file, 1 << 18, CompressionType.ZSTD)
        writer.start("ros2", "dataengine samples")
        schemas: dict[str, int] = {}
        channels: dict[str, int] = {}
        counts: dict[str, int] = {}
        for message in sent:
            if message.topic not in channels:
                if message.type not in schemas:
                    schemas[message.type] = writer.register_schema(message.type, "ros2msg", message.definition.encode())
                channels[message.topic] = writer.register_channel(message.topic, "cdr", schemas[message.type], {"offered_qos_profiles": _QOS})
            counts[message.topic] = counts.get(message.topic, -1) + 1
            writer.add_message(channels[message.topic], message.log_ns, message.payload, message.publish_ns or message.log_ns, counts[message.topic])
        writer.finish()
    return path


def bag2_metadata(files: Sequence[tuple[str, Sequence[Bag2Message]]], options: Bag2Options) -> dict[str, Any]:
    """Return the content of a metadata.yaml for files and their messages."""
    version = METADATA_VERSIONS[options.schema_version]
    every = [message for _, sent in files for message in sent]
    counts: dict[str, int] = {}
    for message in every:
        counts[message.topic] = counts.get(message.topic, 0) + 1
    types = {message.topic: message.type for message in every}

    def topic(name: str) -> dict[str, Any]:
        said: dict[str, Any] = {"name": name, "type": types[name], "serialization_format": "cdr"}
        if version >= 4:
            said["offered_qos_profiles"] = yaml.safe_load(_QOS) if version >= 9 else _QOS
        if version >= 7:
            said["type_description_hash"] = _HASH
        return {"topic_metadata": said, "message_count": counts[name]}

    def span(sent: Sequence[Bag2Message]) -> dict[str, Any]:
        times = [message.log_ns for message in sent] or [0]
        return {"starting_time": {"nanoseconds_since_epoch": min(times)}, "duration": {"nanoseconds": max(times) - min(times)}, "message_count": len(sent)}

    said: dict[str, Any] = {
        "version": version,
        "storage_identifier": options.storage,
        "relative_file_paths": [name for name, _ in files],
        **span(every),
        "topics_with_message_count": [topic(name) for name in counts],
        "compression_format": "zstd" if options.packing else "",
        "compression_mode": options.packing.upper(),
    }
    if version >= 5:
        said["files"] = [{"path": name, **span(sent)} for name, sent in files]
    if version >= 6:
        said["custom_data"] = {"operator": "sample"}
    if version >= 8:
        said["ros_distro"] = "jazzy"
    return {"rosbag2_bagfile_information": said}


def write_bag2(folder: Path, sent: Sequence[Bag2Message], options: Bag2Options | None = None, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write messages as the bag `folder`; `metadata` replaces entries of its metadata."""
    import zstandard

    options = options or Bag2Options()
    folder.mkdir(parents=True, exist_ok=True)
    size = options.split or max(len(sent), 1)
    ending = "db3" if options.storage == "sqlite3" else "mcap"
    files = []
    for number, start in enumerate(range(0, max(len(sent), 1), size)):
        part = list(sent[start : start + size])
        stored = part
        if options.packing == "message":
            stored = [Bag2Message(m.topic, m.type, m.log_ns, zstandard.compress(m.payload), m.definition, m.publish_ns) for m in part]
        path = folder / f"{folder.name}_{number}.{ending}"
        if options.storage == "sqlite3":
            write_database(path, stored, options.schema_version)
        else:
            write_ros2_mcap(path, stored)
        if options.packing == "file":
            packed = path.with_name(f"{path.name}.zstd")
            packed.write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()
            path = packed
        files.append((path.name, part))
    if options.metadata:
        content = bag2_metadata(files, options)
        content["rosbag2_bagfile_information"].update(metadata or {})
        (folder / "metadata.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
