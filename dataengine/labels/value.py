"""Values of steps, learned from episodes whose outcome is known: what return to expect, how far success is, and the advantage of what was done.

The labels of a step: `value` (the expected return, as a share of the longest episode of the task), `success_probability`, `steps_to_success` (steps that remain if it succeeds),
`progress` (1 less the share of the longest episode that these are), `advantage` (over the next `advantage_s`). Episodes of unknown outcome are labelled too, and not learned from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.config import parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.training import FieldSpec, TrainingFacts
from dataengine.labels.returns import (
    HIGH,
    LOW,
    Outcome,
    advantages,
    expected,
    if_successful,
    quantile,
    spread,
    success_mass,
)
from dataengine.models.checkpoint import Checkpoint
from dataengine.models.fit import FitConfig
from dataengine.models.value import ValueConfig, ValueFit, ValueNet, as_pictures, normalised

KIND = "value"
CONFIG = ValueConfig
SCALES: dict[str, ValueConfig] = {
    "tiny": ValueConfig(),
    "small": ValueConfig(size=(96, 96), width=256, depth=6, heads=8, seconds=(-0.4, -0.2, 0.0)),
    "base": ValueConfig(size=(224, 224), width=512, depth=12, heads=8, seconds=(-0.4, -0.2, 0.0), bins=201),
    "large": ValueConfig(size=(224, 224), width=1024, depth=16, heads=16, seconds=(-0.4, -0.2, 0.0), bins=201),
}
FITS: dict[str, FitConfig] = {
    "tiny": FitConfig(steps=600, batch_size=64, average=0.99),
    "small": FitConfig(steps=20_000, batch_size=256, learning_rate=3e-4, warmup_steps=500, average=0.999, precision="bfloat16"),
    "base": FitConfig(steps=50_000, batch_size=256, learning_rate=1e-4, warmup_steps=1000, average=0.999, precision="bfloat16"),
    "large": FitConfig(steps=100_000, batch_size=256, learning_rate=1e-4, warmup_steps=2000, average=0.999, precision="bfloat16"),
}
SMALLEST_SPREAD = 1e-6  # below it a dimension is constant, and says nothing
STEP_NS = 1_000_000_000
BATCH = 256  # steps at once when held-out episodes are looked at


@dataclass(frozen=True)
class Spoken:
    """What is kept of the training data: numbers' mean and spread by dataset and body, and the steps of the longest episode by task."""

    datasets: tuple[Mapping[str, Any], ...]
    longest: Mapping[str, float]
    temperature: float = 1.0

    @property
    def width(self) -> int:
        """Return D, the numbers that the network takes."""
        return max((len(each["centre"]) for each in self.datasets), default=0)

    def scaling(self, watched: Watched) -> Mapping[str, Any]:
        """Return the mean and spread for an episode: those of its dataset, else of another with the same body."""
        for key, wanted in (("dataset", watched.dataset), ("embodiment", watched.embodiment)):
            found = next((each for each in self.datasets if wanted is not None and each[key] == wanted), None)
            if found is not None:
                return found
        known = ", ".join(str(each["dataset"]) for each in self.datasets)
        raise UsageError(
            f"episode {watched.episode_id} of {watched.dataset}: must be of a dataset or a body that the value model learned from ({known}); train it on such episodes, or without `columns`"
        )

    def longest_of(self, watched: Watched) -> float:
        """Return the steps of the longest episode of an episode's task, of its dataset where the task was not seen, of any where neither was."""
        keys = (*watched.tasks, watched.dataset)
        return float(next((self.longest[key] for key in keys if key in self.longest), max(self.longest.values())))

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"datasets": [dict(each) for each in self.datasets], "longest": dict(self.longest), "temperature": self.temperature}


def trainee(config: ValueConfig) -> ValueTrainee:
    """Return what is trained."""
    return ValueTrainee(config)


