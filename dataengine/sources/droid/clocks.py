"""The clocks of a DROID episode: epoch milliseconds that the recorder took down at each step, exact in ns.

One step: the robot's state is read, then the cameras, then the policy (or the operator's hand) is asked, then the rest of the period is slept, then the command
goes out. `control/*` are the borders between these parts, `robot_state/*` and `cameras/<serial>_*` lie inside the first. Streams have these clocks:

| stream | its clock | why |
|---|---|---|
| actions | `control_start` | the command goes out at that instant |
| robot state, extrinsics (computed from it) | `read_end` | from then on the value is known; it is never earlier than the value |
| pictures | `frame_received` | the camera's own time of the picture; `estimated_capture` is that minus a constant |
| flags | `step_start` | the operator's buttons are read when the step begins |

All are of the recording computer, but for `robot`, which is that of the robot's. The others are kept beside them under their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.sources.hdf5.tree import Notes, Tree
from dataengine.sources.hdf5.values import inspect, whole

ROOT = "observation/timestamp/"
CONTROL, ROBOT, CAMERAS = f"{ROOT}control/", f"{ROOT}robot_state/", f"{ROOT}cameras/"
ROBOT_SECONDS, ROBOT_NANOS = f"{ROBOT}robot_timestamp_seconds", f"{ROBOT}robot_timestamp_nanos"

COMMAND = ("control_start", "policy_start", "sleep_start", "step_start", "step_end")
OBSERVED = ("read_end", "read_start")
BEGINS = ("step_start",)
PICTURE = ("frame_received", "estimated_capture", "read_end", "read_start")

NS_PER_MS = 1_000_000
MAX_MS = 9_000_000_000_000  # int64 ns end there
MAX_BYTES = 64 << 20
_CAMERA = re.compile(r"(.+?)_(read_start|read_end|frame_received|estimated_capture)")


@dataclass
class Clocks:
    """Times by their names, each (T,) int64 ns: of the steps, of the robot's state, of each camera by serial number. `used` are the paths they came from."""

    control: dict[str, Array] = field(default_factory=dict)
    robot: dict[str, Array] = field(default_factory=dict)
    cameras: dict[str, dict[str, Array]] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)

    def of(self, own: Mapping[str, Array], preferred: Iterable[str]) -> tuple[str, Array] | None:
        """Return the clock that a stream stands on: the first of its own in the order of preference, else one of the steps, None where there is none at all."""
        for name in preferred:
            if name in own:
                return name, own[name]
        for name in COMMAND:
            if name in self.control:
                return name, self.control[name]
        for name in OBSERVED:
            if name in self.robot:
                return name, self.robot[name]
        return None


def ms_to_ns(values: Array) -> Array | None:
    """Return times in ms as int64 ns, None where they are no times: exact for whole ms, and for fractions as far as a float64 holds them."""
    if values.dtype.kind not in "iuf" or (values.dtype.kind == "f" and not np.isfinite(values).all()):
        return None
    if len(values) and (float(values.max()) > MAX_MS or float(values.min()) < 0):
        return None
    whole_ms = np.floor(values).astype(np.int64)
    return np.asarray(whole_ms * NS_PER_MS + np.rint((values - whole_ms) * NS_PER_MS).astype(np.int64), dtype=np.int64)


def _milliseconds(values: Any, steps: int) -> Array | None:
    """Return (T,) times in ms as ns, None where the values cannot be such times."""
    return ms_to_ns(values) if isinstance(values, np.ndarray) and values.shape == (steps,) else None


def _robot_clock(seconds: Any, nanos: Any, steps: int) -> Array | None:
    for part in (seconds, nanos):
        if not isinstance(part, np.ndarray) or part.shape != (steps,) or part.dtype.kind not in "iu":
            return None
    whole_s, rest_ns = seconds.astype(np.int64), nanos.astype(np.int64)
    if steps and not (int(whole_s.min()) >= 0 and int(whole_s.max()) * 1000 <= MAX_MS and int(rest_ns.min()) >= 0 and int(rest_ns.max()) < 10**9):
        return None
    return np.asarray(whole_s * 10**9 + rest_ns, dtype=np.int64)


def read_clocks(tree: Tree, datasets: Mapping[str, Any], steps: int, notes: Notes) -> Clocks:
    """Read every time that has a row for each step; one that cannot be a time is named, and is left for a stream of numbers."""
    clocks = Clocks()
    values = {}
    for path, dataset in datasets.items():
        if path.startswith((CONTROL, ROBOT, CAMERAS)):
            table = inspect(tree, dataset, path)
            values[path] = whole(table, MAX_BYTES) if table.content == "numeric" else None
    for path, stored in values.items():
        if path in (ROBOT_SECONDS, ROBOT_NANOS):
            continue
        times_ns = _milliseconds(stored, steps)
        camera = _CAMERA.fullmatch(path.removeprefix(CAMERAS)) if path.startswith(CAMERAS) else None
        if times_ns is None or (path.startswith(CAMERAS) and camera is None):
            notes.warn("odd_times", tree.where(path), "the values are no times in ms of each step; they are kept as numbers")
            continue
        if camera is not None:
            clocks.cameras.setdefault(camera.group(1), {})[camera.group(2)] = times_ns
            clocks.used[path] = camera.group(1)
        else:
            (clocks.control if path.startswith(CONTROL) else clocks.robot)[path.rsplit("/", 1)[-1]] = times_ns
            clocks.used[path] = ""
    if ROBOT_SECONDS in values or ROBOT_NANOS in values:
        times_ns = _robot_clock(values.get(ROBOT_SECONDS), values.get(ROBOT_NANOS), steps)
        if times_ns is None:
            notes.warn("odd_times", tree.where(ROBOT_SECONDS), "the robot's seconds and nanoseconds are no clock; they are kept as numbers")
        else:
            clocks.robot["robot"] = times_ns
            clocks.used |= {ROBOT_SECONDS: "", ROBOT_NANOS: ""}
    return clocks
