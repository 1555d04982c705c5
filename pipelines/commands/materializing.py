"""`dataengine materialize`: a training-ready copy of a version."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import asdict
from typing import cast, get_args

import typer

from dataengine.core.errors import UnknownName, UsageError
from dataengine.video.fit import Fit
from pipelines.commands.ingesting import say_problems, say_rejects
from pipelines.commands.printing import Bar, print_json, size, summary, table
from pipelines.ingest import Report
from pipelines.materialize import SETTINGS, CopyJob, run
from pipelines.runtime import Runtime


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width of "240x320" or "224"; raise UsageError."""
    found = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text.strip())
    if found is None:
        raise UsageError(f"--size {text!r}: must be HEIGHTxWIDTH in px, such as 240x320, or one number for a square")
    return int(found[1]), int(found[2] or found[1])


def known_fit(name: str) -> Fit:
    """Return a way to fit by its name; raise UnknownName."""
    for fit in get_args(Fit):
        if fit == name:
            return cast(Fit, fit)
    raise UnknownName("fit", name, get_args(Fit))


def materialize(
    source: str,
    target: str,
    datasets: list[str],
    picture_size: str,
    rate: float | None,
    where: str | None,
    fit: Fit,
    crf: int | None,
    gop: int | None,
    workers: int | None,
    local: bool,
    address: str | None,
    limit: int | None,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Run a materialize job."""
    if local and address is not None:
        raise UsageError("--local and --address: only one of them can be meant; leave one out")
    height, width = parse_size(picture_size)
    changes = {name: value for name, value in (("crf", crf), ("gop", gop)) if value is not None}
    config = SETTINGS.model_copy(update={"encoding": SETTINGS.encoding.model_copy(update=changes)})
    named = [word for name in datasets for word in ("--dataset", name)]
    chosen = {"--rate": rate, "--where": where, "--crf": crf, "--gop": gop, "--limit": limit}
    options = [word for flag, value in chosen.items() if value is not None for word in (flag, str(value))]
    words = ["materialize", source, *named, target, "--size", f"{height}x{width}", "--fit", fit, *options]
    job = CopyJob(source, target, height, width, tuple(datasets), rate, where, fit, config, limit, single_writer, {}, shlex.join(words))
    runtime, bar = Runtime(local, address, workers), Bar()
    try:
        report = run(job, runtime, bar)
    finally:
        bar.end()
        runtime.stop()
    if as_json:
        print_json(asdict(report))
    else:
        _say(report)
    sys.stdout.flush()
    raise typer.Exit(report.exit_code)


def _say(report: Report) -> None:
    if report.datasets:
        table(
            ["dataset", "landed", "steps", "skipped", "rejected"],
            [[name, counts["landed"], f"{counts['steps']:,}", counts["skipped"], counts["rejected"]] for name, counts in sorted(report.datasets.items())],
            right=["landed", "steps", "skipped", "rejected"],
        )
    print(summary(asdict(report)) + f" ({size(report.stored_bytes)} stored, {report.seconds:.1f} s)")
    say_rejects(report)
    say_problems(report.problems)
    print(f"version {report.version} of {report.store}" if report.version is not None else f"{report.store} has no version yet: nothing landed")
