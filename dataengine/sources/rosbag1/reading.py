"""A ROS 1 bag front to back: its chunks unpacked, its index compared with what the chunks hold, its messages handed over."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.clock import NS_PER_S
from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.stream import Buffer
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.packed import MAX_RECORD_BYTES, Allowance, unpack_bz2, unpack_lz4, unpack_start
from dataengine.sources.messages.recording import BATCH_BYTES, BATCH_ROWS, COPIED_BYTES, Batch, Heads, Recording
from dataengine.sources.rosbag1.records import (
    BAG_HEADER,
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    CUT_CHUNK,
    INDEX,
    MESSAGE,
    U32,
    ChunkInfo,
    Connection,
    Fields,
    MessageForm,
    message_form,
    number,
    opcode,
    parse_chunk_info,
    parse_connection,
    parse_fields,
    parse_index,
    short,
)
from dataengine.sources.rosbag1.sections import sections

PUBLISHER = "publisher"
MAX_CONNECTIONS = 100_000

_HEAD = np.dtype([("connection", "<u4"), ("seconds", "<u4"), ("nanos", "<u4")])


class BagFile:
    """One pass over one bag; its messages go into `recording`, which must be made with `self.heads` (see `rosbag1.reader`)."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._recording: Recording
        self._cut: str | None = None
        self._connections: dict[int, Connection] = {}
        self._publisher: dict[int, int] = {}
        self._per_topic: dict[str, int] = {}
        self._by_connection: dict[bytes, Batch] = {}
        self._forms: dict[int, MessageForm] = {}
        self._compressions: set[str] = set()
        self._declared: dict[str, int] = {}
        # What the running chunk holds: head and place of each message; then how many of each connection the chunk at a place held.
        self._heads: list[bytes] = []
        self._places: list[int] = []
        self._chunk: int | None = None
        self._held: dict[int, Array] | None = None
        self._indexed: set[int] = set()
        self._counts: dict[int, dict[int, int]] = {}
        self._listed: set[int] = set()

    def heads(self, found: list[Any], where: str) -> Heads:
        """Return the receive times of a batch, and which of its topic's publishers each message is from; heads are connection and time."""
        heads = np.frombuffer(b"".join(found), dtype=_HEAD)
        log_ns = heads["seconds"].astype(np.int64) * NS_PER_S + heads["nanos"]
        connections = heads["connection"]
        first = int(connections[0])
        if (connections == first).all():
            publishers = np.full(len(heads), self._publisher[first], dtype=np.uint32)
        else:
            kinds, of = np.unique(connections, return_inverse=True)
            publishers = np.array([self._publisher[int(kind)] for kind in kinds], dtype=np.uint32)[of.reshape(-1)]
        return Heads({"log": log_ns}, {PUBLISHER: publishers})

    def events(self, recording: Recording, file: BinaryIO, size: int = 0) -> Iterator[Event]:
        """Yield the rows of the bag's messages and the ends of the episodes that end inside of it; the last one is left open."""
        self._recording = recording
        allowance = Allowance(size or file.seek(0, 2))
        try:
            for kind, offset, fields, data, place in sections(file, self._where, truncated=recording.recover, on_cut=self._note_cut):
                if kind == CHUNK:
                    self._close_chunk()
                    yield from self._take_chunk(self._unpacked(fields, data, allowance, place), offset, place)
                elif kind == CUT_CHUNK:
                    self._close_chunk()
                    yield from self._take_cut_chunk(fields, data, offset, place)
                elif kind == INDEX:
                    self._check_index(fields, data, place)
                elif kind == CONNECTION:
                    self._note_connection(parse_connection(fields, data, place), place)
                elif kind == CHUNK_INFO:
                    self._close_chunk()
                    self._check_info(parse_chunk_info(fields, data, place), place)
                elif kind == BAG_HEADER:
                    self._declared = {name: number(fields, name.encode(), place) for name in ("conn_count", "chunk_count")}
                elif kind == MESSAGE:  # of a bag that was never closed: its last chunk has no length yet
                    yield from self._take_loose(fields, data, place)
        except (OSError, struct.error) as error:
            raise BadRecording(self._where, "a file that can be read to its end", str(error), "check the disk or the connection", check="unreadable") from error
        self._close_chunk()
        self._check_whole()

    def end(self) -> Iterator[Event]:
        """Yield what is left of the running episode, and its end."""
        yield from self._recording.end(lambda: ({"rosbag1": self._facts()}, self._problems()))
        self._by_connection = {}

    def _note_cut(self, reason: str) -> None:
        self._cut = self._cut or reason

    @property
    def cut(self) -> bool:
        """Whether the bag was cut off or never closed."""
        return self._cut is not None

    # --- chunks

    def _unpacked(self, fields: Fields, data: Buffer, allowance: Allowance, place: str) -> Buffer:
        size = number(fields, b"size", place)
        compression = fields.get(b"compression", b"").decode("utf-8", "backslashreplace")
        self._compressions.add(compression)
        allowance.take(size, place)
        if compression == "none":
            unpacked = data
        elif compression == "bz2":
            unpacked = unpack_bz2(data, size, place) if size else b""
        elif compression == "lz4":
            unpacked = unpack_lz4(data, size, place, whole=True) if size else b""
        else:
            raise BadRecording(place, "compression none, bz2 or lz4", repr(compression[:40]), "rewrite the bag with `rosbag compress`", check="compression")
        if len(unpacked) != size:
            raise BadRecording(place, f"a chunk that unpacks to {size} bytes", f"{len(unpacked)}", "restore the file from a copy", check="bad_chunk")
        return unpacked

    def _take_chunk(self, records: Buffer, offset: int, place: str) -> Iterator[Event]:
        """Take the messages of an unpacked chunk; the loop that every message of a bag goes through."""
        self._chunk = offset
        data = bytes(records)
        view = memoryview(data)
        forms, by_connection, heads, places = self._forms, self._by_connection, self._heads, self._places
        cutting = self._recording.rule is not None
        length_at = U32.unpack_from
        at, size = 0, len(data)
        while at < size:
            if size - at < 4:
                raise short(place, "whole records in a chunk", f"{size - at} bytes at its end")
            form = forms.get(length_at(data, at)[0])
            if form is not None and at + form.unpack.size <= size:
                header_size, a, first, b, second, c, length = form.unpack.unpack_from(data, at)
                known = (header_size, a, b, c) == form.fixed
            else:
                known = False
            if not known:
                form, start, end = self._other(data, at, place)
                if form is None:
                    at = end
                    continue
                header_size, a, first, b, second, c, length = form.unpack.unpack_from(data, at)
            assert form is not None
            start = at + form.unpack.size
            end = start + length
            if end > size:
                raise short(f"{place}: byte {at} of the chunk", f"a message of {length} bytes", f"{size - start} of them there")
            connection = second if form.time_first else first
            head = connection + (first if form.time_first else second)
            if cutting and self._begins(head, place):
                yield from self.end()
                by_connection = self._by_connection
            batch = by_connection.get(connection)
            if batch is None:
                batch = self._open(connection, place)
            if length > COPIED_BYTES:
                batch.payloads.append(view[start:end])
                batch.slices = True
            else:
                batch.payloads.append(data[start:end])
            batch.heads.append(head)
            batch.bytes += length
            heads.append(head)
            places.append(at)
            if len(batch.heads) >= BATCH_ROWS or batch.bytes >= BATCH_BYTES:
                yield from self._recording.flush(batch)
            at = end
        yield from self._recording.limit(size)

    def _take_cut_chunk(self, fields: Fields, data: Buffer, offset: int, place: str) -> Iterator[Event]:
        """Take the messages that are whole in what is left of a chunk."""
        compression = fields.get(b"compression", b"").decode("utf-8", "backslashreplace")
        self._compressions.add(compression)
        try:
            yield from self._take_chunk(unpack_start(compression, data, min(number(fields, b"size", place), MAX_RECORD_BYTES), place), offset, place)
        except BadRecording as error:
            if error.check not in ("bad_record", "bad_chunk"):
                raise
            self._note_cut(f"of the last chunk is whole what comes before: {error}")

    def _other(self, data: bytes, at: int, place: str) -> tuple[MessageForm | None, int, int]:
        """Read a record whose header has no known form: note the form of a message, or the connection; return the form and where the record ends."""
        place = f"{place}: byte {at} of the chunk"
        size = len(data)
        header_end = at + 4 + int(U32.unpack_from(data, at)[0])
        if header_end + 4 > size:
            raise short(place, "a whole record", f"a header of {header_end - at - 4} bytes, {size - at - 4} left")
        header = data[at + 4 : header_end]
        fields = parse_fields(header, place)
        end = header_end + 4 + int(U32.unpack_from(data, header_end)[0])
        if end > size:
            raise short(place, "a whole record", f"data of {end - header_end - 4} bytes, {size - header_end - 4} left")
        kind = opcode(fields, place)
        if kind == CONNECTION:
            self._note_connection(parse_connection(fields, data[header_end + 4 : end], place), place)
            return None, header_end, end
        if kind != MESSAGE:
            raise short(place, "messages and connections in a chunk", f"a record of kind {kind}")
        form = self._forms[len(header)] = message_form(header, place)
        return form, header_end, end

    def _take_loose(self, fields: Fields, data: Buffer, place: str) -> Iterator[Event]:
        connection, time = fields.get(b"conn", b""), fields.get(b"time", b"")
        number(fields, b"conn", place)
        number(fields, b"time", place, 8)
        if self._recording.rule is not None and self._begins(connection + time, place):
            yield from self.end()
        batch = self._by_connection.get(connection) or self._open(connection, place)
        batch.payloads.append(bytes(data))
        batch.heads.append(connection + time)
        batch.bytes += len(data)
        if batch.full:
            yield from self._recording.flush(batch)

    def _begins(self, head: bytes, place: str) -> bool:
        connection, seconds, nanos = struct.unpack("<III", head)
        return self._recording.begins(self._connection(connection, place).topic, seconds * NS_PER_S + nanos)

    # --- connections

    def _connection(self, found: int, place: str) -> Connection:
        if found not in self._connections:
            raise BadRecording(place, f"connection {found} before its messages", "none", "restore the file from a copy", check="no_connection")
        return self._connections[found]

    def _note_connection(self, connection: Connection, place: str) -> None:
        if self._connections.setdefault(connection.number, connection) != connection:
            raise BadRecording(
                place, f"one connection under number {connection.number}", "a second that differs", "restore the file from a copy", check="connection_conflict"
            )
        if len(self._connections) > MAX_CONNECTIONS:
            raise BadRecording(place, f"at most {MAX_CONNECTIONS} connections", "more", "split the recording", check="too_many_topics")

    def _open(self, key: bytes, place: str) -> Batch:
        """Return the batch of a connection; those of one topic, type and definition share it."""
        connection = self._connection(int(U32.unpack(key)[0]), place)
        if connection.number not in self._publisher:
            # Publishers of a topic are counted in the order in which they speak: connection numbers change when a bag is rewritten.
            self._publisher[connection.number] = self._per_topic.get(connection.topic, 0)
            self._per_topic[connection.topic] = self._publisher[connection.number] + 1
        defined = connection.definition.strip() not in (b"", b"*") or connection.type.endswith("/Empty")
        schema = MessageSchema(connection.type, "ros1msg", connection.definition) if defined else MessageSchema(connection.type, "", b"")
        batch = self._by_connection[key] = self._recording.batch(connection.topic, "ros1", schema, place)
        return batch

    # --- the index

    def _check_index(self, fields: Fields, data: Buffer, place: str) -> None:
        """Compare an index record with the messages of the chunk before it."""
        connection, entries = parse_index(fields, data, place)
        held = self._in_chunk()
        if self._chunk is None or connection in self._indexed or connection not in held:
            raise _bad_index(place, f"one index for each connection of the chunk before it, found one more for connection {connection}")
        self._indexed.add(connection)
        found = held[connection]
        order = np.argsort(entries["offset"], kind="stable")
        if (
            len(found) != len(entries)
            or not np.array_equal(found["offset"], entries["offset"][order])
            or not np.array_equal(found["time"], entries["time"][order])
        ):
            raise _bad_index(place, f"index and messages of connection {connection} differ")

    def _in_chunk(self) -> dict[int, Array]:
        """Return for each connection of the running chunk the time and place of its messages, in the form of an index record."""
        if self._held is None:
            heads = np.frombuffer(b"".join(self._heads), dtype=[("connection", "<u4"), ("time", "<u8")])
            every = np.empty(len(heads), dtype=[("time", "<u8"), ("offset", "<u4")])
            every["time"], every["offset"] = heads["time"], self._places
            order = np.argsort(heads["connection"], kind="stable")
            kinds, starts = np.unique(heads["connection"][order], return_index=True)
            self._held = dict(zip(kinds.tolist(), np.split(every[order], starts[1:]), strict=True)) if len(heads) else {}
            self._heads.clear()
            self._places.clear()
        return self._held

    def _close_chunk(self) -> None:
        """Note what the running chunk held; raise BadRecording where its index does not cover it."""
        if self._chunk is None:
            return
        held = self._in_chunk()
        if self._indexed != set(held) and self._cut is None and not self._recording.recover:
            raise _bad_index(f"{self._where}: chunk at byte {self._chunk}", f"{len(held) - len(self._indexed)} connections are not indexed")
        self._counts[self._chunk] = {connection: len(entries) for connection, entries in held.items()}
        self._chunk, self._held, self._indexed = None, None, set()

    def _check_info(self, info: ChunkInfo, place: str) -> None:
        if info.position in self._listed or self._counts.get(info.position) != info.counts:
            raise _bad_index(place, f"it says {dict(info.counts)} of the chunk at byte {info.position}"[:200])
        self._listed.add(info.position)

    def _check_whole(self) -> None:
        """Compare what the bag says of itself with what was found; a bag that was cut off says nothing yet."""
        if self._cut is not None or not any(self._declared.values()):
            return
        found = {"conn_count": len(self._connections), "chunk_count": len(self._counts)}
        if self._declared != found or self._listed != set(self._counts):
            raise _bad_index(self._where, f"its header says {self._declared}, it holds {found}, {len(self._listed)} chunks are listed")

    # --- what goes on

    def _facts(self) -> dict[str, Any]:
        """Return what the bag says beside its messages; JSON-able."""
        connections: dict[str, list[dict[str, Any]]] = {}
        for key, batch in self._by_connection.items():
            said = self._connections[int(U32.unpack(key)[0])]
            entry = {"publisher": self._publisher[said.number], "connection": said.number, "type": said.type, **said.fields, "topic": said.topic}
            connections.setdefault(batch.topic.messages, []).append(entry)
        return {"version": "2.0", "compression": sorted(self._compressions), "connections": connections, "publisher": self._recording.number_facts(PUBLISHER)}

    def _problems(self) -> list[Problem]:
        if self._cut is None:
            return []
        return [Problem("truncated", f"{self._where}: the bag was cut off or never closed: {self._cut}", where=self._where, advice="what was whole landed")]


def _bad_index(where: str, found: str) -> BadRecording:
    return BadRecording(
        where,
        "an index that agrees with the messages",
        found,
        "the bag is damaged: restore it from a copy, or run `rosbag reindex` to go by the messages",
        check="bad_index",
    )
