"""Pictures inside messages: taken out of the payload so that their bytes are stored once, and put back byte for byte.

A message whose picture was taken out keeps the rest of its payload under an encoding that says so: "<encoding>/spliced-<t>" for an encoded picture,
"<encoding>/base64-<t>" for one that the message held as base64, and "<encoding>/pixels-<t>" for raw pixels, where t bytes of the rest belong after the
picture. The k-th such message of a message stream belongs to the k-th row of the picture stream. Every other message is whole.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.pictures import picture_header
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import MessageSchema

# Each length is an encoding of its own, and a stream has few.
MAX_TAIL = 127
MAX_SIDE = 1 << 15

_TAKEN_OUT = re.compile(r"(?P<encoding>.*)/(?P<kind>spliced|base64|pixels)-(?P<tail>\d{1,3})", re.DOTALL)

# Message name -> what its field `data` holds.
PICTURE_MESSAGES: Mapping[str, Literal["encoded", "raw"]] = {
    "sensor_msgs/CompressedImage": "encoded",
    "foxglove_msgs/CompressedImage": "encoded",
    "foxglove/CompressedImage": "encoded",
    "sensor_msgs/Image": "raw",
    "foxglove_msgs/RawImage": "raw",
    "foxglove/RawImage": "raw",
}

# The PNG of a compressed depth picture follows 12 bytes of quantisation parameters (image_transport_plugins, compressed_depth).
DEPTH_HEADER_BYTES = 12


@dataclass(frozen=True)
class PixelFormat:
    """How a raw picture's bytes read: dtype and channels of a pixel, the order in which they give RGB(A), whether they are depth."""

    dtype: str
    channels: int
    order: tuple[int, ...] | None = None
    depth: bool = False


# Source: sensor_msgs/image_encodings.h. Bayer patterns, YUV and the like stay messages.
PIXEL_FORMATS: Mapping[str, PixelFormat] = {
    "rgb8": PixelFormat("uint8", 3),
    "bgr8": PixelFormat("uint8", 3, (2, 1, 0)),
    "rgba8": PixelFormat("uint8", 4),
    "bgra8": PixelFormat("uint8", 4, (2, 1, 0, 3)),
    "mono8": PixelFormat("uint8", 1),
    "8UC1": PixelFormat("uint8", 1),
    "8UC3": PixelFormat("uint8", 3, (2, 1, 0)),
    "mono16": PixelFormat("uint16", 1, depth=True),
    "16UC1": PixelFormat("uint16", 1, depth=True),
    "32FC1": PixelFormat("float32", 1, depth=True),
}


def picture_kind(schema: MessageSchema) -> Literal["encoded", "raw"] | None:
    """Return what pictures messages of a schema hold, None for none."""
    return PICTURE_MESSAGES.get(schema.message_name)


def take_out(payload: Buffer, start: int, end: int, encoding: str, kind: Literal["spliced", "base64", "pixels"]) -> tuple[bytes, str] | None:
    """Return a payload without the bytes [start, end) and its encoding; None where too much follows the picture."""
    tail = len(payload) - end
    if tail > MAX_TAIL:
        return None
    rest = bytes(payload[:start]) + bytes(payload[end:])
    return rest, f"{encoding}/{kind}-{tail}"


def is_taken_out(encoding: str) -> bool:
    """Whether a message under this encoding has its picture in another stream."""
    return _TAKEN_OUT.fullmatch(encoding) is not None


def reassemble(rest: Buffer, encoding: str, picture: Buffer) -> tuple[bytes, str]:
    """Put a picture's bytes back into the message they were taken from: return the payload as recorded and its encoding.

    For raw pictures `picture` is what `pixel_bytes` gives; it is the recorded one where the frames were stored lossless.
    """
    match = _TAKEN_OUT.fullmatch(encoding)
    if match is None:
        return bytes(rest), encoding
    at = len(rest) - int(match["tail"])
    held = base64.b64encode(picture) if match["kind"] == "base64" else bytes(picture)
    return bytes(rest[:at]) + held + bytes(rest[at:]), match["encoding"]


def from_base64(text: Buffer) -> bytes | None:
    """Return the bytes that a text holds in base64, None where they would not come out as the same text again."""
    try:
        data = base64.b64decode(bytes(text), validate=True)
    except binascii.Error:
        return None
    return data if base64.b64encode(data) == text else None


@dataclass(frozen=True)
class RawPicture:
    """The header of a raw picture message: sizes in px, `step` bytes a row."""

    height: int
    width: int
    encoding: str
    big_endian: bool
    step: int

    def format(self) -> PixelFormat | None:
        """Return how its bytes read, None for an encoding that stays a message or sizes that make no sense."""
        found = PIXEL_FORMATS.get(self.encoding)
        if found is None or not (0 < self.height <= MAX_SIDE and 0 < self.width <= MAX_SIDE):
            return None
        return found if self.step >= self.width * found.channels * np.dtype(found.dtype).itemsize else None


def pixels_of(header: RawPicture, data: Buffer) -> Array | None:
    """Return the (H, W) or (H, W, C) pixels in RGB order, None where the bytes are not such a picture or hold more than its pixels."""
    found = header.format()
    if found is None or len(data) != header.height * header.step:
        return None
    used = header.width * found.channels * np.dtype(found.dtype).itemsize
    rows = np.frombuffer(data, dtype=np.uint8).reshape(header.height, header.step)
    if header.step > used and rows[:, used:].any():
        return None
    stored = np.dtype(found.dtype).newbyteorder(">" if header.big_endian else "<")
    pixels = np.ascontiguousarray(rows[:, :used]).view(stored).astype(found.dtype, copy=False)
    if found.channels == 1:
        return pixels.reshape(header.height, header.width)
    pixels = pixels.reshape(header.height, header.width, found.channels)
    return np.ascontiguousarray(pixels[..., list(found.order)]) if found.order is not None else pixels


def pixel_bytes(header: RawPicture, pixels: Array) -> bytes:
    """Return the bytes of a raw picture as its message held them: the inverse of `pixels_of`."""
    found = header.format()
    if found is None:
        raise ValueError(f"raw picture: encoding {header.encoding!r} is not known")
    if found.order is not None:
        pixels = pixels[..., np.argsort(found.order)]
    stored = np.ascontiguousarray(pixels).astype(np.dtype(found.dtype).newbyteorder(">" if header.big_endian else "<"))
    rows = stored.reshape(header.height, -1).view(np.uint8)
    return np.pad(rows, ((0, 0), (0, header.step - rows.shape[1]))).tobytes()


def encoded_picture(data: Buffer) -> tuple[int, str] | None:
    """Return where in a message's data an encoded picture starts and its format; None where it is of a kind that stays a message."""
    header = picture_header(data)
    if header is not None:
        return 0, header.encoding
    if bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP":
        return 0, "webp"
    header = picture_header(data[DEPTH_HEADER_BYTES:])
    return (DEPTH_HEADER_BYTES, header.encoding) if header is not None and header.encoding == "png" else None
