"""What was taken out of a store on purpose, written down below `removed/`: who, when, and what."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from dataengine.core.objects import Objects
from dataengine.store import layout
from dataengine.store.refs import read_json, who

PURGED = "purged"


def put_removed(objects: Objects, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write down what is being removed, with the time and the person; return the document as written."""
    whole = {**document, "created_ns": time.time_ns(), "created_by": who()}
    name = f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    objects.put_if_absent(f"{layout.REMOVED}/{name}.json", json.dumps(whole, indent=1).encode())
    return whole


def removals(objects: Objects) -> list[dict[str, Any]]:
    """Return all such documents, oldest first."""
    return [read_json(objects, meta.key) for meta in objects.list(layout.REMOVED) if meta.key.endswith(".json")]


def purged_episodes(objects: Objects) -> dict[str, dict[str, Any]]:
    """Return the documents of purges by the id of each episode that they name."""
    return {str(episode_id): document for document in removals(objects) if document.get("kind") == "purge" for episode_id in document.get("episodes", ())}


def purged_media(objects: Objects) -> set[str]:
    """Return the keys of the kept videos that were removed by purges."""
    return {str(key) for document in removals(objects) if document.get("kind") == "purge" for key in document.get("objects", ())}


def purge_sentence(episode_id: str, document: Mapping[str, Any]) -> str:
    """Return who purged an episode, when and why."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(document["created_ns"] / 1e9))
    return f"episode {episode_id}: was purged by {document['created_by']} on {when} ({document['reason']}); its content is gone from every version"
