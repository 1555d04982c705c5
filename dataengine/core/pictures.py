"""What the header of an encoded picture says, and whether its end is there, without decoding it."""

from __future__ import annotations

from typing import NamedTuple

from dataengine.core.stream import Buffer


class PictureHeader(NamedTuple):
    """Format name, height and width in px, channels, and whether the end marker is in its place."""

    encoding: str
    height: int
    width: int
    channels: int
    complete: bool


_JPEG_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def _ends_jpeg(data: Buffer) -> bool:
    return bytes(data[-2:]) == b"\xff\xd9" or bytes(data[-64:]).rstrip(b"\0").endswith(b"\xff\xd9")


def _jpeg(data: Buffer) -> tuple[PictureHeader, int] | None:
    """Return the header of a JPEG and where its frame header ends."""
    at, size = 2, len(data)
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
            return PictureHeader("jpeg", height, width, data[at + 9], _ends_jpeg(data)), at + 10
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if length < 2:
            return None
        at += 2 + length
    return None


def _png(data: Buffer) -> PictureHeader | None:
    if len(data) < 33 or bytes(data[12:16]) != b"IHDR":
        return None
    width = int.from_bytes(data[16:20], "big")
    height = int.from_bytes(data[20:24], "big")
    return PictureHeader("png", height, width, _PNG_CHANNELS.get(data[25], 0), bytes(data[-8:-4]) == b"IEND")


def picture_header(data: Buffer) -> PictureHeader | None:
    """Return what the header of a JPEG or PNG says, None where the bytes are neither or the header is cut off.

    Source: ITU-T T.81 annex B (markers), PNG specification (chunk layout).
    """
    start = bytes(data[:8])
    if start[:2] == b"\xff\xd8":
        found = _jpeg(data)
        return found[0] if found is not None else None
    if start == b"\x89PNG\r\n\x1a\n":
        return _png(data)
    return None


class PictureHeaders:
    """`picture_header` for a run of pictures: a JPEG whose bytes up to its size equal those of the one before is not parsed again."""

    def __init__(self) -> None:
        self._prefix = b""
        self._header: PictureHeader | None = None

    def __call__(self, data: Buffer) -> PictureHeader | None:
        """Return what the header of the next picture says."""
        if self._header is not None and data[: len(self._prefix)] == self._prefix:
            complete = _ends_jpeg(data)
            return self._header if complete == self._header.complete else self._header._replace(complete=complete)
        found = _jpeg(data) if bytes(data[:2]) == b"\xff\xd8" else None
        if found is None:
            return picture_header(data)
        self._header, end = found
        self._prefix = bytes(data[:end])
        return self._header
