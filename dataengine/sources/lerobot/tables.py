"""Tables of a dataset, Parquet or Arrow, read a bounded batch at a time; nothing in them is executed or trusted.

A table is a row of groups: a row group of a Parquet file, or a whole Arrow file. One that cannot be read costs its rows only. Extension
types are read as what they are stored as; metadata of pandas and of `datasets` is never used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"

# A footer describes each column of each row group: a real one has some hundred bytes for each.
THRIFT_STRING_BYTES = 64 << 20
THRIFT_ENTRIES = 4_000_000

BATCH_ROWS = 4096
BATCH_BYTES = 8 << 20
MAX_GROUP_BYTES = 8 << 30  # of one row group, unpacked: what claims more is damaged or made to harm


class _Bounded:
    """A file that never reads past its end, whatever length it is asked for: Arrow asks for what a damaged file says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self.closed = False
        file.seek(0)

    def read(self, count: int = -1) -> bytes:
        left = self.size - self._file.tell()
        return self._file.read(left if count < 0 else max(0, min(count, left)))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True
        self._file.close()


@contextmanager
def arrow_faults(where: str, what: str = "a table that can be read") -> Iterator[None]:
    """Turn what Arrow says of a damaged file into BadRecording (`unreadable_table`)."""
    import pyarrow as pa

    try:
        yield
    except BadRecording:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadRecording(where, what, reason, "the file is damaged: copy it again from its source", check="unreadable_table") from error


@dataclass(frozen=True)
class Group:
    """A part of a table that is read on its own: a row group, or a whole Arrow file (`rows` None: not known before it is read)."""

    path: str
    number: int
    rows: int | None

    @property
    def where(self) -> str:
        """Return what to call it in messages."""
        return self.path if self.rows is None else f"{self.path}: row group {self.number}"


class Tables:
    """The files of one table, in order, all with one schema.

    Args:
        files: access to the source.
        paths: the table's files; the first says what the schema is.

    Raises:
        BadRecording: the first file cannot be read (`unreadable_table`), or another has other columns (`layout_changes`).
    """

    def __init__(self, files: Opener, paths: Sequence[str]) -> None:
        self._files = files
        self._kinds: dict[str, str] = {}
        self._opened: tuple[str, Any, Any] | None = None
        self.groups: list[Group] = []
        self.broken: list[BadRecording] = []
        self.schema: Any = None
        self._bytes_a_row: dict[str, float] = {}
        try:
            self._describe_all(paths)
        except BadRecording:
            self.close()
            raise

    def _describe_all(self, paths: Sequence[str]) -> None:
        for path in paths:
            try:
                schema, groups = self._describe(path)
            except BadRecording as error:
                if len(paths) == 1:
                    raise
                self.broken.append(error)
                continue
            if self.schema is None:
                self.schema = schema
                if len(set(schema.names)) < len(schema.names):
                    raise BadRecording(path, "each column once", "two of one name", "write the table again", check="duplicate_column")
            elif not self.schema.equals(schema):
                found = sorted(set(map(str, schema)) ^ set(map(str, self.schema)))[:4]
                raise BadRecording(path, f"the columns of {paths[0]}", f"others: {', '.join(found)}"[:300], "split the dataset", check="layout_changes")
            self.groups += groups
        if self.schema is None:
            raise self.broken[0]

    def _open(self, path: str) -> Any:
        import pyarrow as pa

        return pa.PythonFile(_Bounded(self._files.open(path)), mode="r")

    def _parquet(self, path: str) -> Any:
        """Return a Parquet file, which stays open for the next row groups: its footer describes all of them, and is read once."""
        import pyarrow.parquet as pq

        if self._opened is not None and self._opened[0] == path:
            return self._opened[1]
        self.close()
        file = self._open(path)
        try:
            opened = pq.ParquetFile(
                file,
                memory_map=False,
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_string_size_limit=THRIFT_STRING_BYTES,
                thrift_container_size_limit=THRIFT_ENTRIES,
            )
        except BaseException:
            file.close()
            raise
        self._opened = path, opened, file
        return opened

    def close(self) -> None:
        """Close the file that is open."""
        if self._opened is not None:
            self._opened[2].close()
            self._opened = None

    def _describe(self, path: str) -> tuple[Any, list[Group]]:
        with self._files.open(path) as file:
            head = file.read(6)
        self._kinds[path] = "parquet" if head[:4] == PARQUET_MAGIC else "arrow"
        with arrow_faults(path):
            if self._kinds[path] == "parquet":
                opened = self._parquet(path)
                facts = opened.metadata
                groups = [Group(path, number, facts.row_group(number).num_rows) for number in range(facts.num_row_groups)]
                for group in groups:
                    size = facts.row_group(group.number).total_byte_size
                    if (group.rows or 0) < 0 or not 0 <= size <= MAX_GROUP_BYTES:
                        raise BadRecording(group.where, f"0 to {MAX_GROUP_BYTES} bytes", f"{size} bytes, {group.rows} rows", check="too_large")
                self._measure(facts, set(opened.schema_arrow.names))
                return _named(opened.schema_arrow), groups
            with self._arrow(path, head) as reader:
                return _named(reader.schema), [Group(path, 0, None)]

    def _measure(self, facts: Any, names: set[str]) -> None:
        """Note how many bytes a row of each top-level column takes, unpacked; their names may hold dots, as the paths of their parts do."""
        sums: dict[str, int] = {}
        looked_at = range(min(facts.num_row_groups, 8))
        for number in looked_at:
            group = facts.row_group(number)
            for place in range(group.num_columns):
                column = group.column(place)
                name = column.path_in_schema
                while name not in names and "." in name:
                    name = name.rpartition(".")[0]
                sums[name] = sums.get(name, 0) + max(0, column.total_uncompressed_size)
        counted = max(1, sum(facts.row_group(number).num_rows for number in looked_at))
        for name, size in sums.items():
            self._bytes_a_row[name] = max(self._bytes_a_row.get(name, 0.0), size / counted)

    @contextmanager
    def _arrow(self, path: str, head: bytes) -> Iterator[Any]:
        import pyarrow as pa

        file = self._open(path)
        try:
            reader = pa.ipc.open_file(file) if head[:6] == ARROW_MAGIC else pa.ipc.open_stream(file)
            yield reader
        finally:
            file.close()

    def batch_rows(self, columns: Sequence[str]) -> int:
        """Return how many rows of these columns are read at a time, so that a batch stays within BATCH_BYTES or so."""
        size = sum(self._bytes_a_row.get(name, 0.0) for name in columns)
        return max(1, min(BATCH_ROWS, int(BATCH_BYTES / size) if size else BATCH_ROWS))

    def batches(self, group: Group, columns: Sequence[str]) -> Iterator[Any]:
        """Yield record batches of one group, of these columns only.

        Raises:
            BadRecording: the group is damaged.
        """
        rows = self.batch_rows(columns)
        with arrow_faults(group.where):
            if self._kinds[group.path] == "parquet":
                opened = self._parquet(group.path)
                # Arrow takes a name as a prefix too ("action" also gives "action.gripper"): the others are left out again.
                for batch in opened.iter_batches(rows, row_groups=[group.number], columns=list(columns), use_threads=False):
                    yield batch.select(list(columns))
                return
            with self._files.open(group.path) as file:
                head = file.read(6)
            with self._arrow(group.path, head) as reader:
                count = getattr(reader, "num_record_batches", None)
                found: Iterator[Any] = iter(reader) if count is None else (reader.get_batch(place) for place in range(count))
                for batch in found:
                    chosen = batch.select(list(columns))
                    chosen.validate(full=True)  # offsets inside may point anywhere
                    for start in range(0, chosen.num_rows, rows):
                        yield chosen.slice(start, rows)


