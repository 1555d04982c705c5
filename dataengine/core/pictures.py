"""What the header of an encoded picture says, and whether its end is there, without decoding it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dataengine.core.jxl import CODESTREAM, CONTAINER, jxl_header
from dataengine.core.stream import Buffer

# Encodings of pictures whose headers are read here.
PICTURE_ENCODINGS = ("jpeg", "png", "jxl")


class PictureHeader(NamedTuple):
    """Format name, height and width in px, channels, and whether the end marker is in its place."""

    encoding: str
    height: int
    width: int
    channels: int
    complete: bool


_JPEG_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMENT = 0xFE
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def _ends_jpeg(data: Buffer) -> bool:
    return bytes(data[-2:]) == b"\xff\xd9" or bytes(data[-64:]).rstrip(b"\0").endswith(b"\xff\xd9")


class _Jpeg(NamedTuple):
    """A JPEG's header, where its frame header ends, and the bytes before that which say nothing of the picture: its first comment."""

    header: PictureHeader
    end: int
    comment: slice


def _jpeg(data: Buffer) -> _Jpeg | None:
    at, size = 2, len(data)
    comment = slice(0, 0)
    while at + 4 <= size:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_SIZED:
            if at + 10 > size:
                return None
            height = data[at + 5] << 8 | data[at + 6]
            width = data[at + 7] << 8 | data[at + 8]
            return _Jpeg(PictureHeader("jpeg", height, width, data[at + 9], _ends_jpeg(data)), at + 10, comment)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2:
            return None
        if marker == _COMMENT and comment.stop == 0:
            comment = slice(at + 4, at + 2 + length)
        at += 2 + length
    return None


def _png(data: Buffer) -> PictureHeader | None:
    if len(data) < 33 or bytes(data[12:16]) != b"IHDR":
        return None
    width = int.from_bytes(data[16:20], "big")
    height = int.from_bytes(data[20:24], "big")
    return PictureHeader("png", height, width, _PNG_CHANNELS.get(data[25], 0), bytes(data[-8:-4]) == b"IEND")


def picture_header(data: Buffer) -> PictureHeader | None:
    """Return what the header of a JPEG, PNG or JPEG XL picture says, None where the bytes are none of them or the header is cut off.

    A bare JPEG XL codestream has no mark at its end, so it always counts as complete. Source: ITU-T T.81 annex B (markers), PNG
    specification (chunk layout), `dataengine.core.jxl`.
    """
    start = bytes(data[:12])
    if start[:2] == b"\xff\xd8":
        found = _jpeg(data)
        return found.header if found is not None else None
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(data)
    if start[:2] == CODESTREAM or start == CONTAINER:
        jxl = jxl_header(data)
        return PictureHeader("jxl", *jxl) if jxl is not None else None
    return None


class PictureHeaders:
    """`picture_header` for a run of pictures: a JPEG whose bytes up to its size equal those of the one before, its comment aside, is not parsed again."""

    def __init__(self) -> None:
        self._header: PictureHeader | None = None
        self._end = self._resume = 0
        self._before = self._after = b""

    def __call__(self, data: Buffer) -> PictureHeader | None:
        """Return what the header of the next picture says."""
        if self._header is not None:
            head = bytes(data[: self._end])
            if len(head) == self._end and head.startswith(self._before) and head.startswith(self._after, self._resume):
                complete = _ends_jpeg(data)
                return self._header if complete == self._header.complete else self._header._replace(complete=complete)
        found = _jpeg(data) if bytes(data[:2]) == b"\xff\xd8" else None
        if found is None:
            return picture_header(data)
        head = bytes(data[: found.end])
        self._header, self._end, self._resume = found.header, found.end, found.comment.stop
        self._before, self._after = head[: found.comment.start], head[found.comment.stop :]
        return self._header

    def of(self, pictures: Iterable[Buffer]) -> list[PictureHeader | None]:
        """Return what the headers of the next pictures say, None for an empty one; whole pictures with the header of the one before take no call each."""
        found: list[PictureHeader | None] = []
        header, end, before, after, resume = self._header, self._end, self._before, self._after, self._resume
        for data in pictures:
            if header is not None and header.complete and bytes(data[-2:]) == b"\xff\xd9":
                head = bytes(data[:end])
                if len(head) == end and head.startswith(before) and head.startswith(after, resume):
                    found.append(header)
                    continue
            found.append(self(data) if len(data) else None)
            header, end, before, after, resume = self._header, self._end, self._before, self._after, self._resume
        return found
