"""ROS message definitions (ROS 1 and ROS 2 `.msg` text with its dependencies) as a tree of fields; nothing of it is executed.

Source: http://wiki.ros.org/msg and https://docs.ros.org/en/rolling/Concepts/Basic/About-Interfaces.html; definitions of several types
follow each other, parted by a line of "=" and named by a line "MSG: package/Type".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dataengine.sources.messages.fields import MAX_SCHEMA_BYTES, SchemaProblem

# numpy names; "text" stands for strings, "time" for 4 bytes of seconds and 4 of nanoseconds (signed where the type says so).
PRIMITIVES: Mapping[str, str] = {
    "bool": "bool",
    "byte": "uint8",
    "char": "uint8",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float32": "float32",
    "float64": "float64",
    "string": "text",
    "wstring": "wide text",
    "time": "time",
    "duration": "signed time",
    "builtin_interfaces/Time": "signed time",
    "builtin_interfaces/Duration": "signed time",
}

_FIELD = re.compile(r"(?P<type>[A-Za-z][\w/]*)(?:<=\d+)?(?P<array>\[(?:<=)?\d*\])?\s+(?P<name>[A-Za-z_]\w*)\s*(?P<rest>.*)")


@dataclass(frozen=True)
class Field:
    """One field: `type` is a value of PRIMITIVES or a full message name; `length` of an array: -1 = as long as each message says, None = no array."""

    name: str
    type: str
    length: int | None = None


def _full_name(name: str, package: str, known: Mapping[str, str]) -> str:
    name = name.replace("/msg/", "/")
    if name in PRIMITIVES:
        return name
    if "/" in name:
        return name
    if name == "Header" and f"{package}/Header" not in known:
        return "std_msgs/Header"
    return f"{package}/{name}"


def _fields(body: str, package: str, known: Mapping[str, str], ros1: bool) -> list[Field]:
    fields = []
    for line in body.splitlines():
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        match = _FIELD.fullmatch(line)
        if match is None:
            raise SchemaProblem(f"the line {line[:80]!r} is no field")
        if match["rest"].startswith("="):
            continue  # a constant
        if match["rest"] and ros1:
            raise SchemaProblem(f"the line {line[:80]!r} is no field")
        full = _full_name(match["type"], package, known)
        length = None
        if match["array"]:
            digits = match["array"][1:-1]
            length = int(digits) if digits.isdigit() else -1
        fields.append(Field(match["name"], PRIMITIVES.get(full, full), length))
    return fields


def parse_definitions(name: str, text: bytes, ros1: bool) -> tuple[str, dict[str, list[Field]]]:
    """Return the message's full name ("package/Type") and the fields of it and of every type it is made of.

    Raises:
        SchemaProblem: the text is no message definition, or a type that it uses is missing.
    """
    if len(text) > MAX_SCHEMA_BYTES:
        raise SchemaProblem(f"a definition of {len(text)} bytes is too large")
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise SchemaProblem("the definition is not text") from None
    main = name.replace("/msg/", "/")
    bodies: dict[str, list[str]] = {main: []}
    current = bodies[main]
    for line in lines:
        stripped = line.strip()
        if len(stripped) >= 3 and not stripped.strip("="):
            current = []
        elif stripped.startswith("MSG:"):
            current = bodies.setdefault(stripped[4:].strip().replace("/msg/", "/"), [])
        elif stripped.startswith("IDL:"):
            raise SchemaProblem("the definition is in IDL, not in the .msg form")
        else:
            current.append(line)
    known = {full: "\n".join(body) for full, body in bodies.items()}
    types = {full: _fields(body, full.split("/")[0], known, ros1) for full, body in known.items()}
    primitive = set(PRIMITIVES.values())
    for full, fields in types.items():
        for one in fields:
            if one.type not in primitive and one.type not in types:
                raise SchemaProblem(f"the type {one.type!r} that {full!r} uses is not defined")
    return main, types
