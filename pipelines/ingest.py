"""The ingest job: find, plan, read in parallel, commit as it goes, name a version."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dataengine.core.digest import digest_json
from dataengine.core.errors import AlreadyThere, UsageError
from dataengine.core.names import require_slug
from dataengine.core.objects import Objects, open_objects
from dataengine.core.problem import Problem
from dataengine.schema.descriptions import DATASET_NOTICES
from dataengine.store import layout
from dataengine.store.catalog import Catalog
from dataengine.store.commit import Committer
from dataengine.store.features import dataset_privacy
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.outcome import Outcome, reject_row, source_row
from dataengine.store.refs import parse_address
from dataengine.store.store import create_store
from pipelines.children import Died, Limits
from pipelines.config import IngestConfig
from pipelines.hiding import hide, text_of
from pipelines.job_report import JobReport
from pipelines.plan import Plan, PlannedItem, find_items, make_plan
from pipelines.runtime import Runtime
from pipelines.scratch import remove_abandoned
from pipelines.unit import Unit, UnitResult, ingest_unit

APART = 3  # so many items of a unit are told apart as those that kill its process, before all that are left are read one by one


@dataclass(frozen=True)
class IngestJob:
    """What a user asks for: sources, the store, and how."""

    sources: tuple[str, ...]
    store: str
    dataset: str | None = None
    formats: tuple[str, ...] = ()
    config: IngestConfig = field(default_factory=IngestConfig)
    limit: int | None = None
    retry: bool = False
    single_writer: bool = False
    storage_options: Mapping[str, str] = field(default_factory=dict)
    command: str = "ingest"


@dataclass
class Report(JobReport):
    """What a job did with recordings."""

    datasets: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)
    read_bytes: int = 0
    stored_bytes: int = 0

    @property
    def exit_code(self) -> int:
        """Return 0 where everything landed or was there, 3 where something was rejected or left out (a link that leaves the source, a file that cannot be read)."""
        return 3 if self.rejected or any(problem["severity"] == "error" for problem in self.problems) else 0


Progress = Callable[[str, int, int], None]


def _silent(message: str, done: int, total: int) -> None:
    """Say nothing."""


def require_conditional_put(objects: Objects, job: str, single_writer: bool) -> None:
    """Refuse a store whose put-if-absent does not hold, unless the user says that nobody else writes."""
    if objects.local("") is not None or single_writer:
        return
    key = f"{layout.JOBS}/{job}.probe"
    objects.put_if_absent(key, b"1")
    try:
        objects.put_if_absent(key, b"2")
    except AlreadyThere:
        return
    finally:
        objects.delete([key])
    raise UsageError(f"{objects.url}: does not keep two writers apart (no conditional put); use another store, or --single-writer if nobody else writes")


def plan_job(job: IngestJob, catalog: Catalog | None) -> Plan:
    """Find the items of a job's sources and plan how they are read."""
    if job.dataset is not None:
        require_slug("dataset", job.dataset)
    items, ignored, problems = find_items(job.sources, job.storage_options, job.formats, job.config)
    plan = make_plan(items, catalog, job.config, job.dataset, job.retry, job.limit)
    plan.ignored, plan.problems = ignored, [*problems, *plan.problems]
    if catalog is not None and not job.config.privacy.weaken:
        _require_privacy(job, catalog, plan)
    return plan


def _require_privacy(job: IngestJob, catalog: Catalog, plan: Plan) -> None:
    """Refuse a job that would bring originals into a dataset, or in place of episodes, that were protected: a flag is easily forgotten the second time."""
    datasets = {planned.reading.dataset for planned in plan.items}
    flags = {"blur_faces": "--blur-faces", "scrub": "--scrub"}
    for dataset, done in sorted(dataset_privacy(catalog, datasets).items()) if datasets else ():
        missing = [flag for name, flag in flags.items() if name in done and not getattr(job.config.privacy, name)]
        if missing:
            raise UsageError(
                f"dataset {dataset!r}: its recordings were landed with {' and '.join(missing)}, which this job leaves out; add {' '.join(missing)}, or allow it "
                f"with `privacy: {{weaken: true}}` in the config"
            )


