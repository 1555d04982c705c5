"""A model that learns anew from each fold: for data so small that every episode is needed on both sides, in turn.

What is trained is the same as by `dataengine train`, with the same settings; windows are cut from parts of episodes in memory, since a fold may hold only half of an episode.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column_statistics import column_statistics
from dataengine.core.config import merged, parse_config
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Labeller, Watched
from dataengine.core.randomness import hash64
from dataengine.core.training import DatasetFacts, FieldSpec, TrainingFacts
from dataengine.evaluate.folds import Fold, Part
from dataengine.evaluate.label_trial import Learner
from dataengine.evaluate.viewing import Viewer
from dataengine.stats.summary import ColumnSummary

KINDS = ("idm",)
HELD_OUT = 5  # every fifth training part is what the model is calibrated on; of few parts, the last fifth of each


class PartBatches:
    """Endless batches of windows around the steps of parts of episodes: see `dataengine.models.fit.Batches`."""

    def __init__(self, parts: Sequence[Watched], fields: Mapping[str, FieldSpec], batch_size: int, seed: int) -> None:
        self._parts, self._fields, self._size, self._seed = parts, fields, batch_size, seed
        counts = [part.steps for part in parts]
        self._part = np.repeat(np.arange(len(parts)), counts)
        self._step = np.concatenate([np.arange(count) for count in counts])
        self._at = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            chosen = np.array([self._sample(self._at * self._size + place) for place in range(self._size)])
            self._at += 1
            yield self._batch(chosen)

    def _sample(self, number: int) -> int:
        """Return which sample comes at a place: each once an epoch, in an order of its own."""
        epoch, place = divmod(number, len(self._step))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = np.argsort(hash64(self._seed, epoch, np.arange(len(self._step))), kind="stable")
        return int(self._order[place])

    def _batch(self, samples: Array) -> dict[str, Any]:
        import torch

        found: dict[str, Any] = {}
        for name, spec in self._fields.items():
            windows = [_window(self._parts[self._part[one]], int(self._step[one]), name, spec) for one in samples]
            found[name] = torch.from_numpy(np.stack([values for values, _ in windows]))
            found[f"{name}_is_pad"] = torch.from_numpy(np.stack([pad for _, pad in windows]))
        numbers = {"episode": self._part[samples], "step": self._step[samples], "sample": samples, "dataset": np.zeros(len(samples), np.int64)}
        return found | {name: torch.from_numpy(each.astype(np.int64)) for name, each in numbers.items()} | {"weight": torch.ones(len(samples))}

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return {"at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place."""
        self._at = int(state["at"])


def _window(part: Watched, step: int, name: str, spec: FieldSpec) -> tuple[Array, Array]:
    """Return the rows (K, ...) of a field around a step, or the row where it has no window, and whether each is beyond what is there."""
    if spec.seconds is not None:
        near, beyond = part.near(np.array([step]), spec.seconds)
        rows, pad = near[0], beyond[0]
    else:
        wanted = step + np.array(spec.steps if spec.steps is not None else (0,))
        rows = np.clip(wanted, 0, part.steps - 1)
        pad = rows != wanted
    group, there = (part.pictures, part.seen) if name in part.pictures else (part.columns, part.valid)
    if name in group:
        values, pad = group[name][rows], pad | ~there[name][rows]
    elif spec.size is None:  # as the loader has it: a model may learn the displacement alone
        values, pad = np.zeros((len(rows), 1), np.float32), np.ones(len(rows), np.bool_)
    else:
        raise UsageError(f"episode {part.episode_id} of {part.dataset}: has no {name!r} for the model to learn from")
    return (values[0], pad[0]) if spec.seconds is None and spec.steps is None else (values, pad)


def facts_of(parts: Sequence[Watched], fields: Mapping[str, FieldSpec], trained_on: str, seed: int) -> TrainingFacts:
    """Return what a model is told of the parts that it learns from."""
    columns, statistics = {}, {}
    for name in fields:
        holding = [part for part in parts if name in part.columns]
        if holding:
            summary = ColumnSummary(int(np.prod(holding[0].columns[name].shape[1:], dtype=int)))
            for part in holding:
                summary.update(part.columns[name], part.valid[name])
            statistics[name] = column_statistics(summary.result())
            if name in holding[0].specs:
                columns[name] = holding[0].specs[name]
    first = parts[0]
    return TrainingFacts([DatasetFacts(first.dataset, first.embodiment, first.rate_hz, columns, statistics)], trained_on, seed)


def parts_held_out(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return what is learned from and what a model is calibrated on: every fifth part, or the last fifth of each of few, since what was learned from tells nothing of certainty."""
    if len(parts) >= 2 * HELD_OUT:
        return [part for place, part in enumerate(parts) if place % HELD_OUT], list(parts[::HELD_OUT])
    cuts = [part.stop - (part.stop - part.start) // HELD_OUT for part in parts]
    learned = [replace(part, stop=cut) for part, cut in zip(parts, cuts, strict=True)]
    return learned, [replace(part, start=cut) for part, cut in zip(parts, cuts, strict=True) if part.stop - cut > 1]


def learner_of(kind: str, settings: Mapping[str, Any], trained_on: str, seed: int, device: str) -> Learner:
    """Return what learns a kind of model from each fold.

    Args:
        kind: "idm", or "idm:single_frame" for another scale than "tiny".
        settings: as in a YAML file of `dataengine train`: `model` and `fit`. Where the model's window is not among them, it is set to the rate of the data.
        trained_on: `<store id>@<version>`.
        seed: of the weights, the order of samples and all else.
        device: where it is trained and runs.
    """
    name, _, scale = kind.partition(":")
    if name not in KINDS:
        raise UnknownName("kind of model that learns from folds", name, KINDS)
    room = importlib.import_module(f"dataengine.labels.{name}")
    scale = scale or "tiny"
    if scale not in room.SCALES:
        raise UnknownName(f"scale of a model of kind {name!r}", scale, room.SCALES)

    def learn(fold: Fold, viewer: Viewer, cameras: tuple[str, ...]) -> Labeller:
        from dataengine.models.checkpoint import Checkpoint
        from dataengine.models.fit import fit

        base = room.SCALES[scale].model_dump(mode="json")
        model = merged(base | _to_rate(base, fold) | {"cameras": list(cameras)}, settings.get("model", {}))
        trainee = room.trainee(parse_config(room.CONFIG, model, "model"))
        fitting = parse_config(type(room.FITS[scale]), room.FITS[scale].model_dump(mode="json") | dict(settings.get("fit", {})), "fit")
        learned, held = (list(viewer.views(parts, trainee.needs)) for parts in parts_held_out(fold.train))
        fitted = trainee.begin(facts_of(learned, trainee.fields(), trained_on, seed), device)
        with tempfile.TemporaryDirectory() as folder:
            fit(fitted, PartBatches(learned, trainee.fields(), fitting.batch_size, seed), fitting, seed, folder)
        trainee.calibrate(held)
        config, weights = trainee.checkpoint()
        return room.open_idm(Checkpoint(name, config, weights, {"trained_on": trained_on}), device)  # type: ignore[no-any-return]

    return learn


def _to_rate(base: Mapping[str, Any], fold: Fold) -> dict[str, float]:
    """Return the window in whole control periods of the data: as many as the default has gaps."""
    from dataengine.labels.idm_windows import at_rate

    rate = fold.train[0].row["rate_hz"]
    return {} if rate is None else at_rate(base, rate, 1)
