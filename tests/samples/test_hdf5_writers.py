import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from dataengine.samples.aloha import AlohaOptions, write_aloha
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.defects import with_defect
from dataengine.samples.robomimic import RobomimicOptions, write_robomimic
from dataengine.samples.steps import control_steps


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, index, ArmConfig(40, 56, max_steps=8 + index)) for index in range(5)]


def test_aloha_raw(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    paths = write_aloha(tmp_path, recordings[:2])
    assert [path.name for path in paths] == ["episode_0.hdf5", "episode_1.hdf5"]
    steps = control_steps(recordings[1])
    with h5py.File(paths[1]) as file:
        assert bool(file.attrs["sim"])
        assert file["observations/images/front"].chunks == (1, 40, 56, 3)
        assert np.array_equal(file["observations/images/front"][:], recordings[1].cameras["front"].images[steps.frame["front"]])
        for key, rows in (
            ("observations/qpos", steps.qpos),
            ("observations/qvel", steps.qvel),
            ("observations/effort", steps.effort),
            ("action", steps.action),
        ):
            assert file[key].dtype == np.float64
            assert np.array_equal(file[key][:], rows)
        assert "compress_len" not in file


def test_aloha_compressed(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    (path,) = write_aloha(tmp_path, recordings[:1], AlohaOptions(compress=True, timestamps=True))
    steps = control_steps(recordings[0])
    with h5py.File(path) as file:
        lengths = file["compress_len"][:]
        assert lengths.shape == (2, 8)
        for place, name in enumerate(("front", "wrist")):
            table = file[f"observations/images/{name}"]
            assert table.shape == (8, lengths[place].max())
            for row in range(8):
                assert not table[row, lengths[place, row] :].any()
                jpeg = table[row, : lengths[place, row]]
                assert jpeg[-2:].tolist() == [0xFF, 0xD9]
                assert cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape == (40, 56, 3)
        assert np.allclose(np.diff(file["timestamps"][:]), 0.05, atol=0.003)
        assert abs(file["timestamps"][0] - (recordings[0].start_ns + steps.t_ns[0]) / 1e9) < 1e-6


def test_unequal_lengths_land_as_they_are(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    (path,) = write_aloha(tmp_path, [with_defect(recordings[0], "unequal_lengths")])
    with h5py.File(path) as file:
        assert (len(file["action"]), len(file["observations/qpos"])) == (1, 8)


def test_robomimic(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5", recordings, RobomimicOptions(next_obs=True))
    with h5py.File(path) as file:
        data = file["data"]
        assert data.attrs["total"] == 8 + 9 + 10 + 11 + 12
        assert json.loads(data.attrs["env_args"])["env_kwargs"]["control_freq"] == 20.0
        assert list(data) == [f"demo_{number}" for number in range(5)]
        assert file["mask/train"][:].tolist() == [b"demo_0", b"demo_1", b"demo_2", b"demo_3"]
        assert file["mask/valid"][:].tolist() == [b"demo_4"]
        for number, recording in enumerate(recordings):
            steps, demo = control_steps(recording), data[f"demo_{number}"]
            assert demo.attrs["num_samples"] == 8 + number
            assert bool(demo.attrs["success"]) == recording.success
            assert np.array_equal(demo["actions"][:], steps.action)
            assert demo["states"].shape == (8 + number, 9)
            assert demo["rewards"][:].sum() == float(recording.success)
            assert demo["dones"][:].tolist() == [0] * (7 + number) + [1]
            assert np.array_equal(demo["obs/robot0_eye_in_hand_image"][:], recording.cameras["wrist"].images[steps.frame["wrist"]])
            assert np.array_equal(demo["next_obs/robot0_eef_pos"][:-1], demo["obs/robot0_eef_pos"][1:])
    path = write_robomimic(tmp_path / "masked.hdf5", recordings[:2], RobomimicOptions(images=False, compression="gzip"), {"mine": [1]})
    with h5py.File(path) as file:
        assert list(file["mask"]) == ["mine"]
        assert "agentview_image" not in file["data/demo_0/obs"]
