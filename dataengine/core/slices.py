"""A part of a file as a file of its own: a video inside a tar or an uncompressed zip is kept and read without unpacking the archive."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, cast

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener

BUFFER_BYTES = 1 << 18


class FileSlice(io.RawIOBase):
    """Bytes [start, start + size) of a seekable file, read-only; it owns the position of the file and closes it with itself."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        self._file.seek(self._start + self._at)
        data = self._file.read(length)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_slice(files: Opener, path: str, span: tuple[int, int] | None = None) -> BinaryIO:
    """Open a file below the root, or the part `span` = (first byte, bytes) of it, for reading: seekable, buffered.

    Raises:
        BadRecording: the file cannot be read, or ends before the part does.
    """
    handle = files.open(path)
    if span is None:
        return handle
    start, size = span
    end = handle.seek(0, io.SEEK_END)
    if start < 0 or size < 0 or start + size > end:
        handle.close()
        raise BadRecording(path, f"{size} bytes from byte {start}", f"a file of {end} bytes", "the file was cut off: copy it again", check="truncated")
    return cast(BinaryIO, io.BufferedReader(FileSlice(handle, start, size), BUFFER_BYTES))


def media_source(files: Opener, path: str, span: tuple[int, int] | None = None) -> str | BinaryIO:
    """Return what a demuxer opens fastest: the path of a whole file on this machine, otherwise an open file, which the caller closes."""
    local = files.local(path) if span is None else None
    return local if local is not None else open_slice(files, path, span)
