"""The benchmark of labels, from collecting to the gate: what the commands do, one after the other, in one work folder that a second run goes on with.

Parts: `idm` (models of inverse dynamics, judged beside their baselines), `latent` (latent actions, judged by probes and by their decoder), `downstream` (labels of the
first part's models, and whether they help a policy), `speed` (what labelling with the first of them costs beside the model itself). All are judged on episodes of other
seeds than those that were learned from, and labels on perturbed ones only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from dataengine.core.errors import UnknownName, UsageError, VersionNotFound
from dataengine.core.objects import open_objects
from dataengine.evaluate.folds import Fold, whole
from dataengine.labels.registry import find_method, open_labeller
from dataengine.store.refs import OPEN, latest_version, put_tag
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store
from dataengine.synth.rollout import Play
from pipelines.bench_label_figures import collected_figures, downstream_figures, goals_met, idm_figures, latent_figures
from pipelines.children import Died, Limits
from pipelines.collect import CollectJob, collect
from pipelines.config import IngestConfig
from pipelines.downstream import GateJob, gate
from pipelines.label import LabelJob
from pipelines.label import run as run_labelling
from pipelines.label_speed import Measuring
from pipelines.label_unit import Opening
from pipelines.runtime import Runtime
from pipelines.train import train
from pipelines.training_job import TrainingConfig, TrainJob

PARTS = ("idm", "latent", "downstream", "speed")
DATA = "bench-data"  # the tag of the version that everything learns from and is judged by
SIZE = (64, 64)
PERTURBED = (0.0, 0.3, 0.6)
# By environment: where nobody can say whether a task was done, there is no gate.
WITHOUT_SUCCESS = {"square": "nobody can say of the moving square whether a task was done"}
LATENTS: dict[str, dict[str, Any]] = {
    "vae": {},
    "vae_5pct": {"supervision": {"share": 0.05}},
    "vq": {"bottleneck": {"kind": "vq"}},
}
BASELINES = ("flow_ridge", "flow_ridge_window", "single_frame", "mean")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How many episodes each dataset has, how many real and pseudo-labelled demonstrations a policy gets, how many episodes it is played,
    how many episodes of the test are labelled to see how long it takes, and steps of training (None: the scale's own)."""

    train: int = 150
    test: int = 60
    demonstrations: int = 60
    real: int = 20
    cloned_real: int = 3
    cloned_labelled: int = 40
    played: int = 200
    timed: int = 20
    idm_steps: int | None = None
    latent_steps: int | None = None


@dataclass
class Costs:
    """Seconds by part, CPU seconds of this process and of its children that have ended, and wall seconds."""

    cpu: dict[str, float] = field(default_factory=dict)
    wall: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what is done inside for a part."""
        cpu, wall = _cpu_s(), time.monotonic()
        try:
            yield
        finally:
            self.cpu[part] = self.cpu.get(part, 0.0) + _cpu_s() - cpu
            self.wall[part] = self.wall.get(part, 0.0) + time.monotonic() - wall


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True, eq=False)
class Bench:
    """What all parts share."""

    work: Path
    environment: str
    seeds: tuple[int, ...]
    sizes: Sizes
    runtime: Runtime
    tell: Progress
    costs: Costs

    @property
    def store(self) -> str:
        """Return the address of the store."""
        return str(self.work / "store")

    @property
    def data(self) -> str:
        """Return the address of the version that holds what was collected and nothing else."""
        return f"{self.store}@{DATA}"


def bench_label(
    work: Path,
    environment: str,
    seeds: int,
    only: Sequence[str],
    tell: Progress,
    sizes: Sizes | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Run the benchmark; return its figures.

    Args:
        work: folder for the store and the models; what is there already is used.
        environment: an address, see `pipelines.collect.make_environment`.
        seeds: models of each kind, and policies of each condition.
        only: which parts.
        tell: is told what is going on.
        sizes: how much data; by default that of the goals.
        runtime: where jobs run; by default in child processes.

    Raises:
        UsageError: a part is not known, the environment cannot run here (the message says what to install), or the folder holds episodes of another one or another number.
    """
    for part in only:
        if part not in PARTS:
            raise UnknownName("part of the benchmark", part, PARTS)
    if seeds < 1:
        raise UsageError(f"--seeds: must be 1 or more, got {seeds}")
    began = time.monotonic()
    bench = Bench(work, environment, tuple(range(seeds)), sizes or Sizes(), runtime or Runtime(local=True), tell, Costs())
    with bench.costs.of("collect"):
        _collect(bench)
    found: dict[str, Any] = {"environment": environment, "seeds": seeds, "data": collected_figures(open_store(bench.data))}
    if {"idm", "downstream", "speed"} & set(only):
        models = _train_idm(bench)
    if "idm" in only:
        with bench.costs.of("evaluate idm"):
            found |= _idm(bench, models)
    if "latent" in only:
        found["latent"] = _latent(bench)
    if "downstream" in only:
        found["downstream"] = _downstream(bench, models)
    if "speed" in only:
        found["labelling"] = _speed(bench, models)
    found |= {"cpu_seconds": bench.costs.cpu, "wall_seconds": bench.costs.wall, "seconds": time.monotonic() - began}
    found["goals"] = goals_met(found)
    (work / "bench_label.json").write_text(json.dumps(found, indent=1, allow_nan=False))
    return found


