"""Decoded frames to RGB and back: the matrix and range of each stream, not a guess.

8-bit planar YUV, which nearly all camera video is, is converted here: OpenCV's one-pass conversion where it knows the matrix (BT.601, limited range, 4:2:0),
a 3x4 matrix otherwise. Both are within 1 of the exact formula; FFmpeg's reformatter, which takes every other pixel format, is within 3 of it
(it rounds down, one level too dark on average). Source of the matrices: ITU-R BT.601-7 §2.5, BT.709-6 §3, BT.2020-2 table 4.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from dataengine.core.arrays import Array

# Luma weights of red and blue by the number of the matrix in ISO/IEC 23091-2. What is not here (unspecified, or RGB claimed for YUV planes) is read as BT.601, as FFmpeg does.
_WEIGHTS: dict[int, tuple[float, float]] = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)

MATRIX_NUMBERS: dict[str, int] = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
RANGE_NUMBERS: dict[str, int] = {"limited": 1, "full": 2}

# Planar 8-bit formats: horizontal and vertical shift of the chroma planes, and whether the name itself says full range.
_PLANAR: dict[str, tuple[int, int, bool]] = {
    "yuv420p": (1, 1, False),
    "yuvj420p": (1, 1, True),
    "yuv422p": (1, 0, False),
    "yuvj422p": (1, 0, True),
    "yuv444p": (0, 0, False),
    "yuvj444p": (0, 0, True),
}
_LUMA_FIRST = frozenset({*_PLANAR, "gray", "nv12"})  # formats whose first plane is 8 bits of luma


@cache
def _rgb_from_yuv(weights: tuple[float, float], full: bool) -> Array:
    """Return the (3, 4) float32 matrix that takes (Y, U, V, 1) in 0..255 to (R, G, B)."""
    red, blue = weights
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    rows = np.array(
        [
            [luma, 0, chroma * 2 * (1 - red)],
            [luma, -chroma * 2 * (1 - blue) * blue / green, -chroma * 2 * (1 - red) * red / green],
            [luma, chroma * 2 * (1 - blue), 0],
        ]
    )
    offset = -rows @ np.array([0 if full else 16, 128, 128])
    return np.column_stack([rows, offset]).astype(np.float32)


@cache
def _yuv_from_rgb_601() -> Array:
    """Return the (3, 4) float32 matrix of BT.601, limited range: (R, G, B, 1) to (Y, U, V)."""
    forward = np.linalg.inv(_rgb_from_yuv(_BT601, full=False)[:, :3].astype(np.float64))
    return np.column_stack([forward, [16.0, 128.0, 128.0]]).astype(np.float32)


@cache
def _below_black() -> Array:
    """Return (256,) uint8: what OpenCV adds by taking luma below 16, which codecs undershoot in dark places, for 16; up to 18 levels."""
    return np.rint(np.maximum(16 - np.arange(256), 0) * 255 / 219).astype(np.uint8)


def _plane(plane: Any, height: int, width: int) -> Array:
    """Return a view (height, width) of an 8-bit plane without its padding."""
    return np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[:height, :width]


def brightness(frame: Any) -> Array:
    """Return a decoded PyAV frame's luma as it is coded, (H, W) uint8; of formats without a plane of 8 bits for it, the grey that FFmpeg makes."""
    if frame.format.name in _LUMA_FIRST:
        return _plane(frame.planes[0], frame.height, frame.width)
    return np.asarray(frame.to_ndarray(format="gray"))


