"""Probes of latents that are known: the action itself, noise, and codes; and what two rows of labels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from dataengine.core.labelling import Needs, Watched
from dataengine.evaluate.baselines import Setting
from dataengine.evaluate.folds import Fold, Part, whole
from dataengine.evaluate.probes import Encoded, mutual_information, one_hot, perceptron, picture_alone, probe, thirds
from dataengine.labels.targets import targets_of
from tests.support.watched_square import watched_square


@dataclass
class Squares:
    """Opens episodes of the square by the seed in their row, as a `Viewer` opens those of a store."""

    def view(self, part: Part, needs: Needs) -> Watched:
        return watched_square(part.row["seed"])

    def measured(self, part: Part) -> Watched:
        return watched_square(part.row["seed"])


def part(seed: int) -> Part:
    return whole({"episode_id": f"{seed:032x}", "seed": seed, "steps": 40})


def setting(train: int = 8) -> Setting:
    fold = Fold("f", tuple(map(part, range(train))), tuple(map(part, range(100, 103))))
    return Setting(Squares(), fold, tuple(targets_of(watched_square(0), ("command",))))  # type: ignore[arg-type]


def commands(one: Part) -> np.ndarray:
    return watched_square(one.row["seed"]).columns["action"].astype(np.float64)


def encoded(one: Part) -> Encoded:
    """Return a latent that turns and stretches the command, with noise in a third number."""
    action = commands(one)
    noise = np.random.default_rng(one.row["seed"]).normal(size=len(action))
    return Encoded(np.stack([action[:, 0] + action[:, 1], 3 * action[:, 0] - 1, noise], axis=1), np.ones(len(action), np.bool_))


def r2(speaker: Any) -> float:
    truth, said = (np.concatenate(each) for each in zip(*[(commands(one), speaker(one)["action"].values) for one in setting().fold.test], strict=True))
    return float((1 - ((truth - said) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)).mean())


def test_what_is_in_the_latent_is_read_out_and_by_shuffled_numbers_it_is_not() -> None:
    assert r2(probe(setting(), encoded)) > 0.999
    assert abs(r2(probe(setting(), encoded, shuffled=True))) < 0.05


def test_a_few_labels_are_whole_episodes_two_at_least() -> None:
    used: list[str] = []

    def noted(one: Part) -> Encoded:
        used.append(one.name)
        return encoded(one)

    assert r2(probe(setting(), noted, share=0.01)) > 0.99
    learned = {name for name in used if int(name, 16) < 100}
    assert len(learned) == 2


def test_noise_tells_nothing_and_a_picture_alone_nothing_of_random_commands() -> None:
    def noise(one: Part) -> Encoded:
        return Encoded(np.random.default_rng(one.row["seed"]).normal(size=(40, 4)), np.ones(40, np.bool_))

    assert abs(r2(probe(setting(), noise))) < 0.05
    assert r2(probe(setting(), picture_alone(setting()))) < 0.1


def test_a_network_reads_what_a_line_cannot() -> None:
    def bent(one: Part) -> Encoded:
        action = commands(one)
        return Encoded(np.concatenate([np.sign(action) * action**2, np.abs(action) > 0.4], axis=1), np.ones(len(action), np.bool_))

    crooked = setting(16)
    assert r2(probe(crooked, bent, fit=perceptron)) > r2(probe(crooked, bent)) + 0.01


def test_codes_as_ones_and_zeros() -> None:
    def coded(one: Part) -> Encoded:
        codes = (commands(one) > 0).astype(np.int64)  # one bit for each of the two numbers
        return Encoded(np.zeros((40, 1)), np.ones(40, np.bool_), codes, 2)

    found = one_hot(coded)(part(3))
    assert found.values.shape == (40, 4)
    assert (found.values.sum(1) == 2).all()
    assert 0.6 < r2(probe(setting(), one_hot(coded))) < 0.85  # the sign of a uniform number tells 3/4 of its variance
    assert r2(probe(setting(), coded)) < 0.05


def test_mutual_information_of_known_tables() -> None:
    a = np.repeat([0, 1], 50)
    assert mutual_information(a, 7 - 3 * a) == pytest.approx(1)
    assert mutual_information(a, np.tile([0, 1], 50)) == pytest.approx(0)
    assert np.isnan(mutual_information(np.zeros(4, int), np.zeros(4, int)))
    #       joint counts 2 0 / 1 1: H(a) = ln 2, H(b) = 0.562335, I = H(b) - H(b|a) = 0.562335 - 0.346574
    found = mutual_information(np.array([0, 0, 1, 1]), np.array([5, 5, 5, 9]))
    assert found == pytest.approx(2 * 0.215762 / (0.693147 + 0.562335), abs=1e-5)


def test_thirds_are_cells_of_what_varies() -> None:
    values = np.stack([np.arange(9.0), np.full(9, 2.0), np.tile([0.0, 1.0, 2.0], 3)], axis=1)
    found = thirds(values)
    assert len(np.unique(found)) == 9
    assert found[0] == 0
