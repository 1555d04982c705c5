"""Statistics of a dataset: by hand, by group, of horizons, and what is kept with the version."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dataengine.core.column import ActionSpace
from dataengine.core.column_statistics import NUMBERS
from dataengine.core.errors import CorruptStore, UnknownName, UsageError
from dataengine.core.objects import Objects
from dataengine.schema.schema import validate
from dataengine.store.removed import put_removed
from dataengine.store.store import Store
from dataengine.transforms.horizon import Horizon
from dataengine.versions import statistics
from dataengine.versions.check import check, faults
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from dataengine.versions.purge import purge
from dataengine.versions.removal import plan_removal, remove
from dataengine.versions.statistics import columns_of, dataset_statistics, grouped
from dataengine.versions.statistics_parts import merged, summarise
from tests.support.statistics_store import COLUMNS, EXAMPLES, HORIZON, item, known_store
from tests.support.units import ingest, new_store


def kept(objects: Objects) -> list[str]:
    return [meta.key for meta in objects.list("statistics")]


def rows_of(store: Store) -> pl.DataFrame:
    return store.episodes().collect()


def test_by_hand(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    document = dataset_statistics(Store(objects), "lab")
    assert [(part["embodiment"], part["control_mode"], part["episodes"], part["steps"]) for part in document["parts"]] == [
        ("arm", "joint_position, absolute", 2, 6),
        ("hand", "joint_position, absolute", 1, 2),
    ]
    arm = document["parts"][0]["columns"]
    # joints 0 1 2 4 10 20; the first state of the second episode is absent
    assert (arm["action"]["rows"], arm["action"]["nulls"], arm["action"]["count"]) == (6, 0, [6, 6])
    assert arm["action"]["mean"] == pytest.approx([37 / 6, 4 / 6])
    assert arm["action"]["std"] == pytest.approx([math.sqrt(521 / 6 - (37 / 6) ** 2), math.sqrt(2) / 3])
    assert (arm["action"]["min"], arm["action"]["q50"], arm["action"]["max"]) == ([0, 0], [2, 1], [20, 1])
    assert arm["action"]["distinct"] == [3, 2]
    assert (arm["observation.state"]["rows"], arm["observation.state"]["nulls"], arm["observation.state"]["mean"]) == (6, 1, [4.9, pytest.approx(0.1)])
    hand = document["parts"][1]["columns"]["action"]
    assert (hand["count"], hand["not_finite"], hand["mean"], hand["distinct"]) == ([1, 2], [1, 0], [7, 0], [1, 1])
    (whole,) = grouped(document)
    assert whole["columns"]["action"]["mean"] == pytest.approx([44 / 7, 0.5])
    assert (whole["episodes"], whole["steps"], whole["columns"]["action"]["dims"]) == (3, 8, ["joint", "gripper"])


def test_the_documents_are_the_examples_of_the_format(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    for name, horizon in (("columns", None), ("horizon", HORIZON)):
        document = dataset_statistics(Store(objects), "lab", horizon=horizon)
        assert validate("statistics", document) == []
        assert document == json.loads((EXAMPLES / f"statistics.{name}.json").read_text()), "run: python -m tests.support.statistics_store"
    assert len(kept(objects)) == 2


def test_of_a_horizon_by_hand(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    found = columns_of(dataset_statistics(Store(objects), "lab", horizon=HORIZON), embodiment="arm")
    assert list(found) == ["action"]
    action = found["action"]
    # the joint less the state, 0.5 below it: 0.5 at once; then 1.5 1.5 2.5, and of the second episode nothing, as its first state is absent
    assert (action.shape, action.rows, action.nulls, action.count) == ((2, 2), (6, 4), (1, 1), (5, 5, 3, 3))
    assert action.array("mean")[:, 0].tolist() == pytest.approx([0.5, 5.5 / 3])
    assert action.array("max").tolist() == [[0.5, 1], [2.5, 1]], "the gripper stays as it is"
    assert action.array("distinct").tolist() == [[1, 2], [2, 2]]


def test_per_horizon_against_window_after_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    joints = [rng.normal(size=(length, 2)) for length in (3, 17, 1, 40)]
    objects = new_store(tmp_path)
    ids = ingest(objects, [item(str(number), rows) for number, rows in enumerate(joints)]).ids
    store = Store(objects)
    for reference in ("state", "first", "consecutive"):
        found = columns_of(dataset_statistics(store, "lab", horizon=Horizon(5, reference)))["action"]
        for h in range(5):
            changes = []
            for episode_id in ids:
                steps = store.read_trajectory(episode_id).columns
                action, state = steps["action"].astype(float), steps["observation.state"].astype(float)
                for t in range(len(action) - h):
                    before = {"state": state[t, 0], "first": action[t, 0] if h else 0.0, "consecutive": action[t + h - 1, 0] if h else state[t, 0]}
                    changes.append(action[t + h, 0] - before[reference])
            assert found.array("count")[h, 0] == len(changes)
            assert found.array("mean")[h, 0] == pytest.approx(np.mean(changes), abs=1e-12)
            assert found.array("std")[h, 0] == pytest.approx(np.std(changes), abs=1e-12)
            assert found.array("q90")[h, 0] == np.quantile(changes, 0.9, method="inverted_cdf")


def test_groups_merge_to_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    objects = new_store(tmp_path)
    bodies = ["arm", "hand", None, "arm", "hand"]
    items = [item(str(number), rng.normal(number, 1, (4000, 2)), embodiment=body) for number, body in enumerate(bodies)]
    ids = ingest(objects, items).ids
    store = Store(objects)
    document = dataset_statistics(store, "lab")
    assert [group["embodiment"] for group in grouped(document, "embodiment")] == [None, "arm", "hand"]
    assert [entry["parts"] for entry in document["merged"]] == [[0, 1, 2]]
    values = np.concatenate([store.read_trajectory(episode_id).columns["action"].astype(float) for episode_id in ids])
    whole = columns_of(document)["action"]
    np.testing.assert_allclose(whole.array("mean"), values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole.array("std"), values.std(axis=0), rtol=1e-12)
    assert 0 < whole.rank_error < 0.001
    ordered = np.sort(values[:, 0])
    for name in ("q01", "q10", "q50", "q90", "q99"):
        upto = np.searchsorted(ordered, whole.array(name)[0], "right") / len(ordered)
        assert abs(upto - int(name[1:]) / 100) <= whole.rank_error + 1 / len(ordered)
    (alone,) = summarise(store, rows_of(store).with_columns(embodiment=pl.lit("one")))
    for name in NUMBERS[:2]:
        assert alone.columns()["action"][name] == pytest.approx(whole.array(name).tolist(), rel=1e-12)
    arms = [part for part in summarise(store, rows_of(store)) if part.embodiment == "arm"]
    assert merged(arms).columns() == arms[0].columns() == grouped(document, "embodiment")[1]["columns"]
    assert columns_of(document, embodiment="hand", control_mode="joint_position, absolute") == columns_of(document, embodiment="hand")
    with pytest.raises(UnknownName, match=r"unknown embodiment or control mode 'hamd'.* did you mean 'hand'"):
        columns_of(document, embodiment="hamd")
    with pytest.raises(UnknownName, match="unknown grouping 'body'"):
        grouped(document, "body")  # type: ignore[arg-type]


def test_control_modes_are_told_apart_across_datasets(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    velocity = {**COLUMNS, "action": replace(COLUMNS["action"], action_space=ActionSpace("joint_velocity", frame="base"))}
    ingest(objects, [item("p", [[1, 0], [3, 0]])], dataset="positions")
    ingest(objects, [item("v", [[5, 0], [9, 0], [1, 0]], columns=velocity)], dataset="velocities")
    store = Store(objects)
    parts = summarise(store, rows_of(store))
    assert [(part.control_mode, part.steps, part.columns()["action"]["mean"][0]) for part in parts] == [
        ("joint_position, absolute", 2, 2.0),
        ("joint_velocity, in base", 3, 5.0),
    ]
    assert merged(parts).columns()["action"]["mean"][0] == 3.8


def test_conditions_choose_episodes_and_have_documents_of_their_own(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    document = dataset_statistics(Store(objects), "lab", "success and embodiment = 'arm'")
    assert (document["parts"][0]["episodes"], document["parts"][0]["columns"]["action"]["max"]) == (1, [4, 1])
    dataset_statistics(Store(objects), "lab")
    assert len(kept(objects)) == 2
    with pytest.raises(UsageError, match="dataset 'lab': holds no episode for which steps > 100 holds"):
        dataset_statistics(Store(objects), "lab", "steps > 100")
    with pytest.raises(UsageError, match="must be an SQL condition"):
        dataset_statistics(Store(objects), "lab", "stpes > 1")
    with pytest.raises(UsageError, match="dataset 'other': holds no episode in this version; datasets: lab"):
        dataset_statistics(Store(objects), "other")
    with pytest.raises(UsageError, match="dataset"):
        dataset_statistics(Store(objects), "../lab")


def test_columns_without_statistics_are_named(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    ragged = {**COLUMNS, "observation.state": replace(COLUMNS["observation.state"], shape=(None,), dims=None)}
    rows = [[0, 0], [1, 1]]
    ingest(objects, [item("a", rows, [[1, 2, 3]] * 2, columns=ragged), item("b", rows, [[1, 2]] * 2, columns=ragged)])
    (whole,) = grouped(dataset_statistics(Store(objects), "lab"))
    assert list(whole["columns"]) == ["action"]
    assert whole["left_out"]["observation.state"] in ("rows of 3 and of 2 numbers", "rows of 2 and of 3 numbers")


def test_a_second_call_reads_the_document_and_no_steps(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    first = dataset_statistics(Store(objects), "lab"), dataset_statistics(Store(objects), "lab", horizon=HORIZON)
    (place, _) = kept(objects)
    before = objects.get(place)
    shutil.rmtree(tmp_path / "steps")
    assert (dataset_statistics(Store(objects), "lab"), dataset_statistics(Store(objects, "1"), "lab", horizon=HORIZON)) == first
    assert objects.get(place) == before
    with pytest.raises(CorruptStore, match="expected trajectories, found none"):
        dataset_statistics(Store(objects), "lab", "steps > 0")


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        objects, _ = known_store(tmp_path / name)
        dataset_statistics(Store(objects), "lab")
        (key,) = kept(objects)
        found.append((key, objects.get(key)))
    assert found[0] == found[1]


def test_the_order_of_shards_is_that_of_their_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    items = [item(str(number), rng.normal(number, 1, (5000, 2))) for number in range(4)]
    found = []
    for name, order in (("one", (0, 1, 2, 3)), ("two", (2, 3, 1, 0))):
        objects = new_store(tmp_path / name)
        for number in order:
            ingest(objects, [items[number]])  # a shard of its own
        found.append(dataset_statistics(Store(objects), "lab")["parts"])
    assert found[0] == found[1]
    assert found[0][0]["columns"]["action"]["rank_error"] > 0


def test_a_store_that_cannot_be_written_to_works_all_the_same(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    (tmp_path / "statistics").write_text("no folder")
    store = Store(objects)
    document = dataset_statistics(store, "lab")
    assert document["parts"][0]["steps"] == 6
    shutil.rmtree(tmp_path / "steps")
    assert dataset_statistics(store, "lab") == document, "kept in memory, for this store"
    with pytest.raises(CorruptStore, match="expected trajectories"):
        dataset_statistics(Store(objects), "lab")


def test_what_is_no_version_yet_is_not_kept(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    document = dataset_statistics(Store(objects, "open"), "lab")
    assert document["version"] is None
    assert document["parts"] == dataset_statistics(Store(objects), "lab")["parts"]
    assert len(kept(objects)) == 1


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    objects, _ = known_store(tmp_path)
    document = dataset_statistics(Store(objects), "lab")
    (key,) = kept(objects)
    objects.put(key, b"{")
    with pytest.raises(CorruptStore, match=f"{key}: expected a document of statistics"):
        dataset_statistics(Store(objects), "lab")
    assert [problem.check for problem in faults(check(Store(objects)))] == ["unreadable"]
    objects.put(key, json.dumps(document | {"dataset": "other"}).encode())
    (problem,) = faults(check(Store(objects)))
    assert (problem.check, problem.advice) == ("other_content", "remove it; it is computed anew when it is asked for")


def test_gc_keeps_them_as_long_as_their_version(tmp_path: Path) -> None:
    objects, made = known_store(tmp_path)
    dataset_statistics(Store(objects), "lab")
    dataset_statistics(Store(objects), "lab", horizon=HORIZON)
    remove(objects, plan_removal(Store(objects), f"episode_id = '{made.ids[0]}'"), "rm")
    second = dataset_statistics(Store(objects), "lab")
    assert sum(part["episodes"] for part in second["parts"]) == 2
    (tmp_path / "statistics" / "1" / "lab" / ".x.json.0123456789abcdef0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "statistics" / "note.txt").write_bytes(b"ours is not this")
    before = kept(objects)
    assert [key for key, _ in plan_gc(objects).objects] == [key for key in before if key.endswith(".tmp")]
    collect(objects, plan_gc(objects))
    assert sorted(key.split("/")[1] for key in kept(objects)) == ["1", "1", "2", "note.txt"]
    assert faults(check(Store(objects), deep=True)) == []
    record = collect(objects, plan_gc(objects, [1]))
    assert [key for key in record["objects"] if key.startswith("statistics/")] == [key for key in before if "/1/lab/" in key and key.endswith(".json")]
    assert sorted(key.split("/")[1] for key in kept(objects)) == ["2", "note.txt"]
    assert unreferenced(objects) == []
    assert dataset_statistics(Store(objects), "lab") == second


def test_a_purge_takes_them_and_new_ones_are_without_the_episode(tmp_path: Path) -> None:
    objects, made = known_store(tmp_path)
    ingest(objects, [item("z", [[1, 0], [2, 0]])], dataset="other")
    held = dataset_statistics(Store(objects, "1"), "lab")
    dataset_statistics(Store(objects), "lab")
    dataset_statistics(Store(objects), "other")
    assert held["parts"][0]["columns"]["action"]["max"][0] == 20
    purge(objects, [made.ids[1]], "withdrawn", "purge")
    assert [key.split("/")[2] for key in kept(objects)] == ["other"]
    for ref in ("1", "3"):
        document = dataset_statistics(Store(objects, ref), "lab")
        assert document["settings"]["purged"] == [made.ids[1]]
        assert (document["parts"][0]["episodes"], document["parts"][0]["columns"]["action"]["max"][0]) == (1, 4)
        assert document["parts"][0]["columns"]["observation.state"]["nulls"] == 0, "a purged step is none, and not a null one"
    assert dataset_statistics(Store(objects), "other")["settings"]["purged"] == []
    assert faults(check(Store(objects), deep=True)) == []
    assert unreferenced(objects) == []


def test_consent_withdrawn_while_steps_are_read_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, made = known_store(tmp_path)
    compute = statistics._compute

    def interrupted(store, dataset, *rest):  # type: ignore[no-untyped-def]
        document = compute(store, dataset, *rest)
        if document["settings"]["purged"] == []:
            folder = f"streams/lab/{Store(objects).row(made.ids[1])['shard']}"
            put_removed(objects, {"kind": "purge", "job": made.committer.job, "reason": "x", "episodes": [made.ids[1]], "shards": [folder], "objects": []})
        return document

    monkeypatch.setattr(statistics, "_compute", interrupted)
    document = dataset_statistics(Store(objects), "lab")
    assert document["settings"]["purged"] == [made.ids[1]]
    assert document["parts"][0]["columns"]["action"]["max"][0] == 4
    assert [json.loads(objects.get(key)) for key in kept(objects)] == [document]
