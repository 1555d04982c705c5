"""Protobuf messages read by descriptor sets that are made here, and ones that are not what they claim."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2

from dataengine.sources.messages.fields import MessageSchema, SchemaProblem
from dataengine.sources.messages.protobuf_messages import MAX_MESSAGE_BYTES, ProtobufDecoder, bytes_field

F = descriptor_pb2.FieldDescriptorProto


def _schema(fields: list[tuple[Any, ...]], drop: str = "") -> MessageSchema:
    """Return the schema of message p.M with (name, number, type, label or type name...) and of p.V {double x = 1; double y = 2; double z = 3}."""
    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    file = files.file.add(name="m.proto", package="p", syntax="proto3", dependency=["google/protobuf/timestamp.proto"])
    vector = file.message_type.add(name="V")
    for number, name in enumerate("xyz", start=1):
        vector.field.add(name=name, number=number, type=F.TYPE_DOUBLE, label=F.LABEL_OPTIONAL)
    message = file.message_type.add(name="M")
    for name, number, kind, repeated, type_name in fields:
        message.field.add(name=name, number=number, type=kind, label=F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL, type_name=type_name or None)
    if drop:
        kept = [one for one in files.file if one.name != drop]
        files = descriptor_pb2.FileDescriptorSet(file=kept)
    return MessageSchema("p.M", "protobuf", files.SerializeToString())


def _tag(number: int, kind: int) -> bytes:
    return bytes([number << 3 | kind])


def _sized(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return _tag(number, 2) + bytes([len(data)]) + data


FIELDS = [
    ("timestamp", 1, F.TYPE_MESSAGE, False, ".google.protobuf.Timestamp"),
    ("v", 2, F.TYPE_MESSAGE, False, ".p.V"),
    ("i", 3, F.TYPE_SINT32, False, ""),
    ("r", 4, F.TYPE_FLOAT, True, ""),
    ("vs", 5, F.TYPE_MESSAGE, True, ".p.V"),
    ("name", 6, F.TYPE_STRING, True, ""),
    ("u", 7, F.TYPE_UINT64, False, ""),
]


def test_numbers_vectors_times_and_names_by_path() -> None:
    first = _sized(1, b"\x08\x05\x10\x07") + _sized(2, b"\x09" + struct.pack("<d", 1.5) + b"\x19" + struct.pack("<d", -2.0)) + _tag(3, 0) + b"\x05"
    first += _sized(4, struct.pack("<2f", 0.5, 4.0)) + _sized(5, b"\x09" + struct.pack("<d", 1.0)) + _sized(6, b"a") + _sized(6, b"b")
    second = _tag(7, 0) + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    decoder = ProtobufDecoder(_schema(FIELDS))
    decoded = decoder.decode([first, second, b"\x0a\xff"])
    assert list(decoded.failed) == [2]
    assert decoded.stamp_ns is not None
    assert decoded.stamp_ns.tolist() == [5_000_000_007, 0, 0]
    seen = {path: [(part.rows.tolist(), part.values.tolist(), str(part.values.dtype), part.names) for part in parts] for path, parts in decoded.numbers.items()}
    assert seen == {
        "v": [([0], [[1.5, 0.0, -2.0]], "float64", None)],
        "i": [([0, 1], [-3, 0], "int32", None)],
        "r": [([0], [[0.5, 4.0]], "float32", ("a", "b"))],
        "u": [([0, 1], [0, 2**64 - 1], "uint64", None)],
    }
    assert decoder.facts["v"].dims == ("x", "y", "z")


def test_a_picture_is_located_in_the_bytes() -> None:
    fields = [("frame_id", 1, F.TYPE_STRING, False, ""), ("data", 2, F.TYPE_BYTES, False, ""), ("format", 3, F.TYPE_STRING, False, "")]
    decoder = ProtobufDecoder(_schema(fields), picture="data", texts=("frame_id",))
    one = _sized(1, b"cam") + _sized(2, b"\xff\xd8xx") + _sized(3, b"jpeg")
    twice = one + _sized(2, b"z")
    decoded = decoder.decode([one, _sized(1, b"cam"), twice])
    assert decoded.picture is not None
    assert decoded.picture.tolist() == [[7, 11], [-1, -1], [-1, -1]]
    assert one[7:11] == b"\xff\xd8xx"
    assert decoded.texts["frame_id"] == [(0, b"cam"), (1, b"cam"), (2, b"cam")]


@pytest.mark.parametrize("data", [b"\x12", b"\x12\x05ab", b"\x13", b"\x80" * 12, b"\x11abc"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|not known"):
        bytes_field(data, 2)


def test_a_message_that_is_too_large_is_kept_whole() -> None:
    decoded = ProtobufDecoder(_schema(FIELDS)).decode([bytes(MAX_MESSAGE_BYTES + 1)])
    assert list(decoded.failed) == [0]
    assert not decoded.numbers


@pytest.mark.parametrize(
    "schema",
    [
        MessageSchema("p.M", "protobuf", b"\xff\xff\xff"),
        MessageSchema("p.Other", "protobuf", _schema(FIELDS).data),
        _schema(FIELDS, drop="google/protobuf/timestamp.proto"),
        _schema([("a", 1, F.TYPE_MESSAGE, False, ".p.None")]),
        _schema([("a", 1, F.TYPE_INT32, False, ""), ("b", 1, F.TYPE_INT32, False, "")]),
        MessageSchema("p.M", "protobuf", b""),
    ],
    ids=["junk", "other name", "missing file", "missing type", "number twice", "empty"],
)
def test_a_descriptor_set_that_cannot_be_used_is_refused(schema: MessageSchema) -> None:
    with pytest.raises(SchemaProblem):
        ProtobufDecoder(schema)


def test_a_message_that_holds_itself_ends() -> None:
    decoder = ProtobufDecoder(_schema([("m", 1, F.TYPE_MESSAGE, False, ".p.M"), ("i", 2, F.TYPE_INT32, False, "")]))
    inner = _tag(2, 0) + b"\x07"
    decoded = decoder.decode([_sized(1, _sized(1, inner)) + inner])
    assert decoded.numbers["m.m.i"][0].values.tolist() == [7]
    assert np.array_equal(decoded.numbers["i"][0].values, [7])
