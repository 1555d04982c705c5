"""Everything over the S3 protocol, against a real server on this machine: as source, as store, with two writers, and with a store that is careless."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dataengine import open_store
from dataengine.core.cached_objects import CachedObjects
from dataengine.core.errors import AlreadyThere, StoreError
from dataengine.core.objects import open_objects
from dataengine.store.store import Store
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from tests.support.jobs import command, content, dataengine, finish, require_whole
from tests.support.plain_reader import faults
from tests.support.s3_server import S3, serving

pytestmark = pytest.mark.s3

QUICK = ("--local", "--json", "--workers", "1")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def lab(s3: S3, sources: Path) -> str:
    """Return the address of two folders of recordings: four of ALOHA, two films."""
    s3.upload(sources / "films", "lab", "day1/films")
    return s3.upload(sources / "aloha-towel", "lab", "day1/aloha-towel").rpartition("/")[0]


@pytest.fixture(scope="module")
def filled(s3: S3, lab: str) -> str:
    """Return the address of a store that a job filled."""
    s3.client().create_bucket(Bucket="stores")
    call = dataengine("ingest", lab, "--store", "s3://stores/team/robots", *QUICK, environment=s3.environment())
    assert call.code == 0, call.err
    require_whole(call.json)
    assert (call.json["found"], call.json["landed"], call.json["version"]) == (6, 6, 1)
    return "s3://stores/team/robots"


def test_the_store_holds_what_a_local_one_would(s3: S3, filled: str, sources: Path, tmp_path: Path) -> None:
    call = dataengine("ingest", sources / "aloha-towel", sources / "films", "--store", tmp_path / "local", *QUICK)
    assert call.code == 0, call.err
    copy = s3.download("stores", "team/robots", tmp_path / "copy")
    assert faults(copy) == []
    there, here = content(copy), content(tmp_path / "local")
    assert there.streams == here.streams
    assert there.steps == here.steps
    assert len(there.rows) == len(here.rows) == 12


def test_what_is_known_is_not_read(s3: S3, lab: str, filled: str) -> None:
    again = dataengine("ingest", lab, "--store", filled, *QUICK, environment=s3.environment())
    assert again.code == 0, again.err
    assert (again.json["skipped"], again.json["read_bytes"], again.json["version"]) == (6, 0, 1)
    single = dataengine("ingest", f"{lab}/films/episode_000015_front.mp4", "--store", filled, *QUICK, environment=s3.environment())
    assert (single.code, single.json["found"], single.json["skipped"]) == (0, 1, 1)


def test_a_training_ready_copy_goes_from_bucket_to_bucket(s3: S3, filled: str, tmp_path: Path) -> None:
    environment = s3.environment()
    words = ("materialize", filled, "s3://stores/team/small", "--size", "16x24", *QUICK)
    call = dataengine(*words, environment=environment)
    assert call.code == 0, call.err
    require_whole(call.json)
    assert (call.json["found"], call.json["landed"]) == (6, 6)
    again = dataengine(*words, environment=environment)
    assert (again.json["skipped"], again.json["landed"], again.json["version"]) == (6, 0, 1)
    original = s3.download("stores", "team/robots", tmp_path / "original")
    local = dataengine("materialize", original, tmp_path / "local", "--size", "16x24", *QUICK)
    assert local.code == 0, local.err
    copy = s3.download("stores", "team/small", tmp_path / "copy")
    assert faults(copy) == []
    assert content(copy).differences(content(tmp_path / "local")) == []


def test_the_commands_that_look(s3: S3, filled: str) -> None:
    environment = s3.environment()
    rows = dataengine("ls", filled, "--json", environment=environment).json
    assert len(rows) == 6
    film = next(row for row in rows if row["dataset"] == "films")
    shown = dataengine("show", filled, film["episode_id"], "--json", environment=environment)
    assert shown.code == 0, shown.err
    assert "media" in [stream["stored_as"] for stream in shown.json["streams"]]
    checked = dataengine("check", filled, "--deep", "--json", environment=environment)
    assert (checked.code, checked.json["problems"]) == (0, []), checked.err
    assert dataengine("gc", filled, "--yes", environment=environment).code == 0


def test_reading_with_options_instead_of_the_environment(s3: S3, filled: str) -> None:
    store = open_store(filled, storage_options=s3.options())
    rows = store.episodes().sort("dataset", "source_uri").collect().to_dicts()
    film = next(row for row in rows if row["dataset"] == "films")
    episode = store.read_episode(film["episode_id"])
    (camera,) = [name for name in episode.streams if name.startswith("observation.images.")]
    frames = store.read_frames(film["episode_id"], camera, [3, 0, 18])
    assert frames.shape == (3, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert len(np.unique(frames)) > 20
    towel = store.read_trajectory(rows[0]["episode_id"])
    assert towel.steps == 12
    assert towel.columns["action"].shape[0] == 12


def test_reading_through_a_cache(s3: S3, filled: str, tmp_path: Path) -> None:
    def read(store: Store) -> list[bytes]:
        found = []
        for row in store.episodes().sort("episode_id").collect().to_dicts():
            trajectory, episode = store.read_trajectory(row["episode_id"]), store.read_episode(row["episode_id"])
            found += [
                np.ascontiguousarray(trajectory.columns[name]).tobytes() for name in sorted(trajectory.columns) if trajectory.columns[name].dtype != object
            ]
            camera = next(name for name in sorted(episode.streams) if name.startswith("observation.images."))
            found.append(store.read_frames(row["episode_id"], camera, [7, 2]).tobytes())
        return found

    plain = read(open_store(filled, storage_options=s3.options()))
    assert len(plain) > 12
    payload: list[list[str]] = []
    for _ in range(2):
        s3.asked()
        with CachedObjects(open_objects(filled, s3.options(watched=True)), tmp_path / "cache", 1 << 30) as objects:
            assert read(Store(objects)) == plain
        keys = [asked.split() for asked in s3.asked()]
        payload.append([words[0] for words in keys if words[1].removeprefix("/stores/team/robots/").split("/")[0] in ("media", "streams", "steps", "datasets")])
    assert payload[0].count("GET") > 10
    assert payload[1].count("GET") == 0
    assert payload[1].count("HEAD") == payload[0].count("HEAD")  # one for each object


def test_two_jobs_at_once(s3: S3, lab: str, tmp_path: Path) -> None:
    import os
    import subprocess

    from tests.support.shared import REPOSITORY

    s3.client().create_bucket(Bucket="shared")
    words = command("ingest", lab, "--store", "s3://shared/store", *QUICK)
    jobs = [
        subprocess.Popen(words, cwd=REPOSITORY, env={**os.environ, **s3.environment()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    done = [finish(job) for job in jobs]
    for call in done:
        assert call.code == 0, call.err
        require_whole(call.json)
    assert sum(call.json["landed"] for call in done) == 6
    objects = open_objects("s3://shared/store", s3.options())
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    copy = s3.download("shared", "store", tmp_path / "copy")
    assert faults(copy) == []
    assert len(content(copy).steps) == 6


def test_of_many_that_put_one_key_one_succeeds(s3: S3) -> None:
    s3.client().create_bucket(Bucket="race")
    objects = open_objects("s3://race/here", s3.options())
    won: list[int] = []
    gate = threading.Barrier(8)

    def put(number: int) -> None:
        gate.wait()
        try:
            objects.put_if_absent("versions/1.json", str(number).encode())
            won.append(number)
        except AlreadyThere:
            return

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert objects.get("versions/1.json") == str(won[0]).encode()


def test_a_store_without_conditional_put_is_refused_unless_only_one_writes(s3: S3, lab: str) -> None:
    s3.client().create_bucket(Bucket="careless")
    environment = s3.environment(careless=True)
    call = dataengine("ingest", f"{lab}/films", "--store", "s3://careless/store", *QUICK, environment=environment)
    assert call.code == 2
    assert "no conditional put" in call.err
    assert "--single-writer" in call.err
    assert "Traceback" not in call.err
    assert s3.keys("careless") == []
    alone = dataengine("ingest", f"{lab}/films", "--store", "s3://careless/store", "--single-writer", *QUICK, environment=environment)
    assert alone.code == 0, alone.err
    assert alone.json["landed"] == 2


def test_what_the_object_store_refuses_is_said_in_one_sentence(s3: S3, lab: str, sources: Path) -> None:
    for words in (
        ("ingest", "s3://no-such-bucket/x", "--store", "s3://stores/never"),
        ("ingest", f"{lab}/nothing/here", "--store", "s3://stores/never"),
        ("ingest", sources / "films", "--store", "s3://no-such-bucket/store"),
        ("ls", "s3://no-such-bucket/store"),
        ("ls", "s3://stores/never"),
    ):
        call = dataengine(*words, environment=s3.environment())
        assert call.code in (1, 2), (words, call.err)
        assert "Traceback" not in call.err, call.err
        assert "s3://" in call.err
        assert len(call.err) < 1500
    assert not [key for key in s3.keys("stores") if key.startswith("never")]
    objects = open_objects("s3://no-such-bucket/x", s3.options())
    with pytest.raises(StoreError, match="s3://no-such-bucket/x/a: the object store does not answer as it should"):
        objects.put("a", b"1")
