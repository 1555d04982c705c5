"""Rotations among the entries of a column: what its action space says, else what its dimensions are called."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dataengine.core.action_spec import RotationEntries
from dataengine.core.column import Column, RotationKind
from dataengine.core.errors import MissingFact
from dataengine.transforms.action_parts import ANGLES, AXES, ROTATION_DIMS, rotation_part, scale_of

# The names that tell a kind where nothing says what the column means; rx, ry and rz are also what people call Euler angles.
NAMED: dict[RotationKind, tuple[tuple[str, ...], ...]] = {
    "rpy": ROTATION_DIMS["rpy"],
    "rotvec": ROTATION_DIMS["rotvec"][:1],
    "quat_xyzw": ROTATION_DIMS["quat_xyzw"],
}
PLAIN = (("roll", "pitch", "yaw"), ("rx", "ry", "rz"))  # names that a joint may have too: left_wrist_roll turns about an axis of its own
SIDES = re.compile(r"((left|right|l|r|arm|hand|ee|eef|tcp|tool|robot)?\d*[_./ -])*")


def rotation_entries(column: Column) -> tuple[RotationEntries, ...]:
    """Return the rotations in a column, one for each hand; () where nothing is known of any: then its entries are numbers like all others."""
    space = column.action_space
    if space is None:
        return _by_name(column, NAMED)
    if space.kind not in ("ee_pose", "ee_delta"):
        return ()
    try:
        part = rotation_part(column)
    except MissingFact:
        return ()
    if part is None:
        return _by_name(column, {space.rotation: ROTATION_DIMS[space.rotation]}) if space.rotation is not None else ()
    if len(part.entries) != part.width or len(set(part.gain)) != 1 or any(part.offset):
        return ()
    assert part.rotation is not None
    return (RotationEntries(part.rotation, part.entries, part.gain[0]),)


def rotations_of(columns: Sequence[Column]) -> tuple[RotationEntries, ...]:
    """Return the rotations in columns that stand one after the other."""
    found: list[RotationEntries] = []
    first = 0
    for column in columns:
        found += [replace(each, entries=tuple(first + entry for entry in each.entries)) for each in rotation_entries(column)]
        first += math.prod(size or 0 for size in column.shape)
    return tuple(found)


def _by_name(column: Column, known: Mapping[RotationKind, Sequence[tuple[str, ...]]]) -> tuple[RotationEntries, ...]:
    """Return the rotations whose entries are called as those of a kind are, all with the same words before it: left_roll, left_pitch, left_yaw."""
    found = []
    for kind, several in known.items():
        for names in several:
            for prefix in dict.fromkeys(name.removesuffix(names[0]) for name in column.dims or () if name.endswith(names[0])):
                entries = _entries(column, names, prefix)
                gain = _gain(column, kind, entries) if entries is not None else None
                if entries is not None and gain is not None:
                    found.append(RotationEntries(kind, entries, gain))
    return tuple(sorted(found, key=lambda each: each.entries))


def _entries(column: Column, names: tuple[str, ...], prefix: str) -> tuple[int, ...] | None:
    """Return where the names with a prefix stand, None where they do not all stand there once, or may be those of joints."""
    dims = column.dims or ()
    if (prefix and prefix[-1].isalnum()) or any(dims.count(prefix + name) != 1 for name in names):
        return None
    if names in PLAIN and not SIDES.fullmatch(prefix) and not all(prefix + axis in dims for axis in AXES):
        return None
    return tuple(dims.index(prefix + name) for name in names)


def _gain(column: Column, kind: RotationKind, entries: tuple[int, ...]) -> float | None:
    """Return how many rad the number 1 of an angle is, None where that is not known or not all there is to it."""
    if kind not in ANGLES:
        return 1.0
    try:
        gain, offset = scale_of(column, "rad", entries)
    except MissingFact:
        return None
    return gain[0] if len(set(gain)) == 1 and not any(offset) else None
