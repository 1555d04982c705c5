"""Annotation JSON with videos: `annotation/<split>/<id>.json` names the MP4 of each camera and holds the rows of states and actions.

Seen in sets for world models that were made from DROID (Ctrl-World) and BridgeData (IRASim). There are no recorded times. Rows "at video rate" belong to the
frames by their number; faster rows are a whole number of rows to a frame (Ctrl-World: each third of DROID's 15 Hz rows has a frame), which must follow from the
file: from the counts, and from states that stand in it at both rates. The times are therefore those that the container gives the frames, and the clock is
nominal where they are as regular as an encoder was told to write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename, dirname, splitext
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import ClockKind
from dataengine.core.column import Camera, CameraRole, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Rows
from dataengine.sources.droid.columns import facts_of
from dataengine.sources.json_rows import chosen_stride, table_of, times_between
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, frame_column, frame_rows, repeated_times
from dataengine.sources.named_files import below, is_inside
from dataengine.video.index import FrameIndex

NAME = "json_mp4"
VERSION = "2"
RECOGNISED_BY = 'a JSON file with "videos": [{"video_path": "…"}, …], the paths from its folder or one above; splits from the folder below `annotation`'
KEEPS = (
    "the videos' own bytes; every list of numbers as rows (float64, as JSON writes them, or integers where all are; those that no type holds exactly stay as JSON), those at video rate on the frames' times, faster ones between them; "
    "texts as tasks, success, the rest of the JSON as metadata. Not kept: latent videos (.pt), which are never opened"
)

HEAD_BYTES = 8 << 10
MAX_JSON_BYTES = 32 << 20
MAX_VIDEOS = 64
MAX_TASK_LETTERS = 4000
NOMINAL = "nominal"  # a clock that was not recorded: the frames' times, counted on

_VIDEOS = re.compile(r'"videos"\s*:\s*(?=\[\s*\{\s*"video_path"\s*:)')
_SPLITS = frozenset(["train", "val", "valid", "validation", "test", "eval"])

# Names that are not the field's; others stay as they are.
_NAMES = {"states": "observation.state", "state": "observation.state", "joints": "observation.joints", "actions": "action"}
# DROID's cameras by their number in the set (Ctrl-World's script): the two beside the table, then the one at the hand.
_DROID_CAMERAS: dict[str, tuple[str, CameraRole]] = {"0": ("exterior_1_left", "primary"), "1": ("exterior_2_left", "secondary"), "2": ("wrist_left", "wrist")}


def _declared(text: str) -> list[str] | None:
    """Return the videos that the start of an annotation names, None where it is none, or where the list is cut off."""
    found = _VIDEOS.search(text)
    if found is None:
        return None
    try:
        listed, _ = json.JSONDecoder().raw_decode(text, found.end())
    except (ValueError, RecursionError):
        return None
    return [entry["video_path"] for entry in listed[:MAX_VIDEOS] if isinstance(entry, dict) and isinstance(entry.get("video_path"), str)]


def _place(listing: Listing, annotation: str, video: str) -> str:
    """Return where a named video lies: below the annotation's folder or the nearest one above it; "" where it is nowhere."""
    folder = dirname(annotation)
    while True:
        path = below(folder, video)
        if path in listing.files:
            return path
        if not folder:
            return ""
        folder = dirname(folder)


