"""The pictures of a stored camera in the order in which steps see them, one after the other: for episodes of any length, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording, StoreError
from dataengine.core.objects import Objects
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Buffer
from dataengine.store.array_reader import ArrayReader
from dataengine.store.damage import naming_damage
from dataengine.store.media import read_index
from dataengine.store.pixels import decode_picture
from dataengine.store.row import Row
from dataengine.store.stored_streams import StoredItems, array_key, media_of, read_items

if TYPE_CHECKING:
    from dataengine.video.decode import FrameReader

BLOCK_BYTES = 16 << 20
GREY = frozenset(["gray", "gray10le", "gray12le", "gray14le", "gray16le"])


def _runs(frames: Array) -> list[Array]:
    """Cut row numbers into runs that do not fall: each run is one pass over the stream."""
    return [run for run in np.split(frames, np.flatnonzero(np.diff(frames) < 0) + 1) if len(run)]


def decode_item(data: Buffer, where: str) -> Array:
    """Decode an encoded picture as it is: (H, W, 3) RGB, or (H, W) of one channel; raise BadRecording where it cannot be decoded."""
    header = picture_header(data)
    try:
        picture = decode_picture(data, where)
    except StoreError as error:
        raise BadRecording(
            where, "a picture", f"{len(data)} bytes that cannot be decoded ({error})", "leave the episode out", check="unreadable_frames"
        ) from error
    one_channel = header is not None and header.channels == 1 and picture.ndim == 3
    return np.ascontiguousarray(picture[:, :, 0]) if one_channel else picture


def encoded_pictures(objects: Objects, row: Row, entry: Row, frames: Array) -> Iterator[tuple[bytes, str]]:
    """Yield (bytes, encoding) of the encoded pictures of `frames`, in their order, as they are stored.

    Args:
        objects: the store's root.
        row: the episode's row in the catalog.
        entry: the stream's row in the shard's index; of kind "items".
        frames: (n,) row numbers, counted from the episode's first; while they do not fall, neighbours are fetched together.
    """
    items = read_items(objects, array_key(row, entry), entry)
    assert isinstance(items.data, StoredItems)
    for run in _runs(frames):
        for number, data in zip(run.tolist(), items.data.of(run), strict=True):
            yield data, items.encoding(number)


def _items(objects: Objects, row: Row, entry: Row, wanted: Array) -> Iterator[Array]:
    where = f"{row['episode_id']}: {entry['stream']}"
    for number, (data, _) in zip(wanted.tolist(), encoded_pictures(objects, row, entry, wanted), strict=True):
        yield decode_item(data, f"{where} frame {number}")


def _array(objects: Objects, row: Row, entry: Row, wanted: Array) -> Iterator[Array]:
    values = ArrayReader(objects, f"{array_key(row, entry)}/values")
    start = int(entry["row_start"])
    rows = max(1, BLOCK_BYTES // max(1, int(np.prod(values.shape[1:], dtype=np.int64)) * values.dtype.itemsize))
    at = 0
    while at < len(wanted):
        first = int(wanted[at])
        stop = int(np.searchsorted(wanted, first + rows))
        block = values.rows(start + first, start + int(wanted[stop - 1]) + 1)
        for number in wanted[at:stop].tolist():
            yield block[number - first]
        at = stop


STILLS = {"items": _items, "array": _array}  # by kind of stream; all others are frames of a video


def is_video(entry: Row) -> bool:
    """Whether a stream's pictures are frames of a video."""
    return str(entry["kind"]) not in STILLS


def frame_reader(objects: Objects, row: Row, entry: Row, where: str = "") -> tuple[FrameReader, bool]:
    """Return a reader of the video that a stream's frames are in, all of it, and whether it is grey; close it after use.

    Args:
        objects: the store's root.
        row: the episode's row in the catalog.
        entry: the stream's row in the shard's index; its pictures are frames of a video.
        where: what to call it in messages; by default by the episode and the stream.
    """
    from dataengine.video.decode import FrameReader
    from dataengine.video.index import FrameIndex

    media = media_of(row, entry)
    columns, facts = read_index(objects, media, int(entry["track"]))
    local = objects.local(media)
    with naming_damage(objects, media, "a video file as its index describes it"):
        file = str(local) if local is not None else objects.open(media)
        return FrameReader(file, FrameIndex.from_columns(columns, facts), where or f"{row['episode_id']}: {entry['stream']}"), str(facts["pix_fmt"]) in GREY


def _video(objects: Objects, row: Row, entry: Row, wanted: Array, film: tuple[FrameReader, bool] | None) -> Iterator[Array]:
    reader, grey = film or frame_reader(objects, row, entry)
    with reader if film is None else contextlib.nullcontext():
        for _, picture in reader.each(wanted + int(entry["first_frame"]), grey=grey):
            yield picture


def pictures(objects: Objects, row: Row, entry: Row, frames: Array, film: tuple[FrameReader, bool] | None = None) -> Iterator[Array]:
    """Yield the picture of each of `frames`, in their order: the very array again where a number stands twice in a row.

    Whatever the form they are stored in, pictures are (H, W, 3) RGB, or what they were where they have other channels or types: (H, W) of one channel.
    While `frames` do not fall, each picture is decoded once, and a video is read in one pass.

    Args:
        objects: the store's root.
        row: the episode's row in the catalog.
        entry: the stream's row in the shard's index.
        frames: (n,) int64 row numbers, counted from the episode's first.
        film: the video that the frames are in, where it is open already; it stays open.

    Raises:
        BadRecording: a picture is not there or cannot be decoded.
    """
    count = int(entry["row_end"]) - int(entry["row_start"])
    if len(frames) and not 0 <= int(frames.min()) <= int(frames.max()) < count:
        found = f"frames {int(frames.min())} to {int(frames.max())}"
        raise BadRecording(f"{row['episode_id']}: {entry['stream']}", f"frames 0 to {count - 1}", found, "restore the store from a copy", check="no_such_row")
    read = STILLS.get(str(entry["kind"])) or partial(_video, film=film)
    for run in _runs(frames):
        wanted, times = np.unique(run, return_counts=True)
        for picture, repeated in zip(read(objects, row, entry, wanted), times.tolist(), strict=True):
            for _ in range(repeated):
                yield picture
