"""Ridge regression: a linear map with a penalty that is chosen on rows that were left out, one for each thing that is predicted.

With rows x (N, F) standardised by the mean and spread of each feature, the weights minimise sum_n w_n |y_n - x_n W - b|^2 + p N |W|^2. One decomposition
serves every penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array, read_only, require

PENALTIES = tuple(float(10.0**power) for power in np.arange(-4.0, 2.01, 0.5))
FARTHEST = 6.0  # standard deviations: a feature that lies farther off than that is taken as if it lay there, or one odd picture is labelled absurdly
STILL = 1e-9  # a feature that varies less says nothing


@dataclass(frozen=True, eq=False)
class LinearMap:
    """y = clip((x - centre) / spread) W + bias: `centre`, `spread` (F,), `weights` (F, D), `bias` (D,), all float64."""

    centre: Array
    spread: Array
    weights: Array
    bias: Array

    def __post_init__(self) -> None:
        for name in ("centre", "spread", "weights", "bias"):
            object.__setattr__(self, name, read_only(np.asarray(getattr(self, name), np.float64)))

    def __call__(self, x: Array) -> Array:
        """Return (N, D) float64 for rows (N, F)."""
        scaled = _standardised(np.asarray(x, np.float64), self.centre, self.spread)
        return np.asarray(scaled @ self.weights + self.bias)


def _standardised(x: Array, centre: Array, spread: Array) -> Array:
    return np.clip((x - centre) / spread, -FARTHEST, FARTHEST)


def ridge_path(x: Array, y: Array, penalties: Sequence[float], weight: Array | None = None) -> list[LinearMap]:
    """Return the map of each penalty.

    Args:
        x: (N, F).
        y: (N, D).
        penalties: each 0 or more; of the mean squared error.
        weight: (N,) of each row, all alike where it is not given.
    """
    require(len(x) == len(y) and len(x) > 0, f"ridge: must have as many rows of x as of y, and some, got {len(x)} and {len(y)}")
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    w = w / w.sum()
    centre = w @ x
    spread = np.sqrt(np.maximum(w @ (x - centre) ** 2, 0.0))
    spread = np.where(spread > STILL, spread, 1.0)
    scaled = _standardised(x, centre, spread)
    shift = w @ scaled  # not 0 where something was cut off
    root = np.sqrt(w)[:, None]
    rows, bias = (scaled - shift) * root, w @ y
    wanted = (y - bias) * root
    if len(x) >= x.shape[1]:
        values, vectors = np.linalg.eigh(rows.T @ rows)
        turned = vectors.T @ (rows.T @ wanted)
        solved = [vectors @ (turned / (np.maximum(values, 0.0) + max(penalty, 1e-12))[:, None]) for penalty in penalties]
    else:  # fewer rows than features: the same through the rows' products
        values, vectors = np.linalg.eigh(rows @ rows.T)
        turned = vectors.T @ wanted
        solved = [rows.T @ (vectors @ (turned / (np.maximum(values, 0.0) + max(penalty, 1e-12))[:, None])) for penalty in penalties]
    return [LinearMap(centre, spread, weights, bias - shift @ weights) for weights in solved]


def fit_ridge(x: Array, y: Array, group: Array, penalties: Sequence[float] = PENALTIES, weight: Array | None = None) -> tuple[LinearMap, Array, Array]:
    """Choose a penalty for each prediction by what maps learned from the other groups say of each group, and fit with it to all rows.

    Args:
        x: (N, F).
        y: (N, D).
        group: (N,) int; whole episodes, never single frames. With one group alone the largest penalty below 1 is taken, and nothing is honest.
        penalties: to choose from.
        weight: (N,) of each row.

    Returns:
        the map, the penalties (D,), and what was said of each row (N, D) by a map that had not learned from its group: its errors are honest.
    """
    groups = np.unique(group)
    w = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    said = np.empty((len(penalties), *y.shape))
    for one in groups if len(groups) > 1 else ():
        own = group == one
        for place, each in enumerate(ridge_path(x[~own], y[~own], penalties, w[~own])):
            said[place, own] = each(x[own])
    whole = ridge_path(x, y, penalties, w)
    if len(groups) > 1:
        best = np.argmin(np.einsum("pnd,n->pd", (said - y) ** 2, w), axis=0)
    else:
        said = np.stack([each(x) for each in whole])
        best = np.full(y.shape[1], max(place for place, penalty in enumerate(penalties) if penalty < 1 or place == 0))
    dims = np.arange(y.shape[1])
    weights = np.stack([whole[best[dim]].weights[:, dim] for dim in dims], axis=1)
    bias = np.array([whole[best[dim]].bias[dim] for dim in dims])
    return LinearMap(whole[0].centre, whole[0].spread, weights, bias), np.array(penalties)[best], said[best, :, dims].T
