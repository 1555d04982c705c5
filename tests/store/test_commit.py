from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter

import numpy as np
import polars as pl
import psutil
import pytest
from deltalake import DeltaTable

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo, Rejected
from dataengine.core.errors import AlreadyThere, StoreError, UsageError, VersionNotFound
from dataengine.core.problem import Problem
from dataengine.core.stream import Rows
from dataengine.store import layout
from dataengine.store.catalog import Catalog, Change, KnownIds
from dataengine.store.commit import Committer
from dataengine.store.jobs import Heartbeat, JobRecord, all_jobs, new_job_id, read_job
from dataengine.store.naming import name_version
from dataengine.store.refs import Version, parse_address, put_tag, put_version, version_numbers
from dataengine.store.store import open_store
from tests.support.plain_reader import catalog_rows, faults
from tests.support.units import READING, Lander, SourceItem, episode, ingest, ingest_episodes, new_store, times_ns

OTHER_READING = "f" * 32


def ids(store) -> list[str]:
    return sorted(store.episodes().collect()["episode_id"])


def rejected(key: str, check: str = "crc_mismatch") -> Rejected:
    return Rejected(key, Problem(check, f"record {key}: expected 1, found 2", f"record {key}", "error", "1", "2"))


def facts(root) -> Counter:
    return Counter((row["kind"], row["fact"]) for row in DeltaTable(root / "catalog").to_pyarrow_table().to_pylist())


@pytest.fixture
def objects(tmp_path):
    return new_store(tmp_path / "store")


# -- inserting what is absent


def test_the_same_source_again_lands_nothing_and_names_no_more_rows(objects):
    first = ingest(objects, [SourceItem("a", [*episode(1), *episode(2)])])
    again = ingest(objects, [SourceItem("a", [*episode(1), *episode(2)])])
    assert (first.committer.tally.landed, first.committer.tally.skipped) == (2, 0)
    assert (again.committer.tally.landed, again.committer.tally.skipped, again.committer.tally.found) == (0, 2, 2)
    assert set(facts(objects.local("")).values()) == {1}


def test_the_same_item_named_twice_in_one_job_stands_once_in_the_catalog(objects):
    events = [*episode(1), rejected("1"), *episode(2)]
    done = ingest(objects, [SourceItem("a", events), SourceItem("a", events)])
    assert (done.committer.tally.landed, done.committer.tally.skipped, done.committer.tally.rejected) == (2, 2, 2)
    assert set(facts(objects.local("")).values()) == {1}
    again = SourceItem("a", events, reading=OTHER_READING)
    ingest(objects, [again, again], replaces=frozenset(done.ids))
    assert set(facts(objects.local("")).values()) == {1}
    assert open_store(objects.url).episodes().collect()["reading"].to_list() == [OTHER_READING] * 2
    assert faults(objects.local("")) == []


def test_a_recording_in_two_splits_lands_once_with_both_and_the_leak_is_named(objects):
    done = ingest(objects, [SourceItem("train", episode(1), ("train",)), SourceItem("val", [*episode(1), *episode(2)], ("val",))])
    rows = {row["episode_id"]: row for row in open_store(objects.url).episodes().collect().iter_rows(named=True)}
    leaked, own = done.ids
    assert rows[leaked]["splits"] == ["train", "val"]
    assert "duplicate_across_splits" in rows[leaked]["flags"]
    assert (rows[own]["splits"], "duplicate_across_splits" in rows[own]["flags"]) == (["val"], False)
    assert [problem["check"] for problem in done.committer.tally.problems if problem["episode_id"] == leaked] == ["duplicate_across_splits"]


def test_splits_of_a_later_job_are_added_to_the_row_that_is_there(objects):
    ingest(objects, [SourceItem("train", episode(1), ("train",))])
    later = ingest(objects, [SourceItem("val", episode(1), ("val",))])
    row = open_store(objects.url).episodes().collect().row(0, named=True)
    assert row["splits"] == ["train", "val"]
    assert row["source_uri"] == "src/train"
    assert later.committer.tally.skipped == 1
    assert open_store(f"{objects.url}@1").episodes().collect()["splits"].to_list() == [["train"]]


