"""What the full batches of an epoch leave in its lanes, dealt evenly to the ranks, each rank's own first and group after group.

The lanes of a group are open where its full batches were made. So a batch of leftovers is made of groups that lie side by side, and by whoever makes those of most of it:
were they mixed, each of its samples would be decoded once more, with the pictures before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from heapq import heapify, heapreplace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.loaders.round_robin import RoundRobin


@cache
def seats(groups: int) -> tuple[int, ...]:
    """Return a seat for each group: groups that follow each other in turn sit far apart, so that any number of workers can share the seats as runs of about equal length.

    The order of van der Corput: the groups' numbers with their bits reversed.
    """
    bits = max(1, (groups - 1).bit_length())
    mirrored = sorted(range(groups), key=lambda group: f"{group:0{bits}b}"[::-1])
    found = [0] * groups
    for seat, group in enumerate(mirrored):
        found[group] = seat
    return tuple(found)


def maker_of(group: int, groups: int, workers: int) -> int:
    """Return which of so many workers makes the batches of a group."""
    return seats(groups)[group] * workers // groups


class Leftovers:
    """The last batches of an epoch.

    Each rank has a queue of what its own lanes hold, its groups by their seats and the lanes of a group in turn. In each step all ranks take an equal share, from their own queue as
    long as it lasts, then from the fullest of the others. Queues, and so lanes, are taken from in order: what is left after any step is the end of each lane.

    Args:
        left: (L,) int64, what each lane holds.
        lanes: of each rank the lanes of each of its groups.
        batch_size: samples of a rank's share in a step; the last step has fewer.
        drop_last: whether a last step that is not full is left out.
    """

    def __init__(self, left: Array, lanes: Sequence[Sequence[Array]], batch_size: int, drop_last: bool) -> None:
        ranks, groups = len(lanes), len(lanes[0])
        self._count, self._lanes, self._size = len(left), lanes, batch_size
        self._order = sorted(range(groups), key=seats(groups).__getitem__)  # groups in the order of their seats
        self._turns = [[RoundRobin(left[of_rank[group]]) for group in self._order] for of_rank in lanes]
        self._ends = [np.cumsum([turn.total for turn in turns]) for turns in self._turns]
        self.total = int(left.sum())
        step = ranks * batch_size
        self.steps = self.total // step if drop_last else -(-self.total // step)
        self._taken = np.zeros((self.steps + 1, ranks), np.int64)  # of each queue, before each step
        self._shares: list[list[list[tuple[int, int, int]]]] = []  # of each step and rank: (queue, first, end)
        for number in range(self.steps):
            self._deal(number, min(self.total - number * step, step))

    def _deal(self, number: int, there: int) -> None:
        """Deal `there` samples in a step."""
        ranks = len(self._lanes)
        at = self._taken[number].tolist()
        ends = [int(end[-1]) for end in self._ends]
        wanted = [there * (rank + 1) // ranks - there * rank // ranks for rank in range(ranks)]
        dealt: list[list[tuple[int, int, int]]] = [[] for _ in range(ranks)]

        def take(rank: int, queue: int) -> None:
            count = min(wanted[rank], ends[queue] - at[queue])
            if count:
                dealt[rank].append((queue, at[queue], at[queue] + count))
                at[queue] += count
                wanted[rank] -= count

        for rank in range(ranks):
            take(rank, rank)
        fullest = [(at[queue] - ends[queue], queue) for queue in range(ranks)]
        heapify(fullest)
        for rank in range(ranks):
            while wanted[rank]:
                queue = fullest[0][1]
                take(rank, queue)
                heapreplace(fullest, (at[queue] - ends[queue], queue))
        self._taken[number + 1] = at
        self._shares.append(dealt)

    def batch(self, rank: int, number: int) -> tuple[Array, Array]:
        """Return lane and place within what it holds, (n,) int64 each, of the samples of a rank's batch."""
        lane, place = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for queue, first, end in self._shares[number][rank]:
            low = 0
            for group, turn, high in zip(self._order, self._turns[queue], self._ends[queue].tolist(), strict=True):
                if max(first, low) < min(end, high):
                    which, inside = turn.at(np.arange(max(first, low) - low, min(end, high) - low))
                    lane.append(self._lanes[queue][group][which])
                    place.append(inside)
                low = high
        return np.concatenate(lane), np.concatenate(place)

    def group(self, rank: int, number: int) -> int:
        """Return the group of the middle one of a batch's samples."""
        shares = self._shares[number][rank]
        if not shares:
            return 0
        queue, first, end = shares[0]  # its own, where it has any
        return self._order[int(np.searchsorted(self._ends[queue], (first + end) // 2, side="right"))]

    def taken(self, steps: int) -> Array:
        """Return how much of what each lane holds, (L,) int64, the first steps take."""
        found = np.zeros(self._count, np.int64)
        for queue, done in enumerate(self._taken[min(steps, self.steps)].tolist()):
            low = 0
            for group, turn, high in zip(self._order, self._turns[queue], self._ends[queue].tolist(), strict=True):
                found[self._lanes[queue][group]] = turn.counts(max(0, min(done, high) - low))
                low = high
        return found
