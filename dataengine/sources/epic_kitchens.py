"""EPIC-KITCHENS: long videos of cooking, `P01/videos/P01_01.MP4`, and tables of what was done in them, `EPIC_100_train.csv` and its like.

Layout (https://github.com/epic-kitchens/epic-kitchens-100-annotations, README): a row is a segment with narration_id, participant_id, video_id, narration_timestamp,
start_timestamp and stop_timestamp (HH:mm:ss.SSS from the video's start), start_frame and stop_frame (of extracted pictures, counted from 1), and but for the test set
narration, verb, noun and their classes. `EPIC_100_video_info.csv` holds each video's duration and rate. The tables may lie apart from the videos.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from posixpath import basename, splitext
from typing import Any

import numpy as np

from dataengine.core.column import Camera
from dataengine.core.episode import EpisodeInfo, Event, Noticed
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.cut_video import VideoTrack, episodes_of_video
from dataengine.sources.cuts import Segment, episode_rule
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, repeated_times
from dataengine.sources.tables import Table, header_of, read_csv, rows_as_json, times_ns
from dataengine.video.container import HEAD_BYTES, sniff
from dataengine.video.index import FrameIndex

NAME = "epic_kitchens"
VERSION = "2"
RECOGNISED_BY = "a CSV whose header names narration_id, video_id, start_timestamp and stop_timestamp, and videos that are called as its video_id says"
KEEPS = "the video's own bytes, each segment's narration with its start, end and time of narration, all its other fields as JSON, splits, participant_id as metadata"

SEGMENT_COLUMNS = frozenset(["narration_id", "video_id", "start_timestamp", "stop_timestamp"])
INFO_COLUMNS = frozenset(["video_id", "duration", "fps", "resolution"])
VIDEO_NAME = re.compile(r"P\d{2,3}_\d{2,4}", re.IGNORECASE)
MAIN = "observation.images.main"
LICENCE = "CC-BY-NC-4.0"
HEADER_BYTES = 1024
MAX_TABLE_BYTES = 64 << 20  # the largest published table takes 12 MB


def _split(path: str) -> str:
    """Return the split that a table's name says: "train" of EPIC_100_train.csv, "uda_source_train" of EPIC_100_uda_source_train.csv."""
    name = splitext(basename(path))[0].lower()
    return re.sub(r"^epic_?(100|55)?_|_?timestamps?(_with_narration_ids)?$|^action_labels_", "", name).strip("_") or "unnamed"


def _order(path: str) -> tuple[int, str]:
    """Return a key that puts the main tables before those of single challenges."""
    return (0 if _split(path) in ("train", "validation", "test") else 1, path)


def find(listing: Listing) -> Found:
    """Claim the tables of segments of a listing and the videos that they name, wherever both lie."""
    tables: list[str] = []
    infos: list[str] = []
    for path in listing.files:
        if path.lower().endswith(".csv"):
            names = frozenset(header_of(listing.head(path, HEADER_BYTES)))
            if names >= SEGMENT_COLUMNS:
                tables.append(path)
            elif names == INFO_COLUMNS:
                infos.append(path)
    if not tables:
        return Found()
    tables.sort(key=_order)
    problems: list[Problem] = []
    splits: dict[str, list[str]] = {}
    sources: dict[str, list[str]] = {}
    read: list[str] = []
    for path in tables:
        try:
            named = _videos_of(listing.read_bytes(path, MAX_TABLE_BYTES))
        except (BadRecording, csv.Error) as error:
            problems.append(
                Problem("unreadable_annotations", f"{path}: the segments cannot be read: {error}"[:500], path, "error", advice="copy the table again")
            )
            continue
        read.append(path)
        for video in named:
            splits.setdefault(video, []).append(_split(path))
            sources.setdefault(video, []).append(path)
    items = []
    claimed = {*read}
    here: set[str] = set()
    for path in listing.files:
        stem = splitext(basename(path))[0]
        if stem not in sources or not VIDEO_NAME.fullmatch(stem) or path.lower().endswith(".csv") or sniff(listing.head(path, HEAD_BYTES)) is None:
            continue
        here.add(stem)
        claimed.add(path)
        used = [path, *sources[stem], *infos]
        claimed.update(infos)
        files = tuple(listing.files[name] for name in used)
        extra = {"video_id": stem, "tables": sources[stem], "infos": infos}
        items.append(Item(NAME, listing.root, path, _dataset(listing, path), files, tuple(dict.fromkeys(splits[stem])), 1, extra))
    absent = sorted(sources.keys() - here)
    if absent:
        message = f"{', '.join(read[:3])}: {len(absent)} of {len(sources)} videos with segments are not here, the first is {absent[0]}"
        problems.append(Problem("missing_videos", message[:500], read[0], "info" if here else "warning", advice="fetch them, if they are wanted"))
    return Found(items, frozenset(claimed), problems)


def _videos_of(data: bytes) -> list[str]:
    """Return the videos that a table names, each once, by the standard library: no parser in C looks at a file while recordings are looked for."""
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""))
    return list(dict.fromkeys(video for row in rows if (video := row.get("video_id"))))


