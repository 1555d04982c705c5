"""What the columns of an RLDS dataset are called and mean, worked out from its declared features alone.

Names: `steps/` is taken off and "/" becomes "."; pictures below `observation` are `observation.images.<rest>`. So
`steps/observation/image_0` is `observation.images.image_0`, `steps/action_dict/joint_position` is `action_dict.joint_position`.
A column never depends on the values of one episode, so that all episodes of a dataset have the same ones. The key it came from stands
in `extra["source"]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dataengine.core.column import Camera, Column, Kind, Meaning
from dataengine.sources.rlds.tfds_features import Leaf

MIN_PICTURE_PX = 16  # a smaller uint8 tensor of rank 3 is a table of numbers rather than a picture
STEPS = "steps/"

# Which step field tells the number of steps: the first of these that a record has, else any other with a fixed number of values a step.
COUNTED_FIRST = ("is_first", "is_last", "is_terminal", "reward", "discount")

_FLAGS = ("is_first", "is_last", "is_terminal")
_STATE = re.compile(r"state|joint|pose|pos|position|velocit|gripper|cartesian|eef|proprio|qpos|qvel|tcp|torque|effort")
_LANGUAGE = re.compile(r"instruction|^language(?!_embedding)|^(task|task_description|lang)$")


@dataclass(frozen=True)
class PlannedColumn:
    """A leaf below `steps` and the column that it becomes."""

    leaf: Leaf
    column: Column

    @property
    def is_language(self) -> bool:
        """Whether its texts say what is to be done."""
        return self.column.meaning == "language" and self.column.kind == "text"


def stream_name(key: str, picture: bool) -> str:
    """Return the name of the stream of a flat key; what is no letter, digit, "_" or "-" becomes "_"."""
    parts = [re.sub(r"[^A-Za-z0-9_-]", "_", part) or "_" for part in key.removeprefix(STEPS).split("/")]
    if picture and parts[0] == "observation" and len(parts) > 1:
        parts.insert(1, "images")
    return ".".join(parts)


def plan_columns(leaves: Iterable[Leaf]) -> tuple[PlannedColumn, ...]:
    """Return the columns of the leaves, with names that differ from each other."""
    taken: set[str] = set()
    planned = []
    for leaf in leaves:
        column = step_column(leaf, taken)
        taken.add(column.name)
        planned.append(PlannedColumn(leaf, column))
    return tuple(planned)


def picture_kind(leaf: Leaf) -> Kind | None:
    """Return what kind of picture the rows of a leaf are, None where they are none.

    Declared images; and uint8 (H, W, 1 or 3) tensors, or depth (H, W) or (H, W, 1) of any number, called a depth, of at least 16 px.
    """
    name = leaf.key.rpartition("/")[2].lower()
    if leaf.form == "image":
        if leaf.shape[-1:] == (1,):
            return "depth" if leaf.dtype in ("uint16", "float32") or "depth" in name else "mask" if "mask" in name or "segmentation" in name else "image"
        return "image"
    if leaf.form not in ("number", "packed") or leaf.ragged or "embedding" in name or "/observation/" not in f"/{leaf.key}":
        return None
    sides = [size for size in leaf.shape[:2] if size is not None and size >= MIN_PICTURE_PX]
    if len(sides) < 2 or None in leaf.shape or len(leaf.shape) > 3:
        return None
    channels = leaf.shape[2] if len(leaf.shape) == 3 else 1
    if "depth" in name and channels == 1:
        return "depth"
    return "image" if leaf.dtype == "uint8" and len(leaf.shape) == 3 and channels in (1, 3) else None


def is_raw(leaf: Leaf) -> bool:
    """Whether the rows of a number leaf are kept as bytes because their size varies from row to row."""
    if leaf.form not in ("number", "packed"):
        return False
    return None in leaf.shape or None in leaf.lengths[1:] or (leaf.form == "packed" and leaf.ragged)


def step_column(leaf: Leaf, taken: set[str] | frozenset[str] = frozenset()) -> Column:
    """Return the column of a leaf, under a name that is not taken."""
    kind = picture_kind(leaf)
    name = free_name(stream_name(leaf.key, kind is not None), taken)
    extra: dict[str, Any] = {"source": leaf.key} | (
        {"declared_dtype": leaf.declared} if leaf.declared != leaf.dtype and leaf.form in ("number", "packed") else {}
    )
    if kind is not None:
        camera = Camera(role="wrist" if "wrist" in leaf.key.lower() else "other")
        if leaf.form == "image" and leaf.dtype == "float32":
            extra["packing"] = "float32_in_rgba8"
        encoding = (leaf.encoding or "image") if leaf.form == "image" else None
        return Column(name, kind, leaf.dtype, leaf.shape, encoding=encoding, camera=camera, doc=leaf.doc, extra=extra)
    meaning = _meaning(leaf)
    if leaf.form in ("text", "unknown"):
        several = leaf.ragged or leaf.shape != ()
        return Column(name, "text", "string", (), encoding="json" if several else "utf-8", meaning=meaning, doc=leaf.doc, extra=extra)
    if is_raw(leaf):
        extra |= {"row_dtype": leaf.dtype, "row_shape": [*leaf.lengths[1:], *leaf.shape]}
        return Column(name, "message", "bytes", (), encoding=raw_encoding(leaf), meaning=meaning, steps=False, doc=leaf.doc, extra=extra)
    return Column(name, "numeric", leaf.dtype, (*leaf.lengths[1:], *leaf.shape), meaning=meaning, doc=leaf.doc, extra=extra)


def raw_encoding(leaf: Leaf) -> str:
    """Return the encoding of rows of varying size: "raw/<dtype>", little-endian, or "zlib/<dtype>" where they came compressed."""
    if leaf.form == "packed":
        return f"{'zlib' if leaf.encoding == 'zlib' else 'raw'}/{leaf.declared}"
    return f"raw/{leaf.dtype}"


def free_name(name: str, taken: set[str] | frozenset[str]) -> str:
    """Return `name`, with a number after it where it is taken."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _meaning(leaf: Leaf) -> Meaning:
    path = leaf.key.removeprefix(STEPS)
    name = path.rpartition("/")[2].lower()
    if leaf.form in ("text", "unknown"):
        return "language" if _LANGUAGE.search(name) else "other"
    if path.partition("/")[0] in ("action", "action_dict"):
        return "action"
    if path in ("reward", "discount"):
        return "reward" if path == "reward" else "discount"
    if path in _FLAGS:
        return "flag"
    if name.startswith("timestamp"):
        return "time"
    if path.startswith("observation/") and leaf.dtype.startswith("float") and len(leaf.shape) <= 1 and _STATE.search(name):
        return "state"
    return "other"
