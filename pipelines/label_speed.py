"""What labelling costs beside the model itself: a job's work in an actor against the bare forward passes of the same batches, which lie ready in memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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

MOST_BYTES = 2 << 30  # of batches that lie ready


@dataclass(frozen=True)
class Overhead:
    """What was measured, in s by the clock that was used; `ratio` is the median over rounds of the job's time over that of the bare passes.

    `labels_s` are steps that a job labels a second. `seconds_of` says where its time went in the last round: waiting for pictures, in the model, making labels,
    writing; the thread that decodes runs beside these.
    """

    ratio: float
    ratios: tuple[float, ...]
    bare_s: float
    job_s: float
    steps: int
    episodes: int
    batches: int
    batch_size: int
    threads: int
    device: str
    clock: str
    labels_s: float
    seconds_of: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return asdict(self)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


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
    opening: Opening,
    address: str,
    rows: Sequence[Row],
    batch_size: int = 64,
    threads: int = 1,
    repeats: int = 3,
    clock: str = "wall",
    target: Objects | None = None,
) -> Overhead:
    """Measure in this process, as in an actor, what labelling costs beside the model: bare passes and a job take turns.

    Args:
        opening: the method.
        address: the store, with the version whose episodes are labelled; nothing is written to it.
        rows: the catalog rows of episodes of one dataset.
        batch_size: how many steps the model is asked about at once.
        threads: of the model.
        repeats: rounds; the median counts.
        clock: "wall", or "cpu": the time of all of this process's threads, for a machine that is busy with something else.
        target: where labels are written; by default a folder that is removed afterwards.

    Raises:
        UsageError: an episode cannot be labelled.
    """
    now = CLOCKS[clock]
    labeller = opened(opening, threads)
    store = open_store(address)
    label_set = labeller.label_set("speed")
    do = Labelling(opening, "speed", batch_size, None, threads)
    read = store.version.number if store.version is not None else None
    unit = LabelUnit(0, store.objects.url, {}, None, read, "speed", label_set.recipe, tuple(rows))
    batches = preloaded(labeller, store, rows, batch_size)
    with inference(opening.method):  # what is done once only: kernels are chosen, files are in the memory of the system
        labeller.answer(batches[0].inputs)
        if any(isinstance(each, Refused) for each in label_episodes(labeller, store, rows[:1], batch_size)):
            raise UsageError("overhead: every episode must be one that can be labelled, and the first is not")
    bare, whole, seconds = [], [], {}
    with tempfile.TemporaryDirectory(prefix="dataengine-") as scratch:
        for number in range(repeats):
            since = now()
            with inference(opening.method):
                for batch in batches:
                    labeller.answer(batch.inputs)
            bare.append(now() - since)
            since = now()
            result = do.label(replace(unit, number=number), labeller, label_set, store, target or open_objects(scratch))
            whole.append(now() - since)
            seconds = dict(result.seconds)
            if result.refused:
                raise UsageError(f"overhead: every episode must be one that can be labelled, found: {result.refused[0].found}")
    ratios = tuple(round(job / alone, 4) for job, alone in zip(whole, bare, strict=True))
    steps = sum(int(row["steps"]) for row in rows)
    job_s = statistics.median(whole)
    return Overhead(
        statistics.median(ratios),
        ratios,
        round(statistics.median(bare), 4),
        round(job_s, 4),
        steps,
        len(rows),
        len(batches),
        batch_size,
        threads,
        opening.device,
        clock,
        round(steps / job_s, 1),
        {what: round(spent, 4) for what, spent in seconds.items()},
    )
