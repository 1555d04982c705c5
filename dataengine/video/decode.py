"""Frames of a video on demand: any frames in any order, each exactly the one that the index names.

The bytes of a frame are read where the index says they lie and handed to the decoder with the frame's number as its time stamp: what comes out carries that
number, so no frame is ever mistaken for its neighbour. Only containers whose payload does not lie in one piece (MPEG-TS), and tracks with
packets that are not shown, are read through FFmpeg's demuxer instead, matched by presentation time.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from dataengine.core.arrays import Array, require
from dataengine.core.errors import BadRecording
from dataengine.video.colour import RgbConverter, brightness
from dataengine.video.container import MediaFile, media_name, open_bytes, open_container
from dataengine.video.decoders import DECODERS, decoder_for, padded_packet
from dataengine.video.index import FrameIndex

# Neighbouring packets are read together as long as what lies between them (sound, other cameras) is no more than this.
_GAP_BYTES = 1 << 16
_SPAN_BYTES = 1 << 22


@dataclass
class _Run:
    """Packets to decode in one go, by decoding order (both ends included), and the rows wanted of them."""

    start: int
    stop: int
    rows: set[int]


class FrameReader:
    """Reads frames of one track.

    Args:
        file: a path on this machine, or a seekable binary file, which the reader then owns the position of.
        index: the track's frame index of this very file.
        where: what to call the file in messages.

    A damaged frame raises BadRecording when it is read; the other frames stay readable. One reader belongs to one process and thread.
    """

    def __init__(self, file: MediaFile, index: FrameIndex, where: str = "") -> None:
        facts = index.facts
        self.index = index
        self.where = f"{where or media_name(file)}: track {index.track}"
        self.width, self.height = int(facts["width"]), int(facts["height"])
        # A video that was padded to even sides by our own writer says what part of it is picture.
        self.shape = (int(facts.get("crop_height", self.height)), int(facts.get("crop_width", self.width)))
        self.bytes_read = 0  # of the file so far
        self.decoded = 0  # frames that the decoder has given so far, also those that nobody asked for
        self._file = file
        self._direct = bool(facts["ranges"]) and int(facts["hidden"]) == 0 and facts["codec"] in DECODERS
        self._handle: BinaryIO | None = open_bytes(file, exact=True) if self._direct else None
        self._decoder: Any = None
        self._converter = RgbConverter(str(facts["matrix"]), str(facts["range"]))
        self._whole = np.empty((self.height, self.width, 3), np.uint8) if self.shape != (self.height, self.width) else None
        self._row_of_order = np.argsort(index.order, kind="stable")
        self._starts = self._start_of_each_row()

    def _start_of_each_row(self) -> Array:
        """Return for each row the order of the packet that decoding must start at: the last key frame that comes neither after it in the file nor on the screen.

        A picture that is shown before the key frame it follows in the file needs what came before that key frame (an open group of pictures).
        """
        index = self.index
        keys = np.flatnonzero(index.key)
        keys = keys[np.argsort(index.order[keys], kind="stable")]
        if not len(keys):
            return np.zeros(len(index), np.int64)
        found = np.searchsorted(index.order[keys], index.order, side="right") - 1
        early = np.flatnonzero((found > 0) & (index.pts[keys[np.maximum(found, 0)]] > index.pts))
        for row in early:
            place = int(found[row])
            while place > 0 and index.pts[keys[place]] > index.pts[row]:
                place -= 1
            found[row] = place
        return np.where(found < 0, 0, index.order[keys[np.maximum(found, 0)]])

    def __len__(self) -> int:
        return len(self.index)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the decoder go, and the file where the reader opened it."""
        if self._handle is not None and self._handle is not self._file:
            self._handle.close()
        self._handle, self._decoder = None, None

    def _rows(self, frames: Sequence[int] | Array) -> Array:
        wanted = np.asarray(frames, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self.index)):
            raise IndexError(f"{self.where}: frames 0 to {len(self.index) - 1}, asked for {wanted.min()} to {wanted.max()}")
        return wanted

    def read_grey(self, frames: Sequence[int] | Array) -> Array:
        """Return the sample values of a grey video (depth, masks) as they are coded, (n, H, W) uint8 or uint16, without any conversion.

        Raises:
            BadRecording: the track is not grey, or a frame cannot be decoded.
        """
        dtype = self._grey_dtype()
        wanted = self._rows(frames)
        found = dict(self.each(wanted, grey=True))
        return np.stack([found[row] for row in wanted.tolist()]) if len(wanted) else np.empty((0, *self.shape), dtype)

    def _grey_dtype(self) -> Any:
        grey: dict[str, Any] = {"gray": np.uint8, "gray10le": np.uint16, "gray12le": np.uint16, "gray14le": np.uint16, "gray16le": np.uint16}
        dtype = grey.get(str(self.index.facts["pix_fmt"]))
        if dtype is None:
            raise BadRecording(self.where, f"one of the pixel formats {', '.join(grey)}", str(self.index.facts["pix_fmt"]), "read it as RGB")
        return dtype

    def _picture(self, frame: Any, row: int, grey: Any) -> Array:
        """Return a decoded frame as a new array: RGB, or its samples as they are coded where `grey` is their type."""
        if grey is None:
            out = np.empty((*self.shape, 3), np.uint8)
            self._store(frame, row, out)
            return out
        self._require_size(frame, row)
        plane = frame.planes[0]
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: self.height].view(grey)
        return np.array(samples[: self.shape[0], : self.shape[1]])

    def each(self, frames: Sequence[int] | Array, grey: bool = False) -> Iterator[tuple[int, Array]]:
        """Yield (number, picture) of each frame asked for, ascending and once: in one pass, for more frames than memory holds.

        Pictures are as `read` gives them, or as `read_grey` does. Raises BadRecording where one of them cannot be decoded.
        """
        dtype = self._grey_dtype() if grey else None
        wanted = np.unique(self._rows(frames)).tolist()
        # Frames come out of the decoder in the order of the screen, but for the ones of an open group, which wait for their turn.
        waiting: dict[int, Array] = {}
        due = 0
        for row, frame in self._decode(wanted):
            waiting[row] = self._picture(frame, row, dtype)
            while due < len(wanted) and wanted[due] in waiting:
                yield wanted[due], waiting.pop(wanted[due])
                due += 1
            if len(waiting) > 64:
                break
        if due < len(wanted):
            raise self._lost(wanted[due])

    def read(self, frames: Sequence[int] | Array) -> Array:
        """Return frames by number, (n, H, W, 3) uint8 RGB, in the order asked for; a number may stand twice.

        Raises:
            IndexError: a number is not within 0 .. N-1.
            BadRecording: a frame cannot be decoded.
        """
        wanted = self._rows(frames)
        out = np.empty((len(wanted), *self.shape, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, row in enumerate(wanted.tolist()):
            places.setdefault(row, []).append(place)
        for row, frame in self._decode(sorted(places)):
            first, *others = places.pop(row)
            self._store(frame, row, out[first])
            for other in others:
                out[other] = out[first]
        if places:
            raise self._lost(min(places))
        return out

    def luma(self, frames: Sequence[int] | Array) -> Iterator[tuple[int, Array]]:
        """Yield (number, brightness) of frames in ascending order, (H, W) uint8 that holds until the next: cheaper than RGB, for looking at motion.

        Raises:
            IndexError: a number is not within 0 .. N-1.
            BadRecording: a frame cannot be decoded.
        """
        for row, frame in self._decode(np.unique(self._rows(frames)).tolist()):
            self._require_size(frame, row)
            yield row, brightness(frame)[: self.shape[0], : self.shape[1]]

    def blocks(self, first: int = 0, stop: int | None = None, rows: int = 64) -> Iterator[Array]:
        """Yield frames `first` .. `stop`-1 in blocks of at most `rows`, (n, H, W, 3) uint8 RGB, decoding each frame once."""
        stop = len(self.index) if stop is None else stop
        require(0 <= first <= stop <= len(self.index) and rows > 0, f"{self.where}: frames {first} to {stop} of {len(self.index)} in blocks of {rows}")
        # Frames come out of the decoder in the order of the screen, but for the ones of an open group, which wait for their turn.
        waiting: dict[int, Array] = {}
        block, filled, following = np.empty((min(rows, max(1, stop - first)), *self.shape, 3), np.uint8), 0, first
        for row, frame in self._decode(range(first, stop)):
            if row != following:
                waiting[row] = np.empty((*self.shape, 3), np.uint8)
                self._store(frame, row, waiting[row])
                if len(waiting) > 64:
                    raise self._lost(following)
                continue
            self._store(frame, row, block[filled])
            while True:
                filled, following = filled + 1, following + 1
                if filled == len(block) or following == stop:
                    yield block[:filled]
                    block, filled = np.empty((min(rows, max(1, stop - following)), *self.shape, 3), np.uint8), 0
                if following not in waiting:
                    break
                block[filled] = waiting.pop(following)
        if following != stop:
            raise self._lost(following)

    def small(self, height: int, width: int) -> Iterator[tuple[int, Array]]:
        """Yield (number, picture) of each frame that decodes, in order, scaled to (height, width, 3) uint8 BGR by FFmpeg: for looking at a long video as a whole.

        Raises:
            BadRecording: decoding cannot go on.
        """
        waiting: dict[int, Array] = {}
        following = 0
        for row, frame in self._decode(range(len(self.index))):
            waiting[row] = frame.reformat(width=width, height=height, format="bgr24", interpolation="AREA", threads=1).to_ndarray()
            # A frame may come before its turn (an open group of pictures); one that never comes is damaged, and is passed over.
            while following in waiting or len(waiting) > 64:
                following = following if following in waiting else min(waiting)
                yield following, waiting.pop(following)
                following += 1
        yield from sorted(waiting.items(), key=lambda entry: entry[0])

    def _lost(self, row: int) -> BadRecording:
        return BadRecording(
            f"{self.where}: frame {row}",
            "a picture",
            f"bytes that do not decode at offset {self.index.offset[row]}",
            "the file is damaged: copy it again",
            check="unreadable_frames",
        )

    def _require_size(self, frame: Any, row: int) -> None:
        if (frame.height, frame.width) != (self.height, self.width):
            raise BadRecording(
                f"{self.where}: frame {row}",
                f"{self.width}x{self.height} px as the header says",
                f"{frame.width}x{frame.height}",
                "record with one picture size",
                check="unreadable_frames",
            )

    def _store(self, frame: Any, row: int, out: Array) -> None:
        self._require_size(frame, row)
        if self._whole is None:
            self._converter.convert(frame, out)
        else:
            self._converter.convert(frame, self._whole)
            out[:] = self._whole[: self.shape[0], : self.shape[1]]

    def groups(self, frames: Array) -> Array:
        """Return for each frame a number of the group of pictures it is decoded with, (n,) int64: frames of one group are cheapest read together."""
        return np.asarray(self._starts[frames])

    def span(self, frames: Array) -> tuple[int, int]:
        """Return the bytes [start, stop) of the file that decoding these frames reads, with whatever lies between them."""
        rows = self._row_of_order[int(self._starts[frames].min()) : int(self.index.order[frames].max()) + 1]
        return int(self.index.offset[rows].min()), int((self.index.offset[rows] + self.index.size[rows]).max())

    def packed(self, frames: Sequence[int], spare: list[Array]) -> Iterator[tuple[int, Array]]:
        """Yield (number, picture) of ascending frames in a form to wait in, that `unpack` turns into RGB; arrays are taken from `spare` first.

        Raises:
            BadRecording: a frame cannot be decoded.
        """
        left = set(frames)
        for row, frame in self._decode(frames):
            self._require_size(frame, row)
            left.discard(row)
            if self._whole is None:
                yield row, self._converter.pack(frame, spare.pop() if spare else None)
            else:
                cut = np.empty((*self.shape, 3), np.uint8)
                self._store(frame, row, cut)
                yield row, cut
        if left:
            raise self._lost(min(left))

    def _decode(self, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield (row, decoded frame) for rows in ascending order; a row that does not decode is left out."""
        for run in self._runs(rows):
            yield from self._direct_run(run) if self._direct else self._demuxed_run(run)

    def _runs(self, rows: Sequence[int]) -> Iterator[_Run]:
        """Group rows so that what shares a group of pictures, or follows the one before, is decoded once."""
        run: _Run | None = None
        for start, stop, row in sorted((int(self._starts[row]), int(self.index.order[row]), row) for row in rows):
            if run is not None and start <= run.stop + 1:
                run.stop = max(run.stop, stop)
                run.rows.add(row)
                continue
            if run is not None:
                yield run
            run = _Run(start, stop, {row})
        if run is not None:
            yield run

    def _payloads(self, start: int, stop: int) -> Iterator[tuple[int, memoryview]]:
        """Yield (row, bytes) of the packets start .. stop in decoding order, reading neighbours together."""
        handle, index = self._handle, self.index
        require(handle is not None, f"{self.where}: the reader is closed")
        assert handle is not None
        rows = self._row_of_order[start : stop + 1]
        offsets, sizes = index.offset[rows].tolist(), index.size[rows].tolist()
        at = 0
        while at < len(rows):
            end, until = at, offsets[at]
            while end < len(rows) and 0 <= offsets[end] - until <= _GAP_BYTES and (end == at or offsets[end] + sizes[end] - offsets[at] <= _SPAN_BYTES):
                until = offsets[end] + sizes[end]
                end += 1
            handle.seek(offsets[at])
            span = memoryview(handle.read(until - offsets[at]))
            self.bytes_read += len(span)
            for row, offset, size in zip(rows[at:end].tolist(), offsets[at:end], sizes[at:end], strict=True):
                yield row, span[offset - offsets[at] : offset - offsets[at] + size]
            at = end

    def _direct_run(self, run: _Run) -> Iterator[tuple[int, Any]]:
        import av

        if self._decoder is None:
            facts = self.index.facts
            self._decoder = decoder_for(str(facts["codec"]), base64.b64decode(str(facts["extradata"])), self.width, self.height)
        decoder, left, pending = self._decoder, set(run.rows), 0
        try:
            for row, payload in chain(self._payloads(run.start, run.stop), ((-1, None),)):
                if payload is None and not pending:
                    break  # every packet has given its frame: there is nothing to flush, and a flush costs as much as a small frame
                for frame in decoder.decode(padded_packet(payload, row) if payload is not None else None):
                    pending -= 1
                    self.decoded += 1
                    if frame.pts in left and not frame.is_corrupt:
                        left.discard(frame.pts)
                        yield frame.pts, frame
                pending += 1
            else:
                decoder.flush_buffers()
        except (av.FFmpegError, MemoryError) as error:
            self._decoder = None
            raise self._lost(min(left, default=run.stop)) from error
        except GeneratorExit:
            self._decoder = None
            raise

    def _demuxed_run(self, run: _Run) -> Iterator[tuple[int, Any]]:
        """Decode through the demuxer, from a seek point before the run, or from the start where seeking overshoots."""
        import av

        index, left = self.index, set(run.rows)
        row_of_pts = {int(index.pts[row]): row for row in run.rows}
        earliest = min(row_of_pts)
        first = int(index.pts[np.flatnonzero(index.order == run.start)[0]]) if np.any(index.order == run.start) else earliest
        try:
            for seek in (True, False):
                with open_container(self._file, self.where) as (container, _, _):
                    stream = container.streams[index.track]
                    stream.codec_context.thread_count = 1
                    if seek:
                        container.seek(first, stream=stream, backward=True)
                    started = False
                    for frame in container.decode(stream):
                        if frame.pts is None:
                            continue
                        if not started and seek and frame.pts > earliest:
                            break
                        started = True
                        row = row_of_pts.get(frame.pts)
                        if row in left and not frame.is_corrupt:
                            assert row is not None
                            left.discard(row)
                            yield row, frame
                        if not left:
                            return
                    if started:
                        return
        except (av.FFmpegError, MemoryError) as error:
            raise self._lost(min(left)) from error
