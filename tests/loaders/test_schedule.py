"""Exactness by numbers alone: each sample once over any ranks, equal steps, resume anywhere, also with other ranks; shares of weighted mixtures."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from dataengine.loaders.clips import Clips, Segments
from dataengine.loaders.flat_schedule import FlatSchedule, permuted
from dataengine.loaders.lanes import EpochOrder
from dataengine.loaders.schedule import Cursors, EpochSchedule, Layout, Schedule
from dataengine.loaders.weighted_schedule import WeightedSchedule

Where = tuple[int, int, int]  # component, segment, step


class World:
    """Components of episodes of given lengths, and everything that can be drawn of them."""

    def __init__(self, *components: list[int], seed: int = 3, lanes: int = 24) -> None:
        self.lanes = lanes
        self.clips = []
        for lengths in components:
            count = len(lengths)
            self.clips.append(Clips(Segments(np.arange(count), np.zeros(count), np.array(lengths)), None, 40))
        self.orders = lru_cache(maxsize=64)(lambda component, epoch: EpochOrder(self.clips[component], seed + component, epoch, lanes, 16))

    def start(self, epoch: int = 0) -> Cursors:
        return Cursors.at_start(len(self.clips), self.lanes, epoch)

    def samples(self, schedule: Schedule, rank: int, number: int) -> list[Where]:
        draws = schedule.batch(rank, number)
        found = []
        for component, epoch, lane, emission in zip(draws.component.tolist(), draws.epoch.tolist(), draws.lane.tolist(), draws.emission.tolist(), strict=True):
            _, segment, step = self.orders(component, epoch).lane(lane).emitted(emission)
            found.append((component, segment, step))
        return found

    def everything(self) -> list[Where]:
        return [
            (number, segment, step)
            for number, clips in enumerate(self.clips)
            for segment, length in enumerate(clips.segments.length.tolist())
            for step in range(length)
        ]


LENGTHS = [137, 79, 101, 44, 96, 250, 12, 1, 63, 88, 140, 33, 205, 77, 59, 91]


@pytest.mark.parametrize(("ranks", "groups", "batch"), [(1, 8, 32), (2, 4, 16), (3, 2, 7), (5, 8, 10), (1, 1, 1), (24, 1, 3), (7, 3, 64)])
def test_each_sample_comes_once_and_ranks_make_equal_steps(ranks: int, groups: int, batch: int) -> None:
    world = World(LENGTHS)
    layout = Layout(ranks, batch, groups)
    schedule = EpochSchedule(world.orders, world.start(), layout)
    assert schedule.steps is not None
    sizes = [[len(world.samples(schedule, rank, number)) for rank in range(ranks)] for number in range(schedule.steps)]
    found = Counter(where for rank in range(ranks) for number in range(schedule.steps) for where in world.samples(schedule, rank, number))
    assert found == Counter(world.everything())
    total = sum(LENGTHS)
    assert schedule.steps == -(-total // (ranks * batch))
    assert all(size == batch for step in sizes[:-1] for size in step)
    assert max(sizes[-1]) - min(sizes[-1]) <= 1


def test_drop_last_leaves_out_only_the_batches_that_are_not_full() -> None:
    world = World(LENGTHS)
    schedule = EpochSchedule(world.orders, world.start(), Layout(3, 16, 4, drop_last=True))
    assert schedule.steps == sum(LENGTHS) // 48
    found = [where for rank in range(3) for number in range(schedule.steps) for where in world.samples(schedule, rank, number)]
    assert len(found) == len(set(found)) == schedule.steps * 48


@pytest.mark.parametrize("first", [(1, 8, 32), (4, 2, 8)])
@pytest.mark.parametrize("second", [(1, 8, 32), (2, 4, 16), (3, 8, 5)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 0.99])
def test_what_is_left_after_a_stop_is_exact_whatever_the_ranks_then(first: tuple[int, int, int], second: tuple[int, int, int], share: float) -> None:
    world = World(LENGTHS)
    before = EpochSchedule(world.orders, world.start(), Layout(first[0], first[2], first[1]))
    assert before.steps is not None
    stop = int(share * before.steps)
    seen = [where for rank in range(first[0]) for number in range(stop) for where in world.samples(before, rank, number)]
    cursors = Cursors.from_json(before.cursors_after(stop).as_json())
    after = EpochSchedule(world.orders, cursors, Layout(second[0], second[2], second[1]))
    assert after.steps is not None
    rest = [where for rank in range(second[0]) for number in range(after.steps) for where in world.samples(after, rank, number)]
    assert Counter(seen) + Counter(rest) == Counter(world.everything())
    again = EpochSchedule(world.orders, cursors, Layout(second[0], second[2], second[1]))
    assert rest == [where for rank in range(second[0]) for number in range(after.steps) for where in world.samples(again, rank, number)]
    if first == second:
        uninterrupted = [where for rank in range(first[0]) for number in range(stop, before.steps) for where in world.samples(before, rank, number)]
        assert Counter(rest) == Counter(uninterrupted)


def test_a_stop_at_the_end_stands_at_the_beginning_of_the_next_epoch() -> None:
    world = World(LENGTHS)
    schedule = EpochSchedule(world.orders, world.start(), Layout(2, 16, 4))
    assert schedule.steps is not None
    cursors = schedule.cursors_after(schedule.steps)
    assert cursors.epoch.min() == cursors.epoch.max() == 1
    assert cursors.emitted.sum() == 0


def test_shares_of_a_weighted_mixture_are_met_in_every_batch() -> None:
    world = World(LENGTHS, [30] * 4)
    schedule = WeightedSchedule(world.orders, world.start(), Layout(2, 32, 4), np.array([0.7, 0.3]), 5)
    counts = np.array([Counter(component for component, _, _ in world.samples(schedule, rank, number))[1] for rank in range(2) for number in range(300)])
    assert set(counts.tolist()) == {9, 10}  # 0.3 of 32 is 9.6
    assert abs(counts.mean() - 9.6) < 0.1


def test_each_component_of_a_weighted_mixture_walks_through_its_own_permutations() -> None:
    world = World([120] * 30, [50] * 6)
    ranks, groups, batch = 2, 3, 20
    schedule = WeightedSchedule(world.orders, world.start(), Layout(ranks, batch, groups), np.array([0.5, 0.5]), 5)
    seen: Counter[Where] = Counter()
    for number in range(240):
        for rank in range(ranks):
            seen.update(world.samples(schedule, rank, number))
    small = np.array([seen[where] for where in world.everything() if where[0] == 1])
    assert small.sum() == 240 * ranks * batch // 2  # 16 epochs of 300 samples
    assert abs(small.mean() - 16) < 1e-9
    large = np.array([seen[where] for where in world.everything() if where[0] == 0])
    assert large.sum() == 4800  # 1 1/3 epochs of 3600: each group is through its first epoch, and none twice
    assert set(large.tolist()) <= {0, 1, 2, 3}
    assert large.min() >= 0


def test_a_group_begins_its_next_epoch_only_when_its_lanes_have_ended_this_one() -> None:
    world = World([97] * 9)
    schedule = WeightedSchedule(world.orders, world.start(), Layout(1, 10, 2), np.array([1.0]), 5)
    for group in range(2):
        epochs = [epoch for number in range(group, 200, 2) for epoch in sorted(schedule.batch(0, number).epoch.tolist())]
        assert epochs == sorted(epochs)
        draws = [schedule.batch(0, number) for number in range(group, 200, 2)]
        in_first = sum(int((each.epoch == 0).sum()) for each in draws)
        lanes = np.arange(24)[group::2]
        assert in_first == world.orders(0, 0).lengths[lanes].sum()


@pytest.mark.parametrize("ranks", [(2, 2), (2, 3), (3, 1)])
def test_a_weighted_mixture_goes_on_after_a_stop(ranks: tuple[int, int]) -> None:
    world = World([97] * 9, [40, 61, 13])
    shares = np.array([0.6, 0.4])
    before = WeightedSchedule(world.orders, world.start(), Layout(ranks[0], 8, 2), shares, 5)
    stop = 37
    cursors = Cursors.from_json(before.cursors_after(stop).as_json())
    after = WeightedSchedule(world.orders, cursors, Layout(ranks[1], 8, 2), shares, 5, stop)
    again = WeightedSchedule(world.orders, cursors, Layout(ranks[1], 8, 2), shares, 5, stop)
    assert [world.samples(after, rank, 5) for rank in range(ranks[1])] == [world.samples(again, rank, 5) for rank in range(ranks[1])]
    # what was seen before the stop and what comes after make up whole epochs of each lane: nothing twice within an epoch of a lane
    drawn: set[tuple[int, int, int, int]] = set()
    for schedule, count, number_of in ((before, ranks[0], range(stop)), (after, ranks[1], range(60))):
        for rank in range(count):
            for number in number_of:
                draws = schedule.batch(rank, number)
                keys = list(zip(draws.component.tolist(), draws.epoch.tolist(), draws.lane.tolist(), draws.emission.tolist(), strict=True))
                assert not drawn & set(keys)
                drawn |= set(keys)


@pytest.mark.parametrize("count", [1, 2, 3, 100, 4097])
def test_a_permutation_holds_each_number_once_and_any_place_is_found_directly(count: int) -> None:
    whole = permuted(np.arange(count), count, 5, 1)
    assert sorted(whole.tolist()) == list(range(count))
    assert permuted(np.array([count - 1, 0]), count, 5, 1).tolist() == [whole[-1], whole[0]]
    if count > 50:
        assert np.abs(np.corrcoef(np.arange(count), whole)[0, 1]) < 0.2
        assert whole.tolist() != permuted(np.arange(count), count, 5, 2).tolist()


def test_a_flat_order_is_dealt_evenly_and_goes_on_with_other_ranks() -> None:
    first = FlatSchedule(103, Cursors.at_start(1, 1), Layout(2, 10, 8))
    assert first.steps == 6
    seen = [place for number in range(3) for rank in range(2) for place in first.batch(rank, number).emission.tolist()]
    assert seen == list(range(60))
    assert [len(first.batch(rank, 5).emission) for rank in range(2)] == [1, 2]
    rest = FlatSchedule(103, first.cursors_after(3), Layout(3, 7, 8))
    assert rest.steps == 3
    assert [place for number in range(3) for rank in range(3) for place in rest.batch(rank, number).emission.tolist()] == list(range(60, 103))
