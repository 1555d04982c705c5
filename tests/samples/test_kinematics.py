import numpy as np

from dataengine.samples.kinematics import JOINT_LOW, elbow_position, forward, inverse, quat_xyzw_from_yaw


def test_forward_by_hand() -> None:
    # upper link 0.30 along x, elbow a quarter turn left: fore link 0.25 along y; wrist turns back by 0.2
    assert np.allclose(forward(np.array([0.0, np.pi / 2, -0.2, 0.07])), [0.30, 0.25, 0.07, np.pi / 2 - 0.2])
    assert np.allclose(elbow_position(np.array([np.pi / 2, 0.3, 0.0, 0.0])), [0.0, 0.30])


def test_inverse_undoes_forward() -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        pose = np.array([rng.uniform(0.2, 0.4), rng.uniform(-0.25, 0.25), rng.uniform(0, 0.2), rng.uniform(-1.2, 1.2)])
        assert np.allclose(forward(inverse(pose)), pose, atol=1e-12)


def test_inverse_out_of_reach_keeps_the_direction() -> None:
    reached = forward(inverse(np.array([3.0, 4.0, -1.0, 0.0])))
    assert np.isclose(reached[1] / reached[0], 4 / 3)
    assert np.isclose(np.hypot(reached[0], reached[1]), 0.548)
    assert reached[2] == JOINT_LOW[3]


def test_quaternion_of_a_quarter_turn() -> None:
    assert np.allclose(quat_xyzw_from_yaw(np.array([np.pi / 2])), [[0, 0, np.sqrt(0.5), np.sqrt(0.5)]])