class ValueTrainee:
    """A value model before, during and after training; a `Trainee`."""

    kind = KIND

    def __init__(self, config: ValueConfig) -> None:
        self.config = config
        self._spoken: Spoken | None = None
        self._fitted: ValueFit | None = None

    @property
    def needs(self) -> Needs:
        """What it must see of an episode."""
        return _needs(self.config)

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
        scalings = tuple(_scaling(each.dataset, each.embodiment, self.config.columns, each.statistics) for each in facts.datasets)
        self._spoken = Spoken(scalings, longest)
        centre, scale = (torch.tensor(_padded([each[name] for each in scalings], self._spoken.width), dtype=torch.float32) for name in ("centre", "scale"))
        torch.manual_seed(facts.seed)
        net = ValueNet(self.config, self._spoken.width).to(device)
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
        assert self._spoken is not None
        labeller = ValueLabeller(self._checkpoint({}))
        seen = [episode for episode in held_out if episode.success is not None and episode.steps > 1]
        if not seen:
            return {"episodes": 0}
        logits = [labeller.logits(episode) for episode in seen]
        outcomes = [Outcome(self._spoken.longest_of(episode), episode.success, self.config.failure) for episode in seen]
        returns = [outcome.returns(episode.steps) for outcome, episode in zip(outcomes, seen, strict=True)]
        temperature = best_temperature(np.concatenate(logits), np.concatenate(returns), labeller.atoms)
        before = surprise(np.concatenate(logits), np.concatenate(returns), labeller.atoms)
        self._spoken = Spoken(self._spoken.datasets, self._spoken.longest, temperature)
        after = surprise(np.concatenate(logits) / temperature, np.concatenate(returns), labeller.atoms)
        found = {"episodes": len(seen), "temperature": temperature, "nll": after, "nll_before": before}
        return found | _figures([shares(each / temperature) for each in logits], returns, [bool(each.success) for each in seen], labeller.atoms)

    def checkpoint(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the configuration and the weights."""
        found = self._checkpoint({})
        return found.config, found.weights

    def _checkpoint(self, train: Mapping[str, Any]) -> Checkpoint:
        assert self._fitted is not None
        assert self._spoken is not None
        config = {"model": self.config.model_dump(mode="json"), "data": self._spoken.as_json()}
        return Checkpoint(KIND, config, {name: value.detach().cpu() for name, value in self._fitted.module.state_dict().items()}, train)


def open_value(checkpoint: Checkpoint, device: str = "cpu") -> ValueLabeller:
    """Open a trained value model as a labeller.

    Raises:
        UsageError: it is a model of another kind, or its files do not belong together.
    """
    if checkpoint.kind != KIND:
        raise UsageError(f"model {checkpoint.digest}: must be of the kind {KIND!r}, got {checkpoint.kind!r}; name a folder that `dataengine train value` wrote")
    return ValueLabeller(checkpoint, device)


class ValueLabeller:
    """Labels values: see the module. An answer is the histogram of the return."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        data = checkpoint.config["data"]
        self.config = parse_config(ValueConfig, checkpoint.config["model"], "config.json: model")
        self._checkpoint, self._device = checkpoint, device
        self._spoken = Spoken(tuple(data["datasets"]), dict(data["longest"]), float(data["temperature"]))
        self._net = ValueNet(self.config, self._spoken.width)
        checkpoint.load_into(self._net)
        self._net.to(device).eval()
        self.atoms: Array = self.config.atoms.numpy().astype(np.float64)

    @property
    def needs(self) -> Needs:
        """What it must see of an episode."""
        return _needs(self.config)

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common."""
        seen = {"cameras": self.config.cameras, "columns": self.config.columns, "size": self.config.size, "fit": "stretch", "seconds": self.config.seconds}
        preprocessing = digest_json([KIND, seen, [dict(each) for each in self._spoken.datasets]])
        parameters = {"kind": KIND, "failure": self.config.failure, "advantage_s": self.config.advantage_s, "longest": dict(self._spoken.longest)}
        return LabelSet(name, self._checkpoint.digest, self._checkpoint.train.get("trained_on"), preprocessing, parameters)

    def inputs(self, part: Watched, steps: Array) -> dict[str, Array]:
        """Return pictures (n, N, K, H, W, 3) uint8, whether each is there (n, N, K), numbers (n, K, D) float32 and whether each is known."""
        at, beyond = part.near(steps, self.config.seconds)
        count, times = at.shape
        found: dict[str, Array] = {}
        if self.config.cameras:
            found["pictures"] = np.stack([part.pictures[camera][at] for camera in self.config.cameras], axis=1)
            found["seen"] = np.stack([part.seen[camera][at] & ~beyond for camera in self.config.cameras], axis=1)
        if self.config.columns:
            numbers = np.zeros((count, times, self._spoken.width), np.float32)
            known = np.zeros(numbers.shape, np.bool_)
            scaling, start = self._spoken.scaling(part), 0
            for name, wide in zip(self.config.columns, scaling["widths"], strict=True):
                if name in part.columns:
                    values = part.columns[name][at].reshape(count, times, -1).astype(np.float32)
                    if values.shape[2] != wide:
                        raise UsageError(f"episode {part.episode_id}: column {name!r}: must hold {wide} numbers as in training, got {values.shape[2]}")
                    numbers[:, :, start : start + wide] = values
                    known[:, :, start : start + wide] = ((part.valid[name][at] & ~beyond)[..., None]) & np.isfinite(values)
                start += wide
            found |= {"numbers": np.where(known, numbers, 0), "known": known}
            found["centre"], found["scale"] = (
                np.tile(np.array(_padded([scaling[name]], self._spoken.width), np.float32), (count, 1)) for name in ("centre", "scale")
            )
        return found

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the histogram (n, K) float32, and whether anything was seen at the step itself (n,)."""
        scaled = self._logits(inputs) / self._spoken.temperature
        there = [inputs["seen"][:, :, -1].any(axis=1)] if self.config.cameras else [inputs["known"][:, -1].any(axis=1)]
        return {"histogram": shares(scaled).astype(np.float32), "seen": np.logical_or.reduce(there)}

    def logits(self, episode: Watched) -> Array:
        """Return the network's answers (T, K) for every step of an episode."""
        steps = np.arange(episode.steps)
        return np.concatenate([self._logits(self.inputs(episode, steps[start : start + BATCH])) for start in range(0, len(steps), BATCH)])

    def _logits(self, inputs: Mapping[str, Array]) -> Array:
        import torch

        count = len(next(iter(inputs.values())))
        times, device = len(self.config.seconds), self._device
        with torch.inference_mode():
            pictures, seen = torch.zeros(count, 0, times, 3, *self.config.size, device=device), torch.zeros(count, 0, times, dtype=torch.bool, device=device)
            if self.config.cameras:
                pictures, seen = as_pictures(torch.tensor(inputs["pictures"], device=device)), torch.tensor(inputs["seen"], device=device)
            numbers, known = torch.zeros(count, times, 0, device=device), torch.zeros(count, times, 0, dtype=torch.bool, device=device)
            if self.config.columns:
                centre, scale = (torch.tensor(inputs[name], device=device)[:, None] for name in ("centre", "scale"))
                numbers, known = normalised(torch.tensor(inputs["numbers"], device=device), torch.tensor(inputs["known"], device=device), centre, scale)
            found: Array = self._net(pictures, seen, numbers, known).to(torch.float32).cpu().numpy()
        return found.astype(np.float64)

    def labels(self, episode: Watched, answers: Mapping[str, Array]) -> Labels:
        """Return the labels of an episode."""
        histogram = answers["histogram"].astype(np.float64)
        histogram /= histogram.sum(axis=1, keepdims=True)
        outcome = Outcome(self._spoken.longest_of(episode), episode.success, self.config.failure)
        value, deviation, chance = expected(histogram, self.atoms), spread(histogram, self.atoms), success_mass(histogram)
        ends = {"value": tuple(quantile(histogram, self.atoms, share) for share in (LOW, HIGH))}
        sure = 1 - (ends["value"][1] - ends["value"][0]) / (self.atoms[-1] - self.atoms[0])
        hopeful, rising = if_successful(histogram), self.atoms[1:]
        left, near, far = -expected(hopeful, rising), -quantile(hopeful, rising, HIGH), -quantile(hopeful, rising, LOW)
        ahead = self._ahead(episode)
        advantage, away, known = advantages(value, deviation, ahead, outcome)
        later = np.minimum(np.arange(episode.steps) + ahead, episode.steps - 1)
        ends |= {
            "steps_to_success": (near * outcome.longest, far * outcome.longest),
            "progress": (1 - far, 1 - near),
            "advantage": (advantage - away, advantage + away),
        }
        columns = {"value": value, "success_probability": chance, "steps_to_success": left * outcome.longest, "progress": 1 - left, "advantage": advantage}
        confidence = {"value": sure, "success_probability": np.maximum(chance, 1 - chance), "steps_to_success": chance, "progress": chance}
        confidence["advantage"] = np.minimum(sure, sure[later])
        seen = answers["seen"].astype(np.bool_)
        valid = dict.fromkeys(columns, seen) | {"advantage": known & seen & seen[later]}
        return Labels(
            {name: each.astype(np.float32) for name, each in columns.items()},
            _specs(outcome, self.config),
            valid=valid,
            low={name: pair[0].astype(np.float32) for name, pair in ends.items()},
            high={name: pair[1].astype(np.float32) for name, pair in ends.items()},
            confidence={name: np.clip(each, 0, 1).astype(np.float32) for name, each in confidence.items()},
        )

    def _ahead(self, episode: Watched) -> int:
        """Return over how many steps an advantage looks ahead."""
        if episode.t_ns is None or episode.steps < 2:
            return 1
        return max(1, round(self.config.advantage_s * STEP_NS / float(np.median(np.diff(episode.t_ns)))))


def _specs(outcome: Outcome, config: ValueConfig) -> dict[str, Column]:
    told = {
        "value": (f"expected return, in longest episodes of the task: 0 when done, -1 when all of it is left, {config.failure:g} when it fails", None),
        "success_probability": ("chance that the episode succeeds", None),
        "steps_to_success": ("steps that remain, if it succeeds", "steps"),
        "progress": ("1 less the steps that remain, as a share of the longest episode of the task", None),
        "advantage": (f"how much better than expected the next {config.advantage_s:g} s were, in longest episodes of the task", None),
    }
    return {name: Column(name, doc=doc, unit=unit) for name, (doc, unit) in told.items()}


def _needs(config: ValueConfig) -> Needs:
    return Needs(cameras=config.cameras, size=config.size, columns=config.columns, before_s=-min(config.seconds))


def _scaling(dataset: str, embodiment: str | None, columns: Sequence[str], statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the numbers of a dataset are shifted by and divided by: mean and spread of its training episodes, 0 for what is constant."""
    centre: list[float] = []
    scale: list[float] = []
    widths: list[int] = []
    for name in columns:
        if name not in statistics:
            widths.append(0)
            continue
        mean, std = (np.nan_to_num(statistics[name].array(which)).reshape(-1) for which in ("mean", "std"))
        centre += mean.tolist()
        scale += np.where(std > SMALLEST_SPREAD, std, 0).tolist()
        widths.append(len(mean))
    return {"dataset": dataset, "embodiment": embodiment, "centre": centre, "scale": scale, "widths": widths}


def _padded(rows: Sequence[Sequence[float]], width: int) -> list[list[float]]:
    return [[*row, *(0.0,) * (width - len(row))] for row in rows]


def shares(logits: Array) -> Array:
    """Return histograms (T, K) of logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def surprise(logits: Array, returns: Array, atoms: Array) -> float:
    """Return the mean cross-entropy in nats between returns (T,), shared between the atoms beside each, and histograms of logits (T, K)."""
    above = np.clip(np.searchsorted(atoms, returns), 1, len(atoms) - 1)
    share = (np.clip(returns, atoms[0], atoms[-1]) - atoms[above - 1]) / (atoms[above] - atoms[above - 1])
    logarithm = np.log(np.maximum(shares(logits), 1e-12))
    row = np.arange(len(returns))
    return float(-np.mean((1 - share) * logarithm[row, above - 1] + share * logarithm[row, above]))


def best_temperature(logits: Array, returns: Array, atoms: Array) -> float:
    """Return what logits are divided by for the least surprise, from 1/4 to 8, in steps of 2 %."""
    tried = np.exp(np.arange(np.log(0.25), np.log(8), 0.02))
    return float(min(tried, key=lambda temperature: surprise(logits / temperature, returns, atoms)))


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
