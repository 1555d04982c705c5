"""JSON documents that lie beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataengine.core.errors import UsageError

MAX_BYTES = 64 << 20  # of a document: more is none of a model


def json_document(path: Path, what: str, advice: str) -> dict[str, Any]:
    """Return the object that a file holds.

    Args:
        path: of the file.
        what: it is, for errors.
        advice: what to do where it is not.

    Raises:
        UsageError: it is missing, too large, no JSON or no object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path}: must be {what} of at most {MAX_BYTES} bytes, got {size}; {advice}")
        found = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: must be {what}, got: {str(error)[:200]}; {advice}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: must be {what}, a JSON object, got {type(found).__name__}; {advice}")
    return found
