"""Replay buffers: written with zarr-python and imagecodecs, read by the project's own chunk reader, compared value by value."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr

from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.protocols import Item, ReadOptions
from dataengine.core.stream import Frames, Items
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.samples.steps import control_steps
from dataengine.samples.umi import UmiOptions, write_buffer, write_umi
from dataengine.sources.listing import list_source
from dataengine.sources.replay_buffer import reader
from tests.support.shared import shared_data

SMALL = ArmConfig(40, 48, cameras=("wrist",), max_steps=7)


@pytest.fixture(scope="module")
def recordings() -> list[ArmRecording]:
    return [record(0, 1, SMALL), record(0, 2, ArmConfig(40, 48, cameras=("wrist",), max_steps=12))]


def found_items(folder: Path) -> list[Item]:
    return list(reader.find(list_source(str(folder))).items)


def read_all(folder: Path, **options: Any) -> tuple[list[Episode], list[Rejected], list[str]]:
    """Return the episodes, rejections and the names of what was noticed of the one buffer below a folder."""
    listing = list_source(str(folder))
    (item,) = reader.find(listing).items
    episodes, rejected, noticed = [], [], []
    for event in episodes_of(reader.read(item, listing.opener, ReadOptions(**options))):
        if isinstance(event, Episode):
            episodes.append(event)
        elif isinstance(event, Rejected):
            rejected.append(event)
        else:
            assert isinstance(event, Noticed)
            noticed.append(event.problem.check)
    return episodes, rejected, noticed


def numbers(rows: int, width: int = 2, dtype: str = "<f4") -> np.ndarray[Any, Any]:
    return np.arange(rows * width).reshape(rows, width).astype(dtype)


def small_buffer(folder: Path, data: dict[str, Any] | None = None, ends: tuple[int, ...] = (3, 10), **options: Any) -> Path:
    path = folder / "tower.zarr"
    write_buffer(path, data or {"action": numbers(10), "state": numbers(10, 3, "<f8")}, np.array(ends, np.int64), UmiOptions(zipped=False, **options))
    return path


def test_a_umi_zip_gives_its_episodes_with_every_frame_as_its_own_bytes(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_umi(tmp_path / "cups", recordings)
    episodes, rejected, noticed = read_all(tmp_path)
    assert (len(episodes), rejected, noticed) == (2, [], [])
    assert found_items(tmp_path)[0].dataset == "cups"
    with zipfile.ZipFile(path) as archive:
        chunks = [archive.read(f"data/camera0_rgb/{row}.0.0.0") for row in range(19)]
    for episode, recording, first in zip(episodes, recordings, (0, 7), strict=True):
        steps = control_steps(recording)
        frames = episode.streams["observation.images.camera0"]
        assert isinstance(frames.values, Items)
        assert [bytes(data) for data in frames.values.data] == chunks[first : first + len(steps)]
        assert frames.values.encodings == "jxl"
        np.testing.assert_array_equal(episode.streams["observation.robot0_eef_pos"].values, steps.ee_pose[:, :3].astype(np.float32))
        assert episode.info.clock == "unknown"
        assert episode.info.rate_hz is None
        assert episode.info.metadata["rows"] == [first, first + len(steps)]
    columns = episodes[0].info.columns
    assert "action" not in columns
    position, rotation, width = (columns[f"observation.robot0_{name}"] for name in ("eef_pos", "eef_rot_axis_angle", "gripper_width"))
    assert (position.unit, position.dims, position.meaning, position.extra["side"]) == ("m", ("x", "y", "z"), "state", "right")
    assert rotation.action_space is not None
    assert (rotation.unit, rotation.action_space.kind, rotation.action_space.rotation, rotation.action_space.absolute) == ("rad", "ee_pose", "rotvec", True)
    assert (width.unit, width.shape) == ("m", (1,))
    assert columns["observation.robot0_demo_start_pose"].dtype == "float64"
    camera = columns["observation.images.camera0"]
    assert camera.camera is not None
    assert (camera.camera.role, camera.shape, camera.encoding) == ("wrist", (40, 48, 3), "jxl")


@pytest.mark.parametrize(("zipped", "zarr_format"), [(True, 2), (False, 2), (True, 3), (False, 3)])
def test_frames_that_were_packed_losslessly_stay_exact(tmp_path: Path, recordings: list[ArmRecording], zipped: bool, zarr_format: Any) -> None:
    write_umi(tmp_path, recordings, UmiOptions(zipped=zipped, frames="blosc", zarr_format=zarr_format, name="cups"))
    episodes, rejected, noticed = read_all(tmp_path)
    assert (len(episodes), rejected, noticed) == (2, [], [])
    for episode, recording in zip(episodes, recordings, strict=True):
        track = recording.cameras["wrist"]
        listing = list_source(str(tmp_path))
        (item,) = reader.find(listing).items
        parts = [rows.values for rows in reader.read(item, listing.opener, ReadOptions()) if getattr(rows, "stream", "") == "observation.images.camera0"]
        assert all(isinstance(part, Frames) and part.exact for part in parts)
        frames = episode.streams["observation.images.camera0"].values
        assert isinstance(frames, Frames)
        np.testing.assert_array_equal(frames.pixels, track.images[control_steps(recording).frame["wrist"]])
    listing = list_source(str(tmp_path))
    video = [r.values for r in reader.read(item, listing.opener, ReadOptions(config={"frames": "video"})) if getattr(r, "stream", "").endswith("camera0")]
    assert video
    assert not any(part.exact for part in video if isinstance(part, Frames))
    with pytest.raises(ConfigError, match="frames"):
        list(reader.read(item, listing.opener, ReadOptions(config={"frames": "png"})))


@pytest.mark.parametrize(
    ("packed", "filters"),
    [
        (None, None),
        (numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE), None),
        (numcodecs.Zstd(3), None),
        (numcodecs.Zlib(3), None),
        (numcodecs.GZip(3), None),
        (numcodecs.BZ2(3), None),
        (numcodecs.LZMA(preset=1), None),
        (numcodecs.LZ4(), None),
        (numcodecs.Zlib(1), [numcodecs.Shuffle(4)]),
        (numcodecs.Zlib(1), [numcodecs.Delta("<i4")]),
        (None, [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_each_codec_gives_the_numbers_back(tmp_path: Path, packed: Any, filters: Any, order: Any) -> None:
    """Chunks of (4, 2) on (10, 3): cut at both edges, so that a mix-up of rows and columns shows."""
    values = np.random.default_rng(1).integers(-(2**31), 2**31, (10, 3)).astype("<i4")
    path = small_buffer(tmp_path, {"state": numbers(10)})
    array = zarr.open_group(path, mode="r+").create_array(
        "data/action", shape=(10, 3), chunks=(4, 2), dtype="<i4", compressors=packed, filters=filters, order=order, fill_value=0
    )
    array[...] = values
    episodes, rejected, noticed = read_all(tmp_path)
    assert (rejected, noticed) == ([], [])
    got = np.concatenate([np.asarray(episode.streams["action"].values) for episode in episodes])
    np.testing.assert_array_equal(got, values)
    assert got.dtype == np.int32


@pytest.mark.parametrize("dtype", ["|b1", "|u1", ">i2", "<u2", "<i8", "<f2", ">f8", "<f4"])
def test_types_are_kept(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(20).reshape(10, 2) % 2).astype(dtype) if dtype == "|b1" else numbers(10, 2, dtype)
    small_buffer(tmp_path, {"state": numbers(10)})
    array = zarr.open_group(tmp_path / "tower.zarr", mode="r+").create_array("data/x", shape=(10, 2), chunks=(3, 2), dtype=dtype, fill_value=0)
    array[...] = values
    episodes, _, _ = read_all(tmp_path)
    got = np.asarray(episodes[1].streams["observation.x"].values)
    np.testing.assert_array_equal(got, values[3:])
    assert got.dtype == np.dtype(dtype).newbyteorder("=")


def test_push_t_equals_what_zarr_reads() -> None:
    folder = shared_data("umi", "pusht_replay_buffer_lowdim.zarr")
    episodes, rejected, noticed = read_all(folder)
    group = zarr.open_group(folder, mode="r")
    ends = np.asarray(group["meta/episode_ends"])
    assert (len(episodes), rejected, noticed) == (206, [], [])
    assert (ends[0], ends[-1], int(np.diff(ends, prepend=0).sum())) == (161, 25650, 25650)
    assert found_items(folder)[0].dataset == "pusht_replay_buffer_lowdim"
    names = {"action": "action", "observation.state": "state", "observation.keypoint": "keypoint", "observation.n_contacts": "n_contacts"}
    for stream, name in names.items():
        whole = np.asarray(group[f"data/{name}"])
        assert [len(episode.streams[stream]) for episode in episodes] == np.diff(ends, prepend=0).tolist()
        np.testing.assert_array_equal(np.concatenate([np.asarray(episode.streams[stream].values) for episode in episodes]), whole)
        assert episodes[0].info.columns[stream].dtype == "float32"
    assert episodes[205].info.key == "205"
    assert episodes[0].info.columns["action"].meaning == "action"


def test_times_in_seconds_are_the_measured_clock(tmp_path: Path) -> None:
    stamps = 1_700_000_000 + np.cumsum([0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    small_buffer(tmp_path, {"action": numbers(10), "timestamp": stamps})
    episodes, _, _ = read_all(tmp_path, rate_hz=20)
    assert [(episode.info.clock, episode.info.epoch, episode.info.rate_hz) for episode in episodes] == [("measured", True, None)] * 2
    times_ns = episodes[0].streams["action"].timestamps_ns
    assert times_ns is not None
    np.testing.assert_allclose(times_ns, [0, 100_000_000, 300_000_000], atol=300)  # a double of seconds since 1970 resolves 240 ns
    stamps[5] = stamps[4]
    small_buffer(tmp_path / "b", {"action": numbers(10), "timestamp": stamps})
    again = read_all(tmp_path / "b", rate_hz=20)[0]
    assert [(episode.info.clock, episode.info.rate_hz) for episode in again] == [("measured", None), ("nominal", 20)]


def test_a_damaged_chunk_costs_its_episode_only(tmp_path: Path) -> None:
    path = small_buffer(tmp_path, {"action": numbers(322), "state": numbers(322, 3)}, ends=(161, 322))
    chunk = path / "data" / "state" / "1.0"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    episodes, rejected, _ = read_all(tmp_path)
    assert [episode.info.key for episode in episodes] == ["0"]
    assert [(event.key, event.problem.check) for event in rejected] == [("1", "chunk_size")]


def test_chunks_that_are_not_stored_read_as_the_fill_value_and_are_named(tmp_path: Path) -> None:
    path = small_buffer(tmp_path, {"action": numbers(322), "state": numbers(322, 3)}, ends=(161, 322))
    (path / "data" / "state" / "1.0").unlink()
    episodes, rejected, noticed = read_all(tmp_path)
    assert (len(episodes), rejected, noticed) == (2, [], ["chunks_not_stored"])
    assert not np.asarray(episodes[1].streams["observation.state"].values).any()
    (path / "data" / "action" / "1.0").unlink()
    (path / "data" / "action" / ".zarray").write_text((path / "data" / "action" / ".zarray").read_text().replace('"fill_value": 0.0', '"fill_value": null'))
    episodes, rejected, _ = read_all(tmp_path)
    assert [(event.key, event.problem.check) for event in rejected] == [("1", "missing_chunk")]


def test_an_absent_picture_is_an_empty_row(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_umi(tmp_path, recordings, UmiOptions(zipped=False))
    (path / "data" / "camera0_rgb" / "2.0.0.0").unlink()
    episodes, _, _ = read_all(tmp_path)
    frames = episodes[0].streams["observation.images.camera0"].values
    assert isinstance(frames, Items)
    assert [row for row, data in enumerate(frames.data) if not len(data)] == [2]


def test_a_picture_of_another_size_than_the_array_is_named(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_umi(tmp_path, recordings, UmiOptions(zipped=False))
    (path / "data" / "camera0_rgb" / "8.0.0.0").write_bytes(imagecodecs.jpegxl_encode(np.zeros((16, 24, 3), np.uint8)))
    episodes, rejected, noticed = read_all(tmp_path)
    assert (len(episodes), rejected, noticed) == (2, [], ["picture_size_differs"])


def test_several_jpeg_xl_frames_in_one_chunk_are_decoded_exactly(tmp_path: Path) -> None:
    from imagecodecs.numcodecs import Jpegxl

    pixels = np.random.default_rng(2).integers(0, 255, (10, 16, 24, 3), dtype=np.uint8)
    small_buffer(tmp_path)
    numcodecs.register_codec(Jpegxl)
    array = zarr.open_group(tmp_path / "tower.zarr", mode="r+").create_array(
        "data/camera0_rgb", shape=pixels.shape, chunks=(4, 16, 24, 3), dtype="u1", compressors=Jpegxl(lossless=True), fill_value=0
    )
    array[...] = pixels
    episodes, rejected, _ = read_all(tmp_path)
    assert not rejected
    got = np.concatenate([episode.streams["observation.images.camera0"].values.pixels for episode in episodes])  # type: ignore[union-attr]
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize(
    ("ends", "landed", "rejected", "noticed"),
    [
        ((3, 3, 10), ["0", "2"], [("1", "episode_ends")], []),
        ((3, 2, 10), ["0"], [("1", "episode_ends"), ("2", "episode_ends")], []),  # where the third begins nobody knows
        ((3, 8), ["0", "1"], [], ["rows_without_episode"]),
        ((-1, 10), [], [("0", "episode_ends"), ("1", "episode_ends")], []),
        ((3, 99, 10), ["0"], [("1", "episode_ends"), ("2", "episode_ends")], []),
        ((2**62, 2**63 - 1), [], [("0", "episode_ends"), ("1", "episode_ends")], ["rows_without_episode"]),
    ],
)
def test_ends_that_lie_cost_what_they_lie_about(tmp_path: Path, ends: tuple[int, ...], landed: list[str], rejected: list[Any], noticed: list[str]) -> None:
    small_buffer(tmp_path, ends=ends)
    episodes, refused, checks = read_all(tmp_path)
    assert [episode.info.key for episode in episodes] == landed
    assert [(event.key, event.problem.check) for event in refused] == rejected
    assert checks == noticed


def test_an_array_that_is_too_short_is_named_and_the_others_land(tmp_path: Path) -> None:
    small_buffer(tmp_path, {"action": numbers(10), "state": numbers(9)})
    episodes, _, noticed = read_all(tmp_path)
    assert noticed == ["array_too_short"]
    assert set(episodes[0].streams) == {"action"}


def test_what_meta_holds_for_each_episode_becomes_its_metadata(tmp_path: Path) -> None:
    path = small_buffer(tmp_path)
    group = zarr.open_group(path, mode="r+")
    group.create_array("meta/operator", data=np.array([7, 9], np.int32))
    group.attrs["robot"] = "ur5"
    episodes, _, noticed = read_all(tmp_path)
    assert [episode.info.metadata["meta"] for episode in episodes] == [{"operator": 7}, {"operator": 9}]
    assert episodes[0].info.metadata["attributes"] == {"root": {"robot": "ur5"}}
    assert noticed == []


def rewrite(path: Path, **changes: Any) -> None:
    file = path / "data" / "action" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"dtype": "|O", "filters": [{"id": "pickle"}]}, "array_not_read"),
        ({"dtype": [["a", "<f4"]]}, "array_not_read"),
        ({"compressor": {"id": "vlen-utf8"}}, "array_not_read"),
        ({"filters": [{"id": "msgpack2"}]}, "array_not_read"),
        ({"chunks": [2**40, 2]}, "array_not_read"),
        ({"shape": [10, 2**40], "chunks": [1, 2**40]}, "array_not_read"),
        ({"shape": [10]}, "array_not_read"),
        ({"shape": "all"}, "array_not_read"),
        ({"chunks": [0, 2]}, "array_not_read"),
        ({"zarr_format": 7}, "array_not_read"),
        ({"order": "Z"}, "array_not_read"),
        ({"dimension_separator": "../"}, "array_not_read"),
    ],
)
def test_an_array_that_cannot_be_read_is_named_and_the_others_land(tmp_path: Path, changes: dict[str, Any], check: str) -> None:
    rewrite(small_buffer(tmp_path), **changes)
    episodes, rejected, noticed = read_all(tmp_path)
    assert noticed == [check]
    assert (len(episodes), rejected) == (2, [])
    assert set(episodes[0].streams) == {"observation.state"}


def test_ends_far_behind_the_stored_rows_are_refused_before_reading(tmp_path: Path) -> None:
    path = small_buffer(tmp_path, ends=(3, 2**40))
    for name in ("action", "state"):
        file = path / "data" / name / ".zarray"
        found = json.loads(file.read_text())
        file.write_text(json.dumps(found | {"shape": [2**41, found["shape"][1]]}))
    with pytest.raises(BadRecording) as caught:
        read_all(tmp_path)
    assert caught.value.check == "missing_chunk"


def bomb(kind: str, size: int) -> bytes:
    """Return a chunk that claims or holds far more than `size` bytes."""
    if kind == "zlib":
        return zlib.compress(bytes(1 << 26), 9)
    packed = {"blosc": numcodecs.Blosc("zstd"), "zstd": numcodecs.Zstd(), "lz4": numcodecs.LZ4()}[kind].encode(bytes(1 << 26))
    return bytes(packed)


@pytest.mark.parametrize("kind", ["zlib", "blosc", "zstd", "lz4"])
def test_a_chunk_that_unpacks_to_more_than_its_array_says_is_refused(tmp_path: Path, kind: str) -> None:
    path = small_buffer(tmp_path)
    rewrite(path, compressor={"id": kind})
    (path / "data" / "action" / "0.0").write_bytes(bomb(kind, 80))
    episodes, rejected, _ = read_all(tmp_path)
    assert episodes == []
    assert {event.problem.check for event in rejected} == {"chunk_size"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_zip_is_rejected_with_its_reason(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zarr.zip").write_bytes(content)
    with pytest.raises(BadRecording) as caught:
        read_all(tmp_path)
    assert caught.value.check in ("not_zip", "truncated", "unknown_layout")


def test_zip_files_are_known_by_content_and_only_those_of_zarr(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    write_umi(tmp_path, recordings[:1], UmiOptions(name="x")).rename(tmp_path / "moved.bin")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    (item,) = found_items(tmp_path)
    assert (item.path, item.by_name) == ("moved.bin", False)
    assert len(read_all(tmp_path)[0]) == 1


def test_a_deflated_zip_inside_a_folder_and_a_later_member_of_one_name(tmp_path: Path) -> None:
    folder = small_buffer(tmp_path / "plain", {"action": numbers(10)}, ends=(10,))
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, f"tower.zarr/{file.relative_to(folder).as_posix()}")
        group = zarr.open_group(folder, mode="r+")
        group["data/action"][...] = numbers(10) + 100  # type: ignore[index]
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(folder / "data/action/0.0", "tower.zarr/data/action/0.0")
    for file in sorted(folder.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    folder.rmdir()
    episodes, _, _ = read_all(tmp_path)
    np.testing.assert_array_equal(episodes[0].streams["action"].values, numbers(10) + 100)


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path, recordings: list[ArmRecording]) -> None:
    path = write_umi(tmp_path, recordings, UmiOptions(name="cups"))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("data/camera0_rgb/3.0.0.0")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", path.read_bytes()[info.header_offset + 26 : info.header_offset + 30]))
    data = bytearray(path.read_bytes())
    data[start + 40] ^= 1
    path.write_bytes(data)
    episodes, rejected, _ = read_all(tmp_path)
    assert [episode.info.key for episode in episodes] == ["1"]
    assert [(event.key, event.problem.check) for event in rejected] == [("0", "checksum")]


def test_a_buffer_called_like_any_other_is_named_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "espresso"
    write_buffer(folder / "replay_buffer.zarr", {"action": numbers(10)}, np.array([10]), UmiOptions(zipped=False))
    assert found_items(tmp_path)[0].dataset == "espresso"
    assert found_items(folder)[0].dataset == "espresso"
    assert found_items(folder / "replay_buffer.zarr")[0].dataset == "espresso"


def test_several_buffers_in_one_folder_are_items_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "a_b", "b"):
        write_buffer(tmp_path / f"{name}.zarr", {"action": numbers(10)}, np.array([10]), UmiOptions(zipped=False))
    (tmp_path / "a.zarr.txt").write_text("beside")
    items = found_items(tmp_path)
    assert [(item.path, item.dataset) for item in items] == [("a.zarr", "a"), ("a_b.zarr", "a_b"), ("b.zarr", "b")]
    assert all(file.path.startswith(f"{item.path}/") for item in items for file in item.files)
    assert reader.find(list_source(str(tmp_path))).claimed == {file.path for item in items for file in item.files}
