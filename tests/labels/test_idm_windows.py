"""Gaps between the frames of a window in whole steps of the data."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.clock import nominal_timestamps_ns, steps_near
from dataengine.labels.idm import SCALES
from dataengine.labels.idm_windows import at_rate, fitted_to, require_rate, steps_in, window_seconds

DEFAULTS = SCALES["tiny"].model_dump(mode="json")


@pytest.mark.parametrize(
    ("gap_s", "rate", "steps"), [(0.05, 20, 1), (0.05, 60, 3), (0.05, 30, None), (0.05, 10, None), (0.05, 19.97, 1), (0.05, 18.5, 1), (0.05, 17.9, None)]
)
def test_a_gap_is_a_whole_number_of_steps_or_none(gap_s: float, rate: float, steps: int | None) -> None:
    assert steps_in(gap_s, rate) == steps


def test_a_long_window_must_keep_to_its_steps_up_to_its_ends() -> None:
    """At 18.5 Hz a gap of 0.05 s is 0.925 steps: six gaps are 5.55 and nearest to six steps, seven are 6.475 and nearest to six too."""
    assert steps_in(0.05, 18.5, 6) == 1
    assert steps_in(0.05, 18.5, 7) is None
    assert steps_near(nominal_timestamps_ns(20, 18.5), np.array([0]), (0.3, 0.35))[0].tolist() == [[6, 6]]


def test_a_gap_of_one_and_a_half_steps_is_now_one_step_and_now_two() -> None:
    """Why it is refused: what a window calls the next frame is not always the next step."""
    near, _ = steps_near(nominal_timestamps_ns(7, 30), np.arange(5), (0.05,))
    assert set((near[:, 0] - np.arange(5)).tolist()) == {1, 2}


@pytest.mark.parametrize(
    ("rate", "gap", "before", "after"), [(30, 1 / 30, 2 / 30, 4 / 30), (50, 0.04, 0.08, 0.16), (10, 0.1, 0.2, 0.4), (5, 0.2, 0.4, 0.8), (20, 0.05, 0.1, 0.2)]
)
def test_the_defaults_are_brought_to_whole_steps_of_a_rate(rate: float, gap: float, before: float, after: float) -> None:
    """As many steps as fit into 0.05 s, at least one; two gaps before a step and four after it."""
    found = at_rate(DEFAULTS, rate)
    assert found == pytest.approx({"gap_s": gap, "before_s": before, "after_s": after})
    config = SCALES["tiny"].model_copy(update=found)
    assert len(window_seconds(config)) == 7
    require_rate(config, "here", rate)


def test_what_fits_already_stays() -> None:
    assert fitted_to(DEFAULTS, 20.0) == {}
    assert fitted_to(DEFAULTS, 100.0) == {}
    assert fitted_to(DEFAULTS, 30.0)["gap_s"] == pytest.approx(1 / 30)
    assert at_rate(DEFAULTS, 100.0, 1)["gap_s"] == 0.01