def test_a_new_reading_replaces_rows_of_the_same_source_and_old_versions_keep_theirs(objects):
    ingest(objects, [SourceItem("a", [*episode(1), *episode(2)]), SourceItem("b", episode(3))])
    old = ids(open_store(objects.url))
    changed = [SourceItem("a", [*episode(1), *episode(4)], reading=OTHER_READING)]
    done = ingest(objects, changed, replaces=frozenset(old))
    kept, new = done.ids
    store = open_store(objects.url)
    rows = {row["episode_id"]: row for row in store.episodes().collect().iter_rows(named=True)}
    assert len(rows) == 3  # of item a: one replaced, one gone, one new; item b as it was
    assert kept in old
    assert new not in old
    assert (rows[kept]["reading"], rows[kept]["job"]) == (OTHER_READING, done.committer.job)
    assert Counter(row["reading"] for row in rows.values()) == {OTHER_READING: 2, READING: 1}
    assert ids(open_store(f"{objects.url}@1")) == old
    assert faults(objects.local("")) == []


def test_a_new_reading_of_one_source_does_not_take_what_another_source_holds(objects):
    """Both splits hold recording 1; only `val` is read anew, and no longer yields it."""
    ingest(objects, [SourceItem("train", episode(1), ("train",)), SourceItem("val", [*episode(1), *episode(2)], ("val",))])
    before = ids(open_store(objects.url))
    done = ingest(objects, [SourceItem("val", episode(5), ("val",), reading=OTHER_READING)], replaces=frozenset(before))
    left = open_store(objects.url).episodes().collect()
    assert sorted(left["source_uri"]) == ["src/train", "src/val"]
    assert set(done.ids) < set(left["episode_id"])


def test_a_file_that_changed_adds_and_leaves_what_it_held(objects):
    ingest(objects, [SourceItem("a", episode(1))])
    ingest(objects, [SourceItem("a", episode(2), fingerprint="2")])
    store = open_store(objects.url)
    assert len(ids(store)) == 2
    assert store.rows("source").collect()["fingerprint"].to_list() == ["2"]


def test_rejects_of_an_item_are_replaced_when_it_is_read_again(objects):
    ingest(objects, [SourceItem("a", [rejected("0"), *episode(1), rejected("2"), rejected("3")]), SourceItem("b", [rejected("0")])])
    store = open_store(objects.url)
    assert store.rows("reject").collect().height == 4
    assert store.rows("source").collect().sort("source_uri").select("recordings", "rejected").rows() == [(4, 3), (1, 1)]
    ingest(objects, [SourceItem("a", [*episode(0), *episode(1), rejected("2", "not_finite")])])
    rows = open_store(objects.url).rows("reject").collect().sort("source_uri")
    assert rows.select("source_uri", "source_key", "check").rows() == [("src/a", "2", "not_finite"), ("src/b", "0", "crc_mismatch")]
    assert open_store(f"{objects.url}@1").rows("reject").collect().height == 4
    assert set(facts(objects.local("")).values()) == {1}


def test_a_partial_reading_leaves_no_source_row_and_its_rejects_stand_once(objects):
    ingest(objects, [SourceItem("a", [rejected("0"), *episode(1)], partial=True)])
    assert open_store(objects.url).rows("source").collect().height == 0
    for _ in range(2):
        ingest(objects, [SourceItem("a", [rejected("0"), *episode(1)], partial=True)])
    ingest(objects, [SourceItem("a", [rejected("0"), *episode(1), *episode(2)])])
    store = open_store(objects.url)
    assert (store.episodes().collect().height, store.rows("reject").collect().height, store.rows("source").collect().height) == (2, 1, 1)
    assert set(facts(objects.local("")).values()) == {1}


def test_features_that_contradict_rows_committed_meanwhile_are_rejected_at_the_commit(objects):
    """Two units were read against an empty dataset; the second is found to contradict the first only when it is committed."""
    wide = [
        Rows("action", np.ones((5, 4), np.float32), {"log": times_ns(5)}),
        EpisodeInfo("lab", {"action": Column("action", shape=(4,), meaning="action")}, "measured", "k", {"action": "log"}),
    ]
    job = new_job_id()
    first, second = (Lander(objects, job=job).land([item]) for item in (SourceItem("a", episode(1)), SourceItem("b", [*wide, *episode(2)])))
    assert [len(outcome.episodes) for outcome in (*first, *second)] == [1, 1]  # in b the second contradicts the first already
    committer = Committer(objects, job, "test", "")
    committer.add([*first, *second])
    committer.finish({})
    assert (committer.tally.landed, committer.tally.rejected) == (1, 2)
    (reject,) = [row for row in committer.tally.rejects if row["source_key"] == "k"]
    assert reject["check"] == "other_features"
    assert "action: shape [4] where the dataset has [3]" in reject["found"]
    assert open_store(objects.url).rows("source").collect().sort("source_uri")["rejected"].to_list() == [0, 2]


