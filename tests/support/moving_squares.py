"""Episodes of a bright square that moves as it is told, as a labeller and as a training see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dataengine.core.arrays import Array
from dataengine.core.clock import steps_near
from dataengine.core.column import ActionSpace, Column
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.labelling import Watched
from dataengine.core.training import DatasetFacts, FieldSpec, TrainingFacts

SIDE = 32
ACTION = Column(
    "action", shape=(2,), dims=("x", "y"), unit="px", meaning="action", action_space=ActionSpace("ee_delta", absolute=False), action_source="commanded"
)
STATE = Column("observation.state", shape=(2,), dims=("x", "y"), unit="px", meaning="state")


def square_episode(seed: int, steps: int = 24, rate_hz: float = 10.0, dataset: str = "squares", embodiment: str | None = "square") -> Watched:
    """Return an episode: `action[t]` is by how many px the square moves right and down from picture t to t + 1, `state` where its corner is."""
    rng = np.random.default_rng(seed)
    at = np.zeros((steps, 2), np.int64)
    action = np.zeros((steps, 2), np.int64)
    at[0] = rng.integers(6, 19, 2)
    for step in range(steps):
        wanted = rng.integers(-3, 4, 2)
        after = np.clip(at[step] + wanted, 2, 23)
        action[step] = after - at[step]
        if step + 1 < steps:
            at[step + 1] = after
    pictures = np.full((steps, SIDE, SIDE, 3), 30, np.uint8)
    for step, (x, y) in enumerate(at):
        pictures[step, y : y + 7, x : x + 7] = (220, 160, 60)
    return Watched(
        episode_id=f"{seed:032x}",
        dataset=dataset,
        steps=steps,
        embodiment=embodiment,
        rate_hz=rate_hz,
        t_ns=np.rint(np.arange(steps) * 1e9 / rate_hz).astype(np.int64),
        pictures={"camera:primary": pictures},
        seen={"camera:primary": np.ones(steps, np.bool_)},
        columns={"state": at.astype(np.float32), "action": action.astype(np.float32)},
        valid={"state": np.ones(steps, np.bool_), "action": np.ones(steps, np.bool_)},
        specs={"state": STATE, "action": ACTION},
    )


def facts_of(episodes: Sequence[Watched], seed: int = 0) -> TrainingFacts:
    """Return what a trainee is told of episodes of one dataset."""
    first = episodes[0]
    statistics = {name: _statistics(np.concatenate([each.columns[name] for each in episodes])) for name in ("state", "action")}
    told = DatasetFacts(first.dataset, first.embodiment, first.rate_hz, {"state": STATE, "action": ACTION}, statistics)
    return TrainingFacts([told], "0" * 32 + "@1", seed, {"episodes": {"steps": np.array([each.steps for each in episodes])}})


def _statistics(values: Array) -> ColumnStatistics:
    count, width = values.shape
    quantiles = {
        name: tuple(np.quantile(values, share, axis=0).tolist()) for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99))
    }
    return ColumnStatistics(
        shape=(width,), rows=(count,), nulls=(0,), count=(count,) * width, not_finite=(0,) * width, distinct=(3,) * width,
        mean=tuple(values.mean(0).tolist()), std=tuple(values.std(0).tolist()), min=tuple(values.min(0).tolist()), max=tuple(values.max(0).tolist()), **quantiles,
    )  # fmt: skip


class SquareBatches:
    """Batches of episodes as a loader gives them, endless, in an order that is a function of the seed."""

    def __init__(self, episodes: Sequence[Watched], fields: Mapping[str, FieldSpec], size: int, seed: int = 0) -> None:
        self._episodes, self._fields, self._size, self._seed, self.at = episodes, fields, size, seed, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            rng = np.random.default_rng([self._seed, self.at])
            self.at += 1
            yield self._batch(rng.integers(len(self._episodes), size=self._size), rng)

    def _batch(self, chosen: Array, rng: np.random.Generator) -> dict[str, Any]:
        steps = [int(rng.integers(self._episodes[number].steps)) for number in chosen]
        found: dict[str, Any] = {"weight": torch.ones(len(chosen)), "dataset": torch.zeros(len(chosen), dtype=torch.int64), "episode": torch.from_numpy(chosen)}
        for name, spec in self._fields.items():
            values, pads = [], []
            for number, step in zip(chosen, steps, strict=True):
                episode = self._episodes[number]
                assert episode.t_ns is not None
                near, beyond = steps_near(episode.t_ns, np.array([step]), spec.seconds or (0.0,))
                values.append((episode.pictures if name in episode.pictures else episode.columns)[name][near[0]])
                pads.append(beyond[0])
            found[name], found[f"{name}_is_pad"] = torch.from_numpy(np.stack(values)), torch.from_numpy(np.stack(pads))
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.at = int(state["at"])
