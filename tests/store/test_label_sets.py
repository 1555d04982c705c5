"""What a version says of its labels, and how an episode's are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.core.errors import EpisodePurged, LabelsNotFound
from dataengine.core.objects import Objects
from dataengine.store.label_sets import label_facts
from dataengine.store.store import Store
from dataengine.versions.purge import purge
from dataengine.versions.removal import plan_removal, remove
from tests.support.labels import ACTION, label, label_set, made_labels
from tests.support.stores import Made, begin, land, new_store


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1), Made(2, rows=5), Made(3)], source="/a")
    land(objects, [Made(4)], source="/b", dataset="other")
    return objects


def test_sets_with_their_datasets_and_columns(store: Objects) -> None:
    lab = Store(store, dataset="lab").episodes().collect()["episode_id"].to_list()
    label(store, label_set("wide", "d" * 32, window_s=0.5), ids=lab[:2])
    label(store)
    found = Store(store).label_sets()
    assert {name: dict(entry.episodes) for name, entry in found.items()} == {"wide": {"lab": 2}, "idm-small": {"lab": 3, "other": 1}}
    assert found["wide"].label_set == label_set("wide", "d" * 32, window_s=0.5)
    assert found["idm-small"].columns["other"]["action"] == ACTION
    assert {name: dict(entry.episodes) for name, entry in Store(store, dataset="other").label_sets().items()} == {"idm-small": {"other": 1}}


def test_labels_of_an_episode_by_its_id_or_its_beginning(store: Objects) -> None:
    label(store)
    row = Store(store).episodes().filter(steps=5).collect().row(0, named=True)
    read = Store(store).read_labels(row["episode_id"][:10], "idm-small")
    made = made_labels(row["episode_id"], 5)
    assert read.steps == Store(store).read_trajectory(row["episode_id"]).steps == 5
    assert read.columns["action"][0].tolist() == made.columns["action"][0].tolist()
    assert read.valid["action"].tolist() == [True, False, True, True, False]
    assert list(Store(store).read_labels(row["episode_id"], "idm-small", ["progress"]).columns) == ["progress"]
    assert read.columns["progress"].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_what_is_not_labelled_says_what_is(store: Objects) -> None:
    (a, *_) = Store(store, dataset="lab").episodes().collect()["episode_id"].to_list()
    with pytest.raises(LabelsNotFound, match=f"episode {a}: has no labels of the set 'idm-small'; its label sets: none"):
        Store(store).read_labels(a, "idm-small")
    label(store)
    with pytest.raises(LabelsNotFound, match="its label sets: idm-small"):
        Store(store).read_labels(a, "latent")
    with pytest.raises(LabelsNotFound):
        Store(store, "2").read_labels(a, "idm-small")
    begin(store, [Made(1), Made(2, rows=5), Made(3)], source="/a", reading="2", again=True).end()
    with pytest.raises(LabelsNotFound, match="are of an older reading of it; label it again"):
        Store(store).read_labels(a, "idm-small")
    assert Store(store).labels().collect()["dataset"].to_list() == ["other"]
    assert Store(store, "3").read_labels(a, "idm-small").steps in (5, 8)


def test_what_show_says_of_labels(store: Objects) -> None:
    label(store)
    row = Store(store).episodes().filter(steps=5).collect().row(0, named=True)
    (fact,) = label_facts(Store(store).rows("label"), row)
    assert (fact["label_set"], fact["model"], fact["read"], fact["stale"]) == ("idm-small", "c" * 32, 2, False)
    assert fact["columns"]["action"] == {"labelled": 3, "source": "idm", "confidence_mean": 0.62, "confidence_min": 0.2}  # 0.9, 0.2, 0.9, 0.9, 0.2
    (other,) = label_facts(Store(store).rows("label"), row | {"reading": "0" * 32})
    assert other["stale"]


def test_labels_of_a_removed_or_a_purged_episode_are_not_handed_out(store: Objects) -> None:
    a, b, _ = Store(store, dataset="lab").episodes().collect()["episode_id"].to_list()
    label(store)
    remove(store, plan_removal(Store(store), f"episode_id = '{a}'"), "rm")
    assert a not in Store(store).labels().collect()["episode_id"].to_list()
    assert Store(store, "3").read_labels(a, "idm-small").steps > 0
    purge(store, [b], "consent withdrawn", "purge")
    for ref in ("3", None):
        with pytest.raises(EpisodePurged, match="its content is gone from every version"):
            Store(store, ref).read_labels(b, "idm-small")
    assert sorted(Store(store).label_sets()) == ["idm-small"]
