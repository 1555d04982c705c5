"""The gate as a job: which demonstrations, which labels, which environment; policies are cloned and played in parallel, and the verdict is kept with the labels."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from dataengine.core.column import Column
from dataengine.core.environment import ACTION, Environment, EnvironmentFacts
from dataengine.core.errors import UnknownName, UsageError
from dataengine.evaluate.behaviour_cloning import CloningConfig
from dataengine.evaluate.conditions import CONDITIONS, PERFECT, PSEUDO, REAL, SHUFFLED
from dataengine.evaluate.demonstrations import Demonstrations, Reading, choose_episodes, read_demonstrations
from dataengine.evaluate.downstream import POLICIES, PolicyKind, Trial, TrialResult, default_inputs, make_trials, run_trial, summary
from dataengine.evaluate.gain import difference, recovered, verdict
from dataengine.store.store import Store, open_store
from dataengine.store.verdicts import put_verdict
from pipelines.children import Died, Limits
from pipelines.collect import PROBE, Probe, make_environment
from pipelines.runtime import Runtime

METHOD = 1  # raised whenever the same settings would give another outcome
FRESH = 1 << 20  # seeds of the episodes that policies are played on start here
DONE = "success is null or success"  # demonstrations that failed show what not to do
LEAST_SURE = 0.25  # where no confidence is given, `filtered` leaves out this share of the labels
NOT_SHOWN = (32, 32)  # px, of an environment whose pictures nobody looks at
TRIAL = Limits(seconds=3600.0)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class GateJob:
    """What a user asks for: `real` demonstrations, `labelled` ones with a label set, an environment to play in, and how thoroughly."""

    store: str
    real: str
    labelled: str
    label_set: str
    environment: str
    column: str | None = None
    real_episodes: int = 3
    labelled_episodes: int = 40
    where_real: str | None = DONE
    where_labelled: str | None = DONE
    episodes: int = 200
    seeds: int = 3
    seed: int = 0
    policy: PolicyKind = "state"
    inputs: tuple[str, ...] | None = None
    size: tuple[int, int] = (64, 64)
    confidence: float | None = None
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    cloning: CloningConfig = field(default_factory=CloningConfig)
    max_steps: int | None = None
    record: bool = True
    storage_options: Mapping[str, str] = field(default_factory=dict)


_ENVIRONMENTS: dict[tuple[str, tuple[int, int]], Environment] = {}  # of this process: to open a simulator takes seconds


@dataclass(frozen=True)
class RunTrial:
    """What a worker does with a trial: clone, and play in an environment that it keeps."""

    environment: str
    size: tuple[int, int]

    def __call__(self, trial: Trial) -> TrialResult:
        """Run it on one core: trials run beside each other."""
        import torch

        torch.set_num_threads(1)
        key = (self.environment, self.size)
        if key not in _ENVIRONMENTS:
            _ENVIRONMENTS[key] = make_environment(*key)
        return run_trial(trial, _ENVIRONMENTS[key])


@dataclass(frozen=True)
class _Chosen:
    """What the gate runs on, decided."""

    store: Store
    facts: EnvironmentFacts
    label: str  # the column of the label set
    reading: Reading
    shown: tuple[int, int]  # px that the environment renders at


def gate(job: GateJob, runtime: Runtime, progress: Progress = lambda message, done, total: None) -> dict[str, Any]:
    """Run the gate; return everything that was found, with the verdict as it is kept in the store under "kept" (None where it is not kept).

    Raises:
        UsageError: a choice is wrong, the store has no such labels, or the environment cannot run here.
    """
    began, cpu = time.monotonic(), _cpu_s()
    chosen = _choose(job, runtime)
    assert chosen.store.version is not None
    trials, thresholds, threshold = _trials(job, chosen)
    results: list[TrialResult] = []
    for number, result in runtime.map(RunTrial(job.environment, chosen.shown), trials, TRIAL):
        if isinstance(result, Died):
            raise UsageError(f"the gate: policy {trials[number].seed} under {trials[number].condition} did not end: {result.reason}; run the command again")
        results.append(result)
        progress(f"{result.condition}, policy {result.seed}: {sum(result.done)} of {len(result.done)}", len(results), len(trials))
    results.sort(key=lambda result: (list(CONDITIONS).index(result.condition), result.seed))
    done = {name: [result.done for result in results if result.condition == name] for name in CONDITIONS if any(result.condition == name for result in results)}
    said, reason = verdict(done)
    about = chosen.store.label_sets()[job.label_set].label_set
    settings = _settings(job, chosen, tuple(done))
    document = {
        "label_set": job.label_set,
        "version": chosen.store.version.number,
        "model": about.model,
        "trained_on": about.trained_on,
        "recipe": about.recipe,
        "column": chosen.label,
        "verdict": said,
        "reason": reason,
        "difference": difference(done, PSEUDO, REAL).as_dict(),
        "gain_recovered": recovered(done, PSEUDO).as_dict(),
        "shuffled_gain": recovered(done, SHUFFLED).as_dict(),
        "conditions": summary(results),
        "settings": settings,
    }
    kept = put_verdict(chosen.store.objects, document) if job.record else None
    return document | {
        "store": chosen.store.objects.url,
        "kept": None if kept is None else {name: kept[name] for name in ("verdict", "created_ns", "created_by")},
        "confidence_used": threshold,
        "confidence_by_seed": thresholds,
        "left_out": {name: _WHY[name] for name in job.conditions if name not in done and name in _WHY},
        "cpu_seconds": {
            "cloning": sum(result.cloning_s for result in results),
            "playing": sum(result.playing_s for result in results),
            "here": _cpu_s() - cpu,
        },
        "seconds": time.monotonic() - began,
    }


_WHY = {
    PERFECT: "the labelled demonstrations of one policy or more have no measured actions",
    "filtered": "the labels that one policy or more would learn from have no confidences, or none is sure enough, or surer than the others",
    "weighted": "the labels that one policy or more would learn from have no confidences",
    SHUFFLED: "labels of other episodes need two episodes that have labels, for every policy",
}


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _choose(job: GateJob, runtime: Runtime) -> _Chosen:
    """Look at the store and the environment, and refuse what cannot be."""
    if job.policy not in POLICIES:
        raise UnknownName("policy", job.policy, POLICIES)
    for name in job.conditions:
        if name not in CONDITIONS:
            raise UnknownName("condition", name, CONDITIONS)
    if not {REAL, PSEUDO} <= set(job.conditions):
        raise UsageError(f"--conditions: must hold {REAL} and {PSEUDO}, which the verdict compares, got {', '.join(job.conditions)}")
    if min(job.real_episodes, job.labelled_episodes, job.seeds) < 1 or job.episodes < job.seeds:
        raise UsageError(f"the gate: needs demonstrations, policies and an episode for each, got {job.seeds} policies and {job.episodes} episodes")
    store = open_store(job.store, dict(job.storage_options) or None)
    if store.version is None:
        raise UsageError(f"{job.store}: must be a version, for a verdict to be on; STORE@open is none, and an empty store has none yet")
    sets = store.label_sets()
    if job.label_set not in sets or job.labelled not in sets[job.label_set].columns:
        there = [name for name, found in sets.items() if job.labelled in found.columns]
        raise UsageError(f"{job.store}: no episode of {job.labelled!r} has labels of a set {job.label_set!r}; label sets of it: {', '.join(there) or 'none'}")
    facts = runtime.alone(Probe(NOT_SHOWN if job.policy == "state" else None), job.environment, PROBE, attempts=1)
    if isinstance(facts, Died):
        raise UsageError(f"environment {job.environment!r}: must begin an episode and render it, got: {facts.reason}; see what it said above")
    stored = {name: _columns(store, name) for name in (job.real, job.labelled)}
    if ACTION not in stored[job.real]:
        raise UsageError(f"dataset {job.real!r}: must have the measured action that the environment takes, {ACTION!r}, and has none")
    label = _label_column(job, sets[job.label_set].columns[job.labelled], facts.columns[ACTION])
    inputs = job.inputs if job.inputs is not None else default_inputs(facts.columns, stored[job.labelled], job.policy)
    cameras = tuple(name for name, column in facts.columns.items() if column.kind == "image" and name in stored[job.labelled]) if job.policy == "image" else ()
    if job.policy == "image" and not cameras:
        raise UsageError(f"dataset {job.labelled!r}: must have a camera of the environment, and has none of them")
    shape = stored[job.labelled][cameras[0]].shape if cameras else ()
    shown = (int(shape[0] or job.size[0]), int(shape[1] or job.size[1])) if cameras else NOT_SHOWN
    return _Chosen(store, facts, label, Reading(inputs, ACTION, None, cameras, job.size), shown)


def _columns(store: Store, dataset: str) -> dict[str, Column]:
    found = store.episodes().filter(pl.col("dataset") == dataset).head(1).collect()
    if not found.height:
        raise UnknownName("dataset", dataset, store.datasets())
    return store.columns(found.row(0, named=True))


def _label_column(job: GateJob, columns: Mapping[str, Column], action: Column) -> str:
    """Return which labelled column stands for the action: the one that is named, else the one that is shaped as the environment's."""
    if job.column is not None:
        if job.column not in columns:
            raise UnknownName(f"column of the label set {job.label_set!r}", job.column, columns)
        fitting = [job.column]
    else:
        alike = sorted((name for name, column in columns.items() if column.shape == action.shape), key=lambda name: (name != ACTION, name))
        fitting = [name for name in alike if columns[name].meaning == "action" and columns[name].dims in (None, action.dims)] or alike
    if not fitting or columns[fitting[0]].shape != action.shape:
        there = ", ".join(f"{name} {list(column.shape)}" for name, column in columns.items())
        raise UsageError(f"label set {job.label_set!r}: must have a column shaped as the environment's action, {list(action.shape)}, has {there}; see --column")
    return fitting[0]


