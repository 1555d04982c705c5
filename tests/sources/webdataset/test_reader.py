import gzip
import io
import json
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from dataengine.core.column import Camera
from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Found, Opener, ReadOptions
from dataengine.core.slices import open_slice
from dataengine.core.stream import MediaFrames
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.egocentric_tar import EgocentricTarOptions, intrinsics, write_egocentric_tar
from dataengine.sources.listing import list_source
from dataengine.sources.webdataset import reader
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex
from tests.support.child import run_over, run_reader, tally
from tests.support.films import number_of, numbered, write_film
from tests.support.mutate import mutants
from tests.support.shared import shared_data

MAIN = "observation.images.main"


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(3, number, ArmConfig(height=48, width=64, cameras=("front",), max_steps=6 + number, failure_rate=0.0)) for number in range(3)]


def ingest(folder: Path, **options: Any) -> tuple[Found, dict[str, Episode], dict[str, str], list[str]]:
    """Return what was found, episodes by key, why others were rejected, and the checks of what was noticed."""
    listing = list_source(str(folder))
    found = reader.find(listing)
    episodes: dict[str, Episode] = {}
    rejected: dict[str, str] = {}
    noticed: list[str] = []
    for item in found.items:
        for event in episodes_of(reader.read(item, listing.opener, ReadOptions(**options))):
            if isinstance(event, Episode):
                episodes[event.info.key] = event
            elif isinstance(event, Rejected):
                rejected[event.key] = event.problem.check
            else:
                assert isinstance(event, Noticed)
                noticed.append(event.problem.check)
    return found, episodes, rejected, noticed


