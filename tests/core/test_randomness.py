from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.randomness import hash64, mix64, text_key, uniforms

GAMMA = 0x9E3779B97F4A7C15
GOLDEN_HASHES = [8075172986249684972, 14574897457539200646, 1650069959653123811]
GOLDEN_UNIFORMS = [0.43775600474440823, 0.7901067743608727, 0.08945047175044918]
GOLDEN_ORDER = [8, 5, 3, 2, 9, 7, 6, 0, 1, 4]
GOLDEN_TEXT = 17162744248761022530


def by_hand(state: int) -> int:
    """Return the first number of splitmix64, in Python's own integers."""
    bits = (1 << 64) - 1
    z = (state + GAMMA) & bits
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
    return z ^ (z >> 31)


def test_the_published_sequences() -> None:
    """The streams of splitmix64 from the states 0 and 1234567, as other implementations print them."""
    assert [int(mix64((0 + step * GAMMA) % (1 << 64))) for step in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(mix64((1234567 + step * GAMMA) % (1 << 64))) for step in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_shapes_and_values_agree_with_plain_integers() -> None:
    states = np.array([[0, 1, -1], [7, 1 << 40, np.iinfo(np.int64).min]], dtype=np.int64)
    mixed = mix64(states)
    assert mixed.dtype == np.uint64
    assert mixed.tolist() == [[by_hand(int(state) % (1 << 64)) for state in row] for row in states]
    assert mix64(-1).shape == ()
    assert mix64(-1) == mix64((1 << 64) - 1) == by_hand((1 << 64) - 1)
    assert states[1, 2] == np.iinfo(np.int64).min  # the input is not written into


def test_golden_hashes() -> None:
    assert hash64(7).item() == by_hand(7)
    assert hash64(7, 3, 11).item() == by_hand(by_hand(by_hand(7) ^ 3) ^ 11)
    assert hash64(7, 1, np.arange(3)).tolist() == GOLDEN_HASHES
    assert uniforms(7, 1, np.arange(3)).tolist() == GOLDEN_UNIFORMS
    assert np.argsort(hash64(7, 0, np.arange(10))).tolist() == GOLDEN_ORDER


def test_the_order_of_keys_counts_and_arrays_broadcast() -> None:
    assert hash64(1, 2, 3) != hash64(1, 3, 2)
    assert hash64(1, 2) != hash64(2, 1)
    table = hash64(5, np.arange(4)[:, None], np.arange(3))
    assert table.shape == (4, 3)
    assert table[2, 1] == hash64(5, 2, 1)


def test_uniforms_are_even_and_independent_of_their_neighbours() -> None:
    drawn = uniforms(0, 0, np.arange(200_000))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 10_000).max() < 500  # 5 standard deviations of 97
    others = [uniforms(0, 1, np.arange(200_000)), uniforms(1, 0, np.arange(200_000)), np.roll(drawn, 1)]
    assert all(abs(np.corrcoef(drawn, other)[0, 1]) < 0.012 for other in others)  # 5 / sqrt(200,000)
    assert len(np.unique(hash64(3, 4, np.arange(200_000)))) == 200_000


def test_what_is_no_integer_is_refused() -> None:
    with pytest.raises(TypeError, match="keys: must be integers, got float64"):
        hash64(0, np.array([1.5]))


def test_texts_have_keys() -> None:
    assert text_key("camera:primary") == GOLDEN_TEXT
    assert text_key("camera:primary") != text_key("camera:wrist")
