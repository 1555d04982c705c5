"""What the bytes of the catalog's data files should sum up to: versions say it of the files that they brought, purges and forgetting of what they changed."""

from __future__ import annotations

from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.refs import read_json
from dataengine.store.removed import removals


def known_checksums(objects: Objects) -> dict[str, str]:
    """Return the crc32c, as 8 hex digits, of data files of the catalog by their keys; what was written down last counts."""
    documents = [read_json(objects, meta.key) for meta in objects.list(layout.VERSIONS) if meta.key.endswith(".json")]
    documents = sorted([*documents, *removals(objects)], key=lambda document: int(document.get("created_ns", 0)))
    return {f"{layout.CATALOG}/{path}": str(crc) for document in documents for path, crc in document.get("checksums", {}).items()}
