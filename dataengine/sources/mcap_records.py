"""The records of an MCAP file, in file order: bounded, checked against every checksum the file carries.

Source: MCAP format specification (https://mcap.dev/spec). All integers are little-endian; a string or byte array is prefixed with its length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer

MAGIC = b"\x89MCAP0\r\n"

# Nothing in a file may make us hold more than this at once; recorders write chunks of 1 to 16 MiB.
MAX_RECORD_BYTES = 256 << 20
# A file may not unpack to more than this many times its size, beyond the first GiB: no sensor compresses so well.
MAX_RATIO = 2000
FREE_BYTES = 1 << 30

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)

PREFIX = struct.Struct("<BQ")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_FOOTER_SIZE = PREFIX.size + 20
_DATA_END_SIZE = PREFIX.size + 4


class Header(NamedTuple):
    """First record: what kind of recording, and which library wrote it."""

    profile: str
    library: str


class Footer(NamedTuple):
    """Last record: where the summary starts (0 = there is none), and its checksum."""

    summary_start: int
    summary_offset_start: int
    summary_crc: int


class Schema(NamedTuple):
    """How the messages of a channel are to be read."""

    id: int
    name: str
    encoding: str
    data: bytes


class Channel(NamedTuple):
    """A topic of one publisher; `schema_id` 0 = none."""

    id: int
    schema_id: int
    topic: str
    message_encoding: str
    metadata: Mapping[str, str]


class Message(NamedTuple):
    """One message; times in ns."""

    channel_id: int
    sequence: int
    log_time: int
    publish_time: int
    data: Buffer


class Chunk(NamedTuple):
    """Records in one compressed block: `data` are their bytes, unpacked and checked."""

    message_start_time: int
    message_end_time: int
    uncompressed_size: int
    uncompressed_crc: int
    compression: str
    data: Buffer


class MessageIndex(NamedTuple):
    """Where the messages of a channel lie inside the chunk before it."""

    channel_id: int
    records: list[tuple[int, int]]


class ChunkIndex(NamedTuple):
    """Where a chunk lies."""

    message_start_time: int
    message_end_time: int
    chunk_start_offset: int
    chunk_length: int
    message_index_offsets: Mapping[int, int]
    message_index_length: int
    compression: str
    compressed_size: int
    uncompressed_size: int


class Attachment(NamedTuple):
    """A file inside the recording."""

    log_time: int
    create_time: int
    name: str
    media_type: str
    data: bytes


class AttachmentIndex(NamedTuple):
    """Where an attachment lies."""

    offset: int
    length: int
    log_time: int
    create_time: int
    data_size: int
    name: str
    media_type: str


class Statistics(NamedTuple):
    """What the writer counted."""

    message_count: int
    schema_count: int
    channel_count: int
    attachment_count: int
    metadata_count: int
    chunk_count: int
    message_start_time: int
    message_end_time: int
    channel_message_counts: Mapping[int, int]


class Metadata(NamedTuple):
    """Named texts."""

    name: str
    metadata: Mapping[str, str]


class MetadataIndex(NamedTuple):
    """Where a metadata record lies."""

    offset: int
    length: int
    name: str


class SummaryOffset(NamedTuple):
    """Where the records of one kind lie in the summary."""

    group_opcode: int
    group_start: int
    group_length: int


class DataEnd(NamedTuple):
    """End of the data section; checksum of all bytes before it, 0 = not given."""

    data_section_crc: int


Record = (
    Header
    | Footer
    | Schema
    | Channel
    | Message
    | Chunk
    | MessageIndex
    | ChunkIndex
    | Attachment
    | AttachmentIndex
    | Statistics
    | Metadata
    | MetadataIndex
    | SummaryOffset
    | DataEnd
)


class _Fields:
    """Reads the fields of one record; every length is checked against the bytes that are there."""

    def __init__(self, data: Buffer, start: int, end: int, where: str) -> None:
        self.data, self.at, self.end, self.where = data, start, end, where

    def _take(self, size: int) -> int:
        at = self.at
        if size > self.end - at:
            raise BadRecording(
                self.where, f"{size} more bytes in the record", f"{self.end - at}", "record it again or restore it from a copy", check="record_too_short"
            )
        self.at = at + size
        return at

    def u16(self) -> int:
        return int(_U16.unpack_from(self.data, self._take(2))[0])

    def u32(self) -> int:
        return int(_U32.unpack_from(self.data, self._take(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack_from(self.data, self._take(8))[0])

    def u8(self) -> int:
        return self.data[self._take(1)]

    def raw(self, size: int) -> bytes:
        at = self._take(size)
        return bytes(self.data[at : at + size])

    def text(self) -> str:
        found = self.raw(self.u32())
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError:
            raise BadRecording(self.where, "text in UTF-8", repr(found[:60]), "restore the file from a copy", check="bad_text") from None

    def rest(self) -> bytes:
        return self.raw(self.end - self.at)

    def _pairs(self) -> Iterator[None]:
        size = self.u32()
        outer, self.end = self.end, self._take(size) + size
        self.at = self.end - size
        while self.at < self.end:
            yield
        self.end = outer

    def texts(self) -> dict[str, str]:
        return {self.text(): self.text() for _ in self._pairs()}

    def counts(self) -> dict[int, int]:
        return {self.u16(): self.u64() for _ in self._pairs()}

    def stamps(self) -> list[tuple[int, int]]:
        return [(self.u64(), self.u64()) for _ in self._pairs()]


def _attachment(f: _Fields) -> Attachment:
    start = f.at
    record = Attachment(f.u64(), f.u64(), f.text(), f.text(), f.raw(f.u64()))
    covered = memoryview(f.data)[start : f.at]
    crc = f.u32()
    if crc and crc != zlib.crc32(covered):
        raise BadRecording(f"{f.where} {record.name[:80]!r}", f"crc {crc:08x}", f"{zlib.crc32(covered):08x}", "restore it from a copy", check="bad_crc")
    return record


_PARSERS: dict[int, Callable[[_Fields], Record]] = {
    HEADER: lambda f: Header(f.text(), f.text()),
    FOOTER: lambda f: Footer(f.u64(), f.u64(), f.u32()),
    SCHEMA: lambda f: Schema(f.u16(), f.text(), f.text(), f.raw(f.u32())),
    CHANNEL: lambda f: Channel(f.u16(), f.u16(), f.text(), f.text(), f.texts()),
    MESSAGE: lambda f: Message(f.u16(), f.u32(), f.u64(), f.u64(), f.rest()),
    MESSAGE_INDEX: lambda f: MessageIndex(f.u16(), f.stamps()),
    CHUNK_INDEX: lambda f: ChunkIndex(f.u64(), f.u64(), f.u64(), f.u64(), f.counts(), f.u64(), f.text(), f.u64(), f.u64()),
    ATTACHMENT: _attachment,
    ATTACHMENT_INDEX: lambda f: AttachmentIndex(f.u64(), f.u64(), f.u64(), f.u64(), f.u64(), f.text(), f.text()),
    STATISTICS: lambda f: Statistics(f.u64(), f.u16(), f.u32(), f.u32(), f.u32(), f.u32(), f.u64(), f.u64(), f.counts()),
    METADATA: lambda f: Metadata(f.text(), f.texts()),
    METADATA_INDEX: lambda f: MetadataIndex(f.u64(), f.u64(), f.text()),
    SUMMARY_OFFSET: lambda f: SummaryOffset(f.u8(), f.u64(), f.u64()),
    DATA_END: lambda f: DataEnd(f.u32()),
}


def parse_record(opcode: int, data: Buffer, start: int, end: int, where: str) -> Record | None:
    """Return the record whose body is `data[start:end]`, None for a kind that the specification leaves open (readers skip it)."""
    if opcode == 0:
        raise BadRecording(where, "a record", "opcode 0", "restore the file from a copy", check="bad_opcode")
    parser = _PARSERS.get(opcode)
    return parser(_Fields(data, start, end, where)) if parser is not None else None


class Unpacker:
    """Unpacks chunks: sizes bounded before they are allocated, checksums compared."""

    def __init__(self, file_size: int) -> None:
        self._left = FREE_BYTES + MAX_RATIO * file_size
        self._zstd: Callable[..., bytes] | None = None

    def _zstandard(self, packed: memoryview, size: int, where: str) -> bytes:
        import zstandard

        try:
            declared = zstandard.frame_content_size(packed)
            if declared >= 0 and declared != size:
                raise BadRecording(where, f"a zstd frame of {size} bytes", f"one of {declared}", "restore the file from a copy", check="bad_chunk")
            if self._zstd is None:
                self._zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress
            return self._zstd(packed, max_output_size=size) if size else b""
        except (zstandard.ZstdError, MemoryError) as error:
            raise BadRecording(where, "a readable zstd frame", str(error), "restore the file from a copy", check="bad_chunk") from error

    @staticmethod
    def _lz4(packed: memoryview, size: int, where: str) -> bytes:
        from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

        try:
            # One byte more than promised, so that a frame that goes on shows.
            return bytes(LZ4FrameDecompressor().decompress(packed, max_length=size + 1))
        except (RuntimeError, EOFError, MemoryError, ValueError) as error:
            raise BadRecording(where, "a readable lz4 frame", str(error), "restore the file from a copy", check="bad_chunk") from error

    def chunk(self, body: Buffer, where: str) -> Chunk:
        """Return the chunk of a record's body with its records unpacked."""
        f = _Fields(body, 0, len(body), where)
        start_time, end_time, size, crc, compression = f.u64(), f.u64(), f.u64(), f.u32(), f.text()
        length = f.u64()
        if size > MAX_RECORD_BYTES:
            raise BadRecording(where, f"a chunk of at most {MAX_RECORD_BYTES} bytes", f"{size}", "record it with smaller chunks", check="chunk_too_large")
        self._left -= size
        if self._left < 0:
            raise BadRecording(
                where, f"chunks that unpack to at most {MAX_RATIO} times the file", "more", "check where the file comes from", check="unpacks_too_large"
            )
        if length > f.end - f.at:
            raise BadRecording(where, f"{length} bytes of records", f"{f.end - f.at}", "restore the file from a copy", check="record_too_short")
        packed = memoryview(body)[f.at : f.at + length]
        if compression == "zstd":
            data: Buffer = self._zstandard(packed, size, where)
        elif compression == "lz4":
            data = self._lz4(packed, size, where)
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
            "the recorder was killed or the copy was cut off: run `mcap recover`, or set recover_truncated in the config to land what is whole",
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
            declared = _U32.unpack_from(body)[0] if length >= 4 else 0
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
