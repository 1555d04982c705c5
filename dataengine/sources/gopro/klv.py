"""GPMF, the key-length-value format of GoPro's telemetry: its structure, and the values of one entry.

An own parser, because lossless keeping needs every key with its raw numbers, and where each payload begins and ends: `telemetry-parser`, the kept library for
this format, scales, renames and merges, drops keys that it does not know, and opens no raw file. The tests compare with it and with two other decoders.
Source: the description of the format in github.com/gopro/gpmf-parser.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording

MAX_DEPTH = 8
MAX_ENTRIES = 1 << 16  # of one payload: 8 KiB of a second hold about 200
MAX_FIELDS = 4096

NESTED = "\0"
COMPLEX = "?"

# Types that numpy reads as they are; big-endian.
NUMBERS = {"b": "i1", "B": "u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "f": ">f4", "d": ">f8", "j": ">i8", "J": ">u8"}
# Numbers with a fixed point, by their integers and bits behind the point.
FIXED = {"q": (">i4", 16), "Q": (">i8", 32)}
# Texts of fixed length: letters, four letters, a date, an identity of 16 bytes.
TEXTS = {"c": 1, "F": 4, "U": 16, "G": 16}
SIZES = {**{letter: np.dtype(kind).itemsize for letter, kind in NUMBERS.items()}, "q": 4, "Q": 8, **TEXTS}

_HEAD = struct.Struct(">4sBBH")
_KEY = re.compile(rb"[\x20-\x7e]{4}")
_FIELD = re.compile(r"(.)(?:\[(\d{1,4})\])?")


@dataclass(slots=True)
class Entry:
    """One key with its value: `repeat` structures of `size` bytes of a type; entries inside where it is nested."""

    key: str
    kind: str
    size: int
    repeat: int
    data: bytes
    inside: tuple[Entry, ...] = ()


def _damaged(where: str, expected: str, found: str, check: str = "damaged_gpmf") -> BadRecording:
    return BadRecording(where, expected, found, "make the copy again from the original", check=check)


@lru_cache(maxsize=4096)
def _name(key: bytes) -> str | None:
    """Return a key as text, None where it is none; a payload holds few different ones, many times each."""
    return key.decode("ascii") if _KEY.fullmatch(key) else None


def head(data: bytes, at: int, where: str) -> tuple[str, str, int, int, int]:
    """Return key, type, size, repeat and bytes (without padding) of the entry whose head stands at `at`; raise BadRecording."""
    if at + 8 > len(data):
        raise _damaged(where, f"8 bytes of a head at byte {at}", f"{len(data) - at}", "truncated")
    letters, kind, size, repeat = _HEAD.unpack_from(data, at)
    key = _name(letters)
    if key is None:
        raise _damaged(where, f"a key of four letters at byte {at}", letters.hex(" "))
    return key, chr(kind), size, repeat, size * repeat


def parse(data: bytes, where: str) -> list[Entry]:
    """Return the entries of a payload; zeros behind the last one are padding.

    Raises:
        BadRecording: an entry that ends behind the one that holds it, a key that is none, or entries nested or repeated beyond reason.
    """
    found, at = _entries(data, where, 0, [MAX_ENTRIES])
    if any(data[at:]):
        raise _damaged(where, "zeros behind the last entry", "other bytes")
    return found


def _entries(data: bytes, where: str, depth: int, left: list[int]) -> tuple[list[Entry], int]:
    """Return the entries in some bytes, and where the padding behind them starts."""
    found: list[Entry] = []
    at, end = 0, len(data)
    while at < end and (data[at] or any(data[at : at + 4])):
        key, kind, size, repeat, length = head(data, at, where)
        if at + 8 + length > end:
            raise _damaged(f"{where}: {key}", f"{length} bytes", f"{end - at - 8}", "truncated")
        left[0] -= 1
        if left[0] < 0 or depth >= MAX_DEPTH:
            raise _damaged(where, f"at most {MAX_ENTRIES} entries, {MAX_DEPTH} deep", "more", "absurd_size")
        content = data[at + 8 : at + 8 + length]
        if kind == NESTED:
            inside, rest = _entries(content, where, depth + 1, left)
            if any(content[rest:]):
                raise _damaged(f"{where}: {key}", "zeros behind the last entry", "other bytes")
            found.append(Entry(key, kind, size, repeat, b"", tuple(inside)))
        else:
            found.append(Entry(key, kind, size, repeat, content))
        at += 8 + (length + 3) // 4 * 4
    return found, at


def fields_of(kind: str) -> list[str]:
    """Return the letter of each field that a TYPE describes: "Lf[3]" has one L and three f."""
    letters: list[str] = []
    for letter, count in _FIELD.findall(kind):
        letters += [letter] * min(int(count or 1), MAX_FIELDS)
    return letters[:MAX_FIELDS]


def text(data: bytes) -> str:
    """Return a text as GoPro writes it: ISO 8859-1, zeros at the end."""
    return data.split(b"\0")[0].decode("latin-1").strip()


def _column(data: Array, letter: str) -> Array:
    """Return the numbers of one type, (N, K) uint8 rows in, (N, K / size) out, in this machine's byte order."""
    rows = np.ascontiguousarray(data)
    if letter in FIXED:
        kind, bits = FIXED[letter]
        return rows.view(kind).astype(np.float64) / (1 << bits)
    kind = NUMBERS[letter]
    return rows.view(kind).astype(np.dtype(kind).newbyteorder("="))


