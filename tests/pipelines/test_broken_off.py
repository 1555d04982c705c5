"""A job that breaks off right before or right after any of its steps, and is run again, ends as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dataengine.store.catalog
import dataengine.store.commit
import dataengine.store.jobs
import dataengine.store.media
import dataengine.store.media_lane
import dataengine.store.naming
import dataengine.store.shard
import pipelines.ingest
import pipelines.unit
from dataengine.core.objects import LocalObjects, open_objects
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Report, run
from tests.support.jobs import Content, Inline, content, episodes, versions
from tests.support.plain_reader import faults

SMALL = IngestConfig.model_validate({"units": {"recordings": 2}, "commits": {"every_s": 0.0}})


class BrokenOff(BaseException):
    """The power went."""


# Every step that changes a store: where it is, what it is called, and how often it happens in the job below (so often it is broken off).
STEPS: dict[str, tuple[Any, str, tuple[int, ...]]] = {
    "create the catalog": (dataengine.store.catalog.Catalog, "create", (0,)),
    "beat": (dataengine.store.jobs.Heartbeat, "_write", (0,)),
    "read a unit": (pipelines.ingest, "ingest_unit", (1,)),
    "keep a video": (dataengine.store.media_lane, "put_media", (1,)),
    "write frame indexes": (dataengine.store.media_lane.KeptFiles, "write_indexes", (2,)),
    "close a shard": (dataengine.store.shard.ShardWriter, "close", (0, 2)),
    "write steps": (dataengine.store.shard, "write_steps", (1,)),
    "write features": (dataengine.store.commit.Committer, "_put_documents", (0,)),
    "commit": (dataengine.store.catalog.Catalog, "commit", (0, 2)),
    "write the log": (dataengine.store.catalog, "write_deltalake", (1,)),
    "compact": (dataengine.store.catalog.Catalog, "compact", (0,)),
    "name the version": (dataengine.store.naming, "put_version", (0,)),
    "end": (dataengine.store.jobs.Heartbeat, "end", (0,)),
}
CASES = [(step, nth, when) for step, (_, _, times) in STEPS.items() for nth in times for when in ("before", "after")]


def breaking(function: Callable[..., Any], nth: int, when: str) -> Callable[..., Any]:
    """Return a function that does the same until its nth call, and breaks off right before or right after that."""
    calls = iter(range(10**6))

    def call(*words: Any, **more: Any) -> Any:
        number = next(calls)
        if number == nth and when == "before":
            raise BrokenOff
        result = function(*words, **more)
        if number == nth and when == "after":
            raise BrokenOff
        return result

    return call


def ingest(sources: Path, store: Path) -> Report:
    """Ingest four recordings of ALOHA and two films, in three units."""
    return run(IngestJob((str(sources / "aloha-towel"), str(sources / "films")), str(store), config=SMALL), Inline())


@pytest.fixture(scope="module")
def whole_here(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Return what an uninterrupted job leaves."""
    store = tmp_path_factory.mktemp("whole") / "store"
    report = ingest(sources, store)
    assert (report.landed, report.units) == (6, 3)
    return content(store)


@pytest.mark.parametrize(("step", "nth", "when"), CASES, ids=[f"{when}-{step}-{nth}".replace(" ", "_") for step, nth, when in CASES])
def test_broken_off(step: str, nth: int, when: str, sources: Path, whole_here: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    place, name, _ = STEPS[step]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, breaking(getattr(place, name), nth, when))
        with pytest.raises(BrokenOff):
            ingest(sources, store)
    named = bool(versions(store))
    assert named == ((step, when) in {("name the version", "after"), ("end", "before"), ("end", "after")})
    report = ingest(sources, store)
    assert (report.found, report.rejected) == (6, 0)
    assert content(store).differences(whole_here) == []
    objects = open_objects(str(store))
    assert isinstance(objects, LocalObjects)
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert faults(store) == []
    assert content(store).differences(whole_here) == []
    again = ingest(sources, store)
    assert (again.found, again.skipped, again.version) == (6, 6, report.version)


def test_broken_off_again_and_again(sources: Path, whole_here: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same store through every break, one after the other: nothing that one of them left confuses the next."""
    store = tmp_path / "store"
    for step, nth, when in CASES:
        place, name, _ = STEPS[step]
        with monkeypatch.context() as patch:
            patch.setattr(place, name, breaking(getattr(place, name), nth, when))
            try:
                ingest(sources, store)
            except BrokenOff:
                continue
    ingest(sources, store)
    assert content(store).differences(whole_here) == []


def test_a_dead_job_that_had_begun_to_read_anew_hides_nothing(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new reading replaces rows as it goes. Killed half-way, neither the old nor the new ones may be missing from what another job names."""
    folder = tmp_path / "sources"
    shutil.copytree(sources / "aloha-towel", folder / "aloha-towel")
    store = tmp_path / "store"
    first = run(IngestJob((str(folder),), str(store), config=SMALL), Inline())
    assert first.version == 1
    before = content(store, 1)
    ids = {row["episode_id"] for row in episodes(store, 1)}
    with_rate = SMALL.model_copy(update={"rate_hz": 25.0})
    with monkeypatch.context() as patch:
        catalog = dataengine.store.catalog.Catalog
        patch.setattr(catalog, "commit", breaking(catalog.commit, 0, "after"))
        with pytest.raises(BrokenOff):
            run(IngestJob((str(folder),), str(store), config=with_rate), Inline())
    other = run(IngestJob((str(sources / "films"),), str(store), config=SMALL), Inline())
    assert other.version == 2
    towel = [row for row in episodes(store, 2) if row["dataset"] == "aloha-towel"]
    assert {row["episode_id"] for row in towel} == ids
    assert len(towel) == 4
    assert sorted(row["rate_hz"] or 0.0 for row in towel) == [0.0, 0.0, 25.0, 25.0]
    assert content(store, 1).differences(before) == []
    last = run(IngestJob((str(folder),), str(store), config=with_rate), Inline())
    assert last.version == 3
    assert {row["rate_hz"] for row in episodes(store) if row["dataset"] == "aloha-towel"} == {25.0}
    assert content(store, 1).differences(before) == []
