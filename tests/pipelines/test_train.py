"""The training job: a version in, a model's folder out, the same for the same choices, whatever happened on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.core.objects import open_objects
from dataengine.labels import idm
from dataengine.labels.registry import open_labeller
from dataengine.models.checkpoint import load_checkpoint
from dataengine.store.store import open_store
from dataengine.store.watching import watch
from dataengine.versions.removal import plan_removal, remove
from pipelines.train import train
from pipelines.training_data import dataset_facts
from pipelines.training_folder import begun
from pipelines.training_job import HeldOutConfig, TrainingConfig, TrainJob, chosen_model, prepare
from tests.support.square_store import make_square_store

MODEL = {"size": [16, 16], "width": 16, "depth": 1, "heads": 2, "before_s": 0.0, "after_s": 0.1, "tokenizer": {"channels": [8], "strides": [4]}}
LATENT = {"size": [16, 16], "width": 8, "decoder_width": 8, "gaps_s": [0.1], "gap_s": 0.1}
FIT = {"steps": 12, "batch_size": 8, "save_every": 5, "log_every": 3, "warmup_steps": 2}
FILES = ["config.json", "curve.jsonl", "model.safetensors", "report.html", "train.json"]
CONFIG = TrainingConfig(model=MODEL, fit=FIT, held_out=HeldOutConfig(share=0.34))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_square_store(tmp_path_factory.mktemp("square") / "store")


@pytest.fixture(scope="module")
def job(store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    return TrainJob("idm", str(store), str(tmp_path_factory.mktemp("models") / "first"), ("square",), CONFIG, seed=3, device="cpu")


@pytest.fixture(scope="module")
def trained(job: TrainJob) -> dict[str, Any]:
    return train(job)


def test_the_folder_says_what_was_learned_from(job: TrainJob, trained: Mapping[str, Any]) -> None:
    out = Path(job.out)
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert trained["trained_on"].endswith("@1")
    recipe = trained["recipe"]
    assert (recipe["version"], recipe["datasets"], recipe["seed"]) == (1, ["square"], 3)
    assert len(recipe["held_out"]["square"]) == 2  # a third of six episodes
    assert trained["samples"] == 4 * 60
    assert [json.loads(line)["step"] for line in (out / "curve.jsonl").read_text().splitlines()] == [3, 6, 9, 12]
    assert load_checkpoint(out).digest == trained["model"]
    assert trained["model"] in (out / "report.html").read_text()


def test_the_same_choices_give_the_same_model_with_any_number_of_workers(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path) -> None:
    again = train(replace(job, out=str(tmp_path / "again"), workers=1))
    assert again["model"] == trained["model"]
    other = train(replace(job, out=str(tmp_path / "other"), seed=4))
    assert other["model"] != trained["model"]


def test_a_finished_model_is_not_trained_again(job: TrainJob, trained: Mapping[str, Any]) -> None:
    before = (Path(job.out) / "model.safetensors").stat().st_mtime_ns
    assert train(job)["model"] == trained["model"]
    assert (Path(job.out) / "model.safetensors").stat().st_mtime_ns == before


def test_a_killed_training_goes_on_to_the_same_model(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "killed"
    config = tmp_path / "idm.yaml"
    config.write_text(json.dumps({"model": MODEL, "fit": FIT, "held_out": {"share": 0.34}}))
    words = ["train", "idm", "--store", job.store, "--dataset", "square", "--out", str(out), "--config", str(config), "--seed", "3", "--device", "cpu"]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums of another number of threads round otherwise
    running = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, env=threads
    )
    place = out / "run" / "state.json"
    while not place.exists() and running.poll() is None:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    if not (out / "config.json").exists():  # else it was faster than the signal
        assert json.loads(place.read_text())["step"] in (5, 10, 12)
    assert train(replace(job, out=str(out)))["model"] == trained["model"]
    assert [json.loads(line)["step"] for line in (out / "curve.jsonl").read_text().splitlines()] == [3, 6, 9, 12]


def test_a_training_that_was_cut_keeps_to_the_version_it_began_with(job: TrainJob, tmp_path: Path) -> None:
    store = make_square_store(tmp_path / "store", 2)
    cut = replace(job, store=str(store), out=str(tmp_path / "cut"), config=TrainingConfig(model=MODEL, fit={**FIT, "learning_rate": 1e30, "clip_norm": 1e30}))
    with pytest.raises(UsageError, match="finite"):
        train(cut)
    assert json.loads((tmp_path / "cut" / "run" / "recipe.json").read_text())["version"] == 1
    objects = open_objects(str(store))
    remove(objects, plan_removal(open_store(str(store)), "source_key = '1'"), "rm")
    with pytest.raises(UsageError, match="finite"):  # and not: another version
        train(cut)
    with pytest.raises(UsageError, match=r"another .*version"):
        train(replace(cut, store=f"{store}@2"))


def test_a_default_gap_that_is_no_whole_number_of_steps_is_brought_to_one_and_told(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap of 0.08 s is 1.6 steps of 20 Hz; nothing is held out to be calibrated on."""
    monkeypatch.setitem(idm.SCALES, "tiny", idm.SCALES["tiny"].model_copy(update={"gap_s": 0.08}))
    quick = replace(job, config=TrainingConfig(model=MODEL, fit=FIT, held_out=HeldOutConfig(share=0.0)), steps=1)
    notes: list[str] = []
    found = train(replace(quick, out=str(tmp_path / "quick")), note=notes.append)
    model = found["recipe"]["model"]
    assert (model["gap_s"], model["before_s"], model["after_s"]) == (0.05, 0.0, 0.1)
    assert notes[0].startswith("a frame every 0.05 s, from 0 s before a step to 0.1 s after it")
    assert [("no held-out episode shows its command" in note, "no held-out episode shows its displacement" in note) for note in notes[1:]] == [
        (True, False),
        (False, True),
    ]
    chosen = replace(quick, out=str(tmp_path / "chosen"), config=TrainingConfig(model={**MODEL, "gap_s": 0.08}, fit=FIT))
    with pytest.raises(UsageError, match=r"got 1.6 at 20 steps a second; set gap_s to 0\.1"):
        train(chosen)


