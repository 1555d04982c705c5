"""Where the datasets of a listing lie, and what of them is an item: nothing but side files in JSON is read here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from posixpath import basename, dirname, join, relpath, splitext
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, SourceFile
from dataengine.sources.lerobot.info import MAX_INFO_BYTES, DatasetInfo, is_info, parse_info, parse_json, split_problems
from dataengine.sources.lerobot.metadata import MAX_LINES_BYTES, episode_lines
from dataengine.sources.lerobot.paths import VideoFiles, is_video, table_name, video_files
from dataengine.sources.lerobot.summary import problem, some
from dataengine.sources.lerobot.tables import ARROW_MAGIC, PARQUET_MAGIC

ARROW_HEAD_BYTES = 8192
_STREAM_START = b"\xff\xff\xff\xff"
_TABLE_EXTENSIONS = (".parquet", ".arrow")


@dataclass
class _Folder:
    """The files of one dataset, by what they are; paths below the source's root."""

    root: str
    layout: str
    info_path: str | None = None
    info: DatasetInfo = field(default_factory=DatasetInfo)
    tables: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    episodes: list[str] = field(default_factory=list)
    lines: str | None = None
    tasks: str | None = None
    modality: str | None = None
    episode_index: str | None = None
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def below(self, path: str) -> str:
        """Return a path below the dataset's own folder."""
        return path[len(self.root) + 1 :] if self.root else path


def _roots(listing: Listing) -> dict[str, str]:
    """Return the folders of datasets and their layout: those with meta/info.json, and those with an Arrow table of v1."""
    roots: dict[str, str] = {}
    for path in listing.files:
        folder, name = dirname(path), basename(path)
        if name == "info.json" and basename(folder) == "meta":
            roots.setdefault(dirname(folder), "meta")
        elif basename(folder) == "meta_data" and name in ("info.json", "episode_data_index.safetensors"):
            roots[dirname(folder)] = "v1"
        elif path.endswith(".arrow") and _is_v1_table(listing, path):
            roots[dirname(folder) if folder else ""] = "v1"
    return roots


def _is_v1_table(listing: Listing, path: str) -> bool:
    head = listing.head(path, ARROW_HEAD_BYTES)
    return (head.startswith((_STREAM_START, ARROW_MAGIC))) and b"episode_index" in head and b"frame_index" in head


def _root_of(path: str, roots: Mapping[str, str]) -> str | None:
    """Return the nearest dataset folder above a file."""
    folder = dirname(path)
    while folder not in roots:
        if not folder:
            return None
        folder = dirname(folder)
    return folder


def _sort(listing: Listing, root: str, layout: str, paths: Iterable[str]) -> _Folder:
    """Sort the files of one dataset."""
    found = _Folder(root, layout)
    for path in paths:
        inside = found.below(path)
        top, _, rest = inside.partition("/")
        name = basename(path)
        if top in ("meta", "meta_data"):
            if rest == "info.json":
                found.info_path = path
            elif rest == "tasks.parquet" or (rest == "tasks.jsonl" and found.tasks is None):
                found.tasks = path
            elif rest == "episodes.jsonl":
                found.lines = path
            elif rest == "modality.json":
                found.modality = path
            elif rest == "episode_data_index.safetensors":
                found.episode_index = path
            elif re.fullmatch(r"episodes(/.*)?\.parquet|episodes/.*\.parquet", rest):
                found.episodes.append(path)
        elif name.endswith(_TABLE_EXTENSIONS):
            if name.endswith(".parquet") or layout == "v1":
                found.tables.append(path)
        elif is_video(path):
            found.videos.append(path)
    return found


