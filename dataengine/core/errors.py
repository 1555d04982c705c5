"""The error tree, grouped by what the caller does next.

Every message reads `where: what must hold, got what; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DataEngineError(Exception):
    """Any error that is reported to a user in one sentence, without a traceback."""


class UsageError(DataEngineError):
    """The call or its configuration is wrong: change it and call again (exit code 2)."""


class ConfigError(UsageError):
    """A configuration file or value is not valid."""


class UnknownName(UsageError):
    """A name is not one of the known ones."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {what} {name!r}: known: {', '.join(names) or 'none'}{hint}")
        self.what = what
        self.name = name
        self.known = names

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, list[str]]]:
        return UnknownName, (self.what, self.name, self.known)


class MissingFact(UsageError):
    """Something was asked for that needs a fact which a dataset does not say: state the fact, or ask for less.

    Args:
        column: the column that does not say it.
        fact: its name ("unit", "frame", "rotation", "gripper", ...).
        why: what needs it, and what to do.
    """

    def __init__(self, column: str, fact: str, why: str) -> None:
        super().__init__(f"column {column!r}: its {fact} must be known, got none; {why}")
        self.column = column
        self.fact = fact
        self.why = why

    def __reduce__(self) -> tuple[type[MissingFact], tuple[str, str, str]]:
        return MissingFact, (self.column, self.fact, self.why)


class NothingRecognised(UsageError):
    """A source holds no recording of any known format."""


def printable(text: str) -> str:
    """Return a text that can be encoded: half a character, as damaged names hold it, becomes an escape such as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text


class BadRecording(DataEngineError):
    """A recording cannot be read as what it claims to be: it is rejected, the others go on.

    Args:
        where: the place in the source (file, record, field).
        expected: what must hold there.
        found: what was found.
        advice: what the owner of the recording can do.
        check: slug of the check that failed.
    """

    def __init__(self, where: str, expected: str, found: str, advice: str = "", check: str = "unreadable") -> None:
        where, expected, found, advice = (printable(text) for text in (where, expected, found, advice))
        text = f"{where}: expected {expected}, found {found}"
        super().__init__(f"{text}; {advice}" if advice else text)
        self.where = where
        self.expected = expected
        self.found = found
        self.advice = advice
        self.check = check

    def __reduce__(self) -> tuple[type[BadRecording], tuple[str, str, str, str, str]]:
        return BadRecording, (self.where, self.expected, self.found, self.advice, self.check)


class StoreError(DataEngineError):
    """A store cannot do what was asked."""


class NotAStore(StoreError, UsageError):
    """The address holds no store, or one of a format version that is not known."""


class VersionNotFound(StoreError, UsageError):
    """A version or tag does not exist in the store."""


class EpisodeNotFound(StoreError, UsageError):
    """An episode id is not in the version that was asked."""


class LabelsNotFound(StoreError, UsageError):
    """An episode has no labels of the set that was asked."""


class EpisodePurged(StoreError):
    """The content of an episode was erased from every version, because consent was withdrawn."""


class AlreadyThere(StoreError):
    """A put-if-absent found an object at its key: read it and decide again."""


class CommitConflict(StoreError):
    """Another writer changed the same dataset first: read it and commit again."""


class CorruptStore(StoreError):
    """Stored bytes are not what was written: restore the object from a copy."""
