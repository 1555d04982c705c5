import numpy as np
import pytest

from dataengine.core.errors import UnknownName
from dataengine.core.pictures import picture_header
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.defects import DEFECTS, with_defect
from dataengine.samples.pictures import encoded_frames
from dataengine.samples.steps import control_steps


@pytest.fixture(scope="module")
def sound() -> ArmRecording:
    return record(0, 1, ArmConfig(48, 64, failure_rate=0.0))


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_repeatable_and_leaves_the_sound_one_alone(sound: ArmRecording, name: str) -> None:
    before = sound.cameras["front"].images.tobytes(), sound.joint_position.tobytes()
    one, two = with_defect(sound, name), with_defect(sound, name)
    assert (sound.cameras["front"].images.tobytes(), sound.joint_position.tobytes()) == before
    assert one.cameras["front"].images.tobytes() == two.cameras["front"].images.tobytes()
    assert encoded_frames(one.cameras["front"]) == encoded_frames(two.cameras["front"])
    assert len(control_steps(one)) == len(control_steps(sound))


def test_unknown_defect(sound: ArmRecording) -> None:
    with pytest.raises(UnknownName, match="did you mean 'frozen_frames'"):
        with_defect(sound, "frozen_frame")


def test_pictures(sound: ArmRecording) -> None:
    images = sound.cameras["front"].images
    count = len(images)
    frozen = with_defect(sound, "frozen_frames").cameras["front"].images
    assert len({image.tobytes() for image in frozen}) == count - count // 3 + 1
    dark = with_defect(sound, "dark_frames").cameras["front"].images
    assert (dark.max(axis=(1, 2, 3)) < 5).sum() == count // 5
    dropped = with_defect(sound, "dropped_frames").cameras["front"]
    assert len(dropped.images) == len(dropped.t_ns) == count - count // 4
    doubled = with_defect(sound, "duplicated_frames").cameras["front"].images
    assert np.array_equal(doubled[6], images[5])
    swapped = with_defect(sound, "swapped_cameras")
    assert swapped.cameras["wrist"].images is sound.cameras["front"].images


def test_encoded_frames(sound: ArmRecording) -> None:
    def headers(name: str) -> list[object]:
        return [picture_header(data) for data in encoded_frames(with_defect(sound, name).cameras["front"])]

    assert [header.complete for header in headers("damaged_picture") if header].count(False) == 1  # type: ignore[attr-defined]
    assert [header.channels for header in headers("grey_frame") if header].count(1) == 1  # type: ignore[attr-defined]
    assert [(header.height, header.width) for header in headers("resized_frame") if header].count((24, 32)) == 1  # type: ignore[attr-defined]
    assert headers("missing_frame").count(None) == 1


def test_clocks(sound: ArmRecording) -> None:
    assert (np.diff(with_defect(sound, "time_backwards").joint_t_ns) < 0).sum() == 1
    jittered = np.diff(with_defect(sound, "time_jitter").cameras["front"].t_ns)
    assert (jittered > 0).all()
    assert jittered.std() > 8e6
    assert np.diff(with_defect(sound, "time_gap").joint_t_ns).max() > 495_000_000
    drifted = with_defect(sound, "camera_drift").cameras["front"].t_ns
    assert drifted[-1] == round(sound.cameras["front"].t_ns[-1] * 1.08)
    assert with_defect(sound, "wrong_rate").config.camera_hz == 15.0


def test_numbers(sound: ArmRecording) -> None:
    assert np.array_equal(with_defect(sound, "action_lag").action[4:], sound.action[:-4])
    degrees = with_defect(sound, "unit_swap").joint_position
    assert np.allclose(degrees[:, 1], np.rad2deg(sound.joint_position[:, 1]))
    assert np.array_equal(degrees[:, 3:], sound.joint_position[:, 3:])
    assert np.array_equal(with_defect(sound, "sign_swap").joint_position[:, 0], -sound.joint_position[:, 0])
    assert with_defect(sound, "gripper_chatter").action[:4, 4].tolist() == [0, 1, 0, 1]
    assert (with_defect(sound, "saturation").action[:, 0] == 2.6).mean() > 0.5
    still = with_defect(sound, "idle")
    assert np.ptp(still.joint_position, axis=0).max() == 0
    assert not still.success
    assert np.isnan(with_defect(sound, "nan_values").joint_position).sum() == len(sound.joint_position) // 10
    assert np.abs(np.diff(with_defect(sound, "state_jump").joint_position[:, 0])).max() > 1.4
