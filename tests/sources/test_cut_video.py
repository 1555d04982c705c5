import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.episode import Episode, EpisodeInfo, Noticed, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Items, MediaFrames
from dataengine.sources import video
from dataengine.sources.cut_video import SideStream, VideoTrack, episodes_of_video, text_streams
from dataengine.sources.cuts import EpisodeRule, Segment
from dataengine.sources.kept_video import KeptVideos
from dataengine.sources.listing import list_source
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex
from tests.support.films import number_of, numbered, write_film

MS = 1_000_000


def cut(folder: Path, rule: EpisodeRule | None, sides: list[SideStream], segments: list[Segment]) -> tuple[list[Episode], list[str]]:
    files = list_source(str(folder)).opener
    index = KeptVideos(files).main("a.mp4")
    info = EpisodeInfo("d", {}, "measured", origin="human_video", tasks=("cook",), metadata={"a": 1})
    events = episodes_of_video([VideoTrack("observation.images.main", "a.mp4", index)], "observation.images.main", info, files, rule, sides, segments)
    episodes, noticed = [], []
    for event in episodes_of(events):
        if isinstance(event, Episode):
            episodes.append(event)
        else:
            assert isinstance(event, Noticed)
            noticed.append(event.problem.check)
    return episodes, noticed


def film(folder: Path) -> Path:
    """Write 10 frames, one every 100 ms."""
    return write_film(folder / "a.mp4", numbered(10), ticks=[row * 3 for row in range(10)], gop=4)


def imu(times_ms: list[int], clock: str | None = "stamp") -> SideStream:
    values = np.arange(len(times_ms), dtype=np.float64)
    return SideStream(Column("observation.imu", dtype="float64"), values, {"stamp": np.array(times_ms, dtype=np.int64) * MS}, clock)


def frames(episode: Episode) -> tuple[int, int]:
    values = episode.streams["observation.images.main"].values
    assert isinstance(values, MediaFrames)
    return values.first, values.count


def test_all_streams_are_cut_by_the_same_half_open_range_on_their_own_clocks(tmp_path: Path) -> None:
    film(tmp_path)
    episodes, noticed = cut(tmp_path, EpisodeRule("length", seconds=0.4), [imu([-5, 0, 399, 400, 401, 799, 800, 2000])], [Segment(390 * MS, 900 * MS, "stir")])
    assert [frames(episode) for episode in episodes] == [(0, 4), (4, 4), (8, 2)]
    assert [episode.streams["observation.imu"].values.tolist() for episode in episodes] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [episode.info.start_ns for episode in episodes] == [-5 * MS, 400 * MS, 800 * MS]
    first, second, third = episodes
    assert second.streams["observation.images.main"].timestamps_ns.tolist() == [0, 100 * MS, 200 * MS, 300 * MS]
    assert second.streams["observation.imu"].timestamps_ns.tolist() == [0, 1 * MS, 399 * MS]
    texts = first.streams["language.narration"]
    assert (list(texts.values.data), texts.clocks["start"].tolist(), texts.clocks["end"].tolist()) == ([b"stir"], [390 * MS], [900 * MS])
    assert "language.narration" not in second.streams
    assert [episode.info.key for episode in episodes] == ["0", "1", "2"]
    assert third.info.metadata == {
        "a": 1,
        "cut": {
            "file": "a.mp4",
            "why": "length of 0.4 s",
            "number": 2,
            "of": 3,
            "first_frame": 8,
            "frames": 2,
            "start_ns": 800 * MS,
            "end_ns": None,
        },
    }
    assert noticed == []


