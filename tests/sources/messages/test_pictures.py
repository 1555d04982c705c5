"""Pictures inside messages: their own bytes once, messages whole again, and pictures that are not what they claim."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.stream import Frames, Items
from dataengine.sources.messages.pictures import RawPicture, pixel_bytes, pixels_of, reassemble, take_out
from tests.support.mcap_files import COMPRESSED, IMAGE, STRING, Cdr, compressed, episode_of_file, image, library_payloads, payloads_of, write_mcap

T0 = 1_700_000_000_000_000_000
PICTURES = ("cdr", "sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED)
RAW = ("cdr", "sensor_msgs/msg/Image", "ros2msg", IMAGE)


def _jpeg(height: int, width: int, body: bytes = b"", channels: int = 3) -> bytes:
    """Return bytes with a JPEG's header and end, which is all that is looked at."""
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 8 + 3 * channels, 8, height, width, channels) + bytes(3 * channels) + body + b"\xff\xd9"


def _png(height: int, width: int, bits: int, colour: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def _camera(tmp_path: Path, topic: str, kind: tuple[str, str, str, str], payloads: list[bytes]) -> tuple[Column | None, list[bytes], list[str]]:
    """Read messages of one topic; check that they come back; return the camera's column, its items, and the problems' checks."""
    episode = episode_of_file(tmp_path, write_mcap({topic: kind}, [(topic, T0 + i, payload) for i, payload in enumerate(payloads)]))
    assert payloads_of(episode) == library_payloads(tmp_path / "a.mcap")
    cameras = [stream for name, stream in episode.streams.items() if name.startswith("observation.images.")]
    checks = [problem.check for problem in episode.info.problems]
    if not cameras:
        return None, [], checks
    (camera,) = cameras
    assert isinstance(camera.values, Items)
    return camera.column, [bytes(data) for data in camera.values.data], checks


def test_encoded_pictures_are_stored_once_and_the_messages_come_back(tmp_path: Path) -> None:
    pictures = [_jpeg(48, 64, b"one" * 1000), _jpeg(48, 64, b"two"), b"", _jpeg(48, 64, b"cut")[:-2]]
    payloads = [compressed(T0 + i, picture) for i, picture in enumerate(pictures)]
    column, found, checks = _camera(tmp_path, "/cam/front/image_raw/compressed", PICTURES, payloads)
    assert column is not None
    assert found == pictures
    assert (column.name, column.kind, column.shape, column.encoding) == ("observation.images.cam_front", "image", (48, 64, 3), "jpeg")
    assert checks == ["missing_picture", "damaged_picture"]
    messages = episode_of_file(tmp_path).streams["cam.front.image_raw.compressed"]
    assert isinstance(messages.values, Items)
    assert bytes(messages.values.data[0]) == payloads[0][: -len(pictures[0])]
    assert [messages.values.encoding(row) for row in range(4)] == ["cdr/spliced-0"] * 4
    assert messages.column.extra["picture"] == {"stream": "observation.images.cam_front", "kind": "spliced", "exact": "always"}


def test_sizes_that_differ_and_grey_among_colour_are_open_axes(tmp_path: Path) -> None:
    payloads = [compressed(T0, _jpeg(48, 64)), compressed(T0, _jpeg(48, 32)), compressed(T0, _jpeg(48, 32, channels=1))]
    column, _, _ = _camera(tmp_path, "/c/compressed", PICTURES, payloads)
    assert column is not None
    assert column.shape == (48, None, None)


def test_a_field_after_the_picture_and_the_padding_before_it_come_back(tmp_path: Path) -> None:
    schema = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    payloads = [
        Cdr().number("i", 5).number("I", index).text("cam").blob(_jpeg(8, 8, b"x" * index)).text("jpeg").bytes()
        for index in range(6)  # every padding
    ]
    column, found, _ = _camera(tmp_path, "/c", ("cdr", "foxglove_msgs/msg/CompressedImage", "ros2msg", schema), payloads)
    assert column is not None
    assert found == [_jpeg(8, 8, b"x" * index) for index in range(6)]


def test_sixteen_bit_png_and_compressed_depth_are_depth(tmp_path: Path) -> None:
    png = _png(4, 6, 16, 0)
    column, found, _ = _camera(tmp_path, "/d/image/compressedDepth", PICTURES, [compressed(T0, b"\1" * 12 + png, "16UC1; compressedDepth png")])
    assert column is not None
    assert (column.name, column.kind, column.dtype, column.shape, found) == ("observation.images.d", "depth", "uint16", (4, 6, 1), [png])


def test_pictures_of_an_unknown_format_stay_in_their_messages(tmp_path: Path) -> None:
    column, _, checks = _camera(tmp_path, "/c", PICTURES, [compressed(T0, b"\0\0\0\1h264")])
    assert column is None
    assert checks == ["picture_kept_in_message"]


def test_base64_in_json_is_taken_out_where_it_comes_back_the_same(tmp_path: Path) -> None:
    texts = [base64.b64encode(_jpeg(8, 8, bytes([i]))).decode() for i in range(3)]
    texts[1] += "\n"  # not what an encoder gives: stays
    payloads = [json.dumps({"data": text, "format": "jpeg", "timestamp": {"sec": 5, "nsec": i}}).encode() for i, text in enumerate(texts)]
    column, found, checks = _camera(tmp_path, "/c", ("json", "foxglove.CompressedImage", "jsonschema", "{}"), payloads)
    assert column is not None
    assert found == [_jpeg(8, 8, b"\0"), _jpeg(8, 8, b"\2")]
    assert checks == ["picture_kept_in_message"]


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ("encoding", "step", "big", "data", "expected"),
    [
        ("rgb8", 9, 0, PIXELS.tobytes(), PIXELS),
        ("bgr8", 9, 0, PIXELS.tobytes(), PIXELS[..., ::-1]),
        ("rgb8", 12, 0, PIXELS[0].tobytes() + bytes(3) + PIXELS[1].tobytes() + bytes(3), PIXELS),
        ("mono8", 3, 0, b"\1\2\3\4\5\6", np.array([[1, 2, 3], [4, 5, 6]], np.uint8)),
        ("16UC1", 6, 0, struct.pack("<6H", *range(300, 306)), np.array([[300, 301, 302], [303, 304, 305]], np.uint16)),
        ("16UC1", 6, 1, struct.pack(">6H", *range(300, 306)), np.array([[300, 301, 302], [303, 304, 305]], np.uint16)),
        ("32FC1", 12, 0, struct.pack("<6f", 0.5, 1, 2, 3, 4, float("inf")), np.array([[0.5, 1, 2], [3, 4, np.inf]], np.float32)),
        ("bgra8", 12, 0, bytes(range(24)), np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[..., [2, 1, 0, 3]]),
    ],
    ids=["rgb8", "bgr8", "padded", "mono8", "16UC1", "16UC1 big-endian", "32FC1", "bgra8"],
)
def test_raw_pictures_are_frames_and_come_back(tmp_path: Path, encoding: str, step: int, big: int, data: bytes, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    payloads = [image(T0 + i, 2, 3, encoding, step, data, big) for i in range(2)]
    episode = episode_of_file(tmp_path, write_mcap({"/c/image_raw": RAW}, [("/c/image_raw", T0 + i, payload) for i, payload in enumerate(payloads)]))
    stream = episode.streams["observation.images.c"]
    assert isinstance(stream.values, Frames)
    assert stream.values.pixels.dtype == expected.dtype
    assert np.array_equal(stream.values.pixels, np.stack([expected, expected]))
    assert stream.column.kind == ("depth" if encoding in ("16UC1", "32FC1") else "image")
    assert payloads_of(episode) == library_payloads(tmp_path / "a.mcap")
    assert stream.clocks["stamp"].tolist() == [T0, T0 + 1]
    assert episode.info.columns["c.image_raw"].extra["picture"]["exact"].startswith("where the frames")


@pytest.mark.parametrize(
    "payload",
    [
        image(T0, 2, 3, "rgb8", 9, PIXELS.tobytes()[:-1]),
        image(T0, 2**31, 2**31, "rgb8", 9, PIXELS.tobytes()),
        image(T0, 2, 3, "rgb8", 5, PIXELS.tobytes()),
        image(T0, 3, 2, "rgb8", 6, PIXELS.tobytes()),
        image(T0, 2, 3, "bayer_rggb8", 9, PIXELS.tobytes()),
        image(T0, 2, 3, "rgb8", 12, PIXELS[0].tobytes() + b"pad" + PIXELS[1].tobytes() + b"pad"),
        b"\0\1\0\0junk",
    ],
    ids=["too few bytes", "absurd size", "step too small", "another size", "unknown encoding", "padding that says something", "no message"],
)
def test_a_raw_picture_that_does_not_fit_stays_in_its_message(tmp_path: Path, payload: bytes) -> None:
    good = image(T0, 2, 3, "rgb8", 9, PIXELS.tobytes())
    sent = [("/c", T0, good), ("/c", T0 + 1, payload), ("/c", T0 + 2, good)]
    episode = episode_of_file(tmp_path, write_mcap({"/c": RAW}, sent))
    assert len(episode.streams["observation.images.c"].values) == 2
    assert episode.streams["observation.images.c"].clocks["log"].tolist() == [T0, T0 + 2]
    assert payloads_of(episode) == library_payloads(tmp_path / "a.mcap")
    assert "picture_kept_in_message" in [problem.check for problem in episode.info.problems]


def test_two_topics_of_one_camera_are_two_streams(tmp_path: Path) -> None:
    topics = {"/cam/image_raw": RAW, "/cam/image_raw/compressed": PICTURES, "/x": ("cdr", "std_msgs/msg/String", "ros2msg", STRING)}
    sent = [("/cam/image_raw", T0, image(T0, 2, 3, "rgb8", 9, PIXELS.tobytes())), ("/cam/image_raw/compressed", T0, compressed(T0, _jpeg(2, 3)))]
    episode = episode_of_file(tmp_path, write_mcap(topics, sent))
    assert {name for name in episode.streams if name.startswith("obs")} == {"observation.images.cam", "observation.images.cam_image_raw_compressed"}


def test_taking_out_and_putting_back_is_identity() -> None:
    payload = bytes(range(200))
    for start, end in ((0, 200), (73, 73), (200, 200), (3, 150)):
        taken = take_out(payload, start, end, "cdr", "spliced")
        assert taken is not None
        assert reassemble(taken[0], taken[1], payload[start:end]) == (payload, "cdr")
    assert take_out(bytes(400), 0, 100, "cdr", "spliced") is None
    assert reassemble(b"whole", "cdr", b"") == (b"whole", "cdr")


def test_pixels_and_bytes_are_inverse_for_every_format() -> None:
    rng = np.random.default_rng(0)
    for encoding, size in (("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1), ("mono16", 2), ("32FC1", 4)):
        for big in (False, True):
            header = RawPicture(4, 5, encoding, big, 5 * size + 3)
            data = b"".join(rng.bytes(5 * size) + bytes(3) for _ in range(4))
            pixels = pixels_of(header, data)
            assert pixels is not None
            assert pixel_bytes(header, pixels) == data
