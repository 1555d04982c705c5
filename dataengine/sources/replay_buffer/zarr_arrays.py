"""Arrays of a Zarr store (format 2, and the core of 3), read by rows, chunk by chunk.

Sizes that the metadata declare are checked before anything is read or allocated; a chunk that is not stored holds the fill value, as the format says.
Source: the Zarr specifications, version 2 and version 3 (regular grids, default and v2 chunk keys; no sharding, no transposition).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.replay_buffer.codecs import ADVICE, Config, decode, picture_encoding, require_known
from dataengine.sources.replay_buffer.members import Members

MAX_METADATA_BYTES = 1 << 20
MAX_CHUNK_BYTES = 256 << 20
MAX_RANK = 8
MAX_ITEM_BYTES = 64 << 10

_DTYPE = re.compile(r"[<>|]([biufcSU])(\d{1,5})")
_V3_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)")
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_json(members: Members, key: str, where: str) -> Mapping[str, Any] | None:
    """Return a small JSON object of a store, None where there is none; raise BadRecording where it is something else."""
    data = members.read(key, MAX_METADATA_BYTES)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecording(f"{where}/{key}", "JSON", f"something else ({error})"[:200], ADVICE, check="zarr_metadata") from error
    if not isinstance(found, dict):
        raise BadRecording(f"{where}/{key}", "a JSON object", type(found).__name__, ADVICE, check="zarr_metadata")
    return found


@dataclass(frozen=True)
class Layout:
    """What an array's metadata say: shape, chunks, type, order of memory ("C", "F"), codecs in the order of application, fill value, and chunk keys."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    codecs: tuple[Config, ...]
    fill: Any
    prefix: str
    separator: str

    @property
    def chunk_bytes(self) -> int:
        """Return the bytes of one chunk's numbers."""
        return math.prod(self.chunks) * self.dtype.itemsize


def _bad(where: str, expected: str, found: object, check: str = "zarr_metadata") -> BadRecording:
    return BadRecording(where, expected, f"{found!r}"[:200], ADVICE, check=check)


