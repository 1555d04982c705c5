"""Small films whose every picture carries its own number as a barcode, for formats that keep video beside numbers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.samples.barcode import Barcode, stamp

TICKS_HZ = 90_000


def numbered_frames(count: int, camera: int, episode: int, height: int = 80, width: int = 128) -> Array:
    """Return (count, H, W, 3) uint8 pictures of a drifting gradient, each stamped with its frame, camera and episode."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        for channel in range(3):
            frames[number, :, :, channel] = (2 * columns + (channel + 1) * rows + 5 * number + 60 * camera) % 256 // 2 + 60
        stamp(frames[number], Barcode(number, camera, episode))
    return frames


def write_numbered_film(path: Path, frames: Array, rate_hz: float = 15.0, ticks: Sequence[int] | None = None) -> Path:
    """Write pictures as an H.264 film; `ticks` are presentation times in 1/90000 s, else they are as regular as the rate."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(rate_hz).limit_denominator(1001)
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "18", "g": "12", "preset": "veryfast", "x264-params": "mbtree=0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS_HZ)
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = round(number * TICKS_HZ / rate_hz) if ticks is None else ticks[number], Fraction(1, TICKS_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
