"""The training job: a version of a store in, a model's folder out. Run again with the same choices it goes on where it stopped.

The folder holds the model (see `dataengine.models.checkpoint`), the curve, a report page, and until it is done `run/` with the state to go on from.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Setting

from dataengine.core.column import Column
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.config import Config, merged, parse_config
from dataengine.core.digest import digest_json
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Needs, Watched
from dataengine.core.roles import columns_of
from dataengine.core.splitting import MOST, held_out
from dataengine.core.training import DatasetFacts, FieldSpec, Trainee, TrainingFacts
from dataengine.loaders.field import Field
from dataengine.loaders.mixture import Mixture, Source
from dataengine.loaders.normalizing import joined
from dataengine.loaders.streaming import Loader, loader
from dataengine.store.open_shards import OpenShards
from dataengine.store.query import where as rows_where
from dataengine.store.refs import parse_address
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store, require_store
from dataengine.store.watching import watch
from dataengine.version import __version__
from dataengine.versions.statistics import columns_of as statistics_of
from dataengine.versions.statistics import dataset_statistics
from pipelines.devices import chosen_device
from pipelines.runtime import Runtime
from pipelines.training_folder import RUN, begun, begun_with, clear, holds_model, require_own, whole_url
from pipelines.written_model import write_model

Progress = Callable[[int, Mapping[str, float]], None]
Note = Callable[[str], None]


class HeldOutConfig(Config):
    """Episodes that are not learned from: what the model is calibrated on."""

    share: float = 0.1
    most: int = MOST


class TrainingConfig(Config):
    """What a YAML file of `dataengine train` may hold; the settings of the model and of fitting are read by the kind of model."""

    model: dict[str, Any] = Setting(default_factory=dict)
    fit: dict[str, Any] = Setting(default_factory=dict)
    held_out: HeldOutConfig = HeldOutConfig()
    weights: dict[str, float] | None = None  # of the datasets; by default each sample comes once an epoch


@dataclass(frozen=True)
class TrainJob:
    """What a user asks for: a kind of model, the version and datasets that it learns from, and where it goes."""

    kind: str
    store: str
    out: str
    datasets: tuple[str, ...]
    config: TrainingConfig = field(default_factory=TrainingConfig)
    scale: str = "tiny"
    where: str | None = None
    seed: int = 0
    steps: int | None = None
    device: str = "auto"
    ranks: int = 1
    workers: int = 0
    storage_options: Mapping[str, str] = field(default_factory=dict)


KINDS = ("idm", "latent", "mapped", "value", "flow_ridge")
AT_ONCE = ("flow_ridge",)  # kinds that are solved for, not fitted batch by batch


@dataclass(frozen=True, eq=False)
class Chosen:
    """A kind of model with its settings: the module that knows it, what is trained, how it is fitted (both None of what is solved for), and the settings as JSON."""

    room: Any
    model: Any
    trainee: Trainee | None
    fitting: Any
    said: Mapping[str, Any]


def _chosen(job: TrainJob) -> Chosen:
    import importlib

    kind, scale, config = job.kind, job.scale, job.config
    if kind not in KINDS:
        raise UnknownName("kind of model", kind, KINDS)
    room = importlib.import_module(f"dataengine.labels.{kind}")
    if scale not in room.SCALES:
        raise UnknownName(f"scale of a model of kind {kind!r}", scale, room.SCALES)
    model = parse_config(room.CONFIG, merged(room.SCALES[scale].model_dump(mode="json"), config.model), "model")
    said = {"kind": kind, "scale": scale, "model": model.model_dump(mode="json")}
    if kind in AT_ONCE:
        given = {"fit": config.fit, "weights": config.weights, "--steps": job.steps, "--ranks": job.ranks - 1}
        if any(given.values()):
            raise UsageError(
                f"train {kind}: is solved for in one go, from each step once; leave out {', '.join(name for name, value in given.items() if value)}"
            )
        return Chosen(room, model, None, None, said | {"fit": {}})
    fitting = parse_config(
        type(room.FITS[scale]), merged(room.FITS[scale].model_dump(mode="json"), config.fit | ({"steps": job.steps} if job.steps else {})), "fit"
    )
    least = room.least_steps(model) if hasattr(room, "least_steps") else 1
    if fitting.steps < least:
        raise UsageError(
            f"train {kind}: its codebooks begin after {least - 1} steps, so that it needs at least {least}, got {fitting.steps}; give more, or set model.bottleneck.warmup_steps lower"
        )
    return Chosen(room, model, room.trainee(model), fitting, said | {"fit": fitting.model_dump(mode="json")})


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job with everything decided: what each process that trains needs to begin."""

    job: TrainJob
    address: str  # of the version
    trained_on: str
    held: Mapping[str, tuple[str, ...]]  # episodes held out, by dataset
    recipe: Mapping[str, Any]
    device: str

    @property
    def digest(self) -> str:
        """Return what tells this run from others."""
        return digest_json(self.recipe)


