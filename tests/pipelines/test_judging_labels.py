"""`dataengine evaluate labels` from end to end, on the moving square: who is right is said to be right, and who is not, not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.objects import open_objects
from dataengine.evaluate.folds import Fold, whole
from dataengine.evaluate.viewing import Viewer, whole_views
from dataengine.labels.flow_ridge import FlowRidgeConfig, checkpoint_of, learn, needs_of
from dataengine.models.checkpoint import Checkpoint, save_checkpoint
from dataengine.store.store import open_store, require_store
from pipelines.cli import app
from pipelines.commands.judging_labels import _seen
from pipelines.commands.judging_labels import labels as judge
from tests.support.labels import label
from tests.support.square_store import make_square_store, square_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of six episodes, with labels that have nothing to do with them, of every third step none."""
    folder = make_square_store(tmp_path_factory.mktemp("square") / "store")
    label(open_objects(str(folder)))
    return folder


@pytest.fixture(scope="module")
def model(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that learned from the first four episodes."""
    config = FlowRidgeConfig()
    folder = tmp_path_factory.mktemp("models") / "linear"
    with Viewer(open_store(str(store))) as viewer:
        views = whole_views(viewer, square_rows(store)[:4], needs_of(config, (0.0,)))
        save_checkpoint(folder, checkpoint_of(learn(views, config, "other@1")))
    return folder


def asked(store: Path, out: Path, **choices: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "datasets": ["square"],
        "label_sets": [],
        "models": [],
        "learn": [],
        "baselines": "mean,flow_ridge,null",
        "train_datasets": [],
        "split": None,
        "folds": 3,
        "against": [],
        "where": None,
        "limit": None,
        "seed": 0,
        "device": "cpu",
        "latent": False,
        "as_json": False,
    }
    judge(str(store), out=str(out), **(usual | choices))
    found: dict[str, Any] = json.loads((out / "labels.json").read_text())
    return found


@pytest.fixture(scope="module")
def judged(store: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out")
    return asked(store, out, label_sets=["idm-small"], models=[str(model)]), out


def test_episodes_that_latents_have_seen_and_those_of_calibration_are_counted(store: Path, tmp_path: Path) -> None:
    opened = open_store(str(store))
    rows = square_rows(store)
    ids = [row["episode_id"] for row in rows]
    (fold,) = [Fold("all", (), tuple(map(whole, rows)))]
    here = f"{require_store(opened.objects)['store_id']}@1"

    def recipe(held: list[str], **more: Any) -> dict[str, Any]:
        return {"datasets": ["square"], "where": None, "held_out": {"square": held}, **more}

    weights = {"w": torch.zeros(1)}
    own = {"trained_on": here, "recipe": recipe(ids[:2], seed=0)}
    latents = {
        "mapped": {"trained_on": here, "recipe": recipe([])},
        "mapped-of-other-store": {"trained_on": "0" * 32 + "@1", "recipe": recipe([])},
        "mapped-of-old": {"trained_on": here, "recipe": None},
    }
    for name, latent in latents.items():
        save_checkpoint(tmp_path / name, Checkpoint("mapped", {"latent": latent}, weights, own))
    for kind in ("idm", "latent"):
        save_checkpoint(tmp_path / kind, Checkpoint(kind, {}, weights, own))
    save_checkpoint(tmp_path / "silent", Checkpoint("idm", {}, weights, {}))
    found = _seen(opened, "square", [fold], [str(tmp_path / name) for name in (*latents, "idm", "latent", "silent")])
    assert found["seen_in_training"] == {"mapped": 6, "mapped-of-other-store": 4, "mapped-of-old": None, "idm": 4, "latent": 4, "silent": None}
    assert found["calibrated_on"] == {"mapped": 2, "mapped-of-other-store": 2, "mapped-of-old": 2, "idm": 2, "latent": 0, "silent": None}


def test_who_is_right_is_said_to_be_right(judged: tuple[dict[str, Any], Path]) -> None:
    (dataset,) = judged[0]["datasets"]
    command = dataset["targets"]["command"]
    r2 = {name: source["mean"]["r2"]["value"] for name, source in command["sources"].items()}
    assert r2["linear"] > 0.9
    assert r2["flow_ridge"] > 0.9
    assert r2["idm-small"] < -0.5  # as wide as the truth, and beside it
    assert abs(r2["null"]) < 0.3
    assert abs(r2["mean"]) < 0.1
    slope = command["sources"]["idm-small"]["numbers"]["x"]["slope"]
    assert slope["low"] < 0 < slope["high"]
    linear = command["sources"]["linear"]["numbers"]["x"]["r2"]
    assert linear["low"] <= linear["value"] <= linear["high"]


def test_all_are_judged_by_the_same_steps(judged: tuple[dict[str, Any], Path]) -> None:
    command = judged[0]["datasets"][0]["targets"]["command"]
    assert command["steps"] == {
        "all": 360,
        "measured": 360,
        "judged": 6 * 39,
        "parts": 6,
    }  # 20 of 60 steps have no label, and after the last nothing was seen
    assert command["sources"]["idm-small"]["answered"] == pytest.approx(40 / 60)
    assert command["sources"]["linear"]["answered"] == pytest.approx(59 / 60)


def test_intervals_of_a_known_level_are_judged_and_of_an_unknown_one_not(judged: tuple[dict[str, Any], Path]) -> None:
    command = judged[0]["datasets"][0]["targets"]["command"]
    assert command["sources"]["idm-small"]["intervals"] is None
    found = command["sources"]["linear"]["intervals"]
    assert found["stated"] == 0.68
    assert found["0.95"]["x"]["coverage"]["value"] > found["0.68"]["x"]["coverage"]["value"]


def test_what_cannot_be_said_is_told_with_its_reason(judged: tuple[dict[str, Any], Path]) -> None:
    missing = judged[0]["datasets"][0]["not_computed"]
    assert {"what": "idm-small: displacement", "why": "it has no labels of the displacement of these episodes"} in missing
    assert "idm-small" not in judged[0]["datasets"][0]["targets"]["displacement"]["sources"]


def test_the_page_stands_alone_and_predictions_give_the_figures_again(judged: tuple[dict[str, Any], Path]) -> None:
    document, out = judged
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "http" not in page
    assert page.count("<svg") > 8
    rows = pl.read_parquet(out / "predictions" / "square.command.parquet").filter("judged")
    assert rows.height == 6 * 39
    truth, said = rows["measured.x"].to_numpy(), rows["linear.x"].to_numpy()
    again = 1 - ((truth - said) ** 2).mean() / truth.var()
    assert again == pytest.approx(document["datasets"][0]["targets"]["command"]["sources"]["linear"]["numbers"]["x"]["r2"]["value"], abs=1e-4)


def test_the_same_seed_gives_the_same_figures(judged: tuple[dict[str, Any], Path], store: Path, model: Path, tmp_path: Path) -> None:
    again = asked(store, tmp_path, label_sets=["idm-small"], models=[str(model)])
    for document in (again, judged[0]):
        for dataset in document["datasets"]:
            dataset.pop("cpu_seconds", None)
    assert again == judged[0]


def test_halves_of_an_episode(store: Path, tmp_path: Path) -> None:
    found = asked(store, tmp_path, split="halves", limit=1, baselines="flow_ridge", against=["state"])
    (dataset,) = found["datasets"]
    assert found["split"] == "halves"
    assert list(dataset["targets"]) == ["displacement"]
    assert dataset["targets"]["displacement"]["steps"]["measured"] == 58  # neither half knows what came after its last step


@pytest.mark.parametrize(
    ("choices", "error"),
    [
        ({"split": "datasets"}, UsageError),
        ({"baselines": "magic"}, UnknownName),
        ({"label_sets": ["none-such"]}, UnknownName),
        ({"datasets": ["none-such"]}, UnknownName),
        ({"against": ["reward"]}, UnknownName),
        ({"where": "steps > 1000"}, UsageError),
        ({"train_datasets": ["square"]}, UsageError),
        ({"latent": True}, UsageError),
    ],
)
def test_wrong_choices_are_told(store: Path, tmp_path: Path, choices: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(store, tmp_path, **choices)


def test_on_the_command_line(store: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", "labels", str(store), "--dataset", "square", "--baselines", "mean", "--label-set", "idm-small", "--out", str(tmp_path), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["datasets"][0]["targets"]["command"]["sources"]) == {"idm-small", "mean"}
    assert np.isfinite(json.loads(done.stdout)["datasets"][0]["targets"]["command"]["sources"]["mean"]["mean"]["r2"]["value"])
