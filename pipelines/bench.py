"""Benchmarks: ratios against a floor, a bare reader or a peer, in one run, medians over repetitions.

CPU time of this process counts (user and system), so that neighbours on the machine disturb as little as possible; wall time stands beside it.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataengine.core.digest import new_digest
from dataengine.core.objects import open_objects
from dataengine.store.catalog import Catalog
from dataengine.store.commit import Committer, Tally
from dataengine.store.jobs import new_job_id
from dataengine.store.store import create_store
from pipelines.config import IngestConfig
from pipelines.plan import find_items, make_plan
from pipelines.unit import Unit, ingest_unit

READ_BYTES = 16 << 20


@dataclass(frozen=True)
class Cost:
    """What one run of something took."""

    cpu_s: float
    wall_s: float


def _set_aside(leftover: Path, aside: Path) -> None:
    """Empty what an earlier run left, and put it into a folder where it is in nobody's way.

    To remove it would disturb what comes next: ext4 does not use an inode again for a minute after its file was removed, and looks at every such one
    before it makes a file (0.5 ms each after a few runs of 600 files), which no user's ingest meets.
    """
    if leftover.exists():
        for path in leftover.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        aside.mkdir(exist_ok=True)
        leftover.rename(aside / uuid.uuid4().hex)


def cost_of(work: Callable[[], Any]) -> Cost:
    """Run something once and return its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def in_turn(repeats: int, leftover: Path, *work: Callable[[], Any]) -> list[list[Cost]]:
    """Run several things in turn, A B A B ..., so that a machine whose speed drifts disturbs all of them alike.

    What they leave in `leftover` is gone before each of them, and outside their time.
    """
    costs: list[list[Cost]] = [[] for _ in work]
    aside = leftover.with_name(f"{leftover.name}-aside")
    for _ in range(repeats):
        for number, one in enumerate(work):
            _set_aside(leftover, aside)
            costs[number].append(cost_of(one))
    shutil.rmtree(leftover, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)
    return costs


def median_ratio(above: Sequence[Cost], below: Sequence[Cost], field: str = "cpu_s") -> float:
    """Return the median of the ratios pair by pair."""
    return float(statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(above, below, strict=True)))


def median(costs: Sequence[Cost], field: str = "cpu_s") -> float:
    """Return the median cost."""
    return float(statistics.median(getattr(cost, field) for cost in costs))


def peak_memory_mb() -> float:
    """Return the largest resident memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ingest_in_process(source: Path, store: Path, config: IngestConfig | None = None) -> Tally:
    """Do what a job does, in this process: find, plan, read, verify, write, commit. Return what landed."""
    chosen = config or IngestConfig()
    objects = open_objects(str(store))
    create_store(objects)
    items, _, _ = find_items([str(source)], {}, [])
    plan = make_plan(items, Catalog(objects), chosen)
    committer = Committer(objects, new_job_id(), "bench", "")
    for number, unit_items in enumerate(plan.units):
        committer.add(ingest_unit(Unit(number, objects.url, {}, {}, committer.job, tuple(unit_items), chosen)).outcomes)
    committer.finish({})
    if committer.tally.rejected:
        raise RuntimeError(f"bench: {committer.tally.rejected} recordings of {source} were rejected: {committer.tally.rejects[0]}")
    return committer.tally


def _records(path: Path) -> Iterator[bytes]:
    """Yield the payloads of a TFRecord file with both checksums verified, copied once: the floor's own few lines."""
    import google_crc32c

    def verify(data: bytes, stored: bytes) -> None:
        crc = google_crc32c.value(data)
        if ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF) != int.from_bytes(stored, "little"):
            raise RuntimeError(f"{path}: bad checksum")

    with open(path, "rb", buffering=1 << 20) as handle:
        while header := handle.read(12):
            verify(header[:8], header[8:])
            payload = handle.read(int.from_bytes(header[:8], "little"))
            verify(payload, handle.read(4))
            yield payload


def rlds_floor(source: Path, target: Path) -> None:
    """Read every shard, verify both checksums of every record, digest it, write it once, flush it to the disk."""
    target.mkdir(parents=True, exist_ok=True)
    for shard in sorted(source.rglob("*.tfrecord*")):
        with open(target / shard.name, "wb", buffering=1 << 20) as out:
            for payload in _records(shard):
                digest = new_digest()
                digest.update(payload)
                digest.hexdigest()
                out.write(payload)
            out.flush()
            os.fsync(out.fileno())


