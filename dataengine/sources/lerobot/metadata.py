"""What the side files of a dataset say: its episodes, its tasks, the episode index of v1. Read tolerantly; what is wrong is named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.sources.lerobot.info import count_of
from dataengine.sources.lerobot.tables import arrow_faults, whole_table

MAX_LINES_BYTES = 256 << 20
MAX_EPISODES = 20_000_000
MAX_TENSOR_HEADER_BYTES = 1 << 20
MAX_TENSOR_BYTES = 256 << 20


@dataclass(frozen=True)
class VideoRange:
    """Where an episode lies in a camera's file (chunk, file): seconds inside that file, [start, end); None where it is not said."""

    file: tuple[int, int] | None
    start_s: float
    end_s: float | None


@dataclass(frozen=True)
class EpisodeRecord:
    """What the side files say of one episode; `rows` is (first, end) in the whole dataset, `rest` what has no place here."""

    index: int
    length: int | None = None
    tasks: tuple[str, ...] = ()
    data_file: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    videos: Mapping[str, VideoRange] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)


def _pair(content: Mapping[str, Any], first: str, second: str) -> tuple[int, int] | None:
    values = count_of(content.get(first)), count_of(content.get(second))
    return None if values[0] is None or values[1] is None else (values[0], values[1])


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not -1e9 < value < 1e9:
        return None
    return float(value)


def episode_record(content: Mapping[str, Any]) -> EpisodeRecord | None:
    """Return one entry of episodes.jsonl or of the episodes' table, None where it has no episode_index."""
    index = count_of(content.get("episode_index"))
    if index is None:
        return None
    tasks = content.get("tasks")
    tasks = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, (list, tuple)) else []
    videos: dict[str, VideoRange] = {}
    known = {"episode_index", "length", "tasks", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index"}
    for name in content:
        if name.startswith("videos/") and name.endswith("/from_timestamp"):
            at = name.removesuffix("from_timestamp")
            known |= {at + part for part in ("from_timestamp", "to_timestamp", "chunk_index", "file_index")}
            start = _seconds(content[name])
            if start is not None:
                camera = at.removeprefix("videos/").rstrip("/")
                videos[camera] = VideoRange(_pair(content, f"{at}chunk_index", f"{at}file_index"), start, _seconds(content.get(f"{at}to_timestamp")))
    return EpisodeRecord(
        index,
        count_of(content.get("length")),
        tuple(task for task in tasks if isinstance(task, str)),
        _pair(content, "data/chunk_index", "data/file_index"),
        _pair(content, "dataset_from_index", "dataset_to_index"),
        videos,
        {name: value for name, value in content.items() if name not in known and not name.startswith("meta/") and value is not None},
    )


def json_lines(data: bytes) -> Iterator[dict[str, Any] | None]:
    """Yield the object of each line, None for a line that holds none; empty lines are passed over."""
    for line in data.splitlines():
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        yield content if isinstance(content, dict) else None


def episode_lines(data: bytes, where: str) -> tuple[dict[int, dict[str, Any]], list[Problem]]:
    """Return the entries of episodes.jsonl by episode, and what is wrong with it; of two of one episode the first counts."""
    found: dict[int, dict[str, Any]] = {}
    bad = twice = 0
    for content in json_lines(data):
        index = None if content is None else count_of(content.get("episode_index"))
        if content is None or index is None:
            bad += 1
        elif index in found:
            twice += 1
        else:
            found[index] = content
    problems = []
    if bad:
        problems.append(
            Problem("bad_line", f"{where}: expected an object with episode_index in each line, found {bad} other lines; they are passed over", where)
        )
    if twice:
        message = f"{where}: expected each episode_index once, found {twice} again; the first counts"
        problems.append(Problem("repeated_episode_index", message, where))
    return found, problems


@lru_cache(maxsize=2)
def task_lines(data: bytes) -> tuple[Mapping[int, str], int]:
    """Return the tasks of tasks.jsonl by number, and how many lines are none. (Many items share the file: the last two are remembered.)"""
    found: dict[int, str] = {}
    bad = 0
    for content in json_lines(data):
        number = None if content is None else count_of(content.get("task_index"))
        if content is None or number is None or not isinstance(content.get("task"), str):
            bad += 1
        else:
            found.setdefault(number, content["task"])
    return found, bad


def task_table(files: Opener, path: str) -> Mapping[int, str]:
    """Return the tasks of tasks.parquet by number: pandas wrote it, the task as its index; raise BadRecording."""
    table = whole_table(files, path, lambda name: True, MAX_EPISODES)
    with arrow_faults(path):
        names = table.schema.names
        text = next((name for name in ("task", "__index_level_0__", *names) if name in names and name != "task_index"), None)
        if "task_index" not in names or text is None:
            raise BadRecording(path, "columns task_index and task", f"{', '.join(names)[:200] or 'none'}", "restore it", check="unreadable_metadata")
        pairs = zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True)
        return {number: task for number, task in pairs if isinstance(number, int) and isinstance(task, str)}


