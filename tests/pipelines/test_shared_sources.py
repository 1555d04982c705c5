"""The real recordings of every other format, read back from the store of one run, equal FACTS.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dataengine.core.episode import Episode
from dataengine.core.stream import MediaFrames
from dataengine.store.store import Store
from dataengine.versions.check import check, faults
from pipelines.ingest import Report

Landed = tuple[Report, Store, Path]


def episodes_of(landed: Landed, dataset: str) -> dict[str, tuple[dict[str, Any], Episode]]:
    """Return the episodes of a dataset by the path of their main file below the shared folder and their key in it."""
    _, store, root = landed
    rows = store.episodes().filter(pl.col("dataset") == dataset).collect().iter_rows(named=True)
    return {f"{Path(row['source_uri']).relative_to(root).as_posix()}|{row['source_key']}": (row, store.read_episode(row["episode_id"])) for row in rows}


def received_ns(episode: Episode) -> np.ndarray:
    """Return when the messages of an episode were received, by the recorder's clock."""
    streams = [stream for stream in episode.streams.values() if stream.column.kind == "message" and "topic" in stream.column.extra]
    return np.concatenate([np.asarray(stream.clocks.get("log", stream.timestamps_ns + episode.info.start_ns)) for stream in streams])  # type: ignore[operator]


def total(values: Any) -> float:
    assert isinstance(values, np.ndarray)
    return float(values.sum(dtype=np.float64))


def assert_video(landed: Landed, facts: dict[str, Any], row: dict[str, Any], episode: Episode, stream: str, path: str) -> None:
    """Compare a stream of kept video with the facts of its file: bytes, frames, times, size, and the brightness of its first picture."""
    _, store, root = landed
    (fact,) = [part for part in facts[path]["streams"] if part["type"] == "video"]
    video = episode.streams[stream]
    assert isinstance(video.values, MediaFrames)
    assert store.objects.get(video.values.uri) == (root / path).read_bytes()
    assert len(video) == fact["decoded"]
    assert video.column.shape == (fact["wh"][1], fact["wh"][0], 3)
    assert video.values.index is not None
    pts_ns = video.values.index["pts_ns"]
    assert [int(pts_ns[0]), int(pts_ns[-1])] == [pytest.approx(fact["first_pts"] * 1e9, abs=2000), pytest.approx(fact["last_pts"] * 1e9, abs=2000)]
    first = store.read_frames(row["episode_id"], stream, [0])[0]
    grey = first @ np.array([0.299, 0.587, 0.114])
    assert float(grey.mean()) == pytest.approx(fact["gray_mean_first"], abs=1.5)


@pytest.mark.parametrize("dataset", ["v2.0_gr00t_picknplace", "v2.1_g1_fixture", "v3.0_rerun_apple_storage"])
def test_lerobot_equals_the_facts(landed: Landed, facts: dict[str, Any], dataset: str) -> None:
    fact = facts[f"lerobot/{dataset}"]
    found = episodes_of(landed, dataset)
    assert {row["source_key"]: row["steps"] for row, _ in found.values()} == fact["lengths"]
    assert {row["rate_hz"] for row, _ in found.values()} == {fact["info"]["fps"]}
    for column, expected in fact["sums"].items():
        assert sum(total(episode.streams[column].values) for _, episode in found.values()) == pytest.approx(expected, abs=2e-3)
    for column in fact["columns"]:
        assert all(column in episode.streams for _, episode in found.values()), column
    videos = [path for path in facts if path.startswith(f"lerobot/{dataset}/videos")]
    assert len(videos) == {"v2.0_gr00t_picknplace": 5, "v2.1_g1_fixture": 2, "v3.0_rerun_apple_storage": 0}[dataset]
    for path in videos:
        number = int(path.rsplit("_", 1)[1].removesuffix(".mp4"))
        (row, episode) = next(pair for pair in found.values() if pair[0]["source_key"] == str(number))
        assert_video(landed, facts, row, episode, path.split("/")[-2], path)


def test_lerobot_contradictions_are_named(landed: Landed) -> None:
    report, _, _ = landed
    checks = {problem["check"] for problem in report.problems if "picknplace" in str(problem) or "g1_fixture" in str(problem)}
    assert {"split_range", "wrong_totals", "missing_camera", "missing_episodes"} <= checks


