"""Tables in CSV, JSON lines and JSON: columns of texts as they stand in the file, from which numbers and times are read exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.sources.ragged_csv import evened

MAX_CSV_BYTES = 256 << 20  # an hour of an IMU at 200 Hz takes 110 MB
MAX_JSON_BYTES = 32 << 20
MAX_COLUMNS = 1024
MAX_LIST = 64  # numbers of a list in one JSON record: a 4x4 pose, 21 landmarks
EXACT = 2**53

# Digits behind the point of each unit that make whole nanoseconds.
UNIT_DIGITS: dict[str, int] = {"ns": 0, "us": 3, "ms": 6, "s": 9}
_DECIMAL = r"^\s*[+-]?\d{1,19}(\.\d*)?\s*$"
_CLOCK_TEXT = r"^\s*(\d{1,4}):(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?\s*$"
MAX_SECONDS = 1 << 33


@dataclass(frozen=True, eq=False)
class Table:
    """A table of N rows: `texts` are columns as texts (polars Series of strings, null where empty), `arrays` columns that hold a list of numbers in each row.

    `problems` are what is wrong with the file as a whole.
    """

    rows: int
    texts: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return the names of all columns."""
        return [*self.texts, *self.arrays]

    def taken(self, rows: Array) -> Table:
        """Return the table of some rows, by number."""
        return Table(
            len(rows), {name: column.gather(rows) for name, column in self.texts.items()}, {name: values[rows] for name, values in self.arrays.items()}
        )


