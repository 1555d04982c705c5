"""The sample table of an MP4 track, read without touching the frames: where each lies, when it is decoded and shown, and which are key frames.

Demuxing reads the whole file to say the same, which an hour of video, or one in an object store, pays for twice. Only the plain form is read here (one
edit that cuts nothing, whole tables that agree with each other); whatever is odd is left to FFmpeg's demuxer. Key frames are those that the table names: where
one of them is damaged, FFmpeg would not call it one. Source: ISO/IEC 14496-12 §8.6 and §8.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.video.boxes import MAX_FRAMES, MAX_MOOV_BYTES, boxes_in

_TABLES = frozenset([b"stts", b"ctts", b"stss", b"stsc", b"stsz", b"stco", b"co64"])
# Boxes that change which samples are shown or can be started at: sub-sample groups, partial sync samples, compact sizes, fragments.
_ODD = frozenset([b"stps", b"stz2", b"sbgp"])
_NESTED = frozenset([b"mdia", b"minf", b"stbl", b"edts"])


@dataclass(frozen=True, eq=False)
class SampleTable:
    """The samples of one track in decoding order, each array (N,): times in units of the time base, bytes in the file."""

    pts: Array
    dts: Array
    duration: Array
    offset: Array
    size: Array
    key: Array

    def __len__(self) -> int:
        return len(self.pts)


def mp4_sample_tables(file: BinaryIO, size: int) -> dict[int, SampleTable]:
    """Return the sample tables of an MP4's tracks by number, without the tracks whose tables are not of the plain form.

    Args:
        file: the file; its position is moved.
        size: bytes of the file.
    """
    found: dict[int, SampleTable] = {}
    for kind, start, end in boxes_in(file, 0, size):
        if kind == b"moof":
            return {}
        if kind != b"moov" or found:
            continue
        if end - start > MAX_MOOV_BYTES:
            return {}
        timescale = 0
        number = 0
        for inner, inside, after in boxes_in(file, start, end):
            if inner == b"mvex":
                return {}
            if inner == b"mvhd":
                file.seek(inside)
                head = file.read(32)
                timescale = int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16], "big")
            elif inner == b"trak":
                parts = _parts(file, inside, after)
                layout = None if parts is None else _layout(parts, size)
                if parts is None or layout is None:
                    return {}  # where a track lies outside of the file, a demuxer stops early in the others as well
                table = _timed(parts, layout, timescale)
                if table is not None:
                    found[number] = table
                number += 1
    return found


def _walk(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for kind, inside, after in boxes_in(file, start, end):
        if kind in _NESTED:
            yield from _walk(file, inside, after)
        else:
            yield kind, inside, after


def _parts(file: BinaryIO, start: int, end: int) -> dict[bytes, bytes] | None:
    """Return the tables of a track by name (of an odd kind nothing but that it is there), None where one stands twice."""
    parts: dict[bytes, bytes] = {}
    for kind, inside, after in _walk(file, start, end):
        if kind in parts and kind in _TABLES:
            return None
        if kind in _ODD:
            parts[kind] = b""
        elif kind in _TABLES or kind in (b"elst", b"mdhd", b"hdlr"):
            file.seek(inside)
            parts[kind] = file.read(after - inside)
    return parts


def _layout(parts: Mapping[bytes, bytes], file_size: int) -> tuple[Array, Array] | None:
    """Return where each sample lies and how many bytes it has, None where the tables disagree or a sample lies outside of the file."""
    if not {b"stts", b"stsc", b"stsz"} <= parts.keys():
        return None
    sizes = _sizes(parts[b"stsz"])
    offsets = None if sizes is None else _offsets(parts, sizes)
    if sizes is None or offsets is None or (sizes < 1).any() or (offsets < 8).any() or int((offsets + sizes).max()) > file_size:
        return None
    return offsets, sizes


def _timed(parts: Mapping[bytes, bytes], layout: tuple[Array, Array], movie_scale: int) -> SampleTable | None:
    """Return the table of a video track, None where its times are not of the plain form."""
    offsets, sizes = layout
    head = parts.get(b"mdhd", b"")
    scale = int.from_bytes(head[20:24] if head[:1] == b"\1" else head[12:16], "big")
    if parts.get(b"hdlr", b"")[8:12] != b"vide" or not _ODD.isdisjoint(parts) or not scale or not movie_scale:
        return None
    count = len(sizes)
    durations = _runs(parts[b"stts"], ">u4", count)
    shifts = _runs(parts[b"ctts"], ">i4", count) if b"ctts" in parts else np.zeros(count, np.int64)
    key = _keys(parts.get(b"stss"), count)
    if durations is None or shifts is None or key is None or (durations < 1).any() or (durations >= 1 << 31).any():
        return None
    dts = np.concatenate([[0], np.cumsum(durations)[:-1]])
    pts = dts + shifts
    moved = _edit_shift(parts.get(b"elst"), pts, durations, scale, movie_scale)
    if moved is None:
        return None
    back = max(0, -int(shifts.min()))  # with offsets below zero, decoding begins so much earlier
    return SampleTable(pts + moved, dts - back + moved, durations, offsets, sizes, key)


def _entries(data: bytes, dtype: np.dtype, head: int = 8) -> Array | None:
    """Return the entries of a table, None where it is shorter than it says."""
    declared = int.from_bytes(data[head - 4 : head], "big")
    if len(data) < head or declared > MAX_FRAMES or len(data) < head + declared * dtype.itemsize:
        return None
    return np.frombuffer(data, dtype, declared, head)


def _sizes(data: bytes) -> Array | None:
    same, count = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    if len(data) < 12 or not 0 < count <= MAX_FRAMES:
        return None
    if same:
        return np.full(count, same, np.int64)
    found = _entries(data, np.dtype(">u4"), 12)
    return None if found is None else found.astype(np.int64)


def _runs(data: bytes, value: str, count: int) -> Array | None:
    """Return a run-length table as one value a sample, None where it is for another number of samples."""
    found = _entries(data, np.dtype([("count", ">u4"), ("value", value)]))
    if found is None or int(found["count"].sum(dtype=np.int64)) != count:
        return None
    return np.repeat(found["value"].astype(np.int64), found["count"])


def _offsets(parts: Mapping[bytes, bytes], sizes: Array) -> Array | None:
    """Return where each sample begins: chunks hold runs of samples, one after the other."""
    if (b"stco" in parts) == (b"co64" in parts):
        return None
    chunks = _entries(parts[b"stco"], np.dtype(">u4")) if b"stco" in parts else _entries(parts[b"co64"], np.dtype(">u8"))
    runs = _entries(parts[b"stsc"], np.dtype([("first", ">u4"), ("samples", ">u4"), ("description", ">u4")]))
    if chunks is None or runs is None or not len(chunks) or not len(runs) or (chunks.astype(np.uint64) >= 1 << 62).any():
        return None
    first = runs["first"].astype(np.int64) - 1
    if first[0] != 0 or (np.diff(first) < 1).any() or first[-1] >= len(chunks) or (runs["description"] != 1).any():
        return None
    in_chunk = np.repeat(runs["samples"].astype(np.int64), np.diff(np.append(first, len(chunks))))
    if int(in_chunk.sum()) != len(sizes):
        return None
    before = np.cumsum(sizes) - sizes
    first_sample = np.cumsum(in_chunk) - in_chunk
    filled = in_chunk > 0
    starts = np.repeat(chunks.astype(np.int64)[filled] - before[first_sample[filled]], in_chunk[filled])
    return np.asarray(starts + before)


def _keys(data: bytes | None, count: int) -> Array | None:
    if data is None:
        return np.ones(count, bool)
    found = _entries(data, np.dtype(">u4"))
    if found is None or not len(found) or found.min() < 1 or found.max() > count or (np.diff(found.astype(np.int64)) < 1).any():
        return None
    key = np.zeros(count, bool)
    key[found.astype(np.int64) - 1] = True
    return key


def _edit_shift(data: bytes | None, pts: Array, durations: Array, scale: int, movie_scale: int) -> int | None:
    """Return by how much an edit list moves the times, None where it cuts frames away or is not of the plain form (waiting, then one edit)."""
    if data is None:
        return 0
    dtype = [("duration", ">u8"), ("start", ">i8"), ("rate", ">u4")] if data[:1] == b"\1" else [("duration", ">u4"), ("start", ">i4"), ("rate", ">u4")]
    edits = _entries(data, np.dtype(dtype))
    if edits is None or not 1 <= len(edits) <= 2 or (edits["rate"] != 1 << 16).any():
        return None
    waited = 0
    if len(edits) == 2:
        if int(edits[0]["start"]) != -1:
            return None
        ticks, rest = divmod(int(edits[0]["duration"]) * scale, movie_scale)
        if rest:
            return None  # how it is rounded is the demuxer's business
        waited = ticks
    start, lasts = int(edits[-1]["start"]), int(edits[-1]["duration"])
    end = int((pts + durations).max())
    slack = 2 * scale // movie_scale + 1
    if start < 0 or start != int(pts.min()) or lasts * scale < (end - start - slack) * movie_scale:
        return None
    return waited - start
