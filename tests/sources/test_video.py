import json
import shutil
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from dataengine.core.episode import Episode, Noticed, episodes_of
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.protocols import Found, Opener, Reader, ReadOptions
from dataengine.core.stream import MediaFrames
from dataengine.sources import video
from dataengine.sources.listing import list_source
from dataengine.video.decode import FrameReader
from dataengine.video.index import COLUMNS, FrameIndex
from tests.support.child import run_over, run_reader, tally
from tests.support.films import cut_start, number_of, numbered, write_film
from tests.support.mutate import mutants
from tests.support.shared import shared_data

READER: Reader = video


class Remote:
    """The files of a folder as if they were remote: no local paths."""

    def __init__(self, files: Opener) -> None:
        self._files = files
        self.handles: list[BinaryIO] = []

    def open(self, path: str) -> BinaryIO:
        self.handles.append(self._files.open(path))
        return self.handles[-1]

    def local(self, path: str) -> str | None:
        return None

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        return self._files.read_bytes(path, limit)


def ingest(folder: Path, **options: Any) -> tuple[Found, dict[str, Episode], list[Any]]:
    """Return what was found, each recording by its path, and what was noticed on the way."""
    listing = list_source(str(folder))
    found = video.find(listing)
    episodes, others = {}, []
    for item in found.items:
        for event in episodes_of(video.read(item, listing.opener, ReadOptions(**options))):
            if isinstance(event, Episode):
                episodes[item.path] = event
            else:
                others.append(event)
    return found, episodes, others


def test_a_film_is_one_recording_with_the_true_time_of_each_frame(tmp_path) -> None:
    folder = tmp_path / "kitchen"
    folder.mkdir()
    write_film(folder / "a.mp4", numbered(9), ticks=[30, 33, 34, 40, 100, 101, 500, 501, 502], time_base=Fraction(1, 1000), sound=True)
    found, episodes, others = ingest(folder)
    (item,) = found.items
    (episode,) = episodes.values()
    assert (item.reader, item.path, item.dataset, item.recordings, others) == ("video", "a.mp4", "kitchen", 1, [])
    assert set(found.claimed) == {"a.mp4"}
    info, stream = episode.info, episode.streams["observation.images.main"]
    first_ns = info.start_ns
    assert stream.timestamps_ns is not None
    assert stream.timestamps_ns.tolist() == [ms * 1_000_000 for ms in (0, 3, 4, 10, 70, 71, 470, 471, 472)]
    assert stream.clocks["pts"].tolist() == [first_ns + ms * 1_000_000 for ms in (0, 3, 4, 10, 70, 71, 470, 471, 472)]
    assert (info.clock, info.epoch, info.key, info.origin, info.follow, info.rate_hz) == ("measured", False, "", "human_video", "observation.images.main", None)
    assert not [name for name in info.columns if name.startswith("action")]
    assert [track["kind"] for track in info.metadata["tracks"]] == ["video", "audio"]
    assert info.metadata["tracks"][1] | {"handler": "", "language": ""} == {
        "index": 1,
        "kind": "audio",
        "codec": "aac",
        "handler": "",
        "language": "",
        "sample_hz": 48_000,
        "channels": 1,
    }
    column = stream.column
    assert (column.kind, column.dtype, column.shape, column.encoding) == ("image", "uint8", (64, 96, 3), "h264")
    json.dumps([info.metadata, dict(stream.values.facts)])


def test_the_stream_points_into_the_file(tmp_path) -> None:
    write_film(tmp_path / "a.mkv", numbered(30), b_frames=2)
    _, episodes, _ = ingest(tmp_path)
    frames = episodes["a.mkv"].streams["observation.images.main"].values
    assert isinstance(frames, MediaFrames)
    assert (frames.uri, frames.track, frames.first, frames.count) == ("a.mkv", 0, 0, 30)
    assert set(frames.index or {}) == set(COLUMNS)
    index = FrameIndex.from_columns(frames.index or {}, frames.facts)
    with FrameReader(tmp_path / "a.mkv", index) as reader:
        assert [number_of(frame) for frame in reader.read([29, 0, 7])] == [29, 0, 7]


