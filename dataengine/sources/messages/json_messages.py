"""JSON messages, with a JSON Schema or without: the numbers in them by path."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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

# Parsed JSON takes many times its text: a larger message is kept as payload only.
MAX_TEXT_BYTES = 4 << 20
MAX_DEPTH = 12

_DTYPES = {"integer": "int64", "number": "float64", "boolean": "bool"}
# Keys of an object that is one vector or quaternion.
_VECTORS = (("x", "y"), ("x", "y", "z"), ("x", "y", "z", "w"))


def _resolved(node: Any, root: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """Follow references inside the schema, and an `anyOf` of one type and null."""
    for _ in range(MAX_DEPTH - depth):
        if not isinstance(node, Mapping):
            return {}
        reference = node.get("$ref")
        options = node.get("anyOf") or node.get("oneOf")
        if isinstance(reference, str) and reference.startswith("#/"):
            target: Any = root
            for part in reference[2:].split("/"):
                target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
            node = target
        elif isinstance(options, list) and node.get("type") is None:
            left = [option for option in options if not (isinstance(option, Mapping) and option.get("type") == "null")]
            node = left[0] if len(left) == 1 else {}
        else:
            return node
    return {}


def _type(node: Mapping[str, Any]) -> str | None:
    found = node.get("type")
    names = [name for name in found if name != "null"] if isinstance(found, list) else [found]
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def schema_dtypes(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the numpy dtype of each numeric field that a JSON Schema declares, by path; an array's is that of its items."""
    found: dict[str, str] = {}

    def visit(node: Any, path: str, depth: int) -> None:
        if depth > MAX_DEPTH or len(found) >= MAX_LEAVES:
            return
        node = _resolved(node, schema, depth)
        properties = node.get("properties")
        if isinstance(properties, Mapping):
            for name, inner in properties.items():
                visit(inner, f"{path}.{name}" if path else str(name), depth + 1)
            return
        kind = _type(node)
        if kind == "array":
            items = node.get("items")
            if isinstance(items, list):  # a tuple: one schema an entry
                kinds = {_type(_resolved(item, schema, depth + 1)) for item in items}
                kind = kinds.pop() if len(kinds) == 1 else "number" if kinds <= {"integer", "number"} else None
            else:
                kind = _type(_resolved(items if items is not None else next(iter(node.get("prefixItems") or ()), None), schema, depth + 1))
        if kind in _DTYPES and path:
            found[path] = _DTYPES[kind]

    visit(schema, "", 0)
    return found


def _fits(value: Any, dtype: str) -> bool:
    if dtype == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if dtype == "int64":
        return (isinstance(value, int) or (math.isfinite(value) and value == int(value))) and -(2**63) <= value < 2**63
    return not isinstance(value, int) or abs(value) < 2**1023


def _seconds_ns(value: Mapping[str, Any]) -> int | None:
    """Return {"sec", "nsec"} as ns, the form that Foxglove and ROS bridges give times in."""
    seconds, nanos = value.get("sec", value.get("secs")), value.get("nsec", value.get("nanosec", value.get("nsecs")))
    if len(value) != 2 or type(seconds) is not int or type(nanos) is not int or not 0 <= nanos < NS_PER_S or not -(2**31) <= seconds < 2**33:
        return None
    return seconds * NS_PER_S + nanos


def parse_json(payload: Buffer) -> Any:
    """Return a JSON message as Python values; raise ValueError for one that is too large or no JSON."""
    if len(payload) > MAX_TEXT_BYTES:
        raise ValueError(f"a JSON message of {len(payload)} bytes is not taken apart")
    try:
        return json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


