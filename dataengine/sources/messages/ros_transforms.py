"""TFMessage: the transforms of a batch, by the pair of frames that each of them joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.ros_messages import Group, RosDecoder

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


class Transformer(Protocol):
    """Reads messages that are lists of transforms."""

    def decode(self, payloads: Sequence[Buffer]) -> tuple[dict[Frames, Transforms], dict[int, str]]:
        """Return the transforms of a batch by (parent, child), in the order of the messages, and the messages that do not fit."""


class ParsedTransforms:
    """Reads TFMessage as protobuf or JSON, one message at a time; `parse` gives a message's fields as attributes or keys."""

    def __init__(self, parse: Callable[[Buffer], Any]) -> None:
        self._parse = parse

    def decode(self, payloads: Sequence[Buffer]) -> tuple[dict[Frames, Transforms], dict[int, str]]:
        found: dict[Frames, list[tuple[int, int, list[float]]]] = {}
        failed: dict[int, str] = {}
        for row, payload in enumerate(payloads):
            try:
                read = [_pose(entry) for entry in _get(self._parse(payload), _AT)]
            except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
                failed[row] = f"no list of transforms: {error}"
                continue
            for frames, stamp_ns, pose in read:
                found.setdefault(frames, []).append((row, stamp_ns, pose))
        joined = {}
        for frames, rows in found.items():
            at, stamps_ns, poses = zip(*rows, strict=True)
            joined[frames] = Transforms(np.array(at), np.array(stamps_ns, dtype=np.int64), np.array(poses, dtype=np.float64))
        return joined, failed


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


def _pose(entry: Any) -> tuple[Frames, int, list[float]]:
    stamp = _get(entry, "header", "stamp")
    names = ("seconds", "nanos") if not isinstance(stamp, dict) else ("sec", "nsec" if "nsec" in stamp else "nanosec")
    stamp_ns = int(_get(stamp, names[0])) * NS_PER_S + int(_get(stamp, names[1]))
    if not 0 <= stamp_ns < 2**63:
        raise ValueError(f"a stamp of {stamp_ns} ns")
    pose = [float(_get(entry, "transform", "translation", axis)) for axis in "xyz"] + [float(_get(entry, "transform", "rotation", axis)) for axis in "xyzw"]
    return (str(_get(entry, "header", "frame_id")), str(_get(entry, "child_frame_id"))), stamp_ns, pose


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
