"""How the rows of one stream are laid down in a shard: numbers, encoded items, encoded video, kept video.

A lane serves one stream over all episodes of a shard: `begin`, `add…`, `end`, and then `keep` or `abandon` for each of them. `end` only says what the
episode is; `abandon` (which may also come before `end`) takes back what `add` laid down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.digest import new_digest
from dataengine.core.errors import BadRecording
from dataengine.core.pictures import PICTURE_ENCODINGS, PictureHeader, PictureHeaders
from dataengine.core.stream import Buffer, Items
from dataengine.store.arrays import ArrayWriter, BytesWriter, FileLog, write_group

NO_TIME = np.iinfo(np.int64).min
PICTURES = PICTURE_ENCODINGS
KEPT_FOR_STEPS_BYTES = 256 << 20
COPIED_BYTES = 16 << 10
STEP_ROW_BYTES = 16 << 10
GROUP_BYTES = 4 << 20


@dataclass
class LaneEpisode:
    """What a lane knows of the episode it has just ended: rows, digest, and the fields of its index row."""

    rows: int
    digest: str
    index: dict[str, Any]
    pictures: PictureFacts | None = None


@dataclass
class PictureFacts:
    """What the headers of an episode's encoded pictures say, one entry a row; height 0 where a row is absent or no picture."""

    size: Array
    complete: Array
    empty: Array
    digests: list[bytes] = field(default_factory=list)


class ClockArrays:
    """The time arrays beside a stream's rows: `timestamps_ns` and further clocks, padded where an episode has none."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._writers: dict[str, ArrayWriter] = {}
        self._marks: dict[str, int] = {}
        self.rows = 0

    def add(self, rows: int, clocks: Mapping[str, Array]) -> None:
        """Lay down the clocks of one episode's rows; `clocks` maps array names to (rows,) int64."""
        for name in clocks:
            if name not in self._writers:
                self._writers[name] = ArrayWriter(self.folder / name, f"{self.name}/{name}", np.dtype(np.int64))
        for name, writer in self._writers.items():
            if writer.rows < self.rows:
                writer.append(np.full(self.rows - writer.rows, NO_TIME))
            if name in clocks:
                writer.append(clocks[name])
        self.rows += rows

    def close(self, log: FileLog) -> None:
        """Write all arrays."""
        for writer in self._writers.values():
            if writer.rows < self.rows:
                writer.append(np.full(self.rows - writer.rows, NO_TIME))
            writer.close(log)