def open_target(job: IngestJob) -> tuple[Objects, Catalog | None]:
    """Open the store that a job writes to; no catalog where there is no store yet."""
    address = parse_address(job.store)
    if address.ref is not None or address.dataset is not None:
        raise UsageError(f"{job.store!r}: a job writes to a store, not to a version; leave out what follows '@' or '#'")
    objects = open_objects(address.url, job.storage_options)
    return objects, Catalog(objects) if objects.head(layout.STORE) is not None else None


def run(job: IngestJob, runtime: Runtime, progress: Progress = _silent) -> Report:
    """Run an ingest job to its end.

    Raises:
        UsageError: nothing is recognised, or the call is wrong; the store is left as it was.
    """
    started = time.monotonic()
    remove_abandoned()
    objects, catalog = open_target(job)
    progress("finding recordings", 0, 0)
    plan = plan_job(job, catalog)
    options = dict(job.storage_options)

    def unit(number: int, items: tuple[PlannedItem, ...], name: str, replaced: frozenset[str]) -> Unit:
        return Unit(number, objects.url, options, options, name, items, job.config, job.limit, replaced)

    return carry_out(job, plan, objects, Work(ingest_unit, unit, job.config.model_dump(mode="json")), runtime, progress, started)


@dataclass(frozen=True)
class Work:
    """What a job does with a plan: the function that does a unit, how units are made (number, items, job, episodes that are replaced), and its settings."""

    do: Callable[[Any], UnitResult]
    unit: Callable[[int, tuple[PlannedItem, ...], str, frozenset[str]], Unit]
    settings: Mapping[str, Any]


def carry_out(job: IngestJob, plan: Plan, objects: Objects, work: Work, runtime: Runtime, progress: Progress, started: float) -> Report:
    """Do what was planned: units in parallel, their outcomes committed in order, and a version in the end."""
    name = new_job_id()
    require_conditional_put(objects, name, job.single_writer)
    create_store(objects)
    committer = Committer(objects, name, job.command, digest_json(dict(work.settings)))
    heartbeat = Heartbeat(objects, name, job.command)
    report = Report(job=name, store=objects.url, ignored=len(plan.ignored), ignored_files=plan.ignored[:1000])
    try:
        _run_units(job.config, plan, work, runtime, committer, report, progress)
        _count_known(plan, committer, report)
        _fill(report, plan, committer)
        version = committer.finish(_counts(report))
    except BaseException:
        heartbeat.end("failed")
        raise
    heartbeat.end("ended")
    report.version = version.number if version is not None else None
    report.seconds = time.monotonic() - started
    return report


def _counts(report: Report) -> dict[str, int]:
    return {key: getattr(report, key) for key in ("found", "landed", "skipped", "rejected", "ignored")}


def _fill(report: Report, plan: Plan, committer: Committer) -> None:
    committer.flush()
    tally = committer.tally
    report.landed, report.rejected = tally.landed, report.rejected + tally.rejected
    report.skipped += tally.skipped
    report.found = report.landed + report.skipped + report.rejected
    report.steps, report.bytes = tally.steps, tally.bytes
    report.problems = [problem.as_dict() for problem in plan.problems] + _once(tally.problems)
    report.rejects += [
        {key: row.get(key) for key in ("dataset", "source_uri", "source_key", "check", "where", "expected", "found", "advice")} for row in tally.rejects
    ]
    report.datasets = tally.datasets
    report.units = len(plan.units)


