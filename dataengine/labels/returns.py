"""What a histogram of the return says: its mean, an interval, the chance of success, how far it still is, and whether what was done next was better than expected.

Histograms are (T, K) float64 over K atoms: the first is the return of a failed episode, the others rise from -1 (a whole longest episode remains) to 0 (done).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array

LOW, HIGH = 0.16, 0.84  # the middle 68 %
UNFORESEEN = 0.01  # of the mass is spread over all atoms: a gap without any would let an end of the interval jump for the last digit of a share


def expected(histogram: Array, atoms: Array) -> Array:
    """Return the mean (T,) of each histogram."""
    return np.asarray(histogram @ atoms)


def spread(histogram: Array, atoms: Array) -> Array:
    """Return the standard deviation (T,) of each histogram."""
    mean = expected(histogram, atoms)
    return np.asarray(np.sqrt(np.maximum(histogram @ atoms**2 - mean**2, 0)))


def quantile(histogram: Array, atoms: Array, share: float) -> Array:
    """Return where a share of the mass lies below (T,), by straight lines between atoms, of each of which half lies below it."""
    mass = (1 - UNFORESEEN) * histogram + UNFORESEEN / len(atoms)
    below = np.cumsum(mass, axis=1) - mass / 2
    below /= below[:, -1:] + mass[:, -1:] / 2
    return np.array([np.interp(share, row, atoms) for row in below])


def success_mass(histogram: Array) -> Array:
    """Return the chance of success (T,): all mass but that of failure."""
    return np.asarray(1 - histogram[:, 0])


def if_successful(histogram: Array) -> Array:
    """Return the histograms over the returns of success alone (T, K - 1)."""
    left = histogram[:, 1:]
    total = left.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 1e-9, left / np.maximum(total, 1e-9), 1 / left.shape[1]))


@dataclass(frozen=True)
class Outcome:
    """How an episode ended, as far as somebody said, and how many steps the longest of its task takes."""

    longest: float
    success: bool | None
    failure: float

    def returns(self, steps: int) -> Array:
        """Return the return of each step (T,); NaN where the outcome is not known."""
        if self.success is None:
            return np.full(steps, np.nan)
        if not self.success:
            return np.full(steps, self.failure)
        return np.maximum(-np.arange(steps - 1, -1, -1) / self.longest, -1.0)


def advantages(values: Array, spreads: Array, chances: Array, ahead: int, outcome: Outcome) -> tuple[Array, Array, Array]:
    """Return how much better the next steps were than expected (T,), its standard deviation, and whether it is known.

    A_t = sum of the rewards of n steps + V(t + n) - V(t). A step of an episode that succeeds is rewarded with -1 over the longest episode, one of an episode that fails with nothing,
    since all of a failure has one return: else every step towards a likely failure would seem a bad one. Where nobody said how it ended a step costs what is to be expected, the
    chance of success (T,) at t times the cost of success. Where the episode ends within n steps the advantage is its return, less V(t); where nobody said how it ended, n is what is
    left of it, and the last step has no advantage. The deviation takes the two values as independent.
    """
    steps = len(values)
    at = np.arange(steps)
    later = np.minimum(at + ahead, steps - 1)
    cost = chances if outcome.success is None else float(outcome.success)
    bootstrapped = -cost * (later - at) / outcome.longest + values[later] - values
    deviation = np.hypot(spreads, spreads[later])
    known = later > at
    if outcome.success is None:
        return bootstrapped, deviation, known
    ends = at + ahead >= steps - 1
    return np.where(ends, outcome.returns(steps) - values, bootstrapped), np.where(ends, spreads, deviation), np.ones(steps, np.bool_)


def shares(logits: Array) -> Array:
    """Return histograms (T, K) of logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def surprise(logits: Array, returns: Array, atoms: Array) -> float:
    """Return the mean cross-entropy in nats between returns (T,), shared between the atoms beside each, and histograms of logits (T, K)."""
    above = np.clip(np.searchsorted(atoms, returns), 1, len(atoms) - 1)
    share = (np.clip(returns, atoms[0], atoms[-1]) - atoms[above - 1]) / (atoms[above] - atoms[above - 1])
    logarithm = np.log(np.maximum(shares(logits), 1e-12))
    row = np.arange(len(returns))
    return float(-np.mean((1 - share) * logarithm[row, above - 1] + share * logarithm[row, above]))


def best_temperature(logits: Array, returns: Array, atoms: Array) -> float:
    """Return what logits are divided by for the least surprise, from 1/4 to 8, in steps of 2 %."""
    tried = np.exp(np.arange(np.log(0.25), np.log(8), 0.02))
    return float(min(tried, key=lambda temperature: surprise(logits / temperature, returns, atoms)))
