"""How good estimates of clock offsets are: injected offsets on the sample arm, under easy and hard conditions."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dataengine.samples.arm import ArmConfig, record
from tests.support.camera_clocks import dropping_cameras, flickering_cameras, motionless
from tests.support.offset_trials import run, summary


@cache
def recordings(camera_hz, count):
    """Return recordings of all four tasks and several seeds."""
    return [record(seed % 7, seed, ArmConfig(height=96, width=128, camera_hz=camera_hz)) for seed in range(count)]


def errors(done):
    return [trial.error_frames for trial in done if trial.error_frames is not None]


def test_a_few_recordings_meet_the_bound():
    done = run(recordings(30.0, 4))
    assert len(errors(done)) == 8
    assert np.median(errors(done)) <= 1 / 3
    assert max(errors(done)) < 1
    assert errors(run(map(motionless, recordings(30.0, 2)))) == []


@pytest.mark.slow
@pytest.mark.parametrize("sensors", ["positions", "velocities", "all"])
@pytest.mark.parametrize("camera_hz", [10.0, 15.0, 30.0])
def test_injected_offsets_are_found_to_a_third_of_a_frame(camera_hz, sensors):
    done = run(recordings(camera_hz, 32), sensors, seed=int(camera_hz))
    print(summary(f"{camera_hz:g} Hz, {sensors}", done))
    assert np.median(errors(done)) <= 1 / 3
    assert len(errors(done)) >= 0.9 * len(done)
    assert sum(error > 1 for error in errors(done)) <= 0.02 * len(done)


@pytest.mark.slow
@pytest.mark.parametrize("camera_hz", [10.0, 15.0, 30.0])
def test_an_arm_at_rest_always_abstains(camera_hz):
    done = run(map(motionless, recordings(camera_hz, 32)))
    print(summary(f"{camera_hz:g} Hz, at rest", done))
    assert errors(done) == []


CONDITIONS = {
    "a quarter of the frames lost": lambda arm: dropping_cameras(arm, 0.25, 0.0),
    "stamps within 8 ms": lambda arm: dropping_cameras(arm, 0.0, 8.0),
    "light that flickers by a fifth": lambda arm: flickering_cameras(arm, 0.2),
    "all of these": lambda arm: dropping_cameras(flickering_cameras(arm, 0.2), 0.25, 8.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS)
def test_hard_conditions_cost_answers_rather_than_truth(condition):
    done = run(recordings(30.0, 32), change=CONDITIONS[condition], seed=1)
    print(summary(f"30 Hz, {condition}", done))
    assert np.median(errors(done)) <= 1 / 2
    assert len(errors(done)) >= 0.75 * len(done)
    assert sum(error > 2 for error in errors(done)) <= 0.02 * len(done)