def _join(frame: Any, out: Array) -> None:
    """Write the planes of a 4:2:0 frame one after the other into (H * 3 / 2, W), as OpenCV takes I420."""
    height, width = frame.height, frame.width
    flat, start = out.reshape(-1), 0
    for plane, rows, columns in zip(frame.planes, (height, height // 2, height // 2), (width, width // 2, width // 2), strict=False):
        end, line = start + rows * columns, plane.line_size
        samples = np.frombuffer(plane, np.uint8)
        if line == columns:
            flat[start:end] = samples[: end - start]
        else:
            flat[start:end].reshape(rows, columns)[:] = samples.reshape(-1, line)[:rows, :columns]
        start = end


def rgb_from_i420(planes: Array, out: Array) -> None:
    """Convert planar YUV 4:2:0, BT.601, limited range, (H * 3 / 2, W) uint8, into `out`, (H, W, 3) uint8 RGB, C-contiguous."""
    import cv2

    luma = planes[: out.shape[0]]
    cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420, dst=out)
    if luma.min() < 16:
        dark = np.flatnonzero(luma.min(axis=1) < 16)
        rows = slice(int(dark[0]), int(dark[-1]) + 1)
        cv2.subtract(out[rows], cv2.cvtColor(cv2.LUT(luma[rows], _below_black()), cv2.COLOR_GRAY2RGB), dst=out[rows])


class RgbConverter:
    """Converts the frames of one stream; reuses its buffers.

    Args:
        matrix: name of the stream's matrix as `probe.MATRICES` has it, used where a frame does not say.
        range_: "limited", "full" or "unspecified", likewise.
    """

    def __init__(self, matrix: str = "unspecified", range_: str = "unspecified") -> None:
        self._matrix, self._range = MATRIX_NUMBERS.get(matrix, 2), RANGE_NUMBERS.get(range_, 0)
        self._joined: Array | None = None
        self._joined_ones: dict[tuple[Any, ...], bool] = {}  # whether frames of a kind can be joined
        self._reformatter: Any = None

    def convert(self, frame: Any, out: Array) -> None:
        """Write a decoded PyAV frame of (H, W) into `out`, (H, W, 3) uint8 RGB, C-contiguous."""
        import cv2

        name, width, height = frame.format.name, frame.width, frame.height
        if name == "gbrp":
            planes = [_plane(plane, height, width) for plane in frame.planes]
            cv2.merge((planes[2], planes[0], planes[1]), dst=out)
            return
        planar = _PLANAR.get(name)
        if planar is None:
            self._reformat(frame, out)
            return
        if self._joins(frame):
            if self._joined is None or self._joined.shape != (height * 3 // 2, width):
                self._joined = np.empty((height * 3 // 2, width), np.uint8)
            _join(frame, self._joined)
            rgb_from_i420(self._joined, out)
            return
        across, down, _ = planar
        weights, full = self._meaning(frame)
        luma = _plane(frame.planes[0], height, width)
        chroma = []
        for plane in frame.planes[1:3]:
            small = _plane(plane, (height + down) >> down, (width + across) >> across)
            if across or down:
                large = cv2.resize(small, (small.shape[1] << across, small.shape[0] << down), interpolation=cv2.INTER_NEAREST)
                small = large[:height, :width]
            chroma.append(small)
        cv2.transform(cv2.merge((luma, *chroma)), _rgb_from_yuv(weights, full), dst=out)

    def pack(self, frame: Any, spare: Array | None = None) -> Array:
        """Return a decoded PyAV frame in a form to wait in: (H * 3 / 2, W) planar YUV, half the bytes of RGB, where `rgb_from_i420` reads it, else (H, W, 3) RGB.

        Args:
            frame: the frame.
            spare: an array that an earlier call returned and nobody needs any more.
        """
        height, width = frame.height, frame.width
        joins = self._joins(frame)
        shape = (height * 3 // 2, width) if joins else (height, width, 3)
        out = spare if spare is not None and spare.shape == shape else np.empty(shape, np.uint8)
        if joins:
            _join(frame, out)
        else:
            self.convert(frame, out)
        return out

    def _meaning(self, frame: Any) -> tuple[tuple[float, float], bool]:
        """Return the luma weights of a planar frame, and whether its range is full."""
        matrix = int(frame.colorspace) if int(frame.colorspace) not in (0, 2) else self._matrix
        full = _PLANAR[frame.format.name][2] or (int(frame.color_range) or self._range) == 2
        return _WEIGHTS.get(matrix, _BT601), full

    def _joins(self, frame: Any) -> bool:
        """Whether OpenCV's one-pass conversion reads a frame: 4:2:0 with even sides, BT.601, limited range."""
        key = frame.format.name, (frame.width | frame.height) & 1, frame.colorspace, frame.color_range
        found = self._joined_ones.get(key)
        if found is None:
            found = self._joined_ones[key] = key[0] in ("yuv420p", "yuvj420p") and not key[1] and self._meaning(frame) == (_BT601, False)
        return found

    def _reformat(self, frame: Any, out: Array) -> None:
        """Convert through FFmpeg: every other pixel format (10 bit, NV12, grey, palettes)."""
        from av.video.reformatter import VideoReformatter

        if self._reformatter is None:
            self._reformatter = VideoReformatter()
        if int(frame.colorspace) in (0, 2) and self._matrix != 2 and not frame.format.is_rgb:
            frame.colorspace = self._matrix
        if int(frame.color_range) == 0 and self._range and not frame.format.is_rgb:
            frame.color_range = self._range
        plane = self._reformatter.reformat(frame, format="rgb24", threads=1).planes[0]
        height, width = frame.height, frame.width
        out[:] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : width * 3].reshape(height, width, 3)


def rgb_to_i420(pixels: Array, out: Array) -> None:
    """Convert RGB to planar YUV 4:2:0, BT.601, limited range, with chroma averaged over each 2x2 block.

    OpenCV's own conversion takes the chroma of one pixel in four, so that a thin coloured line vanishes or doubles; averaging gains 2 dB on real frames.

    Args:
        pixels: (H, W, 3) uint8, H and W even.
        out: (H * 3 / 2, W) uint8, C-contiguous.
    """
    import cv2

    height, width = pixels.shape[:2]
    luma, first, second = cv2.split(cv2.transform(pixels, _yuv_from_rgb_601()))
    out[:height] = luma
    flat, start, chroma = out.reshape(-1), height * width, height * width // 4
    half = (width // 2, height // 2)
    cv2.resize(first, half, dst=flat[start : start + chroma].reshape(half[::-1]), interpolation=cv2.INTER_AREA)
    cv2.resize(second, half, dst=flat[start + chroma :].reshape(half[::-1]), interpolation=cv2.INTER_AREA)
