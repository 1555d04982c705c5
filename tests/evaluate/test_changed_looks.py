"""The arm in another scene: the same motion, other pictures; latents of the motion alone pass, latents of the scene do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dataengine.evaluate.changed_looks import _auc, distractor, twins


def test_twins_move_alike_and_look_different() -> None:
    made = twins(50_000, 32)
    assert made.first.shape == made.second.shape
    assert len(made.first) == len(made.state)
    assert np.abs(made.first.astype(int) - made.second).mean() > 10
    again = twins(50_000, 32)
    assert (again.first == made.first).all()
    assert (again.second == made.second).all()
    assert np.abs(np.diff(made.state, axis=0)).max() > 0.01


def test_only_the_box_moves() -> None:
    still, moved = distractor(3, 64)
    quiet = np.abs(np.diff(still.astype(int), axis=0)).mean()
    busy = np.abs(np.diff(moved.astype(int), axis=0)).mean()
    assert busy > quiet * 1.05
    assert np.abs(still[0].astype(int) - moved[0]).mean() == 0


def test_the_area_under_the_curve_of_known_latents() -> None:
    rng = np.random.default_rng(0)
    moved = rng.normal(size=(300, 3))
    scene_a, scene_b = np.array([5.0, 0, 0]), np.array([0, 5.0, 0])
    assert _auc(moved, moved + rng.normal(size=moved.shape) * 0.05, moved, 1) > 0.98
    unrelated = rng.normal(size=(300, 3))
    assert _auc(unrelated, rng.normal(size=(300, 3)), moved, 1) == pytest.approx(0.5, abs=0.1)
    assert _auc(scene_a + moved * 0.01, scene_b + moved * 0.01, moved, 1) < 0.7  # the scene drowns the motion
    assert replace(twins(50_001, 32)).state.shape[1] == 5
