"""Figures of regression against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.evaluate.regression import errors, regression_figures, regression_sums
from dataengine.evaluate.resampling import episode_sums, interval, resampled


def figures(truth: list[float], said: list[float], angle: bool = False) -> dict[str, float]:
    y, p = np.array(truth)[:, None], np.array(said)[:, None]
    sums = regression_sums(y, p, np.zeros(len(y), np.int64), 1, np.array([angle]))
    return {name: float(value[0]) for name, value in regression_figures(sums[0]).items()}


def test_a_constant_shift() -> None:
    found = figures([1, 2, 3, 4], [2, 3, 4, 5])  # variance 1.25, squared error 1
    assert found["r2"] == pytest.approx(1 - 1 / 1.25)
    assert found["bias"] == pytest.approx(1)
    assert found["mae"] == pytest.approx(1)
    assert found["slope"] == pytest.approx(1)
    assert found["correlation"] == pytest.approx(1)


def test_a_predictor_that_is_drawn_to_the_mean() -> None:
    found = figures([-2, -1, 1, 2], [-1, -0.5, 0.5, 1])
    assert found["slope"] == pytest.approx(0.5)
    assert found["calibration_slope"] == pytest.approx(2)
    assert found["scale_ratio"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(0.75)  # errors are half of the truth: a quarter of its variance
    assert found["bias"] == pytest.approx(0)


def test_an_asymmetric_case() -> None:
    found = figures([0, 0, 3], [0, 1, 1])  # mean 1, variance 2, squared error (0 + 1 + 4) / 3
    assert found["r2"] == pytest.approx(1 - 5 / 3 / 2)
    assert found["mae"] == pytest.approx(1)
    assert found["bias"] == pytest.approx(-1 / 3)
    assert found["slope"] == pytest.approx((1 - 2 / 3 * 1) / 2)  # mean of products 1, product of means 2/3


def test_the_mean_has_an_r2_of_0_and_nothing_to_correlate() -> None:
    found = figures([1, 2, 3], [2, 2, 2])
    assert found["r2"] == pytest.approx(0)
    assert found["slope"] == pytest.approx(0)
    assert np.isnan(found["correlation"])


def test_what_never_changes_has_no_r2() -> None:
    found = figures([2, 2, 2], [1, 2, 3])
    assert np.isnan(found["r2"])
    assert found["mae"] == pytest.approx(2 / 3)


def test_angles_go_the_short_way_round() -> None:
    off = errors(np.array([[3.1]]), np.array([[-3.1]]), np.array([True]))
    assert off[0, 0] == pytest.approx(2 * np.pi - 6.2)
    around = figures([np.pi - 0.1, -np.pi + 0.1], [np.pi - 0.2, -np.pi + 0.2], angle=True)  # 0.1 off each, spread 0.1 around pi
    assert around["mae"] == pytest.approx(0.1)
    assert around["slope"] == pytest.approx(2)
    straight = figures([np.pi - 0.1, -np.pi + 0.1], [-np.pi + 0.1, np.pi - 0.1], angle=True)
    assert straight["mae"] == pytest.approx(0.2)


def test_sums_of_episodes_add_up_and_far_values_lose_no_precision() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=(40, 2)) + 1e6
    p = y + rng.normal(size=(40, 2)) * 0.5
    episode = np.repeat([0, 1, 2], [10, 5, 25])
    found = regression_figures(regression_sums(y, p, episode, 3).sum(0))
    assert found["r2"] == pytest.approx(1 - ((p - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0), abs=1e-6)


def test_episodes_are_resampled_as_wholes() -> None:
    weights = resampled(5, seed=1, resamples=400)
    assert weights.shape == (400, 5)
    assert (weights.sum(1) == 5).all()
    assert (weights == resampled(5, seed=1, resamples=400)).all()
    assert (weights != resampled(5, seed=2, resamples=400)).any()
    sums = episode_sums(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 2]), 3)
    assert sums.tolist() == [1, 0, 6]


def test_the_interval_of_resampled_values() -> None:
    low, high = interval(np.arange(1001.0)[:, None])
    assert low[0] == pytest.approx(25)
    assert high[0] == pytest.approx(975)
    mostly_missing = np.full((10, 1), np.nan)
    mostly_missing[0] = 3
    assert np.isnan(interval(mostly_missing)[0][0])
