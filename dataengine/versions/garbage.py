"""Garbage collection: leftovers of jobs that died, and versions that were named to be forgotten. Nothing else is ever deleted.

An object goes when no row of the catalog's newest state and of no kept version refers to it. While a job is at work only shards of other, dead
jobs go: what jobs share (videos, feature documents, catalog files) stays, since the job may be about to refer to it. A job that fell silent
is ended first, so that it can never commit again what is taken from it. Rows that a dead job did commit stay, hidden, until a job adopts them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataengine.core.digest import digest_bytes
from dataengine.core.errors import UsageError
from dataengine.core.objects import ObjectMeta, Objects
from dataengine.store import layout
from dataengine.store.catalog import ENDED, Catalog
from dataengine.store.jobs import all_jobs
from dataengine.store.refs import read_json, read_version, tags, version_numbers
from dataengine.store.removed import put_removed
from dataengine.versions.checksums import known_checksums
from dataengine.versions.references import is_needed, references, shard_of
from dataengine.versions.table_files import table_files
from dataengine.versions.writing import alive_jobs, require_alone, writing

LISTED_OBJECTS = 10_000


@dataclass(frozen=True)
class GcPlan:
    """What `gc` would remove.

    `objects` are keys and sizes of payload and catalog files; `forgotten` and `tags` go with their documents. `dead_jobs` fell silent and are ended first.
    While `alive_jobs` are at work, what they may share stays.
    """

    url: str
    objects: tuple[tuple[str, int], ...]
    forgotten: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    dead_jobs: tuple[str, ...] = ()
    alive_jobs: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Return the bytes of all objects."""
        return sum(size for _, size in self.objects)

    @property
    def empty(self) -> bool:
        """Return whether nothing would change."""
        return not (self.objects or self.forgotten or self.dead_jobs)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "store": self.url,
            "objects": [{"key": key, "bytes": size} for key, size in self.objects],
            "bytes": self.bytes,
            "forgotten": list(self.forgotten),
            "tags": list(self.tags),
            "dead_jobs": list(self.dead_jobs),
            "alive_jobs": list(self.alive_jobs),
        }


def plan_gc(objects: Objects, forget: Sequence[int] = (), drop_tags: bool = False, own: str = "") -> GcPlan:
    """Find what no kept version needs.

    Args:
        objects: the store.
        forget: versions to drop as well.
        drop_tags: drop the tags of those versions; without it a version that has a tag is kept.
        own: the job that asks, which is no other job.

    Raises:
        UsageError: a version to forget is the newest, has a tag, or does not exist.
        StoreError: another job is at work while versions are to be forgotten.
        CorruptStore: the catalog is damaged, so that nothing can be said about what is needed.
    """
    forgotten = tuple(sorted(set(forget)))
    named = _tags_of(objects, forgotten, drop_tags)
    if forgotten:
        require_alone(objects, own)
    # In this order: what was there before the jobs were looked at, and is not referred to after, is of no job that has ended meanwhile.
    there = list(objects.list())
    alive = [record.job for record in alive_jobs(objects, own)]
    kept = [read_version(objects, number) for number in version_numbers(objects) if number not in forgotten]
    files, newest = table_files(objects)
    found = references(objects, files, {newest, *(version.catalog_version for version in kept)}, [version.number for version in kept])
    dead = [name for name, record in sorted(all_jobs(objects).items()) if name != own and record.state == "running" and not record.alive]
    unneeded = [meta for meta in there if not is_needed(meta.key, found) and not _may_be_needed(meta, alive)]
    return GcPlan(objects.url, tuple((meta.key, meta.size) for meta in unneeded), forgotten, named, tuple(dead), tuple(alive))


def _tags_of(objects: Objects, forgotten: Sequence[int], drop_tags: bool) -> tuple[str, ...]:
    """Return the tags of versions that are to be forgotten; refuse what must stay."""
    numbers = version_numbers(objects)
    for number in forgotten:
        read_version(objects, number)
        if number == numbers[-1]:
            raise UsageError(f"{objects.url}@{number}: is the newest version, which is what the store holds; only older ones can be forgotten")
    named = sorted(tag for tag, number in tags(objects).items() if number in forgotten) if forgotten else []
    if named and not drop_tags:
        number = tags(objects)[named[0]]
        raise UsageError(f"{objects.url}@{number}: has the tag {named[0]!r}, and what has a tag is kept; forget other versions, or drop the tag as well")
    return tuple(named)


def _may_be_needed(meta: ObjectMeta, alive: Sequence[str]) -> bool:
    """Return whether a job that is at work may need an object that nothing refers to yet."""
    if not alive:
        return False
    shard = shard_of(meta.key)
    return shard is None or any(shard[1].startswith(f"{job}-") for job in alive)


def collect(objects: Objects, plan: GcPlan, command: str = "gc") -> dict[str, Any]:
    """Remove what was planned and is still not needed; return the document that was written about it.

    The document comes first, then tags and versions, then what only they needed, so that no version is ever left without its payload.
    """
    with writing(objects, command, alone=bool(plan.forgotten)) as job:
        return collect_as(objects, plan, job)


def collect_as(objects: Objects, plan: GcPlan, job: str) -> dict[str, Any]:
    """Remove what was planned, as a part of a job that is at work already."""
    for dead in plan.dead_jobs:
        _end(objects, dead)
    now = {key for key, _ in plan_gc(objects, plan.forgotten, bool(plan.tags), job).objects}
    going = [(key, size) for key, size in plan.objects if key in now]
    keys = [key for key, _ in going]
    listed: dict[str, Any] = {"objects": keys} if len(keys) <= LISTED_OBJECTS else {"objects_digest": digest_bytes("\n".join(keys).encode())}
    document = {
        "kind": "gc",
        "job": job,
        "forgotten": list(plan.forgotten),
        "tags": list(plan.tags),
        "count": len(keys),
        "bytes": sum(size for _, size in going),
        **listed,
    }
    if plan.forgotten:
        kept = {meta.key for meta in objects.list(layout.CATALOG)} - now
        sums = {key: crc for key, crc in known_checksums(objects).items() if key in kept}
        document["checksums"] = {key.removeprefix(f"{layout.CATALOG}/"): crc for key, crc in sums.items()}
    if keys or plan.forgotten:
        document = put_removed(objects, document)
    objects.delete(layout.tag_key(tag) for tag in plan.tags)
    objects.delete(layout.version_key(number) for number in plan.forgotten)
    objects.delete(sorted(keys, key=lambda key: (not key.endswith(f"/{layout.SHARD}"), key)))
    return document


def _end(objects: Objects, job: str) -> None:
    """End a job that fell silent: its process, should it still live, can commit nothing any more."""
    record = all_jobs(objects).get(job)
    if record is None or record.state != "running" or record.alive:
        return
    catalog = Catalog(objects)
    if (catalog.table().transaction_version(job) or 0) < ENDED:
        catalog.end(job)
    document = read_json(objects, layout.job_key(job))
    objects.put(layout.job_key(job), json.dumps(document | {"state": "failed"}, indent=1).encode())


def unreferenced(objects: Objects) -> list[str]:
    """Return the objects that nothing refers to, whoever wrote them; after `gc`, with no job at work, there are none."""
    files, newest = table_files(objects)
    kept = version_numbers(objects)
    found = references(objects, files, {newest, *(read_version(objects, number).catalog_version for number in kept)}, kept)
    return [meta.key for meta in objects.list() if not is_needed(meta.key, found)]
