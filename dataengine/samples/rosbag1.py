"""Genuine ROS 1 bags (format 2.0): chunks that are compressed or not, their index, and the index of the bag.

Source: http://wiki.ros.org/Bags/Format/2.0, http://wiki.ros.org/ROS/Technical%20Overview (the sum of a message definition).
"""

from __future__ import annotations

import bz2
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dataengine.samples.arm import ArmRecording
from dataengine.samples.ros import MESSAGES, definition, encode, fields_of
from dataengine.samples.topics import TopicOptions, messages

BagCompression = Literal["none", "bz2", "lz4"]

MAGIC = b"#ROSBAG V2.0\n"
HEADER_BYTES = 4096


@dataclass(frozen=True)
class BagOptions:
    """How a bag is written.

    Args:
        compression: of the chunks.
        chunk_size: in bytes before compression.
        topics: which topics there are.
        publishers: nodes that take turns on each topic: each has a connection of its own.
        closed: writes the index; a bag that was never closed has none ("reindex needed").
    """

    compression: BagCompression = "none"
    chunk_size: int = 768 << 10
    topics: TopicOptions = field(default_factory=TopicOptions)
    publishers: int = 1
    closed: bool = True


def definition_sum(name: str) -> str:
    """Return the md5 sum that names a message definition: of its fields in order, each nested type by its own sum."""
    lines = []
    for kind, _, key in fields_of(name, "ros1"):
        element = kind.partition("[")[0]
        lines.append(f"{definition_sum(element)} {key}" if element in MESSAGES else f"{kind} {key}")
    return hashlib.md5("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


def _lz4(data: bytes) -> bytes:
    from lz4.frame import compress  # type: ignore[import-untyped]

    return bytes(compress(data))


_PACK: dict[BagCompression, Callable[[bytes], bytes]] = {"none": bytes, "bz2": bz2.compress, "lz4": _lz4}


def _fields(**values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(name) + 1 + len(value)) + name.encode() + b"=" + value for name, value in values.items())


def record(data: bytes, **values: bytes) -> bytes:
    """Return a record: a header of `values` by field name, and its data."""
    header = _fields(**values)
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _time(time_ns: int) -> bytes:
    return struct.pack("<II", time_ns // 10**9, time_ns % 10**9)


@dataclass(frozen=True)
class BagTopic:
    """A connection: topic, type, definition, and further fields of its header."""

    topic: str
    type: str
    definition: str
    md5sum: str = "*"
    more: tuple[tuple[str, str], ...] = ()


class BagWriter:
    """Writes a bag: `connect` topics, `write` messages, `finish`; the whole file is in `data` afterwards."""

    def __init__(self, compression: BagCompression = "none", chunk_size: int = 768 << 10) -> None:
        self._compression, self._chunk_size = compression, chunk_size
        self.data = bytearray(MAGIC) + self._bag_header(0, 0, 0)
        self._connections: list[bytes] = []
        self._chunk = bytearray()
        self._index: dict[int, list[tuple[bytes, int]]] = {}
        self._times: list[int] = []
        self._infos: list[bytes] = []
        self._known: set[int] = set()

    @staticmethod
    def _bag_header(index_at: int, connections: int, chunks: int) -> bytes:
        values = {"op": b"\x03", "index_pos": struct.pack("<Q", index_at), "conn_count": _u32(connections), "chunk_count": _u32(chunks)}
        return record(b" " * (HEADER_BYTES - 8 - len(_fields(**values))), **values)

    def connect(self, topic: BagTopic) -> int:
        """Add a connection; return its number."""
        number = len(self._connections)
        more = {name: value.encode() for name, value in topic.more}
        said = {"topic": topic.topic.encode(), "type": topic.type.encode(), "md5sum": topic.md5sum.encode(), "message_definition": topic.definition.encode()}
        self._connections.append(record(_fields(**said, **more), op=b"\x07", conn=_u32(number), topic=topic.topic.encode()))
        return number

    def write(self, connection: int, time_ns: int, payload: bytes) -> None:
        """Add a message."""
        if connection not in self._known:
            self._known.add(connection)
            self._chunk += self._connections[connection]
        self._index.setdefault(connection, []).append((_time(time_ns), len(self._chunk)))
        self._times.append(time_ns)
        self._chunk += record(payload, op=b"\x02", conn=_u32(connection), time=_time(time_ns))
        if len(self._chunk) >= self._chunk_size:
            self._end_chunk()

    def _end_chunk(self) -> None:
        if not self._chunk:
            return
        place = len(self.data)
        packed = _PACK[self._compression](bytes(self._chunk))
        self.data += record(packed, op=b"\x05", compression=self._compression.encode(), size=_u32(len(self._chunk)))
        for connection, entries in self._index.items():
            block = b"".join(time + _u32(at) for time, at in entries)
            self.data += record(block, op=b"\x04", ver=_u32(1), conn=_u32(connection), count=_u32(len(entries)))
        counts = b"".join(_u32(connection) + _u32(len(entries)) for connection, entries in self._index.items())
        self._infos.append(
            record(
                counts,
                op=b"\x06",
                ver=_u32(1),
                chunk_pos=struct.pack("<Q", place),
                start_time=_time(min(self._times)),
                end_time=_time(max(self._times)),
                count=_u32(len(self._index)),
            )
        )
        self._chunk, self._index, self._times = bytearray(), {}, []

    def finish(self, closed: bool = True) -> bytes:
        """Return the file; one that is not `closed` ends in a chunk that has no length yet, as a recorder that was killed leaves it."""
        if not closed:
            chunk = record(b"", op=b"\x05", compression=self._compression.encode(), size=_u32(0)) + bytes(self._chunk)
            return bytes(self.data) + chunk
        self._end_chunk()
        head = self._bag_header(len(self.data), len(self._connections), len(self._infos))
        self.data[len(MAGIC) : len(MAGIC) + len(head)] = head
        self.data += b"".join(self._connections) + b"".join(self._infos)
        return bytes(self.data)


def write_bag(path: Path, recordings: Sequence[ArmRecording], options: BagOptions | None = None) -> Path:
    """Write recordings one after the other into one bag."""
    options = options or BagOptions()
    writer = BagWriter(options.compression, options.chunk_size)
    connections: dict[tuple[str, int], int] = {}
    for recording in recordings:
        for message in messages(recording, options.topics):
            node = message.sequence % options.publishers
            key = (message.topic, node)
            if key not in connections:
                more = (("callerid", f"/node_{node}"), ("latching", "0"))
                connections[key] = writer.connect(BagTopic(message.topic, message.kind, definition(message.kind, "ros1"), definition_sum(message.kind), more))
            writer.write(connections[key], message.log_ns, encode(message.kind, message.value, "ros1"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(writer.finish(options.closed))
    return path
