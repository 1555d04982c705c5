"""CSV files with rows of more fields than their header names, as a comma in a text without quotes makes them: nothing of such a row is lost."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem

MAX_ROW_LETTERS = 1 << 20
SURPLUS = "surplus"  # the column of what is beyond the header, where the last column holds no texts

_WORDS = frozenset(["null", "none", "n/a", "na", "true", "false"])
_NUMBER_OR_TIME = re.compile(r"[\s\d.,:/+TZ-]*|[+-]?(\d+\.?\d*|\.\d+)e[+-]?\d+|[+-]?(nan|inf|infinity)", re.IGNORECASE)


def _lines(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file, each with the line in which it begins; only one row is held at a time, and none beyond `MAX_ROW_LETTERS`."""
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "replace", newline="")
    taken = 0

    def limited() -> Iterator[str]:
        nonlocal taken
        while part := text.readline(MAX_ROW_LETTERS + 1):
            taken += len(part)
            if taken > MAX_ROW_LETTERS:
                raise csv.Error(f"a row of more than {MAX_ROW_LETTERS} letters")
            yield part

    rows = csv.reader(limited(), strict=True)
    line = 1
    for row in rows:
        if row:  # an empty line is no row
            yield line, row
        line, taken = rows.line_num + 1, 0


def _is_text(value: str) -> bool:
    value = value.strip()
    return value.lower() not in _WORDS and not _NUMBER_OR_TIME.fullmatch(value)


def _is_beyond(row: Sequence[str], width: int) -> bool:
    """Return whether a row says something beyond the header; commas at its end say nothing."""
    return any(value.strip() for value in row[width:])


def evened(data: bytes, where: str) -> tuple[bytes, Problem | None]:
    """Return a CSV file with as many fields in each row as its header has, and what was done; the same bytes and None where no row has more.

    What is beyond the header is joined to the last column's text again, as the comma that parted them was a part of it. Where the last column holds no texts
    (by its whole rows, else by the others), it stands in a column of its own.

    Args:
        data: the file's content.
        where: what to call it in messages.

    Raises:
        BadRecording: a quote that has no end, a field of more than 128 KiB or a row of more than 1 MiB.
    """
    try:
        lines = _lines(data)
        _, header = next(lines, (1, []))
        width = len(header)
        total, first_line, beyond, wide = 0, 0, 0, False
        whole_texts: bool | None = None
        odd_texts = False
        for line, row in lines:
            total += 1
            wide |= len(row) > width
            if _is_beyond(row, width):
                beyond, first_line = beyond + 1, first_line or line
                odd_texts |= _is_text(row[width - 1]) if width else False
            elif len(row) >= width > 0 and row[width - 1].strip():
                whole_texts = bool(whole_texts) or _is_text(row[width - 1])
        if not wide or not width:
            return data, None
        joined = odd_texts if whole_texts is None else whole_texts
        return _written(data, width, joined), _problem(where, beyond, total, first_line, joined) if beyond else None
    except csv.Error as error:
        raise BadRecording(where, "rows of a CSV file", str(error)[:200], "close its quotes", check="unreadable_table") from error


def _written(data: bytes, width: int, joined: bool) -> bytes:
    out = io.BytesIO()
    text = io.TextIOWrapper(out, "utf-8", "replace", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    extra: str | None = None
    for _, row in _lines(data):
        if extra is None:  # the header
            extra = SURPLUS
            while extra in (name.strip() for name in row):
                extra += "_"
            writer.writerow(row if joined else [*row, extra])
            continue
        kept, rest = row[:width], row[width:] if _is_beyond(row, width) else []
        kept += [""] * (width - len(kept))
        if joined:
            kept[-1] = ",".join([kept[-1], *rest])
        else:
            kept.append(",".join(rest))
        writer.writerow(kept)
    return out.getvalue()


def _problem(where: str, beyond: int, total: int, line: int, joined: bool) -> Problem:
    fate = "the rest is joined to the text of their last column" if joined else f"the rest stands in a column of its own, {SURPLUS}"
    message = f"{where}: {beyond} of {total} rows have more fields than the header, the first in line {line}; {fate}"
    found = f"{beyond} rows with more"
    return Problem("ragged_rows", message, where, "warning", "as many fields in each row as in the header", found, "put texts with commas in quotes")
