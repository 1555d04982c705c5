"""Reading an object store through the cache, against a real server: the same bytes, no request twice, and never what a purge took away."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataengine.core.cached_objects import CachedObjects, CacheOptions, default_folder, reading_objects
from dataengine.core.errors import StoreError, UsageError
from dataengine.core.objects import LocalObjects, Objects, open_objects
from tests.support.s3_server import S3
from tests.support.shared import REPOSITORY
from tests.support.still import folder_bytes, largest_folder

pytestmark = pytest.mark.s3

KIB = 1024
B = 64 * KIB
SIZES = [0, 1, B - 1, B, B + 1, 2 * B - 1, 2 * B, 2 * B + 1, 5 * B + 12345, 20 * B]


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def url() -> str:
    return f"s3://lab/{uuid.uuid4().hex}"


@pytest.fixture
def store(s3: S3, url: str) -> Objects:
    """Return a root for writing."""
    return open_objects(url, s3.options())


@pytest.fixture
def options(tmp_path: Path) -> CacheOptions:
    return CacheOptions(tmp_path / "cache", limit_bytes=256 * B, block_bytes=B)


def opened(s3: S3, url: str, options: CacheOptions) -> CachedObjects:
    objects = reading_objects(url, s3.options(watched=True), options)
    assert isinstance(objects, CachedObjects)
    s3.asked()
    return objects


@pytest.fixture
def cached(s3: S3, url: str, options: CacheOptions, store: Objects) -> Iterator[CachedObjects]:
    with opened(s3, url, options) as objects:
        yield objects


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_random_ranges_are_the_bytes_of_the_object(s3: S3, store: Objects, cached: CachedObjects) -> None:
    chosen = random.Random(3)
    for size in SIZES:
        key, data = f"media/{size}.mp4", content(size, size)
        store.put(key, data)
        for _ in range(12):
            start = chosen.choice(
                [chosen.randrange(size + 2), max(0, size - 2), chosen.randrange(size // B + 1) * B, max(0, chosen.randrange(size // B + 1) * B - 1)]
            )
            length = chosen.choice([0, 1, 2, B - 1, B, B + 1, chosen.randrange(size + 2)])
            assert cached.get_range(key, start, length) == data[start : start + length]
        assert cached.get(key) == data
        with cached.open(key) as file:
            assert file.read() == data
        meta = cached.head(key)
        assert meta is not None
        assert (meta.key, meta.size) == (key, size)
    s3.asked()
    for size in SIZES:
        assert cached.get(f"media/{size}.mp4") == content(size, size)
    assert s3.asked() == []
    assert cached.traffic.fetched_bytes == sum(SIZES)
    assert cached.traffic.heads == len(SIZES)


def test_each_request_of_a_first_and_a_second_process(s3: S3, store: Objects, url: str, options: CacheOptions, cached: CachedObjects) -> None:
    data, top = content(5 * B + 100), url.removeprefix("s3:/")
    store.put("steps/lab/a.parquet", data)
    s3.asked()
    assert cached.get_range("steps/lab/a.parquet", B + 5, 10) == data[B + 5 : B + 15]
    assert cached.get_range("steps/lab/a.parquet", B, 4 * B + 1) == data[B : 5 * B + 1]
    head = f"HEAD {top}/steps/lab/a.parquet"
    asked = s3.asked()
    assert asked[:2] == [head, f"GET {top}/steps/lab/a.parquet bytes=65536-131071"]
    assert sorted(asked[2:]) == [f"GET {top}/steps/lab/a.parquet bytes=131072-262143", f"GET {top}/steps/lab/a.parquet bytes=262144-327779"]
    with opened(s3, url, options) as second:
        assert second.get_range("steps/lab/a.parquet", B + 1, 4 * B) == data[B + 1 : 5 * B + 1]
        assert s3.asked() == [head]
        assert second.get("steps/lab/a.parquet") == data
        assert s3.asked() == [f"GET {top}/steps/lab/a.parquet bytes=0-65535"]


def test_only_payload_is_cached(s3: S3, store: Objects, cached: CachedObjects) -> None:
    for key in ("store.json", "catalog/_delta_log/0.json", "jobs/1.json", "removed/1.json"):
        store.put(key, b"old")
        assert (cached.get(key), cached.get_range(key, 1, 2), cached.open(key).read()) == (b"old", b"ld", b"old")
        store.put(key, b"newer")
        assert (cached.get(key), cached.get_range(key, 1, 2), cached.open(key).read()) == (b"newer", b"ew", b"newer")
        meta = cached.head(key)
        assert meta is not None
        assert meta.size == 5
        assert not cached.prefetch(key, [(0, 1)])
    assert cached.blocks.used_bytes() == 0
    assert [meta.key for meta in cached.list("jobs")] == ["jobs/1.json"]
    assert cached.local("media/a") is None
    assert cached.local("") is None


def test_what_is_absent_may_come(store: Objects, cached: CachedObjects, url: str) -> None:
    assert cached.head("versions/2.json") is None
    for read in (lambda: cached.get("versions/2.json"), lambda: cached.get_range("versions/2.json", 0, 1), lambda: cached.open("versions/2.json")):
        with pytest.raises(FileNotFoundError, match=f"{url}/versions/2.json"):
            read()
    assert not cached.prefetch("catalog/x", [(0, 1)])
    assert cached.prefetch("versions/2.json", [(0, 1)])
    store.put("versions/2.json", b"{}")
    assert cached.get("versions/2.json") == b"{}"


def test_nothing_can_be_written(cached: CachedObjects, tmp_path: Path, url: str) -> None:
    for write in (
        lambda: cached.put("media/a", b""),
        lambda: cached.put_if_absent("media/a", b""),
        lambda: cached.upload(tmp_path / "a", "media/a"),
        lambda: cached.delete(["media/a"]),
    ):
        with pytest.raises(UsageError, match=f"{url}/media/a: expected to be read only, since it was opened through a cache, got a write; use open_objects"):
            write()


@pytest.mark.parametrize("size", [3 * B, 2 * B])
def test_after_a_purge_no_process_is_given_older_bytes(s3: S3, store: Objects, url: str, options: CacheOptions, cached: CachedObjects, size: int) -> None:
    key = "streams/lab/s1/videos/front.mp4"
    old, new = content(3 * B, 1), content(size, 2)
    store.put(key, old)
    assert cached.get_range(key, 0, 2 * B) == old[: 2 * B]
    store.put(key, new)
    # this process made its head before: what it holds is of one piece, and for the rest it is told
    assert cached.get_range(key, 5, 10) == old[5:15]
    with pytest.raises(StoreError, match=f"{url}/{key}: expected the object that was there at first, found another; open the store again"):
        cached.get_range(key, 2 * B, 10)
    with opened(s3, url, options) as fresh:
        assert fresh.get(key) == new
        assert fresh.blocks.used_bytes() == -(-size // B) * (B + 4 * KIB)  # the older bytes are gone from the disk too
        store.delete([key])
    with opened(s3, url, options) as last:
        with pytest.raises(FileNotFoundError):
            last.get(key)
        assert last.blocks.used_bytes() == 0


def test_one_bucket_of_two_servers_is_two(s3: S3, store: Objects, url: str, options: CacheOptions, cached: CachedObjects) -> None:
    store.put("media/a", b"12")
    assert cached.get("media/a") == b"12"
    other = reading_objects(url, s3.options(), options)
    assert isinstance(other, CachedObjects)
    assert other.get("media/a") == b"12"
    assert other.traffic.requests == 1


def test_what_is_fetched_ahead_saves_the_request(s3: S3, store: Objects, cached: CachedObjects) -> None:
    data = content(10 * B)
    store.put("media/a", data)
    assert cached.prefetch("media/a", [(2 * B + 1, B), (7 * B, 2)])
    until = time.monotonic() + 20
    while cached.traffic.requests < 2 or cached.blocks.used_bytes() != 3 * (B + 4 * KIB):
        assert time.monotonic() < until
        time.sleep(0.005)
    assert [asked.rpartition(" ")[2] for asked in s3.asked() if asked.startswith("GET")] == ["bytes=131072-262143", "bytes=458752-524287"]
    assert cached.get_range("media/a", 2 * B, 2 * B) == data[2 * B : 4 * B]
    assert cached.get_range("media/a", 7 * B, B) == data[7 * B : 8 * B]
    assert s3.asked() == []
    assert cached.get_range("media/a", 0, 10 * B) == data


def test_damaged_blocks_are_fetched_again(s3: S3, store: Objects, cached: CachedObjects, options: CacheOptions) -> None:
    data = content(3 * B)
    store.put("media/a", data)
    assert cached.get("media/a") == data
    files = {path.name: path for path in options.folder.rglob("*") if path.is_file()}
    flipped = bytearray(files["0"].read_bytes())
    flipped[1000] ^= 1
    files["0"].write_bytes(flipped)
    os.truncate(files["2"], 5000)
    s3.asked()
    assert cached.get("media/a") == data
    assert sorted(asked.rpartition(" ")[2] for asked in s3.asked()) == ["bytes=0-65535", "bytes=131072-196607"]
    assert cached.get("media/a") == data
    assert s3.asked() == []


_READ = """
import json, random, sys
from pathlib import Path
from dataengine.core.cached_objects import CacheOptions, reading_objects
url, options, folder, seed = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
objects = reading_objects(url, options, CacheOptions(folder, 16 << 16, 1 << 16))
whole = {key: random.Random(number).randbytes(40 << 16) for number, key in enumerate(["media/0", "media/1"])}
chosen = random.Random(seed)
for _ in range(60):
    key = chosen.choice(["media/0", "media/1"])
    start, length = chosen.randrange(40 << 16), chosen.randrange(6 << 16)
    objects.prefetch(key, [(start + length, 1 << 16)])
    assert objects.get_range(key, start, length) == whole[key][start:start + length]
