"""The videos of LeRobot datasets: several episodes one after the other in a file, each beginning on a key frame; and depth as 12-bit grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.video.depth import DepthCoding, depth_codes

TICKS_HZ = 15_360


@dataclass(frozen=True, eq=False)
class Film:
    """What goes into one file: the frames of each episode, (T, H, W, 3) uint8; frame k of the file is at k / fps."""

    episodes: Sequence[Array]
    fps: float
    codec: Literal["libx264", "libsvtav1"] = "libx264"
    gop: int = 12


@dataclass(frozen=True, eq=False)
class DepthFilm:
    """The distances of each episode, (T, H, W) in metres; `coding` says how they are laid into 12 bits."""

    episodes: Sequence[Array]
    fps: float
    coding: DepthCoding = field(default_factory=DepthCoding)


def grey_depth(images: Array) -> Array:
    """Return made-up distances for pictures (T, H, W, 3), (T, H, W) float64 in m: bright is near, 0.3 to 2.3 m."""
    return np.asarray(2.3 - 2.0 * images.mean(axis=-1) / 255.0)


def _encoder_options(film: Film) -> dict[str, str]:
    if film.codec == "libsvtav1":
        return {"crf": "30", "g": str(film.gop), "preset": "12", "svtav1-params": "lp=1"}
    # Without mbtree: with it, x264's vector code gives other bytes from run to run at some widths.
    return {"crf": "20", "g": str(film.gop), "preset": "veryfast", "bf": "2", "x264-params": "mbtree=0:scenecut=0"}


def write_film(path: Path, film: Film) -> Path:
    """Write the episodes of one camera into one file."""
    return _write(path, film.codec, "yuv420p", "rgb24", film.fps, _encoder_options(film), film.episodes)


def write_depth_film(path: Path, film: DepthFilm) -> Path:
    """Write distances into one file: HEVC Main 12, lossless (`dataengine.video.depth` has the codes)."""
    options = {"preset": "ultrafast", "x265-params": "lossless=1:bframes=0:keyint=12:log-level=none:pools=none:frame-threads=1"}
    return _write(path, "libx265", "gray12le", "gray12le", film.fps, options, [depth_codes(metres, film.coding) for metres in film.episodes])


def _write(path: Path, codec: str, pix_fmt: str, given: str, fps: float, options: dict[str, str], episodes: Sequence[Array]) -> Path:
    import av

    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = episodes[0].shape[1], episodes[0].shape[2], pix_fmt
        stream.codec_context.time_base = Fraction(1, TICKS_HZ)
        stream.codec_context.thread_count = 1
        for place, (image, begins) in enumerate(_frames(episodes)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=given)
            frame.pts, frame.time_base = round(place * TICKS_HZ / rate), Fraction(1, TICKS_HZ)
            if begins:
                frame.pict_type = av.video.frame.PictureType.I
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def _frames(episodes: Sequence[Array]) -> Iterator[tuple[Array, bool]]:
    """Yield each frame, and whether an episode begins with it."""
    for images in episodes:
        for row, image in enumerate(images):
            yield image, row == 0
