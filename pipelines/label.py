"""The labelling job: episodes of a version, grouped into units, labelled where the model lives, committed in order, and a version in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import polars as pl

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Needs
from dataengine.core.names import require_slug
from dataengine.core.objects import open_objects
from dataengine.core.roles import columns_of
from dataengine.store.jobs import Heartbeat, new_job_id
from dataengine.store.label_commit import LabelCommitter
from dataengine.store.query import where
from dataengine.store.refs import OPEN, parse_address
from dataengine.store.removed import PURGED, purged_episodes
from dataengine.store.row import Row
from dataengine.store.store import Store
from pipelines.children import Died, Limits
from pipelines.ingest import Progress, _silent, require_conditional_put
from pipelines.job_report import JobReport
from pipelines.label_episodes import Refused
from pipelines.label_unit import Labelling, LabelResult, LabelUnit, Opening, abstaining
from pipelines.runtime import Runtime, Share
from pipelines.scratch import remove_abandoned

UNIT_STEPS = (512, 20_000)  # of a unit: a sixteenth of the job within these, whatever the number of workers
UNIT_EPISODES = 200
COMMIT_S = 60.0
COMMIT_BYTES = 2 << 30
APART = 3  # so many episodes of a unit are told apart as those that kill its process, before all that are left are labelled one by one
LIMITS = Limits(memory_bytes=None, seconds=3600.0)  # a model takes what it takes; an episode that takes an hour is stopped

SEEN = ["dataset", "episode_id", "reading", "features", "shard", "ordinal", "steps", "embodiment", "tasks", "success", "origin", "clock", "rate_hz", "flags"]


@dataclass(frozen=True)
class LabelJob:
    """What a user asks for: a method with its model, the version whose episodes it sees, which of them, and the name that the labels get."""

    opening: Opening
    store: str
    datasets: tuple[str, ...]
    label_set: str
    where: str | None = None
    abstain: float | None = None
    batch_size: int = 64
    actors: int | None = None
    limit: int | None = None
    single_writer: bool = False
    storage_options: Mapping[str, str] = field(default_factory=dict)
    command: str = "label"


@dataclass
class LabelReport(JobReport):
    """What a job did with episodes. `abstained` are values that were left out, `seconds_of` where the actors' time went."""

    abstained: int = 0
    read: int | None = None
    label_set: str = ""
    method: str = ""
    model: str = ""
    recipe: str = ""
    actors: int = 0
    seconds_of: dict[str, float] = field(default_factory=dict)


def _require_choices(job: LabelJob) -> None:
    require_slug("label set", job.label_set)
    for name in job.datasets:
        require_slug("dataset", name)
    if job.abstain is not None and not 0 < job.abstain <= 1:
        raise UsageError(f"--abstain: must be a confidence above 0 and up to 1, got {job.abstain}")
    if job.batch_size < 1:
        raise UsageError(f"--batch-size: must be 1 or more, got {job.batch_size}")


def _chosen(job: LabelJob, store: Store) -> tuple[list[Row], list[str]]:
    """Return the rows of the episodes that are asked for, in the order in which they lie in the store, and sentences on those that are passed over."""
    datasets = job.datasets or ((store.dataset,) if store.dataset is not None else ())
    if not datasets:
        raise UsageError(
            f"{job.store}: must be told which datasets to label, got none; name them with --dataset: {', '.join(store.datasets()) or 'it has none'}"
        )
    there = store.datasets()
    for name in datasets:
        if name not in there:
            raise UnknownName("dataset", name, there)
    frame = store.episodes().filter(pl.col("dataset").is_in(list(datasets)))
    rows = where(frame, job.where).select(SEEN).sort("dataset", "shard", "ordinal").collect().to_dicts()
    if not rows:
        raise UsageError(f"{job.store}: expected episodes to label, found none" + (f" for which {job.where!r} holds" if job.where else ""))
    purged = purged_episodes(store.objects)
    kept, ignored = [], []
    for row in rows:
        gone = row["episode_id"] in purged or PURGED in (row["flags"] or ())
        if gone or not row["steps"]:
            ignored.append(f"{store.objects.url}#{row['dataset']}: episode {row['episode_id']}, which {'was purged' if gone else 'has no steps'}")
        else:
            kept.append(row)
    return kept, ignored


