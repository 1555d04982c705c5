"""How well a gripper's class is said: balanced accuracy, F1, and by how many frames the moments of switching are off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.resampling import episode_sums

FIGURES = ("balanced_accuracy", "accuracy", "f1", "precision", "recall", "share_upper")
FARTHEST_STEPS = 10  # a switch that is said farther away than that is another one


def class_sums(truth: Array, said: Array, episode: Array, episodes: int) -> Array:
    """Return what the figures are made of: (E, 4) counts of upper said upper, lower said upper, upper said lower, lower said lower, from (N,) bool each."""
    return episode_sums(np.stack([truth & said, ~truth & said, truth & ~said, ~truth & ~said], axis=-1).astype(np.float64), episode, episodes)


def class_figures(sums: Array) -> dict[str, Array]:
    """Return the figures of counts (..., 4), each (...,); `f1`, `precision` and `recall` are of the upper class. NaN where a class is not there."""
    hit, false, missed, right = (sums[..., place] for place in range(4))
    with np.errstate(all="ignore"):
        recall, specificity = hit / (hit + missed), right / (right + false)
        total = hit + false + missed + right
        return {
            "balanced_accuracy": (recall + specificity) / 2,
            "accuracy": (hit + right) / total,
            "f1": 2 * hit / (2 * hit + false + missed),
            "precision": hit / (hit + false),
            "recall": recall,
            "share_upper": (hit + missed) / total,
        }


@dataclass(frozen=True)
class Switches:
    """Moments at which a class changes, of all episodes together.

    `measured` and `said` count them; `found` are the measured ones for which one of the same direction was said at most ten steps away, each said one counting once;
    `late_steps` is by how many steps the found ones were said late on average (negative: early), `off_steps` the mean size of that. None where none was found.
    """

    measured: int
    said: int
    found: int
    late_steps: float | None
    off_steps: float | None


def switches(truth: Array, said: Array, episode: Array, farthest: int = FARTHEST_STEPS) -> Switches:
    """Compare the switches of (N,) bool classes, rows in order of time within each episode (N,)."""
    measured = count = 0
    delays: list[int] = []
    for one in np.unique(episode):
        rows = episode == one
        for direction in (True, False):
            at, heard = _changes(truth[rows], direction), _changes(said[rows], direction)
            measured, count = measured + len(at), count + len(heard)
            delays += _matched(at, heard, farthest)
    return Switches(measured, count, len(delays), float(np.mean(delays)) if delays else None, float(np.mean(np.abs(delays))) if delays else None)


def _changes(classes: Array, up: bool) -> list[int]:
    """Return the steps at which a class becomes upper, or lower: the first of the new class."""
    steps = classes.astype(np.int8)
    return (np.flatnonzero(np.diff(steps) == (1 if up else -1)) + 1).tolist()


def _matched(at: list[int], heard: list[int], farthest: int) -> list[int]:
    """Return how late each measured switch was said, nearest pairs first, each used once."""
    pairs = sorted((abs(other - one), one, other) for one in at for other in heard if abs(other - one) <= farthest)
    free, unheard, delays = set(at), set(heard), []
    for _, one, other in pairs:
        if one in free and other in unheard:
            free.discard(one)
            unheard.discard(other)
            delays.append(other - one)
    return delays
