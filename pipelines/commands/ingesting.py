"""`dataengine ingest` and `dataengine rejects --retry`."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import typer

from dataengine.core.config import read_config
from dataengine.core.errors import UsageError
from pipelines.commands.printing import Bar, count, note, print_json, size, summary, table
from pipelines.config import IngestConfig
from pipelines.hiding import text_of
from pipelines.ingest import IngestJob, Report, plan_job, run, sources_to_retry
from pipelines.runtime import Runtime

SHOWN_PROBLEMS = 12
COPIES = "store"  # the reader of copies


def ingest(
    sources: list[str],
    store: str,
    dataset: str | None,
    formats: list[str],
    config: str | None,
    rate: float | None,
    lossless: bool,
    blur_faces: bool,
    scrub: bool,
    workers: int | None,
    local: bool,
    address: str | None,
    limit: int | None,
    dry_run: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Run an ingest job, or with `dry_run` only say what it would do."""
    if local and address is not None:
        raise UsageError("--local and --address: only one of them can be meant; leave one out")
    chosen = configured(config, blur_faces, scrub)
    changes: dict[str, Any] = {}
    if rate is not None:
        changes["rate_hz"] = rate
    if lossless:
        changes["lossless"] = True
    flags = {"--lossless": lossless, "--blur-faces": chosen.privacy.blur_faces, "--scrub": chosen.privacy.scrub}
    words = ["ingest", *sources, "--store", store, *(["--dataset", dataset] if dataset else []), *(flag for flag, on in flags.items() if on)]
    command = text_of(chosen.privacy)(shlex.join(words))
    job = IngestJob(tuple(sources), store, dataset, tuple(formats), chosen.model_copy(update=changes), limit, False, single_writer, {}, command)
    if dry_run:
        _say_plan(job, as_json)
        return
    runtime = Runtime(local, address, workers)
    carry_through(lambda bar: run(job, runtime, bar), runtime, as_json)


def configured(config: str | None, blur_faces: bool, scrub: bool) -> IngestConfig:
    """Return the configuration of a file, with the privacy that is asked for beside it."""
    chosen = read_config(IngestConfig, config) if config is not None else IngestConfig()
    asked = {name: True for name, on in (("blur_faces", blur_faces), ("scrub", scrub)) if on}
    return chosen.model_copy(update={"privacy": chosen.privacy.model_copy(update=asked)}) if asked else chosen


def retry(store: str, config: str | None, blur_faces: bool, scrub: bool, local: bool, as_json: bool) -> None:
    """Read the items with rejected recordings again, with no less privacy than before."""
    from dataengine.store.store import open_store

    chosen = configured(config, blur_faces, scrub)
    rows = open_store(store).rows("reject").collect().to_dicts()
    before = [json.loads(row["metadata"])["privacy"] for row in rows if row["metadata"]]
    if any(row["reader"] == COPIES for row in rows):
        raise UsageError(f"{store}: holds copies that `dataengine materialize` made; run that again, and it tries what was rejected")
    missing = [
        flag for name, flag in (("blur_faces", "--blur-faces"), ("scrub", "--scrub")) if any(was[name] for was in before) and not getattr(chosen.privacy, name)
    ]
    if missing:
        raise UsageError(f"{store}: recordings were rejected when they were read with {' and '.join(missing)}; say so again, or they would land unprotected")
    sources = sources_to_retry(rows)
    if not sources:
        note("nothing was rejected")
        raise typer.Exit
    job, runtime = IngestJob(tuple(sources), store, config=chosen, retry=True, command="rejects --retry"), Runtime(local)
    carry_through(lambda bar: run(job, runtime, bar), runtime, as_json)


def carry_through(work: Callable[[Bar], Any], runtime: Runtime, as_json: bool, tell: Callable[[Any], None] | None = None) -> None:
    """Run a job to its end, print what it did with `tell` (see `say`), and exit with its code."""
    bar = Bar()
    try:
        report = work(bar)
    except KeyboardInterrupt:
        bar.end()
        note("stopped; the store is as its last commit left it, run the same command again to go on")
        raise typer.Exit(130) from None
    finally:
        bar.end()
        runtime.stop()
    if as_json:
        print_json({key: value for key, value in asdict(report).items() if key != "ignored_files"} | {"ignored_files": report.ignored_files})
    else:
        (tell or say)(report)
    sys.stdout.flush()
    raise typer.Exit(report.exit_code)


