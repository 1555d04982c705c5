"""Annotation JSON with videos: the real ones against FACTS.json, written ones against what was written, and broken ones."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Reader
from dataengine.core.stream import MediaFrames
from dataengine.samples.barcode import Barcode, read_barcode
from dataengine.samples.json_mp4 import JsonMp4Options, arm_rows, write_json_mp4
from dataengine.sources import json_mp4
from dataengine.sources.json_rows import chosen_stride, stride_of, table_of, times_between
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants
from tests.support.reading import checks, decoded, episodes, find, trajectory
from tests.support.shared import shared_data

READER: Reader = json_mp4
MODULE = "dataengine.sources.json_mp4"
SOURCE = "droid_json_mp4/ctrl_world"


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_data("FACTS.json").read_text())
    return {name: fact for name, fact in found.items() if name.startswith(SOURCE)}


def test_the_real_annotations_equal_the_facts(facts: dict[str, Any]) -> None:
    root = shared_data(*SOURCE.split("/"))
    found = find(READER, root)
    assert {item.path: (item.dataset, item.splits) for item in found.items} == {
        "droid_new_setup/annotation/val/0006.json": ("droid_new_setup", ("val",)),
        "droid_new_setup/annotation/val/0008.json": ("droid_new_setup", ("val",)),
        "droid_subset/annotation/train/6.json": ("droid_subset", ("train",)),
    }
    assert len(found.claimed) == 3 + 9
    for item, episode in zip(found.items, episodes(READER, root), strict=True):
        fact = facts[f"{SOURCE}/{item.path}"]
        info = episode.info
        assert (info.key, info.success) == (str(fact["episode_id"]), bool(fact["success"]))
        assert info.tasks == tuple(text for text in fact["texts"] if text)
        tables = {stream.column.extra["source"]: stream.values for stream in episode.streams.values() if stream.column.kind == "numeric"}
        summed = {name: fact for name, fact in fact.items() if isinstance(fact, dict)}
        assert tables.keys() == summed.keys()
        for name, expected in summed.items():
            values = tables[name]
            assert isinstance(values, np.ndarray)
            assert (values.dtype, len(values)) == (np.float64, expected["n"])
            assert float(values.sum()) == pytest.approx(expected["sum"], abs=1e-5)
        cameras = [stream for stream in episode.streams.values() if stream.column.kind == "image"]
        assert len(cameras) == fact["videos"] == fact["latent_videos"] == 3
        for stream in cameras:
            assert isinstance(stream.values, MediaFrames)
            (video,) = facts[f"{SOURCE}/{stream.values.uri}"]["streams"]
            assert stream.timestamps_ns is not None
            assert (len(stream), [stream.column.shape[1], stream.column.shape[0]]) == (video["decoded"], video["wh"])
            assert stream.timestamps_ns[-1] / 1e9 == pytest.approx(video["last_pts"])
            assert info.rate_hz == float(video["avg_rate"])
        assert (info.clock, trajectory(episode).steps) == ("nominal", fact["video_length"])


def test_the_real_frames_are_each_third_of_the_raw_rows(facts: dict[str, Any]) -> None:
    """The identity of FACTS: video frames = ceil(raw rows / 3)."""
    (episode,) = episodes(READER, shared_data(*SOURCE.split("/"), "droid_subset"))
    steps = trajectory(episode)
    raw = facts[f"{SOURCE}/droid_subset/annotation/train/6.json"]["raw_length"]
    assert steps.steps == -(-raw // 3) == len(episode.streams["observation.images.wrist_left"]) == 39
    states, fast = episode.streams["observation.state"].values, episode.streams["observation.state.cartesian_position"].values
    assert isinstance(states, np.ndarray)
    assert isinstance(fast, np.ndarray)
    assert np.array_equal(states[:, :6], fast[::3])
    commands = episode.streams["action.joint_velocity"]
    assert commands.timestamps_ns is not None
    assert commands.timestamps_ns[:4].tolist() == [0, 66_666_666, 133_333_333, 200_000_000]
    # The command of a step is the one of the raw row that the frame was taken from: after it was seen, before the next frame.
    assert np.array_equal(steps.columns["action.joint_velocity"], np.asarray(commands.values)[::3])
    assert steps.sampled_ns["action.joint_velocity"].tolist() == (np.arange(39) * 200_000_000).tolist()
    assert np.array_equal(steps.columns["observation.state.joint_position"], np.asarray(episode.streams["observation.state.joint_position"].values)[::3])
    assert steps.frames["observation.images.wrist_left"].tolist() == list(range(39))


def test_one_frame_more_than_states_is_named_and_lands() -> None:
    first, second = episodes(READER, shared_data(*SOURCE.split("/"), "droid_new_setup"))
    assert checks(first) == ["frames_differ", "latents_not_kept"]
    assert "41 rows of states, but frames: observation.images.exterior_1_left 42" in first.info.problems[0].message
    assert {name: len(stream) for name, stream in first.streams.items()} == {
        "observation.images.exterior_1_left": 42,
        "observation.images.exterior_2_left": 42,
        "observation.images.wrist_left": 42,
        "observation.state": 41,
        "observation.joints": 41,
    }
    assert trajectory(first).steps == 41
    assert checks(second) == ["latents_not_kept"]


def test_roles_and_meanings_are_those_of_droid() -> None:
    (episode,) = episodes(READER, shared_data(*SOURCE.split("/"), "droid_subset"))
    columns = episode.info.columns
    assert {name: column.camera.role for name, column in columns.items() if column.camera} == {
        "observation.images.exterior_1_left": "primary",
        "observation.images.exterior_2_left": "secondary",
        "observation.images.wrist_left": "wrist",
    }
    state = columns["observation.state"]
    assert state.dims == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert state.action_space is not None
    assert state.action_space.gripper is not None
    assert (state.action_space.rotation, state.frame, state.action_space.gripper.closed, state.action_space.gripper.dimension) == ("rpy", "base", 1.0, 6)
    action = columns["action.joint_position"]
    assert (action.meaning, action.action_source, action.unit) == ("action", "commanded", "rad")
    assert action.action_space is not None
    assert (action.action_space.kind, action.action_space.absolute) == ("joint_position", True)
    assert columns["action.gripper_position"].shape == ()


def test_frame_k_belongs_to_row_3k(tmp_path: Path) -> None:
    """Decode the barcodes: the frame of step k says k, and its numbers are raw row 3 k; the last group of raw rows is not full."""
    (annotation,) = write_json_mp4(tmp_path / "mine", [22], seed=3)
    (episode,) = episodes(READER, tmp_path / "mine")
    motion, steps = arm_rows(22, 3), trajectory(episode)
    assert (episode.info.dataset, episode.info.splits, steps.steps) == ("mine", ("train",), 8)
    for camera, name in enumerate(("exterior_1_left", "exterior_2_left", "wrist_left")):
        seen = steps.frames[f"observation.images.{name}"].tolist()
        pictures = decoded(tmp_path / "mine", episode, f"observation.images.{name}", seen)
        assert [read_barcode(picture) for picture in pictures] == [Barcode(number, camera, 0) for number in range(8)]
    assert np.array_equal(steps.columns["action.cartesian_position"], (motion["pose"] + 0.002)[::3])
    assert len(episode.streams["action.cartesian_position"]) == 22
    times = episode.streams["action.gripper_position"].timestamps_ns
    assert times is not None
    assert times[-1] == 7 * 200_000_000
    assert json.loads(annotation.read_text())["video_length"] == 8


def test_without_videos_the_rows_land_without_times(tmp_path: Path) -> None:
    write_json_mp4(tmp_path, [9], JsonMp4Options(raw=False))
    for path in (tmp_path / "videos").rglob("*.mp4"):
        path.unlink()
    (episode,) = episodes(READER, tmp_path)
    assert checks(episode) == ["missing_video"] * 3 + ["latents_not_kept"]
    assert (episode.info.clock, episode.info.rate_hz, episode.streams["observation.state"].timestamps_ns) == ("unknown", None, None)
    (episode,) = episodes(READER, tmp_path, rate_hz=5.0)
    assert (episode.info.clock, episode.info.rate_hz) == ("nominal", 5.0)


def test_a_path_that_leaves_the_set_is_not_followed(tmp_path: Path) -> None:
    (path,) = write_json_mp4(tmp_path / "set", [9])
    (tmp_path / "secret.mp4").write_bytes((tmp_path / "set/videos/train/0/0.mp4").read_bytes())
    content = json.loads(path.read_text())
    content["videos"] = [
        {"video_path": "../secret.mp4"},
        {"video_path": str(tmp_path / "secret.mp4")},
        {"video_path": "videos/train/0/2.mp4"},
        {"video_path": 7},
    ]
    path.write_text(json.dumps(content))
    (episode,) = episodes(READER, tmp_path / "set")
    assert checks(episode)[:3] == ["path_escapes"] * 3
    assert [name for name in episode.streams if "images" in name] == ["observation.images.wrist_left"]


def test_other_counts_are_named(tmp_path: Path) -> None:
    (path,) = write_json_mp4(tmp_path, [21], JsonMp4Options(more_frames=2, texts=["", " open  it ", "open it"]))
    content = json.loads(path.read_text())
    content["video_length"] = 99
    content["action.cartesian_position"] = content["action.cartesian_position"][:4]
    content["odd"] = [[1, 2], [3]]
    content["states"][3][0] += 1.0
    path.write_text(json.dumps(content))
    (episode,) = episodes(READER, tmp_path)
    assert sorted(set(checks(episode))) == ["frames_differ", "latents_not_kept", "length_differs", "rows_without_times", "states_differ"]
    assert episode.info.tasks == ("open it",)
    assert episode.info.metadata["annotation"]["odd"] == [[1, 2], [3]]
    assert not episode.info.columns["action.cartesian_position"].steps
    assert trajectory(episode).steps == 7


@pytest.mark.parametrize(("text", "expected"), [("", None), ('{"videos": [{"video_path": "a.mp4"}', "a JSON object, found text that is none")])
def test_broken_json_is_rejected_or_ignored(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "a.json").write_text(text)
    found = find(READER, tmp_path)
    if expected is None:
        assert not found.items
        return
    with pytest.raises(BadRecording, match=expected):
        episodes(READER, tmp_path)


def test_a_video_that_is_none_rejects_the_episode(tmp_path: Path) -> None:
    write_json_mp4(tmp_path, [9])
    film = tmp_path / "videos/train/0/1.mp4"
    film.write_bytes(film.read_bytes()[:200])
    with pytest.raises(BadRecording, match=r"videos/train/0/1\.mp4"):
        episodes(READER, tmp_path)


def test_rows_of_json() -> None:
    assert stride_of(117, 39) == [3]
    assert stride_of(5, 2) == [3, 4]
    assert stride_of(3, 5) == []
    assert chosen_stride(5, 2, ()) is None
    fast = np.arange(5.0)
    assert chosen_stride(5, 2, [(fast[[0, 4]], fast)]) == 4
    assert times_between(np.array([5, 105, 305]), 2, 6).tolist() == [5, 55, 105, 205, 305, 405]
    assert times_between(np.array([7]), 3, 3).tolist() == [7, 7, 7]
    integers = table_of([1, 2])
    assert integers is not None
    assert integers.dtype == np.int64
    assert table_of([[1, 2], [3]]) is None
    assert table_of(["a", 1]) is None
    assert table_of([None, 1.0]) is None
    assert table_of([2**80]) is None


@pytest.mark.parametrize("values", [[2**63 + 1, 2**63 + 3], [[1, 2], [2**64 - 1, 3]], [[0, 2**63 + 1]], [2**62 + 1, 0]])
def test_integers_beyond_float64_keep_their_value(values: list[Any]) -> None:
    table = table_of(values)
    assert table is not None
    assert table.dtype == (np.uint64 if np.max(np.array(values, dtype=object)) >= 2**63 else np.int64)
    assert table.tolist() == values


@pytest.mark.parametrize("values", [[2**60 + 1, 0.5], [[0.5, 1], [2**53 + 1, 2]], [-1, 2**63 + 1], [2**63 + 1, 0.5], [2**64, 2**53 + 1, 0.5], [-1, 2**64 - 1]])
def test_integers_that_no_type_holds_are_no_table(values: list[Any]) -> None:
    assert table_of(values) is None


def test_large_integers_that_float64_holds_may_stand_beside_decimals() -> None:
    table = table_of([2**60, 0.5, 1e300])
    assert table is not None
    assert table.tolist() == [float(2**60), 0.5, 1e300]


def test_numbers_that_no_type_holds_stay_as_they_were_written(tmp_path: Path) -> None:
    (path,) = write_json_mp4(tmp_path, [12])
    content = json.loads(path.read_text())
    stamps = [2**60 + 1 + row for row in range(12)]
    path.write_text(json.dumps({**content, "ticks": [2**63 + 1 + row for row in range(12)], "stamps": [*stamps[:-1], 0.5]}))
    (episode,) = episodes(READER, tmp_path)
    ticks = episode.streams["ticks"].values
    assert isinstance(ticks, np.ndarray)
    assert (ticks.dtype, ticks.tolist()) == (np.uint64, [2**63 + 1 + row for row in range(12)])
    assert "stamps" not in episode.streams
    assert episode.info.metadata["annotation"]["stamps"] == [*stamps[:-1], 0.5]


def _mutants(tmp_path: Path, count: int, seed: int) -> None:
    (path,) = write_json_mp4(tmp_path, [12])
    beside = {film.relative_to(tmp_path).as_posix(): film.read_bytes() for film in (tmp_path / "videos").rglob("*.mp4")}
    outcomes = run_over(
        partial(run_reader, MODULE), mutants(path.read_bytes(), count, seed), file_name="annotation/train/0.json", beside=beside, preload=[MODULE, "av"]
    )
    assert not [outcome for outcome in outcomes if outcome.status not in ("ok", "rejected", "unrecognised")], tally(outcomes)
    assert {outcome.status for outcome in outcomes} >= {"ok", "rejected"}


def test_mutants_of_the_json(tmp_path: Path) -> None:
    _mutants(tmp_path, 60, 1)


@pytest.mark.slow
def test_many_mutants_of_the_json(tmp_path: Path) -> None:
    _mutants(tmp_path, 800, 2)
