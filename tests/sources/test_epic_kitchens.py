import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.protocols import Found, ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.epic_kitchens import EpicSegment, clock_text, segment_rows, write_epic_kitchens, write_table
from dataengine.sources import epic_kitchens, video
from dataengine.sources.listing import list_source
from tests.support.child import run_over, run_reader, tally
from tests.support.films import numbered, write_film
from tests.support.mutate import mutants

MS = 1_000_000
MAIN = "observation.images.main"
SEGMENTS = [EpicSegment(0.14, 0.4, "open door", 0.09), EpicSegment(0.3, 0.6, "take cup", 0.31)]


@pytest.fixture(scope="module")
def recording() -> ArmRecording:
    return record(3, 0, ArmConfig(height=48, width=64, cameras=("front",), max_steps=15, failure_rate=0.0))


def ingest(folder: Path, **config: Any) -> tuple[Found, list[Episode], list[str]]:
    listing = list_source(str(folder))
    found = epic_kitchens.find(listing)
    episodes, noticed = [], []
    for item in found.items:
        for event in episodes_of(epic_kitchens.read(item, listing.opener, ReadOptions(config=config))):
            if isinstance(event, Episode):
                episodes.append(event)
            else:
                noticed.append(event.problem.check)
    return found, episodes, noticed


def test_times_are_written_as_in_the_tables() -> None:
    assert (clock_text(0.14), clock_text(3661.5), clock_text(1.089, 3)) == ("00:00:00.14", "01:01:01.50", "00:00:01.089")


def test_a_video_lands_whole_with_its_narrations_as_timed_texts(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS, "P22_107": SEGMENTS})
    found, (episode,), noticed = ingest(tmp_path)
    (item,) = found.items
    assert (item.path, item.dataset, item.splits, noticed) == ("EPIC-KITCHENS/P01/videos/P01_01.MP4", "epic-kitchens", ("train",), [])
    assert sorted(path.rsplit("/", 1)[1] for path in found.claimed) == ["EPIC_100_train.csv", "EPIC_100_video_info.csv", "P01_01.MP4"]
    assert [(problem.check, problem.severity, "P22_107" in problem.message) for problem in found.problems] == [("missing_videos", "info", True)]
    texts = episode.streams["language.narration"]
    assert isinstance(texts.values, Items)
    assert list(texts.values.data) == [b"open door", b"take cup"]
    assert texts.clocks["start"].tolist() == [140 * MS, 300 * MS]
    assert texts.clocks["end"].tolist() == [400 * MS, 600 * MS]
    assert texts.clocks["narrated"].tolist() == [90 * MS, 310 * MS]
    about = episode.streams["annotation"].values
    assert isinstance(about, Items)
    first = json.loads(about.data[0])
    assert (first["verb"], first["noun_class"], first["start_frame"], first["split"], first["narration_id"]) == ("open", 7, 5, "train", "P01_01_0")
    info = episode.info
    assert (info.metadata["participant_id"], info.metadata["video_info"]["fps"], info.origin, info.problems) == ("P01", 30, "human_video", ())
    assert len(episode.streams[MAIN]) == len(recording.cameras["front"].images)


def test_each_segment_is_an_episode_of_its_frames(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS}, "validation")
    _, episodes, noticed = ingest(tmp_path, episodes={"by": "annotation"})
    values = [episode.streams[MAIN].values for episode in episodes]
    frames = len(recording.cameras["front"].images)
    assert [
        (episode.info.key, episode.info.tasks, value.first, value.count)
        for episode, value in zip(episodes, values, strict=True)
        if isinstance(value, MediaFrames)
    ] == [
        ("0", (), 0, 5),  # 0.14 s is after frame 4 (0.1333 s)
        ("P01_01_0", ("open door",), 5, 7),  # frames 5 (0.1667 s) to 11 (0.3667 s): 12 is at 0.4 s
        ("P01_01_1", ("take cup",), 9, 9),
        ("3", (), 18, frames - 18),
    ]
    assert [episode.info.splits for episode in episodes] == [("validation",)] * 4
    assert sorted(noticed) == ["overlapping_annotations", "unannotated_frames"]


