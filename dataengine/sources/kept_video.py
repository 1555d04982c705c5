"""Video of a recording that is kept as it came: the frames of one track, or a range of them, as rows of a stream. For every reader that has video beside its numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Opener
from dataengine.core.slices import media_source
from dataengine.core.stream import MediaFrames, Rows
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex, frame_indexes
from dataengine.video.probe import MediaInfo

# Indexes of so many files stay in memory: an hour of video at 30 Hz takes 6 MB.
KEPT_INDEXES = 16

Span = tuple[int, int]


class KeptVideos:
    """The video files of one item, each demuxed once (never decoded, but for a look at single frames).

    Args:
        files: access to the item's files.
    """

    def __init__(self, files: Opener) -> None:
        self._files = files
        self._indexed: OrderedDict[tuple[str, Span | None], tuple[MediaInfo, dict[int, FrameIndex]]] = OrderedDict()

    def tracks(self, path: str, span: Span | None = None, where: str = "") -> tuple[MediaInfo, dict[int, FrameIndex]]:
        """Return what a file holds, and the frame index of each of its video tracks.

        Args:
            path: the file's path below the source's root.
            span: (first byte, bytes) of a video inside that file.
            where: what to call it in messages.

        Raises:
            BadRecording: the file is absent, or no video that can be read (see `dataengine.video.index.frame_indexes`).
        """
        key = path, span
        if key not in self._indexed:
            source = media_source(self._files, path, span)
            try:
                self._indexed[key] = frame_indexes(source, None, where or path)
            except OSError as error:
                raise BadRecording(where or path, "a file that can be read", error.strerror or str(error), "look for the file", "unreadable_file") from error
            finally:
                _close(source)
            while len(self._indexed) > KEPT_INDEXES:
                self._indexed.popitem(last=False)
        self._indexed.move_to_end(key)
        return self._indexed[key]

    def main(self, path: str, span: Span | None = None, where: str = "") -> FrameIndex:
        """Return the frame index of a file's main video track; raise BadRecording."""
        info, indexes = self.tracks(path, span, where)
        assert info.main is not None  # `tracks` raises where there is no video
        return indexes[info.main.index]

    def decodes(self, path: str, index: FrameIndex, rows: tuple[int, ...] = (0,), span: Span | None = None) -> Problem | None:
        """Return why frames of a track do not decode, None where they do: a look at those in `rows`, not at all."""
        source = media_source(self._files, path, span)
        try:
            with FrameReader(source, index, path) as reader:
                reader.read(list(rows))
        except BadRecording as error:
            advice = "the bytes are kept; record it again or convert it"
            return Problem("unreadable_frames", str(error), path, "warning", error.expected, error.found, advice)
        finally:
            _close(source)
        return None


def _close(source: str | BinaryIO) -> None:
    if not isinstance(source, str):
        source.close()


def frame_rows(
    stream: str,
    path: str,
    index: FrameIndex,
    first: int = 0,
    count: int | None = None,
    clocks: Mapping[str, Array] | None = None,
    span: Span | None = None,
) -> Rows:
    """Return frames [first, first + count) of a track as rows of a stream; nothing is decoded or cut, the whole file is kept once.

    Args:
        stream: the stream's name.
        path: the file's path below the source's root.
        index: the frame index of the track.
        first: the first frame, in presentation order.
        count: how many frames; None for all from `first` on.
        clocks: recorded times of these frames by clock, each (count,) int64 ns; the container's own time is added as "pts".
        span: (first byte, bytes) of a video inside the file at `path`.
    """
    count = len(index) - first if count is None else count
    if first < 0 or count < 1 or first + count > len(index):
        advice = "the file is cut off, or is not the one that is meant"
        raise BadRecording(path, f"frames {first} to {first + count - 1}", f"{len(index)} frames", advice, check="too_few_frames")
    frames = MediaFrames(path, index.track, first, count, index=index.as_columns(), facts=index.as_facts(), span=span)
    return Rows(stream, frames, {**(clocks or {}), "pts": index.pts_ns[first : first + count]})


def frame_column(name: str, index: FrameIndex, camera: Camera | None = None, doc: str = "") -> Column:
    """Return the column of a stream of kept video."""
    facts = index.facts
    rotation = float(facts["rotation_deg"])
    turned = f"as coded; turn by {rotation:g} degrees counter-clockwise to see it upright" if rotation else ""
    return Column(
        name=name,
        kind="image",
        dtype="uint8",
        shape=(int(facts["height"]), int(facts["width"]), 3),
        encoding=str(facts["codec"]),
        camera=camera or Camera(),
        doc="; ".join(part for part in (doc, turned) if part),
        extra={"rotation_deg": rotation} if rotation else {},
    )


def depth_column(column: Column, unit: str | None = None) -> Column:
    """Return the column of a stream of kept video as one of depth pictures; what a grey value means stands in `extra`, where the source says so."""
    return replace(column, kind="depth", dtype="uint16", shape=(*column.shape[:2], 1), unit=unit)


def constant_rate_hz(index: FrameIndex, first: int = 0, count: int | None = None) -> float | None:
    """Return the container's average rate where the frames keep it, None where their steps vary.

    A step may differ by two ticks of the time base (rounded times) or 1 %.
    """
    average, time_base = index.facts["average_hz"], Fraction(index.facts["time_base"])
    pts_ns = index.pts_ns[first:] if count is None else index.pts_ns[first : first + count]
    if average is None or len(pts_ns) < 2:
        return None
    step_ns = 1_000_000_000 / float(Fraction(average))
    slack_ns = max(2e9 * float(time_base), 0.01 * step_ns)
    return float(Fraction(average)) if bool(np.all(np.abs(np.diff(pts_ns) - step_ns) <= slack_ns)) else None


def repeated_times(name: str, index: FrameIndex, path: str) -> Problem | None:
    """Return a problem where frames do not come later than the ones before, None where all do."""
    still = int(np.count_nonzero(np.diff(index.pts_ns) <= 0))
    if not still:
        return None
    return Problem("repeated_times", f"{path}: {name}: {still} of {len(index)} frames have the time of the frame before", where=path)
