"""Versions of a store in an object store: everything that a local one can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataengine.core.errors import EpisodePurged, VersionNotFound
from dataengine.core.objects import Objects, open_objects
from dataengine.store.store import Store, create_store
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.history import diff
from dataengine.versions.lineage import lineage
from dataengine.versions.purge import purge
from dataengine.versions.removal import plan_removal, remove, restore
from dataengine.versions.statistics import dataset_statistics
from tests.support.films import numbered, write_film
from tests.support.labels import begin_labels, label
from tests.support.s3_server import serving
from tests.support.stores import Made, begin, die, land

pytestmark = pytest.mark.s3


@pytest.fixture
def objects() -> Iterator[Objects]:
    with serving() as server:
        server.client().create_bucket(Bucket="stores")
        found = open_objects("s3://stores/team/robots", server.options())
        create_store(found)
        yield found


def test_remove_restore_collect_and_purge(objects: Objects, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", numbered(8))
    a, b, c = land(objects, [Made(1), Made(2, film=film, big=True), Made(3, raw=True)], source="/a")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a}'"), "rm")
    restore(objects, "1", "restore")
    assert diff(Store(objects, "1"), Store(objects)).empty
    lost = begin(objects, [Made(5)], source="/b", commit=False)
    die(lost)
    record = collect(objects, plan_gc(objects))
    assert record["count"] > 0
    collect(objects, plan_gc(objects, [2]))
    with pytest.raises(VersionNotFound, match="was forgotten by"):
        Store(objects, "2")
    assert unreferenced(objects) == []
    assert lineage(Store(objects), a).versions == (1, 3)
    purge(objects, [b], "x", "purge")
    with pytest.raises(EpisodePurged):
        Store(objects, "1").read_episode(b)
    assert not [meta.key for meta in objects.list("media")]
    assert Store(objects).read_trajectory(c).steps == 8
    for ref in ("1", "3", "4"):
        assert faults(check(Store(objects, ref), deep=True)) == []
    assert unreferenced(objects) == []


def test_labels_of_a_store_in_an_object_store(objects: Objects) -> None:
    a, b = land(objects, [Made(1), Made(2, rows=5)])
    lost = begin_labels(objects, commits=1, a_shard=1)
    die(lost)  # type: ignore[arg-type]
    assert collect(objects, plan_gc(objects))["count"] == 2, "labels.parquet and shard.json of the shard that was not committed"
    assert label(objects, a_shard=1).counts == {"episodes": 2, "steps": 13, "labelled": 1, "skipped": 1, "gone": 0}
    assert Store(objects).read_labels(b, "idm-small").valid["action"].tolist() == [True, False, True, True, False]
    assert Store(objects, "1").label_sets() == {}
    purge(objects, [a], "x", "purge")
    with pytest.raises(EpisodePurged):
        Store(objects, "2").read_labels(a, "idm-small")
    assert len(label_content_of(objects, b)) == 1
    for ref in ("1", "2", "3"):
        assert faults(check(Store(objects, ref), deep=True)) == []
    assert unreferenced(objects) == []


def label_content_of(objects: Objects, episode_id: str) -> list[list[float]]:
    return [Store(objects).read_labels(episode_id, name).columns["progress"].tolist() for name in Store(objects).label_sets()]


def test_statistics_are_kept_and_purged(objects: Objects) -> None:
    a, _ = land(objects, [Made(1), Made(2, rows=5)])
    first = dataset_statistics(Store(objects), "lab")
    assert first["parts"][0]["steps"] == 13
    (key,) = [meta.key for meta in objects.list("statistics")]
    objects.delete([meta.key for meta in objects.list("steps")])
    assert dataset_statistics(Store(objects), "lab") == first
    purge(objects, [a], "x", "purge")
    assert objects.head(key) is None
