"""The camera's path as SLAM wrote it: `camera_trajectory.csv`, a row for each frame that it was given.

A lost row holds no pose: the file has zeros there, often in the time too. All rows are kept as they stand (`slam.*`); the poses of the rows that were
tracked are a stream of their own (`observation.camera_pose`), so that a trajectory is null where the camera was lost. Columns of the file:
frame_idx, timestamp (s from the first frame), state, is_lost, is_keyframe, x, y, z, q_x, q_y, q_z, q_w; any others are kept too.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Column
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.stream import Items, Rows

POSE = "observation.camera_pose"
FRAME = "slam_world"
ON_VIDEO = "video"  # a clock that was recorded from the first frame on, counted on the container's: by the time of that frame
MAX_ROWS = 5_000_000

_POSE_COLUMNS = ("x", "y", "z", "q_x", "q_y", "q_z", "q_w")
_DIMS = ("x", "y", "z", "qx", "qy", "qz", "qw")
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_SPACE = ActionSpace("ee_pose", rotation="quat_xyzw", frame=FRAME, absolute=True)
_MAX_SECONDS = 4e9


def is_trajectory(head: bytes) -> bool:
    """Return whether the first bytes of a file are the header of a camera trajectory."""
    names = {name.strip() for name in head.split(b"\n")[0].decode("latin-1").split(",")}
    return {"timestamp", *_POSE_COLUMNS} <= names


@dataclass(eq=False)
class CameraTrajectory:
    """Rows of a file: `timestamp_ns` (N,) int64, `pose` (N, 7) as x, y, z, qx, qy, qz, qw, `lost` (N,), and every other column by name."""

    timestamp_ns: Array
    pose: Array
    lost: Array
    others: dict[str, Array | list[bytes]]
    problems: list[Problem] = field(default_factory=list)

    def frame_times_ns(self, frame_ns: Array) -> Array | None:
        """Return the container's time of each row's frame by `frame_idx`, None where the recorded times of the tracked rows contradict it.

        They do where SLAM was given every k-th frame only; half a frame of difference is rounding.
        """
        frames = self.others.get("frame_idx")
        if not isinstance(frames, np.ndarray) or frames.dtype.kind != "i" or not len(frames) or frames.min() < 0 or frames.max() >= len(frame_ns):
            return None
        times_ns = frame_ns[frames]
        tracked = ~self.lost
        if len(frame_ns) < 2 or not tracked.any():
            return times_ns if len(frame_ns) == len(frames) else None
        apart_ns = np.abs((times_ns - frame_ns[0]) - self.timestamp_ns)[tracked]
        return times_ns if int(apart_ns.max()) * 2 <= int(np.median(np.diff(frame_ns))) else None

    def rows(self, frame_ns: Array) -> Iterator[Rows]:
        """Yield the rows of all streams; `frame_ns` are the times of the video's frames on the container's clock."""
        clocks = {"timestamp": self.timestamp_ns}
        times_ns = self.frame_times_ns(frame_ns)
        if times_ns is not None:
            clocks["pts"] = times_ns
        elif len(frame_ns):
            clocks[ON_VIDEO] = self.timestamp_ns + frame_ns[0]
        yield Rows("slam.camera_pose", self.pose, clocks)
        yield Rows("slam.is_lost", self.lost, clocks)
        for name, values in self.others.items():
            yield Rows(f"slam.{_safe(name)}", values if isinstance(values, np.ndarray) else Items(values, "utf-8"), clocks)
        tracked = ~self.lost
        if tracked.any():
            yield Rows(POSE, self.pose[tracked], {name: stamps[tracked] for name, stamps in clocks.items()})

    def columns(self, by_frame: bool) -> dict[str, Column]:
        """Return the columns; `by_frame` says that rows go by the frames' times, where those of lost rows are times too."""
        facts = {"doc": "as SLAM wrote it, zeros where the camera was lost", "frame": FRAME, "dims": _DIMS}
        found = {
            "slam.camera_pose": Column("slam.camera_pose", dtype="float64", shape=(7,), steps=False, extra={"units": ["m"] * 3 + ["1"] * 4}, **facts),  # type: ignore[arg-type]
            "slam.is_lost": Column("slam.is_lost", dtype="bool", meaning="flag", steps=by_frame, doc="SLAM did not know where the camera was"),
        }
        for name, values in self.others.items():
            stream = f"slam.{_safe(name)}"
            if isinstance(values, np.ndarray):
                found[stream] = Column(stream, dtype=values.dtype.name, steps=False, extra={"source": name})
            else:
                found[stream] = Column(stream, "text", "string", encoding="utf-8", steps=False, extra={"source": name})
        if not self.lost.all():
            doc = "pose of the camera in the world that SLAM made, of the rows in which it was tracked"
            found[POSE] = Column(
                POSE,
                dtype="float64",
                shape=(7,),
                dims=_DIMS,
                frame=FRAME,
                meaning="state",
                action_space=_SPACE,
                doc=doc,
                extra={"units": ["m"] * 3 + ["1"] * 4},
            )
        return found


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:100] or "column"