@pytest.mark.parametrize("name", ["film.txt", "film", "film.jpg", "film.ts.bak"])
def test_content_decides_whatever_the_name(tmp_path, name: str) -> None:
    write_film(tmp_path / "a.webm", numbered(5), codec="libvpx-vp9", options={"deadline": "realtime"}).rename(tmp_path / name)
    _, episodes, _ = ingest(tmp_path)
    assert episodes[name].info.metadata["container"] == "webm"


def test_a_transport_stream_is_recognised_and_typescript_is_not(tmp_path) -> None:
    write_film(tmp_path / "a.ts", numbered(20))
    (tmp_path / "b.ts").write_text("export const x: number = 1\n" * 40)
    (tmp_path / "g.txt").write_text("G" * 900)
    found, episodes, _ = ingest(tmp_path)
    assert [item.path for item in found.items] == ["a.ts"]
    assert len(episodes["a.ts"].streams["observation.images.main"]) == 20


def test_what_is_called_a_video_and_is_none_is_rejected_by_name(tmp_path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.MKV").write_text("no video\n" * 20)
    (tmp_path / "list.mov").write_text("#EXTM3U\nhttp://127.0.0.1:9/secret.ts\n")
    (tmp_path / "sound.m4a").write_bytes(b"\0\0\0\x1cftypisom" + bytes(80))
    (tmp_path / "notes.md").write_text("hello")
    write_film(tmp_path / "cut.mp4", numbered(20))
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    listing = list_source(str(tmp_path))
    found = video.find(listing)
    reasons = {}
    for item in found.items:
        with pytest.raises(BadRecording) as caught:
            list(video.read(item, listing.opener, ReadOptions()))
        reasons[item.path] = caught.value.check
        assert str(caught.value).startswith(f"{item.path}: expected")
    assert reasons == {"cut.mp4": "truncated", "empty.mp4": "empty_file", "list.mov": "unknown_content", "text.MKV": "unknown_content"}


def test_several_cameras_are_several_streams(tmp_path) -> None:
    write_film(tmp_path / "a.mp4", [numbered(10, 48, 64), numbered(20)])
    _, episodes, _ = ingest(tmp_path)
    info = episodes["a.mp4"].info
    assert {name: len(stream) for name, stream in episodes["a.mp4"].streams.items()} == {"observation.images.track0": 10, "observation.images.track1": 20}
    assert (info.follow, info.rate_hz) == ("observation.images.track1", 30.0)


def test_the_rate_is_the_files_where_its_frames_keep_one(tmp_path) -> None:
    write_film(tmp_path / "a.mkv", numbered(20))
    write_film(tmp_path / "b.mp4", numbered(20), ticks=[*range(19), 30])
    _, episodes, _ = ingest(tmp_path)
    assert (episodes["a.mkv"].info.rate_hz, episodes["b.mp4"].info.rate_hz) == (30.0, None)
    _, episodes, _ = ingest(tmp_path, rate_hz=10.0)
    assert (episodes["a.mkv"].info.rate_hz, episodes["b.mp4"].info.rate_hz) == (30.0, 10.0)


def test_captions_come_from_all_kinds_of_side_cars(tmp_path) -> None:
    folder = tmp_path / "set"
    (folder / "videos" / "deep").mkdir(parents=True)
    film = write_film(tmp_path / "film.mp4", numbered(4))
    for name in ("a", "b", "c", "d", "e", "deep/f"):
        shutil.copy(film, folder / "videos" / f"{name}.mp4")
    (folder / "captions.json").write_text(json.dumps({"a.mp4": " lift  the\nblock ", "videos/deep/f.mp4": "far", "absent.mp4": "nothing", "b.mp4": "upper"}))
    (folder / "videos" / "lang_annotations.json").write_text(json.dumps({"b.mp4": "nearer"}))
    (folder / "videos" / "c.txt").write_text("push\n")
    (folder / "videos" / "d.json").write_text(json.dumps({"instruction": ["open", "pull it open"], "fps": 30, "caption": "open"}))
    (folder / "videos" / "d.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    (folder / "videos" / "e.json").write_text("{broken")
    (folder / "other.json").write_text(json.dumps({"fps": 30}))
    found, episodes, others = ingest(folder)
    tasks = {path.removeprefix("videos/"): episode.info.tasks for path, episode in episodes.items()}
    assert tasks == {
        "a.mp4": ("lift the block",),
        "b.mp4": ("nearer",),
        "c.mp4": ("push",),
        "d.mp4": ("open", "pull it open"),
        "e.mp4": (),
        "deep/f.mp4": ("far",),
    }
    assert episodes["videos/d.mp4"].info.metadata["side_cars"]["d.json"]["fps"] == 30
    assert episodes["videos/d.mp4"].info.metadata["side_cars"]["d.srt"].endswith("hello\n")
    assert "other.json" not in found.claimed
    assert {"captions.json", "videos/lang_annotations.json", "videos/c.txt", "videos/d.srt", "videos/e.json"} <= found.claimed
    files = {item.path: [file.path for file in item.files] for item in found.items}
    assert files["videos/a.mp4"] == ["videos/a.mp4", "captions.json"]
    assert files["videos/d.mp4"] == ["videos/d.mp4", "videos/d.json", "videos/d.srt"]
    (notice,) = others
    assert isinstance(notice, Noticed)
    assert (notice.problem.check, notice.problem.where) == ("unreadable_captions", "videos/e.json")
    (absent,) = found.problems
    assert (absent.check, absent.severity, absent.where) == ("captions_without_video", "info", "captions.json")
    assert "2 of 4 captions" in absent.message


def test_a_changed_caption_changes_the_fingerprint(tmp_path) -> None:
    write_film(tmp_path / "a.mp4", numbered(3))
    before = video.find(list_source(str(tmp_path))).items[0].fingerprint
    (tmp_path / "a.txt").write_text("lift")
    after = video.find(list_source(str(tmp_path))).items[0].fingerprint
    assert before != after
    assert before in after


def test_the_origin_is_chosen_by_config_then_description(tmp_path) -> None:
    write_film(tmp_path / "a.mp4", numbered(3))
    assert ingest(tmp_path, description={"origin": "policy", "licence": "CC-BY-4.0"})[1]["a.mp4"].info.origin == "policy"
    _, episodes, _ = ingest(tmp_path, description={"origin": "policy", "licence": "CC-BY-4.0"}, config={"origin": "teleop"})
    assert (episodes["a.mp4"].info.origin, episodes["a.mp4"].info.licence) == ("teleop", "CC-BY-4.0")
    with pytest.raises(ConfigError, match="origin: must be one of teleop, policy, human_video, simulation, world_model, got 'robot'"):
        ingest(tmp_path, config={"origin": "robot"})


def test_a_first_picture_that_does_not_decode_is_a_named_problem_and_the_bytes_are_kept(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(20))
    _, episodes, _ = ingest(tmp_path)
    frames = episodes["a.mp4"].streams["observation.images.main"].values
    assert isinstance(frames, MediaFrames)
    assert frames.index is not None
    data = bytearray(path.read_bytes())
    at, size = int(frames.index["offset"][0]), int(frames.index["size"][0])
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    _, episodes, _ = ingest(tmp_path)
    (problem,) = episodes["a.mp4"].info.problems
    assert (problem.check, problem.severity) == ("unreadable_frames", "warning")
    assert "frame 0" in problem.message
    assert len(episodes["a.mp4"].streams["observation.images.main"]) == 20


def test_frames_that_an_edit_list_cuts_away_are_not_counted(tmp_path) -> None:
    cut_start(write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, gop=30), 5 * 512)
    _, episodes, _ = ingest(tmp_path)
    frames = episodes["a.mp4"].streams["observation.images.main"].values
    assert isinstance(frames, MediaFrames)
    assert (frames.count, frames.facts["hidden"], episodes["a.mp4"].info.problems) == (25, 5, ())


def test_remote_files_read_the_same_and_are_closed(tmp_path) -> None:
    write_film(tmp_path / "a.mp4", [numbered(9), numbered(9, 48, 64)], sound=True)
    write_film(tmp_path / "b.webm", numbered(9), codec="libvpx-vp9", options={"deadline": "realtime"})
    wrappers: list[Remote] = []

    def wrap(files: Opener) -> Remote:
        wrappers.append(Remote(files))
        return wrappers[-1]

    assert run_reader("dataengine.sources.video", str(tmp_path), opener=wrap) == run_reader("dataengine.sources.video", str(tmp_path))
    assert len(wrappers[0].handles) >= 2
    assert all(handle.closed for handle in wrappers[0].handles)


def test_shared_robot_videos_land_with_the_figures_of_their_facts(tmp_path) -> None:
    facts = json.loads(shared_data("FACTS.json").read_text())
    found, episodes, others = ingest(shared_data("robot_video"))
    assert (len(found.items), len(episodes), others) == (7, 7, [])
    assert {item.dataset for item in found.items} == {"lapa", "calvin", "oxe"}
    for path, episode in episodes.items():
        (stream,) = facts[f"robot_video/{path}"]["streams"]
        (frames,) = episode.streams.values()
        assert frames.timestamps_ns is not None
        seconds = frames.timestamps_ns / 1e9
        steps = np.diff(seconds)
        measured = (len(frames), seconds[0], seconds[-1], steps.min(), steps.max(), episode.info.rate_hz)
        expected = tuple(stream[key] for key in ("decoded", "first_pts", "last_pts", "dt_min", "dt_max"))
        assert measured == pytest.approx((*expected, float(Fraction(stream["avg_rate"]))), abs=1.1e-6)
        assert frames.column.shape == (stream["wh"][1], stream["wh"][0], 3)
        assert episode.info.problems == ()
    tasks = {path.rsplit("/", 1)[1]: episode.info.tasks for path, episode in episodes.items()}
    assert tasks["task_ABC_D_validation_eps_5332_5373.mp4"] == ("slide the block into the drawer",)
    assert tasks["fractal20220817_eps_00083655.mp4"] == ("close top drawer",)
    assert tasks["rt1_real_standing_coke_can_1.mp4"] == ()
    assert [problem.severity for problem in found.problems] == ["info", "info"]


def test_a_screen_recording_of_variable_rate_has_no_rate(tmp_path) -> None:
    shutil.copy(shared_data("teleop_mcap_ros/owa_desktop/0.5.1.mkv"), tmp_path / "a.mkv")
    _, episodes, _ = ingest(tmp_path)
    info, stream = episodes["a.mkv"].info, episodes["a.mkv"].streams["observation.images.main"]
    assert stream.timestamps_ns is not None
    assert (len(stream), info.rate_hz, int(np.diff(stream.timestamps_ns).max())) == (18, None, 5_380_000_000)
    assert [track["kind"] for track in info.metadata["tracks"]] == ["video", "audio", "subtitle"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damaged_files_are_rejected_or_land(tmp_path, name: str) -> None:
    data = write_film(tmp_path / name, numbered(30), b_frames=2).read_bytes()
    outcomes = run_over(partial(run_reader, "dataengine.sources.video"), mutants(data, 64, seed=3), file_name=name, preload=("av", "cv2"))
    assert {outcome.status for outcome in outcomes} == {"ok", "rejected"}, tally(outcomes)
