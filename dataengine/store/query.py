"""Questions a user asks of the episodes of a store, and their rows as plain values."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from dataengine.core.errors import UsageError
from dataengine.store.row import Row


def where(frame: pl.LazyFrame, condition: str | None) -> pl.LazyFrame:
    """Keep the episodes for which a Polars SQL boolean over their columns holds; raise UsageError where it is not one.

    Example: `success and steps > 100 and array_contains(tasks, 'close the drawer')`.
    """
    if condition is None:
        return frame
    try:
        expression = pl.sql_expr(condition)
        kept = frame.with_columns(duration_s=pl.col("duration_ns") / 1e9).filter(expression).drop("duration_s")
        kept.collect_schema()
        frame.clear().with_columns(duration_s=pl.col("duration_ns") / 1e9).filter(expression).collect()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        names = ", ".join(name for name in frame.collect_schema().names() if name not in ("kind", "fact"))
        first = str(error).strip().split("\n")[0].split("; valid columns")[0]
        raise UsageError(f"--where {condition!r}: must be an SQL condition over episode columns, got: {first}; columns: {names}, duration_s") from None
    return kept


def plain(row: Row) -> dict[str, Any]:
    """Return an episode's row as JSON-able values: figures by name, metadata parsed, the duration in seconds."""
    figures = {entry["name"]: entry["value"] for entry in row.get("figures") or ()}
    metadata = json.loads(row["metadata"]) if row.get("metadata") else {}
    duration_ns = row.get("duration_ns")
    leave_out = {
        "kind",
        "fact",
        "figures",
        "metadata",
        "label_set",
        "model",
        "trained_on",
        "address",
        "summary",
        "check",
        "where",
        "expected",
        "found",
        "advice",
    }
    content = {key: value for key, value in row.items() if key not in leave_out}
    return content | {"duration_s": duration_ns / 1e9 if duration_ns is not None else None, "figures": figures, "metadata": metadata}
