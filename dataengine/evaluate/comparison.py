"""What was measured beside what was said, step by step, over all judged parts of a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.action_spec import names_of
from dataengine.core.arrays import Array
from dataengine.core.labelling import Watched
from dataengine.evaluate.folds import Fold, Part
from dataengine.evaluate.said import Said, Speaker, joined
from dataengine.evaluate.viewing import Viewer
from dataengine.labels.idm_rotations import rotation_entries
from dataengine.labels.targets import Target, width_of
from dataengine.stats.levels import TwoLevels, two_levels

STILL = 0.1  # of the usual size of a displacement: a step that moves less is stationary


@dataclass(frozen=True, eq=False)
class Comparison:
    """One target over N steps of E parts.

    Attributes:
        target: what is compared.
        dims: names of its D entries.
        truth: (N, D) measured, with (N,) `valid`.
        part: (N,) numbers of the parts, in the order of `names`; `step` (N,) of the episode.
        names: of the parts.
        episodes: the id of the episode that each part is of.
        said: by the name of who said it.
        strata: groups of steps, (N,) bool each.
        angle: (D,) bool, which entries are angles in rad.
        levels: the two levels of entries that are classes.
    """

    target: Target
    dims: tuple[str, ...]
    truth: Array
    valid: Array
    part: Array
    step: Array
    names: tuple[str, ...]
    episodes: tuple[str, ...]
    said: Mapping[str, Said]
    strata: Mapping[str, Array]
    angle: Array
    levels: Mapping[int, TwoLevels]

    @property
    def common(self) -> Array:
        """Return (N,) bool: measured, and everyone has said something, so that all are judged by the same steps."""
        found = self.valid.copy()
        for said in self.said.values():
            if said.valid.any():
                found &= said.valid
        return found

    @property
    def episode(self) -> Array:
        """Return (N,) numbers of the episodes: two parts of one episode have the same."""
        number = {name: place for place, name in enumerate(dict.fromkeys(self.episodes))}
        return np.array([number[name] for name in self.episodes], np.int64)[self.part]

    @property
    def numbers(self) -> Array:
        """Return which entries are numbers, not classes: (n,) indices."""
        return np.array([entry for entry in range(len(self.dims)) if entry not in self.levels], np.int64)


def compared(viewer: Viewer, target: Target, folds: Sequence[Fold], speakers: Mapping[str, Sequence[Speaker]]) -> Comparison:
    """Gather what was measured and said of a target.

    Args:
        viewer: opens parts.
        target: what is compared.
        folds: whose test parts are judged.
        speakers: by name, one for each fold.
    """
    truth, valid, number, step, strata = [], [], [], [], []
    names: list[str] = []
    episodes: list[str] = []
    said: dict[str, list[Said | None]] = {name: [] for name in speakers}
    sizes = []
    for place, fold in enumerate(folds):
        for part in fold.test:
            seen = viewer.measured(part)
            values, there = target.measured(seen)
            truth.append(values)
            valid.append(there)
            number.append(np.full(seen.steps, len(names)))
            step.append(np.arange(part.start, part.stop))
            strata.append(_strata(part, seen, values.shape[1]))
            names.append(part.name)
            episodes.append(str(part.row["episode_id"]))
            sizes.append(seen.steps)
            for name, each in speakers.items():
                said[name].append(_fitting(each[place](part).get(target.labels.name), values.shape))
    width = truth[0].shape[1] if truth else 0
    whole = np.concatenate(truth) if truth else np.zeros((0, width))
    known = np.concatenate(valid) if valid else np.zeros(0, np.bool_)
    groups = {name: np.concatenate([each.get(name, np.zeros(size, np.bool_)) for each, size in zip(strata, sizes, strict=True)]) for name in _names(strata)}
    groups |= _moving(viewer, folds, whole, known)
    return Comparison(
        target,
        target.displacement.dims if target.displacement is not None else names_of(target.column, width_of(target.column)),
        whole,
        known,
        np.concatenate(number) if number else np.zeros(0, np.int64),
        np.concatenate(step) if step else np.zeros(0, np.int64),
        tuple(names),
        tuple(episodes),
        {name: joined(parts, sizes, width) for name, parts in said.items() if any(part is not None for part in parts)},
        {name: group for name, group in groups.items() if 0 < (group & known).sum() < known.sum()},
        _angles(target, width),
        _levels(target, whole[known]),
    )


def _fitting(said: Said | None, shape: tuple[int, ...]) -> Said | None:
    """Return what was said where it is as wide as what was measured: another body's labels are no labels of this."""
    return said if said is not None and said.values.shape == shape else None


