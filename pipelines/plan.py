"""What a job is going to do: which items are there, which are known already, and how the rest is grouped into units of work."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.errors import NothingRecognised
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Reader
from dataengine.schema.descriptions import DatasetDescription, describe
from dataengine.sources.listing import SourceListing, list_source
from dataengine.sources.registry import READERS, reader
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.outcome import Reading, same_files, source_uri
from pipelines.config import IngestConfig


@dataclass(frozen=True)
class PlannedItem:
    """An item, how it is read, and the episodes that an older reading of the same bytes left (they are replaced)."""

    item: Item
    reading: Reading
    description: DatasetDescription | None
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownItem:
    """An item that was read before and has not changed since."""

    uri: str
    recordings: int
    rejected: int
    job: str
    job_commit: int


@dataclass
class Plan:
    """The items of a job: what is to be read, in units, and what is known already."""

    units: list[list[PlannedItem]] = field(default_factory=list)
    known: list[KnownItem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def items(self) -> list[PlannedItem]:
        """Return all items that are to be read, in the order of the plan."""
        return [item for unit in self.units for item in unit]


def reading_of(item: Item, dataset: str, description: DatasetDescription | None, config: IngestConfig) -> Reading:
    """Return how an item is read; its digest changes with the reader's version and with whatever affects the output."""
    module = reader(item.reader)
    known = description.affecting() if description is not None else None
    digest = digest_json([module.NAME, module.VERSION, config.affecting(item.reader), known])
    return Reading(digest, module.NAME, module.VERSION, dataset, source_uri(item), item.fingerprint, item.splits, item.size)


def _claims(name: str, module: Reader, listing: Listing, config: IngestConfig, asked: bool) -> Found:
    """Return what a reader claims; one that has `find_asked` also hears the job's choices for it, and whether the user asked for the format."""
    find_asked = getattr(module, "find_asked", None)
    if find_asked is None:
        return module.find(listing)
    claims: Found = find_asked(listing, config.readers.of(name), asked)
    return claims


def find_items(
    sources: Sequence[str], options: Mapping[str, str] | None, formats: Sequence[str], config: IngestConfig | None = None
) -> tuple[list[Item], list[str], list[Problem]]:
    """Return the items of all sources, the files that belong to none, and what is declared but absent.

    Raises:
        NothingRecognised: no reader claims anything.
        UsageError: a source does not exist, or a format is not known.
    """
    readers: Mapping[str, Reader] = {name: reader(name) for name in formats} if formats else READERS
    items: list[Item] = []
    ignored: list[str] = []
    problems: list[Problem] = []
    for source in sources:
        listing, inside = _without_stores(list_source(source, options))
        problems.extend(inside)
        named: list[Item] = []
        for name, module in readers.items():
            found = _claims(name, module, listing, config or IngestConfig(), bool(formats))
            items.extend(item for item in found.items if not item.by_name)
            named.extend(item for item in found.items if item.by_name)
            problems.extend(found.problems)
            listing = listing.without(found.claimed - {item.path for item in found.items if item.by_name})
        for item in named:  # the name counts only where no reader knows the content
            if item.path in listing.files:
                items.append(item)
                listing = listing.without([item.path])
        problems.extend(listing.problems)
        ignored.extend(f"{listing.root}/{path}" for path in listing.files)
    if not items and all(problem.severity == "info" for problem in problems):
        raise NothingRecognised(
            f"{', '.join(sources)}: expected recordings of a known format ({', '.join(readers)}), "
            f"found {len(ignored)} other file{'' if len(ignored) == 1 else 's'}; see `dataengine sources`"
            + "".join(f"; {problem.message}" for problem in problems[:3])
        )
    return items, ignored, problems


def _without_stores(listing: SourceListing) -> tuple[SourceListing, list[Problem]]:
    """Return a listing without the stores in it, which hold what was landed already, and a note for each."""
    stores = [
        posixpath.dirname(path) for path in listing.files if posixpath.basename(path) == layout.STORE and layout.FORMAT.encode() in listing.head(path, 512)
    ]
    stores = [folder for folder in stores if f"{folder}/{layout.STORE}".removeprefix("/") in listing.files]
    if not stores:
        return listing, []
    below = [path for path in listing.files if any(not folder or path.startswith(f"{folder}/") for folder in stores)]
    message = "this folder is a store of recordings that were landed, no recording: it is passed over"
    return listing.without(below), [Problem("store_in_source", f"{folder or '.'}: {message}", folder or ".", "info") for folder in stores]


def known_sources(catalog: Catalog, facts: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the source rows that a catalog has of these facts, by dataset and fact."""
    columns = ["dataset", "fact", "source_uri", "fingerprint", "reading", "recordings", "rejected", "job", "job_commit", "episode_ids"]
    frame = catalog.scan().filter((pl.col("kind") == "source") & pl.col("fact").is_in(list(facts))).select(columns).collect()
    return {(row["dataset"], row["fact"]): row for row in frame.iter_rows(named=True)}


def make_plan(
    items: Sequence[Item], catalog: Catalog | None, config: IngestConfig, dataset: str | None = None, retry: bool = False, limit: int | None = None
) -> Plan:
    """Leave out what is known, and group the rest into units that do not depend on the number of workers.

    Args:
        items: what was found.
        catalog: the store's, None for a store that does not exist yet.
        config: the job's.
        dataset: a name for all items instead of those their readers propose.
        retry: read items again that had rejected recordings.
        limit: read no more recordings than this: everything goes into one unit.
    """
    plan = Plan()
    facts = {id(item): digest_bytes(source_uri(item).encode()) for item in items}
    known = known_sources(catalog, list(facts.values())) if catalog is not None and items else {}
    todo: list[PlannedItem] = []
    for item in items:
        name = dataset or item.dataset
        description = describe(name) or describe(item.dataset)
        reading = reading_of(item, name, description, config)
        before = known.get((name, facts[id(item)]))
        if before is not None and same_files(before["fingerprint"], item.fingerprint):
            if before["reading"] == reading.digest and not (retry and before["rejected"]):
                plan.known.append(KnownItem(before["source_uri"], before["recordings"], before["rejected"], before["job"], before["job_commit"]))
                continue
            replaces = tuple(before["episode_ids"] or ()) if before["reading"] != reading.digest else ()
            todo.append(PlannedItem(item, reading, description, replaces))
        else:
            todo.append(PlannedItem(item, reading, description))
    todo.sort(key=lambda planned: (planned.reading.dataset, planned.item.reader, planned.item.root, planned.item.path))
    if limit is not None:
        plan.units = _by_dataset(todo)
    else:
        plan.units = group(todo, config)
    return plan


def _by_dataset(todo: Sequence[PlannedItem]) -> list[list[PlannedItem]]:
    units: dict[str, list[PlannedItem]] = {}
    for planned in todo:
        units.setdefault(planned.reading.dataset, []).append(planned)
    return list(units.values())


def group(todo: Sequence[PlannedItem], config: IngestConfig) -> list[list[PlannedItem]]:
    """Group items by name and size: a unit is full at the configured bytes or recordings, and holds one dataset only."""
    units: list[list[PlannedItem]] = []
    size = recordings = 0
    for planned in todo:
        if not units or units[-1][0].reading.dataset != planned.reading.dataset or size >= config.units.bytes or recordings >= config.units.recordings:
            units.append([])
            size = recordings = 0
        units[-1].append(planned)
        size += planned.item.size
        recordings += planned.item.recordings or 1
    return units
