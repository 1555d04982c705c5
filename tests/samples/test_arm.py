from dataclasses import fields

import numpy as np
import pytest

from dataengine.core.clock import median_rate_hz
from dataengine.samples.arm import EPOCH_NS, ArmConfig, ArmRecording, record
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.kinematics import forward
from dataengine.samples.physics import DEAD_TIME_NS, LAG_NS, follow
from dataengine.samples.pictures import encode_picture
from dataengine.samples.scene import COLOURS
from dataengine.samples.steps import control_steps, newest_at

NUMBERS = ArmConfig(cameras=())


def _same(a: ArmRecording, b: ArmRecording) -> bool:
    for part in fields(a):
        x, y = getattr(a, part.name), getattr(b, part.name)
        if isinstance(x, np.ndarray):
            if not np.array_equal(x, y):
                return False
        elif part.name == "cameras":
            if any(not np.array_equal(x[name].images, y[name].images) or not np.array_equal(x[name].t_ns, y[name].t_ns) for name in x):
                return False
        elif x != y:
            return False
    return True


def test_same_seed_same_recording() -> None:
    config = ArmConfig(48, 64, max_steps=6)
    assert _same(record(3, 5, config), record(3, 5, config))
    assert not _same(record(3, 5, config), record(4, 5, config))
    assert not np.array_equal(record(3, 5, NUMBERS).action, record(3, 9, NUMBERS).action)


def test_clocks() -> None:
    recording = record(0, 3, ArmConfig(32, 32))
    for t_ns, rate in (
        (recording.joint_t_ns, 200),
        (recording.imu_t_ns, 200),
        (recording.action_t_ns, 20),
        (recording.cameras["front"].t_ns, 30),
        (recording.cameras["wrist"].t_ns, 30),
    ):
        assert t_ns.dtype == np.int64
        assert (np.diff(t_ns) > 0).all()
        assert abs((median_rate_hz(t_ns) or 0) / rate - 1) < 0.02
        assert len(np.unique(np.diff(t_ns))) > 5  # measured, not nominal
    assert max(recording.joint_t_ns[0], recording.cameras["wrist"].t_ns[0]) < recording.action_t_ns[0]
    assert recording.start_ns == EPOCH_NS + 3 * 120_000_000_000
    assert not recording.joint_position.flags.writeable


@pytest.mark.parametrize("index", range(12))
def test_the_block_moves_only_when_touched(index: int) -> None:
    recording = record(0, index, NUMBERS)
    moved = np.abs(np.diff(recording.block_pose, axis=0)).max(axis=1) > 0
    assert not (moved & ~recording.contact[1:]).any()
    assert recording.contact[1:][recording.held[1:]].all()
    if recording.fault == "missed":
        assert not recording.contact.any()


def test_success_is_what_happened() -> None:
    seen = set()
    for index in range(60):
        recording = record(1, index, NUMBERS)
        first, last = recording.block_pose[0], recording.block_pose[-1]
        done = {
            "push_left": last[1] - first[1] >= 0.08,
            "push_right": first[1] - last[1] >= 0.08,
            "lift": last[2] >= 0.06,
            "place": last[2] == 0 and np.hypot(*(last[:2] - recording.pad_xy)) <= 0.04,
        }[recording.kind]
        assert recording.success == bool(done)
        assert recording.success == (recording.fault == "none")
        assert recording.colour in recording.task
        seen.add((recording.kind, recording.success))
    assert len({kind for kind, success in seen if success}) == 4
    assert any(not success for _, success in seen)


def test_joints_follow_the_commands_in_closed_form() -> None:
    recording = record(2, 1, NUMBERS)
    steps = 0
    for k in range(1, len(recording.action_t_ns) - 1):
        begin, end = recording.action_t_ns[k] + DEAD_TIME_NS, recording.action_t_ns[k + 1] + DEAD_TIME_NS
        rows = np.flatnonzero((recording.joint_t_ns >= begin) & (recording.joint_t_ns < end))
        elapsed = (recording.joint_t_ns[rows] - recording.joint_t_ns[rows[0]])[:, None] * 1e-9
        expected, velocity, _ = follow(recording.joint_position[rows[0], :4], recording.joint_velocity[rows[0], :4], recording.action[k, :4], elapsed)
        assert np.allclose(recording.joint_position[rows, :4], expected, atol=1e-9)
        assert np.allclose(recording.joint_velocity[rows, :4], velocity, atol=1e-8)
        steps += len(rows)
    assert steps > 300


