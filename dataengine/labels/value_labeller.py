"""A trained value model as a labeller: histograms of the return, and the labels that they become."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.column import Column
from dataengine.core.config import parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.labels import Labels, LabelSet
from dataengine.labels.returns import HIGH, LOW, Outcome, advantages, expected, if_successful, quantile, shares, spread, success_mass
from dataengine.labels.value_data import Learned
from dataengine.models.checkpoint import Checkpoint
from dataengine.models.value import ValueConfig, ValueNet, as_pictures, normalised

KIND = "value"
BATCH = 256  # steps at once where a whole episode is looked at


class ValueLabeller:
    """Labels values: see the module. An answer is the histogram of the return."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        data = checkpoint.config["data"]
        self.config = parse_config(ValueConfig, checkpoint.config["settings"], "config.json: settings")
        self._checkpoint, self._device = checkpoint, device
        self._learned = Learned(tuple(data["datasets"]), dict(data["longest"]), float(data["temperature"]))
        self._net = ValueNet(self.config, self._learned.width)
        checkpoint.load_into(self._net)
        self._net.to(device).eval()
        self.atoms: Array = self.config.atoms.numpy().astype(np.float64)

    @property
    def needs(self) -> Needs:
        """What it must see of an episode."""
        return needs_of(self.config)

    def label_set(self, name: str) -> LabelSet:
        """Return what all its labels have in common."""
        seen = {"cameras": self.config.cameras, "columns": self.config.columns, "size": self.config.size, "fit": "stretch", "seconds": self.config.seconds}
        preprocessing = digest_json([KIND, seen, [dict(each) for each in self._learned.datasets]])
        parameters = {"kind": KIND, "failure": self.config.failure, "advantage_s": self.config.advantage_s, "longest": dict(self._learned.longest)}
        parameters["learned_from"] = [each["dataset"] for each in self._learned.datasets]
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
            numbers = np.zeros((count, times, self._learned.width), np.float32)
            known = np.zeros(numbers.shape, np.bool_)
            scaling, start = self._learned.scaling(part), 0
            for name, wide, slot in zip(self.config.columns, scaling["widths"], self._learned.slots, strict=True):
                if name in part.columns:
                    values = part.columns[name][at].reshape(count, times, -1).astype(np.float32)
                    if values.shape[2] != wide:
                        raise UsageError(f"episode {part.episode_id}: column {name!r}: must hold {wide} numbers as in training, got {values.shape[2]}")
                    numbers[:, :, start : start + wide] = values
                    known[:, :, start : start + wide] = (part.valid[name][at] & ~beyond)[..., None] & np.isfinite(values)
                start += slot
            found |= {"numbers": np.where(known, numbers, 0), "known": known}
            found |= {name: np.tile(self._learned.laid_out(scaling, name), (count, 1)) for name in ("centre", "scale")}
        return found

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the histogram (n, K) float32, and whether anything was seen at the step itself (n,)."""
        scaled = self._logits(inputs) / self._learned.temperature
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
        outcome = Outcome(self._learned.longest_of(episode), episode.success, self.config.failure)
        value, deviation, chance = expected(histogram, self.atoms), spread(histogram, self.atoms), success_mass(histogram)
        ends = {"value": tuple(quantile(histogram, self.atoms, share) for share in (LOW, HIGH))}
        sure = 1 - (ends["value"][1] - ends["value"][0]) / (self.atoms[-1] - self.atoms[0])
        hopeful, rising = if_successful(histogram), self.atoms[1:]
        left, near, far = -expected(hopeful, rising), -quantile(hopeful, rising, HIGH), -quantile(hopeful, rising, LOW)
        ahead = self._ahead(episode)
        advantage, away, known = advantages(value, deviation, chance, ahead, outcome)
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
        return max(1, round(self.config.advantage_s * NS_PER_S / float(np.median(np.diff(episode.t_ns)))))


def _specs(outcome: Outcome, config: ValueConfig) -> dict[str, Column]:
    told = {
        "value": (f"expected return, in longest episodes of the task: 0 when done, -1 when all of it is left, {config.failure:g} when it fails", None),
        "success_probability": ("chance that the episode succeeds", None),
        "steps_to_success": ("steps that remain, if it succeeds", "steps"),
        "progress": ("1 less the steps that remain, as a share of the longest episode of the task", None),
        "advantage": (f"how much better than expected the next {config.advantage_s:g} s were, in longest episodes of the task", None),
    }
    return {name: Column(name, doc=doc, unit=unit) for name, (doc, unit) in told.items()}


def needs_of(config: ValueConfig) -> Needs:
    """Return what a value model must see of an episode."""
    return Needs(cameras=config.cameras, size=config.size, columns=config.columns, before_s=-min(config.seconds))
