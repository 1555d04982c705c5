"""LeRobot datasets that contradict themselves: what can be read is read, and each contradiction is a problem with a name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames, Items, MediaFrames
from dataengine.samples.lerobot import LerobotOptions, write_lerobot
from tests.support.lerobot_folder import Reading, change_info, feature, recordings, texts, write_one, write_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_lerobot(folder / "v3", recordings(3), LerobotOptions(episodes_a_table=2, episodes_a_video={"front": 2, "wrist": 3}))
    write_lerobot(folder / "v21", recordings(3), LerobotOptions("v2.1"))
    return folder


@pytest.fixture
def v3(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "v3", tmp_path / "v3"))


@pytest.fixture
def v21(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "v21", tmp_path / "v21"))


def episodes_table(folder: Path, **changes: Any) -> None:
    """Write the episodes' table of a v3 dataset again, with other values in some columns."""
    import pyarrow.parquet as pq

    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(path)
    columns = {name: table[name].combine_chunks() for name in table.schema.names}
    write_table(path, columns | {name.replace("__", "/"): values for name, values in changes.items()})


# --- totals, splits, parts that are absent


def test_totals_and_splits_that_lie(v21: Path) -> None:
    change_info(v21, total_episodes=7, total_frames=1, splits={"train": "0:100", "val": "2:3", "odd": "all"})
    reading = Reading(v21)
    assert reading.checks() == ["bad_split", "split_range", "wrong_totals"]
    assert "the split 'train' within the 7 episodes of total_episodes, found 0:100" in reading.message("split_range")
    assert [problem.message.partition("expected ")[2] for problem in reading.problems if problem.check == "wrong_totals"] == [
        "total_episodes 3, as are listed, found 7",
        "total_frames 36, as the lengths add up to, found 1",
    ]
    assert [episode.info.splits for episode in reading.episodes.values()] == [("train",), ("train",), ("train", "val")]


