"""LeRobot datasets for tests: small ones of the sample world, read back as episodes; and hand-made tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.episode import Episode, Noticed, Rejected, episodes_of
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, ReadOptions
from dataengine.samples.arm import ArmConfig, ArmRecording, record
from dataengine.sources.lerobot import reader as lerobot
from dataengine.sources.listing import list_source

READER = "dataengine.sources.lerobot.reader"


@cache
def recordings(count: int = 5, cameras: tuple[str, ...] = ("front", "wrist")) -> tuple[ArmRecording, ...]:
    """Return recordings of 9, 12, 15 … steps, whose pictures say which frame of which camera and episode they are."""
    return tuple(record(0, index, ArmConfig(64, 96, cameras, barcode=True, max_steps=9 + 3 * index)) for index in range(count))


class Reading:
    """What a folder gave: episodes by key, rejections, and every problem outside of an episode."""

    def __init__(self, folder: Path, options: ReadOptions | None = None) -> None:
        listing = list_source(str(folder))
        self.found: Found = lerobot.find(listing)
        self.problems: list[Problem] = list(self.found.problems)
        self.episodes: dict[str, Episode] = {}
        self.rejected: list[Problem] = []
        for item in self.found.items:
            try:
                for event in episodes_of(lerobot.read(item, listing.opener, options or ReadOptions())):
                    if isinstance(event, Episode):
                        assert event.info.key not in self.episodes
                        self.episodes[event.info.key] = event
                    elif isinstance(event, Noticed):
                        self.problems.append(event.problem)
                    else:
                        assert isinstance(event, Rejected)
                        self.rejected.append(event.problem)
            except BadRecording as error:
                self.rejected.append(Problem(error.check, str(error), error.where, "error"))

    def checks(self, key: str | None = None) -> list[str]:
        """Return the names of the problems of an episode, of the dataset without one."""
        problems = self.problems if key is None else self.episodes[key].info.problems
        return sorted({problem.check for problem in problems})

    def message(self, check: str) -> str:
        """Return the one message of a check, of the dataset or of any episode."""
        every = [*self.problems, *(problem for episode in self.episodes.values() for problem in episode.info.problems), *self.rejected]
        (found,) = {problem.message for problem in every if problem.check == check}
        return found

    @property
    def only(self) -> Episode:
        """Return the one episode."""
        (episode,) = self.episodes.values()
        return episode


def change_info(folder: Path, **changes: Any) -> dict[str, Any]:
    """Change keys of info.json (None removes one) and return it."""
    path = folder / "meta" / "info.json"
    info: dict[str, Any] = json.loads(path.read_text()) | changes
    info = {key: value for key, value in info.items() if value is not None}
    path.write_text(json.dumps(info))
    return info


def feature(dtype: str, *shape: int, **rest: Any) -> dict[str, Any]:
    """Return the declaration of a feature."""
    return {"dtype": dtype, "shape": list(shape), "names": None} | rest


def write_table(path: Path, columns: Mapping[str, Any], row_group_size: int | None = None) -> None:
    """Write a Parquet table of values or Arrow arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=row_group_size)


def write_one(
    folder: Path,
    columns: Mapping[str, Any],
    features: Mapping[str, Any] | None = None,
    rows: int = 4,
    fps: float | None = 10,
    version: str = "v2.1",
    **info: Any,
) -> Path:
    """Write a dataset of one episode: the columns that every dataset has, unless they are given, and others."""
    counted = np.arange(rows)
    every: dict[str, Any] = {
        "timestamp": (counted / 10).astype(np.float32),
        "frame_index": counted,
        "episode_index": np.zeros(rows, dtype=np.int64),
        "index": counted,
        "task_index": np.zeros(rows, dtype=np.int64),
    }
    every = {name: values for name, values in (every | dict(columns)).items() if values is not None}
    write_table(folder / "data" / "chunk-000" / "episode_000000.parquet", every)
    declared = {
        name: feature("float32" if name == "timestamp" else "int64", 1) for name in every if name not in columns or name in ("timestamp", "frame_index")
    }
    declared |= dict(features or {})
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    content = {"codebase_version": version, "fps": fps, "features": declared, "total_episodes": 1, "total_frames": rows, "splits": {"train": "0:1"}} | info
    (folder / "meta" / "info.json").write_text(json.dumps(content))
    (folder / "meta" / "tasks.jsonl").write_text('{"task_index": 0, "task": "stack"}\n')
    (folder / "meta" / "episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": ["stack"], "length": rows}) + "\n")
    return folder


def texts(values: Any) -> list[str]:
    """Return items as texts."""
    return [bytes(data).decode() for data in values.data]


def as_list(values: Any) -> Sequence[Any]:
    """Return an array as a list."""
    found: Sequence[Any] = np.asarray(values).tolist()
    return found
