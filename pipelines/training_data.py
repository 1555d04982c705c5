"""What a model is trained with: batches of the training episodes, what is known of them, and the episodes themselves as a labeller sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dataengine.core.column import Column
from dataengine.core.column_statistics import ColumnStatistics
from dataengine.core.labelling import Needs, Watched
from dataengine.core.roles import columns_of
from dataengine.core.training import DatasetFacts, FieldSpec, TrainingFacts
from dataengine.loaders.field import Field
from dataengine.loaders.mixture import Mixture, Source
from dataengine.loaders.normalizing import joined
from dataengine.loaders.streaming import Loader, loader
from dataengine.store.open_shards import OpenShards
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store
from dataengine.store.watching import watch
from dataengine.versions.statistics import columns_of as statistics_of
from dataengine.versions.statistics import dataset_statistics
from pipelines.training_job import Prepared, rows_of


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
        rows, every = (rows_of(store, name, condition) for condition in (_condition(prepared, name), prepared.job.where))
        for row in rows.select("episode_id", "steps", "success", "tasks").iter_rows(named=True):
            known[row["episode_id"]] = (row["steps"] or 0, -1 if row["success"] is None else int(row["success"]), (row["tasks"] or [name])[0])
        datasets.append(dataset_facts(store, name, rows, every, _condition(prepared, name), fields))
    told = [known.get(batches.episode_id(number), (0, -1, "")) for number in range(batches.episodes)]
    episodes = {
        "steps": np.array([steps for steps, _, _ in told], dtype=np.int64),
        "success": np.array([success for _, success, _ in told], dtype=np.int64),
        "task": [task for _, _, task in told],
    }
    return TrainingFacts(datasets, prepared.trained_on, prepared.job.seed, {"episodes": episodes})


def dataset_facts(store: Store, dataset: str, rows: Any, every: Any, condition: str | None, fields: Mapping[str, FieldSpec]) -> DatasetFacts:
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
            rows: list[Row] = [
                row for row in rows_of(shards.store, dataset, prepared.job.where).iter_rows(named=True) if (row["episode_id"] in held) != learning
            ]
            for row in sorted(rows, key=lambda row: (row["shard"], row["ordinal"])):
                if row["steps"] != 0:
                    yield watch(shards.store, row, needs, shards=shards)