def _numbers(values: Sequence[str]) -> Array | list[bytes]:
    """Return a column as integers or floats where all of it is, as texts otherwise."""
    if all(re.fullmatch(r"[+-]?\d{1,18}", value) for value in values):
        return np.array([int(value) for value in values], np.int64)
    if all(value.lower() in ("true", "false") for value in values):
        return np.array([_TRUTH[value.lower()] for value in values], bool)
    try:
        return np.array([float(value) for value in values], np.float64)
    except ValueError:
        return [value.encode() for value in values]


def _table(data: bytes, where: str) -> tuple[list[str], list[list[str]], Problem | None]:
    """Return names, rows, and a problem where a row is not whole: what comes before it is kept."""
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        names = [name.strip() for name in next(lines, [])]
        missing = [name for name in ("timestamp", *_POSE_COLUMNS) if name not in names]
        if missing or len(set(names)) < len(names):
            raise BadRecording(
                where, f"columns timestamp, {', '.join(_POSE_COLUMNS)}, each once", ", ".join(names)[:200] or "nothing", check="trajectory_columns"
            )
        rows: list[list[str]] = []
        for row in lines:
            if len(row) != len(names) or len(rows) >= MAX_ROWS:
                found = f"{len(row)} in row {len(rows)}"
                message = f"{where}: each row should have {len(names)} values, found {found}; the rows before it are kept"
                return names, rows, Problem("trajectory_cut_off", message, where, "warning", f"{len(names)} values", found, "run SLAM again")
            rows.append([value.strip() for value in row])
        return names, rows, None
    except (ValueError, csv.Error) as error:
        raise BadRecording(where, "a CSV file in UTF-8", f"something else ({error})"[:200], "run SLAM again", check="trajectory_columns") from error


def parse_trajectory(data: bytes, where: str) -> CameraTrajectory:
    """Return what a camera trajectory holds; raise BadRecording where it is none, or holds values that are no numbers."""
    names, rows, problem = _table(data, where)
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    try:
        seconds = [float(value) for value in columns.pop("timestamp")]
        pose = np.array([[float(value) for value in columns.pop(name)] for name in _POSE_COLUMNS], np.float64).T.reshape(-1, 7)
        lost = np.array([_TRUTH[value.lower()] for value in columns.pop("is_lost", ["false"] * len(rows))], bool)
    except (ValueError, KeyError) as error:
        raise BadRecording(where, "numbers, and true or false for is_lost", f"{error}"[:200], "run SLAM again", check="trajectory_values") from error
    if any(not math.isfinite(value) or abs(value) > _MAX_SECONDS for value in seconds):
        raise BadRecording(where, "times in seconds", "others", "run SLAM again", check="trajectory_values")
    unknown = ~np.isfinite(pose).all(axis=1) | (np.linalg.norm(np.nan_to_num(pose[:, 3:]), axis=1) < 1e-6)
    problems = [problem] if problem is not None else []
    odd = int(np.count_nonzero(unknown & ~lost))
    if odd:
        message = f"{where}: {odd} rows count as tracked and hold no rotation; they are no poses"
        problems.append(Problem("pose_without_rotation", message, where, "warning", "unit quaternions", f"{odd} rows without", "run SLAM again"))
    stamps_ns = np.array([round(value * 1e9) for value in seconds], np.int64)
    return CameraTrajectory(stamps_ns, pose, lost | unknown if odd else lost, {name: _numbers(values) for name, values in columns.items()}, problems)
