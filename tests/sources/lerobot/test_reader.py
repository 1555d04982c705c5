"""The LeRobot reader on datasets of the sample world, whose truth is known; each picture says which frame of which episode it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import QPOS_NAMES
from dataengine.samples.barcode import read_barcode
from dataengine.samples.lerobot import DEPTH_KEY, LerobotOptions, write_lerobot
from dataengine.samples.lerobot_video import grey_depth
from dataengine.samples.pictures import encode_picture
from dataengine.samples.steps import control_steps
from dataengine.video.decode import FrameReader
from dataengine.video.depth import depth_coding, depth_metres
from dataengine.video.index import FrameIndex
from tests.support.lerobot_folder import Reading, change_info, recordings, texts

CAMERAS = ("front", "wrist")
V3 = LerobotOptions(episodes_a_table=3, episodes_a_video={"front": 2, "wrist": 3}, files_a_chunk=2, depth=True, language=True)


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v3")
    write_lerobot(folder, recordings(), V3)
    return folder


@pytest.fixture(scope="module")
def v21(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v21")
    write_lerobot(folder, recordings(), LerobotOptions("v2.1"))
    return folder


def expect_frames(folder: Path, reading: Reading) -> None:
    """Assert that each frame of each camera is that of its own episode and step."""
    for index, recording in enumerate(recordings()):
        episode = reading.episodes[str(index)]
        for number, camera in enumerate(CAMERAS):
            stream = episode.streams[f"observation.images.{camera}"]
            frames = stream.values
            assert isinstance(frames, MediaFrames)
            assert frames.index is not None
            track = FrameIndex.from_columns(frames.index, frames.facts)
            with FrameReader(str(folder / frames.uri), track) as film:
                pictures = film.read(range(frames.first, frames.first + frames.count))
            seen = control_steps(recording).frame[camera].tolist()
            assert [read_barcode(picture) for picture in pictures] == [(frame, number, index) for frame in seen]
            assert stream.timestamps_ns is not None
            assert stream.timestamps_ns.tolist() == [step * 50_000_000 for step in range(len(seen))]


@pytest.mark.parametrize("version", ["v3", "v21"])
def test_each_episode_has_its_own_frames_and_numbers(version: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(version)
    reading = Reading(folder)
    assert list(reading.episodes) == ["0", "1", "2", "3", "4"]
    assert reading.checks() == []
    assert not reading.rejected
    expect_frames(folder, reading)
    first = 0
    for index, recording in enumerate(recordings()):
        episode, steps = reading.episodes[str(index)], control_steps(recording)
        assert episode.info.problems == ()
        assert np.array_equal(episode.streams["action"].values, steps.action.astype(np.float32))  # type: ignore[arg-type]
        assert np.array_equal(episode.streams["observation.state"].values, steps.qpos.astype(np.float32))  # type: ignore[arg-type]
        pose = episode.streams["observation.ee_pose"]
        assert (pose.column.dtype, pose.column.dims) == ("float64", ("x", "y", "z", "qx", "qy", "qz", "qw"))
        assert np.array_equal(pose.values, steps.ee_pose)  # type: ignore[arg-type]
        assert episode.streams["action"].column.dims == QPOS_NAMES
        assert episode.streams["action"].column.meaning == "action"
        assert episode.info.tasks == (recording.task,)
        assert texts(episode.streams["task"].values) == [recording.task] * len(steps)
        assert episode.info.success is recording.success
        assert (episode.info.embodiment, episode.info.rate_hz, episode.info.clock) == ("sim_arm", 20.0, "nominal")
        assert np.asarray(episode.streams["index"].values).tolist() == list(range(first, first + len(steps)))
        first += len(steps)


def test_v3_videos_are_ranges_of_shared_files(v3: Path) -> None:
    reading = Reading(v3)
    places = {camera: [] for camera in CAMERAS}  # type: dict[str, list[tuple[str, int, int]]]
    for episode in reading.episodes.values():
        for camera in CAMERAS:
            frames = episode.streams[f"observation.images.{camera}"].values
            assert isinstance(frames, MediaFrames)
            places[camera].append((frames.uri.removeprefix(f"videos/observation.images.{camera}/"), frames.first, frames.count))
    # 9, 12, 15, 18 and 21 steps; two episodes to a file of the front camera, three of the wrist's; two files to a chunk.
    assert places["front"] == [
        ("chunk-000/file-000.mp4", 0, 9),
        ("chunk-000/file-000.mp4", 9, 12),
        ("chunk-000/file-001.mp4", 0, 15),
        ("chunk-000/file-001.mp4", 15, 18),
        ("chunk-001/file-000.mp4", 0, 21),
    ]
    assert places["wrist"] == [
        ("chunk-000/file-000.mp4", 0, 9),
        ("chunk-000/file-000.mp4", 9, 12),
        ("chunk-000/file-000.mp4", 21, 15),
        ("chunk-000/file-001.mp4", 0, 18),
        ("chunk-000/file-001.mp4", 18, 21),
    ]
    stream = reading.episodes["3"].streams["observation.images.wrist"]
    assert stream.clocks["pts"].tolist() == [step * 50_000_000 for step in range(18)]
    assert reading.episodes["2"].streams["observation.images.wrist"].clocks["pts"][0] == 1_050_000_000


def test_depth_comes_back_in_metres(v3: Path) -> None:
    stream = Reading(v3).episodes["3"].streams[DEPTH_KEY]
    frames, column = stream.values, stream.column
    assert isinstance(frames, MediaFrames)
    assert (column.kind, column.dtype, column.shape) == ("depth", "uint16", (64, 96, 1))
    assert column.extra["depth"] == {"depth_min": 0.01, "depth_max": 10.0, "shift": 3.5, "use_log": True, "depth_unit": "m"}
    assert frames.index is not None
    with FrameReader(str(v3 / frames.uri), FrameIndex.from_columns(frames.index, frames.facts)) as film:
        codes = film.read_grey([frames.first + 4])
    recording = recordings()[3]
    truth = grey_depth(recording.cameras["front"].images[control_steps(recording).frame["front"][4:5]])
    assert np.abs(depth_metres(codes, depth_coding(column.extra["depth"])) - truth).max() < 1e-3


def test_language_stands_at_its_own_times(v3: Path) -> None:
    episode = Reading(v3).episodes["2"]
    held = episode.streams["language_persistent"]
    entries = [json.loads(text) for text in texts(held.values)]
    assert [entry["content"] for entry in entries] == [recordings()[2].task, "reach for the block", "place it: 2"]
    assert entries[2] == {"role": "assistant", "content": "place it: 2", "style": "subtask", "timestamp": 0.35, "camera": None, "tool_calls": None}
    assert held.timestamps_ns is not None
    assert held.timestamps_ns.tolist() == [0, 0, 350_000_000]
    said = episode.streams["language_events"]
    lists = texts(said.values)
    assert [row for row, text in enumerate(lists) if text] == [5]
    assert json.loads(lists[5])[0]["content"] == "wait 2"


def test_pictures_in_the_table_keep_their_bytes(tmp_path: Path) -> None:
    write_lerobot(tmp_path, recordings(), LerobotOptions(pictures="image"))
    reading = Reading(tmp_path)
    assert reading.checks() == []
    for index, recording in enumerate(recordings()):
        stream = reading.episodes[str(index)].streams["observation.images.wrist"]
        assert isinstance(stream.values, Items)
        seen = recording.cameras["wrist"].images[control_steps(recording).frame["wrist"]]
        assert [bytes(data) for data in stream.values.data] == [encode_picture(image, "png") for image in seen]
        assert {stream.values.encoding(row) for row in range(len(stream))} == {"png"}
        assert stream.column.shape == (64, 96, 3)


def test_episodes_across_row_groups(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_lerobot(tmp_path, recordings(), LerobotOptions(pictures="image", language=True, episodes_a_table=5))
    before = Reading(tmp_path).episodes
    path = tmp_path / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=7)
    after = Reading(tmp_path).episodes
    assert list(before) == list(after) == ["0", "1", "2", "3", "4"]
    for key, episode in before.items():
        assert episode.streams.keys() == after[key].streams.keys()
        for name, stream in episode.streams.items():
            other = after[key].streams[name].values
            if isinstance(stream.values, Items):
                assert isinstance(other, Items)
                assert [bytes(data) for data in stream.values.data] == [bytes(data) for data in other.data]
            else:
                assert np.array_equal(stream.values, other)  # type: ignore[arg-type]


def test_gr00t_names_parts_cameras_and_annotations(tmp_path: Path) -> None:
    write_lerobot(tmp_path, recordings(), LerobotOptions("v2.0", gr00t=True))
    reading = Reading(tmp_path)
    assert reading.checks() == []
    episode = reading.episodes["1"]
    pose = episode.streams["observation.ee_pose"].column.extra["parts"]["hand_pose"]
    assert pose == {"start": 0, "end": 7, "original_key": "observation.ee_pose", "rotation_type": "quaternion", "absolute": True}
    action = episode.streams["action"].column
    assert set(action.extra["parts"]) == {"arm", "gripper"}
    assert action.action_space is not None
    assert action.action_space.absolute is True
    assert episode.streams["observation.images.wrist"].column.extra["modality"] == "wrist"
    assert texts(episode.streams["annotation.human.validity.text"].values) == ["valid"] * 12
    assert episode.info.tasks == (recordings()[1].task,)


def test_files_are_found_by_what_is_there(v3: Path, v21: Path, tmp_path: Path) -> None:
    for name, folder in (("a", v3), ("b", v21)):
        shutil.copytree(folder, tmp_path / name)
    # Each claims the paths of the other version.
    paths = [change_info(tmp_path / name) for name in "ab"]
    for name, other in (("a", paths[1]), ("b", paths[0])):
        change_info(tmp_path / name, data_path=other["data_path"], video_path=other["video_path"])
        expect_frames(tmp_path / name, Reading(tmp_path / name))
    change_info(tmp_path / "a", codebase_version="v3.0.1")
    reading = Reading(tmp_path / "a")
    expect_frames(tmp_path / "a", reading)
    assert reading.checks() == ["unknown_version"]


def test_several_datasets_under_one_root(v3: Path, v21: Path, tmp_path: Path) -> None:
    shutil.copytree(v3, tmp_path / "one" / "lab_three")
    shutil.copytree(v21, tmp_path / "one" / "lab_two")
    (tmp_path / "one" / "lab_two" / "meta" / "stats.json").write_text("{}")
    found = Reading(v21).found
    assert [item.recordings for item in found.items] == [1] * 5
    from dataengine.sources.lerobot import reader
    from dataengine.sources.listing import list_source

    listing = list_source(str(tmp_path / "one"))
    claimed = reader.find(listing)
    assert sorted((item.dataset, item.path) for item in claimed.items)[:3] == [
        ("lab_three", "lab_three/data/chunk-000/file-000.parquet"),
        ("lab_three", "lab_three/data/chunk-000/file-001.parquet"),
        ("lab_two", "lab_two/data/chunk-000/episode_000000.parquet"),
    ]
    # Statistics are not used: they are nobody's.
    assert sorted(listing.files.keys() - claimed.claimed) == ["lab_two/meta/stats.json"]


def test_what_grows_does_not_make_old_episodes_new(v21: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    shutil.copytree(v21, folder)
    before = {item.path: item.fingerprint for item in Reading(folder).found.items}
    lines = (folder / "meta" / "episodes.jsonl").read_text()
    (folder / "meta" / "episodes.jsonl").write_text(lines + json.dumps({"episode_index": 5, "tasks": [], "length": 3}) + "\n")
    change_info(folder, total_episodes=6, total_frames=78)
    assert {item.path: item.fingerprint for item in Reading(folder).found.items} == before
    (folder / "meta" / "episodes.jsonl").write_text(lines.replace('"length": 12', '"length": 13'))
    changed = {item.path for item in Reading(folder).found.items if item.fingerprint != before[item.path]}
    assert changed == {"data/chunk-000/episode_000001.parquet"}
