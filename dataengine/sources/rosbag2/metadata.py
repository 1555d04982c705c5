"""What a bag says of itself in metadata.yaml (versions 1 to 9): its files in order, its topics, how it is packed, and its counts.

Source: the metadata of rosbag2_storage. Nothing of it is needed to read the messages; what is missing is taken from the files.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from dataengine.core.errors import BadRecording

NAME = "metadata.yaml"
KEY = "rosbag2_bagfile_information"
MAX_BYTES = 4 << 20
MAX_VERSION = 9
MAX_VALUES = 200_000
MAX_FILES = 100_000
MAX_DEPTH = 100

_BRACKETS = re.compile(r"[\[\]{}]")
_LISTED = re.compile(r"^(?P<indent>[ \t]*)relative_file_paths:[ \t]*(?P<rest>.*)$", re.MULTILINE)
_ENTRY = re.compile(r"[ \t]*-[ \t]+(?P<path>.+?)[ \t]*$")


@dataclass(frozen=True)
class TopicSaid:
    """A topic as the metadata has it; `count` None where it says none."""

    name: str
    type: str
    encoding: str
    count: int | None


@dataclass(frozen=True)
class BagMetadata:
    """A bag's metadata: `said` is all of it, JSON-able; numbers are None where it says none."""

    storage: str = ""
    files: tuple[str, ...] = ()
    compression_mode: str = ""
    compression_format: str = ""
    release: str = ""
    count: int | None = None
    start_ns: int | None = None
    duration_ns: int | None = None
    topics: Mapping[str, TopicSaid] = field(default_factory=dict)
    counts_by_file: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)


def listed_files(text: str) -> list[str]:
    """Return the files that a metadata.yaml lists, without parsing all of it; raise BadRecording where they stand in an unusual form that is no YAML."""
    match = _LISTED.search(text)
    if match is None:
        return []
    if match["rest"].strip():
        return list(parse_metadata(text, NAME).files)
    found = []
    for line in text[match.end() + 1 :].splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            if line.strip():
                break
            continue
        path = entry["path"]
        if path[0] in "'\"&*!|>{[" or " #" in path:
            return list(parse_metadata(text, NAME).files)
        found.append(path)
        if len(found) > MAX_FILES:
            raise BadRecording(NAME, f"at most {MAX_FILES} files", "more", check="bad_metadata")
    return found


def parse_metadata(text: str, where: str) -> BagMetadata:
    """Return the metadata of a bag.

    Raises:
        BadRecording: it is no YAML, of a later version, or its lists are no lists.
    """
    if _deepest(text) > MAX_DEPTH:
        raise BadRecording(where, f"lists at most {MAX_DEPTH} deep", "deeper ones", "restore it from a copy, or run `ros2 bag reindex`", check="bad_metadata")
    try:
        content = _Plain().of(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadRecording(where, "YAML", found, "restore it from a copy, or run `ros2 bag reindex`", check="bad_metadata") from None
    said = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(said, dict):
        raise BadRecording(where, f"a mapping {KEY!r}", "none", "restore it from a copy, or run `ros2 bag reindex`", check="bad_metadata")
    version = _whole(said.get("version"))
    if version is None or not 1 <= version <= MAX_VERSION:
        raise BadRecording(
            where, f"a version from 1 to {MAX_VERSION}", repr(said.get("version"))[:80], "run `ros2 bag reindex` of an older release", check="bag_version"
        )
    topics = {}
    for entry in _list(said, "topics_with_message_count", where):
        about = entry.get("topic_metadata") if isinstance(entry, dict) else None
        if isinstance(about, dict):
            name = _text(about.get("name"))
            topics[name] = TopicSaid(name, _text(about.get("type")), _text(about.get("serialization_format")), _whole(entry.get("message_count")))
    by_file = {}
    for entry in _list(said, "files", where):
        count = _whole(entry.get("message_count")) if isinstance(entry, dict) else None
        if count is not None:
            by_file[posixpath.basename(_text(entry.get("path")))] = count
    mode = _text(said.get("compression_mode")).lower()
    return BagMetadata(
        storage=_text(said.get("storage_identifier")),
        files=tuple(_text(path) for path in _list(said, "relative_file_paths", where)),
        compression_mode="" if mode == "none" else mode,
        compression_format=_text(said.get("compression_format")),
        release=_text(said.get("ros_distro")),
        count=_whole(said.get("message_count")),
        start_ns=_whole(_inner(said.get("starting_time"), "nanoseconds_since_epoch")),
        duration_ns=_whole(_inner(said.get("duration"), "nanoseconds")),
        topics=topics,
        counts_by_file=by_file,
        said=said,
    )


def _deepest(text: str) -> int:
    """Return about how deep brackets are nested: parsing takes time with the square of it."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


class _Plain:
    """Copies what YAML gave as what JSON knows; a mapping that stands for itself by reference again and again is too large."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def of(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(value, dict):
            return {str(key): self.of(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set):
            return [self.of(inner) for inner in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value if -(2**63) <= value < 2**64 else str(value)
        return value if value is None or isinstance(value, str | bool) else str(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _inner(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _list(said: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    value = said.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRecording(where, f"a list under {key!r}", repr(value)[:80], "restore it from a copy, or run `ros2 bag reindex`", check="bad_metadata")
    return value
