"""Ego4D as its downloader lays it out: `{v1|v2}/{full_scale, clips, video_540ss, annotations, imu}/`, each with `manifest.csv`, and `ego4d.json`.

Layout (https://github.com/facebookresearch/Ego4d, ego4d/cli; https://ego4d-data.org/docs): a manifest names each file by video_uid, exported_clip_uid or file_uid and its
address; `ego4d.json` describes every video (scenarios, device, participant, splits, components, redacted intervals); `imu/<video_uid>.csv` has inertial samples whose
canonical_timestamp_ms counts from the start of the video, and is empty where the video was trimmed. A clip is a part of a video: parent_video_uid, parent_start_sec.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import basename, dirname, splitext
from typing import Any

from dataengine.core.column import Camera
from dataengine.core.episode import EpisodeInfo, Event, Noticed
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.sources.cut_video import SideStream, VideoTrack, episodes_of_video
from dataengine.sources.cuts import Segment, episode_rule
from dataengine.sources.ego4d.annotations import kind_of, narrations, segments
from dataengine.sources.json_elements import element
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, repeated_times
from dataengine.sources.ragged_csv import SURPLUS
from dataengine.sources.tables import header_of, read_csv
from dataengine.sources.timed_table import read_timed
from dataengine.video.index import FrameIndex

NAME = "ego4d"
VERSION = "2"
RECOGNISED_BY = "a manifest.csv whose header names video_uid, exported_clip_uid or clip_uid beside videos that are called by them"
KEEPS = (
    "the video's own bytes, narrations, summaries and benchmark segments as timed texts with all their plain fields, inertial samples on the video's clock, the manifest's "
    "row and what ego4d.json says (splits, redacted intervals, participant) as metadata; boxes and masks of benchmarks are not kept"
)

UIDS = ("exported_clip_uid", "clip_uid", "video_uid", "file_uid")
ADDRESSES = ("s3_path", "canonical_s3_location", "s3_location", "manifold_location")
PARTS = frozenset(["full_scale", "clips", "video_540ss", "video_components", "annotations", "imu", "v1", "v2", "v2_1"])
MAIN = "observation.images.main"
HEADER_BYTES = 2048
MAX_MANIFEST_BYTES = 64 << 20
NARRATIONS = ("narration.json", "all_narrations_redacted.json")
SPLITS = ("split_em", "split_av", "split_fho")


def _rows(data: bytes) -> list[dict[str, str]]:
    """Return the rows of a manifest by its header; what a row has beyond it stands under `SURPLUS`."""
    found = []
    for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig", "replace"), newline="")):
        rest: Any = row.pop(None, [])
        beyond = {SURPLUS: ",".join(rest)} if any(value.strip() for value in rest) else {}
        found.append({key: value for key, value in row.items() if key and isinstance(value, str)} | beyond)
    return found


def _names(row: Mapping[str, str]) -> list[str]:
    """Return the names that the file of a manifest's row may have."""
    stems = [f"{row[uid]}.mp4" for uid in UIDS if row.get(uid)]
    return [*stems[:1], *(basename(row[key]) for key in ADDRESSES if row.get(key, "").lower().endswith(".mp4")), *stems[1:]]


def _dataset(listing: Listing, path: str) -> str:
    folders = [folder for folder in path.split("/")[:-1] if folder not in PARTS]
    return dataset_from_path(listing.name, "/".join([*folders, "x"]))


