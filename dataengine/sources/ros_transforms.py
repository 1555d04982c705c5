"""TFMessage: the transforms of a batch, by the pair of frames that each of them joins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.stream import Buffer
from dataengine.sources.message_fields import MessageSchema
from dataengine.sources.ros_messages import Group, RosDecoder

_AT = "transforms"
_PATHS = (f"{_AT}.transform.translation", f"{_AT}.transform.rotation")

Frames = tuple[str, str]


class Transforms(NamedTuple):
    """Poses of a child frame in its parent: `rows` (k,) message in the batch, `stamp_ns` (k,), `poses` (k, 7) x y z m, qx qy qz qw."""

    rows: Array
    stamp_ns: Array
    poses: Array


def is_transforms(schema: MessageSchema) -> bool:
    """Whether messages of this schema are lists of transforms."""
    return schema.message_name in ("tf2_msgs/TFMessage", "tf/tfMessage")


def _frames(group: Group, entry: int) -> list[tuple[Frames, Array]]:
    """Return each pair of frame names that one entry of the list has in a group, with the rows that have it."""
    parent, child = group.layout.texts[f"{_AT}.header.frame_id"][entry], group.layout.texts[f"{_AT}.child_frame_id"][entry]
    table = np.concatenate([group.table[:, at : at + length] for at, length in (parent, child)], axis=1)
    if (table == table[0]).all():
        kinds = [(0, np.arange(len(table)))]
    else:
        _, first, of = np.unique(table, axis=0, return_index=True, return_inverse=True)
        kinds = [(int(first[kind]), np.nonzero(of.reshape(-1) == kind)[0]) for kind in range(len(first))]
    return [((group.text(row, parent).decode("utf-8", "replace"), group.text(row, child).decode("utf-8", "replace")), rows) for row, rows in kinds]


class TransformsDecoder:
    """Reads TFMessage payloads; raises SchemaProblem for a definition that is not one."""

    def __init__(self, schema: MessageSchema, cdr: bool) -> None:
        self._decoder = RosDecoder(schema, cdr, keep_nested=True)

    def decode(self, payloads: Sequence[Buffer]) -> tuple[dict[Frames, Transforms], dict[int, str]]:
        """Return the transforms of a batch by (parent, child), in the order of the messages, and the messages that do not fit."""
        failed: dict[int, str] = {}
        found: dict[Frames, list[Transforms]] = {}
        for group in self._decoder.groups(payloads, failed):
            if any(path not in group.layout.numbers for path in _PATHS):
                continue  # a message without transforms
            count = len(group.layout.numbers[_PATHS[0]][2])
            translation, rotation = (group.numbers(path).reshape(len(group.rows), count, -1).astype(np.float64, copy=False) for path in _PATHS)
            stamps_ns = group.times_ns(f"{_AT}.header.stamp")
            for entry in range(count):
                for frames, at in _frames(group, entry):
                    poses = np.concatenate([translation[at, entry], rotation[at, entry]], axis=1)
                    found.setdefault(frames, []).append(Transforms(group.rows[at], stamps_ns[at, entry], poses))
        joined = {}
        for frames, parts in found.items():
            rows = np.concatenate([part.rows for part in parts])
            order = np.argsort(rows, kind="stable")
            joined[frames] = Transforms(rows[order], np.concatenate([p.stamp_ns for p in parts])[order], np.concatenate([p.poses for p in parts])[order])
        return joined, failed
