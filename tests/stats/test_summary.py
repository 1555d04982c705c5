from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dataengine.stats.summary import QUANTILES, ColumnSummary


def test_by_hand():
    summary = ColumnSummary(2)
    summary.update(np.array([[1.0, -5.0], [2.0, np.nan], [9.0, 7.0]], dtype=np.float32))
    summary.update(np.array([[4.0, np.inf], [777.0, 777.0]]), np.array([True, False]))
    result = summary.result()
    assert (result["rows"], result["nulls"]) == (5, 1)
    assert result["count"] == [4, 2]
    assert result["not_finite"] == [0, 2]
    assert result["mean"] == [4.0, 1.0]
    # deviations -3, -2, 5, 0 and -6, 6
    assert result["std"] == pytest.approx([math.sqrt(38 / 4), 6.0])
    assert (result["min"], result["max"]) == ([1.0, -5.0], [9.0, 7.0])
    assert (result["q01"], result["q50"], result["q99"]) == ([1.0, -5.0], [2.0, -5.0], [9.0, 7.0])
    assert result["rank_error"] == 0
    json.dumps(result, allow_nan=False)


def test_nothing_seen_is_none_and_not_zero():
    summary = ColumnSummary(1)
    summary.update(np.empty((0, 1)))
    summary.update(np.array([[np.nan]]))
    summary.update(np.array([[1.0]]), np.array([False]))
    result = summary.result()
    assert (result["count"], result["mean"], result["min"], result["q50"]) == ([0], [None], [None], [None])
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, bool])
def test_it_agrees_with_numpy(shape, dtype):
    rng = np.random.default_rng(2)
    values = (rng.gamma(0.5, 3, (5000, *shape)) * 4 - 2).astype(dtype)
    dims = math.prod(shape)
    summary = ColumnSummary(dims)
    for piece in np.array_split(values, 77):
        summary.update(piece)
    flat = values.reshape(5000, -1).astype(np.float64)
    result = summary.result()
    assert result["mean"] == pytest.approx(flat.mean(axis=0).tolist(), rel=1e-12)
    assert result["std"] == pytest.approx(flat.std(axis=0).tolist(), rel=1e-12)
    assert result["min"] == flat.min(axis=0).tolist()
    assert result["max"] == flat.max(axis=0).tolist()
    for name, share in QUANTILES.items():
        assert result[name] == np.quantile(flat, share, axis=0, method="inverted_cdf").tolist()


def test_a_small_spread_on_a_large_offset_is_not_lost():
    values = 1e9 + np.arange(1000.0)[:, None] % 7
    summary = ColumnSummary(1)
    for piece in np.array_split(values, 40):
        summary.update(piece)
    assert summary.result()["std"] == pytest.approx([np.std(np.arange(1000) % 7)], rel=1e-9)


def test_parts_merge_to_the_whole_in_any_order():
    rng = np.random.default_rng(8)
    values = np.stack([rng.normal(3, 0.1, 60_000), rng.lognormal(0, 2, 60_000)], axis=1)
    values[::7, 1] = np.nan
    valid = rng.random(60_000) < 0.9
    pieces = [(values[i : i + 1500], valid[i : i + 1500]) for i in range(0, 60_000, 1500)]
    kept = values[valid]
    for order in (pieces, pieces[::-1]):
        whole = ColumnSummary(2)
        for rows, mask in order:
            part = ColumnSummary(2)
            part.update(rows, mask)
            whole.merge(part)
        result = whole.result()
        assert result["rows"] == 60_000
        assert result["nulls"] == 60_000 - len(kept)
        assert result["count"] == [len(kept), int(np.isfinite(kept[:, 1]).sum())]
        assert result["mean"] == pytest.approx(np.nanmean(kept, axis=0).tolist(), rel=1e-12)
        assert result["std"] == pytest.approx(np.nanstd(kept, axis=0).tolist(), rel=1e-12)
        assert 0 < result["rank_error"] < 0.001
        ordered = np.sort(kept[np.isfinite(kept[:, 1]), 1])
        for name, share in QUANTILES.items():
            upto = np.searchsorted(ordered, result[name][1], "right") / len(ordered)
            assert abs(upto - share) <= result["rank_error"] + 1 / len(ordered)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="must have 3 numbers a row, got 2"):
        ColumnSummary(3).update(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="1 to 4096, got 0"):
        ColumnSummary(0)
    with pytest.raises(ValueError, match="the same dimensions, got 3 and 2"):
        ColumnSummary(3).merge(ColumnSummary(2))


def distinct(*batches):
    summary, parts = ColumnSummary(1), ColumnSummary(1)
    for batch in batches:
        rows = np.array(batch, dtype=float)[:, None]
        summary.update(rows)
        part = ColumnSummary(1)
        part.update(rows)
        parts.merge(part)
    assert summary.result()["distinct"] == parts.result()["distinct"]
    return summary.result()["distinct"][0]


def test_values_are_told_apart_up_to_three():
    assert distinct() == 0
    assert distinct([np.nan, np.inf]) == 0
    assert distinct([5, 5], [5]) == 1
    assert distinct([0, 1, 0], [np.nan], [1]) == 2
    assert distinct([0], [1], [0]) == 2
    assert distinct([0, 1, 0.5]) == 3
    assert distinct([0, 0], [1], [2]) == 3  # the 1 is no extreme any more
    assert distinct([0, 2], [1, 1]) == 3
    assert distinct([1, 1], [0, 2]) == 3
    assert distinct([0.0], [-0.0]) == 1


def test_merged_moments_are_those_of_the_whole_to_1e_12():
    rng = np.random.default_rng(4)
    values = rng.normal(1000, 0.5, (30_000, 3))
    whole = ColumnSummary(3)
    whole.update(values)
    merged = ColumnSummary(3)
    for piece in np.array_split(values, 13):
        part = ColumnSummary(3)
        part.update(piece)
        merged.merge(part)
    for name in ("mean", "std"):
        assert merged.result()[name] == pytest.approx(whole.result()[name], rel=1e-12)
