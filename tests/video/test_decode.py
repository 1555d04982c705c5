import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.video.decode import FrameReader
from dataengine.video.decoders import padded_packet
from dataengine.video.index import FrameIndex, frame_index, frame_indexes
from tests.support.films import cut_start, number_of, numbered, write_film
from tests.support.shared import shared_data


def read(path: Any, index: FrameIndex, wanted: Any) -> Any:
    with FrameReader(path, index) as reader:
        return reader.read(wanted)


KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"gop": 7, "b_frames": 2},
    "sparse.mp4": {"gop": 300},
    "open.mkv": {"codec": "libx265", "gop": 8, "b_frames": 2, "options": {"x265-params": "log-level=none:pools=none:open-gop=1:keyint=8"}},
    "open.mp4": {"gop": 8, "b_frames": 2, "options": {"x264-params": "open-gop=1", "preset": "veryfast", "crf": "14"}},
    "b.mkv": {"b_frames": 3, "gop": 12},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "2M", "deadline": "good"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "2M", "deadline": "realtime", "cpu-used": "8"}},
    "packed.avi": {"codec": "mpeg4", "b_frames": 2, "gop": 9, "options": {"q": "2", "b": "4M"}},
    "cells.ts": {"b_frames": 2, "gop": 12},
    "fragments.mp4": {"gop": 10, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "jpeg.mp4": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"q": "3"}},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {name: write_film(folder / name, numbered(60), **kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_one_asked_for(films, name: str) -> None:
    index = frame_index(films[name])
    rng = np.random.default_rng(3)
    with FrameReader(films[name], index) as reader:
        assert len(reader) == 60
        for wanted in ([0], [59], [31, 2, 31, 58, 0], *rng.integers(0, 60, (12, 9)).tolist(), list(range(60)), list(range(59, -1, -1))):
            frames = reader.read(wanted)
            assert (frames.shape, frames.dtype) == ((len(wanted), 64, 96, 3), np.uint8)
            assert [number_of(frame) for frame in frames] == wanted
        assert reader.read([]).shape == (0, 64, 96, 3)


def test_brightness_is_the_luma_of_the_frames_asked_for(films) -> None:
    index = frame_index(str(films["a.mp4"]))
    with FrameReader(str(films["a.mp4"]), index) as reader:
        found = {row: luma.copy() for row, luma in reader.luma([41, 3, 17, 3])}
        colour = reader.read([3, 17, 41]).astype(np.float64)
    assert list(found) == [3, 17, 41]
    for picture, luma in zip(colour, found.values(), strict=True):
        # ITU-R BT.601, limited range: Y = 16 + 219/255 (0.299 R + 0.587 G + 0.114 B)
        expected = 16 + 219 / 255 * (picture @ [0.299, 0.587, 0.114])
        assert np.abs(expected - luma).mean() < 1.5
    assert not np.array_equal(found[3], found[17])


@pytest.mark.parametrize("name", KINDS)
def test_blocks_are_the_frames_in_order(films, name: str) -> None:
    index = frame_index(films[name])
    with FrameReader(films[name], index) as reader:
        blocks = list(reader.blocks(5, 48, rows=10))
        assert [len(block) for block in blocks] == [10, 10, 10, 10, 3]
        assert [number_of(frame) for block in blocks for frame in block] == list(range(5, 48))
        assert next(iter(reader.blocks(7, rows=4))).shape == (4, 64, 96, 3)
        assert number_of(reader.read([3])[0]) == 3
        assert list(reader.blocks(9, 9)) == []


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "cells.ts"])
def test_a_file_object_does_as_well(films, name: str) -> None:
    data = io.BytesIO(films[name].read_bytes())
    index = frame_index(data, where=name)
    with FrameReader(data, index) as reader:
        assert [number_of(frame) for frame in reader.read([40, 3, 41])] == [40, 3, 41]
    assert not data.closed


def test_a_cut_film_starts_at_its_first_frame_that_is_shown(tmp_path) -> None:
    path = cut_start(write_film(tmp_path / "a.mp4", numbered(30), b_frames=2, gop=30), 5 * 512)
    with FrameReader(path, frame_index(path)) as reader:
        assert [number_of(frame) for frame in reader.read([0, 24, 7])] == [5, 29, 12]
        assert [number_of(frame) for block in reader.blocks() for frame in block] == list(range(5, 30))


