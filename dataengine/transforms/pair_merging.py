"""Byte-pair encoding of sequences of small integers: which pairs to merge, learnt from data; and the merging of many sequences at once.

The most frequent pair of neighbours becomes a new symbol, again and again (Gage 1994; Sennrich et al. 2016). Pairs are never taken across the end of a
sequence; of equal counts the smallest pair is taken; in a run such as 0 0 0 the pairs are taken from the left. All sequences lie one behind the
other in one array, with a separator after each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataengine.core.arrays import Array

MAX_SYMBOLS = 4096  # tables of all pairs are held: 64 MiB
Merges = Sequence[tuple[int, int]]


def learn_merges(sequences: Sequence[Array], symbols: int, vocab_size: int) -> tuple[tuple[int, int], ...]:
    """Return pairs in the order in which they are merged: the k-th becomes symbol `symbols` + k; fewer where no pair is there twice.

    Args:
        sequences: each (L,) integers in [0, symbols).
        symbols: how many there are before any merge.
        vocab_size: how many there shall be in the end.
    """
    separator = vocab_size
    row, _ = _joined(sequences, separator)
    counts = np.zeros((vocab_size, vocab_size), np.int64)
    flat = counts.reshape(-1)
    _count(flat, row, np.arange(len(row) - 1), separator, 1)
    merges: list[tuple[int, int]] = []
    for new in range(symbols, vocab_size):
        best = int(np.argmax(flat))  # the first of the largest: the smallest pair
        if flat[best] < 2:
            break
        pair = (best // vocab_size, best % vocab_size)
        merges.append(pair)
        hits = _apart(np.flatnonzero((row[:-1] == pair[0]) & (row[1:] == pair[1])))
        touched = np.unique(np.concatenate([hits - 1, hits, hits + 1]))
        _count(flat, row, touched[(touched >= 0) & (touched < len(row) - 1)], separator, -1)
        row, places = _merged(row, hits, np.full(len(hits), new, row.dtype))
        touched = np.unique(np.concatenate([places - 1, places]))
        _count(flat, row, touched[(touched >= 0) & (touched < len(row) - 1)], separator, 1)
    return tuple(merges)


def rank_table(merges: Merges, symbols: int) -> Array:
    """Return (V + 1, V + 1) int32: the rank of the merge of each pair of the V symbols, len(merges) where there is none; V is the separator."""
    size = symbols + len(merges) + 1
    table = np.full((size, size), len(merges), np.int32)
    for rank, pair in enumerate(merges):
        table[pair] = rank
    return table


def merge_sequences(sequences: Sequence[Array], table: Array, symbols: int) -> list[Array]:
    """Return each sequence with all merges made: in each, the pair of the lowest rank first, wherever it stands, until there is none.

    Args:
        sequences: each (L,) integers in [0, symbols).
        table: of `rank_table`.
        symbols: how many there are before any merge.
    """
    size = len(table)
    none = size - 1 - symbols
    row, lengths = _joined(sequences, size - 1)
    open_ones = np.arange(len(sequences))  # which sequences the row still holds
    done: list[Array] = [np.zeros(0, np.int32)] * len(sequences)
    flat = table.reshape(-1)
    while len(open_ones):
        owner = np.repeat(np.arange(len(open_ones)), lengths)
        starts = np.cumsum(lengths) - lengths
        ranks = np.append(flat[row[:-1] * size + row[1:]], none)
        lowest = np.minimum.reduceat(ranks, starts)
        if (lowest == none).any():
            finished = lowest == none
            for index in np.flatnonzero(finished):
                done[open_ones[index]] = row[starts[index] : starts[index] + lengths[index] - 1]
            keep = ~finished[owner]
            row, ranks, owner = row[keep], ranks[keep], (np.cumsum(~finished) - 1)[owner[keep]]
            open_ones, lengths, lowest = open_ones[~finished], lengths[~finished], lowest[~finished]
            if not len(open_ones):
                break
        hits = _apart(np.flatnonzero(ranks == lowest[owner]))
        row, _ = _merged(row, hits, (symbols + ranks[hits]).astype(row.dtype))
        lengths = lengths - np.bincount(owner[hits], minlength=len(lengths))
    return done


def expansions(merges: Merges, symbols: int) -> tuple[tuple[int, ...], ...]:
    """Return for each symbol of the vocabulary the first symbols that it stands for."""
    found: list[tuple[int, ...]] = [(symbol,) for symbol in range(symbols)]
    for first, second in merges:
        found.append(found[first] + found[second])
    return tuple(found)


def _joined(sequences: Sequence[Array], separator: int) -> tuple[Array, Array]:
    """Return the sequences one behind the other, a separator after each; and their lengths with it."""
    lengths = np.array([len(sequence) + 1 for sequence in sequences], np.int64)
    row = np.full(int(lengths.sum()), separator, np.int32)
    inside = np.ones(len(row), bool)
    inside[np.cumsum(lengths) - 1] = False
    if len(sequences):
        row[inside] = np.concatenate(sequences)
    return row, lengths


def _apart(hits: Array) -> Array:
    """Return the hits without those that overlap the one before: in a run of neighbours every second one, from the left."""
    starts = np.ones(len(hits), bool)
    starts[1:] = np.diff(hits) != 1
    start = np.maximum.accumulate(np.where(starts, hits, 0))
    return np.asarray(hits[(hits - start) % 2 == 0])


def _merged(row: Array, hits: Array, new: Array) -> tuple[Array, Array]:
    """Return the row with a new symbol for the two at each hit, and where the new ones then stand."""
    row = row.copy()
    row[hits] = new
    keep = np.ones(len(row), bool)
    keep[hits + 1] = False
    return row[keep], hits - np.arange(len(hits))


def _count(flat: Array, row: Array, places: Array, separator: int, by: int) -> None:
    """Add `by` to the count of the pair at each place of the row."""
    first, second = row[places].astype(np.int64), row[places + 1].astype(np.int64)
    inside = (first != separator) & (second != separator)
    np.add.at(flat, first[inside] * separator + second[inside], by)
