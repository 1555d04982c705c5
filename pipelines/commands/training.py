"""`dataengine train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataengine.core.config import read_config
from dataengine.view.training_page import figure_rows
from pipelines.commands.printing import count, note, print_json, table
from pipelines.runtime import Runtime
from pipelines.train import train as run_training
from pipelines.training_job import TrainingConfig, TrainJob

SHOWN = 8  # figures of a step on a line


def train(
    kind: str,
    store: str,
    out: str,
    datasets: list[str],
    config: str | None,
    scale: str | None,
    where: str | None,
    seed: int,
    steps: int | None,
    device: str,
    ranks: int,
    workers: int,
    address: str | None,
    as_json: bool,
) -> None:
    """Run a training job."""
    chosen = read_config(TrainingConfig, config) if config is not None else TrainingConfig()
    job = TrainJob(kind, store, out, tuple(datasets), chosen, scale or "tiny", where, seed, steps, device, ranks, workers)
    runtime = Runtime(False, address, ranks + 1)
    try:
        found = run_training(job, runtime, _tell, note)
    finally:
        runtime.stop()
    if as_json:
        print_json(found)
    else:
        _say(found)


def _tell(step: int, figures: Mapping[str, float]) -> None:
    note(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in list(figures.items())[:SHOWN]))


def _say(found: Mapping[str, Any]) -> None:
    rows = figure_rows(found["held_out"])
    if rows:
        table(["held out", "value"], rows)
    fit = found["fit"]
    print(f"{found['parameters']:,} parameters, {count(fit['steps'], 'step')}, {fit['seconds']:.0f} s ({fit['cpu_seconds']:.0f} s CPU) on {found['device']}")
    print(f"model {found['model']} in {found['out']}, trained on {found['trained_on']}")