def _once(problems: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave each notice about a dataset once, whichever of the units it came from; every other problem stays."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for problem in problems:
        notice = (problem["check"], problem["message"])
        if problem["check"] not in DATASET_NOTICES or notice not in seen:
            kept.append(problem)
        seen.add(notice)
    return kept


def _count_known(plan: Plan, committer: Committer, report: Report) -> None:
    for known in plan.known:
        report.skipped += known.recordings - known.rejected
        report.rejected += known.rejected
        committer.rely(known.job, known.job_commit)
        if known.rejected:
            report.rejects += committer.rejects_of(known.uri)


def _run_units(config: IngestConfig, plan: Plan, work: Work, runtime: Runtime, committer: Committer, report: Report, progress: Progress) -> None:
    """Do the units, and commit their outcomes in the order of the plan, whatever the order in which they end."""
    committer.replaced = frozenset(episode_id for planned in plan.items for episode_id in planned.replaces)
    units = [work.unit(number, tuple(items), committer.job, committer.replaced) for number, items in enumerate(plan.units)]
    limits = Limits(config.limits.memory_bytes, config.limits.seconds)
    ready: dict[int, UnitResult] = {}
    turn = 0
    for done, (number, result) in enumerate(runtime.map(work.do, units, limits), start=1):
        if isinstance(result, Died):
            progress(f"unit {number + 1}: {result.reason}; its recordings are read again", done - 1, len(units))
            ready[number] = read_again(units[number], result, runtime, limits, work.do)
        else:
            ready[number] = result
        while turn in ready:
            _take(ready.pop(turn), committer, report, config)
            turn += 1
        progress(f"{committer.tally.landed} landed", done, len(units))


def _take(result: UnitResult, committer: Committer, report: Report, config: IngestConfig) -> None:
    committer.add(result.outcomes)
    report.stored_bytes += result.stored_bytes
    report.read_bytes += sum(int(outcome.source["bytes"]) for outcome in result.outcomes)
    if time.monotonic() - committer.last_commit >= config.commits.every_s or committer.waiting_bytes >= config.commits.bytes:
        committer.flush()


def read_again(unit: Unit, death: Died, runtime: Runtime, limits: Limits, do: Callable[[Any], UnitResult] = ingest_unit) -> UnitResult:
    """Read the items of a unit whose worker died: the one that it died at alone, the others together; an item that kills its process again is rejected."""
    outcomes: dict[int, Outcome] = {}
    stored = 0
    rest = list(range(len(unit.items)))
    part = death.part
    for _ in range(APART):
        if part is None or unit.limit is not None or len(rest) < 2:
            break
        stored += _read_alone(unit, rest.pop(part), runtime, limits, outcomes, do)
        result = runtime.alone(do, replace(unit, items=tuple(unit.items[at] for at in rest)), limits, attempts=1)
        if not isinstance(result, Died):
            outcomes.update(zip(rest, result.outcomes, strict=True))
            stored += result.stored_bytes
            rest = []
            break
        part = result.part
    left = unit.limit
    for at in rest:
        if left is not None and left <= 0:
            break
        stored += _read_alone(replace(unit, limit=left), at, runtime, limits, outcomes, do)
        if left is not None:
            left -= outcomes[at].recordings
    return UnitResult(unit.number, tuple(outcomes[at] for at in sorted(outcomes)), stored)


def _read_alone(unit: Unit, at: int, runtime: Runtime, limits: Limits, outcomes: dict[int, Outcome], do: Callable[[Any], UnitResult]) -> int:
    """Read one item of a unit in a process of its own; note what came of it, and return the bytes that were stored."""
    result = runtime.alone(do, replace(unit, items=(unit.items[at],)), limits)
    if isinstance(result, Died):
        outcomes[at] = hide(_rejection(unit.items[at], result), text_of(unit.config.privacy), unit.config.privacy)
        return 0
    (outcomes[at],) = result.outcomes
    return result.stored_bytes


def _rejection(planned: PlannedItem, death: Died) -> Outcome:
    reading = planned.reading
    problem = Problem(
        "parser_died",
        f"{planned.item.path}: {death.reason}",
        planned.item.path,
        "error",
        "a file that its parser survives",
        death.reason,
        "check the file with the tool that wrote it, or copy it again from where it was recorded",
    )
    return Outcome(source_row(reading), rejects=[reject_row(reading, "", problem, 0)])


def sources_to_retry(catalog_rejects: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the addresses of the items that have rejected recordings, each once."""
    return sorted({str(row["source_uri"]) for row in catalog_rejects})
