"""DROID's `trajectory.h5`: one episode, a row a step, every signal and every time that the recorder took down.

`action[t]` is the command that went out at the end of step t, after `observation[t]` was read at its beginning; see `dataengine.sources.droid.clocks`.
Source: DROID, https://github.com/droid-dataset/droid (its recorder), and one real episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, Opener, ReadOptions
from dataengine.core.stream import Rows
from dataengine.sources.droid.cameras import Film, film_rows, labels
from dataengine.sources.droid.clocks import BEGINS, CAMERAS, COMMAND, OBSERVED, Clocks, read_clocks
from dataengine.sources.droid.columns import BASE, POSE_DIMS, facts_of
from dataengine.sources.hdf5.streams import Emitted, Plan, plan, rows_of, small_value, stream_name, unused
from dataengine.sources.hdf5.tree import Notes, Tree, attributes, find, has, truth_of, walk
from dataengine.sources.hdf5.values import Table, inspect, whole

NAME = "droid"
LAYOUT = "observation/robot_state and action/…, a row a step, as DROID's trajectory.h5"

STATE, EXTRINSICS, INTRINSICS, TYPES = (
    "observation/robot_state/",
    "observation/camera_extrinsics/",
    "observation/camera_intrinsics/",
    "observation/camera_type/",
)
FLAGS, SKIPPED = "observation/controller_info/", "observation/timestamp/skip_action"
FOLLOWED = ("action/joint_position", "action/cartesian_position", "action/joint_velocity", "action/cartesian_velocity")
EPOCH_NS = 10**18  # September 2001
MAX_FLAG_BYTES = 16 << 20


@dataclass(frozen=True)
class Beside:
    """What lies beside a trajectory: films, the metadata file's content, instructions, what the folder says of success, and problems found so far."""

    films: Sequence[Film] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    instructions: Sequence[str] = ()
    success: bool | None = None
    problems: Sequence[Problem] = ()


def recognise(tree: Tree) -> bool:
    """Return whether the file has this layout."""
    import h5py

    observation, action = find(tree, tree.root, "", "observation"), find(tree, tree.root, "", "action")
    return isinstance(observation, h5py.Group) and isinstance(action, h5py.Group) and has(observation, "robot_state")


def read(tree: Tree, item: Item, options: ReadOptions) -> Iterator[Event]:
    """Read a trajectory that lies alone: its cameras are named as missing."""
    yield from read_episode(tree, item, options, None, Beside())


def _datasets(tree: Tree, notes: Notes) -> dict[str, Any]:
    """Return every dataset by path; attributes below the root on the way are kept."""
    import h5py

    found: dict[str, Any] = {}
    for path, thing in walk(tree, tree.root):
        if path:
            attributes(tree, thing, path, notes)
        if isinstance(thing, h5py.Dataset):
            found[path] = thing
    return found


def _steps(tree: Tree, tables: Mapping[str, Table]) -> int:
    commands = [tables[path] for path in (*FOLLOWED, *sorted(tables)) if path in tables and path.startswith("action/")]
    numeric = [table for table in commands if table.content == "numeric" and table.rows >= 0]
    if not numeric or numeric[0].rows < 1:
        found = "none" if not numeric else "no rows"
        raise BadRecording(tree.where("action"), "commands with a row for each step", found, "record the episode again", check="no_steps")
    return numeric[0].rows


def _serials(tables: Mapping[str, Table], clocks: Clocks, beside: Beside) -> dict[str, None]:
    """Return the serial number of every camera that is declared or has a film, in no order that means anything."""
    found = dict.fromkeys(path.removeprefix(TYPES) for path in tables if path.startswith(TYPES))
    found |= dict.fromkeys(clocks.cameras)
    found |= dict.fromkeys(str(beside.metadata[key]) for key in ("wrist_cam_serial", "ext1_cam_serial", "ext2_cam_serial") if beside.metadata.get(key))
    return found | dict.fromkeys(film.serial for film in beside.films)


def _camera_types(tables: Mapping[str, Table]) -> dict[str, int]:
    types = {}
    for path, table in tables.items():
        if path.startswith(TYPES) and table.content == "numeric":
            value = whole(table, MAX_FLAG_BYTES)
            if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iub":
                types[path.removeprefix(TYPES)] = int(value.reshape(-1)[0])
    return types


def _relabelled(path: str, names: Mapping[str, str]) -> str:
    """Return a path with a camera's serial number replaced by its name: columns are then the same in every laboratory."""
    head, _, last = path.rpartition("/")
    for serial, label in names.items():
        if last == serial or last.startswith(f"{serial}_"):
            return f"{head}/{label}{last[len(serial) :]}"
    return path


