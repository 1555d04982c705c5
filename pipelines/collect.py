"""The collection job: episodes of an environment, each named by (environment, choices, seed), played in parallel and landed once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dataengine.core.column import Column
from dataengine.core.digest import digest_bytes, digest_json
from dataengine.core.environment import Environment, EnvironmentFacts
from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.names import require_slug
from dataengine.core.objects import open_objects
from dataengine.core.protocols import Item
from dataengine.samples.arm_environment import arm_environment
from dataengine.samples.errand import Errand
from dataengine.samples.moving_square import MovingSquare
from dataengine.schema.column_json import column_to_json
from dataengine.store.catalog import Catalog
from dataengine.store.outcome import Outcome, Reading, source_uri
from dataengine.synth.gymnasium_environment import GymnasiumEnvironment
from dataengine.synth.metaworld_environment import MetaWorldEnvironment
from dataengine.synth.rollout import Play
from pipelines.children import Died, Limits, turn_to
from pipelines.config import IngestConfig
from pipelines.ingest import IngestJob, Progress, Report, Work, carry_out, open_target
from pipelines.memory import keep_freed_memory, rare_collections
from pipelines.plan import KnownItem, Plan, PlannedItem, known_sources
from pipelines.runtime import Runtime
from pipelines.scratch import remove_abandoned
from pipelines.unit import Unit, UnitResult, known_to, open_landing

READER, VERSION = "simulation", "1"
ROOT = "simulation:"
UNIT_EPISODES = 25  # a shard holds so many; more would leave workers of a small job without work
PROBE = Limits(memory_bytes=4 << 30, seconds=300.0)

Size = tuple[int, int]


def _arm(name: str, size: Size | None) -> Environment:
    return arm_environment(*(size or (128, 128)))


def _square(name: str, size: Size | None) -> Environment:
    return MovingSquare(*(size or (64, 64)))


def _errand(name: str, size: Size | None) -> Environment:
    return Errand(*(size or (64, 64)))


def _metaworld(name: str, size: Size | None) -> Environment:
    return MetaWorldEnvironment(name, *(size or (64, 64)))


def _gymnasium(name: str, size: Size | None) -> Environment:
    return GymnasiumEnvironment(name, *(size or (None, None)))


# By what stands before the colon; whether a name must follow it.
ENVIRONMENTS: dict[str, tuple[Callable[[str, Size | None], Environment], bool]] = {
    "arm": (_arm, False),
    "square": (_square, False),
    "errand": (_errand, False),
    "metaworld": (_metaworld, True),
    "gym": (_gymnasium, True),
}


def make_environment(address: str, size: Size | None = None) -> Environment:
    """Return an environment by its address: `arm`, `square`, `errand`, `metaworld:push-v3`, `gym:CartPole-v1`.

    Raises:
        UsageError: there is none of this name, or something must be installed first.
    """
    kind, colon, name = address.partition(":")
    if kind not in ENVIRONMENTS or (colon and not ENVIRONMENTS[kind][1]):
        raise UsageError(str(UnknownName("environment", address, ["arm", "square", "errand", "metaworld:<task>", "gym:<id>"])))
    make, named = ENVIRONMENTS[kind]
    if named and not name:
        raise UsageError(f"environment {address!r}: must name which one, got none; say {kind}:<{'task' if kind == 'metaworld' else 'id'}>")
    try:
        return make(name, size)
    except UnknownName as error:  # one that can travel between processes
        raise UsageError(str(error)) from None


@dataclass(frozen=True)
class CollectJob:
    """What a user asks for: episodes of an environment with the seeds from `seed` on, how they are played, and where they go."""

    environment: str
    store: str
    dataset: str
    episodes: int
    seed: int = 0
    play: Play = field(default_factory=Play)
    size: Size | None = None
    limit: int | None = None
    config: IngestConfig = field(default_factory=IngestConfig)
    single_writer: bool = False
    storage_options: Mapping[str, str] = field(default_factory=dict)
    command: str = "collect"


@dataclass(frozen=True)
class Probe:
    """A look at an environment in a process of its own, where a simulator that dies does no harm."""

    size: Size | None

    def __call__(self, address: str) -> EnvironmentFacts:
        """Make it, begin an episode, render it, and return its facts."""
        with closing(make_environment(address, self.size)) as environment:
            environment.reset(0)
            environment.render()
            return environment.facts


@dataclass(frozen=True)
class Collect:
    """What a worker does with a unit: play its episodes, one after the other, in one environment, and land them."""

    environment: str
    size: Size | None
    play: Play

    def __call__(self, unit: Unit) -> UnitResult:
        """Play and land; nothing of it counts until it is committed."""
        keep_freed_memory()
        objects = open_objects(unit.store, unit.store_options)
        known, columns = known_to(unit, objects)
        outcomes: list[Outcome] = []
        with (
            closing(make_environment(self.environment, self.size)) as environment,
            tempfile.TemporaryDirectory(prefix="dataengine-") as scratch,
            rare_collections(),
        ):
            landing = open_landing(unit, objects, known, columns, Path(scratch))
            for part, planned in enumerate(unit.items):
                turn_to(part)
                outcomes.append(landing.land(planned.reading, self.play.events(environment, int(planned.item.extra["seed"])), _NoFiles()))
            stored = landing.close()
        return UnitResult(unit.number, tuple(outcomes), stored)


class _NoFiles:
    """The files of an episode that was played: none."""

    def open(self, path: str) -> BinaryIO:
        raise FileNotFoundError(path)

    def local(self, path: str) -> str | None:
        return None

    def read_bytes(self, path: str, limit: int = 0) -> bytes:
        raise FileNotFoundError(path)


def _facts_document(facts: EnvironmentFacts) -> dict[str, Any]:
    """Return what of an environment's facts changes an episode, as JSON."""
    arrays = {name: getattr(facts, name).tolist() for name in ("low", "high", "noise_scale")}
    columns: dict[str, Column] = dict(facts.columns)
    said = [column_to_json(column) for column in columns.values()]
    return {
        "name": facts.name,
        "version": facts.version,
        "columns": said,
        "rate_hz": facts.rate_hz,
        "max_steps": facts.max_steps,
        "settings": dict(facts.settings),
        **{name: [str(value) for value in values] for name, values in arrays.items()},
    }


