"""The records of a ROS 1 bag in the order of the file, chunks still packed, every size checked before it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from dataengine.core.errors import BadRecording
from dataengine.core.stream import Buffer
from dataengine.sources.messages.packed import MAX_RECORD_BYTES
from dataengine.sources.rosbag1.records import (
    ANY_MAGIC,
    BAG_HEADER,
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    CUT_CHUNK,
    INDEX,
    MAGIC,
    MAX_HEADER_BYTES,
    MESSAGE,
    OLD_MAGICS,
    U32,
    Fields,
    number,
    opcode,
    parse_fields,
    short,
)

Section = tuple[int, int, Fields, Buffer, str]


def _check_magic(magic: bytes, where: str) -> None:
    if magic == MAGIC:
        return
    if magic.startswith(OLD_MAGICS) or magic.startswith(ANY_MAGIC):
        raise BadRecording(where, "a bag of format 2.0", repr(magic), "convert it with `rosbag fix` or `rosbag reindex`", check="bag_version")
    raise BadRecording(where, f"{MAGIC!r} at its start", repr(magic) if magic else "an empty file", "is it a ROS 1 bag?", check="no_magic")


def _read_block(file: BinaryIO, size: int, at: int, limit: int, what: str, place: str) -> bytes | None:
    """Return a block with its length before it, from byte `at` of a file of `size` bytes; None where the file ends before it does."""
    word = file.read(4)
    if len(word) < 4:
        return None
    length = int(U32.unpack(word)[0])
    if length > size - at - 4:
        return None
    if length > limit:
        raise short(place, f"{what} of at most {limit} bytes", f"{length}")
    block = file.read(length)
    return block if len(block) == length else None


def sections(file: BinaryIO, where: str, *, truncated: bool = False, on_cut: Callable[[str], None] | None = None) -> Iterator[Section]:
    """Yield (kind, offset, header fields, data, place) of each record.

    Args:
        file: the file, seekable.
        where: its name, for messages.
        truncated: take a bag that was cut off or never closed (it has no index): what is whole before the cut is yielded and `on_cut` is told why it ended;
            of a chunk that the cut goes through comes what is there, as CUT_CHUNK.
        on_cut: receives the reason.

    Raises:
        BadRecording: the file is no bag of format 2.0, has no index, or a record is not whole.
    """
    size = file.seek(0, 2)
    file.seek(0)
    _check_magic(file.read(len(MAGIC)), where)
    at = len(MAGIC)
    index_at = 0
    unclosed = False
    while at < size:
        place = f"{where}: record at byte {at}"
        header = _read_block(file, size, at, MAX_HEADER_BYTES, "a header", place)
        data = None if header is None else _read_block(file, size, at + 4 + len(header), MAX_RECORD_BYTES, "data", place)
        if header is None or data is None:
            if truncated:
                if header is not None and (index_at or at > len(MAGIC)):
                    yield from _cut_chunk(file, header, at, place)
                break
            raise _not_closed(place, f"a record that leaves the file of {size} bytes")
        fields: Fields = {}
        try:
            fields = parse_fields(header, place)
            kind = opcode(fields, place)
            _check_order(kind, at, index_at, unclosed, place)
        except BadRecording:
            if unclosed:
                break  # the packed rest of a chunk without its length
            raise
        if at == len(MAGIC):
            index_at = number(fields, b"index_pos", place, 8)
            if fields.get(b"encryptor"):
                raise BadRecording(place, "a bag without encryption", repr(fields[b"encryptor"][:80]), "decrypt it first", check="encrypted")
            if index_at > size and not truncated:
                raise _not_closed(place, f"an index at byte {index_at} of {size}")
            unclosed = index_at == 0 or index_at > size
            if unclosed and not truncated:
                raise _not_closed(place, "no index (index_pos is 0)")
        yield kind, at, fields, data, place
        at += 8 + len(header) + len(data)
    if at == len(MAGIC):
        raise _not_closed(where, "nothing after the first line")
    if (unclosed or at < size) and on_cut is not None:
        on_cut(f"it has no index, and {size - at} bytes after byte {at} of {size} are no whole record")


def _cut_chunk(file: BinaryIO, header: bytes, at: int, place: str) -> Iterator[Section]:
    """Yield what is there of a chunk that the end of the file cuts off."""
    try:
        fields = parse_fields(header, place)
        if opcode(fields, place) != CHUNK:
            return
    except BadRecording:
        return  # no record at all
    file.seek(at + 8 + len(header))
    yield CUT_CHUNK, at, fields, file.read(MAX_RECORD_BYTES), place


def _check_order(kind: int, at: int, index_at: int, unclosed: bool, place: str) -> None:
    """Raise BadRecording for a record that must not stand here: chunks and their indexes before the index of the bag, the rest in it."""
    if at == len(MAGIC):
        allowed: tuple[int, ...] = (BAG_HEADER,)
    elif unclosed:
        allowed = (CHUNK, INDEX, CONNECTION, CHUNK_INFO, MESSAGE)
    else:
        allowed = (CHUNK, INDEX) if at < index_at else (CONNECTION, CHUNK_INFO)
    if kind not in allowed:
        raise BadRecording(place, f"a record of kind {' or '.join(map(str, allowed))}", f"kind {kind}", "restore the file from a copy", check="bad_order")


def _not_closed(where: str, found: str) -> BadRecording:
    return BadRecording(
        where,
        "a bag that was closed, with an index at its end",
        found,
        "the recorder was killed or the copy was cut off: run `rosbag reindex`, or land what is whole with `readers: {rosbag1: {recover_truncated: true}}` in the config",
        check="truncated",
    )
