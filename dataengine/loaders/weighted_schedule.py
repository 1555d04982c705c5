"""Batches without end from several components by their shares, each component's own permutations one after the other."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.errors import UsageError
from dataengine.core.randomness import hash64
from dataengine.loaders.leftovers import maker_of
from dataengine.loaders.round_robin import RoundRobin
from dataengine.loaders.schedule import Cursors, Draws, Layout, Orders, lanes_of

_ROUND, _MIX = 7, 8  # what a hash is for


class WeightedSchedule:
    """Batches without end from several components by their shares, each component's own permutation after the other.

    Every batch takes from each component its share of the batch, rounded up or down by a hashed draw so that the mean is exact (systematic sampling). The lanes of a
    group that belong to a component take turns until all of them have ended their epoch; then its next one begins.

    Args:
        orders: of the lanes.
        cursors: where each lane stands.
        layout: ranks and batches.
        shares: (C,) float64, of each component, their sum 1.
        seed: of the rounding.
        made: batches that each rank has made before these cursors.
    """

    steps: int | None = None

    def __init__(self, orders: Orders, cursors: Cursors, layout: Layout, shares: Array, seed: int, made: int = 0) -> None:
        require(bool(np.isclose(shares.sum(), 1.0)) and bool((shares > 0).all()), f"shares: must be positive and sum to 1, got {shares}")
        lanes = cursors.epoch.shape[1]
        if lanes < layout.world_size:
            raise UsageError(f"state: its {lanes} lanes can be shared by as many ranks, got {layout.world_size}; go on with fewer, or begin anew")
        # A run that began with fewer ranks has fewer lanes: then fewer groups on each rank share them, so that none is empty.
        layout = replace(layout, groups=min(layout.groups, lanes // layout.world_size))
        self._orders, self._cursors, self._layout, self._shares, self._seed, self._before = orders, cursors, layout, shares, seed, made
        self._turns = lru_cache(maxsize=1024)(self._turns_of)
        self._counted: dict[tuple[int, int], tuple[int, Array]] = {}  # (rank, group) -> batches, and what these have drawn
        self._reached: dict[tuple[int, int, int], tuple[int, int]] = {}  # (component, rank, group) -> a later epoch, and what was drawn before it

    def _counts(self, rank: int, batches: Array) -> Array:
        """Return how many samples each of a rank's batches (n,) takes from each component, (n, C) int64."""
        size = self._layout.batch_size
        shift = (hash64(self._seed, _ROUND, rank, self._before + batches) >> np.uint64(11)) * 2.0**-53
        edges = np.concatenate([[0.0], np.cumsum(self._shares)]) * size
        edges[-1] = size
        below = np.ceil(edges[None, :] - shift[:, None])  # points at 0 + shift, 1 + shift, ... below each edge
        below[:, -1] = size
        return np.asarray(np.diff(below, axis=1), dtype=np.int64)

    def _drawn(self, rank: int, group: int, rounds: int) -> Array:
        """Return what a group has drawn from each component, (C,) int64, in its first batches."""
        done, total = self._counted.get((rank, group), (0, np.zeros(len(self._shares), np.int64)))
        if done > rounds:
            done, total = 0, np.zeros(len(self._shares), np.int64)
        if rounds > done:
            total = total + self._counts(rank, group + self._layout.groups * np.arange(done, rounds)).sum(axis=0)
        self._counted[rank, group] = rounds, total
        return total

    def _turns_of(self, component: int, rank: int, group: int, later: int) -> tuple[int, Array, Array, RoundRobin]:
        """Return epoch, lanes, their cursors and turns of the `later`-th epoch, counted from the earliest that a lane of the group stands in."""
        lanes = lanes_of(rank, group, self._cursors.epoch.shape[1], self._layout)
        standing = self._cursors.epoch[component, lanes]
        epoch = int(standing.min()) + later
        before = np.where(standing == epoch, self._cursors.emitted[component, lanes], 0)
        lengths = self._orders(component, epoch).lengths[lanes]
        return epoch, lanes, before, RoundRobin(np.where(standing > epoch, 0, lengths - before))

    def _walk(self, component: int, rank: int, group: int, drawn: int) -> tuple[int, int]:
        """Return which later epoch a group's draw falls into, and which draw of that epoch it is."""
        later, begun = self._reached.get((component, rank, group), (0, 0))
        if drawn < begun:
            later, begun = 0, 0
        barren = 0
        while True:
            total = self._turns(component, rank, group, later)[3].total
            if drawn < begun + total:
                self._reached[component, rank, group] = later, begun
                return later, drawn - begun
            later, begun = later + 1, begun + total
            barren = 0 if total else barren + 1
            require(barren < 10_000, f"component {component}: its lanes hold no sample for group {group} of rank {rank}; use fewer ranks or groups")

    def maker(self, rank: int, number: int, workers: int) -> int:
        return maker_of(number % self._layout.groups, self._layout.groups, workers)

    def batch(self, rank: int, number: int) -> Draws:
        rounds, group = divmod(number, self._layout.groups)
        counts = self._counts(rank, np.array([number]))[0]
        drawn = self._drawn(rank, group, rounds)
        found: list[tuple[Array, ...]] = []
        for component, count in enumerate(counts.tolist()):
            first = int(drawn[component])
            while count:
                later, at = self._walk(component, rank, group, first)
                epoch, members, before, turns = self._turns(component, rank, group, later)
                here = min(count, turns.total - at)
                place, emission = turns.at(np.arange(at, at + here))
                found.append((np.full(here, component), np.full(here, epoch), members[place], emission + before[place]))
                first, count = first + here, count - here
        parts = [np.concatenate(column) for column in zip(*found, strict=True)]
        mixed = np.argsort(hash64(self._seed, _MIX, rank, self._before + number, np.arange(len(parts[0]))), kind="stable")
        components, epochs, lanes, emissions = (part[mixed] for part in parts)
        return Draws(components, epochs, lanes, emissions)

    def cursors_after(self, batches: int) -> Cursors:
        epochs, emitted = self._cursors.epoch.copy(), self._cursors.emitted.copy()
        for rank in range(self._layout.world_size):
            for group in range(self._layout.groups):
                drawn = self._drawn(rank, group, len(range(group, batches, self._layout.groups)))
                for component, count in enumerate(drawn.tolist()):
                    later, at = self._walk(component, rank, group, count)
                    epoch, lanes, before, turns = self._turns(component, rank, group, later)
                    ahead = self._cursors.epoch[component, lanes] > epoch
                    epochs[component, lanes] = np.where(ahead, epochs[component, lanes], epoch)
                    emitted[component, lanes] = np.where(ahead, emitted[component, lanes], before + turns.counts(at))
        return Cursors(epochs, emitted)
