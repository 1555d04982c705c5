"""How a worker's process handles its memory while it reads a unit."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# glibc's <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 256 << 20

COLLECTED_EVERY = 10_000  # new containers; Python's own 700 come within a third of an episode


def keep_freed_memory() -> None:
    """Tell glibc to keep up to 256 MiB of freed memory: records of a MiB each otherwise cost the kernel a page fault for every page, every time."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(option, KEPT_BYTES)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Search for cyclic garbage less often, and not among what was there before: the search took a tenth of ingestion, and found next to nothing."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECTED_EVERY, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
