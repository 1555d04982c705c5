"""The catalogue benchmark: a million episodes in thousands of commits, opened and filtered, and version 1 after the log has aged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from dataengine.core.digest import digest_bytes
from dataengine.core.objects import open_objects
from dataengine.store.catalog import Catalog, Change
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.naming import name_version
from dataengine.store.row import Row
from dataengine.store.store import create_store, open_store

TASKS = ("close the drawer", "open the drawer", "pick the can", "push the red block to the left", "fold the towel", "pour the cup")
DATASETS = 20
COMPACT_EVERY = 250
FEATURES = digest_bytes(b"features")  # of a document that this benchmark does not need


def episode_row(number: int, dataset: str, job: str, commit: int) -> Row:
    """Return a catalog row as an ingest job writes it, for an episode that does not exist."""
    episode_id = digest_bytes(f"bench {number}".encode())
    return {
        "kind": "episode",
        "dataset": dataset,
        "fact": episode_id,
        "episode_id": episode_id,
        "reading": digest_bytes(b"bench"),
        "reader": "rlds",
        "reader_version": "1",
        "job": job,
        "job_commit": commit,
        "embodiment": "widowx_250",
        "origin": "teleop",
        "tasks": [TASKS[number % len(TASKS)]],
        "success": number % 3 > 0,
        "splits": ["train" if number % 10 else "val"],
        "duration_ns": 10_000_000_000 + number,
        "steps": 40 + number % 50,
        "rate_hz": 5.0,
        "clock": "nominal",
        "flags": [],
        "figures": [{"name": "moved", "value": 0.5}],
        "features": FEATURES,
        "shard": f"{job}-{number // 200:05d}",
        "ordinal": number % 200,
        "bytes": 1_000_000,
        "action_source": "commanded",
        "lossy": False,
        "metadata": json.dumps({"file_path": f"/data/{number}"}),
        "source_uri": f"/data/{dataset}/{number // 200}.tfrecord",
        "source_key": str(number % 200),
        "created_ns": time.time_ns(),
    }


def build(store: Path, episodes: int, commits: int, progress: Callable[[str, int, int], None]) -> None:
    """Write a catalogue by the very commits that jobs make, with the compaction that they do at their ends."""
    objects = open_objects(str(store))
    create_store(objects)
    catalog = Catalog(objects)
    each = -(-episodes // commits)
    job, number = "", 0
    heartbeat: Heartbeat | None = None
    for commit in range(commits):
        if commit % COMPACT_EVERY == 0:
            if heartbeat is not None:
                catalog.compact([f"set-{at:02d}" for at in range(DATASETS)])
                name_version(objects, job, "bench", "", {}, {})
                heartbeat.end("ended")
            job, number = new_job_id(), 0
            heartbeat = Heartbeat(objects, job, "bench")
        number += 1
        dataset = f"set-{commit % DATASETS:02d}"
        rows = [episode_row(at, dataset, job, number) for at in range(commit * each, min(episodes, (commit + 1) * each))]
        catalog.commit(job, number, [dataset], lambda table, rows=rows: Change(rows))  # type: ignore[misc]
        if commit % 100 == 99:
            progress("commits", commit + 1, commits)
    if heartbeat is not None:
        catalog.compact([f"set-{at:02d}" for at in range(DATASETS)])
        name_version(objects, job, "bench", "", {}, {})
        heartbeat.end("ended")


def age(store: Path, days: int) -> None:
    """Set the files' times back, as if the store had been written long ago."""
    then = time.time() - days * 86_400
    for path in sorted(store.rglob("*")):
        if path.is_file():
            os.utime(path, (then, then))


def bench_catalog(work: Path, episodes: int, commits: int, repeats: int, progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Open and filter a catalogue of `episodes`; then age it, commit 200 more times, compact, checkpoint, and read version 1 again."""
    store = work / f"catalog-{episodes}-{commits}"
    built = None
    if not (store / "bench-done").exists():
        started = time.perf_counter()
        build(store, episodes, commits, progress)
        built = time.perf_counter() - started
        (store / "bench-done").write_text("")
    first = open_store(f"{store}@1").episodes().select("episode_id", "steps").collect()
    opened, filtered = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        fresh = open_store(str(store))
        fresh.episodes().collect_schema()
        opened.append(time.perf_counter() - started)
        started = time.perf_counter()
        found = (
            fresh.episodes()
            .filter((pl.col("dataset") == "set-07") & pl.col("tasks").list.contains("fold the towel"))
            .select("episode_id", "shard", "ordinal")
            .collect()
        )
        filtered.append(time.perf_counter() - started)
    total = int(open_store(str(store)).episodes().select(pl.len()).collect().item())
    age(store, 60)
    objects = open_objects(str(store))
    catalog = Catalog(objects)
    job = new_job_id()
    heartbeat = Heartbeat(objects, job, "bench")
    for commit in range(200):
        row = episode_row(episodes + int(time.time_ns()) + commit, "set-00", job, commit + 1)
        catalog.commit(job, commit + 1, ["set-00"], lambda table, row=row: Change([row]))  # type: ignore[misc]
    catalog.compact(["set-00"])
    catalog.table().create_checkpoint()
    name_version(objects, job, "bench", "", {}, {})
    heartbeat.end("ended")
    again = open_store(f"{store}@1").episodes().select("episode_id", "steps").collect()
    result = {
        "catalog_episodes": total,
        "catalog_commits": commits,
        "catalog_open_s": sorted(opened)[len(opened) // 2],
        "catalog_filter_s": sorted(filtered)[len(filtered) // 2],
        "catalog_filter_found": found.height,
        "catalog_version_1_episodes": first.height,
        "catalog_version_1_equal_after_ageing": again.sort("episode_id").equals(first.sort("episode_id")),
    }
    return result | ({"catalog_build_s": built} if built is not None else {})
