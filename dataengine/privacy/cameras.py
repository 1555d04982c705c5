"""The pictures of one camera, in whatever form they come, searched for faces and blurred, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.protocols import Opener
from dataengine.core.slices import media_source
from dataengine.core.stream import Frames, Items, MediaFrames, Rows, Values
from dataengine.privacy.audit import CameraAudit
from dataengine.privacy.config import FacesConfig
from dataengine.privacy.detector import Box, Detector, boxes_in
from dataengine.privacy.mosaic import Tracks, blur
from dataengine.privacy.picture_bytes import channels_first, decode, encode, searchable
from dataengine.video.decode import FrameReader
from dataengine.video.index import FrameIndex, frame_index

BLOCK_BYTES = 32 << 20
BLOCK_ROWS = 32


class Camera:
    """Blurs one camera's stream.

    `rows` takes the stream's rows in order and yields those whose neighbours in time are known; `end` yields the rest.

    Args:
        stream: the stream's name.
        column: what is known of it.
        detector: finds faces.
        config: how.
        audit: is filled.
    """

    def __init__(self, stream: str, column: Column, detector: Detector, config: FacesConfig, audit: CameraAudit) -> None:
        self.stream, self._detector, self._config, self._audit = stream, detector, config, audit
        self._turns = round(float(column.extra.get("rotation_deg", 0) or 0) / 90) % 4 if isinstance(column.extra.get("rotation_deg", 0), int | float) else 0
        self._tracks = Tracks(config)
        self._waiting: deque[tuple[Array | None, str, dict[str, int]]] = deque()
        self._done: list[tuple[Array | bytes, str, dict[str, int]]] = []
        self._done_bytes = 0
        self._wrap: Callable[[list[Array | bytes], list[str]], Values] | None = None

    def rows(self, rows: Rows, files: Opener) -> Iterator[Rows]:
        """Take the next rows; yield blurred ones."""
        values = rows.values
        if isinstance(values, MediaFrames):
            yield from self._film(rows, values, files)
        elif isinstance(values, Items):
            self._wrap = lambda data, encodings: Items([bytes(part) for part in data], encodings[0] if len(set(encodings)) == 1 else list(encodings))
            for place, data in enumerate(values.data):
                stamps = _stamps(rows.clocks, place)
                if not len(data):
                    yield from self._take(None, values.encoding(place), stamps)
                    continue
                pixels, encoding = decode(data, f"stream {self.stream!r}: row {self._audit.frames}")
                yield from self._take(pixels, encoding, stamps)
        elif isinstance(values, Frames):
            exact = values.exact
            self._wrap = lambda data, _: Frames(np.stack([np.asarray(part) for part in data]), exact)
            for place in range(len(values)):
                yield from self._take(values.pixels[place], "", _stamps(rows.clocks, place))
        else:
            last, first = (-1, 0) if channels_first(values.shape[1:]) else (0, 0)
            self._wrap = lambda data, _: np.stack([np.moveaxis(np.asarray(part), last, first) for part in data])
            for place in range(len(values)):
                yield from self._take(np.moveaxis(values[place], first, last), "", _stamps(rows.clocks, place))

    def _film(self, rows: Rows, values: MediaFrames, files: Opener) -> Iterator[Rows]:
        """Decode the frames of kept video: they become raw ones, which the store encodes."""
        self._wrap = lambda data, _: Frames(np.stack([np.asarray(part) for part in data]))
        source = media_source(files, values.uri, values.span)
        try:
            index = FrameIndex.from_columns(values.index, values.facts) if values.index is not None else frame_index(source, values.track, values.uri)
            with FrameReader(source, index, values.uri) as reader:
                size = max(1, reader.shape[0] * reader.shape[1] * 3)
                block = max(1, min(BLOCK_ROWS, BLOCK_BYTES // size))
                place = 0
                for pixels in reader.blocks(values.first, values.first + values.count, block):
                    for frame in pixels:
                        yield from self._take(frame, "", _stamps(rows.clocks, place))
                        place += 1
        finally:
            if not isinstance(source, str):
                source.close()

    def _take(self, pixels: Array | None, encoding: str, stamps: dict[str, int]) -> Iterator[Rows]:
        audit, finds = self._audit, None
        if pixels is not None and audit.frames % self._config.every == 0:
            finds = boxes_in(self._detector, searchable(pixels), self._config.longest_px, self._turns)
            audit.searched += 1
            sure = sum(box.score >= self._config.sure for box in finds)
            audit.with_faces += bool(sure)
            audit.faces += sure
            audit.unsure += len(finds) - sure
        audit.frames += 1
        # A picture that a caller's buffer holds may change before its turn comes: keep our own.
        self._waiting.append((None if pixels is None else np.array(pixels), encoding, stamps))
        for boxes in self._tracks.add(finds):
            yield from self._settle(boxes)

    def _settle(self, boxes: list[Box]) -> Iterator[Rows]:
        pixels, encoding, stamps = self._waiting.popleft()
        if pixels is None:
            done: Array | bytes = b""
        else:
            self._audit.blurred += bool(boxes)
            self._audit.boxes += len(boxes)
            picture = blur(pixels, boxes, self._config.margin, self._config.cells) if boxes else pixels
            done = encode(picture, encoding, self._config.quality, f"stream {self.stream!r}") if encoding else picture
        self._done.append((done, encoding, stamps))
        self._done_bytes += len(done) if isinstance(done, bytes) else done.nbytes
        if len(self._done) >= BLOCK_ROWS or self._done_bytes >= BLOCK_BYTES:
            yield self._flush()

    def _flush(self) -> Rows:
        done, self._done, self._done_bytes = self._done, [], 0
        assert self._wrap is not None
        clocks = {name: np.array([stamps[name] for _, _, stamps in done], dtype=np.int64) for name in done[0][2]}
        return Rows(self.stream, self._wrap([part for part, _, _ in done], [encoding for _, encoding, _ in done]), clocks)

    def end(self) -> Iterator[Rows]:
        """Yield what still waits."""
        for boxes in self._tracks.end():
            yield from self._settle(boxes)
        if self._done:
            yield self._flush()


def _stamps(clocks: Mapping[str, Array], place: int) -> dict[str, int]:
    return {name: int(stamps[place]) for name, stamps in clocks.items()}


def blurred_column(column: Column, values: Values, quality: int) -> Column:
    """Return the column of a blurred stream: kept video becomes raw frames, encoded pictures are encoded again."""
    extra = {**column.extra, "faces_blurred": True}
    if isinstance(values, MediaFrames):
        facts = values.facts
        height, width = facts.get("crop_height", facts.get("height")), facts.get("crop_width", facts.get("width"))
        shape = (int(height), int(width), 3) if height and width else (*column.shape[:2], 3)
        extra["encoded_as"] = column.encoding or str(facts.get("codec", ""))
        return replace(column, encoding=None, dtype="uint8", shape=shape, extra=extra)
    if isinstance(values, Items):
        extra["encoded_again"] = {"jpeg_quality": quality}
    return replace(column, extra=extra)
