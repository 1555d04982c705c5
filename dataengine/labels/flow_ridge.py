"""Flow and ridge: optical flow, pooled, and a linear map to commands and displacements. What every inverse-dynamics model has to beat.

With other features the same map gives the other baselines: differences of pixels, and a single picture, which shows what can be guessed without seeing motion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Setting
from pydantic import model_validator

from dataengine.core.arrays import Array
from dataengine.core.config import Config, parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.randomness import hash64, text_key
from dataengine.labels.linear_answers import LinearTarget, as_labels, linear_target, linear_target_of_json, wanted
from dataengine.labels.linear_figures import linear_figures
from dataengine.labels.motion_features import FeatureKind, pair_features, picture_features
from dataengine.labels.targets import Target, TargetKind, targets_of
from dataengine.stats.ridge import LinearMap, fit_ridge

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint

KIND = "flow_ridge"
VERSION = 1  # of the features: raised when they change


class FlowRidgeConfig(Config):
    """What the linear map reads, and what it says.

    Attributes:
        features: "flow", "difference" (of pixels) or "picture" (of the step alone).
        cameras: columns or roles of the pictures.
        size: of the pictures in px; `grid` cells along each side.
        steps: the window, in control periods of the training data, in order; a feature for each pair of neighbours in it. The pair that begins at 0 must be seen for a label.
        targets: "command" and "displacement".
        gap_s: over what time a displacement is, in s; up to the next step where it is None.
        coverage: share of what was measured that intervals shall hold.
        groups: of training episodes; what a map that learned from the others says of each is what the penalty, the intervals and the probabilities come from.
        most_steps: so many steps are learned from at most.
    """

    features: FeatureKind = "flow"
    cameras: tuple[str, ...] = ("camera:primary",)
    size: int = Setting(default=64, ge=16)
    grid: int = Setting(default=16, ge=1)
    steps: tuple[int, ...] = (0, 1)
    targets: tuple[TargetKind, ...] = ("command", "displacement")
    gap_s: float | None = Setting(default=None, gt=0)
    coverage: float = Setting(default=0.68, gt=0, lt=1)
    groups: int = Setting(default=3, ge=2)
    most_steps: int = Setting(default=50_000, ge=10)

    @model_validator(mode="after")
    def _fits(self) -> FlowRidgeConfig:
        if self.grid > self.size:
            raise ValueError(f"grid: must be at most size, {self.size} px, got {self.grid} cells along a side; a cell holds at least a pixel")
        if list(self.steps) != sorted(set(self.steps)) or (self.features != "picture" and 0 not in self.steps[:-1]):
            raise ValueError("steps: must rise, and hold 0 and a later one: what a step's action does is seen from it on")
        return self

    @property
    def window(self) -> tuple[int, ...]:
        """Return the steps that are looked at."""
        return (0,) if self.features == "picture" else self.steps


CONFIG = FlowRidgeConfig
SCALES = {"tiny": FlowRidgeConfig(), "window": FlowRidgeConfig(steps=(-1, 0, 1, 2))}


@dataclass(frozen=True, eq=False)
class FlowRidge:
    """A linear map that labels: see the module.

    `seconds` are the times of the window's pictures around a step, `model` the digest of everything that was learned.
    """

    config: FlowRidgeConfig
    seconds: tuple[float, ...]
    map: LinearMap
    targets: tuple[LinearTarget, ...]
    model: str
    trained_on: str | None
    figures: Mapping[str, Any]

    @property
    def needs(self) -> Needs:
        """What it must see."""
        return needs_of(self.config, self.seconds)

    @property
    def preprocessing(self) -> str:
        """Return the digest of how pictures become features."""
        return digest_json([KIND, VERSION, self.config.features, list(self.config.cameras), self.config.size, self.config.grid, list(self.seconds)])

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common, under a name."""
        said: dict[str, Any] = {"method": KIND, "features": self.config.features, "seconds": list(self.seconds), "interval": self.config.coverage}
        if self.config.gap_s is not None:
            said["gap_s"] = self.config.gap_s
        return LabelSet(name, self.model, self.trained_on, self.preprocessing, said)

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return the features of some steps: (n, F) float32."""
        return {"features": features_of(part, steps, self.config, self.seconds), "known": known_steps(part, steps, self.config, self.seconds)}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the map says, (n, D) float64, and where something was to be seen, (n,) bool."""
        return {"said": self.map(inputs["features"]), "known": np.asarray(inputs["known"])}

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return an episode's labels; a step around which no motion could be seen has none."""
        return as_labels(self.targets, answers["said"], answers["known"])


