"""MCAP recordings (ROS 1, ROS 2, protobuf, JSON): every message as recorded, its numbers, pictures, texts and transforms beside it.

A file is read once, front to back, a chunk at a time; all its checksums are compared. Streams of a topic `/a/b`:

- `a.b`: the messages. Their bytes and schema are kept; a picture inside stands in the camera's stream instead (`messages.pictures` puts it back).
- `a.b.<field>`: a numeric field (`messages.numbers`). `a.b.data`: the text of std_msgs/String.
- `observation.images.<camera>`: the pictures of a CompressedImage (their own bytes) or Image (raw pixels).
- `tf.<parent>.<child>`: transforms, (7,) x y z qx qy qz qw.
- `a.b.sequence`: the recorder's sequence numbers where they do not simply count up; it goes row by row with `a.b`.
- `attachments`: attached files; their names stand in the metadata.
- of the profile "owa" also what `owa` says: the video beside it, keys and mouse.

Rows carry the clocks "log", "publish" (messages only) and "stamp" (the header's). A stream goes by "stamp" where all messages of its topic have one that is not
zero, else by "log"; see `messages.episode.topics_by_log` for stamps of a clock that was never set. Times count from the earliest one of any stream.

Config: `episodes` (see `episode_rules`), `clock: log` to go by the log time, `recover_truncated: true` to land what is whole of a file that was cut off,
`streams: {observation.state: "/joint_states:position"}` to name streams (`stream_names.stream_targets`); one named `action` is the control clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording, ConfigError
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Buffer, Items, Rows
from dataengine.sources.mcap import owa
from dataengine.sources.mcap.records import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    DATA_END,
    MAGIC,
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
from dataengine.sources.messages.episode import build_info
from dataengine.sources.messages.episode_rules import EpisodeRule, episode_rule
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.sequence_numbers import SequenceNumbers
from dataengine.sources.messages.stream_names import StreamNames, stream_targets
from dataengine.sources.messages.topics import Topic

NAME = "mcap"
VERSION = "2"
RECOGNISED_BY = 'files that begin with the MCAP magic, or end in .mcap; of the profile "owa" also the video of its name beside it'
KEEPS = "every message's bytes and schema; numbers, pictures, texts and transforms beside them; log, publish and header times; attachments and metadata; of desktop recordings the video's bytes"

# A topic's rows are given on at the first of these; payloads above the last are slices of their chunk, the others copies.
BATCH_ROWS = 1024
BATCH_BYTES = 8 << 20
HELD_BYTES = 32 << 20
COPIED_BYTES = 2048
MAX_TOPICS = 10_000
MAX_METADATA_BYTES = 4 << 20

_HEAD = np.dtype([("channel", "<u2"), ("sequence", "<u4"), ("log", "<u8"), ("publish", "<u8")])
_LOG = struct.Struct("<Q")


def find(listing: Listing) -> Found:
    """Claim the files that are MCAP by content, and those named so (they are rejected when read, with the reason)."""
    items = []
    for path, file in listing.files.items():
        known = listing.head(path, len(MAGIC)) == MAGIC
        if known or path.lower().endswith(".mcap"):
            beside = owa.films_beside(listing, path) if known else ()
            extra = {"owa": True} if known and owa.is_owa(listing, path) else {}
            items.append(Item(NAME, listing.root, path, dataset_from_path(listing.name, path), (file, *beside), extra=extra, by_name=not known))
    return Found(items, frozenset(file.path for item in items for file in item.files))


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Yield the rows of each episode of a file, then its end.

    Raises:
        BadRecording: the file is damaged, cut off, or holds no message.
        ConfigError: `options` are not valid.
    """
    with files.open(item.path) as file:
        yield from owa.with_desktop(_Reading(item, options).events(file), item, files)


class _Pending:
    """Messages of one topic that were not given on yet."""

    __slots__ = ("bytes", "heads", "payloads", "sequence", "slices", "topic")

    def __init__(self, topic: Topic, names: StreamNames) -> None:
        self.topic = topic
        self.sequence = SequenceNumbers(topic, names)
        self.payloads: list[Buffer] = []
        self.heads: list[bytes] = []
        self.bytes = 0
        self.slices = False


