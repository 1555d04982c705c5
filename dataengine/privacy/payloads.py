"""What a message can hold, told from its schema and its bytes: pictures that nobody looked at, and fields that a rule is about."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# No face can be recognised in so few bytes, whatever they mean.
SMALL_BYTES = 256
# A blob in a field of fixed size is no picture up to this: identifiers, keys, flags.
SMALL_BLOB = 64
LONG_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/_-]{76,}(?:\\?[rn]|[\r\n])*){4,}|[A-Za-z0-9+/_-]{304,}")
LONG_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[ ,:]?){512,}")
LONG_NUMBERS = re.compile(rb"(?:\d{1,3}[ ,\r\n\t]+){768,}")
_TAKEN_OUT = re.compile(r".*/(spliced|base64|pixels)-\d{1,3}", re.DOTALL)
TEXTS = frozenset(["utf-8", "utf8", "text", "json", "yaml", "xml", "urdf"])
# Messages with blobs that are no pictures, by what the field knows them as.
NO_PICTURES = frozenset(["nav_msgs/OccupancyGrid", "map_msgs/OccupancyGridUpdate", "audio_common_msgs/AudioData", "audio_common_msgs/AudioDataStamped"])

_ROS_FIELD = re.compile(r"^[ \t]*(?P<type>[A-Za-z][\w/]*(?:<=\d+)?)(?P<array>\[[^\]]*\])?[ \t]+(?P<name>[A-Za-z]\w*)")
_IDL_FIELD = re.compile(r"(?P<type>sequence<[^;]*?>|[A-Za-z][\w:]*)\s+(?P<name>[A-Za-z]\w*)\s*(?P<array>\[[^\]]*\])?\s*;")
_BYTES = frozenset(["uint8", "int8", "byte", "char", "octet", "uint16"])


@dataclass(frozen=True)
class SchemaFacts:
    """What a schema says: names of fields, whether one can hold a picture in bytes, whether one is text."""

    fields: frozenset[str]
    blobs: bool
    texts: bool


def is_taken_out(encoding: str) -> bool:
    """Whether a message under this encoding has its picture in another stream."""
    return _TAKEN_OUT.fullmatch(encoding) is not None


def is_opaque(encoding: str) -> bool:
    """Whether rows under this encoding are bytes that only their schema could explain: no text, JSON or the like."""
    name = encoding.lower()
    return name not in TEXTS and not name.startswith("text/") and not any(form in name for form in ("json", "xml", "yaml"))


def reads_as_text(data: bytes) -> bool:
    """Whether bytes can be read without a schema: JSON or plain text, or nothing."""
    return json_of(data) is not None or is_plain_text(data)


def message_type(schema: Mapping[str, Any]) -> str:
    """Return a schema's message type as "package/Name", without "msg" in between."""
    name = str(schema.get("name", "")).replace("/msg/", "/")
    return name if "/" in name else name.replace(".", "/")


def schema_facts(schema: Mapping[str, Any] | None) -> SchemaFacts | None:
    """Return what the schema of a message stream says (the entry `schema` of its column's `extra`), None where it cannot be read."""
    if schema is None:
        return None
    encoding = schema.get("encoding")
    text = schema.get("text")
    if encoding in ("ros1msg", "ros2msg") and isinstance(text, str):
        return _ros(text)
    if encoding == "ros2idl" and isinstance(text, str):
        return _idl(text)
    if encoding == "protobuf" and isinstance(schema.get("base64"), str):
        return _protobuf(base64.b64decode(str(schema["base64"])), str(schema.get("name", "")))
    return None


def _blob(type_name: str, array: str | None) -> bool:
    """Whether a field is an array of bytes that a picture fits into."""
    if type_name not in _BYTES or array is None:
        return False
    size = re.fullmatch(r"\[(\d+)\]", array)
    return size is None or int(size[1]) > SMALL_BLOB


def _ros(text: str) -> SchemaFacts:
    lines = [line.split("#", 1)[0] for line in text.splitlines()]
    found = [match for line in lines if "=" not in line for match in [_ROS_FIELD.match(line)] if match]
    return SchemaFacts(
        frozenset(match["name"] for match in found),
        any(_blob(match["type"], match["array"]) for match in found),
        any(match["type"].startswith(("string", "wstring")) for match in found),
    )


def _idl(text: str) -> SchemaFacts:
    bare = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    found = list(_IDL_FIELD.finditer(bare))
    sequences = [re.match(r"sequence<\s*(\w+)", match["type"]) for match in found]
    blobs = any(sequence is not None and sequence[1] in _BYTES for sequence in sequences)
    typedefs = any(_blob(match["type"], match["array"]) for match in found)
    return SchemaFacts(frozenset(match["name"] for match in found), blobs or typedefs, "string" in bare)


def _protobuf(data: bytes, root: str) -> SchemaFacts | None:
    """Return what a message says with all it is made of; of a file's other messages nothing, unless the message is not found."""
    try:
        from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
        from google.protobuf.message import DecodeError
    except ImportError:
        return None
    try:
        files = FileDescriptorSet.FromString(data)
    except DecodeError:
        return None
    names: set[str] = set()
    blobs = texts = False
    known: dict[str, Any] = {}
    todo = [(f".{file.package}" if file.package else "", message) for file in files.file for message in file.message_type]
    while todo:
        prefix, message = todo.pop()
        known[f"{prefix}.{message.name}"] = message
        todo += [(f"{prefix}.{message.name}", nested) for nested in message.nested_type]
    wanted = [f".{root}"] if f".{root}" in known else list(known)
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        for field in known[name].field:
            names.add(field.name)
            wanted.append(field.type_name)
            blobs = blobs or field.type == FieldDescriptorProto.TYPE_BYTES
            texts = texts or field.type == FieldDescriptorProto.TYPE_STRING
    return SchemaFacts(frozenset(names), blobs, texts)


def holds_picture_text(data: bytes) -> bool:
    """Whether a text is long enough in base64, hexadecimal digits or small numbers to hold a picture."""
    return any(pattern.search(data) for pattern in (LONG_BASE64, LONG_HEX, LONG_NUMBERS))


def is_plain_text(data: bytes) -> bool:
    """Whether bytes are text, in which a picture could only stand as base64 and the like."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter >= " " or letter in "\t\r\n\f" for letter in text)


def may_show_somebody(data: bytes, encoding: str, facts: SchemaFacts | None, message: str) -> bool:
    """Whether a row that is kept as bytes can hold a picture that the detector has not seen.

    Args:
        data: the row.
        encoding: its own ("cdr", "json", "cdr/spliced-0", "utf-8", ...).
        facts: of its schema, None where there is none that can be read.
        message: its message type, "" for none.
    """
    if len(data) <= SMALL_BYTES or message in NO_PICTURES:
        return False
    if is_taken_out(encoding):
        return holds_picture_text(data)
    if facts is not None:
        return facts.blobs or (facts.texts and holds_picture_text(data))
    if is_plain_text(data):
        return holds_picture_text(data)
    return True


def json_of(data: bytes) -> Any | None:
    """Return what a payload holds as JSON, None where it is no JSON object or list."""
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def keys_in(data: bytes) -> Iterable[str]:
    """Yield what looks like a key of JSON in bytes that are no whole JSON."""
    for match in re.finditer(rb'"([^"\\]{1,100})"\s*:', data):
        yield match[1].decode("utf-8", "replace")
