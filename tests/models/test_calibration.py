import json

import numpy as np
import pytest

from dataengine.core.action_spec import ActionSpec, SpecPart
from dataengine.core.column import RotationKind
from dataengine.core.pose import matrix_from_rotvec, rotvec_from_matrix
from dataengine.models.calibration import (
    SLOPE,
    Calibration,
    Voted,
    answered,
    best_temperature,
    calibrated,
    calibration_of_json,
    entry_sigmas,
    nearer_name,
    no_calibration,
    reach,
    transition_trust,
    unshrunk,
    vote,
)

SPEC = ActionSpec("action", ("x",), (SpecPart("scaled", (0,), (0.0,), (2.0,), low=(-10.0,), high=(10.0,)),))


def said(value: list[list[float]], variance: list[list[float]]) -> dict[str, np.ndarray]:
    found = np.array(value, np.float32)
    shape = found.shape
    return {
        "value": found[..., None],
        "variance": np.array(variance, np.float32)[..., None],
        "rotation": np.zeros((*shape, 0, 3, 3), np.float32),
        "turn_variance": np.zeros((*shape, 0), np.float32),
    }


def test_windows_are_combined_by_inverse_variance_and_their_spread_is_kept() -> None:
    """Window 0 speaks of step 0 (1.0, variance 1) and step 1 (2.0, variance 4); window 1 of step 1 (5.0, variance 1) and of a step that is not there."""
    places, counts = np.array([[0, 1], [1, 1]]), np.array([[True, True], [True, False]])
    voted = vote(places, counts, said([[1, 2], [5, 9]], [[1, 4], [1, 1]]), no_calibration(SPEC, 2), 3)
    assert voted.windows.tolist() == [1, 2, 0]
    assert voted.value[:2, 0].tolist() == pytest.approx([1.0, (2 / 4 + 5) / 1.25])  # 4.4
    spread = (0.25 * (2 - 4.4) ** 2 + 1 * (5 - 4.4) ** 2) / 1.25
    assert voted.sigma[:2, 0].tolist() == pytest.approx([1.0, np.sqrt(2 / 1.25 + spread)])


def test_a_transition_that_errs_more_than_it_says_counts_less() -> None:
    places, counts = np.array([[0, 0]]), np.ones((1, 2), np.bool_)
    calibration = Calibration((1.0,), (0.0,), (), (1.0,), (1.96,), ((1.0,), (4.0,)))
    assert vote(places, counts, said([[0, 10]], [[1, 1]]), calibration, 1).value[0, 0] == pytest.approx(2.0)
    trust = transition_trust([np.array([[[1.0], [8.0]], [[3.0], [np.nan]]])], [np.array([[[1.0], [2.0]], [[1.0], [5.0]]])])
    assert trust == ((2.0,), (4.0,))  # (1 + 3) / (1 + 1), and 8 / 2: what is not known counts on neither side


