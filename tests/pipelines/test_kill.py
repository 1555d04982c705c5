"""A job that is killed at any moment, the whole process group at once, and then run again, ends as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from dataengine.core.objects import open_objects
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from tests.support.jobs import LANDED, Content, content, dataengine, episodes, finish, kill_group, require_whole, start, versions
from tests.support.plain_reader import faults


def measured_s(sources: Path, config: Path, store: Path, *more: str) -> float:
    """Return how long an uninterrupted job takes on this machine now."""
    started = time.monotonic()
    done = dataengine("ingest", sources, "--store", store, "--config", config, *more)
    assert done.code == 0, done.err
    return time.monotonic() - started


def run_to_the_end(sources: Path, config: Path, store: Path, whole: Content, *more: str) -> None:
    """Run the job again until its end, and compare what is there with what an uninterrupted job leaves."""
    done = finish(start("ingest", sources, "--store", store, "--config", config, "--json", *more))
    assert done.code == 0, done.err
    report = done.json
    require_whole(report)
    assert report["found"] == 18
    assert content(store).differences(whole) == []
    assert len(episodes(store)) == LANDED


def require_clean(store: Path) -> None:
    """Run gc and assert that it leaves what is referred to, all of it, and nothing else."""
    before = content(store)
    objects = open_objects(str(store))
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert content(store).differences(before) == []
    assert faults(store) == []
    kept = {path.parent.name for path in store.glob("streams/*/*/index.parquet")}
    assert kept == {row["shard"] for row in episodes(store)}


def killed_and_ended(sources: Path, config: Path, store: Path, whole: Content, moments: list[float], *more: str) -> int:
    """Kill one job after the other at the given moments, then run to the end. Return how many were at work when they were killed."""
    killed = 0
    for moment in moments:
        known = {number: content(store, number) for number in versions(store)}
        killed += kill_group(start("ingest", sources, "--store", store, "--config", config, *more), moment)
        for number, before in known.items():
            assert content(store, number).differences(before) == [], f"version {number} changed after a kill"
    run_to_the_end(sources, config, store, whole, *more)
    require_clean(store)
    return killed


def test_killed_six_times(tmp_path: Path, sources: Path, config: Path, whole: Content, whole_s: float) -> None:
    rng = random.Random(20)
    for half in range(2):  # two stores, killed three times each, anywhere from the start of the process to its end
        moments = [whole_s * rng.uniform((third + half / 2) / 3, (third + half / 2 + 0.5) / 3) for third in range(3)]
        rng.shuffle(moments)
        killed_and_ended(sources, config, tmp_path / f"store{half}", whole, moments, "--local")


def test_killed_while_a_second_source_comes_in(tmp_path: Path, sources: Path, config: Path, whole: Content) -> None:
    """What stood in version 1 stays readable, and equal, while a later job is killed."""
    store = tmp_path / "store"
    first = dataengine("ingest", sources / "aloha-towel", "--store", store, "--config", config, "--local")
    assert first.code == 0, first.err
    before = content(store, 1)
    started = time.monotonic()
    process = start("ingest", sources, "--store", store, "--config", config, "--local")
    deadline = started + 60
    while len(list(store.glob("catalog/_delta_log/*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert kill_group(process, 0.0)
    assert versions(store) == [1]
    assert content(store, 1).differences(before) == []
    assert {row["dataset"] for row in episodes(store)} == {"aloha-towel"}
    run_to_the_end(sources, config, store, whole, "--local")
    assert content(store, 1).differences(before) == []
    require_clean(store)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_forty_times(tmp_path: Path, sources: Path, config: Path, whole: Content) -> None:
    whole_s = measured_s(sources, config, tmp_path / "measured", "--local")
    rng = random.Random(40)
    killed = number = 0
    while killed < 40:
        moments = [whole_s * rng.uniform(0.05, 1.0) for _ in range(rng.randint(1, 3))]
        store = tmp_path / f"store{number}"
        killed += killed_and_ended(sources, config, store, whole, moments, "--local")
        shutil.rmtree(store)
        number += 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_killed_ten_times_under_ray(tmp_path: Path, sources: Path, config: Path, whole: Content) -> None:
    whole_s = measured_s(sources, config, tmp_path / "measured")
    rng = random.Random(10)
    killed = number = 0
    while killed < 10:
        moments = [whole_s * rng.uniform(0.3, 1.0) for _ in range(2)]
        store = tmp_path / f"store{number}"
        killed += killed_and_ended(sources, config, store, whole, moments)
        shutil.rmtree(store)
        number += 1
