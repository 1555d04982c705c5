"""`dataengine label` as a process of its own: killed and run again, twice at once, with a process that dies, and on Ray as without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import pipelines.label
from dataengine.core.objects import open_objects
from dataengine.store.store import open_store
from dataengine.versions.check import check
from dataengine.versions.garbage import collect, plan_gc, unreferenced
from pipelines.label import LabelJob, run
from pipelines.label_unit import Opening
from pipelines.runtime import Runtime
from tests.support.jobs import Called, Inline, dataengine, finish, kill_group, require_whole, versions
from tests.support.labels import label_content
from tests.support.shared import REPOSITORY
from tests.support.square_labeller import SQUARE, save_square_model
from tests.support.square_store import make_square_store, square_rows


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of six episodes of 60 steps: only to be read."""
    return make_square_store(tmp_path_factory.mktemp("recorded") / "store")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model."""
    return save_square_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def store(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    shutil.copytree(recorded, tmp_path / "store")
    return tmp_path / "store"


def content(store: Path) -> Mapping[tuple[str, str, str], object]:
    return label_content(open_objects(str(store)))


@pytest.fixture(scope="module")
def whole(recorded: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str, str], object]:
    """What an uninterrupted job says of every episode."""
    copy = tmp_path_factory.mktemp("whole") / "store"
    shutil.copytree(recorded, copy)
    run(LabelJob(Opening("square", SQUARE, str(model)), str(copy), ("square",), "look"), Inline())
    found = content(copy)
    assert len(found) == 6
    return found


def begin(store: Path, model: Path, *more: object, local: bool = True) -> subprocess.Popen[str]:
    """Start a labelling job with small units, each of which is committed at once, in a process group of its own."""
    words = ["label", "square", "--model", model, "--store", store, "--dataset", "square", "--label-set", "look", "--json", *more]
    call = [sys.executable, "-m", "tests.support.label_command", *map(str, words), *(["--local"] if local else [])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(call, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]


def labels_open(store: Path) -> int:
    """Return how many labels are committed, also by jobs that have not ended."""
    return open_store(f"{store}@open").labels().collect().height


def require_sound(store: Path) -> None:
    """Run gc, and assert that the store is whole and holds nothing that nobody refers to."""
    objects = open_objects(str(store))
    collect(objects, plan_gc(objects))
    assert unreferenced(objects) == []
    assert check(open_store(str(store)), deep=True) == []


@pytest.mark.timeout(300)
def test_killed_and_run_again(store: Path, model: Path, whole: Mapping[tuple[str, str, str], object]) -> None:
    for committed in (1, 3):
        process = begin(store, model, "--option", "delay_s=0.4", "--workers", "1")
        deadline = time.monotonic() + 120
        while labels_open(store) < committed and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        assert kill_group(process, 0.0), "it was to be at work"
        assert committed <= labels_open(store) < 6
        assert content(store) == {}, "no version shows what a job that was killed has done"
        assert versions(store) == [1]
    before = labels_open(store)
    ended = finish(begin(store, model, "--workers", "2"))
    assert ended.code == 0, ended.err
    require_whole(ended.json)
    assert (ended.json["found"], ended.json["skipped"], ended.json["landed"]) == (6, before, 6 - before)
    assert content(store) == whole
    assert versions(store) == [1, 2]
    require_sound(store)


@pytest.mark.timeout(300)
def test_two_at_once(store: Path, model: Path, whole: Mapping[tuple[str, str, str], object]) -> None:
    jobs = [begin(store, model, "--option", "delay_s=0.05", "--workers", "1") for _ in range(2)]
    done: list[Called] = [finish(each) for each in jobs]
    for call in done:
        assert call.code == 0, call.err
        require_whole(call.json)
        assert call.json["found"] == 6
    assert sum(call.json["landed"] for call in done) == 6
    assert content(store) == whole
    for call in done:  # whoever was first: what it skipped, because the other had it, its version shows
        assert open_store(f"{store}@{call.json['version']}").labels().collect().height == 6
    require_sound(store)


ON_RAY = pytest.param(False, marks=[pytest.mark.ray, *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "ResourceWarning"))])


@pytest.mark.parametrize("local", [True, ON_RAY])
@pytest.mark.timeout(300)
def test_an_episode_that_kills_its_process_is_rejected_and_the_rest_land(
    store: Path, model: Path, whole: Mapping[tuple[str, str, str], object], monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    """Also under Ray, where the actors hold every core until all units have ended."""
    monkeypatch.setattr(pipelines.label, "UNIT_STEPS", (100, 100))
    deadly = square_rows(store)[3]["episode_id"]
    opening = Opening("square", SQUARE, str(model), options=f'{{"deadly": "{deadly}"}}')
    said: list[str] = []
    runtime = Runtime(local=local, workers=2)
    try:
        report = run(LabelJob(opening, str(store), ("square",), "look"), runtime, lambda message, done, total: said.append(message))
    finally:
        runtime.stop()
    assert (report.units, report.actors) == (3, 2)
    assert (report.found, report.landed, report.rejected, report.exit_code) == (6, 5, 1, 3)
    (reject,) = report.rejects
    assert (reject["episode_id"], reject["check"], reject["found"]) == (deadly, "labelling_died", "the process that read it died of SIGKILL")
    assert any("its episodes are labelled again" in message for message in said)
    assert content(store) == {key: value for key, value in whole.items() if key[2] != deadly}
    require_sound(store)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_on_ray_as_without(store: Path, model: Path, whole: Mapping[tuple[str, str, str], object]) -> None:
    odd = square_rows(store)[5]["episode_id"]
    call = finish(begin(store, model, "--option", "delay_s=0.1", "--option", f"odd='{odd}'", "--workers", "2", "--batch-size", "33", local=False), 400.0)
    assert call.code == 3, call.err
    require_whole(call.json)
    assert (call.json["found"], call.json["landed"], call.json["rejected"], call.json["actors"]) == (6, 5, 1, 2)
    assert [(each["episode_id"], each["found"]) for each in call.json["rejects"]] == [(odd, "ValueError: this episode is odd")]
    there = open_store(str(store))
    for row in square_rows(there)[:5]:  # what each actor said, in whatever order, stands where it belongs
        told = there.read_labels(row["episode_id"], "look").columns["centre"]
        assert abs(told - there.read_trajectory(row["episode_id"]).columns["observation.state"]).max() < 0.2
    assert set(content(store)) == {key for key in whole if key[2] != odd}
    assert "Traceback" not in call.err
    assert len(call.err.splitlines()) < 10, call.err
    require_sound(store)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("iddm",), "unknown labelling method 'iddm': known: flow_ridge, idm, latent, mapped, retarget, value, did you mean 'idm'?"),
        (("idm",), "label idm: needs a model, got none; name the folder of one with --model"),
        (("idm", "--model", "nowhere"), "name a folder that `dataengine train` wrote"),
        (("idm", "--option", "frame"), "--option: must be NAME=VALUE, got 'frame'"),
        (("idm", "--local", "--address", "auto"), "--local and --address: only one of them can be meant"),
    ],
)
def test_a_wrong_call_is_answered_with_a_sentence(recorded: Path, words: tuple[str, ...], message: str) -> None:
    call = dataengine("label", *words, "--store", recorded, "--dataset", "square", "--label-set", "look", *(["--local"] if "--local" not in words else []))
    assert (call.code, call.out) == (2, "")
    assert message in call.err
    assert "Traceback" not in call.err
    assert versions(recorded) == [1]


def test_what_a_job_did_is_said_in_words(store: Path) -> None:
    """Hand poses out of a world that has no hands: every episode is refused with the method's own sentence."""
    call = dataengine("label", "retarget", "--store", store, "--dataset", "square", "--label-set", "hands", "--local", "--option", "frame=camera")
    assert call.code == 3, call.err
    lines = call.out.splitlines()
    assert lines[0].startswith("6 found, 0 landed, 0 skipped, 6 rejected, 0 ignored (0 steps, 0 B, ")
    first = square_rows(store)[0]["episode_id"]
    assert any(
        line.startswith(f"rejected (cannot_label): square {first[:12]}: episode {first} of square: must hold the poses of any hand") for line in lines[1:7]
    )
    assert lines[7:] == [f"no labels hands: {store} is as it was, at version 1"]
    assert versions(store) == [1]
