"""Figures of episodes that say something, and of those that say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.action_spec import ActionSpec, SpecPart
from dataengine.core.arrays import Array
from dataengine.labels.idm_figures import Told, balanced_accuracy, halves_figures
from dataengine.labels.idm_fitting import fit_calibration

SPEC = ActionSpec(
    "action",
    ("x", "grip", "rx", "ry", "rz"),
    (SpecPart("scaled", (0,), (0.0,), (1.0,)), SpecPart("levels", (1,), levels=(0.0, 1.0)), SpecPart("rotation", (2, 3, 4), spread=(0.1,), rotation="rotvec")),
)


def told(value: float) -> Told:
    """Return what was said of four steps, and a truth that is `value` at each."""
    turns = np.broadcast_to(np.eye(3, dtype=np.float32), (4, 1, 1, 3, 3))
    ones = np.ones((4, 1, 1), np.float32)
    odds = np.zeros((4, 1, 2), np.float32)
    answers: dict[str, Array] = {"value": 0.5 * ones, "variance": ones, "rotation": turns, "turn_variance": ones, "odds0": odds}
    return answers, np.arange(4)[:, None], np.ones((4, 1), np.bool_), np.full((4, 5), value)


def test_of_episodes_without_a_usable_row_nothing_is_said() -> None:
    found = halves_figures(SPEC, [told(np.nan), told(np.nan)], fit_calibration)
    assert found == {"episodes": 2, "steps": 0, "x": None, "grip": {"balanced_accuracy": None}, "rx+ry+rz": {"error_rad": None}}


def test_balanced_accuracy_by_hand() -> None:
    assert balanced_accuracy(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]), (0.0, 1.0)) == pytest.approx(0.75)
    assert balanced_accuracy(np.zeros(0), np.zeros(0), (0.0, 1.0)) is None
