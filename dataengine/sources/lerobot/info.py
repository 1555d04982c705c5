"""What `meta/info.json` says of a LeRobot dataset, read tolerantly: each part that is wrong is named, the others count.

Source: FORMATS.md §1.2 and §2; `lerobot/datasets/{utils,dataset_metadata}.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem

MAX_INFO_BYTES = 16 << 20
MAX_FEATURES = 4096
MAX_DIMENSIONS = 8
KNOWN_VERSIONS = ("v1.0", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v2.0", "v2.1", "v3.0")
TOTALS = ("total_episodes", "total_frames", "total_tasks", "total_videos")

_CHANNEL_NAMES = ("channel", "channels", "c")
_INT_RANGE = re.compile(r"\s*(\d{1,15})\s*:\s*(\d{1,15})\s*")


@dataclass(frozen=True)
class Feature:
    """One feature as declared. `facts` is what stands under `info` or, in older datasets, `video_info`; `declared` is the whole entry."""

    key: str
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    names: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_video(self) -> bool:
        """Whether frames of it stand in video files."""
        return self.dtype == "video"

    @property
    def is_picture(self) -> bool:
        """Whether it is a camera, in video files or in the table."""
        return self.dtype in ("video", "image")

    @property
    def is_depth(self) -> bool:
        """Whether pixels are depth."""
        return any(self.facts.get(name) is True for name in ("is_depth_map", "video.is_depth_map"))

    @property
    def is_channel_first(self) -> bool:
        """Whether a picture is declared as (C, H, W): by the names of its axes, else by a first axis that only channels can be."""
        if not self.is_picture or self.shape is None or len(self.shape) != 3:
            return False
        if isinstance(self.names, list) and len(self.names) == 3 and all(isinstance(name, str) for name in self.names):
            if self.names[0].lower() in _CHANNEL_NAMES:
                return True
            if self.names[2].lower() in _CHANNEL_NAMES:
                # The shape outweighs names that were copied from elsewhere.
                return self.shape[0] in (1, 3, 4) and self.shape[2] not in (1, 3, 4)
        return self.shape[0] in (1, 3, 4) and self.shape[2] not in (1, 3, 4)

    @property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """Return the declared (H, W, C), None where no such shape is declared."""
        if self.shape is None or len(self.shape) != 3:
            return None
        first, second, third = self.shape
        return (second, third, first) if self.is_channel_first else (first, second, third)


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset says of itself; `rest` are keys that have no place here, `problems` what could not be understood."""

    version: str = ""
    fps: float | None = None
    features: Mapping[str, Feature] = field(default_factory=dict)
    robot_type: str | None = None
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    storage_format: str = ""
    rest: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def cameras(self) -> list[str]:
        """Return the keys of the features that stand in video files."""
        return [key for key, feature in self.features.items() if feature.is_video]

    def splits_of(self, episode: int) -> tuple[str, ...]:
        """Return the splits that an episode belongs to."""
        return tuple(name for name, (start, end) in self.splits.items() if start <= episode < end)


def is_info(content: Any) -> bool:
    """Return whether parsed JSON is that of a LeRobot dataset and not some other `info.json`."""
    if not isinstance(content, dict):
        return False
    return isinstance(content.get("codebase_version"), str) or ("features" in content and "fps" in content)


def parse_json(data: bytes, where: str) -> Any:
    """Return parsed JSON; raise BadRecording (`unreadable_info`)."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecording(where, "JSON", str(error)[:200], "restore the file from the dataset's source", check="unreadable_info") from error


def count_of(value: Any) -> int | None:
    """Return a count that is stated as a whole number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value != int(value) or not 0 <= value < 2**53:
        return None
    return int(value)


def _rate(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not 1e-3 <= value <= 1e6:
        return None
    return float(value)


def _shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    sizes = [count_of(size) for size in value]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def _feature(key: str, content: Any) -> Feature | None:
    if not isinstance(content, dict):
        return None
    facts: dict[str, Any] = {}
    for name in ("video_info", "info"):
        if isinstance(content.get(name), dict):
            facts.update(content[name])
    dtype = content.get("dtype")
    return Feature(key, dtype if isinstance(dtype, str) else "", _shape(content.get("shape")), content.get("names"), facts, content)


def parse_info(content: Mapping[str, Any], where: str) -> DatasetInfo:
    """Return what parsed `info.json` says; what cannot be understood becomes a problem and is left out.

    Args:
        content: the JSON object.
        where: the file, for messages.
    """
    problems: list[Problem] = []

    def note(check: str, expected: str, found: Any, severity: Any = "warning") -> None:
        shown = repr(found)[:200]
        problems.append(Problem(check, f"{where}: expected {expected}, found {shown}", where, severity, expected, shown))

    version = content.get("codebase_version")
    if not isinstance(version, str):
        note("unknown_version", f"codebase_version, one of {', '.join(KNOWN_VERSIONS)}", version)
        version = ""
    elif version not in KNOWN_VERSIONS:
        note("unknown_version", f"a known codebase_version (up to {KNOWN_VERSIONS[-1]})", version, "info")
    fps = _rate(content.get("fps"))
    if fps is None:
        note("bad_fps", "fps, a rate in Hz", content.get("fps"))
    listed = content.get("features")
    features: dict[str, Feature] = {}
    if not isinstance(listed, dict) or len(listed) > MAX_FEATURES:
        note("no_features", "features by name", type(listed).__name__ if not isinstance(listed, dict) else f"{len(listed)} of them")
        listed = {}
    for key, entry in listed.items():
        feature = _feature(key, entry)
        if feature is None:
            note("bad_feature", f"a description of feature {key!r}", entry)
            continue
        features[key] = feature
        if feature.is_channel_first:
            note("channel_first", f"the shape of {key!r} as height, width, channels", list(feature.shape or ()), "info")
    splits: dict[str, tuple[int, int]] = {}
    declared = content.get("splits", {})
    for name, text in declared.items() if isinstance(declared, dict) else ():
        found = _INT_RANGE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            note("bad_split", f"the split {name!r} as 'first:end'", text)
        else:
            splits[name] = (int(found.group(1)), int(found.group(2)))
    totals = {}
    for name in TOTALS:
        total = count_of(content.get(name))
        if total is not None:
            totals[name] = total
        elif content.get(name) is not None:
            note("bad_total", f"{name} as a number", content[name])
    robot = content.get("robot_type")
    known = {"codebase_version", "fps", "features", "robot_type", "splits", "storage_format", *TOTALS}
    return DatasetInfo(
        version=version,
        fps=fps,
        features=features,
        robot_type=robot if isinstance(robot, str) and robot else None,
        splits=splits,
        totals=totals,
        storage_format=content["storage_format"] if isinstance(content.get("storage_format"), str) else "",
        rest={name: value for name, value in content.items() if name not in known},
        problems=tuple(problems),
    )


def split_problems(info: DatasetInfo, where: str) -> list[Problem]:
    """Return a problem for each split that reaches beyond the episodes that the dataset says it has."""
    total = info.totals.get("total_episodes")
    found = []
    for name, (start, end) in info.splits.items():
        if total is not None and (end > total or start > end):
            expected, said = f"the split {name!r} within the {total} episodes of total_episodes", f"{start}:{end}"
            found.append(Problem("split_range", f"{where}: expected {expected}, found {said}", where, "warning", expected, said))
    return found
