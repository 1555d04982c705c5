"""The labelling job, in this process: labels land on their steps, once, beside what was recorded, and what is wrong with one episode costs that one."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import dataengine.store.watching
import pipelines.label
import pipelines.label_episodes
import pipelines.label_unit
from dataengine.core.arrays import Array
from dataengine.core.errors import DataEngineError, UsageError
from dataengine.core.labels import Labels
from dataengine.core.objects import open_objects
from dataengine.labels.registry import Method
from dataengine.loaders import Field, dataset
from dataengine.store.media import read_index
from dataengine.store.store import open_store
from dataengine.store.stored_streams import media_of
from dataengine.versions.check import check
from dataengine.versions.garbage import unreferenced
from dataengine.versions.removal import plan_removal, remove
from pipelines.children import Died, Limits
from pipelines.label import LabelJob, LabelReport, group, run
from pipelines.label_batches import Batch
from pipelines.label_episodes import Done, Refused, label_episodes
from pipelines.label_unit import Opening, abstaining, without_doubtful
from tests.support.jobs import Inline, versions
from tests.support.labels import label, label_content
from tests.support.square_labeller import CENTRE, SQUARE, SquareLabeller, opened, save_square_model
from tests.support.square_store import make_square_store, square_rows

T = TypeVar("T")
R = TypeVar("R")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of six episodes of 60 steps, in two shards: only to be read."""
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


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of two episodes."""
    monkeypatch.setattr(pipelines.label, "UNIT_STEPS", (100, 100))
    monkeypatch.setattr(pipelines.label, "COMMIT_S", 0.0)


def job(store: Path, model: Path, name: str = "look", options: str = "{}", **more: Any) -> LabelJob:
    return LabelJob(Opening("square", SQUARE, str(model), options=options), str(store), ("square",), name, **more)


def counts(report: LabelReport) -> tuple[int, int, int, int]:
    """Return found, landed, skipped, rejected."""
    assert report.found == report.landed + report.skipped + report.rejected
    return report.found, report.landed, report.skipped, report.rejected


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def off_by(store: Path, name: str = "look", shift: int = 0) -> float:
    """Return the mean distance in px between the labelled and the recorded centre, `shift` steps apart."""
    opened_store = open_store(str(store))
    apart = []
    for row in square_rows(opened_store):
        told = opened_store.read_labels(row["episode_id"], name).columns["centre"]
        there = opened_store.read_trajectory(row["episode_id"]).columns["observation.state"]
        apart.append(np.linalg.norm(told[: len(told) - shift] - there[shift:], axis=1))
    return float(np.concatenate(apart).mean())


def test_each_label_stands_at_its_step(store: Path, model: Path) -> None:
    before = {name: digests(store / name) for name in ("streams", "steps", "datasets")}
    report = run(job(store, model), Inline())
    assert counts(report) == (6, 6, 0, 0)
    assert (report.steps, report.units, report.version, report.read, report.exit_code) == (360, 3, 2, 1, 0)
    assert off_by(store) < 0.1
    assert off_by(store, shift=1) > 0.8
    assert {name: digests(store / name) for name in before} == before, "what was recorded is as it was"
    assert check(open_store(str(store)), deep=True) == []
    assert unreferenced(open_objects(str(store))) == []


def test_a_label_says_where_it_comes_from(store: Path, model: Path) -> None:
    report = run(job(store, model, abstain=0.7), Inline())
    there = open_store(str(store))
    labels = there.read_labels(square_rows(there)[2]["episode_id"], "look")
    assert labels.label_set is not None
    assert labels.label_set == abstaining(opened(model).label_set("look"), 0.7)
    assert labels.label_set.recipe == report.recipe
    assert (labels.label_set.trained_on, labels.read, labels.label_set.parameters["abstain_below"]) == (f"{'7' * 32}@3", 1, 0.7)
    assert {row["model"] for row in there.labels().collect().to_dicts()} == {opened(model).model}
    assert np.array_equal(labels.high["centre"][labels.valid["centre"]], labels.columns["centre"][labels.valid["centre"]] + 1)


def test_what_is_there_is_skipped_and_a_limit_is_kept(store: Path, model: Path) -> None:
    assert counts(run(job(store, model, limit=2), Inline())) == (2, 2, 0, 0)
    assert counts(run(job(store, model, limit=1), Inline())) == (3, 1, 2, 0)
    assert counts(run(job(store, model), Inline())) == (6, 3, 3, 0)
    again = run(job(store, model), Inline())
    assert (counts(again), again.version, again.units) == ((6, 0, 6, 0), 4, 0)
    assert versions(store) == [1, 2, 3, 4]
    assert counts(run(job(store, model, "other", where="source_key > '3'"), Inline())) == (2, 2, 0, 0)


def test_a_name_stands_for_one_recipe(store: Path, model: Path, tmp_path: Path) -> None:
    run(job(store, model), Inline())
    with pytest.raises(UsageError, match=r"holds those of another set of parameters .*; give the labels another name, or take the old ones out"):
        run(job(store, model, abstain=0.5), Inline())
    with pytest.raises(UsageError, match="holds those of another model"):
        run(job(store, save_square_model(tmp_path / "wide", 12)), Inline())
    assert versions(store) == [1, 2]
    assert len(list((store / "jobs").glob("*.json"))) == 2, "a call that is refused begins no job"


def test_the_loader_reads_them_like_any_column(store: Path, model: Path) -> None:
    run(job(store, model, abstain=0.8), Inline())
    data = dataset(f"{store}#square", {"label:look/centre": Field(), "state": Field(), "label:look/move": Field(steps=[0, 1])})
    abstained = 0
    assert len(data) == 360
    for item in (data[number] for number in range(0, 360, 7)):
        if item["label:look/centre_is_pad"]:
            abstained += 1
            assert item["label:look/centre_confidence"] < 0.8
        else:
            assert item["label:look/centre_confidence"] >= np.float32(0.8)
            assert item["label:look/centre"] == pytest.approx(item["state"], abs=0.2)
    assert 10 < abstained < 50


def test_doubtful_labels_are_null_and_say_how_doubtful_they_were(store: Path, model: Path) -> None:
    report = run(job(store, model, abstain=0.8), Inline())
    run(job(store, model, "all"), Inline())
    there = open_store(str(store))
    left_out = 0
    for row in square_rows(there):
        labels, whole = (there.read_labels(row["episode_id"], name) for name in ("look", "all"))
        assert np.array_equal(labels.valid["centre"], whole.confidence["centre"] >= 0.8)
        assert np.array_equal(labels.confidence["centre"], whole.confidence["centre"])
        assert np.array_equal(labels.valid["move"], np.arange(60) < 59), "a column without confidence stays as it is"
        left_out += int((~labels.valid["centre"]).sum())
    assert report.abstained == left_out > 60
    table = pq.read_table(sorted((store / "labels" / "look").glob("*/labels.parquet"))[0])
    assert table["centre"].null_count == table["centre.low"].null_count == sum(said.as_py() < 0.8 for said in table["centre.confidence"]) > 0


def test_to_abstain_takes_a_confidence() -> None:
    spec = replace(CENTRE, shape=(), dims=None)
    said = Labels({"centre": np.zeros(3, np.float32)}, {"centre": spec}, confidence={"centre": np.array([0.5, np.nan, 0.49], np.float32)})
    assert without_doubtful(said, 0.5).valid["centre"].tolist() == [True, False, False]
    assert without_doubtful(said, None) is said
    with pytest.raises(UsageError, match="--abstain: needs labels with a confidence"):
        without_doubtful(Labels({"centre": np.zeros(3, np.float32)}, {"centre": spec}), 0.5)


# -- order


@dataclass(frozen=True)
class Shuffled(Inline):
    """Ends units in another order than that of the plan."""

    seed: int = 0

    def map(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        order = random.Random(self.seed).sample(range(len(tasks)), len(tasks))
        assert order != sorted(order)
        return ((number, function(tasks[number])) for number in order)


@contextmanager
def shuffled_ahead(events: Iterator[Any], most: int) -> Iterator[Iterator[Any]]:
    """Give the batches of a unit in a random order, after all its episodes were announced: as if many workers answered."""
    there = list(events)
    batches = [event for event in there if isinstance(event, Batch)]
    assert len(batches) > 3
    random.Random(5).shuffle(batches)
    yield iter([*(event for event in there if not isinstance(event, Batch)), *batches])


def test_labels_stand_at_their_steps_whatever_ends_first(store: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(job(store, model, "plain", batch_size=16), Inline())
    run(job(store, model, "units", batch_size=16), Shuffled(seed=1))
    monkeypatch.setattr(pipelines.label_episodes, "ahead", shuffled_ahead)
    run(job(store, model, "batches", batch_size=16), Shuffled(seed=2))
    assert max(off_by(store, name) for name in ("plain", "units", "batches")) < 0.1
    there = open_store(str(store))
    rows = there.labels().collect()
    for row in square_rows(there):
        plain, units, batches = (there.read_labels(row["episode_id"], name) for name in ("plain", "units", "batches"))
        for other in (units, batches):
            assert np.array_equal(plain.columns["move"], other.columns["move"])
            assert np.array_equal(plain.columns["centre"], other.columns["centre"])
    for name in ("units", "batches"):  # committed in the order of the plan
        numbered = rows.filter(pl.col("label_set") == name).sort("created_ns")["address"].str.extract(r"-(\d{5})-[0-9a-f]+/").to_list()
        assert numbered == sorted(numbered)


def test_neither_batches_nor_actors_nor_parts_change_a_label(store: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 1, 7 and 64 cut across episodes, one unit or more, one actor or two, parts of 16 steps: within 1e-5, and twice the same is the same."""
    chosen = {"where": "source_key < '3'"}
    run(job(store, model, "b64", **chosen), Inline())
    run(job(store, model, "again", **chosen), Inline())
    run(job(store, model, "b1", batch_size=1, actors=1, **chosen), Inline())
    monkeypatch.setattr(pipelines.label, "UNIT_STEPS", (1000, 1000))
    run(job(store, model, "b7", batch_size=7, actors=2, **chosen), Inline())
    monkeypatch.setattr(dataengine.store.watching, "PART_STEPS", 16)
    run(job(store, model, "parts", batch_size=24, **chosen), Inline())
    there = open_store(str(store))
    for row in square_rows(there)[:3]:
        first, *others = (there.read_labels(row["episode_id"], name) for name in ("b64", "again", "b1", "b7", "parts"))
        assert np.ptp(first.columns["move"], axis=0).min() > 0.01, "a network that says the same of everything would prove nothing"
        for other in others:
            for name in ("centre", "move"):
                assert np.abs(first.columns[name] - other.columns[name]).max() <= 1e-5 * max(1.0, float(np.abs(first.columns[name]).max()))
        assert np.array_equal(first.columns["move"], others[0].columns["move"])


