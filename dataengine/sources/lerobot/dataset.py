"""What is known of a dataset before its table is read: the side files of one item, each read tolerantly, and where its videos lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from posixpath import join, normpath
from typing import Any

from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, Opener, ReadOptions
from dataengine.schema.embodiments import embodiments
from dataengine.sources.lerobot.columns import Modality
from dataengine.sources.lerobot.info import MAX_INFO_BYTES, DatasetInfo, is_info, parse_info, parse_json
from dataengine.sources.lerobot.metadata import MAX_LINES_BYTES, EpisodeRecord, EpisodeTable, VideoRange, episode_record, task_lines, task_table
from dataengine.sources.lerobot.paths import TableName, VideoFiles, table_name, video_files


def inside(root: str, path: str) -> str | None:
    """Return a path that stands in a dataset as one below the source's root, None where it leads out of the dataset's folder or is no path."""
    if not path or path.startswith(("/", "\\")) or "://" in path or "\0" in path or re.match(r"[A-Za-z]:", path):
        return None
    found = normpath(path)
    return None if found == ".." or found.startswith("../") else join(root, found)


def body_of(robot_type: str | None) -> str | None:
    """Return the embodiment that a robot type names, None where it is not a known one."""
    if robot_type is None:
        return None
    wanted = re.sub(r"[^a-z0-9]+", "_", robot_type.lower()).strip("_")
    for body in embodiments().values():
        if wanted in (body.name, *body.aliases):
            return body.name
    return None


@dataclass
class Dataset:
    """The side files of an item's dataset.

    `root` is the dataset's folder below the source's root. `table` has the episodes of v3, `record_of_item` the entry of the one episode of a v2 file. `cameras` are
    those that have any video in the whole dataset.
    """

    root: str
    info: DatasetInfo = field(default_factory=DatasetInfo)
    tasks: Mapping[int, str] = field(default_factory=dict)
    modality: Modality = field(default_factory=Modality)
    videos: VideoFiles = field(default_factory=VideoFiles)
    cameras: frozenset[str] = frozenset()
    table: EpisodeTable | None = None
    record_of_item: EpisodeRecord | None = None
    names: TableName = field(default_factory=TableName)
    problems: list[Problem] = field(default_factory=list)

    def record(self, index: int, occurrence: int) -> EpisodeRecord | None:
        """Return what the side files say of an episode; of several with one number, the entry of the one that is asked for."""
        if self.table is not None:
            return self.table.record(index, occurrence)
        return self.record_of_item if occurrence == 0 else None

    def video_of(self, camera: str, index: int, record: EpisodeRecord | None) -> tuple[str, VideoRange | None] | None:
        """Return the file of an episode's camera and its range inside (None: the file is the episode's own), None where there is no such file."""
        own = self.videos.by_episode.get((camera, index if self.names.episode is None else self.names.episode))
        if own is not None:
            return join(self.root, own), None
        found = record.videos.get(camera) if record is not None else None
        if found is None or found.file is None:
            return None
        path = self.videos.by_file.get((camera, *found.file))
        return None if path is None else (join(self.root, path), found)


def _problem(error: BadRecording, check: str | None = None) -> Problem:
    return Problem(check or error.check, str(error), error.where, "warning", error.expected, error.found, error.advice)


def _tasks(files: Opener, path: str, problems: list[Problem]) -> Mapping[int, str]:
    try:
        if path.endswith(".parquet"):
            return task_table(files, path)
        found, bad = task_lines(files.read_bytes(path, MAX_LINES_BYTES))
    except BadRecording as error:
        problems.append(_problem(error, "unreadable_metadata"))
        return {}
    if bad:
        message = f"{path}: expected task_index and task in each line, found {bad} other lines; they are passed over"
        problems.append(Problem("bad_line", message, path))
    return found


def read_dataset(item: Item, files: Opener, options: ReadOptions) -> Dataset:
    """Read the side files of an item; what cannot be read is a problem, but for `info.json` that is there and cannot be understood.

    Raises:
        BadRecording: `unreadable_info`.
    """
    extra: Mapping[str, Any] = item.extra
    root = extra["root"]
    found = Dataset(root, names=table_name(item.path))
    if extra.get("info"):
        content = parse_json(files.read_bytes(extra["info"], MAX_INFO_BYTES), extra["info"])
        if is_info(content) or (isinstance(content, dict) and extra["layout"] == "v1"):
            found.info = parse_info(content, extra["info"])
    if extra.get("tasks"):
        found.tasks = _tasks(files, extra["tasks"], found.problems)
    if extra.get("modality"):
        try:
            found.modality = Modality(parse_json(files.read_bytes(extra["modality"], MAX_INFO_BYTES), extra["modality"]), extra["modality"])
        except BadRecording as error:
            found.problems.append(_problem(error, "bad_modality"))
        found.problems += found.modality.problems
    if extra.get("episodes"):
        found.table = EpisodeTable(files, extra["episodes"])
        found.problems += found.table.problems
    elif isinstance(extra.get("record"), dict):
        found.record_of_item = episode_record(extra["record"])
    found.videos = video_files(extra.get("videos", ()), found.info.cameras)
    found.cameras = frozenset(extra.get("cameras", ())) | found.videos.cameras
    return found