def test_rotations_are_combined_on_the_sphere() -> None:
    spec = ActionSpec("action", ("rx", "ry", "rz"), (SpecPart("rotation", (0, 1, 2), spread=(1.0,), rotation="rotvec"),))
    turns = matrix_from_rotvec(np.array([[0, 0, np.pi - 0.1], [0, 0, -np.pi + 0.3]]))  # 0.4 apart, across pi
    answers = {"value": np.zeros((1, 2, 0)), "variance": np.zeros((1, 2, 0)), "rotation": turns[None, :, None], "turn_variance": np.ones((1, 2, 1))}
    voted = vote(np.zeros((1, 2), np.int64), np.ones((1, 2), np.bool_), answers, no_calibration(spec, 2), 1)
    assert np.abs(rotvec_from_matrix(voted.rotation[0, 0])).tolist() == pytest.approx([0, 0, np.pi - 0.1], abs=1e-6)
    assert rotvec_from_matrix(voted.rotation[0, 0])[2] == pytest.approx(-np.pi + 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "true", "away"),
    [
        ("quat_xyzw", [0, 0, np.cos(0.05), np.sin(0.05)], [0, 0, 0, 0]),  # the same rotation
        ("quat_xyzw", [0, 0, -np.cos(0.05), -np.sin(0.05)], [0, 0, 0, 0]),  # and again, by its other name
        ("quat_xyzw", [0, 0, -np.cos(0.05), np.sin(0.05)], [0, 0, 0, 2 * np.sin(0.05)]),  # 0.2 rad away, across half a turn
        ("rotvec", [0, 0, np.pi - 0.3], [0, 0, 0.2]),
        ("rotvec", [0, 0, 0.1 - np.pi], [0, 0, 0.2]),
        ("rotvec", [0, 0, 0], [0, 0, np.pi - 0.1]),
    ],
)
def test_the_name_under_which_a_rotation_was_recorded_is_no_error(kind: RotationKind, true: list[float], away: list[float]) -> None:
    """pi - 0.1 about z is said of twenty steps, with a sigma of 1 / sqrt(3) in each entry."""
    width = len(true)
    spec = ActionSpec("action", tuple("abcd"[:width]), (SpecPart("rotation", tuple(range(width)), spread=(1.0,), rotation=kind),))
    turn = matrix_from_rotvec(np.array([0, 0, np.pi - 0.1]))
    voted = Voted(np.zeros((20, 0)), np.zeros((20, 0)), (), np.tile(turn, (20, 1, 1, 1)), np.ones((20, 1)), np.ones(20, np.int64))
    found = calibrated(spec, [(voted, np.tile(true, (20, 1)))], ((),))
    assert np.array(found.reach68) / np.sqrt(3) == pytest.approx(np.array(away), abs=1e-9)


def test_rotation_vectors_in_degrees_have_their_other_name_too() -> None:
    part = SpecPart("rotation", (0, 1, 2), spread=(1.0,), rotation="rotvec", gain=np.pi / 180)
    assert nearer_name(part, np.array([[0.0, 0, 170]]), np.array([[0.0, 0, -150]])) == pytest.approx(np.array([[0, 0, 210]]))


def test_shrinkage_and_bias_are_undone() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    noisy = truth + 0.5 * rng.normal(size=4000)
    shrunk = 0.8 * noisy + 0.3  # what a regressor of least squares says, and a bias
    gain, offset = unshrunk(shrunk, truth, -np.inf, np.inf)
    answer = gain * shrunk + offset
    slope = np.cov(answer, truth)[0, 1] / truth.var()
    assert slope == pytest.approx(SLOPE, abs=1e-3)
    assert answer.mean() == pytest.approx(truth.mean(), abs=1e-9)
    assert gain == pytest.approx(1.25 * SLOPE, abs=0.03)


def test_the_slope_is_as_meant_after_cutting_off_too() -> None:
    rng = np.random.default_rng(1)
    truth = np.clip(1.5 * rng.normal(size=4000), -1, 1)
    value = 0.6 * truth + 0.2 * rng.normal(size=4000)
    gain, offset = unshrunk(value, truth, -1, 1)
    answer = np.clip(gain * value + offset, -1, 1)
    assert np.cov(answer, truth)[0, 1] / truth.var() == pytest.approx(SLOPE, abs=0.01)


def test_what_is_hardly_shrunk_is_left_so_and_what_is_stretched_is_brought_back() -> None:
    truth = np.random.default_rng(3).normal(size=4000)
    assert unshrunk(0.97 * truth, truth, -np.inf, np.inf) == (pytest.approx(1.0), pytest.approx(0.0, abs=0.01))
    assert unshrunk(1.25 * truth, truth, -np.inf, np.inf)[0] == pytest.approx(0.8)