def test_units_are_of_one_dataset_and_bounded() -> None:
    rows = [{"dataset": "ab"[number >= 5], "steps": steps} for number, steps in enumerate([60, 60, 10, 200, 60, 60, 60])]
    assert [[row["steps"] for row in unit] for unit in group(rows)] == [[60, 60], [10, 200], [60], [60, 60]]
    assert [len(unit) for unit in group([{"dataset": "a", "steps": 0}] * 450)] == [200, 200, 50]


# -- what goes wrong


class Odd(SquareLabeller):
    """Fails at one of the episodes: where it is looked at, asked about, or labelled."""

    def __init__(self, like: SquareLabeller, odd: str, at: str) -> None:
        super().__init__(like.module, like.model)
        self.odd, self.at = odd, at

    def inputs(self, part: Any, steps: Array) -> dict[str, Array]:
        if self.at == "inputs" and part.episode_id == self.odd and 30 in part.first + steps:
            raise ValueError("no window here")
        return super().inputs(part, steps) | {"odd": np.full(len(steps), part.episode_id == self.odd)}

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self.at == "answer" and inputs["odd"].any():
            raise FloatingPointError("the network overflowed")
        return super().answer(inputs)

    def labels(self, episode: Any, answers: Mapping[str, Array]) -> Labels:
        if episode.episode_id == self.odd and self.at == "labels":
            answers = {**answers, "move": np.where(np.arange(60)[:, None] == 41, np.nan, answers["move"]).astype(np.float32)}
        if episode.episode_id == self.odd and self.at == "rows":
            labels = super().labels(episode, answers)
            return Labels({"move": labels.columns["move"][:59]}, {"move": labels.specs["move"]})
        return super().labels(episode, answers)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("inputs", "ValueError: no window here"),
        ("answer", "FloatingPointError: the network overflowed"),
        ("labels", "labels 'move': must be finite where they are valid, got [nan, nan, nan, nan] at step 41"),
        ("rows", "labels: must have 60 rows, one a step, got 59"),
    ],
)
@pytest.mark.parametrize("batch_size", [25, 400])
def test_what_is_wrong_with_an_episode_costs_that_one(recorded: Path, model: Path, at: str, message: str, batch_size: int) -> None:
    there = open_store(str(recorded))
    rows = square_rows(there)
    labeller = opened(model)
    found = list(label_episodes(Odd(labeller, rows[2]["episode_id"], at), there, rows, batch_size))
    (refused,) = [each for each in found if isinstance(each, Refused)]
    assert (refused.episode_id, refused.check) == (rows[2]["episode_id"], "cannot_label")
    assert message in refused.found
    landed = {each.number: each.labels for each in found if isinstance(each, Done)}
    assert sorted(landed) == [0, 1, 3, 4, 5]
    for number, labels in landed.items():
        state = there.read_trajectory(rows[number]["episode_id"]).columns["observation.state"]
        assert np.abs(labels.columns["centre"] - state).max() < 0.2


