import numpy as np
import pytest

from dataengine.samples.kinematics import inverse
from dataengine.samples.physics import BLOCK_SIDE_M, DEAD_TIME_NS, FINGER_RADIUS_M, LAG_NS, PATCH_RADIUS_M, WorldState, _push, advance, follow


def _rest(servo: np.ndarray, block: tuple[float, float, float, float]) -> WorldState:
    return WorldState(0, servo, np.zeros(5), servo, np.array(block))


def test_follow_by_hand() -> None:
    # Critically damped from rest, 1/40 s after the step: 2/e of the offset is left, moving at -40/e of it a second.
    x, v, a = follow(np.array([3.0]), np.array([0.0]), np.array([1.0]), 1 / 40)
    assert np.allclose([x[0], v[0], a[0]], [1 + 2 * 2 / np.e, -2 * 40 / np.e, 0.0])


def test_follow_agrees_with_small_steps() -> None:
    x, v, command, dt = 0.4, -2.0, 1.1, 1e-6
    for _ in range(20_000):
        a = 1600 * (command - x) - 80 * v
        x, v = x + v * dt, v + a * dt
    exact = follow(np.array([0.4]), np.array([-2.0]), np.array([1.1]), 0.02)
    assert np.allclose([exact[0][0], exact[1][0]], [x, v], atol=2e-4)


def test_a_command_acts_after_the_dead_time() -> None:
    servo = np.array([0.1, 1.0, 0.0, 0.15, 1.0])
    target = np.array([0.5, 1.0, 0.0, 0.15, 1.0])
    state, trace = advance(_rest(servo, (0.3, 0.3, 0.0, 0.0)), target, 50_000_000)
    left = (1 + 40 * 0.04) * np.exp(-40 * 0.04)  # 40 ms of the 50 are after the dead time
    assert np.isclose(state.servo[0], 0.5 - 0.4 * left)
    assert trace.knots[1][0] == DEAD_TIME_NS
    assert np.allclose(trace.knots[1][1], servo)
    assert not trace.contact.any()
    with pytest.raises(ValueError, match="more than 10000000 ns apart"):
        advance(state, target, state.t_ns + DEAD_TIME_NS)


def test_a_ramp_is_followed_with_the_documented_lag() -> None:
    period_ns, speed = 20_000_000, 0.5  # rad/s
    state = _rest(np.array([0.0, 1.0, 0.0, 0.15, 1.0]), (0.5, 0.5, 0.0, 0.0))
    for step in range(100):
        state, _ = advance(state, np.array([speed * step * 0.02, 1.0, 0.0, 0.15, 1.0]), (step + 1) * period_ns)
    # At t = 2 s the newest command is that of 1.98 s; held for a period it lags half a period on average.
    behind_s = (speed * 2.0 - state.servo[0]) / speed
    assert abs(behind_s - (LAG_NS * 1e-9 + 0.01)) < 0.004


def test_a_central_push_moves_straight() -> None:
    block = np.array([0.3, 0.1, 0.0, 0.0])
    finger = (0.3, 0.1 - BLOCK_SIDE_M / 2 - FINGER_RADIUS_M + 0.003)  # 3 mm into the face at y-
    assert np.allclose(_push(block, finger), [0.3, 0.103, 0.0, 0.0])
    assert _push(block, (0.3, 0.1 - BLOCK_SIDE_M / 2 - FINGER_RADIUS_M)) is None


def test_an_eccentric_push_turns() -> None:
    # 1 cm right of the centre (x+), pushing along +y: torque is 0.01 x 1, so it turns to the left.
    after = _push(np.array([0.3, 0.1, 0.0, 0.0]), (0.31, 0.1 - BLOCK_SIDE_M / 2 - FINGER_RADIUS_M + 0.002))
    assert after is not None
    travel = 0.002 / (1 + (0.01 / PATCH_RADIUS_M) ** 2)
    assert np.allclose(after, [0.3, 0.1 + travel, 0.0, travel * 0.01 / PATCH_RADIUS_M**2])


def test_closing_holds_and_opening_lets_go() -> None:
    down = np.append(inverse(np.array([0.3, 0.05, 0.012, 0.0])), 1.0)
    state = _rest(down, (0.302, 0.047, 0.0, 0.0))
    state, trace = advance(state, np.append(down[:4], 0.0), 300_000_000)
    assert state.grip is not None
    assert trace.held[-1]
    assert abs(state.block[1] - 0.05) < 0.002  # centred between the fingers
    state, _ = advance(state, np.append(inverse(np.array([0.3, 0.05, 0.112, 0.0])), 0.0), 900_000_000)
    assert np.isclose(state.block[2], 0.1, atol=1e-3)
    state, _ = advance(state, np.append(inverse(np.array([0.3, 0.05, 0.112, 0.0])), 1.0), 1_400_000_000)
    assert state.grip is None
    assert state.block[2] == 0.0
    assert not state.contact
