from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from dataengine.core.episode import Episode, episodes_of
from dataengine.core.stream import Frames
from dataengine.samples.arm_environment import STATE, arm_environment
from dataengine.samples.moving_square import CAMERA, MovingSquare
from dataengine.synth.rollout import CLOCK, Perturbation, Play, noise_of


def played(play: Play, seed: int, steps: int = 70) -> Episode:
    (episode,) = episodes_of(play.events(MovingSquare(32, 32, steps), seed))
    assert isinstance(episode, Episode)
    return episode


def test_an_episode_has_an_observation_more_than_actions() -> None:
    episode = played(Play(), 3)  # 70 steps: more than two blocks
    info, action, camera = episode.info, episode.streams["action"], episode.streams[CAMERA]
    assert (len(action), len(camera), len(episode.streams["observation.state"])) == (70, 71, 71)
    assert action.clocks[CLOCK][:3].tolist() == [0, 50_000_000, 100_000_000]
    assert camera.clocks[CLOCK].tolist() == [row * 50_000_000 for row in range(71)]
    assert (info.origin, info.clock, info.rate_hz, info.key, info.success) == ("simulation", "measured", 20.0, "3", None)
    assert info.metadata["seed"] == 3
    assert info.metadata["noise"] == 0.0
    state, moved = episode.streams["observation.state"].values, action.values
    assert np.diff(np.asarray(state), axis=0) == pytest.approx(np.asarray(moved) * 1.5, abs=2e-5)  # 3 px of 64 are 1.5 of 32


def test_the_same_seed_is_the_same_episode() -> None:
    one, other, third = played(Play(noise=(0.3,)), 3), played(Play(noise=(0.3,)), 3), played(Play(noise=(0.3,)), 4)
    assert isinstance(one.streams[CAMERA].values, Frames)
    for name in one.streams:
        a, b, c = (np.asarray(getattr(run.streams[name].values, "pixels", run.streams[name].values)) for run in (one, other, third))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_noise_is_chosen_by_the_seed_alone() -> None:
    assert [noise_of(seed, (0.0, 0.3, 0.6)) for seed in (0, 1, 2, 3, 7)] == [0.0, 0.3, 0.6, 0.0, 0.3]
    clean, noisy = played(Play(noise=(0.0, 0.6)), 4), played(Play(noise=(0.0, 0.6)), 5)
    assert (clean.info.metadata["noise"], noisy.info.metadata["noise"]) == (0.0, 0.6)
    assert played(Play("random", (0.6,)), 5).info.metadata["noise"] is None


def test_a_perturbation_keeps_its_size_and_its_memory() -> None:
    rng = np.random.default_rng(0)
    track = np.stack(list(islice(Perturbation(0.4).track(rng, 2, 20.0), 20_000)))
    assert track.std(axis=0) == pytest.approx([0.4, 0.4], rel=0.05)
    after = (track[1:] * track[:-1]).mean(axis=0) / track.var(axis=0)
    assert after == pytest.approx(np.exp(-3 / 20), abs=0.02)  # 0.86 from step to step at 20 Hz


def test_a_gripper_is_never_perturbed_and_bounds_hold() -> None:
    arm = arm_environment(16, 16, ())
    (clean,) = episodes_of(Play(noise=(0.0,)).events(arm, 2))
    (noisy,) = episodes_of(Play(noise=(5.0,)).events(arm, 2))
    assert isinstance(clean, Episode)
    assert isinstance(noisy, Episode)
    a, b = np.asarray(clean.streams["action"].values), np.asarray(noisy.streams["action"].values)
    assert np.array_equal(a[:, 4], b[:, 4])
    assert np.abs(a[:, :4] - b[:, :4]).max() > 0.3
    assert (b >= arm.facts.low.astype(np.float32)).all()
    assert (b <= arm.facts.high.astype(np.float32)).all()
    assert len(np.asarray(noisy.streams[STATE].values)) == len(b) + 1


def test_an_episode_can_be_cut() -> None:
    assert len(played(Play(max_steps=9), 1).streams["action"]) == 9
    assert len(played(Play(max_steps=900), 1).streams["action"]) == 70
