"""The lists of a tf.train.Example decoded: bytes as views of the record, numbers in one vectorised pass, packed or not."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.rlds.tf_example import DELIMITED, FIXED32, VARINT, Feature, MalformedWire, malformed, next_field, read_varint

MAX_ITEMS = 1 << 20  # of one bytes list: a view costs 200 bytes in memory and 2 in the file
REPEATED_BYTES = 512  # texts up to this length are compared as a whole: an instruction is mostly the same at each step
_FLOAT = np.dtype("<f4")
CHUNK_BYTES = 1 << 20  # varints are decoded in pieces of this size, so that the int64 in between stay small


def bytes_items(feature: Feature, where: str) -> list[memoryview]:
    """Return the entries of a bytes list as views of the record: nothing is copied.

    Raises:
        BadRecording: a length leaves the list, or there are more than MAX_ITEMS entries.
    """
    data, at, stop = feature.data, feature.start, feature.stop
    view = memoryview(data)
    try:
        items = _repeated(view, data, at, stop)
        if items:
            return items
        append = items.append
        many = (stop - at) // 2 > MAX_ITEMS
        while at < stop:
            if data[at] != 0x0A:
                number, wire, start, at = next_field(data, at, stop)
                if number == 1 and wire == DELIMITED:
                    append(view[start:at])
                continue
            length = data[at + 1]
            start = at + 2
            if length >= 0x80:
                second = data[start]
                if second < 0x80:
                    length += (second << 7) - 0x80
                    start += 1
                elif data[start + 1] < 0x80:
                    length += (data[start + 1] << 14) + ((second - 0x80) << 7) - 0x80
                    start += 2
                else:
                    length, start = read_varint(data, at + 1, stop)
            at = start + length
            append(view[start:at])
            if many and len(items) > MAX_ITEMS:
                raise MalformedWire(f"more than {MAX_ITEMS} entries")
        if at > stop:
            raise MalformedWire("an entry that leaves its list")
    except IndexError:
        raise malformed(where, MalformedWire("an entry that leaves its list"), feature) from None
    except MalformedWire as error:
        raise malformed(where, error, feature) from None
    return items


def _repeated(view: memoryview, data: bytes, at: int, stop: int) -> list[memoryview]:
    """Return the entries of a list of one short text over and over, an empty list for any other."""
    if at >= stop or data[at] != 0x0A:
        return []
    _, _, start, end = next_field(data, at, stop)
    count, rest = divmod(stop - at, end - at)
    if end - start >= REPEATED_BYTES or rest or count > MAX_ITEMS or data[at:stop] != data[at:end] * count:
        return []
    return [view[start:end]] * count


def _packed(feature: Feature) -> tuple[int, int] | None:
    """Return the span of the numbers of a list that holds one packed field and nothing else: what every writer makes."""
    if feature.start == feature.stop:
        return (feature.stop, feature.stop)
    if feature.data[feature.start] != 0x0A:
        return None
    _, _, start, stop = next_field(feature.data, feature.start, feature.stop)
    return (start, stop) if stop == feature.stop else None


def float_values(feature: Feature, where: str) -> Array:
    """Return the numbers of a float list, (n,) float32, as a view of the record where they are packed.

    Raises:
        BadRecording: the list is not well formed.
    """
    try:
        span = _packed(feature)
        if span is not None:
            return _floats(feature.data, span[0], span[1])
        whole = np.frombuffer(feature.data, np.uint8, feature.stop - feature.start, feature.start)
        if len(whole) % 5 == 0 and bool((whole[::5] == 0x0D).all()):  # one tag before each number
            return np.ascontiguousarray(whole.reshape(-1, 5)[:, 1:]).view("<f4")[:, 0]
        parts = [np.zeros(0, "<f4")]
        at = feature.start
        while at < feature.stop:
            number, wire, start, at = next_field(feature.data, at, feature.stop)
            if number == 1 and wire in (DELIMITED, FIXED32):
                parts.append(_floats(feature.data, start, at))
            _bound(parts)
        return np.concatenate(parts)
    except MalformedWire as error:
        raise malformed(where, error, feature) from None


def _bound(parts: Sized) -> None:
    if len(parts) > MAX_ITEMS:
        raise MalformedWire(f"more than {MAX_ITEMS} numbers that are not packed")


def _floats(data: bytes, start: int, stop: int) -> Array:
    if (stop - start) % 4:
        raise MalformedWire(f"{stop - start} bytes of packed floats, no multiple of 4")
    return np.frombuffer(data, _FLOAT, (stop - start) // 4, start)


def _int64_span(feature: Feature) -> tuple[bytes, int, int]:
    """Return bytes and span of the list's varints alone, one after the other."""
    span = _packed(feature)
    if span is not None:
        return feature.data, *span
    parts = []
    at = feature.start
    while at < feature.stop:
        number, wire, start, at = next_field(feature.data, at, feature.stop)
        if number == 1 and wire in (DELIMITED, VARINT):
            parts.append(feature.data[start:at])
            _bound(parts)
            if at > start and feature.data[at - 1] >= 0x80:
                raise MalformedWire("a packed varint that leaves its field")
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
        raise malformed(where, error, feature) from None
    return int(np.count_nonzero(np.frombuffer(data, np.uint8, stop - start, start) < 0x80))


def int64_values(feature: Feature, dtype: np.dtype[Any], where: str) -> Array:
    """Return the numbers of an int64 list as (n,) `dtype`, an integer or bool type; each number must fit.

    uint64 takes the bits of the int64, as TFDS writes it.

    Raises:
        BadRecording: the list is not well formed, or a number is out of range.
    """
    try:
        data, start, stop = _int64_span(feature)
        if stop - start <= CHUNK_BYTES and data[start:stop].isascii():
            return _small(data[start:stop], dtype, feature.key, where)
        raw = np.frombuffer(data, np.uint8, stop - start, start)
        if len(raw) and raw[-1] >= 0x80:
            raise MalformedWire("a last varint that leaves its list")
        if len(raw) <= CHUNK_BYTES:
            return _in_range(_varints(raw), dtype, feature.key, where)
        values = np.empty(int(np.count_nonzero(raw < 0x80)), dtype)
        at = filled = 0
        while at < len(raw):
            end = min(at + CHUNK_BYTES, len(raw))
            while raw[end - 1] >= 0x80:
                end -= 1
                if end == at:
                    raise MalformedWire("a varint that does not end within 10 bytes")
            part = _in_range(_varints(raw[at:end]), dtype, feature.key, where)
            values[filled : filled + len(part)] = part
            filled += len(part)
            at = end
        return values
    except MalformedWire as error:
        raise malformed(where, error, feature) from None


def _small(raw: bytes, dtype: np.dtype[Any], key: str, where: str) -> Array:
    """Return numbers of one byte each, 0 to 127, as `dtype`: flags and most counters."""
    if dtype == np.bool_:
        return _in_range(np.frombuffer(raw, np.uint8), dtype, key, where) if raw.strip(b"\0\1") else np.frombuffer(raw, np.bool_)
    return np.frombuffer(raw, np.uint8).astype(dtype)


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
        raise MalformedWire("a varint that does not end within 10 bytes")
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
