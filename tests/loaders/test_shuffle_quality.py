"""How well the default shuffle mixes, by numbers alone: pairs of one clip in a batch, and how much the mean of a constant of each episode varies over batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dataengine.loaders.clips import Clips, Segments
from dataengine.loaders.joining import split_of
from dataengine.loaders.lanes import EpochOrder, Shuffle, lane_count
from dataengine.loaders.schedule import Cursors, EpochSchedule, Layout


def pairs(groups: np.ndarray) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(groups.tolist()).values())


@pytest.mark.parametrize(
    ("lengths", "batch"),
    [([200] * 40, 32), ([137 + number % 90 for number in range(60)], 32), ([150 + number % 7 for number in range(300)], 256), ([200] * 100, 64)],
)
def test_a_batch_is_mixed_as_by_a_perfect_shuffle(lengths: list[int], batch: int) -> None:
    shuffle = Shuffle()
    split = split_of(batch, shuffle.lanes // shuffle.groups)
    segments = Segments(np.arange(len(lengths)), np.zeros(len(lengths)), np.array(lengths))
    clips = Clips(segments, None, shuffle.clip_steps)
    lanes = lane_count(clips, shuffle.lanes)
    order = EpochOrder(clips, 5, 0, lanes, shuffle.spread)
    schedule = EpochSchedule(lambda component, epoch: order, Cursors.at_start(1, lanes), Layout(1, batch // split, shuffle.groups, split=split))
    assert schedule.steps is not None
    of_clip, of_episode = [], []
    for number in range(schedule.steps // split):
        found = []
        for part in range(number * split, (number + 1) * split):
            draws = schedule.batch(0, part)
            found += [order.lane(lane).emitted(emission)[1:] for lane, emission in zip(draws.lane.tolist(), draws.emission.tolist(), strict=True)]
        segment, step = np.array(found).T
        of_clip.append(pairs(clips.of_steps(segment, step)))
        of_episode.append(pairs(segment))
    every = batch * (batch - 1) / 2
    total = segments.samples * (segments.samples - 1)
    perfect_clip = every * float((clips.lengths * (clips.lengths - 1)).sum()) / total
    perfect_episode = every * float((segments.length * (segments.length - 1)).sum()) / total
    assert np.mean(of_clip) <= 2 * perfect_clip
    # of independent constants of each episode with variance 1: the mean of a batch varies by (1 + 2 pairs / batch) / batch
    assert (1 + 2 * np.mean(of_episode) / batch) / (1 + 2 * perfect_episode / batch) <= 1.2


@pytest.mark.parametrize(("batch", "lanes", "split"), [(32, 32, 1), (64, 32, 2), (256, 32, 8), (48, 32, 2), (33, 32, 3), (37, 32, 1), (7, 3, 1), (1, 1, 1)])
def test_a_batch_is_split_as_little_as_may_be(batch: int, lanes: int, split: int) -> None:
    assert split_of(batch, lanes) == split
