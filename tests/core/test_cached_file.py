"""A file over the cache: the bytes of any file, and what it asks for ahead of use."""

from __future__ import annotations

import io
import random

from dataengine.core.cached_file import CachedFile

KIB = 1024
B = 128 * KIB
DATA = random.Random(0).randbytes(20 * B + 77)


class Ranges:
    """Objects that write down what is read, and which blocks are asked for ahead."""

    def __init__(self, holding: bool = True) -> None:
        self.holding = holding
        self.read: list[tuple[int, int]] = []
        self.ahead: list[int] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.read.append((start, length))
        return DATA[start : start + length]

    def prefetch(self, key: str, ranges: list[tuple[int, int]]) -> bool:
        self.ahead += [start // B for start, _ in ranges]
        return True


def opened(ranges: Ranges) -> io.BufferedReader:
    return io.BufferedReader(CachedFile(ranges, "a", len(DATA), B), 64 * KIB)


def test_it_is_the_file_whatever_is_read_and_sought() -> None:
    chosen = random.Random(1)
    for holding in (True, False):
        file, plain = opened(Ranges(holding)), io.BytesIO(DATA)
        for _ in range(400):
            what = chosen.random()
            if what < 0.5:
                length = chosen.choice([0, 1, 7, 1000, 64 * KIB, 64 * KIB + 1, 3 * B])
                assert file.read(length) == plain.read(length)
            elif what < 0.8:
                place = chosen.randrange(len(DATA) + 10)
                assert file.seek(place) == plain.seek(place)
            else:
                place = chosen.randrange(-len(DATA), 0)
                assert file.seek(place, io.SEEK_END) == plain.seek(place, io.SEEK_END)
            assert file.tell() == plain.tell()
        assert file.seek(0) == 0
        assert file.read() == DATA
        assert file.read(5) == b""


def test_a_small_read_stays_within_the_piece_that_has_a_checksum() -> None:
    ranges = Ranges()
    file = opened(ranges)
    file.seek(B - 100)
    assert file.read(50) == DATA[B - 100 : B - 50]
    assert ranges.read == [(B - 100, 100)]
    assert file.read(50) == DATA[B - 50 : B]
    assert len(ranges.read) == 1
    assert ranges.ahead == []


def test_reading_on_asks_for_more_and_more_ahead() -> None:
    ranges = Ranges()
    file = opened(ranges)
    asked = []
    for _ in range(0, len(DATA), 64 * KIB):
        file.read(64 * KIB)
        asked.append(len(ranges.ahead))
    # by the second read it is in sequence; one block, then two, four, eight are ahead, and each is asked for once
    assert asked[:2] == [0, 1]
    assert ranges.ahead == list(range(1, 21))
    reads = range(len(asked))
    assert all(asked[read] >= min(20, read // 2 + 1) for read in reads if read)  # the next block is always on its way
    assert all(asked[read] <= read // 2 + 8 for read in reads)


def test_reading_here_and_there_asks_for_nothing_ahead() -> None:
    ranges = Ranges()
    file = opened(ranges)
    for place in random.Random(2).sample(range(0, len(DATA), 64 * KIB), 20):
        file.seek(place)
        file.read(100)
    assert ranges.ahead == []


def test_without_a_cache_reading_on_takes_a_block_at_a_time_and_the_rest_what_is_asked() -> None:
    ranges = Ranges(holding=False)
    file = opened(ranges)
    for _ in range(6):
        file.read(64 * KIB)
    file.seek(10 * B)
    file.read(10)
    # the buffer asks for 64 KiB; that is the second read in sequence, and a block of 128 KiB then serves two of them
    assert ranges.read == [(0, 64 * KIB), (64 * KIB, B), (192 * KIB, B), (320 * KIB, B), (10 * B, 64 * KIB)]
    assert ranges.ahead == []
