"""Opening a container that a stranger made: recognised by content, bounded, silent, and with errors that a user can act on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from dataengine.core.errors import BadRecording

MediaFile = str | os.PathLike[str] | BinaryIO

# Enough for three packets of an MPEG transport stream (188 bytes each), the only format whose mark repeats.
HEAD_BYTES = 400

# 8K video has 33 Mpx; a frame of 64 Mpx takes 200 MB as RGB. Anything larger is refused before it is allocated.
MAX_PIXELS = 1 << 26
MAX_SIDE_PX = 1 << 14

# The demuxer of each recognised format. It is always named: FFmpeg's own guess could end in a playlist format that opens other files.
DEMUXERS: dict[str, str] = {"mp4": "mov", "matroska": "matroska", "webm": "matroska", "avi": "avi", "mpegts": "mpegts"}

_FIRST_BOXES = frozenset([b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof"])

# ISO base media files that hold pictures or sound only.
_NOT_VIDEO_BRANDS = frozenset(
    [b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"jp2 ", b"jpx ", b"M4A ", b"M4B ", b"M4P ", b"F4A "]
)


def sniff(head: bytes) -> str | None:
    """Return the container format that the first bytes of a file show ("mp4", "matroska", "webm", "avi", "mpegts"), None for no video.

    64 bytes do for all but MPEG-TS, which takes 400. QuickTime counts as "mp4". Sources: ISO/IEC 14496-12 §4.2 (boxes), RFC 8794 and
    RFC 9559 §5.1 (EBML header, DocType), the RIFF header of AVI, ISO/IEC 13818-1 §2.4.3.2 (sync byte 0x47 every 188 bytes).
    """
    if head[:4] == b"\x1a\x45\xdf\xa3":
        at = head.find(b"\x42\x82")
        doctype = head[at + 3 : at + 3 + (head[at + 2] & 0x7F)] if 0 <= at < len(head) - 3 else b""
        return {b"matroska": "matroska", b"webm": "webm"}.get(doctype.rstrip(b"\0"))
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "avi"
    if len(head) >= 12 and head[4:8] in _FIRST_BOXES:
        size = int.from_bytes(head[:4], "big")
        if head[4:8] == b"ftyp" and head[8:12] in _NOT_VIDEO_BRANDS:
            return None
        return "mp4" if size >= 8 or size in (0, 1) else None
    if len(head) >= 380 and all(_is_transport_packet(head[at : at + 4]) for at in (0, 188, 376)):
        return "mpegts"
    return None


def _is_transport_packet(header: bytes) -> bool:
    """Return whether four bytes begin a whole, unscrambled packet of a transport stream: letters do not, though "G" is the sync byte."""
    return header[0] == 0x47 and not header[1] & 0x80 and not header[3] & 0xC0 and bool(header[3] & 0x30)


def media_name(file: MediaFile) -> str:
    """Return what to call a file in a message."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else "video"


def open_bytes(file: MediaFile, exact: bool = False) -> BinaryIO:
    """Return a seekable handle on a file's bytes: a new one for a path, which with `exact` reads no more than it is asked for, `file` itself otherwise."""
    if isinstance(file, str | os.PathLike):
        return cast(BinaryIO, open(file, "rb", buffering=0)) if exact else open(file, "rb", buffering=1 << 18)
    return file


def _head_and_size(file: MediaFile) -> tuple[bytes, int]:
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as handle:
            return handle.read(HEAD_BYTES), os.fstat(handle.fileno()).st_size
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head, size


def fault(where: str, error: BaseException, doing: str) -> BadRecording:
    """Return FFmpeg's error as a rejection."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return BadRecording(where, f"a video file that can be {doing}", f"a damaged one ({reason})", "record or copy it again", check="unreadable")


def silence() -> None:
    """Switch off what FFmpeg prints about damaged streams: our errors say it once, with the place."""
    import av

    av.logging.set_level(None)


@contextmanager
def open_container(file: MediaFile, where: str = "") -> Iterator[tuple[Any, str, int]]:
    """Open a container for reading and yield (PyAV container, format, file size in bytes).

    Raises:
        BadRecording: the content is no known video format, or the header cannot be parsed.
    """
    import av

    where = where or media_name(file)
    head, size = _head_and_size(file)
    if not head:
        raise BadRecording(where, "a video file", "an empty file of 0 bytes", "record or copy it again", check="empty_file")
    form = sniff(head)
    if form is None:
        raise BadRecording(
            where, "MP4, MOV, MKV, WebM, AVI or MPEG-TS content", f"bytes that begin {head[:16].hex(' ')}", "remove it or convert it", check="unknown_content"
        )
    check_bounds(file, form, size, where)
    silence()
    # `file:` keeps FFmpeg from reading a path such as "concat:a|b" as a protocol. One thread: the job runs one process a core.
    source = f"file:{Path(os.fspath(file)).absolute()}" if isinstance(file, str | os.PathLike) else file
    try:
        container = av.open(
            source,
            mode="r",
            format=DEMUXERS[form],
            options={"max_pixels": str(MAX_PIXELS), "threads": "1", "enable_drefs": "0"},
            metadata_errors="replace",
            buffer_size=1 << 18,
        )
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise fault(where, error, "opened") from error
    try:
        yield container, form, size
    finally:
        container.close()


def check_bounds(file: MediaFile, form: str, size: int, where: str) -> None:
    """Refuse what would make the demuxer allocate beyond reason, and a container that says itself that its end is missing."""
    from dataengine.video.boxes import check_matroska, check_mp4

    if form not in ("mp4", "matroska", "webm"):
        return
    handle = open_bytes(file)
    try:
        (check_mp4 if form == "mp4" else check_matroska)(handle, size, where)
    finally:
        if handle is file:
            handle.seek(0)
        else:
            handle.close()
