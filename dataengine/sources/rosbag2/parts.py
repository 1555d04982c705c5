"""The files of a bag on this machine: packed ones unpacked, remote ones copied, into a scratch folder that goes when they are read."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

from dataengine.core.errors import BadRecording
from dataengine.core.protocols import Opener
from dataengine.sources.mcap.records import MAGIC as MCAP_MAGIC
from dataengine.sources.messages.packed import FREE_BYTES, MAX_RATIO, MAX_WINDOW_BYTES
from dataengine.sources.rosbag2.database import database_bytes
from dataengine.sources.rosbag2.finding import SQLITE_MAGIC, ZSTD_MAGIC

_BLOCK = 1 << 20
_LOGS = ("-wal", "-journal")


class Part(NamedTuple):
    """A file of a bag as it can be read: `storage` is what its content says, `packed` whether it was compressed, `copied` whether `path` is a copy of ours.

    `log`: what was written to it last lay in a log beside it (the database was not closed).
    """

    where: str
    storage: str
    path: str | None
    size: int
    packed: bool
    copied: bool
    log: bool


@contextmanager
def opened_part(files: Opener, path: str, size: int, beside: frozenset[str]) -> Iterator[Part]:
    """Make a file of a bag readable, as a file on this machine where its storage needs one; `beside` are the files that lie next to it.

    Raises:
        BadRecording: it is neither a database nor an MCAP file, cannot be unpacked, or there is no room for it.
    """
    with TemporaryDirectory(prefix="dataengine-bag-") as scratch, files.open(path) as file:
        head = file.read(len(SQLITE_MAGIC))
        file.seek(0)
        local: str | None = files.local(path)
        packed = head.startswith(ZSTD_MAGIC)
        copied = log = False
        if packed:
            local, size = _unpacked(file, size, Path(scratch), path)
            copied = True
            with open(local, "rb") as unpacked:
                head = unpacked.read(len(SQLITE_MAGIC))
        storage = "sqlite3" if head == SQLITE_MAGIC else "mcap" if head.startswith(MCAP_MAGIC) else ""
        if not storage:
            found = repr(head) if head else "an empty file"
            raise BadRecording(path, "a SQLite database or an MCAP file, packed with zstd or not", found, "is it a ROS 2 bag?", check="no_magic")
        if storage == "sqlite3" and not packed:
            logs = [ending for ending in _LOGS if path + ending in beside and _holds_something(files, path + ending)]
            if local is None or logs:
                local, copied, log = _copied(file, size, Path(scratch), path), True, bool(logs)
                for ending in logs:
                    with files.open(path + ending) as beside_it:
                        _copy(beside_it, Path(local + ending), None, path + ending)
        yield Part(path, storage, local, size, packed, copied, log)


@contextmanager
def padded_copy(path: str, wanted: bool) -> Iterator[str]:
    """Give a database that was cut off as a copy of the size that its header says: SQLite then reads what is there. `path` itself where it is not `wanted`."""
    if not wanted:
        yield path
        return
    with TemporaryDirectory(prefix="dataengine-bag-") as scratch:
        _room(Path(scratch), os.path.getsize(path), path)
        copy = Path(scratch) / "padded.db3"
        shutil.copyfile(path, copy)
        with copy.open("r+b") as file:
            file.truncate(max(database_bytes(file.read(100)), os.path.getsize(path)))
        yield str(copy)


def _holds_something(files: Opener, path: str) -> bool:
    with files.open(path) as file:
        return bool(file.read(1))


def _room(scratch: Path, size: int, where: str) -> None:
    free = shutil.disk_usage(scratch).free
    if size > free:
        raise BadRecording(where, f"{size} bytes of room for a copy", f"{free} bytes in {scratch.parent}", "set TMPDIR to a larger disk", check="no_room")


def _copied(file: BinaryIO, size: int, scratch: Path, where: str) -> str:
    _room(scratch, size, where)
    target = scratch / "copy.db3"
    _copy(file, target, size, where)
    return str(target)


def _copy(file: BinaryIO, target: Path, size: int | None, where: str) -> None:
    done = 0
    with target.open("wb") as out:
        while block := file.read(_BLOCK):
            done += len(block)
            if size is not None and done > size:
                raise BadRecording(where, f"{size} bytes", "more: the file changed while it was read", "ingest it again", check="truncated")
            out.write(block)
    if size is not None and done != size:
        raise BadRecording(where, f"{size} bytes", f"{done}: the file changed while it was read", "ingest it again", check="truncated")


def _unpacked(file: BinaryIO, size: int, scratch: Path, where: str) -> tuple[str, int]:
    """Unpack a zstd file into the scratch folder; return its path and size."""
    import zstandard

    head = file.read(32)
    file.seek(0)
    limit = FREE_BYTES + MAX_RATIO * size
    target = scratch / posixpath.basename(where).removesuffix(".zstd")
    done = 0
    try:
        declared = zstandard.frame_content_size(head)
        if declared > limit:
            raise BadRecording(
                where, f"a file that unpacks to at most {MAX_RATIO} times its size", f"{declared} bytes", "check where it comes from", check="unpacks_too_large"
            )
        _room(scratch, max(declared, 0), where)
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(file, read_across_frames=True) as reader, target.open("wb") as out:
            while block := reader.read(_BLOCK):
                done += len(block)
                if done > limit:
                    raise BadRecording(
                        where, f"a file that unpacks to at most {MAX_RATIO} times its size", "more", "check where it comes from", check="unpacks_too_large"
                    )
                out.write(block)
    except (zstandard.ZstdError, MemoryError) as error:
        raise BadRecording(where, "a readable zstd file", str(error), "restore the file from a copy", check="bad_chunk") from error
    except OSError as error:
        raise BadRecording(where, "a file that can be unpacked", error.strerror or str(error), "check the disk", check="unreadable") from error
    if 0 <= declared != done:
        raise BadRecording(where, f"a zstd file that unpacks to {declared} bytes", f"{done}", "restore the file from a copy", check="truncated")
    return str(target), done
