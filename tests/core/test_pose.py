"""Rotations: values worked out by hand, and that every kind of rotation goes to a matrix and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.core.arrays import Array
from dataengine.core.pose import (
    matrix_from_quat_xyzw,
    matrix_from_rot6d,
    matrix_from_rotvec,
    matrix_from_rpy,
    quat_xyzw_from_matrix,
    rot6d_from_matrix,
    rotvec_from_matrix,
    rpy_from_matrix,
)

QUARTER = np.pi / 2
angles = st.floats(-3.1, 3.1, allow_nan=False)
pitches = st.floats(-1.5, 1.5, allow_nan=False)


def test_a_quarter_turn_about_z_brings_x_to_y() -> None:
    expected = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(matrix_from_rpy(np.array([0, 0, QUARTER])), expected, atol=1e-12)
    np.testing.assert_allclose(matrix_from_rotvec(np.array([0, 0, QUARTER])), expected, atol=1e-12)
    np.testing.assert_allclose(matrix_from_rot6d(np.array([0, 2.0, 0, -3.0, 1.0, 0])), expected, atol=1e-12)  # two columns, not of length 1, not square
    np.testing.assert_allclose(matrix_from_quat_xyzw(np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)])), expected, atol=1e-12)


def test_roll_comes_before_pitch_before_yaw() -> None:
    # (0, 0, 1): rolled by 90 degrees it is (0, -1, 0), which the pitch leaves, and the yaw of 90 degrees brings to (1, 0, 0).
    turned = matrix_from_rpy(np.array([QUARTER, 0.3, QUARTER])) @ np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(turned, [1.0, 0.0, 0.0], atol=1e-12)
    # (1, 0, 0): the roll leaves it, pitched by 30 degrees it is (cos 30, 0, -sin 30), the yaw brings that to (0, cos 30, -sin 30).
    turned = matrix_from_rpy(np.array([1.1, np.pi / 6, QUARTER])) @ np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(turned, [0.0, np.sqrt(3) / 2, -0.5], atol=1e-12)


def test_rot6d_is_the_first_two_columns() -> None:
    np.testing.assert_allclose(rot6d_from_matrix(matrix_from_rpy(np.array([0, 0, QUARTER]))), [0, 1, 0, -1, 0, 0], atol=1e-12)


def test_half_turns_and_no_turn() -> None:
    for axis in np.eye(3):
        found = rotvec_from_matrix(matrix_from_rotvec(axis * np.pi))
        np.testing.assert_allclose(np.abs(found), axis * np.pi, atol=1e-9)
    np.testing.assert_allclose(rotvec_from_matrix(np.eye(3)), 0, atol=1e-15)
    np.testing.assert_allclose(rotvec_from_matrix(matrix_from_rotvec(np.array([1e-11, 0, -2e-11]))), [1e-11, 0, -2e-11], atol=1e-15)


def test_a_pitch_of_a_quarter_turn_has_no_roll() -> None:
    locked = matrix_from_rpy(np.array([0.4, QUARTER, 0.1]))
    found = rpy_from_matrix(locked)
    np.testing.assert_allclose(found, [0.0, QUARTER, -0.3], atol=1e-7)  # only yaw - roll is determined
    np.testing.assert_allclose(matrix_from_rpy(found), locked, atol=1e-7)


@pytest.mark.parametrize(("six", "words"), [([0, 0, 0, 1, 0, 0], "first column"), ([1, 0, 0, 2, 0, 0], "parallel")])
def test_rot6d_that_is_no_rotation(six: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        matrix_from_rot6d(np.array(six))


@settings(deadline=None)
@given(st.lists(st.tuples(angles, pitches, angles), min_size=1, max_size=6))
def test_every_kind_goes_there_and_back(turns: list[tuple[float, float, float]]) -> None:
    rpy = np.array(turns)
    matrices = matrix_from_rpy(rpy)
    np.testing.assert_allclose(matrices @ np.swapaxes(matrices, -1, -2), np.broadcast_to(np.eye(3), matrices.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrices), 1.0, atol=1e-12)
    np.testing.assert_allclose(rpy_from_matrix(matrices), rpy, atol=1e-9)

    def back(values: Array, to_matrix: object) -> None:
        np.testing.assert_allclose(to_matrix(values), matrices, atol=1e-9)  # type: ignore[operator]

    back(quat_xyzw_from_matrix(matrices), matrix_from_quat_xyzw)
    back(rotvec_from_matrix(matrices), matrix_from_rotvec)
    back(rot6d_from_matrix(matrices), matrix_from_rot6d)
    assert (np.linalg.norm(rotvec_from_matrix(matrices), axis=-1) <= np.pi + 1e-9).all()
    assert (quat_xyzw_from_matrix(matrices)[:, 3] >= 0).all()
