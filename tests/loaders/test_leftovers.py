"""The last batches of an epoch: each sample once, equal shares, and from the lanes that their maker has open."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dataengine.loaders.clips import Clips, Segments
from dataengine.loaders.lanes import EpochOrder
from dataengine.loaders.leftovers import Leftovers, maker_of, seats
from dataengine.loaders.schedule import Cursors, EpochSchedule, Layout, lanes_of


def test_groups_that_follow_each_other_sit_far_apart() -> None:
    assert seats(8) == (0, 4, 2, 6, 1, 5, 3, 7)
    assert seats(1) == (0,)
    assert seats(3) == (0, 2, 1)  # 00, 01, 10 with their bits reversed: 0, 2, 1
    assert [maker_of(group, 8, 2) for group in range(8)] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert [maker_of(group, 8, 3) for group in range(8)] == [0, 1, 0, 2, 0, 1, 1, 2]


@pytest.mark.parametrize("groups", range(1, 20))
def test_any_number_of_workers_shares_the_groups_about_equally(groups: int) -> None:
    assert sorted(seats(groups)) == list(range(groups))
    for workers in range(1, groups + 1):
        shares = Counter(maker_of(group, groups, workers) for group in range(groups))
        assert sorted(shares) == list(range(workers))
        assert max(shares.values()) - min(shares.values()) <= 1


def test_each_rank_takes_its_own_first_then_of_the_fullest() -> None:
    # Two ranks of two groups: lanes 0 and 2 are the groups of rank 0, lanes 1 and 3, 5 those of rank 1.
    left = np.array([2, 1, 1, 4, 0, 3])
    lanes = [[np.array([0]), np.array([2, 4])], [np.array([1]), np.array([3, 5])]]
    last = Leftovers(left, lanes, 3, drop_last=False)
    assert (last.total, last.steps) == (11, 2)
    found = [[[array.tolist() for array in last.batch(rank, number)] for rank in range(2)] for number in range(2)]
    assert found[0] == [[[0, 0, 2], [0, 1, 0]], [[1, 3, 5], [0, 0, 0]]]
    assert found[1] == [[[5, 3], [2, 3]], [[3, 5, 3], [1, 1, 2]]]  # 2 and 3 of the 5 that are left: rank 0 has none of its own
    assert [last.group(rank, number) for number in range(2) for rank in range(2)] == [0, 1, 1, 1]
    assert last.taken(0).tolist() == [0] * 6
    assert last.taken(1).tolist() == [2, 1, 1, 1, 0, 1]
    assert last.taken(2).tolist() == left.tolist()
    assert Leftovers(left, lanes, 3, drop_last=True).steps == 1


@pytest.mark.parametrize(("ranks", "batch", "groups"), [(1, 8, 4), (2, 4, 3), (3, 5, 2), (4, 16, 1)])
def test_after_each_step_every_lane_is_taken_from_its_beginning(ranks: int, batch: int, groups: int) -> None:
    count = 29
    left = np.random.default_rng(ranks).integers(0, 9, count)
    lanes = [[lanes_of(rank, group, count, Layout(ranks, batch, groups)) for group in range(groups)] for rank in range(ranks)]
    last = Leftovers(left, lanes, batch, drop_last=False)
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(last.steps):
        sizes = []
        for rank in range(ranks):
            lane, place = last.batch(rank, number)
            seen.update(zip(lane.tolist(), place.tolist(), strict=True))
            sizes.append(len(lane))
        assert max(sizes) - min(sizes) <= (number == last.steps - 1)
        assert seen == Counter((lane, place) for lane, most in enumerate(last.taken(number + 1).tolist()) for place in range(most))
    assert seen == Counter((lane, place) for lane, most in enumerate(left.tolist()) for place in range(most))


@pytest.mark.parametrize("workers", [2, 4])
def test_little_is_decoded_by_a_worker_that_has_its_lane_not_open(workers: int) -> None:
    lengths = np.array([137 + number % 90 for number in range(60)])
    clips = Clips(Segments(np.arange(len(lengths)), np.zeros(len(lengths)), lengths), None, 20)
    order = EpochOrder(clips, 3, 0, 256, 16)
    layout = Layout(1, 32, 8)
    schedule = EpochSchedule(lambda component, epoch: order, Cursors.at_start(1, 256), layout)
    assert schedule.steps is not None
    group_of = {int(lane): group for group in range(8) for lane in lanes_of(0, group, 256, layout)}
    strange = left = 0
    for number in range(schedule.steps):
        mine = schedule.maker(0, number, workers)
        makers = [maker_of(group_of[lane], 8, workers) for lane in schedule.batch(0, number).lane.tolist()]
        strange += sum(maker != mine for maker in makers)
        left += len(makers) if number >= schedule.full else 0
        if number < schedule.full:
            assert set(makers) == {mine}
    assert left > 100
    assert strange <= 16 * (workers - 1)  # half a batch where the groups of one worker end and those of the next begin
