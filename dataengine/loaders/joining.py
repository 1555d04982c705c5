"""Batches made of parts: each part from one group of lanes, so that large batches mix the lanes of several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.loaders.batch import ALIGN_BYTES, PAD, ArraySpec, block_bytes, carve
from dataengine.loaders.blocks import BlockPool

SMALLEST_PART = 8


def split_of(batch_size: int, lanes_a_group: int) -> int:
    """Return of how many equal parts a batch is made: as few as let each take at most one sample of each lane of its group, 1 where none are small enough."""
    for split in range(1, batch_size // SMALLEST_PART + 1):
        if batch_size % split == 0 and batch_size // split <= lanes_a_group:
            return split
    return 1


def joined(parts: Sequence[Mapping[str, Any]], part_size: int, size: int, pool: BlockPool) -> dict[str, Any]:
    """Return parts as one batch of `size` samples, filled up with samples of weight 0 where they are fewer; what is not one value a sample is the first part's."""
    first = parts[0]
    specs: list[ArraySpec] = []
    at = 0
    for name, value in first.items():
        if isinstance(value, np.ndarray) and value.ndim and len(value) == part_size:
            specs.append(ArraySpec(name, (size, *value.shape[1:]), value.dtype.str, at))
            at = -(-(at + specs[-1].bytes) // ALIGN_BYTES) * ALIGN_BYTES
    arrays = carve(pool.block(block_bytes(specs)), specs)
    count = part_size * len(parts)
    batch: dict[str, Any] = {}
    for name, value in first.items():
        if name in arrays:
            out = arrays[name]
            for number, part in enumerate(parts):
                out[number * part_size : (number + 1) * part_size] = part[name]
            out[count:] = -1 if name == "sample" else name.endswith(PAD)
            batch[name] = out
        elif isinstance(value, list) and len(value) == part_size:
            batch[name] = [word for part in parts for word in part[name]] + [""] * (size - count)
        else:
            batch[name] = value
    return batch
