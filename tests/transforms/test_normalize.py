"""Normalisation by hand, its way back, and what has no numbers to be normalised by."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dataengine.core.column_statistics import ColumnStatistics, column_statistics
from dataengine.core.errors import UnknownName, UsageError
from dataengine.stats.summary import ColumnSummary
from dataengine.transforms.normalize import normalizer


def statistics(*rows) -> ColumnStatistics:
    """Return the statistics of rows, (N, D)."""
    values = np.array(rows, dtype=float)
    summary = ColumnSummary(values.shape[1])
    summary.update(values)
    return column_statistics(summary.result())


def of_horizon(*steps) -> ColumnStatistics:
    entries = []
    for rows in steps:
        summary = ColumnSummary(len(rows[0]))
        summary.update(np.array(rows, dtype=float))
        entries.append(summary.result())
    return column_statistics(entries)


JOINTS = statistics([0, 10], [4, 20], [8, 90])  # means 4 and 40


def test_by_hand() -> None:
    batch = {"action": np.array([[[2, 10], [6, 40]], [[8, 100], [np.nan, 20]]], dtype=np.float32), "dataset": np.zeros(2, np.int64), "task": ["a", "b"]}
    scaled = normalizer([{"action": JOINTS}], ["action"], "min_max")(batch)
    # centres 4 and 50, halves 4 and 40
    assert scaled["action"].tolist() == [[[-0.5, -1], [0.5, -0.25]], [[1, 1.25], [pytest.approx(np.nan, nan_ok=True), -0.75]]]
    assert scaled["action"].dtype == np.float32
    assert scaled["task"] is batch["task"]
    assert batch["action"][0, 0, 0] == 2, "the batch handed over is as it was"
    deviations = np.sqrt([32 / 3, (900 + 400 + 2500) / 3])
    found = normalizer([{"action": JOINTS}], ["action"], "mean_std")(batch)["action"]
    np.testing.assert_allclose(found[0], (np.array([[2, 10], [6, 40]]) - [4, 40]) / deviations, rtol=1e-6)


def test_quantiles_are_the_bounds_and_beyond_them_is_clipped_on_request() -> None:
    found = statistics(*[[number] for number in range(-1000, 1001)])
    assert (found.q01, found.q99) == ((-980.0,), (980.0,))  # the 21st of 2001, and the 1981st
    batch = {"state": np.array([[-1000], [490], [1960]], dtype=np.float32), "dataset": np.zeros(3, int)}
    loose = normalizer([{"state": found}], ["state"], "quantile")
    np.testing.assert_allclose(loose(batch)["state"], [[-1000 / 980], [0.5], [2]], rtol=1e-6)
    np.testing.assert_allclose(loose.inverse(loose(batch))["state"], batch["state"], rtol=1e-6)
    tight = normalizer([{"state": found}], ["state"], "quantile", clip=True)
    assert tight(batch)["state"].tolist() == [[-1], [0.5], [1]]
    assert tight.inverse(tight(batch))["state"].tolist() == [[-980], [490], [980]]


def test_each_sample_by_its_own_source() -> None:
    other = statistics([100, 1000], [200, 3000], [160, 1500])
    normalize = normalizer([{"action": JOINTS}, {"action": other}], ["action"], "min_max")
    batch = {"action": np.array([[200, 3000], [8, 90], [100, 2000]], dtype=np.float32), "dataset": np.array([1, 0, 1])}
    assert normalize(batch)["action"].tolist() == [[1, 1], [1, 1], [-1, 0]]
    assert normalize.inverse(normalize(batch))["action"].tolist() == batch["action"].tolist()


def test_what_a_source_lacks_is_left_as_it_is() -> None:
    wide = statistics([0, 0, 0], [1, 2, 4], [2, 4, 8])
    normalize = normalizer([{"action": wide, "state": JOINTS}, {"action": JOINTS}], ["action", "state"], "min_max")
    batch = {
        "action": np.array([[2, 2, 8], [8, 10, 7]], dtype=np.float32),  # the second has two dims: the 7 is padding
        "state": np.array([[0, 90], [3, 5]], dtype=np.float32),
        "dataset": np.array([0, 1]),
    }
    scaled = normalize(batch)
    assert scaled["action"].tolist() == [[1, 0, 1], [1, -1, 7]]
    assert scaled["state"].tolist() == [[-1, 1], [3, 5]]
    assert normalize.inverse(scaled)["action"].tolist() == batch["action"].tolist()
    assert "state" not in normalize({"action": batch["action"], "dataset": batch["dataset"]})


def test_each_step_of_a_horizon_has_its_own_numbers() -> None:
    found = of_horizon([[0, 0]] * 3, [[-1, 0], [1, 4], [0, 2]], [[-10, -1], [30, 1], [0, 0]])
    normalize = normalizer([{"action": found}, {}], ["action"], "min_max")
    batch = {"action": np.array([[[0, 0], [0.5, 1], [0, 1]], [[5, 5], [5, 5], [5, 5]]], dtype=np.float32), "dataset": np.array([0, 1])}
    assert normalize(batch)["action"].tolist() == [[[0, 0], [0.5, -0.5], [-0.5, 1]], [[5, 5]] * 3]
    predicted = {"action": np.full((1, 3, 2), 0.5, np.float32), "dataset": np.array([0])}
    assert normalize.inverse(predicted)["action"].tolist() == [[[0, 0], [0.5, 3], [20, 0.5]]]
    with pytest.raises(UsageError, match=r"'action': must be of shape \(…, 3, 2\) as its statistics are, got \(2, 4, 2\)"):
        normalize({"action": np.zeros((2, 4, 2)), "dataset": batch["dataset"]})


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantile"])
def test_what_never_changes_becomes_0_and_comes_back_whatever_is_predicted(mode) -> None:
    found = statistics([7.3, 1e9, 1], [7.3, 1e9 + 1, 5], [7.3, 1e9, 2])  # the second changes by less than float32 holds
    normalize = normalizer([{"action": found}], ["action"], mode)
    batch = {"action": np.array([[7.3, 1e9, 1]], dtype=np.float32)}
    assert normalize(batch)["action"][0, :2].tolist() == [0, 0]
    back = normalize.inverse({"action": np.array([[0.7, -3.0, 0]], dtype=np.float32)})["action"]
    assert back[0, :2].tolist() == [np.float32(7.3), np.float32(1e9)]


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantile"])
def test_two_values_are_left_or_scaled(mode) -> None:
    found = statistics([0, 3], [1, 5], [1, 5])
    batch = {"state": np.array([[0, 5], [1, 3], [0.5, 4]], dtype=np.float32), "dataset": np.zeros(3, int)}
    assert normalizer([{"state": found}], ["state"], mode)(batch)["state"].tolist() == batch["state"].tolist()
    if mode != "mean_std":
        assert normalizer([{"state": found}], ["state"], mode, binary="scale")(batch)["state"].tolist() == [[-1, 1], [1, -1], [0, 0]]
        clipped = normalizer([{"state": statistics([0, 1], [2, 2], [2, 3])}], ["state"], mode, clip=True)
        assert clipped(batch)["state"][0].tolist() == [0, 1], "5 is clipped to the largest; what is left as it is is never clipped"


def test_where_the_quantiles_are_equal_the_extremes_count() -> None:
    found = statistics(*[[0.0]] * 998, [4.0], [-8.0])
    assert (found.q01, found.q99) == ((0.0,), (0.0,))
    assert normalizer([{"force": found}], ["force"], "quantile")({"force": np.array([[4.0], [-8.0], [-2.0]])})["force"].tolist() == [[1], [-1], [0]]


@pytest.mark.filterwarnings("error")
def test_nan_and_infinite_numbers_stay() -> None:
    normalize = normalizer([{"state": statistics([1, 1], [1, 2], [1, 4])}], ["state"], "min_max")
    scaled = normalize({"state": np.array([[np.nan, np.nan], [1, np.inf]], dtype=np.float32)})
    assert np.isnan(scaled["state"][0]).all()
    assert scaled["state"][1].tolist() == [0, np.inf]
    assert np.isnan(normalize.inverse(scaled)["state"][0]).all()
    unseen = normalizer([{"state": statistics([np.nan, 0], [np.nan, 2], [np.nan, 1])}], ["state"], "mean_std")
    assert unseen({"state": np.array([[3.0, 1.0]])})["state"].tolist() == [[3, 0]]


@given(
    arrays(np.float32, (6, 3), elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float32, (2, 4, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from(["mean_std", "min_max", "quantile"]),
)
@settings(deadline=None)
def test_the_way_back_is_exact_but_for_float32(seen, values, mode) -> None:
    found = statistics(*seen.tolist())
    normalize = normalizer([{"action": found}], ["action"], mode)
    back = normalize.inverse(normalize({"action": values}))["action"]
    (scaling,) = normalize.scalings
    centre, spread, _, _ = (array[0] for array in scaling.arrays)
    there = np.broadcast_to(spread != 0, values.shape)
    allowed = 2.0**-23 * (np.abs(values) + np.abs(values - centre)) + 1e-30
    assert (np.abs(back.astype(float) - values)[there] <= allowed[there]).all()
    assert (back[~there] == np.broadcast_to(centre.astype(np.float32), values.shape)[~there]).all()
    assert normalize.inverse.inverse == normalize


def test_a_transform_can_be_compared_printed_and_sent() -> None:
    first, same, other = (normalizer([{"action": JOINTS}], ["action"], mode) for mode in ("quantile", "quantile", "min_max"))
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    first({"action": np.zeros((1, 2))})
    assert pickle.loads(pickle.dumps(first)) == same
    assert pickle.loads(pickle.dumps(first.inverse))({"action": np.zeros((1, 2))})["action"].tolist() == [[4, 50]]
    assert repr(first) == "Normalize(scalings=(Scaling(name='action', shape=(1, 2)),), mode='quantile', clip=False, binary='keep')"


def test_a_lone_sample() -> None:
    normalize = normalizer([{"action": JOINTS}, {"action": JOINTS}], ["action"], "min_max")
    assert normalize({"action": np.array([[8.0, 90.0], [0.0, 10.0]]), "dataset": np.int64(1)})["action"].tolist() == [[1, 1], [-1, -1]]


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        ({"action": np.zeros((2, 2))}, "must have 'dataset', which of 2 sources each sample is of, got action"),
        ({"action": np.zeros((2, 2)), "dataset": np.array([0, 2])}, "must be 0 to 1, one of the sources whose statistics are known, got 0 to 2"),
        ({"action": np.zeros((2, 2)), "dataset": np.array([0, -1])}, "got -1 to 0"),
        ({"action": np.zeros((2, 3)), "dataset": np.array([0, 1])}, r"must be of shape \(…, 2\) as its statistics are, got \(2, 3\)"),
        ({"action": np.zeros((2, 2)), "dataset": np.array([0, 1, 1])}, r"must start with the axes of 'dataset', \(3,\), got \(2, 2\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(batch, error) -> None:
    with pytest.raises(UsageError, match=error):
        normalizer([{"action": JOINTS}, {"action": JOINTS}], ["action"])(batch)


def test_statistics_that_are_missing_are_named() -> None:
    with pytest.raises(UsageError, match="must have statistics of 'effort', 'force' in some source, got those of action, state"):
        normalizer([{"action": JOINTS}, {"state": JOINTS}], ["effort", "action", "force"])
    with pytest.raises(UsageError, match="for all steps together and for 3 steps of a horizon"):
        normalizer([{"action": JOINTS}, {"action": of_horizon([[0, 0]], [[0, 0]], [[1, 1]])}], ["action"])
    with pytest.raises(UsageError, match="at least one source"):
        normalizer([], ["action"])
    with pytest.raises(UsageError, match="clip: must be left out with 'mean_std'"):
        normalizer([{"action": JOINTS}], ["action"], "mean_std", clip=True)
    with pytest.raises(UnknownName, match="unknown mode of normalisation 'minmax': known: mean_std, min_max, quantile, did you mean 'min_max'"):
        normalizer([{"action": JOINTS}], ["action"], "minmax")
