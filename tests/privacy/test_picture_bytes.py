"""Pictures without what stands beside them: the bytes of the picture itself stay, whatever was planted around it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from dataengine.core.errors import BadRecording
from dataengine.privacy.picture_bytes import bare, decode, encode, searchable
from dataengine.samples.private import SECRETS, exif_jpeg
from tests.support.films import numbered

PIXELS = numbered(1)[0]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_jpeg_loses_exif_comments_and_what_follows_its_end() -> None:
    plain = encode(PIXELS, "jpeg", 90, "x")
    assert bare(plain, "x") == plain
    assert bare(exif_jpeg(plain, SECRETS) + b"hidden behind the end", "x") == plain


def test_a_thumbnail_in_the_jfif_segment_goes() -> None:
    plain = encode(PIXELS, "jpeg", 90, "x")
    at = plain.index(b"JFIF\0") - 4
    thumbnail = b"\2\2" + bytes(range(12))
    segment = plain[at : at + 16] + thumbnail
    segment = segment[:2] + (len(segment) - 2).to_bytes(2, "big") + segment[4:]
    with_thumbnail = plain[:at] + segment + plain[at + 18 :]
    assert bare(with_thumbnail, "x") == plain


def test_a_png_keeps_its_picture_and_nothing_that_is_said_of_it() -> None:
    plain = encode(PIXELS, "png", 95, "x")
    told = png_chunk(b"tEXt", b"Author\0Quirina") + png_chunk(b"eXIf", b"II*\0") + png_chunk(b"tIME", bytes(7))
    end = plain.index(b"IDAT") - 4
    found = bare(plain[:end] + told + plain[end:] + b"more", "x")
    assert found == plain
    assert np.array_equal(decode(found, "x")[0], PIXELS)


@pytest.mark.parametrize("cut", [3, 30, 200, -40])
def test_what_cannot_be_taken_apart_is_refused(cut: int) -> None:
    for encoding in ("jpeg", "png"):
        data = encode(PIXELS, encoding, 90, "x")[:cut]
        with pytest.raises(BadRecording) as caught:
            bare(data, "x")
        assert caught.value.check == "undecodable_picture"
        with pytest.raises(BadRecording):
            decode(data, "x")


def test_flipped_bytes_never_do_more_than_refuse() -> None:
    """300 trials a format: another picture or a refusal, nothing else."""
    rng = np.random.default_rng(5)
    for encoding in ("jpeg", "png"):
        whole = exif_jpeg(encode(PIXELS, "jpeg", 90, "x"), SECRETS) if encoding == "jpeg" else encode(PIXELS, "png", 95, "x")
        refusals = set()
        for _ in range(300):
            data = bytearray(whole)
            data[int(rng.integers(0, min(len(data), 700)))] = int(rng.integers(0, 256))
            for function in (bare, decode):
                try:
                    function(bytes(data), "x")
                except BadRecording as error:
                    refusals.add(error.check)
        assert refusals == {"undecodable_picture"}


def test_pictures_of_any_kind_can_be_searched() -> None:
    deep = (PIXELS[:, :, 0].astype(np.uint16) << 4) + 7
    assert searchable(deep).shape == (*deep.shape, 3)
    assert searchable(deep).max() == 255
    assert searchable(np.dstack([PIXELS, PIXELS[:, :, :1]])).shape == PIXELS.shape
    assert (searchable(np.full((4, 4), np.nan, np.float32)) == 0).all()
