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
from dataengine.store.refs import read_json


def dataset_columns(objects: Objects, digests: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Column]]:
    """Return the columns of each dataset: all those of its feature documents, named by digest."""
    found: dict[str, dict[str, Column]] = {}
    for dataset, names in digests.items():
        columns = found.setdefault(dataset, {})
        for name in sorted(names):
            key = layout.features_key(dataset, name)
            for column_name, column in features_columns(read_json(objects, key), key).items():
                columns.setdefault(column_name, column)
    return found


def feature_digests(catalog: Catalog, table: DeltaTable, datasets: Iterable[str]) -> dict[str, set[str]]:
    """Return the digests of the feature documents that the episodes of each dataset name."""
    names = sorted(set(datasets))
    frame = catalog.scan(table=table).filter((pl.col("kind") == "episode") & pl.col("dataset").is_in(names)).select("dataset", "features").unique().collect()
    found: dict[str, set[str]] = {name: set() for name in names}
    for dataset, digest in frame.iter_rows():
        found[dataset].add(digest)
    return found
