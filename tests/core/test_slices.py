from __future__ import annotations

import io

import pytest

from dataengine.core.errors import BadRecording
from dataengine.core.slices import FileSlice, media_source, open_slice


class Files:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, path):
        return io.BytesIO(self.data)

    def local(self, path):
        return "/there"


def test_a_slice_reads_its_part_only():
    part = open_slice(Files(b"0123456789"), "a.tar", (3, 4))
    assert part.read() == b"3456"
    assert part.seek(-1, io.SEEK_END) == 3
    assert part.read(5) == b"6"
    assert part.seek(1) == 1
    assert (part.read(2), part.tell(), part.read(), part.read()) == (b"45", 3, b"6", b"")
    assert part.seek(100) == 100
    assert part.read() == b""


def test_a_slice_closes_its_file():
    file = io.BytesIO(b"abc")
    FileSlice(file, 0, 2).close()
    assert file.closed


@pytest.mark.parametrize("span", [(8, 3), (-1, 2), (11, 0), (0, -1)])
def test_a_part_that_is_not_there_is_named(span):
    with pytest.raises(BadRecording, match=r"a\.tar: expected -?\d+ bytes from byte -?\d+, found a file of 10 bytes") as caught:
        open_slice(Files(b"0123456789"), "a.tar", span)
    assert caught.value.check == "truncated"


def test_a_whole_local_file_is_opened_by_its_path():
    assert media_source(Files(b""), "a.mp4") == "/there"
    assert media_source(Files(b"0123"), "a.tar", (1, 2)).read() == b"12"  # type: ignore[union-attr]
    assert open_slice(Files(b"0123"), "a.mp4").read() == b"0123"
