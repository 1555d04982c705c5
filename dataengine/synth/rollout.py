"""An episode of an environment, played and recorded: the same seed, policy and perturbation give the same bytes.

Rows stand on the clock of the simulation. Observation t and its pictures are taken, then action t is given and acts until observation t + 1: an episode of T actions has
T + 1 observations, the last of which has no action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.environment import ACTION, Environment, Observed
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.stream import Frames, Rows

PolicyName = Literal["expert", "random"]
POLICIES: tuple[PolicyName, ...] = ("expert", "random")
CLOCK = "simulation"
BLOCK_STEPS = 32  # so many pictures of each camera are in memory at once
RETURN_RATE = 3.0  # per second: how fast a perturbation goes back to nothing


@dataclass(frozen=True)
class Perturbation:
    """Noise on top of a script's commands: an Ornstein-Uhlenbeck process whose standard deviation is `sigma`, in the environment's own scale.

    A step of dt seconds keeps exp(-3 dt) of it, and it starts from its stationary distribution, so that its size is the same at every rate and step.
    """

    sigma: float

    def track(self, rng: np.random.Generator, dims: int, rate_hz: float) -> Iterator[Array]:
        """Yield the noise (D,) of step after step."""
        kept = float(np.exp(-RETURN_RATE / rate_hz))
        fresh = float(np.sqrt(1 - kept**2))
        noise = rng.normal(size=dims)
        while True:
            yield self.sigma * noise
            noise = kept * noise + fresh * rng.normal(size=dims)


def noise_of(seed: int, levels: Sequence[float]) -> float:
    """Return the noise level of an episode: by its seed alone, so that it does not matter which episodes are asked for beside it."""
    return levels[seed % len(levels)]


@dataclass(frozen=True)
class Play:
    """How episodes are played: who commands, how much the commands are perturbed, and after how many steps an episode is cut (None: as the environment says)."""

    policy: PolicyName = "expert"
    noise: tuple[float, ...] = (0.0,)
    max_steps: int | None = None

    def events(self, environment: Environment, seed: int) -> Iterator[Event]:
        """Yield the rows of an episode in blocks, and at its end what it is."""
        facts, sigma = environment.facts, noise_of(seed, self.noise)
        rng = np.random.default_rng([seed, 0xAC7])
        noise = Perturbation(sigma).track(rng, len(facts.low), facts.rate_hz)
        block = _Block(facts.rate_hz)
        seen = environment.reset(seed)
        task = environment.task
        steps, done_at = 0, None
        block.look(seen, environment.render())
        most = facts.max_steps if self.max_steps is None else min(self.max_steps, facts.max_steps)
        while steps < most and not seen.over:
            command = environment.expert() if self.policy == "expert" else environment.sample(rng)
            if command is None:
                break
            if sigma and self.policy == "expert":
                command = np.clip(command + next(noise) * facts.noise_scale, facts.low, facts.high)
            action = np.asarray(command).astype(facts.columns[ACTION].dtype)
            block.act(action)  # what is recorded is what was given, rounding included
            seen = environment.step(action)
            steps += 1
            done_at = steps if done_at is None and seen.success else done_at
            block.look(seen, environment.render())
            if len(block) >= BLOCK_STEPS:
                yield from block.rows()
        yield from block.rows()
        names = [name for name in facts.columns if name in block.streams]
        yield EpisodeInfo(
            facts.name,
            {name: facts.columns[name] for name in names},
            "measured",
            str(seed),
            dict.fromkeys(names, CLOCK),
            rate_hz=facts.rate_hz,
            tasks=(task,) if task else (),
            success=seen.success,
            embodiment=facts.embodiment,
            origin="simulation",
            metadata=self._metadata(facts.name, facts.version, facts.settings, seed, sigma, done_at),
        )

    def _metadata(self, name: str, version: str, settings: Mapping[str, Any], seed: int, sigma: float, done_at: int | None) -> dict[str, Any]:
        played = {"environment": name, "environment_version": version, "seed": seed, "policy": self.policy, "noise": sigma if self.policy == "expert" else None}
        return {**played, "first_success_step": done_at, "settings": dict(settings)}


class _Block:
    """The rows of an episode since the last block."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._first = {True: 0, False: 0}  # of observations and of actions
        self.streams: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, list[Array]] = {}
        self._images: dict[str, list[Array]] = {}
        self._actions: list[Array] = []
        self._looks = 0

    def __len__(self) -> int:
        return self._looks

    def look(self, seen: Observed, images: Mapping[str, Array]) -> None:
        """Take an observation."""
        for into, rows in ((self._values, seen.values), (self._images, images)):
            for name, row in rows.items():
                into.setdefault(name, []).append(row)
        self._looks += 1

    def act(self, action: Array) -> None:
        """Take a command."""
        self._actions.append(action)

    def _times(self, observed: bool, count: int) -> Array:
        first = self._first[observed]
        self._first[observed] += count
        return np.asarray(np.rint(np.arange(first, first + count) * (NS_PER_S / self._rate_hz)).astype(np.int64))

    def rows(self) -> Iterator[Rows]:
        """Yield what was taken, and forget it."""
        clocks = {CLOCK: self._times(True, self._looks)}
        for name, values in self._values.items():
            self.streams.add(name)
            yield Rows(name, np.stack(values), clocks)
        for name, images in self._images.items():
            self.streams.add(name)
            yield Rows(name, Frames(np.stack(images)), clocks)
        if self._actions:
            self.streams.add(ACTION)
            yield Rows(ACTION, np.stack(self._actions), {CLOCK: self._times(False, len(self._actions))})
        self._clear()
