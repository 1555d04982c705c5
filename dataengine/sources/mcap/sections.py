"""An MCAP file front to back: its records in file order, its chunks unpacked, every size bounded and every checksum compared.

Source: MCAP format specification (https://mcap.dev/spec).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer
from dataengine.sources.mcap.records import (
    ATTACHMENT,
    CHUNK,
    DATA_END,
    FOOTER,
    HEADER,
    MAGIC,
    MESSAGE,
    MESSAGE_INDEX,
    METADATA,
    PREFIX,
    SCHEMA,
    Chunk,
    Fields,
    Footer,
    Record,
    parse_record,
)
from dataengine.sources.messages.packed import MAX_RECORD_BYTES, Allowance, Zstd, unpack_lz4

_FOOTER_SIZE = PREFIX.size + 20
_DATA_END_SIZE = PREFIX.size + 4
_CRC = struct.Struct("<I")


class Unpacker:
    """Unpacks chunks: sizes bounded before they are allocated, checksums compared."""

    def __init__(self, file_size: int) -> None:
        self._allowance = Allowance(file_size)
        self._zstd = Zstd()

    def chunk(self, body: Buffer, where: str) -> Chunk:
        """Return the chunk of a record's body with its records unpacked."""
        f = Fields(body, 0, len(body), where)
        start_time, end_time, size, crc, compression = f.u64(), f.u64(), f.u64(), f.u32(), f.text()
        length = f.u64()
        self._allowance.take(size, where)
        if length > f.end - f.at:
            raise BadRecording(where, f"{length} bytes of records", f"{f.end - f.at}", "restore the file from a copy", check="record_too_short")
        packed = memoryview(body)[f.at : f.at + length]
        if compression == "zstd":
            data: Buffer = self._zstd.unpack(packed, size, where)
        elif compression == "lz4":
            data = unpack_lz4(packed, size, where)
        elif compression == "":
            data = packed
        else:
            raise BadRecording(where, "compression zstd, lz4 or none", repr(compression[:40]), "convert the file with the mcap tool", check="compression")
        if len(data) != size:
            raise BadRecording(where, f"a chunk that unpacks to {size} bytes", f"{len(data)}", "restore the file from a copy", check="bad_chunk")
        if crc and crc != (found := zlib.crc32(data)):
            raise BadRecording(where, f"chunk crc {crc:08x}", f"{found:08x}", "the file is damaged: restore it from a copy", check="bad_crc")
        return Chunk(start_time, end_time, size, crc, compression, data)


class _Tail(NamedTuple):
    """What the end of a file says: where its summary starts, the checksum of that, and whether the data section has one."""

    footer: Footer | None
    data_crc: bool


def _read_tail(file: BinaryIO, size: int, where: str) -> _Tail:
    if size < len(MAGIC) + _FOOTER_SIZE + len(MAGIC):
        return _Tail(None, False)
    file.seek(size - len(MAGIC) - _FOOTER_SIZE)
    end = file.read(_FOOTER_SIZE + len(MAGIC))
    if end[-len(MAGIC) :] != MAGIC or PREFIX.unpack_from(end) != (FOOTER, 20):
        return _Tail(None, False)
    footer = parse_record(FOOTER, end, PREFIX.size, _FOOTER_SIZE, f"{where}: footer")
    assert isinstance(footer, Footer)
    before = (footer.summary_start or size - len(MAGIC) - _FOOTER_SIZE) - _DATA_END_SIZE
    if not len(MAGIC) <= before < size:
        return _Tail(footer, True)
    file.seek(before)
    data_end = file.read(_DATA_END_SIZE)
    # A data section without a checksum need not be summed up; when in doubt, it is.
    return _Tail(footer, PREFIX.unpack_from(data_end) != (DATA_END, 4) or data_end[PREFIX.size :] != b"\0\0\0\0")


