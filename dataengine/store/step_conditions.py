"""Conditions over the steps of trajectories: which steps of which episode they hold for."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.objects import Objects
from dataengine.store.damage import naming_damage


def step_condition(text: str) -> pl.Expr:
    """Return an SQL condition over step columns as an expression; raise UsageError where it is none.

    Example: `reward > 0 and "observation.state"[1] < 0.5`; steps at which a column that it names is null do not count.
    """
    try:
        return pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"where_steps {text!r}: must be an SQL condition over step columns, got: {str(error).splitlines()[0]}") from None


def kept_steps(objects: Objects, key: str, condition: pl.Expr, text: str) -> list[Array]:
    """Return for each episode of a steps file, in order, the steps for which a condition holds, (T,) bool; only columns that it names are read."""
    local = objects.local(key)
    with naming_damage(objects, key, "trajectories"):
        source = local if local is not None else io.BytesIO(objects.get(key))
        metadata = pq.read_metadata(source)
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        names = metadata.schema.to_arrow_schema().names
        if local is None:
            source.seek(0)  # type: ignore[union-attr]
        try:
            kept = pl.scan_parquet(source).select(condition.fill_null(False).alias("kept")).collect()["kept"]
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            said = str(error).strip().split("\n")[0].split("; valid columns")[0]
            raise UsageError(f"where_steps {text!r}: must be an SQL condition over step columns, got: {said}; columns: {', '.join(names)}") from None
    if kept.dtype != pl.Boolean or len(kept) != sum(counts):
        raise UsageError(f"where_steps {text!r}: must say true or false of each step, got {kept.dtype} for {len(kept)} of {sum(counts)} steps")
    return np.split(kept.to_numpy(), np.cumsum(counts)[:-1]) if counts else []
