"""Figures of classes against counts worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.evaluate.classes import class_figures, class_sums, switches


def bools(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


def test_balanced_accuracy_counts_a_rare_class_as_much_as_a_common_one() -> None:
    truth, said = bools("1100000000"), bools("1010000000")  # 1 of 2 uppers, 7 of 8 lowers
    found = {name: float(value) for name, value in class_figures(class_sums(truth, said, np.zeros(10, np.int64), 1)[0]).items()}
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 7 / 8) / 2)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["precision"] == pytest.approx(0.5)
    assert found["recall"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx(0.5)
    assert found["share_upper"] == pytest.approx(0.2)


def test_always_the_common_class_is_worth_a_half() -> None:
    found = class_figures(class_sums(bools("1000"), bools("0000"), np.zeros(4, np.int64), 1)[0])
    assert float(found["balanced_accuracy"]) == 0.5


def test_without_a_class_there_is_no_balanced_accuracy() -> None:
    assert np.isnan(class_figures(class_sums(bools("000"), bools("010"), np.zeros(3, np.int64), 1)[0])["balanced_accuracy"])


def test_switches_are_late_early_missed_and_made_up() -> None:
    #                 up at 3, down at 8          up at 5 (2 late), down at 7 (1 early), up at 10 and down at 11 made up
    found = switches(bools("000111110000"), bools("000001100010"), np.zeros(12, np.int64))
    assert (found.measured, found.said, found.found) == (2, 4, 2)
    assert found.late_steps == pytest.approx(0.5)
    assert found.off_steps == pytest.approx(1.5)


def test_switches_are_of_one_direction_near_and_within_an_episode() -> None:
    assert switches(bools("0011"), bools("1100"), np.zeros(4, np.int64)).found == 0
    far = np.concatenate([np.zeros(5, bool), np.ones(20, bool)])
    late = np.concatenate([np.zeros(16, bool), np.ones(9, bool)])
    assert switches(far, late, np.zeros(25, np.int64)).found == 0  # 11 steps late
    assert switches(far, late, np.zeros(25, np.int64), farthest=11).late_steps == 11
    assert switches(bools("0011"), bools("0111"), np.array([0, 0, 1, 1])).measured == 0  # the change lies between two episodes


def test_nearest_switches_are_matched_first_and_once() -> None:
    found = switches(bools("0001110111"), bools("0000111111"), np.zeros(10, np.int64))  # up at 3 and 7, down at 6; said: up at 4
    assert (found.measured, found.said, found.found, found.late_steps) == (3, 1, 1, 1.0)
