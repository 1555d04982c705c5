"""What became of an item: the catalog rows of what landed and of what was rejected, and how it was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item
from dataengine.store.row import Row

HIDDEN = "blake3:"


@dataclass(frozen=True)
class Reading:
    """How an item is read: what stands in every row that comes of it."""

    digest: str
    reader: str
    version: str
    dataset: str
    source_uri: str
    fingerprint: str
    splits: tuple[str, ...]
    size: int


@dataclass
class Duplicate:
    """A recording that is in the dataset already."""

    episode_id: str
    splits: tuple[str, ...]
    source_key: str


@dataclass
class Outcome:
    """What became of one item: catalog rows of what landed and what was rejected, duplicates, and problems that cost no recording.

    A partial one was not read to its end: it gets no source row, so that the item is read again.
    """

    source: Row
    episodes: list[Row] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)
    rejects: list[Row] = field(default_factory=list)
    problems: list[dict[str, Any]] = field(default_factory=list)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    partial: bool = False

    @property
    def recordings(self) -> int:
        """Return how many recordings came to an end."""
        return len(self.episodes) + len(self.duplicates) + len(self.rejects)


def reject_row(reading: Reading, key: str, problem: Problem, number: int) -> Row:
    """Return the catalog row of a rejected recording."""
    return {
        "kind": "reject",
        "dataset": reading.dataset,
        "fact": digest_json([reading.source_uri, printable(key), number]),
        "reading": reading.digest,
        "reader": reading.reader,
        "reader_version": reading.version,
        "source_uri": reading.source_uri,
        "source_key": printable(key),
        "fingerprint": reading.fingerprint,
        "check": problem.check,
        "where": problem.where,
        "expected": problem.expected,
        "found": problem.found,
        "advice": problem.advice,
    }


def problem_of(error: BadRecording) -> Problem:
    """Return a rejection as a problem."""
    return Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice)


def source_row(reading: Reading) -> Row:
    """Return the catalog row of an item that was read, without what came of it."""
    return {
        "kind": "source",
        "dataset": reading.dataset,
        "fact": digest_bytes(reading.source_uri.encode()),
        "reading": reading.digest,
        "reader": reading.reader,
        "reader_version": reading.version,
        "splits": list(reading.splits),
        "source_uri": reading.source_uri,
        "fingerprint": reading.fingerprint,
        "bytes": reading.size,
    }


def hidden_fingerprint(fingerprint: str) -> str:
    """Return a fingerprint as its digest: it changes with the files as before, and holds no names of theirs."""
    return fingerprint if fingerprint.startswith(HIDDEN) else f"{HIDDEN}{digest_bytes(fingerprint.encode())}"


def same_files(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same files, either of them hidden or not."""
    return one == other or hidden_fingerprint(one) == hidden_fingerprint(other)


def source_uri(item: Item) -> str:
    """Return the address of an item: its root and its main file."""
    return f"{item.root.rstrip('/')}/{item.path}" if item.path else item.root
