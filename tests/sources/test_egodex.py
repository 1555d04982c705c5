import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, EpisodeInfo, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Found, ReadOptions
from dataengine.core.stream import MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.egodex import EgodexOptions, joint_names, poses, write_egodex
from dataengine.sources import egodex, video
from dataengine.sources.hdf5 import reader as hdf5
from dataengine.sources.listing import list_source
from tests.support.child import run_over, run_reader, tally
from tests.support.films import numbered, write_film
from tests.support.mutate import mutants


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(3, 0, ArmConfig(height=48, width=64, cameras=("front",), max_steps=15, failure_rate=0.0))


def ingest(folder: Path, **options: Any) -> tuple[Found, list[Episode], list[Any]]:
    listing = list_source(str(folder))
    found = egodex.find(listing)
    episodes, others = [], []
    for item in found.items:
        for event in episodes_of(egodex.read(item, listing.opener, ReadOptions(**options))):
            (episodes if isinstance(event, Episode) else others).append(event)
    return found, episodes, others


def test_a_pair_lands_with_each_joints_pose_at_the_time_of_its_frame(tmp_path: Path, recording: ArmRecording) -> None:
    write_egodex(tmp_path / "egodex" / "part2", [recording], EgodexOptions())
    found, (episode,), others = ingest(tmp_path)
    (item,) = found.items
    assert (item.dataset, item.splits, item.path, others) == ("egodex", ("train",), "egodex/part2/add_remove_lid/0.hdf5", [])
    assert found.claimed == {"egodex/part2/add_remove_lid/0.hdf5", "egodex/part2/add_remove_lid/0.mp4"}
    info = episode.info
    frames = episode.streams["observation.images.main"]
    assert isinstance(frames.values, MediaFrames)
    count = len(frames.values)
    assert count == len(recording.cameras["front"].images)
    poses_of = [name for name in episode.streams if name.startswith("observation.transforms.")]
    assert sorted(poses_of) == sorted(f"observation.transforms.{joint}" for joint in ["camera", *joint_names()])
    assert len([name for name in episode.streams if name.startswith("observation.confidences.")]) == 68
    hand = episode.streams["observation.transforms.leftHand"]
    place = ["camera", *joint_names()].index("leftHand")
    assert isinstance(hand.values, np.ndarray)
    assert hand.values.dtype == np.float32
    assert np.array_equal(hand.values, poses(count, place))
    assert np.array_equal(hand.timestamps_ns, frames.timestamps_ns)
    assert (hand.column.unit, hand.column.frame, hand.column.shape, hand.column.meaning) == ("m", "arkit_world", (4, 4), "state")
    assert hand.column.action_space is not None
    assert (hand.column.action_space.rotation, hand.column.action_space.frame) == ("matrix", "arkit_world")
    camera = info.columns["observation.images.main"].camera
    assert camera is not None
    assert (camera.role, camera.pose_stream) == ("egocentric", "observation.transforms.camera")
    assert camera.intrinsics_px == pytest.approx((51.2, 51.2, 32.0, 24.0))
    assert (info.clock, info.rate_hz, info.origin, info.embodiment, info.tasks) == ("measured", 30.0, "human_video", "person", (recording.task,))
    assert not [column for column in info.columns.values() if column.meaning == "action"]
    assert info.metadata["attributes"]["/@session_name"] == "session_0"
    assert info.metadata["attributes"]["/@llm_objects"] == ["jar", "lid"]
    assert (info.metadata["part"], info.metadata["task"], info.problems) == ("part2", "add_remove_lid", ())


@pytest.mark.parametrize(("which", "expected"), [("1", "{}"), ("2", "undo: {}"), ("3", None)])
def test_a_reversible_task_has_the_description_of_what_was_done(tmp_path: Path, recording: ArmRecording, which: str, expected: str | None) -> None:
    write_egodex(tmp_path / "test", [recording], EgodexOptions(reversible=True, which=which, joints=2))
    _, (episode,), _ = ingest(tmp_path / "test" / "add_remove_lid")
    assert episode.info.tasks == (() if expected is None else (expected.format(recording.task),))
    assert [problem.check for problem in episode.info.problems] == (["unknown_direction"] if expected is None else [])


@pytest.mark.parametrize("extra", [2, -3])
def test_poses_that_are_not_as_many_as_frames_are_named_and_none_is_lost(tmp_path: Path, recording: ArmRecording, extra: int) -> None:
    write_egodex(tmp_path, [recording], EgodexOptions(extra_poses=extra, joints=1))
    _, (episode,), _ = ingest(tmp_path)
    frames = len(recording.cameras["front"].images)
    (problem,) = [problem for problem in episode.info.problems if problem.check == "frame_pose_mismatch"]
    assert (problem.severity, f"{frames} frames" in problem.message, f"{frames + extra} rows" in problem.message) == ("warning", True, True)
    camera = episode.streams["observation.transforms.camera"]
    assert len(camera) == min(frames, frames + extra)
    assert camera.timestamps_ns is not None
    if extra > 0:
        beyond = episode.streams["observation.transforms.camera_beyond_video"]
        assert beyond.timestamps_ns is None
        assert np.array_equal(beyond.values, poses(frames + extra, 0)[frames:])  # type: ignore[arg-type]