def _collect(bench: Bench) -> None:
    """Record what is not there yet: perturbed episodes to learn from and others to judge by, clean demonstrations to label, and real ones."""
    objects = open_objects(bench.store)
    if (store := _open(bench.data)) is not None:
        _require_asked(bench, store, whole=True)
        bench.tell(f"using what {bench.work} holds")
        return
    if (begun := _open(f"{bench.store}@{OPEN}")) is not None:  # a run that was cut: other episodes are not to be added to its own
        _require_asked(bench, begun, whole=False)
    for dataset, (episodes, seed, noise) in _asked(bench.sizes).items():
        bench.tell(f"collecting {episodes} episodes of {bench.environment} as {dataset}")
        play, exact = Play("expert", noise), IngestConfig(lossless=True)  # so that figures are the models', not the encoder's
        job = CollectJob(bench.environment, bench.store, dataset, episodes, seed, play, SIZE, config=exact, command=f"bench label, {dataset}")
        report = collect(job, bench.runtime, lambda message, done, total: None)
        if report.rejected:
            raise UsageError(f"bench label: {report.rejected} episodes of {bench.environment} could not be recorded; see `dataengine rejects {bench.store}`")
    _require_asked(bench, open_store(bench.store), whole=True)
    version = latest_version(objects)
    assert version is not None
    put_tag(objects, DATA, version.number)


def _asked(sizes: Sizes) -> dict[str, tuple[int, int, tuple[float, ...]]]:
    """Return of each dataset how many episodes it has, the seed of the first, and the levels of noise."""
    return {
        "train": (sizes.train, 1000, PERTURBED),
        "test": (sizes.test, 9000, PERTURBED),
        "demonstrations": (sizes.demonstrations, 20_000, (0.0,)),
        "real": (sizes.real, 30_000, (0.0,)),
    }


def _open(address: str) -> Store | None:
    try:
        return open_store(address)
    except (UsageError, VersionNotFound):
        return None  # nothing, or not all of it


def _require_asked(bench: Bench, store: Store, whole: bool) -> None:
    """Refuse a work folder of another environment, or where it is to be whole of another size: figures would be said of episodes that nobody asked for."""
    frame = store.episodes().select("dataset", "metadata").collect()
    for dataset, (episodes, _, _) in _asked(bench.sizes).items():
        played = [json.loads(text or "{}").get("environment") for text in frame.filter(pl.col("dataset") == dataset)["metadata"]]
        others = sorted({str(name) for name in played} - {bench.environment})
        if others:
            raise UsageError(
                f"--work {bench.work}: must hold episodes of {bench.environment}, found those of {', '.join(others)} as {dataset}; choose another folder"
            )
        if whole and len(played) != episodes:
            raise UsageError(f"--work {bench.work}: must hold {episodes} episodes as {dataset}, found {len(played)}; choose another folder")


def _trained(bench: Bench, kind: str, name: str, seed: int, scale: str, steps: int | None, model: Mapping[str, Any]) -> dict[str, Any]:
    """Train a model, or find it trained."""
    out = bench.work / "models" / f"{name}-{seed}"
    bench.tell(f"training {name}, seed {seed}")
    with bench.costs.of(f"train {name}"):
        job = TrainJob(kind, bench.data, str(out), ("train",), TrainingConfig(model=dict(model)), scale, seed=seed, steps=steps, device="cpu")
        return train(job)


def _train_idm(bench: Bench) -> dict[str, dict[str, Any]]:
    """Return what is in the `train.json` of each model, by name."""
    found = {f"idm-{seed}": _trained(bench, "idm", "idm", seed, "tiny", bench.sizes.idm_steps, {}) for seed in bench.seeds}
    return found


def _rows(store: Store, dataset: str, perturbed: bool) -> list[Row]:
    """Return the episodes of a dataset that have steps; those that were perturbed alone where it is asked for and there are any."""
    rows = list(store.episodes().filter((pl.col("dataset") == dataset) & (pl.col("steps") > 1)).collect().sort("episode_id").iter_rows(named=True))
    noisy = [row for row in rows if json.loads(row["metadata"] or "{}").get("noise")]
    return noisy if perturbed and noisy else rows


