"""Figures of a comparison that is written down: means over what varies, and intervals over episodes where there are enough of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dataengine.core.arrays import Array
from dataengine.core.column import Column
from dataengine.evaluate.comparison import Comparison
from dataengine.evaluate.judging import judged
from dataengine.evaluate.said import Said
from dataengine.labels.targets import command_target

COLUMN = Column("action", dtype="float32", shape=(2,), dims=("x", "y"), meaning="action")


def compared(truth: Array, said: Array, episodes: list[str], names: list[str] | None = None) -> Comparison:
    """Return a comparison of parts of ten steps, given the episode that each is of."""
    every = np.ones(len(truth), np.bool_)
    part = np.repeat(np.arange(len(episodes)), 10)
    told = {"model": Said(said, every, said - 0.5, said + 0.5)}
    return Comparison(
        command_target(COLUMN),
        ("x", "y"),
        truth,
        every,
        part,
        np.arange(len(truth)),
        tuple(names or episodes),
        tuple(episodes),
        told,
        {},
        np.zeros(2, bool),
        {},
    )


def found(episodes: list[str], still: bool = False, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(10 * len(episodes), 2))
    said = truth + 0.4 * rng.normal(size=truth.shape)
    if still:
        truth[:, 1] = 7.0
    names = [f"{episode}[{place}]" for place, episode in enumerate(episodes)]
    return judged(compared(truth, said, episodes, names), {"model": 0.68}, seed)["sources"]["model"]  # type: ignore[no-any-return]


def test_the_mean_is_over_what_varies() -> None:
    told = found(list("abcdef"), still=True)
    assert told["numbers"]["y"]["r2"]["value"] is None
    assert told["mean"]["dims"] == 1
    for figure in ("r2", "slope", "scale_ratio"):
        assert told["mean"][figure] == told["numbers"]["x"][figure]
    assert told["mean"]["r2"]["low"] < told["mean"]["r2"]["value"] < told["mean"]["r2"]["high"]


def test_the_mean_of_both() -> None:
    told = found(list("abcdef"))
    assert told["mean"]["dims"] == 2
    assert told["mean"]["r2"]["value"] == pytest.approx((told["numbers"]["x"]["r2"]["value"] + told["numbers"]["y"]["r2"]["value"]) / 2, abs=1e-5)


@pytest.mark.parametrize("episodes", [["a"], ["a", "a"], list("abcd"), list("aabbccdd")])
def test_few_episodes_have_no_interval_however_they_are_cut(episodes: list[str]) -> None:
    told = found(episodes)
    assert told["mean"]["r2"]["value"] is not None
    for entry in (told["mean"]["r2"], told["numbers"]["x"]["mae"], told["intervals"]["0.68"]["x"]["coverage"]):
        assert (entry["low"], entry["high"]) == (None, None)


def test_halves_of_an_episode_are_drawn_together() -> None:
    whole, halved = found(list("abcdefgh")), found(list("aabbccddeeffgghh"))
    assert whole["intervals"]["0.68"]["x"]["coverage"]["low"] is not None
    width = {name: told["numbers"]["x"]["mae"]["high"] - told["numbers"]["x"]["mae"]["low"] for name, told in (("whole", whole), ("halved", halved))}
    apart = found([f"{letter}{half}" for letter in "abcdefgh" for half in "12"])["numbers"]["x"]["mae"]
    assert apart["high"] - apart["low"] != pytest.approx(width["halved"], rel=1e-3)  # sixteen episodes, not eight
    assert math.isfinite(width["whole"])


def test_coverage_is_resampled_by_the_seed() -> None:
    one, other = (found(list("abcdef"), seed=seed)["intervals"]["0.68"]["x"]["coverage"] for seed in (0, 1))
    assert one["value"] == other["value"]
    assert (one["low"], one["high"]) != (other["low"], other["high"])