def find_datasets(listing: Listing, reader: str) -> Found:
    """Claim every dataset of a listing."""
    roots = _roots(listing)
    if not roots:
        return Found()
    members: dict[str, list[str]] = {root: [] for root in roots}
    for path in listing.files:
        root = _root_of(path, roots)
        if root is not None:
            members[root].append(path)
    items: list[Item] = []
    claimed: set[str] = set()
    problems: list[Problem] = []
    for root, layout in roots.items():
        folder = _sort(listing, root, layout, members[root])
        known_as = _dataset_name(listing, folder)
        try:
            known = _read_info(listing, folder)
        except BadRecording as error:
            items.append(_refused(listing, folder, reader, error))
            known = True
        else:
            if known:
                items += _items(listing, folder, reader)
        if known:
            problems += folder.problems if folder.root else [_named(known_as, found) for found in folder.problems]
            claimed |= folder.used
    return Found(items, frozenset(claimed), problems)


def _named(name: str, found: Problem) -> Problem:
    """Return a problem of a source that is itself the dataset, with the dataset's name: paths below it say nothing of which one it is."""
    return replace(found, message=f"{name}: {found.message}")


def _claim_all(folder: _Folder) -> None:
    side = (folder.info_path, folder.lines, folder.tasks, folder.modality, folder.episode_index)
    folder.used.update([*folder.tables, *folder.videos, *folder.episodes, *(path for path in side if path)])


def _read_info(listing: Listing, folder: _Folder) -> bool:
    """Read info.json; return whether the folder is a dataset of ours.

    Raises:
        BadRecording: it is one, and cannot be read, or is kept in a format that is not supported.
    """
    if folder.info_path is None:
        return bool(folder.tables)
    if not folder.tables and folder.layout == "v1":
        return False
    try:
        content = parse_json(listing.read_bytes(folder.info_path, MAX_INFO_BYTES), folder.info_path)
    except BadRecording:
        if not folder.tables:
            return False
        raise
    if not is_info(content) and not (folder.layout == "v1" and isinstance(content, dict)):
        if not folder.tables or not any(folder.below(path).startswith("data/") for path in folder.tables):
            return False
        found = f"keys {', '.join(list(content)[:5])}"[:200] if isinstance(content, dict) else type(content).__name__
        raise BadRecording(folder.info_path, "codebase_version, fps and features", found, "restore it from the dataset's source", check="unreadable_info")
    folder.info = parse_info(content, folder.info_path)
    if folder.info.storage_format and folder.info.storage_format != "parquet":
        found = f"storage_format {folder.info.storage_format!r}"[:200]
        raise BadRecording(folder.info_path, "tables in Parquet", found, "convert the dataset to the Parquet layout of v3.0", check="unsupported_format")
    if folder.layout != "v1":
        folder.layout = "v2" if folder.info.version.startswith("v2") else "v3" if folder.info.version.startswith("v3") else folder.layout
        folder.problems += [*folder.info.problems, *split_problems(folder.info, folder.info_path)]
    return True


def _refused(listing: Listing, folder: _Folder, reader: str, error: BadRecording) -> Item:
    """Return the one item of a dataset that cannot be read at all: it is rejected when read, with the reason."""
    assert folder.info_path is not None
    _claim_all(folder)
    reason = {"expected": error.expected, "found": error.found, "advice": error.advice, "check": error.check}
    name = _dataset_name(listing, folder)
    return Item(reader, listing.root, folder.info_path, name, (listing.files[folder.info_path],), extra={"refused": reason, "root": folder.root})


def _dataset_name(listing: Listing, folder: _Folder) -> str:
    return dataset_from_path(listing.name, join(folder.root, "x"))


def _shared(listing: Listing, paths: Iterable[str | None], root: str, name: str) -> list[SourceFile]:
    """Return one entry that stands for files which many items share: it changes when one of them does, and has no size of its own."""
    files = [listing.files[path] for path in paths if path]
    if not files:
        return []
    digest = digest_json([[relpath(file.path, root or "."), file.size, file.fingerprint] for file in files])
    return [SourceFile(join(root, name), 0, digest)]


