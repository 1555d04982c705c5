"""Two jobs at the same time, of different and of the same recordings: each episode once, and neither fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.core.objects import open_objects
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from tests.support.jobs import LANDED, Content, content, episodes, finish, require_whole, start, versions
from tests.support.plain_reader import faults


def require_sound(store: Path) -> None:
    """Run gc, and assert that the store is what the format says, with nothing in it that nobody refers to."""
    objects = open_objects(str(store))
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert faults(store) == []


def test_the_same_source_twice_at_once(sources: Path, config: Path, whole: Content, tmp_path: Path) -> None:
    store = tmp_path / "store"
    jobs = [start("ingest", sources, "--store", store, "--config", config, "--local", "--json", "--workers", "1") for _ in range(2)]
    done = [finish(job) for job in jobs]
    for call in done:
        assert call.code == 0, call.err
        require_whole(call.json)
        assert call.json["found"] == 18
    assert sum(call.json["landed"] for call in done) == LANDED
    assert content(store).differences(whole) == []
    last = max(call.json["version"] for call in done)
    assert versions(store)[-1] == last
    for number in versions(store):  # whoever was first: what it skipped, because the other had it, its version shows
        landed = list(episodes(store, number))
        assert len({row["episode_id"] for row in landed}) == len(landed)
    for call in done:
        assert len(episodes(store, call.json["version"])) == LANDED
    require_sound(store)


def test_different_sources_of_one_dataset_at_once(sources: Path, config: Path, tmp_path: Path) -> None:
    """Two folders go into one dataset; one recording stands in both, and both bring the dataset's first features."""
    store = tmp_path / "store"
    towel = sorted((sources / "aloha-towel").iterdir())
    ways = []
    for name, files in (("a", towel[:3]), ("b", towel[2:])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        ways.append(tmp_path / name)
    jobs = [start("ingest", way, "--dataset", "towel", "--store", store, "--config", config, "--local", "--json", "--workers", "1") for way in ways]
    done = [finish(job) for job in jobs]
    for call in done:
        assert call.code == 0, call.err
        require_whole(call.json)
    assert [call.json["found"] for call in done] == [3, 2]
    assert sum(call.json["landed"] for call in done) == 4
    assert sum(call.json["skipped"] for call in done) == 1
    assert len(episodes(store)) == 4
    require_sound(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_jobs_at_once(sources: Path, config: Path, whole: Content, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for _ in range(3):
        jobs = [start("ingest", sources, "--store", store, "--config", config, "--local", "--json", "--workers", "1") for _ in range(6)]
        done = [finish(job, 300.0) for job in jobs]
        assert [call.code for call in done] == [0] * 6
        assert content(store).differences(whole) == []
    require_sound(store)
