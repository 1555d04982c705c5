"""Purge: for withdrawn consent. The one exception to immutability.

The content of episodes is overwritten in every object that holds it, under the same keys: numbers, pictures, messages and times with zeros,
trajectories and labels with nulls, tasks and metadata in every data file of the catalog with nothing. Videos that were kept as they came are removed with
their last episode, and so are statistics of the datasets that held it. A document below `removed/` says who, when and why; every version honours it:
reading the episode raises EpisodePurged. The row stays, with the flag "purged", so that the recording is known and does not land again. Killed half-way, a purge is finished by calling it again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c

from dataengine.core.digest import digest_json
from dataengine.core.errors import EpisodeNotFound, StoreError
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.naming import name_version
from dataengine.store.parquet import table_of
from dataengine.store.refs import Version, read_json
from dataengine.store.removed import purged_episodes, put_removed
from dataengine.versions.blank_catalog import EMPTIED, emptied
from dataengine.versions.blank_labels import HeldLabels, blank_labels, held_labels
from dataengine.versions.blank_payload import Rewritten, blank_steps, blank_stream
from dataengine.versions.garbage import collect_as, plan_gc
from dataengine.versions.table_files import DataFile, read_columns, table_files
from dataengine.versions.writing import writing


@dataclass(frozen=True)
class HeldEpisode:
    """An episode in one shard: the shard's folder, its steps file, and the rows of its index."""

    episode_id: str
    folder: str
    steps: str
    entries: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class PurgePlan:
    """What a purge would overwrite, and which kept videos it would remove."""

    url: str
    episodes: tuple[str, ...]
    held: tuple[HeldEpisode, ...]
    media: tuple[str, ...]
    labels: tuple[HeldLabels, ...] = ()

    @property
    def folders(self) -> list[str]:
        """Return the folders of the shards in which rows are overwritten, those of labels too."""
        return sorted({*(entry.folder for entry in self.held), *(labels.folder for labels in self.labels)})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {"store": self.url, "episodes": list(self.episodes), "shards": self.folders, "media": list(self.media)}


@dataclass(frozen=True)
class Purged:
    """What a purge did: its document below `removed/`, and the version that was named after it."""

    document: dict[str, Any]
    version: Version

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {**self.document, "version": self.version.number}


def plan_purge(objects: Objects, episode_ids: Sequence[str]) -> PurgePlan:
    """Find everything a store holds of episodes, whatever dataset, version or reading.

    Args:
        objects: the store.
        episode_ids: ids, or the unambiguous beginnings of ids.

    Raises:
        EpisodeNotFound: no version holds such an episode, or several begin so.
        StoreError: a kept video holds frames of another episode as well.
    """
    files = _row_files(objects)
    ids = tuple(sorted(_whole_ids(objects, files, episode_ids)))
    held: list[HeldEpisode] = []
    users: dict[str, set[str]] = {}
    for folder, steps in _shards(objects):
        table = table_of(objects.get(f"{folder}/{layout.INDEX}"))
        rows = table.to_pylist() if any(episode_id in ids for episode_id in table["episode_id"].unique().to_pylist()) else []
        for episode_id in ids:
            entries = tuple(row for row in rows if row["episode_id"] == episode_id)
            if entries:
                held.append(HeldEpisode(episode_id, folder, steps, entries))
        for media, episode_id, kind in zip(*(table[name].to_pylist() for name in ("media", "episode_id", "kind")), strict=True):
            if kind == "media":
                users.setdefault(media, set()).add(episode_id)
    media = sorted({entry["media"] for episode in held for entry in episode.entries if entry["kind"] == "media"})
    _require_own(objects, media, users, {*ids, *purged_episodes(objects)})
    return PurgePlan(objects.url, ids, tuple(held), tuple(media), tuple(held_labels(objects, ids)))


def _row_files(objects: Objects) -> list[DataFile]:
    return [file for file in table_files(objects)[0] if file.kind in EMPTIED]


def _whole_ids(objects: Objects, files: Iterable[DataFile], wanted: Sequence[str]) -> set[str]:
    known = set(read_columns(objects, (file for file in files if file.kind == "episode"), ["episode_id"])["episode_id"])
    found = set()
    for text in wanted:
        matches = {text} if text in known else {episode_id for episode_id in known if text and episode_id.startswith(text)}
        if len(matches) != 1:
            why = "no version holds such an episode" if not matches else f"several episodes begin so: {', '.join(sorted(matches)[:3])}"
            raise EpisodeNotFound(f"{objects.url}: episode {text!r}: {why}; see `dataengine ls`")
        found |= matches
    return found