class NumericLane:
    """Rows of one dtype and shape."""

    form = "array"

    def __init__(self, folder: Path, name: str, stream: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self.folder, self.name, self.stream = folder, name, stream
        self.dtype, self.row_shape = dtype, row_shape
        self.values = ArrayWriter(folder / "values", f"{name}/values", dtype, row_shape)
        self.clocks = ClockArrays(folder, name)
        self._layout = f"{dtype.name}{list(row_shape)}".encode()
        # Parquet has no complex numbers: they stay native.
        self._fits_steps = dtype.kind != "c" and int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize <= STEP_ROW_BYTES
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self._start = self.values.mark()
        self._digest = new_digest()
        self._digest.update(self._layout)
        self.parts: list[Array] = []
        self._part_bytes = 0
        self.steppable = self._fits_steps

    def add(self, values: Array) -> None:
        """Add rows of the running episode."""
        if values.dtype.byteorder == ">":
            values = values.astype(values.dtype.newbyteorder("<"))
        if values.dtype != self.dtype or values.shape[1:] != self.row_shape:
            raise BadRecording(
                f"stream {self.stream!r}",
                f"rows of {self.dtype.name} {self.row_shape} as in the rows before",
                f"{values.dtype.name} {values.shape[1:]}",
                "split the recording where its layout changes",
                check="layout_changes",
            )
        values = np.ascontiguousarray(values)
        if values.nbytes:  # a view of a small array costs more than its copy
            self._digest.update(values.tobytes() if values.nbytes <= COPIED_BYTES else values.reshape(-1).view(np.uint8).data)
        self.values.append(values)
        if self.steppable:
            self._part_bytes += values.nbytes
            if self._part_bytes > KEPT_FOR_STEPS_BYTES:
                self.steppable, self.parts = False, []
            else:
                self.parts.append(values)

    @property
    def rows(self) -> int:
        """Return the rows of the running episode."""
        return self.values.rows - self._start

    def matrix(self) -> Array:
        """Return the running episode's rows, (N, *row_shape)."""
        if len(self.parts) == 1:
            return self.parts[0]
        return np.concatenate(self.parts) if self.parts else np.zeros((0, *self.row_shape), self.dtype)

    def end(self) -> LaneEpisode:
        """Say what the episode is."""
        rows = self.rows
        index = {"kind": "array", "array": self.name, "row_start": self._start, "row_end": self._start + rows, "lossy": False}
        return LaneEpisode(rows, self._digest.hexdigest(length=16), index)

    def keep(self, clocks: Mapping[str, Array]) -> None:
        """Keep the episode, with the time arrays of its rows by name."""
        self.clocks.add(self.rows, clocks)

    def abandon(self) -> None:
        """Take the running episode back."""
        self.values.cut(self._start)

    def close(self, log: FileLog) -> None:
        """Write what is buffered and the metadata."""
        self.values.close(log)
        self.clocks.close(log)
        write_group(self.folder, self.name, {"stream": self.stream, "form": "array"}, log)


class ItemsLane:
    """Rows that are bytes: pictures as they came, messages, texts."""

    form = "items"

    def __init__(self, folder: Path, name: str, stream: str) -> None:
        self.folder, self.name, self.stream = folder, name, stream
        self.data = BytesWriter(folder / "data", f"{name}/data")
        self.offsets = ArrayWriter(folder / "offsets", f"{name}/offsets", np.dtype(np.int64))
        self.offsets.append(np.zeros(1, dtype=np.int64))
        self.encoding = ArrayWriter(folder / "encoding", f"{name}/encoding", np.dtype(np.uint8))
        self.headers = {
            key: ArrayWriter(folder / key, f"{name}/{key}", np.dtype(kind))
            for key, kind in (("height", "<i4"), ("width", "<i4"), ("channels", "u1"), ("complete", "u1"))
        }
        self.encodings: list[str] = []
        self.clocks = ClockArrays(folder, name)
        self.total = 0
        self._pictures = False
        self._header = PictureHeaders()
        self.begin()

    def begin(self) -> None:
        """Start an episode."""
        self._start = self.total
        self._data_start = self.data.mark()
        self._digest = new_digest()
        self._lengths: list[int] = []
        self._codes: list[int] = []
        self._found: list[PictureHeader | None] = []
        self._prints: list[bytes] = []
        self._episode_pictures = False

    @property
    def rows(self) -> int:
        """Return the rows of the running episode."""
        return len(self._lengths)

    def _code(self, encoding: str) -> int:
        if encoding not in self.encodings:
            if len(self.encodings) == 255:
                raise BadRecording(f"stream {self.stream!r}", "at most 255 encodings", "more", check="too_many_encodings")
            self.encodings.append(encoding)
        return self.encodings.index(encoding)

    def add(self, items: Items) -> None:
        """Add items of the running episode."""
        one = items.encodings if isinstance(items.encodings, str) else None
        code = self._code(one) if one is not None else -1
        pictures = one in PICTURES if one is not None else any(encoding in PICTURES for encoding in items.encodings)
        if pictures and not self._episode_pictures:
            self._episode_pictures = True
            self._found = [None] * len(self._lengths)
            self._prints = [b""] * len(self._lengths)
        self._lengths += map(len, items.data)
        self._codes += [code] * len(items) if one is not None else map(self._code, items.encodings)
        if self._episode_pictures:
            self._found += self._header.of(items.data)
            self._prints += [len(data).to_bytes(4, "little") + bytes(data[-24:]) for data in items.data]
        for group in _groups(items.data):
            self._digest.update(group)
            self.data.append(group)

    def end(self) -> LaneEpisode:
        """Say what the episode is."""
        rows = len(self._lengths)
        self._sizes = np.array(self._lengths, dtype=np.int64)
        self._digest.update(self._sizes.tobytes())
        facts = None
        if self._episode_pictures:
            self._table = _header_table(self._found)
            facts = PictureFacts(self._table[:, :3], self._table[:, 3].astype(bool), self._sizes == 0, self._prints)
        names = {self.encodings[code] for code in set(self._codes)}
        index = {
            "kind": "items",
            "array": self.name,
            "row_start": self._start,
            "row_end": self._start + rows,
            "encoding": "+".join(sorted(names)) if names else None,
            "lossy": False,
        }
        return LaneEpisode(rows, self._digest.hexdigest(length=16), index, facts)

    @property
    def total_bytes(self) -> int:
        """Return the bytes of the running episode's items."""
        return sum(self._lengths)

    def pictures(self, first: int, stop: int) -> list[bytes]:
        """Return rows [first, stop) of the episode that has ended and is not kept yet, as they came; an absent row is empty."""
        ends = (self._data_start + np.cumsum(self._sizes)).tolist()
        starts = [self._data_start, *ends[:-1]]
        data = self.data.read(starts[first], ends[stop - 1]) if stop > first else b""
        return [data[starts[row] - starts[first] : ends[row] - starts[first]] for row in range(first, stop)]

    def keep(self, clocks: Mapping[str, Array]) -> None:
        """Keep the episode, with the time arrays of its rows by name."""
        self.offsets.append(self._data_start + np.cumsum(self._sizes))
        self.encoding.append(np.frombuffer(bytes(self._codes), dtype=np.uint8))
        if self._episode_pictures and not self._pictures:
            self._pictures = True
            for writer in self.headers.values():
                writer.append(np.zeros(self.total, dtype=writer.dtype))
        if self._pictures:
            table = self._table if self._episode_pictures else np.zeros((self.rows, 4), dtype=np.int32)
            for column, writer in enumerate(self.headers.values()):
                writer.append(table[:, column])
        self.clocks.add(self.rows, clocks)
        self.total += self.rows

    def abandon(self) -> None:
        """Take the running episode back."""
        self.data.cut(self._data_start)

    def close(self, log: FileLog) -> None:
        """Write what is buffered and the metadata."""
        self.data.close(log)
        self.offsets.close(log)
        self.encoding.close(log)
        if self._pictures:
            for writer in self.headers.values():
                writer.close(log)
        self.clocks.close(log)
        write_group(self.folder, self.name, {"stream": self.stream, "form": "items", "encodings": self.encodings}, log)


def _header_table(found: Sequence[PictureHeader | None]) -> Array:
    """Return (N, 4) int32 heights, widths, channels and whether the end is there, zeros where no header was found."""
    table = np.zeros((len(found), 4), dtype=np.int32)
    if found and found[0] is not None and found.count(found[0]) == len(found):  # as nearly always
        table[:] = found[0][1:]
        return table
    for row, header in enumerate(found):
        if header is not None:
            table[row] = header[1:]
    return table


def _groups(data: Sequence[Buffer]) -> Iterator[bytes]:
    """Yield the items' bytes joined into groups of some MiB: one digest and one write call each."""
    first, size = 0, 0
    for row, item in enumerate(data):
        size += len(item)
        if size >= GROUP_BYTES:
            yield b"".join(data[first : row + 1])
            first, size = row + 1, 0
    if size:
        yield b"".join(data[first:])
