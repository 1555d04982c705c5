"""Every valid example validates; every invalid one fails for the reason it names, and for nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataengine.core.errors import UnknownName
from dataengine.core.names import data_folder
from dataengine.schema.schema import KINDS, PARTS, schema, validate
from dataengine.schema.tables import row_problems

EXAMPLES = data_folder("schemas") / "v1" / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*.json"))
INVALID = sorted((EXAMPLES / "invalid").glob("*.json"))


def problems(kind: str, document: Any) -> list[str]:
    return row_problems(document) if kind == "catalog" else validate(kind, document)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_example(path: Path) -> None:
    assert problems(path.name.split(".")[0], json.loads(path.read_text())) == []


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_example(path: Path) -> None:
    content = json.loads(path.read_text())
    found = problems(path.name.split(".")[0], content["document"])
    assert len(found) == 1
    assert content["reason"] in found[0]


def test_each_kind_has_a_valid_and_an_invalid_example() -> None:
    for folder in (VALID, INVALID):
        assert {path.name.split(".")[0] for path in folder} == {*KINDS, "catalog"}


def test_schemas_are_themselves_valid_and_every_file_is_known() -> None:
    from jsonschema import Draft202012Validator

    for name in (*KINDS, *PARTS):
        Draft202012Validator.check_schema(schema(name))
    files = {path.name.removesuffix(".schema.json") for path in (EXAMPLES.parent).glob("*.schema.json")}
    assert files == {*KINDS, *PARTS}


def test_place_of_the_fault_comes_first() -> None:
    document = json.loads((EXAMPLES / "valid" / "features.bridge.json").read_text())
    document["columns"][2]["kind"] = "number"
    (problem,) = validate("features", document)
    assert problem.startswith("columns.2.kind: 'number' is not one of")


def test_a_huge_wrong_value_gives_a_short_message() -> None:
    (problem,) = validate("store", json.loads((EXAMPLES / "valid" / "store.plain.json").read_text()) | {"created_by": "x" * 100_000})
    assert len(problem) <= 500


@pytest.mark.parametrize("path", ["index.parquet", "arrays.zarr/a/c/0", "videos/..x.mp4", "a/.b"])
def test_paths_below_a_folder(path: str) -> None:
    document = json.loads((EXAMPLES / "valid" / "shard.plain.json").read_text())
    document["files"][0]["path"] = path
    assert validate("shard", document) == []


@pytest.mark.parametrize("path", ["", "/", "..", ".", "a//b", "a/", "a/../b", "a/./b", "a/..", "./a", "a\\b", "a\0b"])
def test_paths_that_leave_or_twist(path: str) -> None:
    document = json.loads((EXAMPLES / "valid" / "shard.plain.json").read_text())
    document["files"][0]["path"] = path
    assert validate("shard", document)


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean 'features'"):
        validate("feature", {})
    with pytest.raises(UnknownName, match="unknown kind of document 'types'"):
        validate("types", {})
