"""Intervals by resampling whole episodes: frames of one episode are too alike to count as many."""

from __future__ import annotations

import numpy as np

from dataengine.core.arrays import Array

RESAMPLES = 1000
LEVEL = 0.95
LEAST_EPISODES = 5  # of fewer, resamples are so few different ones that what lies between them is no interval


def resampled(episodes: int, seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """Return how often each episode stands in each resample: (B, E) float64, the same for the same arguments.

    What is a sum over episodes, (E, ...), becomes its (B, ...) resamples by a product with it.
    """
    rng = np.random.default_rng([seed, episodes])
    return rng.multinomial(episodes, np.full(episodes, 1 / max(1, episodes)), size=resamples).astype(np.float64)


def interval(values: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Return the ends (...,) of the interval that holds so much of resampled values (B, ...); NaN where most of them could not be worked out."""
    edge = (1 - level) / 2
    there = np.isfinite(values)
    enough = there.mean(axis=0) > 0.5
    kept = np.where(there | ~enough, values, np.nan)
    with np.errstate(all="ignore"):
        low, high = np.nanquantile(np.where(enough, kept, 0.0), [edge, 1 - edge], axis=0)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def episode_sums(values: Array, episode: Array, episodes: int) -> Array:
    """Return sums over the rows of each episode: (E, ...) of (N, ...) values and (N,) numbers of episodes."""
    found = np.zeros((episodes, *values.shape[1:]))
    np.add.at(found, episode, values)
    return found
