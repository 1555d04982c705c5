"""Clock offsets from recording to store: estimated, reported, and applied only where that was asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dataengine.align.config import AlignConfig
from dataengine.align.offset import BodyMotion, estimate_offset
from dataengine.core.config import parse_config
from dataengine.core.errors import ConfigError
from dataengine.core.objects import open_objects
from dataengine.core.stream import MediaFrames
from dataengine.samples.arm import ArmConfig, record
from dataengine.samples.mcap import McapOptions, write_mcap
from dataengine.samples.topics import TopicOptions
from dataengine.samples.video import VideoOptions, write_video
from dataengine.sources.listing import SourceOpener
from dataengine.store.camera_motion import media_motion
from dataengine.store.store import open_store
from dataengine.video.index import frame_index
from pipelines.bench import ingest_in_process
from pipelines.config import IngestConfig
from tests.support.camera_clocks import MS, dropping_cameras, flickering_cameras, late_cameras, motionless

FRONT, WRIST = "observation.images.camera_front", "observation.images.camera_wrist"


@cache
def sample(index=0, camera_hz=30.0, cameras=("front", "wrist")):
    return record(5, index, ArmConfig(height=96, width=128, camera_hz=camera_hz, cameras=cameras, failure_rate=0.0))


def landed(folder, recording, raw=False, follow=None, **clock_offset):
    """Ingest one recording as MCAP; return the open store, the episode's row, its figures by name, and the problems of the job."""
    write_mcap(folder / "in" / "a.mcap", [recording], McapOptions(topics=TopicOptions(raw_images=raw)))
    config = IngestConfig(align=parse_config(AlignConfig, {"clock_offset": clock_offset, "follow": follow}, "test"))
    tally = ingest_in_process(folder / "in", folder / "store", config)
    store = open_store(str(folder / "store"))
    row = store.episodes().collect().row(0, named=True)
    return (
        store,
        row,
        {entry["name"]: entry["value"] for entry in row["figures"]},
        [problem for problem in tally.problems if "clock_offset" in problem["check"]],
    )


def test_each_camera_s_offset_is_a_figure_and_a_named_problem(tmp_path):
    _, row, figures, problems = landed(tmp_path, late_cameras(sample(), {"front": 0.0, "wrist": 90.0}))
    assert figures[f"clock_offset_ms.{FRONT}"] == pytest.approx(0, abs=11)
    assert figures[f"clock_offset_ms.{WRIST}"] == pytest.approx(90, abs=11)
    assert figures[f"clock_offset_confidence.{WRIST}"] >= 0.85
    assert f"clock_offset_applied_ms.{WRIST}" not in figures
    (problem,) = problems
    assert (problem["check"], problem["severity"], problem["where"]) == ("clock_offset", "warning", WRIST)
    assert " ms late by " in problem["message"]
    assert f"apply: {{{WRIST}: " in problem["advice"]
    assert "clock_offset" in row["flags"]


def test_stamps_that_are_early_are_negative_and_less_than_a_step_is_a_note(tmp_path):
    _, row, figures, problems = landed(tmp_path, late_cameras(sample(camera_hz=15.0), {"front": -50.0}))
    assert figures[f"clock_offset_ms.{FRONT}"] == pytest.approx(-50, abs=22)
    assert [(problem["severity"], problem["where"]) for problem in problems] == [("info", FRONT)]
    assert " ms early by " in problems[0]["message"]
    assert "clock_offset" not in row["flags"]


