import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import Found, ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.ego4d import Ego4dOptions, write_ego4d
from dataengine.sources.ego4d import reader
from dataengine.sources.ego4d.annotations import kind_of
from dataengine.sources.listing import list_source
from tests.support.child import run_over, run_reader, tally
from tests.support.mutate import mutants

MS = 1_000_000
MAIN = "observation.images.main"
UIDS = ("001e3e4e-2743-47fc-8564-d5efd11f9e90", "f0cb79ef-c081-4049-85ef-2623e02c9589")


@pytest.fixture(scope="module")
def recordings() -> dict[str, ArmRecording]:
    return {uid: record(3, number, ArmConfig(height=48, width=64, cameras=("front",), max_steps=15, failure_rate=0.0)) for number, uid in enumerate(UIDS)}


def ingest(folder: Path, **config: Any) -> tuple[Found, list[Episode], list[str]]:
    listing = list_source(str(folder))
    found = reader.find(listing)
    episodes, noticed = [], []
    for item in found.items:
        for event in episodes_of(reader.read(item, listing.opener, ReadOptions(config=config))):
            if isinstance(event, Episode):
                episodes.append(event)
            else:
                noticed.append(event.problem.check)
    return found, episodes, noticed


def texts(episode: Episode, stream: str) -> list[tuple[str, int]]:
    values = episode.streams[stream].values
    assert isinstance(values, Items)
    return [(bytes(text).decode(), start // MS) for text, start in zip(values.data, episode.streams[stream].clocks["start"].tolist(), strict=True)]


@pytest.mark.parametrize("uid_keyed", [False, True])
def test_a_video_lands_with_what_was_said_of_it_and_its_inertial_samples(tmp_path: Path, recordings: dict[str, ArmRecording], uid_keyed: bool) -> None:
    write_ego4d(tmp_path / "ego4d_data", recordings, Ego4dOptions(uid_keyed=uid_keyed, absent=("gone",)))
    found, (episode, other), noticed = ingest(tmp_path)
    assert [item.path for item in found.items] == [f"ego4d_data/v2/full_scale/{uid}.mp4" for uid in UIDS]
    assert {item.dataset for item in found.items} == {"ego4d_data"}
    assert sorted(path.removeprefix("ego4d_data/v2/") for path in found.claimed) == sorted(
        ["ego4d.json", "annotations/moments_train.json", "annotations/narration.json", "full_scale/manifest.csv"]
        + [f"full_scale/{uid}.mp4" for uid in UIDS]
        + [f"imu/{uid}.csv" for uid in UIDS]
    )
    assert [(problem.check, problem.severity, "gone.mp4" in problem.message) for problem in found.problems] == [("missing_videos", "warning", True)]
    assert noticed == []
    info = episode.info
    task = recordings[UIDS[0]].task
    assert texts(episode, "language.narration") == [(f"#C C {task}", 50), ("#C C moves the hand", 350), ("#O A man X looks", 550)]
    assert texts(episode, "language.narration_pass_2") == [(f"#C C {task}", 50)]
    assert texts(episode, "language.summary") == [("#Summary C tidied up", 0)]
    assert texts(episode, "language.moments") == [("put_away", 200)]
    assert episode.streams["language.moments"].clocks["end"].tolist() == [400 * MS]
    about = [json.loads(row) for row in episode.streams["annotation"].values.data]  # type: ignore[union-attr]
    assert [part["pass"] for part in about if part.get("narration_text") == f"#C C {task}"] == ["narration_pass_1", "narration_pass_2"]
    assert next(part for part in about if part.get("label"))["clip_uid"] == f"{UIDS[0]}-c"
    gyro = episode.streams["observation.imu.gyro"]
    seconds = len(recordings[UIDS[0]].cameras["front"].images) / 30
    assert isinstance(gyro.values, np.ndarray)
    assert np.array_equal(gyro.values, recordings[UIDS[0]].angular_velocity[: len(gyro.values)])
    assert gyro.clocks["canonical_timestamp"][:3].tolist() == [0, 5 * MS, 10 * MS]
    assert gyro.clocks["component_timestamp"][:3].tolist() == [0, 5 * MS, 10 * MS]
    assert len(episode.streams["observation.imu.gyro_untimed"]) == int(seconds * 200) + 4 - len(gyro)
    assert (info.splits, info.metadata["participant_id"], info.metadata["has_redacted_regions"]) == (("em_train", "fho_multi"), 17, True)
    assert info.metadata["redacted_intervals"][0]["start_sec"] == 0.1
    assert info.metadata["manifest"]["benchmarks"] == "[EM]"
    assert info.metadata["video"]["scenarios"] == ["Cleaning"]
    assert [(problem.check, problem.severity) for problem in info.problems] == [("rows_without_time", "info")]
    assert (info.origin, info.rate_hz, info.clock) == ("human_video", 30.0, "measured")
    assert other.info.metadata["video_uid"] == UIDS[1]


def test_clips_have_the_annotations_of_their_part_of_the_video(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]}, Ego4dOptions(clips=10, clip_start_s=0.2, imu_hz=0))
    _, episodes, _ = ingest(tmp_path)
    clip = next(episode for episode in episodes if episode.info.metadata["part"] == "clips")
    assert len(clip.streams[MAIN]) == 10
    assert texts(clip, "language.narration") == [("#C C moves the hand", 150)]  # 0.35 s is 0.15 s after the clip's start; 0.55 s is beyond its end
    assert texts(clip, "language.moments") == [("put_away", 0)]
    assert texts(clip, "language.summary") == [("#Summary C tidied up", -200)]
    assert clip.info.metadata["manifest"]["parent_video_uid"] == UIDS[0]


