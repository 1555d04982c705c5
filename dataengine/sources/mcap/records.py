"""The records of an MCAP file: what each kind holds, and how its bytes read.

Source: MCAP format specification (https://mcap.dev/spec). All integers are little-endian; a string or byte array is prefixed with its length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer

MAGIC = b"\x89MCAP0\r\n"

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)

PREFIX = struct.Struct("<BQ")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


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


class Fields:
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


def _attachment(f: Fields) -> Attachment:
    start = f.at
    record = Attachment(f.u64(), f.u64(), f.text(), f.text(), f.raw(f.u64()))
    covered = memoryview(f.data)[start : f.at]
    crc = f.u32()
    if crc and crc != zlib.crc32(covered):
        raise BadRecording(f"{f.where} {record.name[:80]!r}", f"crc {crc:08x}", f"{zlib.crc32(covered):08x}", "restore it from a copy", check="bad_crc")
    return record


_PARSERS: dict[int, Callable[[Fields], Record]] = {
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
    return parser(Fields(data, start, end, where)) if parser is not None else None


def check_message_index(data: Buffer, where: str) -> None:
    """Raise BadRecording for an index of messages whose entries are not whole, without reading them: nothing here uses them."""
    if len(data) < 6 or (size := int(_U32.unpack_from(data, 2)[0])) > len(data) - 6 or size % 16:
        raise BadRecording(
            where, "whole entries of 16 bytes in a message index", f"a record of {len(data)} bytes", "restore it from a copy", check="record_too_short"
        )
