"""Taking turns: which of several queues of unequal length the t-th draw comes from, without walking there."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array


class RoundRobin:
    """Draws from queues in turn, one from each that is not empty, over and over until all are.

    Args:
        lengths: (Q,) int64, what each queue holds.
    """

    def __init__(self, lengths: Array) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        by_length = np.argsort(self._lengths, kind="stable")
        ordered = self._lengths[by_length]
        # A level begins where queues run out: all rounds of it visit the same queues, those that are longer.
        self._floor = np.unique(np.concatenate([[0], ordered[:-1]])) if len(ordered) else np.zeros(1, np.int64)
        self._floor = self._floor[self._floor < (ordered[-1] if len(ordered) else 0)]
        open_queues = [np.flatnonzero(self._lengths > floor) for floor in self._floor.tolist()]
        tops = np.append(self._floor[1:], ordered[-1] if len(ordered) else 0)
        draws = np.array([len(queues) * int(top - floor) for queues, floor, top in zip(open_queues, self._floor, tops, strict=True)], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(draws)]).astype(np.int64)
        self._queues = open_queues

    @property
    def total(self) -> int:
        """Return how many draws there are."""
        return int(self._starts[-1])

    def at(self, draws: Array) -> tuple[Array, Array]:
        """Return queue and place within the queue, (N,) int64 each, of draws (N,) in [0, total)."""
        draws = np.asarray(draws, dtype=np.int64)
        queue, place = np.empty_like(draws), np.empty_like(draws)
        level_of = np.searchsorted(self._starts, draws, side="right") - 1
        for level in np.unique(level_of).tolist():
            here = level_of == level
            rounds, turn = np.divmod(draws[here] - self._starts[level], len(self._queues[level]))
            queue[here] = self._queues[level][turn]
            place[here] = self._floor[level] + rounds
        return queue, place

    def counts(self, draws: int) -> Array:
        """Return how much of each queue, (Q,) int64, the first `draws` draws take."""
        level = min(int(np.searchsorted(self._starts, draws, side="right")) - 1, len(self._queues) - 1)
        if level < 0:
            return np.zeros(len(self._lengths), np.int64)
        queues = self._queues[level]
        rounds, turn = divmod(min(draws, self.total) - int(self._starts[level]), len(queues))
        taken = np.minimum(self._lengths, self._floor[level])
        taken[queues] += rounds
        taken[queues[:turn]] += 1
        return taken