def test_two_datasets_of_one_store_do_not_see_each_other(objects):
    ingest(objects, [SourceItem("a", episode(1))], dataset="one")
    done = ingest(objects, [SourceItem("a", episode(1))], dataset="two")
    assert done.committer.tally.landed == 1
    assert open_store(f"{objects.url}#two").episodes().collect()["dataset"].to_list() == ["two"]
    assert open_store(objects.url).datasets() == ["one", "two"]


def test_payload_that_is_gone_is_never_committed(objects):
    outcomes = Lander(objects).land([SourceItem("a", episode(1))])
    shard = outcomes[0].episodes[0]["shard"]
    (objects.local("") / f"streams/lab/{shard}/shard.json").unlink()
    committer = Committer(objects, new_job_id(), "test", "")
    committer.add(outcomes)
    with pytest.raises(StoreError, match=f"{shard}.*the shard that this job wrote is gone; run the command again"):
        committer.flush()
    assert facts(objects.local("")) == Counter()


# -- writers at the same time


def test_writers_at_the_same_time_land_each_episode_once_and_lose_none(objects):
    """Three writers, each of 7 items in 7 commits, overlapping in most: whoever is second finds the episode there."""
    numbers = [list(range(0, 7)), list(range(3, 10)), list(range(9, 2, -1))]
    start = threading.Barrier(3)
    committers, errors = [], []

    def write(own):
        try:
            job = new_job_id()
            outcomes = Lander(objects, job=job).land([SourceItem(f"{number}", episode(number)) for number in own])
            committer = Committer(objects, job, "test", "")
            committers.append(committer)
            start.wait()
            for outcome in outcomes:
                committer.add([outcome])
                committer.flush()
            committer.finish({})
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(own,)) for own in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = open_store(objects.url)
    assert store.episodes().collect().height == len(set(ids(store))) == 10
    assert sum(committer.tally.landed for committer in committers) == 10
    assert sum(committer.tally.skipped for committer in committers) == 11
    assert version_numbers(objects) == [1, 2, 3]
    assert set(facts(objects.local("")).values()) == {1}
    assert store.rows("source").collect().height == 10
    for row in store.episodes().collect().iter_rows(named=True):
        assert store.read_episode(row["episode_id"]).streams["action"].values.shape == (5, 3)


def test_every_commit_carries_the_job_and_each_dataset_as_transactions(objects):
    done = ingest(objects, [SourceItem("a", episode(1))])
    ingest(objects, [SourceItem("b", episode(2))])
    table = Catalog(objects).table()
    assert table.transaction_version(done.committer.job) == 1
    assert table.transaction_version("dataset/lab") == 2
    assert table.transaction_version("dataset/other") is None


def test_a_job_that_was_ended_can_never_commit_again(objects):
    job = new_job_id()
    outcomes = Lander(objects, job=job).land([SourceItem("a", episode(1))])
    committer = Committer(objects, job, "test", "")
    committer.add(outcomes)
    catalog = Catalog(objects)
    catalog.end(job)
    catalog.end(job)  # to end it again is no fault
    with pytest.raises(StoreError, match="was ended by another process, since it had fallen silent; run the command again"):
        committer.flush()
    assert open_store(f"{objects.url}@open").episodes().collect().height == 0
    assert ingest(objects, [SourceItem("a", episode(1))]).committer.tally.landed == 1


def test_a_commit_number_that_is_there_already_is_not_written_again(objects):
    catalog = Catalog(objects)
    row = Lander(objects).land([SourceItem("a", episode(1))])[0].source | {"episode_ids": [], "rejected": 0, "recordings": 0}
    stamp = {"job": "20260101t000000-00000000", "job_commit": 1, "created_ns": 1}
    for _ in range(2):
        catalog.commit(stamp["job"], 1, ["lab"], lambda table: Change([row | stamp]))
    assert catalog.scan().collect().height == 1


def test_known_ids_follow_the_table_through_commits_and_compaction(objects):
    catalog, known = Catalog(objects), KnownIds()
    first = ingest_episodes(objects, 1, 2)
    known.update(catalog, catalog.table(), "lab")
    assert all(episode_id in known for episode_id in first)
    second = ingest_episodes(objects, 3)
    assert second[0] not in known
    catalog.compact(["lab"])
    known.update(catalog, catalog.table(), "lab")
    assert all(episode_id in known for episode_id in (*first, *second))
    assert "0" * 32 not in known


# -- versions


def waiting(objects, *numbers) -> Committer:
    """Return the committer of a job that has committed episodes and still runs."""
    job = new_job_id()
    committer = Committer(objects, job, "test", "")
    committer.add(Lander(objects, job=job).land([SourceItem(f"{number}", episode(number)) for number in numbers]))
    committer.flush()
    return committer


