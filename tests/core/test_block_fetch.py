"""Which requests a read makes: few, parallel, and none for what is held or on its way already."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from dataengine.core.block_fetch import AHEAD_WAITING, BlockFetcher, Content, cut
from dataengine.core.block_folder import BlockFolder
from dataengine.core.errors import StoreError
from dataengine.core.objects import LocalObjects

B = 1 << 16
DATA = random.Random(0).randbytes(40 * B - 100)


class Asked(LocalObjects):
    """A folder that writes down which ranges are read, as (first block, blocks), takes its time over it, and counts how many are read at once."""

    def __init__(self, root: Path, seconds: float = 0.0) -> None:
        super().__init__(root)
        self.asked: list[tuple[int, int]] = []
        self.seconds = seconds
        self.gate = threading.Event()
        self.gate.set()
        self.failing = 0
        self._lock = threading.Lock()
        self._now = self.most = 0

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with self._lock:
            self.asked.append((start // B, -(-length // B)))
            self._now += 1
            self.most = max(self.most, self._now)
            fails = self.failing > 0
            self.failing -= fails
        self.gate.wait()
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        if fails:
            raise StoreError("the network is gone")
        return super().get_range(key, start, length)


@pytest.fixture
def objects(tmp_path: Path) -> Asked:
    objects = Asked(tmp_path / "objects")
    objects.put("a", DATA)
    return objects


@pytest.fixture
def fetcher(objects: Asked, tmp_path: Path) -> BlockFetcher:
    return BlockFetcher(objects, BlockFolder(tmp_path / "cache", 1 << 26, B))


@pytest.fixture
def content(objects: Asked, fetcher: BlockFetcher) -> Content:
    meta = objects.head("a")
    assert meta is not None
    return Content(meta, fetcher.blocks.name("a", meta.fingerprint))


def settled(fetcher: BlockFetcher) -> None:
    """Wait until nothing is fetched ahead any more."""
    until = time.monotonic() + 20
    while fetcher._workers:
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("blocks", "parallel", "runs"),
    [
        ([], 8, []),
        ([5], 8, [(5, 6)]),
        ([0, 1], 8, [(0, 2)]),
        ([0, 1, 2], 8, [(0, 2), (2, 3)]),
        ([0, 2, 3, 7], 8, [(0, 1), (2, 4), (7, 8)]),
        (list(range(20)), 8, [(0, 3), (3, 6), (6, 9), (9, 12), (12, 15), (15, 18), (18, 20)]),
        (list(range(33)), 8, [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 24), (24, 28), (28, 32), (32, 33)]),
        ([4, 5, 6, 7, 8, 20], 1, [(4, 8), (8, 9), (20, 21)]),
    ],
)
def test_neighbours_are_one_request(blocks: list[int], parallel: int, runs: list[tuple[int, int]]) -> None:
    assert [(run.start, run.stop) for run in cut(blocks, parallel)] == runs


def test_only_what_is_missing_is_asked_for(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    assert fetcher.read(content, 2 * B + 10, 2 * B + 20) == DATA[2 * B + 10 : 2 * B + 20]
    assert fetcher.read(content, B, 4 * B + 1) == DATA[B : 4 * B + 1]
    assert fetcher.read(content, 39 * B, len(DATA)) == DATA[39 * B :]
    assert sorted(objects.asked) == [(1, 1), (2, 1), (3, 2), (39, 1)]
    assert fetcher.read(content, 0, len(DATA)) == DATA
    # 0 alone; 5 to 38 in runs of four, as eight requests at once cannot share 35 blocks otherwise
    assert sorted(objects.asked[4:]) == [(0, 1), *((first, min(4, 39 - first)) for first in range(5, 39, 4))]
    assert fetcher.traffic.fetched_bytes == len(DATA)
    assert fetcher.traffic.requests == len(objects.asked) == 14
    assert fetcher.traffic.read_bytes == 10 + 3 * B + 1 + B - 100 + len(DATA)
    assert fetcher.read(content, 7, len(DATA) - 7) == DATA[7:-7]
    assert len(objects.asked) == 14
    assert fetcher.read(content, 9, 9) == b""
    fetcher.close()


def test_at_most_eight_requests_at_once(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.seconds = 0.03
    assert fetcher.read(content, 0, len(DATA)) == DATA
    assert len(objects.asked) == 10
    assert 2 <= objects.most <= 8
    fetcher.close()


def test_of_many_that_ask_for_one_block_one_fetches_it(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.seconds = 0.05
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda at=at: found.append(fetcher.read(content, at, 3 * B))) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=len) == [DATA[at : 3 * B] for at in (5, 4, 3, 2, 1, 0)]
    assert sorted(objects.asked) == [(0, 2), (2, 1)]
    fetcher.close()


def test_what_is_fetched_ahead_is_not_asked_for_again(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    assert fetcher.later(lambda: fetcher.fetch_ahead(content, [(B + 5, 2 * B), (10 * B, 1), (len(DATA) - 1, 50), (10**9, 5), (0, 0)]))
    settled(fetcher)
    assert objects.asked == [(1, 3), (10, 1), (39, 1)]
    assert fetcher.read(content, B, 4 * B) == DATA[B : 4 * B]
    assert fetcher.read(content, 39 * B, len(DATA)) == DATA[39 * B :]
    assert fetcher.later(lambda: fetcher.fetch_ahead(content, [(0, 5 * B)]))
    settled(fetcher)
    assert objects.asked[3:] == [(0, 1), (4, 1)]


def test_a_read_waits_for_what_is_on_its_way(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.gate.clear()
    assert fetcher.later(lambda: fetcher.fetch_ahead(content, [(0, 2 * B)]))
    while not objects.asked:
        time.sleep(0.001)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fetcher.read(content, 0, B)))
    reader.start()
    time.sleep(0.05)
    assert found == []
    objects.gate.set()
    reader.join()
    assert found == [DATA[:B]]
    assert objects.asked == [(0, 2)]


def test_an_error_ahead_of_use_is_left_to_the_read(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.failing = 1
    assert fetcher.later(lambda: fetcher.fetch_ahead(content, [(0, 1)]))
    settled(fetcher)
    assert fetcher.read(content, 0, 5) == DATA[:5]
    objects.failing = 1
    with pytest.raises(StoreError, match="the network is gone"):
        fetcher.read(content, 5 * B, 5 * B + 1)
    assert fetcher.read(content, 5 * B, 5 * B + 1) == DATA[5 * B : 5 * B + 1]


def test_who_waits_for_a_fetch_that_fails_fetches_it_itself(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.gate.clear()
    objects.failing = 1
    assert fetcher.later(lambda: fetcher.fetch_ahead(content, [(0, 1)]))
    while not objects.asked:
        time.sleep(0.001)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fetcher.read(content, 1, 4)))
    reader.start()
    time.sleep(0.05)
    objects.gate.set()
    reader.join()
    assert found == [DATA[1:4]]
    assert objects.asked == [(0, 1), (0, 1)]


def test_one_of_parallel_requests_fails(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.failing = 1
    with pytest.raises(StoreError, match="the network is gone"):
        fetcher.read(content, 0, len(DATA))
    assert fetcher.read(content, 0, len(DATA)) == DATA
    fetcher.close()


def test_more_than_the_queue_holds_is_dropped_and_the_end_does_not_wait_for_it(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.gate.clear()
    queued = [fetcher.later(lambda block=block: fetcher.fetch_ahead(content, [(block % 40 * B, 1)])) for block in range(AHEAD_WAITING + 50)]
    assert AHEAD_WAITING <= sum(queued) <= AHEAD_WAITING + 4
    assert not queued[-1]
    threading.Timer(0.05, objects.gate.set).start()
    fetcher.close()
    assert len(objects.asked) <= 4
    assert not fetcher.later(lambda: None)
    assert fetcher.read(content, 30 * B, 30 * B + 9) == DATA[30 * B : 30 * B + 9]


def test_an_object_that_became_shorter_is_told(objects: Asked, fetcher: BlockFetcher, content: Content) -> None:
    objects.put("a", DATA[: 10 * B + 1])
    with pytest.raises(StoreError, match=r"/a: expected 65536 bytes from 655360 of an object of 2621340, got 1; it was rewritten while it was read"):
        fetcher.read(content, 10 * B, 10 * B + 1)


def test_without_a_disk_exactly_what_is_wanted_is_asked_for(objects: Asked, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    fetcher = BlockFetcher(objects, BlockFolder(tmp_path / "file", 1 << 26, B))
    meta = objects.head("a")
    assert meta is not None
    content = Content(meta, fetcher.blocks.name("a", "1"))
    assert fetcher.read(content, 3, 5) == DATA[3:5]
    assert fetcher.traffic.fetched_bytes == B
    assert fetcher.read(content, 3, 5) == DATA[3:5]
    assert fetcher.traffic.fetched_bytes == B + 2
