"""EgoDex: a person's hands and upper body, tracked by a headset, as `<task>/<i>.hdf5`, with what the headset saw as `<task>/<i>.mp4`.

Layout (https://github.com/apple/ml-egodex and the data card): `part1` .. `part5`, `test` and `extra` hold a folder for each task; `transforms/<joint>` (N, 4, 4) are
poses of the joint in ARKit's world frame, which stands still during a recording and differs from one to the next; `camera/intrinsic` (3, 3) in px; `confidences/<joint>` (N,)
in some files only; row i belongs to frame i of the video. A task that can be done both ways has two descriptions, and `which_llm_description` says which was done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from posixpath import dirname, splitext
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import ActionSpace, Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path, slug
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Rows
from dataengine.sources.cut_video import SideStream, VideoTrack, episodes_of_video
from dataengine.sources.cuts import episode_rule
from dataengine.sources.hdf5.reader import EXTENSIONS, has_signature
from dataengine.sources.hdf5.streams import small_value, stream_name, unused
from dataengine.sources.hdf5.tree import Notes, Tree, attributes, open_tree, walk
from dataengine.sources.hdf5.values import Table, inspect, whole
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, repeated_times
from dataengine.video.index import FrameIndex

NAME = "egodex"
VERSION = "1"
RECOGNISED_BY = "HDF5 files whose first bytes name the groups camera and transforms, with an MP4 of the same stem beside each"
KEEPS = "the MP4's own bytes, every joint's 4x4 pose and confidence with the time of its frame, intrinsics, all attributes, the description of what was done as task"

MAIN = "observation.images.main"
CAMERA_POSE = "observation.transforms.camera"
FRAME = "arkit_world"
LOOKED_AT = 4  # files of a folder whose content decides what the folder holds
HEAD_BYTES = 2048  # h5py writes the names of the root group's members within the first KiB
MAX_POSE_BYTES = 384 << 20  # 69 joints for 48 minutes at 30 Hz
PARTS = re.compile(r"part\d+|test|extra")


def _shows_poses(listing: Listing, path: str) -> bool:
    head = listing.head(path, HEAD_BYTES)
    return b"transforms" in head and b"camera" in head


def _video_of(listing: Listing, path: str) -> str | None:
    stem = splitext(path)[0]
    return next((stem + extension for extension in (".mp4", ".MP4", ".mov") if stem + extension in listing.files), None)


def _dataset(listing: Listing, path: str) -> tuple[str, str, str]:
    """Return the dataset's name, the part ("test") and the task's folder of a recording."""
    folders = [listing.name, *dirname(path).split("/")] if dirname(path) else [listing.name]
    task = folders[-1]
    above = folders[:-1]
    part = above[-1] if above and PARTS.fullmatch(above[-1]) else ""
    rest = above[:-1] if part else above
    return (dataset_from_path(rest[0], "/".join([*rest[1:], "x"])) if rest else slug(part or task)), part, task


def find(listing: Listing) -> Found:
    """Claim the pairs of a listing: a folder is looked at through a few of its files, and each file once more when it is read."""
    folders: dict[str, list[str]] = {}
    films: dict[str, list[str]] = {}
    for path in listing.files:
        if path.lower().endswith(EXTENSIONS):
            folders.setdefault(dirname(path), []).append(path)
        elif path.lower().endswith(".mp4"):
            films.setdefault(dirname(path), []).append(path)
    items: list[Item] = []
    problems: list[Problem] = []
    claimed: set[str] = set()
    for folder, paths in folders.items():
        step = max(1, len(paths) // LOOKED_AT)
        if not any(has_signature(listing, path) and _shows_poses(listing, path) for path in paths[::step][:LOOKED_AT]):
            continue
        paired: set[str] = set()
        for path in paths:
            if not has_signature(listing, path):
                continue
            film = _video_of(listing, path)
            dataset, part, task = _dataset(listing, path)
            used = [path, *([film] if film is not None else [])]
            paired.update(used)
            splits = (part,) if part in ("test", "extra") else ("train",) if part else ()
            items.append(
                Item(NAME, listing.root, path, dataset, tuple(listing.files[name] for name in used), splits, 1, {"video": film, "part": part, "task": task})
            )
        lone = [path for path in films.get(folder, ()) if path not in paired] if folder else []
        if lone:
            message = f"{folder}: {len(lone)} videos have no poses beside them, the first is {lone[0]}; they land as videos"
            problems.append(Problem("missing_poses", message, folder, advice="copy the .hdf5 of the same name as well"))
        claimed |= paired
    return Found(items, frozenset(claimed), problems)


def _column(name: str, table: Table) -> Column:
    """Return the column of a dataset that has a row for each frame."""
    kind, _, joint = table.path.partition("/")
    extra = {"source": printable(table.path)}
    if kind == "transforms":
        what = ActionSpace("other", rotation="matrix", frame=FRAME, absolute=True)
        doc = f"pose of {printable(joint)} in ARKit's world frame: rotation, and translation in the last column"
        return Column(name, "numeric", table.dtype.name, table.shape[1:], unit="m", frame=FRAME, meaning="state", action_space=what, doc=doc, extra=extra)
    doc = f"how sure the tracker was of {printable(joint)}, 0 to 1" if kind == "confidences" else ""
    return Column(name, "numeric", table.dtype.name, table.shape[1:], doc=doc, extra=extra)


def _tables(tree: Tree, notes: Notes) -> tuple[list[tuple[Table, Array]], Array | None]:
    """Return every dataset with a row for each frame and its values, and the intrinsics."""
    import h5py

    found: list[tuple[Table, Array]] = []
    intrinsic: Array | None = None
    left = MAX_POSE_BYTES
    for path, thing in walk(tree, tree.root):
        if path:
            attributes(tree, thing, path, notes)
        if not isinstance(thing, h5py.Dataset):
            continue
        table = inspect(tree, thing, path)
        tracked = path.startswith(("transforms/", "confidences/"))
        if path == "camera/intrinsic":
            value = whole(table, 4096)
            intrinsic = value if isinstance(value, np.ndarray) and value.shape == (3, 3) and value.dtype.kind == "f" else None
            if intrinsic is None:
                notes.warn("odd_intrinsics", table.where, f"expected (3, 3) floats, found shape {table.shape} of {table.dtype}")
        if not tracked or table.content != "numeric" or not table.shape:
            small_value(tree, thing, path, notes)
            continue
        if path.startswith("transforms/") and (table.shape[1:] != (4, 4) or table.dtype.kind != "f"):
            raise BadRecording(table.where, "poses (N, 4, 4) of floats", f"shape {table.shape} of {table.dtype}", "write 4x4 matrices", check="odd_type")
        values = whole(table, left)
        if not isinstance(values, np.ndarray):
            raise BadRecording(tree.path, f"poses of at most {MAX_POSE_BYTES} bytes", "more", "split the recording", check="too_large")
        left -= values.nbytes
        found.append((table, values))
    if not any(table.path.startswith("transforms/") for table, _ in found):
        raise BadRecording(tree.path, "poses in the group transforms", "none", "it is no EgoDex recording", check="unknown_layout")
    return found, intrinsic


def _no_transforms(table: Table, values: Array, notes: Notes) -> None:
    """Note poses whose last row is not (0, 0, 0, 1), or whose rotation is none."""
    finite = np.isfinite(values).all(axis=(1, 2))
    bottom = np.abs(values[:, 3] - np.array([0, 0, 0, 1], values.dtype)).max(axis=1, initial=0) <= 1e-3
    rotation = values[:, :3, :3].astype(np.float64)
    with np.errstate(all="ignore"):
        square = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0) <= 1e-2
    wrong = np.flatnonzero(~(finite & bottom & square))
    if len(wrong):
        notes.warn("no_rigid_pose", table.where, f"{len(wrong)} of {len(values)} rows are no pose (a rotation, and 0 0 0 1 below), the first is row {wrong[0]}")


def _sides(tables: list[tuple[Table, Array]], index: FrameIndex | None, notes: Notes, where: str) -> list[SideStream]:
    """Return the tracked streams with the times of their frames; rows beyond the last frame stand in streams of their own, without a time."""
    sides: list[SideStream] = []
    taken = {MAIN}
    lengths = sorted({len(values) for _, values in tables})
    frames = lengths[-1] if index is None else len(index)
    if lengths != [frames]:
        counts = ", ".join(str(length) for length in lengths[:8])
        message = f"the video has {frames} frames, its poses and confidences {counts} rows; row i belongs to frame i, what is more has no time"
        notes.warn("frame_pose_mismatch", where, message, "compare the files with the original")
    for table, values in tables:
        name = unused(f"observation.{stream_name(table.path)}", taken)
        taken.add(name)
        if table.path.startswith("transforms/"):
            _no_transforms(table, values, notes)
        if index is None:
            sides.append(SideStream(_column(name, table), values))
            continue
        timed = min(len(values), frames)
        if timed:
            sides.append(SideStream(_column(name, table), values[:timed], {"pts": index.pts_ns[:timed]}, "pts"))
        if timed < len(values):
            sides.append(SideStream(replace(_column(f"{name}_beyond_video", table), steps=False), values[timed:]))
    return sides


def _tasks(values: Mapping[str, Any], where: str, notes: Notes) -> tuple[str, ...]:
    """Return the description of what was done; a task that can be done both ways has two."""

    def text(name: str) -> str:
        value = values.get(name)
        return value.strip() if isinstance(value, str) else ""

    which = str(values.get("which_llm_description", "")).strip()
    reversible = text("llm_type") == "reversible" or ("llm_type" not in values and bool(text("llm_description2")) and which != "")
    if not reversible:
        found = text("llm_description") or text("description")
        return (found,) if found else ()
    if which not in ("1", "2"):
        notes.warn(
            "unknown_direction", where, f"the task can be done both ways, and which_llm_description is {which[:40]!r}, neither 1 nor 2: it has no task text"
        )
        return ()
    found = text("llm_description" if which == "1" else "llm_description2")
    if not found:
        notes.warn("missing_description", where, f"which_llm_description is {which}, and that description is empty")
    return (found,) if found else ()


def _camera(intrinsic: Array | None, posed: bool) -> Camera:
    pixels = None if intrinsic is None else (float(intrinsic[0, 0]), float(intrinsic[1, 1]), float(intrinsic[0, 2]), float(intrinsic[1, 2]))
    if pixels is not None and not np.isfinite(pixels).all():
        pixels = None
    return Camera("egocentric", intrinsics_px=pixels, pose_stream=CAMERA_POSE if posed else None)


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one pair. Without its video the poses land alone, without times.

    Raises:
        BadRecording: the HDF5 file or the video cannot be read.
    """
    notes = Notes()
    film = item.extra.get("video")
    videos = KeptVideos(files)
    index = videos.main(film) if isinstance(film, str) else None
    size = item.files[0].size
    with open_tree(files, item.path, size) as tree:
        root_attributes = attributes(tree, tree.root, "", notes)
        tables, intrinsic = _tables(tree, notes)
        sides = _sides(tables, index, notes, item.path)
    problems = list(notes.all_problems())
    if index is not None and isinstance(film, str):
        problems += [problem for problem in (repeated_times(MAIN, index, film), videos.decodes(film, index)) if problem is not None]
    else:
        message = f"{item.path}: expected the video {splitext(item.path)[0]}.mp4 beside it, found none; the poses land alone, their times are not known"
        problems.append(Problem("missing_video", message, item.path, advice="copy the video as well"))
    rate_hz = (constant_rate_hz(index) if index is not None else None) or options.rate_hz
    info = EpisodeInfo(
        dataset=item.dataset,
        columns={},
        clock="measured" if index is not None else "nominal" if rate_hz else "unknown",
        rate_hz=rate_hz,
        tasks=_tasks(root_attributes, item.path, notes),
        splits=item.splits,
        embodiment="person",
        origin="human_video",
        metadata={"format": "egodex", "part": item.extra.get("part", ""), "task": item.extra.get("task", ""), **notes.metadata},
        problems=tuple(dict.fromkeys([*problems, *notes.all_problems()])),
    )
    if index is None or not isinstance(film, str):
        yield from _poses_alone(sides, info)
        return
    posed = any(side.column.name == CAMERA_POSE for side in sides)
    track = VideoTrack(MAIN, film, index, camera=_camera(intrinsic, posed), doc="what the headset saw")
    yield from episodes_of_video([track], MAIN, info, files, episode_rule(options.config), sides, where=item.path)


def _poses_alone(sides: list[SideStream], info: EpisodeInfo) -> Iterator[Event]:
    for side in sides:
        yield Rows(side.column.name, side.values)
    yield replace(info, columns={side.column.name: side.column for side in sides})
