"""Replay buffers: `data/<array>` with a row for each step, `meta/episode_ends` with the row behind each episode's last.

What is kept how:
- numbers: with their type, whatever they were packed with;
- pictures whose chunk is one encoded picture (JPEG XL, JPEG): those very bytes;
- pictures that were packed losslessly (blosc, zstd, …, a chunk of many frames): exact, as PNG or as numbers, because whoever wrote them so gave nothing up;
  `frames: video` in the configuration has them encoded as video instead, as other raw frames are.

Time: an array `timestamp` of seconds is the measured clock of its rows, where it increases. Nothing else in a buffer tells the rate: it comes from the dataset's
description or `--rate`, else there is none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from posixpath import basename, dirname
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event, Noticed, Rejected
from dataengine.core.errors import BadRecording, ConfigError, printable
from dataengine.core.names import dataset_from_path, slug
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Frames, Items, Rows, Values
from dataengine.sources.replay_buffer.columns import column_of
from dataengine.sources.replay_buffer.members import Members, open_members, roots
from dataengine.sources.replay_buffer.zarr_arrays import ZarrArray, read_json
from dataengine.sources.replay_buffer.zip_members import LOCAL_MAGIC

NAME = "replay_buffer"
VERSION = "1"
RECOGNISED_BY = "a Zarr group with meta/episode_ends beside data (format 2 or 3), as a folder or as a zip file that starts with a Zarr object"
KEEPS = "every array of data with its type, JPEG XL and JPEG frames as their own bytes, other pictures exact, attributes; sharded and object arrays are refused by name"

MAX_EPISODES = 10_000_000
MAX_ARRAYS = 1000
MAX_METADATA_ROWS = 4096
BATCH_BYTES = 8 << 20
BLOCK_BYTES = 16 << 20
EPOCH_FROM_NS = 978_307_200 * 1_000_000_000  # 2001: a clock that starts later counts from 1970

# What buffers are called that are the only one of their folder.
_PLAIN_NAMES = frozenset(["", "dataset", "replay_buffer", "data"])
_ADVICE = "make the copy again from the original"
_ZIP_STARTS = (".zgroup", ".zattrs", ".zmetadata", ".zarray", "zarr.json")


def _starts_as_zarr(head: bytes) -> bool:
    """Return whether the first member of a zip file is an object of a Zarr store."""
    length = int.from_bytes(head[26:28], "little")
    return head[:4] == LOCAL_MAGIC and head[30 : 30 + length].decode("latin-1").endswith(_ZIP_STARTS)


def _stem(name: str) -> str:
    for ending in (".zip", ".zarr"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return name


def _dataset(listing: Listing, path: str) -> str:
    """Name the dataset by the buffer itself, by its folder where it is called like any other."""
    stem = _stem(basename(path) or listing.name)
    if stem.lower() not in _PLAIN_NAMES:
        return slug(stem)
    return dataset_from_path(listing.name, path) if path else dataset_from_path(basename(dirname(listing.root.rstrip("/"))), "")


def find(listing: Listing) -> Found:
    """Claim the folders and zip files that hold a replay buffer, one item each."""
    items, claimed = [], set[str]()
    paths = list(listing.files)
    for root in roots(paths):
        first = bisect_left(paths, root)
        inside = list(takewhile(lambda path, root=root: path.startswith(root), islice(paths, first, None)))  # type: ignore[misc]
        if not any(path.startswith(f"{root}data/") for path in inside) or not claimed.isdisjoint(inside):
            continue
        path = root.rstrip("/")
        items.append(Item(NAME, listing.root, path, _dataset(listing, path), tuple(listing.files[name] for name in inside), extra={"zip": False}))
        claimed.update(inside)
    for path, file in listing.files.items():
        known = path not in claimed and listing.head(path, 4) == LOCAL_MAGIC and _starts_as_zarr(listing.head(path, 512))
        if path not in claimed and (known or path.lower().endswith(".zarr.zip")):
            items.append(Item(NAME, listing.root, path, _dataset(listing, path), (file,), extra={"zip": True}, by_name=not known))
            claimed.add(path)
    return Found(items, frozenset(claimed))


class _Buffer:
    """An open buffer: the arrays of `data` that have a row for each step, the ends of the episodes, and what else is in it."""

    def __init__(self, members: Members, where: str, options: ReadOptions) -> None:
        self._where, self._members, self._options = where, members, options
        self.notes: list[Problem] = []
        self.metadata: dict[str, Any] = {}
        self.ends = self._ends()
        self.arrays = self._arrays()
        frames = options.config.get("frames", "exact")
        if frames not in ("exact", "video"):
            raise ConfigError(f"replay_buffer: frames: must be exact or video, got {frames!r}"[:200])
        self._exact = frames == "exact"
        self._size_noted: set[str] = set()
        for key in (".zattrs", "data/.zattrs", "meta/.zattrs"):
            found = read_json(members, key, where)
            if found:
                self.metadata.setdefault("attributes", {})[key.rpartition("/")[0] or "root"] = found
        for key in ("zarr.json", "data/zarr.json", "meta/zarr.json"):
            found = read_json(members, key, where)
            if found and found.get("attributes"):
                self.metadata.setdefault("attributes", {})[key.rpartition("/")[0] or "root"] = found["attributes"]

    def _ends(self) -> list[int]:
        array = ZarrArray(self._members, "meta/episode_ends", self._where)
        if len(array.layout.shape) != 1 or array.layout.dtype.kind not in "iu" or array.rows > MAX_EPISODES:
            found = f"{array.layout.dtype.name} {list(array.layout.shape)}"
            raise BadRecording(array.where, f"at most {MAX_EPISODES} whole numbers, one an episode", found, _ADVICE, check="episode_ends")
        ends = [int(end) for block in array.blocks(0, array.rows) for end in block.tolist()]
        if not ends:
            raise BadRecording(array.where, "the end of at least one episode", "none", "there is nothing in this buffer", check="no_episodes")
        return ends

    def _names(self, group: str) -> list[str]:
        found = {name[len(group) : -len(mark)] for name in self._members.names() for mark in ("/.zarray", "/zarr.json") if _is_array_key(name, group, mark)}
        if len(found) > MAX_ARRAYS:
            raise BadRecording(f"{self._where}/{group}", f"at most {MAX_ARRAYS} arrays", f"{len(found)}", _ADVICE, check="too_many_arrays")
        return sorted(name for name in found if self._is_array(group + name))

    def _is_array(self, path: str) -> bool:
        if f"{path}/.zarray" in self._members:
            return True
        found = read_json(self._members, f"{path}/zarr.json", self._where)
        return found is not None and found.get("node_type") != "group"

    def _arrays(self) -> dict[str, ZarrArray]:
        """Return the arrays with a row for each step by name; what cannot be read, or has no row for each step, is named."""
        arrays: dict[str, ZarrArray] = {}
        for name in self._names("data/"):
            try:
                array = ZarrArray(self._members, f"data/{name}", self._where)
            except BadRecording as error:
                self.notes.append(Problem("array_not_read", str(error), error.where, "warning", error.expected, error.found, error.advice))
                continue
            arrays[name] = array
        longest = max((array.rows for array in arrays.values()), default=0)
        last = max((end for end in self.ends if end <= longest), default=0)
        fitting = {name: array for name, array in arrays.items() if array.rows >= last}
        for name in sorted(arrays.keys() - fitting.keys()):
            found = f"{arrays[name].rows} rows where the episodes have {last}"
            message = f"{arrays[name].where}: not read, as it has no row for each step: {found}"
            self.notes.append(Problem("array_too_short", message, arrays[name].where, "warning", f"at least {last} rows", found, _ADVICE))
        if not fitting:
            raise BadRecording(f"{self._where}/data", "an array with a row for each step", f"none among {len(arrays)}", _ADVICE, check="no_arrays")
        stored = max(array.stored_rows() for array in fitting.values())
        if last > 4 * stored:
            raise BadRecording(
                f"{self._where}/data", f"chunks of the {last} rows that the episodes have", f"{stored} rows at most", _ADVICE, check="missing_chunk"
            )
        most = max(array.rows for array in fitting.values())
        if most > last:
            message = f"{self._where}: {most - last} rows stand behind the end of the last episode ({last}) and belong to none: they are not read"
            self.notes.append(Problem("rows_without_episode", message, self._where, "warning", f"{last} rows", f"{most}", "correct meta/episode_ends"))
        return fitting

    def require_span(self, number: int, start: int, end: int, landed: int) -> None:
        """Raise BadRecording for an episode whose rows cannot be: behind the arrays, none, or those of an episode before (`landed`)."""
        rows = min(array.rows for array in self.arrays.values())
        if not landed <= start < end <= rows:
            expected, found = f"rows that begin at {landed} or behind it and end at {rows} at most", f"rows {start} to {end}"
            raise BadRecording(f"{self._where}/meta/episode_ends[{number}]", expected, found, "correct meta/episode_ends", check="episode_ends")

    def meta_of(self) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """Return what stands in `meta` beside the ends: by name, lists with an entry for each episode, and other small arrays."""
        each: dict[str, list[Any]] = {}
        whole: dict[str, Any] = {}
        for name in self._names("meta/"):
            if name == "episode_ends":
                continue
            try:
                array = ZarrArray(self._members, f"meta/{name}", self._where)
                if array.row_bytes > 4096 or (array.rows != len(self.ends) and array.rows > MAX_METADATA_ROWS):
                    raise BadRecording(
                        array.where, "a small array, or one with a row for each episode", f"shape {list(array.layout.shape)}", check="array_not_read"
                    )
                values = [_plain(value) for block in array.blocks(0, array.rows) for value in block.tolist()]
            except BadRecording as error:
                self.notes.append(Problem("array_not_read", str(error), error.where, "warning", error.expected, error.found, error.advice))
                continue
            (each if array.rows == len(self.ends) else whole)[name] = values
        return each, whole

    def stamps_ns(self, start: int, stop: int) -> Array | None:
        """Return the measured times of rows [start, stop) in ns, None where the buffer has none that increase."""
        array = self.arrays.get("timestamp")
        if array is None or array.row_shape not in ((), (1,)) or array.layout.dtype.kind != "f" or stop - start > 1 << 24:
            return None
        seconds = np.concatenate([block.reshape(-1).astype(np.float64) for block in array.blocks(start, stop)])
        if not np.isfinite(seconds).all() or np.abs(seconds).max(initial=0) > 4e9 or (np.diff(seconds) <= 0).any():
            return None
        return np.rint(seconds * 1e9).astype(np.int64)

    def rows(self, name: str, column: Column, start: int, stop: int, stamps_ns: Array | None) -> Iterator[Rows]:
        """Yield the rows [start, stop) of an array as rows of its stream."""
        at = 0
        for values in self._values(name, column, start, stop):
            clocks = {} if stamps_ns is None else {"stamp": stamps_ns[at : at + len(values)]}
            yield Rows(column.name, values, clocks)
            at += len(values)

    def _values(self, name: str, column: Column, start: int, stop: int) -> Iterator[Values]:
        array = self.arrays[name]
        if array.frames is not None:
            yield from self._encoded(name, array, array.frames, start, stop)
            return
        step = max(1, BLOCK_BYTES // max(1, array.row_bytes))
        for block in array.blocks(start, stop):
            for first in range(0, len(block), step):
                part = block[first : first + step]
                if column.kind == "text":
                    yield Items([_text(value) for value in part.reshape(len(part), -1)[:, 0].tolist()], "utf-8")
                elif column.kind in ("image", "depth"):
                    yield Frames(part, exact=self._exact or column.kind == "depth")
                else:
                    yield part

    def _encoded(self, name: str, array: ZarrArray, encoding: str, start: int, stop: int) -> Iterator[Items]:
        """Yield pictures as their own bytes, and note the first that has another size than the array says."""
        batch: list[bytes] = []
        size = 0
        for row in range(start, stop):
            data = array.encoded(row)
            header = picture_header(data)
            if header is not None and (header.height, header.width) != array.row_shape[:2] and name not in self._size_noted:
                self._size_noted.add(name)
                found = f"{header.height} x {header.width} in row {row}"
                message = f"{array.where}: pictures should have the size of the array {list(array.row_shape[:2])}, found {found}"
                self.notes.append(Problem("picture_size_differs", message, array.where, "warning", f"{list(array.row_shape[:2])}", found, _ADVICE))
            batch.append(data)
            size += len(data)
            if size >= BATCH_BYTES:
                yield Items(batch, encoding)
                batch, size = [], 0
        if batch:
            yield Items(batch, encoding)


def _is_array_key(name: str, group: str, mark: str) -> bool:
    return name.startswith(group) and name.endswith(mark) and len(name) > len(group) + len(mark)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else [value.real, value.imag] if isinstance(value, complex) else value


def _text(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "backslashreplace")


def _rate_hz(options: ReadOptions) -> float | None:
    said = options.description.get("rate_hz")
    return float(said) if isinstance(said, int | float) and said else options.rate_hz


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read a buffer, episode by episode in the order of its rows; one with a damaged chunk is rejected, the others go on.

    Raises:
        BadRecording: no buffer, or metadata that cannot be read.
    """
    with open_members(item, files) as members:
        where = item.path or item.dataset
        buffer = _Buffer(members, where, options)
        columns = {name: column_of(array, name) for name, array in buffer.arrays.items()}
        each, whole = buffer.meta_of()
        yield from _noticed(buffer)
        landed = start = 0
        for number, end in enumerate(buffer.ends):
            try:
                buffer.require_span(number, start, end, landed)
                extra = {name: values[number] for name, values in each.items()}
                yield from _episode(buffer, columns, item, options, number, (start, end), {**whole, **extra})
                landed = end
            except BadRecording as error:
                problem = Problem(error.check, str(error), error.where, "error", error.expected, error.found, error.advice)
                yield Rejected(str(number), problem)
            yield from _noticed(buffer)
            start = end
        for name, array in buffer.arrays.items():
            if array.absent_chunks:
                fill = array.layout.fill
                message = f"{array.where}: {array.absent_chunks} chunks are not stored: their rows read as {fill}, as Zarr defines"
                severity = "warning" if columns[name].is_camera else "info"
                yield Noticed(Problem("chunks_not_stored", message, array.where, severity, "stored chunks", f"{array.absent_chunks} that are not"))  # type: ignore[arg-type]


