"""WebDataset: a dataset of a version as tar archives of samples, and `index.json`, which says what is in them.

`<dataset>-000000.tar`, ... hold samples `<episode>_<step>.<name>.<ending>` in order of their keys, one a step: for each camera a `.jpg` (`.png` or `.npy` where
the pictures are no 8-bit colours: depth, masks), for each column of numbers a `.npy`, and a `.json` with the task, the episode and where its actions come from.
By clip a sample holds up to 100 steps: `.mp4` for each camera, frame i for step i of the clip, and arrays (T, ...); where not every step has a value,
`<name>.valid.npy` (T,) says which have.

The same version gives the same bytes. Everything is written into a folder beside the target and renamed at the end: a folder that has its name is whole.
Source of the format: https://github.com/webdataset/webdataset (the key is what stands before the first dot).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataengine.core.errors import BadRecording, CorruptStore, UnknownName, UsageError
from dataengine.core.objects import fsync_path, is_remote
from dataengine.publish.episode_samples import EpisodeSamples, Features, SampleForm, exported
from dataengine.publish.tar_shards import TarShards
from dataengine.schema.column_json import column_to_json
from dataengine.store.media import fsync_tree
from dataengine.store.query import where
from dataengine.store.removed import PURGED, purged_episodes
from dataengine.store.row import Row
from dataengine.store.store import Store, require_store
from dataengine.version import __version__

INDEX = "index.json"
PARTIAL = ".partial-"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WebDatasetExport:
    """What a user asks for: the dataset, which of its episodes, how steps become samples, and how large an archive may be."""

    dataset: str
    form: SampleForm = field(default_factory=SampleForm)
    where: str | None = None
    shard_bytes: int = 256 << 20


def _episodes(store: Store, export: WebDatasetExport) -> list[Row]:
    import polars as pl

    there = store.datasets()
    if export.dataset not in there:
        raise UnknownName("dataset", export.dataset, there)
    frame = where(store.episodes().filter(pl.col("dataset") == export.dataset), export.where)
    purged = purged_episodes(store.objects)
    rows = frame.sort("episode_id").collect().to_dicts()
    rows = [row for row in rows if row["episode_id"] not in purged and PURGED not in (row["flags"] or ())]
    if not rows:
        raise UsageError(
            f"{store.objects.url}: expected episodes of dataset {export.dataset!r}, found none" + (f" for which {export.where!r} holds" if export.where else "")
        )
    return rows


def _require_free(target: Path) -> None:
    if (target / INDEX).exists():
        raise UsageError(f"{target}: holds an export already; choose another folder, or remove this one")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: must be a new or an empty folder, but holds other files; choose another")


def _partial(target: Path) -> Path:
    """Make the folder that an export is written into, and remove those of exports on this machine that died."""
    import psutil

    target.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    prefix = f".{target.name}{PARTIAL}{host}-"
    for left in target.parent.glob(f".{target.name}{PARTIAL}*"):
        number = left.name.removeprefix(prefix)
        if number.isdigit() and int(number) != os.getpid() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left)
    folder = target.parent / f"{prefix}{os.getpid()}"
    folder.mkdir()
    return folder


def export_webdataset(store: Store, folder: str, export: WebDatasetExport, progress: Progress) -> dict[str, Any]:
    """Write a dataset of a version as WebDataset archives; return the content of `index.json`.

    Args:
        store: the version.
        folder: where to; a new or an empty folder of this machine.
        export: what, and how.
        progress: is told (message, episodes done, episodes).

    Raises:
        UsageError: the folder holds something already, or there is nothing to export.
        BadRecording: an episode cannot be read; nothing is left of the export.
    """
    if is_remote(folder):
        raise UsageError(f"{folder}: archives are written to a folder of this machine; copy them from there")
    if store.version is None:
        raise UsageError(f"{store.objects.url}: an export is of a version; " + ("name one, and not 'open'" if store.open else "this store has none yet"))
    target = Path(folder).absolute()
    _require_free(target)
    rows = _episodes(store, export)
    partial = _partial(target)
    try:
        document = _write(store, rows, partial, export, progress)
        (partial / INDEX).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        fsync_tree(partial)
        try:
            os.rename(partial, target)
        except OSError:
            raise UsageError(f"{target}: was filled by somebody else meanwhile; choose another folder") from None
        fsync_path(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return document


def _write(store: Store, rows: list[Row], folder: Path, export: WebDatasetExport, progress: Progress) -> dict[str, Any]:
    shards, features = TarShards(folder, export.dataset, export.shard_bytes), Features()
    try:
        for done, row in enumerate(rows):
            progress(f"episode {row['episode_id'][:12]}", done, len(rows))
            try:
                for key, members in EpisodeSamples(store, row, export.form, features).samples():
                    shards.add(key, members)
            except (CorruptStore, FileNotFoundError) as error:
                where_ = f"{store.objects.url}: episode {row['episode_id']}"
                raise BadRecording(where_, "an episode that can be read", str(error), "leave it out with --where, or restore the store") from error
    finally:
        shards.close()
    progress("episodes", len(rows), len(rows))
    assert store.version is not None
    size = export.form.size
    return {
        "format": "webdataset",
        "made_by": f"dataengine {__version__}",
        "dataset": export.dataset,
        "by": export.form.by,
        "clip_steps": export.form.clip_steps if export.form.by == "clip" else None,
        "size": None if size is None else {"height_px": size.height, "width_px": size.width, "fit": size.fit},
        "jpeg_quality": export.form.quality,
        "from": {"store_id": require_store(store.objects)["store_id"], "version": store.version.number, "where": export.where},
        "episodes": len(rows),
        "samples": sum(shard.samples for shard in shards.shards),
        "bytes": sum(shard.bytes for shard in shards.shards),
        "shards": [shard.as_dict() for shard in shards.shards],
        "features": [{"member": features.members[name]} | column_to_json(exported(column, size)) for name, column in sorted(features.columns.items())],
        "left_out": sorted(features.left_out),
    }
