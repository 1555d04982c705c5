"""The arrays of a batch: their names, shapes and dtypes, laid out one after the other in one block of memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.loaders.windows import Window

ALIGN_BYTES = 64
PAD = "_is_pad"
MASK = "_mask"
OFFSET = "_offset_ns"  # of native samples, from the step
CONFIDENCE = "_confidence"  # of labels
ABOUT = ("weight", "dataset", "episode", "step", "sample")  # of every batch, (B,)


@dataclass(frozen=True)
class ArraySpec:
    """One array in a block of memory."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def bytes(self) -> int:
        """Return how many bytes it takes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def batch_layout(windows: Sequence[Window], size: int) -> tuple[ArraySpec, ...]:
    """Return the arrays of a batch of `size` samples."""
    wanted: list[tuple[str, tuple[int, ...], str]] = []
    for window in windows:
        if window.kind in ("task", "texts"):
            continue
        axis = () if window.field.count is None else (window.field.count,)
        wanted.append((window.name, (size, *axis, *window.shape), window.dtype))
        wanted.append((window.name + PAD, (size, *axis), "bool"))
        if window.kind == "native":
            wanted.append((window.name + OFFSET, (size, *axis), "int64"))
        if window.kind == "labels":
            wanted.append((window.name + CONFIDENCE, (size, *axis), "float32"))
        if window.masked:
            wanted.append((window.name + MASK, (size, *window.shape), "bool"))
    wanted.append(("weight", (size,), "float32"))
    wanted += [(name, (size,), "int64") for name in ABOUT[1:]]
    specs, at = [], 0
    for name, shape, dtype in wanted:
        specs.append(ArraySpec(name, shape, dtype, at))
        at = -(-(at + specs[-1].bytes) // ALIGN_BYTES) * ALIGN_BYTES
    return tuple(specs)


def block_bytes(specs: Sequence[ArraySpec]) -> int:
    """Return the bytes of a block that holds the arrays."""
    return max((spec.offset + spec.bytes for spec in specs), default=0)


def carve(block: Any, specs: Sequence[ArraySpec]) -> dict[str, Array]:
    """Return the arrays as views of a block, (>= block_bytes,) uint8 or any writable buffer; the block lives as long as any of them."""
    flat = np.asarray(block) if isinstance(block, np.ndarray) else np.frombuffer(block, np.uint8)
    return {spec.name: flat[spec.offset : spec.offset + spec.bytes].view(spec.dtype).reshape(spec.shape) for spec in specs}
