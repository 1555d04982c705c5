"""Samples in one order over all ranks, each batch the next ones: no lanes, every sample read for itself."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.randomness import hash64
from dataengine.loaders.schedule import Cursors, Draws, Layout


def permuted(places: Array, count: int, seed: int, epoch: int) -> Array:
    """Return where a permutation of `count` numbers takes `places` (N,), without making the others.

    A Feistel network over the smallest even number of bits that holds `count`, walked until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    found = np.asarray(places).astype(np.uint64)
    outside = np.ones(len(found), bool)
    while outside.any():
        left, right = found[outside] >> np.uint64(half), found[outside] & low
        for turn in range(6):
            left, right = right, left ^ (hash64(seed, 11, epoch, turn, right) & low)
        found[outside] = (left << np.uint64(half)) | right
        outside = found >= np.uint64(count)
    return found.astype(np.int64)


class FlatSchedule:
    """Samples in one order over all ranks, each batch the next ones, in the order of their numbers; `Plan` permutes them."""

    def __init__(self, samples: int, cursors: Cursors, layout: Layout) -> None:
        self.epoch, self._done = int(cursors.epoch[0, 0]), int(cursors.emitted[0, 0])
        self._samples, self._layout = samples, layout
        step = layout.world_size * layout.batch_size
        left = samples - self._done
        self.steps: int | None = left // step if layout.drop_last else -(-left // step)

    def maker(self, rank: int, number: int, workers: int) -> int:
        return number % workers

    def batch(self, rank: int, number: int) -> Draws:
        step = self._layout.world_size * self._layout.batch_size
        first = self._done + number * step
        there = min(self._samples - first, step)
        low, high = (first + there * edge // self._layout.world_size for edge in (rank, rank + 1))
        places = np.arange(low, high)
        return Draws(np.zeros_like(places), np.full_like(places, self.epoch), np.zeros_like(places), places, scattered=True)

    def cursors_after(self, batches: int) -> Cursors:
        assert self.steps is not None
        if batches >= self.steps:
            return Cursors.at_start(1, 1, self.epoch + 1)
        done = self._done + batches * self._layout.world_size * self._layout.batch_size
        return Cursors(np.array([[self.epoch]]), np.array([[done]]))
