"""The samples of the data tracks of an MP4: where each lies and from when to when it holds, read from the tables alone.

FFmpeg would read the whole file to yield the few packets of such a track; here only its tables are read, and later its samples. What the tables declare is
checked against their boxes and the file before anything is allocated. Source: ISO/IEC 14496-12 §8.3 to §8.7.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import numpy as np

from dataengine.core.arrays import Array, read_only
from dataengine.core.errors import BadRecording
from dataengine.video.boxes import boxes_in
from dataengine.video.index import ticks_to_ns

MAX_SAMPLES = 1 << 22
MAX_TRACKS = 256
_ADVICE = "the file is damaged: copy it again"

_Box = tuple[int, int]


@dataclass(frozen=True, eq=False)
class DataTrack:
    """A track that is neither video nor sound: its number in the file, the four letters of its format, and its samples.

    `start_ns` and `end_ns` are (N,) int64 on the container's clock with its edit list applied; `offset` and `size` (N,) the bytes in the file.
    """

    number: int
    entry: bytes
    handler: str
    start_ns: Array
    end_ns: Array
    offset: Array
    size: Array

    def __len__(self) -> int:
        return len(self.start_ns)


def _bad(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found, _ADVICE, check="absurd_size")


class _Track:
    """The boxes of one track by their path ("mdia/mdhd"), the first of each."""

    def __init__(self, file: BinaryIO, start: int, end: int, where: str) -> None:
        self._file, self._where = file, where
        self._found: dict[str, _Box] = {}
        pending = [("", start, end)]
        for path, inside, after in pending:
            for kind, box_start, box_end in boxes_in(file, inside, after):
                name = f"{path}{kind.decode('latin-1')}"
                if name in self._found or len(self._found) > 256:
                    continue
                self._found[name] = (box_start, box_end)
                if name in ("mdia", "mdia/minf", "mdia/minf/stbl", "edts"):
                    pending.append((f"{name}/", box_start, box_end))

    def __contains__(self, path: str) -> bool:
        return path in self._found

    def data(self, path: str, limit: int) -> bytes:
        """Return the first `limit` bytes of a box, none where it is absent."""
        if path not in self._found:
            return b""
        start, end = self._found[path]
        self._file.seek(start)
        return self._file.read(min(limit, end - start))

    def table(self, name: str, fields: int, width: int = 4, head: int = 8) -> Array:
        """Return the entries of a table of `stbl` or `edts`, (N, fields) int64."""
        path = name if "/" in name else f"mdia/minf/stbl/{name}"
        start, end = self._found.get(path, (0, 0))
        count = int.from_bytes(self.data(path, head)[head - 4 :], "big")
        size = count * fields * width
        if count > MAX_SAMPLES or size > end - start - head:
            raise _bad(self._where, f"a table {name!r} of at most {MAX_SAMPLES} entries that lies inside its box", f"{count} in {end - start} bytes")
        self._file.seek(start + head)
        return np.frombuffer(self._file.read(size), f">u{width}").astype(np.int64).reshape(count, fields)


def _sizes(track: _Track, where: str) -> Array:
    head = track.data("mdia/minf/stbl/stsz", 12)
    if len(head) < 12:
        return np.zeros(0, np.int64)
    one, count = struct.unpack(">4xII", head)
    if not one:
        return track.table("stsz", 1, head=12)[:, 0]
    if count > MAX_SAMPLES:
        raise _bad(where, f"at most {MAX_SAMPLES} samples", f"{count}")
    return np.full(count, one, np.int64)


def _offsets(track: _Track, sizes: Array, where: str) -> Array:
    """Return where each sample lies: chunks by their offsets, samples of a chunk one behind the other."""
    wide = "mdia/minf/stbl/co64" in track
    chunks = track.table("co64", 1, width=8)[:, 0] if wide else track.table("stco", 1)[:, 0]
    runs = track.table("stsc", 3)
    first, per_chunk = runs[:, 0] - 1, runs[:, 1]
    if len(sizes) == 0:
        return np.zeros(0, np.int64)
    if not len(runs) or first[0] != 0 or (np.diff(first) <= 0).any() or first[-1] >= len(chunks) or (per_chunk < 1).any() or (chunks < 0).any():
        raise _bad(where, "runs of chunks that rise from the first on", f"{len(runs)} runs for {len(chunks)} chunks")
    counts = np.repeat(np.minimum(per_chunk, len(sizes)), np.diff(np.append(first, len(chunks))))
    ends = np.cumsum(counts)
    if ends[-1] < len(sizes):
        raise _bad(where, f"chunks of {len(sizes)} samples", f"chunks of {int(ends[-1])}")
    chunk_of = np.searchsorted(ends, np.arange(len(sizes)), side="right")
    before = np.concatenate([[0], np.cumsum(sizes)])
    first_of_chunk = np.minimum(ends - counts, len(sizes))
    return np.asarray(chunks[chunk_of] + before[:-1] - before[first_of_chunk[chunk_of]], dtype=np.int64)


def _timescale(data: bytes) -> int:
    wide = data[:1] == b"\1"
    return int.from_bytes(data[20:24] if wide else data[12:16], "big")


def _shift_ns(track: _Track, movie_scale: int, scale: int) -> int:
    """Return what the edit list adds to each time: an empty edit at the start delays, an edit that begins later cuts off."""
    head = track.data("edts/elst", 8)
    if len(head) < 8:
        return 0
    width = 8 if head[0] == 1 else 4
    size = 2 * width + 4
    delay, count = 0, int.from_bytes(head[4:8], "big")
    data = track.data("edts/elst", 8 + size * min(count, 16))[8:]
    for at in range(0, len(data) - size + 1, size):
        duration, media = int.from_bytes(data[at : at + width], "big"), int.from_bytes(data[at + width : at + 2 * width], "big", signed=True)
        if media >= 0:
            return delay - media * 1_000_000_000 // scale
        delay += duration * 1_000_000_000 // max(movie_scale, 1)
    return delay


def _read(track: _Track, number: int, entry: bytes, movie_scale: int, size: int, where: str) -> DataTrack:
    place = f"{where}: track {number}"
    scale = _timescale(track.data("mdia/mdhd", 32))
    sizes = _sizes(track, place)
    steps = track.table("stts", 2)
    if not scale or int(np.minimum(steps[:, 0], 1 << 40).sum()) > MAX_SAMPLES:
        raise _bad(place, f"a time scale, and times of at most {MAX_SAMPLES} samples", f"scale {scale}, {int(steps[:, 0].sum())} samples")
    durations = np.repeat(steps[:, 1], steps[:, 0])
    if len(durations) < len(sizes):
        raise _bad(place, f"times of {len(sizes)} samples", f"times of {len(durations)}")
    ends = np.cumsum(durations[: len(sizes)], dtype=np.int64)
    offsets = _offsets(track, sizes, place)
    if len(sizes) and (int((offsets + sizes).max()) > size or int(offsets.min()) < 0):
        raise BadRecording(
            place, f"samples within the {size} bytes of the file", f"one that ends at {int((offsets + sizes).max())}", _ADVICE, check="truncated"
        )
    shift, base = _shift_ns(track, movie_scale, scale), Fraction(1, scale)
    if max(abs(shift), int(ends[-1]) * 1_000_000_000 // scale if len(ends) else 0) >= 1 << 61:
        raise BadRecording(
            place, "times within 73 years", f"{int(ends[-1]) if len(ends) else 0} / {scale} s, shifted by {shift} ns", _ADVICE, check="absurd_times"
        )
    edges = ticks_to_ns(np.concatenate([[0], ends]).astype(np.int64), base) + shift
    handler = track.data("mdia/hdlr", 256)[24:].split(b"\0")[0].decode("latin-1")
    handler = "".join(letter for letter in handler if letter.isprintable()).strip()
    return DataTrack(number, entry, handler, read_only(edges[:-1]), read_only(edges[1:]), read_only(offsets), read_only(sizes))


def data_tracks(file: BinaryIO, entries: frozenset[bytes], where: str) -> list[DataTrack]:
    """Return the tracks of an MP4 whose samples have one of these formats (the four letters of the first sample entry, such as "gpmd").

    Args:
        file: the open file; its position moves.
        entries: formats that are asked for.
        where: what to call the file in messages.

    Raises:
        BadRecording: tables that declare more than they hold, or samples behind the end of the file.
    """
    size = file.seek(0, 2)
    found: list[DataTrack] = []
    movie = next(((start, end) for kind, start, end in boxes_in(file, 0, size) if kind == b"moov"), None)
    if movie is None:
        return found
    movie_scale, number = 0, 0
    for kind, start, end in boxes_in(file, *movie):
        if kind == b"mvhd":
            file.seek(start)
            movie_scale = _timescale(file.read(min(32, end - start)))
        if kind != b"trak" or number >= MAX_TRACKS:
            continue
        track = _Track(file, start, end, f"{where}: track {number}")
        entry = track.data("mdia/minf/stbl/stsd", 16)[12:16]
        if entry in entries:
            found.append(_read(track, number, entry, movie_scale, size, where))
        number += 1
    return found


def user_data(file: BinaryIO, names: Mapping[bytes, int]) -> dict[bytes, bytes]:
    """Return boxes of `moov/udta` by name, each with at most so many bytes as `names` says; larger ones are left out."""
    size = file.seek(0, 2)
    found: dict[bytes, bytes] = {}
    for kind, start, end in boxes_in(file, 0, size):
        for inner, inner_start, inner_end in boxes_in(file, start, end) if kind == b"moov" else ():
            for name, data_start, data_end in boxes_in(file, inner_start, inner_end) if inner == b"udta" else ():
                if name in names and name not in found and data_end - data_start <= names[name]:
                    file.seek(data_start)
                    found[name] = file.read(data_end - data_start)
    return found
