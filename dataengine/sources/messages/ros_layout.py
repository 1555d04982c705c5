"""Where the fields of a serialised ROS message lie: a plan made from its definition, walked over one payload.

Two messages whose lengths (of strings and sequences) agree have the same layout, so that a batch of them is read as one table. Nothing is executed:
the plan is data.

Source: ROS 1 serialisation (http://wiki.ros.org/msg, little-endian, packed) and CDR as ROS 2 uses it (OMG DDS-RTPS 2.3 section 10:
4 bytes of encapsulation, each number aligned to its size from there on, strings with a final NUL).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import MAX_ELEMENTS, MAX_LEAVES, NAME_FIELDS, Fact, SchemaProblem
from dataengine.sources.messages.ros_definitions import Field

MAX_DEPTH = 16
MAX_OPS = 4096
# Steps of one walk: a message with more nested entries than this is kept as payload only.
MAX_STEPS = 100_000
MAX_NESTED = 64
MAX_NAMES_BYTES = 1 << 16
MAX_TRAILING = 7


class Undecodable(ValueError):
    """A payload does not fit its schema, or is too large to lay out."""


class TooNested(Undecodable):
    """A payload has more nested entries than are walked."""


@dataclass(frozen=True)
class Op:
    """One step of a plan.

    `kind`: "numbers" (`count` in a row, -1 = as many as a length word says), "time", "text", "texts", "structs" (`plan`, `count` times).
    """

    kind: Literal["numbers", "time", "text", "texts", "structs"]
    path: str
    dtype: str = ""
    size: int = 1
    count: int = 1
    shape: tuple[int, ...] = ()
    plan: Plan | None = None
    signed: bool = False


@dataclass(frozen=True)
class Plan:
    """The steps of a message; `fixed` where none of them depends on the message; `least` bytes that it takes."""

    ops: tuple[Op, ...]
    fixed: bool
    least: int


@dataclass(eq=False)
class Layout:
    """Where things lie in one payload: offsets in bytes by path, several where a path occurs in nested entries.

    `numbers[path]` = (dtype, shape, offsets); `times[path]` = (signed, offsets); `texts[path]` = (offset, length) each;
    `picture` = (offset, length) of the bytes that are a picture. `lengths` are the places of all length words before the end.
    """

    size: int
    little: bool
    numbers: dict[str, tuple[str, tuple[int, ...], list[int]]] = field(default_factory=dict)
    times: dict[str, tuple[bool, list[int]]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    names: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    picture: tuple[int, int] | None = None
    lengths: list[int] = field(default_factory=list)
    compare: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    expected: Array = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))


def _vector(fields: list[Field]) -> str | None:
    """Return the dtype when the fields are two or more numbers of one dtype, as in Vector3 and Quaternion."""
    kinds = {(one.type, one.length) for one in fields}
    if len(fields) < 2 or len(kinds) != 1:
        return None
    kind, length = next(iter(kinds))
    return kind if length is None and kind not in ("text", "wide text", "time", "signed time") and "/" not in kind else None


class PlanMaker:
    """Makes the plan of a message from its definitions, and the facts of its fields."""

    def __init__(self, types: Mapping[str, list[Field]], ros1: bool, keep_nested: bool, picture: str | None) -> None:
        self.types, self.ros1, self.keep_nested, self.picture = types, ros1, keep_nested, picture
        self.facts: dict[str, Fact] = {}
        self._ops = 0

    def plan(self, name: str, prefix: str = "", depth: int = 0, kept: bool = True) -> Plan:
        """Return the plan of type `name` with its paths below `prefix`; fields that are not `kept` are walked past."""
        if depth > MAX_DEPTH:
            raise SchemaProblem(f"{name!r} is nested more than {MAX_DEPTH} deep")
        ops: list[Op] = []
        fields = self.types[name]
        for one in fields:
            ops.extend(self._field(one, prefix, depth, kept))
        if not fields and not self.ros1:
            ops.append(Op("numbers", "", "uint8"))  # CDR gives an empty message one byte
        fixed = all(
            (op.kind == "numbers" and op.count >= 0) or op.kind == "time" or (op.kind == "structs" and op.plan is not None and op.plan.fixed and op.count >= 0)
            for op in ops
        )
        return Plan(tuple(ops), fixed, sum(self._least(op) for op in ops))

    @staticmethod
    def _least(op: Op) -> int:
        if op.kind == "numbers":
            return op.size * op.count if op.count >= 0 else 4
        if op.kind == "structs":
            assert op.plan is not None
            return op.plan.least * op.count if op.count >= 0 else 4
        return 8 if op.kind == "time" else 4 * max(op.count, 0) if op.kind == "texts" else 4

    def _fact(self, path: str, fact: Fact, kept: bool) -> str:
        """Note a field that becomes a column; return its path, "" for one that does not."""
        if not kept or len(self.facts) >= MAX_LEAVES:
            return ""
        self.facts[path] = fact
        return path

    def _field(self, one: Field, prefix: str, depth: int, kept: bool) -> list[Op]:
        self._ops += 1
        if self._ops > MAX_OPS:
            raise SchemaProblem(f"a message of more than {MAX_OPS} fields")
        path = f"{prefix}{one.name}"
        if one.type == "wide text":
            raise SchemaProblem(f"the field {path!r} is a wstring, which is not read")
        if one.type == "text":
            shown = path if kept else ""
            return [Op("text", shown) if one.length is None else Op("texts", shown, count=one.length)]
        if one.type in ("time", "signed time"):
            signed = one.type == "signed time"
            if one.length is None:
                return [Op("time", self._fact(path, Fact("int64", unit="ns", time=True), kept), signed=signed)]
            return [Op("structs", path, count=one.length, plan=Plan((Op("time", "", signed=signed),), True, 8))]
        if "/" not in one.type:
            size = np.dtype(one.type).itemsize
            shape = () if one.length is None or one.length < 0 else (one.length,)
            # A sequence of bytes is something packed (points, pixels, a map), not a vector.
            blob = one.length == -1 and one.type in ("uint8", "int8") and path != self.picture
            shown = self._fact(path, Fact(one.type), kept and not blob and (one.length is None or one.length <= MAX_ELEMENTS))
            return [Op("numbers", shown, one.type, size, 1 if one.length is None else one.length, shape)]
        inner = self.types[one.type]
        inside = kept and (one.length is None or self.keep_nested or 0 < one.length <= MAX_NESTED)
        vector = _vector(inner)
        if vector is not None:
            dims = tuple(part.name for part in inner)
            slerp = dims == ("x", "y", "z", "w") and vector.startswith("float")
            shown = self._fact(path, Fact(vector, dims, align="slerp" if slerp and one.length is None else None), inside)
            numbers = Op("numbers", shown, vector, np.dtype(vector).itemsize, len(dims), (len(dims),))
            if one.length is None:
                return [numbers]
            plan = Plan((numbers,), True, numbers.size * len(dims))
        else:
            plan = self.plan(one.type, f"{path}.", depth + 1, inside)
            if one.length is None:
                return list(plan.ops)
        return [Op("structs", path, count=one.length, plan=plan)]


class Walk:
    """Walks a plan over one payload.

    Raises:
        Undecodable: a length leaves the payload, bytes are left over, or there are too many nested entries.
    """

    def __init__(self, payload: Buffer, plan: Plan, cdr: bool, picture: str | None, pad_empty: bool = False) -> None:
        self.payload, self.cdr, self.picture_path, self.pad_empty = payload, cdr, picture, pad_empty
        self.size = len(payload)
        self.origin = self.at = 4 if cdr else 0
        self.steps = 0
        little = True
        if cdr:
            if self.size < 4 or payload[0] != 0 or payload[1] not in (0, 1):
                raise Undecodable(f"plain CDR is expected, found encapsulation {bytes(payload[:2]).hex()}")
            little = payload[1] == 1
        self._word = struct.Struct("<I" if little else ">I").unpack_from
        self.layout = Layout(self.size, little)
        self._plan(plan)
        left = self.size - self.at
        if left < 0 or left > (MAX_TRAILING if cdr else 0):
            raise Undecodable(f"{left} bytes are left after the last field")
        self._finish()

    def _align(self, size: int) -> None:
        if self.cdr:
            self.at += -(self.at - self.origin) % size

    def _length(self) -> int:
        self._align(4)
        if self.at + 4 > self.size:
            raise Undecodable(f"a length at byte {self.at} is beyond the payload of {self.size} bytes")
        value = int(self._word(self.payload, self.at)[0])
        self.layout.lengths.append(self.at)
        self.at += 4
        return value

    def _advance(self, size: int) -> int:
        start = self.at
        if size > self.size - start:
            raise Undecodable(f"{size} bytes at byte {start} leave the payload of {self.size} bytes")
        self.at = start + size
        return start

    def _plan(self, plan: Plan) -> None:
        for op in plan.ops:
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise TooNested(f"more than {MAX_STEPS} nested fields")
            if op.kind == "numbers":
                self._numbers(op)
            elif op.kind == "time":
                self._align(4)
                start = self._advance(8)
                if op.path:
                    self.layout.times.setdefault(op.path, (op.signed, []))[1].append(start)
            elif op.kind == "text":
                length = self._length()
                start = self._advance(length)
                if op.path:
                    self.layout.texts.setdefault(op.path, []).append((start, length))
            elif op.kind == "texts":
                self._texts(op)
            else:
                self._structs(op)

    def _numbers(self, op: Op) -> None:
        count, shape = op.count, op.shape
        if count < 0:
            count = self._length()
            shape = (count,)
        if count or self.pad_empty:
            self._align(op.size)
        start = self._advance(op.size * count)
        if op.path and op.path == self.picture_path and op.size == 1:
            self.layout.picture = (start, count)
        elif op.path and 0 < count <= MAX_ELEMENTS:
            self.layout.numbers.setdefault(op.path, (op.dtype, shape, []))[2].append(start)

    def _texts(self, op: Op) -> None:
        count = op.count if op.count >= 0 else self._length()
        if count > (self.size - self.at) // 4 or count > MAX_STEPS - self.steps:
            raise Undecodable(f"{count} texts do not fit the payload")
        self.steps += count
        found = []
        for _ in range(count):
            length = self._length()
            found.append((self._advance(length), length))
        if op.path.rpartition(".")[2] in NAME_FIELDS and 0 < sum(length for _, length in found) <= MAX_NAMES_BYTES:
            self.layout.names[op.path.rpartition(".")[0]] = found

    def _structs(self, op: Op) -> None:
        assert op.plan is not None
        count = op.count if op.count >= 0 else self._length()
        if op.plan.least and count > (self.size - self.at) // op.plan.least:
            raise Undecodable(f"{count} entries do not fit the payload")
        if not op.plan.least:
            return  # entries without a byte: nothing to walk past
        if not op.plan.fixed or count <= MAX_NESTED:
            for _ in range(count):
                self._plan(op.plan)
            return
        # Entries of fixed size repeat their places as soon as their alignment does.
        kept = self.layout
        self.layout = Layout(self.size, kept.little)
        seen: dict[int, tuple[int, int]] = {}
        done = 0
        while done < count:
            phase = (self.at - self.origin) % 8
            if phase in seen:
                since, place = seen[phase]
                rounds = (count - done) // (done - since)
                self._advance(rounds * (self.at - place))
                done += rounds * (done - since)
                seen = {}
                if done == count:
                    break
            seen[phase] = (done, self.at)
            self._plan(op.plan)
            done += 1
        self.layout = kept

    def _finish(self) -> None:
        """Note the bytes that another message must share to have this layout: byte order, length words, and the names of dimensions."""
        layout = self.layout
        if layout.picture is not None and layout.picture[0] + layout.picture[1] == self.at:
            layout.size = layout.picture[0]  # the picture ends the message: its length may differ
            layout.lengths.pop()
        spans = [(at, 4) for at in layout.lengths]
        spans += [span for found in layout.names.values() for span in found]
        if self.cdr:
            spans.append((0, 2))
        places = [np.arange(at, at + size) for at, size in spans]
        layout.compare = np.concatenate(places) if places else layout.compare
        head = np.frombuffer(self.payload, dtype=np.uint8, count=layout.size)
        layout.expected = head[layout.compare].copy()


def lay_out(payload: Buffer, plan: Plan, cdr: bool, picture: str | None) -> Layout:
    """Return the layout of a payload; raise Undecodable.

    Older writers align an empty sequence of 8-byte numbers as if it held one: that reading is tried where the plain one does not come out even.
    """
    try:
        return Walk(payload, plan, cdr, picture).layout
    except Undecodable as error:
        if not cdr or isinstance(error, TooNested):
            raise
        try:
            return Walk(payload, plan, cdr, picture, pad_empty=True).layout
        except Undecodable:
            pass
        raise
