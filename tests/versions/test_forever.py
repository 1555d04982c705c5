"""What a version returned once it returns always: after hundreds of commits, compaction, checkpoints, and when the log is two months old."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dataengine.store.catalog import Catalog, Change
from dataengine.store.jobs import Heartbeat
from dataengine.store.naming import name_version
from dataengine.store.store import Store
from dataengine.versions.lineage import lineage
from dataengine.versions.table_files import table_files
from tests.support.stores import Made, land, new_store

DAY_S = 86_400


@pytest.mark.parametrize("commits", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_version_1_reads_after_many_commits(tmp_path: Path, commits: int) -> None:
    objects = new_store(tmp_path)
    first = land(objects, [Made(1), Made(2)])
    before = Store(objects, "1").episodes().sort("episode_id").collect()
    state = Store(objects, "1").read_episode(first[0]).streams["observation.state"].values
    catalog, heartbeat = Catalog(objects), Heartbeat(objects, "20260101t000000-0000000a", "many")
    template = before.to_dicts()[0]
    for number in range(1, commits + 1):
        fact = f"{number:032x}"
        row = template | {"fact": fact, "episode_id": fact, "job": heartbeat.job, "job_commit": number}
        catalog.commit(heartbeat.job, number, ["lab"], lambda table, row=row: Change([row]))  # type: ignore[misc]
        if number == commits // 2:
            age(tmp_path / "catalog", 60)
    name_version(objects, heartbeat.job, "many", "0" * 32, {}, {})
    heartbeat.end("ended")
    catalog.compact(["lab"])
    catalog.table().create_checkpoint()
    age(tmp_path / "catalog", 60)
    catalog.table().create_checkpoint()
    assert len(list((tmp_path / "catalog" / "_delta_log").glob("*.checkpoint.parquet"))) >= 1 + commits // 100
    assert len(list((tmp_path / "catalog" / "_delta_log").glob("*.json"))) > commits
    assert Store(objects, "1").episodes().sort("episode_id").collect().equals(before)
    assert (Store(objects, "1").read_episode(first[0]).streams["observation.state"].values == state).all()
    assert Store(objects).episodes().collect().height == 2 + commits
    files, newest = table_files(objects)
    assert newest == int(catalog.table().version())
    for version in (1, commits // 2, newest):
        assert {f"{objects.url}/{file.key}" for file in files if file.used_at(version)} == set(catalog.table(version).file_uris())
    assert lineage(Store(objects), f"{7:032x}").versions == (2,)


def age(folder: Path, days: int) -> None:
    """Make every file of the log look as if it had been written so many days ago."""
    then = time.time() - days * DAY_S
    for path in (folder / "_delta_log").iterdir():
        os.utime(path, (then, then))
