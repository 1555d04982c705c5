"""A raw UMI session: each demonstration is an episode of its video, its camera's path as SLAM found it, and its sensors; SLAM itself stays outside.

Times: the video's are the container's; a row of the path goes by the time of its frame where `frame_idx` names it, else by its own `timestamp`; samples of
`imu_data.json` by their `cts`. The last two count from the first frame, whose time on the container's clock is added to them. The plan and the detected tags are pickles, which are never read: with them the cuts into
episodes, the width of the gripper and the pose of its tip are absent. Where somebody wrote them as JSON (`dataset_plan.json`, `tag_detection.json`), those are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from posixpath import basename, dirname
from typing import Any

import numpy as np

from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Items, Rows
from dataengine.sources.gopro.telemetry import Telemetry, may_have_telemetry
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, frame_column, frame_rows, repeated_times
from dataengine.sources.umi.camera_trajectory import ON_VIDEO, POSE, CameraTrajectory, parse_trajectory
from dataengine.sources.umi.imu_json import MAX_BYTES, ImuJson
from dataengine.sources.umi.session import find_session

NAME = "umi_session"
VERSION = "2"
RECOGNISED_BY = "raw_video.mp4 beside a camera trajectory with its header, or in a folder demos/{demo_*, mapping, gripper_calibration*}"
KEEPS = (
    "the video's own bytes, its GoPro telemetry, every row of the camera's path with what was lost marked, imu_data.json, calibration of gripper and tag; "
    "pickles (plan, tags) are never read and named"
)

VIDEO_STREAM = "observation.images.gopro"
MAX_JSON_BYTES = 64 << 20
_FOLDER = re.compile(r"[a-z_]+?_(C?\d{6,}|[A-Za-z0-9]{6,})_(\d{4}\.\d\d\.\d\d_\d\d\.\d\d\.\d\d(?:\.\d+)?)")


def find(listing: Listing) -> Found:
    """Claim the demonstrations of every session in a listing."""
    return find_session(listing, NAME)


class _Demo:
    """What one demonstration gives beside its video: columns, clocks, metadata, problems, as they are read."""

    def __init__(self, item: Item, files: Opener) -> None:
        self._item, self._files = item, files
        self.columns: dict[str, Column] = {}
        self.clocks: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def trajectory(self, frame_ns: np.ndarray[Any, Any]) -> Iterator[Rows]:
        """Yield the camera's path."""
        path = self._item.extra.get("trajectory")
        if path is None:
            if self._item.extra.get("role") == "demo":
                message = f"{self._item.path}: no camera trajectory lies beside the video: there are no poses"
                self.problems.append(Problem("no_trajectory", message, self._item.path, "info", "camera_trajectory.csv", "none", "run SLAM over the session"))
            return
        try:
            found: CameraTrajectory = parse_trajectory(self._files.read_bytes(path, MAX_JSON_BYTES), path)
        except BadRecording as error:
            self._note("unreadable_trajectory", path, error)
            return
        self.problems += found.problems
        by_frame = found.frame_times_ns(frame_ns) is not None
        if not by_frame and len(found.lost):
            message = f"{path}: the frame numbers and times of its {len(found.lost)} rows do not fit the {len(frame_ns)} frames of the video: rows go by their own times"
            self.problems.append(Problem("frame_numbers_differ", message, path, "warning", "a row for each frame", f"{len(found.lost)} rows"))
        if not len(found.lost):
            return
        yield from found.rows(frame_ns)
        columns = found.columns(by_frame)
        self.columns |= columns
        self.clocks |= dict.fromkeys(columns, "pts" if by_frame else ON_VIDEO)
        self.metadata["trajectory"] = {"rows": len(found.lost), "lost": int(np.count_nonzero(found.lost))}

    def sensors(self, first_ns: int) -> Iterator[Rows]:
        """Yield the sensors of `imu_data.json`; `first_ns` is the time of the video's first frame."""
        path = self._item.extra.get("imu")
        if path is None:
            return
        try:
            found = ImuJson(self._files.read_bytes(path, MAX_BYTES), path)
        except BadRecording as error:
            self._note("unreadable_imu", path, error)
            return
        yield from found.rows(first_ns)
        self.columns |= found.columns
        self.clocks |= found.stream_clocks
        if found.metadata:
            self.metadata["imu"] = found.metadata

    def tags(self) -> Iterator[Rows]:
        """Yield the detected tags, where they are JSON: [{"frame_idx": .., "time": <s>, "tag_dict": ..}, ..]."""
        path = self._item.extra.get("tags")
        found = self._json(path) if path is not None else None
        if not isinstance(found, list) or not found:
            return
        times = [time for entry in found if isinstance(entry, dict) and isinstance(time := entry.get("time"), int | float) and abs(time) < 4e9]
        clocks = {}
        if len(times) == len(found):
            clocks["time"] = np.array([round(time * 1e9) for time in times], np.int64)
            self.clocks["tags"] = "time"
        self.columns["tags"] = Column("tags", kind="message", dtype="bytes", encoding="json", steps=False, doc="ArUco tags detected in each frame")
        yield Rows("tags", Items([json.dumps(entry).encode() for entry in found], "json"), clocks)

    def beside(self) -> None:
        """Read what the session holds for all demonstrations: calibration, the tag's pose, the plan; and name the pickles."""
        extra, folder = self._item.extra, basename(dirname(self._item.path))
        self.metadata |= {"demo": folder, "role": extra.get("role")}
        match = _FOLDER.fullmatch(folder)
        if match is not None:
            self.metadata |= {"camera_serial": match[1], "recorded": match[2]}
        ranges = {basename(dirname(path)): self._json(path) for path in extra.get("ranges", ())}
        own = {name: found for name, found in ranges.items() if match is not None and f"_{match[1]}_" in f"{name}_"}
        if ranges:
            self.metadata["gripper_range"] = own or ranges
        if extra.get("tag_pose"):
            self.metadata["tx_slam_tag"] = self._json(extra["tag_pose"])
        plan = self._json(extra["plan"]) if extra.get("plan") else None
        if isinstance(plan, list):
            self.metadata["plan"] = [cut for number, entry in enumerate(plan) if (cut := _cut_of(entry, number, folder)) is not None]
        pickles = extra.get("pickles", ())
        if pickles:
            message = f"{', '.join(pickles)}: pickles are never read, as reading executes them: cuts into episodes, gripper widths and tip poses that they hold are absent"
            self.problems.append(Problem("pickle_not_read", message, pickles[0], "info", advice="write them as JSON (dataset_plan.json, tag_detection.json)"))

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._files.read_bytes(path, MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            self.problems.append(Problem("unreadable_json", f"{path}: cannot be read as JSON: {error}"[:500], path, "warning"))
        except BadRecording as error:
            self._note("unreadable_json", path, error)
        return None

    def _note(self, check: str, path: str, error: BadRecording) -> None:
        self.problems.append(Problem(check, str(error), path, "warning", error.expected, error.found, error.advice))


def _cut_of(entry: Any, number: int, folder: str) -> Mapping[str, Any] | None:
    """Return the range of frames that an episode of the plan takes of a demonstration's video, None where it takes none."""
    cameras = entry.get("cameras") if isinstance(entry, dict) else None
    for at, camera in enumerate(cameras if isinstance(cameras, list) else ()):
        path, span = (camera.get("video_path"), camera.get("video_start_end")) if isinstance(camera, dict) else (None, None)
        if isinstance(path, str) and isinstance(span, list) and len(span) == 2 and basename(dirname(path)) == folder:
            return {"episode": number, "camera": at, "frames": span}
    return None


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one demonstration of a session.

    Raises:
        BadRecording: the video is damaged; whatever is damaged beside it is a problem and costs nothing else.
    """
    videos, demo = KeptVideos(files), _Demo(item, files)
    info, indexes = videos.tracks(item.path)
    assert info.main is not None  # `tracks` raises where there is no video
    index = indexes[info.main.index]
    demo.problems += [problem for problem in (repeated_times(VIDEO_STREAM, index, item.path), videos.decodes(item.path, index)) if problem is not None]
    yield frame_rows(VIDEO_STREAM, item.path, index)
    yield from demo.trajectory(index.pts_ns)
    yield from demo.sensors(int(index.pts_ns[0]))
    yield from demo.tags()
    demo.beside()
    telemetry = Telemetry(files, item.path)
    if may_have_telemetry(info):
        yield from telemetry.rows()
    camera = Camera("wrist", pose_stream=POSE if POSE in demo.columns else None)
    embodiment = options.description.get("embodiment")
    ended = EpisodeInfo(
        dataset=item.dataset,
        columns={VIDEO_STREAM: frame_column(VIDEO_STREAM, index, camera), **demo.columns},
        clock="measured",
        key="",
        stream_clocks={VIDEO_STREAM: "pts", **demo.clocks},
        start_ns=int(index.pts_ns[0]),
        rate_hz=constant_rate_hz(index) or options.rate_hz,
        follow=VIDEO_STREAM,
        splits=item.splits,
        embodiment=embodiment if isinstance(embodiment, str) else None,
        origin=options.description.get("origin") or "teleop",
        metadata={"umi": {printable(name): value for name, value in demo.metadata.items()}, "container": info.format, "duration_ns": info.duration_ns},
        problems=tuple(demo.problems),
    )
    yield telemetry.added_to(ended)