def pack(path: Path, parts: list[tuple[str, bytes]], form: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in parts:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def film_bytes(folder: Path, count: int, first: int = 0) -> bytes:
    path = write_film(folder / "film.mp4", numbered(count, first=first))
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize("form", ["ustar", "gnu", "pax"])
@pytest.mark.parametrize("json_first", [False, True])
def test_each_video_is_an_episode_inside_the_archive(tmp_path: Path, recordings: list[ArmRecording], form: Any, json_first: bool) -> None:
    path = write_egocentric_tar(tmp_path / "Egocentric-10K", recordings, EgocentricTarOptions(form, json_first=json_first))
    found, episodes, rejected, noticed = ingest(tmp_path)
    (item,) = found.items
    relative = path.relative_to(tmp_path).as_posix()
    assert (item.dataset, item.path, rejected, noticed) == ("egocentric-10k", relative, {}, [])
    assert found.claimed == {relative, relative.rsplit("/", 1)[0] + "/intrinsics.json"}
    assert list(episodes) == [f"factory001_worker001_{number:05d}" for number in range(3)]
    with tarfile.open(path) as archive:
        for number, (key, episode) in enumerate(episodes.items()):
            values = episode.streams[MAIN].values
            assert isinstance(values, MediaFrames)
            assert values.span is not None
            member = archive.extractfile(f"{key}.mp4")
            assert member is not None
            whole = path.read_bytes()
            assert whole[values.span[0] : values.span[0] + values.span[1]] == member.read()
            assert len(values) == len(recordings[number].cameras["front"].images)
            info = episode.info
            assert (info.metadata["factory_id"], info.metadata["worker_id"], info.metadata["clip"]["video_index"]) == ("factory_001", "worker_001", number)
            assert (info.rate_hz, info.clock, info.origin, info.problems) == (30.0, "measured", "human_video", ())
            camera = info.columns[MAIN].camera
            assert camera == Camera("egocentric", (32.0, 32.64, 32.0, 24.0), ("fisheye", (0.11, -0.02, 0.003, -0.0004)))


def test_frames_inside_the_archive_are_those_of_the_video(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", [("x/1.mp4", film_bytes(tmp_path, 6)), ("x/2.mp4", film_bytes(tmp_path, 5, first=40))])
    _, episodes, _, _ = ingest(tmp_path)
    values = episodes["x/2"].streams[MAIN].values
    assert isinstance(values, MediaFrames)
    assert values.index is not None
    with (
        open_slice(list_source(str(tmp_path)).opener, values.uri, values.span) as handle,
        FrameReader(handle, FrameIndex.from_columns(values.index, values.facts)) as frames,
    ):
        assert [number_of(frame) for frame in frames.read([0, 4])] == [40, 44]


def test_one_broken_member_costs_only_itself(tmp_path: Path) -> None:
    film = film_bytes(tmp_path, 4)
    parts = [
        ("a.mp4", film),
        ("b.mp4", film[: len(film) // 2]),
        ("c.mp4", b""),
        ("d.mp4", b"no video at all, but text" * 9),
        ("e.mp4", film_bytes(tmp_path, 5)),
        ("e.json", b"{broken"),
    ]
    pack(tmp_path / "a.tar", parts)
    _, episodes, rejected, _ = ingest(tmp_path)
    assert sorted(episodes) == ["a", "e"]
    assert sorted(rejected) == ["b", "c", "d"]
    assert [problem.check for problem in episodes["e"].info.problems] == ["unreadable_json"]


def test_an_archive_that_was_cut_off_lands_what_is_whole(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("a.mp4", film_bytes(tmp_path, 4)), ("b.mp4", film_bytes(tmp_path, 5))])
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        second = archive.getmember("b.mp4").offset_data
    path.write_bytes(data[: second + 512])
    _, episodes, rejected, _ = ingest(tmp_path)
    assert (sorted(episodes), rejected) == (["a"], {"": "truncated"})


def test_a_damaged_header_ends_the_archive_with_a_rejection(tmp_path: Path) -> None:
    film = film_bytes(tmp_path, 4)
    path = pack(tmp_path / "a.tar", [("a.mp4", film), ("b.mp4", film)])
    data = bytearray(path.read_bytes())
    second = 512 + -(-len(film) // 512) * 512
    data[second + 3] ^= 1
    path.write_bytes(data)
    _, episodes, rejected, _ = ingest(tmp_path)
    assert (sorted(episodes), rejected) == (["a"], {"": "damaged_tar"})


def test_names_are_labels_and_lead_nowhere(tmp_path: Path) -> None:
    film = film_bytes(tmp_path, 4)
    pack(tmp_path / "a.tar", [("../../etc/passwd.mp4", film), ("/abs/b.mp4", film), ("line\nbreak.mp4", film)])
    _, episodes, _, _ = ingest(tmp_path)
    assert sorted(episodes) == ["abs/b", "etc/passwd", "line_break"]
    assert {episode.streams[MAIN].values.uri for episode in episodes.values()} == {"a.tar"}  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read(tmp_path: Path, form: int) -> None:
    name = "folder/" * 30 + "clip"
    pack(tmp_path / "a.tar", [(f"{name}.mp4", film_bytes(tmp_path, 4)), (f"{name}.txt", b"wash a cup")], form)
    _, episodes, _, _ = ingest(tmp_path)
    assert list(episodes) == [name]
    assert episodes[name].info.tasks == ("wash a cup",)


def test_links_and_sparse_files_are_refused_and_the_rest_lands(tmp_path: Path) -> None:
    film = film_bytes(tmp_path, 4)
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.mp4")
        member.size = len(film)
        archive.addfile(member, io.BytesIO(film))
        link = tarfile.TarInfo("b.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        sparse = tarfile.TarInfo("c.mp4")
        sparse.size, sparse.pax_headers = len(film), {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        archive.addfile(sparse, io.BytesIO(film))
    _, episodes, rejected, _ = ingest(tmp_path)
    assert (sorted(episodes), rejected) == (["a"], {"b": "odd_member", "c": "odd_member"})


def test_members_that_are_not_kept_are_named(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", [("a.mp4", film_bytes(tmp_path, 4)), ("a.npy", b"12"), ("b.npy", b"12"), ("c.json", b"{}")])
    _, episodes, _, noticed = ingest(tmp_path)
    assert (sorted(episodes), sorted(noticed)) == (["a"], ["json_without_video", "members_not_kept"])


def test_what_the_json_says_is_held_against_the_video(tmp_path: Path) -> None:
    said = {"factory_id": 51, "worker_id": "w7", "width": 1920, "height": 64, "fps": 60, "caption": ["fold paper"]}
    pack(tmp_path / "a.tar", [("a.mp4", film_bytes(tmp_path, 30)), ("a.json", json.dumps(said).encode())])
    _, episodes, _, _ = ingest(tmp_path)
    info = episodes["a"].info
    (problem,) = info.problems
    assert problem.check == "declared_facts_differ"
    assert "width 1920 where the video has 96, fps 60 where the video has 30" in problem.message
    assert (info.metadata["factory_id"], info.metadata["worker_id"], info.tasks) == ("51", "w7", ("fold paper",))


def test_an_archive_of_pictures_is_no_recording(tmp_path: Path) -> None:
    shutil.copy(shared_data("egocentric", "webdataset", "sample.tgz"), tmp_path / "sample.tgz")
    with gzip.open(tmp_path / "sample.tgz") as packed:
        (tmp_path / "plain.tar").write_bytes(packed.read())
    found = reader.find(list_source(str(tmp_path)))
    assert (list(found.items), found.claimed) == ([], frozenset())
    assert [(problem.check, problem.severity, problem.where) for problem in found.problems] == [
        ("archive_without_video", "info", "plain.tar"),
        ("archive_without_video", "info", "sample.tgz"),
    ]
    assert "cls, png" in found.problems[0].message


def test_a_packed_archive_of_videos_is_refused_with_advice(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", [("a.mp4", film_bytes(tmp_path, 4))])
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(BadRecording, match="gunzip") as caught:
        ingest(tmp_path)
    assert caught.value.check == "packed_archive"


@pytest.mark.parametrize("content", [b"", b"text that is no archive" * 100, bytes(2048)])
def test_what_is_called_tar_and_is_none_is_claimed_by_name_and_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    (item,) = reader.find(list_source(str(tmp_path))).items
    assert item.by_name
    with pytest.raises(BadRecording):
        ingest(tmp_path)


def test_intrinsics_of_other_pictures_or_of_many_workers_are_not_guessed(tmp_path: Path) -> None:
    pack(tmp_path / "factory002_worker007_part00.tar", [("factory002_worker007_00000.mp4", film_bytes(tmp_path, 4))])
    lens = intrinsics(96, 64)
    (tmp_path / "intrinsics.json").write_text(json.dumps({"worker_006": lens | {"fx": 1.0}, "worker_007": lens}))
    _, (episode,), _, _ = _listed(ingest(tmp_path))
    camera = episode.info.columns[MAIN].camera
    assert camera is not None
    assert camera.intrinsics_px == (48.0, 48.96, 48.0, 32.0)
    (tmp_path / "intrinsics.json").write_text(json.dumps({"left": lens, "right": lens}))
    _, (episode,), _, _ = _listed(ingest(tmp_path))
    assert [problem.check for problem in episode.info.problems] == ["ambiguous_intrinsics"]
    (tmp_path / "intrinsics.json").write_text(json.dumps(intrinsics(1920, 1080)))
    _, (episode,), _, _ = _listed(ingest(tmp_path))
    assert ([problem.check for problem in episode.info.problems], episode.info.columns[MAIN].camera) == (["intrinsics_of_other_size"], Camera("egocentric"))
    assert episode.info.metadata["intrinsics"]["k1"] == 0.11
    (tmp_path / "intrinsics.json").write_text("{")
    _, (episode,), _, noticed = _listed(ingest(tmp_path))
    assert noticed == ["unreadable_intrinsics"]


def _listed(found: tuple[Found, dict[str, Episode], Any, Any]) -> tuple[Found, list[Episode], Any, Any]:
    return found[0], list(found[1].values()), found[2], found[3]


def test_clips_are_cut_inside_the_archive(tmp_path: Path) -> None:
    pack(tmp_path / "a.tar", [("a.mp4", film_bytes(tmp_path, 20)), ("b.mp4", np.zeros(3, np.uint8).tobytes())])
    _, episodes, rejected, _ = ingest(tmp_path, config={"episodes": {"by": "length", "seconds": 0.5}})
    assert {key: len(episode.streams[MAIN]) for key, episode in episodes.items()} == {"a/0": 15, "a/1": 5}
    assert list(rejected) == ["b"]


class Remote:
    """The files of a folder as if they were remote: no local paths."""

    def __init__(self, files: Opener) -> None:
        self._files = files

    def open(self, path: str) -> BinaryIO:
        return self._files.open(path)

    def local(self, path: str) -> str | None:
        return None

    def read_bytes(self, path: str, limit: int = 64 << 20) -> bytes:
        return self._files.read_bytes(path, limit)


def test_remote_archives_read_and_cut_the_same(tmp_path: Path) -> None:
    dark = np.full((20, 64, 96, 3), 30, np.uint8)
    film = write_film(tmp_path / "film.mp4", np.concatenate([numbered(25), dark])).read_bytes()
    (tmp_path / "film.mp4").unlink()
    pack(tmp_path / "a.tar", [("a.mp4", film)])
    listing = list_source(str(tmp_path))
    (item,) = reader.find(listing).items
    options = ReadOptions(config={"episodes": {"by": "scene"}})
    for files in (listing.opener, Remote(listing.opener)):
        values = [event.streams[MAIN].values for event in episodes_of(reader.read(item, files, options)) if isinstance(event, Episode)]
        assert [(value.first, value.count) for value in values if isinstance(value, MediaFrames)] == [(0, 25), (25, 20)]


def _mutants(folder: Path, recordings: list[ArmRecording], count: int) -> None:
    path = write_egocentric_tar(folder, recordings[:2], EgocentricTarOptions("pax", folder="long/" * 25))
    data = path.read_bytes()
    step = [start for start in range(0, len(data), 512) if data[start + 257 : start + 262] == b"ustar"]
    hot = [(start, start + 512) for start in step]
    outcomes = run_over(
        partial(run_reader, "dataengine.sources.webdataset.reader"),
        mutants(data, count, seed=9, hot=hot),
        file_name="a.tar",
        beside={"intrinsics.json": (path.parent / "intrinsics.json").read_bytes()},
        memory_bytes=256 << 20,
        preload=("av", "dataengine.sources.webdataset.reader"),
    )
    assert {outcome.status for outcome in outcomes} <= {"ok", "rejected"}, tally(outcomes)
    assert {outcome.status for outcome in outcomes} == {"ok", "rejected"}


def test_mutants_are_rejected_or_land(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    _mutants(tmp_path, recordings, 64)


@pytest.mark.slow
def test_many_mutants_are_rejected_or_land(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    _mutants(tmp_path, recordings, 1500)