def _sizes(value: Any, where: str, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK or not all(type(size) is int and least <= size < 2**48 for size in value):
        raise _bad(where, f"at most {MAX_RANK} whole numbers from {least} on", value)
    return tuple(value)


def _dtype(value: Any, where: str) -> np.dtype[Any]:
    match = _DTYPE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _bad(where, "a data type of numbers or texts of fixed length (objects are not read)", value, "unknown_dtype")
    try:
        found: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise _bad(where, "a data type that numpy knows", value, "unknown_dtype") from None
    if found.itemsize > MAX_ITEM_BYTES or not found.itemsize or found.name == "float128":
        raise _bad(where, f"a data type of 1 to {MAX_ITEM_BYTES} bytes", value, "unknown_dtype")
    return found


def _fill(value: Any, dtype: np.dtype[Any], where: str) -> Any:
    """Return the fill value as the array's type; None where the store names none."""
    if value is None:
        return None
    if dtype.kind in "SU":
        return dtype.type()
    if isinstance(value, str):
        value = _FLOATS.get(value, value)
    try:
        return dtype.type(complex(*value) if isinstance(value, list) and len(value) == 2 else value)
    except (ValueError, TypeError, OverflowError):
        raise _bad(where, f"a fill value of type {dtype.name}", value) from None


def _layout_2(found: Mapping[str, Any], where: str) -> Layout:
    if found.get("zarr_format") != 2:
        raise _bad(where, "zarr_format 2", found.get("zarr_format"))
    dtype = _dtype(found.get("dtype"), f"{where}: dtype")
    filters, compressor = found.get("filters") or [], found.get("compressor")
    codecs: list[Any] = [*filters, *([compressor] if compressor is not None else [])] if isinstance(filters, list) else [None]
    if not all(isinstance(codec, dict) for codec in codecs):
        raise _bad(where, "codecs as objects", codecs)
    order, separator = found.get("order", "C"), found.get("dimension_separator", ".")
    if order not in ("C", "F") or separator not in (".", "/"):
        raise _bad(where, "order C or F, dimension_separator . or /", (order, separator))
    shape, chunks = _sizes(found.get("shape"), f"{where}: shape", 0), _sizes(found.get("chunks"), f"{where}: chunks", 1)
    return Layout(shape, chunks, dtype, order, tuple(codecs), _fill(found.get("fill_value"), dtype, where), "", separator)


def _codecs_3(found: Any, dtype: np.dtype[Any], where: str) -> tuple[np.dtype[Any], list[Config]]:
    """Return the type with the byte order that the codec `bytes` names, and the codecs behind it as Zarr 2 would write them."""
    codecs: list[Config] = []
    for number, codec in enumerate(found if isinstance(found, list) and found else [None]):
        name, settings = (codec.get("name"), codec.get("configuration") or {}) if isinstance(codec, dict) else (None, {})
        if not isinstance(name, str) or not isinstance(settings, dict) or (number == 0) != (name == "bytes"):
            raise _bad(where, "the codec `bytes` and then packing ones (neither sharding nor transposition)", codec, "unknown_codec")
        if number == 0:
            dtype = dtype.newbyteorder(">" if settings.get("endian") == "big" else "<")
        else:
            codecs.append({**settings, "id": name.removeprefix("numcodecs.")})
    return dtype, codecs


def _layout_3(found: Mapping[str, Any], where: str) -> Layout:
    grid, keys, kind = found.get("chunk_grid"), found.get("chunk_key_encoding"), found.get("data_type")
    if found.get("zarr_format") != 3 or found.get("node_type") != "array" or not isinstance(grid, dict) or not isinstance(keys, dict):
        raise _bad(where, "the metadata of a Zarr 3 array", {name: found.get(name) for name in ("zarr_format", "node_type", "chunk_grid")})
    if not isinstance(kind, str) or not _V3_DTYPE.fullmatch(kind):
        raise _bad(f"{where}: data_type", "a data type of numbers", kind, "unknown_dtype")
    grid_settings, key_settings = grid.get("configuration") or {}, keys.get("configuration") or {}
    if grid.get("name") != "regular" or keys.get("name") not in ("default", "v2") or not isinstance(grid_settings, dict) or not isinstance(key_settings, dict):
        raise _bad(where, "a regular grid with default or v2 keys", (grid, keys))
    default = keys["name"] == "default"
    separator = key_settings.get("separator", "/" if default else ".")
    if separator not in (".", "/"):
        raise _bad(where, "a separator . or /", separator)
    dtype, codecs = _codecs_3(found.get("codecs"), np.dtype(kind), f"{where}: codecs")
    shape, chunks = _sizes(found.get("shape"), f"{where}: shape", 0), _sizes(grid_settings.get("chunk_shape"), f"{where}: chunk_shape", 1)
    return Layout(shape, chunks, dtype, "C", tuple(codecs), _fill(found.get("fill_value"), dtype, where), f"c{separator}" if default else "", separator)


class ZarrArray:
    """One array: rows along its first axis, and its chunks as they are stored.

    Args:
        members: of the store.
        path: of the array in the store.
        where: what to call the store in messages.

    Raises:
        BadRecording: metadata that are missing, of another form, or declare sizes beyond reason.
    """

    def __init__(self, members: Members, path: str, where: str) -> None:
        self.path, self.where = path, f"{where}/{path}"
        found = read_json(members, f"{path}/.zarray", where)
        newer = read_json(members, f"{path}/zarr.json", where) if found is None else None
        if found is None and newer is None:
            raise _bad(self.where, "the metadata of an array (.zarray or zarr.json)", None)
        self.layout = layout = _layout_2(found, self.where) if found is not None else _layout_3(newer or {}, self.where)
        if not layout.shape or len(layout.shape) != len(layout.chunks):
            raise _bad(self.where, "one chunk size for each of at least one axis", (layout.shape, layout.chunks))
        require_known(layout.codecs, self.where)
        row_bytes = math.prod(layout.shape[1:]) * layout.dtype.itemsize
        block_bytes = row_bytes * min(layout.chunks[0], max(layout.shape[0], 1))
        if layout.chunk_bytes > MAX_CHUNK_BYTES or block_bytes > MAX_CHUNK_BYTES:
            raise BadRecording(
                self.where,
                f"chunks of at most {MAX_CHUNK_BYTES} bytes",
                f"chunks {list(layout.chunks)} of {layout.dtype.name}, shape {list(layout.shape)}",
                "write the array again with smaller chunks",
                check="absurd_size",
            )
        self.row_bytes = row_bytes
        self._members = members
        self._block: tuple[int, Array] | None = None
        self.absent_chunks = 0

    @property
    def rows(self) -> int:
        """Return the length of the first axis."""
        return self.layout.shape[0]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Return the shape of one row."""
        return self.layout.shape[1:]

    @property
    def frames(self) -> str | None:
        """Return the picture format in which each row is one chunk and one encoded picture, None where it is not so."""
        layout = self.layout
        whole = layout.chunks == (1, *layout.shape[1:]) and len(layout.shape) == 4 and layout.dtype == np.uint8
        return picture_encoding(layout.codecs) if whole else None

    def key(self, place: Sequence[int]) -> str:
        """Return the key of a chunk by its place in the grid."""
        return f"{self.path}/{self.layout.prefix}{self.layout.separator.join(map(str, place))}"

    def stored_rows(self) -> int:
        """Return an upper bound of the rows that any chunk was stored of, from the names alone."""
        start = f"{self.path}/{self.layout.prefix}"
        separator = self.layout.separator
        firsts = {
            rest[: rest.find(separator)] if separator in rest else rest
            for name in self._members.names()
            if name.startswith(start) and (rest := name[len(start) :])
        }
        return sum(first.isdecimal() for first in firsts) * self.layout.chunks[0]

    def encoded(self, row: int) -> bytes:
        """Return the chunk of one row as it is stored, empty where it is absent."""
        return self._members.read(self.key((row, *(0 for _ in self.row_shape))), MAX_CHUNK_BYTES) or b""

    def blocks(self, start: int, stop: int) -> Iterator[Array]:
        """Yield rows [start, stop) in blocks that end where chunks do."""
        while start < stop:
            number = start // self.layout.chunks[0]
            first = number * self.layout.chunks[0]
            end = min(stop, first + self.layout.chunks[0])
            yield self._rows_of(number)[start - first : end - first]
            start = end

    def _rows_of(self, number: int) -> Array:
        """Return the rows of all chunks that stand at one place along the first axis; the last one read stays in memory."""
        if self._block is not None and self._block[0] == number:
            return self._block[1]
        layout = self.layout
        counts = [-(-size // chunk) for size, chunk in zip(layout.shape[1:], layout.chunks[1:], strict=True)]
        rows = min(layout.chunks[0], layout.shape[0] - number * layout.chunks[0])
        block = np.empty((rows, *layout.shape[1:]), layout.dtype.newbyteorder("="))
        for place in product(*map(range, counts)):
            self._fill_in(block, (number, *place))
        self._block = number, block
        return block

    def _fill_in(self, block: Array, place: tuple[int, ...]) -> None:
        """Put one chunk into the rows at its place."""
        layout, key = self.layout, self.key(place)
        window = tuple(slice(at * chunk, (at + 1) * chunk) for at, chunk in zip(place[1:], layout.chunks[1:], strict=True))
        target = block[(slice(None), *window)]
        data = self._members.read(key, MAX_CHUNK_BYTES + (1 << 20))
        if data is None:
            if layout.fill is None:
                raise BadRecording(f"{self.where}", f"the chunk {key}", "none, and no fill value for it", ADVICE, check="missing_chunk")
            self.absent_chunks += 1
            target[...] = layout.fill
            return
        numbers = np.frombuffer(decode(data, layout.codecs, layout.chunk_bytes, key), layout.dtype).reshape(
            layout.chunks, order="F" if layout.order == "F" else "C"
        )
        target[...] = numbers[tuple(slice(size) for size in target.shape)]
