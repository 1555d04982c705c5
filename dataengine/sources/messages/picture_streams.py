"""The pictures of one topic as a camera stream, their bytes taken out of the messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Camera, Column
from dataengine.core.pictures import picture_header
from dataengine.core.problem import Problem
from dataengine.core.stream import Buffer, Frames, Items, Rows
from dataengine.sources.messages.fields import Decoded
from dataengine.sources.messages.pictures import RawPicture, encoded_picture, from_base64, pixels_of, take_out


class PictureStream:
    """Takes the pictures out of one topic's messages.

    The first picture decides what the stream holds: its encoding, or for raw pixels size, pixel format and row length. A message whose
    picture is of another kind stays whole and is counted.
    """

    def __init__(self, topic: str, stream: str, messages: str, kind: Literal["encoded", "raw"]) -> None:
        self.topic, self.stream, self._messages, self.kind = topic, stream, messages, kind
        self._skip, self._encoding = 0, ""
        self._depth = False
        self._sizes: set[tuple[int, int, int]] = set()
        self._raw: RawPicture | None = None
        self._pixels: tuple[str, tuple[int, ...]] = ("uint8", ())
        self._rows = self._whole = self._empty = self._damaged = 0

    def split(self, payloads: Sequence[Buffer], encoding: str, decoded: Decoded, clocks: Mapping[str, Array]) -> tuple[list[Buffer], list[str], Rows | None]:
        """Return what the message stream keeps of a batch, its encodings, and the rows of the camera stream."""
        kept: list[Buffer] = list(payloads)
        encodings = [encoding] * len(payloads)
        places = [(-1, -1)] * len(payloads) if decoded.picture is None else [(int(start), int(end)) for start, end in decoded.picture.tolist()]
        headers = self._headers(decoded) if self.kind == "raw" else {}
        rows: list[int] = []
        found: list[Buffer] = []
        pixels: list[Array] = []
        for row, (start, end) in enumerate(places):
            if start < 0:
                self._whole += 1
                continue
            data = payloads[row][start:end]
            if self.kind == "raw":
                picture = self._raw_picture(headers.get(row), data)
                taken = None if picture is None else take_out(payloads[row], start, end, encoding, "pixels")
                if taken is not None and picture is not None:
                    pixels.append(picture)
            elif encoding == "json":
                held = from_base64(data)
                taken = take_out(payloads[row], start, end, encoding, "base64") if held is not None and self._encoded_picture(held) == 0 else None
                if taken is not None and held is not None:
                    found.append(held)
                    self._note_size(held)
            else:
                skip = self._encoded_picture(data)
                taken = None if skip is None else take_out(payloads[row], start + skip, end, encoding, "spliced")
                if taken is not None and skip is not None:
                    found.append(data[skip:])
                    self._note_size(found[-1])
            if taken is None:
                self._whole += 1
                continue
            kept[row], encodings[row] = taken
            rows.append(row)
        self._rows += len(rows)
        if not rows:
            return kept, encodings, None
        at = np.array(rows)
        values = Frames(np.stack(pixels)) if self.kind == "raw" else Items(found, self._encoding)
        return kept, encodings, Rows(self.stream, values, {name: stamps[at] for name, stamps in clocks.items()})

    @staticmethod
    def _headers(decoded: Decoded) -> dict[int, RawPicture]:
        columns = []
        for name in ("height", "width", "is_bigendian", "step"):
            parts = decoded.numbers.get(name, [])
            columns.append({row: int(value) for part in parts for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)})
        height, width, big, step = columns
        big = big or dict.fromkeys(height, 0)  # Foxglove's pictures have no such field
        texts = dict(decoded.texts.get("encoding", []))
        return {
            row: RawPicture(height[row], width[row], texts[row].decode("utf-8", "replace"), big[row] != 0, step[row])
            for row in height
            if row in width and row in big and row in step and row in texts
        }

    def _raw_picture(self, header: RawPicture | None, data: Buffer) -> Array | None:
        if header is None or (self._raw is not None and header != self._raw):
            return None
        picture = pixels_of(header, data)
        if picture is not None and self._raw is None:
            self._raw = header
            self._pixels = (str(picture.dtype), picture.shape)
        return picture

    def _encoded_picture(self, data: Buffer) -> int | None:
        """Return where the picture starts in its message's data, None where the message stays whole."""
        if not self._encoding:
            found = encoded_picture(data)
            if found is None:
                return None
            self._skip, self._encoding = found
        if len(data) < self._skip:
            return None
        return self._skip

    def _note_size(self, picture: Buffer) -> None:
        if not len(picture):
            self._empty += 1
            return
        header = picture_header(picture)
        if header is None or header.encoding != self._encoding:
            self._damaged += self._encoding in ("jpeg", "png")
            return
        self._damaged += not header.complete
        self._sizes.add((header.height, header.width, header.channels))
        if header.encoding == "png" and header.channels == 1 and picture[24] == 16:
            self._depth = True

    def column(self, camera: Camera) -> Column | None:
        """Return the camera's column, None where no picture was taken out."""
        if not self._rows:
            return None
        link = {"topic": self.topic, "messages": self._messages}
        if self.kind == "raw":
            assert self._raw is not None
            found = self._raw.format()
            layout = {"height": self._raw.height, "width": self._raw.width, "encoding": self._raw.encoding, "step": self._raw.step}
            return Column(
                self.stream,
                kind="depth" if found is not None and found.depth else "image",
                dtype=self._pixels[0],
                shape=self._pixels[1],
                camera=camera,
                extra={**link, "raw_picture": {**layout, "big_endian": self._raw.big_endian}},
            )
        axes = [{size[axis] for size in self._sizes} for axis in range(3)]
        shape = tuple(next(iter(axis)) if len(axis) == 1 else None for axis in axes)
        return Column(
            self.stream,
            kind="depth" if self._depth else "image",
            dtype="uint16" if self._depth else "uint8",
            shape=shape,
            encoding=self._encoding,
            camera=camera,
            extra=link,
        )

    def rule(self) -> dict[str, object]:
        """Return how the messages go together with the camera stream, for the message stream's column."""
        exact = "always" if self.kind == "encoded" else "where the frames of the camera stream are stored lossless"
        return {"stream": self.stream, "kind": "spliced" if self.kind == "encoded" else "pixels", "exact": exact}

    def problems(self) -> Iterator[Problem]:
        """Yield what was wrong with pictures."""
        for count, check, what in (
            (self._empty, "missing_picture", "hold no picture"),
            (self._damaged, "damaged_picture", f"are no whole {self._encoding}"),
            (self._whole, "picture_kept_in_message", "are of another kind or size than the first and stay in the message stream only"),
        ):
            if count:
                total = self._rows + self._whole
                yield Problem(
                    check, f"topic {self.topic!r}: {count} of {total} pictures {what}", where=self.topic, severity="warning" if self._rows else "info"
                )
