"""What a check of a store says: where, what must hold, what was found and what to do; and what damaged bytes make readers raise."""

from __future__ import annotations

import pyarrow as pa
from deltalake.exceptions import DeltaError
from polars.exceptions import PolarsError

from dataengine.core.errors import DataEngineError
from dataengine.core.problem import Problem, Severity

COPY = "restore it from a copy"
ANEW = "remove it; it is computed anew when it is asked for"
SOURCE = "restore the object from a copy, or remove the episode and ingest its source again"

# Of parsers that are handed damaged bytes; KeyError and the like where a document is valid JSON and yet not what it should be.
UNREADABLE = (
    DataEngineError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    pa.ArrowException,
    PolarsError,
    DeltaError,
)


def finding(check: str, where: str, expected: str, found: str, advice: str = COPY, episode_id: str | None = None, severity: Severity = "error") -> Problem:
    """Return a problem whose message is made of its parts; what to do stands beside it."""
    return Problem(check, f"{where}: expected {expected}, found {found}", where, severity, expected, found, advice, episode_id)


def unreadable(where: str, expected: str, error: BaseException, advice: str = COPY, episode_id: str | None = None) -> Problem:
    """Return the problem of something that cannot be read, with what the reader said."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return finding("unreadable", where, expected, f"what cannot be read ({said})", advice, episode_id)