class EpisodeTable:
    """The table of a v3 dataset's episodes, from the files in `meta/episodes`; statistics are left out.

    Args:
        files: access to the source.
        paths: its files; one that cannot be read is a problem, the others count.
    """

    def __init__(self, files: Opener, paths: Sequence[str]) -> None:
        self.problems: list[Problem] = []
        self._parts: list[Any] = []
        self._places: dict[int, list[tuple[int, int]]] = {}
        for path in paths:
            try:
                table = whole_table(files, path, lambda name: not name.startswith("stats/"), MAX_EPISODES)
                with arrow_faults(path):
                    if "episode_index" not in table.schema.names:
                        raise BadRecording(path, "a column episode_index", "none", "restore it", check="unreadable_metadata")
                    indexes = table["episode_index"].to_pylist()
            except BadRecording as error:
                self.problems.append(Problem("unreadable_metadata", str(error), path, "warning", error.expected, error.found, error.advice))
                continue
            self._parts.append(table)
            for row, index in enumerate(indexes):
                if isinstance(index, int):
                    self._places.setdefault(index, []).append((len(self._parts) - 1, row))
        twice = [index for index, places in self._places.items() if len(places) > 1]
        if twice:
            message = f"{paths[0]}: expected each episode_index once, found {len(twice)} again, the first {twice[0]}"
            self.problems.append(Problem("repeated_episode_index", message, paths[0]))

    def __len__(self) -> int:
        return len(self._places)

    @property
    def indexes(self) -> list[int]:
        """Return the episodes that are listed, in order."""
        return sorted(self._places)

    def record(self, index: int, occurrence: int = 0) -> EpisodeRecord | None:
        """Return the entry of an episode (of several with one number the one that is asked for), None where it is not listed."""
        places = self._places.get(index, [])
        if occurrence >= len(places):
            return None
        part, row = places[occurrence]
        return episode_record({name: self._parts[part][name][row].as_py() for name in self._parts[part].schema.names})

    def column(self, name: str) -> Array | None:
        """Return one number for each listed row, float64 with NaN for a null; None where some file has no such column of numbers."""
        found = []
        for part in self._parts:
            if name not in part.schema.names:
                return None
            try:
                found.append(np.array([np.nan if value is None else float(value) for value in part[name].to_pylist()], dtype=np.float64))
            except (TypeError, ValueError):
                return None
        return np.concatenate(found) if found else None


def tensors(data: bytes, where: str) -> dict[str, Array]:
    """Return the int64 tensors of a safetensors file.

    The format: length of a JSON header (uint64), the header {name: {dtype, shape, data_offsets}}, the data. Raises BadRecording (`unreadable_metadata`).
    """
    advice = "restore it from the dataset's source"
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else -1
    if not 0 <= size <= min(MAX_TENSOR_HEADER_BYTES, len(data) - 8):
        raise BadRecording(where, "a safetensors header within the file", f"a length of {size}", advice, check="unreadable_metadata")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise BadRecording(where, "a safetensors header in JSON", str(error)[:200], advice, check="unreadable_metadata") from error
    body = memoryview(data)[8 + size :]
    found: dict[str, Array] = {}
    for name, facts in header.items() if isinstance(header, dict) else ():
        if not isinstance(facts, dict) or facts.get("dtype") != "I64":
            continue
        offsets, shape = facts.get("data_offsets"), facts.get("shape")
        ends = [count_of(part) for part in offsets] if isinstance(offsets, list) else []
        sizes = [count_of(part) for part in shape] if isinstance(shape, list) else [None]
        if len(ends) != 2 or None in ends or None in sizes:
            raise BadRecording(where, f"offsets and a shape of {name!r}", repr(facts)[:200], advice, check="unreadable_metadata")
        start, end = (int(part or 0) for part in ends)
        count = math.prod(int(part or 0) for part in sizes)
        if not start <= end <= len(body) or end - start != 8 * count:
            raise BadRecording(
                where, f"{count} numbers of {name!r} within the file", f"bytes {start} to {end} of {len(body)}", advice, check="unreadable_metadata"
            )
        found[str(name)] = np.frombuffer(body[start:end], dtype="<i8")
    return found
