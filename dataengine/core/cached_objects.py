"""Reading an object store through a bounded folder of this machine: aligned blocks, fetched once, shared by all processes, and fetched ahead on request.

Only what a store never changes under its key is cached. `purge` is the one exception, so a block belongs to a key *and* the fingerprint of one `head` that
each process makes of each object: a process that starts after a purge never sees older bytes, and one that was running is told when it reads on.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from dataengine.core.block_fetch import BlockFetcher, Content, Traffic
from dataengine.core.block_folder import PIECE_BYTES, BlockFolder
from dataengine.core.cached_file import CachedFile
from dataengine.core.errors import UsageError
from dataengine.core.objects import ObjectMeta, Objects, open_objects

# What lies below is immutable once something points to it (schemas/README.md); catalog/ is Delta's own, jobs/ and removed/ must be read afresh.
PAYLOAD = ("media/", "streams/", "steps/", "labels/", "datasets/", "versions/", "tags/")

# So many objects are remembered; one that was forgotten is asked for again.
_MAX_HEADS = 1 << 17


def default_folder() -> Path:
    """Return the folder of blocks: `$DATAENGINE_CACHE`, else `~/.cache/dataengine`."""
    named = os.environ.get("DATAENGINE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "dataengine"


@dataclass(frozen=True)
class CacheOptions:
    """Where blocks of remote objects are held, and how much of them.

    Args:
        folder: a folder of this machine, shared by all processes that name it.
        limit_bytes: what all blocks may take together, at least 16 blocks.
        block_bytes: what is fetched at least, a multiple of 64 KiB. Smaller blocks suit scattered reads of far more data than fits.
    """

    folder: Path = field(default_factory=default_folder)
    limit_bytes: int = 20 << 30
    block_bytes: int = 4 << 20


class CachedObjects:
    """Objects for reading, the immutable ones through a folder of blocks; safe for threads, to be made anew in a forked process.

    A disk that takes no blocks is said once; reading then asks for exactly what is wanted.

    Args:
        objects: the root that is read.
        folder: where blocks are held.
        limit_bytes: what all blocks may take together (see `BlockFolder`).
        block_bytes: the size of a block.
        below: beginnings of the keys whose objects never change.
    """

    def __init__(self, objects: Objects, folder: Path, limit_bytes: int, block_bytes: int = 4 << 20, below: Sequence[str] = PAYLOAD) -> None:
        self.objects = objects
        self.url = objects.url
        self.options: Mapping[str, str] = objects.options
        self.blocks = BlockFolder(folder, limit_bytes, block_bytes)
        self._fetcher = BlockFetcher(objects, self.blocks)
        self._below = tuple(below)
        # Two servers may have a bucket of one name.
        endpoints = sorted(f"{name}={value}" for name, value in objects.options.items() if "endpoint" in name)
        self._root = " ".join([*endpoints, objects.url])
        self._lock = threading.Lock()
        self._contents: dict[str, Content] = {}

    @property
    def traffic(self) -> Traffic:
        """Return what was asked of the object store and given to callers so far, for cached keys."""
        return self._fetcher.traffic

    @property
    def holding(self) -> bool:
        """Return whether the disk takes blocks, as far as is known."""
        return self.blocks.writable

    def __enter__(self) -> CachedObjects:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what was to be fetched ahead and end the threads; reading goes on to work."""
        self._fetcher.close()

    def local(self, key: str) -> Path | None:
        return None

    def list(self, prefix: str = "") -> Iterator[ObjectMeta]:
        return self.objects.list(prefix)

    def head(self, key: str) -> ObjectMeta | None:
        if not key.startswith(self._below):
            return self.objects.head(key)
        content = self._content(key)
        return content.meta if content is not None else None

    def get(self, key: str) -> bytes:
        if not key.startswith(self._below):
            return self.objects.get(key)
        content = self._present(key)
        return self._fetcher.read(content, 0, content.meta.size)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if not key.startswith(self._below):
            return self.objects.get_range(key, start, length)
        if start < 0 or length < 0:
            raise ValueError(f"{self.url}/{key}: a range must not be negative, got {length} bytes from {start}")
        content = self._present(key)
        return self._fetcher.read(content, start, min(start + length, content.meta.size))

    def open(self, key: str) -> BinaryIO:
        if not key.startswith(self._below):
            return self.objects.open(key)
        raw = CachedFile(self, key, self._present(key).meta.size, self.blocks.block_bytes)
        return cast(BinaryIO, io.BufferedReader(raw, PIECE_BYTES))

    def prefetch(self, key: str, ranges: Iterable[tuple[int, int]]) -> bool:
        """Fetch ranges of an object into the cache, beside whatever goes on; return whether that was queued (no room, or nothing is held: False).

        Errors are left to the read that needs the bytes. Ranges that are held already, or are being fetched, cost no request.

        Args:
            key: the object.
            ranges: (start, length) in bytes each.
        """
        if not key.startswith(self._below) or not self.holding:
            return False
        wanted = tuple(ranges)

        def work() -> None:
            content = self._content(key)
            if content is not None:
                self._fetcher.fetch_ahead(content, wanted)

        return self._fetcher.later(work)

    def put(self, key: str, data: bytes) -> None:
        self._refuse(key)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._refuse(key)

    def upload(self, path: Path, key: str) -> None:
        self._refuse(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._refuse(", ".join(keys))

    def _refuse(self, key: str) -> NoReturn:
        raise UsageError(f"{self.url}/{key}: expected to be read only, since it was opened through a cache, got a write; use open_objects for writing")

    def _content(self, key: str) -> Content | None:
        found = self._contents.get(key)
        if found is not None:
            return found
        meta = self.objects.head(key)
        self._fetcher.count(heads=1)
        address = f"{self._root}/{key}"
        if meta is None:
            self.blocks.forget(self.blocks.name(address, ""), keep=False)
            return None
        content = Content(ObjectMeta(key, meta.size, meta.fingerprint, meta.modified_ns), self.blocks.name(address, f"{meta.fingerprint} {meta.size}"))
        self.blocks.forget(content.name)
        with self._lock:
            if len(self._contents) >= _MAX_HEADS:
                del self._contents[next(iter(self._contents))]
            return self._contents.setdefault(key, content)

    def _present(self, key: str) -> Content:
        content = self._content(key)
        if content is None:
            raise FileNotFoundError(f"{self.url}/{key}")
        return content


def reading_objects(url: str, options: Mapping[str, str] | None = None, cache: CacheOptions | None = None, below: Sequence[str] = PAYLOAD) -> Objects:
    """Open a root for reading: a remote one through a cache, a local one as it is.

    Args:
        url: the address (see `open_objects`).
        options: options of the object store.
        cache: where and how much is held; None for no cache at all.
        below: beginnings of the keys whose objects never change; the others are never cached.
    """
    objects = open_objects(url, options)
    if cache is None or objects.local("") is not None:
        return objects
    return CachedObjects(objects, cache.folder, cache.limit_bytes, cache.block_bytes, below)
