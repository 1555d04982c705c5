"""The messages of the samples as protobuf: the same fields as in ROS, with a google.protobuf.Timestamp for stamps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dataengine.samples.ros import MESSAGES

_SCALARS = {
    "bool": 8,
    "uint8": 13,
    "uint16": 13,
    "uint32": 13,
    "int8": 5,
    "int32": 5,
    "float32": 2,
    "float64": 1,
    "string": 9,
}  # FieldDescriptorProto.Type


@lru_cache(maxsize=1)
def _registry() -> tuple[Any, dict[str, Any]]:
    """Return the FileDescriptorSet of all messages, and the message classes by the name in `MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    made: dict[str, Any] = {}
    for package in sorted({name.split("/")[0] for name in MESSAGES}):
        made[package] = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in MESSAGES.items():
        package, short = name.split("/")
        file = made[package]
        message = file.message_type.add(name=short)
        for number, (kind, key) in enumerate(fields, start=1):
            element = kind.split("[")[0]
            entry = message.field.add(name=key, number=number, label=3 if kind.endswith("]") and element != "uint8" else 1)
            if element == "time":
                entry.type, entry.type_name, needed = 11, ".google.protobuf.Timestamp", "google/protobuf/timestamp.proto"
            elif "/" in element:
                entry.type, entry.type_name, needed = 11, "." + element.replace("/", "."), f"{element.split('/')[0]}.proto"
            else:
                entry.type, needed = 12 if kind == "uint8[]" else _SCALARS[element], file.name
            if needed != file.name and needed not in file.dependency:
                file.dependency.append(needed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(files.file[0])
    waiting = list(made.values())
    done = {"google/protobuf/timestamp.proto"}
    while waiting:
        file = next(file for file in waiting if set(file.dependency) <= done)
        waiting.remove(file)
        done.add(file.name)
        pool.Add(file)
        files.file.add().CopyFrom(file)
    classes = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name.replace("/", "."))) for name in MESSAGES}
    return files, classes


def protobuf_schema(name: str) -> bytes:
    """Return the serialised FileDescriptorSet with a message's file and those it needs, in order."""
    from google.protobuf import descriptor_pb2

    files, _ = _registry()
    by_name = {file.name: file for file in files.file}
    wanted = [f"{name.split('/')[0]}.proto"]
    for current in wanted:
        wanted += [needed for needed in by_name[current].dependency if needed not in wanted]
    kept = descriptor_pb2.FileDescriptorSet(file=[file for file in files.file if file.name in wanted])
    return bytes(kept.SerializeToString(deterministic=True))


def _fill(message: Any, name: str, value: Mapping[str, Any]) -> None:
    for kind, key in MESSAGES[name]:
        element, item = kind.split("[")[0], value[key]
        if element == "time":
            stamp = getattr(message, key)
            stamp.seconds, stamp.nanos = int(item) // 1_000_000_000, int(item) % 1_000_000_000
        elif "/" in element and kind.endswith("]"):
            for entry in item:
                _fill(getattr(message, key).add(), element, entry)
        elif "/" in element:
            inner = getattr(message, key)
            inner.SetInParent()
            _fill(inner, element, item)
        elif kind.endswith("]") and kind != "uint8[]":
            getattr(message, key).extend(item)
        else:
            setattr(message, key, item)


def encode_protobuf(name: str, value: Mapping[str, Any]) -> bytes:
    """Return a message on the wire, with its fields in order."""
    message = _registry()[1][name]()
    _fill(message, name, value)
    return bytes(message.SerializeToString(deterministic=True))