def bench_rlds(work: Path, size_bytes: int, repeats: int) -> dict[str, Any]:
    """Ingest RLDS beside the floor; `rlds_time_over_floor` is the ratio of CPU seconds."""
    from dataengine.samples.bulk import write_bulk_rlds

    source = work / "rlds"
    if not source.exists():
        write_bulk_rlds(source, episodes=max(8, round(1000 * size_bytes / (1 << 30))), size_bytes=size_bytes)
    size = sum(path.stat().st_size for path in source.rglob("*.tfrecord*"))
    landed: list[Tally] = []
    ours, floor = in_turn(repeats, work / "out", lambda: landed.append(ingest_in_process(source, work / "out")), lambda: rlds_floor(source, work / "out"))
    return {
        "rlds_bytes": size,
        "rlds_episodes": landed[0].landed,
        "rlds_steps": landed[0].steps,
        "rlds_cpu_s": median(ours),
        "rlds_floor_cpu_s": median(floor),
        "rlds_time_over_floor": median_ratio(ours, floor),
        "rlds_wall_over_floor": median_ratio(ours, floor, "wall_s"),
        "rlds_mb_per_cpu_s": size / 1e6 / median(ours),
        "rlds_peak_memory_mb": peak_memory_mb(),
    }


def bare_mcap(source: Path) -> int:
    """Iterate over all messages with checksums and without decoding, with the format's own library; return how many there are."""
    from mcap.reader import make_reader

    messages = 0
    with open(source, "rb") as handle:
        for _ in make_reader(handle, validate_crcs=True).iter_messages(log_time_order=False):
            messages += 1
    return messages


def bench_mcap(work: Path, size_bytes: int, repeats: int) -> dict[str, Any]:
    """Ingest MCAP beside a bare iteration over its messages; `mcap_rate_of_bare` is the ratio of message rates, by CPU time."""
    from dataengine.samples.bulk import write_bulk_mcap

    source = work / "mcap"
    if not source.exists():
        source.mkdir(parents=True)
        write_bulk_mcap(source / "teleop.mcap", size_bytes=size_bytes)
    path = source / "teleop.mcap"
    messages: list[int] = []
    ours, bare = in_turn(repeats, work / "out", lambda: ingest_in_process(source, work / "out"), lambda: messages.append(bare_mcap(path)))
    return {
        "mcap_bytes": path.stat().st_size,
        "mcap_messages": messages[0],
        "mcap_cpu_s": median(ours),
        "mcap_bare_cpu_s": median(bare),
        "mcap_rate_of_bare": median_ratio(bare, ours),
        "mcap_wall_rate_of_bare": median_ratio(bare, ours, "wall_s"),
        "mcap_peak_memory_mb": peak_memory_mb(),
    }


def bench_video(work: Path, size_bytes: int, repeats: int) -> dict[str, Any]:
    """Ingest kept video beside one buffered read and write of the same files with the same flush; `video_rate_of_copy` is the ratio of rates."""
    from dataengine.samples.bulk import write_bulk_video

    source = work / "video"
    if not source.exists():
        write_bulk_video(source, size_bytes)
    files = [path for path in sorted(source.rglob("*")) if path.suffix == ".mp4"]

    def copy() -> None:
        for path in files:
            (work / "out").mkdir(exist_ok=True)
            with open(path, "rb") as origin, open(work / "out" / path.name, "wb") as target:
                shutil.copyfileobj(origin, target, READ_BYTES)
                target.flush()
                os.fsync(target.fileno())

    ours, copied = in_turn(repeats, work / "out", lambda: ingest_in_process(source, work / "out"), copy)
    return {"video_bytes": sum(path.stat().st_size for path in files), "video_rate_of_copy": median_ratio(copied, ours, "wall_s")}


def bench_ingest(work: Path, size_bytes: int, repeats: int, peers: Path | None) -> dict[str, Any]:
    """Run all ingest benchmarks."""
    found = bench_rlds(work, size_bytes, repeats) | bench_mcap(work, size_bytes, repeats) | bench_video(work, size_bytes, repeats)
    if peers is not None:
        from pipelines.bench_peers import bench_tfds_lerobot

        found |= bench_tfds_lerobot(work / "rlds", peers, found["rlds_cpu_s"], found["rlds_episodes"], found["rlds_steps"])
    return found
