"""What `gc` takes and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.core.errors import CorruptStore, StoreError, UsageError, VersionNotFound
from dataengine.core.objects import Objects
from dataengine.schema.schema import validate
from dataengine.store.catalog import Catalog
from dataengine.store.jobs import Heartbeat, read_job
from dataengine.store.refs import put_tag
from dataengine.store.store import Store
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.removal import plan_removal, remove, restore
from tests.support.films import numbered, write_film
from tests.support.stores import Made, begin, die, land, new_store, rows_at


def keys(objects: Objects) -> set[str]:
    return {meta.key for meta in objects.list()}


def collected(objects: Objects, *forget: int, **how: bool) -> dict[str, object]:
    return collect(objects, plan_gc(objects, forget, **how), "gc")


def require_sound(objects: Objects) -> None:
    """Assert that nothing is left over and nothing is missing, in every version."""
    assert unreferenced(objects) == []
    for number in [int(path.stem) for path in (Path(objects.url) / "versions").glob("*.json")]:
        assert faults(check(Store(objects, str(number)), deep=True)) == []


def test_nothing_goes_from_a_tidy_store(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1), Made(2, big=True)], source="/a")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a[0]}'"), "rm")
    before = keys(objects)
    plan = plan_gc(objects)
    assert (plan.objects, plan.forgotten, plan.dead_jobs, plan.alive_jobs, plan.empty) == ((), (), (), (), True)
    record = collect(objects, plan)
    assert record["count"] == 0
    assert {key for key in keys(objects) - before if not key.startswith("jobs/")} == set(), "nothing is written about nothing"
    require_sound(objects)


def test_leftovers_of_a_dead_job_go_and_its_commits_stay(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    film = write_film(tmp_path.parent / f"{tmp_path.name}.mp4", numbered(6))
    land(objects, [Made(1)], source="/a")
    dead = begin(objects, [Made(2)], source="/b")
    lost = begin(objects, [Made(3, film=film)], source="/c", commit=False)
    die(dead)
    die(lost)
    (tmp_path / "streams" / "lab" / ".index.parquet.0123456789abcdef0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "jobs" / "20260101t000000-00000000.probe").write_bytes(b"1")
    plan = plan_gc(objects)
    assert set(plan.dead_jobs) == {dead.heartbeat.job, lost.heartbeat.job}
    tops = {key.split("/")[0] for key, _ in plan.objects}
    assert tops == {"streams", "steps", "media", "jobs"}
    assert not any(dead.heartbeat.job in key for key, _ in plan.objects)
    assert plan.bytes == sum(objects.head(key).size for key, _ in plan.objects)  # type: ignore[union-attr]
    record = collect(objects, plan, "gc")
    assert (record["count"], record["bytes"], record["forgotten"]) == (len(plan.objects), plan.bytes, [])
    (document,) = [json.loads(path.read_text()) for path in (tmp_path / "removed").iterdir()]
    assert document == record
    assert validate("removed", document) == []
    require_sound(objects)
    assert [row["episode_id"] for row in rows_at(objects) if row["kind"] == "episode"].count(dead.ids[0]) == 1
    assert read_job(objects, lost.heartbeat.job).state == "failed"  # type: ignore[union-attr]
    assert plan_gc(objects).empty


def test_a_job_that_was_thought_dead_can_commit_nothing_any_more(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    zombie = begin(objects, [Made(2)], source="/b", commit=False)
    die(zombie)
    collected(objects)
    zombie.committer._require_payload = lambda outcomes: None  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="was ended by another process"):
        zombie.committer.flush()
    assert [row["kind"] for row in rows_at(objects)].count("episode") == 1


def test_beside_a_job_at_work_its_payload_and_what_is_shared_stay(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    film = write_film(tmp_path.parent / f"{tmp_path.name}.mp4", numbered(6))
    land(objects, [Made(1)], source="/a")
    dead = begin(objects, [Made(3)], source="/c", commit=False)
    die(dead)
    running = begin(objects, [Made(2, film=film)], source="/b", commit=False)
    plan = plan_gc(objects)
    assert plan.alive_jobs == (running.heartbeat.job,)
    assert plan.objects
    assert all(dead.heartbeat.job in key for key, _ in plan.objects)
    collect(objects, plan)
    running.committer.flush()
    running.end()
    require_sound(objects)
    assert Store(objects).read_episode(running.ids[0]).streams["observation.images.film"].values is not None


def test_an_object_that_was_planned_and_is_needed_by_now_stays(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    job = begin(objects, [Made(1)], commit=False)
    job.heartbeat.end("failed")
    plan = plan_gc(objects)
    assert plan.objects
    job.committer.flush()
    job.end()
    assert collect(objects, plan)["count"] == 0
    require_sound(objects)


def test_forgotten_versions_go_with_what_only_they_needed(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    film = write_film(tmp_path.parent / f"{tmp_path.name}.mp4", numbered(6))
    a = land(objects, [Made(1, film=film)], source="/a")
    b = land(objects, [Made(2)], source="/b")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a[0]}'"), "rm")
    before = keys(objects)
    record = collected(objects, 1)
    assert record["forgotten"] == [1]
    assert a[0] in Store(objects, "2").episodes().collect()["episode_id"].to_list()
    assert Store(objects, "2").read_trajectory(a[0]).steps == 8, "version 2 still needs it"
    with pytest.raises(VersionNotFound, match=r"@1: this version was forgotten by \S+ on 20\d\d-"):
        Store(objects, "1")
    collected(objects, 2)
    gone = {key.split("/")[0] for key in before - keys(objects)}
    assert gone == {"versions", "catalog", "datasets", "media", "streams", "steps"}
    assert not any(key.startswith("media/") for key in keys(objects))
    assert Store(objects).episodes().collect()["episode_id"].to_list() == b
    require_sound(objects)
    land(objects, [Made(5)], source="/e")
    assert Store(objects).version.number == 4  # type: ignore[union-attr]


def test_what_must_not_be_forgotten_is_refused(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    for number in range(3):
        land(objects, [Made(number)], source=f"/{number}")
    put_tag(objects, "paper", 1)
    with pytest.raises(UsageError, match="@3: is the newest version"):
        plan_gc(objects, [3])
    with pytest.raises(UsageError, match="has the tag 'paper'"):
        plan_gc(objects, [1, 2])
    with pytest.raises(VersionNotFound, match="no such version"):
        plan_gc(objects, [8])
    heartbeat = Heartbeat(objects, "20260101t000000-00000000", "ingest /x")
    with pytest.raises(StoreError, match="no other job at work"):
        plan_gc(objects, [2])
    heartbeat.end("ended")
    record = collected(objects, 1, drop_tags=True)
    assert record["tags"] == ["paper"]
    with pytest.raises(VersionNotFound, match="no such tag"):
        Store(objects, "paper")


def test_states_between_versions_go(tmp_path: Path) -> None:
    """Data files of commits that no version names, because they were compacted before the job ended, are nobody's."""
    objects = new_store(tmp_path)
    job = begin(objects, [Made(1)], source="/a")
    Catalog(objects).compact(["lab"])
    job.end()
    more = begin(objects, [Made(2)], source="/b")
    Catalog(objects).compact(["lab"])
    more.end()
    orphan = tmp_path / "catalog" / "kind=episode" / "dataset=lab" / "part-00000-lost-a-race-c000.snappy.parquet"
    orphan.write_bytes(b"PAR1")
    (tmp_path / "catalog" / "_delta_log" / "_commit_0b8f.json.tmp").write_bytes(b"{")
    record = collected(objects)
    assert {Path(str(key)).name for key in record["objects"]} >= {orphan.name, "_commit_0b8f.json.tmp"}  # type: ignore[attr-defined]
    require_sound(objects)
    restore(objects, "1", "restore")
    assert Store(objects).episodes().collect()["episode_id"].to_list() == job.ids


def test_other_peoples_files_stay(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)])
    for name in ("README.md", "media/notes.txt", "catalog/notes.txt", "mine/data.bin", "streams/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert plan_gc(objects).empty


def test_nothing_is_removed_from_a_damaged_store(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)])
    dead = begin(objects, [Made(2)], commit=False)
    die(dead)
    index = next((tmp_path / "streams").glob(f"lab/{Store(objects).row(Store(objects).episodes().collect()['episode_id'][0])['shard']}/index.parquet"))
    data = index.read_bytes()
    index.unlink()
    with pytest.raises(CorruptStore, match="expected a shard's index, found none; restore it"):
        plan_gc(objects)
    index.write_bytes(data)
    part = next((tmp_path / "catalog" / "kind=episode").rglob("*.parquet"))
    part.unlink()
    with pytest.raises(CorruptStore, match="expected a data file of the catalog, found none; restore it"):
        plan_gc(objects)