def find(listing: Listing) -> Found:
    """Claim the videos that manifests name, and what belongs to them; a row without its file is named."""
    items: list[Item] = []
    problems: list[Problem] = []
    claimed: set[str] = set()
    manifests = [
        path for path in listing.files if basename(path) == "manifest.csv" and not frozenset(UIDS).isdisjoint(header_of(listing.head(path, HEADER_BYTES)))
    ]
    beside = {folder: _beside(listing, folder) for folder in {dirname(dirname(path)) for path in manifests}} if manifests else {}
    for path in manifests:
        folder, root = dirname(path), dirname(dirname(path))
        part = basename(folder)
        shared = beside[root]
        if part in ("annotations", "imu"):
            claimed.add(path)
            continue
        try:
            rows = _rows(listing.read_bytes(path, MAX_MANIFEST_BYTES))
        except (BadRecording, csv.Error) as error:
            problems.append(Problem("unreadable_manifest", f"{path}: the manifest cannot be read: {error}"[:500], path, "error", advice="fetch it again"))
            continue
        ragged = [number for number, row in enumerate(rows, 1) if SURPLUS in row]
        if ragged:
            message = f"{path}: {len(ragged)} of {len(rows)} rows have more fields than the header, the first is row {ragged[0]}; the rest is kept as {SURPLUS}"
            problems.append(Problem("ragged_rows", message, path, advice="put texts with commas in quotes"))
        absent: list[str] = []
        here: set[str] = set()
        for row in rows:
            names = [f"{folder}/{name}".lstrip("/") for name in _names(row) if "/" not in name]
            if row.get("type", "") in ("file", "json") or not names:
                continue
            film = next((name for name in names if name in listing.files), None)
            if film is None:
                absent.append(names[0])
            elif film not in here:
                here.add(film)
                video = row.get("parent_video_uid") or row.get("video_uid") or splitext(basename(film))[0]
                imu = f"{root}/imu/{video}.csv".lstrip("/")
                imus = [imu] if imu in listing.files and part != "clips" else []
                used = [film, path, *shared, *imus]
                # Files that describe every video belong to each: their fingerprints do; their sizes (half a GB of narrations) must not count once for each.
                own = tuple(listing.files[name] if name in (film, *imus) else replace(listing.files[name], size=0) for name in used)
                extra = {"part": part, "row": row, "video_uid": video, "shared": shared, "imu": imus}
                items.append(Item(NAME, listing.root, film, _dataset(listing, path), own, (), 1, extra))
                claimed.update(used)
        if absent:
            shown = ", ".join(basename(name) for name in absent[:20])
            message = f"{path}: {len(absent)} of {len(rows)} files that it names are not here: {shown}{', ...' if len(absent) > 20 else ''}"
            problems.append(Problem("missing_videos", message, path, "warning", advice="fetch them again, if they are wanted"))
            claimed.add(path)
    return Found(items, frozenset(claimed), problems)


def _beside(listing: Listing, root: str) -> list[str]:
    """Return the files that say something of all videos below a release's folder."""
    above = dirname(root)
    descriptions = [name for folder in dict.fromkeys([root, above]) if (name := f"{folder}/ego4d.json".lstrip("/")) in listing.files]
    start = f"{root}/annotations/".lstrip("/")
    return [*descriptions[:1], *(name for name in listing.files if name.startswith(start) and name.endswith(".json") and "/" not in name[len(start) :])]


def _seconds(row: Mapping[str, str], *names: str) -> float | None:
    for name in names:
        try:
            return float(row[name])
        except (KeyError, ValueError):
            continue
    return None


def _within_clip(found: Sequence[Segment], start_ns: int, end_ns: int) -> list[Segment]:
    """Return the annotations that touch a clip of a video, with times from the clip's start."""
    inside = [part for part in found if part.start_ns < end_ns and (part.end_ns if part.end_ns is not None else part.start_ns + 1) > start_ns]
    moved = []
    for part in inside:
        end = None if part.end_ns is None else part.end_ns - start_ns
        moved.append(replace(part, start_ns=part.start_ns - start_ns, end_ns=end))
    return moved


def _annotations(item: Item, files: Opener, video: str) -> tuple[Any, list[Segment], list[Problem]]:
    """Return what ego4d.json says of a video, what all annotation files do, and which cannot be read."""
    described: Any = None
    found: list[Segment] = []
    problems: list[Problem] = []
    fingerprints = {file.path: file.fingerprint for file in item.files}
    for path in item.extra.get("shared", ()):
        try:
            content = element(files, item.root, path, fingerprints.get(path, ""), video, "video_uid")
        except BadRecording as error:
            problems.append(Problem("unreadable_annotations", f"{path}: {error}"[:500], path, advice=error.advice))
            continue
        if basename(path) == "ego4d.json":
            described = content
        elif basename(path) in NARRATIONS:
            found += narrations(content)
        elif content is not None:
            found += segments(content, kind_of(path))
    return described, found, problems


