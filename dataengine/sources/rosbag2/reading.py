"""The files of a ROS 2 bag one after the other, as one recording: what its metadata says is compared with what is there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dataengine.core.episode import Event
from dataengine.core.errors import BadRecording
from dataengine.core.problem import Problem
from dataengine.core.protocols import Item, Opener, ReadOptions
from dataengine.core.stream import Buffer
from dataengine.sources.mcap.reading import SEQUENCE, McapFile, mcap_heads, no_messages
from dataengine.sources.messages.fields import MessageSchema
from dataengine.sources.messages.packed import Allowance, Zstd
from dataengine.sources.messages.recording import BATCH_BYTES, BATCH_ROWS, Batch, Heads, Recording
from dataengine.sources.messages.ros_known import choose_schema
from dataengine.sources.rosbag2.database import LEAST_ROW_BYTES, Database, Definition, Topic, check_size, open_database
from dataengine.sources.rosbag2.finding import ZSTD_MAGIC
from dataengine.sources.rosbag2.metadata import MAX_BYTES, BagMetadata, parse_metadata
from dataengine.sources.rosbag2.parts import Part, opened_part, padded_copy

# Payloads of a database that are held before the topics with fewer messages are given on too.
HELD_STEP_BYTES = 1 << 20


def database_heads(found: list[Any], _: str) -> Heads:
    """Return the receive times of a batch; heads are they."""
    return Heads({"log": np.array(found, dtype=np.int64)}, {})


class Bag:
    """One pass over one bag."""

    def __init__(self, item: Item, files: Opener, options: ReadOptions) -> None:
        self._item, self._files, self._options = item, files, options
        self._where = item.path
        self._recording: Recording
        self._metadata = BagMetadata()
        self._storage = ""
        self._release = ""
        self._types: dict[str, str] = {}
        self._definitions: dict[str, Definition] = {}
        self._chosen: dict[str, str] = {}
        self._facts: list[dict[str, Any]] = []
        self._topics: dict[str, list[dict[str, Any]]] = {}
        self._open_file: McapFile | None = None
        self._problems: list[Problem] = []
        self._zstd, self._allowance = Zstd(), Allowance(item.size)
        self._packed_messages = 0

    def events(self) -> Iterator[Event]:
        """Yield the rows of each episode, then its end."""
        sizes = {file.path: file.size for file in self._item.files}
        beside = frozenset(sizes)
        parts: list[str] = list(self._item.extra.get("parts") or [self._item.path])
        self._note_metadata()
        for absent in self._item.extra.get("absent") or ():
            self._problems.append(
                Problem(
                    "missing_split",
                    f"{self._where}: the file {absent!r} of this bag is absent: what the others hold landed",
                    where=self._where,
                    expected=str(absent),
                    found="no such file",
                    advice="copy it to the others and ingest the bag again",
                )
            )
        for number, path in enumerate(parts):
            with opened_part(self._files, path, sizes.get(path, 0), beside) as part:
                if not number:
                    self._storage = part.storage
                    self._recording = Recording(self._item, self._options, mcap_heads if part.storage == "mcap" else database_heads)
                elif part.storage != self._storage:
                    raise BadRecording(path, f"a file of storage {self._storage}, as those before it", part.storage, "split the folder", check="mixed_storage")
                before = self._recording.messages
                yield from self._mcap(part) if part.storage == "mcap" else self._database(part)
                self._note_file(path, part, self._recording.messages - before)
                if number + 1 < len(parts):
                    yield from self._recording.flush_all()
                    self._open_file = None
        if self._recording.empty:
            raise no_messages(self._where, parts)
        self._compare()
        yield from self._end()

    def _note_metadata(self) -> None:
        path = self._item.extra.get("metadata")
        if path:
            try:
                self._metadata = parse_metadata(self._files.read_bytes(str(path), MAX_BYTES).decode("utf-8", "replace"), str(path))
            except BadRecording as error:  # the files speak for themselves
                self._problems.append(Problem(error.check, str(error), str(path), "warning", error.expected, error.found, error.advice))
            self._types = {name: topic.type for name, topic in self._metadata.topics.items()}
            self._release = self._metadata.release
            if self._metadata.compression_mode and self._metadata.compression_format != "zstd":
                raise BadRecording(
                    str(path),
                    "compression_format zstd",
                    repr(self._metadata.compression_format)[:80],
                    "convert the bag with `ros2 bag convert`",
                    check="compression",
                )

    # --- messages

    def _unpack(self, payload: Buffer, place: str) -> bytes:
        """Return a message that was compressed by itself as it was before; others as they are."""
        if bytes(payload[:4]) != ZSTD_MAGIC:
            if self._metadata.compression_mode == "message" and len(payload):
                raise BadRecording(
                    place, "a message packed with zstd, as the metadata says", bytes(payload[:4]).hex(), "correct the metadata", check="bad_chunk"
                )
            return bytes(payload)
        found = self._zstd.unpack(payload, None, place)
        self._allowance.take(len(found), place)
        self._packed_messages += 1
        return found

    def _schema_of(self, topic: str, recorded: MessageSchema | None, payload: Buffer) -> MessageSchema | None:
        """Choose the schema of a topic by its first message, and remember where it comes from."""
        name = recorded.name if recorded is not None and recorded.name else self._types.get(topic, "")
        choice = choose_schema(name, recorded, payload, self._release)
        self._chosen.setdefault(name, choice.origin)
        return choice.schema

    def _mcap(self, part: Part) -> Iterator[Event]:
        # A first message that is packed says that all may be; with metadata that says otherwise they are taken as they are.
        may_be_packed = self._metadata.compression_mode == "message" or not self._metadata.said
        one = McapFile(self._recording, part.where, part.size, self._describe, self._schema_of, self._unpack if may_be_packed else None)
        self._open_file = one
        if part.copied and part.path is not None:
            with open(part.path, "rb") as file:
                yield from one.events(file)
        else:
            with self._files.open(part.where) as file:
                yield from one.events(file)

    def _database(self, part: Part) -> Iterator[Event]:
        assert part.path is not None, "a database lies on this machine"
        with open(part.path, "rb") as file:
            head = file.read(100)
        cut: BadRecording | None = None
        try:
            check_size(head, part.size, part.where)
        except BadRecording as error:
            if not self._recording.recover:
                raise
            cut = error
        try:
            with padded_copy(part.path, cut is not None) as path, open_database(path, part.where, part.size, own_copy=part.log) as database:
                yield from self._rows(database, part)
        except BadRecording as error:
            if not self._recording.recover or error.check != "bad_database":
                raise
            cut = error
        if cut is not None:
            self._problems.append(Problem("truncated", f"{part.where}: the database is not whole: {cut}", where=part.where, advice="what was whole landed"))

    def _rows(self, database: Database, part: Part) -> Iterator[Event]:
        said = database.versions()
        self._release = self._release or str(said.get("ros_distro", ""))
        text = "" if self._metadata.said else database.metadata(MAX_BYTES)
        if text:
            self._take_inner_metadata(text, part.where)
        topics = database.topics()
        self._definitions = database.definitions()
        self._facts.append({"file": part.where, **said})
        for topic in topics.values():
            self._note_topic(topic.name, {"type": topic.type, "encoding": topic.encoding, **topic.said})
        if database.other_tables or database.other_columns:
            names = ", ".join([*database.other_tables, *(f"messages.{column}" for column in database.other_columns)])
            self._problems.append(
                Problem("unknown_tables", f"{part.where}: holds {names}, which no bag format has: not kept"[:500], where=part.where, severity="info")
            )
        yield from self._messages(database, topics, part)

    def _messages(self, database: Database, topics: Mapping[int, Topic], part: Part) -> Iterator[Event]:
        """Take the messages of a database: the loop that every one of them goes through."""
        recording, size = self._recording, part.size
        cutting, packed = recording.rule is not None, self._metadata.compression_mode == "message" or not self._metadata.said
        by_topic: dict[int, Batch] = {}
        total = held = 0
        before = -(2**63) - 1
        for row, number, time_ns, data in database.messages():
            if type(data) is not bytes or type(time_ns) is not int or type(number) is not int or row <= before:
                raise database.refuse(row, before, (number, time_ns, data), total)
            before = row
            total += len(data) + LEAST_ROW_BYTES
            if total > size:
                raise database.refuse(row, before - 1, (number, time_ns, data), total)
            if packed and (data[:4] == ZSTD_MAGIC or self._metadata.compression_mode == "message"):
                data = self._unpack(data, f"{part.where}: topic {number}")
            batch = by_topic.get(number)
            if batch is None or cutting:
                topic = topics.get(number)
                if topic is None:
                    raise BadRecording(part.where, f"a topic {number} in the table of topics", "none", "restore the file from a copy", check="no_channel")
                if recording.begins(topic.name, time_ns):
                    yield from self._end()
                    by_topic, batch = {}, None
                if batch is None:
                    batch = by_topic[number] = recording.batch(
                        topic.name, topic.encoding, self._database_schema(topic.name, topic.type, topic.encoding, data), part.where
                    )
            batch.payloads.append(data)
            batch.heads.append(time_ns)
            length = len(data)
            batch.bytes += length
            held += length
            if len(batch.heads) >= BATCH_ROWS or batch.bytes >= BATCH_BYTES:
                yield from recording.flush(batch)
            if held > HELD_STEP_BYTES:
                yield from recording.limit(held)
                held = 0

    def _database_schema(self, topic: str, kind: str, encoding: str, payload: bytes) -> MessageSchema | None:
        found = self._definitions.get(kind)
        recorded = MessageSchema(kind, found.encoding, found.text) if found is not None else None
        self._types.setdefault(topic, kind)
        if encoding != "cdr":
            return recorded or MessageSchema(kind, "", b"")
        return self._schema_of(topic, recorded, payload)

    def _take_inner_metadata(self, text: str, where: str) -> None:
        """Take the copy of the metadata that a database holds, for a bag without metadata.yaml: one of the part that was open when it was written."""
        try:
            found = parse_metadata(text, f"{where}: table metadata")
        except BadRecording as error:
            self._problems.append(Problem(error.check, str(error), where=where, severity="info"))
            return
        self._types.update({name: topic.type for name, topic in found.topics.items()})
        self._release = self._release or found.release

    # --- what is there and what was said

    def _note_topic(self, topic: str, said: dict[str, Any]) -> None:
        """Keep what a file says of a topic; the files of a bag mostly say the same."""
        known = self._topics.setdefault(topic, [])
        if said not in known:
            known.append(said)

    def _note_file(self, path: str, part: Part, count: int) -> None:
        if part.log:
            self._problems.append(
                Problem("not_closed", f"{path}: the database was not closed: what its log beside it holds landed too", where=path, severity="info")
            )
        said = self._metadata.counts_by_file
        for name in (posixpath.basename(path), posixpath.basename(path).removesuffix(".zstd")):
            if name in said and said[name] != count:
                self._problems.append(Problem("counts_differ", f"{path}: the metadata counts {said[name]} messages, the file holds {count}", where=path))
                break
        if self._open_file is not None:
            facts = self._open_file.facts()
            del facts[SEQUENCE]  # of the whole recording: see _describe
            for channels in facts.pop("channels").values():
                for channel in channels:
                    self._note_topic(channel["topic"], channel["metadata"])
            self._facts.append({"file": path, **facts})
            self._problems.extend(self._open_file.problems())

    def _compare(self) -> None:
        """Note where the metadata and the files disagree."""
        said, recording = self._metadata, self._recording
        if self._item.extra.get("absent"):
            return
        found: dict[str, int] = {}
        for batch in recording.batches.values():
            found[batch.topic.topic] = found.get(batch.topic.topic, 0) + batch.topic.count + len(batch.heads)
        differ = []
        if said.count is not None and said.count != recording.messages:
            differ.append(f"{said.count} messages where the files hold {recording.messages}")
        if recording.rule is None:  # the topics of an episode that has ended are counted no more
            counted = {topic.name: topic.count for topic in said.topics.values() if topic.count is not None}
            topics = sorted(name for name in {*counted, *found} if said.topics and counted.get(name, 0) != found.get(name, 0))
            differ += [f"{counted.get(name, 0)} of {name!r} where there are {found.get(name, 0)}" for name in topics[:5]]
        if differ:
            self._problems.append(Problem("counts_differ", f"{self._where}: the metadata counts {', '.join(differ)}", where=self._where))

    def _times(self) -> list[Problem]:
        """Return what the metadata says wrongly of when the recording began; it is not used for anything."""
        said = self._metadata.start_ns
        starts = [batch.topic.log_start_ns for batch in self._recording.batches.values() if batch.topic.count]
        if said is None or not starts or said == min(starts) or self._recording.rule is not None or self._item.extra.get("absent"):
            return []
        message = f"{self._where}: the metadata says that the recording starts at {said} ns, its first message is of {min(starts)} ns"
        return [Problem("start_differs", message, where=self._where, severity="info")]

    def _end(self) -> Iterator[Event]:
        yield from self._open_file.end() if self._open_file is not None else self._recording.end(self._describe)

    def _describe(self) -> tuple[dict[str, Any], list[Problem]]:
        problems, self._problems = [*self._problems, *self._times()], []
        replaced = sorted(name for name, origin in self._chosen.items() if origin == "replaced")
        if replaced:
            message = f"{self._where}: the definitions of {', '.join(replaced[:10])} in the bag do not fit its messages: those of ROS 2 were used"
            problems.append(Problem("definition_replaced", message, where=self._where, severity="info"))
        facts = {
            "storage": self._storage,
            "release": self._release,
            "files": self._facts,
            "topics": self._topics,
            "definitions": dict(sorted(self._chosen.items())),
            "packed_messages": self._packed_messages,
            **({SEQUENCE: self._recording.number_facts(SEQUENCE)} if self._storage == "mcap" else {}),
            "metadata": dict(self._metadata.said),
        }
        return {"rosbag2": facts}, problems
