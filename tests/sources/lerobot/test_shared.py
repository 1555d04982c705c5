"""The LeRobot reader on the shared recordings of every version, against the figures that another tool took of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dataengine.core.stream import MediaFrames
from tests.support.lerobot_folder import Reading, texts
from tests.support.shared import shared_data

V20, V21, V30 = "lerobot/v2.0_gr00t_picknplace", "lerobot/v2.1_g1_fixture", "lerobot/v3.0_rerun_apple_storage"


def facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_data("FACTS.json").read_text())
    return found


@pytest.mark.parametrize("name", [V20, V21, V30])
def test_every_figure_of_the_facts(name: str) -> None:
    fact = facts()[name]
    reading = Reading(shared_data(name))
    assert not reading.rejected
    assert {key: len(episode.streams["action"]) for key, episode in reading.episodes.items()} == fact["lengths"]
    assert len(reading.episodes) == fact["episodes_present"]
    assert sum(len(episode.streams["action"]) for episode in reading.episodes.values()) == fact["rows"]
    for stream, total in fact["sums"].items():
        found = sum(float(np.asarray(episode.streams[stream].values).sum(dtype=np.float64)) for episode in reading.episodes.values())
        assert found == pytest.approx(total, abs=5e-5)
    first = next(iter(reading.episodes.values()))
    assert set(fact["columns"]) <= first.streams.keys()
    assert first.info.rate_hz == fact["info"]["fps"]
    assert first.info.clock == "nominal"
    assert first.info.dataset == name.rpartition("/")[2]
    assert first.info.metadata["robot_type"] == fact["info"]["robot_type"]
    seconds = np.asarray(first.streams["timestamp"].values)
    assert float(seconds[0]) == pytest.approx(fact["first_ep_ts"]["t0"], abs=1e-6)
    assert first.info.splits == ("train",)


def test_videos_have_the_frames_of_the_facts() -> None:
    for name, camera in ((V20, "ego_view"), (V21, "cam_high")):
        for key, episode in Reading(shared_data(name)).episodes.items():
            path = f"videos/chunk-000/observation.images.{camera}/episode_{int(key):06d}.mp4"
            fact = facts()[f"{name}/{path}"]["streams"][0]
            stream = episode.streams[f"observation.images.{camera}"]
            assert isinstance(stream.values, MediaFrames)
            assert (stream.values.uri, stream.values.first, stream.values.count) == (path, 0, fact["decoded"])
            assert stream.column.shape == (fact["wh"][1], fact["wh"][0], 3)
            assert stream.column.encoding == fact["codec"]
            assert stream.timestamps_ns is not None
            assert np.array_equal(stream.timestamps_ns, episode.streams["action"].timestamps_ns)
            assert stream.clocks["pts"][-1] / 1e9 == pytest.approx(fact["last_pts"], abs=1e-6)


def test_gr00t_with_a_camera_that_is_not_there() -> None:
    reading = Reading(shared_data(V20))
    assert reading.checks() == ["missing_camera", "split_range", "wrong_totals"]
    assert "observation.images.egoview" in reading.message("missing_camera")
    episode = reading.episodes["2"]
    assert episode.info.tasks == ("pick the meat from the counter and place it in the plate",)
    assert texts(episode.streams["task"].values) == [episode.info.tasks[0]] * 470
    assert texts(episode.streams["annotation.human.validity.text"].values) == ["valid"] * 470
    assert reading.checks("2") == ["timestamps_start_late"]
    assert episode.streams["action"].values.dtype == np.float64  # type: ignore[union-attr]
    column = episode.streams["observation.state"].column
    assert column.dims is not None
    assert column.dims[43] == "motor_43"
    assert column.extra["parts"]["right_hand"] == {"start": 29, "end": 35}
    assert episode.streams["observation.images.ego_view"].column.extra["modality"] == "ego_view"
    assert episode.streams["timestamp"].clocks["timestamp"][:2].tolist() == [49999952, 99999905]
    assert float(np.asarray(episode.streams["next.reward"].values).sum()) == 1.0


def test_two_of_a_hundred_episodes() -> None:
    reading = Reading(shared_data(V21))
    assert reading.checks() == ["missing_episodes"]
    assert "tables of the 100 episodes that are listed, found none of 98" in reading.message("missing_episodes")
    column = reading.episodes["29"].streams["observation.state"].column
    assert column.dims is not None
    assert (column.dims[0], column.dims[25]) == ("kLeftShoulderPitch", "kRightHandThumbRotation")
    assert column.dtype == "float32"


def test_v3_without_its_videos() -> None:
    reading = Reading(shared_data(V30))
    assert reading.checks() == ["channel_first", "missing_camera", "split_range", "wrong_totals"]
    assert "total_frames 899" in reading.message("wrong_totals")
    assert [reading.checks(key) for key in "012"] == [[], [], []]
    assert reading.episodes["1"].info.tasks == ("place the apple in the plate",)
    assert int(np.asarray(reading.episodes["1"].streams["index"].values)[0]) == 299


def test_v1_of_umi() -> None:
    reading = Reading(shared_data("umi", "umi_lerobot_v1_ep0"))
    episode = reading.only
    state = np.asarray(episode.streams["observation.state"].values)
    assert state.dtype == np.float32
    assert state[0] == pytest.approx([-0.0797060, -0.3697534, 0.2776310, -2.1472463, -0.0814053, 0.0212970, 0.0812056], abs=5e-8)
    assert set(facts()["umi/umi_lerobot_v1_ep0/train/data-00000-of-00001.arrow"]["columns"]) - {"observation.image"} <= episode.streams.keys()
    frames = episode.streams["observation.images.image"].values
    assert isinstance(frames, MediaFrames)
    assert (frames.uri, frames.first, frames.count) == ("videos/observation.image_episode_000000.mp4", 0, 400)
    # The set says no rate; the video it refers to keeps 10 Hz, and the timestamps are those of 10 Hz.
    assert (episode.info.clock, episode.info.rate_hz, episode.info.splits) == ("nominal", 10.0, ("train",))
    assert reading.checks() == ["missing_episodes"]
    assert "1447 episodes as meta_data/episode_data_index.safetensors lists, found none of 1446" in reading.message("missing_episodes")