class _Reading:
    """One pass over one file."""

    def __init__(self, item: Item, options: ReadOptions) -> None:
        self._item, self._where = item, item.path
        self._rule: EpisodeRule | None = episode_rule(options.config)
        self._targets = stream_targets(options.config, options.description)
        self._rate_hz = options.description.get("rate_hz") or options.rate_hz
        self._embodiment = options.description.get("embodiment")
        self._by_log = _choice(options.config, "clock", {"stamp": False, "log": True}, False)
        self._recover = _choice(options.config, "recover_truncated", {True: True, False: False}, False)
        self._cut: str | None = None
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._header: Header | None = None
        self._metadata: list[dict[str, Any]] = []
        self._metadata_bytes = 0
        self._statistics: Statistics | None = None
        self._camera_infos: dict[str, Mapping[str, Any]] = {}
        self._episodes = self._messages = 0
        self._begin()

    def _begin(self) -> None:
        self._names = StreamNames(self._targets)
        self._by_channel: dict[int, _Pending] = {}
        self._by_topic: dict[tuple[str, str, MessageSchema | None], _Pending] = {}
        self._attachments: list[dict[str, Any]] = []
        self._held = 0

    def events(self, file: BinaryIO) -> Iterator[Event]:
        unpacker = Unpacker(self._item.size or file.seek(0, 2))
        try:
            for opcode, _, body, place in sections(file, self._where, truncated=self._recover, on_cut=self._note_cut):
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
        if not self._by_topic and not self._messages:
            raise BadRecording(self._where, "at least one message", "none", "nothing was recorded: remove the file", check="no_messages")
        yield from self._end()

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
                if self._rule is not None and self._begins(self._rule, data, start, at, place):
                    yield from self._end()
                full = take(data, view, start, at, place)
                if full is not None:
                    yield from self._flush(full)
            elif opcode in (SCHEMA, CHANNEL):
                self._note(parse_record(opcode, data, start, at, place), place)
            elif opcode <= DATA_END:
                raise bad_inner_record(place, start - 9, f"opcode {opcode}")
        yield from self._limit(size)

    def _loose(self, body: Buffer, place: str) -> Iterator[Event]:
        """Take a message that stands outside of any chunk."""
        data = bytes(body)
        if self._rule is not None and self._begins(self._rule, data, 0, len(data), place):
            yield from self._end()
        full = self._take(data, memoryview(data), 0, len(data), place)
        if full is not None:
            yield from self._flush(full)
        yield from self._limit(len(data))

    def _begins(self, rule: EpisodeRule, data: bytes, start: int, end: int, place: str) -> bool:
        channel = self._channel_of(data, start, end, place)
        return rule.begins(channel.topic, int(_LOG.unpack_from(data, start + 6)[0]))

    def _channel_of(self, data: bytes, start: int, end: int, place: str) -> Channel:
        if end - start < _HEAD.itemsize:
            raise BadRecording(place, "a message of at least 22 bytes", f"{end - start}", "restore the file from a copy", check="record_too_short")
        channel = self._channels.get(data[start] | data[start + 1] << 8)
        if channel is None:
            number = data[start] | data[start + 1] << 8
            raise BadRecording(place, f"channel {number} before its messages", "none", "restore the file from a copy", check="no_channel")
        return channel

    def _take(self, data: bytes, view: memoryview, start: int, end: int, place: str) -> _Pending | None:
        """Keep a message until its topic's batch is full; return the batch when it is."""
        head = data[start : start + 22]
        pending = self._by_channel.get(head[0] | head[1] << 8) if len(head) == 22 and end - start >= 22 else None
        if pending is None:
            pending = self._open(self._channel_of(data, start, end, place), place)
        size = end - start
        if size > COPIED_BYTES:
            pending.payloads.append(view[start + 22 : end])
            pending.slices = True
        else:
            pending.payloads.append(data[start + 22 : end])
        pending.heads.append(head)
        pending.bytes += size
        return pending if len(pending.heads) >= BATCH_ROWS or pending.bytes >= BATCH_BYTES else None

    def _open(self, channel: Channel, place: str) -> _Pending:
        """Return the batch of a channel; channels of one topic, schema and encoding share it."""
        found = self._schemas.get(channel.schema_id)
        schema = MessageSchema(found.name, found.encoding, found.data) if found is not None else None
        key = (channel.topic, channel.message_encoding, schema)
        pending = self._by_topic.get(key)
        if pending is None:
            if len(self._by_topic) >= MAX_TOPICS:
                raise BadRecording(place, f"at most {MAX_TOPICS} topics", "more", "split the recording", check="too_many_topics")
            pending = self._by_topic[key] = _Pending(Topic(channel.topic, channel.message_encoding, schema, self._names), self._names)
        self._by_channel[channel.id] = pending
        return pending

    # --- what goes on

    def _limit(self, size: int) -> Iterator[Event]:
        """Give on what holds on to chunks, before they become too many."""
        self._held += size
        if self._held > HELD_BYTES:
            every = sum(pending.bytes for pending in self._by_topic.values() if not pending.slices) > HELD_BYTES
            for pending in self._by_topic.values():
                if every or pending.slices:
                    yield from self._flush(pending)
            self._held = 0

    def _flush(self, pending: _Pending) -> Iterator[Event]:
        if not pending.heads:
            return
        heads = np.frombuffer(b"".join(pending.heads), dtype=_HEAD)
        payloads = pending.payloads
        pending.payloads, pending.heads, pending.bytes, pending.slices = [], [], 0, False
        clocks = {name: _times_ns(heads[name], f"{self._where}: topic {pending.topic.topic!r}", name) for name in ("log", "publish")}
        self._messages += len(payloads)
        yield from pending.topic.rows(payloads, clocks)
        yield from pending.sequence.rows(heads["sequence"])

    def _attachment(self, body: Buffer, place: str) -> Iterator[Event]:
        record = parse_record(ATTACHMENT, body, 0, len(body), place)
        assert isinstance(record, Attachment)
        times = np.array([record.log_time, record.create_time], dtype=np.uint64)
        log_ns, create_ns = (_times_ns(times[at : at + 1], place, name) for at, name in enumerate(("log", "create")))
        self._attachments.append({"name": record.name, "media_type": record.media_type, "bytes": len(record.data)})
        stream = self._names.take("attachments", "attachments of the recording")
        encoding = record.media_type if 0 < len(record.media_type) <= 100 else "application/octet-stream"
        yield Rows(stream, Items([record.data], encoding), {"log": log_ns, "create": create_ns})

    def _end(self) -> Iterator[Event]:
        """Give on what is left of the episode, and its end."""
        for pending in self._by_topic.values():
            yield from self._flush(pending)
        topics = [pending.topic for pending in self._by_topic.values()]
        columns: dict[str, Column] = {}
        if self._attachments:
            stream = self._names.take("attachments", "attachments of the recording")
            columns[stream] = Column(stream, kind="message", dtype="bytes", steps=False)
        for pending in self._by_topic.values():
            column = pending.sequence.column()
            if column is not None:
                columns[column.name] = column
        yield build_info(
            topics,
            self._names,
            self._item.dataset,
            key="" if self._rule is None else str(self._episodes),
            by_log=self._by_log,
            rate_hz=self._rate_hz,
            embodiment=self._embodiment,
            splits=self._item.splits,
            metadata={"mcap": self._facts()},
            columns=columns,
            problems=self._problems(),
            camera_infos=self._camera_infos,
        )
        self._camera_infos.update({topic.topic: topic.camera_info for topic in topics if topic.camera_info is not None})
        self._episodes += 1
        self._begin()

    def _facts(self) -> dict[str, Any]:
        """Return what the recording says beside its messages; JSON-able."""
        channels: dict[str, list[dict[str, Any]]] = {}
        for channel in self._channels.values():
            pending = self._by_channel.get(channel.id)
            if pending is not None:
                channels.setdefault(pending.topic.messages, []).append({"id": channel.id, "topic": channel.topic, "metadata": dict(channel.metadata)})
        return {
            "profile": self._header.profile if self._header else "",
            "library": self._header.library if self._header else "",
            "channels": channels,
            "sequence": {pending.topic.messages: pending.sequence.facts() for pending in self._by_topic.values()},
            "metadata": self._metadata,
            "attachments": self._attachments,
        }

    def _problems(self) -> list[Problem]:
        found = []
        if self._cut is not None:
            found.append(Problem("truncated", f"{self._where}: the file was cut off: {self._cut}", where=self._where, advice="what was whole landed"))
        declared = self._statistics.message_count if self._statistics is not None else self._messages
        if declared != self._messages:
            found.append(
                Problem("counts_differ", f"{self._where}: the summary counts {declared} messages, the file holds {self._messages}", self._where, "warning")
            )
        return found


def _choice(config: Mapping[str, Any], key: str, known: Mapping[Any, bool], default: bool) -> bool:
    if key not in config:
        return default
    value = config[key]
    for name, meaning in known.items():
        if value == name and type(value) is type(name):
            return meaning
    raise ConfigError(f"{key}: must be one of {', '.join(map(str, known))}, got {value!r}"[:300])


def _times_ns(times: Array, where: str, clock: str) -> Array:
    """Return uint64 times as int64 ns; raise BadRecording beyond its range."""
    if (times >> np.uint64(63)).any():
        raise BadRecording(where, f"{clock} times below 2^63 ns (the year 2262)", f"{int(times.max())}", "correct the recorder's clock", check="time_too_large")
    return times.astype(np.int64)


def _conflict(place: str, kind: str, number: int) -> BadRecording:
    return BadRecording(place, f"one {kind} under number {number}", "a second that differs", "restore the file from a copy", check=f"{kind}_conflict")
