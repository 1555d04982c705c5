"""Arrow arrays read from their buffers: equal to what pyarrow says, also sliced and with nulls, and without importing pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.store.arrow_numpy import numbers, plain, present

TYPES = [pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_()]


def values(kind: pa.DataType, entries: list[int | None]) -> list[object]:
    if pa.types.is_boolean(kind):
        return [None if entry is None else bool(entry % 2) for entry in entries]
    return [None if entry is None else np.float16(entry) if pa.types.is_float16(kind) else entry for entry in entries]


@settings(deadline=None)
@given(st.sampled_from(TYPES), st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=40), st.integers(0, 20), st.integers(0, 20))
def test_single_numbers(kind: pa.DataType, entries: list[int | None], first: int, count: int) -> None:
    column = pa.array(values(kind, entries), kind).slice(first, count)
    expected = column.to_pylist()
    assert present(column).tolist() == [entry is not None for entry in expected]
    found = plain(column, 0)
    assert found.tolist() == [0 if entry is None else entry for entry in expected]
    assert found.dtype == np.dtype(kind.to_pandas_dtype())


@settings(deadline=None)
@given(st.booleans(), st.lists(st.one_of(st.none(), st.integers(0, 100)), max_size=20), st.integers(0, 9), st.integers(0, 20))
def test_rows_of_numbers(fixed: bool, entries: list[int | None], first: int, count: int) -> None:
    kind = pa.list_(pa.float32(), 3) if fixed else pa.list_(pa.float32())
    column = pa.array([None if entry is None else [entry, entry + 1, -entry] for entry in entries], kind).slice(first, count)
    found = numbers(column)
    for row, entry in zip(found.tolist(), column.to_pylist(), strict=True):
        assert row == ([0.0] * len(row) if entry is None else entry)
    if column.null_count < len(column):
        assert numbers(column, (3, 1)).shape == (len(column), 3, 1)


def test_no_rows_and_an_array_of_nulls() -> None:
    assert plain(pa.array([], pa.int64())).shape == (0,)
    assert numbers(pa.array([None, None], pa.list_(pa.int32(), 2))).tolist() == [[0, 0], [0, 0]]
    assert present(pa.nulls(2)).tolist() == [False, False]


def test_reading_steps_imports_neither_pandas_nor_compute(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)), "b": pa.array([1, None], pa.int64())}), tmp_path / "t.parquet")
    code = (
        "import sys, pyarrow.parquet as pq; from dataengine.store.arrow_numpy import numbers, plain, present\n"
        f"t = pq.ParquetFile({str(tmp_path / 't.parquet')!r}).read_row_group(0, use_threads=False)\n"
        "assert numbers(t['a'].combine_chunks()).tolist() == [[1, 2], [0, 0]]; assert plain(t['b'].combine_chunks(), -1).tolist() == [1, -1]\n"
        "assert 'pandas' not in sys.modules and 'pyarrow.compute' not in sys.modules, 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
