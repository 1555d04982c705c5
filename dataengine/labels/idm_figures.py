"""Figures of a model of inverse dynamics on episodes that were held out of its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.models.calibration import Calibration, answered, entry_sigmas, vote

Told = tuple[dict[str, Array], Array, Array, Array]


def halves_figures(spec: ActionSpec, told: Sequence[Told], fit: Callable[[ActionSpec, Sequence[Told]], Calibration]) -> dict[str, Any]:
    """Return figures by entry: every other episode is answered with the calibration of the others, so that none is judged by what was fitted to it.

    With fewer than two episodes there is nothing to judge by, and only their number is returned.
    """
    if len(told) < 2:
        return {"episodes": len(told)}
    rows: list[tuple[Array, Array, Array, Array]] = []
    for half in (0, 1):
        calibration = fit(spec, told[1 - half :: 2])
        for answers, places, counts, truth in told[half::2]:
            voted = vote(places, counts, answers, calibration, len(truth))
            values, _ = answered(spec, voted, calibration)
            known = spec.usable(truth) & (voted.windows > 0)
            sigma = entry_sigmas(spec, voted, calibration)
            rows.append((values[known], truth[known], sigma[known] * np.array(calibration.reach68), sigma[known] * np.array(calibration.reach95)))
    values, truth, half68, half95 = (np.concatenate([row[place] for row in rows]) for place in range(4))
    found: dict[str, Any] = {"episodes": len(told), "steps": len(values)}
    for entry in (entry for part in spec.of_kind("scaled") for entry in part.entries):
        found[spec.dims[entry]] = _numbers(values[:, entry], truth[:, entry], half68[:, entry], half95[:, entry])
    for part in spec.of_kind("levels"):
        entry = part.entries[0]
        found[spec.dims[entry]] = {"balanced_accuracy": balanced_accuracy(values[:, entry], truth[:, entry], part.levels)}
    for part in spec.of_kind("rotation"):
        chosen = list(part.entries)
        said, true = (spec.predicted(each).rotations for each in (values, truth))
        place = [other.entries for other in spec.of_kind("rotation")].index(part.entries)
        cosine = (np.einsum("nij,nij->n", said[:, place], true[:, place]) - 1) / 2
        error = float(np.arccos(np.clip(cosine, -1, 1)).mean()) if len(cosine) else None
        found["+".join(spec.dims[entry] for entry in chosen)] = {"error_rad": error}
    return found


def _numbers(value: Array, truth: Array, half68: Array, half95: Array) -> dict[str, float] | None:
    if not len(truth):  # the episodes that were held out say nothing of it
        return None
    away, spread = value - truth, float(truth.var())
    if spread <= 0:
        return {"mae": float(np.abs(away).mean())}
    slope = float(np.mean((value - value.mean()) * (truth - truth.mean()))) / spread
    return {
        "r2": 1 - float(np.square(away).mean()) / spread,
        "mae": float(np.abs(away).mean()),
        "slope": slope,
        "bias": float(away.mean()),
        "coverage68": float((np.abs(away) <= half68).mean()),
        "coverage95": float((np.abs(away) <= half95).mean()),
    }


def balanced_accuracy(value: Array, truth: Array, levels: Sequence[float]) -> float | None:
    """Return the mean over the levels that there are of how often each is found, None of no rows."""
    if not len(truth):
        return None
    known = np.abs(truth[:, None] - np.array(levels)).argmin(axis=1)
    said = np.abs(value[:, None] - np.array(levels)).argmin(axis=1)
    return float(np.mean([(said[known == level] == level).mean() for level in range(len(levels)) if (known == level).any()]))
