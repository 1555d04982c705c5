"""Behaviour cloning from numbers: a small network that gives the command for what is measured now, learned from rows, played without torch.

Inputs are brought to mean 0 and deviation 1 by the statistics of all that was observed, which no label touches, so that conditions differ in labels alone.
Numbers of a command are regressed; a gripper that takes a few levels is a choice between them: the mean of "open" and "closed" is no command.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field as Setting

from dataengine.core.arrays import Array, require
from dataengine.core.column import Column
from dataengine.core.config import Config

MAX_LEVELS = 4  # a gripper with more values than that is regressed like the rest
CONSTANT = 1e-6  # a number whose deviation is below this says nothing, and is left out
FAR = 8.0  # deviations beyond which an input is held: what was never seen must not blow a policy up


class CloningConfig(Config):
    """How a policy is cloned; every condition gets the same number of gradient steps."""

    hidden: tuple[int, ...] = (128, 128)
    steps: int = Setting(default=1200, ge=1)
    batch_size: int = Setting(default=128, ge=1)
    learning_rate: float = Setting(default=1e-3, gt=0)
    weight_decay: float = Setting(default=1e-4, ge=0)
    gripper: Literal["class", "regress"] = "class"
    gripper_weight: float = Setting(default=0.3, ge=0)  # of its cross-entropy beside the mean squared error of a normalised number


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and deviation (d,) of numbers; `used` (d,) is False where they never change."""

    mean: Array
    std: Array
    used: Array

    @classmethod
    def of(cls, rows: Array) -> Scale:
        """Return the scale of rows (N, d)."""
        mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        used = std > CONSTANT
        return cls(mean.astype(np.float32), np.where(used, std, 1.0).astype(np.float32), used)

    def normal(self, rows: Array) -> Array:
        """Return rows at mean 0 and deviation 1, numbers that never change at 0."""
        return np.asarray(np.where(self.used, np.clip((rows - self.mean) / self.std, -FAR, FAR), 0.0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Levels:
    """The values (L,) that the gripper takes, and which dimension of the command it is."""

    dimension: int
    values: Array

    def nearest(self, actions: Array) -> Array:
        """Return (N,) which level each row's gripper is nearest to."""
        return np.asarray(np.abs(actions[:, self.dimension, None] - self.values).argmin(1))


def gripper_levels(column: Column, actions: Array) -> Levels | None:
    """Return the levels of a gripper that takes few values in measured actions (N, A), None where there is no such gripper or it never moves."""
    if column.action_space is None or column.action_space.gripper is None:
        return None
    dimension = column.action_space.gripper.dimension
    values = np.unique(actions[:, dimension])
    return Levels(dimension, values.astype(np.float32)) if 2 <= len(values) <= MAX_LEVELS else None


@dataclass(frozen=True)
class InputSpec:
    """What a policy sees: columns of numbers, one after the other, then which task it is, where there are several."""

    columns: tuple[str, ...]
    tasks: tuple[str, ...]

    def rows(self, values: Mapping[str, Array], task: Array) -> Array:
        """Return (N, d) from columns (N, ...) and the number of each row's task (N,); -1 for one that was never seen."""
        parts = [np.asarray(values[name], dtype=np.float32).reshape(len(task), -1) for name in self.columns]
        if len(self.tasks) > 1:
            parts.append((np.arange(len(self.tasks)) == task[:, None]).astype(np.float32))
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class Rows:
    """What is cloned: `inputs` (N, d), `actions` (N, A), `weight` (N,) of each row in the loss, and `pictures` (N, H, W, 3 c) uint8 of c cameras where the policy sees them."""

    inputs: Array
    actions: Array
    weight: Array
    pictures: Array | None = None

    def __post_init__(self) -> None:
        require(len(self.inputs) == len(self.actions) == len(self.weight) > 0, "rows to clone: must be as many of inputs, actions and weights, and not none")
        require(bool((self.weight >= 0).all()) and float(self.weight.sum()) > 0, "rows to clone: weights must be 0 or more, and not all 0")


@dataclass(frozen=True, eq=False)
class StatePolicy:
    """A cloned network as arrays: `layers` are (weight (out, in), bias (out,)), with tanh between them; the last gives the numbers, then the levels' scores."""

    spec: InputSpec
    inputs: Scale
    actions: Scale
    levels: Levels | None
    layers: tuple[tuple[Array, Array], ...]

    @property
    def sees_pictures(self) -> bool:
        """Return False."""
        return False

    def act(self, values: Mapping[str, Array], pictures: Mapping[str, Array], task: str) -> Array:
        """Return the command (A,)."""
        number = self.spec.tasks.index(task) if task in self.spec.tasks else -1
        one = {name: np.asarray(values[name])[None] for name in self.spec.columns}
        hidden = self.inputs.normal(self.spec.rows(one, np.asarray([number])))
        for at, (weight, bias) in enumerate(self.layers):
            hidden = hidden @ weight.T + bias
            if at < len(self.layers) - 1:
                hidden = np.tanh(hidden)
        return np.asarray(command(hidden, self.actions, self.levels)[0])


def command(answers: Array, scale: Scale, levels: Levels | None) -> Array:
    """Return commands (N, A) from a network's answers (N, A + L) or (N, A)."""
    dims = len(scale.mean)
    commands = answers[:, :dims] * scale.std + scale.mean
    commands = np.where(scale.used, commands, scale.mean)
    if levels is not None:
        commands[:, levels.dimension] = levels.values[answers[:, dims:].argmax(1)]
    return np.asarray(commands, dtype=np.float32)


def clone_state(rows: Rows, spec: InputSpec, inputs: Scale, actions: Scale, levels: Levels | None, config: CloningConfig, seed: int) -> StatePolicy:
    """Clone a policy that sees numbers.

    Args:
        rows: what is cloned.
        spec: what the inputs are.
        inputs: scale of the inputs.
        actions: scale of the measured actions.
        levels: levels of the gripper where it is a choice.
        config: how.
        seed: of the weights and of the order of the rows; the same seed gives the same policy.
    """
    import torch
    from torch import nn

    levels = levels if config.gripper == "class" else None
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [rows.inputs.shape[1], *config.hidden, rows.actions.shape[1] + (len(levels.values) if levels is not None else 0)]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    module = nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())][:-1])
    seen = torch.from_numpy(inputs.normal(rows.inputs))
    fit_rows(module, lambda chosen: seen[chosen], rows, actions, levels, config, generator)
    arrays = tuple((layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in layers)
    return StatePolicy(spec, inputs, actions, levels, arrays)


def fit_rows(module: Any, see: Any, rows: Rows, scale: Scale, levels: Levels | None, config: CloningConfig, generator: Any) -> None:
    """Fit a module to rows: batches drawn with equal chances, AdamW with a cosine decay to nothing.

    Args:
        module: a torch module from what `see` returns to (B, A + L) answers.
        see: returns the input of some rows, given their numbers (B,) as a tensor.
        rows: what is cloned.
        scale: of the actions.
        levels: of the gripper, None to regress it.
        config: how.
        generator: torch's, of the order of the rows.
    """
    import torch
    from torch.nn.functional import cross_entropy

    wanted = torch.from_numpy((rows.actions - scale.mean) / scale.std)
    weight = torch.from_numpy((rows.weight / rows.weight.mean()).astype(np.float32))
    dims = rows.actions.shape[1]
    counted = torch.ones(dims)
    classes = None
    if levels is not None:
        counted[levels.dimension] = 0.0
        classes = torch.from_numpy(levels.nearest(rows.actions))
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    module.train()
    for _ in range(config.steps):
        chosen = torch.randint(len(rows.inputs), (config.batch_size,), generator=generator)
        answers = module(see(chosen))
        loss = (((answers[:, :dims] - wanted[chosen]) ** 2 * counted).mean(1) * weight[chosen]).mean()
        if classes is not None:
            loss = loss + config.gripper_weight * (cross_entropy(answers[:, dims:], classes[chosen], reduction="none") * weight[chosen]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    module.eval()
