"""The column tables: complete, consistent, and checked row by row."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from dataengine.core.clock import ClockKind
from dataengine.core.errors import UnknownName
from dataengine.schema.tables import TABLES, catalog_columns, index_columns, row_problems, table, type_holds

KINDS = ("episode", "source", "reject", "label")


@pytest.mark.parametrize("name", TABLES)
def test_each_column_is_documented_and_stands_once(name: str) -> None:
    described = table(name)
    assert described.name == name
    names = [column.name for column in described.columns]
    assert len(names) == len(set(names))
    for column in described.columns:
        assert column.doc.endswith("."), column.name
        assert set(column.required) <= set(column.kinds), column.name
        assert set(described.partitions) <= set(names)
        for suffix, unit in (("_ns", "ns"), ("_hz", "Hz")):
            assert not column.name.endswith(suffix) or column.unit == unit, column.name


def test_catalog_is_partitioned_by_kind_and_dataset() -> None:
    assert table("catalog").partitions == ("kind", "dataset")
    assert table("catalog").kinds == KINDS
    assert [column.name for column in catalog_columns()][:4] == ["kind", "dataset", "fact", "episode_id"]


def test_not_null_columns_are_required_of_every_kind() -> None:
    for column in (*catalog_columns(), *index_columns()):
        if not column.nullable:
            assert column.required == column.kinds == table("catalog" if column in catalog_columns() else "index").kinds


def test_index_rows_by_kind() -> None:
    row: dict[str, Any] = {"episode_id": "e", "ordinal": 0, "stream": "action", "kind": "array", "digest": "d", "lossy": False}
    assert row_problems(row, "index") == [f"{name}: must not be null in a row of kind 'array'" for name in ("array", "row_start", "row_end")]
    row |= {"array": "action", "row_start": 0, "row_end": 5, "clocks": ["log"], "clock": "log"}
    assert row_problems(row, "index") == []
    assert row_problems(row | {"media": "m"}, "index") == ["media: must be null in a row of kind 'array', got 'm'"]


def test_media_index_rows_have_one_kind() -> None:
    row = {"track": 0, "frame": 3, "pts_ns": -40_000_000, "key": False, "order": 5}
    assert row_problems(row, "media_index") == []
    assert row_problems(row | {"pts_ns": None}, "media_index") == ["pts_ns: must not be null"]


@pytest.mark.parametrize(
    ("type_name", "value", "holds"),
    [
        ("int64", 2**63 - 1, True),
        ("int64", 2**63, False),
        ("int64", True, False),
        ("int64", 1.0, False),
        ("float64", 1, True),
        ("float64", "1", False),
        ("bool", 0, False),
        ("string", b"x", False),
        ("list<string>", ["a", None], True),
        ("list<string>", ("a",), False),
        ("list<string>", ["a", 1], False),
        ("list<struct<name: string, value: float64>>", [{"name": "a", "value": 1}], True),
        ("list<struct<name: string, value: float64>>", [{"name": "a", "unit": "m"}], False),
        ("string", None, True),
    ],
)
def test_types(type_name: str, value: Any, holds: bool) -> None:
    assert type_holds(type_name, value) is holds


def test_unknown_table() -> None:
    with pytest.raises(UnknownName, match="did you mean 'catalog'"):
        table("catalogue")


def test_the_clock_column_names_the_clock_kinds() -> None:
    (clock,) = [column for column in catalog_columns() if column.name == "clock"]
    assert set(get_args(ClockKind)) <= set(re.findall(r"\w+", clock.doc))