def _require_cameras(job: LabelJob, store: Store, rows: Sequence[Row], needs: Needs) -> None:
    """Refuse a dataset of which no episode has any camera that the method looks through: a mistake in the call, not in a recording."""
    kinds: dict[str, dict[str, Row]] = {}
    for row in rows:
        kinds.setdefault(str(row["dataset"]), {}).setdefault(str(row["features"]), row)
    for dataset, features in kinds.items():
        columns = [store.columns(row) for row in features.values()]
        if needs.cameras and not any(columns_of(camera, each) for each in columns for camera in needs.cameras):
            there = sorted({name for each in columns for name, column in each.items() if column.kind == "image" and column.steps})
            asked = " or ".join(repr(camera) for camera in needs.cameras)
            raise UsageError(
                f"dataset {dataset!r}: must have the camera {asked} that label {job.opening.name} needs; its cameras: {', '.join(there) or 'none'}; "
                f"use a model that was trained on such pictures"
            )


def group(rows: Sequence[Row]) -> list[list[Row]]:
    """Group episodes into units of one dataset: full at a sixteenth of all steps, within bounds, or at some hundred episodes."""
    least, most = UNIT_STEPS
    full = min(max(least, sum(int(row["steps"]) for row in rows) // 16), most)
    units: list[list[Row]] = []
    steps = 0
    for row in rows:
        if not units or units[-1][0]["dataset"] != row["dataset"] or steps >= full or len(units[-1]) >= UNIT_EPISODES:
            units.append([])
            steps = 0
        units[-1].append(row)
        steps += int(row["steps"])
    return units


def run(job: LabelJob, runtime: Runtime, progress: Progress = _silent) -> LabelReport:
    """Run a labelling job to its end.

    Raises:
        UsageError: the call is wrong, or the name stands for labels of another model or other parameters; the store is left as it was.
    """
    started = time.monotonic()
    remove_abandoned()
    _require_choices(job)
    address = parse_address(job.store)
    objects = open_objects(address.url, job.storage_options)
    store = Store(objects, address.ref, address.dataset)
    if store.version is None and address.ref != OPEN:
        raise UsageError(f"{job.store}: has no version yet: nothing to label")
    progress(f"opening {job.opening.name}", 0, 0)
    labeller = replace(job.opening, device="cpu")()
    label_set, needs = abstaining(labeller.label_set(job.label_set), job.abstain), labeller.needs
    del labeller
    rows, ignored = _chosen(job, store)
    _require_cameras(job, store, rows, needs)
    name = new_job_id()
    committer = LabelCommitter(objects, name, job.command, label_set)
    todo = _pending(committer, rows, job.limit)
    read = store.version.number if store.version is not None else None
    report = LabelReport(job=name, store=objects.url, read=read, label_set=label_set.name, method=job.opening.name, model=label_set.model)
    report.recipe, report.ignored, report.ignored_files = label_set.recipe, len(ignored), ignored[:1000]
    require_conditional_put(objects, name, job.single_writer)
    heartbeat = Heartbeat(objects, name, job.command)
    try:
        units = [
            LabelUnit(number, objects.url, dict(job.storage_options), _ref(store), read, name, label_set.recipe, tuple(part))
            for number, part in enumerate(group(todo))
        ]
        refused = _run_units(job, units, runtime, committer, report, progress) if units else []
        committer.flush()
        _fill(report, committer, refused, rows)
        version = committer.finish()
    except BaseException:
        heartbeat.end("failed")
        raise
    heartbeat.end("ended")
    report.version = version.number if version is not None else None
    report.seconds = time.monotonic() - started
    return report


def _ref(store: Store) -> str | None:
    return str(store.version.number) if store.version is not None else OPEN


def _pending(committer: LabelCommitter, rows: Sequence[Row], limit: int | None) -> list[Row]:
    """Return the rows of the episodes that have no labels of the set yet, at most `limit` of them."""
    frame = pl.DataFrame([{name: row[name] for name in ("dataset", "episode_id", "reading")} for row in rows], schema=dict.fromkeys(SEEN[:3], pl.String))
    left = set(committer.pending(frame).select("dataset", "episode_id").iter_rows())
    todo = [row for row in rows if (row["dataset"], row["episode_id"]) in left]
    return todo if limit is None else todo[:limit]


def _run_units(
    job: LabelJob, units: Sequence[LabelUnit], runtime: Runtime, committer: LabelCommitter, report: LabelReport, progress: Progress
) -> list[Refused]:
    """Do the units, and commit their labels in the order of the plan, whatever the order in which they end; those whose process died come last.

    They are labelled again when the others have ended: until then the actors hold every core and GPU of a cluster, and a process beside them would wait for ever.
    """
    share = runtime.share(job.opening.device, job.actors, len(units))
    do = Labelling(replace(job.opening, device=share.device), job.label_set, job.batch_size, job.abstain, share.threads)
    report.units, report.actors = len(units), share.actors
    ready: dict[int, LabelResult] = {}
    died: dict[int, Died] = {}
    refused: list[Refused] = []
    turn = written = done = 0
    for number, result in runtime.map_on_actors(do, units, LIMITS, share):
        if isinstance(result, Died):
            died[number] = result
            progress(f"unit {number + 1}: {result.reason}; its episodes are labelled again when the others are done", done, len(units))
        else:
            ready[number] = result
            done, written = done + 1, written + len(result.rows)
        while turn in ready or turn in died:
            if turn in ready:
                _take(ready.pop(turn), committer, report, refused)
            turn += 1
        progress(f"{written} episodes labelled", done, len(units))
    for number in sorted(died):
        again = label_again(units[number], died[number], runtime, do, share)
        done, written = done + 1, written + len(again.rows)
        _take(again, committer, report, refused)
        progress(f"{written} episodes labelled", done, len(units))
    return refused


def _take(result: LabelResult, committer: LabelCommitter, report: LabelReport, refused: list[Refused]) -> None:
    committer.add(result.rows)
    refused.extend(result.refused)
    report.abstained += result.abstained
    for what, spent in result.seconds.items():
        report.seconds_of[what] = round(report.seconds_of.get(what, 0.0) + spent, 3)
    if time.monotonic() - committer.last_commit >= COMMIT_S or committer.waiting_bytes >= COMMIT_BYTES:
        committer.flush()


def label_again(unit: LabelUnit, death: Died, runtime: Runtime, do: Callable[[LabelUnit], LabelResult], share: Share) -> LabelResult:
    """Label the episodes of a unit whose process died: the one that it died at alone, the others together; one that kills its process again is refused."""
    rows: list[Row] = []
    refused: list[Refused] = []
    abstained = 0
    rest = list(unit.episodes)
    part = death.part

    def take(result: LabelResult) -> None:
        nonlocal abstained
        rows.extend(result.rows)
        refused.extend(result.refused)
        abstained += result.abstained

    def alone(row: Row) -> None:
        result = runtime.alone(do, replace(unit, episodes=(row,)), LIMITS, share=share)
        if isinstance(result, Died):
            place, what = f"episode {row['episode_id']}", "an episode that labelling survives"
            advice = "run `dataengine check --deep`, and look at what the worker said above"
            refused.append(Refused(str(row["dataset"]), str(row["episode_id"]), "labelling_died", place, what, result.reason, advice))
        else:
            take(result)

    for _ in range(APART):
        if part is None or len(rest) < 2:
            break
        alone(rest.pop(part))
        result = runtime.alone(do, replace(unit, episodes=tuple(rest)), LIMITS, attempts=1, share=share)
        if not isinstance(result, Died):
            take(result)
            rest = []
            break
        part = result.part
    for row in rest:
        alone(row)
    return LabelResult(unit.number, tuple(rows), tuple(refused), abstained)


def _fill(report: LabelReport, committer: LabelCommitter, refused: Sequence[Refused], rows: Sequence[Row]) -> None:
    tally, of = committer.tally, {str(row["episode_id"]): str(row["dataset"]) for row in rows}
    gone = [
        Refused(
            of[episode_id],
            episode_id,
            "gone",
            f"episode {episode_id}",
            "an episode as the model saw it",
            "that it was taken out, read anew or purged meanwhile",
        )
        for episode_id in tally.gone_ids
    ]
    report.rejects = [asdict(each) for each in (*refused, *gone)]
    report.landed, report.skipped, report.rejected = tally.labelled, tally.skipped, len(report.rejects)
    report.found = report.landed + report.skipped + report.rejected
    report.steps, report.bytes = tally.steps, tally.bytes
