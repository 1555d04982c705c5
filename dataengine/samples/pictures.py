"""Frames of a camera as JPEG or PNG, each encoded once, with the replacements that defects ask for."""

from __future__ import annotations

from typing import Literal

from dataengine.samples.arm import CameraTrack

PictureFormat = Literal["jpeg", "png"]


def encode_picture(image: object, form: PictureFormat, quality: int = 95) -> bytes:
    """Return an (H, W) or (H, W, 3) uint8 RGB picture as a JPEG or PNG."""
    import cv2
    import numpy as np

    pixels = np.asarray(image)
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if form == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    encoded, data = cv2.imencode(".jpg" if form == "jpeg" else ".png", np.ascontiguousarray(pixels), options)
    if not encoded:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded as {form}")
    return bytes(data)


def encoded_frames(track: CameraTrack, form: PictureFormat = "jpeg", quality: int = 95) -> list[bytes]:
    """Return every frame of a camera encoded, in order; `track.replaced` goes before the picture."""
    return [track.replaced[row] if row in track.replaced else encode_picture(image, form, quality) for row, image in enumerate(track.images)]


def marked_jpeg(jpeg: bytes, mark: bytes) -> bytes:
    """Return a JPEG with a comment after its first marker: the same picture in other bytes (ITU-T T.81, B.2.4.5)."""
    if jpeg[:2] != b"\xff\xd8" or len(mark) > 65533:
        raise ValueError("a comment needs a JPEG and at most 65533 bytes")
    return jpeg[:2] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + jpeg[2:]
