"""Video files that are kept as they came: the file's own bytes, once, under their digest, and the index of their frames."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
from dataengine.store.arrow_numpy import plain
from dataengine.store.damage import naming_damage
from dataengine.store.parquet import table_of
from dataengine.store.removed import purged_media

COPY_BYTES = 2 << 20
COPY_BUFFERS = 4
FLUSH_BYTES = 32 << 20  # a smaller file is flushed once, when it gets its name


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
    # Where the store is a folder the copy is made in it: a scratch folder may lie on another disk, and everything would be written twice.
    folder = objects.local(layout.MEDIA) or scratch
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".media.{uuid.uuid4().hex}.tmp"
    try:
        with open_slice(files, path, span) as source:
            digest, size = digested_copy(source, staged)
        if size == 0:
            raise BadRecording(path, "a video file", "0 bytes", "record it again", check="empty_file")
        key = layout.media_key(digest, extension)
        if objects.head(key) is not None:
            return KeptFile(key, digest, size, False)
        if key in purged_media(objects):
            raise BadRecording(path, "a recording that may be kept", "a video whose content was purged from this store", "leave it out", check="purged")
        objects.upload(staged, key)
        return KeptFile(key, digest, size, True)
    finally:
        staged.unlink(missing_ok=True)


def digested_copy(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy a file and return the digest of its bytes, and how many they are.

    One thread reads and digests, one writes, one pushes what is written to the disk: none of them waits for the others but for a free buffer.
    """
    running, size = new_digest(), 0
    buffers = [bytearray(COPY_BYTES) for _ in range(COPY_BUFFERS)]
    free: list[Future[int] | None] = [None] * COPY_BUFFERS
    with open(target, "wb", buffering=0) as into, ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as flusher:
        flushed = flusher.submit(int)
        turn = 0
        while True:
            waiting = free[turn]
            if waiting is not None:
                waiting.result()
            view = memoryview(buffers[turn])
            count = _fill(source, view)
            if not count:
                break
            free[turn] = writer.submit(_write, into, view[:count])
            running.update(view[:count])
            size += count
            if size >= FLUSH_BYTES and flushed.done():
                flushed = flusher.submit(_flush, into)
            turn = (turn + 1) % COPY_BUFFERS
        for pending in free:
            if pending is not None:
                pending.result()
        flushed.result()
    return str(running.hexdigest(length=16)), size


def _write(target: io.FileIO, data: memoryview) -> int:
    written = 0
    while written < len(data):
        written += target.write(data[written:])
    return written


def _flush(target: io.FileIO) -> int:
    os.fsync(target.fileno())
    return 0


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
        columns = {name: plain(table[name].combine_chunks()) for name in table.column_names}
        here = columns["track"] == track
        return {name: values if here.all() else values[here] for name, values in columns.items() if name not in ("track", "frame")}, dict(facts)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself, to the disk."""
    for top, _, names in os.walk(folder):
        for name in (*names, "."):
            handle = os.open(os.path.join(top, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
