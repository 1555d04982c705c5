"""A score made a probability: one-dimensional logistic regression (Platt 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array, require

STEPS = 50
PENALTY = 1e-3  # keeps the slope finite where the classes do not overlap


@dataclass(frozen=True)
class Logistic:
    """P(upper | score) = 1 / (1 + exp(-(slope * score + shift)))."""

    slope: float
    shift: float

    def __call__(self, score: Array) -> Array:
        """Return probabilities, float64."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * np.asarray(score, np.float64) + self.shift, -60, 60))))


def fit_logistic(score: Array, upper: Array) -> Logistic:
    """Fit to scores (N,) and whether each was of the upper class (N,) bool, by Newton's method; targets are drawn in by a count of one, as Platt does."""
    require(len(score) == len(upper) and len(score) > 0, "logistic: must have as many scores as classes, and some")
    high = (upper.sum() + 1) / (upper.sum() + 2)
    low = 1 / ((~upper).sum() + 2)
    wanted = np.where(upper, high, low)
    x = np.stack([np.asarray(score, np.float64), np.ones(len(score))], axis=1)
    found = np.zeros(2)
    for _ in range(STEPS):
        said = 1 / (1 + np.exp(-np.clip(x @ found, -60, 60)))
        gradient = x.T @ (said - wanted) + PENALTY * found
        curvature = (x * (said * (1 - said))[:, None]).T @ x + PENALTY * np.eye(2)
        change = np.linalg.solve(curvature, gradient)
        found = found - change / max(1.0, float(np.abs(change).max()) / 5)
        if np.abs(change).max() < 1e-9:
            break
    return Logistic(float(found[0]), float(found[1]))
