"""Labels are committed as recordings are: all or nothing after a kill, each episode once, one model a set."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dataengine.core.errors import StoreError, UsageError
from dataengine.core.labels import LabelSet
from dataengine.core.objects import LocalObjects, Objects
from dataengine.store.catalog import Catalog
from dataengine.store.label_commit import LabelCommitter
from dataengine.store.store import Store
from dataengine.versions.check import check
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.purge import purge
from dataengine.versions.removal import plan_removal, remove
from tests.support.labels import begin_labels, label, label_content, label_set, made_labels
from tests.support.plain_reader import faults, read_labels
from tests.support.stores import Made, begin, die, land, new_store, rows_at


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    """A store of two datasets, five episodes: labels of it lie in three shards."""
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1), Made(2, rows=5), Made(3)], source="/a")
    land(objects, [Made(4), Made(5, rows=6)], source="/b", dataset="other")
    return objects


def label_rows(objects: Objects) -> list[dict[str, Any]]:
    return [row for row in rows_at(objects) if row["kind"] == "label"]


def require_sound(objects: Objects) -> None:
    assert check(Store(objects), deep=True) == []
    assert unreferenced(objects) == []
    assert faults(Path(objects.url)) == []


def test_each_episode_is_labelled_once_and_the_version_says_so(store: Objects) -> None:
    version = label(store)
    assert (version.number, version.config_digest) == (3, label_set().recipe)
    assert version.counts == {"episodes": 5, "steps": 35, "labelled": 5, "skipped": 0, "gone": 0}
    rows = label_rows(store)
    assert Counter(row["dataset"] for row in rows) == {"lab": 3, "other": 2}
    assert {row["reading"] for row in rows} == set(Store(store).episodes().collect()["reading"])
    assert all(row["address"].startswith(f"{version.job}-0000") for row in rows)
    again = begin_labels(store)
    assert (again.shards, again.committer.tally.skipped) == ((), 5)
    assert again.end().number == 3, "what changes nothing names no version"
    require_sound(store)


def test_a_plain_reader_reads_them_by_the_words_of_the_format(store: Objects) -> None:
    label(store)
    ours = Store(store)
    for row in ours.episodes().collect().iter_rows(named=True):
        (table,) = read_labels(Path(store.url), row).values()
        made = made_labels(row["episode_id"], row["steps"])
        assert table["step"].to_pylist() == list(range(row["steps"]))
        expected = [value if valid else None for value, valid in zip(made.columns["action"].tolist(), made.valid["action"], strict=True)]
        assert table["action"].to_pylist() == expected


def test_versions_before_the_labels_never_show_them(store: Objects) -> None:
    before = [Store(store, ref).episodes().collect() for ref in ("1", "2")]
    label(store)
    label(store, label_set("latent", "d" * 32))
    assert sorted(Store(store, "4").label_sets()) == ["idm-small", "latent"]
    assert sorted(Store(store, "3").label_sets()) == ["idm-small"]
    for ref, rows in zip(("1", "2"), before, strict=True):
        assert Store(store, ref).labels().collect().height == 0
        assert Store(store, ref).label_sets() == {}
        assert Store(store, ref).episodes().collect().equals(rows), "labels touch no episode's row"


# -- one model a set


def test_another_model_or_other_parameters_need_another_name(store: Objects) -> None:
    label(store)
    for other in (label_set(model="d" * 32), label_set(window_s=0.5), LabelSet("idm-small", "c" * 32)):
        with pytest.raises(UsageError, match=r"label set 'idm-small': must hold labels of one model and one set of parameters.*give the labels another name"):
            begin_labels(store, other)
    assert label(store, label_set("idm-wide", window_s=0.5)).counts["labelled"] == 5


def test_of_two_models_that_take_one_name_at_once_one_gets_it_also_in_different_datasets(store: Objects) -> None:
    ids = {name: Store(store, dataset=name).episodes().collect()["episode_id"].to_list() for name in ("lab", "other")}
    first = begin_labels(store, label_set(), ids["lab"], commits=0)
    second = begin_labels(store, label_set(model="d" * 32), ids["other"], commits=0)
    second.end()
    with pytest.raises(UsageError, match=f"those of another model \\(model {'d' * 32}"):
        first.committer.flush()
    first.heartbeat.end("failed")
    assert {row["model"] for row in label_rows(store)} == {"d" * 32}
    assert check(Store(store), deep=True) == []
    collect(store, plan_gc(store))
    require_sound(store)


# -- two writers


def test_of_two_writers_at_once_each_episode_is_labelled_once(store: Objects) -> None:
    jobs = [begin_labels(store, every=True, commits=0, a_shard=1 + number) for number in range(3)]
    ready = threading.Barrier(len(jobs))
    failed: list[BaseException] = []

    def commit(job: Any) -> None:
        try:
            ready.wait()
            job.committer.flush()
        except BaseException as error:  # noqa: BLE001 told below, in the thread of the test
            failed.append(error)

    threads = [threading.Thread(target=commit, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(job.committer.tally.labelled for job in jobs) == 5
    assert sum(job.committer.tally.skipped for job in jobs) == 10
    for job in jobs:
        job.end()
    assert len({(row["dataset"], row["fact"]) for row in label_rows(store)}) == len(label_rows(store)) == 5
    collect(store, plan_gc(store))
    require_sound(store)
    assert len(label_content(store)) == 5


def test_what_another_job_holds_is_in_the_version_of_the_job_that_relied_on_it(store: Objects) -> None:
    running = begin_labels(store, commits=1)
    later = begin_labels(store)
    assert (later.committer.tally.skipped, later.committer.tally.labelled) == (2, 3)
    version = later.end()
    assert len(label_content(store, str(version.number))) == 5
    running.heartbeat.end("failed")


# -- kills


class Died(BaseException):
    """The process was killed here."""


class Dying(LocalObjects):
    """A store's root whose process is killed at its n-th writing of an object, before it or right after it."""

    def __init__(self, root: Path, at: int, after: bool) -> None:
        super().__init__(root)
        self.left, self.after, self.dead = at, after, False

    def _die(self, write: Any, *what: Any) -> None:
        self.left -= 1
        last = self.left < 0 and not self.dead
        if self.dead or (last and not self.after):
            self.dead = True
            raise Died
        write(*what)
        if last:
            self.dead = True
            raise Died

    def put(self, key: str, data: bytes) -> None:
        self._die(super().put, key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._die(super().put_if_absent, key, data)


@pytest.mark.parametrize("after", [False, True])
def test_a_job_killed_at_any_writing_leaves_what_a_commit_left_and_goes_on(tmp_path: Path, after: bool) -> None:
    land(new_store(tmp_path / "empty"), [Made(1), Made(2, rows=5)])

    def fresh(name: str) -> Objects:
        return LocalObjects(Path(shutil.copytree(tmp_path / "empty", tmp_path / name)))

    whole = fresh("whole")
    label(whole, a_shard=1)
    expected = label_content(whole)
    deaths = 0
    for at in range(100):
        objects = fresh(f"{at}-{after}")
        before = Store(objects, "1").episodes().collect()
        dying = Dying(objects.root, at, after)  # type: ignore[attr-defined]
        try:
            begin_labels(dying, a_shard=1).end()
            break
        except Died:
            deaths += 1
        mark_dead(objects)
        named = Store(objects).version
        assert named is not None
        if named.number == 1:
            assert label_content(objects) == {}, "no version shows half a job"
        else:
            assert label_content(objects) == expected
        collect(objects, plan_gc(objects))
        label(objects, a_shard=1)
        assert label_content(objects) == expected
        assert Store(objects, "1").episodes().collect().equals(before)
        collect(objects, plan_gc(objects))
        require_sound(objects)
    assert deaths == 7, "the heartbeat, two shards of two objects, the version, and the heartbeat's end"


def mark_dead(objects: Objects) -> None:
    """Let every job that says it runs be one whose process is not there."""
    for path in (Path(objects.url) / "jobs").glob("*.json"):
        document = json.loads(path.read_text())
        if document["state"] == "running":
            path.write_text(json.dumps(document | {"pid_started": document["pid_started"] - 1000}))


def test_payload_without_a_commit_goes_with_gc_and_stays_while_its_job_runs(store: Objects) -> None:
    job = begin_labels(store, commits=1)
    assert len(job.shards) == 3
    assert plan_gc(store).objects == ()
    die(job)  # type: ignore[arg-type]
    plan = plan_gc(store)
    assert {key.rsplit("/", 1)[0] for key, _ in plan.objects} == set(job.shards[1:])
    collect(store, plan)
    assert len(label_rows(store)) == 2, "rows that a dead job committed stay, hidden"
    assert label_content(store) == {}
    with pytest.raises(StoreError, match="the labels that this job wrote are gone"):
        job.committer.flush()
    resumed = label(store)
    assert (resumed.counts["labelled"], resumed.counts["skipped"]) == (3, 2)
    assert len(label_content(store)) == 5
    require_sound(store)


def test_a_job_that_was_thought_dead_can_commit_nothing_any_more(store: Objects) -> None:
    zombie = begin_labels(store, commits=0)
    die(zombie)  # type: ignore[arg-type]
    collect(store, plan_gc(store))
    zombie.committer._require_payload = lambda rows: None  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="was ended by another process"):
        zombie.committer.flush()
    assert label_rows(store) == []


