"""Pictures of a stored camera, decoded, whatever form they are stored in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import StoreError, UsageError
from dataengine.core.objects import Objects
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Buffer
from dataengine.store.array_reader import ArrayReader
from dataengine.store.damage import naming_damage
from dataengine.store.media import read_index
from dataengine.store.row import Row
from dataengine.store.stored_streams import array_key, media_of, read_items
from dataengine.video.container import MAX_PIXELS


def decode_picture(data: Buffer, where: str) -> Array:
    """Decode one JPEG, PNG or JPEG XL to (H, W, 3) uint8 RGB, or as it is where it has 16 bits.

    Raises:
        StoreError: it cannot be decoded.
        UsageError: it is JPEG XL, and the library that decodes it is not installed.
    """
    import cv2

    header = picture_header(data)
    if header is not None and header.height * header.width > MAX_PIXELS:
        raise StoreError(f"{where}: expected a picture of at most {MAX_PIXELS} px, found {header.width} x {header.height}; leave this frame out")
    if header is not None and header.encoding == "jxl":
        return _decode_jxl(data, where)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if len(data) else None
    except cv2.error:
        picture = None
    if picture is None:
        raise StoreError(f"{where}: expected a picture, found {len(data)} bytes that cannot be decoded; leave this frame out")
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)) if picture.dtype == np.uint8 else np.asarray(picture)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGB if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB))


def _decode_jxl(data: Buffer, where: str) -> Array:
    """Decode one JPEG XL picture whose size was checked; grey becomes RGB, an alpha channel is left out."""
    try:
        from imagecodecs import JpegxlError, jpegxl_decode
    except ImportError:
        raise UsageError(f"{where}: JPEG XL pictures are decoded by imagecodecs, which is not installed: pip install 'robot-dataengine[umi]'") from None
    try:
        picture = np.asarray(jpegxl_decode(bytes(data), numthreads=1))
    except (JpegxlError, ValueError, RuntimeError) as error:
        raise StoreError(f"{where}: expected a picture, found {len(data)} bytes that cannot be decoded ({error}); leave this frame out") from error
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3:
        raise StoreError(f"{where}: expected one picture, found {list(picture.shape)}; leave this frame out")
    if picture.dtype == np.uint8 and picture.shape[2] in (1, 2):
        return np.repeat(picture[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(picture[:, :, :3]) if picture.shape[2] > 3 else picture


def decode_frames(objects: Objects, row: Row, entry: Row, frames: Sequence[int]) -> Array:
    """Return frames of a stored camera by number within the episode, (n, H, W, 3) uint8 RGB; depth and masks keep their dtype.

    Raises:
        StoreError: a frame is not there, cannot be decoded, or has another size than the first.
    """
    where = f"{row['episode_id']}: {entry['stream']}"
    count = int(entry["row_end"]) - int(entry["row_start"])
    outside = [frame for frame in frames if not 0 <= frame < count]
    if outside:
        raise StoreError(f"{where}: frame {outside[0]} of {count}; ask for 0 to {count - 1}")
    key = array_key(row, entry)
    if entry["kind"] == "items":
        data = read_items(objects, key, entry).data
        pictures = [decode_picture(data[frame], f"{where} frame {frame}") for frame in frames]
        sizes = {picture.shape for picture in pictures}
        if len(sizes) > 1:
            raise StoreError(f"{where}: the frames differ in size ({', '.join(map(str, sorted(sizes)))}); ask for them one by one")
        return np.stack(pictures) if pictures else np.zeros((0, 0, 0, 3), np.uint8)
    if entry["kind"] == "array":
        values = ArrayReader(objects, f"{key}/values")
        start = int(entry["row_start"])
        return np.concatenate([values.rows(start, start), *(values.rows(start + frame, start + frame + 1) for frame in frames)])
    from dataengine.video.decode import FrameReader
    from dataengine.video.index import FrameIndex

    media = media_of(row, entry)
    columns, facts = read_index(objects, media, int(entry["track"]))
    local = objects.local(media)
    first = int(entry["first_frame"])
    with naming_damage(objects, media, "a video file as its index describes it"):
        reader = FrameReader(str(local) if local is not None else objects.open(media), FrameIndex.from_columns(columns, facts), where)
    with reader:
        return reader.read([first + frame for frame in frames])