def _items(listing: Listing, folder: _Folder, reader: str) -> list[Item]:
    """Return the items of a dataset, and note what is absent."""
    _claim_all(folder)
    videos = video_files([folder.below(path) for path in folder.videos], folder.info.cameras)
    where = folder.info_path or folder.tables[0]
    if not folder.tables:
        total = folder.info.totals.get("total_episodes")
        folder.problems.append(
            problem("missing_data", where, f"the tables of {total if total is not None else 'its'} episodes", "none", "copy the folder data", "error")
        )
        return []
    lost = sorted(camera for camera in folder.info.cameras if camera not in videos.cameras)
    for camera in lost:
        folder.problems.append(problem("missing_camera", where, f"videos of {camera!r}, as declared", "none", "the episodes land without this camera"))
    if videos.unplaced:
        found = f"{len(videos.unplaced)} that say neither: {some(videos.unplaced, 3)}"
        folder.problems.append(problem("video_without_episode", where, "videos named by camera and episode or file", found, "these are not kept"))
    singles = [path for path in folder.tables if table_name(folder.below(path)).episode is not None]
    many = [path for path in folder.tables if table_name(folder.below(path)).episode is None]
    base: dict[str, Any] = {"root": folder.root, "layout": folder.layout, "info": folder.info_path, "tasks": folder.tasks, "modality": folder.modality}
    known = {"reader": reader, "root": listing.root, "dataset": _dataset_name(listing, folder)}
    return [*_single_items(listing, folder, singles, videos, base, known), *_many_items(listing, folder, many, base, known)]


def _single_items(listing: Listing, folder: _Folder, paths: list[str], videos: VideoFiles, base: Mapping[str, Any], known: Mapping[str, Any]) -> list[Item]:
    """Return an item for each table of one episode (v2)."""
    lines: dict[int, dict[str, Any]] = {}
    where = folder.lines or folder.info_path or ""
    if paths and folder.lines:
        try:
            lines, found = episode_lines(listing.read_bytes(folder.lines, MAX_LINES_BYTES), folder.lines)
            folder.problems += found
        except BadRecording as error:
            folder.problems.append(Problem("unreadable_metadata", str(error), folder.lines))
    present = {number: path for path in paths if (number := table_name(folder.below(path)).episode) is not None}
    if paths:
        folder.problems += _single_problems(folder, present, lines, videos, where)
    shared = {"info": _info_digest(folder), "side": digest_json([_digest(listing, path) for path in (folder.tasks, folder.modality)])}
    seen = sorted(videos.cameras)
    items = []
    for path in paths:
        number = table_name(folder.below(path)).episode
        assert number is not None
        cameras = {camera: videos.by_episode[camera, number] for camera in seen if (camera, number) in videos.by_episode}
        record = lines.get(number)
        files = [listing.files[path], *(listing.files[join(folder.root, file)] for _, file in sorted(cameras.items()))]
        files.append(SourceFile(join(folder.root, "meta"), 0, digest_json([shared, record])))
        extra = {**base, "tables": [path], "record": record, "videos": sorted(cameras.values()), "cameras": seen}
        if folder.episodes:
            extra["episodes"] = folder.episodes
            extra["videos"] = [folder.below(video) for video in folder.videos]
        items.append(Item(path=path, files=tuple(files), recordings=1, extra=extra, **known))
    return items


def _digest(listing: Listing, path: str | None) -> list[Any]:
    return [] if path is None else [path, listing.files[path].size, listing.files[path].fingerprint]


def _info_digest(folder: _Folder) -> str:
    """Return a digest of what info.json says of single episodes: totals grow with the dataset, and change no episode that is there."""
    info = folder.info
    return digest_json([info.version, info.fps, {key: dict(feature.declared) for key, feature in info.features.items()}, info.robot_type, dict(info.splits)])


