"""The wire format of tf.train.Example, read in place: bytes lists are views of the record, numbers one vectorised pass.

    Example  { Features features = 1; }                 Feature   { oneof: BytesList = 1 | FloatList = 2 | Int64List = 3 }
    Features { map<string, Feature> feature = 1; }      *List     { repeated value = 1 [packed where a number] }

Repeated numbers are read packed and unpacked, unknown fields are passed over, and what stands twice is merged as protobuf says (the
last of two map entries wins). Groups, which no writer of this message makes, are refused. Nothing is allocated on the word of a length.

Source: tensorflow `core/example/feature.proto`; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording

MAX_FEATURES = 1 << 16  # of one record; the largest sets have some hundreds
MAX_ITEMS = 1 << 20  # of one bytes list: a view costs 200 bytes in memory and 2 in the file
REPEATED_BYTES = 512  # texts up to this length are compared as a whole: an instruction is mostly the same at each step
CHUNK_BYTES = 1 << 20  # varints are decoded in pieces of this size, so that the int64 in between stay small

FeatureKind = Literal["bytes", "float", "int64", "empty"]
_KINDS: dict[int, FeatureKind] = {1: "bytes", 2: "float", 3: "int64"}
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class MalformedWire(ValueError):
    """Bytes that are not the wire format; `parse_example` and the decoders turn it into BadRecording."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of an example, not decoded: the list message is `data[start:stop]`."""

    key: str
    kind: FeatureKind
    data: bytes
    start: int
    stop: int


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise MalformedWire(f"a varint that ends within 10 bytes and before byte {stop}")


def _next_field(data: bytes, at: int, stop: int) -> tuple[int, int, int, int]:
    """Return (field number, wire type, start, stop) of the field at `at`; the value of a delimited field is data[start:stop]."""
    tag = data[at]
    at += 1
    if tag >= 0x80:
        tag, at = _varint(data, at - 1, stop)
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise MalformedWire("a field number above 0")
    if wire == _DELIMITED:
        length = data[at] if at < stop else 0x80
        if length < 0x80:
            at += 1
        else:
            length, at = _varint(data, at, stop)
        end = at + length
    elif wire == _VARINT:
        _, end = _varint(data, at, stop)
    elif wire in (_FIXED64, _FIXED32):
        end = at + (8 if wire == _FIXED64 else 4)
    else:
        raise MalformedWire(f"a wire type of 0, 1, 2 or 5, not {wire},")
    if end > stop:
        raise MalformedWire(f"a field that ends before byte {stop}, not at {end},")
    return number, wire, at, end


def _only(data: bytes, at: int, stop: int, number: int, most: int) -> list[tuple[int, int]]:
    """Return the spans of the delimited fields `number` of a message."""
    spans: list[tuple[int, int]] = []
    while at < stop:
        found, wire, start, at = _next_field(data, at, stop)
        if found == number and wire == _DELIMITED:
            spans.append((start, at))
            if len(spans) > most:
                raise MalformedWire(f"at most {most} entries")
    return spans


def _merged(data: bytes, spans: list[tuple[int, int]]) -> tuple[bytes, int, int]:
    """Return one span that holds all: messages that stand one after the other merge."""
    if len(spans) == 1:
        return data, *spans[0]
    joined = b"".join(data[start:stop] for start, stop in spans)
    return joined, 0, len(joined)


