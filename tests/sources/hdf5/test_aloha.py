"""The ALOHA/ACT family: every value and byte as it was written, clocks that are not made up, parts that are absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames, Items
from tests.support.hdf5_files import CAMERAS, differences, jpeg, only, write_aloha, write_robomimic


def test_raw_frames_and_numbers_land_exactly(tmp_path: Path) -> None:
    wrote = write_aloha(tmp_path / "episode_0.hdf5", steps=6)
    episode = only(tmp_path)
    streams = episode.streams
    names = {"observation.state": "qpos", "observation.velocity": "qvel", "observation.effort": "effort"}
    for name, source in names.items():
        values: Any = streams[name].values
        expected = wrote[f"observations/{source}"]
        assert (values.dtype, values.tobytes()) == (expected.dtype, expected.tobytes())
    for name, source in (("action", "action"), ("action.base", "base_action")):
        values = streams[name].values
        assert values.tobytes() == wrote[source].tobytes()
    for camera in CAMERAS:
        stream = streams[f"observation.images.{camera}"]
        assert isinstance(stream.values, Frames)
        assert stream.values.pixels.tobytes() == wrote[f"observations/images/{camera}"].tobytes()
        assert (stream.column.kind, stream.column.dtype, stream.column.shape) == ("image", "uint8", (12, 16, 3))
    assert len(streams) == 8
    action = streams["action"].column
    assert (action.meaning, action.action_source) == ("action", "commanded")
    assert action.action_space is not None
    assert (action.action_space.kind, action.action_space.absolute) == ("joint_position", True)
    assert (episode.info.follow, episode.info.origin, episode.info.success, episode.info.problems) == ("action", "teleop", None, ())


@pytest.mark.parametrize("with_lengths", [True, False])
def test_compressed_frames_keep_their_exact_bytes(tmp_path: Path, with_lengths: bool) -> None:
    wrote = write_aloha(tmp_path / "episode_0.hdf5", steps=5, compressed=True, with_lengths=with_lengths)
    episode = only(tmp_path)
    for camera in CAMERAS:
        stream = episode.streams[f"observation.images.{camera}"]
        assert isinstance(stream.values, Items)
        assert list(stream.values.data) == wrote[f"observations/images/{camera}"]
        assert set(stream.values.encodings) == {"jpeg"}
        assert stream.column.encoding == "jpeg"
    # The table's rows are in the recorder's order of cameras, the file's groups in the alphabet's.
    rows = {f"observation.images.{camera}": number for number, camera in enumerate(CAMERAS)}
    assert episode.info.metadata.get("compress_len_row") == (rows if with_lengths else None)
    assert episode.info.problems == ()


def test_missing_and_damaged_frames_are_named_and_their_neighbours_land(tmp_path: Path) -> None:
    wrote = write_aloha(tmp_path / "a.hdf5", steps=6, compressed=True)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        camera = file["observations/images/cam_low"]
        camera[2] = 0
        half = np.zeros(camera.shape[1], np.uint8)
        half[:100] = np.frombuffer(wrote["observations/images/cam_low"][4][:100], np.uint8)
        camera[4] = half
    episode = only(tmp_path)
    data = episode.streams["observation.images.cam_low"].values.data
    expected = wrote["observations/images/cam_low"]
    assert data[2] == b""
    assert data[4].rstrip(b"\0") == expected[4][:100]
    assert [data[row] for row in (0, 1, 3, 5)] == [expected[row] for row in (0, 1, 3, 5)]
    assert [problem.check for problem in episode.info.problems] == ["missing_frames", "damaged_frames", "lengths_disagree"]
    assert "1 of 6 frames are empty, the first at row 2" in episode.info.problems[0].message
    assert differences(tmp_path / "a.hdf5", episode) == []


def test_frames_of_differing_size_and_grey_ones_land(tmp_path: Path) -> None:
    import cv2

    grey = cv2.imencode(".jpg", np.full((20, 30), 99, np.uint8))[1].tobytes()
    frames = [jpeg(1), jpeg(2, 16, 48), grey]
    longest = max(map(len, frames))
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["action"] = np.zeros((3, 2))
        file["observations/images/top"] = np.stack([np.frombuffer(data.ljust(longest, b"\0"), np.uint8) for data in frames])
        file["observations/images/fixed"] = np.array(frames, dtype=f"S{longest}")
    episode = only(tmp_path)
    assert episode.streams["observation.images.top"].values.data == frames
    assert episode.streams["observation.images.fixed"].values.data == frames


def test_no_rate_is_made_up(tmp_path: Path) -> None:
    write_aloha(tmp_path / "a.hdf5")
    info = only(tmp_path).info
    assert (info.clock, info.rate_hz, info.stream_clocks) == ("unknown", None, {})
    info = only(tmp_path, ReadOptions(description={"rate_hz": 50, "embodiment": "aloha_bimanual"})).info
    assert (info.clock, info.rate_hz, info.embodiment) == ("nominal", 50.0, "aloha_bimanual")
    assert only(tmp_path, ReadOptions(rate_hz=25.0)).info.rate_hz == 25.0
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file.attrs["fps"] = 30
    info = only(tmp_path, ReadOptions(rate_hz=25.0, description={"rate_hz": 50})).info
    assert (info.clock, info.rate_hz) == ("nominal", 30.0)


def test_recorded_times_are_the_clock_and_odd_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_aloha(path, steps=3)
    with h5py.File(path, "r+") as file:
        file["timestamps"] = np.array([1_700_000_000.0, 1_700_000_000.5, 1_700_000_002.0])
    episode = only(tmp_path)
    assert (episode.info.clock, episode.info.epoch, episode.info.start_ns, episode.info.rate_hz) == ("measured", True, 1_700_000_000 * 10**9, None)
    for stream in episode.streams.values():
        assert stream.timestamps_ns is not None
        assert stream.timestamps_ns.tolist() == [0, 500_000_000, 2_000_000_000]
    for times in ([0.0, np.nan, 1.0], [0.0, 1.0, 1e300]):
        with h5py.File(path, "r+") as file:
            file["timestamps"][:] = times
        episode = only(tmp_path)
        assert (episode.info.clock, episode.info.stream_clocks) == ("unknown", {})
        assert [problem.check for problem in episode.info.problems] == ["odd_times"]
        assert np.array_equal(episode.streams["timestamps"].values, np.array(times), equal_nan=True)


def test_a_state_more_than_actions_lands_whole(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["action"] = np.zeros((4, 2))
        file["observations/qpos"] = np.arange(10.0).reshape(5, 2)
        file["observations/eef/pose"] = np.arange(35.0).reshape(5, 7)
        file["camera_matrix"] = np.eye(3)
        file["large"] = np.zeros((40, 4000))
    episode = only(tmp_path)
    assert {name: len(stream) for name, stream in episode.streams.items()} == {"action": 4, "observation.state": 5, "observation.eef.pose": 5}
    assert episode.streams["observation.state"].values[4].tolist() == [8.0, 9.0]
    assert episode.streams["observation.eef.pose"].column.extra["source"] == "observations/eef/pose"
    assert episode.info.metadata["values"] == {"camera_matrix": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}
    assert [problem.where for problem in episode.info.problems] == ["a.hdf5:/large"]


def test_depth_and_channels_first(tmp_path: Path) -> None:
    depth = np.arange(3 * 10 * 12, dtype=np.uint16).reshape(3, 10, 12)
    first = np.arange(3 * 3 * 10 * 12, dtype=np.uint64).reshape(3, 3, 10, 12).astype(np.uint8)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["action"] = np.zeros((3, 2))
        file["observations/images/top_depth"] = depth
        file["observations/images/wrist"] = first
    streams = only(tmp_path).streams
    values = streams["observation.images.top_depth"].values
    assert isinstance(values, Frames)
    assert (values.exact, values.pixels.dtype, values.pixels.tobytes()) == (True, np.uint16, depth.tobytes())
    assert streams["observation.images.top_depth"].column.kind == "depth"
    wrist = streams["observation.images.wrist"]
    assert isinstance(wrist.values, Frames)
    assert wrist.column.shape == (10, 12, 3)
    assert wrist.values.pixels[2, 4, 5].tolist() == first[2, :, 4, 5].tolist()
    assert wrist.column.extra["layout_in_source"] == "channels first"
    assert wrist.column.camera is not None
    assert wrist.column.camera.role == "wrist"


def test_a_camera_that_lies_elsewhere_is_a_named_problem(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["action"] = np.zeros((3, 2))
        file["observations/qpos"] = np.zeros((3, 2))
        file["observations/video_paths/cam_high"] = "../../etc/passwd"
    episode = only(tmp_path)
    (problem,) = episode.info.problems
    assert problem.check == "missing_video"
    assert "camera 'cam_high' are not in this file, which names '../../etc/passwd'" in problem.message


def test_success_tasks_and_origin_come_from_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_aloha(path)
    with h5py.File(path, "r+") as file:
        file.attrs["sim"] = True
        file.attrs["success"] = 0
        file["language_raw"] = np.array([b"open the lid", b"open the lid", "schön".encode()], dtype="S20")
    info = only(tmp_path).info
    assert (info.origin, info.success, info.tasks) == ("simulation", False, ("open the lid", "schön"))


def test_a_file_without_actions_or_steps_is_rejected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations/qpos"] = np.zeros((3, 2))
    with pytest.raises(BadRecording, match="a dataset of the commanded actions"):
        only(tmp_path)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["observations/qpos"] = np.zeros((0, 2))
        file["action"] = np.zeros((0, 2))
    with pytest.raises(BadRecording, match="one row for each step, found shape"):
        only(tmp_path)


def test_the_projects_own_samples_land(tmp_path: Path) -> None:
    arm = pytest.importorskip("dataengine.samples.arm")
    from dataengine.samples.aloha import AlohaOptions
    from dataengine.samples.aloha import write_aloha as write_sample

    recording = arm.record(seed=3, index=0)
    for compress in (False, True):
        folder = tmp_path / f"compress_{compress}"
        write_sample(folder, [recording], AlohaOptions(compress=compress, timestamps=True))
        episode = only(folder)
        assert differences(folder / "episode_0.hdf5", episode) == []
        assert episode.info.tasks == (recording.task,)
        assert episode.info.clock == "measured"
        assert (episode.info.origin, episode.info.problems) == ("simulation", ())


def test_a_robomimic_file_is_not_taken_for_one(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", {"demo_0": 3}, images=False)
    assert only(tmp_path).info.metadata["format"] == "hdf5/robomimic"
