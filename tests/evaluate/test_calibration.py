"""Coverage and reliability against counts worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.evaluate.calibration import coverage_figures, coverage_sums, reliability, widened


def test_coverage_counts_ends_and_leaves_out_what_has_no_interval() -> None:
    truth = np.array([[0.0], [1.0], [2.0], [5.0]])
    low, high = np.array([[0.0], [1.5], [1.0], [np.nan]]), np.array([[1.0], [2.0], [4.0], [6.0]])
    found = coverage_figures(coverage_sums(truth, low, high, np.array([0, 0, 1, 1]), 2).sum(0))
    assert found["coverage"][0] == pytest.approx(2 / 3)
    assert found["width"][0] == pytest.approx((1 + 0.5 + 3) / 3)


def test_intervals_of_a_normal_distribution_are_stretched() -> None:
    low, high = widened(np.array([[1.0]]), np.array([[0.0]]), np.array([[3.0]]), 0.6826895, 0.9544997)  # one and two standard deviations
    assert low[0, 0] == pytest.approx(-1, abs=1e-5)
    assert high[0, 0] == pytest.approx(5, abs=1e-5)


def test_the_expected_calibration_error() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55, np.nan])
    right = np.array([True, True, True, False, True, False, True])  # 0.95 said and 0.75 true of four, 0.55 said and 0.5 true of two
    found = reliability(confidence, right)
    assert found is not None
    assert found.ece == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 4]
    assert found.right[9] == pytest.approx(0.75)
    assert np.isnan(found.mean[0])


def test_a_confidence_of_1_falls_into_the_last_bin_and_none_at_all_is_none() -> None:
    found = reliability(np.array([1.0]), np.array([True]))
    assert found is not None
    assert found.count[9] == 1
    assert found.ece == 0
    assert reliability(np.array([np.nan]), np.array([True])) is None
