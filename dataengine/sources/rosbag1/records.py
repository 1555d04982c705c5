"""The records of a ROS 1 bag, format 2.0: how their headers read, and what each kind must hold.

Source: http://wiki.ros.org/Bags/Format/2.0. A record is a header and data, each with its length before it (uint32); a header is a row of `name=value` fields,
each with its length before it. All integers are little-endian; a time is uint32 seconds and uint32 nanoseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer

MAGIC = b"#ROSBAG V2.0\n"
ANY_MAGIC = b"#ROSBAG V"
OLD_MAGICS = (b"#ROSBAG V1", b"#ROSRECORD V")

MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)

CUT_CHUNK = -1  # not in a file: what is there of a chunk that the end of the file cuts off

MAX_HEADER_BYTES = 16 << 20  # a connection's header holds its message definition
MAX_FIELDS = 1000

U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_INDEX_ENTRY = np.dtype([("time", "<u8"), ("offset", "<u4")])
_COUNT_ENTRY = np.dtype([("connection", "<u4"), ("count", "<u4")])

Fields = Mapping[bytes, bytes]


def short(where: str, what: str, found: str) -> BadRecording:
    """Return the error for a record that is not whole or lacks something."""
    return BadRecording(where, what, found, "restore the file from a copy", check="bad_record")


def parse_fields(data: Buffer, where: str) -> dict[bytes, bytes]:
    """Return the fields of a header."""
    block, at, fields = bytes(data), 0, dict[bytes, bytes]()
    while at < len(block):
        if len(block) - at < 4:
            raise short(where, "whole fields in a header", f"{len(block) - at} bytes left over")
        length = int(U32.unpack_from(block, at)[0])
        end = at + 4 + length
        if end > len(block):
            raise short(where, "whole fields in a header", f"a field of {length} bytes, {len(block) - at - 4} of them there")
        name, equals, value = block[at + 4 : end].partition(b"=")
        if not equals or not name or name in fields or len(fields) >= MAX_FIELDS:
            raise short(where, "fields `name=value`, each once", repr(block[at + 4 : min(end, at + 44)]))
        fields[name] = value
        at = end
    return fields


def number(fields: Fields, name: bytes, where: str, size: int = 4) -> int:
    """Return an integer field of `size` bytes."""
    value = fields.get(name)
    if value is None or len(value) != size:
        raise short(where, f"a field {name.decode()!r} of {size} bytes", "none" if value is None else f"{len(value)} bytes")
    return int((_U64 if size == 8 else U32).unpack(value)[0])


def opcode(fields: Fields, where: str) -> int:
    """Return what kind of record a header begins."""
    value = fields.get(b"op")
    if value is None or len(value) != 1:
        raise short(where, "a field 'op' of 1 byte", "none" if value is None else f"{len(value)} bytes")
    return value[0]


class Connection(NamedTuple):
    """A topic of one publisher: `fields` are those of its own header (callerid, latching, md5sum …), without the definition."""

    number: int
    topic: str
    type: str
    definition: bytes
    fields: Mapping[str, str]


def parse_connection(fields: Fields, data: Buffer, where: str) -> Connection:
    """Return the connection of a record."""
    said = parse_fields(data, where)
    topic, kind = fields.get(b"topic", b""), said.get(b"type", b"")
    if not topic or not kind or not topic.isascii() or not kind.isascii():
        raise short(where, "a topic and a type, in ASCII", f"{topic[:80]!r} and {kind[:80]!r}")
    rest = {_text(name): _text(value) for name, value in said.items() if name not in (b"message_definition", b"type")}
    return Connection(number(fields, b"conn", where), _text(topic), _text(kind), said.get(b"message_definition", b""), rest)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


class ChunkInfo(NamedTuple):
    """What the index at the end of a bag says of a chunk: where it lies, and how many messages of each connection it holds."""

    position: int
    counts: Mapping[int, int]


def parse_chunk_info(fields: Fields, data: Buffer, where: str) -> ChunkInfo:
    """Return what a record of the index at the end says of a chunk."""
    if number(fields, b"ver", where) != 1:
        raise short(where, "version 1 of a chunk info", str(number(fields, b"ver", where)))
    count = number(fields, b"count", where)
    if len(data) != count * _COUNT_ENTRY.itemsize:
        raise short(where, f"{count} entries of 8 bytes", f"{len(data)} bytes")
    for name in (b"start_time", b"end_time"):
        number(fields, name, where, 8)
    entries = np.frombuffer(data, dtype=_COUNT_ENTRY)
    counts = dict(zip(entries["connection"].tolist(), entries["count"].tolist(), strict=True))
    return ChunkInfo(number(fields, b"chunk_pos", where, 8), counts)


def parse_index(fields: Fields, data: Buffer, where: str) -> tuple[int, Array]:
    """Return the connection of an index record, and its entries: `time` (seconds in the low half, nanoseconds in the high one) and `offset` in the chunk."""
    if number(fields, b"ver", where) != 1:
        raise short(where, "version 1 of an index", str(number(fields, b"ver", where)))
    count = number(fields, b"count", where)
    if len(data) != count * _INDEX_ENTRY.itemsize:
        raise short(where, f"{count} entries of 12 bytes", f"{len(data)} bytes")
    return number(fields, b"conn", where), np.frombuffer(data, dtype=_INDEX_ENTRY)


class MessageForm(NamedTuple):
    """The bytes of a message record's header where nothing but connection and time differs: read in one go, with the lengths before and behind it.

    `unpack` gives (header length, fixed, first value, fixed, second value, fixed, data length); `time_first` says which value is which.
    """

    unpack: struct.Struct
    fixed: tuple[int, bytes, bytes, bytes]
    time_first: bool


def message_form(header: bytes, where: str) -> MessageForm:
    """Return the form of a message's header."""
    fields = parse_fields(header, where)
    number(fields, b"conn", where)
    number(fields, b"time", where, 8)
    at = 0
    spans: list[tuple[int, int]] = []
    time_first = False
    while at < len(header):
        length = int(U32.unpack_from(header, at)[0])
        name = header[at + 4 : at + 4 + length].partition(b"=")[0]
        if name in (b"conn", b"time"):
            time_first = time_first or (name == b"time" and not spans)
            spans.append((at + 4 + len(name) + 1, at + 4 + length))
        at += 4 + length
    (a, b), (c, d) = spans
    unpack = struct.Struct(f"<I{a}s{b - a}s{c - b}s{d - c}s{len(header) - d}sI")
    return MessageForm(unpack, (len(header), header[:a], header[b:c], header[d:]), time_first)
