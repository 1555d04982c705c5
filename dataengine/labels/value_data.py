"""What a value model keeps of the data that it learned from: how numbers are scaled, and how long the longest episode of each task is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched

SMALLEST_SPREAD = 1e-6  # below it a dimension is constant, and says nothing


@dataclass(frozen=True)
class Learned:
    """What is kept of the training data: numbers' mean and spread by dataset and body, and the steps of the longest episode by task."""

    datasets: tuple[Mapping[str, Any], ...]
    longest: Mapping[str, float]
    temperature: float = 1.0

    @property
    def slots(self) -> tuple[int, ...]:
        """Return how many numbers the network takes of each column: as many as the widest body has."""
        return tuple(max(wide) for wide in zip(*(each["widths"] for each in self.datasets), strict=True))

    @property
    def width(self) -> int:
        """Return D, the numbers that the network takes."""
        return sum(self.slots)

    def laid_out(self, scaling: Mapping[str, Any], name: str) -> Array:
        """Return the numbers of a dataset's scaling as the network takes them, (D,) float32: each column in its slot, zeros behind."""
        found, start = [], 0
        for wide, slot in zip(scaling["widths"], self.slots, strict=True):
            found += [*scaling[name][start : start + wide], *(0.0,) * (slot - wide)]
            start += wide
        return np.array(found, np.float32)

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


def scaling_of(dataset: str, embodiment: str | None, columns: Sequence[str], statistics: Mapping[str, Any]) -> dict[str, Any]:
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
