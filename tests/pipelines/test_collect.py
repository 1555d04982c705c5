"""Simulated episodes: each lands once, whatever is asked for how often and by how many workers; what cannot run says what to install."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataengine.synth.metaworld_environment as metaworld
from dataengine.core.errors import UsageError
from dataengine.loaders import Field, dataset
from dataengine.store.store import open_store
from dataengine.synth.rollout import Play
from pipelines.collect import CollectJob, collect, make_environment
from pipelines.ingest import Report, _silent
from tests.support.jobs import Inline, content, dataengine, episodes, finish, kill_group, start, versions

ARM = ("arm", "--dataset", "arm", "--size", "32x32", "--noise", "0,0.3", "--max-steps", "12", "--json", "--local")


def run(store: Path, environment: str = "square", name: str = "square", count: int = 4, **more: Any) -> Report:
    return collect(CollectJob(environment, str(store), name, count, **more), Inline(), _silent)


def counts(report: Report) -> tuple[int, int, int, int]:
    """Return found, landed, skipped, rejected."""
    return report.found, report.landed, report.skipped, report.rejected


def test_an_episode_says_what_it_is(tmp_path: Path) -> None:
    run(tmp_path / "s", "arm", "arm", 3, seed=10, size=(32, 40), play=Play(noise=(0.0, 0.3), max_steps=12))
    rows = sorted(episodes(tmp_path / "s"), key=lambda row: int(row["source_key"]))
    assert [row["source_key"] for row in rows] == ["10", "11", "12"]
    assert [json.loads(row["metadata"])["noise"] for row in rows] == [0.0, 0.3, 0.0]
    for row in rows:
        told = json.loads(row["metadata"])
        assert (told["environment"], told["policy"], told["seed"]) == ("arm", "expert", int(row["source_key"]))
        assert (row["origin"], row["action_source"], row["embodiment"], row["clock"], row["rate_hz"]) == (
            "simulation",
            "commanded",
            "sample_arm",
            "measured",
            20.0,
        )
        assert (row["steps"], row["success"], row["flags"]) == (12, False, [])  # cut long before it was done
        assert row["source_uri"].startswith("simulation:/arm/")
    assert open_store(str(tmp_path / "s")).episodes().collect()["dataset"].to_list() == ["arm"] * 3


def test_what_is_there_is_skipped(tmp_path: Path) -> None:
    store = tmp_path / "s"
    assert counts(run(store)) == (4, 4, 0, 0)
    assert counts(run(store)) == (4, 0, 4, 0)
    assert versions(store) == [1]
    assert counts(run(store, count=6)) == (6, 2, 4, 0)
    assert counts(run(store, count=3, seed=5)) == (3, 2, 1, 0)  # 5 is there
    assert counts(run(store, count=20, limit=3)) == (11, 3, 8, 0)
    assert len(episodes(store)) == 11
    assert counts(run(store, count=2, play=Play(noise=(0.3,)))) == (2, 2, 0, 0)  # other choices are other episodes


def test_the_number_of_workers_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in ("1", "2"):
        call = dataengine("collect", *ARM, "-n", "30", "--workers", workers, "--store", tmp_path / workers)
        assert call.code == 0, call.err
        assert (call.json["landed"], call.json["units"]) == (30, 2)
    assert content(tmp_path / "2").differences(content(tmp_path / "1")) == []


def test_killed_and_run_again(tmp_path: Path) -> None:
    whole = dataengine("collect", *ARM, "-n", "30", "--store", tmp_path / "whole")
    assert whole.code == 0, whole.err
    for moment in (1.5, 3.0):
        kill_group(start("collect", *ARM, "-n", "30", "--store", tmp_path / "s"), moment)
    ended = finish(start("collect", *ARM, "-n", "30", "--store", tmp_path / "s"))
    assert ended.code == 0, ended.err
    assert ended.json["found"] == 30
    assert content(tmp_path / "s").differences(content(tmp_path / "whole")) == []


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_on_ray_as_without(tmp_path: Path) -> None:
    call = dataengine("collect", *ARM[:-1], "-n", "30", "--workers", "2", "--store", tmp_path / "ray")
    assert call.code == 0, call.err
    assert call.json["landed"] == 30
    assert dataengine("collect", *ARM, "-n", "30", "--store", tmp_path / "local").code == 0
    assert content(tmp_path / "ray").differences(content(tmp_path / "local")) == []


def test_a_world_that_breaks_costs_its_episode_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataengine.samples.moving_square import MovingSquare

    real = MovingSquare.step

    def breaks(self: MovingSquare, action: np.ndarray) -> Any:
        if self._at[0] == pytest.approx(self._starts_at) and self._steps == 0:
            raise FloatingPointError("the simulation is unstable")
        return real(self, action)

    square = MovingSquare()
    square.reset(1)
    monkeypatch.setattr(MovingSquare, "_starts_at", square._at[0], raising=False)
    monkeypatch.setattr(MovingSquare, "step", breaks)
    report = run(tmp_path / "s", count=3)
    assert counts(report) == (3, 2, 0, 1)
    assert "FloatingPointError" in report.rejects[0]["found"]
    assert [row["source_key"] for row in episodes(tmp_path / "s")] == ["0", "2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("army",), "unknown environment 'army': known: arm, errand, gym:<id>, metaworld:<task>, square, did you mean 'arm'?"),
        (("arm:left",), "unknown environment 'arm:left'"),
        (("metaworld",), "must name which one, got none; say metaworld:<task>"),
        (("square", "--noise", "a"), "--noise: must be numbers with commas between them"),
        (("square", "--noise", "-1"), "--noise: must be levels from 0 to 10"),
        (("square", "--size", "64"), "--size: must be height x width in px"),
        (("square", "--policy", "experts"), "unknown policy 'experts': known: expert, random, did you mean 'expert'?"),
    ],
)
def test_a_wrong_call_leaves_no_store(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    call = dataengine("collect", *words, "--dataset", "d", "-n", "1", "--store", tmp_path / "s", "--local")
    assert call.code == 2
    assert message in call.err
    assert not (tmp_path / "s").exists()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metaworld.importlib.util.find_spec
    monkeypatch.setattr(metaworld.importlib.util, "find_spec", lambda name: None if name in ("metaworld", "mujoco", "gymnasium") else real(name))
    with pytest.raises(UsageError, match=r"needs metaworld and mujoco, found none; install them with: pip install 'robot-dataengine\[sim\]'"):
        make_environment("metaworld:push-v3")
    with pytest.raises(UsageError, match=r"gym:CartPole-v1: needs gymnasium, found none; .*\[sim\]"):
        make_environment("gym:CartPole-v1")
    monkeypatch.setattr(metaworld.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(metaworld.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UsageError, match=r"needs EGL or OSMesa to render without a screen, found neither; .* apt-get install libegl1"):
        make_environment("metaworld:push-v3")


def test_the_loader_reads_what_was_collected(tmp_path: Path) -> None:
    run(tmp_path / "s", count=2)
    data = dataset(f"{tmp_path / 's'}#square", {"camera:primary": Field(steps=[0]), "action": Field(), "state": Field(steps=[0, 1])})
    assert len(data) == 120
    item = data[5]
    assert np.diff(item["state"], axis=0)[0] == pytest.approx(item["action"] * 3, abs=1e-4)


@pytest.mark.slow
def test_meta_world(tmp_path: Path) -> None:
    if find_spec("metaworld") is None:
        pytest.skip("the simulator is not installed: pip install 'robot-dataengine[sim]'")
    if metaworld.render_library() is None:
        pytest.skip("neither EGL nor OSMesa is installed")
    words = ("collect", "metaworld:push-v3", "--dataset", "push", "-n", "9", "--noise", "0,0.3,0.6", "--local", "--json")
    for store in ("a", "b"):
        call = dataengine(*words, "--workers", "1" if store == "a" else "2", "--store", tmp_path / store, timeout_s=300.0)
        assert call.code == 0, call.err
        assert call.json["landed"] == 9
    assert content(tmp_path / "b").differences(content(tmp_path / "a")) == []
    rows = sorted(episodes(tmp_path / "a"), key=lambda row: int(row["source_key"]))
    assert all(row["success"] for row in rows[::3])  # not perturbed
    assert all(row["rate_hz"] == 20.0 for row in rows)
    lags = {figure["value"] for row in rows for figure in row["figures"] if figure["name"] == "action_lag.observation.images.front"}
    assert lags == {-1.0}  # the simulated controller follows a step later
    alone = dataengine(*words[:4], "-n", "1", "--seed", "4", *words[6:], "--store", tmp_path / "alone", timeout_s=300.0)
    assert alone.code == 0, alone.err
    assert [row["fact"] for row in episodes(tmp_path / "alone")] == [rows[4]["fact"]]  # whatever was played before it
