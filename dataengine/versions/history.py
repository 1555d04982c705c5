"""What versions a store has, and what differs between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from dataengine.core.column import Column
from dataengine.core.objects import Objects
from dataengine.schema.column_json import column_to_json
from dataengine.store.features import dataset_columns
from dataengine.store.refs import Version, read_version, tags, version_numbers
from dataengine.store.store import Store

COMPARED = ("reading", "splits", "flags", "tasks", "success", "embodiment", "licence", "consent", "features")
LISTS = ("splits", "flags", "tasks")
REJECT = ("source_uri", "source_key", "check", "where", "expected", "found", "advice")


@dataclass(frozen=True)
class LogEntry:
    """One version and the tags that name it."""

    version: Version
    tags: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the version's fields and its tags."""
        return self.version.as_dict() | {"tags": list(self.tags)}


def log(objects: Objects) -> list[LogEntry]:
    """Return all versions with their tags, newest first."""
    names: dict[int, list[str]] = {}
    for tag, number in sorted(tags(objects).items()):
        names.setdefault(number, []).append(tag)
    return [LogEntry(read_version(objects, number), tuple(names.get(number, ()))) for number in reversed(version_numbers(objects))]


@dataclass(frozen=True)
class ChangedEpisode:
    """An episode that is in both versions with other facts: for each field that differs what it was and what it is."""

    dataset: str
    episode_id: str
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class DatasetDiff:
    """One dataset in two versions: (before, after) counts, and how its features differ, by column."""

    episodes: tuple[int, int]
    steps: tuple[int, int]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelDiff:
    """A label set of one dataset in two versions: (before, after) counts of episodes that have labels of it, and how many labels are new, gone or made anew."""

    episodes: tuple[int, int]
    added: int
    removed: int
    changed: int