def say(report: Report) -> None:
    """Print what a job did."""
    if report.datasets:
        table(
            ["dataset", "landed", "steps", "skipped", "rejected"],
            [[name, counts["landed"], f"{counts['steps']:,}", counts["skipped"], counts["rejected"]] for name, counts in sorted(report.datasets.items())],
            right=["landed", "steps", "skipped", "rejected"],
        )
    speed = report.read_bytes / report.seconds if report.seconds else 0.0
    print(summary(asdict(report)) + f" ({size(report.read_bytes)} read, {size(report.stored_bytes)} stored, {report.seconds:.1f} s, {size(speed)}/s)")
    say_rejects(report)
    say_problems(report.problems)
    print(f"version {report.version} of {report.store}" if report.version is not None else f"{report.store} has no version yet: nothing landed")


def say_rejects(report: Report) -> None:
    """Print a line for each recording that was rejected."""
    for reject in report.rejects:
        place = reject["source_uri"] + (f" {reject['source_key']}" if reject["source_key"] else "")
        found = f"expected {reject['expected']}, found {reject['found']}" if reject["expected"] else reject["found"]
        print(f"rejected ({reject['check']}): {place}: {found}" + (f"; {reject['advice']}" if reject["advice"] else ""))


def say_problems(problems: list[dict[str, Any]]) -> None:
    """Print one line for each kind of problem, with an example."""
    kinds = Counter((problem["check"], problem["severity"]) for problem in problems)
    for (check, severity), times in sorted(kinds.items(), key=lambda kind: (kind[0][1] == "info", -kind[1]))[:SHOWN_PROBLEMS]:
        example = next(problem["message"] for problem in problems if (problem["check"], problem["severity"]) == (check, severity))
        print(f"{severity} ({check}, {count(times, 'time')}): {example}")
    if len(kinds) > SHOWN_PROBLEMS:
        print(f"and {len(kinds) - SHOWN_PROBLEMS} more kinds; --json lists all")


def _say_plan(job: IngestJob, as_json: bool) -> None:
    from dataengine.core.objects import open_objects
    from dataengine.store import layout
    from dataengine.store.catalog import Catalog
    from dataengine.store.refs import parse_address

    objects = open_objects(parse_address(job.store).url, job.storage_options)
    plan = plan_job(job, Catalog(objects) if objects.head(layout.STORE) is not None else None)
    rows = [
        {
            "dataset": planned.reading.dataset,
            "format": planned.item.reader,
            "item": planned.reading.source_uri,
            "bytes": planned.item.size,
            "recordings": planned.item.recordings,
            "known_as": planned.description.name if planned.description else None,
        }
        for planned in plan.items
    ]
    known = sum(item.recordings for item in plan.known)
    if as_json:
        problems = [problem.as_dict() for problem in plan.problems]
        print_json(
            {
                "items": rows,
                "units": len(plan.units),
                "skipped": known,
                "ignored": len(plan.ignored),
                "ignored_files": plan.ignored,
                "problems": problems,
                "privacy": job.config.privacy.record(),
            }
        )
        return
    table(
        ["dataset", "format", "item", "size", "recordings", "known as"],
        [[*list(row.values())[:3], size(float(row["bytes"] or 0)), *list(row.values())[4:]] for row in rows],
    )
    print(f"{count(len(rows), 'item')} in {count(len(plan.units), 'unit')}; {known} recordings are there already; {count(len(plan.ignored), 'file')} ignored")
    if job.config.privacy.on:
        done = {"faces would be blurred": job.config.privacy.blur_faces, "names, places and serial numbers would be taken out": job.config.privacy.scrub}
        print("; ".join(text for text, on in done.items() if on))
    say_problems([problem.as_dict() for problem in plan.problems])
