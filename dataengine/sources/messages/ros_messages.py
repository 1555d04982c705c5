"""ROS 1 and ROS 2 messages in batches: messages of one layout are read as one table, without a step in Python for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import NAME_FIELDS, STAMP_FIELDS, Decoded, Fact, MessageSchema, Part
from dataengine.sources.messages.ros_definitions import parse_definitions
from dataengine.sources.messages.ros_layout import MAX_TRAILING, Layout, PlanMaker, Undecodable, lay_out

# Layouts that are tried on a batch before each message is laid out by itself, and messages above which no table is made.
KNOWN_LAYOUTS = 8
TABLE_BYTES = 1 << 16
# A topic of which so many messages in a row do not fit its schema is not tried again.
PATIENCE = 64


@dataclass(frozen=True, eq=False)
class Group:
    """Messages of one layout: `rows` (k,) in the batch and their bytes, (k, size) uint8."""

    layout: Layout
    rows: Array
    table: Array

    def numbers(self, path: str) -> Array:
        """Return a field's values, (k, *shape), (k, entries, *shape) inside an array of messages."""
        dtype, shape, offsets = self.layout.numbers[path]
        one = np.dtype(dtype)
        # A byte that is neither 0 nor 1 is no bool to numpy.
        stored = np.dtype("uint8") if one.kind == "b" else one.newbyteorder("<" if self.layout.little else ">")
        size = one.itemsize * int(np.prod(shape))
        cut = self.table[:, offsets[0] : offsets[0] + size] if len(offsets) == 1 else np.concatenate([self.table[:, at : at + size] for at in offsets], axis=1)
        values = np.ascontiguousarray(cut).view(stored).reshape(len(self.rows), *((len(offsets),) if len(offsets) > 1 else ()), *shape)
        return values != 0 if one.kind == "b" else values.astype(one, copy=False)

    def times_ns(self, path: str) -> Array:
        """Return a time or duration in ns, (k, entries) int64."""
        signed, offsets = self.layout.times[path]
        order = "<" if self.layout.little else ">"
        seconds, nanos = ((order + "i4") if signed else (order + "u4")), order + "u4"
        found = []
        for at in offsets:
            whole = np.ascontiguousarray(self.table[:, at : at + 4]).view(seconds)[:, 0].astype(np.int64)
            found.append(whole * NS_PER_S + np.ascontiguousarray(self.table[:, at + 4 : at + 8]).view(nanos)[:, 0])
        return np.stack(found, axis=1)

    def text(self, row: int, span: tuple[int, int]) -> bytes:
        """Return a text of one message without its final NUL."""
        found: bytes = self.table[row, span[0] : span[0] + span[1]].tobytes()
        return found[:-1] if found.endswith(b"\0") else found


