"""features.json of TFDS: the tree of features as a flat list of leaves, each with its key in the serialised example.

A node is `{"pythonClassName": ..., ONE OF featuresDict | sequence | tensor | text | image | video | classLabel | boundingBox | audio |
translation | jsonFeature: {...}}`; files written before TFDS 4.5 have `{"type": ..., "content": ...}` instead. Nested names are joined by "/".

Source: tensorflow_datasets `core/proto/feature.proto`, `core/example_serializer.py`, `core/features/*_feature.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from dataengine.core.errors import BadRecording

MAX_FEATURES_BYTES = 16 << 20
MAX_DEPTH = 32
MAX_LEAVES = 4096
MAX_DIMENSIONS = 8

LeafForm = Literal["number", "text", "image", "packed", "unknown"]
Shape = tuple[int | None, ...]

# What TFDS writes for a dtype: the numpy type that holds each of its values exactly (bfloat16 is a float32 cut short).
_DTYPES = {
    **{name: name for name in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")},
    "bfloat16": "float32",
    "half": "float16",
    "float": "float32",
    "double": "float64",
}
_STRINGS = ("string", "str", "object", "bytes")


@dataclass(frozen=True)
class Leaf:
    """One leaf of the tree.

    `key` is its flat key. `form` says how its rows stand on the wire: numbers in a list, texts, encoded images, or "packed": the bytes of
    a tensor (`encoding` "bytes" or "zlib"). `dtype` is what is declared, as numpy calls it ("string" for texts), `declared` its own word.
    `shape` is that of one element, None where it varies. `lengths` are those of the sequences around it, outermost first, None where
    they vary; two or more make it ragged. `dynamic` tensors stand as `<key>/value` and `<key>/shape`.
    """

    key: str
    form: LeafForm
    dtype: str = "string"
    declared: str = "string"
    shape: Shape = ()
    lengths: Shape = ()
    encoding: str = ""
    doc: str = ""

    @cached_property
    def ragged(self) -> bool:
        """Whether it stands as `ragged_flat_values` and `ragged_row_lengths_{i}`."""
        return len(self.lengths) > 1

    @cached_property
    def dynamic(self) -> bool:
        """Whether its shape is written beside each value."""
        return self.form in ("number", "packed") and self.shape.count(None) > 1

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Return the numpy type of a number."""
        return np.dtype(self.dtype)

    @cached_property
    def size(self) -> int:
        """Return how many numbers one element has; a size that is not known counts as 0."""
        return product(self.shape)

    @cached_property
    def fixed_shape(self) -> tuple[int, ...]:
        """Return the shape of one element; a size that is not known counts as 0."""
        return tuple(size or 0 for size in self.shape)


def product(shape: Sequence[int | None]) -> int:
    """Return how many numbers a shape holds; a size that is not known counts as 0."""
    return math.prod(size or 0 for size in shape)


def parse_features(content: bytes, where: str) -> tuple[Leaf, ...]:
    """Return the leaves of a features.json.

    Raises:
        BadRecording: it is not JSON, or not such a tree; the message names the place in it.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, "a JSON document", str(error)[:200]) from None
    leaves: list[Leaf] = []
    _walk(tree, "", (), where, leaves, 0)
    keys = [leaf.key for leaf in leaves]
    if len(keys) > MAX_LEAVES:
        raise _wrong(where, f"at most {MAX_LEAVES} features", str(len(keys)))
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _wrong(where, "each feature once", f"{twice!r} twice")
    return tuple(leaves)


def _wrong(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, "restore features.json from the dataset's source", "bad_features")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "a JSON object", type(value).__name__)
    return value


def _content(node: Mapping[str, Any], where: str) -> tuple[str, Any]:
    """Return the kind of a node (`featuresDict`, `tensor`, ...) and what it holds, in today's spelling."""
    for kind in _KINDS:
        snake = re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), kind)
        if kind in node or snake in node:
            return kind, node.get(kind, node.get(snake))
    name = str(node.get("pythonClassName") or node.get("python_class_name") or node.get("type") or "").rpartition(".")[2]
    content = node.get("content")
    if isinstance(content, str):
        try:
            content = json.loads(content or "{}")
        except (ValueError, RecursionError) as error:
            raise _wrong(where, "JSON in `content`", str(error)[:200]) from None
    if name in _CLASSES:
        kind = _CLASSES[name]
        if kind == "featuresDict" and isinstance(content, dict) and "features" not in content:
            content = {"features": content}
        return kind, {} if content is None else content
    return "jsonFeature", {}