def test_an_episode_with_broken_pictures_is_rejected_and_the_rest_land(store: Path, model: Path) -> None:
    there = open_store(str(store))
    row = square_rows(there)[1]
    entry = next(entry for entry in there.index(row) if entry["stream"] == "observation.images.front")
    media = media_of(row, entry)
    index, _ = read_index(there.objects, media, int(entry["track"]))
    frame = int(entry["first_frame"]) + 31
    film = store / media
    content = bytearray(film.read_bytes())
    for number in range(frame, frame + 4):
        start, size = int(index["offset"][number]), int(index["size"][number])
        content[start : start + size] = b"\xff" * size
    film.write_bytes(bytes(content))
    report = run(job(store, model), Inline())
    assert (counts(report), report.exit_code) == ((6, 5, 0, 1), 3)
    (reject,) = report.rejects
    assert (reject["episode_id"], reject["dataset"], reject["check"]) == (row["episode_id"], "square", "unreadable_frames")
    assert "observation.images.front" in reject["where"]
    assert off_by_without(store, row["episode_id"]) < 0.1
    assert counts(run(job(store, model), Inline())) == (6, 0, 5, 1), "it is tried again, and is no better"


def off_by_without(store: Path, episode_id: str) -> float:
    there = open_store(str(store))
    apart = [
        np.abs(there.read_labels(row["episode_id"], "look").columns["centre"] - there.read_trajectory(row["episode_id"]).columns["observation.state"]).max()
        for row in square_rows(there)
        if row["episode_id"] != episode_id
    ]
    assert len(apart) == 5
    return float(np.mean(apart))


