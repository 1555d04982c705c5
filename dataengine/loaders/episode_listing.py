"""Finds the episodes of a dataset and their samples: made once for a (version, condition), and kept in the cache folder."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl

from dataengine.core.arrays import Array
from dataengine.core.cached_objects import default_folder
from dataengine.core.digest import digest_json
from dataengine.core.errors import UsageError
from dataengine.loaders.episode_table import EpisodeTable
from dataengine.loaders.native import NOT_IN_ORDER
from dataengine.store import layout, query
from dataengine.store.removed import purged_episodes
from dataengine.store.step_conditions import kept_steps, step_condition
from dataengine.store.store import Store, require_store

log = logging.getLogger(__name__)

FORMAT = 1
SYNTHETIC = "world_model"
_COLUMNS = ("episode_id", "shard", "ordinal", "features", "steps", "rate_hz", "tasks", "origin", "embodiment", "flags")


def table_of_episodes(store: Store, dataset: str, where: str | None, where_steps: str | None, label_sets: Sequence[str] = ()) -> tuple[EpisodeTable, Path]:
    """Return the table of a dataset and the folder it lies in, from the cache where it is there; STORE@open is never taken from there.

    Raises:
        UsageError: a condition is no condition, or names an unknown column.
    """
    purged = sorted(purged_episodes(store.objects))
    version = store.version
    key = {
        "format": FORMAT,
        "store": require_store(store.objects)["store_id"],
        # Not its number alone: copies of a store, each with jobs of its own, have versions of one number.
        "version": uuid.uuid4().hex if version is None or store.open else [version.number, version.job, version.created_ns, version.catalog_version],
        "dataset": dataset,
        "where": where,
        "where_steps": where_steps,
        "purged": purged,
        "label_sets": list(label_sets),
    }
    home = _passing_folder() if version is None or store.open else default_folder() / "episodes"
    folder = home / digest_json(key)
    kept = _kept(folder)
    if kept is not None:
        return kept, folder
    table = _build(store, dataset, where, where_steps, purged, label_sets)
    try:
        table.save(folder)
    except OSError:  # a home that cannot be written to: a folder that lives as long as the machine runs does as well
        folder = _temporary_folder() / "episodes" / folder.name
        if _kept(folder) is None:
            table.save(folder)
    return EpisodeTable.load(folder), folder


def _kept(folder: Path) -> EpisodeTable | None:
    """Return the table in a folder, None where there is none; one that is damaged, as after a power cut, is removed."""
    if not folder.is_dir():
        return None
    try:
        return EpisodeTable.load(folder)
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s: is not what was written there (%s); it is made anew", folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _passing_folder() -> Path:
    """Return a new folder that is gone with this process: what is not a version yet is listed anew each time."""
    folder, process = Path(tempfile.mkdtemp(prefix="dataengine-")), os.getpid()

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _temporary_folder() -> Path:
    """Return a folder below the machine's temporary one that nobody else can have filled: the user's usual one, or a new one where that is not the user's own."""
    usual = Path(tempfile.gettempdir()) / f"dataengine-{os.getuid()}"
    with suppress(FileExistsError):
        usual.mkdir(mode=0o700)
    found = usual.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return usual
    return Path(tempfile.mkdtemp(prefix="dataengine-"))


def _build(store: Store, dataset: str, where: str | None, where_steps: str | None, purged: list[str], label_sets: Sequence[str]) -> EpisodeTable:
    rows = query.where(store.episodes().filter(pl.col("dataset") == dataset), where).select(_COLUMNS)
    try:
        frame = rows.filter(pl.col("steps") > 0).collect().sort("episode_id")
    except pl.exceptions.PolarsError as error:
        said = str(error).splitlines()[0]
        raise UsageError(f"where {where!r}: must be an SQL condition over episode columns, got: {said}; of a list say array_contains(splits, 'val')") from None
    if purged:
        frame = frame.filter(~pl.col("episode_id").is_in(purged))
    arrays: dict[str, Array] = {
        "steps": frame["steps"].to_numpy(),
        "ordinal": frame["ordinal"].to_numpy(),
        "rate_hz": frame["rate_hz"].fill_null(float("nan")).to_numpy(),
        "synthetic": (frame["origin"] == SYNTHETIC).fill_null(False).to_numpy(),
        "steps_back": frame["flags"].list.contains(NOT_IN_ORDER).fill_null(False).to_numpy(),
        "episode_id": np.array(frame["episode_id"].to_list(), dtype="S32"),
    }
    tasks = frame["tasks"].list.first()
    for name, values in (("shard", frame["shard"]), ("features", frame["features"]), ("task", tasks), ("embodiment", frame["embodiment"])):
        arrays |= _coded(name, values)
    for number, label_set in enumerate(label_sets):
        labels = store.labels().filter((pl.col("label_set") == label_set) & (pl.col("dataset") == dataset)).select("episode_id", "address").collect()
        arrays |= _coded(f"address{number}", frame.select("episode_id").join(labels, on="episode_id", how="left", maintain_order="left")["address"])
    if where_steps is None:
        count = frame.height
        arrays |= {"segment_episode": np.arange(count), "segment_start": np.zeros(count, np.int64), "segment_length": arrays["steps"].astype(np.int64)}
    else:
        arrays |= _segments(store, dataset, frame, where_steps)
    return EpisodeTable(arrays)


def _coded(name: str, values: pl.Series) -> dict[str, Array]:
    """Return texts as codes (-1 = null), with the distinct texts as bytes and offsets."""
    distinct = values.drop_nulls().unique().sort()
    codes = distinct.search_sorted(values.fill_null("")) if len(distinct) else pl.Series([0] * len(values))
    data = [text.encode() for text in distinct.to_list()]
    return {
        name: np.where(values.is_null().to_numpy(), -1, codes.to_numpy().astype(np.int64)),
        f"{name}_text": np.frombuffer(b"".join(data), np.uint8),
        f"{name}_offsets": np.concatenate([[0], np.cumsum([len(part) for part in data])]).astype(np.int64),
    }


def _segments(store: Store, dataset: str, frame: pl.DataFrame, where_steps: str) -> dict[str, Array]:
    """Return the runs of steps for which a condition over step columns holds: each steps file is read once, and of it only the columns that the condition names."""
    condition = step_condition(where_steps)
    found: list[tuple[Array, Array, Array]] = []
    numbered = frame.with_row_index("episode")
    for (shard,), episodes in numbered.group_by("shard", maintain_order=True):
        kept = kept_steps(store.objects, layout.steps_key(dataset, str(shard)), condition, where_steps)
        for episode, ordinal, steps in episodes.select("episode", "ordinal", "steps").iter_rows():
            mask = kept[ordinal]
            if len(mask) != steps:
                continue
            edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
            found.append((np.full(len(edges) // 2, episode), edges[::2], edges[1::2] - edges[::2]))
    parts = [np.concatenate(column).astype(np.int64) if found else np.zeros(0, np.int64) for column in zip(*found, strict=True)] or [np.zeros(0, np.int64)] * 3
    order = np.lexsort((parts[1], parts[0]))
    return {name: part[order] for name, part in zip(("segment_episode", "segment_start", "segment_length"), parts, strict=True)}