def sections(file: BinaryIO, where: str, *, truncated: bool = False, on_cut: Callable[[str], None] | None = None) -> Iterator[tuple[int, int, Buffer, str]]:
    """Yield (opcode, offset, body, place) for each record of a file, chunks still packed.

    The start and end magic, the checksum of the data section and that of the summary are verified where the file has them.

    Args:
        file: the file, seekable.
        where: its name, for messages.
        truncated: take a file that was cut off: what is whole before the cut is yielded and `on_cut` is told why it ended.
        on_cut: receives the reason.

    Raises:
        BadRecording: the file is no MCAP file, is cut off, a record's length leaves the file, or a checksum differs.
    """
    size = file.seek(0, 2)
    tail = _read_tail(file, size, where)
    file.seek(0)
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise BadRecording(where, "the MCAP magic at its start", repr(magic) if magic else "an empty file", "is it an MCAP file?", check="no_magic")
    cut = f"{where}: end"
    if tail.footer is None and not truncated:
        raise BadRecording(
            cut,
            "a footer and the MCAP magic at its end",
            "neither",
            "the recorder was killed or the copy was cut off: run `mcap recover`, or land what is whole with `readers: {mcap: {recover_truncated: true}}` in the config",
            check="truncated",
        )
    crc = zlib.crc32(magic)
    summing = tail.data_crc
    at = len(MAGIC)
    in_summary = False
    summary_crc = 0
    opcode = 0
    while True:
        head = file.read(PREFIX.size)
        if len(head) < PREFIX.size:
            break
        opcode, length = PREFIX.unpack(head)
        if at == 8 and opcode != HEADER:
            raise BadRecording(where, "a header as first record", f"opcode {opcode}", "restore the file from a copy", check="no_header")
        place = f"{where}: record at byte {at}"
        if length > size - at - PREFIX.size:
            if truncated and tail.footer is None:
                break
            raise BadRecording(place, f"a length within the file ({size} bytes)", f"{length}", "restore the file from a copy", check="record_too_long")
        if length > MAX_RECORD_BYTES:
            raise BadRecording(place, f"a record of at most {MAX_RECORD_BYTES} bytes", f"{length}", "record it with smaller chunks", check="record_too_long")
        body = file.read(length)
        if len(body) < length:
            raise BadRecording(place, f"{length} bytes", f"{len(body)}: the file changed while it was read", "ingest it again", check="truncated")
        if opcode == DATA_END:
            if in_summary:
                raise BadRecording(place, "one end of the data section", "a second", "restore the file from a copy", check="bad_order")
            declared = _CRC.unpack_from(body)[0] if length >= 4 else 0
            if summing and declared and declared != crc:
                raise BadRecording(place, f"data section crc {declared:08x}", f"{crc:08x}", "the file is damaged: restore it from a copy", check="bad_crc")
            in_summary = True
        elif in_summary and opcode in (HEADER, MESSAGE, CHUNK, MESSAGE_INDEX, ATTACHMENT, METADATA):
            raise BadRecording(place, "no data after the end of the data section", f"opcode {opcode}", "restore the file from a copy", check="bad_order")
        elif in_summary:
            if opcode == FOOTER and length >= 20:
                footer = Footer(*struct.unpack_from("<QQI", body))
                if footer.summary_crc and footer.summary_crc != (found := zlib.crc32(body[:16], zlib.crc32(head, summary_crc))):
                    raise BadRecording(place, f"summary crc {footer.summary_crc:08x}", f"{found:08x}", "restore the file from a copy", check="bad_crc")
            else:
                summary_crc = zlib.crc32(body, zlib.crc32(head, summary_crc))
        elif summing:
            crc = zlib.crc32(body, zlib.crc32(head, crc))
        yield opcode, at, body, place
        at += PREFIX.size + length
        if opcode == FOOTER:
            break
    if opcode == FOOTER and file.read(len(MAGIC) + 1) == MAGIC and in_summary:
        return
    if not truncated or tail.footer is not None:
        raise BadRecording(
            f"{where}: byte {at}",
            "the end of the data section, a footer and the MCAP magic, in this order and nothing after",
            "something else",
            "restore the file from a copy",
            check="truncated",
        )
    if on_cut is not None:
        on_cut(f"{size - at} bytes after byte {at} of {size} are no whole record")


def bad_inner_record(where: str, at: int, found: str) -> BadRecording:
    """Return the error for a record inside a chunk that is not whole or not allowed there."""
    return BadRecording(
        f"{where}: byte {at} of the chunk", "whole records of schemas, channels and messages", found, "restore the file from a copy", check="bad_chunk"
    )


def inner_records(chunk: Chunk, where: str) -> Iterator[tuple[int, int, int]]:
    """Yield (opcode, start, end) of the records inside a chunk: schemas, channels, messages, and kinds that are not known."""
    data, size, at = chunk.data, len(chunk.data), 0
    while at < size:
        if size - at < PREFIX.size:
            raise bad_inner_record(where, at, f"{size - at} bytes")
        opcode, length = PREFIX.unpack_from(data, at)
        start = at + PREFIX.size
        if length > size - start:
            raise bad_inner_record(where, at, f"a record of {length} bytes, {size - start} of them there")
        if opcode < SCHEMA or MESSAGE < opcode <= DATA_END:
            raise bad_inner_record(where, at, f"opcode {opcode}")
        at = start + length
        yield opcode, start, at


def records(file: BinaryIO, where: str = "file") -> Iterator[Record]:
    """Yield every record of a file in its order, those inside a chunk in its place."""
    unpacker = Unpacker(file.seek(0, 2))
    for opcode, _, body, place in sections(file, where):
        if opcode == CHUNK:
            chunk = unpacker.chunk(body, place)
            for inner, start, end in inner_records(chunk, place):
                record = parse_record(inner, chunk.data, start, end, place)
                if record is not None:
                    yield record
            continue
        record = parse_record(opcode, body, 0, len(body), place)
        if record is not None:
            yield record