def prepare(job: TrainJob) -> Prepared:
    """Decide what a job stands for.

    Raises:
        UsageError: a choice is wrong, or the folder holds another model.
    """
    said = _chosen(job).said
    out = Path(job.out).absolute()
    before = begun_with(out)
    parsed = parse_address(job.store)
    parsed = replace(parsed, url=whole_url(parsed.url))
    if parsed.ref is None and before is not None and before.get("store") == parsed.url:
        parsed = replace(parsed, ref=str(before["version"]))  # what it began with, whatever was committed since
    store = open_store(f"{parsed.url}@{parsed.ref}" if parsed.ref else parsed.url, dict(job.storage_options) or None)
    if store.version is None:
        raise UsageError(f"{job.store}: must be a version, to say later what the model learned from; STORE@open is none, and an empty store has none yet")
    there = store.datasets()
    if not job.datasets:
        raise UsageError(f"train: must name a dataset with --dataset, got none; datasets: {', '.join(there) or 'none'}")
    for name in job.datasets:
        if name not in there:
            raise UnknownName("dataset", name, there)
    held: dict[str, tuple[str, ...]] = {}
    rates: set[float | None] = set()
    for name in job.datasets:
        rows = _rows(store, name, job.where)
        ids = rows["episode_id"].to_list()
        rates |= set(rows["rate_hz"].to_list())
        if not ids:
            raise UsageError(f"dataset {name!r}: holds no episode" + (f" for which {job.where} holds" if job.where else ""))
        held[name] = tuple(held_out(ids, job.seed, job.config.held_out.share, job.config.held_out.most))
    stepped = _in_steps(job, said, rates)
    if stepped is not job:
        job = stepped
        said = _chosen(job).said
    recipe = {
        "store": parsed.url,
        "version": store.version.number,
        "datasets": list(job.datasets),
        "where": job.where,
        "seed": job.seed,
        "held_out": {name: list(ids) for name, ids in held.items()},
        "weights": job.config.weights,
        "ranks": job.ranks,
        **said,
    }
    require_own(out, recipe)
    store_id = require_store(store.objects)["store_id"]
    address = f"{parsed.url}@{store.version.number}"
    return Prepared(replace(job, out=str(out)), address, f"{store_id}@{store.version.number}", held, recipe, chosen_device(job.device))


def _in_steps(job: TrainJob, said: Mapping[str, Any], rates: set[float | None]) -> TrainJob:
    """Return the job with a window in whole steps of the data, where nobody chose its gap and all data are of one rate."""
    (rate, *others) = rates
    if job.kind != "idm" or "gap_s" in job.config.model or rate is None or others:
        return job
    from dataengine.labels.idm_windows import fitted_to

    found = fitted_to(said["model"], rate)
    return replace(job, config=job.config.model_copy(update={"model": found | job.config.model})) if found else job


def _rows(store: Store, dataset: str, condition: str | None) -> Any:
    import polars as pl

    return rows_where(store.episodes().filter(pl.col("dataset") == dataset), condition).collect()


def _condition(prepared: Prepared, dataset: str) -> str | None:
    """Return the condition over episodes that leaves those to learn from."""
    parts = [f"({prepared.job.where})"] if prepared.job.where else []
    if prepared.held[dataset]:
        parts.append(f"episode_id NOT IN ({', '.join(repr(one) for one in prepared.held[dataset])})")
    return " AND ".join(parts) or None