def test_lerobot_v1_equals_the_facts(landed: Landed, facts: dict[str, Any]) -> None:
    ((row, episode),) = episodes_of(landed, "umi_lerobot_v1_ep0").values()
    fact = facts["umi/umi_lerobot_v1_ep0/train/data-00000-of-00001.arrow"]
    assert (row["steps"], row["rate_hz"]) == (fact["rows"], 10)
    assert set(fact["columns"]) - {"observation.image"} <= episode.streams.keys()
    assert_video(landed, facts, row, episode, "observation.images.image", "umi/umi_lerobot_v1_ep0/videos/observation.image_episode_000000.mp4")


def test_droid_json_equals_the_facts(landed: Landed, facts: dict[str, Any]) -> None:
    found = {**episodes_of(landed, "droid_new_setup"), **episodes_of(landed, "droid_subset")}
    assert len(found) == 3
    for name, (row, episode) in found.items():
        path = name.partition("|")[0]
        fact = facts[path]
        assert row["steps"] == fact["video_length"]
        assert row["tasks"] == [text for text in fact["texts"] if text]
        assert row["success"] == bool(fact["success"])
        assert row["splits"] == [path.split("/")[-2]]
        assert total(episode.streams["observation.state"].values) == pytest.approx(fact["states"]["sum"], abs=1e-4)
        for column in ("action.cartesian_position", "action.joint_position", "action.joint_velocity"):
            if column in fact:
                assert len(episode.streams[column]) == fact[column]["n"]
                assert total(episode.streams[column].values) == pytest.approx(fact[column]["sum"], abs=1e-4)
        cameras = [stream for stream in episode.streams.values() if stream.column.kind == "image"]
        assert len(cameras) == fact["videos"]
        for number, stream in enumerate(("exterior_1_left", "exterior_2_left", "wrist_left")):
            video = path.replace("/annotation/", "/videos/").removesuffix(".json") + f"/{number}.mp4"
            assert_video(landed, facts, row, episode, f"observation.images.{stream}", video)
    raw, shown = next((facts[key], pair) for key, pair in ((name.partition("|")[0], pair) for name, pair in found.items()) if "raw_length" in facts[key])
    assert len(shown[1].streams["observation.images.wrist_left"]) == -(-raw["raw_length"] // 3)
    (late,) = [row for row, _ in found.values() if "frames_differ" in row["flags"]]
    assert Path(late["source_uri"]).stem == "0006"


def test_both_containers_of_a_bag_are_one_recording(landed: Landed, facts: dict[str, Any]) -> None:
    report, _, _ = landed
    ((_, talker),) = episodes_of(landed, "talker").values()
    fact = facts["teleop_mcap_ros/rosbag2/rosbag2_py/mcap/talker/talker.mcap"]
    messages = {stream.column.extra["topic"]: len(stream) for stream in talker.streams.values() if stream.column.kind == "message"}
    assert messages == {topic: counts[0] for topic, counts in fact["topics"].items()}
    ((_, wbag),) = episodes_of(landed, "wbag").values()
    parts = [part for path, part in facts.items() if "/rosbag2_py/mcap/wbag/" in path]
    twins = [part for path, part in facts.items() if "/rosbag2_py/sqlite3/wbag/" in path]
    assert len(parts) == len(twins) == 5
    counted = {stream.column.extra["topic"]: len(stream) for stream in wbag.streams.values() if stream.column.kind == "message"}
    assert counted == {topic: sum(part["topics"][topic][0] for part in parts) for topic in parts[0]["topics"]}
    assert sum(counted.values()) == sum(part["messages"] for part in twins) == 6074
    skipped = {name: counts["skipped"] for name, counts in report.datasets.items()}
    assert (skipped["talker"], skipped["wbag"]) == (1, 1)  # the SQLite twin of each
    assert (int(received_ns(talker).min()), int(received_ns(talker).max())) == (fact["t0_ns"], fact["t1_ns"])
    assert (int(received_ns(wbag).min()), int(received_ns(wbag).max())) == (parts[0]["t0_ns"], parts[-1]["t1_ns"])


def test_ros1_bag_equals_the_facts(landed: Landed, facts: dict[str, Any]) -> None:
    fact = facts["teleop_ros1bag/foxglove_turtlesim/example.bag"]
    ((_, episode),) = episodes_of(landed, "foxglove_turtlesim").values()
    messages = {stream.column.extra["topic"]: stream for stream in episode.streams.values() if stream.column.kind == "message"}
    assert {topic: len(stream) for topic, stream in messages.items()} == {topic: counts[0] for topic, counts in fact["topics"].items()}
    stamps_ns = received_ns(episode)
    assert (int(stamps_ns.min()), int(stamps_ns.max())) == (fact["start_ns"], fact["end_ns"] - 1)  # the fact's end is the first moment after


def test_gopro_telemetry_equals_the_facts(landed: Landed, facts: dict[str, Any]) -> None:
    found = {name.partition("|")[0]: pair for name, pair in episodes_of(landed, "gopro_gpmf").items()}
    assert len(found) == 4
    compared = 0
    for path, (_, episode) in found.items():
        gpmf = facts[path]["gpmf"]
        assert len(episode.streams["gopro.payloads"]) == gpmf["payloads"]
        streams = {(stream.column.extra.get("device"), stream.column.extra.get("key")): stream for stream in episode.streams.values()}
        for name, fact in gpmf["streams"].items():
            stream = streams.get(tuple(name.rsplit("/", 1)))
            if "first" not in fact or stream is None:
                continue
            values = np.asarray(stream.values)
            assert len(values) == fact["samples"], (path, name)
            assert np.atleast_1d(values[0]).astype(float) == pytest.approx(fact["first"], rel=1e-6, abs=1e-6)
            assert np.atleast_1d(values[-1]).astype(float) == pytest.approx(fact["last"], rel=1e-6, abs=1e-6)
            compared += 1
    assert compared == sum("first" in fact for path in found for fact in facts[path]["gpmf"]["streams"].values())
    row, episode = found["umi/gopro_gpmf/hero7.mp4"]
    assert_video(landed, facts, row, episode, "observation.images.main", "umi/gopro_gpmf/hero7.mp4")
    times = facts["umi/gopro_gpmf/hero7.mp4"]["gpmf"]["last_payload"]
    payloads = episode.streams["gopro.payloads"]
    assert payloads.timestamps_ns is not None
    assert int(payloads.timestamps_ns[-1]) == pytest.approx(times[0] * 1e9, abs=1e6)


def test_desktop_equals_the_facts(landed: Landed, facts: dict[str, Any]) -> None:
    fact = facts["teleop_mcap_ros/owa_desktop/0.5.1.mcap"]
    ((row, episode),) = episodes_of(landed, "owa_desktop").values()
    messages = {
        stream.column.extra["topic"]: stream for stream in episode.streams.values() if stream.column.kind == "message" and "topic" in stream.column.extra
    }
    assert {topic: len(stream) for topic, stream in messages.items()} == {topic: counts[0] for topic, counts in fact["topics"].items()}
    assert row["start_ns"] == fact["t0_ns"]
    assert "time_gaps" not in row["flags"]  # keys and mouse come when they come: a pause is no gap
    assert any(isinstance(stream.values, MediaFrames) for stream in episode.streams.values())


def test_pusht_has_the_lengths_that_its_ends_say(landed: Landed) -> None:
    import zarr

    _, _, root = landed
    group = zarr.open_group(str(root / "umi/pusht_replay_buffer_lowdim.zarr"), mode="r")
    ends = np.asarray(group["meta/episode_ends"])
    found = {int(row["source_key"]): (row, episode) for row, episode in episodes_of(landed, "pusht_replay_buffer_lowdim").values()}
    assert [found[number][0]["steps"] for number in range(len(ends))] == np.diff(np.append(0, ends)).tolist()
    for name, stream in (("action", "action"), ("state", "observation.state"), ("keypoint", "observation.keypoint")):
        whole = np.asarray(group[f"data/{name}"])
        mine = np.concatenate([np.asarray(found[number][1].streams[stream].values) for number in range(len(ends))])
        assert mine.dtype == whole.dtype
        assert np.array_equal(mine, whole)


def test_everything_that_landed_is_sound(landed: Landed) -> None:
    _, store, _ = landed
    assert faults(check(store, deep=True)) == []