def test_body_and_rate_are_those_of_what_is_held_out_too(store: Path) -> None:
    """Else a model would be trained to the end before it meets an episode that it cannot be calibrated on."""
    opened = open_store(str(store))
    every = opened.episodes().collect()
    first = pl.int_range(pl.len()) == 0
    mixed = every.with_columns(
        embodiment=pl.when(first).then(pl.lit("crab")).otherwise(pl.col("embodiment")), rate_hz=pl.when(first).then(25.0).otherwise(pl.col("rate_hz"))
    )
    same, other = (dataset_facts(opened, "square", every[1:], rows, None, {}) for rows in (every, mixed))
    assert (same.embodiment, same.rate_hz) == (every["embodiment"][0], 20.0)
    assert (other.embodiment, other.rate_hz) == (None, None)


def test_a_figure_that_nobody_can_tell_keeps_no_model_from_being_written(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def standing(*asked: Any, **more: Any) -> Watched:
        seen = watch(*asked, **more)
        state = seen.columns["state"].copy()
        state[:, 1] = 0.5  # never changes, so that nothing can be said of how well its change is told
        return replace(seen, columns={**seen.columns, "state": state})

    monkeypatch.setattr("pipelines.training_data.watch", standing)
    config = TrainingConfig(model=LATENT, fit={**FIT, "steps": 3}, held_out=HeldOutConfig(share=0.34))
    out = tmp_path / "latent"
    found = train(replace(job, kind="latent", out=str(out), config=config))
    told = found["held_out"]["probe_r2_state.square"]
    assert isinstance(told[0], float)
    assert told[1] is None
    for name in ("train.json", "config.json"):
        json.loads((out / name).read_text(), parse_constant=pytest.fail)
    assert not (out / "run").exists()


def test_settings_of_a_scale_stay_where_only_some_are_given(job: TrainJob) -> None:
    small = replace(job, scale="small", config=TrainingConfig(model={"tokenizer": {"readout": "flat"}}))
    told = chosen_model(small).said["model"]
    assert (told["width"], told["tokenizer"]["channels"], told["tokenizer"]["flow"], told["tokenizer"]["readout"]) == (256, [64, 128, 128], [1, 2, 4], "flat")
    coded = replace(job, kind="latent", scale="small", config=TrainingConfig(model={"bottleneck": {"kind": "vq"}}))
    assert chosen_model(coded).said["model"]["bottleneck"]["tokens"] == 8  # as is usual of its kind, not the one of the scale's own


def test_what_earlier_runs_spent_is_counted(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> Iterator[Watched]:
        raise KeyboardInterrupt

    out = tmp_path / "cut"
    with monkeypatch.context() as cut:
        cut.setattr("pipelines.train.watched", killed)  # once all steps are done
        with pytest.raises(KeyboardInterrupt):
            train(replace(job, out=str(out)))
    place = json.loads((out / "run" / "state.json").read_text())
    (out / "run" / "state.json").write_text(json.dumps({**place, "spent": {"seconds": 900.0, "cpu_seconds": 800.0}}))
    found = train(replace(job, out=str(out)))
    assert found["model"] == trained["model"]
    assert 900 < found["fit"]["seconds"] < 1000
    assert 800 < found["fit"]["cpu_seconds"] < 900
    assert found["fit"]["last"]["loss"] == trained["fit"]["last"]["loss"]
    assert "before" not in found["fit"]


def test_flow_and_ridge_is_solved_for_and_labels(job: TrainJob, tmp_path: Path) -> None:
    linear = replace(job, kind="flow_ridge", config=TrainingConfig(held_out=HeldOutConfig(share=0.34)), out=str(tmp_path / "linear"))
    found = train(linear)
    assert sorted(path.name for path in (tmp_path / "linear").iterdir()) == ["config.json", "model.safetensors", "report.html", "train.json"]
    assert found["samples"] == 4 * 59  # the last step of each episode has no picture after it
    assert len(found["recipe"]["held_out"]["square"]) == found["held_out"]["episodes"] == 2
    assert found["held_out"]["command"]["x"]["r2"] > 0.9
    assert found["recipe"]["fit"] == {}
    assert found["parameters"] > 500
    labeller = open_labeller("flow_ridge", str(tmp_path / "linear"))
    assert labeller.label_set("linear").trained_on == found["trained_on"]
    assert labeller.label_set("linear").model == found["model"]
    assert found["model"] in (tmp_path / "linear" / "report.html").read_text()
    before = (tmp_path / "linear" / "model.safetensors").stat().st_mtime_ns
    assert train(linear)["model"] == found["model"]
    assert (tmp_path / "linear" / "model.safetensors").stat().st_mtime_ns == before
    assert train(replace(linear, out=str(tmp_path / "again")))["model"] == found["model"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"kind": "latent", "config": TrainingConfig(model={"bottleneck": {"kind": "vq"}}, fit={"steps": 100})},
            "begin after 100 steps, .* at least 101, got 100",
        ),
        ({"kind": "flow_ridge", "steps": 3, "ranks": 2, "config": TrainingConfig()}, "solved for in one go.*leave out --steps, --ranks"),
        ({"kind": "flow_ridge", "config": TrainingConfig(fit={"batch_size": 3})}, "leave out fit"),
        ({"kind": "flow_ridge", "config": TrainingConfig(model={"grid": 100})}, "grid: must be at most size"),
        ({"kind": "idn"}, "did you mean 'idm'"),
        ({"datasets": ("squares",)}, "did you mean 'square'"),
        ({"datasets": ()}, "must name a dataset"),
        ({"scale": "tinny"}, "did you mean 'tiny'"),
        ({"where": "stepz > 3"}, "stepz"),
        ({"where": "steps > 1000"}, "holds no episode for which"),
        ({"device": "gpu"}, "auto, cpu or cuda"),
        ({"config": TrainingConfig(model={"widht": 3})}, "did you mean 'width'"),
        ({"config": TrainingConfig(fit={"steps": 0})}, "steps"),
        ({"config": TrainingConfig(held_out=HeldOutConfig(share=1.5))}, "less than 1"),
    ],
)
def test_wrong_choices_are_named_and_leave_nothing(job: TrainJob, tmp_path: Path, changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        train(replace(job, out=str(tmp_path / "none"), **changes))
    assert not (tmp_path / "none").exists()


def test_a_folder_with_another_model_or_other_files_is_refused(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trained with another seed"):
        train(replace(job, seed=5))
    (tmp_path / "thesis.doc").write_text("all of it")
    with pytest.raises(UsageError, match="holds other files"):
        train(replace(job, out=str(tmp_path)))


def test_one_training_at_a_time_in_a_folder(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path) -> None:
    mine = replace(job, out=str(tmp_path / "mine"))
    with begun(tmp_path / "mine", prepare(mine).recipe), pytest.raises(UsageError, match=r"mine: another training is at work in this folder; wait"):
        train(mine)
    with pytest.raises(UsageError, match="trained with another seed"):  # it was begun
        train(replace(mine, seed=5))
    assert train(mine)["model"] == trained["model"]  # the lock goes with whoever had it


def test_a_folder_that_another_began_with_meanwhile_is_refused(job: TrainJob, tmp_path: Path) -> None:
    recipe = prepare(replace(job, out=str(tmp_path / "mine"))).recipe
    with begun(tmp_path / "mine", recipe):
        pass
    with pytest.raises(UsageError, match="trained with another seed"), begun(tmp_path / "mine", {**recipe, "seed": 5}):
        pytest.fail("two recipes in one folder")


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", "recipe.json.new")])
def test_a_training_that_was_killed_before_it_had_begun_begins_anew(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path, left: tuple[str, ...]) -> None:
    (tmp_path / "out" / "run").mkdir(parents=True)
    for name in left:
        (tmp_path / "out" / "run" / name).write_text('{"store": "/da')
    assert train(replace(job, out=str(tmp_path / "out")))["model"] == trained["model"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES


def test_what_a_training_left_that_was_killed_at_its_end_is_taken_away(job: TrainJob, trained: Mapping[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(job.out, out)
    (out / "run").mkdir()
    (out / "run" / "recipe.json").write_text(json.dumps(trained["recipe"]))
    (out / "run" / "state-12.safetensors").write_bytes(b"state")
    (out / ".model-x").mkdir()
    assert train(replace(job, out=str(out)))["model"] == trained["model"]
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_paths_mean_the_same_however_they_are_written(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of Ray Train begin in a folder of Ray's."""
    whole = prepare(replace(job, out=str(tmp_path / "out")))
    monkeypatch.chdir(tmp_path)
    store = os.path.relpath(job.store)
    assert store.startswith("..")
    found = prepare(replace(job, store=store, out="out"))
    assert (found.job.out, found.address, found.recipe) == (str(tmp_path / "out"), whole.address, whole.recipe)
    assert found.address == f"{Path(job.store).resolve()}@1"
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "recipe.json").write_text(json.dumps({**found.recipe, "store": store}))  # as it was written before
    assert prepare(replace(job, out="out")).digest == whole.digest


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_two_processes_train_one_model(job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.runtime import Runtime

    monkeypatch.chdir(tmp_path)
    runtime = Runtime(workers=3)
    try:
        found = train(replace(job, store=os.path.relpath(job.store), out="two", ranks=2), runtime)
    finally:
        runtime.stop()
    assert found["out"] == "two"
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == FILES
    assert found["fit"]["steps"] == 12
    assert found["recipe"]["ranks"] == 2