def _names_of(listing_name: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Return the dataset and splits that the folders of an annotation say: <dataset>/annotation/<split>/<id>.json."""
    folders = path.split("/")[:-1]
    at = next((place for place in range(len(folders) - 1, -1, -1) if folders[place].lower().startswith("annotation")), None)
    above, below = (folders, folders[-1:]) if at is None else (folders[:at], folders[at + 1 :])
    return dataset_from_path(listing_name, "/".join([*above, "x"])), tuple(folder for folder in below if folder.lower() in _SPLITS)


def find(listing: Listing) -> Found:
    """Claim annotations and the videos that they name, one item each."""
    items, claimed = [], set()
    for path, file in listing.files.items():
        if not path.lower().endswith(".json") or file.size > MAX_JSON_BYTES:
            continue
        head = listing.head(path, HEAD_BYTES)
        if b'"video_path"' not in head:
            continue
        text = head.decode("utf-8", "ignore")
        videos = _declared(text)
        if videos is None and _VIDEOS.search(text) is not None:
            try:
                videos = _declared(listing.read_bytes(path, MAX_JSON_BYTES).decode("utf-8", "ignore"))
            except BadRecording:
                videos = []  # `read` says what is wrong with the file
        if videos is None and _VIDEOS.search(text) is None:
            continue
        places = {video: _place(listing, path, video) if is_inside(video) else "" for video in videos or ()}
        used = list(dict.fromkeys([path, *(place for place in places.values() if place)]))
        dataset, splits = _names_of(listing.name, path)
        claimed.update(used)
        items.append(Item(NAME, listing.root, path, dataset, tuple(listing.files[name] for name in used), splits, 1, {"videos": places}))
    return Found(items, frozenset(claimed))


@dataclass
class _Annotation:
    """An annotation as read: tables of numbers by their name in the file, the other values, and what is wrong with it."""

    path: str
    content: Mapping[str, Any]
    tables: dict[str, Array] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def warn(self, check: str, message: str, where: str = "", advice: str = "") -> None:
        where = where or self.path
        self.problems.append(Problem(check, f"{where}: {message}" + (f"; {advice}" if advice else ""), where, advice=advice))

    @property
    def is_droid(self) -> bool:
        """Whether the numbers are DROID's: by their names."""
        return "observation.state.cartesian_position" in self.tables or ("states" in self.tables and "joints" in self.tables)


def _parsed(item: Item, files: Opener) -> _Annotation:
    data = files.read_bytes(item.path, MAX_JSON_BYTES)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRecording(item.path, "a JSON object", f"text that is none: {error}"[:300], "make the copy again", check="not_json") from error
    if not isinstance(content, dict) or not isinstance(content.get("videos"), list):
        raise BadRecording(item.path, 'a JSON object with a list "videos"', type(content).__name__, "make the copy again", check="not_an_annotation")
    annotation = _Annotation(item.path, content)
    for name, value in content.items():
        table = table_of(value)
        if table is not None and table.ndim >= 1 and name not in ("texts", "videos"):
            annotation.tables[name] = table
    return annotation


def _videos(annotation: _Annotation, item: Item, files: Opener) -> dict[str, tuple[str, FrameIndex, Camera]]:
    """Return (path, frame index, camera) of each video that is there, by its stream; the others are problems.

    Raises:
        BadRecording: a video that is there is none that can be read.
    """
    found: dict[str, tuple[str, FrameIndex, Camera]] = {}
    videos = KeptVideos(files)
    places = item.extra.get("videos", {})
    entries = [entry.get("video_path") if isinstance(entry, dict) else None for entry in annotation.content["videos"]]
    if len(entries) > MAX_VIDEOS:
        annotation.warn("too_many_videos", f"{len(entries)} videos are named, only the first {MAX_VIDEOS} are looked at")
    for number, declared in enumerate(entries[:MAX_VIDEOS]):
        if not isinstance(declared, str) or not is_inside(declared):
            annotation.warn("path_escapes", f"video {number} must be a path below the set's folder, found {printable(str(declared))[:200]!r}")
            continue
        path = places.get(declared, "")
        if not path:
            annotation.warn("missing_video", f"the video {printable(declared)[:200]!r} is not there", advice="copy it too")
            continue
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", printable(splitext(basename(declared))[0])) or str(number)
        name, role = _DROID_CAMERAS.get(stem, (stem, "other")) if annotation.is_droid else (stem, "other")
        stream, again = f"observation.images.{name}"[:200], 2
        while stream in found:
            stream, again = f"observation.images.{name}_{again}"[:200], again + 1
        index = videos.main(path)
        annotation.problems += [problem for problem in (repeated_times(stream, index, path), videos.decodes(path, index)) if problem is not None]
        found[stream] = path, index, Camera(role)
    return found


def _base_rows(annotation: _Annotation) -> int:
    """Return how many rows there are at video rate: those of the states, else what the file says, else of the shortest table; 0 where none has rows."""
    for name in ("states", "state", "joints"):
        if name in annotation.tables:
            return len(annotation.tables[name])
    said = annotation.content.get("video_length")
    lengths = [len(table) for table in annotation.tables.values()]
    return said if isinstance(said, int) and said in lengths else min(lengths, default=0)


def _stride(annotation: _Annotation, rows: int, base: int) -> int | None:
    """Return how many of `rows` rows there are to a frame, None where the file does not say so without doubt."""
    tables = annotation.tables
    pairs = []
    for slow, fast in (("states", "observation.state.cartesian_position"), ("joints", "observation.state.joint_position")):
        if slow in tables and fast in tables and len(tables[fast]) == rows and tables[slow].ndim == tables[fast].ndim == 2:
            pairs.append((tables[slow][:, : tables[fast].shape[1]], tables[fast]))
    stride = chosen_stride(rows, base, pairs)
    if stride is None and pairs and chosen_stride(rows, base, ()) is not None:
        annotation.warn("states_differ", "the states at video rate are not every n-th of the faster ones")
        return chosen_stride(rows, base, ())
    return stride


def _frame_times(index: FrameIndex, count: int, rate_hz: float | None) -> Array | None:
    """Return the times of `count` frames, those after the last at the same rate; None where there are fewer and no rate."""
    if count <= len(index):
        return index.pts_ns[:count]
    if rate_hz is None:
        return None
    beyond = np.arange(1, count - len(index) + 1, dtype=np.int64) * round(1e9 / rate_hz)
    return np.concatenate([index.pts_ns, index.pts_ns[-1] + beyond])


def _column(name: str, key: str, table: Array, annotation: _Annotation) -> Column:
    is_action = key.split(".")[0] in ("action", "actions")
    facts: dict[str, Any] = {"meaning": "action", "action_source": "commanded"} if is_action else {}
    if not is_action and name.startswith("observation."):
        facts = {"meaning": "state", "align": "previous"}
    if annotation.is_droid and (is_action or name.startswith("observation.")):
        facts = facts_of(key.rsplit(".", 1)[-1], table.shape[1:], is_action)
    return Column(name, "numeric", table.dtype.name, table.shape[1:], extra={"source": printable(key)}, **facts)


def _tasks(annotation: _Annotation) -> tuple[str, ...]:
    texts = annotation.content.get("texts")
    listed = texts if isinstance(texts, list) else [texts]
    words = [" ".join(printable(text).split())[:MAX_TASK_LETTERS] for text in listed if isinstance(text, str)]
    return tuple(dict.fromkeys(text for text in words if text))


def _note_counts(annotation: _Annotation, videos: Mapping[str, tuple[str, FrameIndex, Camera]], base: int) -> None:
    """Name the counts that contradict one another: frames, rows at video rate, and what the file says of both."""
    frames = {stream: len(index) for stream, (_, index, _) in videos.items()}
    odd = {stream: count for stream, count in frames.items() if base and count != base}
    if odd:
        shown = ", ".join(f"{stream} {count}" for stream, count in odd.items())
        annotation.warn("frames_differ", f"{base} rows of states, but frames: {shown}; frame k belongs to row k, counted from the first")
    for name, count in (("video_length", base or max(frames.values(), default=0)), ("state_length", base)):
        said = annotation.content.get(name)
        if isinstance(said, int) and count and said != count:
            annotation.warn("length_differs", f"{name} says {said}, found {count}")
    latent = annotation.content.get("latent_videos")
    if isinstance(latent, list) and latent:
        message = f"{annotation.path}: {len(latent)} latent videos are named; such files (.pt) are never opened"
        annotation.problems.append(Problem("latents_not_kept", message, annotation.path, "info"))


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one annotation with its videos: frames by reference, numbers as rows on the frames' times.

    The rate is that of the container where it is constant, else the description's, else the user's. Without a video the rows have no times.

    Raises:
        BadRecording: the JSON or a video that is there cannot be read, or there is neither a number nor a frame.
    """
    annotation = _parsed(item, files)
    videos = _videos(annotation, item, files)
    if not videos and not annotation.tables:
        raise BadRecording(item.path, "rows of numbers, or videos that are there", "neither", "copy the videos too", check="no_rows")
    base = _base_rows(annotation)
    _note_counts(annotation, videos, base)
    lead = next((index for _, index, _ in videos.values() if constant_rate_hz(index)), next((index for _, index, _ in videos.values()), None))
    rate_hz = constant_rate_hz(lead) if lead is not None else None
    clock: ClockKind = "unknown" if lead is None else "nominal" if rate_hz else "measured"
    columns: dict[str, Column] = {}
    stream_clocks: dict[str, str] = {}
    for stream, (path, index, camera) in videos.items():
        columns[stream] = frame_column(stream, index, camera)
        stream_clocks[stream] = "pts"
        yield frame_rows(stream, path, index)
    for key, table in annotation.tables.items():
        name = _NAMES.get(key, re.sub(r"[^A-Za-z0-9_.-]+", "_", printable(key))[:200])
        name = name if name not in columns else f"{name}_2"
        times_ns = None
        if lead is not None:
            stride = 1 if len(table) == base else _stride(annotation, len(table), base)
            frame_ns = _frame_times(lead, -(-len(table) // stride), rate_hz) if stride else None
            times_ns = None if frame_ns is None or not stride else times_between(frame_ns, stride, len(table))
            if times_ns is None:
                annotation.warn("rows_without_times", f"nothing says which of the {len(table)} rows of {key!r} belongs to which of {base} frames")
        columns[name] = _column(name, key, table, annotation)
        if times_ns is None and (lead is not None or len(table) != base):
            columns[name] = Column(name, "numeric", table.dtype.name, table.shape[1:], steps=False, extra={"source": printable(key)})
        elif times_ns is not None:
            stream_clocks[name] = NOMINAL
        yield Rows(name, table, {} if times_ns is None else {NOMINAL: times_ns})
    known = options.description
    rate_hz = rate_hz or known.get("rate_hz") or options.rate_hz
    follow = "observation.state" if "observation.state" in columns else next((name for name in columns if name in stream_clocks), None)
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=columns,
        clock="nominal" if clock == "unknown" and rate_hz else clock,
        key=printable(str(annotation.content.get("episode_id", "")))[:200],
        stream_clocks=stream_clocks,
        start_ns=int(lead.pts_ns[0]) if lead is not None else 0,
        rate_hz=rate_hz if clock != "measured" else None,
        follow=follow,
        tasks=_tasks(annotation),
        success={0: False, 1: True}.get(annotation.content["success"]) if isinstance(annotation.content.get("success"), bool | int) else None,
        splits=item.splits,
        embodiment=known.get("embodiment"),
        metadata={"format": "json_mp4", **_metadata(annotation)},
        problems=tuple(annotation.problems),
    )


def _metadata(annotation: _Annotation) -> dict[str, Any]:
    """Return what is neither rows nor tasks."""
    rest: Sequence[str] = [key for key in annotation.content if key not in annotation.tables and key not in ("texts", "success")]
    return {"annotation": {printable(key): annotation.content[key] for key in rest}}
