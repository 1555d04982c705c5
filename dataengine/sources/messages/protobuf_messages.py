"""Protobuf messages, read by the descriptor set that the recording carries: the numbers in them by path.

Source: protobuf encoding and descriptor.proto (https://protobuf.dev); Foxglove's well-known schemas for what a `timestamp` is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.clock import NS_PER_S
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import (
    MAX_ELEMENTS,
    MAX_LEAVES,
    MAX_SCHEMA_BYTES,
    NAME_FIELDS,
    STAMP_FIELDS,
    Decoded,
    Fact,
    MessageSchema,
    SchemaProblem,
    parts_by_shape,
)

# A parsed message takes many times its bytes where it is made of empty parts: a larger one is kept as payload only.
MAX_MESSAGE_BYTES = 8 << 20
MAX_DEPTH = 8

# FieldDescriptor.cpp_type -> numpy name
_DTYPES = {1: "int32", 2: "int64", 3: "uint32", 4: "uint64", 5: "float64", 6: "float32", 7: "bool", 8: "int32"}
_MESSAGE = 10
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


@dataclass(frozen=True)
class _Leaf:
    """How one column is read: the messages to enter, then the field; of a vector, the fields."""

    path: str
    route: tuple[Any, ...]
    names: tuple[str, ...]
    repeated: bool
    presence: bool
    time: bool


def _is_text(descriptor: Any, route: Sequence[str]) -> bool:
    """Whether a path of singular fields leads to a string."""
    for name in route[:-1]:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None or _repeated(field):
            return False
        descriptor = field.message_type
    field = descriptor.fields_by_name.get(route[-1])
    return field is not None and field.type == field.TYPE_STRING and not _repeated(field)


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a varint is cut off")


def bytes_field(data: Buffer, number: int) -> tuple[int, int] | None:
    """Return start and end of the one bytes field `number` of a message, None where it is absent or stands twice; raise ValueError."""
    at, end = 0, len(data)
    found = None
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(data, at, end)
            continue
        if kind == 2:
            length, at = _varint(data, at, end)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is not known")
        if length > end - at:
            raise ValueError("a field is cut off")
        if tag >> 3 == number and kind == 2:
            if found is not None:
                return None
            found = (at, at + length)
        at += length
    return found


def message_class(schema: MessageSchema) -> Any:
    """Return the class of a schema's message, made in a pool of its own; raise SchemaProblem."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError

    if len(schema.data) > MAX_SCHEMA_BYTES:
        raise SchemaProblem(f"a descriptor set of {len(schema.data)} bytes is too large")
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(schema.data)
        pool = descriptor_pool.DescriptorPool()
        waiting = {file.name: file for file in files.file}
        added: set[str] = set()
        while waiting:
            ready = [name for name, file in waiting.items() if all(other in added for other in file.dependency)]
            if not ready:
                missing = sorted({other for file in waiting.values() for other in file.dependency} - set(waiting) - added)
                raise SchemaProblem(f"the descriptor set lacks {missing[:3]}" if missing else "the descriptor set's files need each other")
            for name in ready:
                pool.Add(waiting.pop(name))
                added.add(name)
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
    except (DecodeError, TypeError, KeyError, ValueError) as error:
        if isinstance(error, SchemaProblem):
            raise
        raise SchemaProblem(f"the descriptor set cannot be used: {str(error)[:200]}") from None


