"""Flow and ridge: on the moving square it reads the action off the pictures, and labels that are a step off break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataengine.core.errors import UsageError
from dataengine.core.labelling import Watched
from dataengine.labels.flow_ridge import FlowRidge, FlowRidgeConfig, checkpoint_of, held_out_figures, known_steps, learn, open_flow_ridge
from dataengine.labels.motion_features import pair_features, pooled
from dataengine.models.checkpoint import load_checkpoint, save_checkpoint
from tests.support.watched_square import watched_square

TRAIN, TEST = range(12), range(100, 104)


def labels(labeller: FlowRidge, episode: Watched, rows: int = 1000) -> object:
    answers = [labeller.answer(labeller.inputs(episode, chunk)) for chunk in np.array_split(np.arange(episode.steps), max(1, episode.steps // rows))]
    return labeller.labels(replace(episode, pictures={}, seen={}), {name: np.concatenate([each[name] for each in answers]) for name in answers[0]})


def r2(labeller: FlowRidge, column: str = "action") -> float:
    truth, said = [], []
    for seed in TEST:
        episode = watched_square(seed)
        found = labels(labeller, episode)
        valid = found.valid[column]
        truth.append(episode.columns["action"][valid])
        said.append(found.columns[column][valid])
    y, p = np.concatenate(truth), np.concatenate(said)
    return float((1 - ((y - p) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)).min())


@pytest.fixture(scope="module")
def learned() -> FlowRidge:
    return learn([watched_square(seed) for seed in TRAIN], FlowRidgeConfig(), "store@3", seed=1)


def test_the_moving_square_is_read_off_the_pictures(learned: FlowRidge) -> None:
    assert r2(learned) > 0.97  # flow itself is not exact


def test_commands_a_step_off_break_it() -> None:
    late = learn([watched_square(seed, shift=1) for seed in TRAIN], FlowRidgeConfig(), None)
    assert r2(late) < 0.1


def test_a_single_picture_tells_nothing_of_random_commands() -> None:
    blind = learn([watched_square(seed) for seed in TRAIN], FlowRidgeConfig(features="picture"), None)
    assert r2(blind) < 0.1


def test_the_columns_are_named_as_those_of_other_models(learned: FlowRidge) -> None:
    found = labels(learned, watched_square(100))
    assert set(found.columns) == {"action", "observation.state.delta"}
    assert found.specs["action"].action_source == "idm"
    assert found.specs["observation.state.delta"].unit == "px"
    assert not found.valid["action"][-1]  # nothing was seen after the last step
    assert found.valid["action"][:-1].all()
    assert found.columns["observation.state.delta"][:-1] == pytest.approx(found.columns["action"][:-1] * 3, abs=0.8)  # a command of 1 moves 3 px


def test_intervals_hold_as_much_as_they_state(learned: FlowRidge) -> None:
    inside = []
    for seed in TEST:
        episode = watched_square(seed)
        found = labels(learned, episode)
        truth, valid = episode.columns["action"], found.valid["action"]
        inside.append(((found.low["action"] <= truth) & (truth <= found.high["action"]))[valid])
    assert 0.5 < np.concatenate(inside).mean() < 0.85


def test_figures_of_held_out_episodes(learned: FlowRidge) -> None:
    found = held_out_figures(learned, [watched_square(seed) for seed in TEST])
    assert found["episodes"] == 4
    assert found["command"]["steps"] == found["displacement"]["steps"] == 4 * 39
    assert found["command"]["y"]["r2"] > 0.97
    assert 0.5 < found["command"]["x"]["coverage68"] < 0.85
    blind = held_out_figures(learned, [replace(watched_square(1), seen={"camera:primary": np.zeros(40, np.bool_)})])
    assert blind["command"] == {"steps": 0}


def test_labels_are_the_same_whatever_is_answered_at_once(learned: FlowRidge) -> None:
    one, other = labels(learned, watched_square(101)), labels(learned, watched_square(101), rows=1)
    assert one.columns["action"] == pytest.approx(other.columns["action"], abs=1e-5)


def test_a_part_is_labelled_as_in_the_whole(learned: FlowRidge) -> None:
    whole = watched_square(102)
    part = replace(
        whole,
        first=10,
        steps=12,
        t_ns=whole.t_ns[10:22],
        **{name: {key: array[10:22] for key, array in getattr(whole, name).items()} for name in ("pictures", "seen", "columns", "valid")},
    )
    inner = learned.answer(learned.inputs(part, np.arange(0, 11)))["said"]
    assert inner == pytest.approx(learned.answer(learned.inputs(whole, np.arange(10, 21)))["said"], abs=1e-9)


def test_it_is_kept_on_disk_and_has_one_digest(learned: FlowRidge, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint_of(learned))
    opened = open_flow_ridge(load_checkpoint(tmp_path))
    assert opened.model == learned.model
    assert opened.label_set("a") == learned.label_set("a")
    assert opened.trained_on == "store@3"
    episode = watched_square(103)
    assert (labels(opened, episode).columns["action"] == labels(learned, episode).columns["action"]).all()
    with pytest.raises(UsageError, match="must be of kind 'flow_ridge'"):
        open_flow_ridge(replace(checkpoint_of(learned), kind="idm"))


def test_the_same_episodes_give_the_same_model(learned: FlowRidge) -> None:
    assert learn([watched_square(seed) for seed in TRAIN], FlowRidgeConfig(), "store@3", seed=1).model == learned.model


def test_steps_without_what_was_measured_are_not_learned_from() -> None:
    clean = watched_square(1)
    valid = np.ones(40, np.bool_)
    valid[10:20] = False
    wrong = np.where(valid[:, None], clean.columns["action"], 99).astype(np.float32)
    gap = replace(clean, columns={**clean.columns, "action": wrong}, valid={**clean.valid, "action": valid})
    found = learn([gap, watched_square(2)], FlowRidgeConfig(targets=("command",)), None)
    assert found.figures["steps"] == 39 + 29  # the last step of each has no next picture
    assert np.abs(labels(found, clean).columns["action"]).max() < 5


def test_the_change_over_a_gap_is_learned_where_one_is_given() -> None:
    found = learn([watched_square(seed) for seed in TRAIN], FlowRidgeConfig(steps=(0, 1, 2), gap_s=0.1), None)
    assert found.label_set("a").parameters["gap_s"] == 0.1
    episode = watched_square(100)
    said = labels(found, episode)
    state = episode.columns["state"].astype(float)
    truth, told = state[2:] - state[:-2], said.columns["observation.state.delta"][:-2]
    assert (1 - ((truth - told) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)).min() > 0.9
    assert "until 0.1 s later" in said.specs["observation.state.delta"].doc


def test_a_step_whose_own_pair_is_not_seen_has_no_label() -> None:
    config = FlowRidgeConfig(steps=(-1, 0, 1, 2))
    episode = watched_square(4, steps=8)
    seen = np.ones(8, np.bool_)
    seen[4] = False
    partly = replace(episode, seen={"camera:primary": seen})
    seconds = (-0.05, 0.0, 0.05, 0.1)
    # steps 3 and 4 lack one end of their own pair, though others of the window are seen; after the last step nothing is
    assert known_steps(partly, np.arange(8), config, seconds).tolist() == [True, True, True, False, False, True, True, False]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="grid: must be at most size, 32 px, got 64"):
        FlowRidgeConfig(size=32, grid=64)
    for steps in ((1, 2), (-1, 0), (0,), (1, 0)):
        with pytest.raises(ValueError, match="steps: must rise, and hold 0"):
            FlowRidgeConfig(steps=steps)
    assert FlowRidgeConfig(features="picture", steps=(0,)).window == (0,)


def test_a_confidence_is_what_the_interval_leaves_of_the_usual_spread(learned: FlowRidge) -> None:
    found = labels(learned, watched_square(100))
    command = learned.targets[0]
    spreads = [part.spread[0] for part in command.spec.of_kind("scaled")]
    by_hand = np.mean([1 / (1 + ((high - low) / 2 / spread) ** 2) for low, high, spread in zip(command.low, command.high, spreads, strict=True)])
    assert found.confidence["action"][:-1] == pytest.approx(by_hand)
    assert 0.9 < by_hand < 1
    assert found.confidence["action"][-1] == 0  # nothing was seen
    assert set(found.confidence) == set(found.columns)


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="rate is unknown"):
        learn([replace(watched_square(1), t_ns=None, rate_hz=None)], FlowRidgeConfig(), None)
    with pytest.raises(UsageError, match="got none"):
        learn([], FlowRidgeConfig(), None)


def test_a_picture_that_is_not_there_is_marked_and_not_repeated() -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    there = np.array([[True], [False]])
    found = pair_features(pictures, there, np.array([[0], [1]]), np.array([[1], [2]]), "difference", 2)
    assert found.shape == (2, 13)
    expected = (pictures[1].astype(float) - pictures[0])[:16, 16:].mean((0, 1)) / 255
    assert found[0, 3:6] == pytest.approx(expected, abs=1e-5)
    assert found[:, -1].tolist() == [0, 1]
    assert not found[1, :-1].any()


def test_pooling_counts_cells_of_uneven_size() -> None:
    values = np.arange(5.0)[:, None, None] * np.ones((1, 4, 1))  # rows 0 to 4: cells of two and three rows
    assert pooled(values, 2)[:, 0, 0] == pytest.approx([0.5, 3.0])
