"""The tables of the format as data: which columns the catalog, the shard index, the media index, the files of steps and those of labels have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dataengine.core.config import read_yaml
from dataengine.core.errors import UnknownName
from dataengine.core.names import data_folder

FORMAT_VERSION = 1
TABLES = ("catalog", "index", "media_index", "steps", "labels")

_PYTHON_TYPES: dict[str, type] = {"string": str, "int64": int, "float64": float, "bool": bool}
_STRUCT_FIELD = re.compile(r"(\w+): (\w+)")


@dataclass(frozen=True)
class TableColumn:
    """One column of a table of the format.

    `type` is written as in `schemas/vN/columns`: string, int64, float64, bool, list<...>, struct<name: type, ...>. `nullable` is that of the whole
    table. `kinds` are the kinds of row that the column applies to (empty: the table has rows of one kind only) and `required` those in which it
    must not be null.
    """

    name: str
    type: str
    nullable: bool
    unit: str | None
    frame: str | None
    doc: str
    kinds: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the format: its name, what it is, its partitions and its columns in order."""

    name: str
    doc: str
    partitions: tuple[str, ...]
    columns: tuple[TableColumn, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of row, in the order of the table's first column that applies to all of them."""
        return max((column.kinds for column in self.columns), key=len)


@cache
def table(name: str, version: int = FORMAT_VERSION) -> Table:
    """Return a table of the format; raise UnknownName."""
    if name not in TABLES:
        raise UnknownName("table", name, TABLES)
    content = read_yaml(data_folder("schemas") / f"v{version}" / "columns" / f"{name}.yaml")
    columns = tuple(
        TableColumn(**{**fields, "kinds": tuple(fields.get("kinds", ())), "required": tuple(fields.get("required", ()))}) for fields in content["columns"]
    )
    return Table(content["table"], content["doc"], tuple(content["partitions"]), columns)


def catalog_columns() -> tuple[TableColumn, ...]:
    """Return the columns of the catalog, in order."""
    return table("catalog").columns


def index_columns() -> tuple[TableColumn, ...]:
    """Return the columns of a shard's index, in order."""
    return table("index").columns


def media_index_columns() -> tuple[TableColumn, ...]:
    """Return the columns of a video file's frame index, in order."""
    return table("media_index").columns


def steps_columns() -> tuple[TableColumn, ...]:
    """Return the columns of a steps file, in order; names in angle brackets stand for one column for each feature."""
    return table("steps").columns


def type_holds(type_name: str, value: Any) -> bool:
    """Say whether a Python value is of a type of the tables; null is of every type."""
    if value is None:
        return True
    if type_name.startswith("list<"):
        return isinstance(value, list) and all(type_holds(type_name[5:-1], entry) for entry in value)
    if type_name.startswith("struct<"):
        fields = dict(_STRUCT_FIELD.findall(type_name))
        return isinstance(value, Mapping) and set(value) <= set(fields) and all(type_holds(fields[name], entry) for name, entry in value.items())
    if type_name == "int64":
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if type_name == "float64":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, _PYTHON_TYPES[type_name])


def row_problems(row: Mapping[str, Any], table_name: str = "catalog") -> list[str]:
    """Return what is wrong with a row that a table of the format should hold, one sentence each; a column that is absent counts as null."""
    described = table(table_name)
    kinds = described.kinds
    kind = row.get("kind")
    if kinds and kind not in kinds:
        return [f"kind: must be one of {', '.join(kinds)}, got {kind!r}"]
    known = {column.name: column for column in described.columns}
    problems = [f"{name}: is no column of the {table_name}" for name in row if name not in known]
    for name, column in known.items():
        value = row.get(name)
        if not type_holds(column.type, value):
            problems.append(f"{name}: must be {column.type}, got {value!r}"[:400])
        elif value is None and (not column.nullable or kind in column.required):
            problems.append(f"{name}: must not be null" + (f" in a row of kind {kind!r}" if kinds else ""))
        elif value is not None and kinds and kind not in column.kinds:
            problems.append(f"{name}: must be null in a row of kind {kind!r}, got {value!r}"[:400])
    return problems
