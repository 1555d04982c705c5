"""Pictures at another size: one picture, into memory that is there already."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.errors import UnknownName, UsageError

Fit = Literal["stretch", "pad", "crop"]
FITS: tuple[Fit, ...] = get_args(Fit)


def resize(picture: Array, size: tuple[int, int], fit: Fit = "stretch") -> Array:
    """Return an (H, W, C) or (H, W) uint8 picture at `size` (height, width) in px: see `resized_into`."""
    out = np.empty((*size, *picture.shape[2:]), picture.dtype)
    resized_into(picture, out, fit)
    return out


def resized_into(picture: Array, out: Array, fit: Fit = "stretch", exact: bool = False) -> None:
    """Write a picture into `out` (H, W, ...) at the size of `out`.

    An axis that shrinks is averaged over areas, one that grows is interpolated linearly, each as OpenCV does (INTER_AREA, INTER_LINEAR); where
    one axis shrinks and the other grows, the shrinking goes first.

    Args:
        picture: (h, w, C) or (h, w); never written into.
        out: (H, W, C) or (H, W) of the same dtype; it is written straight into where its rows lie whole in memory, as a part of a batch does.
        fit: "stretch" changes the aspect; "pad" keeps it, with black bars (the picture in the middle, its smaller side rounded to the nearest px);
            "crop" keeps it and cuts the middle out of the picture.
        exact: take the value of the nearest px (the earlier of two) instead of mixing some: for depth and masks, of which the mean of two values says nothing.

    Raises:
        UsageError: the two do not fit together.
    """
    if fit not in FITS:
        raise UnknownName("fit", fit, FITS)
    if picture.dtype != out.dtype or picture.shape[2:] != out.shape[2:] or 0 in picture.shape or 0 in out.shape:
        raise UsageError(f"picture: must have the dtype and channels of out, {out.dtype} {out.shape}, and no empty side; got {picture.dtype} {picture.shape}")
    (height, width), (to_height, to_width) = picture.shape[:2], out.shape[:2]
    if fit == "crop":
        top, left, kept_height, kept_width = _middle((height, width), (to_height, to_width))
        picture = picture[top : top + kept_height, left : left + kept_width]
    elif fit == "pad":
        top, left, inner_height, inner_width = _middle((to_height, to_width), (height, width))
        out[:top], out[top + inner_height :] = 0, 0
        out[:, :left], out[:, left + inner_width :] = 0, 0
        out = out[top : top + inner_height, left : left + inner_width]
    if exact:
        rows, columns = (((2 * np.arange(to) + 1) * there - 1) // (2 * to) for to, there in zip(out.shape[:2], picture.shape[:2], strict=True))
        out[...] = picture[rows][:, columns]
    else:
        _stretch(picture, out)


def _middle(outer: tuple[int, int], aspect: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the largest window in the middle of `outer` with the aspect (height, width), rounded half up."""
    (height, width), (tall, wide) = outer, aspect
    if height * wide <= width * tall:
        width = max(1, (2 * height * wide + tall) // (2 * tall))
    else:
        height = max(1, (2 * width * tall + wide) // (2 * wide))
    return (outer[0] - height) // 2, (outer[1] - width) // 2, height, width


def _stretch(picture: Array, out: Array) -> None:
    import cv2

    if picture.shape == out.shape:
        out[...] = picture
        return
    (height, width), (to_height, to_width) = picture.shape[:2], out.shape[:2]
    shrunk = (min(height, to_height), min(width, to_width))
    if shrunk not in ((height, width), (to_height, to_width)):
        picture = cv2.resize(picture, shrunk[::-1], interpolation=cv2.INTER_AREA)
    shrinks = shrunk == (to_height, to_width)
    wanted = out if _whole_rows(out) else None  # OpenCV writes into no other
    written = cv2.resize(picture, (to_width, to_height), dst=wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if wanted is None or not np.may_share_memory(written, out):
        out[...] = np.asarray(written).reshape(out.shape)


def _whole_rows(out: Array) -> bool:
    """Whether the pixels of each row lie one behind the other, and the rows too, with or without room between."""
    pixel = out.itemsize * int(np.prod(out.shape[2:]))
    return out[0, 0].flags.c_contiguous and out.strides[1] == pixel and out.strides[0] >= pixel * out.shape[1]
