"""Use of codes over all labels: dead codes, perplexity and entropy by dataset, by hand."""

import math

import numpy as np
import pytest

from dataengine.models.codebook_health import CodebookHealth


def test_figures_by_hand() -> None:
    health = CodebookHealth(tokens=2, size=4)
    health.add("a", np.array([[0, 1], [0, 2]]))
    health.add("b", np.array([[1, 1], [2, 1]]))
    health.add("a", np.array([[0, 3], [0, 0]]))
    found = health.report()
    assert found["labels"] == 6
    assert found["dead"] == 1  # of the first token the fourth
    assert found["usage"] == pytest.approx(7 / 8)
    first = -(4 / 6 * math.log2(4 / 6) + 2 * (1 / 6) * math.log2(1 / 6))
    second = -(3 / 6 * math.log2(3 / 6) + 3 * (1 / 6) * math.log2(1 / 6))
    assert found["entropy_bits"] == pytest.approx((first + second) / 2)
    assert found["perplexity"] == pytest.approx((2**first + 2**second) / 2)
    assert found["perplexity_by_token"] == pytest.approx([2**first, 2**second])
    assert found["most_bits"] == 2
    assert found["entropy_bits_by_dataset"] == pytest.approx({"a": (0 + 2) / 2, "b": (1 + 0) / 2})


def test_rare_codes_are_not_dead() -> None:
    health = CodebookHealth(tokens=1, size=3)
    for _ in range(100):
        health.add("a", np.zeros((64, 1), np.int64))
    health.add("a", np.array([[2]]))
    assert health.report()["dead"] == 1
    assert health.report()["perplexity"] < 1.01


def test_more_codes_than_can_be_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        CodebookHealth(8, 5**12)
