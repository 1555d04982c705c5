"""Statistics as a value, from what JSON holds."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from dataengine.core.column_statistics import column_statistics
from dataengine.stats.summary import ColumnSummary


def entry(*rows: list[float]) -> dict[str, Any]:
    summary = ColumnSummary(len(rows[0]))
    summary.update(np.array(rows))
    return summary.result()


def test_of_a_column() -> None:
    found = column_statistics(entry([1.0, np.nan], [4.0, np.nan]) | {"dims": ["x", "y"]})
    assert (found.shape, found.rows, found.count, found.not_finite, found.distinct) == ((2,), (2,), (2, 0), (0, 2), (2, 0))
    assert found.array("mean").tolist() == [2.5, pytest.approx(float("nan"), nan_ok=True)]
    assert found.array("max")[0] == 4.0
    assert found.dims == ("x", "y")
    assert found.array("count").dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        found.array("mean")[0] = 1


def test_of_a_horizon() -> None:
    found = column_statistics([entry([1.0, 5.0]), entry([2.0, 6.0], [4.0, 6.0]), entry([3.0, 7.0])])
    assert (found.shape, found.rows) == ((3, 2), (1, 2, 1))
    assert found.array("mean").tolist() == [[1, 5], [3, 6], [3, 7]]


def test_equal_where_all_is_equal_also_what_was_not_seen() -> None:
    a, b = column_statistics(entry([1.0, np.nan])), column_statistics(entry([1.0, np.nan]))
    assert a == b
    assert hash(a) == hash(b)
    assert pickle.loads(pickle.dumps(a)) == a
    assert a != column_statistics(entry([1.5, np.nan]))
    assert a != column_statistics(entry([1.0, 1.0]))
    assert a != "x"


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="as many dimensions at each step"):
        column_statistics([entry([1.0]), entry([1.0, 2.0])])
    with pytest.raises(ValueError, match="at least one step"):
        column_statistics([])
    with pytest.raises(ValueError, match="dims: must name 1 dimensions"):
        column_statistics(entry([1.0]) | {"dims": ["x", "y"]})
