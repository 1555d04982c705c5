from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataengine.align.lag_profile import LAGS
from dataengine.core.problem import Problem
from dataengine.store.store import open_store
from dataengine.synth.rollout import Play
from dataengine.versions.check import check
from dataengine.versions.check_lags import agreed_lag
from pipelines.collect import CollectJob, collect
from pipelines.ingest import _silent
from tests.support.jobs import Inline


def curves(best: int, lead: float, spread: float, episodes: int = 12, seed: int = 0) -> np.ndarray:
    """Return curves (E, 11) that are 0.5 at one lag and lower by `lead` at every other, each value off by a spread."""
    flat = np.full(len(LAGS), 0.5 - lead)
    flat[LAGS.index(best)] = 0.5
    return flat + np.random.default_rng(seed).normal(0, spread, (episodes, len(LAGS)))


def test_episodes_together_know_what_each_alone_does_not() -> None:
    assert agreed_lag(curves(-1, 0.05, 0.02)) == -1  # 0.05 over a standard error of 0.03 / sqrt(12)
    assert agreed_lag(curves(1, 0.05, 0.02)) == 1
    assert agreed_lag(curves(-1, 0.05, 0.3)) is None
    assert agreed_lag(curves(-1, 0.05, 0.0, episodes=4)) is None  # too few
    assert agreed_lag(curves(5, 0.2, 0.01)) is None  # the best lies where the search ends
    assert agreed_lag(curves(0, 0.2, 0.01) - 0.3) is None  # 0.2 is no correlation to build on
    short = curves(-1, 0.1, 0.01)
    short[:, 7:] = np.nan  # lags that short episodes do not reach
    assert agreed_lag(short) == -1


def named(store: str) -> list[Problem]:
    return [problem for problem in check(open_store(store)) if problem.check == "action_lag"]


@pytest.mark.parametrize(("shift", "severity"), [(0, None), (1, "warning"), (-1, "info")])
def test_a_dataset_whose_labels_are_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int, severity: str | None) -> None:
    import dataengine.store.action_lags as lags

    real = lags.action_motions
    # Labels that are off by a row before anyone sees them: what a recorder does that pairs them wrongly.
    monkeypatch.setattr(lags, "action_motions", lambda column, values, times: real(column, np.roll(values, shift, axis=0), times))
    store = str(tmp_path / "store")
    collect(CollectJob("square", store, "square", 6, play=Play()), Inline(), _silent)
    found = [problem for problem in named(store) if problem.where.startswith("dataset ")]
    assert [problem.severity for problem in found] == ([severity] if severity else [])
    if severity:
        side = "after" if shift > 0 else "before"
        assert f"dataset square: observation.images.front: expected actions with the motion that they make, found them 1 step {side}" in found[0].message
        assert "by 6 episodes together" in found[0].message
        assert json.dumps(found[0].as_dict())