def _shards(objects: Objects) -> list[tuple[str, str]]:
    """Return the folder and the steps file of every shard."""
    parts = [meta.key.split("/") for meta in objects.list(layout.STREAMS)]
    return [("/".join(key[:3]), layout.steps_key(key[1], key[2])) for key in parts if len(key) == 4 and key[3] == layout.INDEX]


def _require_own(objects: Objects, media: Iterable[str], users: dict[str, set[str]], purged: Collection[str]) -> None:
    """Refuse to erase an episode whose kept video shows another one: its picture and sound cannot be taken out of the other's bytes."""
    for key in media:
        others = sorted(users[key] - set(purged))
        if others:
            raise StoreError(
                f"{objects.url}/{key}: expected frames of the purged episodes only, found those of {', '.join(others[:5])} too, in a video that is kept as it "
                f"came; purge these episodes together"
            )


def purge(objects: Objects, episode_ids: Sequence[str], reason: str, command: str = "purge") -> Purged:
    """Erase the content of episodes from every version.

    What nothing refers to is collected first, so that no leftover of a dead job keeps a copy. The document is written before anything is erased.

    Raises:
        StoreError: another job is at work; or a kept video also shows an episode that is not to be purged.
        EpisodeNotFound: no version holds such an episode.
    """
    with writing(objects, command, alone=True) as job:
        plan = plan_purge(objects, episode_ids)
        collect_as(objects, plan_gc(objects, own=job), job)
        plan = plan_purge(objects, plan.episodes)
        files = [file for file in _row_files(objects) if objects.head(file.key) is not None]
        rewritten = {file.key: google_crc32c.value(data) for file in files if (data := emptied(objects, file, plan.episodes)) is not None}
        document = put_removed(
            objects,
            {
                "kind": "purge",
                "job": job,
                "reason": reason,
                "episodes": list(plan.episodes),
                "shards": plan.folders,
                "objects": list(plan.media),
                "checksums": {key.removeprefix(f"{layout.CATALOG}/"): f"{crc:08x}" for key, crc in rewritten.items()},
            },
        )
        for folder in sorted({held.folder for held in plan.held}):
            _blank_shard(objects, [held for held in plan.held if held.folder == folder])
        for labels in plan.labels:
            blank_labels(objects, labels)
        objects.delete(key for media in plan.media for key in (media, layout.media_index_key(media)))
        objects.delete(_statistics_of(objects, {held.folder.split("/")[1] for held in plan.held if held.steps is not None}))
        for file in files:
            if file.key in rewritten and (data := emptied(objects, file, plan.episodes)) is not None:
                objects.put(file.key, data)
        version = name_version(objects, job, command, digest_json({"purge": list(plan.episodes)}), {"purged": len(plan.episodes)}, {})
    return Purged(document, version)


def _statistics_of(objects: Objects, datasets: Collection[str]) -> list[str]:
    """Return the keys of all statistics of datasets: an extreme or a quantile is a number of some episode."""
    keys = [meta.key for meta in objects.list(layout.STATISTICS)]
    return [key for key in keys if len(key.split("/")) > 2 and key.split("/")[2] in datasets]


def _blank_shard(objects: Objects, episodes: Sequence[HeldEpisode]) -> None:
    """Overwrite episodes of one shard, then write the new sizes and checksums into its shard.json."""
    folder, steps = episodes[0].folder, episodes[0].steps
    rewritten = Rewritten(objects)
    for episode in episodes:
        for entry in episode.entries:
            blank_stream(folder, entry, rewritten)
    if objects.head(steps) is not None:
        blank_steps(steps, {int(episode.entries[0]["ordinal"]) for episode in episodes}, rewritten)
    key = f"{folder}/{layout.SHARD}"
    document = read_json(objects, key)
    for file in document["files"]:
        if (now := rewritten.files.get(f"{folder}/{file['path']}")) is not None:
            file["size"], file["crc32c"] = now[0], f"{now[1]:08x}"
    if steps in rewritten.files and "steps" in document:
        size, crc = rewritten.files[steps]
        document["steps"] = {"size": size, "crc32c": f"{crc:08x}"}
    objects.put(key, json.dumps(document, indent=1).encode())
