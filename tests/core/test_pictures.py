from __future__ import annotations

import cv2
import numpy as np
import pytest

from dataengine.core.pictures import PictureHeader, PictureHeaders, picture_header
from dataengine.samples.pictures import marked_jpeg


def encoded(height, width, extension=".jpg", channels=3):
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, channels), dtype=np.uint8)
    return cv2.imencode(extension, pixels)[1].tobytes()


def test_what_headers_say():
    assert picture_header(encoded(24, 40)) == PictureHeader("jpeg", 24, 40, 3, True)
    assert picture_header(encoded(24, 40, channels=1)[:-2]) == PictureHeader("jpeg", 24, 40, 1, False)
    assert picture_header(encoded(16, 48, ".png")) == PictureHeader("png", 16, 48, 3, True)
    assert picture_header(b"RIFF....WEBP") is picture_header(b"\xff\xd8") is picture_header(b"") is None


def test_a_run_of_pictures_says_what_each_says_alone():
    small, large, png = encoded(24, 40), encoded(32, 40), encoded(16, 48, ".png")
    comment = marked_jpeg(small, b"first")
    run = [
        comment,
        marked_jpeg(small, b"other"),  # a comment of the same length is all that differs
        marked_jpeg(large, b"other"),  # and here the size does, too
        marked_jpeg(large, b"longer than that"),
        marked_jpeg(large, b"longer than this")[:-2],
        b"",
        png,
        small,
        small + b"\0\0\0",
        small[:300],
        comment[: len(comment) // 2] + b"\xff\xd9",
    ]
    alone = [picture_header(data) if data else None for data in run]
    assert [header and header[1:3] for header in alone[:5]] == [(24, 40), (24, 40), (32, 40), (32, 40), (32, 40)]
    assert PictureHeaders().of(run) == PictureHeaders().of(list(map(memoryview, run))) == alone
    one_by_one, in_parts = PictureHeaders(), PictureHeaders()
    assert [one_by_one(data) if data else None for data in run] == alone
    assert [*in_parts.of(run[:3]), *in_parts.of(run[3:])] == alone


def test_any_byte_of_the_header_may_differ():
    jpeg = encoded(24, 40)
    for place in range(2, 640):
        other = bytearray(jpeg)
        other[place] ^= 0x11
        assert PictureHeaders().of([jpeg, other, jpeg]) == [picture_header(jpeg), picture_header(other), picture_header(jpeg)], place


def test_headers_of_jpeg_xl():
    """Each size takes another way through the header: multiples of 8, 9 and 13 bits, a ratio, a metadata part that is not the default."""
    imagecodecs = pytest.importorskip("imagecodecs")
    rng = np.random.default_rng(3)
    for height, width in ((24, 40), (25, 41), (600, 3), (32, 32), (30, 40), (27, 48), (513, 2)):
        for channels in (1, 3, 4):
            pixels = rng.integers(0, 255, (height, width, channels), dtype=np.uint8)
            for options in ({"level": 99}, {"lossless": True}, {"lossless": True, "usecontainer": True}):
                data = imagecodecs.jpegxl_encode(pixels[..., 0] if channels == 1 else pixels, **options)
                assert picture_header(data) == PictureHeader("jxl", height, width, channels, True), (height, width, channels, options)
    sixteen = imagecodecs.jpegxl_encode(rng.integers(0, 60000, (24, 40, 3), dtype=np.uint16), lossless=True)
    assert picture_header(sixteen) == PictureHeader("jxl", 24, 40, 3, True)
    contained = imagecodecs.jpegxl_encode(pixels, usecontainer=True)
    assert picture_header(contained[:-1]) == PictureHeader("jxl", 513, 2, 4, False)
    assert picture_header(b"\xff\x0a") is picture_header(b"\xff\x0a\x05") is picture_header(contained[:40]) is None
    assert PictureHeaders().of([sixteen, b"", sixteen]) == [picture_header(sixteen), None, picture_header(sixteen)]