def test_tables_that_are_not_there(v21: Path, v3: Path) -> None:
    (v21 / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    reading = Reading(v21)
    assert list(reading.episodes) == ["0", "2"]
    assert reading.checks() == ["missing_episodes", "video_without_episode"]
    assert "none of 1 of them: 1; copy them" in reading.message("missing_episodes")
    (v3 / "data" / "chunk-000" / "file-001.parquet").unlink()
    reading = Reading(v3)
    assert list(reading.episodes) == ["0", "1"]
    assert "the data files of all 3 episodes, found none of 1 of them: 2" in reading.message("missing_episodes")
    (v3 / "data" / "chunk-000" / "file-000.parquet").unlink()
    reading = Reading(v3)
    assert not reading.found.items
    assert "missing_data" in reading.checks()


def test_videos_that_are_not_there(v21: Path, v3: Path) -> None:
    (v21 / "videos" / "chunk-000" / "observation.images.wrist" / "episode_000001.mp4").unlink()
    shutil.rmtree(v21 / "videos" / "chunk-000" / "observation.images.front")
    reading = Reading(v21)
    assert reading.checks() == ["missing_camera", "missing_video", "wrong_totals"]
    assert "'observation.images.wrist' for each episode, found none for 1: 1" in next(p.message for p in reading.problems if p.check == "missing_video")
    assert [reading.checks(key) for key in "012"] == [[], ["missing_video"], []]
    assert "observation.images.wrist" not in reading.episodes["1"].streams
    (v3 / "videos" / "observation.images.front" / "chunk-000" / "file-001.mp4").unlink()
    assert [Reading(v3).checks(key) for key in "012"] == [[], [], ["missing_video"]]


def test_a_video_that_is_cut_off_costs_the_camera_only(v21: Path) -> None:
    path = v21 / "videos" / "chunk-000" / "observation.images.wrist" / "episode_000002.mp4"
    path.write_bytes(path.read_bytes()[:900])
    reading = Reading(v21)
    assert not reading.rejected
    assert reading.checks("2") == ["unreadable_video"]
    assert sorted(name for name in reading.episodes["2"].streams if "images" in name) == ["observation.images.front"]


def test_a_table_that_is_cut_off_costs_its_episode_only(v21: Path) -> None:
    path = v21 / "data" / "chunk-000" / "episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:500])
    (v21 / "data" / "chunk-000" / "episode_000002.parquet").write_bytes(b"")
    reading = Reading(v21)
    assert list(reading.episodes) == ["0"]
    assert [problem.check for problem in reading.rejected] == ["unreadable_table", "unreadable_table"]


def test_a_damaged_row_group_costs_its_episode_only(v3: Path) -> None:
    import pyarrow.parquet as pq

    path = v3 / "data" / "chunk-000" / "file-000.parquet"
    with pq.ParquetFile(path) as opened:
        column = opened.metadata.row_group(0).column(2)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(bytes(data))
    reading = Reading(v3)
    assert list(reading.episodes) == ["1", "2"]
    assert [problem.check for problem in reading.rejected] == ["unreadable_table"]


def test_side_files_that_are_missing_or_broken(v21: Path, v3: Path) -> None:
    (v21 / "meta" / "tasks.jsonl").unlink()
    (v21 / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "tasks": ["stack"], "length": 8}\nnonsense\n{"episode_index": 0}\n')
    reading = Reading(v21)
    assert reading.checks() == ["bad_line", "repeated_episode_index", "unlisted_episodes", "wrong_totals"]
    assert reading.checks("0") == ["length_differs"]
    # One number and one listed task: the entry of the episode says what the lost list would.
    assert reading.episodes["0"].info.tasks == ("stack",)
    assert reading.checks("1") == ["unknown_task"]
    assert reading.episodes["1"].info.tasks == ()
    (v3 / "meta" / "episodes" / "chunk-000" / "file-000.parquet").write_bytes(b"PAR1 no")
    (v3 / "meta" / "tasks.parquet").write_bytes(b"")
    reading = Reading(v3)
    assert list(reading.episodes) == ["0", "1", "2"]
    assert "unreadable_metadata" in reading.checks()
    assert reading.checks("0") == ["missing_video", "unknown_task"]


def test_info_that_cannot_be_read_is_one_rejection(v21: Path) -> None:
    (v21 / "meta" / "info.json").write_text('{"codebase_version": "v2.1", ')
    reading = Reading(v21)
    assert [problem.check for problem in reading.rejected] == ["unreadable_info"]
    assert len(reading.found.items) == 1
    assert not list(reading.episodes)


def test_lance_is_refused_by_name(v3: Path) -> None:
    change_info(v3, storage_format="lance")
    reading = Reading(v3)
    assert [problem.check for problem in reading.rejected] == ["unsupported_format"]
    assert "lance" in reading.rejected[0].message


def test_other_files_named_info_json_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text('{"name": "other"}')
    assert not Reading(tmp_path).found.items
    (tmp_path / "meta" / "info.json").write_text("nonsense")
    assert not Reading(tmp_path).found.claimed


# --- ranges of video


def test_ranges_that_lie(v3: Path) -> None:
    episodes_table(
        v3,
        **{
            "videos/observation.images.front/to_timestamp": [0.45, 1.0, 0.75],
            "videos/observation.images.wrist/from_timestamp": [0.0, 0.4, 99.0],
        },
    )
    reading = Reading(v3)
    # Episode 1 is to have 12 frames of the front camera from 0.45 s, and its range ends after 11.
    assert reading.checks("0") == []
    assert reading.checks("1") == ["frame_count_differs"]
    front = reading.episodes["1"].streams["observation.images.front"]
    assert isinstance(front.values, MediaFrames)
    assert (front.values.first, front.values.count) == (9, 11)
    assert front.timestamps_ns is not None
    assert front.timestamps_ns.tolist() == [row * 50_000_000 for row in range(11)]
    # The wrist's begins a frame early: 13 frames, one more than rows; and that of the last lies outside of the file.
    wrist = reading.episodes["1"].streams["observation.images.wrist"].values
    assert isinstance(wrist, MediaFrames)
    assert (wrist.first, wrist.count) == (8, 13)
    assert reading.checks("2") == ["video_range"]
    assert "observation.images.wrist" not in reading.episodes["2"].streams
    assert "video_ranges_overlap" in reading.checks()


def test_a_video_that_no_episode_refers_to(v3: Path) -> None:
    shutil.copy(v3 / "videos/observation.images.front/chunk-000/file-000.mp4", v3 / "videos/observation.images.front/chunk-000/file-007.mp4")
    reading = Reading(v3)
    assert reading.checks() == ["video_without_episode"]
    assert "file-007.mp4" in reading.message("video_without_episode")
    assert sum(path.endswith("file-007.mp4") for path in reading.found.claimed) == 1


def test_lengths_and_places_that_differ(v3: Path) -> None:
    episodes_table(v3, length=[9, 5, 15], dataset_from_index=[0, 9, 40], **{"data/file_index": [0, 0, 0]})
    reading = Reading(v3)
    assert reading.checks("1") == ["length_differs"]
    assert reading.checks("2") == ["data_file_differs", "index_differs"]


# --- columns


def test_columns_that_were_not_declared_and_others_that_are_absent(tmp_path: Path) -> None:
    features = {"action": feature("float64", 2), "observation.force": feature("float32", 3), "observation.images.top": feature("image", 3, 720, 1280)}
    columns = {"action": pa.array([[0.5, 1]] * 4, pa.list_(pa.float32())), "extra.code": np.array([1, 2, 3, 4], np.uint16), "note": ["a", None, "c", "d"]}
    reading = Reading(write_one(tmp_path, columns, features))
    assert reading.checks() == ["channel_first", "dtype_differs", "missing_feature", "undeclared_column"]
    assert "found extra.code, note too" in reading.message("undeclared_column")
    assert "columns observation.force, observation.images.top" in reading.message("missing_feature")
    streams = reading.only.streams
    assert np.asarray(streams["action"].values).dtype == np.float32
    assert streams["extra.code"].column.dtype == "uint16"
    assert texts(streams["note"].values) == ["a", "", "c", "d"]


def test_numbers_that_are_not_there(tmp_path: Path) -> None:
    columns = {
        "action": pa.array([[0.5], [None], [1.5], [2.5]], pa.list_(pa.float32(), 1)),
        "count": pa.array([1, None, 3, 4], pa.int16()),
        "ragged": pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32())),
        "boxes": pa.array([[{"x": 1.1, "n": b"\1"}], [], [], None], pa.list_(pa.struct([("x", pa.float32()), ("n", pa.binary())]))),
    }
    reading = Reading(write_one(tmp_path, columns))
    streams = reading.only.streams
    action = np.asarray(streams["action"].values)
    assert np.isnan(action[1, 0])
    assert action[[0, 2, 3], 0].tolist() == [0.5, 1.5, 2.5]
    count = streams["count"]
    assert (np.asarray(count.values).tolist(), count.column.dtype) == ([1, 3, 4], "int16")
    assert count.timestamps_ns is not None
    assert count.timestamps_ns.tolist() == [0, 200_000_000, 300_000_000]
    ragged = streams["ragged"].values
    assert isinstance(ragged, Items)
    assert ragged.encodings == "raw/int32"
    assert [np.frombuffer(data, "<i4").tolist() for data in ragged.data] == [[1, 2], [], [3]]
    assert streams["ragged"].timestamps_ns is not None
    assert streams["ragged"].timestamps_ns.tolist() == [0, 100_000_000, 300_000_000]
    assert texts(streams["boxes"].values) == ['[{"x": 1.1, "n": {"base64": "AQ=="}}]', "", "", ""]
    assert reading.checks("0") == ["missing_values", "null_values"]