def test_a_kept_video_is_looked_at_from_its_key_frames(tmp_path):
    arm = sample(3, cameras=("front",))
    (path,) = write_video(tmp_path, [arm], VideoOptions(gop=250))
    index = frame_index(str(path))
    stamps = arm.cameras["front"].t_ns + 60 * MS
    frames = MediaFrames(path.name, index.track, 0, len(index), index=index.as_columns(), facts=index.as_facts())
    body = BodyMotion("joints", arm.joint_t_ns, arm.joint_position)
    image = media_motion(frames, SourceOpener(open_objects(str(tmp_path), {})), stamps, [body])
    assert image is not None
    assert estimate_offset(image, [body]).offset_ns == pytest.approx(60 * MS, abs=11 * MS)
    # two thirds of the bytes in the middle are gone: nothing is said, and nothing fails
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 6] + bytes(len(data) * 2 // 3) + data[len(data) * 5 // 6 :])
    damaged = media_motion(frames, SourceOpener(open_objects(str(tmp_path), {})), stamps, [body])
    assert damaged is None or estimate_offset(damaged, [body]).offset_ns is None


def test_nothing_is_applied_unless_asked_and_the_native_times_stay(tmp_path):
    late = late_cameras(sample(), {"wrist": 90.0})
    plain, row, _, _ = landed(tmp_path / "plain", late, follow=FRONT)
    never, same, figures, problems = landed(tmp_path / "never", late, follow=FRONT, estimate="never")
    assert not any(name.startswith("clock_offset") for name in figures)
    assert problems == []
    asked, other, applied, _ = landed(tmp_path / "asked", late, follow=FRONT, estimate="never", apply={WRIST: 90.0})
    assert row["episode_id"] == same["episode_id"] == other["episode_id"]
    assert len({row["reading"], same["reading"], other["reading"]}) == 3
    assert applied == {**figures, f"clock_offset_applied_ms.{WRIST}": 90.0}

    native = [store.read_episode(row["episode_id"]).streams[WRIST].timestamps_ns for store in (plain, never, asked)]
    assert native[0].tolist() == native[1].tolist() == native[2].tolist()
    before, after = (store.read_trajectory(row["episode_id"]) for store in (plain, asked))
    assert before.t_ns.tolist() == never.read_trajectory(row["episode_id"]).t_ns.tolist()
    # the other camera is followed, so the steps are the same; at each the wrist's picture is one stamped up to 90 ms later
    assert before.t_ns.tolist() == after.t_ns.tolist()
    assert np.array_equal(before.columns["joint_states.position"], after.columns["joint_states.position"])
    seen = after.frames[WRIST] >= 0
    assert seen.sum() > 50
    stamps = native[0][after.frames[WRIST][seen]]
    assert (after.sampled_ns[WRIST][seen] == stamps - 90 * MS).all()
    age = after.t_ns[seen] - after.sampled_ns[WRIST][seen]
    assert (age >= 0).all()
    assert (stamps > after.t_ns[seen]).mean() > 0.9  # without the offset these pictures would lie in the future
    assert (np.median(after.frames[WRIST][seen] - before.frames[WRIST][seen])) in (2, 3)


def test_an_estimate_can_be_applied(tmp_path):
    late = late_cameras(sample(), {"front": 120.0, "wrist": 90.0})
    _, _, figures, problems = landed(tmp_path, late, apply="estimated")
    assert figures[f"clock_offset_applied_ms.{FRONT}"] == figures[f"clock_offset_ms.{FRONT}"] == pytest.approx(120, abs=11)
    assert problems == []


def test_an_offset_for_a_stream_that_is_not_there_is_named(tmp_path):
    _, _, _, problems = landed(tmp_path, sample(), apply={"observation.images.top": -33.0})
    assert [(problem["check"], problem["where"]) for problem in problems] == [("clock_offset_not_applied", "observation.images.top")]
    with pytest.raises(ConfigError, match="aply"):
        parse_config(IngestConfig, {"align": {"clock_offset": {"aply": {}}}}, "x.yaml")
    with pytest.raises(ConfigError, match="99999"):
        parse_config(IngestConfig, {"align": {"clock_offset": {"apply": {"a": 99999}}}}, "x.yaml")


def test_an_arm_at_rest_gives_no_offset(tmp_path):
    _, _, figures, problems = landed(tmp_path, motionless(sample()))
    assert figures[f"clock_offset_confidence.{FRONT}"] == figures[f"clock_offset_confidence.{WRIST}"] == 0
    assert f"clock_offset_ms.{FRONT}" not in figures
    assert problems == []


@pytest.mark.parametrize("raw", [False, True], ids=["jpeg", "raw"])
def test_lost_frames_jitter_and_flicker_are_survived(tmp_path, raw):
    hard = dropping_cameras(flickering_cameras(sample(2), 0.15), 0.25, 4.0)
    _, _, figures, _ = landed(tmp_path, late_cameras(hard, -75.0), raw)
    for camera in (FRONT, WRIST):
        assert figures[f"clock_offset_ms.{camera}"] == pytest.approx(-75, abs=15)


def test_a_recording_of_pictures_and_hardly_a_number_has_no_figure(tmp_path):
    few = {
        name: value[:10] for name, value in vars(sample()).items() if isinstance(value, np.ndarray) and name.startswith(("joint", "imu", "ee", "lin", "ang"))
    }
    assert len(few) == 9
    _, _, figures, _ = landed(tmp_path, replace(sample(), **few))
    assert not any(name.startswith("clock_offset") for name in figures)
