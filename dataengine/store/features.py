"""The columns of the datasets of a store: what the feature documents say that its episodes name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl
from deltalake import DeltaTable

from dataengine.core.column import Column
from dataengine.core.objects import Objects
from dataengine.schema.column_json import features_columns
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.landing import add_columns
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
