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
        # A level lies between two lengths at which queues run out: all rounds of it visit the same queues, those that are longer.
        edges = np.unique(np.append(self._lengths, 0))
        self._floors = edges[:-1]
        self._queues = [np.flatnonzero(self._lengths > floor) for floor in self._floors.tolist()]
        draws = np.diff(edges) * [len(queues) for queues in self._queues]
        self._starts = np.concatenate([[0], np.cumsum(draws)]).astype(np.int64)

    @property
    def total(self) -> int:
        """Return how many draws there are."""
        return int(self._starts[-1])

    def at(self, draws: Array) -> tuple[Array, Array]:
        """Return queue and place within the queue, (N,) int64 each, of ascending draws (N,) in [0, total)."""
        draws = np.asarray(draws, dtype=np.int64)
        if len(draws):
            level = int(np.searchsorted(self._starts, draws[0], side="right")) - 1
            if draws[-1] < self._starts[level + 1]:  # as nearly always: one level
                rounds, turn = np.divmod(draws - self._starts[level], len(self._queues[level]))
                return self._queues[level][turn], self._floors[level] + rounds
        queue, place = np.empty_like(draws), np.empty_like(draws)
        level_of = np.searchsorted(self._starts, draws, side="right") - 1
        for level in np.unique(level_of).tolist():
            here = level_of == level
            rounds, turn = np.divmod(draws[here] - self._starts[level], len(self._queues[level]))
            queue[here] = self._queues[level][turn]
            place[here] = self._floors[level] + rounds
        return queue, place

    def counts(self, draws: int) -> Array:
        """Return how much of each queue, (Q,) int64, the first `draws` draws take."""
        if draws >= self.total:
            return self._lengths.copy()
        level = int(np.searchsorted(self._starts, draws, side="right")) - 1
        queues = self._queues[level]
        rounds, turn = divmod(draws - int(self._starts[level]), len(queues))
        taken = np.minimum(self._lengths, self._floors[level])
        taken[queues] += rounds
        taken[queues[:turn]] += 1
        return np.asarray(taken)
