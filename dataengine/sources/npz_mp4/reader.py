"""MP4 with an NPZ beside it: one recording of films and the arrays that belong to them.

A pair is made by the name (`<stem>.npz`, `<stem>.mp4` or `<stem>_<camera>.mp4`, also in folders side by side: `npz/<stem>.npz`, `videos/<stem>.mp4`), or by the
folder: one NPZ and films with it. Arrays with a row for each frame (or one fewer: the commands between frames) become streams. Times come from an array of
times where there is one, else from the container.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from posixpath import basename, dirname, splitext
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import ClockKind
from dataengine.core.column import Camera, Column
from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording, printable
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Items, Rows
from dataengine.sources.kept_video import KeptVideos, constant_rate_hz, frame_column, frame_rows, repeated_times
from dataengine.sources.npz_mp4.archive import arrays, small_values
from dataengine.video.index import FrameIndex

NAME = "npz_mp4"
VERSION = "2"
RECOGNISED_BY = "an NPZ (a zip of .npy members) with an MP4 of its name beside it, in a folder beside its own, or as the only NPZ of a folder with MP4"
KEEPS = (
    "the films' own bytes, every array with a row for each frame as a stream with its dtype, times where an array has them, other small arrays as metadata, "
    "texts as tasks, and as a stream where they differ from frame to frame. Not kept: object arrays, which are pickles and are named"
)

NPY_IN_HEAD = re.compile(rb"^PK\x03\x04.{22}(.{2}).{2}[^\0]{1,200}?\.npy", re.DOTALL)
FILMS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
TIMES = ("timestamps", "timestamp", "time_stamp", "times", "time", "t")
TASKS = ("language_instruction", "instruction", "language", "lang", "task", "text", "texts", "caption")
ACTIONS, STATES = ("actions", "action"), ("states", "state", "full_state", "proprio", "qpos")
SMALL_BYTES = 64 << 10
MAX_TASKS = 1000
MAX_TASK_ROWS = 1 << 20
TEXT_ROWS = 4096
EPOCH_S, MAX_S = 1e9, 9e9
TIME, FRAME = "time", "nominal"
_SPLITS = frozenset(["train", "val", "valid", "validation", "test"])


def _is_npz(listing: Listing, path: str) -> bool:
    return path.lower().endswith(".npz") and NPY_IN_HEAD.match(listing.head(path, 300)) is not None


def _pairs(listing: Listing) -> dict[str, list[str]]:
    """Return the films of each NPZ."""
    films = [path for path in listing.files if path.lower().endswith(FILMS)]
    by_folder: dict[str, list[str]] = {}
    by_stem: dict[tuple[str, str], list[str]] = {}
    for film in films:
        by_folder.setdefault(dirname(film), []).append(film)
        by_stem.setdefault((dirname(dirname(film)), basename(splitext(film)[0])), []).append(film)
    archives = [path for path in listing.files if path.lower().endswith(".npz")] if films else []
    count: dict[str, int] = {}
    for path in archives:
        count[dirname(path)] = count.get(dirname(path), 0) + 1
    found: dict[str, list[str]] = {}
    taken: set[str] = set()
    for path in archives:
        folder, stem = dirname(path), basename(splitext(path)[0])
        if not _is_npz(listing, path):
            continue
        named = [film for film in by_folder.get(folder, ()) if re.match(rf"{re.escape(stem)}([._-].*)?$", basename(splitext(film)[0]))]
        aside = by_stem.get((dirname(folder), stem), []) if folder else []
        alone = by_folder.get(folder, []) if count[folder] == 1 else []
        chosen = [film for film in named or aside or alone if film not in taken]
        if chosen:
            found[path] = chosen
            taken.update(chosen)
    return found


def find(listing: Listing) -> Found:
    """Claim each NPZ that has films, and these, one item a pair; an NPZ without a film stays unclaimed."""
    items, claimed = [], set[str]()
    for path, films in _pairs(listing).items():
        used = [path, *films]
        claimed.update(used)
        splits = tuple(part for part in dirname(path).split("/") if part.lower() in _SPLITS)[-1:]
        folders = [part for part in dirname(path).split("/") if part.lower() not in ("npz", "npzs", "arrays", "annotation", "annotations")]
        if len(films) and not _stem_in(path, films):
            folders = folders[:-1]  # the folder is the recording, not the set
        dataset = dataset_from_path(listing.name, "/".join([*folders, "x"]))
        items.append(Item(NAME, listing.root, path, dataset, tuple(listing.files[name] for name in used), splits, 1, {"films": films}))
    return Found(items, frozenset(claimed))


def _stem_in(path: str, films: list[str]) -> bool:
    stem = basename(splitext(path)[0])
    return any(basename(splitext(film)[0]).startswith(stem) for film in films)


def _camera(path: str, film: str, alone: bool) -> str:
    """Return the name of a film's camera: what its name has more than the archive's, "main" where it has nothing more and is the only one."""
    stem, name = basename(splitext(path)[0]), basename(splitext(film)[0])
    rest = name[len(stem) :] if name.startswith(stem) else name
    rest = re.sub(r"[^A-Za-z0-9_-]+", "_", printable(rest)).strip("_-")
    return rest or ("main" if alone else "0")


def _times(found: Mapping[str, Array], frames: int, where: str, problems: list[Problem]) -> tuple[Array | None, bool]:
    """Return the time of each frame out of an array of times, (frames,) int64 ns, and whether they count from 1970."""
    for name in TIMES:
        values = found.get(name)
        if values is None or values.dtype.kind not in "iuf" or values.reshape(-1).shape != (frames,):
            continue
        flat = values.reshape(-1)
        if flat.dtype.kind != "f":
            # Whole numbers do not say their unit: seconds since 1970, or milli-, micro- or nanoseconds of it, are told apart by size; others are not.
            powers = {10: 10**9, 13: 10**6, 16: 10**3, 19: 1}
            factor = powers.get(len(str(abs(int(flat.max())))))
            if factor is None or int(flat.min()) < 0 or int(flat.max()) * factor >= 2**63 or len(str(abs(int(flat.min())))) != len(str(abs(int(flat.max())))):
                problems.append(Problem("odd_times", f"{where}:{name}: whole numbers whose unit is not known; they are kept as numbers", where))
                return None, False
            return flat.astype(np.int64) * factor, True
        if not np.isfinite(flat).all() or (np.abs(flat) > MAX_S).any():
            problems.append(Problem("odd_times", f"{where}:{name}: no times in seconds (not finite, or absurd); they are kept as numbers", where))
            return None, False
        whole = np.floor(flat.astype(np.float64))
        return whole.astype(np.int64) * 10**9 + np.rint((flat.astype(np.float64) - whole) * 1e9).astype(np.int64), bool(flat.min() > EPOCH_S)
    return None, False


def _tasks(values: Array, where: str, problems: list[Problem]) -> dict[str, None]:
    """Return the different texts of an array in their order; those that are too many or too far on are named."""
    flat, found = values.reshape(-1), dict[str, None]()
    for first in range(0, min(len(flat), MAX_TASK_ROWS), TEXT_ROWS):
        for part in dict.fromkeys(flat[first : first + TEXT_ROWS].tolist()):
            text = " ".join((part.decode("utf-8", "backslashreplace") if isinstance(part, bytes) else printable(part)).split())
            if text:
                found.setdefault(text)
            if len(found) > MAX_TASKS:
                problems.append(Problem("too_many_tasks", f"{where}: more than {MAX_TASKS} different texts: the first {MAX_TASKS} are tasks", where))
                return dict.fromkeys(list(found)[:MAX_TASKS])
    if len(flat) > MAX_TASK_ROWS:
        problems.append(Problem("too_many_tasks", f"{where}: {len(flat)} texts: those of the first {MAX_TASK_ROWS} are tasks", where))
    return found


def _column(name: str, values: Array) -> tuple[str, Column, Array | Items]:
    """Return the stream of an array: its name, column and rows."""
    head = re.split(r"[/.]", name)[-1].lower()
    facts: dict[str, Any] = {}
    stream = re.sub(r"[^A-Za-z0-9_.-]+", "_", name.replace("/", "."))[:200] or "array"
    if head in ACTIONS:
        stream, facts = ("action" if name.lower() in ACTIONS else stream), {"meaning": "action", "action_source": "commanded"}
    elif head in STATES:
        stream, facts = ("observation.state" if name.lower() in STATES else stream), {"meaning": "state", "align": "previous"}
    elif head in TIMES:
        facts = {"meaning": "time"}
    extra = {"source": name}
    if values.dtype.kind in "SU":
        texts = [printable(part).encode() if isinstance(part, str) else part for part in values.tolist()]
        facts = {"meaning": "language"} if head in TASKS else {}
        return stream, Column(stream, "text", "string", (), encoding="utf-8", extra=extra, **facts), Items(texts, "utf-8")
    return stream, Column(stream, "numeric", values.dtype.name, values.shape[1:], extra=extra, **facts), values


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one pair.

    Raises:
        BadRecording: the archive or a film cannot be read.
    """
    problems: list[Problem] = []
    with files.open(item.path) as handle:
        found = dict(arrays(handle, item.path, problems))
    videos, films = KeptVideos(files), list(item.extra.get("films", ()))
    indexes: dict[str, tuple[str, FrameIndex]] = {}
    for film in films:
        stream = f"observation.images.{_camera(item.path, film, len(films) == 1)}"
        while stream in indexes:
            stream += "_"
        index = videos.main(film)
        problems += [problem for problem in (repeated_times(stream, index, film), videos.decodes(film, index)) if problem is not None]
        indexes[stream] = film, index
    if not indexes:
        raise BadRecording(item.path, "films of its name", "none", "copy them too", check="missing_video")
    frames = _frames(indexes, found, item.path, problems)
    times_ns, epoch = _times(found, frames, item.path, problems)
    lead = next((index for _, index in indexes.values() if len(index) >= frames), next(iter(indexes.values()))[1])
    rate_hz = constant_rate_hz(lead)
    clock: ClockKind = "measured" if times_ns is not None or rate_hz is None else "nominal"
    row_ns, row_clock = (times_ns, TIME) if times_ns is not None else (lead.pts_ns, FRAME)
    columns: dict[str, Column] = {}
    stream_clocks: dict[str, str] = {}
    starts: list[int] = []
    for stream, (film, index) in indexes.items():
        columns[stream] = frame_column(stream, index, Camera("wrist" if "wrist" in stream else "other"))
        placed = {TIME: times_ns} if times_ns is not None and len(index) == frames else {}
        if times_ns is None or placed:
            stream_clocks[stream] = TIME if placed else "pts"
            starts.append(int((times_ns if placed and times_ns is not None else index.pts_ns).min()))
        yield frame_rows(stream, film, index, clocks=placed)
    left: dict[str, Array] = {}
    tasks: dict[str, None] = {}
    for name, values in found.items():
        rows = len(values) if values.ndim else 0
        if name.lower() in TASKS and values.dtype.kind in "SU" and values.size:
            tasks |= _tasks(values, f"{item.path}:{name}", problems)
            values = values.reshape(-1) if values.size == rows else values
            # One text for the whole recording is said by the tasks; which frame each of several belongs to is not.
            if not frames - 1 <= rows <= frames + 1 or bool((values == values.reshape(-1)[0]).all()):
                continue
        if not (frames - 1 <= rows <= frames + 1 and rows) or values.dtype.kind == "c" or (values.dtype.kind in "SU" and values.ndim > 1):
            if values.nbytes <= SMALL_BYTES:
                left[name] = values
                continue
            if not rows or values.dtype.kind not in "biuf":
                problems.append(Problem("member_not_kept", f"{item.path}:{name}: not kept: {values.dtype} of shape {values.shape}", item.path))
                continue
        stream, column, stored = _column(name, values)
        while stream in columns:
            stream += "_"
        column = replace(column, name=stream)
        clocks: dict[str, Array] = {}
        if rows <= len(row_ns) and frames - 1 <= rows:
            clocks = {row_clock: row_ns[:rows]}
            stream_clocks[stream] = row_clock
            starts.append(int(row_ns[0]))
        else:
            problems.append(
                Problem("rows_without_times", f"{item.path}:{name}: {rows} rows for {frames} frames; nothing says which belong together", item.path)
            )
            column = replace(column, steps=False)
        columns[stream] = column
        yield Rows(stream, stored, clocks)
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=columns,
        clock=clock,
        stream_clocks=stream_clocks,
        start_ns=min(starts, default=0),
        epoch=epoch,
        rate_hz=None if clock == "measured" else rate_hz,
        follow=next((name for name in ("action", "observation.state") if name in stream_clocks), next(iter(stream_clocks), None)),
        tasks=tuple(tasks),
        splits=item.splits,
        embodiment=options.description.get("embodiment"),
        metadata={"format": "npz_mp4", "values": small_values(left)},
        problems=tuple(problems),
    )


def _frames(indexes: Mapping[str, tuple[str, FrameIndex]], found: Mapping[str, Array], where: str, problems: list[Problem]) -> int:
    """Return how many frames the arrays are counted by: those of the films; films that differ from one another or from the states are named."""
    counts = {stream: len(index) for stream, (_, index) in indexes.items()}
    frames = max(counts.values())
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{stream} {count}" for stream, count in counts.items())
        problems.append(Problem("frames_differ", f"{where}: films of differing length: {shown}; frame k of each is taken for row k", where))
    rows = [len(found[name]) for name in found if name.lower() in STATES and found[name].ndim]
    if rows and rows[0] != frames:
        problems.append(Problem("frames_differ", f"{where}: {frames} frames for {rows[0]} rows of states; frame k is taken for row k", where))
    return frames
