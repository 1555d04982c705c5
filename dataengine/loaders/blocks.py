"""Blocks of memory for batches: reused when nobody looks at them any more, shared between a worker and the loader where there are workers."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections import deque

import numpy as np

from dataengine.core.arrays import Array


class BlockPool:
    """Blocks of this process's memory: one is handed out again when the last view of it is gone, so that its pages need not be made anew."""

    def __init__(self, keep: int = 3) -> None:
        self._free: deque[Array] = deque(maxlen=keep)

    def block(self, size: int) -> Array:
        """Return (size,) uint8 whose content is anything."""
        store: Array | None = None
        for _ in range(len(self._free)):  # of those who take from it; others may add meanwhile
            held = self._free.popleft()
            if len(held) >= size:
                store = held
                break
            self._free.append(held)
        if store is None:
            store = np.empty(size, np.uint8)
        # A memoryview between the two, so that views of what is handed out hold that, and not the block, as their base.
        handed = np.frombuffer(memoryview(store.data)[:size], np.uint8)
        weakref.finalize(handed, self._free.append, store).atexit = False
        return handed


def shared_file() -> int:
    """Return the descriptor of a nameless file in memory, which is gone when the last process that holds it is."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dataengine-batch")
    with tempfile.TemporaryFile() as handle:
        return os.dup(handle.fileno())


class SharedBlock:
    """A block that two processes map; either may enlarge it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map: mmap.mmap | None = None

    def view(self, size: int) -> Array:
        """Return (size,) uint8 of the block, which grows where it is smaller."""
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, size)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)  # views keep an older, smaller map alive
        return np.frombuffer(self._map, np.uint8, count=size)

    def close(self) -> None:
        """Let the file go; views stay what they are."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
