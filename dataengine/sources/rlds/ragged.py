"""Sequences inside `steps`, whose number of entries may vary from step to step.

Source: tensorflow_datasets `core/example_serializer.py`: `<key>/ragged_flat_values` holds all entries, `<key>/ragged_row_lengths_{i}` how
many each row of level i has; level 0 has one row a step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Values
from dataengine.sources.rlds.columns import is_raw
from dataengine.sources.rlds.example import Example
from dataengine.sources.rlds.items import kept, rows_of_bytes, text_lists
from dataengine.sources.rlds.tfds_features import Leaf, product

MAX_STATIC_IMAGES = 64
_LENGTH = np.dtype(np.int64)


class Part(NamedTuple):
    """One stream that a feature became: what is added to its name, its rows, and whether they are one a step."""

    values: Values
    suffix: str = ""
    timed: bool = True


def _row_lengths(leaf: Leaf, example: Example, steps: int, limit: int) -> list[Array]:
    """Return the lengths of each level of inner sequences; level 0 has one a step."""
    lengths: list[Array] = []
    rows = steps
    for level in range(len(leaf.lengths) - 1):
        key = f"{leaf.key}/ragged_row_lengths_{level}"
        found = example.numbers(key, _LENGTH, rows, limit)
        if rows and (int(found.min()) < 0 or int(found.max()) > 1 << 32):
            raise example.wrong(key, "lengths of rows", str(int(found.min()) if found.min() < 0 else int(found.max())))
        declared = leaf.lengths[level + 1]
        if declared is not None and rows and bool((found != declared).any()):
            raise example.wrong(key, f"rows of length {declared}, as features.json says", "others")
        lengths.append(found)
        rows = int(found.sum())
    return lengths


def ragged_parts(leaf: Leaf, example: Example, steps: int, limit: int) -> list[Part]:
    """Return the streams of a feature that stands in two or more sequences, the outermost one `steps`.

    Raises:
        BadRecording: the lengths of the rows do not add up, or are not those that are declared.
    """
    lengths = _row_lengths(leaf, example, steps, limit)
    rows = int(lengths[-1].sum())
    key = f"{leaf.key}/ragged_flat_values"
    if leaf.form in ("text", "unknown"):
        each = 1 if leaf.shape == () else product(leaf.shape)
        main = [Part(text_lists(example.items(key, rows * each), _per_step(lengths) * each))]
    elif leaf.form in ("image", "packed"):
        return _several_a_step(leaf, example, key, lengths, steps)
    else:
        each = product(leaf.shape)
        values = example.numbers(key, leaf.numpy_dtype, None if None in leaf.shape else rows * each, limit)
        if not is_raw(leaf):
            return [Part(values.reshape(steps, *(size or 0 for size in (*leaf.lengths[1:], *leaf.shape))))]
        if None in leaf.shape:
            each = len(values) // rows if rows else 0
            if each * rows != len(values):
                raise example.wrong(key, f"the same number of values for each of {rows} rows", str(len(values)))
        main = [Part(rows_of_bytes(values, _per_step(lengths) * each, leaf))]
    return [*main, *_inner_lengths(lengths)]


def _per_step(lengths: list[Array]) -> Array:
    """Return how many innermost rows each step has."""
    totals = lengths[-1]
    for outer in reversed(lengths[:-1]):
        stops = np.concatenate([[0], np.cumsum(totals)])
        ends = np.cumsum(outer)
        totals = stops[ends] - stops[ends - outer]
    return totals


def _inner_lengths(lengths: list[Array]) -> list[Part]:
    return [Part(rows_of_bytes(lengths[level], _per_step(lengths[:level]), None), f".row_lengths_{level}") for level in range(1, len(lengths))]


def _several_a_step(leaf: Leaf, example: Example, key: str, lengths: list[Array], steps: int) -> list[Part]:
    items = example.items(key, int(lengths[-1].sum()))
    declared = leaf.lengths[1] if len(lengths) == 1 else None
    if declared is not None and declared <= MAX_STATIC_IMAGES:
        return [Part(kept(leaf, items[place::declared]), f".{place}") for place in range(declared)]
    return [Part(kept(leaf, items), timed=False), Part(_per_step(lengths), ".row_lengths"), *_inner_lengths(lengths)]
