"""Statistics of the numeric columns of a dataset, over the trajectories of one version; kept with the version, so that the steps are read once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import polars as pl

from dataengine.core.column_statistics import ColumnStatistics, column_statistics
from dataengine.core.digest import digest_json
from dataengine.core.errors import AlreadyThere, CorruptStore, StoreError, UnknownName, UsageError
from dataengine.core.names import require_slug
from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.query import where
from dataengine.store.removed import PURGED, removals
from dataengine.store.store import Store
from dataengine.transforms.horizon import Horizon
from dataengine.versions.statistics_parts import StatisticsPart, merged, summarise

METHOD = 1  # raised whenever the same steps would give other numbers, so that what was kept is not taken for them
Grouping = Literal["embodiment", "control_mode"]
GROUPINGS: tuple[Grouping, ...] = ("embodiment", "control_mode")

# What could not be written into the store, by the open store: gone with it.
_IN_MEMORY: WeakKeyDictionary[Store, dict[str, dict[str, Any]]] = WeakKeyDictionary()


def dataset_statistics(store: Store, dataset: str, condition: str | None = None, horizon: Horizon | None = None) -> dict[str, Any]:
    """Return the statistics of a dataset, as the document below `statistics/` holds them (schemas/v1/statistics.schema.json).

    They are read where the version has them and computed, then kept, where it has not: in the store, or in memory where that cannot be written to.
    Steps without a fresh sample are left out and counted as nulls; so are NaN and infinite values, as `not_finite`. Episodes that were purged are left out.

    Args:
        store: one version of a store; of what is not a version yet ("open") nothing is kept.
        dataset: its name.
        condition: which episodes, a Polars SQL boolean over their columns.
        horizon: statistics of each entry of windows of one column instead of every column.

    Raises:
        UsageError: no episode is there, the condition is none, or the column cannot be made relative.
        MissingFact: a rotation is to be made relative, and the column does not say how it is written.
        CorruptStore: the kept document is not one.
    """
    require_slug("dataset", dataset)
    if store.version is None:
        return _compute(store, dataset, condition, horizon, _purged(store.objects, dataset))
    while True:
        purged = _purged(store.objects, dataset)
        settings = _settings(condition, horizon, purged)
        key = layout.statistics_key(store.version.number, dataset, digest_json(settings))
        kept = _IN_MEMORY.get(store, {}).get(key) or _read(store.objects, key)
        if kept is not None:
            return kept
        document = _compute(store, dataset, condition, horizon, purged)
        try:
            store.objects.put_if_absent(key, _text(document))
        except AlreadyThere:
            pass  # another process was faster, with the same content
        except (OSError, StoreError):
            _IN_MEMORY.setdefault(store, {})[key] = document
        if _purged(store.objects, dataset) == purged:
            return document
        store.objects.delete([key])  # consent was withdrawn while the steps were read: nothing of it may stay


def _settings(condition: str | None, horizon: Horizon | None, purged: list[str]) -> dict[str, Any]:
    return {"method": METHOD, "where": condition, "horizon": horizon.as_dict() if horizon is not None else None, "purged": purged}


def _purged(objects: Objects, dataset: str) -> list[str]:
    """Return the purged episodes that a dataset held."""
    found: set[str] = set()
    for document in removals(objects):
        if document.get("kind") == "purge" and any(folder.split("/")[:2] == [layout.STREAMS, dataset] for folder in document["shards"]):
            found.update(document["episodes"])
    return sorted(found)


def _text(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _read(objects: Objects, key: str) -> dict[str, Any] | None:
    try:
        document = json.loads(objects.get(key))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"settings", "parts", "merged"} <= set(document):
        raise CorruptStore(f"{objects.url}/{key}: expected a document of statistics, found something else; remove it: it is computed anew when it is asked for")
    return document


def _compute(store: Store, dataset: str, condition: str | None, horizon: Horizon | None, purged: list[str]) -> dict[str, Any]:
    episodes = store.episodes().filter(pl.col("dataset") == dataset)
    held = ~pl.col("episode_id").is_in(purged) & ~pl.col("flags").fill_null([]).list.contains(PURGED)
    columns = ["dataset", "episode_id", "embodiment", "features", "shard", "ordinal"]
    rows = where(episodes, condition).filter(held).select(columns).collect()
    if not rows.height:
        if store.episodes().filter(pl.col("dataset") == dataset).head(1).collect().height:
            raise UsageError(f"dataset {dataset!r}: holds no episode" + (f" for which {condition} holds" if condition else " that was not purged"))
        raise UsageError(f"dataset {dataset!r}: holds no episode in this version; datasets: {', '.join(store.datasets()) or 'none'}")
    parts = summarise(store, rows, horizon)
    groups = sorted({tuple(chosen) for by in (None, *GROUPINGS) for chosen in _groups([_key(part) for part in parts], by).values() if len(chosen) > 1})
    together = [{"parts": list(group), **_entry(merged(parts[index] for index in group))} for group in groups]
    document = {
        "version": store.version.number if store.version is not None else None,
        "dataset": dataset,
        "settings": _settings(condition, horizon, purged),
        "parts": [_key(part) | _entry(part) for part in parts],
        "merged": together,
    }
    return cast(dict[str, Any], json.loads(_text(document)))  # what a reader of the kept document gets


def _key(part: StatisticsPart) -> dict[str, Any]:
    return {"embodiment": part.embodiment, "control_mode": part.control_mode}


def _entry(part: StatisticsPart) -> dict[str, Any]:
    return {"episodes": part.episodes, "steps": part.steps, "columns": part.columns(), "left_out": part.left_out}


def _groups(parts: list[dict[str, Any]], by: Grouping | None) -> dict[str | None, list[int]]:
    """Return which parts are in which group."""
    found: dict[str | None, list[int]] = {}
    for index, part in enumerate(parts):
        found.setdefault(part[by] if by is not None else None, []).append(index)
    return found


def grouped(document: Mapping[str, Any], by: Grouping | None = None) -> list[dict[str, Any]]:
    """Return the groups of a document of statistics: of all episodes together, or of each embodiment or control mode.

    Each has `episodes`, `steps`, `columns` and `left_out` as the document's parts have them, and the name of what is common under `by`.

    Raises:
        UnknownName: `by` is no grouping.
    """
    if by is not None and by not in GROUPINGS:
        raise UnknownName("grouping", by, GROUPINGS)
    entries = {tuple(entry["parts"]): entry for entry in document["merged"]}
    entries.update({(index,): part for index, part in enumerate(document["parts"])})
    found = []
    for name, chosen in _groups(document["parts"], by).items():
        entry = entries[tuple(chosen)]
        found.append(({by: name} if by is not None else {}) | {key: entry[key] for key in ("episodes", "steps", "columns", "left_out")})
    return found


def columns_of(document: Mapping[str, Any], embodiment: str | None = None, control_mode: str | None = None) -> dict[str, ColumnStatistics]:
    """Return the statistics of each column: of all episodes, of those of one embodiment, of one control mode, or of one under one.

    Raises:
        UnknownName: the document has no such embodiment or control mode.
    """
    if embodiment is not None and control_mode is not None:
        entries = [part for part in document["parts"] if (part["embodiment"], part["control_mode"]) == (embodiment, control_mode)]
        name, known = f"{embodiment} under {control_mode}", [f"{part['embodiment']} under {part['control_mode']}" for part in document["parts"]]
    elif embodiment is None and control_mode is None:
        entries, name, known = grouped(document), "", []
    else:
        by: Grouping = "embodiment" if embodiment is not None else "control_mode"
        wanted = embodiment if embodiment is not None else control_mode
        entries = [entry for entry in grouped(document, by) if entry[by] == wanted]
        name, known = str(wanted), [str(entry[by]) for entry in grouped(document, by)]
    if not entries:
        raise UnknownName("embodiment or control mode", name, known)
    return {column: column_statistics(entry) for column, entry in entries[0]["columns"].items()}
