"""Which samples make up which batch of which rank: pure functions of the lanes' cursors, so that any batch can be named without making those before it.

An epoch without weights: each rank draws full batches from groups of its lanes, group after group; as many on every rank as the poorest rank has. What is then
left in all lanes is dealt evenly over the ranks (`leftovers.py`). So every sample comes once, ranks make equally many steps, and only the very last batches are not full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.loaders.lanes import EpochOrder
from dataengine.loaders.leftovers import Leftovers, maker_of
from dataengine.loaders.round_robin import RoundRobin


@dataclass(frozen=True)
class Layout:
    """How a job reads: its ranks, the samples that one of them takes from a group of lanes at a time, and its groups of lanes.

    A batch is made of `split` such takings, from as many groups.
    """

    world_size: int
    batch_size: int
    groups: int
    drop_last: bool = False
    split: int = 1


@dataclass(frozen=True, eq=False)
class Draws:
    """The samples of one batch by where they come from; fewer than the batch size where the batch is to be filled up.

    A batch of a group of lanes comes from what these keep decoded; `scattered` ones are read at random.
    """

    component: Array  # (n,) int64
    epoch: Array  # (n,) int64, of the component
    lane: Array  # (n,) int64
    emission: Array  # (n,) int64, place in the lane's order
    scattered: bool = False


@dataclass(frozen=True, eq=False)
class Cursors:
    """How far each lane of each component has been read: its epoch, and what has come out of it in that epoch. Both (C, L) int64."""

    epoch: Array
    emitted: Array

    def as_json(self) -> dict[str, list[list[int]]]:
        """Return the cursors as plain numbers."""
        return {"epoch": self.epoch.tolist(), "emitted": self.emitted.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, list[list[int]]]) -> Cursors:
        """Read cursors back."""
        return cls(np.array(document["epoch"], dtype=np.int64), np.array(document["emitted"], dtype=np.int64))

    @classmethod
    def at_start(cls, components: int, lanes: int, epoch: int = 0) -> Cursors:
        """Return the cursors before the first sample of an epoch."""
        return cls(np.full((components, lanes), epoch, np.int64), np.zeros((components, lanes), np.int64))


class Schedule(Protocol):
    """The batches of all ranks from some cursors on."""

    @property
    def steps(self) -> int | None:
        """Return how many batches each rank makes; None where they never end."""

    def batch(self, rank: int, number: int) -> Draws:
        """Return a batch of a rank."""

    def maker(self, rank: int, number: int, workers: int) -> int:
        """Return which of so many workers makes a batch: where it comes from lanes, the one that has them open."""

    def cursors_after(self, batches: int) -> Cursors:
        """Return the cursors of all lanes when each rank has made so many batches."""


Orders = Callable[[int, int], EpochOrder]  # (component, epoch) -> its order


def lanes_of(rank: int, group: int, lanes: int, layout: Layout) -> Array:
    """Return the lanes, ascending, of one group of a rank."""
    return np.arange(rank, lanes, layout.world_size)[group :: layout.groups]


class EpochSchedule:
    """One epoch of one component, each sample once.

    Args:
        orders: of the lanes.
        cursors: where each lane stands; all lanes in the same epoch.
        layout: ranks and batches.
    """

    def __init__(self, orders: Orders, cursors: Cursors, layout: Layout) -> None:
        require(cursors.epoch.shape[0] == 1, "an epoch that ends is that of one component")
        self._cursors, self._layout = cursors, layout
        self.epoch = int(cursors.epoch.max())
        self._before = np.where(cursors.epoch[0] == self.epoch, cursors.emitted[0], 0)
        left = orders(0, self.epoch).lengths - self._before
        lanes = len(left)
        places = [[lanes_of(rank, group, lanes, layout) for group in range(layout.groups)] for rank in range(layout.world_size)]
        self._lanes = places
        self._turns = [[RoundRobin(left[lanes]) for lanes in groups] for groups in places]
        full = np.array([[turn.total // layout.batch_size for turn in turns] for turns in self._turns])  # (R, G)
        self.full = int(full.sum(axis=1).min())
        self._made = [_rounds(counts, self.full) for counts in full]
        used = np.zeros(lanes, np.int64)
        for rank, (group_of, _) in enumerate(self._made):
            for group, turn in enumerate(self._turns[rank]):
                used[places[rank][group]] = turn.counts(int(np.count_nonzero(group_of == group)) * layout.batch_size)
        self._used = used
        self._left = Leftovers(left - used, places, layout.batch_size, layout.drop_last)
        self.steps: int | None = self.full + self._left.steps

    def maker(self, rank: int, number: int, workers: int) -> int:
        group = int(self._made[rank][0][number]) if number < self.full else self._left.group(rank, number - self.full)
        return maker_of(group, self._layout.groups, workers)

    def batch(self, rank: int, number: int) -> Draws:
        size = self._layout.batch_size
        if number < self.full:
            group_of, place_in = self._made[rank]
            group = int(group_of[number])
            first = int(place_in[number]) * size
            place, emission = self._turns[rank][group].at(np.arange(first, first + size))
            lane, scattered = self._lanes[rank][group][place], False
            emission = emission + self._before[lane]
        else:
            lane, emission = self._left.batch(rank, number - self.full)
            emission = emission + self._before[lane] + self._used[lane]
            scattered = True
        return Draws(np.zeros(len(lane), np.int64), np.full(len(lane), self.epoch), lane, emission, scattered)

    def cursors_after(self, batches: int) -> Cursors:
        assert self.steps is not None
        if batches >= self.steps:
            return Cursors.at_start(1, len(self._before), self.epoch + 1)
        emitted = self._before.copy()
        size = self._layout.batch_size
        if batches <= self.full:
            for rank, (group_of, _) in enumerate(self._made):
                for group, turn in enumerate(self._turns[rank]):
                    emitted[self._lanes[rank][group]] += turn.counts(int(np.count_nonzero(group_of[:batches] == group)) * size)
        else:
            emitted += self._used + self._left.taken(batches - self.full)
        return Cursors(np.full((1, len(emitted)), self.epoch, np.int64), emitted[None])


def _rounds(full: Array, count: int) -> tuple[Array, Array]:
    """Return for each of the first `count` batches its group, and which of the group's batches it is: groups take turns until they have no full batch."""
    group, place = RoundRobin(full).at(np.arange(count))
    return group, place
