"""A store of the moving square's world, made in this process."""

from __future__ import annotations

import time
from pathlib import Path

from dataengine.samples.moving_square import MovingSquare
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store
from pipelines.collect import Collect, CollectJob, plan_collection
from pipelines.ingest import IngestJob, Work, _silent, carry_out, open_target
from pipelines.plan import PlannedItem
from pipelines.unit import Unit
from tests.support.jobs import Inline


def make_square_store(folder: Path, episodes: int = 6, dataset: str = "square", size: tuple[int, int] | None = None, first: int = 0) -> Path:
    """Record episodes of 60 steps, the seeds from the first on, three a shard."""
    job = CollectJob("square", str(folder), dataset, episodes, first, size=size)
    objects, catalog = open_target(IngestJob(("square",), str(folder), dataset))
    plan = plan_collection(job, MovingSquare(*(size or (64, 64))).facts, catalog)
    items = [item for unit in plan.units for item in unit]
    plan.units = [items[at : at + 3] for at in range(0, len(items), 3)]

    def unit(number: int, items: tuple[PlannedItem, ...], name: str, replaced: frozenset[str]) -> Unit:
        return Unit(number, objects.url, {}, {}, name, items, job.config, None, replaced)

    landing = IngestJob(("square",), str(folder), dataset, command="collect square")
    carry_out(landing, plan, objects, Work(Collect("square", size, job.play), unit, {}), Inline(), _silent, time.monotonic())
    return folder


def square_rows(store: Path | Store) -> list[Row]:
    """Return the rows of its episodes by seed."""
    opened = store if isinstance(store, Store) else open_store(str(store))
    return sorted(opened.episodes().collect().to_dicts(), key=lambda row: int(row["source_key"]))
