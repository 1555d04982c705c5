"""Blocks of remote objects as files of this machine: shared by all of its processes, bounded in size, never trusted unchecked.

A block lies at `blocks/<digest of the object's address>/<digest of its fingerprint>/<number>` below the cache's folder. The file is

    8 bytes   magic
    uint32    n, the length of the content
    uint32    CRC-32C of each 64 KiB of the content (the last piece may be shorter), little-endian
    n bytes   the content

It is written under another name and renamed, and no lock is ever needed: whoever finds a file of another length, or a piece whose sum differs, treats it as
absent. Nothing is flushed to the disk for the same reason. What was used longest ago goes first; a file's modification time says when it was used.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from dataengine.core.digest import digest_bytes
from dataengine.core.errors import UsageError

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 16
_MAGIC = b"DEBLOCK1"
_HEAD = struct.Struct("<8sI")

# A process measures the folder anew when it has written this part of the limit, and leaves room for that much from so many processes at once.
_SHARE = 64
WRITERS = 8

# A block counts as used just now for so long: a file's time is not written at each read.
_TOUCH_NS = 10 * 10**9
# The file of a writer that was killed is removed after so long, and a disk that took nothing is tried again.
_ORPHAN_NS = 3600 * 10**9
_RETRY_S = 60.0

_DIGEST = re.compile(r"[0-9a-f]{32}")
_BLOCK = re.compile(r"\d+|\.\d+\.[0-9a-f]{32}\.tmp")


def _sums(data: bytes | memoryview) -> bytes:
    pieces = [google_crc32c.value(bytes(data[at : at + PIECE_BYTES])) for at in range(0, len(data), PIECE_BYTES)]
    return struct.pack(f"<{len(pieces)}I", *pieces)


def _on_disk(size: int) -> int:
    return -(-size // 4096) * 4096


class BlockFolder:
    """A bounded folder of blocks.

    With up to `WRITERS` processes that write at once it never holds more than `limit_bytes` (files that are being written included); each further one may
    exceed that by max(`limit_bytes` / 64, `block_bytes`).

    Args:
        folder: the cache's folder; made when the first block is written. Files in it that are not blocks are left alone.
        limit_bytes: how much all blocks may take together, at least 16 blocks.
        block_bytes: the largest content of a block.
    """

    def __init__(self, folder: Path, limit_bytes: int, block_bytes: int) -> None:
        if block_bytes < PIECE_BYTES or block_bytes % PIECE_BYTES:
            raise UsageError(f"cache {folder}: block_bytes must be a multiple of {PIECE_BYTES}, got {block_bytes}")
        if limit_bytes < 2 * WRITERS * block_bytes:
            raise UsageError(f"cache {folder}: limit_bytes must be at least {2 * WRITERS} blocks ({2 * WRITERS * block_bytes} bytes), got {limit_bytes}")
        self.folder = folder / "blocks"
        self.limit_bytes = limit_bytes
        self.block_bytes = block_bytes
        self._slack = max(limit_bytes // _SHARE, _on_disk(block_bytes + 4096))
        self._target = limit_bytes - WRITERS * self._slack
        self._lock, self._measuring = threading.Lock(), threading.Lock()
        self._written, self._pending, self._measured = 0, 0, False
        self._unwritable_until, self._said = 0.0, False

    def name(self, address: str, fingerprint: str) -> str:
        """Return the folder of an object's content: another one after the object was rewritten under its address."""
        return f"{digest_bytes(f'{address} {self.block_bytes}'.encode())}/{digest_bytes(fingerprint.encode())}"

    def forget(self, name: str, keep: bool = True) -> None:
        """Remove what is held of an object under other fingerprints than this one, or all of it: it was rewritten or removed, maybe for withdrawn consent."""
        address, _, content = name.partition("/")
        try:
            found = os.listdir(self.folder / address)
        except OSError:
            return
        for other in found:
            if _DIGEST.fullmatch(other) and not (keep and other == content):
                shutil.rmtree(self.folder / address / other, ignore_errors=True)

    @property
    def writable(self) -> bool:
        """Return whether blocks can be kept, as far as is known."""
        return time.monotonic() >= self._unwritable_until

    def has(self, name: str, block: int) -> bool:
        """Return whether a file stands for a block; its content is checked when it is read."""
        return os.path.exists(f"{self.folder}/{name}/{block}")

    def read(self, name: str, block: int, length: int, start: int, stop: int) -> bytes | None:
        """Return bytes `start` to `stop` of a block of `length` bytes; None where it is not held, or the file is not what was written."""
        path = f"{self.folder}/{name}/{block}"
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            found = os.fstat(handle)
            data = self._checked(handle, found.st_size, length, start, stop)
            if data is None:
                log.info("%s: is not what was written there; it is fetched again", path)
                os.unlink(path)
            elif time.time_ns() - found.st_mtime_ns > _TOUCH_NS:
                os.utime(handle)
        except OSError:
            return None
        finally:
            os.close(handle)
        return data

    @staticmethod
    def _checked(handle: int, size: int, length: int, start: int, stop: int) -> bytes | None:
        pieces = -(-length // PIECE_BYTES)
        content = _HEAD.size + 4 * pieces
        if size != content + length:
            return None
        head = os.pread(handle, content, 0)
        if len(head) != content or _HEAD.unpack_from(head) != (_MAGIC, length):
            return None
        sums = struct.unpack_from(f"<{pieces}I", head, _HEAD.size)
        first, last = start // PIECE_BYTES, (stop - 1) // PIECE_BYTES
        found = []
        for piece in range(first, last + 1):
            data = os.pread(handle, min(PIECE_BYTES, length - piece * PIECE_BYTES), content + piece * PIECE_BYTES)
            if google_crc32c.value(data) != sums[piece]:
                return None
            found.append(data)
        found[-1] = found[-1][: stop - last * PIECE_BYTES]
        found[0] = found[0][start - first * PIECE_BYTES :]
        return b"".join(found) if len(found) > 1 else found[0]

    def write(self, name: str, block: int, data: bytes | memoryview) -> None:
        """Keep a block, if the disk takes it: one that is full or not writable is said once and left alone for a minute."""
        if not self.writable:
            return
        sums = _sums(data)
        taken = _on_disk(_HEAD.size + len(sums) + len(data))
        folder = f"{self.folder}/{name}"
        staged = f"{folder}/.{block}.{uuid.uuid4().hex}.tmp"
        self._reserve(taken)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with open(staged, "wb", buffering=0) as handle:
                for part in (_HEAD.pack(_MAGIC, len(data)) + sums, data):
                    left = memoryview(part)
                    while left:  # a disk that is nearly full takes a part, and says why at the next
                        left = left[handle.write(left) :]
            os.replace(staged, f"{folder}/{block}")
        except OSError as error:
            # Another process may remove a folder just now, because it is empty or its object was rewritten: then the block is not kept this time.
            if not (isinstance(error, FileNotFoundError | FileExistsError) and os.path.isdir(self.folder)):
                self._give_up(error, staged)
        finally:
            with self._lock:
                self._pending -= taken

    def _give_up(self, error: OSError, staged: str) -> None:
        try:
            os.unlink(staged)
        except OSError:
            log.debug("%s: could not be removed", staged)
        self._unwritable_until = time.monotonic() + _RETRY_S
        if not self._said:
            self._said = True
            log.warning(
                "%s: blocks cannot be kept (%s): reading goes on without; free some space or set DATAENGINE_CACHE", self.folder, error.strerror or error
            )

    def _reserve(self, taken: int) -> None:
        """Make room before writing. The first measure of a long-filled folder runs beside the reading, the others before the block that needs them."""
        with self._lock:
            first, self._measured = not self._measured, True
            self._pending += taken
            self._written += taken
            full = self._written > self._slack
        if full:
            self._measure()
        elif first and threading.main_thread().is_alive():
            threading.Thread(target=self._measure, args=(True,), name="cache-measure").start()

    def _measure(self, always: bool = False) -> None:
        with self._measuring:
            with self._lock:
                if self._written <= self._slack and not always:
                    return
                # Of what is still being written the walk may see nothing.
                before, pending = self._written, self._pending
            self._evict(self._target - pending)
            with self._lock:
                self._written += pending - before

    def files(self) -> Iterator[tuple[int, int, str]]:
        """Yield (time of last use in ns, bytes on the disk, path) of each block, and of each that is being written."""
        for first in _scan(self.folder):
            for second in _scan(first) if _DIGEST.fullmatch(first.name) else ():
                for file in _scan(second) if _DIGEST.fullmatch(second.name) else ():
                    if _BLOCK.fullmatch(file.name):
                        try:
                            found = file.stat(follow_symlinks=False)
                        except OSError:
                            continue
                        yield found.st_mtime_ns, _on_disk(found.st_size), file.path

    def used_bytes(self) -> int:
        """Return what all blocks take on the disk."""
        return sum(size for _, size, _ in self.files())

    def _evict(self, target: int) -> None:
        files = sorted(self.files())
        total, old = sum(size for _, size, _ in files), time.time_ns() - _ORPHAN_NS
        for used_ns, size, path in files:
            staged = path.endswith(".tmp")
            if total <= target and not (staged and used_ns < old):
                continue
            if staged and used_ns >= old:
                continue
            total -= size
            try:
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                os.rmdir(os.path.dirname(os.path.dirname(path)))
            except OSError:
                continue  # gone already, or its folder holds others


def _scan(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
