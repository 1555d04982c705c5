"""The gate from a store to its verdict, on errands whose labels are their true actions, garbage, or half of each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dataengine.core.arrays import Array
from dataengine.core.errors import UsageError
from dataengine.core.labels import Labels
from dataengine.core.objects import LocalObjects
from dataengine.evaluate.behaviour_cloning import CloningConfig
from dataengine.evaluate.demonstrations import Reading, choose_episodes, read_demonstrations
from dataengine.evaluate.downstream_page import downstream_page
from dataengine.store.store import open_store
from dataengine.store.verdicts import read_verdicts
from pipelines.downstream import GateJob, gate
from tests.support.gates import errands, label_errands
from tests.support.jobs import Inline, dataengine
from tests.support.labels import label, label_set

CLONING = CloningConfig(hidden=(64, 64), steps=400, batch_size=64, learning_rate=3e-3)
TRIED = {
    "true": ("real", "perfect", "pseudo", "filtered", "shuffled"),
    "wrong": ("real", "perfect", "pseudo"),
    "half": ("real", "pseudo", "filtered", "weighted"),
}


def true(actions: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    return actions, np.full(len(actions), 0.9)


def wrong(actions: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.uniform(-1, 1, actions.shape), np.full(len(actions), 0.9)


def half(actions: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    bad = rng.random(len(actions)) < 0.5
    return np.where(bad[:, None], -actions, actions), np.where(bad, 0.0, 0.8)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two datasets and three label sets."""
    folder = errands(tmp_path_factory.mktemp("gate") / "store")
    for name, corrupt in (("true", true), ("wrong", wrong), ("half", half)):
        label_errands(folder, name, corrupt)
    return folder


def job(store: Path, label_set: str, **more: Any) -> GateJob:
    return GateJob(str(store), "real", "demonstrations", label_set, "errand", episodes=40, seeds=2, cloning=CLONING, **more)


@pytest.fixture(scope="module")
def found(store: Path) -> dict[str, dict[str, Any]]:
    """What the gate finds of each label set."""
    return {name: gate(job(store, name, conditions=conditions), Inline()) for name, conditions in TRIED.items()}


def test_true_labels_help_and_recover_the_gain(found: dict[str, dict[str, Any]]) -> None:
    told = found["true"]
    assert told["verdict"] == "helps", told["reason"]
    assert told["conditions"]["perfect"]["success"] > told["conditions"]["real"]["success"] + 0.25
    assert told["gain_recovered"]["value"] > 0.6
    assert told["shuffled_gain"]["value"] < 0.1
    assert "filtered" in told["left_out"]  # all labels are as sure


def test_garbage_does_not_help(found: dict[str, dict[str, Any]]) -> None:
    told = found["wrong"]
    assert told["verdict"] in ("no evidence", "hurts")
    assert told["gain_recovered"]["value"] < 0.1
    assert told["conditions"]["perfect"] == found["true"]["conditions"]["perfect"]  # only labels differ, and every number follows from the seeds


def test_what_says_that_it_is_not_sure_is_left_out(found: dict[str, dict[str, Any]]) -> None:
    told = found["half"]["conditions"]
    assert told["filtered"]["success"] > told["pseudo"]["success"] + 0.1
    assert told["weighted"]["success"] > told["pseudo"]["success"] + 0.1
    assert max(told["filtered"]["added"]) < 0.7 * min(told["pseudo"]["added"])
    assert told["weighted"]["added"] == told["pseudo"]["added"]


def test_the_verdict_is_kept_with_the_label_set(store: Path, found: dict[str, dict[str, Any]]) -> None:
    (kept,) = read_verdicts(open_store(str(store)), "true")
    assert {name: kept[name] for name in ("verdict", "reason", "conditions", "gain_recovered")} == {
        name: found["true"][name] for name in ("verdict", "reason", "conditions", "gain_recovered")
    }
    assert kept["recipe"] == open_store(str(store)).label_sets()["true"].label_set.recipe
    assert dataengine("check", str(store)).code == 0


def test_the_page_says_it(found: dict[str, dict[str, Any]]) -> None:
    page = downstream_page(found["true"])
    assert "Do the labels true help?" in page
    assert '<strong class="good">helps</strong>' in page
    assert "gain recovered" in page
    assert "<script" not in page


