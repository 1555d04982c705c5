"""Labels of a version: which sets there are, and the labels of an episode, joined to it when they are read."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from dataengine.core.column import Column
from dataengine.core.errors import LabelsNotFound
from dataengine.core.labels import Labels, LabelSet
from dataengine.core.objects import Objects
from dataengine.store.labels import describe_labels, label_key, read_label_group
from dataengine.store.row import Row

JOINED = ("dataset", "episode_id", "reading")


@dataclass(frozen=True)
class StoredLabelSet:
    """A label set of a version: what made it, how many episodes of each dataset have labels of it, and what its columns mean, by dataset."""

    label_set: LabelSet
    episodes: Mapping[str, int]
    columns: Mapping[str, Mapping[str, Column]]


def applying_labels(labels: pl.LazyFrame, episodes: pl.LazyFrame) -> pl.LazyFrame:
    """Return those label rows that are of an episode as it stands: of the same dataset and reading."""
    return labels.join(episodes.select(JOINED), on=JOINED, how="semi")


def stale_labels(labels: pl.LazyFrame, episodes: pl.LazyFrame) -> pl.LazyFrame:
    """Return those label rows that apply to no episode as it stands."""
    return labels.join(episodes.select(JOINED), on=JOINED, how="anti")


def stored_label_sets(objects: Objects, labels: pl.LazyFrame) -> dict[str, StoredLabelSet]:
    """Return the label sets that rows belong to, by name; reads one file's description for each set and dataset."""
    counted = labels.group_by("label_set", "dataset").agg(pl.len().alias("episodes"), pl.col("address").min()).sort("label_set", "dataset").collect()
    found: dict[str, StoredLabelSet] = {}
    for name, dataset, episodes, address in counted.iter_rows():
        about = describe_labels(objects, label_key(name, address)[0])
        before = found.get(name)
        found[name] = StoredLabelSet(
            about.label_set,
            {**(before.episodes if before else {}), dataset: episodes},
            {**(before.columns if before else {}), dataset: about.columns},
        )
    return found


def label_facts(labels: pl.LazyFrame, row: Row) -> list[dict[str, Any]]:
    """Return what the label rows of an episode say in short, by name of the set; `stale` where they are of another reading of it."""
    own = labels.filter((pl.col("dataset") == row["dataset"]) & (pl.col("episode_id") == row["episode_id"]))
    facts = []
    for label in own.sort("label_set").collect().iter_rows(named=True):
        summary = json.loads(label["summary"]) if label["summary"] else {}
        facts.append(
            {
                "label_set": label["label_set"],
                "model": label["model"],
                "trained_on": label["trained_on"],
                "recipe": summary.get("recipe"),
                "read": summary.get("read"),
                "columns": summary.get("columns", {}),
                "stale": label["reading"] != row["reading"],
            }
        )
    return facts


def read_episode_labels(objects: Objects, labels: pl.LazyFrame, row: Row, label_set: str, columns: Collection[str] | None) -> Labels:
    """Return the labels of one set of the episode that a catalog row names.

    Raises:
        LabelsNotFound: the episode has none of that set, or only of an older reading.
    """
    own = labels.filter((pl.col("dataset") == row["dataset"]) & (pl.col("episode_id") == row["episode_id"])).select("label_set", "reading", "address").collect()
    where = f"{objects.url}: episode {row['episode_id']}"
    found = own.filter(pl.col("label_set") == label_set)
    if not found.height:
        names = ", ".join(sorted(own["label_set"].to_list())) or "none"
        raise LabelsNotFound(f"{where}: has no labels of the set {label_set!r}; its label sets: {names}")
    if found["reading"][0] != row["reading"]:
        raise LabelsNotFound(f"{where}: labels of the set {label_set!r} are of an older reading of it; label it again")
    key, ordinal = label_key(label_set, str(found["address"][0]))
    return read_label_group(objects, key, ordinal, row["episode_id"], columns)