def test_the_higher_the_power_the_more_the_surest_window_counts_alone() -> None:
    """Two windows say 0 with variance 1 and 10 with variance 4: weights 4 to 1, or with the power 2 16 to 1."""
    said = {
        "value": np.array([[[0.0]], [[10.0]]]),
        "variance": np.array([[[1.0]], [[4.0]]]),
        "rotation": np.zeros((2, 1, 0, 3, 3)),
        "turn_variance": np.zeros((2, 1, 0)),
    }
    places, counts = np.zeros((2, 1), np.int64), np.ones((2, 1), bool)

    def voted(power: float) -> Voted:
        return vote(places, counts, said, Calibration((1.0,), (0.0,), (), (1.0,), (2.0,), ((1.0,),), 0, power), 1)

    assert voted(1.0).value[0, 0] == pytest.approx(2.0)
    assert voted(2.0).value[0, 0] == pytest.approx(10 / 17)
    assert voted(1.0).sigma[0, 0] == pytest.approx(np.sqrt(2 / 1.25 + 16))  # the mean variance by weight, and the spread
    assert voted(2.0).sigma[0, 0] == pytest.approx(np.sqrt((16 * 1 + 1 * 4) / 17 + (16 * (10 / 17) ** 2 + (160 / 17) ** 2) / 17))


def test_an_answer_that_knows_nothing_is_left_alone() -> None:
    rng = np.random.default_rng(2)
    assert unshrunk(rng.normal(size=500), rng.normal(size=500), -9, 9) == (1.0, 0.0)


def test_intervals_hold_what_they_promise_whatever_the_noise() -> None:
    """Errors of a Laplace distribution five times as large as the model says: intervals of fresh episodes cover 68 and 95 of 100."""
    rng = np.random.default_rng(3)

    def episode() -> tuple[Voted, np.ndarray]:
        truth = 2 * rng.normal(size=(50, 1))
        sigma = rng.uniform(0.05, 0.2, size=(50, 1))
        value = truth / 2 + 5 * sigma * rng.laplace(size=(50, 1))
        return Voted(value, sigma, (), np.zeros((50, 0, 3, 3)), np.zeros((50, 0)), np.ones(50, np.int64)), truth

    calibration = calibrated(SPEC, [episode() for _ in range(40)], ((1.0,),))
    assert calibration.episodes == 40
    covered68, covered95 = [], []
    for voted, truth in (episode() for _ in range(100)):
        values, _ = answered(SPEC, voted, calibration)
        half = entry_sigmas(SPEC, voted, calibration)
        covered68.append(np.abs(values - truth) <= half * calibration.reach68)
        covered95.append(np.abs(values - truth) <= half * calibration.reach95)
    assert np.mean(covered68) == pytest.approx(0.68, abs=0.03)
    assert np.mean(covered95) == pytest.approx(0.95, abs=0.015)


def test_the_quantile_is_that_of_split_conformal_prediction() -> None:
    scores = np.arange(1.0, 10.0)  # nine of them: rank ceil(10 * 0.68) = 7, and for 0.95 there are too few: the largest
    assert reach(scores, 0.68) == 7
    assert reach(scores, 0.95) == 9


def test_odds_that_are_too_sure_are_tempered() -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random(3000) < 0.7).astype(np.int64)
    sure = np.stack([np.zeros(3000), np.full(3000, 3 * np.log(0.7 / 0.3))], axis=1)  # as if 0.93 were right
    assert best_temperature(sure, truth) == pytest.approx(3.0, rel=0.15)


def test_unknown_rows_are_left_out_and_no_truth_calibrates_nothing() -> None:
    voted = Voted(np.zeros((3, 1)), np.ones((3, 1)), (), np.zeros((3, 0, 3, 3)), np.zeros((3, 0)), np.ones(3, np.int64))
    assert calibrated(SPEC, [(voted, np.full((3, 1), np.nan))], ((1.0,),)) == no_calibration(SPEC, 1)


def test_it_is_kept_as_json() -> None:
    calibration = Calibration((1.1, 1.2), (0.1, -0.1), (0.7,), (1.0, 1.1, 0.0), (2.0, 2.1, 0.0), ((1.0, 2.0), (3.0, 4.0)), 7)
    assert calibration_of_json(json.loads(json.dumps(calibration.as_json()))) == calibration
