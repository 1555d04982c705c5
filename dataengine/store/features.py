"""The columns of the datasets of a store: what the feature documents say that its episodes name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl
from deltalake import DeltaTable

from dataengine.core.column import Column
from dataengine.core.errors import BadRecording
from dataengine.core.objects import Objects
from dataengine.schema.column_json import features_columns
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.refs import read_json


def dataset_columns(objects: Objects, digests: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Column]]:
    """Return the columns of each dataset: all those of its feature documents, named by digest."""
    found: dict[str, dict[str, Column]] = {}
    for dataset, names in digests.items():
        columns = found.setdefault(dataset, {})
        for name in sorted(names):
            key = layout.features_key(dataset, name)
            add_columns(columns, features_columns(read_json(objects, key), key))
    return found


def feature_digests(catalog: Catalog, table: DeltaTable, datasets: Iterable[str], without: Iterable[str] = ()) -> dict[str, set[str]]:
    """Return the digests of the feature documents that the episodes of each dataset name.

    Episodes in `without` do not count: a new reading, which may lay a column out otherwise, is about to take their place.
    """
    names = sorted(set(datasets))
    counted = (pl.col("kind") == "episode") & pl.col("dataset").is_in(names) & ~pl.col("fact").is_in(sorted(set(without)))
    frame = catalog.scan(table=table).filter(counted).select("dataset", "features").unique().collect()
    found: dict[str, set[str]] = {name: set() for name in names}
    for dataset, digest in frame.iter_rows():
        found[dataset].add(digest)
    return found


def dataset_privacy(catalog: Catalog, datasets: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return for each dataset what its episodes were freed of when they landed ("blur_faces", "scrub"), as its feature documents say."""
    found = {}
    for dataset, digests in feature_digests(catalog, catalog.table(), datasets).items():
        records = [read_json(catalog.objects, layout.features_key(dataset, digest)).get("privacy") or {} for digest in sorted(digests)]
        found[dataset] = frozenset(name for record in records for name, done in record.items() if done)
    return found


def column_conflict(known: Column, new: Column) -> str | None:
    """Return how a column differs from the one its dataset has, None where both may stand in one dataset."""
    if known.kind != new.kind:
        return f"kind {new.kind} where the dataset has {known.kind}"
    if known.kind == "numeric" and known.dtype != new.dtype:
        return f"dtype {new.dtype} where the dataset has {known.dtype}"
    if known.kind == "numeric" and known.steps and new.steps and known.shape != new.shape:
        return f"shape {list(new.shape)} where the dataset has {list(known.shape)}"
    return None


def add_columns(known: dict[str, Column], columns: Mapping[str, Column]) -> None:
    """Add an episode's columns to those of its dataset; one that stands in trajectories says more than one of its name that does not."""
    for name, column in columns.items():
        if name not in known or (column.steps and not known[name].steps):
            known[name] = column


def features_conflict(dataset: str, known: Mapping[str, Column], columns: Mapping[str, Column], key: str) -> BadRecording | None:
    """Return the rejection of an episode whose features contradict its dataset's, None where they go together."""
    differences = [(name, column_conflict(known[name], column)) for name, column in columns.items() if name in known]
    named = [f"{name}: {difference}" for name, difference in differences if difference is not None]
    if not named:
        return None
    return BadRecording(
        key or "recording",
        f"the features of dataset {dataset!r}",
        "; ".join(named[:5]) + (f"; and {len(named) - 5} more" if len(named) > 5 else ""),
        "ingest it into a dataset of its own with --dataset",
        check="other_features",
    )
