"""Raw GPMF files: the telemetry of a GoPro without its video, as tools cut it out of an MP4.

Such a file has no sample table, so nothing says when its payloads begin: streams whose payloads have STMP go by it, the others have no clock and no place in
trajectories. Payloads stand one behind the other; a new one begins where a device comes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from dataengine.core.episode import EpisodeInfo, Event
from dataengine.core.errors import BadRecording
from dataengine.core.names import dataset_from_path
from dataengine.core.problem import Problem
from dataengine.core.protocols import Found, Item, Listing, Opener, ReadOptions
from dataengine.core.stream import Rows
from dataengine.sources.gopro import klv
from dataengine.sources.gopro.sensors import Payload, Sensors

NAME = "gpmf"
VERSION = "1"
RECOGNISED_BY = "the key DEVC of GPMF at byte 0, with a device's identity inside, whatever the file's extension; the telemetry of an MP4 comes with its video"
KEEPS = "each payload whole, every stream of every device as numbers or texts with name, unit, scale and orientation, what was measured along (GPS time, temperature)"

MAX_PAYLOAD_BYTES = 64 << 20
_DEVICE_KEYS = (b"DVID", b"DVNM", b"TICK", b"STRM")


def _is_gpmf(head: bytes) -> bool:
    return head[:5] == b"DEVC\0" and head[8:12] in _DEVICE_KEYS


def find(listing: Listing) -> Found:
    """Claim the raw GPMF files of a listing, one item each."""
    items = [
        Item(NAME, listing.root, path, dataset_from_path(listing.name, path), (file,), recordings=1)
        for path, file in listing.files.items()
        if _is_gpmf(listing.head(path))
    ]
    return Found(items, frozenset(item.path for item in items))


def _devices(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Yield the devices of a file one by one, each entry with its head; zeros at the end are padding."""
    while True:
        head = file.read(8)
        if not head.rstrip(b"\0"):
            while block := file.read(1 << 16):
                if any(block):
                    raise BadRecording(where, "zeros behind the last device", "other bytes", "make the copy again from the original", check="damaged_gpmf")
            return
        key, _, _, _, length = klv.head(head, 0, where)
        if key != "DEVC":
            raise BadRecording(where, "a device (DEVC)", f"the key {key!r}", "make the copy again from the original", check="damaged_gpmf")
        padded = (length + 3) // 4 * 4
        data = file.read(padded)
        if len(data) < length:
            raise BadRecording(where, f"a device of {length} bytes", f"{len(data)} before the end of the file", "make the copy again", check="truncated")
        yield head + data


def _payloads(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Yield payloads: the devices up to the one that comes again."""
    held, seen = b"", set[bytes]()
    for device in _devices(file, where):
        identity = device[8:20]  # the entry DVID, where it comes first
        if held and (identity in seen or len(held) > MAX_PAYLOAD_BYTES):
            yield held
            held, seen = b"", set()
        held += device
        seen.add(identity)
    if held:
        yield held


def read(item: Item, files: Opener, options: ReadOptions) -> Iterator[Event]:
    """Read one raw GPMF file.

    Raises:
        BadRecording: cut off, or damaged in the entries that hold the devices.
    """
    sensors = Sensors(item.path)
    with files.open(item.path) as file:
        for payload in _payloads(file, item.path):
            rows: Iterator[Rows] = sensors.add(Payload(payload))
            yield from rows
    if not sensors.count:
        raise BadRecording(item.path, "the telemetry of a device", "nothing", "make the copy again from the original", check="no_rows")
    if sensors.damaged == sensors.count:
        raise BadRecording(item.path, "a payload that can be read", sensors.problems()[0].message, "make the copy again", check="damaged_gpmf")
    yield from sensors.flush()
    clocks = {name: clock for name in sensors.names() if (clock := sensors.clock_of(name)) is not None}
    problems = sensors.problems()
    if len(clocks) < len(sensors.names()):
        message = f"{item.path}: {len(sensors.names()) - len(clocks)} of {len(sensors.names())} streams have no times: a raw file has none of its payloads"
        problems.append(Problem("no_times", message, item.path, "info", advice="ingest the MP4 that it was cut out of"))
    yield EpisodeInfo(
        dataset=item.dataset,
        columns=sensors.columns(),
        clock="measured" if clocks else "unknown",
        stream_clocks=clocks,
        splits=item.splits,
        origin=options.description.get("origin") or "human_video",
        metadata={"gopro": sensors.metadata()},
        problems=tuple(problems),
    )
