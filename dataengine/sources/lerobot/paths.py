"""Which file of a LeRobot dataset is what, by its path: found by what is there, not by the templates that `info.json` gives.

data/chunk-000/episode_000003.parquet                    one episode (v2)
data/chunk-000/file-000.parquet                          many (v3)
data/train-00000-of-00002.parquet, train/data-00000-of-00001.arrow    shards of one table (v1, or written by the Hub)
videos/chunk-000/<camera>/episode_000003.mp4             one episode (v2)
videos/<camera>/chunk-000/file-000.mp4                   many (v3)
videos/<camera>_episode_000003.mp4                       one episode (v1)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from posixpath import splitext

VIDEO_EXTENSIONS = frozenset([".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"])

_EPISODE = re.compile(r"(?:(.+?)_)?episode_?(\d{1,12})")
_FILE = re.compile(r"file[-_]?(\d{1,12})")
_CHUNK = re.compile(r"chunk[-_]?(\d{1,12})")
_SHARD = re.compile(r"(.*?)-?(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class TableName:
    """What a table's path says: the episode that it holds, or its (chunk, file), or its (table, place, shards)."""

    episode: int | None = None
    file: tuple[int, int] | None = None
    shard: tuple[str, int, int] | None = None


def chunk_of(parts: Sequence[str]) -> int:
    """Return the number of the last chunk folder in a path, 0 where there is none."""
    numbers = [int(found.group(1)) for part in parts if (found := _CHUNK.fullmatch(part))]
    return numbers[-1] if numbers else 0


def table_name(path: str) -> TableName:
    """Return what the path of a table says of its content."""
    *folders, name = path.split("/")
    stem = splitext(name)[0]
    if found := _EPISODE.fullmatch(stem):
        return TableName(episode=int(found.group(2)))
    if found := _FILE.fullmatch(stem):
        return TableName(file=(chunk_of(folders), int(found.group(1))))
    if found := _SHARD.fullmatch(stem):
        return TableName(shard=("/".join([*folders, found.group(1)]), int(found.group(2)), int(found.group(3))))
    return TableName()


def is_video(path: str) -> bool:
    """Return whether a file is a video by its extension."""
    return splitext(path)[1].lower() in VIDEO_EXTENSIONS


@dataclass
class VideoFiles:
    """The videos of a dataset by camera and episode, and by camera and (chunk, file); `unplaced` are those whose path says neither."""

    by_episode: dict[tuple[str, int], str] = field(default_factory=dict)
    by_file: dict[tuple[str, int, int], str] = field(default_factory=dict)
    unplaced: list[str] = field(default_factory=list)

    @property
    def cameras(self) -> set[str]:
        """Return the cameras that have a file."""
        return {key[0] for key in self.by_episode} | {key[0] for key in self.by_file}


def _camera(folders: Sequence[str], prefix: str | None, declared: Sequence[str]) -> str | None:
    """Return the camera that a path names: a declared one by its key or its key's last part, else the folder's own name."""
    candidates = [*([prefix] if prefix else []), *(part for part in reversed(folders) if not _CHUNK.fullmatch(part))]
    for candidate in candidates:
        if candidate in declared:
            return candidate
    for candidate in candidates:
        short = [key for key in declared if key.rpartition(".")[2] == candidate]
        if len(short) == 1:
            return short[0]
    named = [candidate for candidate in candidates if candidate not in ("videos", "video")]
    return named[0] if named else None


def video_files(paths: Iterable[str], declared: Sequence[str]) -> VideoFiles:
    """Sort the videos of a dataset, paths relative to its root; the first of two that claim one place counts, the other is unplaced.

    Args:
        paths: the video files.
        declared: keys of the cameras that `info.json` declares.
    """
    files = VideoFiles()
    for path in paths:
        *folders, name = path.split("/")
        stem = splitext(name)[0]
        if found := _EPISODE.fullmatch(stem):
            camera, episode = _camera(folders, found.group(1), declared), int(found.group(2))
            if camera is not None and (camera, episode) not in files.by_episode:
                files.by_episode[camera, episode] = path
                continue
        elif found := _FILE.fullmatch(stem):
            camera, place = _camera(folders, None, declared), (chunk_of(folders), int(found.group(1)))
            if camera is not None and (camera, *place) not in files.by_file:
                files.by_file[camera, *place] = path
                continue
        files.unplaced.append(path)
    return files
