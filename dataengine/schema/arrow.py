"""Arrow schemas of the tables of the format, made of the column tables in `schemas/vN/columns`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from dataengine.schema.tables import table

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_type(type_name: str) -> pa.DataType:
    """Return the Arrow type that a type of the tables stands for; raise ValueError for one that not every Delta reader agrees on."""
    import pyarrow as pa

    plain = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    if type_name in plain:
        return plain[type_name]
    if type_name.startswith("list<") and type_name.endswith(">"):
        return pa.list_(pa.field("element", arrow_type(type_name[5:-1])))
    if type_name.startswith("struct<") and type_name.endswith(">"):
        fields = [field.split(": ", 1) for field in type_name[7:-1].split(", ")]
        return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in fields])
    raise ValueError(f"type {type_name!r}: must be string, int64, float64, bool, list<...> or struct<name: type, ...>")


@cache
def _schema(name: str) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(column.name, arrow_type(column.type), column.nullable) for column in table(name).columns])


def catalog_schema() -> pa.Schema:
    """Return the Arrow schema of the catalog."""
    return _schema("catalog")


def index_schema() -> pa.Schema:
    """Return the Arrow schema of a shard's index.parquet."""
    return _schema("index")


def media_index_schema() -> pa.Schema:
    """Return the Arrow schema of a video file's index.parquet."""
    return _schema("media_index")