def test_pictures_as_arrays_as_bytes_and_as_files(tmp_path: Path) -> None:
    pixels = np.arange(4 * 3 * 2 * 5, dtype=np.uint8).reshape(4, 3, 2, 5)
    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": b"\x89PNG\r\n\x1a\n", "path": None}, {"bytes": None, "path": "images/a.png"}, {"bytes": None, "path": "../out.png"}, None]
    columns = {"observation.images.raw": pa.array(pixels.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))), "observation.images.top": pa.array(cells, file)}
    features = {"observation.images.raw": feature("image", 3, 2, 5), "observation.images.top": feature("image", 2, 5, 3)}
    write_one(tmp_path / "d", columns, features)
    (tmp_path / "d" / "images").mkdir()
    (tmp_path / "d" / "images" / "a.png").write_bytes(b"picture")
    (tmp_path / "out.png").write_bytes(b"outside")
    reading = Reading(tmp_path / "d")
    raw = reading.only.streams["observation.images.raw"].values
    assert isinstance(raw, Frames)
    assert np.array_equal(raw.pixels, pixels.transpose(0, 2, 3, 1))
    top = reading.only.streams["observation.images.top"].values
    assert isinstance(top, Items)
    assert [bytes(data) for data in top.data] == [b"\x89PNG\r\n\x1a\n", b"picture", b"", b""]
    assert reading.checks("0") == ["missing_picture"]