def needs_of(config: FlowRidgeConfig, seconds: tuple[float, ...]) -> Needs:
    """Return what a map with these choices must see."""
    columns = ("action", "state")
    return Needs(config.cameras, (config.size, config.size), "stretch", columns, max(0.0, -min(seconds)), max(0.0, *seconds))


def _window(part: Watched, steps: Array, config: FlowRidgeConfig, seconds: tuple[float, ...], camera: str) -> tuple[Array, Array]:
    """Return (n, K) rows of the pictures of the window, and (n, K) bool whether each is there."""
    rows, beyond = part.near(steps, seconds)
    seen = part.seen[camera]
    return rows, ~beyond & seen[rows]


def features_of(part: Watched, steps: Array, config: FlowRidgeConfig, seconds: tuple[float, ...]) -> Array:
    """Return the features of some steps of a part: (n, F) float32, camera after camera, pair after pair."""
    found = []
    for camera in config.cameras:
        rows, there = _window(part, steps, config, seconds, camera)
        pictures = part.pictures[camera]
        if config.features == "picture":
            found.append(picture_features(pictures[rows[:, 0]], there[:, 0], config.grid))
        else:
            found.append(pair_features(pictures, there[:, :-1] & there[:, 1:], rows[:, :-1], rows[:, 1:], config.features, config.grid))
    return np.concatenate(found, axis=1)


def known_steps(part: Watched, steps: Array, config: FlowRidgeConfig, seconds: tuple[float, ...]) -> Array:
    """Return (n,) bool: whether any camera shows the step and what comes after it, or the picture where it is one: a pair before or after tells of other actions."""
    known, at = np.zeros(len(steps), np.bool_), config.window.index(0)
    for camera in config.cameras:
        _, there = _window(part, steps, config, seconds, camera)
        known |= there[:, at] if config.features == "picture" else there[:, at] & there[:, at + 1]
    return known


def learn(episodes: Iterable[Watched], config: FlowRidgeConfig, trained_on: str | None = None, seed: int = 0) -> FlowRidge:
    """Learn from episodes (with pictures, "action" and "state"), seen whole or in parts.

    Raises:
        UsageError: none of them has anything measured at a known rate, or they are of several bodies.
    """
    seconds: tuple[float, ...] | None = None
    targets: list[Target] = []
    widths: list[Array] = []
    features, measured, keys = [], [], []
    count = 0
    for part in episodes:
        if part.rate_hz is None or part.t_ns is None:
            raise UsageError(f"episode {part.episode_id}: flow and ridge learn windows in seconds, and its rate is unknown; ingest it with --rate")
        found = targets_of(part, config.targets, config.gap_s)
        if seconds is None:
            seconds, targets = tuple(round(step / part.rate_hz, 9) for step in config.window), found
        if [each.labels.name for each in found] != [each.labels.name for each in targets] or [e.column.shape for e in found] != [
            e.column.shape for e in targets
        ]:
            raise UsageError(f"episode {part.episode_id} of {part.dataset}: must have the columns of those before it; learn from one body at a time")
        truth = [each.measured(part) for each in targets]
        here = np.flatnonzero(np.logical_and.reduce([there for _, there in truth])) if truth else np.zeros(0, np.int64)
        here = here[known_steps(part, here, config, seconds)][: config.most_steps - count]
        if len(here):
            features.append(features_of(part, here, config, seconds))
            widths = [values for values, _ in truth]
            measured.append(np.concatenate([values[here] for values, _ in truth], axis=1))
            keys.append(np.full(len(here), float(hash64(seed, text_key("ridge"), text_key(part.episode_id)) >> np.uint64(11)) * 2.0**-53))
            count += len(here)
        if count >= config.most_steps:
            break
    if seconds is None or not count:
        raise UsageError("flow and ridge: must have steps with pictures and something measured (one column `action` or `observation.state`), got none")
    x, y, key = np.concatenate(features), np.concatenate(measured), np.concatenate(keys)
    ends = np.cumsum([0, *(truth.shape[1] for truth in widths)])
    specs = [target.spec(y[:, start:stop]) for target, start, stop in zip(targets, ends[:-1], ends[1:], strict=True)]
    asked = np.concatenate([wanted(spec, y[:, start:stop]) for spec, start, stop in zip(specs, ends[:-1], ends[1:], strict=True)], axis=1)
    found_map, penalties, honest = fit_ridge(x, asked, _groups(key, config.groups))
    learned = tuple(
        linear_target(target, spec, y[:, start:stop], honest[:, start:stop], config.coverage)
        for target, spec, start, stop in zip(targets, specs, ends[:-1], ends[1:], strict=True)
    )
    figures = {"episodes": len(set(key.tolist())), "steps": count, "penalties": penalties.tolist(), "seed": seed}
    return _sealed(config, seconds, found_map, learned, trained_on, figures)


