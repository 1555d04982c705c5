"""Digests of content: BLAKE3, 128 bits as 32 hex digits for names, 256 bits where tampering matters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from blake3 import blake3

from dataengine.core.stream import Buffer

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def new_digest() -> Any:
    """Return a running BLAKE3 hash with `.update(buffer)` and `.hexdigest()`."""
    return blake3()


def digest_bytes(*parts: Buffer) -> str:
    """Return the digest of the parts, one after the other, as 32 hex digits."""
    running = blake3()
    for part in parts:
        running.update(part)
    return str(running.hexdigest(length=16))


def digest_json(value: Any) -> str:
    """Return the digest of a JSON-able value in canonical form (sorted keys, no spaces)."""
    return digest_bytes(_CANONICAL.encode(value).encode())


def digest_chunks(chunks: Iterable[Buffer]) -> str:
    """Return the 64-digit digest of a stream of chunks."""
    running = blake3()
    for chunk in chunks:
        running.update(chunk)
    return str(running.hexdigest())