@dataclass(frozen=True)
class Diff:
    """What version `b` has otherwise than version `a`; episodes as (dataset, episode_id), rejects as their fields, labels by (dataset, label set) where they differ."""

    a: int | None
    b: int | None
    added: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]
    changed: tuple[ChangedEpisode, ...]
    datasets: Mapping[str, DatasetDiff]
    rejects_added: tuple[Mapping[str, Any], ...]
    rejects_removed: tuple[Mapping[str, Any], ...]
    labels: Mapping[tuple[str, str], LabelDiff] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Return whether nothing differs."""
        same = all(entry.episodes[0] == entry.episodes[1] and not entry.columns for entry in self.datasets.values())
        return same and not (self.labels or self.added or self.removed or self.changed or self.rejects_added or self.rejects_removed)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "a": self.a,
            "b": self.b,
            "added": [{"dataset": dataset, "episode_id": episode_id} for dataset, episode_id in self.added],
            "removed": [{"dataset": dataset, "episode_id": episode_id} for dataset, episode_id in self.removed],
            "changed": [
                {
                    "dataset": entry.dataset,
                    "episode_id": entry.episode_id,
                    "fields": {name: {"a": before, "b": after} for name, (before, after) in entry.fields.items()},
                }
                for entry in self.changed
            ],
            "datasets": {
                name: {
                    "episodes": {"a": entry.episodes[0], "b": entry.episodes[1]},
                    "steps": {"a": entry.steps[0], "b": entry.steps[1]},
                    "columns": dict(entry.columns),
                }
                for name, entry in self.datasets.items()
            },
            "labels": [
                {
                    "dataset": dataset,
                    "label_set": label_set,
                    "episodes": {"a": entry.episodes[0], "b": entry.episodes[1]},
                    "added": entry.added,
                    "removed": entry.removed,
                    "changed": entry.changed,
                }
                for (dataset, label_set), entry in self.labels.items()
            ],
            "rejects": {"added": [dict(row) for row in self.rejects_added], "removed": [dict(row) for row in self.rejects_removed]},
        }


def diff(a: Store, b: Store) -> Diff:
    """Compare two versions of a store (or two stores): what `b` has otherwise than `a`."""
    before, after = (_episodes(store) for store in (a, b))
    keys = ["dataset", "episode_id"]
    added = after.join(before, on=keys, how="anti").select(keys).sort(keys)
    removed = before.join(after, on=keys, how="anti").select(keys).sort(keys)
    rejects_before, rejects_after = (store.rows("reject").select("dataset", "fact", *REJECT).collect() for store in (a, b))
    return Diff(
        a.version.number if a.version is not None else None,
        b.version.number if b.version is not None else None,
        tuple((str(dataset), str(episode_id)) for dataset, episode_id in added.iter_rows()),
        tuple((str(dataset), str(episode_id)) for dataset, episode_id in removed.iter_rows()),
        _changed(before, after),
        _datasets(a, b, before, after),
        _without(rejects_after, rejects_before),
        _without(rejects_before, rejects_after),
        _labels(a, b),
    )


def _episodes(store: Store) -> pl.DataFrame:
    return store.episodes().select("dataset", "episode_id", "steps", *COMPARED).unique(["dataset", "episode_id"]).collect()


def _labels(a: Store, b: Store) -> dict[tuple[str, str], LabelDiff]:
    """Return what differs between the labels of two versions; a label whose address is another was made anew."""
    before, after = (store.labels().select("dataset", "label_set", "episode_id", "address").collect() for store in (a, b))
    both = before.join(after, on=["dataset", "label_set", "episode_id"], how="full", coalesce=True, suffix=":after")
    was, now = pl.col("address").is_not_null(), pl.col("address:after").is_not_null()
    counts = both.group_by("dataset", "label_set").agg(
        was.sum().alias("a"),
        now.sum().alias("b"),
        (now & ~was).sum().alias("added"),
        (was & ~now).sum().alias("removed"),
        (was & now & (pl.col("address") != pl.col("address:after"))).sum().alias("changed"),
    )
    return {
        (row["dataset"], row["label_set"]): LabelDiff((row["a"], row["b"]), row["added"], row["removed"], row["changed"])
        for row in counts.sort("dataset", "label_set").iter_rows(named=True)
        if row["added"] or row["removed"] or row["changed"]
    }


def _comparable(name: str, column: pl.Expr) -> pl.Expr:
    """Return a column in a form in which null equals null and lists compare by content, in any order where order says nothing."""
    if name not in LISTS:
        return column
    ordered = column if name == "tasks" else column.list.sort()
    return ordered.list.join("\x1f").fill_null("")


def _changed(before: pl.DataFrame, after: pl.DataFrame) -> tuple[ChangedEpisode, ...]:
    both = before.join(after, on=["dataset", "episode_id"], suffix=":after")
    differs = {name: _comparable(name, pl.col(name)).ne_missing(_comparable(name, pl.col(f"{name}:after"))) for name in COMPARED}
    marked = both.with_columns(**{f"{name}:differs": differs[name] for name in COMPARED})
    rows = marked.filter(pl.any_horizontal(f"{name}:differs" for name in COMPARED)).sort("dataset", "episode_id")
    return tuple(
        ChangedEpisode(row["dataset"], row["episode_id"], {name: (row[name], row[f"{name}:after"]) for name in COMPARED if row[f"{name}:differs"]})
        for row in rows.iter_rows(named=True)
    )


def _without(rows: pl.DataFrame, others: pl.DataFrame) -> tuple[Mapping[str, Any], ...]:
    left = rows.join(others, on=["dataset", "fact"], how="anti").drop("fact").sort("dataset", "source_uri", "source_key")
    return tuple(left.iter_rows(named=True))


def _datasets(a: Store, b: Store, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, DatasetDiff]:
    counts = [
        {str(name): (int(episodes), int(steps)) for name, episodes, steps in frame.group_by("dataset").agg(pl.len(), pl.col("steps").sum()).iter_rows()}
        for frame in (before, after)
    ]
    columns = [_columns(store, frame) for store, frame in ((a, before), (b, after))]
    found = {}
    for name in sorted({*counts[0], *counts[1]}):
        (episodes_a, steps_a), (episodes_b, steps_b) = (count.get(name, (0, 0)) for count in counts)
        found[name] = DatasetDiff((episodes_a, episodes_b), (steps_a, steps_b), _column_differences(columns[0].get(name, {}), columns[1].get(name, {})))
    return found


def _columns(store: Store, episodes: pl.DataFrame) -> dict[str, dict[str, Column]]:
    digests: dict[str, set[str]] = {}
    for dataset, digest in episodes.select("dataset", "features").unique().iter_rows():
        digests.setdefault(dataset, set()).add(digest)
    return dataset_columns(store.objects, digests)


def _column_differences(before: Mapping[str, Column], after: Mapping[str, Column]) -> dict[str, str]:
    """Return "added", "removed", or the fields that differ, by column; a dataset that is new or gone as a whole has none."""
    if not before or not after:
        return {}
    found = {}
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            found[name] = "added" if name in after else "removed"
        elif before[name] != after[name]:
            old, new = column_to_json(before[name]), column_to_json(after[name])
            fields = [field_name for field_name in sorted({*old, *new}) if old.get(field_name) != new.get(field_name)]
            found[name] = "changed: " + ", ".join(f"{field_name} {old.get(field_name)!r} is now {new.get(field_name)!r}" for field_name in fields)
    return found
