"""How well one row of numbers orders things as another does: Spearman, Kendall, and the area under the curve of a yes or no."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array


def ranks(values: Array) -> Array:
    """Return the ranks (n,) from 1 of numbers, the mean of theirs for those that are equal."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], np.float64)


def spearman(a: Array, b: Array) -> float:
    """Return the correlation of the ranks of two rows of numbers, NaN where one of them never changes."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else float("nan")


def kendall(a: Array, b: Array) -> float:
    """Return Kendall's tau-b, which counts equal numbers as neither in order nor out of it; NaN where one of them never changes.

    Knight 1966, "A Computer Method for Calculating Kendall's Tau with Ungrouped Data": sorted by `a`, pairs out of order are those that sorting by `b` swaps.
    """
    order = np.lexsort((b, a))
    x, y = (np.unique(values, return_inverse=True)[1][order] for values in (a, b))
    pairs = len(x) * (len(x) - 1) / 2
    same_x, same_y, same_both = _pairs(x), _pairs(y), _pairs(x * (int(y.max(initial=0)) + 1) + y)
    swaps = _swaps(y)
    size = float(np.sqrt((pairs - same_x) * (pairs - same_y)))
    return float(pairs - same_x - same_y + same_both - 2 * swaps) / size if size > 0 else float("nan")


def _pairs(values: Array) -> float:
    """Return how many pairs are equal."""
    count = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((count * (count - 1) / 2).sum())


def _swaps(values: Array) -> int:
    """Return how many pairs of whole numbers from 0 stand in falling order: merge sort, all blocks of one size at once."""
    size = 1 << max(0, (len(values) - 1).bit_length())
    top = int(values.max(initial=0)) + 1
    left = np.concatenate([values, np.full(size - len(values), top)]).astype(np.int64)  # what fills up is greatest, and last
    swaps, width = 0, 1
    while width < size:
        blocks = left.reshape(-1, 2, width)
        offset = np.arange(len(blocks))[:, None] * (top + 1)  # so that one search finds places within each block alone
        before = (blocks[:, 0] + offset).reshape(-1)
        places = np.searchsorted(before, (blocks[:, 1] + offset).reshape(-1), side="right").reshape(-1, width) - np.arange(len(blocks))[:, None] * width
        swaps += int((width - places).sum())
        left = np.sort(left.reshape(-1, 2 * width), axis=1)
        width *= 2
    return swaps


def auc(score: Array, yes: Array) -> float:
    """Return the chance that a yes has the higher score than a no, ties counted half (Mann and Whitney); NaN without both."""
    count, others = int(yes.sum()), int((~yes).sum())
    if not count or not others:
        return float("nan")
    return (float(ranks(score)[yes].sum()) - count * (count + 1) / 2) / (count * others)
