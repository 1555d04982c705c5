"""The simulated arm's recordings in every encoding: what lands is what was simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from dataengine.core.stream import Frames, Items
from dataengine.samples.arm import QPOS_NAMES, ArmRecording, record
from dataengine.samples.mcap import McapOptions, write_mcap
from dataengine.samples.pictures import encoded_frames
from dataengine.samples.topics import TopicOptions
from tests.support.mcap_files import episode_of_file, episodes_of_file, library_payloads, payloads_of


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(5, 0)


@pytest.mark.parametrize("encoding", ["ros2", "ros1", "protobuf", "json"])
def test_every_encoding_lands_the_same_numbers_pictures_times_and_transforms(
    tmp_path: Path, recording: ArmRecording, encoding: Literal["ros2", "ros1", "protobuf", "json"]
) -> None:
    path = write_mcap(tmp_path / "a.mcap", [recording], McapOptions(encoding, "lz4"))
    episode = episode_of_file(tmp_path)
    assert payloads_of(episode) == library_payloads(path)
    assert not episode.info.problems
    start = recording.start_ns
    order = np.argsort(episode.streams["joint_states"].clocks["stamp"], kind="stable")  # logged with jitter: not in the order of the stamps
    for field, truth in (("position", recording.joint_position), ("velocity", recording.joint_velocity), ("effort", recording.joint_effort)):
        stream = episode.streams[f"joint_states.{field}"]
        assert stream.column.dims == QPOS_NAMES
        assert stream.values.dtype == np.float64  # type: ignore[union-attr]
        assert np.array_equal(stream.values[order], truth)  # type: ignore[index]
        assert np.array_equal(stream.clocks["stamp"][order], start + recording.joint_t_ns)
        assert episode.info.stream_clocks[stream.column.name] == "stamp"
    felt = episode.streams["imu.data.linear_acceleration"]
    assert (felt.column.dims, felt.column.frame) == (("x", "y", "z"), "hand")
    assert np.array_equal(felt.values[np.argsort(felt.clocks["stamp"])], recording.linear_acceleration)  # type: ignore[index]
    hand = episode.streams["tf.base.hand"]
    moved = np.argsort(hand.clocks["stamp"])
    assert np.array_equal(hand.values[moved], np.hstack([recording.ee_position, recording.ee_quat_xyzw])[::4])  # type: ignore[index]
    for name, track in recording.cameras.items():
        camera = episode.streams[f"observation.images.camera_{name}"]
        assert isinstance(camera.values, Items)
        assert [bytes(data) for data in camera.values.data] == list(encoded_frames(track, "jpeg", 90))
        assert camera.clocks["stamp"].tolist() == (start + track.t_ns).tolist()
        assert camera.column.camera is not None
        assert camera.column.camera.intrinsics_px == pytest.approx(track.intrinsics_px)
    said = episode.streams["task.data"].values
    assert isinstance(said, Items)
    assert [bytes(text).decode() for text in said.data] == [recording.task]


@pytest.mark.parametrize("encoding", ["ros2", "protobuf"])
def test_raw_pictures_are_the_simulated_pixels(tmp_path: Path, recording: ArmRecording, encoding: Literal["ros2", "protobuf"]) -> None:
    path = write_mcap(tmp_path / "a.mcap", [recording], McapOptions(encoding, topics=TopicOptions(raw_images=True, points_hz=5.0)))
    episode = episode_of_file(tmp_path)
    for name, track in recording.cameras.items():
        frames = episode.streams[f"observation.images.camera_{name}"].values
        assert isinstance(frames, Frames)
        assert np.array_equal(frames.pixels, track.images)
    assert payloads_of(episode) == library_payloads(path)


def test_several_recordings_in_a_file_part_at_the_pause_between_them(tmp_path: Path, recording: ArmRecording) -> None:
    second = record(5, 1)
    write_mcap(tmp_path / "a.mcap", [recording, second])
    episodes = episodes_of_file(tmp_path, config={"episodes": {"by": "gap", "seconds": 5}})
    assert [episode.info.key for episode in episodes] == ["0", "1"]
    for episode, truth in zip(episodes, (recording, second), strict=True):
        assert len(episode.streams["joint_states.position"]) == len(truth.joint_t_ns)
        assert episode.info.start_ns == truth.start_ns + min(
            int(truth.joint_t_ns.min()), int(truth.imu_t_ns.min()), *(int(c.t_ns.min()) for c in truth.cameras.values())
        )