def _single_problems(folder: _Folder, present: Mapping[int, str], lines: Mapping[int, Any], videos: VideoFiles, where: str) -> Iterable[Problem]:
    """Yield what is absent of a dataset of one episode a file, each kind once."""
    totals = folder.info.totals
    listed = set(lines)
    absent = sorted(listed - present.keys())
    total = totals.get("total_episodes")
    if absent:
        yield problem(
            "missing_episodes", where, f"tables of the {len(listed)} episodes that are listed", f"none of {len(absent)} of them: {some(absent)}", "copy them"
        )
    if listed and (unlisted := sorted(present.keys() - listed)):
        yield problem("unlisted_episodes", where, "each episode in the list", f"{len(unlisted)} that are not: {some(unlisted)}", "they are read too")
    known = listed or set(present)
    if total is not None and total != len(known):
        says = "are listed" if listed else "are here"
        yield problem("wrong_totals", folder.info_path or where, f"total_episodes {len(known)}, as {says}", str(total))
    lengths = [length for entry in lines.values() if isinstance(length := entry.get("length"), int)]
    frames = totals.get("total_frames")
    if frames is not None and len(lengths) == len(listed) > 0 and sum(lengths) != frames:
        yield problem("wrong_totals", folder.info_path or where, f"total_frames {sum(lengths)}, as the lengths add up to", str(frames))
    for camera in sorted(videos.cameras):
        episodes = {number for name, number in videos.by_episode if name == camera}
        if not episodes:
            continue
        lost = sorted(present.keys() - episodes)
        if lost:
            yield problem("missing_video", where, f"a video of {camera!r} for each episode", f"none for {len(lost)}: {some(lost)}", "look for the files")
        idle = sorted(episodes - present.keys())
        if idle:
            yield problem(
                "video_without_episode", where, f"an episode for each video of {camera!r}", f"none for {len(idle)}: {some(idle)}", "these are not kept"
            )
    videos_total = totals.get("total_videos")
    if videos_total is not None and videos.by_episode and not absent and videos_total != len(videos.by_episode):
        yield problem("wrong_totals", folder.info_path or where, f"total_videos {len(videos.by_episode)}, as are here", str(videos_total), severity="info")


def _many_items(listing: Listing, folder: _Folder, paths: list[str], base: Mapping[str, Any], known: Mapping[str, Any]) -> list[Item]:
    """Return an item for each table of many episodes (v3), shards of one table together (v1)."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        shard = table_name(folder.below(path)).shard
        groups.setdefault(shard[0] if shard is not None else path, []).append(path)
        head = listing.head(path, 8)
        if listing.files[path].size and not head.startswith((PARQUET_MAGIC, ARROW_MAGIC, _STREAM_START)):
            continue  # it is rejected when read, with the reason
    for table, shards in groups.items():
        names = [shard for path in shards if (shard := table_name(folder.below(path)).shard) is not None]
        lost = sorted(set(range(names[0][2])) - {place for _, place, _ in names}) if names and names[0][2] < 100_000 else []
        if lost:
            folder.problems.append(
                problem("missing_shard", shards[0], f"{names[0][2]} shards of {table or 'the table'}", f"no shard {some(lost)}", "copy them")
            )
    beside = [
        *_shared(listing, folder.videos, folder.root, "videos"),
        *_shared(listing, [*folder.episodes, folder.tasks, folder.modality, folder.episode_index], folder.root, "meta"),
    ]
    if folder.info_path:
        beside.append(SourceFile(folder.info_path, 0, _info_digest(folder)))
    share = sum(listing.files[path].size for path in folder.videos) // max(1, len(groups))
    beside = [SourceFile(file.path, share if file.path.endswith("videos") else file.size, file.fingerprint) for file in beside]
    videos = [folder.below(path) for path in folder.videos]
    tables = [folder.below(path) for path in paths]
    items = []
    for place, shards in enumerate(groups.values()):
        extra = {**base, "tables": shards, "episodes": folder.episodes, "videos": videos}
        if place == 0:
            extra |= {"first": True, "data_files": tables, "episode_index": folder.episode_index}
        items.append(
            Item(path=shards[0], files=(*(listing.files[path] for path in shards), *beside), splits=_split_of(folder, shards[0]), extra=extra, **known)
        )
    return items


def _split_of(folder: _Folder, path: str) -> tuple[str, ...]:
    """Return the split that the folder of a v1 table is named for."""
    if folder.layout != "v1":
        return ()
    parts = folder.below(path).split("/")
    name = parts[0] if len(parts) > 1 and parts[0] != "data" else re.split(r"-\d", splitext(parts[-1])[0])[0]
    return (name,) if name in ("train", "test", "val", "validation") else ()


__all__ = ["find_datasets"]
