"""Fetching blocks of remote objects: from the folder where they are held, else by few and parallel requests, each block once in a process, also ahead of use."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dataengine.core.block_folder import BlockFolder
from dataengine.core.errors import DataEngineError, StoreError
from dataengine.core.objects import ObjectMeta, Objects

log = logging.getLogger(__name__)

# One read is fetched by so many requests at once, each of so many blocks: below two blocks a request's latency outweighs what it brings.
PARALLEL = 8
_SMALLEST, _LARGEST = 2, 4

# Fetching ahead: so many requests at once, and so many calls that wait for their turn.
AHEAD_THREADS = 4
AHEAD_WAITING = 256

Block = bytes | memoryview


@dataclass(frozen=True)
class Content:
    """An object as its `head` described it, and its name in the folder of blocks."""

    meta: ObjectMeta
    name: str


@dataclass(frozen=True)
class Traffic:
    """What was asked of the object store for cached keys, and what was given to callers."""

    heads: int = 0
    requests: int = 0
    fetched_bytes: int = 0
    read_bytes: int = 0


@runtime_checkable
class Pinned(Protocol):
    """Objects that can refuse to read one that was rewritten since its `head`."""

    def get_range_of(self, meta: ObjectMeta, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` of the very object that `meta` describes."""


class BlockFetcher:
    """Reads contents through a folder of blocks; safe for threads.

    A disk that takes no blocks is no error: reading then asks for exactly what is wanted.
    """

    def __init__(self, objects: Objects, blocks: BlockFolder) -> None:
        self.objects = objects
        self.blocks = blocks
        self.traffic = Traffic()
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Block]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Callable[[], None]] = deque()
        self._workers: set[threading.Thread] = set()
        self.closed = False

    def count(self, heads: int = 0, requests: int = 0, fetched_bytes: int = 0, read_bytes: int = 0) -> None:
        """Add to the traffic."""
        with self._lock:
            now = self.traffic
            self.traffic = Traffic(now.heads + heads, now.requests + requests, now.fetched_bytes + fetched_bytes, now.read_bytes + read_bytes)

    def close(self) -> None:
        """Drop what was to be fetched ahead and end the threads; reading goes on to work."""
        with self._lock:
            self.closed = True
            self._waiting.clear()
            workers, pool, self._pool = list(self._workers), self._pool, None
        for worker in workers:
            worker.join()
        if pool is not None:
            pool.shutdown()

    def read(self, content: Content, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`, which must lie within the object."""
        if start >= stop:
            return b""
        self.count(read_bytes=stop - start)
        size = self.blocks.block_bytes
        pieces = {block: (max(0, start - block * size), min(size, stop - block * size)) for block in range(start // size, (stop - 1) // size + 1)}
        parts: dict[int, Block | None] = {block: self._held(content, block, *piece) for block, piece in pieces.items()}
        missing = [block for block, part in parts.items() if part is None]
        if missing and not self.blocks.writable:
            return self._request(content, start, stop)
        for block, data in self._fetch(content, missing).items():
            parts[block] = memoryview(data)[slice(*pieces[block])]
        found = [part for part in parts.values() if part is not None]
        return b"".join(found) if len(found) > 1 else bytes(found[0])

    def fetch_ahead(self, content: Content, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch what is not held of ranges (start, length), without a look at what is held."""
        size = self.blocks.block_bytes
        spans = [(max(0, start), min(start + length, content.meta.size)) for start, length in ranges]
        wanted = {block for start, stop in spans if start < stop for block in range(start // size, (stop - 1) // size + 1)}
        for span in cut(sorted(block for block in wanted if not self.blocks.has(content.name, block)), 1):
            if not self.closed:
                mine, _ = self._claim(content, span)
                self._fetch_claimed(content, mine, parallel=1)

    def later(self, work: Callable[[], None]) -> bool:
        """Do work beside whatever goes on; return False where too much waits already. Its errors are left to the read that needs the bytes."""
        with self._lock:
            if self.closed or len(self._waiting) >= AHEAD_WAITING:
                return False
            self._waiting.append(work)
            if len(self._workers) < AHEAD_THREADS:
                # A thread lives as long as there is work: none idles, and none delays the end of the process by more than one request.
                worker = threading.Thread(target=self._work, name="cache-ahead")
                self._workers.add(worker)
                worker.start()
        return True

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while True:
                with self._lock:
                    if not self._waiting or self.closed or not threading.main_thread().is_alive():
                        self._workers.discard(me)
                        return
                    work = self._waiting.popleft()
                try:
                    work()
                except (DataEngineError, OSError) as error:
                    log.debug("fetching ahead: %s", error)
        finally:
            with self._lock:
                self._workers.discard(me)

    def _held(self, content: Content, block: int, start: int = 0, stop: int | None = None) -> bytes | None:
        length = min(self.blocks.block_bytes, content.meta.size - block * self.blocks.block_bytes)
        return self.blocks.read(content.name, block, length, start, length if stop is None else stop)

    def _fetch(self, content: Content, blocks: Sequence[int]) -> dict[int, Block]:
        """Return whole blocks that are not held, each fetched once in this process, however many ask."""
        found: dict[int, Block] = {}
        left = list(blocks)
        while left:
            mine, others = self._claim(content, left)
            found.update(self._fetch_claimed(content, mine))
            # Whoever fails to fetch a block is told why; for those who waited for it, it is simply not there yet.
            left = [block for block, other in others.items() if other.exception() is not None]
            found.update({block: other.result() for block, other in others.items() if block not in left})
        return found

    def _claim(self, content: Content, blocks: Iterable[int]) -> tuple[dict[int, Future[Block]], dict[int, Future[Block]]]:
        """Return what is to be fetched here, and what is being fetched by other threads."""
        mine: dict[int, Future[Block]] = {}
        others: dict[int, Future[Block]] = {}
        with self._lock:
            for block in blocks:
                running = self._running.get((content.name, block))
                if running is not None:
                    others[block] = running
                else:
                    mine[block] = self._running[content.name, block] = Future()
        return mine, others

    def _fetch_claimed(self, content: Content, claimed: dict[int, Future[Block]], parallel: int = PARALLEL) -> dict[int, Block]:
        found: dict[int, Block] = {}
        try:
            for block in claimed:
                held = self._held(content, block)  # it may have come since it was looked for
                if held is not None:
                    found[block] = held
            spans = cut([block for block in claimed if block not in found], parallel)
            for fetched in self._fetch_spans(content, spans, parallel > 1 and len(spans) > 1):
                found.update(fetched)
            return found
        finally:
            with self._lock:
                for block in claimed:
                    del self._running[content.name, block]
            for block, future in claimed.items():
                if block in found:
                    future.set_result(found[block])
                else:
                    future.set_exception(StoreError(f"{self.objects.url}/{content.meta.key}: block {block} was not fetched"))

    def _fetch_spans(self, content: Content, spans: Sequence[range], parallel: bool) -> Iterator[dict[int, Block]]:
        if not parallel:
            return map(self._fetch_span, [content] * len(spans), spans)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="cache-fetch")
            return self._pool.map(self._fetch_span, [content] * len(spans), spans)

    def _fetch_span(self, content: Content, span: range) -> dict[int, Block]:
        size = self.blocks.block_bytes
        data = memoryview(self._request(content, span.start * size, min(span.stop * size, content.meta.size)))
        found: dict[int, Block] = {block: data[place * size : (place + 1) * size] for place, block in enumerate(span)}
        for block, part in found.items():
            self.blocks.write(content.name, block, part)
        return found

    def _request(self, content: Content, start: int, stop: int) -> bytes:
        meta, objects = content.meta, self.objects
        data = objects.get_range_of(meta, start, stop - start) if isinstance(objects, Pinned) else objects.get_range(meta.key, start, stop - start)
        self.count(requests=1, fetched_bytes=len(data))
        if len(data) != stop - start:
            found = f"expected {stop - start} bytes from {start} of an object of {meta.size}, got {len(data)}"
            raise StoreError(f"{objects.url}/{meta.key}: {found}; it was rewritten while it was read: open the store again")
        return data


def cut(blocks: Sequence[int], parallel: int = PARALLEL) -> list[range]:
    """Cut ascending blocks into runs of neighbours, one request each: long ones, but short enough to keep `parallel` requests busy."""
    most = min(_LARGEST, max(_SMALLEST, -(-len(blocks) // parallel)))
    found: list[range] = []
    for block in blocks:
        if found and block == found[-1].stop and len(found[-1]) < most:
            found[-1] = range(found[-1].start, block + 1)
        else:
            found.append(range(block, block + 1))
    return found
