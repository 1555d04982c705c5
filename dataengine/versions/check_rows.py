"""The rows of the catalog against the columns of the format, all of them in a few passes."""

from __future__ import annotations

import json

import google_crc32c
import polars as pl

from dataengine.core.problem import Problem
from dataengine.schema.tables import catalog_columns, table
from dataengine.store.parquet import table_of
from dataengine.store.store import Store
from dataengine.versions.checksums import known_checksums
from dataengine.versions.finding import UNREADABLE, finding, unreadable
from dataengine.versions.table_files import table_files

EXAMPLES = 5
FAULTY = "restore the catalog from a copy, or remove the episode and ingest its source again"
DIGEST = r"^[0-9a-f]{32}$"
SLUG = r"^[a-z0-9][a-z0-9._-]{0,99}$"
ORIGINS = ["teleop", "policy", "human_video", "simulation", "world_model"]
CLOCKS = ["measured", "nominal", "unknown"]

# What must hold in a row of each kind beyond types and nulls: name, condition, words. A condition that is null holds.
RULES: dict[str, list[tuple[str, pl.Expr, str]]] = {
    "episode": [
        ("episode_id", pl.col("episode_id").str.contains(DIGEST) & (pl.col("episode_id") == pl.col("fact")), "32 hex digits, the same as the fact"),
        ("reading", pl.col("reading").str.contains(DIGEST), "32 hex digits"),
        ("features", pl.col("features").str.contains(DIGEST), "32 hex digits"),
        ("origin", pl.col("origin").is_in(ORIGINS), f"one of {', '.join(ORIGINS)}"),
        ("clock", pl.col("clock").is_in(CLOCKS), f"one of {', '.join(CLOCKS)}"),
        ("steps", pl.col("steps") >= 0, "0 or more"),
        ("ordinal", pl.col("ordinal") >= 0, "0 or more"),
        ("bytes", pl.col("bytes") >= 0, "0 or more"),
        ("duration_ns", pl.col("duration_ns") >= 0, "0 or more"),
        ("rate_hz", pl.col("rate_hz") > 0, "more than 0"),
    ],
    "source": [
        ("reading", pl.col("reading").str.contains(DIGEST), "32 hex digits"),
        ("recordings", pl.col("recordings") == pl.col("episode_ids").list.len() + pl.col("rejected"), "as many as episode_ids and rejected together"),
    ],
    "label": [
        ("episode_id", pl.col("episode_id").str.contains(DIGEST), "32 hex digits"),
        ("reading", pl.col("reading").str.contains(DIGEST), "32 hex digits"),
        ("model", pl.col("model").str.contains(DIGEST), "32 hex digits"),
        ("label_set", pl.col("label_set").str.contains(SLUG), "a slug"),
        ("address", pl.col("address").str.contains(r"^[^/]+/[0-9]+$"), "<shard>/<row group>"),
    ],
    "reject": [],
}


def check_data_files(store: Store, deep: bool) -> list[Problem]:
    """Check every data file that the version's table consists of: its size by the log, that it can be read, and with `deep` its checksum."""
    files, newest = table_files(store.objects)
    at = newest if store.version is None else store.version.catalog_version
    checksums = known_checksums(store.objects) if deep else {}
    problems = []
    for file in files:
        if not file.used_at(at):
            continue
        where = f"{store.objects.url}/{file.key}"
        try:
            data = store.objects.get(file.key)
            if len(data) != file.size:
                problems.append(finding("wrong_size", where, f"{file.size} bytes as the log says", f"{len(data)}"))
            crc = f"{google_crc32c.value(data):08x}"
            if checksums.get(file.key, crc) != crc:
                problems.append(finding("wrong_checksum", where, f"crc32c {checksums[file.key]}", crc))
            table_of(data).validate(full=True)
        except UNREADABLE as error:
            problems.append(unreadable(where, "a data file of the catalog", error))
    return problems


def check_counts(store: Store) -> list[Problem]:
    """Check that the version has as many episodes and steps as it had when it was named."""
    if store.version is None or store.dataset is not None:
        return []
    totals = store.episodes().select(pl.len().cast(pl.Int64).alias("episodes"), pl.col("steps").sum()).collect().row(0, named=True)
    where = f"{store.objects.url}@{store.version.number}"
    return [
        finding(
            "wrong_count",
            where,
            f"{store.version.counts[name]} {name} as the version says",
            f"{totals[name] or 0}",
            "restore the catalog and its log from a copy",
        )
        for name in ("episodes", "steps")
        if (totals[name] or 0) != store.version.counts[name]
    ]


def check_rows(store: Store) -> list[Problem]:
    """Check every row of the version: nulls where the kind demands or forbids them, names that stand twice, values out of range."""
    problems: list[Problem] = []
    for kind in table("catalog").kinds:
        rules = [(column.name, pl.col(column.name).is_not_null(), "a value") for column in catalog_columns() if kind in column.required]
        rules += [(column.name, pl.col(column.name).is_null(), "null") for column in catalog_columns() if kind not in column.kinds]
        rules += RULES[kind]
        rows = store.rows(kind)
        counts = rows.select(*((~rule.fill_null(True)).sum().alias(str(number)) for number, (_, rule, _) in enumerate(rules))).collect().row(0)
        for count, (name, rule, expected) in zip(counts, rules, strict=True):
            if count:
                problems += _faulty(store, rows, kind, int(count), name, rule, expected)
        problems += _repeated(store, rows, kind)
    return problems


def _faulty(store: Store, rows: pl.LazyFrame, kind: str, count: int, name: str, rule: pl.Expr, expected: str) -> list[Problem]:
    shown = rows.filter(~rule.fill_null(True)).select("dataset", "fact", "episode_id", name).head(EXAMPLES).collect()
    more = f" (one of {count} such rows)" if count > EXAMPLES else ""
    return [
        finding(
            "invalid_row", f"{store.catalog.uri}: {kind} {row['fact']} of {row['dataset']}: {name}", expected, f"{row[name]!r}{more}", FAULTY, row["episode_id"]
        )
        for row in shown.iter_rows(named=True)
    ]


def _repeated(store: Store, rows: pl.LazyFrame, kind: str) -> list[Problem]:
    twice = rows.group_by("dataset", "fact").len().filter(pl.col("len") > 1).head(EXAMPLES).collect()
    return [
        finding("row_twice", f"{store.catalog.uri}: {kind} {fact} of {dataset}", "one row", f"{count}", FAULTY, fact if kind == "episode" else None)
        for dataset, fact, count in twice.iter_rows()
    ]


def check_metadata(store: Store) -> list[Problem]:
    """Check that what should be JSON in the rows of episodes is JSON."""
    problems = []
    for dataset, episode_id, text in (
        store.episodes().filter(pl.col("metadata").is_not_null()).select("dataset", "episode_id", "metadata").collect().iter_rows()
    ):
        try:
            json.loads(text)
        except ValueError as error:
            problems.append(unreadable(f"{store.catalog.uri}: episode {episode_id} of {dataset}: metadata", "JSON", error, FAULTY, episode_id))
    return problems