def _noticed(buffer: _Buffer) -> Iterator[Noticed]:
    while buffer.notes:
        yield Noticed(buffer.notes.pop(0))


def _episode(
    buffer: _Buffer,
    columns: Mapping[str, Column],
    item: Item,
    options: ReadOptions,
    number: int,
    span: tuple[int, int],
    meta: Mapping[str, Any],
) -> Iterator[Rows | EpisodeInfo]:
    """Yield the rows of one episode, and its end."""
    start, end = span
    stamps_ns = buffer.stamps_ns(start, end)
    for name, column in columns.items():
        yield from buffer.rows(name, column, start, end, stamps_ns)
    rate_hz = _rate_hz(options)
    start_ns = 0 if stamps_ns is None else int(stamps_ns[0])
    embodiment = options.description.get("embodiment")
    yield EpisodeInfo(
        dataset=item.dataset,
        columns={column.name: column for column in columns.values()},
        clock="measured" if stamps_ns is not None else "nominal" if rate_hz else "unknown",
        key=str(number),
        stream_clocks={} if stamps_ns is None else {column.name: "stamp" for column in columns.values()},
        start_ns=start_ns,
        epoch=start_ns > EPOCH_FROM_NS,
        rate_hz=rate_hz if stamps_ns is None else None,
        splits=item.splits,
        embodiment=embodiment if isinstance(embodiment, str) else None,
        origin=options.description.get("origin") or "teleop",
        metadata={"rows": [start, end], **buffer.metadata, **({"meta": {printable(name): value for name, value in meta.items()}} if meta else {})},
    )
