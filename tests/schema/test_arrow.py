"""Arrow schemas of the tables, tried on a real Delta table and a real Parquet file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from dataengine.core.names import data_folder
from dataengine.schema.arrow import arrow_type, catalog_schema, index_schema, media_index_schema
from dataengine.schema.tables import catalog_columns

VALID = data_folder("schemas") / "v1" / "examples" / "valid"


def test_catalog_examples_survive_a_delta_table(tmp_path: Path) -> None:
    rows = [json.loads(path.read_text()) for path in sorted(VALID.glob("catalog.*.json"))]
    assert len(rows) == 4
    content = pa.Table.from_pylist(rows, schema=catalog_schema())
    write_deltalake(tmp_path, content, partition_by=["kind", "dataset"])
    back = DeltaTable(tmp_path).to_pyarrow_table().to_pylist()
    expected = [{column.name: row.get(column.name) for column in catalog_columns()} for row in rows]
    assert sorted(back, key=lambda row: row["kind"]) == sorted(expected, key=lambda row: row["kind"])


def test_types_of_the_catalog_worked_out_by_hand() -> None:
    schema = catalog_schema()
    assert schema.field("kind") == pa.field("kind", pa.string(), nullable=False)
    assert schema.field("start_ns").type == pa.int64()
    assert schema.field("rate_hz").type == pa.float64()
    assert schema.field("success") == pa.field("success", pa.bool_(), nullable=True)
    assert schema.field("tasks").type.value_type == pa.string()
    assert schema.field("figures").type.value_type == pa.struct([("name", pa.string()), ("value", pa.float64())])


def test_only_types_that_every_delta_reader_agrees_on() -> None:
    with pytest.raises(ValueError, match="type 'timestamp'"):
        arrow_type("timestamp")
    with pytest.raises(ValueError, match="type 'uint8'"):
        arrow_type("list<uint8>")


def test_index_and_media_index_in_parquet(tmp_path: Path) -> None:
    row = {
        "episode_id": "e",
        "ordinal": 1,
        "stream": "video",
        "kind": "media",
        "media": "media/x.mp4",
        "track": 0,
        "first_frame": 7,
        "frames": 30,
        "lossy": False,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=index_schema()), tmp_path / "index.parquet")
    (back,) = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert {name: value for name, value in back.items() if value is not None} == row
    assert media_index_schema().names == ["track", "frame", "pts_ns", "pts", "dts", "offset", "size", "key", "order"]