@dataclass(frozen=True)
class Interrupted(Inline):
    """Something else happens to the store after the units were planned, and before they are done."""

    happening: Callable[[], Any] = print

    def map(self, function: Callable[[T], R], tasks: Sequence[T], limits: Limits) -> Iterator[tuple[int, R | Died]]:
        self.happening()
        return super().map(function, tasks, limits)


def test_an_episode_that_is_taken_out_meanwhile_gets_no_labels(store: Path, model: Path) -> None:
    gone = square_rows(store)[4]["episode_id"]

    def take_out() -> None:
        there = open_store(str(store))
        remove(there.objects, plan_removal(there, f"episode_id = '{gone}'"), "rm")

    report = run(job(store, model), Interrupted(happening=take_out))
    assert (counts(report), [each["episode_id"] for each in report.rejects], report.exit_code) == ((6, 5, 0, 1), [gone], 3)
    assert report.rejects[0]["check"] == "gone"
    assert len(label_content(open_objects(str(store)))) == 5


def test_two_jobs_at_once_label_each_episode_once(store: Path, model: Path) -> None:
    """A second job begins and ends after the first has planned; the first finds everything done."""
    others: list[LabelReport] = []
    report = run(job(store, model), Interrupted(happening=lambda: others.append(run(job(store, model), Inline()))))
    assert (counts(report), counts(others[0])) == ((6, 0, 6, 0), (6, 6, 0, 0))
    assert len(label_content(open_objects(str(store)))) == 6