def test_a_running_job_is_seen_only_at_open(objects):
    ingest_episodes(objects, 1)
    running = waiting(objects, 2, 3)
    assert open_store(objects.url).episodes().collect().height == 1
    assert open_store(f"{objects.url}@open").episodes().collect().height == 3
    ingest_episodes(objects, 4)
    assert open_store(objects.url).episodes().collect().height == 2
    assert open_store(objects.url).version.open_jobs == {running.job: 0}
    running.finish({})
    assert open_store(objects.url).episodes().collect().height == 4
    assert [open_store(f"{objects.url}@{number}").episodes().collect().height for number in (1, 2, 3)] == [1, 2, 4]


def test_a_version_shows_of_a_running_job_the_commits_that_it_relies_on(objects):
    running = waiting(objects, 1)
    other = ingest(objects, [SourceItem("1", episode(1)), SourceItem("9", episode(9))])
    assert (other.committer.tally.landed, other.committer.tally.skipped) == (1, 1)
    running.add(Lander(objects, job=running.job).land([SourceItem("2", episode(2))]))
    running.flush()
    assert other.version.open_jobs == {running.job: 1}
    assert open_store(objects.url).episodes().collect().height == 2  # 1 and 9, not 2
    ingest_episodes(objects, 5)
    assert open_store(objects.url).episodes().collect().height == 3
    running.finish({})
    assert open_store(objects.url).episodes().collect().height == 4


def test_a_job_that_finds_everything_in_a_dead_jobs_rows_adopts_them(objects):
    dead = waiting(objects, 1, 2)
    assert open_store(objects.url).episodes().collect().height == 0
    again = ingest(objects, [SourceItem("1", episode(1)), SourceItem("2", episode(2))])
    assert again.committer.tally.skipped == 2
    assert open_store(objects.url).episodes().collect().height == 2
    assert again.version.open_jobs == {dead.job: 1}


def test_a_job_that_did_nothing_names_no_version(objects):
    assert ingest(objects, []).version is None
    ingest_episodes(objects, 1)
    assert ingest(objects, []).version.number == 1
    assert version_numbers(objects) == [1]


def test_jobs_that_end_at_the_same_time_get_numbers_of_their_own(objects):
    jobs = [waiting(objects, number) for number in range(4)]
    start = threading.Barrier(4)
    found, errors = [], []

    def end(committer):
        try:
            start.wait()
            found.append(committer.finish({}).number)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=end, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(found) == version_numbers(objects) == [1, 2, 3, 4]
    counts = [open_store(f"{objects.url}@{number}").episodes().collect().height for number in (1, 2, 3, 4)]
    assert counts == [1, 2, 3, 4]
    assert [json.loads((objects.local("") / f"versions/{n}.json").read_text())["counts"]["episodes"] for n in (1, 2, 3, 4)] == counts


def test_a_version_number_is_taken_once(objects):
    put_version(objects, Version(1, 0, "a"))
    with pytest.raises(AlreadyThere):
        put_version(objects, Version(1, 5, "b"))
    assert name_version(objects, "c", "test", "", {}, {}).number == 2


def test_a_killed_job_that_had_named_its_version_stays_visible_in_all_later_ones(objects):
    """Killed between its version and its last heartbeat: its record says "running" for ever."""
    killed = waiting(objects, 1)
    Heartbeat(objects, killed.job, "test")
    killed.finish({})
    assert read_job(objects, killed.job).state == "running"
    for number in range(60):
        name_version(objects, new_job_id(), f"later {number}", "", {}, {})
    ingest_episodes(objects, 2)
    assert open_store(objects.url).episodes().collect().height == 2


def age_log(root) -> None:
    """Make the log's files look 60 days old."""
    old = time.time() - 60 * 86_400
    for path in (root / "catalog/_delta_log").iterdir():
        os.utime(path, (old, old))


def many_commits(objects, count: int) -> None:
    catalog = Catalog(objects)
    row = Lander(objects).land([SourceItem("z", episode(99))])[0].source | {"episode_ids": [], "rejected": 0, "recordings": 0}
    for number in range(1, count + 1):
        fact = f"{number:032x}"
        catalog.commit(
            "filler",
            number,
            ["lab"],
            lambda table, fact=fact, number=number: Change([row | {"fact": fact, "job": "filler", "job_commit": number, "created_ns": 1}]),
        )


