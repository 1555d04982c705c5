"""Verdicts on label sets: whether labels help a policy, as it was measured; kept beside them, immutable, for as long as the store is.

A verdict is on the labels that a version shows, by one model with one set of parameters: one on other labels that had the name before does not apply to these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.core.errors import AlreadyThere, CorruptStore, UsageError
from dataengine.core.objects import Objects
from dataengine.schema.schema import validate
from dataengine.store import layout
from dataengine.store.refs import read_json, who
from dataengine.store.store import Store

SHORT = ("label_set", "version", "recipe", "column", "verdict", "reason", "gain_recovered", "shuffled_gain", "created_ns", "created_by")


def put_verdict(objects: Objects, document: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a verdict, with the time and the person; return it as it is kept, which is the one that was there before where the same settings were judged already.

    Raises:
        UsageError: the store has no such version.
        ValueError: the document is not what its schema says.
    """
    whole = {**document, "created_ns": time.time_ns(), "created_by": who()}
    faults = validate("verdict", whole)
    if faults:
        raise ValueError(f"verdict: must be as its schema says: {faults[0]}")
    if objects.head(layout.version_key(whole["version"])) is None:
        raise UsageError(f"{objects.url}: has no version {whole['version']} for a verdict to be on")
    key = layout.verdict_key(whole["label_set"], whole["version"], digest_json(whole["settings"]))
    try:
        objects.put_if_absent(key, json.dumps(whole, indent=1, sort_keys=True, allow_nan=False).encode())
    except AlreadyThere:
        return _read(objects, key)
    return whole


def _read(objects: Objects, key: str) -> dict[str, Any]:
    document = read_json(objects, key)
    if not {"label_set", "version", "recipe", "settings", "verdict"} <= set(document):
        raise CorruptStore(f"{objects.url}/{key}: expected a verdict on a label set, found something else; restore it from a copy")
    return document


def read_verdicts(store: Store, label_set: str | None = None, recipe: str | None = None) -> list[dict[str, Any]]:
    """Return the verdicts on what a version of a store shows or an older one showed, the newest first.

    Args:
        store: a version; those on later versions are left out. All of them for "open".
        label_set: only those on this set.
        recipe: only those on labels of this recipe (see `LabelSet.recipe`): of this model with these parameters.
    """
    top = layout.VERDICTS if label_set is None else f"{layout.VERDICTS}/{label_set}"
    last = None if store.open else store.version.number if store.version is not None else 0
    found = []
    for meta in store.objects.list(top):
        parts = meta.key.split("/")
        if len(parts) != 4 or not parts[3].endswith(".json") or not parts[2].isdecimal() or (label_set is not None and parts[1] != label_set):
            continue
        if last is None or int(parts[2]) <= last:
            found.append(_read(store.objects, meta.key))
    kept = [document for document in found if recipe is None or document["recipe"] == recipe]
    return sorted(kept, key=lambda document: (document["version"], document["created_ns"]), reverse=True)


def in_short(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `show` and `log` say of a verdict."""
    return {name: document[name] for name in SHORT} | {"environment": document["settings"].get("environment")}
