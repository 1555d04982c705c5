"""`dataengine stats`: what it prints and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.jobs import dataengine
from tests.support.statistics_store import item, known_items
from tests.support.units import ingest, new_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    ingest(new_store(root), known_items())
    return root


def test_of_all_of_groups_and_of_a_horizon(store: Path) -> None:
    whole = dataengine("stats", store, "--json").json
    assert (whole["dataset"], whole["version"], whole["episodes"], whole["steps"]) == ("lab", 1, 3, 8)
    assert whole["columns"]["action"]["max"] == [20, 1]
    groups = dataengine("stats", f"{store}@1", "--by", "embodiment", "--json").json["groups"]
    assert [(group["embodiment"], group["columns"]["action"]["max"][0]) for group in groups] == [("arm", 20), ("hand", 7)]
    relative = dataengine("stats", store, "--horizon", 2, "--relative", "state", "--where", "embodiment = 'arm'", "--json").json
    assert [step["max"] for step in relative["columns"]["action"]] == [[0.5, 1], [2.5, 1]]
    assert relative["settings"]["horizon"]["reference"] == "state"
    printed = dataengine("stats", store, "--by", "control-mode", "--horizon", 2, "--relative", "first").out
    assert "control-mode joint_position, absolute: 3 episodes, 8 steps" in printed
    assert "dataset lab, 1 column, 3 episodes, 1 group" in printed
    assert len(list((store / "statistics" / "1" / "lab").glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--relative", "state"), "--relative: must be given with --horizon"),
        (("--horizon", 2, "--relative", "last"), "unknown reference for --relative 'last': known: consecutive, first, state"),
        (("--by", "control"), "unknown grouping for --by 'control': known: control-mode, embodiment"),
        (("--horizon", 0), "horizon: must be 1 to 1000 steps, got 0"),
        (("--dataset", "bal"), "dataset 'bal': holds no episode in this version; datasets: lab"),
    ],
)
def test_a_wrong_call_is_said_in_one_sentence(store: Path, words: tuple[object, ...], error: str) -> None:
    called = dataengine("stats", store, *words)
    assert (called.code, called.out) == (2, "")
    assert error in called.err
    assert "Traceback" not in called.err


def test_a_store_of_several_datasets_asks_for_one(tmp_path: Path) -> None:
    objects = new_store(tmp_path)
    for name in ("a", "b"):
        ingest(objects, [item(name, [[1, 0], [2, 0]])], dataset=name)
    called = dataengine("stats", tmp_path)
    assert (called.code, called.err.strip().endswith("name one with --dataset: a, b")) == (2, True)
    assert dataengine("stats", f"{tmp_path}#b", "--json").json["dataset"] == "b"
