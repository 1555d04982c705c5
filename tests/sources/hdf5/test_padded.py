"""Cutting padded rows to the picture's own bytes."""

from __future__ import annotations

import numpy as np
import pytest

from dataengine.sources.hdf5.padded import Cutter, jpeg_end, png_end
from tests.support.hdf5_files import jpeg

# Start, an application segment that holds an end marker (as a thumbnail does), a scan with a stuffed byte, a restart and fill bytes, the end.
SMALL = b"\xff\xd8" + b"\xff\xe1\x00\x06\xff\xd9\x01\x02" + b"\xff\xda\x00\x03\x01" + b"ab\xff\x00cd\xff\xd3ef\xff\xff" + b"\xff\xd9"


def test_the_end_of_a_jpeg_is_its_own_and_not_a_thumbnails() -> None:
    assert len(SMALL) == 29
    assert jpeg_end(SMALL) == 29
    assert jpeg_end(SMALL + bytes(9)) == 29
    assert jpeg_end(SMALL + b"\xff\xd9") == 29
    assert jpeg_end(SMALL[:-1]) is None
    assert jpeg_end(SMALL[:4]) is None
    assert jpeg_end(b"\xff\xd8" + b"\xff\xe0\xff\xff" + bytes(100)) is None
    assert jpeg_end(b"GIF89a") is None


@pytest.mark.parametrize("progressive", [0, 1])
def test_the_end_of_real_pictures(progressive: int) -> None:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for extension, end in ((".jpg", jpeg_end), (".png", png_end)):
        done, encoded = cv2.imencode(extension, pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive] if extension == ".jpg" else [])
        assert done
        data = encoded.tobytes()
        assert end(data) == end(data + bytes(100)) == len(data)
        assert end(data[:-1]) is None


def test_rows_are_cut_to_their_bytes_and_the_table_finds_its_camera() -> None:
    first, second = jpeg(1), jpeg(2)
    assert len(first) != len(second)
    lengths = np.array([[7, 9], [len(first), len(second)]], dtype=np.float32)
    cutter = Cutter(lengths)
    assert cutter.cut(first + bytes(50)) == first
    assert cutter.cut(second + bytes(3)) == second
    assert cutter.candidates == {1}
    assert (cutter.empty, cutter.damaged, cutter.trailing) == ([], [], [])


def test_left_overs_of_a_longer_frame_are_cut_only_where_the_table_says_so() -> None:
    row = SMALL + b"left over\xff\xd9" + bytes(4)
    with_table = Cutter(np.array([[29]]))
    assert with_table.cut(row) == SMALL
    assert with_table.candidates == {0}
    without = Cutter()
    assert without.cut(row) == SMALL + b"left over\xff\xd9"
    assert without.trailing == [0]


def test_missing_and_damaged_rows_keep_what_is_there() -> None:
    cutter = Cutter(np.array([[0, 10, 29]]))
    assert cutter.cut(bytes(40)) == b""
    assert cutter.cut(SMALL[:8] + bytes(32)) == SMALL[:8] + bytes(2)
    assert cutter.cut(SMALL + bytes(11)) == SMALL
    assert (cutter.empty, cutter.damaged, cutter.trailing) == ([0], [1], [])
    assert cutter.candidates == {0}
    alone = Cutter()
    assert alone.cut(SMALL[:8] + bytes(32)) == SMALL[:8]
    assert alone.damaged == [0]


def test_a_table_of_absurd_lengths_is_believed_nowhere() -> None:
    cutter = Cutter(np.array([[np.nan], [-3.0], [1e300], [5.0]]))
    assert cutter.cut(SMALL + bytes(5)) == SMALL
    assert cutter.candidates == set()