class RosDecoder:
    """Decoder of one ROS schema.

    Args:
        schema: encoding "ros1msg" or "ros2msg".
        cdr: whether payloads are CDR (ROS 2) or packed (ROS 1).
        picture: path of the uint8 sequence that holds a picture's bytes: it is located, not decoded.
        texts: paths of strings to yield.
        keep_nested: also lay out arrays of messages whose length varies (transforms).

    Raises:
        SchemaProblem: the definition cannot be used.
    """

    def __init__(self, schema: MessageSchema, cdr: bool, picture: str | None = None, texts: Sequence[str] = (), keep_nested: bool = False) -> None:
        main, types = parse_definitions(schema.name, schema.data, ros1=not cdr)
        maker = PlanMaker(types, not cdr, keep_nested, picture)
        self._plan = maker.plan(main)
        self.facts: dict[str, Fact] = maker.facts
        self._cdr, self._picture, self._texts = cdr, picture, tuple(texts)
        self.stamp_path = next((path for path in STAMP_FIELDS if path in self.facts and self.facts[path].time), None)
        self._known: list[Layout] = []
        self._in_vain = 0

    def _lay_out(self, payload: Buffer) -> Layout:
        if self._in_vain >= PATIENCE:
            raise Undecodable(f"not tried after {PATIENCE} messages in a row did not fit the schema")
        try:
            layout = lay_out(payload, self._plan, self._cdr, self._picture)
        except Undecodable:
            self._in_vain += 1
            raise
        self._in_vain = 0
        self._known = [layout, *self._known[: KNOWN_LAYOUTS - 1]]
        return layout

    def _matching(self, layout: Layout, rows: Array, sizes: Array, payloads: Sequence[Buffer]) -> tuple[Group | None, Array]:
        """Return the messages among `rows` that have this layout, and the rows left over."""
        open_end = layout.picture is not None and layout.picture[0] == layout.size
        fits = rows[sizes[rows] >= layout.size] if open_end else rows[sizes[rows] == layout.size]
        if not len(fits):
            return None, rows
        if len(fits) == 1 and not open_end:
            table = np.frombuffer(payloads[fits[0]], dtype=np.uint8)[None]
        else:
            table = np.frombuffer(b"".join([payloads[row][: layout.size] for row in fits.tolist()]), dtype=np.uint8).reshape(len(fits), layout.size)
        same = (table[:, layout.compare] == layout.expected).all(axis=1)
        if open_end:
            length = np.ascontiguousarray(table[:, layout.size - 4 :]).view("<u4" if layout.little else ">u4")[:, 0].astype(np.int64)
            left = sizes[fits] - layout.size - length
            same &= (left >= 0) & (left <= (MAX_TRAILING if self._cdr else 0))
        if not same.any():
            return None, rows
        if same.all():
            return Group(layout, fits, table), rows[~np.isin(rows, fits)] if len(fits) < len(rows) else rows[:0]
        return Group(layout, fits[same], table[same]), rows[~np.isin(rows, fits[same])]

    def groups(self, payloads: Sequence[Buffer], failed: dict[int, str]) -> Iterator[Group]:
        """Yield the messages of a batch by layout; note the ones that do not fit the schema in `failed`."""
        sizes = np.fromiter(map(len, payloads), dtype=np.int64, count=len(payloads))
        rows = np.arange(len(payloads), dtype=np.int64)
        large = sizes > TABLE_BYTES
        if self._picture is not None:
            large &= False  # only the part before the picture goes into the table
        alone = rows[large].tolist()
        rows = rows[~large]
        for layout in list(self._known):
            group, rows = self._matching(layout, rows, sizes, payloads)
            if group is not None:
                yield group
            if not len(rows):
                break
        tried = 0
        while len(rows) and tried < KNOWN_LAYOUTS:
            tried += 1
            first = int(rows[0])
            try:
                layout = self._lay_out(payloads[first])
            except Undecodable as error:
                failed[first] = str(error)
                rows = rows[1:]
                continue
            group, rows = self._matching(layout, rows, sizes, payloads)
            assert group is not None, "a message has its own layout"
            yield group
        for row in sorted(alone + rows.tolist()):
            try:
                layout = self._lay_out(payloads[row])
            except Undecodable as error:
                failed[row] = str(error)
                continue
            yield Group(layout, np.array([row]), np.frombuffer(payloads[row], dtype=np.uint8, count=layout.size)[None])

    def _dimension_names(self, group: Group, path: str) -> tuple[str, ...] | None:
        prefix = path.rpartition(".")[0]
        spans = group.layout.names.get(prefix)
        if spans is None or path.rpartition(".")[2] in NAME_FIELDS or group.layout.numbers[path][1] != (len(spans),) or self.facts[path].dims is not None:
            return None
        return tuple(group.text(0, span).decode("utf-8", "replace") for span in spans)

    def decode(self, payloads: Sequence[Buffer]) -> Decoded:
        """Return the numbers of a batch of messages."""
        out = Decoded(len(payloads))
        if self.stamp_path is not None:
            out.stamp_ns = np.zeros(len(payloads), dtype=np.int64)
        if self._picture is not None:
            out.picture = np.full((len(payloads), 2), -1, dtype=np.int64)
        for group in self.groups(payloads, out.failed):
            layout = group.layout
            for path in layout.numbers:
                out.numbers.setdefault(path, []).append(Part(group.rows, group.numbers(path), self._dimension_names(group, path)))
            for path in layout.times:
                times_ns = group.times_ns(path)
                if path == self.stamp_path and out.stamp_ns is not None:
                    out.stamp_ns[group.rows] = times_ns[:, 0]
                else:
                    out.numbers.setdefault(path, []).append(Part(group.rows, times_ns[:, 0] if times_ns.shape[1] == 1 else times_ns))
            for path in self._texts:
                self._collect_text(out, group, path)
            if layout.picture is not None and out.picture is not None:
                start, length = layout.picture
                out.picture[group.rows, 0] = start
                if start == layout.size:
                    word = np.ascontiguousarray(group.table[:, start - 4 : start]).view("<u4" if layout.little else ">u4")[:, 0]
                    out.picture[group.rows, 1] = start + word.astype(np.int64)
                else:
                    out.picture[group.rows, 1] = start + length
        return out

    @staticmethod
    def _collect_text(out: Decoded, group: Group, path: str) -> None:
        spans = group.layout.texts.get(path)
        if spans is None:
            return
        found = out.texts.setdefault(path, [])
        at, length = spans[0]
        block = group.table[:, at : at + length]
        if len(block) > 1 and (block == block[0]).all():
            text = group.text(0, spans[0])
            found.extend((row, text) for row in group.rows.tolist())
        else:
            found.extend((row, group.text(index, spans[0])) for index, row in enumerate(group.rows.tolist()))
