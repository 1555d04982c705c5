"""How good value labels are, on episodes that the model did not learn from, beside what needs no model.

Progress is known in episodes that succeed: t / (T - 1). Within one episode the step's number orders all steps right by construction, so what tells is how steps of several episodes are
ordered together, by progress and by the steps that remain, and whether failures are told from successes. At shares of an episode the number of the step is as good as the length of the episode, which nobody
knows before its end; at a fixed step it says nothing. Both are reported. Intervals are over episodes, never steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.evaluate.ranking import auc, kendall, spearman

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
RESAMPLED = 200  # times, for an interval of 95 %
FOLDS = 5
RIDGE = 1.0  # on standardised numbers
FAILURE = -2.0  # the return that the ridge is taught of a failed episode, in longest episodes
Statistic = Callable[[Sequence["Told"], str], float]


@dataclass(frozen=True, eq=False)
class Told:
    """What is said of the T steps of an episode whose outcome is known.

    `scores[name]` (T,) are greater where more is done or success is surer; `ends[name]` the low and high end of an interval of a score. `state` is (T, D), None where there is none.
    """

    episode_id: str
    success: bool
    scores: Mapping[str, Array]
    ends: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    state: Array | None = None

    @property
    def steps(self) -> int:
        """Return T."""
        return len(next(iter(self.scores.values())))

    @property
    def progress(self) -> Array:
        """Return how much of the episode is over at each step (T,), from 0 to 1."""
        return np.arange(self.steps) / max(1, self.steps - 1)

    @property
    def left(self) -> Array:
        """Return the steps that remain (T,), as negative numbers."""
        return np.arange(self.steps) - (self.steps - 1)


def with_baselines(told: Sequence[Told], learned_from: Sequence[Told] | None = None) -> list[Told]:
    """Return the episodes with the scores of the baselines: `time` (the step's number), `constant`, and where there is a state `state_ridge` and `state_ridge_progress`.

    The ridges are fitted to one step's state, to the return of all episodes and to the steps that remain of those that succeeded; to `learned_from`, or where it is not given to four fifths of
    the episodes at a time.
    """
    found = [dict(each.scores) | {"time": np.arange(each.steps, dtype=np.float64), "constant": np.zeros(each.steps)} for each in told]
    if told and all(each.state is not None for each in [*told, *(learned_from or ())]):
        for fold in range(FOLDS if learned_from is None else 1):
            asked = [number for number in range(len(told)) if learned_from is not None or number % FOLDS == fold]
            taught = [each for number, each in enumerate(told) if number % FOLDS != fold] if learned_from is None else list(learned_from)
            for name, rows in (("state_ridge", taught), ("state_ridge_progress", [each for each in taught if each.success])):
                if not rows:
                    continue
                answer = _ridge(rows)
                for number in asked:
                    found[number][name] = answer(told[number].state)
    return [Told(each.episode_id, each.success, scores, each.ends, each.state) for each, scores in zip(told, found, strict=True)]


def _ridge(taught: Sequence[Told]) -> Callable[[Any], Array]:
    states = np.concatenate([np.asarray(each.state, np.float64).reshape(each.steps, -1) for each in taught])
    longest = max(1, max(each.steps for each in taught) - 1)
    returns = np.concatenate([each.left / longest if each.success else np.full(each.steps, FAILURE) for each in taught])
    good = np.isfinite(states).all(axis=1)
    states, returns = states[good], returns[good]
    centre, scale = states.mean(axis=0), np.maximum(states.std(axis=0), 1e-9)
    ready = (states - centre) / scale
    weights = np.linalg.solve(ready.T @ ready + RIDGE * np.eye(ready.shape[1]), ready.T @ (returns - returns.mean()))
    return lambda state: (np.nan_to_num(np.asarray(state, np.float64).reshape(len(state), -1)) - centre) / scale @ weights + returns.mean()


def _joined(told: Sequence[Told], name: str, truth: Callable[[Told], Array]) -> tuple[Array, Array]:
    score = np.concatenate([each.scores[name] for each in told]) if told else np.zeros(0)
    true = np.concatenate([truth(each) for each in told]) if told else np.zeros(0)
    there = np.isfinite(score)
    return score[there], true[there]


def _pooled(measure: Callable[[Array, Array], float], truth: Callable[[Told], Array]) -> Statistic:
    return lambda told, name: measure(*_joined(told, name, truth))


def _within(measure: Callable[[Array, Array], float]) -> Statistic:
    def found(told: Sequence[Told], name: str) -> float:
        each = [measure(*_joined([one], name, lambda episode: episode.progress)) for one in told if int(np.isfinite(one.scores[name]).sum()) > 2]
        told_apart = [0.0 if np.isnan(one) else one for one in each]  # a score that never changes orders nothing
        return float(np.mean(told_apart)) if told_apart else float("nan")

    return found


PROGRESS: dict[str, Statistic] = {
    "spearman_progress": _pooled(spearman, lambda each: each.progress),
    "kendall_progress": _pooled(kendall, lambda each: each.progress),
    "spearman_left": _pooled(spearman, lambda each: each.left),
    "kendall_left": _pooled(kendall, lambda each: each.left),
    "spearman_within": _within(spearman),
    "kendall_within": _within(kendall),
}


def _told_apart(place: Callable[[Told], int | None]) -> Statistic:
    """Return the area under the curve of success, by the scores at one step of each episode; episodes without that step are left out."""

    def found(told: Sequence[Told], name: str) -> float:
        rows = [(each.scores[name][at], each.success) for each in told if (at := place(each)) is not None]
        rows = [row for row in rows if np.isfinite(row[0])]
        return auc(np.array([score for score, _ in rows], np.float64), np.array([success for _, success in rows], np.bool_))

    return found


def _at_share(share: float) -> Statistic:
    return _told_apart(lambda each: round(share * (each.steps - 1)))


def _at_step(step: int) -> Statistic:
    return _told_apart(lambda each: step if step < each.steps else None)


def fixed_steps(told: Sequence[Told]) -> tuple[int, ...]:
    """Return the steps at which episodes are compared that all began alike: 0, and quarters of the median length, as long as two of each outcome are under way."""
    middle = float(np.median([each.steps for each in told])) if told else 0.0
    wanted = sorted({round(share * middle) for share in SHARES})
    lengths = {success: sorted((each.steps for each in told if each.success is success), reverse=True) for success in (True, False)}
    return tuple(step for step in wanted if all(len(each) > 1 and each[1] > step for each in lengths.values()))


def interval(statistic: Statistic, told: Sequence[Told], name: str, seed: int) -> list[float | None]:
    """Return the middle 95 % of a statistic over episodes drawn again with replacement; None where it has no value."""
    generator = np.random.default_rng(seed)
    found = [statistic([told[place] for place in generator.integers(0, len(told), len(told))], name) for _ in range(RESAMPLED)] if told else []
    there = [value for value in found if np.isfinite(value)]
    return [_plain(float(end)) for end in np.quantile(there, (0.025, 0.975))] if there else [None, None]


def _plain(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def evaluate_values(told: Sequence[Told], learned_from: Sequence[Told] | None = None, seed: int = 0) -> dict[str, Any]:
    """Return figures of every score, the labels' and the baselines', each as {"value", "ci95"}.

    Raises:
        UsageError: no episode succeeded.
    """
    succeeded = [each for each in told if each.success]
    if not succeeded:
        raise UsageError(f"values: must have an episode that succeeded, to know its progress, got {len(told)} that failed")
    rows = with_baselines(told, learned_from)
    reached = [each for each in rows if each.success]
    statistics: dict[str, tuple[Statistic, Sequence[Told]]] = {name: (statistic, reached) for name, statistic in PROGRESS.items()}
    statistics |= {f"auc_at_{round(100 * share)}_percent": (_at_share(share), rows) for share in SHARES}
    statistics |= {f"auc_at_step_{step}": (_at_step(step), rows) for step in fixed_steps(rows)}
    names = [name for name in rows[0].scores if all(name in each.scores for each in rows)]
    figures = {
        name: {key: {"value": _plain(statistic(over, name)), "ci95": interval(statistic, over, name, seed)} for key, (statistic, over) in statistics.items()}
        for name in names
    }
    return {"episodes": len(rows), "succeeded": len(reached), "steps": sum(each.steps for each in rows), "scores": figures, **_off(reached)}


def _off(reached: Sequence[Told]) -> dict[str, Any]:
    """Return how far steps to success are off, in steps, and how often the truth lies in their interval."""
    name = "steps_to_success"
    with_it = [each for each in reached if name in each.ends]
    if not with_it:
        return {}
    off, within = [], []
    for each in with_it:
        low, high = each.ends[name]
        there = np.isfinite(low) & np.isfinite(high) & np.isfinite(each.scores[name])
        off.append(np.abs(-each.scores[name] + each.left)[there])
        within.append(((-each.left >= low) & (-each.left <= high))[there])
    middle = float(np.mean(np.concatenate([-each.left for each in with_it])))
    constant = [np.abs(-each.left - middle) for each in with_it]
    return {
        name: {
            "mae": _plain(float(np.concatenate(off).mean())),
            "mae_of_the_mean": _plain(float(np.concatenate(constant).mean())),
            "coverage68": _plain(float(np.concatenate(within).mean())),
        }
    }
