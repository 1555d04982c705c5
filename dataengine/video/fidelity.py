"""The fidelity gate: did the encoding keep what is in the picture, judged by the worst block of each frame.

An average over the frame (PSNR) does not see a part of 10x48 px that is lost; the worst block does. Three figures, each the largest over all 8x8 px windows at a
stride of 4 px, in levels of 0..255:

- `luma`: |mean error| of the brightness. Codec noise has no mean, an object that is gone has its whole contrast in it.
- `chroma`: the same of the two colour differences: an object of its background's brightness.
- `texture`: RMS error of the brightness: stripes, print and thin lines, whose mean is that of the background.

Limits: measured on 1,499 frames of ten real videos (GR00T, G1, UMI, GoPro, NASA, CALVIN, RT-1, DROID, LAPA, an AV1 clip; 200 to 848 px wide). At the
default quality (x264 veryfast, CRF 20) the worst block of any frame has luma 6.5, chroma 13.4, texture 14.4. Of 160 objects planted there for one frame (8x8 px of
contrast 20 to 80, 10x48 px bars, 12x12 px checkers of +-30, 48 px lines 1 px wide, coloured patches) the default keeps every one that is visible, and 159 are caught
when they are gone; the last was clipped to the white behind it. An 8x8 px object that lies across the windows fills 36/64 of the best one:
it is caught from a contrast of 16 on. What is fainter than that cannot be told from codec noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.errors import DataEngineError
from dataengine.video.colour import rgb_to_i420

# A fifth to two fifths above what codec noise reaches at the default quality (6.5, 13.4, 14.4), and below what a lost object leaves; see above.
LUMA_LIMIT = 9.0
CHROMA_LIMIT = 18.0
TEXTURE_LIMIT = 17.0

BLOCK_PX = 8
_STRIDE_PX = 4

# Planes hold BT.601 limited range: 219 steps of luma and 224 of chroma span the 255 levels.
_LUMA_SCALE, _CHROMA_SCALE = 255 / 219, 255 / 224


@dataclass(frozen=True)
class BlockFidelity:
    """The worst blocks of one frame: figures in levels of 0..255, and the window (row, column, in px) that is farthest beyond its limit."""

    luma: float
    chroma: float
    texture: float
    row_px: int
    column_px: int

    @property
    def score(self) -> float:
        """Return the largest figure in units of its limit: above 1 something was lost."""
        return max(self.luma / LUMA_LIMIT, self.chroma / CHROMA_LIMIT, self.texture / TEXTURE_LIMIT)

    @property
    def kept(self) -> bool:
        """Whether every block is within the limits."""
        return self.score <= 1.0


class FidelityLost(DataEngineError):
    """An encoding loses part of a frame: keep the frames exact, or reject the recording.

    Args:
        where: which frame of what.
        worst: its worst block.
        tried: the qualities (CRF) that were tried.
    """

    def __init__(self, where: str, worst: BlockFidelity, tried: tuple[int, ...]) -> None:
        super().__init__(
            f"{where}: expected every {BLOCK_PX}x{BLOCK_PX} px block within luma {LUMA_LIMIT:g}, chroma {CHROMA_LIMIT:g}, texture {TEXTURE_LIMIT:g}, "
            f"found {worst.luma:.1f}, {worst.chroma:.1f}, {worst.texture:.1f} at row {worst.row_px}, column {worst.column_px} "
            f"with CRF {', '.join(map(str, tried))}; store the frames lossless"
        )
        self.where, self.worst, self.tried = where, worst, tried

    def __reduce__(self) -> tuple[type[FidelityLost], tuple[str, BlockFidelity, tuple[int, ...]]]:
        return FidelityLost, (self.where, self.worst, self.tried)


def _windows(cells: Array) -> Array:
    """Return means over windows of 2x2 cells, or over what there is of them in a picture of less than 8 px."""
    import cv2

    means = cv2.blur(cells, (min(2, cells.shape[1]), min(2, cells.shape[0])), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(means[min(1, cells.shape[0] - 1) :, min(1, cells.shape[1] - 1) :])


def _cells(plane: Array, side: int) -> Array:
    """Return means over cells of side x side samples; what is left over at the lower and right edge joins by repetition."""
    import cv2

    height, width = plane.shape
    below, right = -height % side, -width % side
    if below or right:
        plane = cv2.copyMakeBorder(plane, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(plane, (plane.shape[1] // side, plane.shape[0] // side), interpolation=cv2.INTER_AREA))


def plane_fidelity(original: Array, decoded: Array) -> BlockFidelity:
    """Judge one frame by its planes.

    Args:
        original: (H * 3 / 2, W) uint8, planar YUV 4:2:0 in BT.601 limited range, H and W even.
        decoded: the same of the decoded frame.
    """
    import cv2

    height, width = original.shape[0] * 2 // 3, original.shape[1]
    error = cv2.subtract(original[:height], decoded[:height], dtype=cv2.CV_16S)
    squared = cv2.multiply(error, error, dtype=cv2.CV_32F)
    luma = _windows(_cells(error, _STRIDE_PX).astype(np.float32))
    texture = _windows(_cells(squared, _STRIDE_PX))
    chroma_error = cv2.subtract(original[height:], decoded[height:], dtype=cv2.CV_16S).reshape(2, height // 2, width // 2)
    chroma = [_windows(_cells(plane, _STRIDE_PX // 2).astype(np.float32)) for plane in chroma_error]
    figures = []
    for part, scale, limit in ((luma, _LUMA_SCALE, LUMA_LIMIT), (chroma[0], _CHROMA_SCALE, CHROMA_LIMIT), (chroma[1], _CHROMA_SCALE, CHROMA_LIMIT)):
        low, high, low_at, high_at = cv2.minMaxLoc(part)
        value, at = (high, high_at) if high >= -low else (-low, low_at)
        figures.append((value * scale, value * scale / limit, at))
    _, high, _, high_at = cv2.minMaxLoc(texture)
    figures.append((high**0.5 * _LUMA_SCALE, high**0.5 * _LUMA_SCALE / TEXTURE_LIMIT, high_at))
    column, row = max(figures, key=lambda figure: figure[1])[2]
    return BlockFidelity(figures[0][0], max(figures[1][0], figures[2][0]), figures[3][0], row * _STRIDE_PX, column * _STRIDE_PX)


def even_planes(pixels: Array, out: Array | None = None) -> Array:
    """Return a frame (H, W, 3) uint8 RGB as planar YUV 4:2:0 with even sides; an odd last row or column is repeated."""
    import cv2

    height, width = pixels.shape[:2]
    if height & 1 or width & 1:
        pixels = cv2.copyMakeBorder(pixels, 0, height & 1, 0, width & 1, cv2.BORDER_REPLICATE)
        height, width = pixels.shape[:2]
    planes = np.empty((height * 3 // 2, width), np.uint8) if out is None else out
    rgb_to_i420(pixels, planes)
    return planes


def worst_block(original: Array, decoded: Array) -> BlockFidelity:
    """Judge one decoded frame against its original, both (H, W, 3) uint8 RGB."""
    require(
        original.shape == decoded.shape and original.ndim == 3 and original.shape[2] == 3, f"frames must be (H, W, 3), got {original.shape}, {decoded.shape}"
    )
    return plane_fidelity(even_planes(original), even_planes(decoded))


@dataclass(frozen=True)
class Verdict:
    """The gate's answer for a run of frames: the worst frame (-1: there are none), its worst block, and every frame beyond the limits."""

    kept: bool
    frame: int
    worst: BlockFidelity
    lost: tuple[int, ...]


NOTHING_LOST = BlockFidelity(0.0, 0.0, 0.0, 0, 0)


def gate(original: Array, decoded: Array) -> Verdict:
    """Judge frames (N, H, W, 3) uint8 RGB one by one; a single lost block in a single frame fails them."""
    require(original.shape == decoded.shape, f"frames must be equal in number and size, got {original.shape}, {decoded.shape}")
    found = [worst_block(one, other) for one, other in zip(original, decoded, strict=True)]
    frame = max(range(len(found)), key=lambda place: found[place].score, default=-1)
    lost = tuple(place for place, block in enumerate(found) if not block.kept)
    return Verdict(not lost, frame, found[frame] if found else NOTHING_LOST, lost)
