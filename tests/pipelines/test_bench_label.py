"""The benchmark of labels runs from collecting to the gate where there is no simulator, and a second run uses what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dataengine.core.errors import UsageError
from dataengine.store.store import open_store
from dataengine.store.verdicts import read_verdicts
from pipelines.bench_label import Sizes, bench_label
from tests.support.jobs import Inline, dataengine
from tests.support.square_store import make_square_store

SMALL = Sizes(train=12, test=6, demonstrations=8, real=4, cloned_labelled=6, played=6, timed=2, idm_steps=3, latent_steps=102)  # codebooks begin after 100


def silent(message: str) -> None:
    """Say nothing."""


@pytest.mark.slow
def test_from_collecting_to_the_gate_and_again(tmp_path: Path) -> None:
    found = bench_label(tmp_path, "errand", 1, ("idm", "latent", "downstream", "speed"), silent, SMALL, Inline())
    assert [len(found[name]) for name in ("command_r2", "displacement_r2", "flow_ridge_command_r2")] == [2, 2, 2]
    assert {"probe_r2", "probe_r2_5pct", "delta_psnr_db", "psnr_over_copy_db"} <= set(found["latent"])
    assert {"gain_recovered", "shuffled_gain"} <= set(found["downstream"])
    labelling = found["labelling"]
    assert (labelling["episodes"], labelling["threads"], len(labelling["ratios_wall"])) == (2, 1, 5)
    assert labelling["ratio_cpu"] > 1, "a job decodes, and the bare passes do not"
    assert set(labelling["seconds_of"]) == {"waiting", "model", "labels", "writing"}
    assert found["goals"]["figures"]["labelling.ratio_wall"]["value"] == labelling["ratio_wall"]
    assert {"train idm", "evaluate idm", "label", "downstream", "train latent-vq"} <= set(found["cpu_seconds"])
    assert json.loads((tmp_path / "bench_label.json").read_text())["command_r2"] == found["command_r2"]
    (kept,) = read_verdicts(open_store(str(tmp_path / "store")), "idm-0")
    assert kept["verdict"] == found["downstream"]["verdicts"][0]
    again = bench_label(tmp_path, "errand", 1, ("idm", "downstream"), silent, SMALL, Inline())
    assert again["command_r2"] == found["command_r2"]
    assert again["downstream"]["success"] == found["downstream"]["success"]
    assert open_store(str(tmp_path / "store")).version == open_store(str(tmp_path / "store"), None).version


def test_a_folder_of_another_environment_or_size_is_refused(tmp_path: Path) -> None:
    few = Sizes(train=1, test=1, demonstrations=1, real=1)
    found = bench_label(tmp_path, "square", 1, (), silent, few, Inline())
    assert {name: each["episodes"] for name, each in found["data"].items()} == {"train": 1, "test": 1, "demonstrations": 1, "real": 1}
    assert bench_label(tmp_path, "square", 1, (), silent, few, Inline())["data"] == found["data"]
    with pytest.raises(UsageError, match="must hold episodes of errand, found those of square as train; choose another folder"):
        bench_label(tmp_path, "errand", 1, (), silent, few, Inline())
    with pytest.raises(UsageError, match="must hold 2 episodes as test, found 1; choose another folder"):
        bench_label(tmp_path, "square", 1, (), silent, replace(few, test=2), Inline())


def test_a_folder_that_another_environment_was_begun_in_is_refused(tmp_path: Path) -> None:
    make_square_store(tmp_path / "store", 1, "train")
    with pytest.raises(UsageError, match="must hold episodes of errand, found those of square as train"):
        bench_label(tmp_path, "errand", 1, (), silent, Sizes(train=1, test=1, demonstrations=1, real=1), Inline())
    assert len(open_store(str(tmp_path / "store")).datasets()) == 1, "and nothing is added to it"


def test_a_part_that_is_none_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown part of the benchmark 'idn'.*did you mean 'idm'"):
        bench_label(tmp_path, "errand", 1, ("idn",), silent, SMALL, Inline())
    assert not list(tmp_path.iterdir())


def test_an_environment_that_cannot_run_here_says_so(tmp_path: Path) -> None:
    refused = dataengine("bench", "label", "--environment", "metaworld:psh-v3", "--work", tmp_path / "w")
    assert refused.code == 2
    assert "Traceback" not in refused.err