def test_each_annotation_is_an_episode_with_its_text_as_task_and_the_rest_is_kept_or_dropped(tmp_path: Path) -> None:
    film(tmp_path)
    segments = [Segment(200 * MS, 500 * MS, "open door", "v_0", {"verb": "open"}), Segment(400 * MS, 600 * MS, "take cup", "v_1", {"verb": "take"})]
    episodes, noticed = cut(tmp_path, EpisodeRule("annotation"), [imu([0, 250, 450, 700])], segments)
    assert [(episode.info.key, episode.info.tasks, frames(episode)) for episode in episodes] == [
        ("0", ("cook",), (0, 2)),
        ("v_0", ("open door", "cook"), (2, 3)),
        ("v_1", ("take cup", "cook"), (4, 2)),
        ("3", ("cook",), (6, 4)),
    ]
    door = episodes[1]
    assert door.info.metadata["annotation"] == {"verb": "open"}
    assert list(door.streams["language.narration"].values.data) == [b"open door", b"take cup"]  # the cup is taken before the door is open
    assert [json.loads(row) for row in door.streams["annotation"].values.data] == [{"verb": "open"}, {"verb": "take"}]
    assert [episode.streams["observation.imu"].values.tolist() for episode in episodes] == [[0], [1, 2], [2], [3]]
    assert sorted(noticed) == ["overlapping_annotations", "unannotated_frames"]
    dropped, noticed = cut(tmp_path, EpisodeRule("annotation", rest="drop"), [imu([0, 250, 450, 700])], segments)
    assert [episode.info.key for episode in dropped] == ["v_0", "v_1"]
    assert "samples_in_no_episode" in noticed


def test_moments_and_other_annotations_go_with_the_episodes_that_they_begin_in(tmp_path: Path) -> None:
    film(tmp_path)
    spans = [Segment(200 * MS, 500 * MS, "wash", "m0", stream="language.moments"), Segment(500 * MS, 700 * MS, "dry", "m1", stream="language.moments")]
    said = [Segment(at * MS, None, f"at {at}", about={"uid": at}) for at in (150, 200, 499, 500, 650, 700)]
    episodes, noticed = cut(tmp_path, EpisodeRule("annotation"), [], [*spans, *said])
    assert [[text.decode() for text in episode.streams["language.narration"].values.data] for episode in episodes] == [
        ["at 150"],
        ["at 200", "at 499"],
        ["at 500", "at 650"],
        ["at 700"],
    ]
    assert [[json.loads(row)["uid"] for row in episode.streams["annotation"].values.data] for episode in episodes] == [[150], [200, 499], [500, 650], [700]]
    assert [[text.decode() for text in episode.streams["language.moments"].values.data] for episode in episodes[1:3]] == [["wash"], ["dry"]]
    assert noticed == ["unannotated_frames"]


@pytest.mark.parametrize("rest", ["keep", "drop"])
def test_annotations_that_begin_in_no_episode_are_counted(tmp_path: Path, rest: Any) -> None:
    """Frames are 100 ms apart: between 410 and 490 ms there is none, so that no rest begins there either."""
    film(tmp_path)
    index = KeptVideos(list_source(str(tmp_path)).opener).main("a.mp4")
    spans = [Segment(200 * MS, 410 * MS, "wash"), Segment(490 * MS, 700 * MS, "dry")]
    said = [Segment(at * MS, None, f"at {at}", stream="language.note") for at in (100, 300, 409, 410, 450, 490, 699, 700, 2000)]
    track = VideoTrack("observation.images.main", "a.mp4", index)
    events = list(
        episodes_of_video(
            [track],
            track.stream,
            EpisodeInfo("d", {}, "measured"),
            list_source(str(tmp_path)).opener,
            EpisodeRule("annotation", rest=rest),
            [],
            [*spans, *said],
        )
    )
    (problem,) = [event.problem for event in events if isinstance(event, Noticed) and event.problem.check == "annotations_in_no_episode"]
    gone = {"keep": 2, "drop": 5}[rest]  # 410 and 450; without the rest also 100, 700 and 2000
    assert problem.severity == "info"
    assert f"{gone} of 11 annotations begin in no episode and are not kept: {gone} of language.note" in problem.message
    held = sum(len(episode.streams["language.note"]) for episode in episodes_of(events) if isinstance(episode, Episode) and "language.note" in episode.streams)
    assert held == len(said) - gone


