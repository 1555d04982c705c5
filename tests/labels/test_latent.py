"""Latent actions from training to labels: which steps have one, that rows do not depend on each other, and the way through a folder and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataengine.core.column import ActionSpace, Column
from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.labels.latent import LatentLabeller, least_steps, open_latent, trainee, untrained_latent
from dataengine.labels.latent_figures import held_out_figures, psnr_figures
from dataengine.labels.latent_training import LatentTrainee, _is_absolute, labelled_episodes
from dataengine.models.augmentation import AugmentConfig
from dataengine.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dataengine.models.fit import FitConfig, fit
from dataengine.models.latent_config import LatentActionConfig, SupervisionConfig
from dataengine.models.quantize import BottleneckConfig
from tests.support.moving_squares import SquareBatches, facts_of, square_episode

PLAIN = AugmentConfig(shift=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
CONFIG = LatentActionConfig(size=(32, 32), width=8, decoder_width=8, gaps_s=(0.1, 0.2), gap_s=0.2, augment=PLAIN)
TRAINING = [square_episode(seed) for seed in range(40)]


def trained(config: LatentActionConfig, folder: Path, steps: int, seed: int = 0) -> LatentTrainee:
    found = trainee(config)
    fitted = found.begin(facts_of(TRAINING, seed), "cpu")
    fit(fitted, SquareBatches(TRAINING, found.fields(), 32), FitConfig(steps=steps, learning_rate=4e-3, warmup_steps=5, log_every=10), seed, folder)
    return found


def checkpoint_of(found: LatentTrainee) -> Checkpoint:
    config, weights = found.checkpoint()
    return Checkpoint("latent", config, weights, {"trained_on": "0" * 32 + "@1"})


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> LatentTrainee:
    return trained(CONFIG, tmp_path_factory.mktemp("run"), 70)


@pytest.fixture(scope="module")
def labeller(learned: LatentTrainee, tmp_path_factory: pytest.TempPathFactory) -> LatentLabeller:
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder, checkpoint_of(learned))
    return open_latent(load_checkpoint(folder))


def answers(labeller: LatentLabeller, episode: Watched, size: int = 1000) -> dict[str, Any]:
    parts = [labeller.answer(labeller.inputs(episode, np.arange(at, min(at + size, episode.steps)))) for at in range(0, episode.steps, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_windows_hold_every_gap_s_pictures() -> None:
    found = trainee(CONFIG).fields()
    assert list(found) == ["camera:primary"]
    assert found["camera:primary"].seconds == (0.0, 0.1, 0.2)
    told = trainee(CONFIG.model_copy(update={"supervision": SupervisionConfig(share=0.1, targets=("state", "action"))})).fields()
    assert told["state"].seconds == (0.0, 0.1, 0.2)
    assert told["action"].seconds == (0.0, 0.05, 0.1, 0.15)
    three = trainee(CONFIG.model_copy(update={"encoder": "pair", "frames": 3})).fields()
    assert three["camera:primary"].seconds == (0.0, 0.05, 0.1, 0.2)


def test_steps_have_a_label_where_there_is_a_picture_a_gap_later(labeller: LatentLabeller) -> None:
    episode = square_episode(1000, steps=9)
    seen = np.ones(9, np.bool_)
    seen[4] = False
    partly = Watched(
        episode.episode_id, episode.dataset, 9, rate_hz=10.0, t_ns=episode.t_ns, pictures=episode.pictures, seen={"camera:primary": seen}, embodiment="square"
    )
    last, there = labeller.ends(partly, np.arange(9))
    assert last[:7].tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert there.tolist() == [True, True, False, True, False, True, True, False, False]
    labels = labeller.labels(partly, answers(labeller, partly))
    assert labels.valid["latent"].tolist() == there.tolist()
    assert labels.columns["latent"].shape == (9, 16)
    assert labels.columns["gap_s"][:7].tolist() == pytest.approx([0.2] * 7)
    assert labels.specs["latent"].action_source == "latent"
    assert np.isnan(labels.confidence["latent"][~there]).all()


def test_a_gap_within_one_step_is_no_gap(labeller: LatentLabeller) -> None:
    slow = square_episode(1001, steps=6, rate_hz=2.0)
    assert not labeller.ends(slow, np.arange(6))[1].any()


def test_answers_depend_on_their_own_step_alone(labeller: LatentLabeller) -> None:
    episode = square_episode(1002)
    together, alone = answers(labeller, episode), answers(labeller, episode, size=1)
    assert np.abs(together["latent"] - alone["latent"]).max() < 1e-5
    again = answers(labeller, episode)
    assert all(np.array_equal(together[name], again[name], equal_nan=True) for name in together)


def test_a_part_of_an_episode_has_the_labels_of_the_whole(labeller: LatentLabeller) -> None:
    whole = square_episode(1003)
    part = Watched(
        whole.episode_id, whole.dataset, 12, first=6, rate_hz=10.0, t_ns=whole.t_ns[6:18], pictures={"camera:primary": whole.pictures["camera:primary"][6:18]},
        seen={"camera:primary": np.ones(12, np.bool_)},
    )  # fmt: skip
    own = labeller.answer(labeller.inputs(part, np.arange(10)))
    assert np.abs(own["latent"] - answers(labeller, whole)["latent"][6:16]).max() < 1e-5


def test_what_it_learned_of_episodes_that_it_never_saw(learned: LatentTrainee, labeller: LatentLabeller) -> None:
    episodes = [square_episode(seed) for seed in range(2000, 2012)]
    figures = learned.calibrate(episodes)
    assert figures["pairs"] == 12 * 22
    assert figures["psnr_over_copy_db"] > 1
    assert figures["delta_psnr_db"] > 1.5
    assert min(figures["probe_r2_state.squares"]) > 0.6
    untrained = held_out_figures(untrained_latent(checkpoint_of(learned), 1), episodes)
    assert untrained["delta_psnr_db"] < 0.3
    episode = episodes[0]
    steps = np.arange(20)
    latent = answers(labeller, episode)["latent"][steps]
    last, _ = labeller.ends(episode, steps)
    pictures = episode.pictures["camera:primary"].astype(float)
    told = labeller.predict(episode, steps, latent)
    assert told.dtype == np.uint8
    assert np.square(told - pictures[last]).mean() < np.square(pictures[steps] - pictures[last]).mean()
    confidence = labeller.labels(episode, answers(labeller, episode)).confidence["latent"][steps]
    change = np.square(pictures[steps] - pictures[last]).mean((1, 2, 3))
    expected = 1 - np.square(told - pictures[last]).mean((1, 2, 3)) / np.maximum(change, 1)
    moved = change > 1
    assert confidence[moved] == pytest.approx(np.clip(expected[moved], 0, 1), abs=0.02)
    assert np.isnan(confidence[change == 0]).all()


def test_the_label_set_says_what_made_it(learned: LatentTrainee, labeller: LatentLabeller) -> None:
    said = labeller.label_set("lam")
    assert said.model == checkpoint_of(learned).digest
    assert said.trained_on == "0" * 32 + "@1"
    assert said.parameters["gap_s"] == 0.2
    assert said.parameters["bits"] > 0
    assert "learned_from" not in said.parameters  # nobody told
    told = replace(checkpoint_of(learned), train={"recipe": {"datasets": ["squares", "circles"]}})
    assert open_latent(told).label_set("lam").parameters["learned_from"] == ["squares", "circles"]
    longer = LatentLabeller(labeller.module, labeller.model, labeller.trained_on, gap_s=0.4)
    assert longer.label_set("lam").recipe != said.recipe
    assert longer.needs.after_s == 0.4


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    models = [checkpoint_of(trained(CONFIG, tmp_path / str(number), 3, seed)).digest for number, seed in enumerate((5, 5, 6))]
    assert models[0] == models[1] != models[2]


def test_codes_are_labels_too(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"bottleneck": BottleneckConfig(kind="vq", tokens=3, dimension=2, codes=4, warmup_steps=2)})
    found = trained(config, tmp_path, 6)
    checkpoint = checkpoint_of(found)
    labeller = open_latent(checkpoint)
    episode = square_episode(3000)
    labels = labeller.labels(episode, answers(labeller, episode))
    codes = labels.columns["code"]
    assert codes.shape == (24, 3)
    there = labels.valid["code"]
    assert there.sum() == 22
    books = checkpoint.weights["narrow.codes"].numpy()
    for token in range(3):
        assert np.array_equal(labels.columns["latent"][there][:, 2 * token : 2 * token + 2], books[token][codes[there][:, token]])
    assert labeller.bits == 6.0
    assert found.calibrate([episode])["codes"]["labels"] == 22


def test_codes_are_as_sure_as_the_latents_they_stand_for(labeller: LatentLabeller, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"bottleneck": BottleneckConfig(kind="vq", tokens=3, dimension=2, codes=4, warmup_steps=2)})
    episode = square_episode(3000)
    coded = open_latent(checkpoint_of(trained(config, tmp_path, 6)))
    for each, names in ((coded, {"latent", "code", "gap_s"}), (labeller, {"latent", "gap_s"})):
        confidence = each.labels(episode, answers(each, episode)).confidence
        assert set(confidence) == names
        assert all(np.array_equal(sure, confidence["latent"], equal_nan=True) for sure in confidence.values())
        assert np.isfinite(confidence["latent"]).any()


@pytest.mark.parametrize("kind", ["vq", "nsvq"])
def test_codebooks_that_never_began_are_no_model(kind: Any, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"bottleneck": BottleneckConfig(kind=kind, tokens=3, dimension=2, codes=4, warmup_steps=3)})
    with pytest.raises(UsageError, match="begin after 3 steps, and it was trained for 3, so that it has no codes"):
        trained(config, tmp_path / "short", 3).checkpoint()
    trained(config, tmp_path / "whole", least_steps(config)).checkpoint()
    assert least_steps(config) == 4
    assert least_steps(CONFIG) == 1


def test_actions_are_places_or_changes_as_they_say_or_as_their_kind_has_it() -> None:
    told = [("joint_position", None), ("ee_pose", None), ("ee_delta", None), ("ee_delta", True), ("ee_pose", False), ("joint_velocity", None)]
    spaces = [ActionSpace(kind, absolute=absolute) for kind, absolute in told]  # type: ignore[arg-type]
    assert [_is_absolute(Column("action", meaning="action", action_space=space)) for space in spaces] == [True, True, False, True, False, False]
    assert not _is_absolute(Column("action", meaning="action"))
    assert not _is_absolute(None)


def test_a_dataset_that_is_too_slow_for_every_gap_is_refused() -> None:
    slow = [square_episode(seed, rate_hz=3.0) for seed in range(2)]
    with pytest.raises(UsageError, match=r"'squares'.*gaps_s.*0\.333"):
        trainee(CONFIG).begin(facts_of(slow), "cpu")


def test_a_share_of_the_episodes_is_labelled_each_as_a_whole() -> None:
    chosen = labelled_episodes(150, 0.05, seed=3)
    assert chosen.sum() == 8
    assert np.array_equal(chosen, labelled_episodes(150, 0.05, seed=3))
    assert not np.array_equal(chosen, labelled_episodes(150, 0.05, seed=4))
    assert labelled_episodes(150, 0.001, seed=3).sum() == 1
    assert labelled_episodes(150, 0.0, seed=3).sum() == 0


def test_a_few_labels_reach_the_latent(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"supervision": SupervisionConfig(share=0.2, weight=1.0, targets=("state", "action"))})
    found = trainee(config)
    fitted = found.begin(facts_of(TRAINING), "cpu")
    batch = next(iter(SquareBatches(TRAINING, found.fields(), 64)))
    loss, figures = fitted.loss(batch, torch.Generator().manual_seed(0))
    assert float(figures["guide_state"]) > 0
    assert float(figures["guide_action"]) > 0
    loss.backward()
    assert float(fitted.module.guides["state"].weight.grad.abs().sum()) > 0
    reopened = open_latent(checkpoint_of(found))
    assert set(dict(reopened.module.guides.items())) == {"state", "action"}


def test_psnr_by_hand() -> None:
    found = psnr_figures(np.array([[0.001, 0.02, 0.01], [0.003, 0.02, 0.03]]))
    assert found["psnr_db"] == pytest.approx(-10 * np.log10(0.002))
    assert found["psnr_over_copy_db"] == pytest.approx(10.0)
    assert found["delta_psnr_db"] == pytest.approx(10.0)