@pytest.mark.parametrize("commits", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_version_1_reads_for_ever(objects, commits):
    (first,) = ingest_episodes(objects, 1)
    before = open_store(f"{objects.url}@1").read_episode(first)
    age_log(objects.local(""))
    many_commits(objects, commits)
    catalog = Catalog(objects)
    catalog.compact(["lab"])
    catalog.table().create_checkpoint()
    catalog.table().cleanup_metadata()
    ingest(objects, [SourceItem("1.rec", episode(1, rows=4), reading=OTHER_READING)], replaces=frozenset([first]))
    assert ids(open_store(objects.url)) != [first]
    store = open_store(f"{objects.url}@1")
    assert ids(store) == [first]
    again = store.read_episode(first)
    np.testing.assert_array_equal(again.streams["action"].values, before.streams["action"].values)
    assert [row["episode_id"] for row in catalog_rows(objects.local(""), 1) if row["kind"] == "episode"] == [first]


def test_tags_and_addresses(objects):
    ingest_episodes(objects, 1)
    ingest_episodes(objects, 2)
    put_tag(objects, "first", 1)
    put_tag(objects, "first", 1)
    assert open_store(f"{objects.url}@first#lab").episodes().collect().height == 1
    assert open_store(f"{objects.url}@first#other").episodes().collect().height == 0
    with pytest.raises(UsageError, match="stands for version 1 already, and a tag never moves"):
        put_tag(objects, "first", 2)
    with pytest.raises(VersionNotFound, match="no such version; the store has versions 1 to 2"):
        open_store(f"{objects.url}@7")
    with pytest.raises(VersionNotFound, match="known tags: first"):
        open_store(f"{objects.url}@last")
    for name in ("12", "open", "A", "../x"):
        with pytest.raises(UsageError):
            put_tag(objects, name, 1)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a/store", ("a/store", None, None)),
        ("a/store@12", ("a/store", "12", None)),
        ("a@b/store", ("a@b/store", None, None)),
        ("me@lab@v1#bridge", ("me@lab", "v1", "bridge")),
        ("s3://bucket/s@open#a", ("s3://bucket/s", "open", "a")),
        ("run#3/store#lab", ("run#3/store", None, "lab")),
        ("run#3/store", ("run#3/store", None, None)),
    ],
)
def test_addresses_are_split_at_their_last_signs(text, parts):
    address = parse_address(text)
    assert (address.url, address.ref, address.dataset) == parts


# -- liveness


def test_a_job_on_this_host_lives_as_long_as_its_process(objects):
    beat = Heartbeat(objects, new_job_id(), "test")
    record = read_job(objects, beat.job)
    assert record.alive
    assert all_jobs(objects)[beat.job] == record
    beat.end("ended")
    assert not read_job(objects, beat.job).alive
    assert json.loads(objects.get(layout.job_key(beat.job)))["state"] == "ended"


def job_record(host: str, pid: int, started: float, age_s: float = 0.0, state="running") -> JobRecord:
    return JobRecord("j", state, host, pid, started, time.time_ns() - int(age_s * 1e9), "test")


def test_a_process_that_is_gone_or_another_with_its_number_is_dead(objects):
    import socket
    import subprocess
    import sys

    here = socket.gethostname()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    assert job_record(here, process.pid, started, age_s=9999).alive  # this host: the process counts, not the heartbeat
    assert not job_record(here, process.pid, started - 5000).alive
    process.communicate(b"\n")
    assert not job_record(here, process.pid, started).alive


def test_a_job_of_another_host_is_judged_by_its_heartbeat():
    assert job_record("elsewhere", os.getpid(), 0.0, age_s=170).alive
    assert not job_record("elsewhere", os.getpid(), 0.0, age_s=190).alive
    assert not job_record("elsewhere", os.getpid(), 0.0, state="ended").alive


def test_where_conditions_are_sql_over_episode_columns(objects):
    from dataengine.store.query import plain, where

    ingest(objects, [SourceItem("a", [*episode(1, 5), *episode(2, 9, tasks=("close the drawer",), success=True)])])
    frame = open_store(objects.url).episodes()
    assert where(frame, "steps > 5 and success").collect()["steps"].to_list() == [9]
    assert where(frame, "array_contains(tasks, 'close the drawer')").collect().height == 1
    assert where(frame, "duration_s < 0.5").collect()["steps"].to_list() == [5]  # 5 rows at 10 Hz: 0.4 s
    assert isinstance(where(frame, None), pl.LazyFrame)
    for wrong in ("stepz > 3", "steps >", "steps; drop table x"):
        with pytest.raises(UsageError, match="must be an SQL condition over episode columns"):
            where(frame, wrong)
    row = plain(where(frame, "steps = 9").collect().row(0, named=True))
    assert (row["duration_s"], row["tasks"], row["metadata"]) == (0.8, ["close the drawer"], {})
