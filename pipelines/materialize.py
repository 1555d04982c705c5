"""The materialize job: a training-ready copy of a version, cameras in one size and steps at one rate, written into a store of its own.

It is an ingest whose recordings are the episodes of another store: planned, done in units, committed, named and resumed by the same code. An item of it is one
episode, and its source row says of which store: an episode that was copied with the same settings is skipped, one that was copied with others is
replaced in the next version.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dataengine.core.column import Column
from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.errors import BadRecording, UnknownName, UsageError
from dataengine.core.names import require_slug
from dataengine.core.objects import Objects, open_objects
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, SourceFile
from dataengine.schema.column_json import features_columns
from dataengine.schema.descriptions import DATASET_NOTICES
from dataengine.sources.listing import SourceOpener
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.copying import READER, VERSION, CopySpec, EpisodeCopy
from dataengine.store.features import dataset_privacy
from dataengine.store.landing import Landing
from dataengine.store.outcome import Outcome, Reading, problem_of, reject_row, source_row
from dataengine.store.query import where
from dataengine.store.refs import read_json
from dataengine.store.removed import PURGED, purged_episodes
from dataengine.store.row import Row
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.store import Store, require_store
from dataengine.video.fit import Fit
from pipelines.config import EncodingConfig, IngestConfig, LimitsConfig, UnitConfig
from pipelines.ingest import IngestJob, Progress, Report, Work, carry_out, open_target
from pipelines.memory import keep_freed_memory, rare_collections
from pipelines.plan import KnownItem, Plan, PlannedItem, known_sources
from pipelines.runtime import Runtime
from pipelines.scratch import remove_abandoned
from pipelines.unit import KnownExcept, Unit, UnitResult, known_state, policy_of, timed, video_policy

CRF, GOP = 20, 10
BYTES_A_PX = 0.1  # what a pixel of a copied camera costs, about: units are planned before anything is encoded
MIN_SIDE_PX, MAX_SIDE_PX = 8, 4096
# A unit is encoded in a minute or so; an episode of two hours and three cameras takes an hour.
SETTINGS = IngestConfig(encoding=EncodingConfig(crf=CRF, gop=GOP), units=UnitConfig(bytes=64 << 20), limits=LimitsConfig(seconds=6 * 3600.0))


@dataclass(frozen=True)
class CopyJob:
    """What a user asks for: the version to copy, where to, which episodes, and what their cameras and steps become."""

    source: str
    target: str
    height: int
    width: int
    datasets: tuple[str, ...] = ()
    rate_hz: float | None = None
    where: str | None = None
    fit: Fit = "stretch"
    config: IngestConfig = SETTINGS
    limit: int | None = None
    single_writer: bool = False
    storage_options: Mapping[str, str] = field(default_factory=dict)
    command: str = "materialize"


@dataclass(frozen=True)
class CopyUnit(Unit):
    """Episodes of one dataset that were landed with the same protection, and what their copies are to be."""

    parent: str = ""
    spec: CopySpec | None = None
    privacy: str | None = None


@dataclass(frozen=True)
class _Features:
    columns: Mapping[str, Column]
    privacy: str | None


def _require_sound(job: CopyJob) -> None:
    if not (MIN_SIDE_PX <= job.height <= MAX_SIDE_PX and MIN_SIDE_PX <= job.width <= MAX_SIDE_PX):
        raise UsageError(f"--size: must be {MIN_SIDE_PX} to {MAX_SIDE_PX} px high and wide, got {job.height}x{job.width}")
    for name in job.datasets:
        require_slug("dataset", name)


def _episodes(job: CopyJob, store: Store) -> list[Row]:
    """Return the rows of the episodes that are asked for, as much of each as a plan needs: a store may hold a million."""
    import polars as pl

    there = store.datasets()
    for name in job.datasets:
        if name not in there:
            raise UnknownName("dataset", name, there)
    frame = store.episodes()
    if job.datasets:
        frame = frame.filter(pl.col("dataset").is_in(list(job.datasets)))
    ordered = where(frame, job.where).sort("dataset", "source_uri", "source_key", "episode_id")
    rows = ordered.select("episode_id", "dataset", "reading", "features", "splits", "steps", "flags", "bytes").collect().to_dicts()
    if not rows:
        raise UsageError(f"{job.source}: expected episodes to copy, found none" + (f" for which {job.where!r} holds" if job.where else ""))
    return rows


def _features(store: Store, rows: Sequence[Row]) -> dict[tuple[str, str], _Features]:
    found: dict[tuple[str, str], _Features] = {}
    for row in rows:
        name = (str(row["dataset"]), str(row["features"]))
        if name not in found:
            key = layout.features_key(*name)
            document = read_json(store.objects, key)
            privacy = document.get("privacy")
            found[name] = _Features(features_columns(document, key), None if privacy is None else json.dumps(privacy, sort_keys=True))
    return found


def _planned(row: Row, spec: CopySpec, features: _Features, config: IngestConfig) -> PlannedItem:
    """Return an episode as an item of a job, and how it is copied: both change with whatever changes its copy."""
    root, path = f"{layout.FORMAT}:{spec.store_id}", f"{row['dataset']}/{row['episode_id']}"
    affecting = [READER, VERSION, spec.affecting(), config.encoding.model_dump(mode="json"), row["reading"], row["features"]]
    splits = tuple(row["splits"] or ())
    fingerprint = f"{row['episode_id']}|{'+'.join(splits)}"
    size = int(row["bytes"] or 0)
    item = Item(
        READER, root, path, str(row["dataset"]), (SourceFile(path, size, fingerprint),), splits, 1, {"episode": row["episode_id"], "privacy": features.privacy}
    )
    reading = Reading(digest_json(affecting), READER, VERSION, str(row["dataset"]), f"{root}/{path}", fingerprint, splits, size)
    return PlannedItem(item, reading, None)


def plan_copy(job: CopyJob, store: Store, spec: CopySpec, catalog: Catalog | None) -> Plan:
    """Leave out what was copied already, and group the rest into units that do not depend on the number of workers."""
    plan = Plan()
    rows = _episodes(job, store)
    features = _features(store, rows)
    purged = purged_episodes(store.objects)
    todo: list[tuple[PlannedItem, float]] = []
    left: dict[str, int] = {}
    items = []
    for row in rows:
        gone = row["episode_id"] in purged or PURGED in (row["flags"] or ())
        if gone or not row["steps"]:
            plan.ignored.append(f"{store.objects.url}#{row['dataset']}: episode {row['episode_id']}, which {'was purged' if gone else 'has no steps'}")
            continue
        own = features[str(row["dataset"]), str(row["features"])]
        cameras = sum(column.is_camera for column in own.columns.values())
        items.append((_planned(row, spec, own, job.config), BYTES_A_PX * int(row["steps"]) * cameras * job.height * job.width))
    facts = [digest_bytes(planned.reading.source_uri.encode()) for planned, _ in items]
    known = known_sources(catalog, facts) if catalog is not None and facts else {}
    for (planned, size), fact in zip(items, facts, strict=True):
        dataset = planned.reading.dataset
        before = known.get((dataset, fact))
        if (
            before is not None
            and before["reading"] == planned.reading.digest
            and before["fingerprint"] == planned.reading.fingerprint
            and not before["rejected"]
        ):
            plan.known.append(KnownItem(before["source_uri"], before["recordings"], before["rejected"], before["job"], before["job_commit"]))
            continue
        if job.limit is not None and left.setdefault(dataset, job.limit) <= 0:
            continue
        left[dataset] = left.get(dataset, 0) - 1
        if before is not None and before["reading"] != planned.reading.digest:
            planned = replace(planned, replaces=tuple(before["episode_ids"] or ()))
        todo.append((planned, size))
    plan.units = _group(todo, job.config.units)
    return plan


def _group(todo: Sequence[tuple[PlannedItem, float]], limits: UnitConfig) -> list[list[PlannedItem]]:
    """Group episodes into units of one dataset and one protection, by what their copies will take."""
    units: list[list[PlannedItem]] = []
    size, last = 0.0, None
    for planned, cost in sorted(todo, key=lambda entry: (entry[0].reading.dataset, entry[0].item.extra["privacy"] or "")):
        kind = planned.reading.dataset, planned.item.extra["privacy"]
        if kind != last or size >= limits.bytes or len(units[-1]) >= limits.recordings:
            units.append([])
            size, last = 0.0, kind
        units[-1].append(planned)
        size += cost
    return units


def _require_privacy(catalog: Catalog, plan: Plan, store: Store) -> None:
    """Refuse to bring originals into a dataset whose recordings were protected."""
    for dataset, done in dataset_privacy(catalog, {planned.reading.dataset for planned in plan.items}).items():
        for planned in plan.items:
            own = json.loads(planned.item.extra["privacy"] or "{}") if planned.reading.dataset == dataset else dict.fromkeys(done, True)
            missing = sorted(name for name in done if not own.get(name))
            if missing:
                raise UsageError(
                    f"dataset {dataset!r}: its recordings were landed with {' and '.join(missing)}, those of {store.objects.url} without; copy them into another store"
                )


def run(job: CopyJob, runtime: Runtime, progress: Progress) -> Report:
    """Run a materialize job to its end.

    Raises:
        UsageError: there is nothing to copy, or the call is wrong; the store that is written to is left as it was.
    """
    from dataengine.store.store import open_store

    started = time.monotonic()
    remove_abandoned()
    _require_sound(job)
    ingest = IngestJob((job.source,), job.target, None, (), job.config, None, False, job.single_writer, job.storage_options, job.command)
    objects, catalog = open_target(ingest)
    store = open_store(job.source, job.storage_options)
    if store.version is None:
        raise UsageError(
            f"{job.source}: a copy is of a version; name one, and not 'open'" if store.open else f"{job.source}: has no version yet: nothing to copy"
        )
    store_id = str(require_store(store.objects)["store_id"])
    if catalog is not None and require_store(objects)["store_id"] == store_id:
        raise UsageError(f"{job.target}: is the very store that is copied; name another")
    spec = CopySpec(store_id, store.version.number, job.height, job.width, job.fit, job.rate_hz)
    datasets = job.datasets or ((store.dataset,) if store.dataset is not None else ())
    progress("finding episodes", 0, 0)
    plan = plan_copy(replace(job, datasets=tuple(datasets)), store, spec, catalog)
    if catalog is not None and plan.units:
        _require_privacy(catalog, plan, store)
    options = dict(job.storage_options)

    def unit(number: int, items: tuple[PlannedItem, ...], name: str, replaced: frozenset[str]) -> Unit:
        privacy = items[0].item.extra["privacy"]
        return CopyUnit(number, objects.url, options, options, name, items, job.config, None, replaced, store.objects.url, spec, privacy)

    settings = {**spec.affecting(), "of": [spec.store_id, spec.version], "config": job.config.model_dump(mode="json")}
    return carry_out(ingest, plan, objects, Work(copy_unit, unit, settings), runtime, progress, started)


def copy_unit(unit: CopyUnit) -> UnitResult:
    """Copy every episode of the unit into one shard; nothing of it counts until it is committed."""
    import cv2
    import polars as pl

    assert unit.spec is not None
    cv2.setNumThreads(1)
    keep_freed_memory()
    objects, parent = open_objects(unit.store, unit.store_options), open_objects(unit.parent, unit.source_options)
    store = Store(parent, str(unit.spec.version))
    known, columns = known_state(objects, unit.dataset, unit.replaced)
    replaced = frozenset(episode_id for planned in unit.items for episode_id in planned.replaces) - (known.purged or frozenset())
    purged = purged_episodes(parent)
    ids = [planned.item.extra["episode"] for planned in unit.items]
    frame = store.episodes().filter((pl.col("dataset") == unit.dataset) & pl.col("episode_id").is_in(ids)).collect()
    rows = {row["episode_id"]: row for row in frame.iter_rows(named=True)}
    policy = replace(policy_of(unit.config), privacy=None if unit.privacy is None else json.loads(unit.privacy))
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch, rare_collections():

        def open_shard() -> ShardWriter:
            place = ShardPlace(objects, unit.dataset, f"{unit.job}-{unit.number:05d}-{uuid.uuid4().hex[:8]}", unit.job, Path(scratch))
            return ShardWriter(place, video_policy(unit.config))

        landing = Landing(open_shard, 1 << 62, 1 << 62, KnownExcept(known, replaced), columns, None, policy)
        files = SourceOpener(parent)
        for part, planned in enumerate(unit.items):
            copy = EpisodeCopy(store, rows[ids[part]], unit.spec)
            if ids[part] in purged:
                outcomes.append(_purged(planned, store.objects))
                continue
            outcome = landing.land(planned.reading, timed(copy.events(), part), files, copy.place)
            outcome.problems = [problem for problem in outcome.problems if problem["check"] not in DATASET_NOTICES]  # they were given at the ingest
            outcomes.append(outcome)
        stored = landing.close()
    return UnitResult(unit.number, tuple(outcomes), stored)


def _purged(planned: PlannedItem, parent: Objects) -> Outcome:
    """Return the rejection of an episode that was purged since the job was planned."""
    error = BadRecording(f"{parent.url}: {planned.item.path}", "an episode that may be copied", "one that was purged", "leave it out", check=PURGED)
    problem: Problem = problem_of(error)
    return Outcome(source_row(planned.reading), rejects=[reject_row(planned.reading, "", problem, 0)])
