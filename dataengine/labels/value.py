"""Values of steps, learned from episodes whose outcome is known: what return to expect, how far success is, and the advantage of what was done.

The labels of a step: `value` (the expected return, as a share of the longest episode of the task), `success_probability`, `steps_to_success` (steps that remain if it succeeds),
`progress` (1 less the share of the longest episode that these are), `advantage` (over the next `advantage_s`). Episodes of unknown outcome are labelled too, and not learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.training import FieldSpec, TrainingFacts
from dataengine.labels.returns import HIGH, LOW, Outcome, best_temperature, expected, if_successful, quantile, shares, surprise
from dataengine.labels.value_data import Learned, scaling_of
from dataengine.labels.value_labeller import KIND, ValueLabeller, needs_of
from dataengine.models.checkpoint import Checkpoint
from dataengine.models.fit import FitConfig
from dataengine.models.value import ValueConfig, ValueFit, ValueNet

CONFIG = ValueConfig
SCALES: dict[str, ValueConfig] = {
    "tiny": ValueConfig(),
    "small": ValueConfig(size=(96, 96), width=256, depth=6, heads=8, seconds=(-0.4, -0.2, 0.0)),
    "base": ValueConfig(size=(224, 224), width=512, depth=12, heads=8, seconds=(-0.4, -0.2, 0.0), bins=201),
    "large": ValueConfig(size=(224, 224), width=1024, depth=16, heads=16, seconds=(-0.4, -0.2, 0.0), bins=201),
}
FITS: dict[str, FitConfig] = {
    "tiny": FitConfig(steps=400, batch_size=64, learning_rate=2e-3, average=0.98),
    "small": FitConfig(steps=20_000, batch_size=256, learning_rate=3e-4, warmup_steps=500, average=0.999, precision="bfloat16"),
    "base": FitConfig(steps=50_000, batch_size=256, learning_rate=1e-4, warmup_steps=1000, average=0.999, precision="bfloat16"),
    "large": FitConfig(steps=100_000, batch_size=256, learning_rate=1e-4, warmup_steps=2000, average=0.999, precision="bfloat16"),
}


def trainee(config: ValueConfig) -> ValueTrainee:
    """Return what is trained."""
    return ValueTrainee(config)


class ValueTrainee:
    """A value model before, during and after training; a `Trainee`."""

    kind = KIND

    def __init__(self, config: ValueConfig) -> None:
        self.config = config
        self._learned: Learned | None = None
        self._fitted: ValueFit | None = None
        self._device = "cpu"

    @property
    def needs(self) -> Needs:
        """What it must see of an episode."""
        return needs_of(self.config)

    def fields(self) -> Mapping[str, FieldSpec]:
        """Return the windows that a sample holds."""
        pictures = {camera: FieldSpec(seconds=self.config.seconds, size=self.config.size) for camera in self.config.cameras}
        return pictures | {name: FieldSpec(seconds=self.config.seconds) for name in self.config.columns}

    def begin(self, facts: TrainingFacts, device: str) -> ValueFit:
        """Build the network from the seed.

        Raises:
            UsageError: no episode with a known outcome, or none that succeeded.
        """
        import torch

        steps, success = (np.asarray(facts.notes["episodes"][name]) for name in ("steps", "success"))
        told = success >= 0
        if not (success == 1).any():
            raise UsageError(
                f"value: must have an episode that succeeded, got {int((success == 0).sum())} that failed and {int((~told).sum())} of unknown outcome; "
                "choose datasets that say it"
            )
        tasks = self._tasks(facts, len(steps))
        longest: dict[str, float] = {}
        for task, length in zip(tasks[told], steps[told], strict=True):
            longest[str(task)] = max(longest.get(str(task), 1.0), float(length - 1))
        scalings = tuple(scaling_of(each.dataset, each.embodiment, self.config.columns, each.statistics) for each in facts.datasets)
        self._learned, self._device = Learned(scalings, longest), device
        centre, scale = (torch.tensor(np.stack([self._learned.laid_out(each, name) for each in scalings])) for name in ("centre", "scale"))
        torch.manual_seed(facts.seed)
        net = ValueNet(self.config, self._learned.width).to(device)
        each = torch.tensor([longest.get(str(task), 1.0) for task in tasks], dtype=torch.float32)
        self._fitted = ValueFit(net, (each, torch.tensor(steps), torch.tensor(success)), centre, scale)
        return self._fitted

    def _tasks(self, facts: TrainingFacts, count: int) -> Array:
        """Return what each episode's returns are divided by the longest of: its task where that is told, else its dataset, or all of them."""
        told = facts.notes["episodes"].get("task")
        if told is not None:
            return np.array([str(task) for task in told], dtype=object)
        return np.full(count, facts.datasets[0].dataset if len(facts.datasets) == 1 else "", dtype=object)

    def calibrate(self, held_out: Iterable[Watched]) -> Mapping[str, Any]:
        """Fit the temperature of the histograms to episodes that were held out, and return figures of them."""
        assert self._fitted is not None
        assert self._learned is not None
        labeller = ValueLabeller(self._checkpoint({}), self._device)
        seen, logits = [], []
        for episode in held_out:
            if episode.success is not None and episode.steps > 1:
                logits.append(labeller.logits(episode))
                seen.append(replace(episode, pictures={}, seen={}))  # the pictures of all of them together have no bound
        if not seen:
            return {"episodes": 0}
        outcomes = [Outcome(self._learned.longest_of(episode), episode.success, self.config.failure) for episode in seen]
        returns = [outcome.returns(episode.steps) for outcome, episode in zip(outcomes, seen, strict=True)]
        temperature = best_temperature(np.concatenate(logits), np.concatenate(returns), labeller.atoms)
        before = surprise(np.concatenate(logits), np.concatenate(returns), labeller.atoms)
        self._learned = Learned(self._learned.datasets, self._learned.longest, temperature)
        after = surprise(np.concatenate(logits) / temperature, np.concatenate(returns), labeller.atoms)
        found = {"episodes": len(seen), "temperature": temperature, "nll": after, "nll_before": before}
        return found | _figures([shares(each / temperature) for each in logits], returns, [bool(each.success) for each in seen], labeller.atoms)

    def checkpoint(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the configuration and the weights."""
        found = self._checkpoint({})
        return found.config, found.weights

    def _checkpoint(self, train: Mapping[str, Any]) -> Checkpoint:
        assert self._fitted is not None
        assert self._learned is not None
        config = {"settings": self.config.model_dump(mode="json"), "data": self._learned.as_json()}
        return Checkpoint(KIND, config, {name: value.detach().cpu() for name, value in self._fitted.module.state_dict().items()}, train)


def open_value(checkpoint: Checkpoint, device: str = "cpu") -> ValueLabeller:
    """Open a trained value model as a labeller.

    Raises:
        UsageError: it is a model of another kind, or its files do not belong together.
    """
    if checkpoint.kind != KIND:
        raise UsageError(f"model {checkpoint.digest}: must be of the kind {KIND!r}, got {checkpoint.kind!r}; name a folder that `dataengine train value` wrote")
    return ValueLabeller(checkpoint, device)


def _figures(histograms: Sequence[Array], returns: Sequence[Array], success: Sequence[bool], atoms: Array) -> dict[str, float]:
    """Return how far expected returns are off, and how often returns of success lie in their 68 % interval."""
    off = np.concatenate([np.abs(expected(each, atoms) - told) for each, told in zip(histograms, returns, strict=True)])
    within = []
    for each, told, succeeded in zip(histograms, returns, success, strict=True):
        if succeeded:
            hopeful = if_successful(each)
            within.append((told >= quantile(hopeful, atoms[1:], LOW)) & (told <= quantile(hopeful, atoms[1:], HIGH)))
    found = {"return_mae": float(off.mean())}
    return found | ({"coverage68_if_successful": float(np.concatenate(within).mean())} if within else {})
