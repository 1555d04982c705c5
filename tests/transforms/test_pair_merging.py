from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.transforms.pair_merging import expansions, learn_merges, merge_sequences, rank_table

Sequences = list[list[int]]


def arrays(sequences: Sequences) -> list[Any]:
    return [np.array(sequence, np.int64) for sequence in sequences]


def replaced(sequence: list[int], pair: tuple[int, int], new: int) -> list[int]:
    found: list[int] = []
    place = 0
    while place < len(sequence):
        if tuple(sequence[place : place + 2]) == pair:
            found.append(new)
            place += 2
        else:
            found.append(sequence[place])
            place += 1
    return found


def learnt_slowly(sequences: Sequences, symbols: int, vocab_size: int) -> list[tuple[int, int]]:
    """The definition, word for word: count all pairs anew after each merge."""
    merges: list[tuple[int, int]] = []
    while symbols + len(merges) < vocab_size:
        counts: dict[tuple[int, int], int] = {}
        for sequence in sequences:
            for pair in pairwise(sequence):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts or max(counts.values()) < 2:
            break
        best = min(pair for pair, count in counts.items() if count == max(counts.values()))
        sequences = [replaced(sequence, best, symbols + len(merges)) for sequence in sequences]
        merges.append(best)
    return merges


def merged_slowly(sequence: list[int], merges: Any, symbols: int) -> list[int]:
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        there = [ranks[pair] for pair in pairwise(sequence) if pair in ranks]
        if not there:
            return sequence
        sequence = replaced(sequence, merges[min(there)], symbols + min(there))


def test_merges_by_hand() -> None:
    """0 0 is there 3 + 1 times, 0 1 twice. Then 2 2 1 and 2 1: 2 1 is there twice. Then 2 3 and 3: no pair twice."""
    sequences = arrays([[0, 0, 0, 0, 1], [0, 0, 1]])
    merges = learn_merges(sequences, symbols=2, vocab_size=9)
    assert merges == ((0, 0), (2, 1))
    assert [row.tolist() for row in merge_sequences(sequences, rank_table(merges, 2), 2)] == [[2, 3], [3]]
    assert expansions(merges, 2) == ((0,), (1,), (0, 0), (0, 0, 1))


def test_of_equal_counts_the_smallest_pair_is_taken() -> None:
    assert learn_merges(arrays([[2, 1, 0], [2, 1, 0]]), 3, 4) == ((1, 0),)
    assert learn_merges(arrays([[0, 2, 0, 1], [0, 1, 0, 2]]), 3, 4) == ((0, 1),)


def test_a_run_is_merged_from_the_left() -> None:
    rows = merge_sequences(arrays([[0] * 5, [1, 0, 0, 0], [1], [0, 0]]), rank_table(((0, 0),), 2), 2)
    assert [row.tolist() for row in rows] == [[2, 2, 0], [1, 2, 0], [1], [2]]


def test_pairs_are_not_taken_across_sequences() -> None:
    assert learn_merges(arrays([[0], [1], [0], [1], [0], [1]]), 2, 5) == ()


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=12), st.integers(4, 14))
@settings(deadline=None, max_examples=300)
def test_as_the_definition_says(sequences: Sequences, vocab_size: int) -> None:
    merges = learn_merges(arrays(sequences), 4, vocab_size)
    assert list(merges) == learnt_slowly(sequences, 4, vocab_size)
    merged = merge_sequences(arrays(sequences), rank_table(merges, 4), 4)
    assert [row.tolist() for row in merged] == [merged_slowly(sequence, merges, 4) for sequence in sequences]
    table = expansions(merges, 4)
    assert [[symbol for token in row.tolist() for symbol in table[token]] for row in merged] == sequences
