from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.stats.sketches import LEVEL_SIZE, QuantileSketch

SHARES = np.array([0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0])
RNG = np.random.default_rng(5)
N = 200_000
DISTRIBUTIONS = {
    "normal": RNG.normal(size=N),
    "skewed": RNG.lognormal(0, 3, N),
    "sorted": np.sort(RNG.normal(size=N)),
    "falling": -np.sort(RNG.gamma(0.3, 2, N)),
    "gripper": RNG.choice([0.0, 1.0], N, p=[0.3, 0.7]),
    "mostly zero": np.where(RNG.random(N) < 0.95, 0.0, RNG.normal(5, 1, N)),
    "episodes": np.repeat(RNG.normal(size=N // 100), 100),
}


def rank_error(values, found, share):
    """How far the share is from the ranks that the found number holds."""
    ordered = np.sort(values)
    assert found in values
    below = np.searchsorted(ordered, found, "left") / len(values)
    upto = np.searchsorted(ordered, found, "right") / len(values)
    return max(0.0, below - share, share - upto)


def sketch_of(values, pieces):
    sketch = QuantileSketch()
    for piece in np.array_split(values, pieces):
        sketch.update(piece)
    return sketch


def test_few_numbers_are_exact():
    sketch = QuantileSketch()
    sketch.update(np.array([3.0, 1.0]))
    sketch.update(np.array([2.0, 10.0]))
    # at least half of 1, 2, 3, 10 are not above 2
    assert sketch.quantiles(np.array([0.0, 0.25, 0.5, 0.51, 0.75, 1.0])).tolist() == [1, 1, 2, 3, 3, 10]
    assert sketch.rank_error == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300), st.integers(1, 5))
@settings(deadline=None)
def test_small_samples_agree_with_numpy(numbers, pieces):
    values = np.array(numbers)
    expected = np.quantile(values, SHARES, method="inverted_cdf")
    assert sketch_of(values, pieces).quantiles(SHARES).tolist() == expected.tolist()


def test_up_to_a_level_it_is_exact():
    values = RNG.normal(size=LEVEL_SIZE)
    sketch = sketch_of(values, 50)
    assert sketch.rank_error == 0
    assert sketch.quantiles(SHARES).tolist() == np.quantile(values, SHARES, method="inverted_cdf").tolist()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("pieces", [1, 37, 3000])
def test_many_numbers_are_within_the_error_that_is_stated(name, pieces):
    values = DISTRIBUTIONS[name]
    sketch = sketch_of(values, pieces)
    assert 0 < sketch.rank_error < 0.0005
    for share, found in zip(SHARES, sketch.quantiles(SHARES), strict=True):
        assert rank_error(values, found, share) <= sketch.rank_error + 1 / N


def test_merging_in_any_order_stays_within_the_error():
    values = DISTRIBUTIONS["skewed"]
    parts = [sketch_of(piece, 9) for piece in np.array_split(values, 60)]
    for order in (parts, parts[::-1], sorted(parts, key=lambda part: part.quantiles(np.array([0.5]))[0])):
        merged = QuantileSketch()
        for part in order:
            merged.merge(part)
        assert merged.count == N
        assert merged.rank_error < 0.001
        for share, found in zip(SHARES, merged.quantiles(SHARES), strict=True):
            assert rank_error(values, found, share) <= merged.rank_error + 1 / N


def test_the_same_numbers_give_the_same_answer():
    values = DISTRIBUTIONS["normal"]
    assert sketch_of(values, 91).quantiles(SHARES).tolist() == sketch_of(values, 91).quantiles(SHARES).tolist()


def test_what_is_merged_stays_as_it_was():
    first, second = sketch_of(np.arange(20_000.0), 3), sketch_of(np.arange(5.0), 1)
    before = second.quantiles(SHARES).tolist()
    first.merge(second)
    second.update(np.array([99.0]))
    assert second.quantiles(np.array([1.0])).tolist() == [99.0]
    assert before == [0, 0, 0, 2, 4, 4, 4]
    assert first.count == 20_005
    assert first.quantiles(np.array([1.0]))[0] < 20_000


def test_an_empty_sketch_knows_nothing():
    assert np.isnan(QuantileSketch().quantiles(SHARES)).all()
    assert QuantileSketch().rank_error == 0
