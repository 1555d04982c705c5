"""One MCAP file on its way into a recording: its channels and schemas, the loop over its messages, attachments, and what it says beside them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from dataengine.core.column import Column
from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.stream import Buffer, Items, Rows
from dataengine.sources.mcap.records import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    DATA_END,
    MESSAGE,
    MESSAGE_INDEX,
    PREFIX,
    SCHEMA,
    Attachment,
    Channel,
    Header,
    Metadata,
    Schema,
    Statistics,
    check_message_index,
    parse_record,
)
from dataengine.sources.mcap.sections import Unpacker, bad_inner_record, sections
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.recording import BATCH_BYTES, BATCH_ROWS, COPIED_BYTES, Batch, Heads, Recording, times_ns

MAX_METADATA_BYTES = 4 << 20
SEQUENCE = "sequence"

_HEAD = np.dtype([("channel", "<u2"), ("sequence", "<u4"), ("log", "<u8"), ("publish", "<u8")])
_LOG = struct.Struct("<Q")


def mcap_heads(found: list[Any], where: str) -> Heads:
    """Return the clocks and sequence numbers of a batch; heads are the 22 bytes before a message's payload."""
    heads = np.frombuffer(b"".join(found), dtype=_HEAD)
    return Heads({name: times_ns(heads[name], where, name) for name in ("log", "publish")}, {SEQUENCE: heads["sequence"]})