def _trials(job: GateJob, chosen: _Chosen) -> tuple[list[Trial], list[float | None], float | None]:
    """Return the trials of all policies: each policy seed has demonstrations, fresh episodes and weights of its own, the same ones under every condition."""
    store = chosen.store
    labels = store.labels().filter((pl.col("label_set") == job.label_set) & (pl.col("dataset") == job.labelled))
    having = set(labels.select("episode_id").collect()["episode_id"])
    counts = [job.episodes // job.seeds + (number < job.episodes % job.seeds) for number in range(job.seeds)]
    fresh = _fresh_seeds(store, (job.real, job.labelled), job.seed, job.episodes)
    made: list[list[Trial]] = []
    thresholds: list[float | None] = []
    for number in range(job.seeds):
        seed = job.seed + number
        real = choose_episodes(store, job.real, job.where_real, job.real_episodes, seed)
        others = having - set(real)
        labelled = choose_episodes(store, job.labelled, job.where_labelled, job.labelled_episodes, seed, others)
        own, theirs = _read(job, chosen, job.real, real, None), _read(job, chosen, job.labelled, labelled, f"label:{job.label_set}/{chosen.label}")
        thresholds.append(job.confidence if job.confidence is not None else _least_sure(theirs))
        action = chosen.facts.columns[ACTION]
        first = sum(counts[:number])
        seeds = fresh[first : first + counts[number]]
        made.append(make_trials(own, theirs, action, job.cloning, seed, thresholds[-1], seeds, job.conditions, job.policy, job.max_steps))
    # Conditions are compared policy by policy: one that only some policies have is left out for all of them.
    everywhere = set.intersection(*({trial.condition for trial in trials} for trials in made))
    if PSEUDO not in everywhere:
        without = next(job.seed + number for number, trials in enumerate(made) if all(trial.condition != PSEUDO for trial in trials))
        raise UsageError(
            f"label set {job.label_set!r}: no step of the episodes that policy {without} would learn from has a label; "
            "take other episodes with --where-labelled, more of them, or label with a lower --abstain"
        )
    return [trial for trials in made for trial in trials if trial.condition in everywhere], thresholds, job.confidence


def _read(job: GateJob, chosen: _Chosen, dataset: str, episodes: Sequence[str], label: str | None) -> Demonstrations:
    assert chosen.store.version is not None
    reading = chosen.reading if label is None else Reading(chosen.reading.inputs, ACTION, label, chosen.reading.cameras, chosen.reading.size)
    return read_demonstrations(f"{chosen.store.objects.url}@{chosen.store.version.number}", dataset, episodes, reading, job.storage_options)


def _least_sure(labelled: Demonstrations) -> float | None:
    """Return the confidence from which on labels are kept, so that a share of them, and all that are as unsure, are left out; None where none is surer than others."""
    said = labelled.confidence[labelled.labelled & ~np.isnan(labelled.confidence)]
    surer = said[said > np.quantile(said, LEAST_SURE)] if len(said) else said
    return float(surer.min()) if len(surer) else None


def _fresh_seeds(store: Store, datasets: Sequence[str], seed: int, count: int) -> list[int]:
    """Return seeds of episodes that no demonstration was played with."""
    metadata = store.episodes().filter(pl.col("dataset").is_in(list(datasets))).select("metadata").collect()["metadata"]
    taken = {json.loads(text).get("seed") for text in metadata if text}
    found: list[int] = []
    at = FRESH + seed * 100_003
    while len(found) < count:
        if at not in taken:
            found.append(at)
        at += 1
    return found


def _settings(job: GateJob, chosen: _Chosen, conditions: tuple[str, ...]) -> dict[str, Any]:
    most = chosen.facts.max_steps if job.max_steps is None else min(job.max_steps, chosen.facts.max_steps)
    return {
        "method": METHOD,
        "environment": job.environment,
        "environment_version": chosen.facts.version,
        "max_steps": most,
        "policy": job.policy,
        "inputs": list(chosen.reading.inputs),
        "cameras": list(chosen.reading.cameras),
        "size": list(job.size) if chosen.reading.cameras else None,
        "action": ACTION,
        "column": chosen.label,
        "real": {"dataset": job.real, "episodes": job.real_episodes, "where": job.where_real},
        "labelled": {"dataset": job.labelled, "episodes": job.labelled_episodes, "where": job.where_labelled},
        "episodes": job.episodes,
        "seeds": job.seeds,
        "seed": job.seed,
        "confidence": job.confidence,
        "conditions": list(conditions),
        "cloning": job.cloning.model_dump(mode="json"),
    }
