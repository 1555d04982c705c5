"""Ridge, two levels and a logistic curve against what is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.stats.levels import two_levels
from dataengine.stats.logistic import fit_logistic
from dataengine.stats.ridge import fit_ridge, ridge_path


def test_without_a_penalty_it_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)) * [1, 5, 0.2] + [0, 10, -3]
    y = x @ np.array([[2.0, 0], [0, -1], [3, 1]]) + [5, 7]
    (found,) = ridge_path(x, y, [0.0])
    assert found(x) == pytest.approx(y, abs=1e-6)


def test_a_penalty_draws_the_slope_in_by_what_it_should() -> None:
    x = np.array([[-1.0], [1.0], [-1.0], [1.0]])  # spread 1
    y = 3 * x
    for penalty, slope in ((0.5, 3 / 1.5), (2.0, 1.0)):  # 3 / (1 + penalty)
        (found,) = ridge_path(x, y, [penalty])
        assert float(found(np.array([[2.0]]))[0, 0]) == pytest.approx(2 * slope)


def test_fewer_rows_than_features_give_the_same() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(8, 8)), rng.normal(size=(8, 2))
    wide = np.concatenate([x, np.zeros((8, 5))], axis=1)  # features that never change say nothing
    narrow, broad = ridge_path(x, y, [0.3])[0], ridge_path(wide, y, [0.3])[0]
    assert broad(wide) == pytest.approx(narrow(x), abs=1e-9)


def test_weights_count_rows() -> None:
    x, y = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0], [2.0], [5.0]])
    twice = ridge_path(np.concatenate([x, x[2:]]), np.concatenate([y, y[2:]]), [0.1])[0]
    weighted = ridge_path(x, y, [0.1], weight=np.array([1.0, 1.0, 2.0]))[0]
    assert weighted(x) == pytest.approx(twice(x))


def test_an_odd_row_is_not_taken_at_its_word() -> None:
    x = np.array([[-1.0], [1.0]] * 10)
    (found,) = ridge_path(x, x, [0.0])
    assert float(found(np.array([[1000.0]]))[0, 0]) == pytest.approx(6)


def test_the_penalty_is_chosen_by_what_was_left_out_for_each_prediction() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 40))
    y = np.stack([x[:, 0], rng.normal(size=200)], axis=1)
    found, penalties, honest = fit_ridge(x, y, np.arange(200) % 4)
    assert penalties[0] < penalties[1]  # one is clear, the other noise alone
    assert honest.shape == (200, 2)
    assert 1 - ((honest[:, 0] - y[:, 0]) ** 2).mean() / y[:, 0].var() > 0.99
    assert ((honest[:, 1] - y[:, 1]) ** 2).mean() > 0.97 * y[:, 1].var()  # of noise nothing is known, and the errors say so
    assert ((found(x)[:, 1] - y[:, 1]) ** 2).mean() < ((honest[:, 1] - y[:, 1]) ** 2).mean()


def test_two_levels() -> None:
    found = two_levels(np.array([0.0, 0.0, 0.6, 0.0, np.nan]))
    assert found is not None
    assert (found.low, found.high, found.threshold) == pytest.approx((0.0, 0.6, 0.3))
    assert found.upper(np.array([0.31, 0.3])).tolist() == [True, False]
    uneven = two_levels(np.array([0.0, 0.1, 1.0, 1.1, 1.2]))
    assert uneven is not None
    assert (uneven.low, uneven.high) == pytest.approx((0.05, 1.1))
    assert two_levels(np.array([2.0, 2.0])) is None


def test_a_logistic_curve_says_how_often_it_is_right() -> None:
    score = np.repeat([-1.0, 1.0], 500)
    upper = np.concatenate([np.arange(500) < 50, np.arange(500) < 400])  # 10 % below, 80 % above
    found = fit_logistic(score, upper)
    assert float(found(np.array([-1.0]))[0]) == pytest.approx(0.1, abs=0.01)
    assert float(found(np.array([1.0]))[0]) == pytest.approx(0.8, abs=0.01)
    assert np.isfinite(fit_logistic(np.array([0.0, 1.0]), np.array([False, True])).slope)