def open_batches(prepared: Prepared, fields: Mapping[str, FieldSpec], batch_size: int, rank: int) -> Loader:
    """Return the loader of a process that trains."""
    job, weights = prepared.job, prepared.job.config.weights
    sources = [
        Source(
            f"{prepared.address}#{name}", weight=weights.get(name) if weights else None, where=_condition(prepared, name), storage_options=job.storage_options
        )
        for name in job.datasets
    ]
    asked = {name: Field(steps=spec.steps, seconds=spec.seconds, size=spec.size, fit=spec.fit) for name, spec in fields.items()}  # type: ignore[arg-type]
    return loader(Mixture(sources), asked, batch_size, seed=job.seed, workers=job.workers, rank=rank, world_size=job.ranks)


def training_facts(prepared: Prepared, fields: Mapping[str, FieldSpec], batches: Loader) -> TrainingFacts:
    """Return what the model is told of the training episodes."""
    store = open_store(prepared.address, dict(prepared.job.storage_options) or None)
    datasets: list[DatasetFacts] = []
    known: dict[str, tuple[int, int, str]] = {}
    for name in prepared.job.datasets:
        rows, every = (_rows(store, name, condition) for condition in (_condition(prepared, name), prepared.job.where))
        for row in rows.select("episode_id", "steps", "success", "tasks").iter_rows(named=True):
            known[row["episode_id"]] = (row["steps"] or 0, -1 if row["success"] is None else int(row["success"]), (row["tasks"] or [name])[0])
        datasets.append(_facts(store, name, rows, every, _condition(prepared, name), fields))
    told = [known.get(batches.episode_id(number), (0, -1, "")) for number in range(batches.episodes)]
    episodes = {
        "steps": np.array([steps for steps, _, _ in told], dtype=np.int64),
        "success": np.array([success for _, success, _ in told], dtype=np.int64),
        "task": [task for _, _, task in told],
    }
    return TrainingFacts(datasets, prepared.trained_on, prepared.job.seed, {"episodes": episodes})


def _facts(store: Store, dataset: str, rows: Any, every: Any, condition: str | None, fields: Mapping[str, FieldSpec]) -> DatasetFacts:
    """Return what a model is told of a dataset: of all its episodes which body and rate they have, since it is calibrated on those held out too; all else of `rows` alone."""
    columns: dict[str, Column] = {}
    members: dict[str, list[Column]] = {}
    statistics: dict[str, ColumnStatistics] = {}
    found = statistics_of(dataset_statistics(store, dataset, condition))
    for row in rows.unique("features", maintain_order=True, keep="first").iter_rows(named=True):
        known = store.columns(row)
        for name in fields:
            names = columns_of(name, known)
            if len(names) == 1:
                columns.setdefault(name, known[names[0]])
            elif names:
                members.setdefault(name, [known[one] for one in names])
            if names and all(one in found for one in names):
                statistics.setdefault(name, joined([found[one] for one in names]))
    bodies, rates = set(every["embodiment"].to_list()), {rate for rate in every["rate_hz"].to_list() if rate is not None}
    return DatasetFacts(
        dataset,
        next(iter(bodies)) if len(bodies) == 1 else None,
        next(iter(rates)) if len(rates) == 1 and every["rate_hz"].null_count() == 0 else None,
        columns,
        statistics,
        members,
    )


def watched(prepared: Prepared, needs: Needs, learning: bool = False) -> Iterator[Watched]:
    """Yield the episodes that were held out, or those that are learned from, as a labeller sees them."""
    shards = OpenShards(open_store(prepared.address, dict(prepared.job.storage_options) or None))
    with contextlib.closing(shards):
        for dataset in prepared.job.datasets:
            held = set(prepared.held[dataset])
            rows: list[Row] = [row for row in _rows(shards.store, dataset, prepared.job.where).iter_rows(named=True) if (row["episode_id"] in held) != learning]
            for row in sorted(rows, key=lambda row: (row["shard"], row["ordinal"])):
                if row["steps"] != 0:
                    yield watch(shards.store, row, needs, shards=shards)