def header_of(head: bytes) -> list[str]:
    """Return the names in the first line of a CSV file, none where the line is no header; `head` is the start of the file."""
    lines = head.decode("utf-8-sig", "replace").splitlines()
    names = [name.strip().strip('"').strip() for name in lines[0].split(",")] if lines else []
    numeric = any(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", name, re.IGNORECASE) for name in names)
    return names if not numeric and 1 < len(names) <= MAX_COLUMNS else []


class WrittenFloat(float):
    """A number of a JSON file that knows how it was written, so that a time is not rounded."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        number = super().__new__(cls, text)
        number.text = text
        return number


def read_csv(files: Opener, path: str, limit: int = MAX_CSV_BYTES) -> Table:
    """Read a CSV file with a header; rows of more fields than it names keep them and are a problem of the table; raise BadRecording."""
    import polars as pl

    data = files.read_bytes(path, limit)
    if b"\0" in data[:4096]:
        raise BadRecording(path, "a CSV file of text", "bytes of value 0", "check that this is the file it claims to be", check="unreadable_table")
    ragged: Problem | None = None
    try:
        try:
            frame = pl.read_csv(data, infer_schema=False, encoding="utf8-lossy")
        except pl.exceptions.ComputeError:  # rows of more fields than the header, among others
            data, ragged = evened(data, path)
            frame = pl.read_csv(data, infer_schema=False, encoding="utf8-lossy")
    except (pl.exceptions.PolarsError, ValueError, OverflowError) as error:
        raise BadRecording(
            path, "a CSV file with a header", str(error).splitlines()[0][:200] if str(error) else "an empty file", check="unreadable_table"
        ) from error
    if frame.width > MAX_COLUMNS:
        raise BadRecording(path, f"at most {MAX_COLUMNS} columns", f"{frame.width}", check="unreadable_table")
    texts: dict[str, Any] = {}
    for place, name in enumerate(frame.columns):
        shown = name.strip().lstrip("\ufeff") or f"column_{place}"  # the index that pandas writes has no name
        texts[shown if shown not in texts else f"{shown}_{place}"] = frame.get_column(name).str.strip_chars().replace("", None)
    return Table(frame.height, texts, problems=() if ragged is None else (ragged,))


def read_lines(files: Opener, path: str) -> Table:
    """Read a file of JSON objects, one a line; raise BadRecording."""
    records = []
    for number, line in enumerate(files.read_bytes(path, MAX_JSON_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_float=WrittenFloat)
        except (ValueError, RecursionError) as error:
            raise BadRecording(f"{path}:{number}", "a JSON object a line", str(error)[:200], "correct the line", check="unreadable_table") from error
        if not isinstance(record, dict):
            raise BadRecording(f"{path}:{number}", "a JSON object a line", type(record).__name__, check="unreadable_table")
        records.append(record)
    return table_of(records, path)


def read_json(files: Opener, path: str) -> Any:
    """Return what a JSON file holds, its decimals as `WrittenFloat`; raise BadRecording."""
    try:
        return json.loads(files.read_bytes(path, MAX_JSON_BYTES).decode("utf-8-sig"), parse_float=WrittenFloat)
    except (ValueError, RecursionError) as error:
        raise BadRecording(path, "JSON", str(error)[:200], "correct the file", check="unreadable_table") from error


def _numbers(value: Any) -> list[float] | None:
    """Return a list of numbers, nested or not, flat; None for anything else."""
    out: list[float] = []
    stack = [value]
    while stack:
        entry = stack.pop()
        if isinstance(entry, list):
            stack.extend(reversed(entry))
        elif isinstance(entry, float) or (isinstance(entry, int) and not isinstance(entry, bool) and abs(entry) <= EXACT):
            out.append(float(entry))
        else:
            return None
        if len(out) + len(stack) > MAX_LIST:
            return None
    return out


def _shape(value: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = ()
    while isinstance(value, list):
        shape = (*shape, len(value))
        value = value[0] if value else None
    return shape


def _as_text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, WrittenFloat):
        return value.text
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table_of(records: Sequence[Mapping[str, Any]], where: str) -> Table:
    """Make a table of JSON objects: lists of numbers of one shape become arrays, all else texts; raise BadRecording."""
    import polars as pl

    names = list(dict.fromkeys(name for record in records for name in record))
    if not records or len(names) > MAX_COLUMNS:
        raise BadRecording(where, f"records of 1 to {MAX_COLUMNS} keys", f"{len(records)} records of {len(names)} keys", check="unreadable_table")
    texts: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for name in names:
        values = [record.get(name) for record in records]
        if all(isinstance(value, list) and value for value in values):
            shape = _shape(values[0])
            flat = [_numbers(value) if _shape(value) == shape else None for value in values]
            if all(row is not None and len(row) == int(np.prod(shape)) for row in flat):
                arrays[name] = np.array(flat, dtype=np.float64).reshape(len(values), *shape)
                continue
        texts[name] = pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)
    return Table(len(records), texts, arrays)


def _known(column: Any) -> Any:
    """Return a column of texts in which words for nothing are null."""
    return column.replace(["NULL", "null", "None", "N/A", "NA"], [None] * 5)


def numbers(column: Any) -> Array | None:
    """Return a column of texts as float64, NaN where it is empty; None where one is no number, or an integer that float64 does not hold."""
    import polars as pl

    column = _known(column)
    empty = column.null_count()
    if empty == len(column):
        return None
    values = column.cast(pl.Float64, strict=False)
    if values.null_count() != empty:
        return None
    found = values.fill_null(float("nan")).to_numpy()
    large = np.abs(found) > EXACT
    if large.any() and column.filter(pl.Series(large)).str.contains(r"^[+-]?\d+$").any():
        return None
    return np.array(found, dtype=np.float64)


def times_ns(column: Any, unit: str | None) -> tuple[Array, Array] | None:
    """Return a column of times as (N,) int64 ns (0 where there is none) and whether each row has one, (N,) bool; None where it holds no times.

    Times such as 00:01:02.5 need no unit. Decimals are taken to the ns as they are written, what is beyond is cut off.
    """
    import polars as pl

    column = _known(column)
    filled = column.drop_nulls()
    if not len(filled):
        return None
    have = column.is_not_null().to_numpy()
    out = np.zeros(len(column), dtype=np.int64)
    if filled.str.contains(_CLOCK_TEXT).all():
        parts = filled.str.extract_groups(_CLOCK_TEXT).struct.unnest()
        hours, minutes, seconds = (parts.get_column(name).cast(pl.Int64) for name in ("1", "2", "3"))
        rest = parts.get_column("4").fill_null("0").str.pad_end(9, "0").cast(pl.Int64)
        out[have] = ((hours * 60 + minutes) * 60 + seconds).to_numpy() * 1_000_000_000 + rest.to_numpy()
        return out, have
    if unit is None:
        return None
    digits = UNIT_DIGITS[unit]
    if filled.str.contains(_DECIMAL).all():
        negative = filled.str.starts_with("-").to_numpy()
        plain = filled.str.replace(r"^[+-]", "")
        whole = plain.str.extract(r"^(\d+)").cast(pl.Int64, strict=False)
        if whole.null_count() or float(whole.max() or 0) * 10.0**digits > MAX_SECONDS * 1e9:
            return None
        fraction = plain.str.extract(r"\.(\d*)").fill_null("").str.head(digits).str.pad_end(max(digits, 1), "0").cast(pl.Int64) if digits else None
        found = whole.to_numpy() * 10**digits + (fraction.to_numpy() if fraction is not None else 0)
        out[have] = np.where(negative, -found, found)
        return out, have
    values = filled.cast(pl.Float64, strict=False)
    if values.null_count():
        return None
    with np.errstate(over="ignore"):
        floats = values.to_numpy() * 10.0**digits
    finite = np.isfinite(floats) & (np.abs(floats) < MAX_SECONDS * 1e9)
    if not finite.any():
        return None
    have = have.copy()
    have[np.flatnonzero(have)[~finite]] = False
    out[have] = np.floor(floats[finite]).astype(np.int64)
    return out, have


def rows_as_json(table: Table, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield some columns of each row as a JSON object: numbers as numbers, what is empty left out."""
    columns = {name: table.texts[name].to_list() for name in names if name in table.texts}
    numeric = {name for name in columns if (found := numbers(table.texts[name])) is not None and np.isfinite(found[~np.isnan(found)]).all()}
    for row in range(table.rows):
        record: dict[str, Any] = {}
        for name, values in columns.items():
            value = values[row]
            if value is not None:
                record[name] = (int(value) if re.fullmatch(r"[+-]?\d{1,15}", value) else float(value)) if name in numeric else value
        yield record
