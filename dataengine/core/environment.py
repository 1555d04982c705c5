"""What an environment that is played step by step must offer, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.core.column import Column

ACTION = "action"


@dataclass(frozen=True, eq=False)
class EnvironmentFacts:
    """What is true of every episode of an environment.

    `name` and `version` name its behaviour: whoever changes what an episode looks like raises the version. `columns` describe the action, each value of an
    observation and each camera. `low` and `high` (D,) bound a command; `noise_scale` (D,) is what a perturbation of 1 means in each of its dimensions (0 for a gripper: it is
    never perturbed). `max_steps` ends an episode that does not end by itself. `settings` are the other choices that change the content (JSON-able).
    `expert` says whether a script can play it.
    """

    name: str
    version: str
    columns: Mapping[str, Column]
    rate_hz: float
    low: Array
    high: Array
    noise_scale: Array
    max_steps: int
    expert: bool
    embodiment: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("low", "high", "noise_scale"):
            object.__setattr__(self, name, read_only(np.asarray(getattr(self, name), dtype=np.float64)))


@dataclass(frozen=True, eq=False)
class Observed:
    """What is measured at one instant: `values` by column name, whether the task is done as things are (None where nobody can say), and whether the episode is over."""

    values: Mapping[str, Array]
    success: bool | None = None
    over: bool = False


class Environment(Protocol):
    """A simulated world that is played: reset, then step as often as one likes; what it shows depends on the seed and the commands alone."""

    @property
    def facts(self) -> EnvironmentFacts:
        """What is true of every episode."""

    @property
    def task(self) -> str:
        """The instruction of the running episode."""

    def reset(self, seed: int) -> Observed:
        """Begin the episode of a seed."""

    def step(self, action: Array) -> Observed:
        """Give a command (D,) for one control period; return what is measured at its end."""

    def render(self) -> Mapping[str, Array]:
        """Return what each camera sees now, (H, W, 3) uint8 RGB by column name."""

    def expert(self) -> Array | None:
        """Return the command (D,) that the script would give now; None where it has nothing left to do."""

    def sample(self, rng: np.random.Generator) -> Array:
        """Return a random command (D,): what an explorer without a script gives now."""

    def close(self) -> None:
        """Let go of whatever the simulator holds."""
