"""Damaged payload: named when it is met, or left out and counted, never passed over in silence."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataengine.core.errors import DataEngineError
from dataengine.loaders import Field, Loader, Shuffle, loader
from tests.loaders.conftest import LENGTHS
from tests.support.numbered import what_is_seen

FIELDS = {"camera:primary": Field(), "camera:wrist": Field(), "state": Field(), "task": Field()}


def batches(store: Path, **more: Any) -> Loader:
    settings: dict[str, Any] = {"batch_size": 16, "seed": 2, "shuffle": Shuffle(clip_steps=20, spread=8, lanes=8, groups=2), "framework": "numpy"}
    return loader(f"{store}#lab", FIELDS, **(settings | more))


@pytest.fixture
def damaged(lab: Path, tmp_path: Path) -> Path:
    """A copy of the store in which the middle of one camera's film is noise."""
    shutil.copytree(lab, tmp_path / "store")
    film = sorted((tmp_path / "store").glob("streams/*/*/videos/*front.mp4"))[0]
    data = bytearray(film.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 3000] = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    film.write_bytes(data)
    return tmp_path / "store"


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_raised_with_its_place(damaged: Path, workers: int) -> None:
    with batches(damaged, workers=workers) as found, pytest.raises(DataEngineError, match=r"front.mp4: track 0: frame \d+: expected a picture"):
        list(found)


@pytest.mark.parametrize(("workers", "order"), [(0, "shuffled"), (2, "shuffled"), (1, "random")])
def test_damage_is_left_out_and_counted(damaged: Path, workers: int, order: str, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = 0, 0
    with caplog.at_level(logging.WARNING), batches(damaged, workers=workers, order=order, on_damage="leave_out") as found:
        for batch in found:
            for place in range(16):
                if batch["weight"][place]:
                    number, step = (int(value) for value in batch["state"][place][:2])
                    assert what_is_seen(batch["camera:primary"][place]) == (number, step, 0)
                    assert batch["task"][place] == f"task {number % 3}"
                    good += 1
                elif batch["sample"][place] >= 0:
                    assert batch["camera:primary_is_pad"][place]
                    assert not batch["camera:wrist"][place].any()
                    assert batch["task"][place] == ""
                    bad += 1
        damage = found.damage
    assert good + bad == sum(LENGTHS)
    assert 0 < bad < 40
    assert sum(damage.values()) == bad
    assert all("expected a picture" in message for message in damage)
    assert any("left out:" in record.message for record in caplog.records)


def test_a_steps_file_that_is_gone_costs_its_episodes_alone(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab, tmp_path / "store")
    sorted((tmp_path / "store").glob("steps/*/*.parquet"))[0].unlink()
    found = batches(tmp_path / "store", on_damage="leave_out")
    good = sum(int(batch["weight"].sum()) for batch in found)
    assert 0 < good < sum(LENGTHS)
    assert sum(found.damage.values()) == sum(LENGTHS) - good
    assert all("expected trajectories, found none" in message for message in found.damage)
    with pytest.raises(DataEngineError, match="expected trajectories, found none"):
        list(batches(tmp_path / "store"))
