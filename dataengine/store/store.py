"""A store as its readers see it: episodes of one version, each on its native clocks or as a trajectory."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

import dataengine.version
from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import Episode, EpisodeInfo
from dataengine.core.errors import AlreadyThere, CorruptStore, EpisodeNotFound, EpisodePurged, NotAStore, UsageError
from dataengine.core.labels import Labels
from dataengine.core.objects import Objects, open_objects
from dataengine.core.trajectory import Trajectory
from dataengine.schema.arrow import index_schema
from dataengine.schema.column_json import features_columns
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.damage import naming_damage
from dataengine.store.label_sets import StoredLabelSet, applying_labels, read_episode_labels, stored_label_sets
from dataengine.store.naming import visible
from dataengine.store.parquet import table_of
from dataengine.store.refs import OPEN, Version, parse_address, read_json, resolve
from dataengine.store.removed import PURGED, purge_sentence, purged_episodes
from dataengine.store.row import Row
from dataengine.store.steps import read_steps
from dataengine.store.stored_streams import read_stream


def create_store(objects: Objects) -> None:
    """Create an empty store unless there is one."""
    if objects.head(layout.STORE) is None:
        document = {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "store_id": uuid.uuid4().hex,
            "created_ns": time.time_ns(),
            "created_by": f"dataengine {dataengine.version.__version__}",
        }
        local = objects.local("")
        if local is not None and local.is_dir() and any(local.iterdir()) and not (local / layout.CATALOG).exists():
            raise UsageError(f"{objects.url}: must be a store or an empty folder, but holds other files; choose another folder")
        if local is not None:
            try:
                local.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{objects.url}: expected a folder that can be made and written to, found: {error.strerror}; choose another") from error
        Catalog(objects).create()  # before store.json: what has one is a whole store, wherever its making was cut off
        with contextlib.suppress(AlreadyThere):
            objects.put_if_absent(layout.STORE, json.dumps(document, indent=1).encode())
    require_store(objects)


def require_store(objects: Objects) -> dict[str, Any]:
    """Return store.json; raise NotAStore."""
    try:
        document = read_json(objects, layout.STORE)
    except FileNotFoundError:
        raise NotAStore(f"{objects.url}: holds no store; expected a folder that `dataengine ingest --store` made") from None
    if document.get("format") != layout.FORMAT or document.get("format_version") != layout.FORMAT_VERSION:
        raise NotAStore(
            f"{objects.url}: expected format {layout.FORMAT!r} version {layout.FORMAT_VERSION}, "
            f"found {document.get('format')!r} version {document.get('format_version')!r}; use a dataengine that knows it"
        )
    return document


class Store:
    """One version of a store, for reading.

    Args:
        objects: the store's root.
        ref: None for the latest version, a number, a tag, or "open" for everything that is committed, also by jobs that still run.
        dataset: leave out all other datasets.
    """

    def __init__(self, objects: Objects, ref: str | None = None, dataset: str | None = None) -> None:
        self.objects = objects
        require_store(objects)
        self.catalog = Catalog(objects)
        self.open = ref == OPEN
        self.version: Version | None = None if self.open else resolve(objects, ref)
        self.dataset = dataset

    @cached_property
    def _rows(self) -> pl.LazyFrame:
        if self.open:
            frame = self.catalog.scan()
        elif self.version is None:
            frame = self.catalog.scan(0)
        else:
            frame = visible(self.catalog.scan(self.version.catalog_version), self.version)
        return frame if self.dataset is None else frame.filter(pl.col("dataset") == self.dataset)

    def rows(self, kind: str) -> pl.LazyFrame:
        """Return the facts of one kind: "episode", "source", "reject" or "label"."""
        return self._rows.filter(pl.col("kind") == kind)

    def episodes(self) -> pl.LazyFrame:
        """Return one row an episode, lazily; columns as in schemas/v1/columns/catalog.yaml."""
        return self.rows("episode")

    def labels(self) -> pl.LazyFrame:
        """Return one row a label, lazily: those of episodes as they stand; labels of an older reading of an episode are left out."""
        return applying_labels(self.rows("label"), self.episodes())

    def label_sets(self) -> dict[str, StoredLabelSet]:
        """Return the label sets that episodes of this version have, by name."""
        return stored_label_sets(self.objects, self.labels())

    def datasets(self) -> list[str]:
        """Return the names of the datasets that hold episodes."""
        return sorted(self.episodes().select("dataset").unique().collect()["dataset"])

    def row(self, episode_id: str) -> Row:
        """Return an episode's row by its id or the unambiguous beginning of one; raise EpisodeNotFound."""
        found = self.episodes().filter(pl.col("episode_id").str.starts_with(episode_id)).head(3).collect()
        exact = found.filter(pl.col("episode_id") == episode_id)
        if exact.height == 1 or (exact.height and exact["dataset"].n_unique() > 1):
            found = exact.head(1)
        if found.height != 1:
            why = "no episode has this id" if not found.height else f"several episodes begin so: {', '.join(found['episode_id'].to_list())} …"
            raise EpisodeNotFound(f"{self.objects.url}: episode {episode_id!r}: {why}; see `dataengine ls`")
        return found.row(0, named=True)

    def columns(self, row: Row) -> dict[str, Column]:
        """Return the columns of an episode by stream name."""
        key = layout.features_key(row["dataset"], row["features"])
        try:
            return features_columns(read_json(self.objects, key), key)
        except FileNotFoundError:
            raise CorruptStore(f"{self.objects.url}/{key}: expected a feature specification, found none; restore it from a copy") from None

    def index(self, row: Row) -> list[Row]:
        """Return where each stream of an episode lies: rows of its shard's index."""
        key = f"{layout.shard_prefix(row['dataset'], row['shard'])}/{layout.INDEX}"
        with naming_damage(self.objects, key, "a shard index"):
            table = table_of(self.objects.get(key)).select(index_schema().names)
            return list(table.filter(np.asarray(table["ordinal"]) == row["ordinal"]).to_pylist())

    @cached_property
    def _purged(self) -> dict[str, dict[str, Any]]:
        return purged_episodes(self.objects)

    def readable_row(self, episode_id: str) -> Row:
        """Return an episode's row; raise EpisodePurged where its content was erased, whatever the version."""
        row = self.row(episode_id)
        self.require_readable(row)
        return row

    def require_readable(self, row: Row) -> None:
        """Raise EpisodePurged where the content of the episode that a row names was erased, whatever the version."""
        document = self._purged.get(row["episode_id"])
        if document is None and PURGED in (row["flags"] or ()):
            document = purged_episodes(self.objects).get(row["episode_id"])
        if document is not None:
            raise EpisodePurged(f"{self.objects.url}: {purge_sentence(row['episode_id'], document)}")

    def read_episode(self, episode_id: str) -> Episode:
        """Return an episode on its native clocks. Numbers are read at once, encoded items and frames when they are asked for."""
        row = self.readable_row(episode_id)
        columns = self.columns(row)
        streams = {
            entry["stream"]: read_stream(
                self.objects, row, entry, columns.get(entry["stream"]) or Column(entry["stream"], kind="text", dtype="bytes", steps=False)
            )
            for entry in self.index(row)
        }
        return Episode(self.episode_info(row, columns, {entry["stream"]: entry["clock"] for entry in self.index(row) if entry["clock"]}), streams)

    def episode_info(self, row: Row, columns: Mapping[str, Column], clocks: Mapping[str, str] | None = None) -> EpisodeInfo:
        """Return what an episode's row says, as a reader said it; `clocks` names the clock of each stream."""
        return EpisodeInfo(
            dataset=row["dataset"],
            columns=columns,
            clock=row["clock"],
            key=row["source_key"] or "",
            stream_clocks=clocks or {},
            start_ns=row["start_ns"] or 0,
            epoch=bool(row["epoch"]),
            rate_hz=row["rate_hz"],
            tasks=tuple(row["tasks"] or ()),
            success=row["success"],
            splits=tuple(row["splits"] or ()),
            embodiment=row["embodiment"],
            origin=row["origin"],
            licence=row["licence"],
            consent=row["consent"],
            parent=row["parent"],
            metadata=json.loads(row["metadata"]) if row["metadata"] else {},
        )

    def read_trajectory(self, episode_id: str) -> Trajectory:
        """Return an episode on its control clock."""
        row = self.readable_row(episode_id)
        return of_row(row, read_steps(self.objects, layout.steps_key(row["dataset"], row["shard"]), row["ordinal"], self.columns(row)))

    def read_labels(self, episode_id: str, label_set: str, columns: Collection[str] | None = None) -> Labels:
        """Return the labels of one set of an episode, a row a step of its trajectory: all columns or those that are named; raise LabelsNotFound."""
        return read_episode_labels(self.objects, self.rows("label"), self.readable_row(episode_id), label_set, columns)

    def read_frames(self, episode_id: str, stream: str, frames: list[int]) -> Array:
        """Return decoded pictures of a camera, (n, H, W, 3) uint8 RGB, whatever form they are stored in."""
        from dataengine.store.pixels import decode_frames

        row = self.readable_row(episode_id)
        entry = next((entry for entry in self.index(row) if entry["stream"] == stream), None)
        if entry is None:
            raise EpisodeNotFound(f"{self.objects.url}: episode {row['episode_id']} has no stream {stream!r}; see `dataengine show`")
        return decode_frames(self.objects, row, entry, frames)


def of_row(row: Row, steps: Trajectory) -> Trajectory:
    """Return a trajectory as a file of steps has it, with what the episode's row says of it: its clock, its rate, and its flags."""
    return replace(steps, clock=row["clock"], rate_hz=row["rate_hz"], flags=tuple(row["flags"] or ()))


def open_store(address: str, storage_options: Mapping[str, str] | None = None) -> Store:
    """Open a store for reading: `STORE`, `STORE@12`, `STORE@tag`, `STORE@open`, with `#dataset` to see only one dataset.

    Args:
        address: a folder of this machine, or `s3://bucket/prefix` and the like.
        storage_options: options of the object store, the same for all parts of a store.

    Raises:
        NotAStore: there is no store at the address.
        VersionNotFound: the version or tag does not exist.
    """
    parsed = parse_address(address)
    return Store(open_objects(parsed.url, storage_options), parsed.ref, parsed.dataset)