def train_process(prepared: Prepared, rank: int, wrap: Callable[[Any], Any] | None, progress: Progress | None) -> None:
    """Train in this process, alone or as one of several; the first of them calibrates and writes the model."""
    from dataengine.models.checkpoint import Checkpoint
    from dataengine.models.fit import CURVE, fit

    job, out = prepared.job, Path(prepared.job.out)
    chosen = _chosen(job)
    trainee, fitting = chosen.trainee, chosen.fitting
    assert trainee is not None
    started, used = time.monotonic(), time.process_time()
    with open_batches(prepared, trainee.fields(), fitting.batch_size, rank) as batches:
        facts = training_facts(prepared, trainee.fields(), batches)
        fitted = trainee.begin(facts, prepared.device)
        done = fit(fitted, batches, fitting, job.seed, out / RUN, rank=rank, wrap=wrap, progress=progress)
        samples = batches.samples
    if rank:
        return
    before = done.pop("before")  # what earlier runs spent, that were cut
    done |= {"seconds": before["seconds"] + time.monotonic() - started, "cpu_seconds": before["cpu_seconds"] + time.process_time() - used}
    figures = trainee.calibrate(watched(prepared, trainee.needs))
    config, weights = trainee.checkpoint()
    parameters = sum(int(tensor.numel()) for tensor in fitted.module.parameters())
    shutil.copyfile(out / RUN / CURVE, out / CURVE)
    write_model(out, Checkpoint(job.kind, config, weights, _told(prepared, samples, parameters, prepared.device, done, figures)))


def solve(prepared: Prepared) -> None:
    """Make a model that is solved for in one go, and write it."""
    chosen = _chosen(prepared.job)
    started, used = time.monotonic(), time.process_time()
    needs = chosen.room.needs_of(chosen.model, (0.0,))  # episodes are seen whole
    learned = chosen.room.learn(watched(prepared, needs, learning=True), chosen.model, prepared.trained_on, prepared.job.seed)
    done = {"steps": 1, "seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - used, "resumed_at": 0, "last": {}}
    figures = chosen.room.held_out_figures(learned, watched(prepared, needs))
    checkpoint = chosen.room.checkpoint_of(learned)
    parameters = sum(int(tensor.numel()) for tensor in checkpoint.weights.values())
    told = _told(prepared, int(learned.figures["steps"]), parameters, "cpu", done, figures)
    write_model(prepared.job.out, replace(checkpoint, train=dict(checkpoint.train) | told))


def _told(prepared: Prepared, samples: int, parameters: int, device: str, done: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `train.json` says."""
    import torch

    return {
        "trained_on": prepared.trained_on,
        "recipe": dict(prepared.recipe),
        "split": digest_json(prepared.recipe["held_out"]),
        "code": __version__,
        "samples": samples,
        "parameters": parameters,
        "device": device,
        "threads": torch.get_num_threads(),  # sums of another number of threads round otherwise
        "fit": {name: round(value, 3) if name.endswith("seconds") else value for name, value in done.items()},
        "held_out": dict(figures),
    }


def train(job: TrainJob, runtime: Runtime | None = None, progress: Progress | None = None, note: Note = lambda said: None) -> dict[str, Any]:
    """Run a training job to its end, and return what is in its `train.json`, with the model's digest under "model".

    Args:
        job: what is asked for.
        runtime: what several processes run on.
        progress: is told the figures of some steps.
        note: is told what was chosen for the user, and what the model cannot do.

    Raises:
        UsageError: a choice is wrong, the folder holds another model, or the loss is not finite.
    """
    from dataengine.labels.idm_targets import lacks
    from dataengine.models.checkpoint import load_checkpoint

    prepared = prepare(job)
    out = Path(job.out)
    if prepared.job.config.model != job.config.model:
        model = prepared.recipe["model"]
        note(
            f"a frame every {model['gap_s']:.4g} s, from {model['before_s']:.4g} s before a step to {model['after_s']:.4g} s after it: whole steps of these data, "
            "as the defaults are not; choose others with gap_s, before_s and after_s under model in --config"
        )
    if not holds_model(out):
        with begun(out, prepared.recipe):
            if holds_model(out):
                pass  # by another job, between the two looks
            elif job.kind in AT_ONCE:
                solve(prepared)
            elif job.ranks == 1:
                train_process(prepared, 0, None, progress)
            else:
                (runtime or Runtime()).train_together(partial(_one_of_several, prepared), job.ranks, prepared.device == "cuda", out / RUN)
    clear(out)
    checkpoint = load_checkpoint(out)
    for lack in lacks(checkpoint.config.get("bodies", ()) if job.kind in ("idm", "mapped") else ()):
        note(lack)
    return {**checkpoint.train, "model": checkpoint.digest, "out": str(out)}


def _one_of_several(prepared: Prepared, rank: int) -> None:
    """Train as one of several processes that Ray Train has brought together."""
    from torch.nn.parallel import DistributedDataParallel

    train_process(prepared, rank, partial(DistributedDataParallel, find_unused_parameters=True), None)
