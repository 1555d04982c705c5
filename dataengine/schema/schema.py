"""The JSON documents of a store, checked against `schemas/vN`."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from dataengine.core.errors import UnknownName
from dataengine.core.names import data_folder
from dataengine.schema.tables import FORMAT_VERSION

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

# Documents by the kind that `validate` knows them by; "column" is a part of "features" and of "labels", which stands in the metadata of a Parquet file.
KINDS = ("store", "version", "tag", "job", "features", "column", "shard", "removed", "labels", "statistics", "verdict")
# Parts that schemas refer to, and that are no document by themselves.
PARTS = ("types",)


def schema(kind: str, version: int = FORMAT_VERSION) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of document; raise UnknownName."""
    if kind not in (*KINDS, *PARTS):
        raise UnknownName("kind of document", kind, KINDS)
    content: dict[str, Any] = json.loads((data_folder("schemas") / f"v{version}" / f"{kind}.schema.json").read_bytes())
    return content


@cache
def _validator(kind: str, version: int) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    documents = {name: schema(name, version) for name in (*KINDS, *PARTS)}
    registry: Registry[Any] = Registry().with_resources((f"{name}.schema.json", Resource.from_contents(content)) for name, content in documents.items())
    return Draft202012Validator(documents[kind], registry=registry)


def validate(kind: str, document: Any, version: int = FORMAT_VERSION) -> list[str]:
    """Return what is wrong with a document, one sentence each that starts with the place in it; empty where it is valid.

    Args:
        kind: one of `KINDS`.
        document: what `json.loads` gave.
        version: format version.

    Raises:
        UnknownName: the kind is not known.
    """
    if kind not in KINDS:
        raise UnknownName("kind of document", kind, KINDS)
    errors = sorted(_validator(kind, version).iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    return [": ".join(part for part in (".".join(str(step) for step in error.absolute_path), error.message) if part)[:500] for error in errors]
