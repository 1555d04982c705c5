"""What an RLDS record says of the whole episode: features outside `steps`, as JSON-able metadata, or as streams where they are large or pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.stream import Items, Values
from dataengine.sources.rlds.columns import step_column, stream_name
from dataengine.sources.rlds.example import Example
from dataengine.sources.rlds.items import json_text, pictures
from dataengine.sources.rlds.tfds_features import Leaf
from dataengine.sources.rlds.values import MAX_DECODED_BYTES

MAX_METADATA_NUMBERS = 1024
MAX_METADATA_BYTES = 64 << 10
METADATA = "episode_metadata/"


def metadata_key(key: str) -> str:
    """Return the name of a feature in the metadata: `episode_metadata/` is taken off."""
    return key.removeprefix(METADATA)


def json_number(value: Any) -> Any:
    """Return a number as JSON holds it: "nan", "inf", "-inf" stand as strings."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def json_numbers(values: Array) -> Any:
    """Return an array as nested lists that JSON holds exactly (float32 as the float64 of the same value)."""
    flat = [json_number(value) for value in values.reshape(-1).tolist()]
    if values.ndim == 0:
        return flat[0]
    if values.ndim == 1:
        return flat
    return [json_numbers(row) for row in values]


def episode_value(leaf: Leaf, keys: tuple[str, ...], example: Example, limit: int = MAX_DECODED_BYTES) -> tuple[Any, Values | None]:
    """Return a feature of the episode, which stands under `keys`: (what goes into the metadata, None) or (None, the rows of a stream of its own).

    A picture, more than MAX_METADATA_NUMBERS numbers or MAX_METADATA_BYTES of text become a stream. Tensors that stand as bytes are kept so.

    Raises:
        BadRecording: a count, type or range is not what features.json says.
    """
    if len(keys) > 1:
        return {key.removeprefix(leaf.key + "/"): _any(example, key, limit) for key in keys if key in example.features}, None
    single = leaf.lengths == () and None not in leaf.shape
    if leaf.form == "number":
        values = example.numbers(leaf.key, leaf.numpy_dtype, leaf.size if single else None, limit)
        if not single:
            known = math.prod(size for size in leaf.shape if size is not None)
            if known == 0 or len(values) % known:
                raise example.wrong(leaf.key, f"a multiple of {known} values", str(len(values)))
        shape = leaf.fixed_shape if single else tuple(-1 if size is None else size for size in leaf.shape) if leaf.lengths == () else (-1, *leaf.fixed_shape)
        values = values.reshape(shape) if values.size or single else values.reshape(0)
        return (None, values if not single else values[None]) if values.size > MAX_METADATA_NUMBERS else (json_numbers(values), None)
    alone = leaf.lengths == () and (leaf.form in ("image", "packed") or leaf.shape == ())
    items = example.items(leaf.key, 1 if alone else None)
    if leaf.form == "image":
        return None, pictures(items, leaf.encoding)
    if sum(map(len, items)) > MAX_METADATA_BYTES:
        return None, Items(items, "binary")
    return json_text(items[0]) if alone else [json_text(item) for item in items], None


def _any(example: Example, key: str, limit: int) -> Any:
    """Return what stands under a key by its type on the wire alone."""
    kind = example.features[key].kind
    if kind == "bytes":
        return [json_text(item) for item in example.items(key)]
    dtype = np.dtype(np.float32 if kind == "float" else np.int64)
    return json_numbers(example.numbers(key, dtype, None, limit))


def undeclared_value(key: str, example: Example, limit: int = MAX_DECODED_BYTES) -> tuple[Any, Values | None]:
    """Return what stands under a key that features.json does not name, as `episode_value` does."""
    kind = example.features[key].kind
    if kind == "bytes":
        items = example.items(key)
        if len(items) > MAX_METADATA_NUMBERS or sum(len(item) for item in items) > MAX_METADATA_BYTES:
            return None, Items(items, "binary")
    elif example.count(key) > MAX_METADATA_NUMBERS:
        return None, example.numbers(key, np.dtype(np.float32 if kind == "float" else np.int64), None, limit)
    return _any(example, key, limit), None


def episode_column(key: str, leaf: Leaf | None, values: Values, taken: Iterable[str]) -> Column:
    """Return the column of a stream that `episode_value` or `undeclared_value` gave; it has no clock and stands in no trajectory."""
    name = stream_name(key, False)
    while name in set(taken):
        name += "_"
    if leaf is not None and leaf.form == "image":
        described = step_column(leaf)
        return Column(name, described.kind, leaf.dtype, leaf.shape, encoding=described.encoding, steps=False, doc=leaf.doc, extra=described.extra)
    extra = {"source": key}
    doc = "" if leaf is None else leaf.doc
    if isinstance(values, Items):
        return Column(name, "message", "bytes", (), encoding="binary", steps=False, doc=doc, extra=extra)
    assert isinstance(values, np.ndarray)
    return Column(name, "numeric", str(values.dtype), values.shape[1:], steps=False, doc=doc, extra=extra)
