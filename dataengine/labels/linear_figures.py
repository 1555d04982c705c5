"""Figures of a linear map on episodes that were held out of what it learned from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labelling import Labeller, Watched
from dataengine.labels.idm_figures import balanced_accuracy
from dataengine.labels.linear_answers import LinearTarget


def linear_figures(labeller: Labeller, targets: Iterable[LinearTarget], episodes: Iterable[Watched]) -> dict[str, Any]:
    """Return, by target and entry, R2 (None where nothing changes), mean absolute error, bias and how much intervals hold; of two levels the balanced accuracy."""
    targets = tuple(targets)
    rows: dict[str, list[tuple[Array, Array, Array, Array]]] = {each.target.kind: [] for each in targets}
    count = 0
    for episode in episodes:
        labels = labeller.labels(episode, labeller.answer(labeller.inputs(episode, np.arange(episode.steps))))
        count += 1
        for each in targets:
            name = each.target.labels.name
            truth, there = each.target.measured(episode)
            known = there & labels.valid[name]
            said, low, high = (group[name].reshape(episode.steps, -1)[known].astype(np.float64) for group in (labels.columns, labels.low, labels.high))
            rows[each.target.kind].append((said, truth[known], low, high))
    found: dict[str, Any] = {"episodes": count}
    for each in targets:
        told = rows[each.target.kind]
        if told:
            found[each.target.kind] = _target_figures(each, *(np.concatenate([row[place] for row in told]) for place in range(4)))
    return found


def _target_figures(target: LinearTarget, said: Array, truth: Array, low: Array, high: Array) -> dict[str, Any]:
    found: dict[str, Any] = {"steps": len(truth)}
    if not len(truth):
        return found
    for entry in target.spec.scaled_entries:
        away, spread = said[:, entry] - truth[:, entry], float(truth[:, entry].var())
        inside = (low[:, entry] <= truth[:, entry]) & (truth[:, entry] <= high[:, entry])
        r2 = 1 - float(np.square(away).mean()) / spread if spread > 0 else None
        held = {f"coverage{round(100 * target.coverage)}": float(inside.mean())}
        found[target.spec.dims[entry]] = {"r2": r2, "mae": float(np.abs(away).mean()), "bias": float(away.mean()), **held}
    for part in target.spec.of_kind("levels"):
        entry = part.entries[0]
        found[target.spec.dims[entry]] = {"balanced_accuracy": balanced_accuracy(said[:, entry], truth[:, entry], part.levels)}
    return found