def test_segments_with_an_end_can_be_episodes(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]})
    _, episodes, noticed = ingest(tmp_path, episodes={"by": "annotation", "rest": "drop"})
    assert [(episode.info.tasks, len(episode.streams[MAIN])) for episode in episodes] == [(("#Summary C tidied up",), 21), (("put_away",), 6)]
    assert "overlapping_annotations" in noticed
    values = episodes[1].streams[MAIN].values
    assert isinstance(values, MediaFrames)
    assert values.first == 6


def test_narrations_go_with_the_segments_that_they_are_spoken_in(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]})
    task = recordings[UIDS[0]].task
    _, (whole, moment), _ = ingest(tmp_path, episodes={"by": "annotation", "rest": "drop"})
    assert texts(whole, "language.narration") == [(f"#C C {task}", 50), ("#C C moves the hand", 350), ("#O A man X looks", 550)]
    assert texts(moment, "language.narration") == [("#C C moves the hand", 350)]  # the moment lasts from 200 to 400 ms
    assert (moment.info.tasks, texts(moment, "language.moments")) == (("put_away",), [("put_away", 200)])
    assert "language.summary" not in moment.streams  # it begins at 0


def test_fields_beyond_the_header_of_inertial_samples_are_kept_and_named(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    release = write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]})
    path = release / "imu" / f"{UIDS[0]}.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], f"{lines[3]},0.25", *lines[4:]]))
    _, (episode,), _ = ingest(tmp_path)
    assert {problem.check for problem in episode.info.problems} == {"ragged_rows", "rows_without_time"}
    surplus = episode.streams["observation.imu.surplus"].values
    assert isinstance(surplus, np.ndarray)
    assert surplus[2] == 0.25
    assert np.isnan(np.delete(surplus, 2)).all()


def test_fields_beyond_the_header_of_a_manifest_are_kept_and_named(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    release = write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]})
    path = release / "full_scale" / "manifest.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], f"{lines[1]},more, and more"]))
    found, (episode,), _ = ingest(tmp_path)
    assert [(problem.check, problem.severity) for problem in found.problems] == [("ragged_rows", "warning")]
    assert episode.info.metadata["manifest"]["surplus"] == "more, and more"


def test_a_broken_annotation_file_is_named_and_costs_no_video(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    release = write_ego4d(tmp_path, recordings)
    path = release / "annotations" / "narration.json"
    path.write_bytes(path.read_bytes()[:300])
    (release / "imu" / f"{UIDS[0]}.csv").write_bytes(b"")
    _, episodes, noticed = ingest(tmp_path)
    assert len(episodes) == 2
    assert set(noticed) == {"unreadable_annotations"}
    assert "unreadable_side_car" in [problem.check for problem in episodes[0].info.problems]
    assert "language.moments" in episodes[0].streams


def test_a_changed_annotation_file_changes_every_video_and_its_size_counts_for_none(tmp_path: Path, recordings: dict[str, ArmRecording]) -> None:
    release = write_ego4d(tmp_path, recordings)
    before = reader.find(list_source(str(tmp_path))).items
    assert before[0].size == (release / "full_scale" / f"{UIDS[0]}.mp4").stat().st_size + (release / "imu" / f"{UIDS[0]}.csv").stat().st_size
    (release / "annotations" / "moments_train.json").write_text('{"videos": []}')
    after = reader.find(list_source(str(tmp_path))).items
    assert all(old.fingerprint != new.fingerprint for old, new in zip(before, after, strict=True))


def test_without_a_manifest_of_videos_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("name,size\na,1\n")
    (tmp_path / "ego4d.json").write_text("{}")
    assert not reader.find(list_source(str(tmp_path))).items


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/moments_train.json", "moments"),
        ("fho_main.json", "fho_main"),
        ("nlq_val.json", "nlq"),
        ("vq_test_unannotated.json", "vq"),
        ("fho_hands_train.json", "fho_hands"),
    ],
)
def test_kinds_are_named_by_their_files(path: str, kind: str) -> None:
    assert kind_of(path) == kind


@pytest.mark.parametrize("name", ["annotations/narration.json", "full_scale/manifest.csv", "ego4d.json"])
def test_mutants_of_its_tables_never_cost_a_video_in_silence(tmp_path: Path, recordings: dict[str, ArmRecording], name: str) -> None:
    release = write_ego4d(tmp_path, {UIDS[0]: recordings[UIDS[0]]})
    files = {path.relative_to(release).as_posix(): path.read_bytes() for path in release.rglob("*") if path.is_file()}
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.ego4d.reader"),
        mutants(files.pop(name), 32, seed=4),
        file_name=f"v2/{name}",
        beside={f"v2/{path}": data for path, data in files.items()},
        memory_bytes=256 << 20,
        preload=("av", "polars", "dataengine.sources.ego4d.reader"),
    )
    allowed = {"ok", "unrecognised"} if name.endswith("manifest.csv") else {"ok"}
    assert {outcome.status for outcome in outcomes} <= allowed, tally(outcomes)
    assert sum(outcome.status == "ok" for outcome in outcomes) > 8
