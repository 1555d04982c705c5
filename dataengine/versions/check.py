"""`check`: whether a store holds what it says. Without `deep`: schemas, rows, places, sizes, flags. With `deep`: every byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataengine.core.problem import Problem
from dataengine.store.removed import PURGED, purged_episodes
from dataengine.store.store import Store
from dataengine.versions.check_documents import check_documents, check_features
from dataengine.versions.check_episodes import check_streams, check_trajectories, flag_problems
from dataengine.versions.check_labels import check_label_rows, check_label_shard, label_shards
from dataengine.versions.check_lags import check_lags
from dataengine.versions.check_rows import check_counts, check_data_files, check_metadata, check_rows
from dataengine.versions.check_shards import MediaCheck, ShardRows, check_files, check_steps_file, read_entries
from dataengine.versions.finding import UNREADABLE, unreadable
from dataengine.versions.stored_content import ShardReader

Progress = Callable[[str, int, int], None]


def _silent(message: str, done: int, total: int) -> None:
    """Say nothing."""


def check(store: Store, deep: bool = False, progress: Progress = _silent) -> list[Problem]:
    """Check one version of a store.

    Args:
        store: the version, all its datasets or one.
        deep: read every byte: checksums, digests, ids, trajectories, plausibility; otherwise documents, rows, places, sizes and flags.
        progress: told (what, done, total) after each shard.

    Returns:
        Problems, faults of the store first. One of severity "error" means that bytes are not what was written or are missing;
        "warning" and "info" say what is odd in a recording.
    """
    try:
        problems = check_documents(store.objects)
        damaged = check_data_files(store, deep)
        if damaged:
            return [*problems, *damaged]  # rows of damaged files would only repeat it
        problems += [*check_counts(store), *check_rows(store), *check_label_rows(store), *check_lags(store)]
        if deep:
            problems += check_metadata(store)
        episodes = store.episodes().sort("dataset", "shard", "ordinal").collect()
    except UNREADABLE as error:
        return [unreadable(store.catalog.uri, "the catalog of a store", error)]
    problems += check_features(store.objects, episodes.select("dataset", "features").unique().iter_rows())
    media = MediaCheck(store.objects, deep)
    purged = frozenset(purged_episodes(store.objects))
    shards = episodes.select("dataset", "shard").unique(maintain_order=True).rows()
    progress("checking shards", 0, len(shards))
    for done, ((dataset, shard), rows) in enumerate(episodes.group_by("dataset", "shard", maintain_order=True), 1):
        problems += _check_shard(store, ShardRows(store.objects, str(dataset), str(shard), rows.to_dicts(), purged), deep, media)
        progress("checking shards", done, len(shards))
    for shard in label_shards(store, purged):
        problems += check_label_shard(shard, deep)
    return sorted(problems, key=lambda problem: ("error", "warning", "info").index(problem.severity))


def _check_shard(store: Store, shard: ShardRows, deep: bool, media: MediaCheck) -> list[Problem]:
    problems = check_files(shard, deep)
    entries, misplaced = read_entries(shard)
    problems += misplaced
    problems += check_steps_file(shard)
    by_episode: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for entry in entries:
        by_episode.setdefault((entry["episode_id"], entry["ordinal"]), []).append(entry)
    reader = ShardReader(store.objects, shard.folder)
    for row in shard.rows:
        if row["episode_id"] in shard.purged or PURGED in (row["flags"] or ()):
            continue
        own = by_episode.get((row["episode_id"], row["ordinal"]), [])
        for key in sorted({entry["media"] for entry in own if entry["kind"] == "media"}):
            problems += media.check(key, row["episode_id"])
        problems += check_streams(store, shard, row, own, reader) if deep and own else flag_problems(row)
    if deep:
        problems += check_trajectories(store, shard, by_episode)
    return problems


def faults(problems: list[Problem]) -> list[Problem]:
    """Return those problems that are faults of the store itself."""
    return [problem for problem in problems if problem.severity == "error"]
