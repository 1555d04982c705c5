"""Fields against the columns of the datasets: which column a field reads in which episode, and the shape and dtype of its part of a batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.core.column import CAMERA_KINDS, LOSSLESS_KINDS, Column
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.roles import CAMERA, ROLES, columns_of
from dataengine.loaders.field import Field
from dataengine.loaders.opened import Opened
from dataengine.schema.column_json import features_columns
from dataengine.store import layout
from dataengine.store.labels import describe_labels, label_key
from dataengine.store.refs import read_json

Kind = Literal["numbers", "pictures", "texts", "task", "native", "labels"]
logger = logging.getLogger(__name__)

LABEL = "label:"
OF_EVERY_BATCH = frozenset(["weight", "dataset", "episode", "step", "sample", "epoch"])

Features = dict[tuple[int, str], dict[str, Column]]  # (part, digest of the feature document) → columns


@dataclass(frozen=True)
class Window:
    """A field as it was resolved.

    Attributes:
        name, field: as given.
        kind: how it is read.
        columns: for (part, features digest) the columns it is made of, in order; absent where episodes of these features lack it.
        widths: for the same keys the numbers of a row.
        shape: of one row in the batch: (D,), (H, W, C) or ().
        dtype: in the batch.
        lacking: whether some episodes have no such column.
        exact: whether it holds pictures whose values must not be mixed when they are scaled: depth, masks, tactile images.
    """

    name: str
    field: Field
    kind: Kind
    columns: Mapping[tuple[int, str], tuple[str, ...]]
    widths: Mapping[tuple[int, str], int]
    shape: tuple[int, ...]
    dtype: str
    exact: bool = False

    lacking: bool = False

    @property
    def masked(self) -> bool:
        """Whether a mask tells which dimensions a sample has: where bodies differ in width, or some have none."""
        return self.kind in ("numbers", "native", "labels") and (self.lacking or len(set(self.widths.values())) > 1)

    @cached_property
    def offsets(self) -> Array:
        """Return the offsets of the rows in steps, (K,) int64, where they are not given in seconds; K is 1 without a time axis."""
        return read_only(np.array(self.field.steps if self.field.steps is not None else (0,), dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Return the bytes of one sample's window in a batch."""
        if self.kind in ("texts", "task"):
            return 0
        return (self.field.count or 1) * int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def feature_documents(opened: Opened) -> Features:
    """Return the columns of every kind of episode that takes part."""
    found: Features = {}
    for number, (part, table) in enumerate(zip(opened.parts, opened.tables, strict=True)):
        for digest in table.texts("features"):
            key = layout.features_key(part.dataset, digest)
            found[number, digest] = features_columns(read_json(opened.objects[number], key), key)
    return found


def resolve(fields: Mapping[str, Field], opened: Opened, features: Features) -> tuple[Window, ...]:
    """Match fields with columns.

    Raises:
        UnknownName: no dataset has such a column.
        UsageError: a field does not go with the kind of its column.
    """
    if not isinstance(fields, Mapping) or not all(isinstance(field, Field) for field in fields.values()):
        raise UsageError('fields: must be a dict of Field by name, such as {"action": Field(steps=range(16))}')
    for part in opened.parts:
        unknown = sorted(set(part.columns) - set(fields))
        if unknown:
            raise UsageError(f"Source(columns=...) of {part.address}: {unknown[0]!r} is no field; fields: {', '.join(fields)}")
    if not fields:
        raise UsageError("fields: must name a column or role, such as 'camera:primary', 'state', 'action' or 'task'; got none")
    taken = sorted(OF_EVERY_BATCH & fields.keys())
    if taken:
        raise UsageError(
            f"field {taken[0]!r}: is the name of what every batch says of its samples; give the field another, and Source(columns={{...}}) its column"
        )
    return tuple(_window(name, field, features, opened) for name, field in fields.items())


def _tell(name: str, found: Mapping[tuple[int, str], tuple[str, ...]], features: Features, opened: Opened) -> None:
    """Log what a user may not expect of a field: datasets that lack it, and columns that are put together."""
    for number, part in enumerate(opened.parts):
        mine = [key for key in features if key[0] == number]
        if not any(key in found for key in mine):
            logger.warning("field %r: %s has no such column; its samples are padded (%s_is_pad)", name, part.address, name)
        made_of = next((found[key] for key in mine if len(found.get(key, ())) > 1), None)
        if made_of is not None:
            logger.warning("field %r: in %s it is %s, one after the other; name one of them to read it alone", name, part.address, ", ".join(made_of))


