"""Where an episode comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.core.errors import EpisodeNotFound
from dataengine.store.catalog import Catalog, Change
from dataengine.store.jobs import Heartbeat
from dataengine.store.naming import name_version
from dataengine.store.store import Store
from dataengine.versions.garbage import collect, plan_gc
from dataengine.versions.lineage import lineage
from dataengine.versions.removal import plan_removal, remove, restore
from tests.support.stores import Made, begin, die, land, new_store, rows_at


def test_an_episode_names_its_source_job_and_versions(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a")
    job = begin(objects, [Made(2), Made(3)], source="/b")
    job.end()
    a = job.ids[1]
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a}'"), "rm")
    restore(objects, "2", "restore S 2")
    found = lineage(Store(objects), a[:8])
    assert (found.origin["source_uri"], found.origin["source_key"], found.origin["reader"]) == ("/b", "3", "made")
    assert (found.origin["job"], found.command) == (job.heartbeat.job, "ingest /b")
    assert (found.first_version, found.versions) == (2, (2, 4))
    assert (found.parents, found.labels) == ((), ())
    json.dumps(found.as_dict())
    collect(objects, plan_gc(objects, [2]))
    assert (lineage(Store(objects), a).versions, lineage(Store(objects), a).command) == ((4,), "ingest /b")
    with pytest.raises(EpisodeNotFound):
        lineage(Store(objects), "ffff")


def test_rows_of_a_hidden_job_are_in_no_version(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    dead = begin(objects, [Made(1)], source="/a")
    die(dead)
    land(objects, [Made(2)], source="/b")
    assert lineage(Store(objects, "open"), dead.ids[0]).versions == ()


def test_the_chain_of_parents_ends_at_the_recording(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    (root,) = land(objects, [Made(1)])
    template = next(row for row in rows_at(objects) if row["kind"] == "episode")
    heartbeat = Heartbeat(objects, "20260101t000000-0000000b", "synthesize")
    names = [f"{number:032x}" for number in range(3)]
    parents = [root, names[0], names[1]]
    rows = [
        template | {"fact": name, "episode_id": name, "parent": parent, "job": heartbeat.job, "origin": "world_model"}
        for name, parent in zip(names, parents, strict=True)
    ]
    loop = template | {"fact": "f" * 32, "episode_id": "f" * 32, "parent": "f" * 32, "job": heartbeat.job}
    Catalog(objects).commit(heartbeat.job, 1, ["lab"], lambda table: Change([*rows, loop]))
    name_version(objects, heartbeat.job, "synthesize", "0" * 32, {}, {})
    heartbeat.end("ended")
    found = lineage(Store(objects), names[2])
    assert [parent["episode_id"] for parent in found.parents] == [names[1], names[0], root]
    assert found.parents[-1]["source_uri"] == "/recordings/a.rec"
    assert lineage(Store(objects), "f" * 32).parents == ()