def _fold(store: Store) -> list[Fold]:
    return [Fold("other seeds, perturbed", tuple(map(whole, _rows(store, "train", False))), tuple(map(whole, _rows(store, "test", True))))]


def _idm(bench: Bench, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Judge the models, one that sees a single frame, and the baselines, on the same perturbed episodes."""
    from dataengine.evaluate.label_trial import Trial, tried

    single = _trained(bench, "idm", "idm-single-frame", bench.seeds[0], "single_frame", bench.sizes.idm_steps, {})
    labellers = {name: open_labeller("idm", str(model["out"]), "cpu") for name, model in {**models, "idm-single-frame": single}.items()}
    store = open_store(bench.data)
    bench.tell("judging models of inverse dynamics beside their baselines")
    judged = tried(Trial(store, "test", _fold(store), (), labellers, {}, BASELINES), bench.tell)
    _keep(bench, "idm", judged.document)
    return idm_figures(judged.document, list(models), [model["fit"]["cpu_seconds"] for model in models.values()])


def _latent(bench: Bench) -> dict[str, Any]:
    """Train each kind of latent actions, and judge them."""
    from dataengine.evaluate.latent_trial import LatentSource, LatentTrial, tried_latents
    from dataengine.labels.latent import open_latent
    from dataengine.models.checkpoint import load_checkpoint

    trained = {
        f"{name}-{seed}": _trained(bench, "latent", f"latent-{name}", seed, "tiny", bench.sizes.latent_steps, model)
        for name, model in LATENTS.items()
        for seed in bench.seeds
    }
    store = open_store(bench.data)
    sources = [LatentSource(name, open_latent(load_checkpoint(model["out"]), "cpu")) for name, model in trained.items()]
    bench.tell("judging latent actions")
    with bench.costs.of("evaluate latent"):
        judged = tried_latents(LatentTrial(store, "test", _fold(store), sources, kinds=("displacement",)), bench.tell)
    _keep(bench, "latent", judged.document)
    return latent_figures(judged.document, list(LATENTS), bench.seeds, {name: model["fit"]["cpu_seconds"] for name, model in trained.items()})


def _downstream(bench: Bench, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Label demonstrations with each model, and ask whether that helps a policy."""
    if bench.environment in WITHOUT_SUCCESS:
        return {"left_out": WITHOUT_SUCCESS[bench.environment], "gain_recovered": None, "shuffled_gain": None}
    sizes, gates = bench.sizes, []
    for number, (name, model) in enumerate(models.items()):
        bench.tell(f"labelling demonstrations with {name}")
        with bench.costs.of("label"):
            opening = Opening("idm", find_method("idm"), str(model["out"]), "cpu", "{}")
            report = run_labelling(LabelJob(opening, bench.store, ("demonstrations",), name, command=f"bench label, {name}"), bench.runtime)
        if report.rejected:
            raise UsageError(f"bench label: {report.rejected} demonstrations could not be labelled: {report.rejects[0]}")
        conditions = ("real", "perfect", "pseudo", "filtered", "weighted", "shuffled") if number == 0 else ("real", "perfect", "pseudo", "shuffled")
        job = GateJob(
            bench.store,
            "real",
            "demonstrations",
            name,
            bench.environment,
            real_episodes=sizes.cloned_real,
            labelled_episodes=sizes.cloned_labelled,
            episodes=sizes.played,
            seeds=len(bench.seeds),
            conditions=conditions,
        )
        with bench.costs.of("downstream"):
            gates.append(gate(job, bench.runtime, lambda message, done, total: bench.tell(f"gate: {message}")))
        _keep(bench, f"downstream-{name}", gates[-1])
    return downstream_figures(gates)


def _speed(bench: Bench, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Measure what labelling with the first model costs beside its bare passes, in a process of its own."""
    name, model = next(iter(models.items()))
    bench.tell(f"timing {name} as it labels")
    opening = Opening("idm", find_method("idm"), str(model["out"]), "cpu", "{}")
    rows = sorted(_rows(open_store(bench.data), "test", False), key=lambda row: (row["shard"], row["ordinal"]))[: bench.sizes.timed]  # as a job takes them
    with bench.costs.of("speed"):
        measured = bench.runtime.alone(Measuring(opening, bench.data), rows, Limits(), attempts=1)
    if isinstance(measured, Died):
        raise UsageError(f"bench label: {len(rows)} episodes must be labelled to see how long it takes, got: {measured.reason}; see what it said above")
    return measured.as_dict()


def _keep(bench: Bench, name: str, document: Mapping[str, Any]) -> None:
    """Keep what a part found, whole."""
    folder = bench.work / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1, allow_nan=False, default=str))
