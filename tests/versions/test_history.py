"""Which versions there are, and what differs between two of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.core.column import Column
from dataengine.core.errors import UsageError, VersionNotFound
from dataengine.store.refs import put_tag
from dataengine.store.store import Store
from dataengine.versions.history import _column_differences, diff, log
from dataengine.versions.removal import plan_removal, remove
from tests.support.stores import Made, land, new_store


def test_log_is_newest_first_with_tags(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    assert log(objects) == []
    land(objects, [Made(1)], source="/a")
    land(objects, [Made(2)], source="/b")
    land(objects, [Made(3)], source="/c")
    put_tag(objects, "paper", 2)
    put_tag(objects, "b-side", 2)
    entries = log(objects)
    assert [(entry.version.number, entry.tags, entry.version.counts["episodes"]) for entry in entries] == [(3, (), 3), (2, ("b-side", "paper"), 2), (1, (), 1)]
    assert json.loads(json.dumps(entries[1].as_dict()))["command"] == "ingest /b"


def test_a_tag_never_moves(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    land(objects, [Made(2)], source="/b")
    put_tag(objects, "paper", 1)
    put_tag(objects, "paper", 1)
    with pytest.raises(UsageError, match="stands for version 1 already"):
        put_tag(objects, "paper", 2)
    with pytest.raises(UsageError, match="must not be all digits"):
        put_tag(objects, "12", 1)
    with pytest.raises(VersionNotFound, match="no such version; the store has versions 1 to 2"):
        put_tag(objects, "later", 7)
    assert Store(objects, "paper").version == Store(objects, "1").version


def test_diff_of_a_grown_store(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    first = land(objects, [Made(1), Made(2)], source="/a", splits=("train",))
    second = land(objects, [Made(3, rows=5), Made(2)], source="/b", splits=("val",), rejects=1)
    land(objects, [Made(9)], source="/c", dataset="other")
    found = diff(Store(objects, "1"), Store(objects, "3"))
    assert found.added == (("lab", second[0]), ("other", Store(objects, "3").episodes().filter(dataset="other").collect()["episode_id"][0]))
    assert found.removed == ()
    assert [(entry.episode_id, dict(entry.fields)) for entry in found.changed] == [
        (first[1], {"splits": (["train"], ["train", "val"]), "flags": ([], ["duplicate_across_splits"])})
    ]
    assert (found.datasets["lab"].episodes, found.datasets["lab"].steps) == ((2, 3), (16, 21))
    assert (found.datasets["other"].episodes, found.datasets["other"].columns) == ((0, 1), {})
    assert [(row["source_uri"], row["check"]) for row in found.rejects_added] == [("/b", "truncated")]
    assert found.rejects_removed == ()
    back = diff(Store(objects, "3"), Store(objects, "1"))
    assert (len(back.added), len(back.removed), len(back.rejects_removed)) == (0, 2, 1)
    assert json.loads(json.dumps(found.as_dict()))["datasets"]["lab"]["steps"] == {"a": 16, "b": 21}


def test_equal_versions_have_an_empty_diff(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)])
    assert diff(Store(objects, "1"), Store(objects)).empty
    (one,) = [row["episode_id"] for row in Store(objects).episodes().collect().to_dicts()]
    remove(objects, plan_removal(Store(objects), f"episode_id = '{one}'"), "rm")
    assert not diff(Store(objects, "1"), Store(objects)).empty
    assert diff(Store(objects, "2"), Store(objects, "2")).empty


def test_features_that_a_dataset_gained_or_changed_are_named(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    land(objects, [Made(2, big=True)], source="/b")
    assert diff(Store(objects, "1"), Store(objects, "2")).datasets["lab"].columns == {"observation.wide": "added"}
    before = {"a": Column("a", shape=(2,)), "b": Column("b")}
    assert _column_differences(before, {"a": Column("a", shape=(2,), unit="rad")}) == {"a": "changed: unit None is now 'rad'", "b": "removed"}
