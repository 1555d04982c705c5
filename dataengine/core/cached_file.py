"""An object of an object store as a seekable file, read through the cache."""

from __future__ import annotations

import io
from typing import Any, Protocol

from dataengine.core.block_folder import PIECE_BYTES

# So many blocks are fetched ahead of a file that is read in sequence.
AHEAD_BLOCKS = 8


class Ranges(Protocol):
    """What a file needs of the objects it belongs to."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`."""

    def prefetch(self, key: str, ranges: list[tuple[int, int]]) -> bool:
        """Fetch ranges (start, length) in the background."""

    @property
    def holding(self) -> bool:
        """Return whether what is fetched is held."""


class CachedFile(io.RawIOBase):
    """A seekable raw file; read in sequence, the blocks that follow are fetched ahead, more of them the longer it goes on."""

    def __init__(self, objects: Ranges, key: str, size: int, block_bytes: int) -> None:
        self._objects, self._key, self._size, self._block_bytes = objects, key, size, block_bytes
        self._at, self._next, self._ahead, self._asked = 0, -1, 0, 0
        self._own, self._own_start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        start, stop = self._at, min(self._at + len(buffer), self._size)
        if stop <= start:
            return 0
        if len(buffer) <= PIECE_BYTES:
            # The reader's buffer is filled up to a border of what has a checksum, never into a block that nobody asked for.
            stop = min(stop, (start // PIECE_BYTES + 1) * PIECE_BYTES)
        in_sequence, self._next = start == self._next, stop
        data = self._read(start, stop, in_sequence)
        buffer[: len(data)] = data
        self._at = start + len(data)
        return len(data)

    def _read(self, start: int, stop: int, in_sequence: bool) -> bytes:
        if not self._objects.holding:
            return self._read_without_cache(start, stop, in_sequence)
        if in_sequence:
            self._ask_ahead((stop - 1) // self._block_bytes)
        else:
            self._ahead, self._asked = 0, 0
        return self._objects.get_range(self._key, start, stop - start)

    def _ask_ahead(self, block: int) -> None:
        """Ask for what follows a block as soon as half of what was asked for has been read."""
        if self._asked - block > max(1, self._ahead // 2):
            return
        self._ahead = min(AHEAD_BLOCKS, max(1, 2 * self._ahead))
        first, end = max(self._asked, block + 1), min(block + self._ahead, (self._size - 1) // self._block_bytes) + 1
        for following in range(first, end):
            self._objects.prefetch(self._key, [(following * self._block_bytes, 1)])
        self._asked = max(self._asked, end)

    def _read_without_cache(self, start: int, stop: int, in_sequence: bool) -> bytes:
        """Read what is asked for, in sequence a block at a time, which this file then holds itself."""
        if not self._own_start <= start < stop <= self._own_start + len(self._own):
            length = max(stop - start, min(self._block_bytes, self._size - start) if in_sequence else 0)
            self._own, self._own_start = self._objects.get_range(self._key, start, length), start
        return self._own[start - self._own_start : stop - self._own_start]