def test_episodes_that_are_not_in_one_piece(tmp_path: Path) -> None:
    write_one(tmp_path, {"episode_index": np.array([0, 1, 0, 0])}, version="v3.0")
    (tmp_path / "data" / "chunk-000" / "episode_000000.parquet").rename(tmp_path / "data" / "chunk-000" / "file-000.parquet")
    reading = Reading(tmp_path)
    assert {key: len(episode.streams["index"]) for key, episode in reading.episodes.items()} == {"0": 1, "1": 1, "0.2": 2}
    assert "repeated_episode_index" in reading.checks("0.2")


def test_a_file_named_for_another_episode(tmp_path: Path) -> None:
    write_one(tmp_path, {"episode_index": np.full(4, 3)})
    assert Reading(tmp_path).checks("3") == ["episode_index_differs"]


def test_success_is_said_by_the_table_or_the_list(tmp_path: Path) -> None:
    assert Reading(write_one(tmp_path / "a", {"next.success": np.array([False, False, True, False])})).only.info.success is True
    assert Reading(write_one(tmp_path / "b", {"next.success": np.zeros(4, bool)})).only.info.success is False
    folder = write_one(tmp_path / "c", {})
    assert Reading(folder).only.info.success is None
    (folder / "meta" / "episodes.jsonl").write_text('{"episode_index": 0, "tasks": "stack", "length": 4, "success": false, "operator": 7}\n')
    info = Reading(folder).only.info
    assert info.success is False
    assert info.metadata["episode"] == {"success": False, "operator": 7}


# --- clocks


def test_timestamps_that_are_real_are_the_clock(tmp_path: Path) -> None:
    seconds = np.array([1_700_000_000.0, 1_700_000_000.093, 1_700_000_000.21, 1_700_000_000.3])
    episode = Reading(write_one(tmp_path, {"timestamp": seconds})).only
    assert (episode.info.clock, episode.info.rate_hz, episode.info.epoch) == ("measured", 10.0, True)
    times = episode.streams["index"].timestamps_ns
    assert times is not None
    assert np.abs(times - np.array([0, 93, 210, 300]) * 1_000_000).max() < 500
    assert [problem.check for problem in episode.info.problems] == ["timestamps_off_rate"]


def test_a_rate_that_contradicts_the_timestamps(tmp_path: Path) -> None:
    reading = Reading(write_one(tmp_path, {}, fps=30))
    assert (reading.only.info.clock, reading.only.info.rate_hz) == ("measured", None)
    assert reading.checks("0") == ["rate_differs"]


def test_rows_that_were_left_out_keep_their_times(tmp_path: Path) -> None:
    frames = np.array([0, 1, 4, 5])
    reading = Reading(write_one(tmp_path, {"frame_index": frames, "timestamp": (frames / 10).astype(np.float32)}))
    times = reading.only.streams["index"].timestamps_ns
    assert times is not None
    assert times.tolist() == [0, 100_000_000, 400_000_000, 500_000_000]
    assert (reading.only.info.clock, reading.checks("0")) == ("nominal", ["frame_index_differs"])