def _entry(data: bytes, at: int, stop: int) -> Feature:
    """Read one entry of the map: its key and its feature."""
    key = b""
    values: list[tuple[int, int]] = []
    while at < stop:
        number, wire, start, at = _next_field(data, at, stop)
        if wire == _DELIMITED:
            if number == 1:
                key = data[start:at]
            elif number == 2:
                values.append((start, at))
    name = key.decode()
    if not values:
        return Feature(name, "empty", data, stop, stop)
    data, at, stop = _merged(data, values)
    kind: FeatureKind = "empty"
    lists: list[tuple[int, int]] = []
    while at < stop:
        number, wire, start, at = _next_field(data, at, stop)
        if wire == _DELIMITED and number in _KINDS:
            if _KINDS[number] != kind:
                kind = _KINDS[number]
                lists = []
            lists.append((start, at))
    if not lists:
        return Feature(name, "empty", data, stop, stop)
    return Feature(name, kind, *_merged(data, lists))


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Return the features of a serialised tf.train.Example by key, in the order of the record, not yet decoded.

    Raises:
        BadRecording: the bytes are not such a message.
    """
    found: dict[str, Feature] = {}
    try:
        entries = 0
        for start, stop in _only(data, 0, len(data), 1, MAX_FEATURES):
            spans = _only(data, start, stop, 1, MAX_FEATURES)
            entries += len(spans)
            if entries > MAX_FEATURES:
                raise MalformedWire(f"at most {MAX_FEATURES} features")
            for at, end in spans:
                feature = _entry(data, at, end)
                found[feature.key] = feature
    except MalformedWire as error:
        raise _malformed(where, error) from None
    except (IndexError, UnicodeDecodeError):
        raise _malformed(where, MalformedWire("keys in UTF-8 and fields inside the record")) from None
    return found


def _malformed(where: str, error: MalformedWire, feature: Feature | None = None) -> BadRecording:
    where = where if feature is None else f"{where}, key {feature.key!r}"
    return BadRecording(where, f"a tf.train.Example: {error}", "other bytes", "write the record again", "malformed_example")


def bytes_items(feature: Feature, where: str) -> list[memoryview]:
    """Return the entries of a bytes list as views of the record: nothing is copied.

    Raises:
        BadRecording: a length leaves the list, or there are more than MAX_ITEMS entries.
    """
    data, at, stop = feature.data, feature.start, feature.stop
    view = memoryview(data)
    items: list[memoryview] = []
    append = items.append
    try:
        while at < stop:
            if data[at] != 0x0A:
                number, wire, start, at = _next_field(data, at, stop)
                if number == 1 and wire == _DELIMITED:
                    append(view[start:at])
                continue
            length = data[at + 1]
            start = at + 2
            if length >= 0x80:
                if data[start] < 0x80:
                    length += (data[start] << 7) - 0x80
                    start += 1
                else:
                    length, start = _varint(data, at + 1, stop)
            before, at = at, start + length
            append(view[start:at])
            if len(items) == 1 and length < REPEATED_BYTES:
                count, rest = divmod(stop - before, at - before)
                if rest == 0 and count <= MAX_ITEMS and data[before:stop] == data[before:at] * count:
                    return items * count
            if len(items) > MAX_ITEMS:
                raise MalformedWire(f"at most {MAX_ITEMS} entries")
        if at > stop:
            raise MalformedWire("entries that end inside their list")
    except IndexError:
        raise _malformed(where, MalformedWire("entries that end inside their list"), feature) from None
    except MalformedWire as error:
        raise _malformed(where, error, feature) from None
    return items


def _packed(feature: Feature) -> tuple[int, int] | None:
    """Return the span of the numbers of a list that holds one packed field and nothing else: what every writer makes."""
    if feature.start == feature.stop:
        return (feature.stop, feature.stop)
    number, wire, start, stop = _next_field(feature.data, feature.start, feature.stop)
    return (start, stop) if number == 1 and wire == _DELIMITED and stop == feature.stop else None


def float_values(feature: Feature, where: str) -> Array:
    """Return the numbers of a float list, (n,) float32, as a view of the record where they are packed.

    Raises:
        BadRecording: the list is not well formed.
    """
    try:
        span = _packed(feature)
        if span is not None:
            return _floats(feature.data, *span)
        whole = np.frombuffer(feature.data, np.uint8, feature.stop - feature.start, feature.start)
        if len(whole) % 5 == 0 and bool((whole[::5] == 0x0D).all()):  # one tag before each number
            return np.ascontiguousarray(whole.reshape(-1, 5)[:, 1:]).view("<f4")[:, 0]
        parts = [np.zeros(0, "<f4")]
        at = feature.start
        while at < feature.stop:
            number, wire, start, at = _next_field(feature.data, at, feature.stop)
            if number == 1 and wire in (_DELIMITED, _FIXED32):
                parts.append(_floats(feature.data, start, at))
            _bound(parts)
        return np.concatenate(parts)
    except MalformedWire as error:
        raise _malformed(where, error, feature) from None


def _bound(parts: Sized) -> None:
    if len(parts) > MAX_ITEMS:
        raise MalformedWire(f"packed numbers, or at most {MAX_ITEMS} of them")


def _floats(data: bytes, start: int, stop: int) -> Array:
    if (stop - start) % 4:
        raise MalformedWire("a multiple of 4 bytes of packed floats")
    return np.frombuffer(data, "<f4", (stop - start) // 4, start)


def _int64_span(feature: Feature) -> tuple[bytes, int, int]:
    """Return bytes and span of the list's varints alone, one after the other."""
    span = _packed(feature)
    if span is not None:
        return feature.data, *span
    parts = []
    at = feature.start
    while at < feature.stop:
        number, wire, start, at = _next_field(feature.data, at, feature.stop)
        if number == 1 and wire in (_DELIMITED, _VARINT):
            parts.append(feature.data[start:at])
            _bound(parts)
            if at > start and feature.data[at - 1] >= 0x80:
                raise MalformedWire("packed varints that end inside their field")
    joined = b"".join(parts)
    return joined, 0, len(joined)


