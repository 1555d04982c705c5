"""Taking turns: by hand, and against a loop that walks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataengine.loaders.round_robin import RoundRobin


def test_three_queues_of_unequal_length_by_hand() -> None:
    turns = RoundRobin(np.array([2, 0, 3, 1]))
    queue, place = turns.at(np.arange(6))
    assert queue.tolist() == [0, 2, 3, 0, 2, 2]
    assert place.tolist() == [0, 0, 0, 1, 1, 2]
    assert turns.total == 6
    assert [turns.counts(draws).tolist() for draws in (0, 1, 4, 5, 6)] == [[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 1, 1], [2, 0, 2, 1], [2, 0, 3, 1]]


def test_no_queue_and_empty_queues_hold_nothing() -> None:
    assert RoundRobin(np.zeros(0, np.int64)).total == 0
    assert RoundRobin(np.zeros(3, np.int64)).counts(0).tolist() == [0, 0, 0]


@given(st.lists(st.integers(0, 9), max_size=8))
def test_any_draw_is_found_where_a_walk_finds_it(lengths: list[int]) -> None:
    walked, left = [], list(lengths)
    while any(left):
        for queue, rest in enumerate(left):
            if rest:
                walked.append((queue, lengths[queue] - rest))
                left[queue] -= 1
    turns = RoundRobin(np.array(lengths, dtype=np.int64))
    queue, place = turns.at(np.arange(turns.total))
    assert list(zip(queue.tolist(), place.tolist(), strict=True)) == walked
    for draws in range(turns.total + 1):
        expected = np.bincount([queue for queue, _ in walked[:draws]], minlength=len(lengths)) if lengths else []
        assert turns.counts(draws).tolist() == list(expected)
