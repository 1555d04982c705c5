"""The batches of a loader by number: what each holds, where its samples are read, and the state that stands between two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.randomness import hash64
from dataengine.loaders.clips import Clips
from dataengine.loaders.flat_schedule import FlatSchedule, permuted
from dataengine.loaders.lanes import EpochOrder, Lane, Piece, Shuffle, lane_count
from dataengine.loaders.opened import Component, Opened
from dataengine.loaders.schedule import Cursors, EpochSchedule, Layout, Schedule
from dataengine.loaders.weighted_schedule import WeightedSchedule

Order = Literal["shuffled", "random", "sequential"]
ORDERS: tuple[Order, ...] = ("shuffled", "random", "sequential")


class Spot(NamedTuple):
    """A sample that its lane reads in passing: the lane, the piece of it, and the step.

    `settled` is a place of the lane before which nothing is wanted any more, `left` how many samples of its epoch come after this one.
    """

    lane: tuple[int, int, int]  # component, epoch, number
    piece: int
    step: int
    settled: int
    left: int


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """What a batch holds: samples (n,) by number, in order; `spots` where they come from lanes, None where they have none.

    A `scattered` batch takes what the groups' full batches left, from lanes of all of them: only some of its clips are open where it is made.
    """

    number: int
    epoch: int
    samples: Array
    spots: tuple[Spot, ...] | None = None
    scattered: bool = False


class Plan:
    """All batches of all ranks from some cursors on.

    Args:
        opened: the mixture.
        components: what is drawn from; several, or one with `endless`, for a weighted mixture.
        shuffle, layout, seed, order: as the loader has them.
    """

    def __init__(self, opened: Opened, components: list[Component], shuffle: Shuffle, layout: Layout, seed: int, order: Order, endless: bool) -> None:
        self.opened, self.shuffle, self.layout, self.seed, self.order, self.endless = opened, shuffle, layout, seed, order, endless
        self._components = components
        if order != "shuffled" and (endless or components[0].capped is not None):
            raise UsageError(f"order={order!r}: is for mixtures without weights and caps; shuffle, or read the datasets apart")
        self._clips = [Clips(opened.segments, component.segments, shuffle.clip_steps) for component in components]
        self._deal(self.lanes())

    def with_layout(self, layout: Layout) -> Plan:
        """Return the plan of the same samples for other ranks or batches."""
        return Plan(self.opened, self._components, self.shuffle, layout, self.seed, self.order, self.endless)

    def lanes(self) -> int:
        """Return the lanes of a new run."""
        least = self.shuffle.lanes * self.layout.world_size
        return least if self.endless or self.order != "shuffled" else lane_count(self._clips[0], least)

    def _deal(self, lanes: int) -> None:
        """Deal the clips to so many lanes: those of the run whose cursors they are."""
        self._lane_count = lanes
        # Apart for each component: a small one, which walks through many epochs in a batch, must not displace the order of a large one.
        kept = [lru_cache(maxsize=4)(partial(self._order_of, component)) for component in range(len(self._components))]
        self._orders: Callable[[int, int], EpochOrder] = lambda component, epoch: kept[component](epoch)

    def _order_of(self, component: int, epoch: int) -> EpochOrder:
        chosen, clips = self._components[component], self._clips[component]
        capped = None
        if chosen.capped is not None:
            capped = chosen.capped[clips.segment_of]
        return EpochOrder(clips, int(hash64(self.seed, component)), epoch, self._lane_count, self.shuffle.spread, capped, chosen.cap)

    def begin(self, cursors: Cursors, made: int) -> Schedule:
        """Return the schedule from cursors on; `made` batches were made before them in this epoch."""
        if self.order != "shuffled":
            return FlatSchedule(self._clips[0].samples, cursors, self.layout)
        if cursors.epoch.shape[1] != self._lane_count:
            self._deal(cursors.epoch.shape[1])
        if self.endless:
            shares = np.array([component.share for component in self._components])
            return WeightedSchedule(self._orders, cursors, self.layout, shares, self.seed, made)
        return EpochSchedule(self._orders, cursors, self.layout)

    def start(self, epoch: int) -> Cursors:
        """Return the cursors at the beginning of an epoch."""
        return Cursors.at_start(len(self._components), self.lanes() if self.order == "shuffled" else 1, epoch)

    def lane(self, key: tuple[int, int, int]) -> Lane:
        """Return a lane by component, epoch and number."""
        component, epoch, number = key
        return self._orders(component, epoch).lane(number)

    def piece(self, spot: Spot) -> Piece:
        """Return the piece that a sample lies in."""
        return self.lane(spot.lane).piece(spot.piece)

    def batch(self, schedule: Schedule, rank: int, number: int) -> BatchPlan:
        """Return what a batch holds."""
        draws = schedule.batch(rank, number)
        if isinstance(schedule, FlatSchedule):
            places = draws.emission
            if self.order == "random":
                places = permuted(places, self._clips[0].samples, self.seed, schedule.epoch)
            return BatchPlan(number, schedule.epoch, self._of_chosen(places))
        found, spots = [], []
        orders: dict[tuple[int, int], EpochOrder] = {}
        for component, epoch, lane, emission in zip(draws.component.tolist(), draws.epoch.tolist(), draws.lane.tolist(), draws.emission.tolist(), strict=True):
            order = orders.get((component, epoch))
            if order is None:
                order = orders[component, epoch] = self._orders(component, epoch)
            that = order.lane(lane)
            piece, segment, step = that.emitted(emission)
            found.append((segment, step))
            spots.append(Spot((component, epoch, lane), piece, step, that.settled(emission), len(that) - emission - 1))
        where = np.array(found, dtype=np.int64).reshape(-1, 2)
        earliest = int(draws.epoch.min()) if len(draws.epoch) else 0
        return BatchPlan(number, earliest, self.opened.segments.number(where[:, 0], where[:, 1]), tuple(spots), draws.scattered)

    def _of_chosen(self, places: Array) -> Array:
        """Return the samples (N,) that stand at places of the component's own count."""
        chosen = self._components[0].segments
        if chosen is None:
            return places
        lengths = self.opened.segments.length[chosen]
        firsts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.searchsorted(firsts, places, side="right") - 1
        return np.asarray(self.opened.segments.offsets[chosen[at]] + places - firsts[at])

    def clip_of(self, samples: Array) -> Array:
        """Return a number of the clip (N,) that each sample belongs to, for judging the shuffle."""
        segment, step = self.opened.segments.locate(samples)
        whole = Clips(self.opened.segments, None, self.shuffle.clip_steps)
        return whole.of_steps(segment, step)
