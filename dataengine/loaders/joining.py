"""Batches made of parts: each part from one group of lanes, so that large batches mix the lanes of several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataengine.core.errors import UsageError
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
    """Return parts as one batch of `size` samples, filled up with samples of weight 0 where they are fewer.

    Raises:
        UsageError: a transform left something that is not a row a sample, or rows of unequal shape, so that the parts cannot be joined.
    """
    first = parts[0]
    specs: list[ArraySpec] = []
    at = 0
    for name, value in first.items():
        if isinstance(value, np.ndarray) and value.ndim and len(value) == part_size:
            shapes = {part[name].shape for part in parts}
            if len(shapes) > 1:
                raise _apart(name, f"rows of unequal shape, {' and '.join(map(str, sorted(shapes)))}", len(parts), size)
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
        elif isinstance(value, str | int | float | bool | None) and all(part[name] == value for part in parts):
            batch[name] = value
        else:
            raise _apart(name, f"{type(value).__name__}{f' of shape {value.shape}' if isinstance(value, np.ndarray) else ''}", len(parts), size)
    return batch


def _apart(name: str, found: str, parts: int, size: int) -> UsageError:
    return UsageError(
        f"transforms: a batch of {size} is transformed in {parts} parts, so that {name!r} must be an array or list with a row a sample, all of one shape, "
        f"got {found}; give it a fixed length, or transform the batch that comes out"
    )
