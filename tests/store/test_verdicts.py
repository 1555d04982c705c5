"""Verdicts on label sets: kept once, read back by version and recipe, and there for as long as the store is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataengine.core.errors import UsageError
from dataengine.core.names import data_folder
from dataengine.core.objects import LocalObjects, Objects
from dataengine.store.store import Store
from dataengine.store.verdicts import in_short, put_verdict, read_verdicts
from dataengine.versions.check import check
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from tests.support.jobs import dataengine
from tests.support.labels import label, label_set
from tests.support.stores import Made, land, new_store


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    """A store with two episodes, labelled in version 2, and another episode in version 3."""
    made = new_store(tmp_path / "store")
    land(made, [Made(1), Made(2)])
    label(made)
    land(made, [Made(3)])
    return made


def verdict_on(version: int, **other: Any) -> dict[str, Any]:
    """Return a verdict on the labels that `tests.support.labels` makes."""
    document = json.loads((data_folder("schemas") / "v1" / "examples" / "valid" / "verdict.push.json").read_text())
    told = label_set()
    facts = {"version": version, "label_set": told.name, "model": told.model, "trained_on": told.trained_on, "recipe": told.recipe}
    return {name: value for name, value in document.items() if name not in ("created_ns", "created_by")} | facts | other


def kept_keys(objects: Objects) -> list[str]:
    return [meta.key for meta in objects.list("verdicts")]


def test_a_verdict_is_read_back(objects: LocalObjects) -> None:
    kept = put_verdict(objects, verdict_on(2))
    assert kept["created_by"].count("@") == 1
    assert read_verdicts(Store(objects)) == [kept]
    assert read_verdicts(Store(objects), "idm-small", label_set().recipe) == [kept]
    assert read_verdicts(Store(objects), "idm-small", "0" * 32) == []  # labels of another model that have the name now
    assert read_verdicts(Store(objects), "idm") == []
    assert in_short(kept)["environment"] == "metaworld:push-v3"
    (key,) = kept_keys(objects)
    assert key.startswith("verdicts/idm-small/2/")


def test_the_same_settings_are_judged_once(objects: LocalObjects) -> None:
    first = put_verdict(objects, verdict_on(2, verdict="helps"))
    again = put_verdict(objects, verdict_on(2, verdict="hurts"))
    assert again == first
    assert len(kept_keys(objects)) == 1


def test_an_older_version_does_not_see_a_later_verdict(objects: LocalObjects) -> None:
    second, third = put_verdict(objects, verdict_on(2)), put_verdict(objects, verdict_on(3))
    assert read_verdicts(Store(objects, "1")) == []
    assert read_verdicts(Store(objects, "2")) == [second]
    assert read_verdicts(Store(objects, "3")) == [third, second]
    assert read_verdicts(Store(objects, "open")) == [third, second]


def test_it_survives_gc_and_a_version_that_is_forgotten(objects: LocalObjects) -> None:
    kept = put_verdict(objects, verdict_on(2))
    (objects.root / "verdicts" / "idm-small" / "2" / f".x.{'0' * 32}.tmp").write_bytes(b"left by a writer that died")
    assert check(Store(objects), deep=False) == []
    collect(objects, plan_gc(objects, forget=[2]))
    assert read_verdicts(Store(objects)) == [kept]
    assert unreferenced(objects) == []
    assert not list((objects.root / "verdicts").rglob("*.tmp"))
    assert check(Store(objects), deep=True) == []


def test_what_is_no_verdict_is_refused(objects: LocalObjects) -> None:
    with pytest.raises(UsageError, match="has no version 9"):
        put_verdict(objects, verdict_on(9))
    with pytest.raises(ValueError, match="'maybe' is not one of"):
        put_verdict(objects, verdict_on(2, verdict="maybe"))
    assert kept_keys(objects) == []


def test_check_finds_a_verdict_that_was_moved_or_broken(objects: LocalObjects) -> None:
    put_verdict(objects, verdict_on(2))
    (key,) = kept_keys(objects)
    objects.put(key.replace("/2/", "/3/"), objects.get(key))
    objects.put("verdicts/idm-small/1/x.json", b"{")
    found = {problem.check: problem.where for problem in check(Store(objects), deep=False)}
    assert set(found) == {"other_content", "unreadable"}
    assert found["other_content"].endswith(key.replace("/2/", "/3/"))


def test_show_and_log_name_it(objects: LocalObjects) -> None:
    kept = put_verdict(objects, verdict_on(2))
    episode = str(Store(objects).labels().collect()["episode_id"][0])
    assert "; no evidence in metaworld:push-v3" in dataengine("show", objects.url, episode).out
    (told,) = dataengine("show", objects.url, episode, "--json").json["labels"]
    assert told["verdict"]["gain_recovered"] == kept["gain_recovered"]
    assert "labels idm-small of version 2: no evidence in metaworld:push-v3" in dataengine("log", objects.url).out
    told_by_log = {entry["version"]: [one["verdict"] for one in entry["verdicts"]] for entry in dataengine("log", objects.url, "--json").json}
    assert told_by_log == {1: [], 2: ["no evidence"], 3: []}
