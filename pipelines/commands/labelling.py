"""`dataengine label`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

from dataengine.core.config import parse_yaml, read_yaml
from dataengine.core.errors import UsageError
from dataengine.labels.registry import find_method
from pipelines.commands.ingesting import carry_through
from pipelines.commands.printing import count, size, summary
from pipelines.label import LabelJob, LabelReport, run
from pipelines.label_unit import Opening
from pipelines.runtime import Runtime

SHOWN_REJECTS = 20


def label(
    method: str,
    store: str,
    label_set: str,
    datasets: list[str],
    model: str | None,
    where: str | None,
    abstain: float | None,
    config: str | None,
    options: list[str],
    batch_size: int,
    device: str,
    workers: int | None,
    local: bool,
    address: str | None,
    limit: int | None,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Run a labelling job."""
    if local and address is not None:
        raise UsageError("--local and --address: only one of them can be meant; leave one out")
    settings = (read_yaml(config) if config is not None else {}) | _options(options)
    opening = Opening(method, find_method(method), model, device, json.dumps(settings, sort_keys=True))
    asked: dict[str, Any] = {"--model": model, "--store": store, "--label-set": label_set, "--where": where, "--abstain": abstain, "--config": config}
    words = ["label", method, *(word for flag, value in asked.items() if value is not None for word in (flag, str(value)))]
    words += [word for flag, values in (("--dataset", datasets), ("--option", options)) for value in values for word in (flag, value)]
    job = LabelJob(opening, store, tuple(datasets), label_set, where, abstain, batch_size, workers, limit, single_writer, {}, shlex.join(words))
    runtime = Runtime(local, address)
    carry_through(lambda bar: run(job, runtime, bar), runtime, as_json, tell)


def _options(options: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--option: must be NAME=VALUE, got {option!r}")
        found |= parse_yaml(f"{name}: {value}", f"--option {option}")
    return found


def tell(report: LabelReport) -> None:
    """Print what a job did."""
    speed = report.steps / report.seconds if report.seconds else 0.0
    left_out = f", {count(report.abstained, 'value')} left out as doubtful" if report.abstained else ""
    print(f"{summary(asdict(report))} ({count(report.steps, 'step')}{left_out}, {size(report.bytes)}, {report.seconds:.1f} s, {speed:,.0f} steps/s)")
    for reject in report.rejects[:SHOWN_REJECTS]:
        found = f"expected {reject['expected']}, found {reject['found']}" if reject["expected"] else reject["found"]
        print(f"rejected ({reject['check']}): {reject['dataset']} {reject['episode_id'][:12]}: {found}" + (f"; {reject['advice']}" if reject["advice"] else ""))
    if len(report.rejects) > SHOWN_REJECTS:
        print(f"and {len(report.rejects) - SHOWN_REJECTS:,} more; --json lists all")
    if not report.landed + report.skipped:
        print(f"no labels {report.label_set}: {report.store} is as it was, at version {report.version}")
        return
    print(f"labels {report.label_set} by {report.method} (model {report.model[:12]}): version {report.version} of {report.store}")
