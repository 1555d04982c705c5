"""Turn a dataset of an HDF5 file into the rows of a stream: numbers, raw pictures, compressed pictures, texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column, Kind
from dataengine.core.errors import BadRecording, printable
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Frames, Items, Rows, Values
from dataengine.sources.hdf5.padded import Cutter
from dataengine.sources.hdf5.tree import DAMAGED, Notes, Tree, json_value
from dataengine.sources.hdf5.values import MAX_ITEM_BYTES, Table, blocks, inspect, whole

Form = Literal["numbers", "frames", "depth", "compressed", "text", "bytes"]

MIN_PICTURE_PX = 8  # a uint8 (T, 4, 4, 3) array holds matrices rather than pictures
CLOCK = "stamp"  # name of a recorded clock
SMALL_BYTES = 64 << 10  # of a dataset that has no rows in time: kept as metadata
_PICTURE_GROUPS = frozenset(["images", "image", "rgb_images", "rgb", "color_images"])


def stream_name(path: str) -> str:
    """Return a path inside a file as a stream's name: dots for slashes, letters, digits, '_' and '-' only."""
    parts = [re.sub(r"[^A-Za-z0-9_-]+", "_", printable(part)).strip("_") or "_" for part in path.strip("/").split("/")]
    return ".".join(parts)[:200]


def unused(name: str, taken: Sequence[str] | set[str]) -> str:
    """Return a name, with a number behind it where it is taken."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def form_of(table: Table) -> Form | None:
    """Say what the rows of a dataset are, by its path, type and shape; None for what cannot be kept as rows."""
    parts = table.path.lower().split("/")
    pictures = not _PICTURE_GROUPS.isdisjoint(parts[:-1]) or parts[-1].endswith(("_image", "_rgb"))
    rank, dtype, shape = len(table.shape), table.dtype, table.shape
    if table.content in ("text", "bytes"):
        if rank != 1:
            return None
        return "compressed" if pictures else "text" if table.content == "text" else "bytes"
    if table.content != "numeric" or rank == 0:
        return None
    sized = rank >= 3 and min(shape[1:3]) >= MIN_PICTURE_PX
    if "depth" in table.path.lower() and dtype.kind in "uf" and dtype.itemsize > 1 and sized and (rank == 3 or (rank == 4 and shape[3] == 1)):
        return "depth"
    if dtype == np.uint8 and rank == 4 and ((_channels_last(shape) and sized) or (pictures and shape[1] in (1, 3, 4))):
        return "frames"
    if dtype == np.uint8 and pictures and rank == 3 and sized:
        return "frames"
    if dtype == np.uint8 and pictures and rank == 2:
        return "compressed"
    return "numbers"


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] in (1, 3, 4)


@dataclass(frozen=True)
class Plan:
    """How one dataset becomes a stream: its name, its column, and the file's own lengths of compressed pictures."""

    table: Table
    column: Column
    form: Form
    lengths: Array | None = None


def plan(table: Table, name: str, source: str, lengths: Array | None = None, **facts: Any) -> Plan | None:
    """Plan the stream `name` of a dataset; None for a type that cannot be kept as rows.

    `source` is its path within the recording, `lengths` the file's own (cameras, T) table of compressed lengths, `facts` further fields of the column.
    """
    import h5py

    form = form_of(table)
    if form is None:
        return None
    shape: tuple[int | None, ...] = table.shape[1:]
    extra: dict[str, Any] = {"source": printable(source), **facts.pop("extra", {})}
    names_of = h5py.check_enum_dtype(table.dataset.dtype)
    if names_of:
        extra["enum"] = {printable(str(key)): int(value) for key, value in list(names_of.items())[:1000]}
    camera = Camera("wrist" if re.search("wrist|hand", source.lower()) else "other")
    if form in ("frames", "depth"):
        if form == "frames" and len(shape) == 3 and not _channels_last(table.shape):
            extra["layout_in_source"] = "channels first"
            shape = (*shape[1:], shape[0])
        kind: Kind = "depth" if form == "depth" else "image"
        return Plan(table, Column(name, kind, table.dtype.name, shape, camera=camera, extra=extra, **facts), form)
    if form == "compressed":
        return Plan(table, Column(name, "image", "uint8", (None, None, None), encoding="jpeg", camera=camera, extra=extra, **facts), form, lengths)
    if form == "text":
        return Plan(table, Column(name, "text", "string", (), encoding="utf-8", extra=extra, **facts), form)
    if form == "bytes":
        return Plan(table, Column(name, "message", "bytes", (), encoding="raw/uint8", steps=False, extra=extra, **facts), form)
    return Plan(table, Column(name, "numeric", table.dtype.name, shape, extra=extra, **facts), form)


