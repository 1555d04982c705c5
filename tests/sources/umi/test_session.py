"""A raw UMI session as its scripts leave it: video, camera path with lost rows, sensors, calibration; pickles that nobody reads."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.umi_session import (
    LOST,
    LOST_AT_START,
    SERIALS,
    TX_SLAM_TAG,
    UmiSessionOptions,
    camera_rows,
    demo_name,
    imu_document,
    trajectory_csv,
    write_umi_session,
)
from dataengine.sources import video
from dataengine.sources.listing import list_source
from dataengine.sources.umi import reader
from dataengine.sources.umi.camera_trajectory import parse_trajectory
from dataengine.sources.umi.imu_json import ImuJson
from tests.support.films import numbered, write_film
from tests.support.shared import shared_data

CONFIG = ArmConfig(48, 64, cameras=("wrist",), max_steps=20)


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, 1, CONFIG), record(0, 2, CONFIG)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, recordings: list[ArmRecording]) -> Path:
    return write_umi_session(tmp_path_factory.mktemp("umi") / "kitchen_0105", recordings, UmiSessionOptions(twins=True))


@pytest.fixture
def session(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "kitchen_0105", symlinks=True))


def read_all(folder: Path) -> dict[str, Episode]:
    """Return the episodes by the folder of their demonstration."""
    listing = list_source(str(folder))
    found = {}
    for item in reader.find(listing).items:
        (episode,) = episodes_of(reader.read(item, listing.opener, ReadOptions()))
        assert isinstance(episode, Episode)
        found[Path(item.path).parent.name or folder.name] = episode
    return found


def problems(episode: Episode) -> dict[str, str]:
    return {problem.check: problem.severity for problem in episode.info.problems}


def test_each_demonstration_is_an_episode_with_its_path_and_sensors(session: Path, recordings: list[ArmRecording]) -> None:
    episodes = read_all(session)
    assert list(episodes) == [demo_name(0), demo_name(1), f"gripper_calibration_{SERIALS[0]}_2024.01.05_09.00.00.000000", "mapping"]
    assert {episode.info.dataset for episode in episodes.values()} == {"kitchen_0105"}
    for number, recording in enumerate(recordings):
        episode = episodes[demo_name(number)]
        frames = len(recording.cameras["wrist"].t_ns)
        assert isinstance(episode.streams[reader.VIDEO_STREAM].values, MediaFrames)
        assert len(episode.streams[reader.VIDEO_STREAM]) == frames
        truth = np.round(camera_rows(recording, frames, 30), 9)
        lost = ~truth.any(axis=1)
        assert lost.sum() == LOST_AT_START + (LOST.stop - LOST.start)
        np.testing.assert_array_equal(episode.streams["slam.camera_pose"].values, truth)
        np.testing.assert_array_equal(episode.streams["slam.is_lost"].values, lost)
        np.testing.assert_array_equal(episode.streams["observation.camera_pose"].values, truth[~lost])
        pts = episode.streams[reader.VIDEO_STREAM].clocks["pts"]
        np.testing.assert_array_equal(episode.streams["observation.camera_pose"].clocks["pts"], pts[~lost])
        assert episode.streams["slam.is_lost"].clocks["timestamp"][:4].tolist() == [0, 0, 66_667_000, 100_000_000]
        assert episode.info.stream_clocks["observation.camera_pose"] == "pts"
        np.testing.assert_array_equal(episode.streams["imu.accl"].values, recording.linear_acceleration)
        np.testing.assert_array_equal(episode.streams["imu.gyro"].timestamps_ns, recording.imu_t_ns)
        assert "gopro.accl" in episode.streams
    column = episodes[demo_name(0)].info.columns["observation.camera_pose"]
    assert column.action_space is not None
    assert (column.frame, column.action_space.rotation, column.meaning) == ("slam_world", "quat_xyzw", "state")
    assert column.dims == ("x", "y", "z", "qx", "qy", "qz", "qw")
    camera = episodes[demo_name(0)].info.columns[reader.VIDEO_STREAM].camera
    assert camera is not None
    assert (camera.role, camera.pose_stream) == ("wrist", "observation.camera_pose")


def test_calibration_and_json_twins_are_read(session: Path) -> None:
    episode = read_all(session)[demo_name(1)]
    umi = episode.info.metadata["umi"]
    assert umi["tx_slam_tag"] == {"tx_slam_tag": TX_SLAM_TAG}
    (ranges,) = umi["gripper_range"].values()
    assert ranges == {"gripper_id": 0, "max_width": 0.08, "min_width": 0.001}
    assert (umi["camera_serial"], umi["recorded"], umi["role"]) == (SERIALS[0], "2024.01.05_10.01.30.000000", "demo")
    frames = len(episode.streams[reader.VIDEO_STREAM])
    assert umi["plan"] == [{"episode": 1, "camera": 0, "frames": [2, frames - 1]}]
    tags = episode.streams["tags"]
    assert isinstance(tags.values, Items)
    assert json.loads(bytes(tags.values.data[3]))["frame_idx"] == 3
    assert tags.timestamps_ns is not None
    assert tags.timestamps_ns[3] == 100_000_000


def test_pickles_are_named_and_never_read(session: Path, tmp_path: Path) -> None:
    proof = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(proof),)

    (session / "dataset_plan.pkl").write_bytes(pickle.dumps(Evil()))
    (session / "demos" / demo_name(0) / "tag_detection.pkl").write_bytes(pickle.dumps(Evil()))
    episodes = read_all(session)
    assert not proof.exists()
    assert problems(episodes[demo_name(0)]) == {"pickle_not_read": "info"}
    listing = list_source(str(session))
    assert not any(path.endswith(".pkl") for path in reader.find(listing).claimed)


def test_the_links_in_raw_videos_are_no_recordings_of_their_own(session: Path) -> None:
    listing = list_source(str(session))
    rest = listing.without(reader.find(listing).claimed)
    assert [item.path for item in video.find(rest).items] == []
    assert sorted(rest.files) == ["dataset_plan.pkl", *(f"demos/{demo_name(number)}/tag_detection.pkl" for number in (0, 1))]


@pytest.mark.parametrize("part", ["", "demos", f"demos/{demo_name(0)}"])
def test_a_part_of_a_session_is_found_too(session: Path, part: str) -> None:
    episodes = read_all(session / part)
    assert demo_name(0) in episodes
    assert episodes[demo_name(0)].info.dataset == "kitchen_0105"


def test_a_session_without_slam_has_no_poses_and_says_so(session: Path) -> None:
    demo = session / "demos" / demo_name(0)
    (demo / "camera_trajectory.csv").unlink()
    (demo / "imu_data.json").unlink()
    episode = read_all(session)[demo_name(0)]
    assert "observation.camera_pose" not in episode.streams
    assert problems(episode) == {"no_trajectory": "info", "pickle_not_read": "info"}


def test_a_trajectory_without_its_video_is_named(session: Path) -> None:
    (session / "demos" / demo_name(1) / "raw_video.mp4").unlink()
    found = reader.find(list_source(str(session)))
    assert [(problem.check, problem.where) for problem in found.problems] == [("missing_video", f"demos/{demo_name(1)}")]
    assert len(found.items) == 3


def test_a_damaged_video_costs_its_demonstration_only(session: Path) -> None:
    path = session / "demos" / demo_name(0) / "raw_video.mp4"
    path.write_bytes(path.read_bytes()[:2000])
    listing = list_source(str(session))
    items = {Path(item.path).parent.name: item for item in reader.find(listing).items}
    with pytest.raises(BadRecording):
        list(reader.read(items[demo_name(0)], listing.opener, ReadOptions()))
    assert list(reader.read(items[demo_name(1)], listing.opener, ReadOptions()))


def lines_of(recording: ArmRecording, frames: int = 10) -> list[str]:
    return trajectory_csv(recording, frames, 30).splitlines()


def test_rows_of_every_second_frame_go_by_their_own_times(session: Path, recordings: list[ArmRecording]) -> None:
    """SLAM that was given every second frame counts those: row 3 is frame 6."""
    path = session / "demos" / demo_name(0) / "camera_trajectory.csv"
    header, *rows = path.read_text().splitlines()
    halved = [f"{number},{row.split(',', 1)[1]}" for number, row in enumerate(rows[::2])]
    path.write_text("\n".join([header, *halved]))
    episode = read_all(session)[demo_name(0)]
    assert problems(episode)["frame_numbers_differ"] == "warning"
    stream = episode.streams["observation.camera_pose"]
    assert episode.info.stream_clocks["observation.camera_pose"] == "video"
    assert stream.clocks["timestamp"].tolist() == stream.clocks["video"].tolist()  # the film begins at 0
    assert stream.timestamps_ns is not None
    assert stream.timestamps_ns[0] == 66_667_000


def test_times_that_count_from_the_first_frame_follow_a_film_that_begins_later(session: Path, recordings: list[ArmRecording]) -> None:
    demo = session / "demos" / demo_name(0)
    frames = len(recordings[0].cameras["wrist"].t_ns)
    write_film(demo / "raw_video.mp4", numbered(frames), ticks=[60 + row for row in range(frames)])  # the first frame is at 2 s
    path = demo / "camera_trajectory.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{number},{row.split(',', 1)[1]}" for number, row in enumerate(rows[::2]))]))
    episode = read_all(session)[demo_name(0)]
    assert episode.info.start_ns == episode.streams[reader.VIDEO_STREAM].clocks["pts"][0] == 2_000_000_000
    gyro = episode.streams["imu.gyro"]
    assert gyro.timestamps_ns is not None
    np.testing.assert_array_equal(gyro.timestamps_ns, recordings[0].imu_t_ns)
    np.testing.assert_array_equal(gyro.clocks["cts"], recordings[0].imu_t_ns)
    np.testing.assert_array_equal(gyro.clocks["video"], recordings[0].imu_t_ns + 2_000_000_000)
    pose = episode.streams["observation.camera_pose"]
    assert problems(episode)["frame_numbers_differ"] == "warning"
    assert pose.timestamps_ns is not None
    assert (pose.timestamps_ns[0], pose.clocks["timestamp"][0], pose.clocks["video"][0]) == (66_667_000, 66_667_000, 2_066_667_000)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda text: text.replace("q_w", "q_z"), "unreadable_trajectory"),
        (lambda text: text.replace("true", "perhaps"), "unreadable_trajectory"),
        (lambda text: text.replace(",2,false", ",2,false,extra", 1), "trajectory_cut_off"),
        (lambda text: text.replace("0.100000", "1e300"), "unreadable_trajectory"),
        (lambda text: text.replace("0.100000", "nan"), "unreadable_trajectory"),
        (lambda text: "", "unreadable_trajectory"),
        (lambda text: text[:-30], "trajectory_cut_off"),
    ],
)
def test_a_broken_trajectory_is_named_and_the_video_lands(session: Path, change: Any, check: str) -> None:
    path = session / "demos" / demo_name(0) / "camera_trajectory.csv"
    path.write_text(change(path.read_text()))
    episode = read_all(session)[demo_name(0)]
    assert problems(episode).get(check) == "warning"
    assert len(episode.streams[reader.VIDEO_STREAM]) > 0


def test_tracked_rows_without_a_rotation_are_no_poses(recordings: list[ArmRecording]) -> None:
    lines = lines_of(recordings[0])
    lines[5] = "4,0.133333,2,false,false,1,2,3,0,0,0,0"
    found = parse_trajectory("\n".join(lines).encode(), "a.csv")
    assert [problem.check for problem in found.problems] == ["pose_without_rotation"]
    assert found.lost.tolist() == [True, True, False, False, True, False, True, True, False, False]


def test_columns_that_nobody_knows_are_kept(recordings: list[ArmRecording]) -> None:
    lines = [
        f"{line},{'note' if number == 0 else f'n{number}'},{'weight' if number == 0 else number / 2}" for number, line in enumerate(lines_of(recordings[0]))
    ]
    found = parse_trajectory("\n".join(lines).encode(), "a.csv")
    assert found.others["note"] == [f"n{number}".encode() for number in range(1, 11)]
    assert np.asarray(found.others["weight"])[:2].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"1": {"streams": {"ACCL": {"samples": [1]}}}}', b'{"1": {"streams": {"A": {"samples": [{"value": [1]}]}}}}', b"\xff"]
)
def test_a_broken_imu_export_is_named_and_the_video_lands(session: Path, content: bytes) -> None:
    (session / "demos" / demo_name(0) / "imu_data.json").write_bytes(content)
    assert problems(read_all(session)[demo_name(0)])["unreadable_imu"] == "warning"


def test_an_export_that_says_more_than_its_tables_is_kept_whole(recordings: list[ArmRecording]) -> None:
    document = imu_document(recordings[0])
    streams = document["1"]["streams"]
    for sample in streams["ACCL"]["samples"]:
        sample["date"] = "2024-01-05T10:00:30.250Z"
    plain = ImuJson(json.dumps(document).encode(), "a.json")
    rows = {part.stream: part for part in plain.rows()}
    assert set(rows) == {"imu.accl", "imu.gyro"}
    assert rows["imu.accl"].clocks["date"][0] == 1_704_448_830_250_000_000  # 2024-01-05 10:00:30.25 UTC
    streams["ACCL"]["samples"][0]["sticky"] = {"temperature": 20}
    streams["FACE"] = {"samples": [{"value": [{"ID": 1}], "cts": 0}]}
    data = json.dumps(document).encode()
    whole = {part.stream: part for part in ImuJson(data, "a.json").rows()}
    assert set(whole) == {"imu.accl", "imu.gyro", "imu.document"}
    assert whole["imu.document"].values.data == [data]  # type: ignore[union-attr]


def test_integers_that_float64_would_round_stay_in_the_document() -> None:
    data = json.dumps({"1": {"streams": {"A": {"samples": [{"value": [2**60 + 1], "cts": 0}]}, "B": {"samples": [{"value": [2**60], "cts": 0}]}}}}).encode()
    found = {part.stream: part.values for part in ImuJson(data, "a.json").rows()}
    assert set(found) == {"imu.b", "imu.document"}
    assert found["imu.document"].data == [data]  # type: ignore[union-attr]


def test_a_real_gopro_film_in_a_session(tmp_path: Path) -> None:
    demo = tmp_path / "day" / "demos" / "demo_C3281324500963_2018.06.06_10.00.00.000000"
    demo.mkdir(parents=True)
    shutil.copy(shared_data("umi", "gopro_gpmf", "hero7.mp4"), demo / "raw_video.mp4")
    (episode,) = read_all(tmp_path).values()
    assert (len(episode.streams[reader.VIDEO_STREAM]), len(episode.streams["gopro.accl"])) == (352, 2175)
    assert episode.info.metadata["gopro"]["settings"][0]["STRM"]["CASN"] == "C3281324500963"