def _walk(node: Any, key: str, lengths: Shape, where: str, leaves: list[Leaf], depth: int) -> None:
    place = f"{where}: {key or 'top'}"
    if depth > MAX_DEPTH or len(leaves) >= MAX_LEAVES:
        raise _wrong(place, f"at most {MAX_LEAVES} features, {MAX_DEPTH} deep", "more")
    node = _mapping(node, place)
    kind, content = _content(node, place)
    content = _mapping(content, place)
    described = node.get("description")
    doc = described[:2000].encode("utf-8", "replace").decode() if isinstance(described, str) else ""
    if kind == "featuresDict":
        for name, child in _mapping(content.get("features", {}), place).items():
            if len(name) > 500 or name.encode("utf-8", "replace").decode() != name:
                raise _wrong(place, "names of at most 500 characters of Unicode", ascii(name)[:100])
            _walk(child, f"{key}/{name}" if key else name, lengths, where, leaves, depth + 1)
    elif kind == "sequence":
        length = _integer(content.get("length", -1), place)
        _walk(content.get("feature"), key, (*lengths, None if length < 0 else length), where, leaves, depth + 1)
    elif kind == "translation":
        languages = content.get("languages", [])
        if not isinstance(languages, list) or not all(isinstance(language, str) for language in languages):
            raise _wrong(place, "a list of languages", repr(languages)[:100])
        leaves.extend(Leaf(f"{key}/{language.encode('utf-8', 'replace').decode()}", "text", lengths=lengths, doc=doc) for language in languages)
    else:
        leaves.append(_LEAVES[kind](key, content, lengths, doc, place))


def _integer(value: Any, where: str) -> int:
    if value is None:
        return -1
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    raise _wrong(where, "a whole number", repr(value)[:100])


def _shape(content: Mapping[str, Any], where: str) -> Shape:
    declared = content.get("shape") or {}
    dimensions = declared if isinstance(declared, list) else _mapping(declared, where).get("dimensions", [])
    if not isinstance(dimensions, list) or len(dimensions) > MAX_DIMENSIONS:
        raise _wrong(where, f"a list of at most {MAX_DIMENSIONS} dimensions", repr(dimensions)[:100])
    sizes = [_integer(dimension, where) for dimension in dimensions]
    return tuple(None if size < 0 else size for size in sizes)


def _number(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str, dtype: str = "", shape: Shape | None = None) -> Leaf:
    declared = str(content.get("dtype") or dtype).rpartition(".")[2]
    shape = _shape(content, where) if shape is None else shape
    encoding = str(content.get("encoding") or "none").lower()
    if declared in _STRINGS:
        return Leaf(key, "text", "string", declared, shape, lengths, "", doc)
    if declared not in _DTYPES:
        raise _wrong(where, f"a dtype of {', '.join(sorted(_DTYPES))} or string", repr(declared)[:100])
    if encoding not in ("none", "bytes", "zlib"):
        raise _wrong(where, "an encoding of none, bytes or zlib", repr(encoding)[:100])
    return Leaf(key, "number" if encoding == "none" else "packed", _DTYPES[declared], declared, shape, lengths, "" if encoding == "none" else encoding, doc)


def _class_label(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    return _number(key, {}, lengths, doc, where, "int64", ())


def _box(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    return _number(key, {}, lengths, doc, where, "float32", (4,))


def _audio(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    shape = _shape(content, where) or (None,)
    return _number(key, {"dtype": content.get("dtype"), "encoding": content.get("encoding")}, lengths, doc, where, "int64", shape)


def _text(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    return Leaf(key, "text", lengths=lengths, doc=doc)


def _image(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    encoding = str(content.get("encodingFormat") or content.get("encoding_format") or "").lower()
    declared = str(content.get("dtype") or "uint8").rpartition(".")[2]
    if declared not in _DTYPES:
        raise _wrong(where, "an image of uint8, uint16 or float32", repr(declared)[:100])
    return Leaf(key, "image", _DTYPES[declared], declared, _shape(content, where) or (None, None, 3), lengths, encoding, doc)


def _video(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    shape = _shape(content, where) or (None, None, None, 3)
    dimensions = [-1 if size is None else size for size in shape[1:]]
    return _image(key, {**content, "shape": {"dimensions": dimensions}}, (*lengths, shape[0]), doc, where)


def _unknown(key: str, content: Mapping[str, Any], lengths: Shape, doc: str, where: str) -> Leaf:
    return Leaf(key, "unknown", lengths=lengths, doc=doc)


_LEAVES = {
    "tensor": _number,
    "classLabel": _class_label,
    "boundingBox": _box,
    "audio": _audio,
    "text": _text,
    "image": _image,
    "video": _video,
    "jsonFeature": _unknown,
}
_KINDS = ("featuresDict", "sequence", "translation", *_LEAVES)
_CLASSES = {
    "FeaturesDict": "featuresDict",
    "Sequence": "sequence",
    "Dataset": "sequence",
    "Tensor": "tensor",
    "Scalar": "tensor",
    "Text": "text",
    "Image": "image",
    "LabeledImage": "image",
    "Video": "video",
    "ClassLabel": "classLabel",
    "BBoxFeature": "boundingBox",
    "BBox": "boundingBox",
    "Audio": "audio",
    "Translation": "translation",
}