def _named(schema: Any) -> Any:
    """Return a schema without its metadata, whose names have all been looked at: one that is no text raises here."""
    waiting = list(schema)
    while waiting:
        field = waiting.pop()
        str(field.name)
        waiting += [field.type.field(place) for place in range(field.type.num_fields)]
    return schema.remove_metadata()


@dataclass(frozen=True)
class Segment:
    """Rows [start, start + count) of one group."""

    group: int
    start: int
    count: int


class Later:
    """Columns that are read after others of the same rows: large ones, episode by episode, each group once and in order.

    Args:
        tables: the table.
        columns: what to read.
    """

    def __init__(self, tables: Tables, columns: Sequence[str]) -> None:
        self._tables, self._columns = tables, list(columns)
        self._group = -1
        self._at = 0
        self._batches: Iterator[Any] = iter(())
        self._held: Any = None

    def read(self, segments: Sequence[Segment]) -> Iterator[Any]:
        """Yield record batches with the rows of the segments, in order; raise BadRecording."""
        for segment in segments:
            if segment.group != self._group or segment.start < self._at:
                self._group, self._at, self._held = segment.group, 0, None
                self._batches = self._tables.batches(self._tables.groups[segment.group], self._columns)
            end = segment.start + segment.count
            while self._at < end:
                if self._held is None or self._held.num_rows == 0:
                    self._held = next(self._batches, None)
                    if self._held is None:
                        where = self._tables.groups[segment.group].where
                        raise BadRecording(where, f"{end} rows in each column", f"{self._at} in {', '.join(self._columns)}"[:200], check="unreadable_table")
                skip = min(max(0, segment.start - self._at), self._held.num_rows)
                count = min(self._held.num_rows - skip, end - self._at - skip)
                if count > 0:
                    yield self._held.slice(skip, count)
                self._held = self._held.slice(skip + max(0, count))
                self._at += skip + max(0, count)


def whole_table(files: Opener, path: str, wanted: Callable[[str], bool], max_rows: int) -> Any:
    """Return a small table whole, of the columns that `wanted` names; raise BadRecording."""
    import pyarrow as pa

    tables = Tables(files, [path])
    columns = [name for name in tables.schema.names if wanted(name)]
    parts = []
    rows = 0
    with closing(tables):
        for group in tables.groups:
            for batch in tables.batches(group, columns):
                parts.append(batch)
                rows += batch.num_rows
                if rows > max_rows:
                    raise BadRecording(path, f"at most {max_rows} rows", "more", "check that this is the file it claims to be", check="too_large")
    with arrow_faults(path):
        return pa.Table.from_batches(parts) if parts else tables.schema.empty_table().select(columns)