objects.close()
print(objects.traffic.fetched_bytes)
"""


def test_the_bound_holds_while_two_processes_read_more_than_it(s3: S3, store: Objects, url: str, tmp_path: Path) -> None:
    for number in range(2):
        store.put(f"media/{number}", content(40 * B, number))
    readers = [run(_READ, url, json.dumps(s3.options()), tmp_path / "cache", seed) for seed in range(2)]
    most = largest_folder(tmp_path / "cache", readers)
    for reader in readers:
        out, said = reader.communicate()
        assert (reader.returncode, said) == (0, "")
        assert int(out) > 40 * B
    assert 4 * B < most <= 16 * B
    assert folder_bytes(tmp_path / "cache") <= 16 * B


def test_readers_that_are_killed_leave_nothing_wrong(s3: S3, store: Objects, url: str, tmp_path: Path) -> None:
    for number in range(2):
        store.put(f"media/{number}", content(40 * B, number))
    folder = tmp_path / "cache"
    for seed in range(3):
        reader = run(_READ, url, json.dumps(s3.options()), folder, seed)
        until = time.monotonic() + 60
        while folder_bytes(folder) < (2 + 3 * seed) * B and reader.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.001)
        reader.send_signal(signal.SIGKILL)
        reader.communicate()
    last = run(_READ, url, json.dumps(s3.options()), folder, 9)
    assert last.communicate()[1] == ""
    assert last.returncode == 0


_END = """
import json, sys, time
from pathlib import Path
from dataengine.core.cached_objects import CacheOptions, reading_objects
objects = reading_objects(sys.argv[1], json.loads(sys.argv[2]), CacheOptions(Path(sys.argv[3]), 256 << 16, 1 << 16))
assert all(objects.prefetch("media/a", [(number << 16, 1)]) for number in range(200))
print(time.time(), flush=True)
"""


def test_a_process_ends_without_waiting_for_what_it_fetches_ahead(s3: S3, store: Objects, url: str, tmp_path: Path) -> None:
    store.put("media/a", content(200 * B))
    process = run(_END, url, json.dumps(s3.options(watched=True)), tmp_path / "cache")
    s3.asked()
    out, said = process.communicate()
    assert (process.returncode, said) == (0, "")
    assert time.time() - float(out) < 20
    assert len(s3.asked()) < 100


def test_a_disk_that_takes_nothing(s3: S3, store: Objects, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = content(10 * B)
    store.put("media/a", data)
    (tmp_path / "file").write_bytes(b"")
    with opened(s3, url, CacheOptions(tmp_path / "file", 256 * B, B)) as objects:
        assert objects.get_range("media/a", 5, 10) == data[5:15]
        assert objects.get("media/a") == data
        with objects.open("media/a") as file:
            assert b"".join(iter(lambda: file.read(1000), b"")) == data
        assert not objects.prefetch("media/a", [(0, 5)])
        assert objects.traffic.heads == 1
        assert objects.traffic.fetched_bytes == B + 20 * B
    assert len(caplog.records) == 1


def test_which_roots_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(reading_objects(str(tmp_path), None, CacheOptions(tmp_path / "cache")), LocalObjects)
    assert not isinstance(reading_objects("s3://bucket/store"), CachedObjects)
    objects = reading_objects("s3://bucket/store", {"aws_region": "us-east-1"}, CacheOptions(tmp_path / "cache"))
    assert isinstance(objects, CachedObjects)
    assert (objects.url, dict(objects.options)["aws_region"]) == ("s3://bucket/store", "us-east-1")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("DATAENGINE_CACHE", str(tmp_path / "named"))
    assert (CacheOptions().folder, CacheOptions().limit_bytes, CacheOptions().block_bytes) == (tmp_path / "named", 21_474_836_480, 4_194_304)
    monkeypatch.delenv("DATAENGINE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "dataengine"
