"""A sound store has no faults; whatever is damaged in it is named, with the episode and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataengine.core.objects import Objects
from dataengine.core.problem import Problem
from dataengine.store.catalog import Catalog, Change
from dataengine.store.refs import put_tag
from dataengine.store.store import Store
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc
from dataengine.versions.removal import plan_removal, remove
from tests.support.films import numbered, write_film
from tests.support.stores import Made, begin, die, land, new_store, rows_at

SHARD = "streams/lab/*"
ARRAYS = f"{SHARD}/arrays.zarr"


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    """A store with every form that a stream can have, several chunks, a reject and a tag."""
    film = write_film(tmp_path / "film.mp4", numbered(12))
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1, big=True, raw=True), Made(2, big=True), Made(3, film=film, metadata={"operator": "x"})], source="/a", rejects=1)
    put_tag(objects, "paper", 1)
    return objects


def found(objects: Objects, deep: bool = True, ref: str | None = None) -> list[Problem]:
    return faults(check(Store(objects, ref), deep=deep))


def the(objects: Objects, pattern: str) -> Path:
    """Return the first file that a pattern names."""
    return sorted(path for path in Path(objects.url).glob(pattern) if path.is_file())[0]


def test_a_sound_store_has_no_fault_and_progress_is_told(store: Objects) -> None:
    told: list[tuple[str, int, int]] = []
    assert check(Store(store), deep=False) == []
    assert check(Store(store), deep=True, progress=lambda *what: told.append(what)) == []
    assert told == [("checking shards", 0, 1), ("checking shards", 1, 1)]
    assert check(Store(new_store(Path(store.url).parent / "empty")), deep=True) == []


def flip(place: float) -> Callable[[bytes], bytes]:
    """Return a damage: one bit of the byte at a share of the length."""

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[min(len(data) - 1, int(place * len(data)))] ^= 0x10
        return bytes(changed)

    return damage


@pytest.mark.parametrize("place", [0.0, 0.37, 0.71, 1.0])
@pytest.mark.parametrize(
    "pattern",
    [
        f"{SHARD}/index.parquet",
        f"{ARRAYS}/action/values/c/0/0",
        f"{ARRAYS}/observation.wide/values/c/0/0",
        f"{ARRAYS}/action/timestamps_ns/c/0",
        f"{ARRAYS}/action/clock_log_ns/c/0",
        f"{ARRAYS}/action/values/zarr.json",
        f"{ARRAYS}/observation.images.front/data/c/0",
        f"{ARRAYS}/observation.images.front/offsets/c/0",
        f"{ARRAYS}/observation.images.depth/data/c/0",
        f"{ARRAYS}/task/data/c/0",
        f"{SHARD}/videos/*.mp4",
        f"{SHARD}/videos/*.index.parquet",
        "media/*.mp4",
        "steps/lab/*.parquet",
        "catalog/kind=episode/dataset=lab/*.parquet",
        "catalog/kind=source/dataset=lab/*.parquet",
        "catalog/kind=reject/dataset=lab/*.parquet",
        "datasets/lab/*.json",
    ],
)
def test_a_flipped_bit_is_named(store: Objects, pattern: str, place: float) -> None:
    path = the(store, pattern)
    path.write_bytes(flip(place)(path.read_bytes()))
    problems = found(store)
    assert problems
    key = path.relative_to(store.url).as_posix()
    assert any(key in problem.where for problem in problems), problems
    assert all(problem.expected and problem.found and problem.advice and problem.message.startswith(problem.where) for problem in problems)


@pytest.mark.parametrize(
    "pattern",
    ["store.json", "versions/1.json", "tags/paper.json", "jobs/*.json", "datasets/lab/*.json", f"{SHARD}/shard.json", "catalog/_delta_log/*1.json"],
)
@pytest.mark.parametrize("damage", [flip(0.0), lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"[]", lambda data: b"\xff" * 9])
def test_a_damaged_document_is_named(store: Objects, pattern: str, damage: Callable[[bytes], bytes]) -> None:
    path = the(store, pattern)
    opened = Store(store)
    path.write_bytes(damage(path.read_bytes()))
    problems = faults(check(opened, deep=False))
    assert any(path.relative_to(store.url).as_posix() in problem.where or "catalog" in problem.message + problem.advice for problem in problems), problems


@pytest.mark.parametrize(
    "pattern",
    [
        f"{SHARD}/index.parquet",
        f"{SHARD}/shard.json",
        f"{ARRAYS}/action/values/c/0/0",
        f"{SHARD}/videos/*.mp4",
        "media/*.mp4",
        "media/*.index.parquet",
        "steps/lab/*.parquet",
        "catalog/kind=episode/dataset=lab/*.parquet",
        "datasets/lab/*.json",
        "store.json",
    ],
)
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_what_is_missing_or_cut_off_is_named_without_reading_everything(store: Objects, pattern: str, how: str) -> None:
    path = the(store, pattern)
    opened = Store(store)
    data = path.read_bytes()
    path.unlink()
    if how == "cut" and not pattern.startswith("media"):
        path.write_bytes(data[:-1])
    problems = faults(check(opened, deep=False))
    assert any(path.name in problem.where for problem in problems), problems
    assert all(problem.advice for problem in problems)


def test_damage_in_one_episode_names_it_and_no_other(store: Objects) -> None:
    rows = Store(store).episodes().sort("ordinal").collect().to_dicts()
    group = the(store, f"{ARRAYS}/observation.images.front/zarr.json").parent
    from dataengine.store.array_reader import ArrayReader

    ends = ArrayReader(store, (group / "offsets").relative_to(store.url).as_posix()).rows(0, 25)
    data = group / "data" / "c" / "0"
    content = bytearray(data.read_bytes())
    content[int(ends[12]) + 100] ^= 1  # the fifth picture of the second episode
    data.write_bytes(content)
    by_check = {problem.check: problem for problem in found(store)}
    assert set(by_check) == {"wrong_checksum", "wrong_digest"}
    assert by_check["wrong_digest"].episode_id == rows[1]["episode_id"]
    assert "stream 'observation.images.front'" in by_check["wrong_digest"].where
    assert re.fullmatch(r"crc32c [0-9a-f]{8}", by_check["wrong_checksum"].expected)
    assert found(store, deep=False) == []


def test_rows_that_contradict_the_shard_are_named(store: Objects) -> None:
    rows = [row for row in rows_at(store) if row["kind"] == "episode"]
    job = begin(store, [Made(9)], source="/z", dataset="other")
    wrong = [
        rows[0] | {"steps": 7},
        rows[1] | {"ordinal": 0},
        rows[2] | {"origin": "dream", "rate_hz": -1.0, "metadata": "{"},
    ]
    Catalog(store).commit(job.heartbeat.job, 2, ["lab"], lambda table: Change([], wrong))
    job.end()
    problems = {(problem.check, problem.episode_id): problem for problem in found(store)}
    ids = [row["episode_id"] for row in rows]
    assert problems["wrong_steps", ids[0]].expected == "7 steps"
    assert problems["wrong_steps", ids[0]].found == "8"
    assert ("not_in_shard", ids[1]) in problems
    assert ("invalid_row", ids[2]) in problems
    assert ("unreadable", ids[2]) in problems
    assert found(store, ref="1") == [], "version 1 is as it was"


def test_an_episode_that_stands_twice_is_named(store: Objects) -> None:
    template = next(row for row in rows_at(store) if row["kind"] == "episode")
    job = begin(store, [Made(9)], source="/z", dataset="other")
    Catalog(store).commit(job.heartbeat.job, 2, ["lab"], lambda table: Change([template]))
    job.end()
    assert [(problem.check, problem.episode_id, problem.found) for problem in found(store, deep=False)] == [("row_twice", template["episode_id"], "2")]


def test_steps_that_name_frames_that_are_not_there(store: Objects) -> None:
    path = the(store, "steps/lab/*.parquet")
    file = pq.ParquetFile(path)
    tables = [file.read_row_group(group) for group in range(file.num_row_groups)]
    name = "observation.images.front"
    frames = tables[1][name].to_numpy().copy()
    frames[-1] = 99
    tables[1] = tables[1].set_column(tables[1].column_names.index(name), tables[1].schema.field(name), [frames])
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=len(table))
    rows = Store(store).episodes().sort("ordinal").collect()["episode_id"]
    problem = next(problem for problem in found(store) if problem.check == "no_such_row")
    assert (problem.episode_id, problem.expected, problem.found) == (rows[1], "rows 0 to 7", "rows 0 to 99")


def test_other_peoples_files_in_a_shard_are_a_warning(store: Objects) -> None:
    the(store, f"{SHARD}/index.parquet").with_name("notes.txt").write_text("mine")
    (problem,) = check(Store(store), deep=True)
    assert (problem.check, problem.severity) == ("unlisted_file", "warning")


def test_what_is_odd_in_a_recording_is_told_apart_from_faults(tmp_path: Path) -> None:
    class Frozen(Made):
        def state(self) -> np.ndarray:
            return np.full((self.rows, 3), 1.5)

    objects = new_store(tmp_path)
    (a,) = land(objects, [Frozen(1, rows=40)])
    shallow, deep = check(Store(objects)), check(Store(objects), deep=True)
    assert faults(shallow) == faults(deep) == []
    assert {problem.check for problem in shallow} == {"frozen_signal", "idle_episode"} == {problem.check for problem in deep if problem.severity == "warning"}
    assert {problem.episode_id for problem in (*shallow, *deep)} == {a}
    told = next(problem for problem in deep if problem.check == "frozen_signal")
    assert "the same numbers in all 40 rows" in told.message


def test_checksums_of_the_catalog_outlive_forgotten_versions(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    (b,) = land(objects, [Made(2)], source="/b")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{b}'"), "rm")
    collect(objects, plan_gc(objects, [1, 2]))
    assert found(objects) == []
    path = the(objects, "catalog/kind=source/dataset=lab/*.parquet")
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    assert "wrong_checksum" in {problem.check for problem in found(objects)}


def test_hidden_rows_of_a_dead_job_are_not_checked(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    dead = begin(objects, [Made(2)], source="/b")
    die(dead)
    land(objects, [Made(3)], source="/c")
    (objects.local(f"streams/lab/{dead.outcome.episodes[0]['shard']}/index.parquet") or Path()).write_bytes(b"")
    assert found(objects) == []
    assert json.dumps([problem.as_dict() for problem in found(objects, ref="open")]).count(dead.ids[0]) > 0