# -- episodes that change meanwhile


def test_labels_of_an_older_reading_no_longer_join_and_make_room_for_new_ones(tmp_path: Path) -> None:
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1), Made(2)], source="/a")
    label(objects)
    old = label_content(objects)
    begin(objects, [Made(1), Made(2)], source="/a", reading="2", again=True).end()
    assert label_content(objects) == {}
    (problem,) = check(Store(objects), deep=True)
    assert (problem.check, problem.severity) == ("stale_labels", "warning")
    assert problem.message.startswith(
        f"{objects.url}: label set idm-small of dataset lab: expected labels of episodes as they stand, found 2 of another reading"
    )
    version = label(objects)
    assert version.counts["labelled"] == 2
    assert len(label_rows(objects)) == 2, "one label of a set an episode"
    assert set(label_content(objects)) == set(old)
    assert label_content(objects, "2") == old
    assert check(Store(objects), deep=True) == []


def test_episodes_that_go_or_are_read_anew_while_the_model_runs_get_no_labels(tmp_path: Path) -> None:
    objects = new_store(tmp_path / "store")
    a, b, c = land(objects, [Made(1), Made(2), Made(3)], source="/a")
    (d,) = land(objects, [Made(4)], source="/d")
    job = begin_labels(objects, commits=0)
    remove(objects, plan_removal(Store(objects), f"episode_id = '{a}'"), "rm")
    begin(objects, [Made(4)], source="/d", reading="2", again=True).end()
    version = job.end()
    assert version.counts == {"episodes": 3, "steps": 24, "labelled": 2, "skipped": 0, "gone": 2}
    assert {row["episode_id"] for row in label_rows(objects)} == {b, c}
    assert d not in {key[2] for key in label_content(objects)}


def test_a_purged_episode_gets_no_labels(tmp_path: Path) -> None:
    objects = new_store(tmp_path / "store")
    a, b = land(objects, [Made(1), Made(2)])
    purge(objects, [a], "consent withdrawn", "purge")
    job = begin_labels(objects)
    assert (job.committer.tally.labelled, job.committer.tally.gone) == (1, 1)
    job.end()
    assert [row["episode_id"] for row in label_rows(objects)] == [b]


def test_labels_of_another_length_than_the_episode_are_refused(store: Objects) -> None:
    with pytest.raises(ValueError, match="must have 8 rows, one a step, got 7"):
        begin_labels(store, make=lambda episode_id, steps: made_labels(episode_id, steps - (steps == 8)))
    assert label_rows(store) == []


def test_a_store_without_labels_names_the_newest_version(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    assert LabelCommitter(objects, "20260101t000000-00000000", "label", label_set()).finish() is None
    assert Catalog(objects).table().version() == 0
