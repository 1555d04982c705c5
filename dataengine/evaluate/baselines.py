"""What labels must beat: rules of thumb and linear maps, learned from the same episodes that a model might learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.labelling import Watched
from dataengine.core.randomness import hash64
from dataengine.evaluate.folds import Fold, Part
from dataengine.evaluate.said import Said, Speaker, said_of_labels
from dataengine.evaluate.viewing import Viewer, labels_of
from dataengine.labels.flow_ridge import FlowRidge, FlowRidgeConfig, learn, needs_of
from dataengine.labels.targets import Target
from dataengine.stats.ridge import fit_ridge


@dataclass(frozen=True, eq=False)
class Setting:
    """What a baseline may know: the fold, what is asked for, the cameras and the window of the models beside it, and the seed.

    `gap_steps` are the steps whose pictures show what is achieved over the targets' gap. `known` are all targets that something was measured of, also those
    that are not judged: what is achieved tells of what was commanded.
    """

    viewer: Viewer
    fold: Fold
    targets: tuple[Target, ...]
    cameras: tuple[str, ...] = ("camera:primary",)
    window_steps: tuple[int, ...] = (-1, 0, 1, 2)
    size: int = 64
    seed: int = 0
    gap_steps: tuple[int, ...] = (0, 1)
    known: tuple[Target, ...] = ()

    @property
    def gap_s(self) -> float | None:
        """Return over what time a displacement is asked for, in s; None for up to the next step."""
        return next((target.gap_s for target in self.targets if target.kind == "displacement"), None)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of the targets."""
        return tuple(target.kind for target in self.targets)


def _measured(setting: Setting, parts: Sequence[Part]) -> Iterator[list[tuple[Array, Array]]]:
    for part in parts:
        seen = setting.viewer.measured(part)
        yield [target.measured(seen) for target in setting.targets]


def _means(setting: Setting) -> list[Array]:
    """Return the mean of each target in training."""
    found: list[list[Array]] = [[] for _ in setting.targets]
    for truths in _measured(setting, setting.fold.train):
        for place, (values, valid) in enumerate(truths):
            found[place].append(values[valid])
    return [np.concatenate(rows).mean(0) if sum(map(len, rows)) else np.full(rows[0].shape[1] if rows else 0, np.nan) for rows in found]


def mean(setting: Setting) -> Speaker:
    """Say the mean of training, always."""
    means = _means(setting)

    def say(part: Part) -> Mapping[str, Said]:
        steps = part.stop - part.start
        return {
            target.labels.name: Said(np.broadcast_to(value, (steps, len(value))), np.ones(steps, np.bool_))
            for target, value in zip(setting.targets, means, strict=True)
        }

    return say


def last(setting: Setting) -> Speaker:
    """Say what was last measured in full: the command of the step before, the change that ended at this step; at first the mean of training."""
    means = _means(setting)

    def say(part: Part) -> Mapping[str, Said]:
        found = {}
        seen = setting.viewer.measured(part)
        for target, first in zip(setting.targets, means, strict=True):
            values, valid = target.measured(seen)
            late = min(setting.gap_steps[-1] if target.gap_s is not None else 1, len(values))
            before = np.concatenate([np.broadcast_to(first, (late, len(first))), values[: len(values) - late]])
            known = np.concatenate([np.ones(late, np.bool_), valid[: len(values) - late]])
            found[target.labels.name] = Said(np.where(known[:, None], before, first), np.ones(len(values), np.bool_))
        return found

    return say


def _linear(setting: Setting, config: FlowRidgeConfig, episodes: Iterator[Watched] | None = None) -> tuple[FlowRidge, Speaker]:
    needs = needs_of(config, (0.0,))
    learned = learn(episodes if episodes is not None else setting.viewer.views(setting.fold.train, needs), config, None, setting.seed)

    def say(part: Part) -> Mapping[str, Said]:
        return said_of_labels(labels_of(learned, setting.viewer.view(part, learned.needs)))

    return learned, say


def _config(setting: Setting, **choices: Any) -> FlowRidgeConfig:
    told: dict[str, Any] = {"cameras": setting.cameras, "size": setting.size, "steps": setting.gap_steps, "targets": setting.kinds, "gap_s": setting.gap_s}
    return FlowRidgeConfig(**(told | choices))


def flow_ridge(setting: Setting) -> Speaker:
    """Optical flow from a step to the next, or over the gap that is asked about, pooled, and a linear map."""
    return _linear(setting, _config(setting))[1]


def flow_ridge_window(setting: Setting) -> Speaker:
    """The same with the flow all along the window that the models see."""
    return _linear(setting, _config(setting, steps=setting.window_steps))[1]


