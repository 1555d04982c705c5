"""The members of a tar archive, found by seeking from header to header: names, places and sizes, never a payload, never unpacked.

Every size is held against the archive's own; names are labels and lead to no file. Sources: POSIX.1-2001 (pax), "ustar Interchange Format" and "pax Header
Block"; the GNU tar manual on long names and sparse files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from dataengine.core.errors import BadRecording, printable

BLOCK = 512
MAX_MEMBERS = 200_000
MAX_EXTENSION_BYTES = 1 << 20  # of a pax header or a long name
MAX_NAME_LETTERS = 500
ADVICE = "copy the archive again, or pack it with GNU tar"

_FILES = (b"0", b"\0", b"7")
_SILENT = (b"5", b"D")  # folders


@dataclass(frozen=True)
class Member:
    """One regular file of an archive: its name as a label, its first byte and its size; `odd` says why its content cannot be taken as it lies."""

    name: str
    start: int
    size: int
    odd: str = ""

    @property
    def stem(self) -> str:
        """Return the name up to the first dot behind the last slash: what the files of one sample share."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def extension(self) -> str:
        """Return what follows the stem, in small letters, without its dot ("mp4", "seg.png")."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


@dataclass
class _Extended:
    """What extension headers say of the member that follows, and of all that follow."""

    following: dict[str, str] = field(default_factory=dict)
    always: dict[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str | None:
        return self.following.get(key, self.always.get(key))

    def sparse(self) -> bool:
        return any(key.startswith("GNU.sparse.") for key in (*self.following, *self.always))


def is_header(block: bytes) -> bool:
    """Return whether 512 bytes are a tar header: its checksum is right."""
    if len(block) < BLOCK or block[:1] == b"\0":
        return False
    stored = _octal(block[148:156])
    if stored is None:
        return False
    rest = block[:148] + b" " * 8 + block[156:BLOCK]
    return stored in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))


def _octal(data: bytes) -> int | None:
    text = data.split(b"\0")[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return None


def _size(data: bytes) -> int | None:
    """Return the size in a header: octal, or base 256 for large files."""
    if data[:1] and data[0] & 0x80:
        return int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big") if data[0] == 0x80 else None
    return _octal(data)


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _label(name: str) -> str:
    """Return a member's name as a label: printable, bounded, without a leading slash or dots that lead upwards."""
    parts = [part for part in printable(name).split("/") if part not in ("", ".", "..")]
    return "".join(letter if letter.isprintable() else "_" for letter in "/".join(parts))[:MAX_NAME_LETTERS] or "_"


def _pax(data: bytes) -> dict[str, str] | None:
    """Return the records `length key=value` of a pax header, None where they are damaged."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            return None
        length = int(data[at:space])
        record = data[space + 1 : at + length]
        if length <= space + 1 - at or at + length > len(data) or record[-1:] != b"\n" or b"=" not in record:
            return None
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return records


def members(handle: BinaryIO, where: str, limit: int | None = None) -> Iterator[Member]:
    """Yield the regular files of an archive in order.

    Args:
        handle: seekable; its position is changed.
        where: what to call the archive in messages.
        limit: bytes from the start that are there to look at, of an archive of which only the start was read: the walk then ends without a word.

    Raises:
        BadRecording: a header is damaged, or a member ends behind the archive: what was yielded before stands.
    """
    end = handle.seek(0, os.SEEK_END)
    at = count = 0
    extended = _Extended()
    while at + BLOCK <= end:
        handle.seek(at)
        block = handle.read(BLOCK)
        if not block.strip(b"\0"):
            return
        size = _size(block[124:136])
        if not is_header(block) or size is None:
            raise BadRecording(f"{where}: byte {at}", "the header of a member", "bytes whose checksum is wrong", ADVICE, check="damaged_tar")
        kind = block[156:157]
        said = extended.get("size") if kind in _FILES else None
        if said is not None and said.isdigit() and len(said) < 20:
            size = int(said)
        count += 1
        if count > MAX_MEMBERS:
            raise BadRecording(where, f"at most {MAX_MEMBERS} members", "more", "pack fewer into one archive", check="too_many_members")
        start = at + BLOCK
        if limit is not None and start + size > end and kind not in _FILES:
            return
        name = extended.get("path") or _header_name(block)
        if start + size > end and limit is None:
            raise BadRecording(
                f"{where}: {_label(name)}", f"{size} bytes from byte {start}", f"an archive of {end} bytes", "it was cut off: copy it again", check="truncated"
            )
        if kind in (b"x", b"g", b"X", b"L", b"K"):
            _extend(extended, kind, handle, start, size, where)
        elif kind in _FILES:
            yield Member(_label(name), start, size, "a sparse file" if extended.sparse() else "")
            extended.following = {}
        else:
            if kind not in _SILENT:
                what = {b"1": "a link", b"2": "a symbolic link", b"S": "a sparse file"}.get(kind, f"of type {kind!r}")
                yield Member(_label(name), start, 0, what)
            extended.following = {}
            if kind == b"S":
                start = _after_hole_maps(handle, block, start)
        at = start + -(-size // BLOCK) * BLOCK


def _after_hole_maps(handle: BinaryIO, block: bytes, start: int) -> int:
    """Return where the data of an old GNU sparse file begins: further maps of its holes may stand before it."""
    more = block[482:483] == b"\x01"
    while more:
        handle.seek(start)
        more = handle.read(BLOCK)[504:505] == b"\x01"
        start += BLOCK
    return start


def _header_name(block: bytes) -> str:
    name, prefix = _text(block[:100]), _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _extend(extended: _Extended, kind: bytes, handle: BinaryIO, start: int, size: int, where: str) -> None:
    """Take in an extension header; raise BadRecording where it is damaged or absurd."""
    if size > MAX_EXTENSION_BYTES:
        raise BadRecording(f"{where}: byte {start}", f"an extension header of at most {MAX_EXTENSION_BYTES} bytes", f"{size}", ADVICE, check="absurd_size")
    handle.seek(start)
    data = handle.read(size)
    if kind == b"L":
        extended.following["path"] = _text(data)
        return
    if kind == b"K":
        return
    records = _pax(data)
    if records is None:
        raise BadRecording(f"{where}: byte {start}", "records of a pax header", "damaged ones", ADVICE, check="damaged_tar")
    (extended.always if kind == b"g" else extended.following).update(records)
