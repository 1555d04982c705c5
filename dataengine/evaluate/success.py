"""How often a policy succeeds: it is played on fresh seeds of an environment, and the share is given with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from dataengine.core.arrays import Array
from dataengine.core.environment import ACTION, Environment

Z95 = 1.959963984540054  # quantile of the normal distribution that leaves 2.5 % on each side


class Policy(Protocol):
    """What chooses commands."""

    @property
    def sees_pictures(self) -> bool:
        """Return whether it must be shown pictures, which cost more than all else."""

    def act(self, values: Mapping[str, Array], pictures: Mapping[str, Array], task: str) -> Array:
        """Return the command (A,) for what is measured now, by column, for what the cameras see, and for an instruction."""


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a share: it stays inside [0, 1] and means something at 0 and at all (Wilson 1927, J. Am. Stat. Assoc. 22).

    Args:
        successes: how many of the trials succeeded.
        trials: how many there were; of none nothing is known.
        z: quantile of the normal distribution; by default for 95 %.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"wilson: successes must be from 0 to {trials}, got {successes}")
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    low = 0.0 if successes == 0 else middle - half  # exact there, where the difference would leave a rounding error
    return low, 1.0 if successes == trials else middle + half


def plays(policy: Policy, environment: Environment, seeds: Sequence[int], max_steps: int | None = None) -> list[bool]:
    """Return for each seed whether the policy did its task: whether the environment said so after some step, before the episode was over or too long."""
    most = environment.facts.max_steps if max_steps is None else min(max_steps, environment.facts.max_steps)
    dtype = environment.facts.columns[ACTION].dtype
    low, high = environment.facts.low, environment.facts.high
    done = []
    for seed in seeds:
        seen = environment.reset(seed)
        for _ in range(most):
            pictures = environment.render() if policy.sees_pictures else {}
            command = policy.act(seen.values, pictures, environment.task)
            seen = environment.step(command.clip(low, high).astype(dtype))
            if seen.success or seen.over:
                break
        done.append(bool(seen.success))
    return done
