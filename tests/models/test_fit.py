"""Fitting: what it learns, that it is a function of its seed, and that a run that was cut goes on as if it had not been."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dataengine.core.errors import UsageError
from dataengine.models.fit import FitConfig, curve, fit

CONFIG = FitConfig(steps=60, batch_size=16, learning_rate=0.03, warmup_steps=5, log_every=10, save_every=20, weight_decay=0.0)


class Line:
    """Finds y = 3 x - 1 through noise and dropout that come from the generator."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch["x"] + 0.01 * torch.randn(batch["x"].shape, generator=generator)
        error = (self.module(x) - batch["y"]).square().mean()
        return error, {"error": error}


class Numbers:
    """Batches of an epoch of four, with a place; dies when it is asked for batch `dies_at`."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.at, self.dies_at = 0, dies_at

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            if self.at == self.dies_at:
                raise KeyboardInterrupt
            x = torch.rand(16, 1, generator=torch.Generator().manual_seed(self.at)) * 2 - 1
            self.at += 1
            yield {"x": x, "y": 3 * x - 1, "task": ["a"] * 16}
            if self.at % 4 == 0:
                return

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.at = int(state["at"])


def weights(line: Line) -> list[float]:
    return [value for tensor in line.module.state_dict().values() for value in tensor.flatten().tolist()]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path, average: float) -> None:
    config = CONFIG.model_copy(update={"average": average})
    whole, cut, resumed = Line(), Line(), Line()
    done = fit(whole, Numbers(), config, 5, tmp_path / "whole")
    assert done["last"]["error"] < 0.3  # from about 4
    with pytest.raises(KeyboardInterrupt):
        fit(cut, Numbers(dies_at=47), config, 5, tmp_path / "cut")
    assert fit(resumed, Numbers(), config, 5, tmp_path / "cut")["resumed_at"] == 40
    assert weights(resumed) == weights(whole)
    lines = [[{key: line[key] for key in line if key != "seconds"} for line in curve(tmp_path / folder)] for folder in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [10, 20, 30, 40, 50, 60]


def test_a_line_of_the_curve_that_was_cut_does_not_stop_the_next_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), Numbers(dies_at=47), CONFIG, 5, tmp_path)
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"step": 50, "lo')
    assert [line["step"] for line in curve(tmp_path)] == [10, 20, 30, 40]
    assert fit(Line(), Numbers(), CONFIG, 5, tmp_path)["resumed_at"] == 40
    assert [line["step"] for line in curve(tmp_path)] == [10, 20, 30, 40, 50, 60]


def test_the_curve_is_whole_whenever_the_next_run_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), Numbers(dies_at=57), CONFIG, 5, tmp_path)  # the state is that of step 40
    before = (tmp_path / "curve.jsonl").read_text()

    def die(*told: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dataengine.models.fit.os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            fit(Line(), Numbers(dies_at=0), CONFIG, 5, tmp_path)
    assert (tmp_path / "curve.jsonl").read_text() == before
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), Numbers(dies_at=40), CONFIG, 5, tmp_path)
    assert (tmp_path / "curve.jsonl").read_text().splitlines() == before.splitlines()[:4]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first, again = Line(), Line()
    fit(first, Numbers(), CONFIG, 5, tmp_path)
    assert fit(again, Numbers(), CONFIG, 5, tmp_path)["resumed_at"] == 60
    assert weights(first) == weights(again)


def test_what_runs_that_were_cut_have_spent_counts_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), Numbers(dies_at=47), CONFIG, 5, tmp_path)
    place = json.loads((tmp_path / "state.json").read_text())
    assert place["spent"]["seconds"] > 0
    assert place["last"]["error"] == curve(tmp_path)[3]["error"]
    (tmp_path / "state.json").write_text(json.dumps({**place, "spent": {"seconds": 1000.0, "cpu_seconds": 500.0}}))
    done = fit(Line(), Numbers(), CONFIG, 5, tmp_path)
    assert done["before"] == {"seconds": 1000.0, "cpu_seconds": 500.0}
    assert 1000 < done["seconds"] < 1100
    assert 500 < done["cpu_seconds"] < 600
    again = fit(Line(), Numbers(), CONFIG, 5, tmp_path)  # nothing is left to do
    assert again["last"] == done["last"] != {}
    assert again["seconds"] > 1000


class Faint(Line):
    """Says a figure that no number stands for."""

    def loss(self, batch: Mapping[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        error, figures = super().loss(batch, generator)
        return error, {**figures, "over_copy_db": torch.tensor(-torch.inf)}


def test_figures_that_are_not_finite_are_null_on_disk(tmp_path: Path) -> None:
    fit(Faint(), Numbers(), CONFIG, 5, tmp_path)
    for text in [*(tmp_path / "curve.jsonl").read_text().splitlines(), (tmp_path / "state.json").read_text()]:
        assert '"over_copy_db": null' in text
    assert all(math.isnan(line["over_copy_db"]) for line in curve(tmp_path))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, other = Line(), Line()
    fit(one, Numbers(), CONFIG, 5, tmp_path / "one")
    fit(other, Numbers(), CONFIG, 6, tmp_path / "other")
    assert weights(one) != weights(other)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    fit(Line(), Numbers(), CONFIG, 5, tmp_path)
    with pytest.raises(UsageError, match="other settings"):
        fit(Line(), Numbers(), CONFIG.model_copy(update={"learning_rate": 0.01}), 5, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finite"):
        fit(Line(), Numbers(), CONFIG.model_copy(update={"learning_rate": 1e30, "clip_norm": 1e30}), 5, tmp_path)


def test_what_is_written_between_two_states_is_never_read(tmp_path: Path) -> None:
    fit(Line(), Numbers(), CONFIG, 5, tmp_path)
    place = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state-99.safetensors").write_bytes(b"cut off")  # as a run leaves it that dies before it renames
    assert place["step"] == 60
    assert fit(Line(), Numbers(), CONFIG, 5, tmp_path)["resumed_at"] == 60


def test_only_the_first_of_several_processes_writes(tmp_path: Path) -> None:
    fit(Line(), Numbers(), CONFIG, 5, tmp_path, rank=1)
    assert not list(tmp_path.iterdir())
