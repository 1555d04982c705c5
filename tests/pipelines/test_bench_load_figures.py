"""Figures of the reading benchmark, with numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.bench_load_figures import (
    Tried,
    clip_pairs_ratio,
    episode_variance_ratio,
    pairs_of_one,
    perfect_pairs_of_one,
    pooled_psnr_db,
    psnr_db,
    search_crf,
)


def test_psnr_of_a_mean_squared_error_of_25() -> None:
    assert psnr_db(300.0, 12) == pytest.approx(34.15140, abs=1e-5)  # 10 log10(65025 / 25)
    assert psnr_db(0.0, 12) == math.inf


def test_psnr_is_pooled_over_cameras_and_episodes_not_averaged() -> None:
    errors = {"front": [[100.0, 4], [0.0, 4]], "wrist": [[300.0, 12], [50.0, 2]]}
    assert pooled_psnr_db(errors) == pytest.approx(10 * math.log10(65025 * 22 / 450))
    assert pooled_psnr_db(errors, [1]) == pytest.approx(10 * math.log10(65025 * 6 / 50))


def test_pairs_of_samples_from_one_clip() -> None:
    # 1 + 1 pairs in the first batch, 3 in the second; of 8 samples 2 + 2 + 6 + 0 = 10 ordered pairs in 56 are of one clip, and each batch holds 6 pairs.
    batches = [np.array([0, 0, 1, 1]), np.array([2, 2, 2, 3])]
    assert pairs_of_one(batches) == 2.5
    assert perfect_pairs_of_one(batches) == pytest.approx(60 / 56)
    assert clip_pairs_ratio(batches) == pytest.approx(2.5 * 56 / 60)


def test_variance_of_a_constant_of_each_episode() -> None:
    assert episode_variance_ratio([np.array([4, 4]), np.array([9, 9])]) == pytest.approx(3.0)
    # Shares 3/5 and 2/5. Batch of two: 2 * 0.4^2; of three: 2 * (3/5 - 1/3)^2. Expected: 0.48 / 2 * 3 / 4 + 0.48 / 3 * 2 / 4.
    seen = 2 * 0.4**2 + 2 * (3 / 5 - 1 / 3) ** 2
    assert episode_variance_ratio([np.array([0, 0]), np.array([0, 1, 1])]) == pytest.approx(seen / 0.26)


def test_the_variance_is_that_of_random_constants() -> None:
    rng = np.random.default_rng(3)
    batches = [np.array([0, 0, 1]), np.array([2, 1, 1, 0])]
    order = np.concatenate(batches)
    constants = rng.normal(size=(200_000, 3))
    values = constants[:, order]
    deviation = [values[:, :3].mean(axis=1) - values.mean(axis=1), values[:, 3:].mean(axis=1) - values.mean(axis=1)]
    seen = sum(float(np.mean(one**2)) for one in deviation)
    expected = float(np.mean(values.var(axis=1))) * (1 / 3 * 4 / 6 + 1 / 4 * 3 / 6)
    assert episode_variance_ratio(batches) == pytest.approx(seen / expected, rel=0.01)


def test_a_random_permutation_comes_to_one() -> None:
    rng = np.random.default_rng(5)
    clips = np.repeat(np.arange(60), [7, 31, 22] * 20)
    ratios = []
    for _ in range(20):
        batches = np.array_split(rng.permutation(clips), 37)
        ratios.append((clip_pairs_ratio(batches), episode_variance_ratio(batches)))
    assert np.mean(ratios, axis=0) == pytest.approx([1.0, 1.0], abs=0.03)


def tried(target_db: float, most_bytes: float, start: int = 20) -> tuple[Tried, list[int]]:
    """Search where each step of CRF costs 0.4 dB, 44 dB at 0, and six steps halve the bytes from 6400 at 0."""
    asked: list[int] = []

    def encode(crf: int) -> Tried:
        asked.append(crf)
        return Tried(crf, 44 - 0.4 * crf, round(6400 / 2 ** (crf / 6)))

    return search_crf(encode, target_db, most_bytes, start), asked


def test_the_search_ends_at_the_nearest_quality() -> None:
    found, asked = tried(33.25, 1e9)
    assert found.crf == 27  # 33.2 dB
    assert len(asked) <= 6
    assert len(set(asked)) == len(asked)


def test_the_search_keeps_to_the_bytes() -> None:
    found, _ = tried(36.0, 600)  # CRF 20 has 36.0 dB, but 635 bytes; CRF 21 has 566
    assert found.crf == 21


def test_where_nothing_keeps_to_the_bytes_the_nearest_quality_is_taken() -> None:
    assert tried(36.0, 1)[0].crf == 20
