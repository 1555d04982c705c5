"""Columns survive JSON unchanged, whatever they hold; documents are named by their content."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core import column as core
from dataengine.core.column import ActionSpace, Camera, Column, Gripper
from dataengine.core.errors import CorruptStore
from dataengine.core.names import data_folder
from dataengine.schema.column_json import column_from_json, column_to_json, features_columns, features_digest, features_document
from dataengine.schema.schema import schema, validate

FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
NAMED = WORDS.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def one_of(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


GRIPPERS = st.builds(Gripper, st.integers(0, 20), FINITE, FINITE, maybe(WORDS))
SPACES = st.builds(
    ActionSpace,
    one_of(core.ActionKind),
    maybe(one_of(core.RotationKind)),
    maybe(WORDS),
    maybe(st.booleans()),
    maybe(GRIPPERS),
    maybe(st.floats(min_value=1e-3, max_value=1e6)),
)
CAMERAS = st.builds(
    Camera,
    one_of(core.CameraRole),
    maybe(st.tuples(FINITE, FINITE, FINITE, FINITE)),
    maybe(st.tuples(WORDS, st.lists(FINITE, max_size=8).map(tuple))),
    maybe(st.lists(FINITE, min_size=16, max_size=16).map(tuple)),
    maybe(WORDS),
)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    shape = draw(st.lists(maybe(st.integers(0, 9)), max_size=4).map(tuple))
    wide = shape[-1] if shape else None
    dims = None if wide is None else draw(maybe(st.lists(WORDS, min_size=wide, max_size=wide).map(tuple)))
    return Column(
        name=draw(NAMED),
        kind=draw(one_of(core.Kind)),
        dtype=draw(st.sampled_from(schema("column")["properties"]["dtype"]["enum"])),
        shape=shape,
        dims=dims,
        unit=draw(maybe(NAMED)),
        frame=draw(maybe(NAMED)),
        meaning=draw(one_of(core.Meaning)),
        encoding=draw(maybe(NAMED)),
        action_space=draw(maybe(SPACES)),
        action_source=draw(maybe(one_of(core.ActionSource))),
        camera=draw(maybe(CAMERAS)),
        align=draw(maybe(st.sampled_from(["nearest", "previous", "linear", "slerp"]))),
        steps=draw(st.booleans()),
        doc=draw(WORDS),
        extra=draw(st.dictionaries(WORDS, JSON, max_size=3)),
    )


@settings(deadline=None)
@given(columns())
def test_round_trip_is_identity(column: Column) -> None:
    content = json.loads(json.dumps(column_to_json(column)))
    assert validate("column", content) == []
    assert column_from_json(content) == column
    assert column_to_json(column_from_json(content)) == content


def test_schema_and_core_know_the_same_words() -> None:
    properties = schema("column")["properties"]
    for name, literal in (("kind", core.Kind), ("meaning", core.Meaning), ("action_source", core.ActionSource)):
        assert properties[name]["enum"] == list(get_args(literal))
    defs = schema("column")["$defs"]
    assert defs["action_space"]["properties"]["kind"]["enum"] == list(get_args(core.ActionKind))
    assert defs["action_space"]["properties"]["rotation"]["enum"] == list(get_args(core.RotationKind))
    assert defs["camera"]["properties"]["role"]["enum"] == list(get_args(core.CameraRole))
    assert set(properties) == {field.name for field in core.Column.__dataclass_fields__.values()}


def test_null_fields_are_left_out() -> None:
    assert column_to_json(Column("task", kind="text", dtype="string")) == {
        "name": "task",
        "kind": "text",
        "dtype": "string",
        "shape": [],
        "meaning": "other",
        "steps": True,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, (1, 2), {1: "a"}])
def test_extra_that_json_would_change_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"extra must hold what JSON keeps|JSON compliant"):
        column_to_json(Column("a", extra={"key": value}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "object"}, "dtype: 'object' is not one of"),
        ({"dims": ["x"]}, "dims must name each entry"),
        ({"name": ""}, "name: ''"),
        ({"colour": 1}, "'colour' was unexpected"),
    ],
)
def test_a_broken_document_is_a_corrupt_store(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CorruptStore, match=words):
        column_from_json(column_to_json(Column("action", shape=(7,))) | change, "datasets/a/b.json")


def test_features_document_does_not_depend_on_order() -> None:
    action, state = Column("action", shape=(7,), meaning="action"), Column("observation.state", shape=(7,))
    document = features_document("bridge", [state, action], "bridge_dataset", "widowx_250", False)
    assert [content["name"] for content in document["columns"]] == ["action", "observation.state"]
    assert document == features_document("bridge", [action, state], "bridge_dataset", "widowx_250", False)
    assert features_columns(json.loads(json.dumps(document))) == {"action": action, "observation.state": state}
    assert features_digest(document) == features_digest(dict(reversed(document.items())))
    assert features_digest(document) != features_digest(features_document("bridge", [replace(action, unit="m"), state], "bridge_dataset", "widowx_250", False))


def test_digest_of_the_example_never_changes() -> None:
    document = json.loads((data_folder("schemas") / "v1" / "examples" / "valid" / "features.bridge.json").read_text())
    episode = json.loads((data_folder("schemas") / "v1" / "examples" / "valid" / "catalog.episode.json").read_text())
    assert features_digest(document) == episode["features"]
    assert features_columns(document)["action"].action_space == ActionSpace("ee_delta", "rpy", None, False, Gripper(6, 0.0, 1.0), 5.0)


def test_a_column_that_stands_twice_is_a_corrupt_store() -> None:
    document = features_document("a", [Column("action", shape=(7,))], None, None, True)
    with pytest.raises(CorruptStore, match="found 2 columns of 1 names"):
        features_columns({**document, "columns": document["columns"] * 2}, "datasets/a/b.json")
