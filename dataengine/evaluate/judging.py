"""From what was said and measured to figures, each with an interval over episodes; what cannot be worked out is null and says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.calibration import coverage_figures, coverage_sums, reliability, widened
from dataengine.evaluate.classes import class_figures, class_sums, switches
from dataengine.evaluate.comparison import Comparison
from dataengine.evaluate.ranking import spearman
from dataengine.evaluate.regression import errors, regression_figures, regression_sums
from dataengine.evaluate.resampling import LEAST_EPISODES, interval, resampled
from dataengine.evaluate.said import Said

SURE = (0.25, 0.5, 0.75)  # shares of the steps that a model is surest of


def judged(comparison: Comparison, stated: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """Return the figures of a comparison as JSON values.

    Args:
        comparison: what was measured and said.
        stated: the level of each source's intervals, by name; a source that is not there has none.
        seed: of the resampling.
    """
    common = comparison.common
    return {
        "kind": comparison.target.kind,
        "column": comparison.target.column.name,
        "labels": comparison.target.labels.name,
        "dims": list(comparison.dims),
        "unit": comparison.target.column.unit,
        "angles": [name for name, turned in zip(comparison.dims, comparison.angle, strict=True) if turned],
        "classes": {comparison.dims[entry]: {"low": levels.low, "high": levels.high} for entry, levels in comparison.levels.items()},
        "steps": {
            "all": len(common),
            "measured": int(comparison.valid.sum()),
            "judged": int(common.sum()),
            "parts": len(comparison.names),
            "episodes": len(set(comparison.episodes)),
        },
        "sources": {name: _source(comparison, said, common, stated.get(name), seed) for name, said in comparison.said.items()},
        "strata": {
            name: {
                "steps": int((group & common).sum()),
                "sources": {who: _short(comparison, said, group & common, seed) for who, said in comparison.said.items()},
            }
            for name, group in comparison.strata.items()
        },
    }


def _source(comparison: Comparison, said: Said, rows: Array, stated: float | None, seed: int) -> dict[str, Any]:
    answered = said.valid & comparison.valid
    return {
        "answered": float(answered.sum() / max(1, comparison.valid.sum())),
        **_short(comparison, said, rows, seed),
        "switches": _switches(comparison, said, rows),
        "intervals": _intervals(comparison, said, rows, stated, seed),
        "confidence": _confidence(comparison, said),
    }


def _short(comparison: Comparison, said: Said, rows: Array, seed: int) -> dict[str, Any]:
    """Return the figures of some steps: of each entry that is a number, their mean, and of each that is a class.

    The mean is over those entries (`dims` of them) that vary at all: of the others R² and slope cannot be worked out.
    """
    if rows.sum() < 2:
        return {"numbers": None, "mean": None, "classes": None, "why": "fewer than two steps"}
    episodes, place = np.unique(comparison.episode[rows], return_inverse=True)
    weights = resampled(len(episodes), seed)
    chosen = comparison.numbers
    sums = regression_sums(comparison.truth[rows][:, chosen], said.values[rows][:, chosen], place, len(episodes), comparison.angle[chosen])
    plain, drawn = regression_figures(sums.sum(0)), regression_figures(np.einsum("be,edk->bdk", weights, sums))
    several = len(episodes) >= LEAST_EPISODES
    numbers = {
        comparison.dims[entry]: {name: _with_interval(plain[name][at], drawn[name][:, at] if several else None) for name in plain}
        for at, entry in enumerate(chosen)
    }
    varied = np.isfinite(plain["r2"])
    mean: dict[str, Any] | None = None
    if len(chosen):
        means = {name: (_means(plain[name][None, varied])[0], _means(drawn[name][:, varied])) for name in ("r2", "slope", "scale_ratio")}
        mean = {name: _with_interval(value, often if several else None) for name, (value, often) in means.items()} | {"dims": int(varied.sum())}
    classes = {}
    for entry, levels in comparison.levels.items():
        counts = class_sums(levels.upper(comparison.truth[rows, entry]), levels.upper(said.values[rows, entry]), place, len(episodes))
        once, often = class_figures(counts.sum(0)), class_figures(weights @ counts)
        classes[comparison.dims[entry]] = {name: _with_interval(once[name], often[name] if several else None) for name in once}
    return {"numbers": numbers, "mean": mean, "classes": classes or None}


def _means(drawn: Array) -> Array:
    """Return the mean over the entries of each resample (B, D), of those that could be worked out in it."""
    there = np.isfinite(drawn)
    return np.where(there.any(1), np.where(there, drawn, 0.0).sum(1) / np.maximum(there.sum(1), 1), np.nan)


def _with_interval(value: Any, drawn: Array | None) -> dict[str, float | None]:
    found: dict[str, float | None] = {"value": _number(value), "low": None, "high": None}
    if drawn is not None:
        low, high = interval(drawn)
        found |= {"low": _number(low), "high": _number(high)}
    return found


def _number(value: Any) -> float | None:
    return float(f"{float(value):.6g}") if np.isfinite(value) else None


def _switches(comparison: Comparison, said: Said, rows: Array) -> dict[str, Any] | None:
    """Return how the moments of switching compare; steps of a part that are not judged are left out, in order of time."""
    found = {}
    for entry, levels in comparison.levels.items():
        counted = switches(levels.upper(comparison.truth[rows, entry]), levels.upper(said.values[rows, entry]), comparison.part[rows])
        found[comparison.dims[entry]] = vars(counted)
    return found or None


def _intervals(comparison: Comparison, said: Said, rows: Array, stated: float | None, seed: int) -> dict[str, Any] | None:
    """Return the share of measured values inside the stated intervals, and inside those widened to 68 and 95 %."""
    if said.low is None or said.high is None or stated is None:
        return None
    chosen = comparison.numbers
    truth, values = comparison.truth[rows][:, chosen], said.values[rows][:, chosen]
    truth = values - errors(truth, values, comparison.angle[chosen])  # an angle on the side that was said
    low, high = said.low[rows][:, chosen], said.high[rows][:, chosen]
    episodes, place = np.unique(comparison.episode[rows], return_inverse=True)
    weights = resampled(len(episodes), seed)
    several = len(episodes) >= LEAST_EPISODES
    found: dict[str, Any] = {"stated": stated}
    for level in dict.fromkeys((stated, 0.68, 0.95)):
        ends = (low, high) if level == stated else widened(values, low, high, stated, level)
        sums = coverage_sums(truth, ends[0], ends[1], place, len(episodes))
        plain, drawn = coverage_figures(sums.sum(0)), coverage_figures(np.einsum("be,edk->bdk", weights, sums))
        found[f"{level:g}"] = {
            comparison.dims[entry]: {
                "coverage": _with_interval(plain["coverage"][at], drawn["coverage"][:, at] if several else None),
                "width": _number(plain["width"][at]),
            }
            for at, entry in enumerate(chosen)
        }
    return found


def _confidence(comparison: Comparison, said: Said) -> dict[str, Any] | None:
    """Return whether what a source is surer of is nearer to the truth, and how often a class is right at each confidence.

    A confidence is that of the step. Only of a source that says nothing else is it the probability of the class: an inverse-dynamics model gives the mean over all
    entries, and then its distance from how often the class is right (`ece`) is no verdict on the class's probabilities.
    """
    rows = comparison.valid & said.valid
    if said.confidence is None or not np.isfinite(said.confidence[rows]).any():
        return None
    rows &= np.isfinite(said.confidence)
    sure, truth, values = said.confidence[rows], comparison.truth[rows], said.values[rows]
    chosen = comparison.numbers
    spread = truth[:, chosen].std(0)
    moving = spread > 1e-9
    off = errors(truth[:, chosen], values[:, chosen], comparison.angle[chosen])[:, moving] / spread[moving]
    size = np.sqrt((off**2).mean(1)) if moving.any() else np.full(len(sure), np.nan)
    order = np.argsort(-sure, kind="stable")
    surest = {}
    for share in (*SURE, 1.0):
        kept = order[: max(2, round(share * len(order)))]
        sums = regression_sums(truth[kept][:, chosen], values[kept][:, chosen], np.zeros(len(kept), np.int64), 1)
        surest[f"{share:g}"] = _number(_means(regression_figures(sums[0])["r2"][None])[0]) if len(chosen) else None
    classes = {}
    for entry, levels in comparison.levels.items():
        found = reliability(sure, levels.upper(truth[:, entry]) == levels.upper(values[:, entry]))
        if found is not None:
            bins = {name: [_number(value) for value in getattr(found, name)] for name in ("mean", "right", "count")}
            classes[comparison.dims[entry]] = {"ece": _number(found.ece), **bins}
    return {
        "mean": _number(sure.mean()),
        "rank_correlation_with_error": _number(spearman(sure, size)) if moving.any() else None,
        "r2_of_surest": surest,
        "classes": classes or None,
    }
