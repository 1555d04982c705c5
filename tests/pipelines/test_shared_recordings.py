"""The real recordings land in one store, and what the store gives back equals FACTS.json."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dataengine.core.stream import Items, MediaFrames
from dataengine.store.store import Store, open_store
from pipelines.ingest import IngestJob, Report, run
from pipelines.runtime import Runtime
from tests.support.shared import shared_data


def sha16(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def test_every_recording_lands_and_the_leak_is_named(landed: tuple[Report, Store, Path]) -> None:
    report, store, _ = landed
    assert (report.found, report.landed, report.skipped, report.rejected) == (294, 267, 27, 0)
    assert {name: (counts["landed"], counts["steps"]) for name, counts in report.datasets.items()} == {
        "bridge_dataset": (25, 250),
        "calvin": (2, 107),
        "droid_new_setup": (2, 88),
        "droid_subset": (1, 39),
        "foxglove_turtlesim": (1, 1351),
        "gopro_gpmf": (4, 352),
        "lapa": (1, 16),
        "owa_desktop": (1, 17),
        "oxe": (4, 112),
        "pusht_replay_buffer_lowdim": (206, 25650),
        "rerun_protobuf": (3, 297),
        "rerun_sensor_msgs": (1, 15),
        "robosuite_demos": (3, 1384),
        "talker": (1, 10),
        "umi_lerobot_v1_ep0": (1, 400),
        "v2.0_gr00t_picknplace": (5, 2096),
        "v2.1_g1_fixture": (2, 498),
        "v3.0_rerun_apple_storage": (3, 899),
        "wbag": (1, 804),
    }
    leaks = [problem for problem in report.problems if problem["check"] == "duplicate_across_splits"]
    assert len({problem["episode_id"] for problem in leaks}) == 25
    splits = store.episodes().filter(pl.col("dataset") == "bridge_dataset").select("splits").collect()["splits"].to_list()
    assert splits == [["train", "val"]] * 25


def test_rlds_equals_the_facts(landed: tuple[Report, Store, Path], facts: dict[str, Any]) -> None:
    _, store, _ = landed
    key = "rlds/octo_bridge_head/bridge_dataset/1.0.0/bridge_dataset-train.tfrecord-00000-of-00001"
    rows = {int(row["source_key"]): row for row in store.episodes().filter(pl.col("dataset") == "bridge_dataset").collect().iter_rows(named=True)}
    assert len(facts[key]["per_episode"]) == len(rows) == 25
    for number, fact in enumerate(facts[key]["per_episode"]):
        row = rows[number]
        episode = store.read_episode(row["episode_id"])
        assert row["steps"] == fact["steps"]
        assert row["tasks"] == [fact["instruction"]]
        for camera in range(4):
            images = episode.streams[f"observation.images.image_{camera}"].values
            expected = fact[f"img steps/observation/image_{camera}"]
            assert isinstance(images, Items)
            assert (len(images), sha16(images.data[0]), sha16(images.data[-1])) == (expected["n"], expected["sha_first"], expected["sha_last"])
        for stream, name in (("action", "action"), ("observation.state", "observation/state")):
            values = episode.streams[stream].values
            assert isinstance(values, np.ndarray)
            assert values.dtype == np.float32
            assert float(values.sum(dtype=np.float64)) == pytest.approx(fact[f"sum steps/{name}"], abs=2e-5)
            assert values[0] == pytest.approx(fact[f"first steps/{name}"], abs=1e-6)
            assert values[-1] == pytest.approx(fact[f"last steps/{name}"], abs=1e-6)
            assert np.array_equal(store.read_trajectory(row["episode_id"]).columns[stream], values)


def test_robosuite_equals_the_facts(landed: tuple[Report, Store, Path], facts: dict[str, Any]) -> None:
    _, store, _ = landed
    fact = facts["teleop_hdf5/robosuite_demos/lift_demo.hdf5"]
    rows = store.episodes().filter(pl.col("dataset") == "robosuite_demos").collect()
    assert dict(zip(rows["source_key"], rows["steps"], strict=True)) == fact["lengths"]
    assert rows["success"].to_list() == [None, None, None]
    assert set(rows["rate_hz"]) == {20.0}
    total = 0.0
    for episode_id in rows["episode_id"]:
        actions = store.read_episode(episode_id).streams["action"].values
        assert isinstance(actions, np.ndarray)
        assert actions.dtype == np.float64
        total += float(actions.sum())
    assert total == pytest.approx(fact["sum_actions"], abs=0.05)


def test_mcap_equals_the_facts(landed: tuple[Report, Store, Path], facts: dict[str, Any]) -> None:
    _, store, root = landed
    rows = store.episodes().filter(pl.col("dataset").str.starts_with("rerun_")).collect()
    for row in rows.iter_rows(named=True):
        fact = facts[Path(row["source_uri"]).relative_to(root).as_posix()]
        episode = store.read_episode(row["episode_id"])
        messages = {
            stream.column.extra["topic"]: stream for stream in episode.streams.values() if stream.column.kind == "message" and "topic" in stream.column.extra
        }
        assert {topic: len(stream) for topic, stream in messages.items()} == {topic: counts[0] for topic, counts in fact["topics"].items()}
        log_ns = np.concatenate(
            [np.asarray(stream.clocks["log"] if "log" in stream.clocks else stream.timestamps_ns + episode.info.start_ns) for stream in messages.values()]
        )
        assert (int(log_ns.min()), int(log_ns.max())) == (fact["t0_ns"], fact["t1_ns"])
    sensors = facts["teleop_mcap_ros/rerun_sensor_msgs/rosbag2_2025_09_10-13_03_56_0.mcap"]
    (episode_id,) = rows.filter(pl.col("dataset") == "rerun_sensor_msgs")["episode_id"]
    episode = store.read_episode(episode_id)
    joints = episode.streams["joint_state.position"]
    assert list(joints.column.dims or ()) == sensors["joint_first"]["name"]
    assert isinstance(joints.values, np.ndarray)
    assert joints.values[0].tolist() == sensors["joint_first"]["position"]
    assert joints.values[-1] == pytest.approx(sensors["joint_last"]["position"], abs=1e-6)
    assert joints.timestamps_ns is not None
    stamps = joints.timestamps_ns + episode.info.start_ns
    assert [int(stamps[0]), int(stamps[-1])] == [
        seconds * 10**9 + nanos for seconds, nanos in (sensors["joint_first"]["stamp"], sensors["joint_last"]["stamp"])
    ]
    assert episode.streams["imu.linear_acceleration"].values[0].tolist() == sensors["imu_first"]["acc"]  # type: ignore[index]
    assert episode.streams["imu.angular_velocity"].values[0].tolist() == sensors["imu_first"]["gyr"]  # type: ignore[index]
    jpegs = episode.streams["observation.images.compressed_image"].values
    assert isinstance(jpegs, Items)
    assert len(jpegs.data[0]) == sensors["compressed"]["bytes"]


def test_video_equals_the_facts(landed: tuple[Report, Store, Path], facts: dict[str, Any]) -> None:
    _, store, root = landed
    rows = store.episodes().filter(pl.col("dataset").is_in(["calvin", "lapa", "oxe"])).collect()
    assert rows.height == 7
    captions = json.loads((root / "robot_video/moto/oxe/lang_annotations.json").read_text())
    for row in rows.iter_rows(named=True):
        path = Path(row["source_uri"])
        (fact,) = facts[path.relative_to(root).as_posix()]["streams"]
        (stream,) = store.read_episode(row["episode_id"]).streams.values()
        assert isinstance(stream.values, MediaFrames)
        assert stream.timestamps_ns is not None
        assert len(stream) == fact["decoded"]
        assert int(stream.timestamps_ns[-1]) == pytest.approx((fact["last_pts"] - fact["first_pts"]) * 1e9, abs=1000)
        steps = np.diff(stream.timestamps_ns) / 1e9
        assert (steps.min(), steps.max()) == (pytest.approx(fact["dt_min"], abs=1e-6), pytest.approx(fact["dt_max"], abs=1e-6))
        assert store.objects.get(stream.values.uri) == path.read_bytes()
        assert path.name not in captions or row["tasks"] == [captions[path.name]]
        first = store.read_frames(row["episode_id"], stream.column.name, [0])[0]
        assert first.shape == (fact["wh"][1], fact["wh"][0], 3)


def test_raw_frames_are_exact_when_asked(tmp_path: Path, facts: dict[str, Any]) -> None:
    from pipelines.config import IngestConfig

    source = shared_data("teleop_mcap_ros", "rerun_sensor_msgs")
    report = run(IngestJob((str(source),), str(tmp_path / "store"), config=IngestConfig(lossless=True)), Runtime(local=True, workers=1))
    assert report.landed == 1
    store = open_store(str(tmp_path / "store"))
    (episode_id,) = store.episodes().collect()["episode_id"]
    picture = store.read_frames(episode_id, "observation.images.image", [0])[0]
    image = facts["teleop_mcap_ros/rerun_sensor_msgs/rosbag2_2025_09_10-13_03_56_0.mcap"]["image"]
    assert picture.shape == (image["h"], image["w"], 3)
    assert sha16(picture.tobytes()) == image["sha"]
