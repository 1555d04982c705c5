"""How the pictures of an episode change while it is being landed: of raw frames as they pass, of encoded ones by decoding a bounded number, small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dataengine.align.offset import BodyMotion, ImageMotion, busiest_rows
from dataengine.align.picture_change import ChangeMeter
from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener
from dataengine.core.stream import Buffer, MediaFrames
from dataengine.video.container import MAX_PIXELS
from dataengine.video.index import FrameIndex

SMALL_PX = 64  # width that pictures are shrunk to
LOOKED_AT_HZ = 12.0  # of a faster camera every second picture is looked at, or every third: neighbours hardly differ
SKIPPED_NS = 45_000_000  # the same of raw frames, whose rate is not known while they pass
UNTIMED_NS = 25_000_000  # from row to row of frames without any clock: every second one is looked at
PICTURES = 96  # of one camera: six seconds or so of motion, 70 ms of decoding at 640 x 480
MIN_PICTURES = 48  # however large they are
PICTURE_BYTES = 8 << 20
PNG_COST = 4  # a PNG takes about as long to decode as so many JPEGs, which are decoded at an eighth of their size
READ_ROWS = 32  # read back at a time
VIDEO_PX = 96 << 20  # decoded of kept video
RAW_PAIRS = 1000  # of raw frames, which all passed by, compared in the end


def shrunk(grey: Array) -> Array:
    """Return a picture (H, W) uint8 at most `SMALL_PX` px wide, each px the mean of those it stands for."""
    import cv2

    height, width = grey.shape
    if width <= SMALL_PX:
        return grey
    return np.asarray(cv2.resize(grey, (SMALL_PX, max(1, round(height * SMALL_PX / width))), interpolation=cv2.INTER_AREA))


class FrameMotion:
    """Measures raw colour frames of 8 bits while they pass: at most 22 a second by whatever clock they have, every second one where they have none."""

    def __init__(self) -> None:
        self.meter = ChangeMeter()
        self._looked_ns: int | None = None

    def add(self, first: int, pixels: Array, clocks: Mapping[str, Array]) -> None:
        """Take frames (n, H, W, C) from row `first` on, with the clocks of their rows."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or 0 in pixels.shape:
            return
        named = sorted(clocks, key=lambda name: name == "nominal")
        times_ns = clocks[named[0]] if named else np.arange(first, first + len(pixels), dtype=np.int64) * UNTIMED_NS
        channel = pixels[..., min(1, pixels.shape[3] - 1)]
        for row, (at_ns, grey) in enumerate(zip(times_ns.tolist(), channel, strict=True), first):
            if self._looked_ns is None or not 0 <= at_ns - self._looked_ns < SKIPPED_NS:
                self.meter.add(row, shrunk(np.ascontiguousarray(grey)))
                self._looked_ns = at_ns

    def motion(self, times_ns: Array, motions: Sequence[BodyMotion]) -> ImageMotion:
        """Return how the pictures changed, where the body moves most."""
        image = self.meter.motion(times_ns)
        if len(image) <= RAW_PAIRS:
            return image
        rows = np.concatenate(busiest_rows(np.maximum.accumulate(image.start_ns), motions, RAW_PAIRS))
        return ImageMotion(image.start_ns[rows], image.end_ns[rows], image.change[rows])


def _stride(times_ns: Array) -> int:
    steps = np.diff(times_ns)
    steps = steps[steps > 0]
    return max(1, int(NS_PER_S / LOOKED_AT_HZ / np.median(steps))) if len(steps) else 1


def _chosen(times_ns: Array, motions: Sequence[BodyMotion], pictures: int) -> list[Array]:
    """Return runs of rows to look at, `pictures` in all."""
    every = _stride(times_ns)
    return [run * every for run in busiest_rows(np.maximum.accumulate(times_ns[::every]), motions, pictures)]


def _small_picture(data: Buffer, width: int) -> Array | None:
    """Return an encoded picture of so many px across, grey and small; None where it cannot be decoded."""
    import cv2

    flag = cv2.IMREAD_GRAYSCALE
    for times, reduced in ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4), (2, cv2.IMREAD_REDUCED_GRAYSCALE_2)):
        if width // times >= SMALL_PX * 3 // 4:
            flag = reduced
            break
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    return None if grey is None or grey.ndim != 2 else shrunk(grey)


def items_motion(read: Callable[[int, int], Sequence[Buffer]], sizes: Array, mean_bytes: int, times_ns: Array, motions: Sequence[BodyMotion]) -> ImageMotion:
    """Return how encoded pictures change.

    Args:
        read: returns rows [first, stop), an absent one empty.
        sizes: (N, 3) height, width and channels by their headers, height 0 where there is no picture.
        mean_bytes: of a picture as it counts against `PICTURE_BYTES`.
        times_ns: (N,) their times.
        motions: what moved, to choose where to look.
    """
    meter = ChangeMeter()
    for run in _chosen(times_ns, motions, max(MIN_PICTURES, min(PICTURES, PICTURE_BYTES // max(1, mean_bytes)))):
        meter.cut()
        for start in range(0, len(run), READ_ROWS):
            rows = run[start : start + READ_ROWS]
            data = read(int(rows[0]), int(rows[-1]) + 1)
            for row in rows.tolist():
                height, width, _ = sizes[row].tolist()
                if 0 < height * width <= MAX_PIXELS and (grey := _small_picture(data[row - int(rows[0])], width)) is not None:
                    meter.add(row, grey)
    return meter.motion(times_ns)


def _from_key_frames(runs: Sequence[Array], index: FrameIndex, frames: MediaFrames) -> list[Array]:
    """Move runs back to the key frame before their start, so that nothing is decoded only to be thrown away; runs that meet there make one longer run."""
    keys = np.flatnonzero(index.key) - frames.first
    lengths: dict[int, int] = {}
    every = max([int(run[1] - run[0]) for run in runs if len(run) > 1], default=1)
    for run in runs:
        before = keys[(keys >= 0) & (keys <= run[0])]
        start = int(before[-1]) if len(before) else int(run[0])
        lengths[start] = lengths.get(start, 0) + len(run)
    ends = [*sorted(lengths)[1:], frames.count]
    return [np.arange(start, min(end, start + lengths[start] * every), every) for start, end in zip(sorted(lengths), ends, strict=True)]


def media_motion(frames: MediaFrames, files: Opener, times_ns: Array, motions: Sequence[BodyMotion]) -> ImageMotion | None:
    """Return how the pictures of a kept video change; None where they cannot be decoded."""
    from dataengine.video.decode import FrameReader

    if frames.index is None or not frames.facts.get("width"):
        return None
    pixels = int(frames.facts["width"]) * int(frames.facts["height"])
    index = FrameIndex.from_columns(frames.index, frames.facts)
    runs = _from_key_frames(_chosen(times_ns, motions, max(MIN_PICTURES, min(PICTURES, VIDEO_PX // max(1, pixels)))), index, frames)
    meter = ChangeMeter()
    local = files.local(frames.uri)
    try:
        with FrameReader(local if local is not None else files.open(frames.uri), index, frames.uri) as reader:
            for run in runs:
                meter.cut()
                for row, grey in reader.luma(run + frames.first):
                    meter.add(row - frames.first, shrunk(np.ascontiguousarray(grey)))
    except BadRecording:  # the checks of a kept video are others' work; what cannot be decoded says nothing here
        return None
    return meter.motion(times_ns)
