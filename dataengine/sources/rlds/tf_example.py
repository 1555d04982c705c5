"""The wire format of tf.train.Example, read in place: which features a record has, and where the list of each lies in it.

    Example  { Features features = 1; }                 Feature   { oneof: BytesList = 1 | FloatList = 2 | Int64List = 3 }
    Features { map<string, Feature> feature = 1; }      *List     { repeated value = 1 [packed where a number] }

Unknown fields are passed over, and what stands twice is merged as protobuf says (the last of two map entries wins). Groups, which no
writer of this message makes, are refused. Nothing is allocated on the word of a length. `tf_lists` decodes the lists.

Source: tensorflow `core/example/feature.proto`; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from dataengine.core.errors import BadRecording

MAX_FEATURES = 1 << 16  # of one record; the largest sets have some hundreds

FeatureKind = Literal["bytes", "float", "int64", "empty"]
_KINDS: dict[int, FeatureKind] = {1: "bytes", 2: "float", 3: "int64"}
VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_LISTS: dict[int, FeatureKind] = {number << 3 | DELIMITED: kind for number, kind in _KINDS.items()}


class MalformedWire(ValueError):
    """What was found in the place of the wire format; `parse_example` and the decoders turn it into BadRecording."""


class Feature(NamedTuple):
    """One feature of an example, not decoded: the list message is `data[start:stop]`."""

    key: str
    kind: FeatureKind
    data: bytes
    start: int
    stop: int


def read_varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise MalformedWire(f"a varint that does not end within 10 bytes or leaves its message at byte {stop}")


def next_field(data: bytes, at: int, stop: int) -> tuple[int, int, int, int]:
    """Return (field number, wire type, start, stop) of the field at `at`; the value of a delimited field is data[start:stop]."""
    tag = data[at]
    at += 1
    if tag >= 0x80:
        tag, at = read_varint(data, at - 1, stop)
    number, wire = tag >> 3, tag & 7
    if number == 0:
        raise MalformedWire(f"a field number of 0 at byte {at}")
    if wire == DELIMITED:
        length = data[at] if at < stop else 0x80
        if length < 0x80:
            at += 1
        else:
            length, at = read_varint(data, at, stop)
        end = at + length
    elif wire == VARINT:
        _, end = read_varint(data, at, stop)
    elif wire in (FIXED64, FIXED32):
        end = at + (8 if wire == FIXED64 else 4)
    else:
        raise MalformedWire(f"a wire type of {wire} at byte {at}")
    if end > stop:
        raise MalformedWire(f"a field that ends at byte {end} in a message that ends at {stop}")
    return number, wire, at, end


def _only(data: bytes, at: int, stop: int, number: int, most: int) -> list[tuple[int, int]]:
    """Return the spans of the delimited fields `number` of a message."""
    spans: list[tuple[int, int]] = []
    while at < stop:
        found, wire, start, at = next_field(data, at, stop)
        if found == number and wire == DELIMITED:
            spans.append((start, at))
            if len(spans) > most:
                raise MalformedWire(f"more than {most} entries")
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
        number, wire, start, at = next_field(data, at, stop)
        if wire == DELIMITED:
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
        number, wire, start, at = next_field(data, at, stop)
        if wire == DELIMITED and number in _KINDS:
            if _KINDS[number] != kind:
                kind = _KINDS[number]
                lists = []
            lists.append((start, at))
    if not lists:
        return Feature(name, "empty", data, stop, stop)
    return Feature(name, kind, *_merged(data, lists))


def _plain_entry(data: bytes, at: int, stop: int) -> tuple[Feature, int] | None:
    """Read the entry of the map that begins at `at`, laid out as every writer does it; return it and where it ends.

    A key of less than 128 bytes, then a feature of one list, and nothing else; None for any other, which `_entry` reads. This way takes a quarter of the time.
    """
    if data[at] != 0x0A:
        return None
    length, key_at = read_varint(data, at + 1, stop)
    end = key_at + length
    value_at = key_at + 2 + data[key_at + 1]
    if end > stop or value_at >= end or data[key_at] != 0x0A or data[key_at + 1] >= 0x80 or data[value_at] != 0x12:
        return None
    length, list_at = read_varint(data, value_at + 1, end)
    if list_at + length != end or length == 0 or data[list_at] not in _LISTS:
        return None
    length, start = read_varint(data, list_at + 1, end)
    if start + length != end:
        return None
    return Feature(data[key_at + 2 : value_at].decode(), _LISTS[data[list_at]], data, start, end), end


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Return the features of a serialised tf.train.Example by key, in the order of the record, not yet decoded.

    Raises:
        BadRecording: the bytes are not such a message.
    """
    found: dict[str, Feature] = {}
    try:
        entries = 0
        for start, stop in _only(data, 0, len(data), 1, MAX_FEATURES):
            at = start
            while at < stop:
                plain = _plain_entry(data, at, stop)
                if plain is not None:
                    feature, at = plain
                else:
                    number, wire, begin, at = next_field(data, at, stop)
                    if number != 1 or wire != DELIMITED:
                        continue
                    feature = _entry(data, begin, at)
                entries += 1
                if entries > MAX_FEATURES:
                    raise MalformedWire(f"more than {MAX_FEATURES} features")
                found[feature.key] = feature
    except MalformedWire as error:
        raise malformed(where, error) from None
    except (IndexError, UnicodeDecodeError):
        raise malformed(where, MalformedWire("a key that is not UTF-8, or a field that leaves the record")) from None
    return found


def malformed(where: str, error: MalformedWire, feature: Feature | None = None) -> BadRecording:
    """Return the error for bytes that are not the wire format, in a list of `feature` where that is given."""
    where = where if feature is None else f"{where}, key {feature.key!r}"
    return BadRecording(where, "a tf.train.Example", str(error), "write the record again", "malformed_example")
