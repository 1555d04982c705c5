from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import ActionSpace, Column, Gripper
from dataengine.validate.limits import CheckLimits
from dataengine.validate.numbers import frozen_signal, gripper_chatter, jump, not_finite, saturated, signal_facts

LIMITS = CheckLimits()
T = np.arange(100)
JOINTS = Column("observation.state", shape=(3,), meaning="state", unit="rad", dims=("shoulder", "elbow", "gripper"))
MOVING = np.stack([np.sin(T / 17), 0.4 * np.cos(T / 11), np.where(T < 60, 1.0, 0.0)], axis=1)


def found_by(check, column, values):
    return check(column, signal_facts(column, np.asarray(values)), LIMITS)


def test_a_moving_arm_has_no_problem():
    assert not_finite(JOINTS, MOVING, LIMITS) == []
    for check in (frozen_signal, saturated, jump, gripper_chatter):
        assert found_by(check, JOINTS, MOVING) == []


def test_only_states_and_actions_are_signals():
    assert signal_facts(Column("language_embedding", shape=(512,), meaning="language"), np.zeros((9, 512))) is None
    assert signal_facts(JOINTS, np.zeros((0, 3))) is None
    assert signal_facts(JOINTS, np.zeros((5, 0))) is None


@pytest.mark.parametrize(("bad", "meaning", "severity"), [(np.nan, "state", "warning"), (-np.inf, "action", "warning"), (np.inf, "other", "info")])
def test_values_that_are_not_finite(bad, meaning, severity):
    values = MOVING.astype(np.float32)
    values[37, 1] = bad
    values[50] = bad
    (problem,) = not_finite(Column("x", shape=(3,), meaning=meaning), values, LIMITS)
    assert problem.found == "4 of 300 are NaN or infinite, the first at row 37"
    assert problem.severity == severity


def test_large_values_are_finite():
    assert not_finite(JOINTS, np.full((4, 3), 1.7e308), LIMITS) == []
    assert not_finite(JOINTS, np.full((4, 3), 3e38, dtype=np.float32), LIMITS) == []
    assert not_finite(Column("n", dtype="int64"), np.array([2**63 - 1] * 3), LIMITS) == []


def test_a_signal_with_nan_is_judged_by_the_rest():
    values = MOVING.copy()
    values[3, 0] = np.nan
    signal = signal_facts(JOINTS, values)
    assert signal.low[0] == pytest.approx(np.nanmin(values[:, 0]))
    assert jump(JOINTS, signal, LIMITS) == []


def test_a_frozen_state_is_found_and_a_still_gripper_is_not():
    still = np.tile(np.array([0.1, -0.2, 1.0]), (50, 1))
    (problem,) = found_by(frozen_signal, JOINTS, still)
    assert problem.found == "the same numbers in all 50 rows"
    barely = still.copy()
    barely[20, 1] = np.nextafter(-0.2, 0)
    assert found_by(frozen_signal, JOINTS, barely) == []
    assert found_by(frozen_signal, Column("gripper_position", shape=(1,), meaning="state"), np.zeros((50, 1))) == []


def test_a_jump_of_a_position_is_found_with_its_row():
    values = MOVING.copy()
    values[70, 1] += 0.9
    (problem,) = found_by(jump, JOINTS, values)
    assert "dimension elbow" in problem.message
    # 0.9 and what the elbow moved by itself: 0.4 (cos(70 / 11) - cos(69 / 11))
    assert problem.found == "a step of 0.898728 at row 70"
    velocities = Column("v", shape=(3,), meaning="state", action_space=ActionSpace("joint_velocity"))
    assert found_by(jump, velocities, values) == []


def test_an_angle_that_wraps_and_a_gripper_that_shuts_do_not_jump():
    angle = np.mod(T * 0.1 + 3.0, 2 * np.pi) - np.pi
    shut = np.where(T < 50, 0.08, 0.0)
    assert found_by(jump, JOINTS, np.stack([angle, angle, shut], axis=1)) == []


def test_a_clipped_command_is_found_and_a_rest_at_zero_is_not():
    action = Column("action", shape=(2,), meaning="action", dims=("x", "y"))
    wave = 1.7 * np.sin(T / 9)
    (low, high) = found_by(saturated, action, np.stack([np.clip(wave, -1.0, 1.25), np.maximum(wave, 0)], axis=1))
    assert "dimension x" in high.message
    assert {high.severity, low.severity} == {"info"}
    assert "at -1 exactly" in low.found
    assert "at 1.25 exactly" in high.found


def test_gripper_chatter_is_found_and_use_is_not():
    column = Column("action", shape=(2,), meaning="action", action_space=ActionSpace("ee_delta", gripper=Gripper(1, closed=0.0, open=1.0)))
    chatter = np.where((T > 40) & (T < 56) & (T % 2 == 0), 1.0, 0.0)
    (problem,) = found_by(gripper_chatter, column, np.stack([np.sin(T), chatter], axis=1))
    assert problem.found == "14 changes in 100 rows, typically 1 rows apart"
    used = np.where((T // 12) % 2 == 0, 1.0, 0.0)
    assert found_by(gripper_chatter, column, np.stack([np.sin(T), used], axis=1)) == []
    # noise of a gripper that rests is no chatter
    noise = 0.5 + 1e-4 * np.random.default_rng(0).normal(size=100)
    assert found_by(gripper_chatter, column, np.stack([np.sin(T), noise], axis=1)) == []
