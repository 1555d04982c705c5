import numpy as np
import pytest

from dataengine.evaluate.ranking import auc, kendall, ranks, spearman


def test_equal_numbers_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 3.0, 0.5])).tolist() == [4.0, 2.0, 4.0, 4.0, 1.0]


def test_rank_correlations_by_hand() -> None:
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([10.0, 30, 20, 50, 40])
    assert spearman(a, b) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)
    assert kendall(a, b) == pytest.approx(0.6)  # 8 pairs in order, 2 out of it, of 10
    assert spearman(a, -b) == pytest.approx(-0.8)
    assert kendall(np.exp(a), b**3) == pytest.approx(0.6)  # only the order counts
    # ties: of 6 pairs one is tied in x, one in y; 4 in order, none out: 4 / sqrt(5 * 5)
    assert kendall(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 3])) == pytest.approx(0.8)


def test_what_never_changes_has_no_order() -> None:
    assert np.isnan(spearman(np.zeros(4), np.arange(4.0)))
    assert np.isnan(kendall(np.zeros(4), np.arange(4.0)))
    assert np.isnan(kendall(np.zeros(1), np.zeros(1)))


@pytest.mark.parametrize("count", [2, 3, 17, 64, 200])
def test_kendall_is_that_of_all_pairs_counted(count: int) -> None:
    generator = np.random.default_rng(count)
    a, b = generator.integers(0, 12, count).astype(float), generator.integers(0, 9, count).astype(float)
    signs = np.sign(a[:, None] - a[None]) * np.sign(b[:, None] - b[None])
    there = [(np.sign(each[:, None] - each[None]) != 0).sum() for each in (a, b)]
    if min(there):
        assert kendall(a, b) == pytest.approx(signs.sum() / np.sqrt(there[0] * there[1]))


def test_the_area_under_the_curve_by_hand() -> None:
    score, yes = np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, False, True, False])
    assert auc(score, yes) == pytest.approx(3.5 / 4)
    assert auc(-score, yes) == pytest.approx(0.5 / 4)
    assert np.isnan(auc(score, np.ones(4, bool)))
