"""JSON messages: which numbers become columns, and of what dtype."""

from __future__ import annotations

import json

import pytest

from dataengine.sources.messages.fields import Decoded, MessageSchema, SchemaProblem
from dataengine.sources.messages.json_messages import MAX_TEXT_BYTES, JsonDecoder, schema_dtypes


def _schema(value: object) -> MessageSchema:
    return MessageSchema("x", "jsonschema", json.dumps(value).encode())


def _found(decoded: Decoded) -> dict[str, list[tuple[list[int], object, str]]]:
    return {path: [(part.rows.tolist(), part.values.tolist(), str(part.values.dtype)) for part in parts] for path, parts in decoded.numbers.items()}


def test_a_schema_gives_dtypes_through_references_options_and_arrays() -> None:
    schema = {
        "$defs": {"P": {"type": "object", "properties": {"x": {"type": "number"}, "again": {"$ref": "#/$defs/P"}}}},
        "properties": {
            "n": {"type": "integer"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "either": {"type": ["boolean", "null"]},
            "both": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "list": {"type": "array", "items": {"type": "integer"}},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]},
            "p": {"$ref": "#/$defs/P"},
            "s": {"type": "string"},
        },
    }
    found = schema_dtypes(schema)
    assert {path: dtype for path, dtype in found.items() if "again" not in path} == {
        "n": "int64",
        "maybe": "int64",
        "either": "bool",
        "list": "int64",
        "pair": "int64",
        "p.x": "float64",
    }


def test_numbers_land_by_path_and_what_does_not_fit_has_no_row() -> None:
    decoder = JsonDecoder(_schema({"properties": {"n": {"type": "integer"}, "b": {"type": "boolean"}}}))
    messages = [
        {"n": 9007199254740993, "b": True, "free": 1, "deep": {"list": [1, 2.5]}, "text": "x"},
        {"n": 1.5, "b": None, "free": 2.5, "deep": {"list": [3, 4]}},
        {"n": 2**63, "b": 1, "free": "no", "deep": {"list": [1, "x"]}},
        {"n": -4.0, "b": False, "free": True, "deep": {"list": [5]}},
    ]
    decoded = decoder.decode([json.dumps(message).encode() for message in messages])
    assert _found(decoded) == {
        "n": [([0, 3], [9007199254740993, -4], "int64")],
        "b": [([0, 3], [True, False], "bool")],
        "free": [([0, 1], [1.0, 2.5], "float64")],
        "deep.list": [([0, 1], [[1.0, 2.5], [3.0, 4.0]], "float64"), ([3], [[5.0]], "float64")],
    }


def test_times_vectors_and_names() -> None:
    decoder = JsonDecoder(None)
    messages = [
        {"timestamp": {"sec": 5, "nsec": 7}, "name": ["a", "b"], "position": [1, 2], "q": {"x": 0, "y": 0, "z": 0, "w": 1}, "at": {"sec": -1, "nanosec": 1}},
        {"timestamp": {"sec": 6, "nsec": 0}, "name": ["b", "a"], "position": [3, 4], "q": {"x": 1, "y": 0, "z": 0, "w": 0}},
        {"name": ["a"], "position": [5, 6]},
    ]
    decoded = decoder.decode([json.dumps(message).encode() for message in messages])
    assert decoded.stamp_ns is not None
    assert decoded.stamp_ns.tolist() == [5_000_000_007, 6_000_000_000, 0]
    assert [(part.names, part.values.tolist()) for part in decoded.numbers["position"]] == [(("a", "b"), [[1, 2]]), (("b", "a"), [[3, 4]]), (None, [[5, 6]])]
    assert decoded.numbers["q"][0].values.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert (decoder.facts["q"].dims, decoder.facts["q"].align) == (("x", "y", "z", "w"), "slerp")
    assert decoded.numbers["at"][0].values.tolist() == [-999_999_999]
    later = decoder.decode([b"{}"])
    assert later.stamp_ns is not None
    assert later.stamp_ns.tolist() == [0]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b" " * (MAX_TEXT_BYTES + 1)])
def test_what_is_no_json_fails_alone(payload: bytes) -> None:
    decoded = JsonDecoder(None).decode([b'{"n": 1}', payload, b'{"n": 2}'])
    assert list(decoded.failed) == [1]
    assert decoded.numbers["n"][0].rows.tolist() == [0, 2]


@pytest.mark.parametrize("payload", [b"5", b"[1, 2]", b"null", b'"x"'])
def test_messages_that_are_no_objects_have_no_columns(payload: bytes) -> None:
    decoded = JsonDecoder(None).decode([payload])
    assert (decoded.failed, decoded.numbers) == ({}, {})


def test_a_schema_that_is_no_json_is_refused() -> None:
    with pytest.raises(SchemaProblem):
        JsonDecoder(MessageSchema("x", "jsonschema", b"{"))