class ProtobufDecoder:
    """Decoder of one protobuf schema.

    Singular numbers, repeated numbers, enums and times become columns; a message of two or more numbers of one type (a vector, a quaternion) is one
    column. Texts, bytes, maps and repeated messages stay in the payload.

    Args:
        schema: a serialised FileDescriptorSet.
        picture: name of the top-level bytes field that holds a picture.
        texts: paths of strings to yield.

    Raises:
        SchemaProblem: the descriptor set cannot be used.
    """

    def __init__(self, schema: MessageSchema, picture: str | None = None, texts: Sequence[str] = ()) -> None:
        self._class = message_class(schema)
        self.facts: dict[str, Fact] = {}
        self._leaves: list[_Leaf] = []
        descriptor = self._class.DESCRIPTOR
        self._collect(descriptor, "", (), 0)
        self.stamp_path = next((path for path in STAMP_FIELDS if path in self.facts and self.facts[path].time), None)
        self._picture = None
        if picture is not None:
            field = descriptor.fields_by_name.get(picture)
            if field is None or field.type != field.TYPE_BYTES or _repeated(field):
                raise SchemaProblem(f"the message has no bytes field {picture!r}")
            self._picture = int(field.number)
        self._texts = [(path, path.split(".")) for path in texts if _is_text(descriptor, path.split("."))]
        names = [descriptor.fields_by_name[name] for name in NAME_FIELDS if name in descriptor.fields_by_name]
        self._names = next((field.name for field in names if _repeated(field) and field.type == field.TYPE_STRING), None)
        self._read: list[tuple[_Leaf, Callable[[Any], Any]]] = [(leaf, _getter(leaf)) for leaf in self._leaves]

    def _collect(self, descriptor: Any, prefix: str, route: tuple[Any, ...], depth: int) -> None:
        for field in descriptor.fields:
            if len(self._leaves) >= MAX_LEAVES:
                return
            path = f"{prefix}{field.name}"
            if field.cpp_type in _DTYPES:
                self.facts[path] = Fact(_DTYPES[field.cpp_type])
                self._leaves.append(_Leaf(path, route, (field.name,), _repeated(field), not _repeated(field) and field.has_presence, False))
            elif field.cpp_type == _MESSAGE and not _repeated(field):
                inner = field.message_type
                entered = (*route, field.name)
                kinds = {(one.cpp_type, _repeated(one), bool(one.has_presence)) for one in inner.fields}
                kind = next(iter(kinds))[0] if len(kinds) == 1 and next(iter(kinds))[1:] == (False, False) else None
                if inner.full_name in _TIMES:
                    self.facts[path] = Fact("int64", unit="ns", time=True)
                    self._leaves.append(_Leaf(path, entered, ("seconds", "nanos"), False, False, True))
                elif len(inner.fields) >= 2 and kind in _DTYPES:
                    dims = tuple(one.name for one in inner.fields)
                    slerp = dims == ("x", "y", "z", "w") and kind in (5, 6)
                    self.facts[path] = Fact(_DTYPES[kind], dims, align="slerp" if slerp else None)
                    self._leaves.append(_Leaf(path, entered, dims, False, False, False))
                elif depth < MAX_DEPTH:
                    self._collect(inner, f"{path}.", entered, depth + 1)

    def parse(self, payload: Buffer) -> Any:
        """Return one message; raise ValueError for bytes that are too many or not this message."""
        from google.protobuf.message import DecodeError

        if len(payload) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a protobuf message of {len(payload)} bytes is not taken apart")
        try:
            return self._class.FromString(bytes(payload))
        except DecodeError as error:
            raise ValueError(f"not this protobuf message: {error}") from None

    def decode(self, payloads: Sequence[Buffer]) -> Decoded:
        """Return the numbers of a batch of messages."""
        out = Decoded(len(payloads))
        if self.stamp_path is not None:
            out.stamp_ns = np.zeros(len(payloads), dtype=np.int64)
        if self._picture is not None:
            out.picture = np.full((len(payloads), 2), -1, dtype=np.int64)
        names: dict[int, tuple[str, ...]] = {}
        rows: dict[str, tuple[list[int], list[Any]]] = {leaf.path: ([], []) for leaf in self._leaves}
        for row, payload in enumerate(payloads):
            try:
                message = self.parse(payload)
                place = bytes_field(payload, self._picture) if self._picture is not None else None
            except ValueError as error:
                out.failed[row] = str(error)
                continue
            if place is not None and out.picture is not None:
                out.picture[row] = place
            for path, route in self._texts:
                value = message
                for name in route:
                    value = getattr(value, name)
                out.texts.setdefault(path, []).append((row, value.encode("utf-8", "replace")))
            if self._names is not None:
                names[row] = tuple(getattr(message, self._names)[:MAX_ELEMENTS])
            for leaf, read in self._read:
                value = read(message)
                if value is None:
                    continue
                if leaf.path == self.stamp_path and out.stamp_ns is not None:
                    out.stamp_ns[row] = value
                    continue
                into = rows[leaf.path]
                into[0].append(row)
                into[1].append(value)
        for path, (at, values) in rows.items():
            if at:
                out.numbers[path] = parts_by_shape(at, values, self.facts[path].dtype, names if "." not in path else None)
        return out


def _getter(leaf: _Leaf) -> Callable[[Any], Any]:
    """Return the function that reads a leaf of a message; None where the message does not hold it."""

    def read(message: Any) -> Any:
        for name in leaf.route:
            if not message.HasField(name):
                return None
            message = getattr(message, name)
        if leaf.time:
            time_ns = message.seconds * NS_PER_S + message.nanos
            return time_ns if -(2**63) <= time_ns < 2**63 else None
        if len(leaf.names) > 1:
            return [getattr(message, name) for name in leaf.names]
        if leaf.presence and not message.HasField(leaf.names[0]):
            return None
        value = getattr(message, leaf.names[0])
        if leaf.repeated:
            return list(value) if 0 < len(value) <= MAX_ELEMENTS else None
        return value

    return read