def test_without_annotations_the_recording_is_one_episode_and_says_so(tmp_path: Path) -> None:
    film(tmp_path)
    episodes, noticed = cut(tmp_path, EpisodeRule("annotation"), [], [Segment(100 * MS, None, "a moment")])
    assert [frames(episode) for episode in episodes] == [(0, 10)]
    assert noticed == ["no_annotations"]
    assert list(episodes[0].streams["language.narration"].values.data) == [b"a moment"]


def test_what_has_no_known_time_goes_whole_with_the_first_episode(tmp_path: Path) -> None:
    film(tmp_path)
    episodes, noticed = cut(tmp_path, EpisodeRule("length", seconds=0.5), [imu([0, 900], clock=None)], [])
    assert [episode.streams["observation.imu"].values.tolist() if "observation.imu" in episode.streams else None for episode in episodes] == [[0, 1], None]
    assert episodes[0].streams["observation.imu"].timestamps_ns is None
    assert noticed == ["uncut_stream"]


def test_samples_out_of_order_are_cut_by_their_times(tmp_path: Path) -> None:
    film(tmp_path)
    episodes, _ = cut(tmp_path, EpisodeRule("length", seconds=0.5), [imu([900, 0, 600, 499])], [])
    assert [episode.streams["observation.imu"].values.tolist() for episode in episodes] == [[1, 3], [0, 2]]


def test_moments_stand_apart_from_what_has_an_end() -> None:
    streams = text_streams([Segment(5, None, "m"), Segment(9, 11, "b"), Segment(1, 2, "a", clocks={"narrated": 7})])
    assert [stream.column.name for stream in streams] == ["language.narration", "language.narration_moments"]
    assert isinstance(streams[0].values, Items)
    assert list(streams[0].values.data) == [b"a", b"b"]
    assert {name: times.tolist() for name, times in streams[0].clocks.items()} == {"start": [1, 9], "end": [2, 11]}
    assert {name: times.tolist() for name, times in streams[1].clocks.items()} == {"start": [5]}


def read_video(folder: Path, **config: Any) -> list[Episode]:
    listing = list_source(str(folder))
    (item,) = video.find(listing).items
    return [event for event in episodes_of(video.read(item, listing.opener, ReadOptions(config=config))) if isinstance(event, Episode)]


def test_a_film_is_cut_by_scene_to_the_frame_and_its_frames_are_those_of_the_one_file(tmp_path: Path) -> None:
    dark = np.full((25, 64, 96, 3), 30, np.uint8)
    write_film(tmp_path / "a.mp4", np.concatenate([numbered(25), dark, numbered(30, first=50)]))
    episodes = read_video(tmp_path, episodes={"by": "scene"})
    assert [frames(episode) for episode in episodes] == [(0, 25), (25, 25), (50, 30)]
    assert [episode.info.metadata["cut"]["why"] for episode in episodes] == ["scene change"] * 3
    assert [episode.info.rate_hz for episode in episodes] == [30.0] * 3
    values = episodes[2].streams["observation.images.main"].values
    assert isinstance(values, MediaFrames)
    assert values.index is not None
    with FrameReader(tmp_path / values.uri, FrameIndex.from_columns(values.index, values.facts)) as reader:
        assert [number_of(frame) for frame in reader.read([values.first, values.first + values.count - 1])] == [50, 79]


def test_several_cameras_of_one_file_are_cut_together(tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", [numbered(30), numbered(30, height=32, width=48)])
    episodes = read_video(tmp_path, episodes={"by": "length", "seconds": 0.5})
    counts = [{name: len(stream) for name, stream in episode.streams.items()} for episode in episodes]
    assert counts == [{"observation.images.track0": 15, "observation.images.track1": 15}] * 2
