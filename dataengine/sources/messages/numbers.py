"""The numeric fields of one topic as streams: one stream a field, rows of one shape.

A stream has a row for each message that holds the field in the stream's shape. What decides the shape is the first batch that holds the field:
- one shape there: it is the stream's; later messages with another are counted and stay in the payload only (`ragged_field`);
- several that the messages name (JointState of an arm and of its gripper on one topic): one stream each, with the first name behind it;
- several without names: the field stays in the payload only (`ragged_field`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.problem import Problem
from dataengine.core.stream import Rows
from dataengine.sources.messages.fields import Decoded, Fact, Part, in_order
from dataengine.sources.messages.stream_names import StreamNames

MAX_VARIANTS = 8

Shape = tuple[tuple[int, ...], tuple[str, ...] | None]


class _Field:
    """One field path: the streams its shapes go to; None for a field that stays in the payload."""

    def __init__(self) -> None:
        self.streams: dict[Shape, str] | None = {}
        self.rows = 0
        self.left_out = 0
        self.plain: str | None = None


class NumberStreams:
    """Makes the rows of a topic's numeric fields, batch by batch."""

    def __init__(self, topic: str, owner: str, prefix: str, names: StreamNames) -> None:
        self._topic, self._owner, self._prefix, self._names = topic, owner, prefix, names
        self._fields: dict[str, _Field] = {}
        self._columns: dict[str, tuple[str, Shape, str]] = {}

    def _stream(self, path: str, shape: Shape, alone: bool) -> str:
        owner = f"{self._owner}:{path}"
        if alone:
            return self._names.take(f"{self._prefix}.{path}", owner)
        first = (shape[1] or ("",))[0]
        label = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in first)
        # Another variant of a mapped field is another stream: only the first may have the mapped name.
        return self._names.take(f"{self._prefix}.{path}.{label}", f"{owner} of {shape[1]}")

    def _choose(self, path: str, field: _Field, parts: list[Part]) -> None:
        """Decide where shapes that were not seen before go."""
        shapes = list(dict.fromkeys((part.values.shape[1:], part.names) for part in parts))
        if field.streams is None:
            return
        new = [shape for shape in shapes if shape not in field.streams]
        if not field.streams and len(new) == 1:
            field.plain = field.streams[new[0]] = self._stream(path, new[0], alone=True)
            return
        named = all(shape[1] for shape in new) and len(field.streams) + len(new) <= MAX_VARIANTS
        if not named:
            if not field.streams:
                field.streams = None
            return
        for shape in sorted(new, key=repr):
            field.streams[shape] = self._stream(path, shape, alone=False)

    def rows(self, decoded: Decoded, clocks: Mapping[str, Array]) -> Iterator[Rows]:
        """Yield the rows of one batch; `clocks` are (count,) int64 ns of its messages."""
        for path, parts in decoded.numbers.items():
            field = self._fields.setdefault(path, _Field())
            held = [part for part in parts if 0 not in part.values.shape[1:]]
            self._choose(path, field, held)
            by_stream: dict[str, list[Part]] = {}
            for part in held:
                shape = (part.values.shape[1:], part.names)
                stream = None if field.streams is None else field.streams.get(shape)
                field.rows += len(part.rows)
                if stream is None:
                    field.left_out += len(part.rows)
                else:
                    by_stream.setdefault(stream, []).append(part)
                    self._columns.setdefault(stream, (path, shape, str(part.values.dtype)))
            for stream, found in by_stream.items():
                joined = in_order(found)
                whole = len(joined.rows) == decoded.count
                yield Rows(stream, joined.values, dict(clocks) if whole else {name: stamps[joined.rows] for name, stamps in clocks.items()})

    def columns(self, facts: Mapping[str, Fact], frame: str | None) -> dict[str, Column]:
        """Return the column of each stream that had rows."""
        found = {}
        for stream, (path, (shape, names), dtype) in self._columns.items():
            fact = facts[path]
            dims = names if names and shape and len(names) == shape[-1] else fact.dims if fact.dims and shape and len(fact.dims) == shape[-1] else None
            found[stream] = Column(
                stream,
                dtype=dtype,
                shape=shape,
                dims=dims,
                unit=fact.unit,
                frame=frame,
                meaning="action" if stream == "action" else "state" if stream == "observation.state" else "time" if fact.time else "other",
                align=fact.align,
                extra={"topic": self._topic, "field": path},
            )
        return found

    def problems(self) -> Iterator[Problem]:
        """Yield what did not become columns."""
        for path, field in self._fields.items():
            if field.left_out:
                yield Problem(
                    "ragged_field",
                    f"topic {self._topic!r}: field {path!r} has no fixed length: {field.left_out} of {field.rows} values stand in the payload only",
                    where=f"{self._topic}:{path}",
                    severity="info",
                    expected="one length",
                    found="several",
                )
