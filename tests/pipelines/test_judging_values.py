"""Value labels from a store to figures: learned, labelled, judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.core.errors import UsageError
from dataengine.core.labels import Labels
from dataengine.core.objects import LocalObjects
from dataengine.evaluate.labelled_values import labelled_values
from dataengine.store.store import open_store
from dataengine.synth.rollout import Play
from pipelines.collect import CollectJob, collect
from pipelines.ingest import _silent
from pipelines.train import train
from pipelines.training_job import TrainingConfig, TrainJob
from tests.support.jobs import Inline, dataengine
from tests.support.labels import label, label_set

EPISODES = 8
COLUMNS = ("value", "progress", "steps_to_success")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with eight episodes of the arm, some of which fail."""
    folder = tmp_path_factory.mktemp("values") / "store"
    collect(CollectJob("arm", str(folder), "arm", EPISODES, size=(16, 16), play=Play(noise=(0.0, 1.0), max_steps=90)), Inline(), _silent)
    outcomes = open_store(str(folder)).episodes().collect()["success"].to_list()
    assert set(outcomes) == {True, False}
    return folder


def made(episode_id: str, steps: int) -> Labels:
    """Return labels of one who knows: the steps that remain, and nothing at step 2."""
    left = np.arange(steps - 1, -1, -1, dtype=np.float32)
    columns: dict[str, Array] = {"value": -left / 90, "progress": 1 - left / 90, "steps_to_success": left}
    valid = dict.fromkeys(COLUMNS, np.arange(steps) != 2)
    wrong = {"steps_to_success": left + 1}
    return Labels(columns, {name: Column(name) for name in COLUMNS}, valid, {"steps_to_success": left - 1}, wrong)


def test_labels_of_one_who_knows_order_everything_right(store: Path, tmp_path: Path) -> None:
    import shutil

    mine = tmp_path / "store"
    shutil.copytree(store, mine)
    label(LocalObjects(mine), label_set("known", learned_from=["arm"]), make=made)
    found = dataengine("evaluate", "values", str(mine), "--dataset", "arm", "--label-set", "known", "--json")
    assert found.code == 0, found.err
    figures = found.json
    assert (figures["episodes"], figures["unknown_outcome"], figures["unlabelled"]) == (EPISODES, 0, 0)
    assert figures["succeeded"] == open_store(str(mine)).episodes().collect()["success"].sum()
    scores = figures["scores"]
    assert set(scores) == {"value", "progress", "steps_to_success", "time", "constant", "state_ridge", "state_ridge_progress"}
    assert [scores[name]["spearman_left"]["value"] for name in COLUMNS] == [1.0, 1.0, 1.0]
    assert scores["time"]["spearman_within"]["value"] == 1.0
    assert figures["steps_to_success"]["mae"] == 0.0
    assert figures["steps_to_success"]["coverage68"] == 1.0
    assert figures["learned_from"] == ["arm"]
    assert "the model learned from arm" in found.err
    table = dataengine("evaluate", "values", str(mine), "--dataset", "arm", "--label-set", "known")
    assert "steps to success: off by 0.0 on average" in table.out
    told = labelled_values(open_store(str(mine)), "arm", "known").told
    assert all(np.flatnonzero(np.isnan(each.scores["value"])).tolist() == [2] for each in told)
    assert all(each.state is not None and each.state.shape == (each.steps, 5) for each in told)


def test_what_cannot_be_judged_is_said(store: Path) -> None:
    unknown = dataengine("evaluate", "values", str(store), "--dataset", "amr", "--label-set", "known")
    assert (unknown.code, "did you mean 'arm'" in unknown.err) == (2, True)
    with pytest.raises(UsageError, match=f"got {EPISODES} episodes, 0 of unknown outcome, {EPISODES} without such labels"):
        labelled_values(open_store(str(store)), "arm", "known")


@pytest.mark.slow
def test_from_training_to_figures(store: Path, tmp_path: Path) -> None:
    import shutil

    mine, model = tmp_path / "store", tmp_path / "model"
    shutil.copytree(store, mine)
    config = TrainingConfig(model={"size": [16, 16], "width": 16, "depth": 1, "heads": 2, "bins": 21}, fit={"batch_size": 16}, held_out={"share": 0.25})  # type: ignore[arg-type]
    trained = train(TrainJob("value", str(mine), str(model), ("arm",), config, steps=30, device="cpu"))
    assert trained["held_out"]["episodes"] == 2
    assert trained["held_out"]["nll"] > 0
    done = dataengine(
        "label", "value", "--store", str(mine), "--dataset", "arm", "--label-set", "values", "--model", str(model), "--local", "--workers", "1", "--json"
    )
    assert (done.code, done.json["landed"]) == (0, EPISODES), done.err
    labels = open_store(str(mine)).read_labels(open_store(str(mine)).episodes().collect()["episode_id"][0], "values")
    assert set(labels.columns) == {"value", "success_probability", "steps_to_success", "progress", "advantage"}
    assert labels.label_set is not None
    assert labels.label_set.model == trained["model"]
    found = dataengine("evaluate", "values", str(mine), "--dataset", "arm", "--label-set", "values", "--json")
    assert found.code == 0, found.err
    assert found.json["model"] == trained["model"]
    assert found.json["scores"]["value"]["spearman_left"]["value"] is not None
