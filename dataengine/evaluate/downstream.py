"""The gate: do pseudo-labels help? Policies are cloned with and without them, with equal gradient steps, and played on the same fresh seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.environment import Environment
from dataengine.core.errors import UsageError
from dataengine.evaluate.behaviour_cloning import CloningConfig, InputSpec, Levels, Rows, Scale, clone_state, gripper_levels
from dataengine.evaluate.conditions import CONDITIONS, Choice
from dataengine.evaluate.demonstrations import Demonstrations
from dataengine.evaluate.picture_cloning import clone_pictures, stacked
from dataengine.evaluate.success import Policy, plays

PolicyKind = Literal["state", "image"]
POLICIES: tuple[PolicyKind, ...] = ("state", "image")


@dataclass(frozen=True, eq=False)
class Trial:
    """One policy: what it is cloned from under a condition, and the seeds that it is played on."""

    condition: str
    seed: int
    rows: Rows
    added: int
    spec: InputSpec
    inputs: Scale
    actions: Scale
    levels: Levels | None
    config: CloningConfig
    policy: PolicyKind
    cameras: tuple[str, ...]
    size: tuple[int, int]
    seeds: tuple[int, ...]
    max_steps: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """How a policy did: `done` tells of each of the trial's seeds whether it succeeded; CPU seconds of cloning and of playing."""

    condition: str
    seed: int
    rows: int
    added: int
    done: tuple[bool, ...]
    cloning_s: float
    playing_s: float


def make_trials(
    real: Demonstrations,
    labelled: Demonstrations,
    column: Column,
    config: CloningConfig,
    seed: int,
    threshold: float | None,
    seeds: Sequence[int],
    conditions: Sequence[str] = tuple(CONDITIONS),
    policy: PolicyKind = "state",
    max_steps: int | None = None,
) -> list[Trial]:
    """Return the trials of one policy seed, one a condition; a condition that these demonstrations do not have (no true actions, no confidences) is left out.

    Args:
        real: demonstrations with measured actions.
        labelled: demonstrations with pseudo-labels; their true actions are seen by the condition `perfect` alone.
        column: what the action means.
        config: how policies are cloned.
        seed: of the policies.
        threshold: confidence below which `filtered` leaves a label out.
        seeds: of the episodes that they are played on.
        conditions: which.
        policy: what they see.
        max_steps: of an episode.

    Raises:
        UsageError: no real demonstration has a measured action.
    """
    acted = np.flatnonzero(real.acted)
    if not len(acted):
        raise UsageError("the gate: real demonstrations must have measured actions, these have none; give another dataset with --real")
    tasks = tuple(sorted({*real.tasks, *labelled.tasks}))
    spec = InputSpec(tuple(real.inputs), tasks)
    own, theirs = (spec.rows(part.inputs, _task_numbers(part, tasks)) for part in (real, labelled))
    inputs, actions = Scale.of(np.concatenate([own, theirs])), Scale.of(real.actions[acted])
    levels = gripper_levels(column, real.actions[acted])
    cameras = tuple(real.pictures)
    trials = []
    for name in conditions:
        added = CONDITIONS[name](labelled, Choice(seed, threshold))
        if added is None:
            continue
        rows = Rows(
            np.concatenate([own[acted], theirs[added.places]]),
            np.concatenate([real.actions[acted], added.actions]),
            np.concatenate([np.ones(len(acted), np.float32), added.weight]),
            np.concatenate([stacked(real.pictures, cameras)[acted], stacked(labelled.pictures, cameras)[added.places]]) if policy == "image" else None,
        )
        size = next(iter(real.pictures.values())).shape[1:3] if cameras else (0, 0)
        trials.append(
            Trial(name, seed, rows, len(added.places), spec, inputs, actions, levels, config, policy, cameras, (size[0], size[1]), tuple(seeds), max_steps)
        )
    return trials


def _task_numbers(part: Demonstrations, tasks: tuple[str, ...]) -> Array:
    return np.asarray([tasks.index(text) for text in part.tasks], dtype=np.int64)[part.task]


def run_trial(trial: Trial, environment: Environment) -> TrialResult:
    """Clone a trial's policy and play it."""
    began = time.process_time()
    policy = clone(trial)
    cloned = time.process_time()
    done = plays(policy, environment, trial.seeds, trial.max_steps)
    return TrialResult(trial.condition, trial.seed, len(trial.rows.inputs), trial.added, tuple(done), cloned - began, time.process_time() - cloned)


def clone(trial: Trial) -> Policy:
    """Clone a trial's policy."""
    if trial.policy == "image":
        return clone_pictures(trial.rows, trial.spec, trial.inputs, trial.actions, trial.levels, trial.config, trial.seed, trial.cameras, trial.size)
    return clone_state(trial.rows, trial.spec, trial.inputs, trial.actions, trial.levels, trial.config, trial.seed)


def default_inputs(columns: Mapping[str, Column], stored: Mapping[str, Column], policy: PolicyKind) -> tuple[str, ...]:
    """Return what a policy sees by default: of the numbers that the environment measures those that the store has too, all of them, or beside pictures the body's own state.

    Raises:
        UsageError: there are none.
    """
    found = tuple(
        name
        for name, column in columns.items()
        if column.kind == "numeric" and column.meaning not in ("action", "flag", "reward", "time") and name in stored and stored[name].steps
        if policy == "state" or column.meaning == "state"
    )
    if not found and policy == "state":
        there = ", ".join(sorted(name for name, column in stored.items() if column.kind == "numeric")) or "none"
        raise UsageError(f"the gate: the environment must measure numbers that the store holds, and they share none; the store's: {there}")
    return found


def summary(results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return for each condition what was cloned and how many episodes of how many succeeded, by policy seed and together."""
    from dataengine.evaluate.success import wilson

    found: dict[str, Any] = {}
    for name in CONDITIONS:
        own = sorted((result for result in results if result.condition == name), key=lambda result: result.seed)
        if not own:
            continue
        episodes, successes = sum(len(result.done) for result in own), sum(sum(result.done) for result in own)
        low, high = wilson(successes, episodes)
        found[name] = {
            "success": successes / episodes if episodes else None,
            "low": low,
            "high": high,
            "successes": successes,
            "episodes": episodes,
            "by_seed": [sum(result.done) / len(result.done) for result in own if result.done],
            "rows": [result.rows for result in own],
            "added": [result.added for result in own],
        }
    return found
