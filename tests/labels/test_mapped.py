"""Real actions out of latents: from a few labelled episodes to a folder that needs no other, with intervals that hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.labels.latent import trainee as latent_trainee
from dataengine.labels.mapped import open_mapped, trainee
from dataengine.labels.mapped_labeller import require_gap
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dataengine.models.fit import FitConfig, fit
from dataengine.models.mapped_action import MappedConfig
from tests.labels.test_latent import CONFIG, TRAINING, checkpoint_of, trained
from tests.support.moving_squares import SquareBatches, facts_of, square_episode

ONE_STEP = CONFIG.model_copy(update={"gap_s": 0.1})


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    save_checkpoint(folder, checkpoint_of(trained(ONE_STEP, tmp_path_factory.mktemp("run"), 70)))
    return folder


def test_commands_and_displacements_with_intervals_from_one_folder(latent_folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "latent"
    shutil.copytree(latent_folder, copied)
    found = trainee(MappedConfig(latent=str(copied), share=0.25))
    few = FitConfig(steps=150, learning_rate=1e-2, warmup_steps=10)
    fit(found.begin(facts_of(TRAINING), "cpu"), SquareBatches(TRAINING, found.fields(), 64), few, 0, tmp_path / "run")
    figures = found.calibrate([square_episode(seed) for seed in range(4000, 4012)])
    config, weights = found.checkpoint()
    save_checkpoint(tmp_path / "mapped", Checkpoint("mapped", config, weights, {"trained_on": "0" * 32 + "@1"}))
    source = load_checkpoint(copied).digest
    shutil.rmtree(copied)  # all that is needed lies in the mapping's own folder
    labeller = open_mapped(load_checkpoint(tmp_path / "mapped"))
    assert labeller.latent.model == source
    assert labeller.label_set("m").parameters["latent_model"] == source
    assert labeller.label_set("m").parameters["calibrated_on"] == {"command": 12, "displacement": 12}
    assert labeller.label_set("m").parameters["learned_from"] == ["squares"]
    assert set(figures) == {"command", "displacement"}
    truths, labels = [], []
    for seed in range(5000, 5010):
        episode = square_episode(seed)
        labels.append(labeller.labels(episode, labeller.answer(labeller.inputs(episode, np.arange(episode.steps)))))
        truths.append(episode.columns["action"])
    valid = np.concatenate([each.valid["action"] for each in labels])
    assert valid.reshape(10, 24)[:, :23].all()
    assert not valid.reshape(10, 24)[:, 23].any()  # the last step has no picture after it
    truth = np.concatenate(truths)[valid]
    for name in ("action", "observation.state.delta"):
        value, low, high = (np.concatenate([getattr(each, group)[name] for each in labels])[valid] for group in ("columns", "low", "high"))
        r2 = 1 - np.square(value - truth).sum(0) / np.square(truth - truth.mean(0)).sum(0)
        assert r2.min() > 0.5, (name, r2)
        covered = ((low <= truth) & (truth <= high)).mean()
        assert 0.5 < covered < 0.85, (name, covered)
    spec = labels[0].specs["action"]
    assert spec.action_source == "latent"
    assert spec.dims == ("x", "y")
    with pytest.raises(UsageError, match="trained on"):
        labeller.body_of(square_episode(1, embodiment="circle", dataset="other"))


@pytest.mark.parametrize(
    ("rate", "words"),
    [(None, None), (10.0, None), (19.9, None), (15.0, "got 1.5 at 15 steps a second; use latents with a gap_s of 0.133"), (5.0, "gap_s of 0.2")],
)
def test_a_gap_that_is_no_whole_number_of_steps_is_refused(rate: float | None, words: str | None) -> None:
    if words is None:
        require_gap(0.1, "dataset 'a'", rate)
        return
    with pytest.raises(UsageError, match=f"dataset 'a': must have a whole number of steps, one or more, in the 0.1 s that a latent tells, .*{words}"):
        require_gap(0.1, "dataset 'a'", rate)


def test_which_episodes_the_latents_have_seen_goes_with_the_mapping(latent_folder: Path, tmp_path: Path) -> None:
    recipe = {"store": "/somewhere", "version": 1, "datasets": ["squares"], "where": "steps > 3", "held_out": {"squares": ["a"]}, "seed": 0}
    source = load_checkpoint(latent_folder)
    save_checkpoint(tmp_path / "told", replace(source, train={**source.train, "recipe": recipe}))
    for folder, expected in ((tmp_path / "told", {"datasets": ["squares"], "where": "steps > 3", "held_out": {"squares": ["a"]}}), (latent_folder, None)):
        found = trainee(MappedConfig(latent=str(folder)))
        found.begin(facts_of(TRAINING), "cpu")
        assert found.checkpoint()[0]["latent"]["recipe"] == expected


def test_the_latents_stay_as_they_were(latent_folder: Path, tmp_path: Path) -> None:
    found = trainee(MappedConfig(latent=str(latent_folder)))
    fit(found.begin(facts_of(TRAINING), "cpu"), SquareBatches(TRAINING, found.fields(), 16), FitConfig(steps=3, weight_decay=0.1), 0, tmp_path / "run")
    _, weights = found.checkpoint()
    before = load_checkpoint(latent_folder).weights
    assert all(np.array_equal(weights[f"latent.{name}"].numpy(), tensor.numpy()) for name, tensor in before.items())


def test_labels_of_episodes_that_were_not_chosen_are_not_used(latent_folder: Path) -> None:
    losses = []
    for spoil in (False, True):
        found = trainee(MappedConfig(latent=str(latent_folder), share=0.25, dropout=0.0))
        fitted = found.begin(facts_of(TRAINING), "cpu")
        batch = next(iter(SquareBatches(TRAINING, found.fields(), 64)))
        other = ~fitted._labelled[batch["episode"].numpy()]
        assert 0 < other.sum() < 64
        if spoil:
            batch["action"][other] = 999.0
            batch["state"][other] = -999.0
        losses.append(float(fitted.loss(batch, None)[0].detach()))  # type: ignore[arg-type]
    assert losses[0] == losses[1]


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="latent must be the folder"):
        trainee(MappedConfig())
    found = latent_trainee(CONFIG)
    found.begin(facts_of(TRAINING), "cpu")
    config, weights = found.checkpoint()
    save_checkpoint(tmp_path, Checkpoint("idm", config, weights, {}))
    with pytest.raises(UsageError, match="'latent', found one of the kind 'idm'"):
        trainee(MappedConfig(latent=str(tmp_path)))