def test_demonstrations_are_read_as_they_were_recorded(store: Path) -> None:
    opened = open_store(str(store))
    ids = choose_episodes(opened, "demonstrations", "success", 3, 0)
    assert ids != choose_episodes(opened, "demonstrations", "success", 3, 1)
    assert choose_episodes(opened, "demonstrations", None, 2, 0) == ids[:2]
    assert choose_episodes(opened, "demonstrations", None, 1, 0, ids[1:]) == ids[1:2]
    assert opened.version is not None
    read = read_demonstrations(f"{store}@{opened.version.number}", "demonstrations", ids, Reading(("observation.state",), label="label:half/action"))
    for number, episode_id in enumerate(read.episode_ids):
        own, trajectory = read.episode == number, opened.read_trajectory(episode_id)
        labels = opened.read_labels(episode_id, "half")
        order = np.argsort(read.step[own])
        assert np.array_equal(read.inputs["observation.state"][own][order], trajectory.columns["observation.state"])
        assert np.array_equal(read.actions[own][order], trajectory.columns["action"])
        assert read.labelled[own][order].tolist() == [True] * (trajectory.steps - 1) + [False]
        assert np.array_equal(read.labels[own][order][:-1], labels.columns["action"][:-1])
        assert np.array_equal(read.confidence[own][order][:-1], labels.confidence["action"][:-1])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"label_set": "other"}, "no episode of 'demonstrations' has labels of a set 'other'; label sets of it: half, true, wrong"),
        ({"column": "acton"}, "unknown column of the label set 'true' 'acton'.*did you mean 'action'"),
        ({"real": "reel"}, "unknown dataset 'reel'.*did you mean 'real'"),
        ({"real_episodes": 60}, "dataset 'real': must hold 60 episodes"),
        ({"labelled_episodes": 60}, "and that have labels of the set, holds 46"),
        ({"conditions": ("real", "perfect")}, "must hold real and pseudo"),
        ({"policy": "sound"}, "unknown policy 'sound'"),
        ({"environment": "square"}, "must have the measured action|they share none|shaped as the environment"),
    ],
)
def test_what_cannot_be_is_refused(store: Path, more: dict[str, Any], message: str) -> None:
    words: dict[str, Any] = {"label_set": "true", **more}
    given = {"real": "real", "environment": "errand"} | words
    with pytest.raises(UsageError, match=message):
        gate(
            GateJob(
                str(store),
                given.pop("real"),
                "demonstrations",
                given.pop("label_set"),
                given.pop("environment"),
                episodes=4,
                seeds=2,
                record=False,
                **given,
            ),
            Inline(),
        )


def silent(store: Path, name: str, quiet: set[str]) -> None:
    """Label the demonstrations with their true actions, and abstain on all steps of some."""
    opened = open_store(str(store))

    def made(episode_id: str, steps: int) -> Labels:
        trajectory = opened.read_trajectory(episode_id)
        spec = replace(trajectory.specs["action"], action_source="idm")
        valid = np.full(steps, episode_id not in quiet)
        return Labels({"action": trajectory.columns["action"].astype(np.float32)}, {"action": spec}, {"action": valid})

    ids = opened.episodes().filter(pl.col("dataset") == "demonstrations").collect()["episode_id"].to_list()
    label(LocalObjects(store), label_set(name, how=name), ids=ids, make=made, a_shard=100)


def test_conditions_that_only_some_policies_have_are_left_out(store: Path) -> None:
    opened = open_store(str(store))
    first, second = (set(choose_episodes(opened, "demonstrations", "success is null or success", 2, seed)) for seed in (0, 1))
    assert second - first
    silent(store, "quiet-once", {min(second - first)})
    some = GateJob(
        str(store), "real", "demonstrations", "quiet-once", "errand", labelled_episodes=2, episodes=2, seeds=2, cloning=CloningConfig(hidden=(8,), steps=5),
        conditions=("real", "pseudo", "shuffled"), record=False,
    )  # fmt: skip
    found = gate(some, Inline())
    assert found["conditions"].keys() == {"real", "pseudo"}
    assert found["left_out"].keys() == {"shuffled"}


def test_labels_that_are_none_are_refused_before_anything_is_played(store: Path) -> None:
    everyone = open_store(str(store)).episodes().collect()["episode_id"].to_list()
    silent(store, "quiet", set(everyone))
    with pytest.raises(UsageError, match="no step of the episodes that policy 0 would learn from has a label"):
        gate(job(store, "quiet", record=False), Inline())


def test_the_command(store: Path, tmp_path: Path) -> None:
    words = ("evaluate", "downstream", store, "--real", "real", "--labelled", "demonstrations", "--label-set", "true", "--environment", "errand")
    small = ("-n", 4, "--seeds", 1, "--conditions", "real,pseudo", "--local", "--out", tmp_path / "out")
    called = dataengine(*words, *small, "--json")
    assert called.code == 0, called.err
    assert called.json["kept"]["verdict"] == called.json["verdict"]
    assert json.loads((tmp_path / "out" / "downstream.json").read_text())["conditions"].keys() == {"real", "pseudo"}
    assert "Only one policy a condition" in (tmp_path / "out" / "downstream.html").read_text()
    refused = dataengine(*words[:-1], "metaword:push-v3", *small)
    assert (refused.code, "metaworld:<task>" in refused.err) == (2, True)
