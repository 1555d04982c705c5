"""What is wrong with a dataset beyond single episodes: columns that were not declared, parts that are listed and absent, totals that do not add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem, Severity
from dataengine.core.protocols import Item, Opener
from dataengine.sources.lerobot.columns import BOOKKEEPING
from dataengine.sources.lerobot.dataset import Dataset
from dataengine.sources.lerobot.episode import PlannedColumn
from dataengine.sources.lerobot.metadata import MAX_TENSOR_BYTES, tensors
from dataengine.sources.lerobot.paths import table_name
from dataengine.sources.lerobot.tables import Tables


def problem(check: str, where: str, expected: str, found: str, advice: str = "", severity: Severity = "warning") -> Problem:
    """Return a problem with the message that its parts make."""
    message = f"{where}: expected {expected}, found {found}" + (f"; {advice}" if advice else "")
    return Problem(check, message, where, severity, expected, found, advice)


def some(things: Sequence[object], most: int = 5) -> str:
    """Return the first of some things as text, and how many more there are."""
    listed = ", ".join(str(thing) for thing in things[:most])
    return (f"{listed} and {len(things) - most} more" if len(things) > most else listed)[:400]


def table_problems(dataset: Dataset, plan: Sequence[PlannedColumn], tables: Tables, where: str) -> Iterator[Problem]:
    """Yield how the columns of a table differ from what is declared."""
    features = dataset.info.features
    if not features:
        return
    present = {planned.key for planned in plan}
    beside = [key for key in present - features.keys() if key not in {*BOOKKEEPING, "task_index"}]
    if beside:
        yield problem("undeclared_column", where, "the columns that info.json declares", f"{some(sorted(beside))} too", "they are kept", "info")
    absent = [key for key, feature in features.items() if key not in present and not feature.is_video]
    if absent:
        yield problem("missing_feature", where, f"columns {some(absent)}, as info.json declares", "none", "they are null in these episodes")
    for planned in plan:
        feature = planned.feature
        if feature is None or planned.cell.form != "numbers" or feature.is_picture:
            continue
        if feature.dtype and feature.dtype != planned.cell.dtype:
            yield problem("dtype_differs", where, f"{feature.dtype} in {planned.key!r}, as declared", planned.cell.dtype, "it is kept as it is", "info")
        sizes = planned.cell.sizes
        if feature.shape is not None and sizes and None not in sizes and feature.shape != sizes:
            yield problem("shape_differs", where, f"rows of shape {list(feature.shape)} in {planned.key!r}, as declared", str(list(sizes)))


def whole_problems(dataset: Dataset, item: Item) -> Iterator[Problem]:
    """Yield what is absent of a dataset of many episodes a file (v3): told once, by its first item."""
    table, info_path, root = dataset.table, item.extra.get("info") or item.path, dataset.root
    if table is None:
        return
    listed = table.indexes
    total = dataset.info.totals.get("total_episodes")
    if total is not None and total != len(listed):
        yield problem("wrong_totals", info_path, f"total_episodes {len(listed)}, as the episodes' table lists", str(total))
    lengths = table.column("length")
    frames = dataset.info.totals.get("total_frames")
    if lengths is not None and frames is not None and int(np.nansum(lengths)) != frames:
        yield problem("wrong_totals", info_path, f"total_frames {int(np.nansum(lengths))}, as the episodes' lengths add up to", str(frames))
    present = {name.file for path in item.extra.get("data_files", ()) if (name := table_name(path)).file is not None}
    chunks, numbers = table.column("data/chunk_index"), table.column("data/file_index")
    indexes = table.column("episode_index")
    if present and chunks is not None and numbers is not None and indexes is not None:
        lost = [
            int(index)
            for index, chunk, number in zip(indexes, chunks, numbers, strict=True)
            if np.isfinite(chunk + number) and (int(chunk), int(number)) not in present
        ]
        if lost:
            yield problem(
                "missing_episodes",
                root or item.path,
                f"the data files of all {len(listed)} episodes",
                f"none of {len(lost)} of them: {some(lost)}",
                "copy them",
            )
    yield from _video_problems(dataset, item)


def _video_problems(dataset: Dataset, item: Item) -> Iterator[Problem]:
    """Yield videos that no episode refers to, and ranges that overlap."""
    table = dataset.table
    assert table is not None
    for camera in sorted(dataset.videos.cameras):
        at = f"videos/{camera}/"
        columns = [table.column(at + name) for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
        if any(column is None for column in columns):
            continue
        chunks, numbers, starts, ends = (column for column in columns if column is not None)
        sound = np.isfinite(chunks) & np.isfinite(numbers) & np.isfinite(starts) & np.isfinite(ends)
        files = set(zip(chunks[sound].astype(np.int64).tolist(), numbers[sound].astype(np.int64).tolist(), strict=True))
        idle = sorted(path for (name, *place), path in dataset.videos.by_file.items() if name == camera and tuple(place) not in files)
        if idle:
            yield problem(
                "video_without_episode", idle[0], f"an episode that refers to each video of {camera!r}", f"none for {some(idle, 3)}", "these are not kept"
            )
        if not sound.any():
            continue
        order = np.lexsort((starts[sound], numbers[sound], chunks[sound]))
        same = (np.diff(chunks[sound][order]) == 0) & (np.diff(numbers[sound][order]) == 0)
        half_s = 0.5 / dataset.info.fps if dataset.info.fps else 0.01
        overlap = int(np.count_nonzero(same & (starts[sound][order][1:] < ends[sound][order][:-1] - half_s)))
        if overlap:
            yield problem(
                "video_ranges_overlap", item.path, f"ranges of {camera!r} one after the other in each file", f"{overlap} that begin before the last ends"
            )


def index_problems(dataset: Dataset, item: Item, files: Opener, spans: Mapping[int, tuple[int, int]]) -> Iterator[Problem]:
    """Yield how the rows of a v1 table differ from its episode index (a safetensors file)."""
    path = item.extra.get("episode_index")
    if not path:
        return
    try:
        found = tensors(files.read_bytes(path, MAX_TENSOR_BYTES), path)
    except BadRecording as error:
        yield Problem(error.check, str(error), path, "warning", error.expected, error.found, error.advice)
        return
    starts, ends = found.get("from"), found.get("to")
    if starts is None or ends is None or len(starts) != len(ends):
        yield problem("unreadable_metadata", path, "tensors from and to of one length", ", ".join(sorted(found))[:200] or "none")
        return
    absent = [number for number in range(len(starts)) if number not in spans]
    if absent:
        yield problem("missing_episodes", item.path, f"{len(starts)} episodes as {path} lists", f"none of {len(absent)} of them: {some(absent)}", "copy them")
    wrong = [number for number, span in spans.items() if 0 <= number < len(starts) and (int(starts[number]), int(ends[number])) != span]
    if wrong:
        said, span = (int(starts[wrong[0]]), int(ends[wrong[0]])), spans[wrong[0]]
        yield problem(
            "episode_index_differs", path, f"rows {span[0]} to {span[1]} of episode {wrong[0]}, as the table has", f"{said[0]} to {said[1]}", "the table counts"
        )