def plan_collection(job: CollectJob, facts: EnvironmentFacts, catalog: Catalog | None) -> Plan:
    """Leave out the episodes that are there, and group the rest into units that do not depend on the number of workers."""
    chosen = digest_json([VERSION, _facts_document(facts), job.play.policy, list(job.play.noise), job.play.max_steps])
    reading = digest_json([READER, VERSION, chosen, job.config.affecting(READER)])
    items = [
        Item(READER, ROOT, f"{facts.name}/{chosen}/{seed}", job.dataset, (), recordings=1, extra={"seed": seed})
        for seed in range(job.seed, job.seed + job.episodes)
    ]
    addresses = [digest_bytes(source_uri(item).encode()) for item in items]
    known = known_sources(catalog, addresses) if catalog is not None else {}
    plan = Plan()
    todo: list[PlannedItem] = []
    for item, address in zip(items, addresses, strict=True):
        before = known.get((job.dataset, address))
        if before is not None and before["reading"] == reading:
            plan.known.append(KnownItem(before["source_uri"], before["recordings"], before["rejected"], before["job"], before["job_commit"]))
            continue
        replaces = tuple(before["episode_ids"] or ()) if before is not None else ()
        todo.append(PlannedItem(item, Reading(reading, READER, VERSION, job.dataset, source_uri(item), chosen, (), 0), None, replaces))
    plan.units = _grouped(todo if job.limit is None else todo[: job.limit])
    return plan


def _grouped(todo: Sequence[PlannedItem]) -> list[list[PlannedItem]]:
    return [list(todo[start : start + UNIT_EPISODES]) for start in range(0, len(todo), UNIT_EPISODES)]


def collect(job: CollectJob, runtime: Runtime, progress: Progress) -> Report:
    """Run a collection job to its end.

    Raises:
        UsageError: the environment is not known or cannot run here, or has no script; the store is left as it was.
    """
    started = time.monotonic()
    remove_abandoned()
    require_slug("dataset", job.dataset)
    _require_choices(job)
    landing = IngestJob(
        (job.environment,), job.store, job.dataset, config=job.config, single_writer=job.single_writer, storage_options=job.storage_options, command=job.command
    )
    objects, catalog = open_target(landing)
    progress(f"opening {job.environment}", 0, 0)
    facts = runtime.alone(Probe(job.size), job.environment, PROBE, attempts=1)
    if isinstance(facts, Died):
        raise UsageError(f"environment {job.environment!r}: must begin an episode and render it, got: {facts.reason}; see what it said above")
    if job.play.policy == "expert" and not facts.expert:
        raise UsageError(f"environment {job.environment!r}: has no script that plays it; collect with --policy random")
    plan = plan_collection(job, facts, catalog)
    options = dict(job.storage_options)

    def unit(number: int, items: tuple[PlannedItem, ...], name: str, replaced: frozenset[str]) -> Unit:
        return Unit(number, objects.url, options, options, name, items, job.config, None, replaced)

    work = Work(Collect(job.environment, job.size, job.play), unit, job.config.model_dump(mode="json"))
    return carry_out(landing, plan, objects, work, runtime, progress, started)


def _require_choices(job: CollectJob) -> None:
    if job.episodes < 1 or job.seed < 0:
        raise UsageError(f"collect: must be asked for at least one episode from a seed of 0 or more, got {job.episodes} from {job.seed}")
    if not job.play.noise or any(not 0 <= level <= 10 for level in job.play.noise):
        raise UsageError(f"--noise: must be levels from 0 to 10, got {list(job.play.noise)}")
    if job.play.max_steps is not None and job.play.max_steps < 1:
        raise UsageError(f"--max-steps: must be 1 or more, got {job.play.max_steps}")
    if job.size is not None and not all(8 <= side <= 4096 for side in job.size):
        raise UsageError(f"--size: must be 8 to 4096 px a side, got {job.size[0]}x{job.size[1]}")
