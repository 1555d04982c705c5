"""Encoded pictures: decoded to be blurred and encoded again, or freed of what stands beside the picture without touching it."""

from __future__ import annotations

import struct

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import BadRecording
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Buffer
from dataengine.video.container import MAX_PIXELS, MAX_SIDE_PX

DECODED = ("jpeg", "png")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks without which the picture would look otherwise; all others say something beside it. Source: PNG specification, third edition, §11.
_PNG_KEPT = frozenset(
    [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT"]
)
# Application segments of a JPEG that say how to decode it: JFIF, colour profile, Adobe's colour transform. Exif, XMP and IPTC stand in others.
_JPEG_APPS = {0xE0: (b"JFIF\0",), 0xE2: (b"ICC_PROFILE\0",), 0xEE: (b"Adobe",)}


def _broken(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, "it cannot be shown to be free of faces: repair it, or leave the recording out", check="undecodable_picture")


def decode(data: Buffer, where: str) -> tuple[Array, str]:
    """Return the (H, W) or (H, W, C) pixels of a whole JPEG or PNG, in RGB order, and its encoding; raise BadRecording where it is none."""
    import cv2

    header = picture_header(data)
    if header is None or not header.complete:
        raise _broken(where, "a whole JPEG or PNG", "one that is cut off" if header is not None else f"bytes that begin {bytes(data[:8]).hex(' ')}")
    if not (1 <= header.height <= MAX_SIDE_PX and 1 <= header.width <= MAX_SIDE_PX and header.height * header.width <= MAX_PIXELS):
        raise _broken(where, f"a picture of at most {MAX_PIXELS} px", f"{header.width}x{header.height}")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _broken(where, f"a {header.encoding} that decodes", str(error)[:200]) from error
    if pixels is None:
        raise _broken(where, f"a {header.encoding} that decodes", "one that does not")
    return _rgb(pixels), header.encoding


def _rgb(pixels: Array) -> Array:
    """Turn OpenCV's order of colours into RGB(A), or back."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.shape[2] in (3, 4) else list(range(pixels.shape[2]))
    return np.ascontiguousarray(pixels[:, :, order])


def encode(pixels: Array, encoding: str, quality: int, where: str) -> bytes:
    """Return pixels as a JPEG of a quality, or as a PNG; nothing but the picture stands in it."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpeg" else []
    done, data = cv2.imencode(".jpg" if encoding == "jpeg" else ".png", _rgb(pixels), options)
    if not done:
        raise _broken(where, f"a picture that can be encoded as {encoding}", f"{pixels.shape} {pixels.dtype}")
    return bytes(data)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether numbers of a shape are a picture whose channels come first, as learning code keeps them: (1, 3 or 4, H, W)."""
    return len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)


def searchable(pixels: Array) -> Array:
    """Return any picture as (H, W, 3) uint8, for a detector: grey is repeated, other ranges are stretched to 0 .. 255."""
    found = pixels if pixels.ndim == 3 else pixels[:, :, None]
    found = found[:, :, :3] if found.shape[2] >= 3 else found[:, :, :1]
    if found.dtype != np.uint8:
        values = np.nan_to_num(found.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        found = ((values - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(found, 3, axis=2) if found.shape[2] == 1 else found)


def bare(data: Buffer, where: str) -> bytes:
    """Return a JPEG or PNG without what stands beside its picture (Exif, XMP, IPTC, comments, texts, anything behind its end); its picture data stay the same bytes.

    Raises:
        BadRecording: its parts cannot be told apart.
    """
    whole = bytes(data)
    if whole[:2] == b"\xff\xd8":
        return _bare_jpeg(whole, where)
    if whole[:8] == _PNG_SIGNATURE:
        return _bare_png(whole, where)
    raise _unreadable(where, f"bytes that begin {whole[:8].hex(' ')}")


def _unreadable(where: str, found: str) -> BadRecording:
    return BadRecording(where, "a JPEG or PNG whose parts can be told apart", found, "repair it, or leave the recording out", check="undecodable_picture")


def _bare_png(data: bytes, where: str) -> bytes:
    at, kept = 8, [data[:8]]
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            break
        if kind in _PNG_KEPT:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise _unreadable(where, "a PNG that is cut off")


def _scan_end(data: bytes, at: int) -> int:
    """Return where the next marker stands that ends a scan's entropy-coded bytes, -1 where none does."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            return -1
        following = data[at + 1]
        if following == 0xFF:
            at += 1
        elif following == 0 or 0xD0 <= following <= 0xD7:
            at += 2
        else:
            return at


def _bare_jpeg(data: bytes, where: str) -> bytes:
    """Source: ITU-T T.81 annex B (markers and segments)."""
    at, kept = 2, [data[:2]]
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise _unreadable(where, f"no marker at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            kept.append(data[at : at + 2])
            return b"".join(kept)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            kept.append(data[at : at + 2])
            at += 2
            continue
        if at + 4 > len(data):
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            break
        beside = marker == 0xFE or 0xE0 <= marker <= 0xEF
        if not beside or (marker in _JPEG_APPS and data[at + 4 : end].startswith(_JPEG_APPS[marker])):
            kept.append(_without_thumbnail(data[at:end]) if marker == 0xE0 else data[at:end])
        at = end
        if marker == 0xDA:
            after = _scan_end(data, at)
            if after < 0:
                break
            kept.append(data[at:after])
            at = after
    raise _unreadable(where, "a JPEG that is cut off")


def _without_thumbnail(segment: bytes) -> bytes:
    """Return a JFIF segment without the small picture that it may hold (three bytes a px behind its 16 fixed ones)."""
    if len(segment) <= 18:
        return segment
    return segment[:2] + (16).to_bytes(2, "big") + segment[4:16] + b"\0\0"
