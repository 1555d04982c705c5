"""One record with its name in messages: lists by key, each checked against what features.json declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.sources.rlds.tf_example import Feature, FeatureKind
from dataengine.sources.rlds.tf_lists import CHUNK_BYTES, bytes_items, count_values, float_values, int64_values

_WIRE: dict[str, FeatureKind] = {"b": "int64", "i": "int64", "u": "int64", "f": "float"}


def _list_name(kind: FeatureKind) -> str:
    return f"an {kind} list" if kind == "int64" else f"a {kind} list"


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
            raise self.wrong(key, _list_name(kind), "nothing", "missing_key")
        if feature.kind not in (kind, "empty"):
            raise self.wrong(key, f"{_list_name(kind)}, as features.json says", _list_name(feature.kind), "wrong_type")
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