class JsonDecoder:
    """Decoder of JSON messages of one topic.

    With a schema, the fields it declares keep its types; a field that it does not declare, or any without a schema, is float64 (bool stays bool).
    Numbers and flat arrays of numbers become columns; texts, nulls and arrays of objects stay in the payload.

    Args:
        schema: a JSON Schema, or None.
        picture: name of the top-level text that holds a picture in base64: it is located, not decoded.
        texts: paths of texts to yield.

    Raises:
        SchemaProblem: the schema is not JSON.
    """

    def __init__(self, schema: MessageSchema | None, picture: str | None = None, texts: Sequence[str] = ()) -> None:
        self._picture, self._texts = picture, tuple(texts)
        self.facts: dict[str, Fact] = {}
        self._dtypes: dict[str, str] = {}
        self._stamp_path: str | None = None
        self._started = False
        if schema is not None and schema.encoding == "jsonschema" and schema.data.strip():
            if len(schema.data) > MAX_SCHEMA_BYTES:
                raise SchemaProblem(f"a schema of {len(schema.data)} bytes is too large")
            try:
                parsed = json.loads(schema.data)
            except (ValueError, RecursionError) as error:
                raise SchemaProblem(f"the schema is not JSON: {error}") from None
            if isinstance(parsed, Mapping):
                self._dtypes = schema_dtypes(parsed)

    def _leaf(self, path: str, value: Any, into: dict[str, Any]) -> None:
        """Note a number, or a flat list of numbers, under its path when it fits the field's dtype."""
        first = value[0] if isinstance(value, list) and value else value
        if not isinstance(first, int | float):
            return
        known = self.facts.get(path)
        if known is None:
            if len(self.facts) >= MAX_LEAVES:
                return
            known = Fact(self._dtypes.get(path) or ("bool" if isinstance(first, bool) else "float64"))
        if isinstance(value, list):
            if len(value) > MAX_ELEMENTS or not all(_fits(entry, known.dtype) for entry in value):
                return
        elif not _fits(value, known.dtype):
            return
        self.facts[path] = known
        into[path] = value

    def _note_texts(self, out: Decoded, row: int, message: Mapping[str, Any], payload: bytes) -> None:
        for path in self._texts:
            value: Any = message
            for name in path.split("."):
                value = value.get(name) if isinstance(value, Mapping) else None
            if isinstance(value, str):
                out.texts.setdefault(path, []).append((row, value.encode("utf-8", "replace")))
        text = message.get(self._picture) if self._picture is not None else None
        if isinstance(text, str) and text.isascii() and out.picture is not None:
            quoted = f'"{text}"'.encode()
            start = payload.find(quoted)
            if start >= 0 and payload.find(quoted, start + 1) < 0:
                out.picture[row] = (start + 1, start + 1 + len(text))

    def _vector(self, path: str, value: dict[str, Any], into: dict[str, Any]) -> bool:
        """Note an object that is a vector or quaternion; return whether it is one."""
        dims = tuple(value)
        if dims not in _VECTORS or not all(type(entry) in (int, float) for entry in value.values()) or path in self._dtypes:
            return False
        dtype = self._dtypes.get(f"{path}.x", "float64")
        if path not in self.facts and len(self.facts) < MAX_LEAVES:
            self.facts[path] = Fact(dtype, dims, align="slerp" if len(dims) == 4 and dtype == "float64" else None)
        if path in self.facts and self.facts[path].dims == dims and all(_fits(entry, dtype) for entry in value.values()):
            into[path] = list(value.values())
        return True

    def _walk(self, value: Any, path: str, depth: int, into: dict[str, Any]) -> None:
        if isinstance(value, dict):
            time_ns = _seconds_ns(value) if path else None
            if time_ns is not None:
                self.facts.setdefault(path, Fact("int64", unit="ns", time=True))
                into[path] = time_ns
            elif depth < MAX_DEPTH and not (path and self._vector(path, value, into)):
                for name, inner in value.items():
                    self._walk(inner, f"{path}.{name}" if path else name, depth + 1, into)
        elif path:
            self._leaf(path, value, into)

    def decode(self, payloads: Sequence[Buffer]) -> Decoded:
        """Return the numbers of a batch of messages."""
        out = Decoded(len(payloads))
        if self._picture is not None:
            out.picture = np.full((len(payloads), 2), -1, dtype=np.int64)
        names: dict[int, tuple[str, ...]] = {}
        rows: dict[str, tuple[list[int], list[Any]]] = {}
        stamps = np.zeros(len(payloads), dtype=np.int64)
        for row, payload in enumerate(payloads):
            try:
                message = parse_json(payload)
            except ValueError as error:
                out.failed[row] = str(error)
                continue
            found: dict[str, Any] = {}
            if isinstance(message, Mapping):
                self._note_texts(out, row, message, bytes(payload))
                named = next((message[name] for name in NAME_FIELDS if name in message), None)
                if isinstance(named, list) and named and len(named) <= MAX_ELEMENTS and all(isinstance(name, str) for name in named):
                    names[row] = tuple(named)
            self._walk(message, "", 0, found)
            if not self._started:  # the first message says which field is the stamp
                self._started = True
                self._stamp_path = next((path for path in STAMP_FIELDS if path in found and self.facts[path].time), None)
            if self._stamp_path is not None and self._stamp_path in found:
                stamps[row] = found.pop(self._stamp_path)
            for path, value in found.items():
                into = rows.setdefault(path, ([], []))
                into[0].append(row)
                into[1].append(value)
        if self._stamp_path is not None:
            out.stamp_ns = stamps
        for path, (at, values) in rows.items():
            out.numbers[path] = parts_by_shape(at, values, self.facts[path].dtype, names if "." not in path else None)
        return out
