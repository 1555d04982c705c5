"""`dataengine evaluate downstream`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataengine.core.config import read_config
from dataengine.core.errors import UsageError
from dataengine.evaluate.behaviour_cloning import CloningConfig
from dataengine.evaluate.conditions import CONDITIONS
from dataengine.evaluate.downstream_page import downstream_page
from pipelines.commands.collecting import picture_size
from pipelines.commands.printing import Bar, print_json, table
from pipelines.downstream import DONE, GateJob, gate
from pipelines.runtime import Runtime

REPORT, PAGE = "downstream.json", "downstream.html"


def downstream(
    store: str,
    real: str,
    labelled: str,
    label_set: str,
    environment: str,
    column: str | None,
    demonstrations: tuple[int, int],
    where: tuple[str | None, str | None],
    played: tuple[int, int, int],
    policy: str,
    size: str | None,
    confidence: float | None,
    conditions: str | None,
    config: str | None,
    out: str | None,
    record: bool,
    workers: int | None,
    local: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Run the gate and say what it found.

    Of the tuples, `demonstrations` and `where` are those of the real and the labelled ones, `played` episodes, policies and the first seed.
    """
    if local and address is not None:
        raise UsageError("--local and --address: only one of them can be meant; leave one out")
    job = GateJob(
        store,
        real,
        labelled,
        label_set,
        environment,
        column,
        real_episodes=demonstrations[0],
        labelled_episodes=demonstrations[1],
        where_real=where[0] if where[0] is not None else DONE,
        where_labelled=where[1] if where[1] is not None else DONE,
        episodes=played[0],
        seeds=played[1],
        seed=played[2],
        policy=policy,  # type: ignore[arg-type]  # the job refuses what is none
        size=picture_size(size) or (64, 64),
        confidence=confidence,
        conditions=tuple(conditions.split(",")) if conditions is not None else tuple(CONDITIONS),
        cloning=read_config(CloningConfig, config) if config is not None else CloningConfig(),
        record=record,
    )
    runtime, bar = Runtime(local, address, workers), Bar("policies")
    try:
        found = gate(job, runtime, bar)
    finally:
        bar.end()
        runtime.stop()
    if out is not None:
        write_gate(Path(out), found)
    if as_json:
        print_json(found)
        return
    print_gate(found)


def write_gate(folder: Path, found: dict[str, Any]) -> None:
    """Write what was found as JSON and as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(json.dumps(found, indent=1, allow_nan=False))
    (folder / PAGE).write_text(downstream_page(found))


def print_gate(found: dict[str, Any]) -> None:
    """Print a line a condition, the gains and the verdict."""
    rows = [
        [
            name,
            f"{each['successes']} of {each['episodes']}",
            f"{each['success']:.3f}",
            f"{each['low']:.3f} - {each['high']:.3f}",
            round(sum(each["added"]) / len(each["added"])),
        ]
        for name, each in found["conditions"].items()
    ]
    table(["condition", "succeeded", "share", "95 %", "steps added"], rows, right=["succeeded", "share", "steps added"])
    for name in ("gain_recovered", "shuffled_gain"):
        value, low, high = (found[name][part] for part in ("value", "low", "high"))
        print(f"{name}  " + ("not known" if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"))
    for name, why in found["left_out"].items():
        print(f"left out: {name}: {why}")
    print(f"label set {found['label_set']} of version {found['version']}: {found['verdict']} ({found['reason']})")