def test_velocity_is_the_slope_of_position() -> None:
    recording = record(2, 0, NUMBERS)
    t_s = recording.joint_t_ns * 1e-9
    slope = np.diff(recording.joint_position[:, :4], axis=0) / np.diff(t_s)[:, None]
    middle = (recording.joint_velocity[1:, :4] + recording.joint_velocity[:-1, :4]) / 2
    assert np.corrcoef(slope[:, 0], middle[:, 0])[0, 1] > 0.999
    assert np.allclose(recording.ee_position, forward(recording.joint_position[:, :4])[:, :3])


def test_action_t_acts_after_observation_t_and_before_observation_t_plus_1() -> None:
    """Finite differences of the state follow the command of their own step, not the one before or after."""
    steps = control_steps(record(0, 3, ArmConfig(cameras=(), action_noise_m=0.01)))
    pull = steps.action[:-1, :2] - steps.qpos[:-1, :2]  # where the command wants to go from what was seen
    change = np.diff(steps.qpos[:, :2], axis=0)
    early, right, late = (np.corrcoef(pull[2 + shift : len(pull) - 2 + shift].ravel(), change[2:-2].ravel())[0, 1] for shift in (-1, 0, 1))
    assert right > 0.9
    assert right > early + 0.02
    assert right > late + 0.02


def test_measured_lag_of_a_whole_episode() -> None:
    recording = record(0, 3, ArmConfig(cameras=(), action_noise_m=0.0))
    grid = np.arange(200_000_000, int(recording.action_t_ns[-1]), 1_000_000)
    held = recording.action[newest_at(recording.action_t_ns, grid), 0]
    errors = []
    for lag_ms in range(30, 120):
        joint = np.interp(grid + lag_ms * 1_000_000, recording.joint_t_ns, recording.joint_position[:, 0])
        errors.append(float(np.mean((joint - held)[:-150] ** 2)))
    # The held command is half a step (25 ms) late itself, which the best match against it does not see.
    assert abs(30 + int(np.argmin(errors)) - LAG_NS / 1e6) <= 8


def test_inertial_sensor_feels_gravity_at_rest() -> None:
    recording = record(0, 1, NUMBERS)
    rest = recording.imu_t_ns < recording.action_t_ns[0]
    assert np.allclose(recording.linear_acceleration[rest].mean(axis=0), [0, 0, 9.81], atol=0.05)


def test_frames_show_the_block_and_differ() -> None:
    recording = record(0, 1, ArmConfig(128, 128, failure_rate=0.0))
    images = recording.cameras["front"].images
    assert images.std() > 25
    assert len({image.tobytes() for image in images}) == len(images)
    red, green, blue = COLOURS[recording.colour]
    like = np.abs(images[0].astype(int) - [red, green, blue]).sum(axis=-1) < 130
    assert like.sum() > 30
    assert not np.array_equal(recording.cameras["wrist"].images[0], recording.cameras["wrist"].images[-1])


def test_barcode_survives_jpeg() -> None:
    import cv2

    recording = record(0, 700, ArmConfig(64, 96, barcode=True, max_steps=4))
    for number, name in enumerate(("front", "wrist")):
        for frame, image in enumerate(recording.cameras[name].images):
            coded = cv2.imdecode(np.frombuffer(encode_picture(image, "jpeg", 40), np.uint8), cv2.IMREAD_COLOR)
            assert read_barcode(coded) == Barcode(frame, number, 700)
    assert read_barcode(record(0, 1, ArmConfig(64, 64, max_steps=2)).cameras["front"].images[0]) is None


def test_steps_take_the_newest_sample() -> None:
    assert newest_at(np.array([10, 20, 30]), np.array([5, 10, 29, 99])).tolist() == [0, 0, 1, 2]
    recording = record(0, 3, ArmConfig(32, 32, failure_rate=0.0))
    steps = control_steps(recording)
    for name, track in recording.cameras.items():
        age = steps.t_ns - track.t_ns[steps.frame[name]]
        assert (age >= 0).all()
        assert age.max() < 40_000_000
        assert len(np.unique(steps.frame[name])) == len(steps)
    assert steps.reward.tolist() == [0.0] * (len(steps) - 1) + [1.0]