@dataclass
class Emitted:
    """What the reading of a recording has given so far: columns, and which row of a table of lengths belongs to a camera."""

    columns: dict[str, Column] = field(default_factory=dict)
    length_rows: dict[str, list[int]] = field(default_factory=dict)


def rows_of(planned: Plan, emitted: Emitted, notes: Notes, stamps_ns: Array | None = None) -> Iterator[Rows]:
    """Yield the rows of a planned stream and note its column; damaged pictures are problems of `notes`.

    `stamps_ns` is the (T,) int64 measured time of each row, None where the source has none.
    """
    at = 0
    for values in _pictures(planned, emitted, notes) if planned.form == "compressed" else _values(planned, emitted):
        clocks = {} if stamps_ns is None else {CLOCK: stamps_ns[at : at + len(values)]}
        yield Rows(planned.column.name, values, clocks)
        at += len(values)


def _values(planned: Plan, emitted: Emitted) -> Iterator[Values]:
    table = planned.table
    channels_first = planned.column.extra.get("layout_in_source") == "channels first"
    for values in blocks(table):
        if planned.form in ("text", "bytes"):
            yield Items(_items(values, table), planned.column.encoding or "")
        elif planned.form in ("frames", "depth"):
            yield Frames(np.ascontiguousarray(np.moveaxis(values, 1, -1)) if channels_first else values, exact=planned.form == "depth")
        else:
            yield values
    emitted.columns[planned.column.name] = planned.column


def _items(values: Array, table: Table) -> list[bytes]:
    """Return rows of texts or bytes as bytes; a row that is longer than plausible is refused."""
    items = []
    for value in values.tolist() if values.dtype.kind == "S" else values:
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value.tobytes() if isinstance(value, np.ndarray) else bytes(value)
        if len(data) > MAX_ITEM_BYTES:
            raise BadRecording(table.where, f"rows of at most {MAX_ITEM_BYTES} bytes", f"one of {len(data)}", DAMAGED, check="absurd_size")
        items.append(data)
    return items


def _pictures(planned: Plan, emitted: Emitted, notes: Notes) -> Iterator[Values]:
    """Yield compressed pictures, each cut to its own bytes."""
    name, table = planned.column.name, planned.table
    cutter = Cutter(planned.lengths)
    usual = "jpeg"
    headed = False
    for values in blocks(table):
        padded = [row.tobytes() for row in values] if values.dtype == np.uint8 else _items(values, table)
        cut = [cutter.cut(row) for row in padded]
        encodings = []
        for data in cut:
            header = picture_header(data)
            if header and not headed:
                usual, headed = header.encoding, True
            # A damaged picture gets the name of what the others are: nothing else is known of it.
            encodings.append(header.encoding if header else usual)
        yield Items(cut, encodings)
    _note_pictures(table.where, cutter, notes)
    if planned.lengths is not None:
        emitted.length_rows[name] = sorted(cutter.candidates)
    emitted.columns[name] = replace(planned.column, encoding=usual)


def _note_pictures(where: str, cutter: Cutter, notes: Notes) -> None:
    for check, rows, message in (
        ("missing_frames", cutter.empty, "are empty"),
        ("damaged_frames", cutter.damaged, "hold no whole JPEG or PNG; their bytes are kept as they are"),
        ("trailing_bytes", cutter.trailing, "hold more bytes behind the picture's end; they are kept"),
    ):
        if rows:
            notes.warn(check, where, f"{len(rows)} of {cutter.row} frames {message}, the first at row {rows[0]}", "look at the recording before it is used")


def small_value(tree: Tree, thing: Any, path: str, notes: Notes) -> None:
    """Keep a dataset that has no rows in time as metadata; a problem where it is too large or of a kind that JSON cannot hold."""
    table = inspect(tree, thing, path)
    value = whole(table, SMALL_BYTES)
    if value is None:
        why = f"shape {table.shape} of {table.dtype}" if table.content != "other" else f"type {table.dtype}"
        notes.warn("dataset_not_kept", table.where, f"the dataset is not kept, as it has no row for each step and is large or of an odd type ({why})")
        return
    try:
        converted, size = json_value(value, table.where)
    except BadRecording as error:
        notes.warn("dataset_not_kept", table.where, f"the dataset is not kept: {error.found}")
        return
    notes.keep("values", printable(path), converted, size, table.where)