def numbers(entry: Entry) -> Array | None:
    """Return the rows of an entry of one numeric type, (repeat, elements); None for other types."""
    width = SIZES.get(entry.kind)
    if width is None or entry.kind in TEXTS or not entry.size or entry.size % width:
        return None
    return _column(np.frombuffer(entry.data, np.uint8).reshape(entry.repeat, entry.size), entry.kind)


def texts(entry: Entry) -> list[str] | None:
    """Return the rows of an entry of text; letters of size 1 are one text together."""
    if entry.kind not in TEXTS or not entry.size:
        return None
    if entry.kind == "c" and entry.size == 1:
        return [text(entry.data)]
    rows = [entry.data[at : at + entry.size] for at in range(0, len(entry.data), entry.size)]
    return [row.hex() if entry.kind == "G" else text(row) for row in rows]


def fields(entry: Entry, letters: Sequence[str]) -> list[Array | list[str]] | None:
    """Return each field of an entry of type "?", (repeat,) numbers or texts; None where the letters do not fill its size."""
    if not letters or any(letter not in SIZES for letter in letters) or sum(SIZES[letter] for letter in letters) != entry.size:
        return None
    table = np.frombuffer(entry.data, np.uint8).reshape(entry.repeat, entry.size)
    found: list[Array | list[str]] = []
    at = 0
    for letter in letters:
        part = table[:, at : at + SIZES[letter]]
        at += SIZES[letter]
        if letter in TEXTS:
            found.append([row.tobytes().hex() if letter == "G" else text(row.tobytes()) for row in part])
        else:
            found.append(_column(part, letter)[:, 0])
    return found


def plain(entry: Entry) -> object:
    """Return an entry as JSON can hold it: for settings, of which nothing is a series of samples."""
    if entry.kind == NESTED:
        return tree(entry.inside)
    rows = texts(entry)
    if rows is not None:
        return rows[0] if len(rows) == 1 else rows
    values = numbers(entry)
    if values is None or not np.isfinite(values).all():
        return entry.data.hex()
    flat = values.reshape(-1).tolist() if 1 in values.shape else values.tolist()
    return flat[0] if len(flat) == 1 else flat


def tree(entries: Sequence[Entry]) -> dict[str, object]:
    """Return entries as a JSON object; a key that stands several times holds a list."""
    found: dict[str, list[object]] = {}
    for entry in entries:
        found.setdefault(entry.key, []).append(plain(entry))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}
