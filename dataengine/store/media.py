"""Video files that are kept as they came: the file's own bytes, once, under their digest, and the index of their frames."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.digest import new_digest
from dataengine.core.errors import BadRecording
from dataengine.core.objects import Objects
from dataengine.core.protocols import Opener
from dataengine.core.slices import open_slice
from dataengine.store import layout
from dataengine.store.damage import naming_damage
from dataengine.store.parquet import table_of
from dataengine.store.removed import purged_media

COPY_BYTES = 4 << 20


@dataclass(frozen=True)
class KeptFile:
    """A media file in the store: its key, digest and bytes, and whether this call wrote it."""

    key: str
    digest: str
    size: int
    written: bool


def put_media(objects: Objects, files: Opener, path: str, extension: str, scratch: Path, span: tuple[int, int] | None = None) -> KeptFile:
    """Copy a source's file, or a part of it, into the store under the digest of its bytes, reading it once.

    Raises:
        BadRecording: the file is empty or cannot be read to its end.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    staged = scratch / f"media-{uuid.uuid4().hex}.tmp"
    running, size = new_digest(), 0
    try:
        with open_slice(files, path, span) as source, open(staged, "wb", buffering=0) as target:
            buffer = bytearray(COPY_BYTES)
            view = memoryview(buffer)
            while count := _fill(source, view):
                running.update(view[:count])
                target.write(view[:count])
                size += count
        if size == 0:
            raise BadRecording(path, "a video file", "0 bytes", "record it again", check="empty_file")
        digest = running.hexdigest(length=16)
        key = layout.media_key(digest, extension)
        if objects.head(key) is not None:
            return KeptFile(key, digest, size, False)
        if key in purged_media(objects):
            raise BadRecording(path, "a recording that may be kept", "a video whose content was purged from this store", "leave it out", check="purged")
        objects.upload(staged, key)
        return KeptFile(key, digest, size, True)
    finally:
        staged.unlink(missing_ok=True)


def _fill(source: BinaryIO, view: memoryview) -> int:
    """Read until the view is full or the source ends; return the bytes read."""
    readinto = getattr(source, "readinto", None)
    filled = 0
    while filled < len(view):
        if readinto is not None:
            count = readinto(view[filled:])
        else:
            data = source.read(len(view) - filled)
            count = len(data)
            view[filled : filled + count] = data
        if not count:
            break
        filled += count
    return filled


def index_bytes(tracks: Mapping[int, Mapping[str, Array]], facts: Mapping[str, Any]) -> bytes:
    """Return a frame index as Parquet: the rows of all tracks, in presentation order within each."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    from dataengine.schema.arrow import media_index_schema

    schema = media_index_schema()
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for track, index in sorted(tracks.items()):
        count = len(next(iter(index.values())))
        for name in schema.names:
            if name == "track":
                columns[name].append(np.full(count, track, dtype=np.int64))
            elif name == "frame":
                columns[name].append(np.arange(count, dtype=np.int64))
            elif name in index:
                columns[name].append(np.asarray(index[name]))
            else:
                columns[name].append(np.full(count, -1, dtype=np.int64))
    table = pa.table([pa.array(np.concatenate(parts) if parts else [], type=schema.field(name).type) for name, parts in columns.items()], schema=schema)
    table = table.replace_schema_metadata({"dataengine": json.dumps(dict(facts), default=str)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def read_index(objects: Objects, media: str, track: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the frame index of one track of a video file: its columns, and its facts; raise CorruptStore where there is none."""
    import json

    key = layout.media_index_key(media)
    with naming_damage(objects, key, f"the frames of track {track}"):
        table = table_of(objects.get(key), checksums=True)
        facts = json.loads((table.schema.metadata or {})[b"dataengine"])[str(track)]
        kept = table.filter(np.asarray(table["track"]) == track)
        return {name: kept[name].to_numpy(zero_copy_only=False) for name in kept.column_names if name not in ("track", "frame")}, dict(facts)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself, to the disk."""
    for top, _, names in os.walk(folder):
        for name in (*names, "."):
            handle = os.open(os.path.join(top, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