def _strata(part: Part, seen: Watched, width: int) -> dict[str, Array]:
    """Return the groups that a part's steps belong to."""
    every = np.ones(seen.steps, np.bool_)
    found: dict[str, Array] = {}
    told = json.loads(part.row["metadata"] or "{}")
    noise = told.get("noise") if isinstance(told, dict) else None
    if isinstance(noise, int | float) and not isinstance(noise, bool):
        found["expert" if noise == 0 else "perturbed"] = every
        if noise:
            found[f"noise {noise:g}"] = every
    if part.row["success"] is not None:
        found["success" if part.row["success"] else "failure"] = every
    if "contact" in seen.columns and seen.columns["contact"].dtype.kind in "bui" and seen.columns["contact"].ndim == 1:
        touching = seen.columns["contact"].astype(bool)
        found |= {"contact": touching & seen.valid["contact"], "free": ~touching & seen.valid["contact"]}
    return found


def _names(strata: Sequence[Mapping[str, Array]]) -> list[str]:
    return list(dict.fromkeys(name for each in strata for name in each))


def _moving(viewer: Viewer, folds: Sequence[Fold], truth: Array, valid: Array) -> dict[str, Array]:
    """Return which steps are stationary: the state, or the command where there is none, is nearly as it was."""
    moved = []
    for fold in folds:
        for part in fold.test:
            seen = viewer.measured(part)
            name = "state" if "state" in seen.columns else "action"
            if name not in seen.columns:
                return {}
            values = seen.columns[name].reshape(seen.steps, -1).astype(np.float64)
            moved.append(np.concatenate([np.diff(values, axis=0), np.full((1, values.shape[1]), np.nan)]))
    if not moved:
        return {}
    change = np.concatenate(moved)
    with np.errstate(all="ignore"):
        known = np.isfinite(change).all(1)
        usual = np.sqrt((change[known] ** 2).mean(0)) if known.any() else np.zeros(change.shape[1])
        size = np.sqrt(((change[:, usual > 1e-9] / usual[usual > 1e-9]) ** 2).mean(1)) if (usual > 1e-9).any() else np.zeros(len(change))
    return {"stationary": known & (size < STILL), "moving": known & (size >= STILL)}


def _angles(target: Target, width: int) -> Array:
    """Return which entries of a command are angles in rad that turn around; those of a displacement are small turns already."""
    found = np.zeros(width, np.bool_)
    if target.displacement is None:
        for rotation in rotation_entries(target.column):
            if rotation.kind == "rpy" and rotation.gain == 1.0:
                found[list(rotation.entries)] = True
    return found


def _levels(target: Target, truth: Array) -> dict[int, TwoLevels]:
    """Return the entries of a command that are classes: a gripper, and whatever has two values, with their levels."""
    if target.kind != "command" or not len(truth):
        return {}
    space = target.column.action_space
    gripper = space.gripper.dimension if space is not None and space.gripper is not None else None
    found = {}
    for entry in range(truth.shape[1]):
        levels = two_levels(truth[:, entry])
        if levels is not None and (entry == gripper or len(np.unique(truth[:, entry])) == 2):
            found[entry] = levels
    return found