def _facts(path: str, table: Table) -> dict[str, Any]:
    shape = table.shape[1:]
    if path.startswith("action/") and not path.startswith("action/robot_state/"):
        return facts_of(path.rsplit("/", 1)[-1], shape, commanded=True)
    if path.startswith((STATE, "action/robot_state/")):
        return facts_of(path.rsplit("/", 1)[-1], shape, commanded=False)
    if path.startswith((FLAGS, SKIPPED)):
        return {"meaning": "flag", "align": "previous"}
    if path.startswith(EXTRINSICS):
        at_hand = path.endswith("_gripper_offset")
        known = {"dims": POSE_DIMS, "frame": "hand" if at_hand else BASE, "extra": {"rotation": "rpy"}} if shape == (6,) else {}
        return {**known, "align": "previous", "doc": f"pose of the camera in the frame of the {'hand' if at_hand else 'base'}: m, rad"}
    return {"meaning": "time", "unit": "ms"} if path.startswith(CAMERAS) else {"align": "previous"}


def _clock_of(path: str, clocks: Clocks) -> tuple[str, tuple[str, Array] | None]:
    """Return which clocks belong to a dataset ("control", "robot" or none), and the one that it stands on."""
    if path.startswith("action/"):
        return "control", clocks.of(clocks.control, COMMAND)
    if path.startswith((FLAGS, SKIPPED)):
        return "", clocks.of(clocks.control, BEGINS)
    return "robot", clocks.of(clocks.robot, OBSERVED)


def _plans(
    tree: Tree, tables: Mapping[str, Table], datasets: Mapping[str, Any], steps: int, skipped: set[str], names: Mapping[str, str], notes: Notes
) -> list[Plan]:
    """Plan a stream for each dataset with a row for each step; the others become metadata, or streams without times."""
    plans: list[Plan] = []
    taken: set[str] = set()
    for path, table in tables.items():
        if path in skipped:
            continue
        if table.rows != steps and (table.rows < 2 or table.content != "numeric"):
            small_value(tree, datasets[path], path, notes)
            continue
        planned = plan(table, unused(stream_name(_relabelled(path, names)), taken), _relabelled(path, names), **_facts(path, table))
        if planned is None:
            notes.warn("dataset_not_kept", table.where, f"the dataset is not kept, as its type cannot be kept as rows ({table.dtype})")
            continue
        if table.rows != steps:
            notes.warn("rows_differ", table.where, f"{table.rows} rows for {steps} steps; nothing says which belong together, so they have no times")
            planned = replace(planned, column=replace(planned.column, steps=False))
        plans.append(planned)
        taken.add(planned.column.name)
    return plans


def _pauses(tables: Mapping[str, Table], steps: int, notes: Notes, where: str) -> int:
    """Count the steps whose command was not carried out, and say so."""
    paused = np.zeros(steps, dtype=bool)
    for path, idle in ((f"{FLAGS}movement_enabled", 0), (SKIPPED, 1)):
        table = tables.get(path)
        value = whole(table, MAX_FLAG_BYTES) if table is not None and table.content == "numeric" and table.rows == steps else None
        if isinstance(value, np.ndarray) and value.shape == (steps,):
            paused |= value == idle
    count = int(np.count_nonzero(paused))
    if count:
        message = (
            f"{where}: {count} of {steps} steps are pauses (movement_enabled false or skip_action true): their commands were not carried out; the rows are kept"
        )
        notes.problems.append(Problem("pauses", message, where, "info"))
    return count


def _success(root: Mapping[str, Any], beside: Beside, notes: Notes, where: str) -> bool | None:
    """Return whether the task was done, as the file says, else its metadata, else its folder; a contradiction is named."""
    said: dict[str, bool] = {}
    good, bad = truth_of(root, "success"), truth_of(root, "failure")
    if good is not None and good != bad and (good or bad):
        said["the attributes"] = good
    if good and bad:
        notes.warn("success_contradicts", where, "the attributes say success and failure")
    if isinstance(beside.metadata.get("success"), bool):
        said["the metadata"] = bool(beside.metadata["success"])
    if beside.success is not None:
        said["the folder"] = beside.success
    if len(set(said.values())) > 1:
        shown = ", ".join(f"{who} {'success' if what else 'failure'}" for who, what in said.items())
        notes.warn("success_contradicts", where, f"different things are said of the outcome: {shown}; the first is believed")
    return next(iter(said.values()), None)


def _tasks(root: Mapping[str, Any], beside: Beside) -> tuple[str, ...]:
    texts = [*beside.instructions, root.get("current_task"), beside.metadata.get("current_task")]
    words = [" ".join(printable(text).split()) for text in texts if isinstance(text, str)]
    return tuple(dict.fromkeys(text for text in words if text))


def _intrinsics_px(tables: Mapping[str, Table], serial: str, steps: int) -> tuple[float, float, float, float] | None:
    """Return (fx, fy, cx, cy) of the left lens where the file has one matrix for the whole episode."""
    table = tables.get(f"{INTRINSICS}{serial}_left")
    value = whole(table, MAX_FLAG_BYTES) if table is not None and table.content == "numeric" else None
    if not isinstance(value, np.ndarray) or value.shape != (steps, 3, 3) or not (value == value[0]).all():
        return None
    matrix = value[0].astype(np.float64)
    return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])