class McapFile:
    """One pass over one file.

    Args:
        recording: what its messages go into (made with `mcap_heads`).
        where: the file's name, for messages.
        size: of the file, where it is known.
        describe: says the metadata and problems of an episode that ends inside of this file.
        schema_of: where given, chooses the schema of a topic: (topic, schema as recorded, payload of its first message).
        unpack: where given, what a message's bytes become before they are kept: (payload, place).
    """

    def __init__(
        self,
        recording: Recording,
        where: str,
        size: int = 0,
        describe: Callable[[], tuple[dict[str, Any], list[Problem]]] | None = None,
        schema_of: Callable[[str, MessageSchema | None, Buffer], MessageSchema | None] | None = None,
        unpack: Callable[[Buffer, str], bytes] | None = None,
    ) -> None:
        self._recording, self._where, self._size = recording, where, size
        self._describe = describe or (lambda: ({"mcap": self.facts()}, self.problems()))
        self._schema_of, self._unpack = schema_of, unpack
        self._cut: str | None = None
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._by_channel: dict[int, Batch] = {}
        self._header: Header | None = None
        self._metadata: list[dict[str, Any]] = []
        self._metadata_bytes = 0
        self._statistics: Statistics | None = None
        self._attachments: list[dict[str, Any]] = []
        self._before = recording.messages

    def events(self, file: BinaryIO) -> Iterator[Event]:
        """Yield the rows of the file's messages and the ends of the episodes that end inside of it; the last one is left open."""
        unpacker = Unpacker(self._size or file.seek(0, 2))
        try:
            for opcode, _, body, place in sections(file, self._where, truncated=self._recording.recover, on_cut=self._note_cut):
                if opcode == CHUNK:
                    yield from self._chunk(unpacker.chunk(body, place).data, place)
                elif opcode == MESSAGE:
                    yield from self._loose(body, place)
                elif opcode == ATTACHMENT:
                    yield from self._attachment(body, place)
                elif opcode == MESSAGE_INDEX:
                    check_message_index(body, place)
                else:
                    self._note(parse_record(opcode, body, 0, len(body), place), place)
        except (OSError, struct.error) as error:
            raise BadRecording(self._where, "a file that can be read to its end", str(error), "check the disk or the connection", check="unreadable") from error

    def end(self) -> Iterator[Event]:
        """Yield what is left of the running episode, and its end."""
        yield from self._recording.end(self._describe)
        self._by_channel, self._attachments = {}, []

    def _note_cut(self, reason: str) -> None:
        self._cut = reason

    # --- records

    def _note(self, record: object, place: str) -> None:
        if isinstance(record, Schema):
            if record.id and self._schemas.setdefault(record.id, record) != record:
                raise _conflict(place, "schema", record.id)
        elif isinstance(record, Channel):
            if record.schema_id and record.schema_id not in self._schemas:
                raise BadRecording(place, f"schema {record.schema_id} before channel {record.id}", "none", "restore it from a copy", check="no_schema")
            if self._channels.setdefault(record.id, record) != record:
                raise _conflict(place, "channel", record.id)
        elif isinstance(record, Metadata):
            self._metadata_bytes += sum(len(name) + len(value) for name, value in record.metadata.items()) + len(record.name)
            if self._metadata_bytes > MAX_METADATA_BYTES:
                raise BadRecording(place, f"at most {MAX_METADATA_BYTES} bytes of metadata", "more", "attach it as a file instead", check="metadata_too_large")
            self._metadata.append({"name": record.name, "metadata": dict(record.metadata)})
        elif isinstance(record, Statistics):
            self._statistics = record
        elif isinstance(record, Header):
            self._header = record

    def _chunk(self, records: Buffer, place: str) -> Iterator[Event]:
        """Take the messages of an unpacked chunk; the loop that every message of a recording goes through."""
        data = bytes(records)
        view = memoryview(data)
        prefix, take = PREFIX.unpack_from, self._take
        cutting = self._recording.rule is not None
        at, size = 0, len(data)
        while at < size:
            if size - at < PREFIX.size:
                raise bad_inner_record(place, at, f"{size - at} bytes")
            opcode, length = prefix(data, at)
            start = at + 9
            at = start + length
            if at > size:
                raise bad_inner_record(place, start - 9, f"a record of {length} bytes, {size - start} of them there")
            if opcode == MESSAGE:
                if cutting and self._begins(data, start, at, place):
                    yield from self.end()
                full = take(data, view, start, at, place)
                if full is not None:
                    yield from self._recording.flush(full)
            elif opcode in (SCHEMA, CHANNEL):
                self._note(parse_record(opcode, data, start, at, place), place)
            elif opcode <= DATA_END:
                raise bad_inner_record(place, start - 9, f"opcode {opcode}")
        yield from self._recording.limit(size)

    def _loose(self, body: Buffer, place: str) -> Iterator[Event]:
        """Take a message that stands outside of any chunk."""
        data = bytes(body)
        if self._recording.rule is not None and self._begins(data, 0, len(data), place):
            yield from self.end()
        full = self._take(data, memoryview(data), 0, len(data), place)
        if full is not None:
            yield from self._recording.flush(full)
        yield from self._recording.limit(len(data))

    def _begins(self, data: bytes, start: int, end: int, place: str) -> bool:
        channel = self._channel_of(data, start, end, place)
        return self._recording.begins(channel.topic, int(_LOG.unpack_from(data, start + 6)[0]))

    def _channel_of(self, data: bytes, start: int, end: int, place: str) -> Channel:
        if end - start < _HEAD.itemsize:
            raise BadRecording(place, "a message of at least 22 bytes", f"{end - start}", "restore the file from a copy", check="record_too_short")
        channel = self._channels.get(data[start] | data[start + 1] << 8)
        if channel is None:
            number = data[start] | data[start + 1] << 8
            raise BadRecording(place, f"channel {number} before its messages", "none", "restore the file from a copy", check="no_channel")
        return channel

    def _take(self, data: bytes, view: memoryview, start: int, end: int, place: str) -> Batch | None:
        """Keep a message until its topic's batch is full; return the batch when it is."""
        head = data[start : start + 22]
        batch = self._by_channel.get(head[0] | head[1] << 8) if len(head) == 22 and end - start >= 22 else None
        if batch is None:
            batch = self._open(self._channel_of(data, start, end, place), view[start + 22 : end], place)
        size = end - start
        if self._unpack is not None:
            payload = self._unpack(view[start + 22 : end], place)
            batch.payloads.append(payload)
            size = len(payload)
        elif size > COPIED_BYTES:
            batch.payloads.append(view[start + 22 : end])
            batch.slices = True
        else:
            batch.payloads.append(data[start + 22 : end])
        batch.heads.append(head)
        batch.bytes += size
        return batch if len(batch.heads) >= BATCH_ROWS or batch.bytes >= BATCH_BYTES else None

    def _open(self, channel: Channel, payload: Buffer, place: str) -> Batch:
        """Return the batch of a channel; channels of one topic, schema and encoding share it."""
        found = self._schemas.get(channel.schema_id)
        schema = MessageSchema(found.name, found.encoding, found.data) if found is not None else None
        if self._schema_of is not None:
            schema = self._schema_of(channel.topic, schema, self._unpack(payload, place) if self._unpack is not None else payload)
        batch = self._recording.batch(channel.topic, channel.message_encoding, schema, place)
        self._by_channel[channel.id] = batch
        return batch

    # --- what goes on

    def _attachment(self, body: Buffer, place: str) -> Iterator[Event]:
        record = parse_record(ATTACHMENT, body, 0, len(body), place)
        assert isinstance(record, Attachment)
        times = np.array([record.log_time, record.create_time], dtype=np.uint64)
        log_ns, create_ns = (times_ns(times[at : at + 1], place, name) for at, name in enumerate(("log", "create")))
        self._attachments.append({"name": record.name, "media_type": record.media_type, "bytes": len(record.data)})
        encoding = record.media_type if 0 < len(record.media_type) <= 100 else "application/octet-stream"
        stream = self._recording.names.take("attachments", "attachments of the recording")
        self._recording.columns[stream] = Column(stream, kind="message", dtype="bytes", steps=False)
        yield Rows(stream, Items([record.data], encoding), {"log": log_ns, "create": create_ns})

    def facts(self) -> dict[str, Any]:
        """Return what the file says beside its messages; JSON-able."""
        channels: dict[str, list[dict[str, Any]]] = {}
        for channel in self._channels.values():
            batch = self._by_channel.get(channel.id)
            if batch is not None:
                channels.setdefault(batch.topic.messages, []).append({"id": channel.id, "topic": channel.topic, "metadata": dict(channel.metadata)})
        return {
            "profile": self._header.profile if self._header else "",
            "library": self._header.library if self._header else "",
            "channels": channels,
            "sequence": self._recording.number_facts(SEQUENCE),
            "metadata": self._metadata,
            "attachments": self._attachments,
        }

    def problems(self) -> list[Problem]:
        """Return what is wrong with the file as a whole."""
        found = []
        if self._cut is not None:
            found.append(Problem("truncated", f"{self._where}: the file was cut off: {self._cut}", where=self._where, advice="what was whole landed"))
        read = self._recording.messages - self._before
        declared = self._statistics.message_count if self._statistics is not None else read
        if declared != read:
            found.append(Problem("counts_differ", f"{self._where}: the summary counts {declared} messages, the file holds {read}", self._where, "warning"))
        return found


def _conflict(place: str, kind: str, number: int) -> BadRecording:
    return BadRecording(place, f"one {kind} under number {number}", "a second that differs", "restore the file from a copy", check=f"{kind}_conflict")


def no_messages(where: str, parts: Sequence[str] = ()) -> BadRecording:
    """Return the error for a recording without any message."""
    return BadRecording(where, "at least one message", "none", f"nothing was recorded: remove the {'folder' if parts else 'file'}", check="no_messages")
