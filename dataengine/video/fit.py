"""Pictures brought to one size, and what becomes of a camera's intrinsics on the way.

A box of the picture is scaled onto a box of the new one: `stretch` takes both whole; `pad` keeps the picture's proportions and leaves black bars around it;
`crop` keeps them and cuts off what stands over, on both sides alike. Pixel centres have whole coordinates, as OpenCV has them, so that a point at x of a box of
b px is at (x + 1/2) * t / b - 1/2 of one of t px.

Colour pictures are averaged over area where they shrink and mixed linearly where they grow. What must stay exact (depth, masks) takes the nearest pixel's value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera
from dataengine.core.errors import UnknownName

Fit = Literal["stretch", "pad", "crop"]


class Box(NamedTuple):
    """Part of a picture, in px."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Size:
    """What pictures become: height and width in px, and how another shape is brought to it."""

    height: int
    width: int
    fit: Fit = "stretch"

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise UnknownName("fit", self.fit, get_args(Fit))

    def boxes(self, height: int, width: int) -> tuple[Box, Box]:
        """Return which part of a picture of (height, width) px goes where in the new one."""
        whole, into = Box(0, 0, height, width), Box(0, 0, self.height, self.width)
        if self.fit == "pad":
            scale = min(self.height / height, self.width / width)
            inner = max(1, min(self.height, round(height * scale))), max(1, min(self.width, round(width * scale)))
            into = Box((self.height - inner[0]) // 2, (self.width - inner[1]) // 2, *inner)
        elif self.fit == "crop":
            scale = max(self.height / height, self.width / width)
            inner = max(1, min(height, round(self.height / scale))), max(1, min(width, round(self.width / scale)))
            whole = Box((height - inner[0]) // 2, (width - inner[1]) // 2, *inner)
        return whole, into


def _nearest(picture: Array, height: int, width: int) -> Array:
    """Return a picture of any dtype scaled by taking the pixel whose centre is nearest, the earlier of two."""
    rows = ((2 * np.arange(height) + 1) * picture.shape[0] - 1) // (2 * height)
    columns = ((2 * np.arange(width) + 1) * picture.shape[1] - 1) // (2 * width)
    return np.asarray(picture[rows][:, columns])


def _smooth(picture: Array, height: int, width: int) -> Array:
    import cv2

    shrinks = height <= picture.shape[0] and width <= picture.shape[1]
    scaled = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(scaled).reshape(height, width, *picture.shape[2:])


def fitted(picture: Array, size: Size, exact: bool = False) -> Array:
    """Return a picture (H, W) or (H, W, C) in the new size, of its own dtype; the very array where it has that size.

    Args:
        picture: one picture.
        size: what it becomes.
        exact: whether each value must be one of the picture's (depth, masks).
    """
    if picture.shape[:2] == (size.height, size.width):
        return picture
    whole, into = size.boxes(*picture.shape[:2])
    part = picture[whole.top : whole.top + whole.height, whole.left : whole.left + whole.width]
    scaled = (_nearest if exact else _smooth)(part, into.height, into.width)
    if scaled.shape[:2] == (size.height, size.width):
        return scaled
    out = np.zeros((size.height, size.width, *picture.shape[2:]), picture.dtype)
    out[into.top : into.top + into.height, into.left : into.left + into.width] = scaled
    return out


def fitted_camera(camera: Camera, height: int, width: int, size: Size) -> Camera:
    """Return a camera whose pictures of (height, width) px became `size`: its intrinsics are those of the new pictures, in px."""
    if camera.intrinsics_px is None:
        return camera
    whole, into = size.boxes(height, width)
    fx, fy, cx, cy = camera.intrinsics_px
    across, down = into.width / whole.width, into.height / whole.height
    moved = (cx - whole.left + 0.5) * across - 0.5 + into.left, (cy - whole.top + 0.5) * down - 0.5 + into.top
    return replace(camera, intrinsics_px=(fx * across, fy * down, *moved))
