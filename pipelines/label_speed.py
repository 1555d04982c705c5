"""What labelling costs beside the model itself: a job's work in an actor against the bare forward passes of the same batches, which lie ready in memory, on the same cores."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dataengine.core.errors import UsageError
from dataengine.core.labelling import Labeller
from dataengine.core.objects import Objects, open_objects
from dataengine.store.open_shards import OpenShards
from dataengine.store.row import Row
from dataengine.store.store import Store, open_store
from pipelines.label_batches import Batch
from pipelines.label_episodes import Failed, Refused, label_episodes, looked
from pipelines.label_unit import Labelling, LabelUnit, Opening, inference, opened
from pipelines.memory import keep_freed_memory, rare_collections

MOST_BYTES = 2 << 30  # of batches that lie ready
ROUNDS = 5


@dataclass(frozen=True)
class Overhead:
    """What was measured; `ratio_wall` and `ratio_cpu` are medians over rounds of the job's time over that of the bare passes, by the clock and by CPU.

    `bare_s` and `job_s` are medians by the clock, `steps_s` the steps that a job labels a second. `seconds_of` says where the time of its last round went: waiting for
    pictures, in the model, making labels, writing; the thread that decodes runs beside these. `cores` is how many cores all threads shared, None where a system
    cannot bind them.
    """

    ratio_wall: float
    ratio_cpu: float
    ratios_wall: tuple[float, ...]
    ratios_cpu: tuple[float, ...]
    bare_s: float
    job_s: float
    steps_s: float
    seconds_of: Mapping[str, float]
    steps: int
    episodes: int
    batches: int
    batch_size: int
    threads: int
    cores: int | None
    device: str

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@contextmanager
def bound(cores: int) -> Iterator[int | None]:
    """Bind every thread of this process, also those that begin meanwhile, to so many of its cores; yield how many they are, None where a system cannot.

    Decoding then takes its time from the model's cores: on a core of its own it would cost nothing, and the bare passes would be measured against more of a machine.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    chosen = set(sorted(before)[:cores])
    _bind_threads(chosen)
    try:
        yield len(chosen)
    finally:
        _bind_threads(before)


def _bind_threads(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)  # of this thread, and of those that it begins
    for thread in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)


def preloaded(labeller: Labeller, store: Store, rows: Sequence[Row], batch_size: int) -> list[Batch]:
    """Return the batches that a job asks the model about, in memory.

    Raises:
        UsageError: an episode cannot be looked at, or they are too much for the memory.
    """
    found, size = [], 0
    with OpenShards(store) as shards:
        for event in looked(labeller, shards, rows, batch_size):
            if isinstance(event, Batch):
                found.append(event)
                size += sum(values.nbytes for values in event.inputs.values())
                if size > MOST_BYTES:
                    raise UsageError(
                        f"overhead: batches must fit {MOST_BYTES >> 30} GiB, and {len(found)} of {len(rows)} episodes do not; measure fewer episodes"
                    )
            elif isinstance(event, Failed):
                raise UsageError(f"overhead: every episode must be one that can be labelled, found: {event.error}") from event.error
    return found


def overhead(
    opening: Opening, address: str, rows: Sequence[Row], batch_size: int = 64, threads: int = 1, repeats: int = ROUNDS, target: Objects | None = None
) -> Overhead:
    """Measure in this process, as in an actor, what labelling costs beside the model: bare passes and a job, on the same `threads` cores.

    Whichever comes first in a round comes second in the next, so that what the first leaves behind (caches, the clock of the cores) favours neither.

    Args:
        opening: the method.
        address: the store, with the version whose episodes are labelled; nothing is written to it.
        rows: the catalog rows of episodes of one dataset.
        batch_size: how many steps the model is asked about at once.
        threads: of the model.
        repeats: rounds; the median counts.
        target: where labels are written; by default a folder that is removed afterwards.

    Raises:
        UsageError: an episode cannot be labelled.
    """
    keep_freed_memory()
    with bound(threads) as cores:
        labeller = opened(opening, threads)
        store = open_store(address)
        batches = preloaded(labeller, store, rows, batch_size)
        unit = LabelUnit(
            0, store.objects.url, {}, None, store.version.number if store.version else None, "speed", labeller.label_set("speed").recipe, tuple(rows)
        )
        seconds: dict[str, float] = {}

        def bare(number: int) -> None:
            with inference(opening.method):
                for batch in batches:
                    labeller.answer(batch.inputs)

        def job(number: int) -> None:
            do = Labelling(opening, "speed", batch_size, None, threads)
            result = do.label(replace(unit, number=number), labeller, labeller.label_set("speed"), store, target or open_objects(scratch))
            seconds.update(result.seconds)
            if result.refused:
                raise UsageError(f"overhead: every episode must be one that can be labelled, found: {result.refused[0].found}")

        with inference(opening.method):  # what is done once only: kernels are chosen, files are in the memory of the system
            labeller.answer(batches[0].inputs)
            if any(isinstance(each, Refused) for each in label_episodes(labeller, store, rows[:1], batch_size)):
                raise UsageError("overhead: every episode must be one that can be labelled, and the first is not")
        spent: dict[str, list[dict[str, float]]] = {"bare": [], "job": []}
        with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch, rare_collections():
            for number in range(repeats):
                turns = {"bare": bare, "job": job}
                for name in sorted(turns, reverse=bool(number % 2)):
                    spent[name].append(_timed(partial(turns[name], number)))
    ratios = {clock: tuple(round(job[clock] / bare[clock], 4) for job, bare in zip(spent["job"], spent["bare"], strict=True)) for clock in CLOCKS}
    steps = sum(int(row["steps"]) for row in rows)
    bare_s, job_s = (statistics.median(each["wall"] for each in spent[name]) for name in ("bare", "job"))
    return Overhead(
        ratio_wall=statistics.median(ratios["wall"]),
        ratio_cpu=statistics.median(ratios["cpu"]),
        ratios_wall=ratios["wall"],
        ratios_cpu=ratios["cpu"],
        bare_s=round(bare_s, 4),
        job_s=round(job_s, 4),
        steps_s=round(steps / job_s, 1),
        seconds_of={what: round(each, 4) for what, each in seconds.items()},
        steps=steps,
        episodes=len(rows),
        batches=len(batches),
        batch_size=batch_size,
        threads=threads,
        cores=cores,
        device=opening.device,
    )


def _timed(what: Callable[[], None]) -> dict[str, float]:
    """Return what something takes, by each clock."""
    since = {name: clock() for name, clock in CLOCKS.items()}
    what()
    return {name: clock() - since[name] for name, clock in CLOCKS.items()}


@dataclass(frozen=True)
class Measuring:
    """`overhead` of some episodes as a task, for a process of its own: it keeps batches in memory, and sets how many threads a process computes with."""

    opening: Opening
    address: str

    def __call__(self, rows: Sequence[Row]) -> Overhead:
        """Measure."""
        return overhead(self.opening, self.address, rows)
