"""Whether what a model says of its own certainty is true: the share of measured values inside intervals, and confidence against how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.resampling import episode_sums

BINS = 10


def coverage_sums(truth: Array, low: Array, high: Array, episode: Array, episodes: int) -> Array:
    """Return (E, D, 3) count, how many lie inside, and the sum of widths, of (N, D) each; where an end is NaN there is no interval."""
    there = np.isfinite(low) & np.isfinite(high)
    inside = there & (truth >= low) & (truth <= high)
    width = np.where(there, high - low, 0.0)
    return episode_sums(np.stack([there, inside, width], axis=-1).astype(np.float64), episode, episodes)


def coverage_figures(sums: Array) -> dict[str, Array]:
    """Return the share inside and the mean width of sums (..., D, 3), each (..., D)."""
    with np.errstate(all="ignore"):
        return {"coverage": sums[..., 1] / sums[..., 0], "width": sums[..., 2] / sums[..., 0]}


def widened(said: Array, low: Array, high: Array, stated: float, wanted: float) -> tuple[Array, Array]:
    """Return intervals of another level from those of a stated one, each side stretched as that of a normal distribution would be."""
    factor = NormalDist().inv_cdf((1 + wanted) / 2) / NormalDist().inv_cdf((1 + stated) / 2)
    return said - factor * (said - low), said + factor * (high - said)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against truth in ten bins of [0, 1]: `mean` confidence, `right` share and `count` of each (10,), and `ece`, their mean distance weighted by count."""

    mean: Array
    right: Array
    count: Array
    ece: float


def reliability(confidence: Array, right: Array) -> Reliability | None:
    """Compare confidences (N,) in [0, 1] with what was right (N,) bool; None where no confidence was given."""
    there = np.isfinite(confidence)
    if not there.any():
        return None
    said, true = confidence[there].astype(np.float64), right[there].astype(np.float64)
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS).astype(np.float64)
    with np.errstate(all="ignore"):
        mean = np.bincount(place, said, BINS) / count
        share = np.bincount(place, true, BINS) / count
    full = count > 0
    return Reliability(mean, share, count, float((count[full] * np.abs(mean[full] - share[full])).sum() / count.sum()))
