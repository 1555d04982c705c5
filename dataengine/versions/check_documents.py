"""The JSON documents of a store: schemas, names, and what they refer to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.schema.schema import validate
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.refs import version_numbers
from dataengine.versions.finding import ANEW, COPY, UNREADABLE, finding, unreadable


def read_document(objects: Objects, kind: str, key: str) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return a document and what is wrong with it; None where it is not there or no JSON object."""
    where = f"{objects.url}/{key}"
    try:
        document = json.loads(objects.get(key))
    except FileNotFoundError:
        return None, [finding("missing_document", where, f"a {kind} document", "none")]
    except UNREADABLE as error:
        return None, [unreadable(where, f"a {kind} document", error)]
    faults = validate(kind, document)
    return (document if isinstance(document, dict) else None), [
        finding("invalid_document", where, f"a {kind} document as its schema says", fault) for fault in faults
    ]


def check_documents(objects: Objects) -> list[Problem]:
    """Check store.json, versions, tags, jobs, statistics, verdicts and what was written down about removals."""
    problems = read_document(objects, "store", layout.STORE)[1]
    numbers = version_numbers(objects)
    newest = int(Catalog(objects).table().version())
    for number in numbers:
        key = layout.version_key(number)
        document, found = read_document(objects, "version", key)
        problems += found
        if document is None or found:
            continue
        if document["version"] != number:
            problems.append(finding("other_number", f"{objects.url}/{key}", f"version {number}", f"version {document['version']}"))
        if document["catalog_version"] > newest:
            found_there = f"{document['catalog_version']} where its newest is {newest}"
            problems.append(finding("no_such_commit", f"{objects.url}/{key}", "a version of the catalog's table", found_there))
    for top, kind in ((layout.TAGS, "tag"), (layout.JOBS, "job"), (layout.REMOVED, "removed")):
        for key in _documents(objects, top):
            document, found = read_document(objects, kind, key)
            problems += found
            name = key.rsplit("/", 1)[-1][:-5]
            if document is not None and not found and kind in document and document[kind] != name and kind in ("tag", "job"):
                problems.append(finding("other_name", f"{objects.url}/{key}", f"{kind} {name!r}", f"{kind} {document[kind]!r}"))
            if kind == "tag" and document is not None and not found and document["version"] not in numbers:
                problems.append(finding("tag_of_no_version", f"{objects.url}/{key}", "a version of this store", f"version {document['version']}"))
    return problems + _check_statistics(objects) + _check_verdicts(objects)


def _check_statistics(objects: Objects) -> list[Problem]:
    """Check that each document of statistics is of the version, dataset and settings that its key names."""
    problems = []
    for key in _documents(objects, layout.STATISTICS):
        document, found = read_document(objects, "statistics", key)
        problems += found
        if document is not None and not found:
            actual = layout.statistics_key(document["version"], document["dataset"], digest_json(document["settings"]))
            if actual != key:
                problems.append(finding("other_content", f"{objects.url}/{key}", "statistics of what the key names", f"those of {actual}", ANEW))
    return problems


def _check_verdicts(objects: Objects) -> list[Problem]:
    """Check that each verdict is on the label set, the version and the settings that its key names."""
    problems = []
    for key in _documents(objects, layout.VERDICTS):
        document, found = read_document(objects, "verdict", key)
        problems += found
        if document is not None and not found:
            actual = layout.verdict_key(document["label_set"], document["version"], digest_json(document["settings"]))
            if actual != key:
                problems.append(finding("other_content", f"{objects.url}/{key}", "a verdict on what the key names", f"that of {actual}", COPY))
    return problems


def _documents(objects: Objects, top: str) -> list[str]:
    return [meta.key for meta in objects.list(top) if meta.key.endswith(".json")]


def check_features(objects: Objects, used: Iterable[tuple[str, str]]) -> list[Problem]:
    """Check the feature documents that episodes name, as (dataset, digest)."""
    problems = []
    for dataset, digest in sorted(set(used)):
        key = layout.features_key(dataset, digest)
        document, found = read_document(objects, "features", key)
        problems += found
        if document is not None and not found:
            actual = digest_json(document)
            if actual != digest or document["dataset"] != dataset:
                there = f"content of digest {actual} for dataset {document['dataset']!r}"
                problems.append(finding("other_content", f"{objects.url}/{key}", f"content of digest {digest} for dataset {dataset!r}", there, COPY))
    return problems
