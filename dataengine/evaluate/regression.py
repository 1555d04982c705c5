"""How near numbers come to what was measured: R², mean absolute error, slope, scale and bias of each dimension.

All of it follows from sums over episodes, so that resampling episodes costs one product.
"""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.evaluate.resampling import episode_sums

FIGURES = ("r2", "mae", "rmse", "bias", "slope", "calibration_slope", "scale_ratio", "correlation")


def errors(truth: Array, said: Array, angle: Array) -> Array:
    """Return what was said less what was measured (N, D); of angles, in rad, the short way round."""
    difference = said - truth
    turned = np.remainder(difference + np.pi, 2 * np.pi) - np.pi
    return np.where(angle, turned, difference)


def regression_sums(truth: Array, said: Array, episode: Array, episodes: int, angle: Array | None = None) -> Array:
    """Return what the figures are made of, a row an episode.

    Args:
        truth: (N, D) measured.
        said: (N, D).
        episode: (N,) numbers of episodes.
        episodes: E of them.
        angle: (D,) bool: which dimensions are angles in rad; measured around their mean direction.

    Returns:
        (E, D, 7): count, sums of y, y², p, p², yp and |p - y|, with y and p taken from the mean of all y.
    """
    require(truth.shape == said.shape and truth.ndim == 2, f"what is compared must be (N, D) on both sides, got {truth.shape} and {said.shape}")
    turned = np.zeros(truth.shape[1], np.bool_) if angle is None else np.asarray(angle)
    off = errors(truth, said, turned)
    mean = np.arctan2(np.sin(truth).mean(0), np.cos(truth).mean(0)) if turned.any() and len(truth) else np.zeros(truth.shape[1])
    centre = np.where(turned, mean, truth.mean(0)) if len(truth) else np.zeros(truth.shape[1])
    y = errors(np.broadcast_to(centre, truth.shape), truth, turned)
    p = y + off
    return episode_sums(np.stack([np.ones_like(y), y, y * y, p, p * p, y * p, np.abs(off)], axis=-1), episode, episodes)


def regression_figures(sums: Array) -> dict[str, Array]:
    """Return the figures of sums (..., D, 7), each (..., D); NaN where they cannot be worked out.

    - `r2`: 1 - squared error over the variance of what was measured; 0 for the mean, below 0 for what is worse.
    - `slope`: of what was said over what was measured: below 1 where labels are drawn to the mean. `calibration_slope` the other way round: of what was
      measured over what was said.
    - `scale_ratio`: the standard deviation of what was said over that of what was measured.
    - `bias`: the mean of what was said less that of what was measured; `mae`, `rmse`: in the units of the column.
    """
    n, y, yy, p, pp, yp, off = (sums[..., place] for place in range(7))
    with np.errstate(all="ignore"):
        variance_y, variance_p = yy / n - (y / n) ** 2, pp / n - (p / n) ** 2
        covariance = yp / n - (y / n) * (p / n)
        squared = (pp - 2 * yp + yy) / n
        known = (n > 1) & (variance_y > 1e-18)
        moving = known & (variance_p > 1e-18)
        found = {
            "r2": np.where(known, 1 - squared / variance_y, np.nan),
            "mae": np.where(n > 0, off / n, np.nan),
            "rmse": np.where(n > 0, np.sqrt(np.maximum(squared, 0)), np.nan),
            "bias": np.where(n > 0, (p - y) / n, np.nan),
            "slope": np.where(known, covariance / variance_y, np.nan),
            "calibration_slope": np.where(moving, covariance / variance_p, np.nan),
            "scale_ratio": np.where(known, np.sqrt(np.maximum(variance_p, 0) / variance_y), np.nan),
            "correlation": np.where(moving, covariance / np.sqrt(variance_y * variance_p), np.nan),
        }
    return found
