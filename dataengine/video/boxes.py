"""The frame of MP4 and Matroska files, read without FFmpeg: is the end there, and are the declared tables of a sane size.

FFmpeg allocates what a table declares before it looks at the data, and reads a file that was cut off as far as it goes without a word. Both
are caught here, in a few seeks. Sources: ISO/IEC 14496-12 §4.2, §8.6, §8.7 (boxes, time and size tables), RFC 8794 §4 to §6 (EBML).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from dataengine.core.errors import BadRecording

# 155 hours at 30 frames/s; FFmpeg takes about 40 bytes for each.
MAX_FRAMES = 1 << 24

# The tables of an hour of video and audio take about 4 MB.
MAX_MOOV_BYTES = 1 << 28
MAX_BOXES = 1 << 20

_CONTAINERS = frozenset([b"moov", b"trak", b"mdia", b"minf", b"stbl"])
_TOP_LEVEL = frozenset([b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof", b"mfra", b"sidx", b"meta", b"uuid", b"udta", b"prft"])

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675


def _truncated(where: str, what: str, end: int, size: int) -> BadRecording:
    return BadRecording(
        where, f"{end} bytes, where its {what} ends", f"a file of {size} bytes", "it was cut off: copy it again or record it again", check="truncated"
    )


def _box(file: BinaryIO, at: int, limit: int) -> tuple[bytes, int, int] | None:
    """Return type, start of the content and end of the box at `at`; None where no box can be."""
    if at + 8 > limit:
        return None
    file.seek(at)
    head = file.read(16)
    if len(head) < 8:
        return None
    size, kind = int.from_bytes(head[:4], "big"), head[4:8]
    if size == 1 and len(head) == 16:
        large = int.from_bytes(head[8:16], "big")
        return (kind, at + 16, at + large) if large >= 16 else None
    if size == 0:
        return kind, at + 8, limit
    return (kind, at + 8, at + size) if size >= 8 else None


def _check_table(file: BinaryIO, kind: bytes, start: int, end: int, limit: int, where: str) -> None:
    """Refuse a size or time table that declares more samples than `limit`."""
    file.seek(start)
    if kind == b"stsz":
        head = file.read(12)
        declared, needed = (int.from_bytes(head[8:12], "big"), 0) if len(head) == 12 else (0, 0)
        if len(head) == 12 and head[4:8] == b"\0\0\0\0":
            needed = declared * 4
    else:
        head = file.read(8)
        entries = int.from_bytes(head[4:8], "big") if len(head) == 8 else 0
        needed = entries * 8
        counts = np.frombuffer(file.read(min(needed, max(0, end - start - 8)) // 8 * 8), dtype=">u4")[::2]
        declared = int(counts.sum(dtype=np.int64))
    if declared > limit or needed > end - start:
        raise BadRecording(
            where,
            f"a table {kind.decode('latin-1')!r} of at most {limit} samples that lies inside its box",
            f"{declared} samples in {end - start} bytes",
            "the file is damaged: copy it again",
            check="absurd_size",
        )


def _check_track(file: BinaryIO, start: int, end: int, size: int, where: str) -> None:
    """Check the tables of one track, which lie four levels deep."""
    limit, tables, pending, seen = max(size, 1), [], [(start, end)], 0
    while pending:
        for kind, inside, after in boxes(file, *pending.pop()):
            seen += 1
            if seen > MAX_BOXES:
                break
            if kind in _CONTAINERS:
                pending.append((inside, after))
            elif kind == b"hdlr":
                file.seek(inside)
                if file.read(12)[8:12] == b"vide":
                    limit = min(limit, MAX_FRAMES)
            elif kind in (b"stsz", b"stts", b"ctts"):
                tables.append((kind, inside, after))
    for kind, inside, after in tables:
        _check_table(file, kind, inside, after, limit, where)


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start of the content and end of each box in a range."""
    at, seen = start, 0
    while seen < MAX_BOXES and (box := _box(file, at, end)) is not None:
        kind, inside, after = box
        yield kind, inside, min(after, end)
        at, seen = max(after, at + 8), seen + 1


