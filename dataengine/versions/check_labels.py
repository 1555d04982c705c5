"""Label sets of a version: one model a set, every label of an episode as it stands, and the payload where the rows say."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from dataengine.core.problem import Problem
from dataengine.store import layout
from dataengine.store.label_sets import stale_labels
from dataengine.store.labels import LabelFile, label_key, parse_label_file, read_label_group
from dataengine.store.row import Row
from dataengine.store.store import Store
from dataengine.versions.check_shards import ShardRows, check_files
from dataengine.versions.finding import UNREADABLE, finding, unreadable

AGAIN = "take the label set out with `dataengine rm --labels` and label the episodes again"
SHOWN = 5


@dataclass(frozen=True)
class LabelShardRows(ShardRows):
    """One shard of labels and the catalog's rows of the labels in it, each with the steps of its episode, null where it is stale."""

    label_set: str = ""

    @property
    def folder(self) -> str:
        """Return the key of the shard's folder."""
        return layout.label_prefix(self.label_set, self.shard)

    @property
    def file(self) -> str:
        """Return the key of the labels."""
        return f"{self.folder}/{layout.LABEL_FILE}"


def check_label_rows(store: Store) -> list[Problem]:
    """Check the rows of labels against each other and against the episodes: one recipe a set, and none of another reading."""
    rows = store.rows("label")
    recipe = pl.col("summary").str.json_path_match("$.recipe")
    kinds = rows.with_columns(recipe=recipe).group_by("label_set").agg(pl.col("model", "trained_on", "recipe").drop_nulls().unique().sort()).collect()
    problems = [
        finding(
            "mixed_label_set", f"{store.catalog.uri}: label set {row['label_set']}: {name}", "one for all labels of a set", ", ".join(row[name][:SHOWN]), AGAIN
        )
        for row in kinds.sort("label_set").iter_rows(named=True)
        for name in ("model", "trained_on", "recipe")
        if len(row[name]) > 1
    ]
    stale = stale_labels(rows, store.episodes()).group_by("label_set", "dataset").agg(pl.len(), pl.col("episode_id").sort().head(SHOWN)).collect()
    for name, dataset, count, ids in stale.sort("label_set", "dataset").iter_rows():
        where = f"{store.objects.url}: label set {name} of dataset {dataset}"
        found = f"{count} of another reading, or of none: {', '.join(ids)}{' …' if count > SHOWN else ''}"
        advice = "they are left out when the set is read; run `dataengine label` again"
        problems.append(finding("stale_labels", where, "labels of episodes as they stand", found, advice, ids[0] if count == 1 else None, "warning"))
    return problems


def label_shards(store: Store, purged: frozenset[str]) -> list[LabelShardRows]:
    """Return the shards of labels that rows of the version point to, stale ones too."""
    steps = store.episodes().select("dataset", "episode_id", "reading", pl.col("steps").alias("episode_steps"))
    columns = ["dataset", "episode_id", "reading", "label_set", "model", "address"]
    rows = store.rows("label").select(columns).join(steps, on=["dataset", "episode_id", "reading"], how="left").collect()
    rows = rows.with_columns(shard=pl.col("address").str.extract(r"^([^/]+)/", 1).fill_null(""))
    keys = ["label_set", "dataset", "shard"]
    return [
        LabelShardRows(store.objects, str(dataset), str(shard), own.sort("address").to_dicts(), purged, str(label_set))
        for (label_set, dataset, shard), own in sorted(rows.group_by(keys), key=lambda entry: str(entry[0]))
    ]


def check_label_shard(shard: LabelShardRows, deep: bool) -> list[Problem]:
    """Check a shard of labels: files, what it says of itself, a row for each step, and with `deep` every byte."""
    problems = check_files(shard, deep)
    where = shard.where(shard.file)
    try:
        with shard.objects.open(shard.file) as handle:
            file = pq.ParquetFile(handle)
            counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            about = parse_label_file(file.schema_arrow, where)
    except FileNotFoundError:
        return problems  # named by the check of the files
    except UNREADABLE as error:
        return [*problems, unreadable(where, "labels", error, AGAIN, shard.only)]
    data = shard.objects.get(shard.file) if deep else b""
    for row in shard.rows:
        problems += _check_row(shard, row, about, counts, data)
    return problems


def _check_row(shard: LabelShardRows, row: Row, about: LabelFile, counts: Sequence[int], data: bytes) -> list[Problem]:
    episode_id, where = str(row["episode_id"]), shard.where(shard.file)
    try:
        _, ordinal = label_key(shard.label_set, str(row["address"]))
    except UNREADABLE as error:
        return [unreadable(where, "the address of a label", error, AGAIN, episode_id)]
    problems = []
    for what, expected, found in (
        ("label_set", row["label_set"], about.label_set.name),
        ("dataset", row["dataset"], about.dataset),
        ("model", row["model"], about.label_set.model),
    ):
        if expected != found:
            problems.append(finding("other_labels", where, f"labels of the {what} {expected}", f"those of {found}", AGAIN, episode_id))
    place = f"{where}: row group {ordinal}"
    rows = f"{counts[ordinal]}" if ordinal < len(counts) else "no such row group"
    if row["episode_steps"] is not None and rows != f"{row['episode_steps']}":
        problems.append(finding("wrong_steps", place, f"{row['episode_steps']} steps", rows, AGAIN, episode_id))
    if data and ordinal < len(counts):
        problems += _check_content(shard, place, ordinal, episode_id, data)
    return problems


def _check_content(shard: LabelShardRows, place: str, ordinal: int, episode_id: str, data: bytes) -> list[Problem]:
    try:
        table: Any = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read_row_group(ordinal, use_threads=False)
        table.validate(full=True)
        steps = table["step"].to_numpy()
        if episode_id not in shard.purged:
            read_label_group(shard.objects, shard.file, ordinal, episode_id)
    except UNREADABLE as error:
        return [unreadable(place, "labels", error, AGAIN, episode_id)]
    if not np.array_equal(steps, np.arange(len(table))):
        return [finding("steps_not_counted", place, "steps 0, 1, 2, …", f"{steps[:5].tolist()} …", AGAIN, episode_id)]
    return []
