"""Taking episodes out, and bringing older versions back."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from dataengine.core.errors import StoreError, UsageError, VersionNotFound
from dataengine.core.objects import Objects
from dataengine.store.catalog import Catalog, Change
from dataengine.store.jobs import Heartbeat, read_job
from dataengine.store.store import Store
from dataengine.versions.history import diff
from dataengine.versions.removal import plan_removal, remove, restore
from tests.support.stores import Made, begin, die, land, new_store, rows_at


def ids(objects: Objects, ref: str | None = None) -> list[str]:
    return sorted(Store(objects, ref).episodes().collect()["episode_id"])


def facts(objects: Objects, ref: str | None = None) -> list[str]:
    """Return everything that all rows of a version say, in a comparable order."""
    store = Store(objects, ref)
    frames = [
        store.rows(kind).select(pl.struct(pl.all()).struct.json_encode().alias("row")).collect()["row"].to_list() for kind in ("episode", "source", "reject")
    ]
    return sorted(row for rows in frames for row in rows)


def test_removed_episodes_are_gone_from_the_next_version_only(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1, rows=5), Made(2), Made(3)], source="/a")
    before = facts(objects)
    plan = plan_removal(Store(objects), "steps > 5 and array_contains(tasks, 'stack the cups 2')")
    assert [row["episode_id"] for row in plan.episodes] == [a[1]]
    assert (plan.version, plan.labels, plan.as_dict()["where"]) == (1, 0, "steps > 5 and array_contains(tasks, 'stack the cups 2')")
    assert ids(objects) == sorted(a), "a plan changes nothing"
    version = remove(objects, plan, "rm S --where …")
    assert (version.number, version.counts) == (2, {"episodes": 2, "steps": 13, "removed": 1})
    assert ids(objects) == sorted([a[0], a[2]])
    assert facts(objects, "1") == before
    assert Store(objects, "1").read_trajectory(a[1]).steps == 8
    assert read_job(objects, version.job).state == "ended"  # type: ignore[union-attr]


def test_what_was_removed_does_not_come_back_from_the_unchanged_source(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1), Made(2)], source="/a")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a[0]}'"), "rm")
    (source,) = Store(objects).rows("source").collect().to_dicts()
    assert (source["episode_ids"], source["recordings"], source["fingerprint"]) == (a, 2, "fingerprint of /a"), "the item counts as read"


def test_a_label_goes_with_its_episode(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1), Made(2)])
    label = {"kind": "label", "dataset": "lab", "job": "x", "job_commit": 1, "created_ns": 1, "label_set": "s", "model": "0" * 32, "address": "shard/0"}
    rows = [label | {"fact": episode_id, "episode_id": episode_id} for episode_id in a]
    heartbeat = Heartbeat(objects, "20260101t000000-00000000", "label")
    Catalog(objects).commit(heartbeat.job, 1, ["lab"], lambda table: Change([row | {"job": heartbeat.job} for row in rows]))
    heartbeat.end("ended")
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a[0]}'"), "rm")
    kinds = [(row["kind"], row["episode_id"]) for row in rows_at(objects) if row["kind"] != "source"]
    assert sorted(kinds) == [("episode", a[1]), ("label", a[1])]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("stepz > 3", 'unable to find column "stepz"'),
        ("steps >", "unable to parse"),
        ("", "unable to parse"),
        ("steps", "must be of type `Boolean`"),
        ("read_csv('/etc/passwd')", "unsupported function"),
        ("episode_id in (select * from read_csv('/etc/passwd'))", "unable to find column"),
    ],
)
def test_a_wrong_condition_names_the_columns(tmp_path: Path, where: str, said: str) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)])
    with pytest.raises(UsageError) as error:
        plan_removal(Store(objects), where)
    assert said in str(error.value)
    assert "columns: dataset, episode_id" in str(error.value)


def test_only_the_latest_version_loses_episodes(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    with pytest.raises(UsageError, match="the latest version only"):
        plan_removal(Store(objects), "true")
    land(objects, [Made(1)], source="/a")
    land(objects, [Made(2)], source="/b")
    for ref in ("1", "open"):
        with pytest.raises(UsageError, match="the latest version only"):
            plan_removal(Store(objects, ref), "true")
    plan = plan_removal(Store(objects, "2"), "false")
    assert plan.episodes == ()
    with pytest.raises(UsageError, match="no episode of the latest version"):
        remove(objects, plan, "rm")


def test_a_removal_of_one_dataset_leaves_its_twin(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)], source="/a", dataset="lab")
    land(objects, [Made(1)], source="/b", dataset="twin")
    remove(objects, plan_removal(Store(objects, None, "twin"), "true"), "rm")
    assert Store(objects).datasets() == ["lab"]


def test_restore_brings_content_back_and_takes_content_out(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1), Made(2)], source="/a", splits=("train",), rejects=1)
    then = facts(objects)
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a[0]}'"), "rm")
    b = land(objects, [Made(2), Made(3)], source="/b", splits=("val",))
    assert ids(objects) == sorted([a[1], b[0]])
    version = restore(objects, "1", "restore S 1")
    assert (version.number, version.counts["episodes"], version.counts["restored"]) == (4, 2, 1)
    assert facts(objects) == then
    assert diff(Store(objects, "1"), Store(objects)).empty
    assert Store(objects).read_trajectory(a[0]).steps == 8
    assert ids(objects, "3") == sorted([a[1], b[0]])
    restore(objects, "3", "restore S 3")
    assert diff(Store(objects, "3"), Store(objects)).empty
    assert diff(Store(objects, "4"), Store(objects, "1")).empty


def test_restore_of_the_latest_version_changes_nothing(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    land(objects, [Made(1)])
    version = restore(objects, "1", "restore")
    assert (version.number, version.counts["back"], version.counts["gone"]) == (2, 0, 0)
    with pytest.raises(VersionNotFound):
        restore(objects, "9", "restore")
    with pytest.raises(UsageError, match="is no version"):
        restore(objects, "open", "restore")


def test_restore_waits_for_jobs_and_leaves_rows_of_dead_ones(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    a = land(objects, [Made(1)], source="/a")
    remove(objects, plan_removal(Store(objects), "true"), "rm")
    running = begin(objects, [Made(2)], source="/b")
    with pytest.raises(StoreError, match=rf"no other job at work, found {running.heartbeat.job} \(ingest /b\)"):
        restore(objects, "1", "restore")
    die(running)
    version = restore(objects, "1", "restore")
    assert ids(objects) == a, "the dead job's episode is hidden as before"
    assert version.open_jobs == {running.heartbeat.job: 0}
    again = land(objects, [Made(3)], source="/c")
    assert ids(objects) == sorted(a + again)
    assert len([row for row in rows_at(objects) if row["kind"] == "episode"]) == 3


def test_a_version_of_rows_that_a_dead_job_left_is_restored(tmp_path: Path) -> None:
    """Rows of a job that died are shown since another job relies on them; removed and restored they are shown again."""
    objects = new_store(tmp_path)
    dead = begin(objects, [Made(1)], source="/a")
    die(dead)
    job = begin(objects, [Made(1)], source="/b", commit=False)
    job.committer.flush()
    job.end()
    assert ids(objects) == dead.ids
    remove(objects, plan_removal(Store(objects), "true"), "rm")
    assert ids(objects) == []
    restore(objects, "1", "restore")
    assert ids(objects) == dead.ids


def test_a_job_that_died_after_it_named_its_version_stays_visible(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    job = begin(objects, [Made(1)], source="/a")
    job.end()
    die(job)
    for number in range(3):
        land(objects, [Made(10 + number)], source=f"/{number}")
    assert job.ids[0] in ids(objects)
    assert Store(objects).version.open_jobs == {}  # type: ignore[union-attr]
