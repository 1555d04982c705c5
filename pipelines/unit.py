"""One unit of an ingest job: a plain function that reads its items and writes whole shards. It runs in a worker process."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event, Rejected
from dataengine.core.objects import Objects, open_objects
from dataengine.core.protocols import ReadOptions
from dataengine.privacy.protect import Protector
from dataengine.schema.descriptions import DatasetDescription
from dataengine.sources.listing import SourceOpener
from dataengine.sources.registry import reader
from dataengine.store.catalog import Catalog, KnownIds
from dataengine.store.features import dataset_columns, feature_digests
from dataengine.store.landing import Landing, LandingPolicy
from dataengine.store.outcome import Outcome
from dataengine.store.shard import ShardPlace, ShardWriter
from dataengine.store.video_lane import VideoPolicy
from pipelines.children import turn_to
from pipelines.config import IngestConfig
from pipelines.hiding import hide
from pipelines.memory import keep_freed_memory, rare_collections
from pipelines.plan import PlannedItem

ENDS = (EpisodeInfo, Rejected)  # of a recording
SHARD_UNITS = 2  # a shard holds so many units before it is full: one that is a little over its plan is still one shard, not a full and a tiny one


@dataclass(frozen=True)
class Unit:
    """What a worker is handed: items of one dataset, and where they go. `replaced`: all episodes that new readings in the job take the place of."""

    number: int
    store: str
    store_options: Mapping[str, str]
    source_options: Mapping[str, str]
    job: str
    items: tuple[PlannedItem, ...]
    config: IngestConfig
    limit: int | None = None
    replaced: frozenset[str] = frozenset()

    @property
    def dataset(self) -> str:
        """Return the dataset of the unit's items."""
        return self.items[0].reading.dataset


@dataclass(frozen=True)
class UnitResult:
    """What a worker hands back: never pixels, only what became of each item, and the bytes of the shards."""

    number: int
    outcomes: tuple[Outcome, ...]
    stored_bytes: int


class KnownExcept:
    """The ids that are in the dataset, without those that the unit is going to replace."""

    def __init__(self, known: KnownIds, replaced: frozenset[str]) -> None:
        self._known, self._replaced = known, replaced

    def __contains__(self, episode_id: object) -> bool:
        return isinstance(episode_id, str) and episode_id not in self._replaced and episode_id in self._known


def read_options(planned: PlannedItem, config: IngestConfig) -> ReadOptions:
    """Return what a reader is told: the rate by the user or the dataset's description, and the reader's own options."""
    description: DatasetDescription | None = planned.description
    known = description.model_dump(mode="json") if description is not None else {}
    return ReadOptions(rate_hz=config.rate_hz, description=known, config=config.readers.of(planned.item.reader))


def policy_of(config: IngestConfig) -> LandingPolicy:
    """Return what landing is told."""
    privacy = config.privacy.record() if config.privacy.on else None
    return LandingPolicy(config.align, config.lossless, config.embodiment, config.licence, config.consent, privacy)


def video_policy(config: IngestConfig) -> VideoPolicy:
    """Return how raw frames are encoded."""
    return VideoPolicy(config.lossless, config.encoding.crf, config.encoding.gop, config.encoding.on_loss)


def known_state(objects: Objects, dataset: str, replaced: frozenset[str]) -> tuple[KnownIds, dict[str, Column]]:
    """Return the episode ids that a dataset has now, and its columns without those of episodes that are about to be replaced."""
    catalog = Catalog(objects)
    table = catalog.table()
    known = KnownIds()
    known.update(catalog, table, dataset)
    digests = feature_digests(catalog, table, [dataset], replaced)
    return known, dataset_columns(objects, digests)[dataset]


def limited(events: Iterator[Event], left: int | None) -> Iterator[Event]:
    """Yield events until `left` recordings have ended; all of them for None."""
    if left is None:
        yield from events
        return
    for event in events:
        if left <= 0:
            return
        yield event
        if isinstance(event, ENDS):
            left -= 1


def timed(events: Iterator[Event], part: int) -> Iterator[Event]:
    """Yield events; the time of each recording is counted from the end of the one before."""
    turn_to(part)
    for event in events:
        yield event
        if isinstance(event, ENDS):
            turn_to(part)


def open_landing(unit: Unit, objects: Objects, known: Container[str], columns: dict[str, Column], scratch: Path) -> Landing:
    """Return the landing of a unit's recordings, in shards of its job."""

    def open_shard() -> ShardWriter:
        place = ShardPlace(objects, unit.dataset, f"{unit.job}-{unit.number:05d}-{uuid.uuid4().hex[:8]}", unit.job, scratch)
        return ShardWriter(place, video_policy(unit.config))

    units = unit.config.units
    policy = policy_of(unit.config)
    return Landing(open_shard, SHARD_UNITS * units.bytes, SHARD_UNITS * units.recordings, known, columns, unit.items[0].description, policy)


def known_to(unit: Unit, objects: Objects) -> tuple[Container[str], dict[str, Column]]:
    """Return the episode ids that a unit need not land, and its dataset's columns: without the episodes that it replaces, but with the purged ones."""
    known, columns = known_state(objects, unit.dataset, unit.replaced)
    replaced = frozenset(episode_id for planned in unit.items for episode_id in planned.replaces) - (known.purged or frozenset())
    return KnownExcept(known, replaced), columns


def ingest_unit(unit: Unit) -> UnitResult:
    """Read every item of the unit and write what lands into shards; nothing of it counts until it is committed."""
    keep_freed_memory()
    objects = open_objects(unit.store, unit.store_options)
    known, columns = known_to(unit, objects)
    outcomes: list[Outcome] = []
    left = unit.limit
    with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch, rare_collections():
        landing = open_landing(unit, objects, known, columns, Path(scratch))
        protector = Protector(unit.config.privacy, Path(scratch) / "private") if unit.config.privacy.on else None
        for part, planned in enumerate(unit.items):
            if left is not None and left <= 0:
                break
            files = SourceOpener(open_objects(planned.item.root, unit.source_options))
            read = partial(reader(planned.item.reader).read, planned.item, files, read_options(planned, unit.config))
            if protector is None:
                outcome = landing.land(planned.reading, limited(timed(read(), part), left), files)
            else:
                item = protector.item(read, files)
                outcome = landing.land(planned.reading, limited(timed(item.events(), part), left), item.files)
                outcome = hide(outcome, item.text, unit.config.privacy)
                item.close()
            if left is not None:
                left -= outcome.recordings
                outcome.partial = True
            outcomes.append(outcome)
        stored = landing.close()
    return UnitResult(unit.number, tuple(outcomes), stored)
