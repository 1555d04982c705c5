from __future__ import annotations

import numpy as np
import pytest

from dataengine.core.column import Column
from dataengine.core.episode import EpisodeInfo
from dataengine.validate.episode import SIGNAL_CHECKS, VALUE_CHECKS, CheckInput, examine
from dataengine.validate.first_look import first_look
from dataengine.validate.limits import CheckLimits
from dataengine.validate.numbers import signal_facts

LIMITS = CheckLimits()
NOMINAL = EpisodeInfo("lab", {}, "nominal", rate_hz=10.0)


def column(rng, name, rows):
    """Return a column of any kind, often with a fault."""
    meaning = rng.choice(["state", "action", "reward", "other"])
    dims = int(rng.integers(1, 6))
    values = np.cumsum(rng.normal(size=(rows, dims)), axis=0) * 0.02
    for fault in rng.choice(["none", "clip", "leap", "freeze", "flip", "nan", "inf", "turn"], int(rng.integers(0, 3))):
        dimension, row = int(rng.integers(dims)), int(rng.integers(rows))
        if fault == "clip":
            values[:, dimension] = np.minimum(values[:, dimension], np.quantile(values[:, dimension], 0.6))
        elif fault in ("leap", "turn"):
            values[row:, dimension] += 2 * np.pi if fault == "turn" else 3.0
        elif fault == "freeze":
            values[:] = values[0]
        elif fault == "flip":
            values[:, dimension] = (np.arange(rows) // 2) % 2
        elif fault in ("nan", "inf"):
            values[row, dimension] = {"nan": np.nan, "inf": -np.inf}[fault]
    dtype = rng.choice(["float32", "float64", "float64"]) if not np.isfinite(values).all() else rng.choice(["float32", "float64", "int64", "bool"])
    names = tuple(f"gripper_{number}" if number == 0 else f"joint_{number}" for number in range(dims))
    shape, values = ((), values[:, 0]) if dims == 1 and rng.random() < 0.5 else ((dims,), values)
    described = Column(f"{name}.qpos", dtype=str(dtype), shape=shape, dims=names if shape and rng.random() < 0.5 else None, meaning=str(meaning))
    return described, values.astype(dtype)


def alone(described, values):
    """Return the problems of one column, each check run on it by itself."""
    found = [problem for check in VALUE_CHECKS.values() for problem in check(described, values, LIMITS)]
    signal = signal_facts(described, values)
    return found + ([problem for check in SIGNAL_CHECKS.values() for problem in check(described, signal, LIMITS)] if signal is not None else [])


@pytest.mark.parametrize("seed", range(60))
def test_columns_side_by_side_have_the_problems_that_each_has_alone(seed):
    rng = np.random.default_rng([3, seed])
    columns = {f"c{number}": column(rng, f"c{number}", int(rng.choice([3, 30, 30, 45]))) for number in range(8)}
    with np.errstate(all="ignore"):
        found = examine(NOMINAL, {name: CheckInput(described, None, values, len(values)) for name, (described, values) in columns.items()}, LIMITS)
        wanted = [problem for described, values in columns.values() for problem in alone(described, values)]
    assert [problem for problem in found.problems if problem.check not in ("too_short", "idle_episode")] == wanted


def test_a_sound_column_is_not_suspected():
    rows = np.arange(50)
    sound = np.stack([np.sin(rows / 7), np.cos(rows / 9)], axis=1)
    clipped = np.minimum(sound, 0.5)
    looks = first_look(
        {
            "state": (Column("state", shape=(2,), meaning="state"), sound),
            "action": (Column("action", shape=(2,), meaning="action"), clipped.astype(np.float32)),
            "reward": (Column("reward", meaning="reward"), sound[:, 0]),
            "flag": (Column("flag", dtype="bool", meaning="flag"), rows > 40),
            "spectrum": (Column("spectrum", dtype="complex64", shape=(2,)), sound.astype(np.complex64)),
        },
        LIMITS,
    )
    assert {name: look.suspects for name, look in looks.items()} == {"state": (), "action": ("saturated",), "reward": (), "flag": (), "spectrum": ()}
    assert {name for name, look in looks.items() if look.finite} == {"state", "action", "reward", "flag"}
    assert looks["state"].moved == pytest.approx(2.0, abs=1e-3)  # the sine and the cosine run through a whole turn
    assert looks["reward"].moved is None
