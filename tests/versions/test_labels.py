"""Labels in the life of a store: diff, removal, restore, gc, purge and check."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataengine.core.errors import StoreError, UsageError
from dataengine.core.objects import Objects
from dataengine.schema.schema import validate
from dataengine.store.catalog import Catalog, Change
from dataengine.store.jobs import Heartbeat
from dataengine.store.store import Store
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.history import diff
from dataengine.versions.lineage import lineage
from dataengine.versions.purge import plan_purge, purge
from dataengine.versions.removal import plan_label_removal, plan_removal, remove, remove_labels, restore
from tests.support import plain_reader
from tests.support.labels import begin_labels, label, label_content, label_set, made_labels
from tests.support.stores import Made, begin, die, land, new_store, rows_at


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    objects = new_store(tmp_path / "store")
    land(objects, [Made(1), Made(2, rows=5), Made(3)], source="/a")
    land(objects, [Made(4)], source="/b", dataset="other")
    return objects


def ids(objects: Objects, dataset: str = "lab") -> list[str]:
    return sorted(Store(objects, dataset=dataset).episodes().collect()["episode_id"])


def require_sound(objects: Objects) -> None:
    assert unreferenced(objects) == []
    assert plain_reader.faults(Path(objects.url)) == []
    for number in [int(path.stem) for path in (Path(objects.url) / "versions").glob("*.json")]:
        assert faults(check(Store(objects, str(number)), deep=True)) == []


# -- diff, removal, restore


def test_diff_names_label_sets(store: Objects) -> None:
    a, b, c = ids(store)
    label(store, ids=[a, b])
    label(store)
    found = diff(Store(store, "2"), Store(store, "3"))
    assert {key: (entry.episodes, entry.added, entry.removed, entry.changed) for key, entry in found.labels.items()} == {
        ("lab", "idm-small"): ((0, 2), 2, 0, 0)
    }
    assert not found.empty
    assert diff(Store(store, "3"), Store(store, "3")).empty
    grown = diff(Store(store, "3"), Store(store, "4")).as_dict()["labels"]
    assert [(entry["dataset"], entry["episodes"], entry["added"]) for entry in json.loads(json.dumps(grown))] == [
        ("lab", {"a": 2, "b": 3}, 1),
        ("other", {"a": 0, "b": 1}, 1),
    ]
    begin(store, [Made(1), Made(2, rows=5), Made(3)], source="/a", reading="2", again=True).end()
    assert diff(Store(store, "4"), Store(store, "5")).labels["lab", "idm-small"].removed == 3
    label(store)
    again = diff(Store(store, "4"), Store(store, "6")).labels
    assert {key: (entry.added, entry.removed, entry.changed) for key, entry in again.items()} == {("lab", "idm-small"): (0, 0, 3)}
    assert [dict(entry)["label_set"] for entry in lineage(Store(store), c).labels] == ["idm-small"]


def test_a_label_set_is_taken_out_and_its_name_is_free(store: Objects) -> None:
    label(store)
    before = label_content(store)
    plan = plan_label_removal(Store(store), "idm-small")
    assert (plan.labels, plan.count) == ({"lab": 3, "other": 1}, 4)
    version = remove_labels(store, plan, "rm --labels idm-small")
    assert (version.number, version.counts["labels_removed"], version.counts["episodes"]) == (4, 4, 4)
    assert Store(store).label_sets() == {}
    assert label_content(store, "3") == before
    assert plan_gc(store).objects == (), "version 3 still needs the payload"
    label(store, label_set(model="d" * 32))
    assert {row["model"] for row in Store(store).labels().collect().to_dicts()} == {"d" * 32}
    restore(store, "3", "restore")
    assert label_content(store) == before
    require_sound(store)
    collect(store, plan_gc(store, [4, 5]))
    assert {path.name for path in (Path(store.url) / "labels").iterdir()} == {"idm-small"}
    assert len(list((Path(store.url) / "labels").glob("*/*/labels.parquet"))) == 3, "two shards of lab, one of other: the other model's went with version 5"
    require_sound(store)


def test_labels_of_some_episodes_are_taken_out(store: Objects) -> None:
    label(store)
    plan = plan_label_removal(Store(store), "idm-small", "steps < 8")
    assert plan.labels == {"lab": 1}
    remove_labels(store, plan, "rm --labels")
    assert Store(store).label_sets()["idm-small"].episodes == {"lab": 2, "other": 1}
    assert plan_label_removal(Store(store), "idm-small", "steps < 8").count == 0
    with pytest.raises(UsageError, match="has no label set 'idm'; label sets: idm-small"):
        plan_label_removal(Store(store), "idm")
    with pytest.raises(UsageError, match="must be an SQL condition"):
        plan_label_removal(Store(store), "idm-small", "stepz < 8")
    with pytest.raises(UsageError, match="from the latest version only"):
        plan_label_removal(Store(store, "3"), "idm-small")


def test_what_a_dead_job_left_of_a_set_goes_with_it(store: Objects) -> None:
    die(begin_labels(store, label_set(model="d" * 32), commits=1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="another model"):
        label(store)
    running = Heartbeat(store, "20260101t000000-00000000", "label")
    with pytest.raises(StoreError, match="no other job at work"):
        remove_labels(store, plan_label_removal(Store(store), "idm-small"), "rm")
    running.end("ended")
    remove_labels(store, plan_label_removal(Store(store), "idm-small"), "rm")
    assert label(store).counts["labelled"] == 4
    collect(store, plan_gc(store))
    require_sound(store)


def test_labels_go_with_their_episode_and_their_payload_with_the_last_version(store: Objects) -> None:
    a, *_ = ids(store)
    label(store)
    remove(store, plan_removal(Store(store), "dataset = 'other'"), "rm")
    remove(store, plan_removal(Store(store), f"episode_id = '{a}'"), "rm")
    assert plan_gc(store).objects == ()
    assert Store(store).label_sets()["idm-small"].episodes == {"lab": 2}
    record = collect(store, plan_gc(store, [1, 2, 3, 4]))
    gone = [key for key in record["objects"] if key.startswith("labels/")]
    assert len(gone) == 2, "labels.parquet and shard.json of the other dataset's shard; the other shards hold labels that stay"
    require_sound(store)


# -- purge


def everywhere(root: Path) -> list[bytes]:
    """Return the bytes of every file, and every table as text and its numbers."""
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found.append(data)
        if path.suffix == ".parquet":
            table = pq.read_table(io.BytesIO(data))
            found.append(json.dumps(table.to_pylist(), default=str).encode())
            lists = [table[name].combine_chunks() for name in table.column_names if "fixed_size_list" in str(table.schema.field(name).type)]
            found += [column.drop_null().flatten().to_numpy(zero_copy_only=False).tobytes() for column in lists]
    return found


def test_after_a_purge_no_label_of_the_episode_is_left_anywhere(store: Objects) -> None:
    _, b, c = ids(store)
    label(store)
    label(store, label_set("latent", "d" * 32), a_shard=5)
    twice = begin_labels(store, every=True, a_shard=1)  # a writer that lost: its payload is there, and no row points to it
    twice.end()
    before = {key: value for key, value in label_content(store).items() if key[2] != b}
    steps = {row["episode_id"]: row["steps"] for row in Store(store).episodes().collect().to_dicts()}
    needle, other = (made_labels(episode, steps[episode]).columns["action"][2].tobytes() for episode in (b, c))
    assert any(needle in data for data in everywhere(Path(store.url)))
    folders = [held.folder.rsplit("/", 1)[0] for held in plan_purge(store, [b]).labels]
    assert sorted(folders) == ["labels/idm-small"] * 2 + ["labels/latent"]
    document = purge(store, [b], "consent withdrawn", "purge").document
    assert validate("removed", document) == []
    assert len([folder for folder in document["shards"] if folder.startswith("labels/")]) == 2, "what nothing points to was collected before"
    assert not any(needle in data for data in everywhere(Path(store.url)))
    assert any(other in data for data in everywhere(Path(store.url)))
    assert label_content_without(store, b) == before
    rows = [row for row in rows_at(store) if row["kind"] == "label" and row["episode_id"] == b]
    assert [row["summary"] for row in rows] == [None, None]
    require_sound(store)
    assert purge(store, [b], "again", "purge").document["episodes"] == [b]
    require_sound(store)
    with pytest.raises(UsageError, match="another model"):
        begin_labels(store, label_set(model="e" * 32))


def label_content_without(objects: Objects, episode_id: str) -> dict[object, object]:
    """Return the content of all labels but those of an episode, which can no longer be read."""
    store = Store(objects)
    rows = store.labels().collect().to_dicts()
    assert any(row["episode_id"] == episode_id for row in rows), "the row stays"
    found: dict[object, object] = {}
    for row in rows:
        if row["episode_id"] != episode_id:
            read = store.read_labels(row["episode_id"], row["label_set"])
            arrays = [read.columns, read.valid, read.low, read.high, read.confidence]
            content = [{name: np.nan_to_num(values, nan=-1).tolist() for name, values in group.items()} for group in arrays]
            facts = [row[name] for name in ("reading", "model", "trained_on", "bytes", "summary")]
            found[row["dataset"], row["label_set"], row["episode_id"]] = (facts, content, read.label_set, read.read)
    return found


def test_a_set_whose_rows_were_all_purged_keeps_its_model(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    (a,) = land(objects, [Made(1)])
    label(objects)
    purge(objects, [a], "consent withdrawn", "purge")
    land(objects, [Made(2)], source="/b")
    with pytest.raises(UsageError, match="another model"):
        begin_labels(objects, label_set(model="d" * 32))
    assert label(objects).counts["labelled"] == 1


def test_labels_that_nobody_can_tell_apart_stop_a_purge(store: Objects) -> None:
    label(store)
    (folder,) = {path.parent for path in (Path(store.url) / "labels").glob("*/*-00000-*/labels.parquet")}
    (folder / "labels.parquet").rename(folder / "other.bin")
    with pytest.raises(StoreError, match=r"expected labels in labels\.parquet, found other\.bin; whose labels these are cannot be said"):
        purge(store, ids(store)[:1], "x", "purge")


# -- check


def flip(place: float) -> Callable[[bytes], bytes]:
    """Return a damage: one bit of the byte at a share of the length."""

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[min(len(data) - 1, int(place * len(data)))] ^= 0x10
        return bytes(changed)

    return damage


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("how", ["gone", "cut"])
@pytest.mark.parametrize("name", ["labels.parquet", "shard.json"])
def test_missing_and_cut_labels_are_named(store: Objects, name: str, how: str, deep: bool) -> None:
    label(store)
    path = next((Path(store.url) / "labels").glob(f"*/*-00000-*/{name}"))
    data = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(data[: len(data) // 2])
    problems = faults(check(Store(store), deep))
    assert any(path.relative_to(store.url).as_posix() in problem.where for problem in problems), problems
    assert all(problem.advice and problem.message.startswith(problem.where) for problem in problems)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.37, 0.71, 1.0])
def test_a_flipped_bit_in_labels_is_named(store: Objects, place: float) -> None:
    label(store)
    path = next((Path(store.url) / "labels").glob("*/*-00000-*/labels.parquet"))
    path.write_bytes(flip(place)(path.read_bytes()))
    problems = faults(check(Store(store), deep=True))
    assert any(path.relative_to(store.url).as_posix() in problem.where for problem in problems), problems


def test_rows_that_contradict_the_payload_or_each_other_are_named(store: Objects) -> None:
    label(store)
    rows = {row["episode_id"]: row for row in rows_at(store) if row["kind"] == "label" and row["dataset"] == "lab"}
    a, b, c = sorted(rows)
    other = json.loads(rows[c]["summary"]) | {"recipe": "f" * 32}
    wrong = [
        rows[a] | {"address": rows[b]["address"]},
        rows[b] | {"model": "d" * 32},
        rows[c] | {"address": "nowhere", "summary": json.dumps(other)},
    ]
    heartbeat = Heartbeat(store, "20260101t000000-00000000", "label")
    stamp = {"job": heartbeat.job, "job_commit": 1}
    Catalog(store).commit(heartbeat.job, 1, ["lab"], lambda table: Change([], [row | stamp for row in wrong]))
    heartbeat.end("ended")
    land(store, [Made(9)], source="/z")
    problems = faults(check(Store(store), deep=True))
    named = {(problem.check, problem.episode_id) for problem in problems}
    assert {("unreadable", a), ("other_labels", b), ("invalid_row", c), ("mixed_label_set", None)} <= named
    assert [problem.where.rsplit(" ", 1)[1] for problem in problems if problem.check == "mixed_label_set"] == ["model", "recipe"]
    assert any(re.search(rf"expected labels of {a} in row group \d, found those of {b}", problem.message) for problem in problems)
    assert faults(check(Store(store, "3"), deep=True)) == [], "version 3 is as it was"


def test_labels_of_another_length_are_named_without_reading_them(store: Objects) -> None:
    label(store)
    (row,) = [row for row in rows_at(store) if row["kind"] == "episode" and row["steps"] == 5]
    heartbeat = Heartbeat(store, "20260101t000000-00000000", "x")
    Catalog(store).commit(heartbeat.job, 1, ["lab"], lambda table: Change([], [row | {"steps": 6, "job": heartbeat.job, "job_commit": 1}]))
    heartbeat.end("ended")
    land(store, [Made(9)], source="/z")
    found = [(problem.check, problem.expected, problem.found, problem.where.split("/")[-4]) for problem in faults(check(Store(store)))]
    assert ("wrong_steps", "6 steps", "5", "labels") in found
