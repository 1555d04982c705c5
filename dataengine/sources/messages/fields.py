"""What the decoders of messages share: a message's schema, and the numbers of a batch of messages by field path.

A decoder reads a batch of payloads of one topic. It never raises for a message that does not fit its schema: that message is listed
as failed, its payload is kept by the caller, and its fields have no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Buffer

# A numeric array of more elements than this is data to keep, not a column (point clouds, maps, raw pictures).
MAX_ELEMENTS = 4096
# Fields of one schema that become columns.
MAX_LEAVES = 512
MAX_SCHEMA_BYTES = 4 << 20

# Fields that hold the time of measurement, and those that name the entries of the vectors beside them.
STAMP_FIELDS = ("header.stamp", "stamp", "timestamp")
NAME_FIELDS = ("name", "names", "joint_names")


class SchemaProblem(ValueError):
    """A schema cannot be used to decode messages: they are kept as payload only."""


@dataclass(frozen=True)
class MessageSchema:
    """A schema as recorded: name ("sensor_msgs/msg/Imu"), encoding ("ros1msg", "ros2msg", "protobuf", "jsonschema", ""), and its text or bytes."""

    name: str
    encoding: str
    data: bytes

    @property
    def message_name(self) -> str:
        """Return the name in one form for all encodings: "sensor_msgs/Imu" for sensor_msgs/msg/Imu and for sensor_msgs.Imu."""
        return self.name.replace("/msg/", "/") if "/" in self.name else self.name.replace(".", "/")


@dataclass(frozen=True)
class Fact:
    """What a schema says of a field: dtype as a numpy name, names of the last axis, unit, and how it may be interpolated."""

    dtype: str
    dims: tuple[str, ...] | None = None
    unit: str | None = None
    align: Literal["nearest", "previous", "linear", "slerp"] | None = None
    time: bool = False


@dataclass(frozen=True, eq=False)
class Part:
    """Values of one field in some messages of a batch: `rows` (k,) int64 ascending, `values` (k, ...); `names` of the last axis where the messages say them."""

    rows: Array
    values: Array
    names: tuple[str, ...] | None = None


@dataclass(eq=False)
class Decoded:
    """A decoded batch of `count` messages.

    `stamp_ns` is (count,) int64, 0 where a message has none, None where the schema has none. `texts` holds what a caller asked for by path: (row, bytes).
    `picture` is (count, 2) int64, start and end of the picture's bytes in each payload, -1 where there are none.
    """

    count: int
    numbers: dict[str, list[Part]] = field(default_factory=dict)
    stamp_ns: Array | None = None
    texts: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    picture: Array | None = None
    failed: dict[int, str] = field(default_factory=dict)


class Decoder(Protocol):
    """Reads the messages of one schema. `facts` describes the paths that it has yielded."""

    facts: dict[str, Fact]

    def decode(self, payloads: Sequence[Buffer]) -> Decoded:
        """Return the numbers of a batch."""


def parts_by_shape(rows: Sequence[int], values: Sequence[object], dtype: str, names: Mapping[int, tuple[str, ...]] | None = None) -> list[Part]:
    """Return `values` (numbers, or lists of numbers) of messages `rows` as one part for each length, and for each set of `names`, that occurs."""
    kinds: dict[tuple[int, tuple[str, ...] | None], tuple[list[int], list[object]]] = {}
    for row, value in zip(rows, values, strict=True):
        length = len(value) if isinstance(value, list) else -1
        own = names.get(row) if names else None
        into = kinds.setdefault((length, own if own is not None and len(own) == length else None), ([], []))
        into[0].append(row)
        into[1].append(value)
    return [Part(np.array(at, dtype=np.int64), np.array(found, dtype=dtype), own) for (_, own), (at, found) in kinds.items()]


def in_order(parts: Iterable[Part]) -> Part:
    """Join parts of equal shape and names into one, in the order of the messages."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    rows = np.concatenate([part.rows for part in found])
    order = np.argsort(rows, kind="stable")
    return Part(rows[order], np.concatenate([part.values for part in found])[order], found[0].names)