def held_out_figures(labeller: FlowRidge, episodes: Iterable[Watched]) -> dict[str, Any]:
    """Return figures of what it says of episodes that it did not learn from."""
    return linear_figures(labeller, labeller.targets, episodes)


def _groups(key: Array, count: int) -> Array:
    """Return the group of each row: episodes in the order of their keys, dealt out; a single episode is cut in time."""
    episodes, place = np.unique(key, return_inverse=True)
    if len(episodes) < 2:
        return np.arange(len(key)) * count // max(1, len(key))
    return np.asarray(place.reshape(-1) % count)


def _sealed(
    config: FlowRidgeConfig, seconds: tuple[float, ...], found: LinearMap, targets: tuple[LinearTarget, ...], trained_on: str | None, figures: Mapping[str, Any]
) -> FlowRidge:
    unnamed = FlowRidge(config, seconds, found, targets, "", trained_on, figures)
    return replace(unnamed, model=checkpoint_of(unnamed).digest)


def checkpoint_of(labeller: FlowRidge) -> Checkpoint:
    """Return it as it lies on disk."""
    import torch

    from dataengine.models.checkpoint import Checkpoint

    config = {
        "version": VERSION,
        "settings": labeller.config.model_dump(mode="json"),
        "seconds": list(labeller.seconds),
        "targets": [target.as_json() for target in labeller.targets],
    }
    weights = {name: torch.from_numpy(np.array(getattr(labeller.map, name))) for name in ("centre", "spread", "weights", "bias")}
    return Checkpoint(KIND, config, weights, {"trained_on": labeller.trained_on, **labeller.figures})


def open_flow_ridge(checkpoint: Checkpoint, device: str = "cpu") -> FlowRidge:
    """Open a model for labelling; it runs on the CPU, whatever the device.

    Raises:
        UsageError: it is a model of another kind or version.
    """
    if checkpoint.kind != KIND or checkpoint.config.get("version") != VERSION:
        raise UsageError(f"model: must be of kind {KIND!r} and version {VERSION}, got {checkpoint.kind!r} {checkpoint.config.get('version')!r}; learn it anew")
    found = LinearMap(*(checkpoint.weights[name].numpy() for name in ("centre", "spread", "weights", "bias")))
    settings = parse_config(FlowRidgeConfig, dict(checkpoint.config["settings"]), "model settings")
    targets = tuple(linear_target_of_json(document) for document in checkpoint.config["targets"])
    train = dict(checkpoint.train)
    trained_on = train.pop("trained_on", None)
    return FlowRidge(settings, tuple(checkpoint.config["seconds"]), found, targets, checkpoint.digest, trained_on, train)
