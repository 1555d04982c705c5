from __future__ import annotations

import numpy as np
import pytest

from dataengine.align.body_motion import body_motions
from dataengine.align.control import AlignInput
from dataengine.core.column import Column

TIMES = np.arange(40, dtype=np.int64) * 10_000_000
CAMERA = np.arange(12, dtype=np.int64) * 33_000_000


def stream(name, shape=(3,), meaning="other", unit=None, times=TIMES, dtype="float64"):
    values = np.arange(len(times) * int(np.prod(shape)), dtype=dtype).reshape(len(times), *shape)
    return AlignInput(Column(name, dtype=dtype, shape=shape, meaning=meaning, unit=unit), times, values)


def chosen(*streams, **options):
    return [(motion.name, motion.speeds) for motion in body_motions({one.column.name: one for one in streams}, CAMERA, **options)]


@pytest.mark.parametrize(
    ("name", "meaning", "unit", "speeds"),
    [
        ("joint_states.position", "other", None, False),
        ("joint_states.velocity", "other", None, True),
        ("imu.data.angular_velocity", "other", None, True),
        ("tf.base.hand", "other", None, False),
        ("observation.state", "state", None, False),
        ("observation.qvel", "state", None, True),
        ("arm.rates", "other", "rad/s", True),
    ],
)
def test_what_says_how_a_body_moved(name, meaning, unit, speeds):
    assert chosen(stream(name, meaning=meaning, unit=unit)) == [(name, speeds)]


@pytest.mark.parametrize(
    "name",
    ["joint_commands.position", "joint_states.effort", "imu.linear_acceleration", "imu.orientation_covariance", "camera.info.pose", "action", "points.x"],
)
def test_what_does_not(name):
    assert chosen(stream(name)) == []
    assert chosen(stream("observation.state", meaning="action")) == []


def test_states_come_first_and_then_positions_with_many_rows():
    few = np.arange(20, dtype=np.int64) * 20_000_000
    streams = [stream("b.velocity"), stream("a.pose", times=few), stream("z.position"), stream("s", meaning="state", times=few)]
    assert [name for name, _ in chosen(*streams)] == ["s", "z.position", "a.pose", "b.velocity"]
    assert len(chosen(*(stream(f"joint{number}.position") for number in range(9)))) == 6


def test_the_camera_s_own_clock_is_taken_only_when_asked():
    same = AlignInput(Column("observation.state", dtype="float64", shape=(3,), meaning="state"), TIMES, np.zeros((40, 3)))
    streams = {"observation.state": same}
    assert body_motions(streams, TIMES.copy()) == []
    assert [motion.name for motion in body_motions(streams, TIMES.copy(), shared_clocks=True)] == ["observation.state"]


def test_times_that_step_back_are_put_in_order_and_what_cannot_serve_is_left_out():
    back = TIMES[::-1].copy()
    (motion,) = body_motions({"q": stream("joint.position", times=back)}, CAMERA)
    assert motion.times_ns.tolist() == TIMES.tolist()
    assert motion.values[0, 0] == 39 * 3
    assert chosen(stream("joint.position", times=TIMES[:10])) == []  # too few
    assert chosen(stream("joint.position", shape=(60,))) == []  # too wide for a body
    assert chosen(AlignInput(Column("joint.position", kind="text", dtype="string"), TIMES, 40)) == []
    assert chosen(AlignInput(Column("joint.position", dtype="float64", shape=(1,)), None, np.zeros((40, 1)))) == []
