"""Genuine MCAP recordings: ROS 2 (CDR), ROS 1, protobuf or JSON messages, in chunks that are compressed or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataengine.samples.arm import ArmRecording
from dataengine.samples.protobuf import encode_protobuf, protobuf_schema
from dataengine.samples.ros import MESSAGES, definition, encode, json_ready, ros_type
from dataengine.samples.topics import Message, TopicOptions, messages

McapEncoding = Literal["ros2", "ros1", "protobuf", "json"]
McapCompression = Literal["zstd", "lz4", "none"]


@dataclass(frozen=True)
class McapOptions:
    """How a file is written.

    Args:
        encoding: of the messages and their schemas.
        compression: of the chunks.
        chunk_size: in bytes before compression; 0 writes messages without chunks.
        topics: which topics there are.
        crcs: writes the checksums of chunks and of the summary.
    """

    encoding: McapEncoding = "ros2"
    compression: McapCompression = "zstd"
    chunk_size: int = 1 << 20
    topics: TopicOptions = field(default_factory=TopicOptions)
    crcs: bool = True


def _json_schema(name: str) -> bytes:
    properties: dict[str, Any] = {}
    for kind, key in MESSAGES[name]:
        if kind == "uint8[]":
            properties[key] = {"type": "string", "contentEncoding": "base64"}
        elif kind.endswith("]"):
            properties[key] = {"type": "array"}
        elif "/" in kind:
            properties[key] = {"type": "object"}
        else:
            properties[key] = {"type": "string" if kind == "string" else "boolean" if kind == "bool" else "number"}
    return json.dumps({"title": name, "type": "object", "properties": properties}).encode()


def _json_message(message: Message) -> bytes:
    return json.dumps(json_ready(message.value)).encode()


# For each encoding: profile, encoding of schemas, encoding of messages, a type's name, its schema, and a message's bytes.
_ENCODINGS: dict[McapEncoding, tuple[str, str, str, Callable[[str], str], Callable[[str], bytes], Callable[[Message], bytes]]] = {
    "ros2": ("ros2", "ros2msg", "cdr", lambda n: ros_type(n, "ros2"), lambda n: definition(n, "ros2").encode(), lambda m: encode(m.kind, m.value, "ros2")),
    "ros1": ("ros1", "ros1msg", "ros1", lambda n: ros_type(n, "ros1"), lambda n: definition(n, "ros1").encode(), lambda m: encode(m.kind, m.value, "ros1")),
    "protobuf": ("", "protobuf", "protobuf", lambda n: n.replace("/", "."), protobuf_schema, lambda m: encode_protobuf(m.kind, m.value)),
    "json": ("", "jsonschema", "json", lambda n: n.replace("/", "."), _json_schema, _json_message),
}


def write_mcap(
    path: Path, recordings: Sequence[ArmRecording], options: McapOptions | None = None, metadata: Mapping[str, Mapping[str, str]] | None = None
) -> Path:
    """Write recordings one after the other into one file; `metadata` maps names of metadata records to their entries.

    Each recording is also named by a metadata record `episode` with its name, task, success, and first and last log time in ns.
    """
    from mcap.writer import CompressionType, Writer

    options = options or McapOptions()
    compression = {"zstd": CompressionType.ZSTD, "lz4": CompressionType.LZ4, "none": CompressionType.NONE}[options.compression]
    profile, schema_encoding, message_encoding, type_name, schema, payload = _ENCODINGS[options.encoding]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file, options.chunk_size or 1 << 20, compression, use_chunking=bool(options.chunk_size), enable_crcs=options.crcs)
        writer.start(profile, "dataengine samples")
        schemas, channels = dict[str, int](), dict[str, int]()
        for recording in recordings:
            said = messages(recording, options.topics)
            for message in said:
                if message.topic not in channels:
                    if message.kind not in schemas:
                        schemas[message.kind] = writer.register_schema(type_name(message.kind), schema_encoding, schema(message.kind))
                    channels[message.topic] = writer.register_channel(message.topic, message_encoding, schemas[message.kind])
                writer.add_message(channels[message.topic], message.log_ns, payload(message), message.stamp_ns, message.sequence)
            entries = {"name": recording.name, "task": recording.task, "success": str(recording.success).lower()}
            if said:
                entries |= {"first_log_ns": str(said[0].log_ns), "last_log_ns": str(said[-1].log_ns)}
            writer.add_metadata("episode", entries)
        for name, extra in (metadata or {}).items():
            writer.add_metadata(name, dict(extra))
        writer.finish()
    return path