def count_values(feature: Feature, where: str) -> int:
    """Return how many entries a feature's list has, without decoding numbers.

    Raises:
        BadRecording: the list is not well formed.
    """
    if feature.kind == "bytes":
        return len(bytes_items(feature, where))
    if feature.kind == "float":
        return len(float_values(feature, where))
    try:
        data, start, stop = _int64_span(feature)
    except MalformedWire as error:
        raise _malformed(where, error, feature) from None
    return int(np.count_nonzero(np.frombuffer(data, np.uint8, stop - start, start) < 0x80))


def int64_values(feature: Feature, dtype: np.dtype[Any], where: str) -> Array:
    """Return the numbers of an int64 list as (n,) `dtype`, an integer or bool type; each number must fit.

    uint64 takes the bits of the int64, as TFDS writes it.

    Raises:
        BadRecording: the list is not well formed, or a number is out of range.
    """
    try:
        data, start, stop = _int64_span(feature)
        raw = np.frombuffer(data, np.uint8, stop - start, start)
        if len(raw) and raw[-1] >= 0x80:
            raise MalformedWire("a last varint that ends inside its list")
        if len(raw) <= CHUNK_BYTES:
            return _in_range(_varints(raw), dtype, feature.key, where)
        values = np.empty(int(np.count_nonzero(raw < 0x80)), dtype)
        at = filled = 0
        while at < len(raw):
            end = min(at + CHUNK_BYTES, len(raw))
            while raw[end - 1] >= 0x80:
                end -= 1
                if end == at:
                    raise MalformedWire("a varint that ends within 10 bytes")
            part = _in_range(_varints(raw[at:end]), dtype, feature.key, where)
            values[filled : filled + len(part)] = part
            filled += len(part)
            at = end
        return values
    except MalformedWire as error:
        raise _malformed(where, error, feature) from None


def _varints(raw: Array) -> Array:
    """Decode whole varints: (n,) uint8 where each takes one byte, else (n,) int64."""
    last = raw < 0x80
    if last.all():
        return raw
    ends = np.flatnonzero(last)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10:
        raise MalformedWire("a varint that ends within 10 bytes")
    values = (raw[starts] & 0x7F).astype(np.uint64)
    for place in range(1, longest):
        there = np.flatnonzero(lengths > place)
        values[there] |= (raw[starts[there] + place] & 0x7F).astype(np.uint64) << np.uint64(7 * place)
    return values.view(np.int64)


def _in_range(values: Array, dtype: np.dtype[Any], key: str, where: str) -> Array:
    if dtype == np.uint64:
        return values.astype(np.int64).view(np.uint64)
    if dtype != np.int64 and len(values):
        low, high = (0, 1) if dtype == np.bool_ else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        least, most = int(values.min()), int(values.max())
        if least < low or most > high:
            raise BadRecording(
                f"{where}, key {key!r}",
                f"{dtype} values in [{low}, {high}]",
                str(least if least < low else most),
                "correct features.json or the record",
                "out_of_range",
            )
    return values.astype(dtype)