def read_episode(tree: Tree, item: Item, options: ReadOptions, files: Opener | None, beside: Beside) -> Iterator[Event]:
    """Read the episode of a file and what lies beside it.

    Args:
        tree: the open trajectory.
        item: what is read.
        options: the user's choices.
        files: access to the films; None where there are none.
        beside: films and metadata.

    Raises:
        BadRecording: no commands, values that cannot be read or cannot be true, a film that cannot be read.
    """
    notes = Notes()
    notes.problems += beside.problems
    where = item.path
    root = attributes(tree, tree.root, "")
    datasets = _datasets(tree, notes)
    tables = {path: inspect(tree, dataset, path) for path, dataset in datasets.items()}
    steps = _steps(tree, tables)
    clocks = read_clocks(tree, datasets, steps, notes)
    types = _camera_types(tables)
    names = labels(_serials(tables, clocks, beside), types, beside.metadata, notes, where)
    filmed = {film.serial for film in beside.films}
    for serial, label in names.items():
        if serial not in filmed:
            notes.warn("missing_video", where, f"the film of camera {printable(serial)[:80]!r} ({label}) is not there", "copy recordings/MP4 too")
    columns: dict[str, Column] = {}
    stream_clocks: dict[str, str] = {}
    starts: list[int] = []
    carried: set[str] = set()  # cameras all of whose times stand beside their frames
    if files is not None:
        for film, rows, column, clock in film_rows(beside.films, names, files, steps, clocks, notes):
            columns[rows.stream] = _with_pose(column, film, names, tables, steps)
            if clocks.cameras.get(film.serial, {}).keys() <= rows.clocks.keys() and len(rows.values) >= steps:
                carried.add(film.serial)
            if clock is not None:
                stream_clocks[rows.stream] = clock
                starts.append(int(rows.clocks[clock].min()))
            yield rows
    skipped = {path for path, serial in clocks.used.items() if not serial or serial in carried}
    emitted = Emitted()
    left = {"control": clocks.control, "robot": clocks.robot}
    for planned in _plans(tree, tables, datasets, steps, skipped, names, notes):
        group, chosen = _clock_of(planned.table.path, clocks)
        chosen = chosen if planned.table.rows == steps else None
        kept = {} if chosen is None else {chosen[0]: chosen[1]}
        if chosen is not None:
            if group in left and planned.form == "numbers":
                kept = {**left.pop(group), **kept}  # the first stream of a group carries all its clocks, the others the one that they stand on
            stream_clocks[planned.column.name] = chosen[0]
            starts.append(int(chosen[1].min()))
        at = 0
        for rows in rows_of(planned, emitted, notes):
            yield replace(rows, clocks={name: times_ns[at : at + len(rows.values)] for name, times_ns in kept.items()})
            at += len(rows.values)
    for group, times in left.items():  # no stream could carry them
        for name, times_ns in times.items():
            stream = unused(f"observation.timestamp.{group}.{name}", {*columns, *emitted.columns})
            emitted.columns[stream] = Column(stream, dtype="int64", meaning="time", unit="ns", steps=False)
            yield Rows(stream, times_ns)
    columns |= emitted.columns
    paused = _pauses(tables, steps, notes, where)
    # Measured times are the rate; a nominal one (15 Hz) is asked for only where there are none.
    rate_hz = None if stream_clocks else options.description.get("rate_hz") or options.rate_hz
    start_ns = min(starts, default=0)
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=columns,
        clock="measured" if stream_clocks else "nominal" if rate_hz else "unknown",
        stream_clocks=stream_clocks,
        start_ns=start_ns,
        epoch=start_ns > EPOCH_NS,
        rate_hz=rate_hz,
        follow=next((stream_name(path) for path in FOLLOWED if stream_name(path) in columns), None),
        tasks=_tasks(root, beside),
        success=_success(root, beside, notes, where),
        splits=item.splits,
        embodiment=options.description.get("embodiment"),
        metadata={
            "format": "droid",
            "attributes": root,
            "episode": dict(beside.metadata),
            "cameras": {label: {"serial": printable(serial), "type": types.get(serial)} for serial, label in names.items()},
            "paused_steps": paused,
            **notes.metadata,
        },
        problems=notes.all_problems(),
    )


def _with_pose(column: Column, film: Film, names: Mapping[str, str], tables: Mapping[str, Table], steps: int) -> Column:
    """Return a camera's column with the stream of its pose and its intrinsics, where the file has them."""
    path = f"{EXTRINSICS}{film.serial}_left"
    posed = path in tables and tables[path].rows == steps and tables[path].content == "numeric"
    assert column.camera is not None
    pose = stream_name(_relabelled(path, names)) if posed else None
    return replace(column, camera=replace(column.camera, pose_stream=pose, intrinsics_px=_intrinsics_px(tables, film.serial, steps)))
