"""Small MCAP files for tests, and what the mcap library reads of any file to compare with."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcap.reader import NonSeekingReader
from mcap.writer import CompressionType, Writer

from dataengine.core.episode import Episode, Event, Noticed, Rejected, episodes_of
from dataengine.core.protocols import ReadOptions
from dataengine.core.stream import Frames, Items
from dataengine.sources.listing import list_source
from dataengine.sources.mcap import reader as mcap
from dataengine.sources.messages.pictures import RawPicture, is_taken_out, pixel_bytes, reassemble

HEADER = "std_msgs/Header header\n"
HEADER_DEFINITION = "================\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
JOINT_STATE = HEADER + "string[] name\nfloat64[] position\n" + HEADER_DEFINITION
COMPRESSED = HEADER + "string format\nuint8[] data\n" + HEADER_DEFINITION
IMAGE = HEADER + "uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n" + HEADER_DEFINITION
STRING = "string data\n"

Sent = tuple[str, int, bytes]


class Cdr:
    """CDR bytes, written field by field: every number aligned to its size after the 4 bytes of encapsulation."""

    def __init__(self, little: bool = True) -> None:
        self.data = bytearray(b"\0\1\0\0" if little else b"\0\0\0\0")
        self._order = "<" if little else ">"

    def number(self, code: str, *values: float) -> Cdr:
        for value in values:
            size = struct.calcsize(code)
            self.data += bytes(-(len(self.data) - 4) % size) + struct.pack(self._order + code, value)
        return self

    def text(self, text: str) -> Cdr:
        self.number("I", len(text.encode()) + 1).data.extend(text.encode() + b"\0")
        return self

    def header(self, stamp_ns: int, frame: str = "base") -> Cdr:
        return self.number("i", stamp_ns // 10**9).number("I", stamp_ns % 10**9).text(frame)

    def sequence(self, code: str, values: Sequence[float]) -> Cdr:
        return self.number("I", len(values)).number(code, *values)

    def blob(self, data: bytes) -> Cdr:
        self.number("I", len(data)).data.extend(data)
        return self

    def bytes(self) -> bytes:
        return bytes(self.data)


def joint_state(stamp_ns: int, names: Sequence[str], position: Sequence[float]) -> bytes:
    payload = Cdr().header(stamp_ns).number("I", len(names))
    for name in names:
        payload.text(name)
    return payload.sequence("d", position).bytes()


def compressed(stamp_ns: int, data: bytes, kind: str = "jpeg") -> bytes:
    return Cdr().header(stamp_ns, "cam").text(kind).blob(data).bytes()


def image(stamp_ns: int, height: int, width: int, encoding: str, step: int, data: bytes, big: int = 0) -> bytes:
    return Cdr().header(stamp_ns, "cam").number("I", height, width).text(encoding).number("B", big).number("I", step).blob(data).bytes()


def write_mcap(
    topics: Mapping[str, tuple[str, str, str, bytes | str]],
    sent: Iterable[Sent],
    *,
    attachments: Sequence[tuple[int, str, bytes]] = (),
    metadata: Mapping[str, Mapping[str, str]] | None = None,
    sequences: Sequence[int] | None = None,
    **options: Any,
) -> bytes:
    """Return a file. `topics` maps a topic to (message encoding, schema name, schema encoding, schema), `sent` is (topic, log time in ns, payload)."""
    out = io.BytesIO()
    writer = Writer(out, **({"compression": CompressionType.ZSTD, "enable_data_crcs": True} | options))
    writer.start("test", "dataengine tests")
    channels = {}
    for topic, (encoding, name, schema_encoding, schema) in topics.items():
        number = writer.register_schema(name, schema_encoding, schema.encode() if isinstance(schema, str) else schema) if name else 0
        channels[topic] = writer.register_channel(topic.split("#")[0], encoding, number)
    for index, (topic, log_ns, payload) in enumerate(sent):
        writer.add_message(channels[topic], log_ns, payload, log_ns - 5, sequences[index] if sequences is not None else index)
    for log_ns, name, data in attachments:
        writer.add_attachment(log_ns, log_ns, name, "text/plain", data)
    for name, entries in (metadata or {}).items():
        writer.add_metadata(name, dict(entries))
    writer.finish()
    return out.getvalue()


def events_of_file(folder: Path, data: bytes | None = None, name: str = "a.mcap", **options: Any) -> list[Event]:
    """Read the only file of a folder (written there first where `data` is given)."""
    if data is not None:
        (folder / name).write_bytes(data)
    listing = list_source(str(folder))
    found = mcap.find(listing)
    assert len(found.items) == 1
    return list(mcap.read(found.items[0], listing.opener, ReadOptions(**options)))


def episodes_of_file(folder: Path, data: bytes | None = None, **options: Any) -> list[Episode]:
    read = list(episodes_of(events_of_file(folder, data, **options)))
    episodes = [episode for episode in read if isinstance(episode, Episode)]
    assert len(episodes) == len(read)
    return episodes


def episode_of_file(folder: Path, data: bytes | None = None, **options: Any) -> Episode:
    (episode,) = episodes_of_file(folder, data, **options)
    return episode


def payloads_of(episode: Episode) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
    """Return the messages of an episode as recorded, pictures put back: (log time, payload) by (topic, schema name)."""
    found: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
    for stream in episode.streams.values():
        column = stream.column
        if column.kind != "message" or "topic" not in column.extra:
            continue
        assert isinstance(stream.values, Items)
        pictures = iter(_pictures(episode, column.extra["picture"]["stream"]) if "picture" in column.extra else [])
        into = found.setdefault((column.extra["topic"], column.extra.get("schema", {}).get("name", "")), [])
        for row, rest in enumerate(stream.values.data):
            encoding = stream.values.encoding(row)
            payload, was = reassemble(rest, encoding, next(pictures)) if is_taken_out(encoding) else (bytes(rest), encoding)
            assert was == column.encoding
            into.append((int(stream.clocks["log"][row]), payload))
        assert next(pictures, None) is None
    return found


def _pictures(episode: Episode, name: str) -> list[bytes]:
    stream = episode.streams[name]
    if isinstance(stream.values, Items):
        return [bytes(data) for data in stream.values.data]
    assert isinstance(stream.values, Frames)
    said = stream.column.extra["raw_picture"]
    header = RawPicture(said["height"], said["width"], said["encoding"], said["big_endian"], said["step"])
    return [pixel_bytes(header, picture) for picture in stream.values.pixels]


def library_payloads(path: Path) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
    """Return what the mcap library reads of a file, in file order and with checksums: (log time, payload) by (topic, schema name)."""
    found: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
    with path.open("rb") as file:
        for schema, channel, message in NonSeekingReader(file, validate_crcs=True).iter_messages(log_time_order=False):
            found.setdefault((channel.topic, schema.name if schema else ""), []).append((message.log_time, bytes(message.data)))
    return found


def compare_with_library(folder: str) -> str:
    """Read the file of a folder with both; raise AssertionError where ours lands something else. For `tests.support.child.run_over`."""
    listing = list_source(folder)
    found = mcap.find(listing)
    if not found.items:
        return "unrecognised"
    ours: dict[tuple[str, str], list[tuple[int, bytes]]] = {}
    for episode in episodes_of(mcap.read(found.items[0], listing.opener, ReadOptions())):
        assert not isinstance(episode, Rejected | Noticed)
        for key, messages in payloads_of(episode).items():
            ours.setdefault(key, []).extend(messages)
    assert ours == library_payloads(Path(folder) / found.items[0].path)
    return "landed"