def test_the_test_set_has_times_and_no_texts(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_101": recording}, {"P01_101": SEGMENTS}, "test")
    _, (episode,), _ = ingest(tmp_path)
    assert episode.info.splits == ("test",)
    assert list(episode.streams["language.narration"].values.data) == [b"", b""]  # type: ignore[union-attr]


def test_tables_of_single_challenges_add_splits_and_no_segment_twice(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS})
    write_table(tmp_path / "epic-kitchens-100-annotations" / "UDA_annotations" / "EPIC_100_uda_source_train.csv", segment_rows("P01_01", SEGMENTS, 30.0))
    found, (episode,), _ = ingest(tmp_path)
    assert found.items[0].splits == ("train", "uda_source_train")
    assert len(episode.streams["language.narration"]) == 2


def test_what_the_table_of_videos_says_is_held_against_the_video(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": [EpicSegment(900, 901, "wash cup")]})
    write_table(
        tmp_path / "epic-kitchens-100-annotations" / "EPIC_100_video_info.csv",
        [{"video_id": "P01_01", "duration": 99, "fps": 59.94, "resolution": ""}],
        ["video_id", "duration", "fps", "resolution"],
    )
    _, (episode,), _ = ingest(tmp_path)
    (problem,) = episode.info.problems
    assert "59.94 frames a second where the video has 30; 99 s where" in problem.message
    _, (episode,), noticed = ingest(tmp_path, episodes={"by": "annotation"})
    assert noticed == ["annotation_without_frames", "unannotated_frames"]


def test_a_narration_with_a_comma_and_no_quotes_is_named_and_its_row_kept(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS})
    header = "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,narration"
    row = "P01_01_0,P01,P01_01,00:00:00.14,00:00:00.40,open door, then close it"
    (tmp_path / "epic-kitchens-100-annotations" / "EPIC_100_train.csv").write_text(f"{header}\n{row}\n")
    _, (episode,), noticed = ingest(tmp_path)
    assert noticed == ["ragged_rows"]
    assert list(episode.streams["language.narration"].values.data) == [b"open door, then close it"]  # type: ignore[union-attr]


def test_other_videos_and_tables_are_left_to_others(tmp_path: Path, recording: ArmRecording) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS})
    write_film(tmp_path / "holiday.mp4", numbered(3))
    (tmp_path / "P01_01.csv").write_text("a,b\n1,2\n")
    listing = list_source(str(tmp_path))
    found = epic_kitchens.find(listing)
    assert [item.path for item in found.items] == ["EPIC-KITCHENS/P01/videos/P01_01.MP4"]
    assert [item.path for item in video.find(listing.without(found.claimed)).items] == ["holiday.mp4"]
    assert not epic_kitchens.find(list_source(str(tmp_path / "EPIC-KITCHENS"))).items


@pytest.mark.parametrize("table", [b"", b"narration_id,participant_id,video_id,start_timestamp,stop_timestamp\nP01_01_0,P01,P01_01,soon,later\n"])
def test_broken_tables_do_not_cost_the_video(tmp_path: Path, recording: ArmRecording, table: bytes) -> None:
    write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS})
    (tmp_path / "epic-kitchens-100-annotations" / "EPIC_100_train.csv").write_bytes(table)
    _, episodes, _ = ingest(tmp_path)
    assert [[problem.check for problem in episode.info.problems] for episode in episodes] == ([["unreadable_times"]] if table else [])


def test_mutants_of_the_table_never_cost_the_video(tmp_path: Path, recording: ArmRecording) -> None:
    (path,) = write_epic_kitchens(tmp_path, {"P01_01": recording}, {"P01_01": SEGMENTS * 5})
    table = (tmp_path / "epic-kitchens-100-annotations" / "EPIC_100_train.csv").read_bytes()
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.epic_kitchens"),
        mutants(table, 48, seed=4),
        file_name="EPIC_100_train.csv",
        beside={"P01_01.MP4": path.read_bytes()},
        memory_bytes=256 << 20,
        preload=("av", "polars", "dataengine.sources.epic_kitchens"),
    )
    assert {outcome.status for outcome in outcomes} <= {"ok", "unrecognised"}, tally(outcomes)
    assert sum(outcome.status == "ok" for outcome in outcomes) > 20
