"""The benchmark of labels runs from collecting to the gate where there is no simulator, and a second run uses what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.core.errors import UsageError
from dataengine.store.store import open_store
from dataengine.store.verdicts import read_verdicts
from pipelines.bench_label import Sizes, bench_label
from tests.support.jobs import Inline, dataengine

SMALL = Sizes(train=12, test=6, demonstrations=8, real=4, cloned_labelled=6, played=6, idm_steps=3, latent_steps=102)  # codebooks begin after 100


def silent(message: str) -> None:
    """Say nothing."""


@pytest.mark.slow
def test_from_collecting_to_the_gate_and_again(tmp_path: Path) -> None:
    found = bench_label(tmp_path, "errand", 1, ("idm", "latent", "downstream"), silent, SMALL, Inline())
    assert [len(found[name]) for name in ("command_r2", "displacement_r2", "flow_ridge_command_r2")] == [2, 2, 2]
    assert {"probe_r2", "probe_r2_5pct", "delta_psnr_db", "psnr_over_copy_db"} <= set(found["latent"])
    assert {"gain_recovered", "shuffled_gain"} <= set(found["downstream"])
    assert {"train idm", "evaluate idm", "label", "downstream", "train latent-vq"} <= set(found["cpu_seconds"])
    assert json.loads((tmp_path / "bench_label.json").read_text())["command_r2"] == found["command_r2"]
    (kept,) = read_verdicts(open_store(str(tmp_path / "store")), "idm-0")
    assert kept["verdict"] == found["downstream"]["verdicts"][0]
    again = bench_label(tmp_path, "errand", 1, ("idm", "downstream"), silent, SMALL, Inline())
    assert again["command_r2"] == found["command_r2"]
    assert again["downstream"]["success"] == found["downstream"]["success"]
    assert open_store(str(tmp_path / "store")).version == open_store(str(tmp_path / "store"), None).version


def test_a_part_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown part of the benchmark 'idn'.*did you mean 'idm'"):
        bench_label(tmp_path, "errand", 1, ("idn",), silent, SMALL, Inline())
    assert not list(tmp_path.iterdir())


def test_an_environment_that_cannot_run_here_says_so(tmp_path: Path) -> None:
    refused = dataengine("bench", "label", "--environment", "metaworld:psh-v3", "--work", tmp_path / "w")
    assert refused.code == 2
    assert "Traceback" not in refused.err
