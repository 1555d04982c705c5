"""Texts and byte rows of varying length, read from an HDF5 file's global heap without the library.

The library trusts the length in a reference (it allocates up to 4 GiB for one) and runs forever on a collection whose free space has no size.
Here every length and every step is held against the collection's own size.
Source: HDF5 File Format Specification 3.0, sections III.E (global heap), IV.A.1 (object headers), IV.A.2.m (attributes), IV.A.2.q (continuation).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from dataengine.core.errors import BadRecording

MAX_COLLECTION_BYTES = 128 << 20
CACHED_BYTES = 64 << 20
MAX_HEADER_BYTES = 8 << 20
MAX_MESSAGES = 100_000
ATTRIBUTE, CONTINUATION = 0x0C, 0x10


def _broken(where: str, expected: str, found: str) -> BadRecording:
    return BadRecording(where, expected, found[:200], "make the copy again from the original, or look at the file with h5dump", check="damaged_hdf5")


@dataclass
class Heap:
    """The global heap of one file, whose addresses count from `base` and take `address_bytes`, and lengths `length_bytes`."""

    handle: BinaryIO
    path: str
    size: int
    base: int = 0
    address_bytes: int = 8
    length_bytes: int = 8
    _collections: OrderedDict[int, tuple[bytes, dict[int, tuple[int, int]]]] = field(default_factory=OrderedDict)

    @property
    def reference_bytes(self) -> int:
        """Return the bytes of a reference: length, address of the collection, index of the object."""
        return 8 + self.address_bytes

    def pread(self, at: int, count: int, where: str) -> bytes:
        """Return `count` bytes from an address of the file."""
        start = self.base + at
        if count < 0 or start + count > self.size:
            raise _broken(where, f"an address inside the file's {self.size} bytes", f"{count} bytes at {start}")
        self.handle.seek(start)
        data = self.handle.read(count)
        if len(data) != count:
            raise _broken(where, f"{count} bytes at {start}", f"{len(data)}")
        return data

    def resolve(self, references: bytes, where: str) -> Iterator[bytes]:
        """Yield the bytes that each of the references stands for."""
        width = self.reference_bytes
        for at in range(0, len(references) - width + 1, width):
            length = int.from_bytes(references[at : at + 4], "little")
            address = int.from_bytes(references[at + 4 : at + 4 + self.address_bytes], "little")
            index = int.from_bytes(references[at + 4 + self.address_bytes : at + width], "little")
            if length == 0 or address == 0:
                yield b""
                continue
            data, objects = self._collection(address, where)
            if index not in objects:
                raise _broken(where, "a value in the file's heap", f"no object {index} in the collection at {address}")
            start, stored = objects[index]
            if length > stored:
                raise _broken(where, f"a value of at most the {stored} bytes that the heap holds", f"{length}")
            yield data[start : start + length]

    def _collection(self, address: int, where: str) -> tuple[bytes, dict[int, tuple[int, int]]]:
        if address in self._collections:
            self._collections.move_to_end(address)
            return self._collections[address]
        head = self.pread(address, 8 + self.length_bytes, where)
        size = int.from_bytes(head[8:], "little")
        if head[:4] != b"GCOL" or head[4] != 1 or not len(head) <= size <= MAX_COLLECTION_BYTES:
            raise _broken(where, "a collection of the file's heap", f"{head!r} at {address}")
        data = self.pread(address, size, where)
        objects: dict[int, tuple[int, int]] = {}
        at, header = len(head), 8 + self.length_bytes
        while at + header <= size:
            index = int.from_bytes(data[at : at + 2], "little")
            stored = int.from_bytes(data[at + 8 : at + header], "little")
            if index == 0:
                break
            if at + header + stored > size or index in objects:
                raise _broken(where, "objects inside their collection, each once", f"object {index} of {stored} bytes at {address + at}")
            objects[index] = (at + header, stored)
            at += header + (stored + 7) // 8 * 8
        self._collections[address] = (data, objects)
        while len(self._collections) > 1 and sum(len(held) for held, _ in self._collections.values()) > CACHED_BYTES:
            self._collections.popitem(last=False)
        return data, objects

    # -- attributes, whose references stand in object headers

    def attribute_references(self, address: int, name: bytes, count: int, where: str) -> bytes | None:
        """Return the `count` references that are the value of an attribute, None where it does not lie in the object's own header."""
        for kind, shared, body in self._messages(address, where):
            if kind != ATTRIBUTE or shared or len(body) < 9 or body[0] not in (1, 2, 3):
                continue
            sizes = [int.from_bytes(body[at : at + 2], "little") for at in (2, 4, 6)]
            at = 9 if body[0] == 3 else 8
            if body[at : at + sizes[0]].rstrip(b"\0") != name:
                continue
            at += sum((size + 7) // 8 * 8 if body[0] == 1 else size for size in sizes)
            value = body[at : at + count * self.reference_bytes]
            if len(value) != count * self.reference_bytes:
                raise _broken(where, f"{count} references to the heap", f"{len(value)} bytes")
            return value
        return None

    def _messages(self, address: int, where: str) -> Iterator[tuple[int, bool, bytes]]:
        """Yield (type, shared, body) of the messages in an object header of version 1 or 2, its continuations included."""
        start = self.pread(address, 16, where)
        new = start[:4] == b"OHDR"
        if new:
            flags = start[5]
            at = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            size = int.from_bytes(self.pread(address + at, width, where), "little")
            blocks = [(address + at + width, size)]
            head = 6 if flags & 0x04 else 4
        else:
            if start[0] != 1:
                raise _broken(where, "an object header", f"{start!r} at {address}")
            blocks = [(address + 16, int.from_bytes(start[8:12], "little"))]
            head = 8
        seen: set[int] = set()
        total = count = 0
        while blocks:
            place, size = blocks.pop(0)
            total += size
            if place in seen or total > MAX_HEADER_BYTES:
                raise _broken(where, f"an object header of at most {MAX_HEADER_BYTES} bytes, without cycles", f"a block of {size} bytes at {place}")
            seen.add(place)
            data = self.pread(place, size, where)
            at = 0
            while at + head <= size and count < MAX_MESSAGES:
                count += 1
                kind = data[at] if new else int.from_bytes(data[at : at + 2], "little")
                length = int.from_bytes(data[at + 1 : at + 3] if new else data[at + 2 : at + 4], "little")
                message_flags = data[at + 3] if new else data[at + 4]
                body = data[at + head : at + head + length]
                at += head + length
                if kind == CONTINUATION and len(body) >= self.address_bytes + self.length_bytes:
                    offset = int.from_bytes(body[: self.address_bytes], "little")
                    length = int.from_bytes(body[self.address_bytes : self.address_bytes + self.length_bytes], "little")
                    # A block of version 2 starts with "OCHK" and ends with a checksum of 4 bytes.
                    blocks.append((offset + 4, length - 8) if new else (offset, length))
                yield kind, bool(message_flags & 2), body