def mp4_rotations(file: BinaryIO, size: int) -> dict[int, float]:
    """Return for each track id of an MP4 by how many degrees, counter-clockwise, its pictures are turned to be shown (ISO/IEC 14496-12 §8.3.2, the matrix)."""
    found: dict[int, float] = {}
    for kind, inside, after in boxes(file, 0, size):
        for track, track_inside, track_end in boxes(file, inside, after) if kind == b"moov" else ():
            for header, start, end in boxes(file, track_inside, track_end) if track == b"trak" else ():
                if header != b"tkhd":
                    continue
                file.seek(start)
                data = file.read(min(end - start, 96))
                wide = 12 if data[:1] == b"\1" else 0
                if len(data) < 84 + wide:
                    continue
                identity = int.from_bytes(data[12 + wide * 2 // 3 :][:4], "big")
                a, b, _, c, d = struct.unpack_from(">5i", data, 40 + wide)
                across, down = math.hypot(a, c), math.hypot(b, d)
                if across and down:
                    turn = -math.degrees(math.atan2(b / down, a / across))
                    found[identity] = round(turn, 3) + 0.0
    return found


def check_mp4(file: BinaryIO, size: int, where: str) -> None:
    """Check that every top-level box ends inside the file, that there is a `moov`, and that its tables are sane.

    Raises:
        BadRecording: `truncated` or `absurd_size`.
    """
    at, seen = 0, 0
    moov: tuple[int, int] | None = None
    while seen < MAX_BOXES and (box := _box(file, at, size)) is not None:
        kind, inside, after = box
        seen += 1
        if kind not in _TOP_LEVEL and not all(32 <= letter < 127 for letter in kind):
            break  # what follows the last box is no box: FFmpeg ignores it too
        if after > size:
            if kind in _TOP_LEVEL:
                raise _truncated(where, f"box {kind.decode('latin-1')!r}", after, size)
            break
        if kind == b"moov" and moov is None:
            moov = (inside, after)
        at = after
    if moov is None:
        raise BadRecording(
            where, "a table of contents ('moov')", "none", "the recording was not finished or was cut off: copy it again or repair it", check="truncated"
        )
    if moov[1] - moov[0] > MAX_MOOV_BYTES:
        raise BadRecording(where, f"a 'moov' of at most {MAX_MOOV_BYTES} bytes", f"{moov[1] - moov[0]}", "the file is damaged", check="absurd_size")
    for kind, inside, after in boxes(file, *moov):
        if kind == b"trak":
            _check_track(file, inside, after, size, where)


def _vint(data: bytes, at: int, keep_marker: bool) -> tuple[int | None, int]:
    """Read an EBML number; return it (None where all bits are 1: unknown size) and where it ends; (-1, at) where there is none."""
    if at >= len(data) or data[at] == 0:
        return -1, at
    length = 9 - data[at].bit_length()
    if at + length > len(data):
        return -1, at
    value = int.from_bytes(data[at : at + length], "big")
    if keep_marker:
        return value, at + length
    value &= (1 << 7 * length) - 1
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def _element(file: BinaryIO, at: int) -> tuple[int, int, int | None] | None:
    """Return id, start of the content and its end (None: not declared) of the element at `at`."""
    file.seek(at)
    head = file.read(12)
    identity, after = _vint(head, 0, keep_marker=True)
    if identity is None or identity < 0 or after > 4:
        return None
    length, after = _vint(head, after, keep_marker=False)
    if length is not None and length < 0:
        return None
    return identity, at + after, None if length is None else at + after + length


def check_matroska(file: BinaryIO, size: int, where: str) -> None:
    """Check that the Segment of a Matroska or WebM file ends inside the file.

    A file that was streamed declares no size: its elements are then walked up to the first one that declares none either.

    Raises:
        BadRecording: `truncated`.
    """
    file.seek(0, os.SEEK_SET)
    header = _element(file, 0)
    segment = _element(file, header[2]) if header is not None and header[0] == _EBML and header[2] is not None else None
    if segment is None or segment[0] != _SEGMENT:
        raise BadRecording(where, "a Matroska Segment after the header", "none", "the file is damaged: copy it again", check="truncated")
    if segment[2] is not None:
        if segment[2] > size:
            raise _truncated(where, "Segment", segment[2], size)
        return
    at, seen = segment[1], 0
    while at < size and seen < MAX_BOXES:
        element = _element(file, at)
        if element is None or element[2] is None:
            return
        if element[2] > size:
            raise _truncated(where, "last cluster" if element[0] == _CLUSTER else "last element", element[2], size)
        at, seen = element[2], seen + 1
