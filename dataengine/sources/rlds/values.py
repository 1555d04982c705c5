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

import zlib
from dataclasses import replace

import numpy as np

from dataengine.core.stream import Buffer, Frames, Items, Values
from dataengine.sources.rlds.columns import picture_kind, raw_encoding
from dataengine.sources.rlds.example import Example
from dataengine.sources.rlds.items import picture_encoding, pictures, rows_of_bytes, text_lists, texts
from dataengine.sources.rlds.ragged import Part, ragged_parts
from dataengine.sources.rlds.tfds_features import Leaf, product

MAX_DECODED_BYTES = 512 << 20


def values_per_step(leaf: Leaf) -> int | None:
    """Return how many wire entries one step has, None where that is not fixed (or none)."""
    if leaf.ragged or leaf.dynamic:
        return None
    if leaf.form in ("image", "packed"):
        return 1
    if None in leaf.shape:
        return None
    return product(leaf.shape) or None


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
        return ragged_parts(leaf, example, steps, limit)
    return [Part(_flat(leaf, example, leaf.key, steps, limit))]


def _renamed(part: Part, suffix: str) -> Part:
    return part._replace(suffix=suffix + part.suffix)


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
        return rows_of_bytes(values, np.full(rows, len(values) // rows), leaf)
    values = example.numbers(key, leaf.numpy_dtype, rows * leaf.size, limit).reshape(rows, *leaf.fixed_shape)
    return Frames(values) if len(leaf.shape) > 1 and picture_kind(leaf) is not None else values


def _texts(leaf: Leaf, example: Example, key: str, rows: int) -> Items:
    if leaf.shape == ():
        return texts(example.items(key, rows))
    each = None if None in leaf.shape else product(leaf.shape)
    items = example.items(key, None if each is None else rows * each)
    if rows == 0 or len(items) % rows:
        raise example.wrong(key, f"the same number of texts for each of {rows} steps", str(len(items)))
    return text_lists(items, np.full(rows, len(items) // rows))


def _unpacked(leaf: Leaf, example: Example, key: str, rows: int, limit: int) -> Values:
    """Decode tensors that stand as bytes, each of a size that is known before."""
    items = example.items(key, rows)
    stored = np.dtype(np.uint16) if leaf.declared == "bfloat16" else leaf.numpy_dtype
    shape = tuple(size or 0 for size in leaf.shape)
    size = product(leaf.shape) * stored.itemsize
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
        values[row] = np.frombuffer(data, np.uint8) if size else 0
    if leaf.dtype == "bool" and values.size and values.max() > 1:
        raise example.wrong(key, "booleans of 0 or 1", str(values.max()), "out_of_range")
    numbers = values.view(stored.newbyteorder("<")) if values.size else np.zeros(0, stored)
    if leaf.declared == "bfloat16":
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    numbers = numbers.reshape(rows, *shape)
    return Frames(numbers) if picture_kind(leaf) is not None else numbers


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