def _window(name: str, field: Field, features: Features, opened: Opened) -> Window:
    if name == "task":
        if field != Field():
            raise UsageError("field 'task': is the text of the episode, the same at every step; give Field()")
        return Window(name, field, "task", {}, {}, (), "str")
    if name.startswith(LABEL):
        return _labels(name, field, features, opened)
    found = {key: columns_of(opened.parts[key[0]].columns.get(name, name), columns) for key, columns in features.items()}
    found = {key: names for key, names in found.items() if names}
    if not found:
        known = {each.name for columns in features.values() for each in columns.values() if each.steps}
        roles = {CAMERA + each.camera.role for columns in features.values() for each in columns.values() if each.camera is not None and each.steps}
        roles |= {role for role in ROLES if any(columns_of(role, columns) for columns in features.values())}
        raise UnknownName("field", name, known | roles | {"task"})
    _tell(name, found, features, opened)
    columns = [features[key][one] for key, names in found.items() for one in names]
    kinds = {"pictures" if column.kind in CAMERA_KINDS else "texts" if column.kind in ("text", "message") else "numbers" for column in columns}
    if len(kinds) > 1:
        raise UsageError(f"field {name!r}: must be of one kind in all datasets, got {', '.join(sorted(kinds))}; read them under the names of their columns")
    (kind,) = kinds
    if kind == "pictures":
        if field.dtype is not None:
            raise UsageError(f"field {name!r}: pictures keep their dtype; give the loader the transform ToFloat(), which runs after they are in the batch")
        shape, dtype = _picture(name, field, columns)
        return Window(name, field, "pictures", found, {}, shape, dtype, any(column.kind in LOSSLESS_KINDS for column in columns))
    if field.size is not None:
        raise UsageError(f"field {name!r}: size is for pictures, and this is a column of {kind}")
    if kind == "texts":
        if field.count is not None:
            raise UsageError(f"field {name!r}: texts are read at the step itself; give Field()")
        return Window(name, field, "texts", found, {}, (), "str")
    not_stepped = next((column.name for column in columns if not column.steps and field.window is None), None)
    if not_stepped is not None:
        raise UsageError(
            f"field {name!r}: column {not_stepped!r} does not stand at the steps; read its native samples with Field(window=(-0.5, 0.0), rows=...)"
        )
    if field.window is not None and any(len(names) > 1 for names in found.values()):
        raise UsageError(f"field {name!r}: a window of native samples is of one stream; name the column")
    widths = {key: sum(_width(name, features[key][one]) for one in names) for key, names in found.items()}
    dtype = field.dtype or _common({column.dtype for column in columns})
    return Window(
        name, field, "native" if field.window is not None else "numbers", found, widths, (max(widths.values()),), dtype, lacking=len(found) < len(features)
    )


def label_sets(fields: Mapping[str, Field]) -> tuple[str, ...]:
    """Return the label sets that fields name; raise UsageError where one is not `label:<set>/<column>`."""
    found = set()
    for name in fields:
        if isinstance(name, str) and name.startswith(LABEL):
            label_set, slash, column = name.removeprefix(LABEL).partition("/")
            if not slash or not label_set or not column:
                raise UsageError(f"field {name!r}: must name a label set and one of its columns, label:<set>/<column>")
            found.add(label_set)
    return tuple(sorted(found))


def _labels(name: str, field: Field, features: Features, opened: Opened) -> Window:
    """Match a field with a column of a label set; episodes without labels of it are padded."""
    label_set, _, column = name.removeprefix(LABEL).partition("/")
    widths: dict[tuple[int, str], int] = {}
    known: set[str] = set()
    for number, part in enumerate(opened.parts):
        addresses = opened.tables[number].texts(f"address{part.label_sets.index(label_set)}", most=1)
        if not addresses:
            continue
        columns = describe_labels(opened.objects[number], label_key(label_set, addresses[0])[0]).columns
        known |= set(columns)
        if column in columns:
            widths |= {key: _width(name, columns[column]) for key in features if key[0] == number}
    if not widths:
        raise UnknownName("column of a label set", column, known) if known else UsageError(f"field {name!r}: no episode has labels of a set {label_set!r}")
    return Window(name, field, "labels", dict.fromkeys(widths, (column,)), widths, (max(widths.values()),), field.dtype or "float32")


def _width(name: str, column: Column) -> int:
    if any(size is None for size in column.shape):
        raise UsageError(f"field {name!r}: column {column.name!r} has rows of unequal size, {list(column.shape)}; it cannot be batched")
    return int(np.prod([size for size in column.shape if size is not None], dtype=np.int64))


def _common(dtypes: set[str]) -> str:
    """Return float32 for floats and mixtures, the dtype itself where all agree on an integer or bool."""
    one = next(iter(dtypes))
    return one if len(dtypes) == 1 and np.dtype(one).kind in "biu" else "float32"


def _picture(name: str, field: Field, columns: list[Column]) -> tuple[tuple[int, ...], str]:
    """Return shape (H, W, C) or (H, W) and dtype of a picture in the batch."""
    dtypes = {column.dtype for column in columns}
    if len(dtypes) > 1:
        raise UsageError(f"field {name!r}: pictures must have one dtype in all datasets, got {', '.join(sorted(dtypes))}")
    dtype = next(iter(dtypes))
    colour = {tuple(column.shape[2:]) for column in columns}
    if len(colour) > 1:
        raise UsageError(f"field {name!r}: pictures must have the same channels in all datasets, got {sorted(map(list, colour))}")
    channels: tuple[Any, ...] = (3,) if dtype == "uint8" and columns[0].kind == "image" else next(iter(colour))
    if field.size is not None:
        return (*field.size, *channels), dtype
    sizes = {tuple(column.shape[:2]) for column in columns}
    if len(sizes) > 1 or None in next(iter(sizes)):
        raise UsageError(
            f"field {name!r}: pictures differ in size ({', '.join(str(list(size)) for size in sorted(sizes, key=str))}); give size=(height, width)"
        )
    height, width = next(iter(sizes))
    return (height, width, *channels), dtype