def test_tracks_are_not_mixed_up(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4", [numbered(20, first=100), numbered(20, 48, 64, first=700)], sound=True)
    _, indexes = frame_indexes(path)
    assert [number_of(read(path, indexes[track], [13])[0]) for track in (0, 1)] == [113, 713]


def test_numbers_beyond_the_film_are_refused(films) -> None:
    reader = FrameReader(films["a.mp4"], frame_index(films["a.mp4"]))
    for wanted in ([60], [-1]):
        with pytest.raises(IndexError, match="frames 0 to 59"):
            reader.read(wanted)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read([0])


def test_variable_rate_does_not_matter(tmp_path) -> None:
    path = write_film(tmp_path / "a.mkv", numbered(9), ticks=[0, 7, 8, 9, 500, 5000, 5001, 90_000, 90_017], time_base=Fraction(1, 1000))
    assert [number_of(frame) for frame in read(path, frame_index(path), [8, 5, 7])] == [8, 5, 7]


def test_a_damaged_frame_is_named_and_the_others_stay_readable(tmp_path) -> None:
    path = write_film(tmp_path / "a.mp4", numbered(60), gop=10)
    index = frame_index(path)
    data = bytearray(path.read_bytes())
    at, size = int(index.offset[20]), int(index.size[20])
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    with FrameReader(path, index) as reader:
        with pytest.raises(BadRecording, match=r"a\.mp4: track 0: frame 2\d: expected a picture") as caught:
            reader.read([20, 21])
        assert caught.value.check == "unreadable_frames"
        assert [number_of(frame) for frame in reader.read([55, 3, 30])] == [55, 3, 30]


@pytest.mark.parametrize("pix_fmt", ["gray16le", "gray"])
def test_grey_samples_come_out_exact(tmp_path, pix_fmt: str) -> None:
    top, dtype = (60_000, np.uint16) if pix_fmt == "gray16le" else (256, np.uint8)
    depth = np.random.default_rng(0).integers(0, top, (6, 48, 70)).astype(dtype)
    path = write_film(tmp_path / "depth.mkv", depth, codec="ffv1", pix_fmt=pix_fmt, gop=1)
    with FrameReader(path, frame_index(path)) as reader:
        assert np.array_equal(reader.read_grey([4, 0, 4]), depth[[4, 0, 4]])
    colour = write_film(tmp_path / "a.mp4", numbered(3))
    with FrameReader(colour, frame_index(colour)) as reader, pytest.raises(BadRecording, match="one of the pixel formats gray"):
        reader.read_grey([0])


def test_a_packet_is_followed_by_zeros() -> None:
    import ctypes

    payload = bytes(range(1, 101))
    packet = padded_packet(memoryview(payload + b"\xff" * 64)[:100], 5)
    assert (bytes(packet), packet.pts) == (payload, 5)
    assert ctypes.string_at(packet.buffer_ptr + 100, 64) == bytes(64)


@pytest.mark.parametrize(
    "name",
    [
        "conformance/torchcodec_video/nasa_13013.mp4",
        "conformance/torchcodec_video/av1_video.mkv",
        "conformance/torchcodec_video/h265_video.mp4",
        "teleop_mcap_ros/owa_desktop/0.5.1.mkv",
        "umi/umi_lerobot_v1_ep0/videos/observation.image_episode_000000.mp4",
        "robot_video/lapa/rt1_real_standing_coke_can_1.mp4",
        "robot_video/moto/calvin/videos/task_ABC_D_validation_eps_267_331.mp4",
        "droid_json_mp4/ctrl_world/droid_subset/videos/train/6/0.mp4",
    ],
)
def test_shared_frames_equal_those_of_a_plain_decoder(name: str, shared_facts) -> None:
    import av

    path = shared_data(name)
    _, indexes = frame_indexes(path)
    for track, index in indexes.items():
        with av.open(str(path)) as container:
            reference = {frame.pts: frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams[track])}
        wanted = np.random.default_rng(1).integers(0, len(index), 25)
        frames = read(path, index, wanted)
        # FFmpeg's reformatter rounds down: up to 3 levels from the exact conversion, see `colour`.
        worst = max(int(np.abs(frame.astype(int) - reference[int(index.pts[row])]).max()) for row, frame in zip(wanted, frames, strict=True))
        assert worst <= 3
        assert sorted(reference) == index.pts.tolist()
        (facts,) = [stream for stream in shared_facts[name]["streams"] if stream["type"] == "video" and stream["index"] == track]
        grey = read(path, index, [0])[0].astype(float) @ [0.299, 0.587, 0.114]
        assert grey.mean() == pytest.approx(facts["gray_mean_first"], abs=2.5)