def _dataset(listing: Listing, path: str) -> str:
    """Name the dataset by the folder above the participants'."""
    folders = path.split("/")[:-1]
    kept = [folder for folder in folders if not re.fullmatch(r"P\d{2,3}|videos?", folder, re.IGNORECASE)]
    return dataset_from_path(listing.name, "/".join([*kept, "x"]))


def _segments(table: Table, video: str, split: str, path: str) -> tuple[list[Segment], list[Problem]]:
    """Return the segments of one video of a table, and what is wrong with them."""
    rows = np.flatnonzero((table.texts["video_id"] == video).fill_null(False).to_numpy())
    part = table.taken(rows)
    problems: list[Problem] = []
    starts, stops = times_ns(part.texts["start_timestamp"], "s"), times_ns(part.texts["stop_timestamp"], "s")
    if starts is None or stops is None:
        return [], [Problem("unreadable_times", f"{path}: {video}: start_timestamp and stop_timestamp hold no times such as 00:01:02.50", path)]
    spoken = times_ns(part.texts["narration_timestamp"], "s") if "narration_timestamp" in part.texts else None
    texts = part.texts["narration"].fill_null("").to_list() if "narration" in part.texts else [""] * part.rows
    keys = part.texts["narration_id"].fill_null("").to_list()
    about = list(rows_as_json(part, part.names))
    found = []
    lost = 0
    for row in range(part.rows):
        if not (starts[1][row] and stops[1][row]):
            lost += 1
            continue
        clocks = {"narrated": int(spoken[0][row])} if spoken is not None and spoken[1][row] else {}
        found.append(Segment(int(starts[0][row]), int(stops[0][row]), texts[row], keys[row], {**about[row], "split": split}, clocks))
    if lost:
        problems.append(Problem("rows_without_time", f"{path}: {video}: {lost} of {part.rows} segments have no start or no stop; they are left out", path))
    return found, problems


def _video_info(files: Opener, paths: Sequence[str], video: str, index: FrameIndex) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return what the table of videos says of one, and where the video differs."""
    for path in paths:
        try:
            table = read_csv(files, path, MAX_TABLE_BYTES)
        except BadRecording as error:
            return {}, [Problem("unreadable_annotations", str(error), path)]
        for record in rows_as_json(table, table.names):
            if record.get("video_id") != video:
                continue
            wrong = []
            rate = constant_rate_hz(index)
            said_rate, said_s = record.get("fps"), record.get("duration")
            if isinstance(said_rate, int | float) and rate is not None and abs(said_rate - rate) > 0.01 * rate:
                wrong.append(f"{said_rate:g} frames a second where the video has {rate:g}")
            if isinstance(said_s, int | float) and abs(said_s - index.duration_ns / 1e9) > 1:
                wrong.append(f"{said_s:g} s where the video has {index.duration_ns / 1e9:g}")
            differs = [Problem("declared_facts_differ", f"{path}: {video}: {'; '.join(wrong)}", path)] if wrong else []
            return record, [*table.problems, *differs]
    return {}, []


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one video with its segments: whole, with narrations as timed texts, or an episode for each segment (`episodes: {by: annotation}`).

    Raises:
        BadRecording: the video cannot be read.
    """
    video = str(item.extra["video_id"])
    videos = KeptVideos(files)
    index = videos.main(item.path)
    problems = [problem for problem in (repeated_times(MAIN, index, item.path), videos.decodes(item.path, index)) if problem is not None]
    segments: dict[str, Segment] = {}
    for path in item.extra.get("tables", ()):
        try:
            table = read_csv(files, path, MAX_TABLE_BYTES)
            found, faults = _segments(table, video, _split(path), path)
        except (BadRecording, KeyError) as error:
            yield Noticed(Problem("unreadable_annotations", f"{path}: the segments cannot be read: {error}"[:500], path))
            continue
        for fault in table.problems:
            yield Noticed(fault)  # of the table, whichever videos its rows name
        problems += faults
        for number, segment in enumerate(found):
            segments.setdefault(segment.key or f"{path}:{number}", segment)  # tables of single challenges repeat what the main ones say
    facts, differences = _video_info(files, item.extra.get("infos", ()), video, index)
    rate_hz = constant_rate_hz(index) or options.rate_hz
    info = EpisodeInfo(
        dataset=item.dataset,
        columns={},
        clock="measured",
        rate_hz=rate_hz,
        splits=item.splits,
        embodiment="person",
        origin="human_video",
        licence=LICENCE,
        metadata={"format": "epic_kitchens", "video_id": video, "participant_id": video.split("_")[0], **({"video_info": dict(facts)} if facts else {})},
        problems=(*problems, *differences),
    )
    track = VideoTrack(MAIN, item.path, index, camera=Camera("egocentric"))
    yield from episodes_of_video([track], MAIN, info, files, episode_rule(options.config), segments=list(segments.values()))
