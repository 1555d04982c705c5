import numpy as np
import pytest

from dataengine.labels.returns import (
    UNFORESEEN,
    Outcome,
    advantages,
    best_temperature,
    expected,
    if_successful,
    quantile,
    shares,
    spread,
    success_mass,
    surprise,
)

ATOMS = np.array([-2.0, -1.0, -0.5, 0.0])
HISTOGRAMS = np.array([[0.5, 0.0, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]])


def test_mean_spread_and_chance() -> None:
    np.testing.assert_allclose(expected(HISTOGRAMS, ATOMS), [-1.125, -1.0])
    np.testing.assert_allclose(spread(HISTOGRAMS, ATOMS) ** 2, [0.5 * 4 + 0.25 * 0.25 - 1.125**2, 0.0])
    np.testing.assert_allclose(success_mass(HISTOGRAMS), [0.5, 1.0])
    np.testing.assert_allclose(if_successful(HISTOGRAMS), np.array([[0, 0.5, 0.5], [1, 0, 0]]))
    np.testing.assert_allclose(if_successful(np.array([[1.0, 0, 0, 0]])), np.full((1, 3), 1 / 3))


def test_a_quantile_lies_between_the_middles_of_the_bins() -> None:
    even = np.full((1, 4), 0.25)  # below the atoms lie 1/8, 3/8, 5/8, 7/8
    assert quantile(even, ATOMS, 0.5)[0] == pytest.approx(-0.75)
    assert quantile(even, ATOMS, 0.0)[0] == -2.0
    assert quantile(even, ATOMS, 7 / 8)[0] == pytest.approx(0.0)
    sure = quantile(HISTOGRAMS, ATOMS, 0.5)[1]
    assert sure == pytest.approx(-1.0, abs=UNFORESEEN)


def test_an_end_of_an_interval_does_not_jump_for_the_last_digit() -> None:
    atoms = np.concatenate([[-2.0], np.linspace(-1, 0, 101)])
    torn = np.zeros((2, 102))
    torn[:, 0], torn[:, 101] = 0.16, 0.84  # the 16 % quantile lies at the edge of a gap without any mass
    torn[1, 0] += 1e-7
    low = quantile(torn, atoms, 0.16)
    assert abs(low[0] - low[1]) < 1e-4


def test_returns_of_a_success_of_a_failure_and_of_nobody_knows() -> None:
    np.testing.assert_allclose(Outcome(8.0, True, -2.0).returns(5), [-0.5, -0.375, -0.25, -0.125, 0])
    np.testing.assert_allclose(Outcome(2.0, True, -2.0).returns(5), [-1, -1, -1, -0.5, 0])  # longer than the longest
    np.testing.assert_allclose(Outcome(8.0, False, -2.0).returns(3), [-2, -2, -2])
    assert np.isnan(Outcome(8.0, None, -2.0).returns(3)).all()


def test_advantages_by_hand() -> None:
    values = np.array([-0.5, -0.6, -0.2, -0.1])
    deviations = np.array([0.3, 0.1, 0.4, 0.0])
    chances = np.array([0.5, 0.25, 1.0, 0.0])
    found, away, known = advantages(values, deviations, chances, 2, Outcome(10.0, True, -2.0))
    # two steps cost 0.2: from 0 to 2 gained 0.3; from 1 on the episode ends within two steps: its return, -0.2, -0.1, 0, less the value
    np.testing.assert_allclose(found, [0.1, 0.4, 0.1, 0.1])
    np.testing.assert_allclose(away, [0.5, 0.1, 0.4, 0.0])
    assert known.all()
    failed, _, _ = advantages(values, deviations, chances, 2, Outcome(10.0, False, -2.0))
    np.testing.assert_allclose(failed, [0.3, -1.4, -1.8, -1.9])  # the steps of a failure cost nothing: its return is the same at each
    open_end, away, known = advantages(values, deviations, chances, 2, Outcome(10.0, None, -2.0))
    np.testing.assert_allclose(open_end, [0.3 - 0.5 * 0.2, 0.5 - 0.25 * 0.2, 0.1 - 1.0 * 0.1, 0.0])
    np.testing.assert_allclose(away[:2], [0.5, 0.1])
    assert known.tolist() == [True, True, True, False]


def test_values_that_are_right_have_no_advantage() -> None:
    outcome = Outcome(20.0, True, -2.0)
    found, _, _ = advantages(outcome.returns(15), np.zeros(15), np.ones(15), 4, outcome)
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_where_failure_is_likely_a_step_as_expected_has_no_advantage() -> None:
    """A quarter of the episodes succeed, three steps on of ten at most, and nothing tells before the end: the mean advantage of a step is 0, however it ends."""
    chance = np.array([0.25, 0.25, 0.25, 0.25])
    values = 0.25 * np.array([-0.3, -0.2, -0.1, 0.0]) + 0.75 * -2.0
    unknown, reached, failed = (advantages(values, np.zeros(4), chance, 1, Outcome(10.0, success, -2.0))[0][:2] for success in (None, True, False))
    np.testing.assert_allclose(unknown, 0, atol=1e-12)
    np.testing.assert_allclose(reached, -0.075)
    np.testing.assert_allclose(failed, 0.025)
    np.testing.assert_allclose(0.25 * reached + 0.75 * failed, 0, atol=1e-12)


def test_the_temperature_makes_overconfident_answers_as_sure_as_they_may_be() -> None:
    generator = np.random.default_rng(0)
    true = shares(generator.normal(size=(4000, 4)) * 1.5)
    drawn = ATOMS[[generator.choice(4, p=row) for row in true]]
    logits = np.log(true)
    assert best_temperature(3 * logits, drawn, ATOMS) == pytest.approx(3, rel=0.1)
    assert surprise(logits, drawn, ATOMS) < surprise(3 * logits, drawn, ATOMS)
    # between two atoms the surprise is shared: a quarter of the way from -0.5 to 0
    uniform = np.log(np.array([[0.1, 0.2, 0.3, 0.4]]))
    assert surprise(uniform, np.array([-0.375]), ATOMS) == pytest.approx(-(0.75 * np.log(0.3) + 0.25 * np.log(0.4)))
