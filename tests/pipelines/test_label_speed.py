"""What labelling costs beside the model: measured on the same passes, without touching the store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import pipelines.label_speed
from dataengine.core.errors import UsageError
from dataengine.store.store import open_store
from pipelines.label_speed import overhead
from pipelines.label_unit import Opening, opened
from tests.support.square_labeller import SQUARE, SquareLabeller, save_square_model
from tests.support.square_store import make_square_store, square_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of 60 steps."""
    return make_square_store(tmp_path_factory.mktemp("speed") / "store", 3)


def test_a_job_makes_the_passes_that_it_is_measured_against(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By clocks that tick once (and twice) for each step that the model is asked about, a job takes exactly as long as the bare passes."""
    asked = [0]
    real = SquareLabeller.answer

    def counting(self: SquareLabeller, inputs: dict) -> dict:  # type: ignore[type-arg]
        asked[0] += len(inputs["pictures"])
        return real(self, inputs)

    monkeypatch.setattr(SquareLabeller, "answer", counting)
    for clock, ticks in (("wall", 1.0), ("cpu", 2.0)):
        monkeypatch.setitem(pipelines.label_speed.CLOCKS, clock, lambda ticks=ticks: ticks * asked[0])
    before = sorted(path for path in store.rglob("*"))
    opening = Opening("square", SQUARE, str(save_square_model(tmp_path)))
    found = overhead(opening, str(store), square_rows(store), batch_size=50, repeats=2)
    assert (found.ratios_wall, found.ratios_cpu, found.ratio_wall, found.ratio_cpu) == ((1.0, 1.0), (1.0, 1.0), 1.0, 1.0)
    assert (found.bare_s, found.job_s, found.steps_s) == (180.0, 180.0, 1.0)
    assert (found.steps, found.episodes, found.batches) == (180, 3, 4)
    assert set(found.seconds_of) == {"waiting", "model", "labels", "writing"}
    assert sorted(path for path in store.rglob("*")) == before, "nothing is written to the store"
    assert found.as_dict()["ratios_wall"] == json.loads(json.dumps(found.as_dict()))["ratios_wall"] == [1.0, 1.0]


def test_five_rounds_in_alternating_order_on_as_many_cores_as_the_model_has_threads(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one core decoding takes its time from the model: on a second one it would cost a job nothing."""
    order: list[str] = []
    cores: list[set[int]] = []
    timed, looked, asked = pipelines.label_speed._timed, SquareLabeller.inputs, SquareLabeller.answer

    def watching(what: Any) -> dict[str, float]:
        order.append(what.func.__name__)
        return timed(what)

    def seeing(of: Any) -> Any:
        def call(self: SquareLabeller, *told: Any) -> Any:
            cores.append(os.sched_getaffinity(0))  # of the thread that decodes, and of that which asks the model
            return of(self, *told)

        return call

    monkeypatch.setattr(pipelines.label_speed, "_timed", watching)
    monkeypatch.setattr(SquareLabeller, "inputs", seeing(looked))
    monkeypatch.setattr(SquareLabeller, "answer", seeing(asked))
    mine = os.sched_getaffinity(0)
    found = overhead(Opening("square", SQUARE, str(save_square_model(tmp_path))), str(store), square_rows(store))
    assert order == ["bare", "job", "job", "bare", "bare", "job", "job", "bare", "bare", "job"]
    assert len(found.ratios_wall) == len(found.ratios_cpu) == 5
    assert (found.threads, found.cores, {len(each) for each in cores}, len(set.union(*cores))) == (1, 1, {1}, 1)
    assert found.job_s > 0
    assert os.sched_getaffinity(0) == mine, "afterwards all cores are the process's again"
    assert {frozenset(os.sched_getaffinity(int(thread.name))) for thread in Path("/proc/self/task").iterdir()} == {frozenset(mine)}


def test_episodes_that_cannot_be_labelled_are_no_measure(store: Path, tmp_path: Path) -> None:
    odd = square_rows(store)[1]["episode_id"]
    opening = Opening("square", SQUARE, str(save_square_model(tmp_path)), options=json.dumps({"odd": odd}))
    opened.cache_clear()
    with pytest.raises(UsageError, match="every episode must be one that can be labelled, found: this episode is odd"):
        overhead(opening, str(store), open_store(str(store)).episodes().collect().to_dicts(), repeats=1)
