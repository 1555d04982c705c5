"""The SQLite file of a bag: opened so that nothing in it is executed, its tables read in the order in which they were written.

Source: the schema of rosbag2_storage_sqlite3, versions 1 to 4. A database may be hostile: views, triggers, virtual and generated columns are refused, functions
are not called, and a table may not hold more rows or bytes than its file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from dataengine.core.errors import BadRecording
from dataengine.sources.messages.fields import MAX_SCHEMA_BYTES
from dataengine.sources.messages.packed import MAX_RECORD_BYTES
from dataengine.sources.messages.recording import MAX_TOPICS

# Cell and row header take at least this much of a file.
LEAST_ROW_BYTES = 5
MAX_TABLES = 1000

_KNOWN_TABLES = frozenset(["messages", "topics", "message_definitions", "metadata", "schema"])
_MESSAGE_COLUMNS = ("id", "topic_id", "timestamp", "data")
_HEADER_BYTES = 100

DAMAGED = "restore the file from a copy, or run `sqlite3 FILE .recover`"


class Topic(NamedTuple):
    """A row of the table of topics."""

    number: int
    name: str
    type: str
    encoding: str
    said: dict[str, str]


class Definition(NamedTuple):
    """A row of the table of message definitions."""

    type: str
    encoding: str
    text: bytes
    hash: str


def database_bytes(head: bytes) -> int:
    """Return the size of a database as its header says, 0 where an old writer did not keep it."""
    page = int.from_bytes(head[16:18], "big")
    return int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page) if head[24:28] == head[92:96] else 0


def check_size(head: bytes, size: int, where: str) -> None:
    """Raise BadRecording (`truncated`) where a database's header counts more pages than its file has bytes for."""
    if len(head) < _HEADER_BYTES:
        raise BadRecording(where, "a database of at least 100 bytes", f"{len(head)} bytes", DAMAGED, check="truncated")
    if database_bytes(head) > size:
        raise BadRecording(
            where,
            f"{database_bytes(head)} bytes, as its header says",
            f"a file of {size} bytes",
            "the copy was cut off: restore it, or land what is whole with `readers: {rosbag2: {recover_truncated: true}}` in the config",
            check="truncated",
        )


def _allowed(action: int, first: str | None, *_: str | None) -> int:
    known = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ) or (action == sqlite3.SQLITE_PRAGMA and first == "table_xinfo")
    return sqlite3.SQLITE_OK if known else sqlite3.SQLITE_DENY