@pytest.mark.parametrize(("seconds", "clock"), [(None, "nominal"), (np.full(4, np.nan, np.float32), "nominal"), (np.arange(4), "nominal")])
def test_timestamps_that_are_none(tmp_path: Path, seconds: Any, clock: str) -> None:
    reading = Reading(write_one(tmp_path, {"timestamp": seconds}))
    assert reading.only.info.clock == clock
    assert reading.checks("0") == ([] if seconds is None else ["odd_timestamps"])


def test_no_rate_is_invented(tmp_path: Path) -> None:
    folder = write_one(tmp_path, {"timestamp": None}, fps=None)
    reading = Reading(folder)
    assert (reading.only.info.clock, reading.only.info.rate_hz, reading.only.streams["index"].timestamps_ns) == ("unknown", None, None)
    assert reading.checks() == ["bad_fps"]
    asked = Reading(folder, ReadOptions(rate_hz=5)).only
    assert (asked.info.clock, asked.info.rate_hz) == ("nominal", 5)
    # Even timestamps of a set that says no rate are its clock; how many a second they are is theirs to say, not ours.
    even = Reading(write_one(tmp_path / "even", {}, fps=None)).only
    assert (even.info.clock, even.info.rate_hz, even.info.stream_clocks["index"]) == ("nominal", None, "timestamp")


def test_info_of_nonsense_still_lands_the_table(tmp_path: Path) -> None:
    folder = write_one(tmp_path, {})
    (folder / "meta" / "info.json").write_text(
        json.dumps({"codebase_version": "v2.1", "fps": "fast", "features": {"index": 3}, "splits": [], "total_episodes": -1, "robot_type": {}})
    )
    reading = Reading(folder)
    assert reading.checks() == ["bad_feature", "bad_fps", "bad_total"]
    assert len(reading.only.streams["index"]) == 4


def test_rows_by_shards_of_the_hub_are_one_table(tmp_path: Path) -> None:
    folder = write_one(tmp_path, {}, version="v1.6")
    (folder / "data" / "chunk-000" / "episode_000000.parquet").unlink()
    shutil.move(folder / "meta", folder / "meta_data")
    for place, rows in enumerate([range(5), range(5, 8)]):
        index = np.array(rows)
        table = {"episode_index": index // 4, "frame_index": index % 4, "timestamp": (index % 4 / 10).astype(np.float32), "index": index}
        write_table(folder / "data" / f"train-{place:05d}-of-00003.parquet", table)
    reading = Reading(folder)
    assert {key: np.asarray(episode.streams["index"].values).tolist() for key, episode in reading.episodes.items()} == {"0": [0, 1, 2, 3], "1": [4, 5, 6, 7]}
    assert reading.checks() == ["missing_feature", "missing_shard"]
    assert reading.episodes["1"].info.splits == ("train",)


@pytest.mark.parametrize(("path", "check"), [("videos/none.mp4", "missing_video"), ("../out.mp4", "path_escapes"), ("/etc/passwd", "path_escapes")])
def test_v1_in_an_arrow_file_whose_videos_are_not_there(tmp_path: Path, path: str, check: str) -> None:
    seconds = (np.arange(6) / 10).astype(np.float32)
    frame = pa.struct([("path", pa.string()), ("timestamp", pa.float32())])
    table = pa.table(
        {
            "observation.images.top": pa.array([{"path": path, "timestamp": second} for second in seconds], frame),
            "action": pa.array([[float(row), 0.5] for row in range(6)], pa.list_(pa.float32(), 2)),
            "episode_index": [0, 0, 0, 0, 1, 1],
            "frame_index": [0, 1, 2, 3, 0, 1],
            "timestamp": pa.array(np.concatenate([seconds[:4], seconds[:2]])),
        }
    )
    (tmp_path / "train").mkdir()
    with pa.ipc.new_file(tmp_path / "train" / "data-00000-of-00001.arrow", table.schema) as writer:
        for start in (0, 3):
            writer.write_table(table.slice(start, 3))
    reading = Reading(tmp_path)
    assert {key: np.asarray(episode.streams["action"].values)[:, 0].tolist() for key, episode in reading.episodes.items()} == {"0": [0, 1, 2, 3], "1": [4, 5]}
    assert [reading.checks(key) for key in "01"] == [[check], [check]]
    assert reading.episodes["0"].info.splits == ("train",)