def test_poses_without_their_video_land_alone_and_videos_without_poses_are_left_to_others(tmp_path: Path, recording: ArmRecording) -> None:
    first, _ = write_egodex(tmp_path, [recording, recording], EgodexOptions(joints=1))
    first.with_suffix(".mp4").unlink()
    write_film(first.parent / "9.mp4", numbered(4))
    found, (alone, whole), _ = ingest(tmp_path)
    assert [problem.check for problem in alone.info.problems] == ["missing_video"]
    assert (alone.info.clock, alone.info.rate_hz, sorted(alone.streams)[:1]) == ("unknown", None, ["observation.confidences.hip"])
    assert whole.info.problems == ()
    assert [problem.check for problem in found.problems] == ["missing_poses"]
    rest = list_source(str(tmp_path)).without(found.claimed)
    assert [item.path for item in video.find(rest).items] == ["add_remove_lid/9.mp4"]
    assert hdf5.find(rest).items == []


def test_other_hdf5_files_are_left_to_their_reader(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "0.hdf5", "w") as file:
        file["action"] = np.zeros((3, 2))
    write_film(tmp_path / "0.mp4", numbered(3))
    (tmp_path / "1.hdf5").write_bytes(b"")
    assert not egodex.find(list_source(str(tmp_path))).items


def test_poses_that_are_none_are_named(tmp_path: Path, recording: ArmRecording) -> None:
    import h5py

    (path,) = write_egodex(tmp_path, [recording], EgodexOptions(joints=1))
    with h5py.File(path, "r+") as file:
        file["transforms/hip"][4] = np.full((4, 4), np.nan)
        file["transforms/camera"][2:4] = file["transforms/camera"][2:4].transpose(0, 2, 1)  # the translation below instead of at the side
    _, (episode,), _ = ingest(tmp_path)
    found = {problem.where: problem.message for problem in episode.info.problems}
    assert "2 of" in found["add_remove_lid/0.hdf5:/transforms/camera"]
    assert "the first is row 4" in found["add_remove_lid/0.hdf5:/transforms/hip"]


def test_a_broken_half_costs_its_own_pair_only(tmp_path: Path, recording: ArmRecording) -> None:
    paths = write_egodex(tmp_path, [recording] * 3, EgodexOptions(joints=1))
    paths[0].with_suffix(".mp4").write_bytes(paths[0].with_suffix(".mp4").read_bytes()[:900])
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    listing = list_source(str(tmp_path))
    landed, rejected = [], []
    for item in egodex.find(listing).items:
        try:
            landed += [event.key for event in egodex.read(item, listing.opener, ReadOptions()) if isinstance(event, EpisodeInfo)]
        except BadRecording as error:
            rejected.append(error.where)
    assert len(landed) == 1
    assert len(rejected) == 2


def test_a_recording_is_cut_with_its_poses(tmp_path: Path, recording: ArmRecording) -> None:
    write_egodex(tmp_path, [recording], EgodexOptions(joints=1))
    _, episodes, _ = ingest(tmp_path, config={"episodes": {"by": "length", "seconds": 0.2}})
    frames = len(recording.cameras["front"].images)
    lengths = [(len(episode.streams["observation.images.main"]), len(episode.streams["observation.transforms.hip"])) for episode in episodes]
    assert sum(length for length, _ in lengths) == frames
    assert all(a == b for a, b in lengths)
    assert len(episodes) > 2


def _mutants(folder: Path, recording: ArmRecording, count: int) -> None:
    (path,) = write_egodex(folder, [recording], EgodexOptions(joints=3))
    beside = {"add_remove_lid/0.mp4": path.with_suffix(".mp4").read_bytes()}
    data = path.read_bytes()
    shutil.rmtree(folder)
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.egodex"),
        mutants(data, count, seed=5),
        file_name="add_remove_lid/0.hdf5",
        beside=beside,
        memory_bytes=512 << 20,
        preload=("h5py", "av", "dataengine.sources.egodex"),
    )
    assert {outcome.status for outcome in outcomes} <= {"ok", "rejected", "unrecognised"}, tally(outcomes)
    assert {"ok", "rejected"} <= {outcome.status for outcome in outcomes}


def test_mutants_are_rejected_or_land(tmp_path: Path, recording: ArmRecording) -> None:
    _mutants(tmp_path / "a", recording, 48)


@pytest.mark.slow
def test_many_mutants_are_rejected_or_land(tmp_path: Path, recording: ArmRecording) -> None:
    _mutants(tmp_path / "a", recording, 800)
