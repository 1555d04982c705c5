"""Figures of the reading benchmark as plain functions: picture quality, the search for an equal one, and how well a shuffled order mixes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array

# x264 at a key frame every 10 frames: about so many dB less for each step of CRF.
DB_A_CRF = 0.5

Errors = Mapping[str, Sequence[Sequence[float]]]


def psnr_db(squared_error: float, values: float) -> float:
    """Return 10 log10(255^2 / mean squared error) of 8-bit values; infinite for no error at all."""
    return math.inf if squared_error == 0 else 10 * math.log10(255**2 * values / squared_error)


def pooled_psnr_db(errors: Errors, episodes: Sequence[int] | None = None) -> float:
    """Return the PSNR over all cameras and episodes together (one mean squared error).

    Args:
        errors: for each camera and each episode [sum of squared errors, number of values].
        episodes: which to take; None for all.
    """
    chosen = [pair for each in errors.values() for pair in (each if episodes is None else [each[episode] for episode in episodes])]
    return psnr_db(sum(pair[0] for pair in chosen), sum(pair[1] for pair in chosen))


@dataclass(frozen=True)
class Tried:
    """What an encoding at `crf` came to."""

    crf: int
    psnr_db: float
    bytes: int


def search_crf(encode: Callable[[int], Tried], target_db: float, most_bytes: float, start: int = 20, tries: int = 6, tolerance_db: float = 0.3) -> Tried:
    """Find the CRF whose PSNR is nearest to a target at no more than `most_bytes`.

    Each try goes where the last one points. It ends within half of `tolerance_db`, or within all of it where the next try was made already. Where nothing keeps to
    the bytes, the nearest of all is taken.
    """
    tried: dict[int, Tried] = {}
    crf = start
    while len(tried) < tries and 1 <= crf <= 51:
        tried[crf] = one = encode(crf)
        ahead, fits = one.psnr_db - target_db, one.bytes <= most_bytes
        if fits and abs(ahead) <= tolerance_db / 2:
            break
        step = round(max(-6.0, min(6.0, ahead / DB_A_CRF))) or (1 if ahead > 0 else -1)
        step = step if fits else max(step, 1)
        crf = max(1, min(51, crf + step))
        if crf in tried and any(each.bytes <= most_bytes and abs(each.psnr_db - target_db) <= tolerance_db for each in tried.values()):
            break
        while crf in tried:
            crf += 1 if step > 0 else -1
    within = [one for one in tried.values() if one.bytes <= most_bytes]
    return min(within or tried.values(), key=lambda one: abs(one.psnr_db - target_db))


def pairs_of_one(groups: Sequence[Array]) -> float:
    """Return the mean over batches of the number of pairs of samples of one group.

    Args:
        groups: for each batch the (B,) group of each sample.
    """
    counts = [np.unique(batch, return_counts=True)[1].astype(np.int64) for batch in groups]
    return float(np.mean([(count * (count - 1) // 2).sum() for count in counts]))


def perfect_pairs_of_one(groups: Sequence[Array]) -> float:
    """Return what `pairs_of_one` comes to on the average where all samples of all batches are permuted at random.

    A pair of places in one batch holds two samples of one group with probability sum_g n_g (n_g - 1) / (N (N - 1)).
    """
    sizes = np.unique(np.concatenate(list(groups)), return_counts=True)[1].astype(np.float64)
    total = sizes.sum()
    together = float((sizes * (sizes - 1)).sum() / (total * (total - 1)))
    return together * float(np.mean([len(batch) * (len(batch) - 1) / 2 for batch in groups]))


def clip_pairs_ratio(clips: Sequence[Array]) -> float:
    """Return how many more pairs of samples from one clip a batch holds than under a perfect shuffle (1 = as many)."""
    return pairs_of_one(clips) / perfect_pairs_of_one(clips)


def episode_variance_ratio(episodes: Sequence[Array]) -> float:
    """Return the variance over batches of the batch mean of a per-episode constant, over its value under a perfect shuffle.

    It is the ratio for independent random constants of equal variance, averaged exactly over them: with p the share of an episode in all samples and q its share
    in a batch of B, sum (q - p)^2 stands over sum p (1 - p) / B * (N - B) / (N - 1) (drawing without replacement).

    Args:
        episodes: for each batch the (B,) episode of each sample; together one epoch.
    """
    names, places = np.unique(np.concatenate(list(episodes)), return_inverse=True)
    total = len(places)
    share = np.bincount(places, minlength=len(names)) / total
    spread = float((share * (1 - share)).sum())
    seen, expected, at = 0.0, 0.0, 0
    for batch in episodes:
        size = len(batch)
        here = np.bincount(places[at : at + size], minlength=len(names)) / size
        seen += float(((here - share) ** 2).sum())
        expected += spread / size * (total - size) / (total - 1)
        at += size
    return seen / expected
