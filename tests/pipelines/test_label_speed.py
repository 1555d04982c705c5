"""What labelling costs beside the model: measured on the same passes, without touching the store."""

from __future__ import annotations

import json
from pathlib import Path

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
    """By a clock that ticks once for each step that the model is asked about, a job takes exactly as long as the bare passes."""
    asked = [0]
    real = SquareLabeller.answer

    def counting(self: SquareLabeller, inputs: dict) -> dict:  # type: ignore[type-arg]
        asked[0] += len(inputs["pictures"])
        return real(self, inputs)

    monkeypatch.setattr(SquareLabeller, "answer", counting)
    monkeypatch.setitem(pipelines.label_speed.CLOCKS, "steps", lambda: float(asked[0]))
    before = sorted(path for path in store.rglob("*"))
    opening = Opening("square", SQUARE, str(save_square_model(tmp_path)))
    found = overhead(opening, str(store), square_rows(store), batch_size=50, repeats=2, clock="steps")
    assert (found.ratios, found.ratio, found.bare_s, found.job_s) == ((1.0, 1.0), 1.0, 180.0, 180.0)
    assert (found.steps, found.episodes, found.batches, found.labels_s) == (180, 3, 4, 1.0)
    assert set(found.seconds_of) == {"waiting", "model", "labels", "writing"}
    assert sorted(path for path in store.rglob("*")) == before, "nothing is written to the store"
    assert json.loads(json.dumps(found.as_dict()))["ratio"] == 1.0
    real_one = overhead(opening, str(store), square_rows(store), repeats=1)
    assert real_one.job_s > 0
    assert real_one.clock == "wall"


def test_episodes_that_cannot_be_labelled_are_no_measure(store: Path, tmp_path: Path) -> None:
    odd = square_rows(store)[1]["episode_id"]
    opening = Opening("square", SQUARE, str(save_square_model(tmp_path)), options=json.dumps({"odd": odd}))
    opened.cache_clear()
    with pytest.raises(UsageError, match="every episode must be one that can be labelled, found: this episode is odd"):
        overhead(opening, str(store), open_store(str(store)).episodes().collect().to_dicts(), repeats=1)
