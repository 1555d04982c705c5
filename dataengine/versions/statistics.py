"""Statistics of the numeric columns of a dataset, over the trajectories of one version."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dataengine.core.errors import UsageError
from dataengine.stats.summary import ColumnSummary
from dataengine.store import layout
from dataengine.store.steps import read_steps
from dataengine.store.store import Store


def dataset_statistics(store: Store, dataset: str) -> dict[str, dict[str, Any]]:
    """Return mean, std, min, max and quantiles of each dimension of each numeric column, in order of name.

    Steps without a fresh sample are left out and counted as nulls; so are NaN and infinite values, as `not_finite`.
    """
    rows = store.episodes().filter(pl.col("dataset") == dataset).sort("shard", "ordinal").collect()
    if not rows.height:
        raise UsageError(f"dataset {dataset!r}: holds no episode in this version; datasets: {', '.join(store.datasets()) or 'none'}")
    summaries: dict[str, ColumnSummary] = {}
    dims: dict[str, list[str] | None] = {}
    for row in rows.iter_rows(named=True):
        columns = store.columns(row)
        trajectory = read_steps(store.objects, layout.steps_key(row["dataset"], row["shard"]), row["ordinal"], columns)
        for name, values in trajectory.columns.items():
            if values.dtype.kind not in "biuf":
                continue
            flat = values.reshape(trajectory.steps, -1).astype(np.float64)
            if name not in summaries:
                summaries[name] = ColumnSummary(flat.shape[1])
                column = columns.get(name)
                dims[name] = list(column.dims) if column is not None and column.dims and len(column.dims) == flat.shape[1] else None
            summaries[name].update(flat, trajectory.valid.get(name))
    return {name: summaries[name].result() | {"dims": dims[name]} for name in sorted(summaries)}
