"""TFRecord files: each record between its length and its checksum.

A record is: length u64 little-endian, masked CRC-32C of those 8 bytes, payload, masked CRC-32C of the payload
(TensorFlow, `core/lib/io/record_writer.h`). The mask is a rotation by 15 bits to the right plus 0xa282ead8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from dataengine.core.errors import BadRecording

MAX_RECORD_BYTES = 1 << 30
HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
FRAME_BYTES = HEADER.size + FOOTER.size


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data` in the form that stands in TFRecord files."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_framed(head: bytes) -> bool:
    """Return whether `head`, the first 12 or more bytes of a file, is a TFRecord length with its right checksum."""
    return len(head) >= HEADER.size and HEADER.unpack_from(head)[1] == masked_crc32c(head[:8]) and any(head[:12])


def read_records(handle: BinaryIO, where: str, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[bytes | BadRecording]:
    """Yield the payload of each record, one in memory at a time; a BadRecording in the place of one whose checksum is wrong.

    Args:
        handle: the file, seekable, read from its start.
        where: its path, for messages.
        max_record_bytes: longer records are passed over and reported.

    Raises:
        BadRecording: the framing itself is broken (checksum of a length, cut tail), so that no later record can be found.
    """
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    at = number = 0
    while at < size:
        place = f"{where}: record {number} at byte {at}"
        header = handle.read(HEADER.size)
        if len(header) < HEADER.size:
            raise _cut(place, HEADER.size, len(header))
        length, length_crc = HEADER.unpack(header)
        if masked_crc32c(header[:8]) != length_crc:
            raise BadRecording(
                place, "a record length with its CRC-32C", "another checksum", "copy the file again from its source; nothing after it can be found", "bad_crc"
            )
        left = size - at - FRAME_BYTES
        if length > left:
            raise _cut(place, length, max(left, 0))
        at += length + FRAME_BYTES
        if length > max_record_bytes:
            handle.seek(at)
            yield BadRecording(
                place, f"a record of at most {max_record_bytes} bytes", f"{length} bytes", "raise max_record_bytes if it is genuine", "record_too_large"
            )
        else:
            payload = handle.read(length)
            footer = handle.read(FOOTER.size)
            if len(payload) < length or len(footer) < FOOTER.size:
                raise _cut(place, length, len(payload))
            if masked_crc32c(payload) == FOOTER.unpack(footer)[0]:
                yield payload
            else:
                yield BadRecording(place, "a payload with its CRC-32C", "another checksum", "copy the file again from its source", "bad_crc")
        number += 1


def _cut(place: str, wanted: int, found: int) -> BadRecording:
    return BadRecording(place, f"{wanted} bytes", f"the end of the file after {found}", "copy the file again from its source", "cut_file")


def frame_bytes(payload: bytes) -> bytes:
    """Return a record: `payload` with its length and checksums around it."""
    length = struct.pack("<Q", len(payload))
    return b"".join((length, FOOTER.pack(masked_crc32c(length)), payload, FOOTER.pack(masked_crc32c(payload))))
