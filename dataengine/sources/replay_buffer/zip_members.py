"""The members of a zip file, each read whole and within bounds, by name only: nothing is unpacked to disk.

Python's `zipfile` keeps an object of several hundred bytes for each member, and a replay buffer has one for each frame: here a member costs its name and
four numbers. A name that stands twice means the later member, as Zarr's own zip store writes it. Source: PKWARE APPNOTE 6.3.9, §4.3 and §4.5.3.
"""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import BinaryIO

from dataengine.core.errors import BadRecording

LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL, _END, _END64, _LOCATOR64 = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_STORED, _DEFLATED = 0, 8
_BLOCK = 1 << 20

# Names and sizes of 10 million members.
MAX_DIRECTORY_BYTES = 1 << 30


def _bad(where: str, expected: str, found: str, check: str = "damaged_zip") -> BadRecording:
    return BadRecording(where, expected, found, "make the copy again from the original", check=check)


class ZipMembers:
    """Members of a zip file by name.

    Args:
        file: the open zip file; this object closes it.
        where: what to call it in messages.

    Raises:
        BadRecording: no zip file, cut off, or a table of contents that contradicts itself.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._rows: dict[str, int] = {}
        self._offset, self._packed, self._size, self._facts = array("Q"), array("Q"), array("Q"), array("Q")
        self._end = file.seek(0, io.SEEK_END)
        start, size = self._directory()
        self._read_directory(start, size)

    def _at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise _bad(self._where, f"{size} bytes at {offset}", f"{len(data)}", "truncated")
        return data

    def _directory(self) -> tuple[int, int]:
        """Return where the table of contents starts and its size in bytes."""
        tail_start = max(0, self._end - (1 << 16) - 22)
        tail = self._at(tail_start, self._end - tail_start)
        at = tail.rfind(_END)
        if at < 0 or at + 22 > len(tail):
            raise _bad(self._where, "a zip file with its table of contents at the end", "none", "truncated")
        size, start = struct.unpack_from("<II", tail, at + 12)
        place = tail_start + at
        if place >= 20 and self._at(place - 20, 4) == _LOCATOR64:
            (far,) = struct.unpack("<Q", self._at(place - 12, 8))
            if far + 56 > self._end or self._at(far, 4) != _END64:
                raise _bad(self._where, "a zip64 end record where its locator says", "none")
            size, start = struct.unpack("<QQ", self._at(far + 40, 16))
        if start + size > place or size > MAX_DIRECTORY_BYTES:
            raise _bad(self._where, f"a table of contents of at most {MAX_DIRECTORY_BYTES} bytes inside the file", f"{size} bytes at {start}", "absurd_size")
        return start, size

    def _read_directory(self, start: int, size: int) -> None:
        self._file.seek(start)
        left, pending = size, b""
        while left or pending:
            block = self._file.read(min(left, _BLOCK))
            left -= len(block)
            data, at = pending + block, 0
            while at + 46 <= len(data):
                length = 46 + sum(struct.unpack_from("<HHH", data, at + 28))
                if at + length > len(data):
                    break
                self._entry(data[at : at + length])
                at += length
            pending = data[at:]
            if not block:
                if pending:
                    raise _bad(self._where, "whole entries in the table of contents", f"{len(pending)} bytes more")
                return

    def _entry(self, data: bytes) -> None:
        if data[:4] != _CENTRAL:
            raise _bad(self._where, "an entry of the table of contents", f"bytes {data[:4].hex(' ')}")
        flags, method, crc, packed, size, name_length, extra_length = struct.unpack_from("<HH4xIIIHH", data, 8)
        (offset,) = struct.unpack_from("<I", data, 42)
        raw = data[46 : 46 + name_length]
        name = raw.decode("utf-8" if flags & 0x800 else "cp437", "surrogateescape")
        extra = data[46 + name_length : 46 + name_length + extra_length]
        size, packed, offset = _wide(extra, size, packed, offset)
        if offset + packed > self._end:
            raise _bad(f"{self._where}: {name[:200]!r}", "a member inside the file", f"{packed} bytes at {offset} of {self._end}", "truncated")
        self._rows[name] = len(self._offset)
        self._offset.append(offset)
        self._packed.append(packed)
        self._size.append(size)
        self._facts.append(crc | method << 32 | (flags & 1) << 48)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def names(self) -> Iterator[str]:
        """Yield the names of all members."""
        return iter(self._rows)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the bytes of a member, None where there is none of that name.

        Raises:
            BadRecording: larger than `limit`, packed by a method other than stored or deflated, encrypted, or damaged (its CRC does not match).
        """
        row = self._rows.get(name)
        if row is None:
            return None
        place = f"{self._where}: {name[:200]!r}"
        size, packed, facts = self._size[row], self._packed[row], self._facts[row]
        method, secret = facts >> 32 & 0xFFFF, facts >> 48
        if secret or method not in (_STORED, _DEFLATED):
            found = "an encrypted one" if secret else f"method {method}"
            raise BadRecording(place, "a stored or deflated member", found, "pack the buffer again", check="zip_method")
        if size > limit or (method == _STORED and packed != size):
            raise _bad(place, f"a member of at most {limit} bytes", f"{size} (packed {packed})", "absurd_size")
        head = self._at(self._offset[row], 30)
        if head[:4] != LOCAL_MAGIC:
            raise _bad(place, "the head of a member", f"bytes {head[:4].hex(' ')}")
        data = self._at(self._offset[row] + 30 + sum(struct.unpack_from("<HH", head, 26)), packed)
        if method == _DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error as error:
                raise _bad(place, "deflated bytes", str(error)) from error
        if len(data) != size or zlib.crc32(data) != facts & 0xFFFFFFFF:
            raise _bad(place, f"{size} bytes with the CRC that the table of contents names", f"{len(data)} bytes with another", "checksum")
        return data

    def close(self) -> None:
        """Close the zip file."""
        self._file.close()


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return sizes and offset with those that the zip64 field holds in 8 bytes."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = [int.from_bytes(extra[i : i + 8], "little") for i in range(at + 4, min(at + 4 + length, len(extra)) - 7, 8)]
            values.reverse()
            size = values.pop() if size == 0xFFFFFFFF and values else size
            packed = values.pop() if packed == 0xFFFFFFFF and values else packed
            offset = values.pop() if offset == 0xFFFFFFFF and values else offset
        at += 4 + length
    return size, packed, offset
