"""How much of the gain of perfect labels is recovered, and whether labels help: with intervals that count the policies as well as the episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.evaluate.conditions import FILTERED, PERFECT, PSEUDO, REAL, SHUFFLED, WEIGHTED

Verdict = Literal["helps", "no evidence", "hurts"]
RESAMPLES = 2000
SMALLEST_GAIN = 0.05  # where perfect labels give less than that, a share of it means nothing


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; None where it means nothing."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return it as JSON-able values."""
        return {"value": self.value, "low": self.low, "high": self.high}


Done = Mapping[str, Sequence[Sequence[bool]]]  # by condition: for each policy, whether it succeeded on each of its seeds


def gain(part: float, real: float, perfect: float) -> float | None:
    """Return the share of the gain of perfect labels, (part - real) / (perfect - real); None where perfect labels hardly gain anything."""
    return (part - real) / (perfect - real) if perfect - real >= SMALLEST_GAIN else None


def shares(done: Done) -> dict[str, float]:
    """Return the share of successes of each condition: the mean over its policies."""
    return {name: float(np.mean([np.mean(policy) for policy in policies])) for name, policies in done.items()}


def resampled(done: Done, seed: int = 0, times: int = RESAMPLES) -> dict[str, Array]:
    """Return (times,) shares of successes of each condition under resampling.

    Policies are drawn first, then episodes of each, the same ones for all conditions, whose policies of one seed and whose episodes are paired.

    Raises:
        ValueError: conditions have other numbers of policies or of episodes.
    """
    sizes = {name: tuple(len(policy) for policy in policies) for name, policies in done.items()}
    if len(set(sizes.values())) != 1 or not min(next(iter(sizes.values())), default=0):
        raise ValueError(f"resampling: every condition must have as many policies and episodes, and some, got {sizes}")
    lengths = next(iter(sizes.values()))
    rng = np.random.default_rng(seed)
    arrays = {name: [np.asarray(policy, dtype=np.float64) for policy in policies] for name, policies in done.items()}
    found = {name: np.zeros(times) for name in done}
    for at in range(times):
        policies = rng.integers(len(lengths), size=len(lengths))
        episodes = [rng.integers(lengths[policy], size=lengths[policy]) for policy in policies]
        for name, own in arrays.items():
            found[name][at] = np.mean([own[policy][chosen].mean() for policy, chosen in zip(policies, episodes, strict=True)])
    return found


def _estimate(value: float | None, samples: Array) -> Estimate:
    if value is None:
        return Estimate(None)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def difference(done: Done, one: str, other: str) -> Estimate:
    """Return by how much the share of successes under one condition lies above that under another."""
    means, samples = shares(done), resampled({name: done[name] for name in (one, other)})
    return _estimate(means[one] - means[other], samples[one] - samples[other])


def recovered(done: Done, name: str) -> Estimate:
    """Return the share of the gain of perfect labels that a condition has."""
    if name not in done or PERFECT not in done or REAL not in done:
        return Estimate(None)
    means, samples = shares(done), resampled({each: done[each] for each in {name, PERFECT, REAL}})
    value = gain(means[name], means[REAL], means[PERFECT])
    if value is None:
        return Estimate(None)
    whole = np.maximum(samples[PERFECT] - samples[REAL], SMALLEST_GAIN)  # a resample in which perfect labels gain nothing must not divide by it
    return _estimate(value, (samples[name] - samples[REAL]) / whole)


def verdict(done: Done) -> tuple[Verdict, str]:
    """Return whether pseudo-labels help, and why it is said.

    They help where policies that learned from them succeed more often than those of the real demonstrations alone, and more often than those of labels that were
    shuffled, each beyond the 95 % interval; they hurt where they succeed less often than the real demonstrations alone, beyond it. The verdict is on all labels as they are; where
    they do not help, but the sure ones do, the reason says so.
    """
    above_real = difference(done, PSEUDO, REAL)
    assert above_real.low is not None
    assert above_real.high is not None
    said = _words(above_real, PSEUDO, REAL)
    if above_real.low <= 0:
        for name in (FILTERED, WEIGHTED):
            above = difference(done, name, REAL) if name in done else Estimate(None)
            if above.low is not None and above.low > 0:
                said += f"; by their confidence they help: {_words(above, name, REAL)}"
        return ("hurts" if above_real.high < 0 else "no evidence"), said
    if SHUFFLED not in done:
        return "helps", f"{said}; shuffled labels were not tried"
    above_shuffled = difference(done, PSEUDO, SHUFFLED)
    assert above_shuffled.low is not None
    said = f"{said}, {_words(above_shuffled, PSEUDO, SHUFFLED)}"
    if above_shuffled.low <= 0:
        return "no evidence", f"{said}: labels of other episodes do as well, so it is not the labels that help"
    return "helps", said


def _words(estimate: Estimate, one: str, other: str) -> str:
    assert estimate.value is not None
    return f"{one} - {other} = {estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
