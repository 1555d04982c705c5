"""The shards that episodes point to: every file there, of its size and checksum, and every episode where its row says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import pyarrow.parquet as pq

from dataengine.core.digest import new_digest
from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.store import layout
from dataengine.store.parquet import table_of
from dataengine.store.row import Row
from dataengine.versions.check_documents import read_document
from dataengine.versions.finding import SOURCE, UNREADABLE, finding, unreadable

READ_BYTES = 8 << 20


@dataclass(frozen=True)
class ShardRows:
    """One shard and the catalog's rows of the episodes in it; purged episodes stand in `purged` by id."""

    objects: Objects
    dataset: str
    shard: str
    rows: Sequence[Row]
    purged: frozenset[str] = frozenset()

    @property
    def folder(self) -> str:
        """Return the key of the shard's folder."""
        return layout.shard_prefix(self.dataset, self.shard)

    @property
    def steps(self) -> str:
        """Return the key of the shard's trajectories."""
        return layout.steps_key(self.dataset, self.shard)

    def where(self, key: str) -> str:
        """Return the address of an object, for a message."""
        return f"{self.objects.url}/{key}"

    @property
    def only(self) -> str | None:
        """Return the episode that a fault of the whole shard concerns, None where there are several."""
        return str(self.rows[0]["episode_id"]) if len(self.rows) == 1 else None


def check_files(shard: ShardRows, deep: bool) -> list[Problem]:
    """Check the shard's files against shard.json: there, of their size, and with `deep` of their checksum."""
    key = f"{shard.folder}/{layout.SHARD}"
    document, problems = read_document(shard.objects, "shard", key)
    if document is None or problems:
        return [finding(problem.check, problem.where, problem.expected, problem.found, SOURCE, shard.only) for problem in problems]
    if document["dataset"] != shard.dataset or document["shard"] != shard.shard:
        problems.append(finding("other_name", shard.where(key), f"shard {shard.shard} of {shard.dataset}", f"{document['shard']} of {document['dataset']}"))
    there = {meta.key.removeprefix(f"{shard.folder}/"): meta.size for meta in shard.objects.list(shard.folder)}
    for file in document["files"]:
        path, where = file["path"], shard.where(f"{shard.folder}/{file['path']}")
        size = there.pop(path, None)
        if size is None:
            problems.append(finding("missing_file", where, f"a file of {file['size']} bytes", "none", SOURCE, shard.only))
        elif size != file["size"]:
            problems.append(finding("wrong_size", where, f"{file['size']} bytes", f"{size}", SOURCE, shard.only))
        elif deep and (crc := _crc32c(shard.objects, f"{shard.folder}/{path}")) != file["crc32c"]:
            problems.append(finding("wrong_checksum", where, f"crc32c {file['crc32c']}", f"{crc}", SOURCE, shard.only))
    there.pop(layout.SHARD, None)
    steps = document.get("steps")
    if deep and steps is not None and shard.objects.head(shard.steps) is not None and (crc := _crc32c(shard.objects, shard.steps)) != steps["crc32c"]:
        problems.append(finding("wrong_checksum", shard.where(shard.steps), f"crc32c {steps['crc32c']}", crc, SOURCE, shard.only))
    for path in sorted(there):
        where = shard.where(f"{shard.folder}/{path}")
        problems.append(finding("unlisted_file", where, "only files that shard.json lists", "another one", "look at who wrote it", None, "warning"))
    return problems


def _crc32c(objects: Objects, key: str) -> str:
    crc = 0
    with objects.open(key) as handle:
        while block := handle.read(READ_BYTES):
            crc = google_crc32c.extend(crc, block)
    return f"{crc:08x}"


def read_entries(shard: ShardRows) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the rows of the shard's index, and the episodes that are not where their rows say."""
    key = f"{shard.folder}/{layout.INDEX}"
    try:
        entries: list[dict[str, Any]] = table_of(shard.objects.get(key)).to_pylist()
    except UNREADABLE as error:
        return [], [unreadable(shard.where(key), "the shard's index", error, SOURCE, shard.only)]
    places = {(entry["episode_id"], entry["ordinal"]) for entry in entries}
    problems = []
    taken: dict[int, str] = {}
    for row in shard.rows:
        episode_id, ordinal = row["episode_id"], row["ordinal"]
        if (episode_id, ordinal) not in places:
            found = f"others: {', '.join(sorted({str(other) for other, at in places if at == ordinal})) or 'none'}"
            problems.append(finding("not_in_shard", shard.where(key), f"episode {episode_id} as number {ordinal}", found, SOURCE, episode_id))
        if taken.setdefault(ordinal, episode_id) != episode_id:
            problems.append(finding("place_taken_twice", shard.where(key), f"one episode at number {ordinal}", f"also {taken[ordinal]}", SOURCE, episode_id))
    return entries, problems


def check_steps_file(shard: ShardRows) -> list[Problem]:
    """Check the number of steps of each episode by the footer of the steps file."""
    where = shard.where(shard.steps)
    try:
        with shard.objects.open(shard.steps) as handle:
            metadata = pq.ParquetFile(handle).metadata
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except FileNotFoundError:
        return [finding("missing_file", where, "the trajectories of the shard", "none", SOURCE, shard.only)]
    except UNREADABLE as error:
        return [unreadable(where, "the trajectories of the shard", error, SOURCE, shard.only)]
    problems = []
    for row in shard.rows:
        found = f"{counts[row['ordinal']]}" if row["ordinal"] < len(counts) else "no such row group"
        if found != str(row["steps"]):
            place = f"{where}: row group {row['ordinal']}"
            problems.append(finding("wrong_steps", place, f"{row['steps']} steps", found, SOURCE, row["episode_id"]))
    return problems


class MediaCheck:
    """Kept videos, each looked at once however many shards refer to it."""

    def __init__(self, objects: Objects, deep: bool) -> None:
        self.objects, self.deep = objects, deep
        self._seen: dict[str, list[tuple[str, str, str, str]]] = {}

    def check(self, key: str, episode_id: str) -> list[Problem]:
        """Check that a kept video and its index are there, and with `deep` that its bytes have the digest that names it."""
        if key not in self._seen:
            self._seen[key] = self._look(key)
        return [finding(check, where, expected, found, SOURCE, episode_id) for check, where, expected, found in self._seen[key]]

    def _look(self, key: str) -> list[tuple[str, str, str, str]]:
        where, index = f"{self.objects.url}/{key}", layout.media_index_key(key)
        found = []
        if self.objects.head(index) is None:
            found.append(("missing_file", f"{self.objects.url}/{index}", "the index of a kept video", "none"))
        elif self.deep:
            try:
                with self.objects.open(index) as handle:
                    pq.ParquetFile(handle, page_checksum_verification=True).read()
            except UNREADABLE as error:
                found.append(("unreadable", f"{self.objects.url}/{index}", "the index of a kept video", f"what cannot be read ({error})"))
        if self.objects.head(key) is None:
            return [*found, ("missing_file", where, "a kept video", "none")]
        if self.deep:
            running = new_digest()
            with self.objects.open(key) as handle:
                while block := handle.read(READ_BYTES):
                    running.update(block)
            digest, name = str(running.hexdigest(length=16)), key.rsplit("/", 1)[-1].split(".", 1)[0]
            if digest != name:
                found.append(("wrong_digest", where, f"bytes of digest {name}, which is its name", f"digest {digest}"))
        return found
