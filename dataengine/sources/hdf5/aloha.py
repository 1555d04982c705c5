"""HDF5 of the ALOHA/ACT family: one episode a file, `/observations/{images, qpos, qvel, effort}` and `/action`.

Layout: ACT's `record_sim_episodes.py`; Mobile ALOHA adds `base_action`, compressed images (rows of bytes padded to one length) and
`compress_len`. `action[t]` is the joint target that was commanded after `observations[t]` was taken. The file says nothing of its rate unless an
attribute does; nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.protocols import Item, ReadOptions
from dataengine.sources.hdf5.streams import CLOCK, Emitted, Plan, plan, rows_of, small_value, stream_name, unused
from dataengine.sources.hdf5.tree import Notes, Tree, attributes, find, has, number_of, truth_of, walk
from dataengine.sources.hdf5.values import Table, blocks, inspect, whole

NAME = "aloha"
LAYOUT = "observations/qpos (or images) and action, one episode a file"

# Path in the file -> stream name and facts of its column. qpos and action of ALOHA: joints in rad, grippers normalised.
STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "observations/qpos": ("observation.state", {"meaning": "state", "doc": "joint positions, gripper included"}),
    "observations/qvel": ("observation.velocity", {"meaning": "state", "doc": "joint velocities, gripper included"}),
    "observations/effort": ("observation.effort", {"meaning": "state", "doc": "joint efforts, gripper included"}),
    "action": (
        "action",
        {
            "meaning": "action",
            "action_space": ActionSpace("joint_position", absolute=True),
            "action_source": "commanded",
            "doc": "commanded joint positions, gripper included",
        },
    ),
    "base_action": (
        "action.base",
        {
            "meaning": "action",
            "action_space": ActionSpace("base_velocity", frame="base", absolute=True),
            "action_source": "commanded",
            "doc": "commanded velocities of the base, linear and angular",
        },
    ),
}
IMAGES = "observations/images/"
LENGTHS = "compress_len"
DECLARED_VIDEOS = "observations/video_paths/"
RATES = ("fps", "frame_rate", "frequency", "control_freq", "control_frequency", "hz", "rate_hz")
TASKS = ("language_instruction", "task_description", "instruction", "language_raw", "task", "task_name")
MAX_LENGTH_BYTES = 64 << 20
TIMES = ("timestamps", "timestamp", "observations/timestamps", "observations/timestamp")  # (T,) float64, in s
MAX_TIME_S = 9e9  # year 2255: int64 ns end there
EPOCH_NS = 10**18  # September 2001: a later time counts from 1970, an earlier one from the start of a recording or machine


def recognise(tree: Tree) -> bool:
    """Return whether the file has this layout."""
    import h5py

    observations = find(tree, tree.root, "", "observations")
    if not isinstance(observations, h5py.Group):
        return False
    return has(tree.root, "action") or has(observations, "qpos") or has(observations, "images")


def _tables(tree: Tree, notes: Notes) -> dict[str, Any]:
    """Return every dataset by path; attributes on the way are kept."""
    import h5py

    found: dict[str, Any] = {}
    for path, thing in walk(tree, tree.root):
        attributes(tree, thing, path, notes)
        if isinstance(thing, h5py.Dataset):
            found[path] = thing
    return found


def _lengths(table: Table | None, steps: int) -> Array | None:
    """Return the table of lengths as (cameras, T), None where there is none of that form."""
    if table is None or table.content != "numeric":
        return None
    values = whole(table, MAX_LENGTH_BYTES)
    if not isinstance(values, np.ndarray):
        return None
    if values.ndim == 1 and len(values) == steps:
        return values[None]
    if values.ndim == 2 and values.shape[1] == steps:
        return values
    return values.T if values.ndim == 2 and values.shape[0] == steps else None


def _plans(tree: Tree, found: dict[str, Any], notes: Notes) -> list[Plan]:
    """Plan a stream for each dataset that has a row for each step; the others become metadata."""
    if "action" not in found:
        raise BadRecording(
            tree.where("action"), "a dataset of the commanded actions", "none", "record actions, or ingest the cameras as video", check="missing_action"
        )
    action = inspect(tree, found["action"], "action")
    if action.rows < 1 or action.content != "numeric":
        raise BadRecording(action.where, "numbers with one row for each step", f"shape {action.shape} of {action.dtype}", check="no_steps")
    steps = action.rows
    lengths = _lengths(inspect(tree, found[LENGTHS], LENGTHS), steps) if LENGTHS in found else None
    plans: list[Plan] = []
    taken = {name for name, _ in STREAMS.values()}
    for path, dataset in found.items():
        if path.startswith(DECLARED_VIDEOS):
            continue
        known = path in STREAMS or path.startswith(IMAGES)
        table = inspect(tree, dataset, path)
        # A row too few is a short stream among observations; elsewhere it is more likely no stream at all.
        fewest = steps - 1 if path.startswith("observations/") else steps
        if not known and not max(fewest, 1) <= table.rows <= steps + 1:
            if path != LENGTHS or lengths is None:
                small_value(tree, dataset, path, notes)
            continue
        planned = _plan(table, path, lengths, taken)
        if planned is not None:
            plans.append(planned)
            taken.add(planned.column.name)
        elif known:
            raise BadRecording(table.where, "a row for each step, of numbers or pictures", f"shape {table.shape} of {table.dtype}", check="odd_type")
        else:
            notes.warn("dataset_not_kept", table.where, f"the dataset is not kept, as its type cannot be kept as rows ({table.dtype})")
    return plans


def _plan(table: Table, path: str, lengths: Array | None, taken: set[str]) -> Plan | None:
    if path in STREAMS:
        name, facts = STREAMS[path]
        return plan(table, name, path, **facts) if table.content == "numeric" and table.shape else None
    if path.startswith(IMAGES):
        return plan(table, unused(f"observation.images.{stream_name(path.removeprefix(IMAGES))}", taken), path, lengths)
    return plan(table, unused(re.sub(r"^observations\.", "observation.", stream_name(path)), taken), path)


def measured_clock(plans: Sequence[Plan], notes: Notes) -> Array | None:
    """Return the recorded time of each row, (T,) int64 ns, None where there is none that can be believed for all streams.

    A dataset of times is (T,) float64 seconds. It is a stream in any case; as a clock it must be finite, and every stream must have its T rows.
    """
    for planned in plans:
        table = planned.table
        if table.path not in TIMES or table.dtype != np.float64 or len(table.shape) != 1:
            continue
        times_s = np.concatenate(list(blocks(table)))
        if not np.isfinite(times_s).all() or np.abs(times_s).max() > MAX_TIME_S:
            notes.warn("odd_times", table.where, "the times are not a clock in seconds (not finite, or absurd); they are kept as numbers")
        elif any(other.table.rows != table.rows for other in plans):
            notes.warn("odd_times", table.where, "the streams have other numbers of rows than there are times; the times are kept as numbers")
        else:
            return np.rint(times_s * 1e9).astype(np.int64)
    return None


def _declared_videos(tree: Tree, found: dict[str, Any], notes: Notes) -> None:
    """Name cameras whose pictures lie in another file, which this file only gives a path to; the path is not followed."""
    for path, dataset in found.items():
        if not path.startswith(DECLARED_VIDEOS):
            continue
        table = inspect(tree, dataset, path)
        value = whole(table, 1 << 16)
        shown = printable(str(value))[:200] if value is not None else "?"
        notes.keep("values", printable(path), shown, len(shown), table.where)
        notes.warn(
            "missing_video",
            table.where,
            f"the frames of camera {path.removeprefix(DECLARED_VIDEOS)!r} are not in this file, which names {shown!r}",
            "ingest the videos as a source of their own",
        )


def _tasks(tree: Tree, root_attributes: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    for name in TASKS:
        value = root_attributes.get(name)
        if value is None and name in found:
            table = inspect(tree, found[name], name)
            value = whole(table, 1 << 16) if table.content == "text" else None
            if isinstance(value, np.ndarray):
                value = [part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else part for part in value.reshape(-1).tolist()]
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text.strip()]
        if texts:
            return tuple(dict.fromkeys(printable(text.strip()) for text in texts))
    return ()


def read(tree: Tree, item: Item, options: ReadOptions) -> Iterator[Event]:
    """Read the episode of a file.

    Raises:
        BadRecording: no action, a link or storage outside the file, values that cannot be read or cannot be true.
    """
    notes = Notes()
    root_attributes = attributes(tree, tree.root, "")
    found = _tables(tree, notes)
    plans = _plans(tree, found, notes)
    _declared_videos(tree, found, notes)
    stamps_ns = measured_clock(plans, notes)
    emitted = Emitted()
    for planned in plans:
        yield from rows_of(planned, emitted, notes, stamps_ns)
    _note_lengths(tree, emitted, notes)
    rate_hz = number_of(root_attributes, *RATES) or number_of(options.description, "rate_hz") or options.rate_hz
    simulated = root_attributes.get("sim") is True or root_attributes.get("sim") == 1
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=emitted.columns,
        clock="measured" if stamps_ns is not None else "nominal" if rate_hz else "unknown",
        stream_clocks={} if stamps_ns is None else dict.fromkeys(emitted.columns, CLOCK),
        start_ns=0 if stamps_ns is None else int(stamps_ns.min()),
        epoch=stamps_ns is not None and int(stamps_ns.min()) > EPOCH_NS,
        rate_hz=rate_hz,
        follow="action",
        tasks=_tasks(tree, root_attributes, found),
        success=truth_of(root_attributes, "success"),
        splits=item.splits,
        embodiment=options.description.get("embodiment"),
        origin="simulation" if simulated else "teleop",
        metadata={"format": "hdf5/aloha", **notes.metadata},
        problems=notes.all_problems(),
    )


def _note_lengths(tree: Tree, emitted: Emitted, notes: Notes) -> None:
    """Note which row of `compress_len` is a camera's, and where it disagrees with the pictures."""
    for camera, candidates in emitted.length_rows.items():
        if candidates:
            notes.keep("compress_len_row", camera, candidates[0], 8, tree.where(LENGTHS))
        else:
            notes.warn("lengths_disagree", tree.where(LENGTHS), f"no row of {LENGTHS} fits the pictures of {camera!r}, whose own ends are believed")
