"""The same recordings give the same content, however they are cut into units, shards and batches, and in whatever order units end."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.core.digest import digest_json
from dataengine.store.commit import Committer
from dataengine.store.jobs import new_job_id
from dataengine.store.video_lane import VideoPolicy
from tests.store.test_foreign_tools import recording
from tests.support.films import numbered, write_film
from tests.support.jobs import content
from tests.support.units import Lander, SourceItem, episode, ingest, new_store


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_film(folder / "film.mp4", numbered(18))
    return folder


def items(source: Path) -> list[SourceItem]:
    """Return seven items: numbers and texts, one recording twice, one of them in another split, and two with every form of payload."""
    made = [SourceItem(f"{number}", [*episode(number), *episode(number + 10, 7)]) for number in range(3)]
    film = source / "film.mp4"
    return [*made, SourceItem("again", episode(11, 7), ("val",)), *(SourceItem(f"film{number}", recording(number, film)) for number in (0, 1))]


def job_of_units(objects, source: Path, sizes: list[int], **lander) -> None:
    """Run a job of units of these sizes; each unit sees what the store held when the job began, as workers do, and all are committed in order."""
    job = new_job_id()
    todo = items(source)
    outcomes = []
    for size in sizes:
        outcomes += Lander(objects, job=job, source=source, **lander).land(todo[:size])
        todo = todo[size:]
    assert not todo
    committer = Committer(objects, job, "test", digest_json({}))
    for outcome in outcomes:
        committer.add([outcome])
        if lander:
            committer.flush()
    committer.finish({})


def test_units_shards_and_commits_do_not_show_in_the_content(tmp_path, source):
    whole = new_store(tmp_path / "whole")
    ingest(whole, items(source), source=source)
    reference = content(Path(whole.url))
    assert len(reference.steps) == 8
    for name, sizes, lander in (("same", [6], {}), ("ones", [1] * 6, {}), ("uneven", [2, 3, 1], {"shard_episodes": 2}), ("bytes", [6], {"shard_bytes": 1})):
        objects = new_store(tmp_path / name)
        job_of_units(objects, source, sizes, **lander)
        assert content(Path(objects.url)).differences(reference) == [], name


def test_the_same_frames_become_the_same_files(tmp_path, source):
    """Two shards written alike are equal byte by byte, but for their names and times."""
    files = []
    for name in ("a", "b"):
        objects = new_store(tmp_path / name)
        Lander(objects, source=source, video=VideoPolicy()).land(items(source))
        (shard,) = (tmp_path / name / "streams/lab").iterdir()
        files.append({path.relative_to(shard).as_posix(): path.read_bytes() for path in sorted(shard.rglob("*")) if path.is_file()})
    named = {"shard.json", "arrays.zarr/zarr.json"}
    assert {name for name in files[0] if files[0][name] != files[1].get(name)} <= named
    assert set(files[0]) == set(files[1])


def test_a_store_grown_in_three_jobs_holds_what_one_job_would_have_brought(tmp_path, source):
    once, thrice = new_store(tmp_path / "once"), new_store(tmp_path / "thrice")
    ingest(once, items(source), source=source)
    todo = items(source)
    for part in (todo[:2], todo[1:5], todo):
        ingest(thrice, part, source=source)
    assert content(Path(thrice.url)).differences(content(Path(once.url))) == []