def test_another_model_on_another_machine_is_refused(store: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")

    def change() -> None:
        pipelines.label_unit.opened.cache_clear()
        save_square_model(tmp_path / "model", 12)

    with pytest.raises(UsageError, match=r"must hold the model that the job began with .*; give every machine the same folder"):
        run(job(store, tmp_path / "model"), Interrupted(happening=change))
    assert versions(store) == [1]


def test_labels_of_an_older_version_are_read_from_it(store: Path, model: Path) -> None:
    label(open_objects(str(store)), ids=[square_rows(store)[0]["episode_id"]])
    report = run(replace(job(store, model), store=f"{store}@1"), Inline())
    assert (report.read, report.version) == (1, 3)
    there = open_store(str(store))
    assert there.read_labels(square_rows(there)[0]["episode_id"], "look").read == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ("sqare",)}, "unknown dataset 'sqare': known: square, did you mean 'square'?"),
        ({"datasets": ()}, "must be told which datasets to label, got none; name them with --dataset: square"),
        ({"where": "steps >"}, "--where 'steps >': must be an SQL condition over episode columns"),
        ({"where": "colour = 'red'"}, "must be an SQL condition over episode columns, got: .*colour"),
        ({"where": "steps > 100"}, "expected episodes to label, found none for which 'steps > 100' holds"),
        ({"abstain": 1.5}, r"--abstain: must be a confidence above 0 and up to 1, got 1.5"),
        ({"label_set": "Look At"}, "label set"),
        ({"opening": Opening("square", SQUARE, "nowhere")}, r"nowhere/config.json: must be a model's JSON, .*; name a folder that `dataengine train` wrote"),
        ({"opening": Opening("square", SQUARE)}, "label square: needs a model, got none; name the folder of one with --model"),
        ({"opening": Opening("square", Method(alone=lambda options: None), "here")}, "label square: needs no model, got here; leave out --model"),  # type: ignore[arg-type,return-value]
    ],
)
def test_a_wrong_call_leaves_the_store_as_it_was(recorded: Path, model: Path, change: dict[str, Any], message: str) -> None:
    before = digests(recorded)
    with pytest.raises(UsageError, match=message):
        run(replace(job(recorded, model), **change), Inline())
    assert digests(recorded) == before


def test_a_wrong_option_and_a_wrong_kind_are_refused(recorded: Path, model: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown option of square 'delays': known: deadly, delay_s, odd, did you mean 'delay_s'\?"):
        run(job(recorded, model, options='{"delays": 1}'), Inline())
    with pytest.raises(
        UsageError, match="must hold a model of the kind 'idm', found one of the kind 'square'; name a folder that `dataengine train idm` wrote"
    ):
        run(replace(job(recorded, model), opening=Opening("idm", SQUARE, str(model))), Inline())


def test_a_camera_that_no_episode_has_is_a_wrong_call(recorded: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.support.square_labeller

    monkeypatch.setattr(SquareLabeller, "needs", replace(tests.support.square_labeller.NEEDS, cameras=("camera:wrist",)), raising=False)
    monkeypatch.setattr(SquareLabeller, "__init__", lambda self, module, model, options: self.__dict__.update(module=module, model=model, options=options))
    with pytest.raises(UsageError, match=r"dataset 'square': must have the camera 'camera:wrist' .*; its cameras: observation.images.front; use a model"):
        run(job(recorded, model), Inline())


def test_episodes_without_one_of_several_cameras_are_labelled_by_the_others(store: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.support.square_labeller

    both = replace(tests.support.square_labeller.NEEDS, cameras=("camera:wrist", "camera:primary"))
    monkeypatch.setattr(SquareLabeller, "needs", both, raising=False)
    monkeypatch.setattr(SquareLabeller, "__init__", lambda self, module, model, options: self.__dict__.update(module=module, model=model, options=options))
    report = run(job(store, model), Inline())
    assert (report.landed, report.rejected) == (6, 0)


def test_a_store_without_a_version_has_nothing_to_label(tmp_path: Path, model: Path) -> None:
    from dataengine.store.store import create_store

    create_store(open_objects(str(tmp_path / "s")))
    with pytest.raises(UsageError, match="has no version yet: nothing to label"):
        run(job(tmp_path / "s", model), Inline())
    with pytest.raises(DataEngineError, match="holds no store"):
        run(job(tmp_path / "none", model), Inline())