def difference_ridge(setting: Setting) -> Speaker:
    """Differences of pixels over the same time, pooled, and a linear map."""
    return _linear(setting, _config(setting, features="difference"))[1]


def single_frame(setting: Setting) -> Speaker:
    """A smooth function of the step's picture alone: what can be guessed of the policy without seeing any motion."""
    return _linear(setting, _config(setting, features="picture"))[1]


def null(setting: Setting) -> Speaker:
    """Flow and ridge, learned with the numbers of other episodes: says nothing, unless what is judged leaks into what is learned."""
    return _linear(setting, _config(setting), _exchanged(setting))[1]


def _exchanged(setting: Setting) -> Iterator[Watched]:
    """Yield the training parts, each with the numbers of another one, which begin in its middle: episodes of one task go through the same motions at the same time."""
    parts = setting.fold.train
    order = np.argsort(hash64(setting.seed, 0x4E, np.arange(len(parts))), kind="stable")
    needs = needs_of(_config(setting), (0.0,))
    for place, number in enumerate(order):
        seen, other = setting.viewer.view(parts[number], needs), setting.viewer.measured(parts[order[(place + 1) % len(parts)]])
        rows = (np.arange(seen.steps) + other.steps // 2) % other.steps
        there = np.arange(seen.steps) < other.steps
        columns = {name: values[rows] for name, values in other.columns.items()}
        yield replace(seen, columns=columns, valid={name: other.valid[name][rows] & there for name in columns})


def finite_difference(setting: Setting) -> Speaker:
    """A linear map from the measured changes of the state in the window: what a model could say that saw the body's motion perfectly. Commands alone.

    For commands that are places to go to the state itself is read too.
    """
    steps = setting.window_steps
    features = setting.known or setting.targets
    names = [target.labels.name for target in setting.targets if target.kind == "command"]
    x, y, keys = [], [], []
    for number, part in enumerate(setting.fold.train):
        seen = setting.viewer.measured(part)
        moves = _changes(seen, features, steps, _absolute(setting.targets))
        for target in setting.targets:
            if target.kind == "command" and moves is not None:
                values, valid = target.measured(seen)
                x.append(moves[valid])
                y.append(values[valid])
                keys.append(np.full(int(valid.sum()), number))
    if not x:
        return lambda part: {}
    learned, _, _ = fit_ridge(np.concatenate(x), np.concatenate(y), np.concatenate(keys) % 3)

    def say(part: Part) -> Mapping[str, Said]:
        seen = setting.viewer.measured(part)
        moves = _changes(seen, features, steps, _absolute(setting.targets))
        return {} if moves is None else {names[0]: Said(learned(moves), np.ones(seen.steps, np.bool_))}

    return say


def _absolute(targets: Sequence[Target]) -> bool:
    """Return whether commands are places to go to."""
    spaces = [target.column.action_space for target in targets if target.kind == "command"]
    return any(space is not None and (space.absolute or (space.absolute is None and space.kind in ("joint_position", "ee_pose"))) for space in spaces)


def _changes(seen: Watched, targets: Sequence[Target], steps: Sequence[int], places: bool) -> Array | None:
    """Return the changes of the state around each step (T, K * D + K): those that were not measured are 0 with a mark. None without a state."""
    target = next((target for target in targets if target.kind == "displacement"), None)
    if target is None or "state" not in seen.columns:
        return None
    values, valid = replace(target, gap_s=None).measured(seen)  # from step to step, whatever time is asked about: the window is made of steps
    found = []
    for step in steps[:-1]:
        at = np.arange(seen.steps) + step
        there = (at >= 0) & (at < seen.steps)
        there &= valid[np.clip(at, 0, seen.steps - 1)]
        found += [np.where(there[:, None], values[np.clip(at, 0, seen.steps - 1)], 0.0), (~there[:, None]).astype(np.float64)]
    if places:
        found.append(np.where(seen.valid["state"][:, None], seen.columns["state"].reshape(seen.steps, -1).astype(np.float64), 0.0))
    return np.concatenate(found, axis=1)


BASELINES: dict[str, Callable[[Setting], Speaker]] = {
    "mean": mean,
    "last": last,
    "single_frame": single_frame,
    "difference_ridge": difference_ridge,
    "flow_ridge": flow_ridge,
    "flow_ridge_window": flow_ridge_window,
    "finite_difference": finite_difference,
    "null": null,
}
TITLES: dict[str, str] = {
    "mean": "mean of training",
    "last": "last step's value",
    "single_frame": "single frame",
    "difference_ridge": "pixel differences + ridge",
    "flow_ridge": "flow + ridge",
    "flow_ridge_window": "flow + ridge, whole window",
    "finite_difference": "measured motion + ridge (upper bound)",
    "null": "null: numbers of other episodes",
}