class Database:
    """A bag's database, open for reading; use `open_database`."""

    def __init__(self, connection: sqlite3.Connection, where: str, size: int) -> None:
        self._connection, self._where, self._size = connection, where, size
        self._tables = self._read_tables()

    def _rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        yield from self._connection.execute(statement)

    def _bad(self, expected: str, found: str) -> BadRecording:
        return BadRecording(self._where, expected, found, DAMAGED, check="bad_database")

    def _read_tables(self) -> dict[str, list[str]]:
        """Return the columns of the tables of a bag that are there; raise BadRecording where one is no plain table."""
        kinds: dict[str, tuple[str, int]] = {}
        for kind, name, root in self._rows("SELECT type, name, rootpage FROM sqlite_master"):
            if kind in (b"table", b"view") and isinstance(name, bytes):
                kinds[name.decode("utf-8", "backslashreplace").lower()] = (kind.decode(), root if isinstance(root, int) else 0)
            if len(kinds) > MAX_TABLES:
                raise self._bad(f"at most {MAX_TABLES} tables", "more")
        self.other_tables = sorted(name for name in kinds if name not in _KNOWN_TABLES and not name.startswith("sqlite_"))[:50]
        tables = {}
        for name in sorted(_KNOWN_TABLES & set(kinds)):
            kind, root = kinds[name]
            if kind != "table" or root <= 0:
                raise self._bad(f"a plain table {name!r}", "a view or a virtual table")
            columns = []
            for row in self._rows(f"PRAGMA table_xinfo({name})"):
                if row[6] != 0:
                    raise self._bad(f"plain columns in the table {name!r}", "generated or hidden ones")
                columns.append(_text(row[1]))
            tables[name] = columns
        for name, needed in (("messages", _MESSAGE_COLUMNS), ("topics", ("id", "name", "type", "serialization_format"))):
            absent = [column for column in needed if column not in tables.get(name, [])]
            if absent:
                raise BadRecording(
                    self._where, f"a table {name!r} with {', '.join(needed)}", f"none, or one without {', '.join(absent)}", "is it a ROS 2 bag?", check="no_bag"
                )
        self.other_columns = [column for column in tables["messages"] if column not in _MESSAGE_COLUMNS]
        return tables

    def topics(self) -> dict[int, Topic]:
        """Return the topics by number."""
        columns = self._tables["topics"]
        more: list[str] = [name for name in ("offered_qos_profiles", "type_description_hash") if name in columns]
        found: dict[int, Topic] = {}
        for number, name, kind, encoding, *rest in self._rows(f"SELECT {', '.join(['id', 'name', 'type', 'serialization_format', *more])} FROM topics"):
            if not isinstance(number, int) or number in found or len(found) >= MAX_TOPICS:
                raise self._bad(f"at most {MAX_TOPICS} topics, each with a number of its own", repr(number)[:40])
            said: dict[str, str] = {key: _text(value) for key, value in zip(more, rest, strict=True)}
            found[number] = Topic(number, _text(name), _text(kind), _text(encoding), said)
        return found

    def definitions(self) -> dict[str, Definition]:
        """Return the message definitions by type, the first of each."""
        needed = ("topic_type", "encoding", "encoded_message_definition")
        columns = self._tables.get("message_definitions", [])
        if not all(name in columns for name in needed):
            return {}
        hashed = "type_description_hash" in columns
        found: dict[str, Definition] = {}
        total = 0
        for row in self._rows(f"SELECT {', '.join(needed)}{', type_description_hash' if hashed else ''} FROM message_definitions ORDER BY rowid"):
            text = row[2] if isinstance(row[2], bytes) else b""
            total += len(text)
            if len(found) >= MAX_TOPICS or len(text) > MAX_SCHEMA_BYTES or total > 16 * MAX_SCHEMA_BYTES:
                raise self._bad(f"definitions of at most {MAX_SCHEMA_BYTES} bytes each", f"{len(text)}")
            found.setdefault(_text(row[0]), Definition(_text(row[0]), _text(row[1]), text, _text(row[3]) if hashed else ""))
        return found

    def versions(self) -> dict[str, Any]:
        """Return the schema's version and the release, where the database says them."""
        columns = self._tables.get("schema", [])
        if "schema_version" not in columns:
            return {}
        distro = "ros_distro" if "ros_distro" in columns else "''"
        for version, release in self._rows(f"SELECT schema_version, {distro} FROM schema LIMIT 1"):
            return {"schema_version": version if isinstance(version, int) else None, "ros_distro": _text(release)}
        return {}

    def metadata(self, limit: int) -> str:
        """Return the latest copy of the bag's metadata that the database holds, "" where it holds none (or one beyond `limit` bytes)."""
        if "metadata" not in self._tables.get("metadata", []):
            return ""
        for (text,) in self._rows("SELECT metadata FROM metadata ORDER BY rowid DESC LIMIT 1"):
            return _text(text) if isinstance(text, bytes) and len(text) <= limit else ""
        return ""

    def messages(self) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Return (row, topic number, time in ns, payload) of each message in the order in which they were written; nothing of it is checked yet, see `refuse`."""
        return self._connection.execute("SELECT rowid, topic_id, timestamp, data FROM messages ORDER BY rowid")

    def refuse(self, row: int, before: int, values: Sequence[Any], total: int) -> BadRecording:
        """Return what is wrong with a row of messages that is no topic number, time and bytes, not after the row before, or more than a file of this size can hold."""
        if not all(type(value) is kind for value, kind in zip(values, (int, int, bytes), strict=True)):
            kinds = ", ".join(type(value).__name__ for value in values)
            return self._bad(f"a topic number, a time and bytes in row {row} of messages", kinds)
        if row <= before:
            return self._bad("rows of messages in ascending order", f"row {row} after row {before}")
        return self._bad(f"messages that fit into a file of {self._size} bytes", f"{total} bytes so far")


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else "" if value is None else str(value)


@contextmanager
def open_database(path: str, where: str, size: int, *, own_copy: bool = False) -> Iterator[Database]:
    """Open the database in a file of `size` bytes on this machine; what goes wrong with it while it is open is a BadRecording.

    `own_copy` is for a copy that may be changed: SQLite then puts in what a log beside it holds. Otherwise the file is taken as it is.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?{'mode=rw' if own_copy else 'mode=ro&immutable=1'}", uri=True, isolation_level=None)
        try:
            connection.text_factory = bytes
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_RECORD_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1 << 20)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "temp_store=MEMORY", "cache_size=-8192", "query_only=ON"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.set_authorizer(_allowed)
            yield Database(connection, where, size)
        finally:
            connection.close()
    except (sqlite3.Error, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise BadRecording(where, "a database that SQLite can read", str(error), DAMAGED, check="bad_database") from error
