"""The values of one feature over the T steps of an episode, from the serialised example, as it declares them.

How each form lands (the rule depends on features.json alone, never on the values):

    numbers of a fixed shape                  (T, *shape) of the declared dtype; a number that does not fit rejects the recording
    the same, called a picture                Frames
    tensors in bytes or zlib, fixed shape     decoded, size checked before and after: as numbers
    numbers whose size varies by step         Items, one a step: little-endian bytes, encoding "raw/<dtype>" (or "zlib/<dtype>", as they came)
    inner sequences of a declared length      (T, length, *shape)
    deeper sequences                          as above, with the inner lengths beside: `<name>.row_lengths_1`, ...
    texts                                     Items "utf-8", one a step; several a step: a JSON list
    images                                    Items, the original bytes, encoding by their first bytes
    several images (or tensors) a step        `<name>.<i>` where their number is declared, else all in one stream without a clock, and `<name>.row_lengths`
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer, Frames, Items, Values
from dataengine.sources.rlds_columns import is_raw, picture_kind, raw_encoding
from dataengine.sources.tf_example import CHUNK_BYTES, Feature, FeatureKind, bytes_items, count_values, float_values, int64_values
from dataengine.sources.tfds_features import Leaf

MAX_DECODED_BYTES = 512 << 20
MAX_STATIC_IMAGES = 64
_LENGTH = np.dtype(np.int64)
_WIRE: dict[str, FeatureKind] = {"b": "int64", "i": "int64", "u": "int64", "f": "float"}
_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"RIFF", "webp"))


@dataclass(frozen=True, eq=False)
class Part:
    """One stream that a feature became: what is added to its name, its rows, and whether they are one a step."""

    values: Values
    suffix: str = ""
    timed: bool = True


@dataclass(frozen=True)
class Example:
    """The features of one record and its name in messages."""

    features: Mapping[str, Feature]
    where: str

    def wrong(self, key: str, expected: str, found: str, check: str = "wrong_count") -> BadRecording:
        """Return the error that a key of this record is not what features.json says."""
        return BadRecording(f"{self.where}, key {key!r}", expected, found, "correct features.json or write the record again", check)

    def feature(self, key: str, kind: FeatureKind) -> Feature:
        """Return a feature that must hold a list of `kind`; an empty one holds none of any kind."""
        feature = self.features.get(key)
        if feature is None:
            raise self.wrong(key, f"a {kind} list", "nothing", "missing_key")
        if feature.kind not in (kind, "empty"):
            raise self.wrong(key, f"a {kind} list, as features.json says", f"a {feature.kind} list", "wrong_type")
        return feature

    def count(self, key: str) -> int:
        """Return the number of entries of a feature."""
        return count_values(self.features[key], self.where)

    def items(self, key: str, count: int | None = None) -> list[memoryview]:
        """Return the entries of a bytes list; their number must be `count` where that is given."""
        items = bytes_items(self.feature(key, "bytes"), self.where)
        if count is not None and len(items) != count:
            raise self.wrong(key, f"{count} entries", str(len(items)))
        return items

    def numbers(self, key: str, dtype: np.dtype[Any], count: int | None, limit: int) -> Array:
        """Return the numbers of a feature, (count,) of `dtype`: exactly those of the record."""
        feature = self.feature(key, _WIRE[dtype.kind])
        if feature.kind == "empty":
            values = np.zeros(0, dtype)
        elif dtype.kind == "f":
            values = self._floats(feature, dtype, limit)
        elif feature.stop - feature.start <= CHUNK_BYTES:
            values = int64_values(feature, dtype, self.where)
        else:
            found = count_values(feature, self.where)
            if count is not None and found != count:
                raise self.wrong(key, f"{count} values", str(found))
            self._require_room(key, found * dtype.itemsize, limit)
            values = int64_values(feature, dtype, self.where)
        if count is not None and len(values) != count:
            raise self.wrong(key, f"{count} values", str(len(values)))
        return values

    def _floats(self, feature: Feature, dtype: np.dtype[Any], limit: int) -> Array:
        wire = float_values(feature, self.where)
        self._require_room(feature.key, len(wire) * dtype.itemsize, limit)
        if dtype.itemsize >= wire.itemsize:
            return wire.astype(dtype)
        with np.errstate(over="ignore"):
            narrow = wire.astype(dtype)
        if not np.array_equal(narrow.astype(np.float32), wire, equal_nan=True):
            raise self.wrong(feature.key, f"numbers that are {dtype} exactly", "others", "out_of_range")
        return narrow

    def _require_room(self, key: str, size: int, limit: int) -> None:
        if size > limit:
            raise self.wrong(key, f"at most {limit} bytes of numbers", str(size), "too_large")


def values_per_step(leaf: Leaf) -> int | None:
    """Return how many wire entries one step has, None where that is not fixed (or none)."""
    if leaf.ragged or leaf.dynamic:
        return None
    if leaf.form in ("image", "packed"):
        return 1
    if None in leaf.shape:
        return None
    return _product(leaf.shape) or None


def keys_of(leaf: Leaf) -> tuple[str, ...]:
    """Return the keys under which a leaf stands in a record."""
    values = ("value", "shape") if leaf.dynamic else ("",)
    if leaf.ragged:
        lengths = tuple(f"ragged_row_lengths_{level}" for level in range(len(leaf.lengths) - 1))
        return tuple(
            f"{leaf.key}/{name}" if name else leaf.key
            for value in values
            for name in (_joined(value, "ragged_flat_values"), *(_joined(value, n) for n in lengths))
        )
    return tuple(f"{leaf.key}/{name}" if name else leaf.key for name in values)


def _joined(*names: str) -> str:
    return "/".join(name for name in names if name)


def step_parts(leaf: Leaf, example: Example, steps: int, limit: int = MAX_DECODED_BYTES) -> list[Part]:
    """Return the streams of a feature that the record has.

    Args:
        leaf: a leaf below `steps`.
        example: the record.
        steps: T.
        limit: most bytes that may be decoded.

    Raises:
        BadRecording: a count, type, range or size is not what features.json says.
    """
    if leaf.dynamic:
        if leaf.form == "number":
            raise example.wrong(leaf.key, "an encoding (bytes, zlib) for a tensor of several unknown dimensions", "none", "bad_features")
        value, shape = (replace(leaf, key=f"{leaf.key}/{name}") for name in ("value", "shape"))
        rank = len(leaf.shape)
        inner = replace(value, shape=(None,)), replace(shape, form="number", dtype="int32", shape=(rank,))
        return [*step_parts(inner[0], example, steps, limit), *(_renamed(part, ".shape") for part in step_parts(inner[1], example, steps, limit))]
    if leaf.ragged:
        return _ragged_parts(leaf, example, steps, limit)
    return [Part(_flat(leaf, example, leaf.key, steps, limit))]


def _renamed(part: Part, suffix: str) -> Part:
    return replace(part, suffix=suffix + part.suffix)


def _flat(leaf: Leaf, example: Example, key: str, rows: int, limit: int) -> Values:
    """Return `rows` rows of a leaf whose values stand under `key`."""
    if leaf.form == "image":
        return pictures(example.items(key, rows), leaf.encoding)
    if leaf.form == "packed":
        return _unpacked(leaf, example, key, rows, limit) if None not in leaf.shape else Items(example.items(key, rows), raw_encoding(leaf))
    if leaf.form in ("text", "unknown"):
        return _texts(leaf, example, key, rows)
    if None in leaf.shape:
        values = example.numbers(key, leaf.numpy_dtype, None, limit)
        if rows == 0 or len(values) % rows:
            raise example.wrong(key, f"the same number of values for each of {rows} steps", str(len(values)))
        return _rows_of_bytes(values, np.full(rows, len(values) // rows), leaf)
    values = example.numbers(key, leaf.numpy_dtype, rows * _product(leaf.shape), limit).reshape(rows, *(size or 0 for size in leaf.shape))
    return Frames(values) if len(leaf.shape) > 1 and picture_kind(leaf) is not None else values


def _texts(leaf: Leaf, example: Example, key: str, rows: int) -> Items:
    if leaf.shape == ():
        return texts(example.items(key, rows))
    each = None if None in leaf.shape else _product(leaf.shape)
    items = example.items(key, None if each is None else rows * each)
    if rows == 0 or len(items) % rows:
        raise example.wrong(key, f"the same number of texts for each of {rows} steps", str(len(items)))
    return _text_lists(items, np.full(rows, len(items) // rows))


def texts(items: list[memoryview]) -> Items:
    """Return texts as Items "utf-8"; what is not UTF-8 is kept as "binary"."""
    bad = {data for data in distinct(items) if not _is_utf8(data)}
    return Items(items, "utf-8" if not bad else ["binary" if bytes(item) in bad else "utf-8" for item in items])


def distinct(items: Sequence[Buffer]) -> list[bytes]:
    """Return the different ones of some buffers, in order."""
    return list(dict.fromkeys(bytes(item) for item in {id(item): item for item in items}.values()))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def json_text(item: Buffer) -> Any:
    """Return bytes as JSON holds them: a string, or `{"base64": ...}` where they are not UTF-8."""
    data = bytes(item)
    return data.decode() if _is_utf8(data) else {"base64": base64.b64encode(data).decode()}


def _text_lists(items: Sequence[memoryview], lengths: Array) -> Items:
    stops = np.cumsum(lengths).tolist()
    rows = [
        json.dumps([json_text(item) for item in items[stop - length : stop]], ensure_ascii=False) for stop, length in zip(stops, lengths.tolist(), strict=True)
    ]
    return Items([row.encode() for row in rows], "json")


def picture_encoding(item: Buffer) -> str:
    """Return the encoding that the first bytes of a picture say, "" for an absent one, "unknown" otherwise."""
    start = bytes(item[:8])
    return next((name for magic, name in _MAGIC if start.startswith(magic)), "unknown" if start else "")


def pictures(items: list[memoryview], declared: str) -> Items:
    """Return pictures as they are, each with the encoding that its first bytes say; an empty one is absent."""
    if declared == "jpeg" and all(len(item) > 2 and item[0] == 0xFF and item[1] == 0xD8 for item in items):
        return Items(items, "jpeg")
    found = [picture_encoding(item) for item in items]
    encodings = [encoding or declared or "unknown" for encoding in found]
    return Items(items, encodings[0] if len(set(encodings)) == 1 else encodings)


def _unpacked(leaf: Leaf, example: Example, key: str, rows: int, limit: int) -> Values:
    """Decode tensors that stand as bytes, each of a size that is known before."""
    items = example.items(key, rows)
    stored = np.dtype(np.uint16) if leaf.declared == "bfloat16" else leaf.numpy_dtype
    shape = tuple(size or 0 for size in leaf.shape)
    size = _product(leaf.shape) * stored.itemsize
    if size * rows * (leaf.numpy_dtype.itemsize // stored.itemsize) > limit:
        raise example.wrong(key, f"at most {limit} bytes of numbers", str(size * rows), "too_large")
    values = np.empty((rows, size), np.uint8)
    for row, item in enumerate(items):
        data: Buffer = item
        if leaf.encoding == "zlib":
            unzip = zlib.decompressobj()
            try:
                data = unzip.decompress(item, size + 1)
            except zlib.error as error:
                raise example.wrong(key, f"zlib data at step {row}", str(error), "bad_zlib") from None
            if len(data) <= size and not unzip.eof:
                raise example.wrong(key, f"a whole zlib stream at step {row}", "one that is cut off", "bad_zlib")
        if len(data) != size:
            raise example.wrong(key, f"{size} bytes at step {row} for shape {shape} of {leaf.declared}", "more" if len(data) > size else str(len(data)))
        values[row] = np.frombuffer(data, np.uint8)
    if leaf.dtype == "bool" and values.size and values.max() > 1:
        raise example.wrong(key, "booleans of 0 or 1", str(values.max()), "out_of_range")
    numbers = values.view(stored.newbyteorder("<")) if values.size else np.zeros(0, stored)
    if leaf.declared == "bfloat16":
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    numbers = numbers.reshape(rows, *shape)
    return Frames(numbers) if picture_kind(leaf) is not None else numbers


def _row_lengths(leaf: Leaf, example: Example, steps: int, limit: int) -> list[Array]:
    """Return the lengths of each level of inner sequences; level 0 has one a step."""
    lengths: list[Array] = []
    rows = steps
    for level in range(len(leaf.lengths) - 1):
        key = f"{leaf.key}/ragged_row_lengths_{level}"
        found = example.numbers(key, _LENGTH, rows, limit)
        if rows and (int(found.min()) < 0 or int(found.max()) > 1 << 32):
            raise example.wrong(key, "lengths of rows", str(int(found.min()) if found.min() < 0 else int(found.max())))
        declared = leaf.lengths[level + 1]
        if declared is not None and rows and bool((found != declared).any()):
            raise example.wrong(key, f"rows of length {declared}, as features.json says", "others")
        lengths.append(found)
        rows = int(found.sum())
    return lengths


def _ragged_parts(leaf: Leaf, example: Example, steps: int, limit: int) -> list[Part]:
    lengths = _row_lengths(leaf, example, steps, limit)
    rows = int(lengths[-1].sum())
    key = f"{leaf.key}/ragged_flat_values"
    if leaf.form in ("text", "unknown"):
        each = 1 if leaf.shape == () else _product(leaf.shape)
        main = [Part(_text_lists(example.items(key, rows * each), _per_step(lengths) * each))]
    elif leaf.form in ("image", "packed"):
        return _several_a_step(leaf, example, key, lengths, steps)
    else:
        each = _product(leaf.shape)
        values = example.numbers(key, leaf.numpy_dtype, None if None in leaf.shape else rows * each, limit)
        if not is_raw(leaf):
            return [Part(values.reshape(steps, *(size or 0 for size in (*leaf.lengths[1:], *leaf.shape))))]
        if None in leaf.shape:
            each = len(values) // rows if rows else 0
            if each * rows != len(values):
                raise example.wrong(key, f"the same number of values for each of {rows} rows", str(len(values)))
        main = [Part(_rows_of_bytes(values, _per_step(lengths) * each, leaf))]
    return [*main, *_inner_lengths(lengths)]


def _per_step(lengths: list[Array]) -> Array:
    """Return how many innermost rows each step has."""
    totals = lengths[-1]
    for outer in reversed(lengths[:-1]):
        stops = np.concatenate([[0], np.cumsum(totals)])
        ends = np.cumsum(outer)
        totals = stops[ends] - stops[ends - outer]
    return totals


def _inner_lengths(lengths: list[Array]) -> list[Part]:
    return [Part(_rows_of_bytes(lengths[level], _per_step(lengths[:level]), None), f".row_lengths_{level}") for level in range(1, len(lengths))]


def _rows_of_bytes(values: Array, lengths: Array, leaf: Leaf | None) -> Items:
    """Cut flat numbers into one buffer a step."""
    flat = np.ascontiguousarray(values)
    view = flat.view(np.uint8).data if flat.size else memoryview(b"")
    stops = (np.cumsum(lengths) * flat.itemsize).tolist()
    starts = [0, *stops[:-1]]
    return Items([view[start:stop] for start, stop in zip(starts, stops, strict=True)], "raw/int64" if leaf is None else raw_encoding(leaf))


def _several_a_step(leaf: Leaf, example: Example, key: str, lengths: list[Array], steps: int) -> list[Part]:
    items = example.items(key, int(lengths[-1].sum()))
    declared = leaf.lengths[1] if len(lengths) == 1 else None
    if declared is not None and declared <= MAX_STATIC_IMAGES:
        return [Part(_kept(leaf, items[place::declared]), f".{place}") for place in range(declared)]
    return [Part(_kept(leaf, items), timed=False), Part(_per_step(lengths), ".row_lengths"), *_inner_lengths(lengths)]


def _kept(leaf: Leaf, items: list[memoryview]) -> Items:
    return pictures(items, leaf.encoding) if leaf.form == "image" else Items(items, raw_encoding(leaf))


def _product(shape: Sequence[int | None]) -> int:
    return math.prod(size or 0 for size in shape)


def undeclared_leaf(key: str, example: Example, steps: int) -> Leaf | None:
    """Return a leaf for a step key that features.json does not name, by what stands there; None where its entries are not the same number a step."""
    feature = example.features[key]
    count = example.count(key)
    if steps == 0 or count % steps or count == 0:
        return None
    shape = () if count == steps else (count // steps,)
    if feature.kind == "bytes":
        first = example.items(key)[0]
        if shape == () and picture_encoding(first) in ("jpeg", "png"):
            return Leaf(key, "image", "uint8", "uint8", (None, None, 3), (None,), picture_encoding(first))
        return Leaf(key, "text", shape=shape, lengths=(None,))
    dtype = "float32" if feature.kind == "float" else "int64"
    return Leaf(key, "number", dtype, dtype, shape, (None,))
