"""What windows said together of each target of an episode, as its labels: values, intervals and confidences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.action_spec import ActionSpec
from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.labels import Labels
from dataengine.models.calibration import Calibration, Voted, answered, entry_sigmas


@dataclass(frozen=True, eq=False)
class VotedTarget:
    """A target of an episode: the label column, how it is predicted, what was voted of its T steps, and the calibration."""

    column: Column
    spec: ActionSpec
    voted: Voted
    calibration: Calibration


def labels_of_votes(targets: Sequence[VotedTarget]) -> Labels:
    """Return the labels of an episode; a step of which no window spoke has none."""
    found: dict[str, Any] = {name: {} for name in ("columns", "specs", "valid", "low", "high", "confidence")}
    for each in targets:
        name, valid = each.column.name, each.voted.windows > 0
        values, low, high, confidence = told_of(each.spec, each.voted, each.calibration)
        shape = (len(valid), *(int(size or 1) for size in each.column.shape))
        for part, numbers in (("columns", values), ("low", low), ("high", high)):
            found[part][name] = numbers.astype(each.column.dtype).reshape(shape)
        found["specs"][name] = each.column
        found["valid"][name] = valid
        found["confidence"][name] = np.where(valid, confidence, 0).astype(np.float32)
    return Labels(**found)


def told_of(spec: ActionSpec, voted: Voted, calibration: Calibration) -> tuple[Array, Array, Array, Array]:
    """Return the label (T, D), the ends of its 68 % interval, and the confidence (T,): the mean over entries of how much of what usually varies is known."""
    values, shares = answered(spec, voted, calibration)
    sigma = entry_sigmas(spec, voted, calibration)
    half = sigma * np.array(calibration.reach68)
    low, high = values - half, values + half
    known = np.ones((len(values), 0))
    if spec.scaled_entries:
        spreads = np.array([spread for part in spec.of_kind("scaled") for spread in part.spread])
        known = np.concatenate([known, 1 / (1 + np.square(half[:, list(spec.scaled_entries)] / spreads))], axis=1)
    for place, part in enumerate(spec.of_kind("levels")):
        entry, share = part.entries[0], shares[place]
        order = np.argsort(-share, axis=1)
        taken = np.cumsum(np.take_along_axis(share, order, axis=1), axis=1) - np.take_along_axis(share, order, axis=1) < 0.68  # until 68 % are among them
        levels = np.array(part.levels)[order]
        low[:, entry], high[:, entry] = np.where(taken, levels, np.inf).min(axis=1), np.where(taken, levels, -np.inf).max(axis=1)
        known = np.concatenate([known, share.max(axis=1, keepdims=True)], axis=1)
    for part in spec.of_kind("rotation"):
        unit = part.gain if part.rotation in ("rpy", "rotvec") else 1.0
        angle = half[:, part.entries[0]] * unit * np.sqrt(3) / part.spread[0]
        known = np.concatenate([known, 1 / (1 + np.square(angle))[:, None]], axis=1)
    confidence = known.mean(axis=1) if known.shape[1] else np.ones(len(values))
    return values, low, high, np.clip(confidence, 0, 1)