def _imu(item: Item, files: Opener, index: FrameIndex) -> tuple[list[SideStream], list[Problem]]:
    span_ns = int(index.pts_ns[0]), int(index.pts_ns[0]) + index.duration_ns
    sides: list[SideStream] = []
    problems: list[Problem] = []
    for path in item.extra.get("imu", ()):
        try:
            table = read_csv(files, path)
            timed = read_timed(table, path, span_ns, "imu", clock="canonical_timestamp_ms", untimed="info")
        except BadRecording as error:
            problems.append(Problem("unreadable_side_car", str(error), path, "warning", error.expected, error.found, error.advice))
            continue
        sides += timed.sides
        problems += [*table.problems, *timed.problems]
    return sides, problems


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one video or clip with what is said of it; `episodes: {by: annotation}` makes an episode of each segment that has an end.

    Raises:
        BadRecording: the video cannot be read.
    """
    row: Mapping[str, str] = item.extra.get("row", {})
    video = str(item.extra["video_uid"])
    videos = KeptVideos(files)
    index = videos.main(item.path)
    problems = [problem for problem in (repeated_times(MAIN, index, item.path), videos.decodes(item.path, index)) if problem is not None]
    described, found, faults = _annotations(item, files, video)
    for fault in faults:
        yield Noticed(fault)
    if item.extra.get("part") == "clips":
        start = _seconds(row, "parent_start_sec", "video_start_sec", "clip_start_sec")
        if start is None and found:
            message = (
                f"{item.path}: the manifest does not say where in the video {video} the clip begins: it lands without {len(found)} annotations of that video"
            )
            problems.append(Problem("unplaced_clip", message, item.path, "info"))
        found = [] if start is None else _within_clip(found, round(start * 1e9), round(start * 1e9) + index.duration_ns)
    sides, imu_problems = _imu(item, files, index)
    facts: Mapping[str, Any] = described if isinstance(described, dict) else {}
    metadata: dict[str, Any] = {"format": "ego4d", "part": item.extra.get("part", ""), "video_uid": video, "manifest": dict(row)}
    if facts:
        metadata["video"] = dict(facts)
    for name, key in (("participant_id", "fb_participant_id"), ("redacted_intervals", "redacted_intervals"), ("has_redacted_regions", "has_redacted_regions")):
        if facts.get(key) is not None:
            metadata[name] = facts[key]
    splits = [f"{name.removeprefix('split_')}_{facts[name]}" for name in SPLITS if isinstance(facts.get(name), str) and facts[name]]
    info = EpisodeInfo(
        dataset=item.dataset,
        columns={},
        clock="measured",
        rate_hz=constant_rate_hz(index) or options.rate_hz,
        splits=tuple(dict.fromkeys([*item.splits, *splits])),
        embodiment="person",
        origin="human_video",
        metadata=metadata,
        problems=(*problems, *imu_problems, *_differences(facts, index, item)),
    )
    track = VideoTrack(MAIN, item.path, index, camera=Camera("egocentric"))
    yield from episodes_of_video([track], MAIN, info, files, episode_rule(options.config), sides, found)


def _differences(facts: Mapping[str, Any], index: FrameIndex, item: Item) -> list[Problem]:
    """Say where a full video is not as long as ego4d.json has it."""
    said = facts.get("duration_sec")
    if item.extra.get("part") == "clips" or not isinstance(said, int | float) or abs(said - index.duration_ns / 1e9) <= 1:
        return []
    message = f"{item.path}: ego4d.json says {said:g} s, the video has {index.duration_ns / 1e9:g}"
    return [Problem("declared_facts_differ", message, item.path, advice="fetch the video again")]
